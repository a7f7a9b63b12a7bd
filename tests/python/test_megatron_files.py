"""Megatron's `mp_rank_*` directories, of torch.save: listed whole, read right, or refused."""

from __future__ import annotations

import argparse
import enum
import io
import json
import os
import random
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness import cli
from harness.cli import SOURCE, USAGE
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

State = dict[str, torch.Tensor]


def shard(*seed: int) -> State:
    """A rank's own tensors; the last two are a tied copy and a view that is not contiguous."""
    generator = torch.Generator().manual_seed(sum(7**i * n for i, n in enumerate(seed, 1)))
    weight = torch.randn(6, 4, generator=generator)
    return {
        "decoder.layers.0.mlp.linear_fc1.weight": weight.to(torch.bfloat16),
        "embedding.word_embeddings.weight": weight,
        "output_layer.weight": weight,
        "decoder.layers.0.mlp.linear_fc2.weight": weight.t()[1:, ::2],
    }


def fake_enum(module: str, name: str) -> enum.Enum:
    """A member of an enumeration whose module only this process has."""
    sys.modules[module] = types.ModuleType(module)
    made = enum.Enum(name, ["first", "second"], module=module)
    setattr(sys.modules[module], name, made)
    return made.first


def training(**sizes: int) -> dict[str, Any]:
    """What training saves beside the model."""
    args = argparse.Namespace(
        num_layers=4,
        padded_vocab_size=128,
        virtual_pipeline_model_parallel_size=None,
        params_dtype=torch.bfloat16,
        model_type=fake_enum("megatron.core.enums", "ModelType"),
        attention_backend=fake_enum("megatron.core.transformer.enums", "AttnBackend"),
        **{f"{axis}_model_parallel_size": size for axis, size in sizes.items()},
    )
    moments = {"exp_avg": torch.zeros(6, 4), "step": 3}
    return {
        "args": args,
        "iteration": 1000,
        "optimizer": {"optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-4}]}},
        "opt_param_scheduler": {"max_lr": 3e-4},
        "rng_state": [
            {
                "random_rng_state": random.getstate(),
                "np_rng_state": np.random.get_state(),
                "torch_rng_state": torch.get_rng_state(),
            }
        ],
    }


def save(root: Path, rank: str, content: dict[str, Any]) -> Path:
    directory = root / rank
    directory.mkdir(parents=True)
    path = directory / "model_optim_rng.pt"
    torch.save({"checkpoint_version": 3.0} | content, path)
    return path


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Two tensor ranks in two stages, as a converter writes them."""
    root = tmp_path / "root" / "release"
    for tp in range(2):
        for pp in range(2):
            save(root, f"mp_rank_{tp:02d}_{pp:03d}", {"model": shard(tp, pp)})
    (root.parent / "latest_checkpointed_iteration.txt").write_text("release")
    return root


def inspect(path: Path) -> dict[str, Any]:
    return json.loads(cli.ok("inspect", path, "--json", "--tensors").stdout)


def listed(path: Path) -> dict[str, tuple[str, list[int]]]:
    return {t["name"]: (t["dtype"], t["shape"]) for t in inspect(path)["tensor_list"]}


def described(states: dict[str, State]) -> dict[str, tuple[str, list[int]]]:
    """What must be listed of `rank/chunk` -> state."""
    return {
        f"{place}/{key}": (str(tensor.dtype).removeprefix("torch."), list(tensor.shape))
        for place, state in states.items()
        for key, tensor in state.items()
    }


def test_tensor_and_pipeline_ranks(release: Path) -> None:
    ranks = {f"mp_rank_{t:02d}_{p:03d}/model": shard(t, p) for t in range(2) for p in range(2)}
    assert listed(release.parent) == listed(release) == described(ranks)
    found = inspect(release.parent)
    assert found["kind"] == "megatron"
    assert found["root"] == str(release)
    assert [f["path"] for f in found["files"]] == sorted(f["path"] for f in found["files"])
    assert len(found["objects"]) == 4  # checkpoint_version


def test_the_bytes_are_those_of_torch(release: Path, tmp_path: Path, out: Path) -> None:
    same = ("--recipe", "identity", "--from-recipe", "identity")
    cli.ok("convert", release, out, "--to", "dcp", *same, "--ignore", "/checkpoint_version$")
    dcp_to_torch_save(out, tmp_path / "whole.pt")
    written = torch.load(tmp_path / "whole.pt", weights_only=True)
    for path in release.glob("*/*.pt"):
        for key, tensor in torch.load(path)["model"].items():
            assert torch.equal(written.pop(f"{path.parent.name}/model/{key}"), tensor), key
    assert not written


def test_virtual_stages(tmp_path: Path) -> None:
    chunks = {"model0": shard(0), "model1": shard(1)}
    save(tmp_path / "iter_0000020", "mp_rank_00", chunks)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("20\n")
    places = {f"mp_rank_00/{chunk}": state for chunk, state in chunks.items()}
    assert listed(tmp_path) == described(places)


def test_expert_ranks_of_training(tmp_path: Path) -> None:
    places = {}
    extra = {"mlp._extra_state": None, "self_attention._extra_state": io.BytesIO(b"state")}
    for tp in range(2):
        for ep in range(2):
            name = f"mp_rank_{tp:02d}_{ep:03d}"
            places[f"{name}/model"] = shard(tp, ep)
            beside = training(tensor=2, pipeline=1, expert=2)
            save(tmp_path, name, beside | {"model": shard(tp, ep) | extra})
            (tmp_path / name / "distrib_optim.pt").write_bytes(bytes(11))
    assert listed(tmp_path) == described(places)
    found = inspect(tmp_path)
    assert found["notes"] == []
    objects = {entry["name"]: entry for entry in found["objects"]}
    assert objects["mp_rank_01_001/args"]["summary"] == "argparse.Namespace(9 fields)"
    moment = objects["mp_rank_00_001/optimizer.optimizer.state.0.exp_avg"]
    assert (moment["summary"], moment["bytes"]) == ("float32 [6, 4]", 96)
    assert objects["mp_rank_00_000/distrib_optim.pt"]["bytes"] == 11
    for name in ("iteration", "checkpoint_version", "opt_param_scheduler.max_lr"):
        assert f"mp_rank_00_000/{name}" in objects
    for name in extra:
        assert f"mp_rank_00_000/model/{name}" in objects


def test_nested_model_of_older_files(tmp_path: Path) -> None:
    weight = torch.ones(3, 2, dtype=torch.float16)
    model = {"language_model": {"encoder": {"layers.0.weight": weight}, "empty": {}}}
    path = save(tmp_path, "mp_rank_00", {"model": model})
    path.rename(path.with_name("model_rng.pt"))
    name = "mp_rank_00/model/language_model.encoder.layers.0.weight"
    assert listed(tmp_path) == {name: ("float16", [3, 2])}


def test_files_of_the_legacy_format(tmp_path: Path) -> None:
    path = save(tmp_path, "mp_rank_00", {})
    torch.save({"model": shard(1)}, path, _use_new_zipfile_serialization=False)
    assert listed(tmp_path) == described({"mp_rank_00/model": shard(1)})


class Hostile:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_args_is_run(tmp_path: Path) -> None:
    args = argparse.Namespace(num_layers=2, trap=Hostile(tmp_path / "trap"))
    save(tmp_path / "ckpt", "mp_rank_00", {"model": shard(0), "args": args})
    assert len(listed(tmp_path / "ckpt")) == 4
    assert not (tmp_path / "trap").exists()


def test_a_missing_rank_is_named(release: Path) -> None:
    shutil.rmtree(release / "mp_rank_01_000")
    assert "mp_rank_01_000" in cli.expect(SOURCE, "inspect", release).stderr


def test_missing_last_ranks_are_known_from_args(tmp_path: Path) -> None:
    for tp in range(2):
        beside = training(tensor=4, pipeline=1)
        save(tmp_path, f"mp_rank_{tp:02d}", beside | {"model": shard(tp)})
    assert "mp_rank_02" in cli.expect(SOURCE, "inspect", tmp_path).stderr


def test_mixed_spellings_are_named(release: Path) -> None:
    (release / "mp_rank_00_001").rename(release / "mp_rank_00")
    assert "mp_rank_00 and mp_rank_00_000" in cli.expect(SOURCE, "inspect", release).stderr
    (release / "mp_rank_00").rename(release / "mp_rank_0_1")
    assert "mp_rank_0_1" in cli.expect(SOURCE, "inspect", release).stderr


def test_ranks_of_different_saves_are_named(tmp_path: Path) -> None:
    for tp in range(2):
        beside = training(tensor=2, pipeline=1) | {"iteration": 1000 + tp}
        save(tmp_path, f"mp_rank_{tp:02d}", beside | {"model": shard(tp)})
    message = cli.expect(SOURCE, "inspect", tmp_path).stderr
    assert "iteration is 1001" in message
    assert "mp_rank_01" in message


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
def test_truncated_rank(release: Path, keep: float) -> None:
    path = release / "mp_rank_01_001" / "model_optim_rng.pt"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    message = cli.expect(SOURCE, "inspect", release).stderr
    assert "mp_rank_01_001/model_optim_rng.pt" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "no 'model'"),
        ({"model": {}, "model0": {}}, "both 'model' and 'model0'"),
        ({"model0": {}, "model2": {}}, "no 'model1'"),
        ({"model": torch.ones(3)}, "'model' is no dictionary"),
        ({"model": {"a": {"b": 1}, "a.b": 2}}, "model.a.b"),
    ],
)
def test_what_is_no_model(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    save(tmp_path, "mp_rank_00", content)
    assert said in cli.expect(SOURCE, "inspect", tmp_path).stderr


def test_a_rank_without_its_file(release: Path) -> None:
    (release / "mp_rank_00_001" / "model_optim_rng.pt").unlink()
    assert "mp_rank_00_001" in cli.expect(SOURCE, "inspect", release).stderr


def test_pointed_at_the_wrong_place(release: Path, tmp_path: Path) -> None:
    rank = release / "mp_rank_00_000"
    assert "the directory above" in cli.expect(SOURCE, "inspect", rank).stderr
    file = rank / "model_optim_rng.pt"
    assert "mp_rank_*" in cli.expect(SOURCE, "inspect", file, "--from", "megatron").stderr
    assert inspect(file)["kind"] == "pt"
    (tmp_path / "empty").mkdir()
    cli.expect(SOURCE, "inspect", tmp_path / "empty", "--from", "megatron")
    (release / ".metadata").touch()
    assert "--from megatron" in cli.expect(USAGE, "inspect", release).stderr
    assert cli.ok("inspect", release, "--from", "megatron")


# --- what is no whole checkpoint ------------------------------------------------------------------

LAYER = "decoder.layers.0.self_attention.linear_qkv.weight"


def llama(directory: Path) -> tuple[str, Path]:
    """The config.json of a model, which makes a model of whatever lies beside it."""
    directory.mkdir()
    (directory / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    return "--assets-from", directory


def one_file(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


# Where it lies, what it holds, and what the message says of it.
RANK_FILES = [
    pytest.param(
        "iter_0000100/mp_rank_00/model_optim_rng.pt",
        {"model": {LAYER: torch.ones(2, 2)}, "checkpoint_version": 3.0},
        "iter_0000100",
        id="in its place",
    ),
    pytest.param(
        "moved.pt",
        {"model": {"any.name": torch.ones(2, 2)}, "checkpoint_version": 3.0},
        "'checkpoint_version'",
        id="moved",
    ),
    pytest.param(
        "moved.pt",
        {"model0": {"any.name": torch.ones(2)}, "checkpoint_version": 3.0},
        "mp_rank_00/model_optim_rng.pt",
        id="of virtual stages",
    ),
    pytest.param(
        "tp_rank_00_pp_rank_001/model_weights.ckpt",
        {f"model.{LAYER}": torch.ones(2, 2)},
        "NeMo",
        id="NeMo 1.0",
    ),
    pytest.param("x.ckpt", {f"model.{LAYER}": torch.ones(2, 2)}, LAYER, id="by its names"),
    pytest.param("x.pt", {f"module.{LAYER}": torch.ones(2, 2)}, LAYER, id="in a wrapper"),
    pytest.param(
        "actor/model/mp_rank_00_001/model.pt", [{LAYER: torch.ones(2, 2)}], "verl", id="verl"
    ),
]


@pytest.mark.parametrize(("place", "content", "says"), RANK_FILES)
@pytest.mark.parametrize("recipe", ["auto", "identity", "veomni"])
def test_one_rank_is_no_model(
    place: str, content: Any, says: str, recipe: str, tmp_path: Path, out: Path
) -> None:
    path = one_file(tmp_path / place, content)
    options = (*llama(tmp_path / "llama"), "--recipe", recipe)
    said = cli.refused(cli.MAPPING, path, out, *options, names="one rank")
    assert says in said
    assert inspect(path)["kind"] == "pt"  # it can be looked at


# What a program of one's own has saved is none of these.
OTHERS = [
    {"model": {"w": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)},
    {
        f"model.decoder.layers.0.{name}.weight": torch.ones(2)
        for name in ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "mlp.fc1")
    },
]


@pytest.mark.parametrize("content", OTHERS, ids=["with args", "with layers of a decoder"])
def test_other_files_are_no_ranks(content: Any, tmp_path: Path, out: Path) -> None:
    cli.identity(one_file(tmp_path / "x.pt", content), out)


def test_one_rank_can_be_kept_as_it_is(tmp_path: Path, out: Path) -> None:
    path = one_file(tmp_path / "mp_rank_00" / "x.pt", {"model": {LAYER: torch.ones(2, 2)}})
    cli.ok("convert", path, out, "--to", "dcp", "--recipe", "identity")


def test_names_of_ranks_are_no_names_of_a_model(release: Path, tmp_path: Path, out: Path) -> None:
    options = (*llama(tmp_path / "llama"), "--recipe", "identity")
    said = cli.refused(cli.MAPPING, release, out, *options, names="mp_rank_00_000/model/")
    assert "megatron-core" in said


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("mp_rank_00/model_weights.ckpt", "NeMo 1.0"),
        ("tp_rank_00_pp_rank_000/model_weights.ckpt", "NeMo 1.0"),
        ("model_weights.ckpt", "NeMo 1.0"),
        ("mp_rank_00_000/model.pt", "verl"),  # with one stage too, verl numbers it
    ],
)
def test_other_layouts_are_told(place: str, says: str, tmp_path: Path) -> None:
    one_file(tmp_path / "ckpt" / place, {f"model.{LAYER}": torch.ones(2, 2)})
    assert says in cli.expect(SOURCE, "inspect", tmp_path / "ckpt").stderr
