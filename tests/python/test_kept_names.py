"""Identity keeps every name and value; names that no recipe knows do not become a model unasked."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from harness import checkpoints, cli, compare, tiny_text
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_state_dict
from transformers import PreTrainedModel

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama and its AdamW after a step, with two groups, as torch saves them. Read only."""
    directory = tmp_path_factory.mktemp("stepped") / "checkpoint"
    model = tiny_text.build("llama")
    norms = [p for n, p in model.named_parameters() if "norm" in n]
    rest = [p for n, p in model.named_parameters() if "norm" not in n]
    groups = [{"params": norms, "weight_decay": 0.0}, {"params": rest, "lr": 0.002}]
    optimizer = torch.optim.AdamW(groups, lr=0.001)
    model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
    optimizer.step()
    weights, state = get_state_dict(model, optimizer)
    tree = {"model": weights, "optimizer": state, "run": {"step": 7, "name": "night"}}
    dcp.save(tree, checkpoint_id=directory, no_dist=True)
    return directory


def as_file(directory: Path, file: Path) -> Any:
    dcp_to_torch_save(directory, file)
    return torch.load(file, weights_only=False)


def flat(tree: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    leaves: dict[tuple[Any, ...], Any] = {}
    for key, value in items:
        nested = isinstance(value, dict | list)
        leaves |= flat(value, (*path, key)) if nested else {(*path, key): value}
    return leaves


@pytest.mark.parametrize("ranks", [1, 3])
def test_identity_is_the_identity(stepped: Path, tmp_path: Path, ranks: int) -> None:
    """The tree that torch rebuilds of it is the one that was saved: weights, moments, groups."""
    out = tmp_path / "out"
    done = cli.ok("convert", stepped, out, "--to", f"dcp:ranks={ranks}", "--recipe", "identity")
    assert "left out" not in done.stderr
    names = [
        set(dcp.FileSystemReader(d).read_metadata().state_dict_metadata) for d in (stepped, out)
    ]
    assert names[0] == names[1]
    assert any("param_groups" in name for name in names[0])
    saved, carried = (flat(as_file(d, tmp_path / f"{d.name}.pt")) for d in (stepped, out))
    assert saved.keys() == carried.keys()
    for path, value in saved.items():
        if isinstance(value, torch.Tensor):
            compare.assert_same_tensors({"": carried[path]}, {"": value})
        else:
            assert (type(carried[path]), carried[path]) == (type(value), value), path


def test_what_identity_has_written_torch_loads(stepped: Path, out: Path) -> None:
    """Into a live model and optimizer, steps and groups included."""
    cli.ok("convert", stepped, out, "--to", "dcp:ranks=2", "--recipe", "identity")
    model = tiny_text.build("llama")
    names = dict(model.named_parameters())
    norms = [p for n, p in names.items() if "norm" in n]
    rest = [p for n, p in names.items() if "norm" not in n]
    groups = [{"params": norms, "weight_decay": 0.5}, {"params": rest, "lr": 0.5}]
    optimizer = torch.optim.AdamW(groups, lr=0.5)
    weights, state = get_state_dict(model, optimizer)
    tree = {"model": weights, "optimizer": state, "run": {"step": 0, "name": ""}}
    dcp.load(tree, checkpoint_id=out, no_dist=True)
    assert tree["run"] == {"step": 7, "name": "night"}
    loaded = tree["optimizer"]
    assert [group["lr"] for group in loaded["param_groups"]] == [0.001, 0.002]
    assert {float(entry["step"]) for entry in loaded["state"].values()} == {1.0}


def test_ignored_objects_stay_behind(stepped: Path, out: Path) -> None:
    options = ("--to", "dcp", "--recipe", "identity", "--ignore", "^optimizer", "--json")
    done = cli.ok("convert", stepped, out, *options)
    names = set(dcp.FileSystemReader(out).read_metadata().state_dict_metadata)
    assert not [name for name in names if name.startswith("optimizer")]
    assert {"run.step", "run.name"} <= names
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["objects"] == 2
    assert summary["dropped_objects"] > 0


def test_objects_that_the_target_cannot_hold_are_named(tmp_path: Path, out: Path) -> None:
    torch.save({"w": torch.ones(3), "epoch": 3, "lr": {"last": 0.5}}, tmp_path / "run.pt")
    options = ("--to", "dcp", "--recipe", "identity")
    said = cli.expect(cli.MAPPING, "convert", tmp_path / "run.pt", out, *options).stderr
    assert "cannot hold 2 objects" in said
    assert "epoch" in said
    assert "lr.last" in said
    wanted = re.search(r"--ignore '(.*)'", said)
    assert wanted, said
    cli.ok("convert", tmp_path / "run.pt", out, *options, "--ignore", wanted[1])
    assert set(dcp.FileSystemReader(out).read_metadata().state_dict_metadata) == {"w"}


# ------------------------------------------------------------------------ an optimizer is no model


def optimizer_of(weights: Tensors) -> dict[str, Any]:
    return {
        "state": {
            name: {
                "exp_avg": torch.zeros_like(value),
                "exp_avg_sq": torch.zeros_like(value),
                "step": torch.tensor(1.0),
            }
            for name, value in weights.items()
        },
        "param_groups": [{"lr": 1e-3}],
    }


def test_an_optimizer_is_refused_and_the_model_beside_it_named(tmp_path: Path, out: Path) -> None:
    weights = tiny_text.build("llama").state_dict()
    checkpoint = tmp_path / "checkpoint-100"
    dcp.save({"optimizer": optimizer_of(weights)}, checkpoint_id=checkpoint / "optimizer_0")
    dcp.save({"model": weights}, checkpoint_id=checkpoint / "pytorch_model_fsdp_0")
    tiny_text.build("llama").config.save_pretrained(checkpoint)
    said = cli.refused(cli.MAPPING, checkpoint / "optimizer_0", out)
    assert "optimizer's state" in said
    assert str(checkpoint / "pytorch_model_fsdp_0") in said
    above = cli.refused(cli.SOURCE, checkpoint, out)
    assert "did you mean" in above
    assert str(checkpoint / "pytorch_model_fsdp_0") in above
    assert str(checkpoint / "optimizer_0") not in above
    cli.identity(checkpoint / "optimizer_0", out)


@pytest.mark.parametrize("form", ["app", "state", "flat"])
def test_an_optimizer_beside_the_model_is_not_written_unasked(
    form: str, tmp_path: Path, out: Path
) -> None:
    """What the error says to leave out is the optimizer, and all of it."""
    weights = {"layers.0.proj.weight": torch.ones(4, 4), "layers.0.proj.bias": torch.ones(4)}
    optimizer = optimizer_of(weights)
    tree = {
        "app": {"app": {"net": weights, "optim": optimizer}},
        "state": {"net": weights, "state": optimizer["state"]},
        "flat": weights | {"optimizer": optimizer},
    }[form]
    dcp.save(tree, checkpoint_id=tmp_path / "checkpoint")
    said = cli.refused(cli.MAPPING, tmp_path / "checkpoint", out)
    assert "6 of 8 tensors" in said
    wanted = re.search(r"--ignore '(.*?)'", said)
    assert wanted, said
    cli.convert(tmp_path / "checkpoint", out, "--ignore", wanted[1])
    got = load_file(out / "model.safetensors")
    assert {name.removeprefix("app.").removeprefix("net.") for name in got} == set(weights)


def test_an_optimizer_may_be_split_anew(tmp_path: Path, out: Path) -> None:
    state = {"optimizer": optimizer_of({"w": torch.ones(4, 4)})}
    dcp.save(state, checkpoint_id=tmp_path / "checkpoint")
    cli.ok("convert", tmp_path / "checkpoint", out, "--to", "dcp:ranks=2", "--recipe", "identity")
    names = [
        set(dcp.FileSystemReader(d).read_metadata().state_dict_metadata)
        for d in (tmp_path / "checkpoint", out)
    ]
    assert names[0] == names[1]


# -------------------------------------------------------------------- names that no hub has


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreTrainedModel]:
    """The directory of its config, and the model."""
    directory = tmp_path_factory.mktemp("assets") / "llama"
    model = tiny_text.build("llama")
    model.config.architectures = ["LlamaForCausalLM"]
    model.config.save_pretrained(directory)
    return directory, model


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "net.student."])
def test_names_none_of_which_the_class_has_are_refused(
    prefix: str, llama: tuple[Path, PreTrainedModel], tmp_path: Path, out: Path
) -> None:
    assets, model = llama
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    checkpoints.save_single(state, tmp_path / "checkpoint")
    said = cli.refused(cli.MAPPING, tmp_path / "checkpoint", out, "--assets-from", assets)
    assert "LlamaForCausalLM" in said
    cli.identity(tmp_path / "checkpoint", out, "--assets-from", assets)
    compare.assert_reads_as(out, state)


def test_a_distributed_checkpoint_of_megatron_is_told(
    llama: tuple[Path, PreTrainedModel], tmp_path: Path, out: Path
) -> None:
    """`torch_dist`: a DCP with the layers stacked, and metadata.json and common.pt beside it."""
    source = tmp_path / "iter_0000100"
    state = {
        "decoder.layers.self_attention.linear_proj.weight": torch.ones(2, 4, 4),
        "decoder.final_layernorm.weight": torch.ones(4),
        "embedding.word_embeddings.weight": torch.ones(8, 4),
        "optimizer.state.exp_avg.decoder.final_layernorm.weight": torch.ones(4),
    }
    checkpoints.save_single(state, source)
    torch.save({"args": None}, source / "common.pt")
    (source / "metadata.json").write_text(
        '{"sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch"}'
    )
    assets = ("--assets-from", llama[0])
    for options in ((), ("--recipe", "megatron-core"), ("--recipe", "veomni")):
        said = cli.refused(cli.MAPPING, source, out, *assets, *options)
        assert "torch_dist" in said
        assert "--ckpt-convert-format torch" in said
    for target in ("megatron", "dcp"):
        options = ("--to", target, "--recipe", "megatron-core")
        said = cli.expect(cli.MAPPING, "convert", source, out, *assets, *options).stderr
        assert "torch_dist" in said
    (source / "metadata.json").write_text('{"written_by": "another program"}')
    options = ("--ignore", "^optimizer")
    cli.refused(cli.MAPPING, source, out, *assets, *options, names="LlamaForCausalLM")
    cli.ok("inspect", source)
