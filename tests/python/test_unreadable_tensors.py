"""A tensor that torch.save stored in a form of its own: an error by name, or left out by name."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from harness import checkpoints, cli
from harness.cli import MAPPING, SOURCE
from harness.recipe_text import keep_names
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor, init_device_mesh

DENSE = {"ok.weight": torch.arange(6.0).reshape(2, 3)}


class Wrapped(torch.Tensor):
    """What the classes of torchao and TransformerEngine are: a tensor made of others."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapped:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, *_: Any) -> Any:
        raise NotImplementedError


class Scaled(torch.Tensor):
    """Bytes, and their scale as an attribute."""


class Ema:
    def __init__(self) -> None:
        self.shadow = {"w": torch.ones(2)}


def scaled() -> torch.Tensor:
    tensor = torch.ones(3).as_subclass(Scaled)
    tensor.scale = torch.ones(1)
    return tensor


def sharded() -> torch.Tensor:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        return DTensor.from_local(torch.ones(2, 2), init_device_mesh("cpu", (1,)))
    finally:
        dist.destroy_process_group()


def quantized() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)


UNREADABLE: dict[str, tuple[Callable[[], Any], str]] = {
    "quantized": (quantized, "a quantized tensor"),
    "sparse": (lambda: torch.eye(4).to_sparse(), "a sparse tensor"),
    "csr": (lambda: torch.eye(4).to_sparse_csr(), "a sparse tensor"),
    "meta": (lambda: torch.empty(3, device="meta"), "a meta tensor"),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a nested tensor",
    ),
    "wrapped": (lambda: Wrapped(torch.ones(2)), "Wrapped"),
    "dtensor": (sharded, "torch.distributed.tensor.DTensor"),
    "scaled": (scaled, "Scaled with other tensors"),
    "tuple": (lambda: (torch.ones(2), torch.ones(3)), "a tuple"),
    "list of tuples": (lambda: [1, (2, torch.ones(2))], "a list"),
    "object": (Ema, "Ema"),
    "storage": (lambda: torch.ones(2).untyped_storage(), "a bare storage"),
}


@pytest.fixture(params=UNREADABLE)
def found(request: pytest.FixtureRequest) -> tuple[Any, str]:
    make, what = UNREADABLE[request.param]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make(), what


def save(state: dict[str, Any], file: Path, legacy: bool = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    return file


def test_is_an_error_that_names_it(found: tuple[Any, str], tmp_path: Path, out: Path) -> None:
    value, what = found
    file = save(DENSE | {"x.weight": value}, tmp_path / "run.pt")
    error = cli.refused(SOURCE, file, out, "--recipe", "identity", names="x.weight")
    assert what in error
    assert "run.pt" in error
    shown = cli.ok("inspect", file).stdout
    assert "cannot be read  x.weight: " in shown
    assert what in shown
    cli.identity(file, out, "--ignore", r"^x\.weight$")
    assert torch.equal(load_file(out / "model.safetensors")["ok.weight"], DENSE["ok.weight"])


def hub(directory: Path, value: Any) -> Path:
    return save(DENSE | {"x.weight": value}, directory / "hub" / "pytorch_model.bin").parent


def hub_by_index(directory: Path, value: Any) -> Path:
    file = save(DENSE | {"x.weight": value}, directory / "hub" / "pytorch_model-00001-of-00001.bin")
    names = dict.fromkeys(("ok.weight", "x.weight"), file.name)
    index = file.parent / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return file.parent


def legacy(directory: Path, value: Any) -> Path:
    return save(DENSE | {"x.weight": value}, directory / "old.pt", legacy=True)


def rank(directory: Path, value: Any) -> Path:
    file = directory / "release" / "mp_rank_00" / "model_optim_rng.pt"
    return save({"model": DENSE | {"x.weight": value}}, file).parents[1]


@pytest.mark.parametrize("kind", [hub, hub_by_index, legacy, rank])
@pytest.mark.parametrize("name", ["quantized", "wrapped", "tuple"])
def test_in_every_kind_of_file(
    kind: Callable[[Path, Any], Path], name: str, tmp_path: Path, out: Path
) -> None:
    make, what = UNREADABLE[name]
    source = kind(tmp_path, make())
    recipe = keep_names(tmp_path) if kind is rank else "identity"
    error = cli.refused(SOURCE, source, out, "--recipe", recipe, names="x.weight")
    assert what in error
    done = cli.convert(source, out, "--recipe", recipe, "--ignore", r"x\.weight$")
    assert "left out 1 tensor " in done.stderr
    (tensor,) = load_file(out / "model.safetensors").values()
    assert torch.equal(tensor, DENSE["ok.weight"])


def test_a_drop_rule_takes_it(tmp_path: Path, out: Path) -> None:
    source = save(DENSE | {"freqs": quantized()}, tmp_path / "run.pt")
    recipe = tmp_path / "own.toml"
    recipe.write_text(
        """
name = "own"
description = "a test's"

[[rule]]
here = "ok.{rest*}"
hub = "model.{rest*}"

[[drop]]
here = "freqs"
why = "the model makes it anew"
"""
    )
    plan = json.loads(cli.ok("plan", source, out, "--recipe", recipe, "--json").stdout)
    assert [(drop["name"], drop["why"]) for drop in plan["dropped"]] == [
        ("freqs", "the model makes it anew")
    ]
    cli.convert(source, out, "--recipe", recipe)
    assert set(load_file(out / "model.safetensors")) == {"model.weight"}


def test_objects_without_tensors_stay_objects(tmp_path: Path, out: Path) -> None:
    state = DENSE | {
        "param": torch.nn.Parameter(torch.ones(2)),
        "buffer": torch.nn.Buffer(torch.ones(2)),
        "sub": torch.ones(2).as_subclass(Scaled),
        "args": argparse.Namespace(lr=3e-5, betas=(0.9, 0.95)),
        "dtypes": (torch.bfloat16, torch.Size([2, 3])),
    }
    source = save(state, tmp_path / "run.pt")
    assert "left out 0 tensors and 2 objects" in cli.identity(source, out).stderr
    assert set(load_file(out / "model.safetensors")) == {"ok.weight", "param", "buffer", "sub"}


def test_an_optimizer_of_a_rank_stays_an_object(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "release" / "mp_rank_00" / "model_optim_rng.pt"
    save({"model": DENSE, "optimizer": {"state": (torch.ones(2), quantized())}}, file)
    done = cli.convert(file.parents[1], out, "--recipe", keep_names(tmp_path))
    assert "left out 0 tensors and 1 object" in done.stderr


def test_in_dcp_too(tmp_path: Path, out: Path) -> None:
    """There the metadata tell the type, which no target has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoints.save_single(DENSE | {"x.weight": quantized()}, tmp_path / "dcp")
    cli.refused(MAPPING, tmp_path / "dcp", out, "--recipe", "identity", names="x.weight")
