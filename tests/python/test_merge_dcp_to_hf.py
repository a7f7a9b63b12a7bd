"""merge-dcp-to-hf does what the script that it replaces does: flags, names, files, warnings."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, models, reference

COMMAND = "merge-dcp-to-hf"
TRAINED = ["llama_fsdp2", "qwen3_hsdp", "tied_tp_fsdp", "layouts", "layouts_zstd"]


def merged(checkpoint: Path, directory: Path, *args: object) -> Path:
    cli.ok(COMMAND, "--load-dir", checkpoint, "--save-dir", directory, *args)
    return directory


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("shard_size", [1, 1000, 5000, 20_000, 2_000_000_000])
def test_same_files_as_the_script(name: str, shard_size: int, trained: Path, out: Path) -> None:
    merged(trained / name, out, "--shard-size", shard_size)
    expected = reference.merge(trained / name, torch.bfloat16, shard_size)
    assert sorted(path.name for path in compare.weight_files(out)) == sorted(expected)
    for file, tensors in expected.items():
        actual = compare.read_safetensors(out / file)
        compare.assert_same(actual, {key: compare.stored(t) for key, t in tensors.items()})
        assert compare.read_header(out / file)["__metadata__"] == {"format": "pt"}

    index_path = out / "model.safetensors.index.json"
    if len(expected) == 1:
        assert not index_path.exists()
        return
    total = sum(t.numel() * t.element_size() for file in expected.values() for t in file.values())
    weight_map = {key: file for file, tensors in expected.items() for key in tensors}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    assert index_path.read_text() == json.dumps(index, indent=2, sort_keys=True) + "\n"


def test_defaults(trained: Path, tmp_path: Path) -> None:
    """<load-dir>/hf_ckpt, bfloat16."""
    copied = tmp_path / "copied"
    shutil.copytree(trained / "llama_fsdp2", copied)
    cli.ok(COMMAND, "--load-dir", copied)
    weights = reference.weights(checkpoints.expected(trained / "llama_fsdp2"))
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    compare.assert_reads_as(copied / "hf_ckpt", expected)


def test_load_dir_is_required() -> None:
    assert "--load-dir" in cli.expect(cli.USAGE, COMMAND).stderr


def test_existing_save_directory_is_refused(trained: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    command = (COMMAND, "--load-dir", trained / "qwen3_hsdp", "--save-dir", out)
    assert str(out) in cli.expect(cli.DESTINATION, *command).stderr
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("flag", ["--model-assets-dir", "--model-configs"])
def test_both_names_of_the_assets_flag(flag: str, trained: Path, tmp_path: Path, out: Path) -> None:
    assets = tmp_path / "assets"
    models.config("qwen3").save_pretrained(assets)
    merged(trained / "qwen3_hsdp", out, flag, assets)
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_stripped_prefix_is_warned_of(tmp_path: Path, out: Path) -> None:
    state = {
        "model.model.layers.0.w": torch.ones(2),
        "model.lm_head.weight": torch.ones(2),
        "model.base_model.x": torch.ones(2),
        "model.thinker.x": torch.ones(2),
        "optimizer.state.x": torch.ones(2),
        "modelx.y": torch.ones(2),
    }
    checkpoints.save_single(state, tmp_path / "checkpoint")
    command = (COMMAND, "--load-dir", tmp_path / "checkpoint", "--save-dir", out)
    done = cli.ok(*command)
    unexpected = [
        key for key in state if reference.hub_name(key) and not reference.is_expected_form(key)
    ]
    assert unexpected == ["model.base_model.x", "model.thinker.x"]
    warning = (
        "Found unexpected DCP key format 'model.thinker.x', stripping leading 'model.' prefix."
    )
    assert warning in done.stderr
    assert done.stderr.count("Found unexpected DCP key format") == 2
    assert sorted(compare.read_hf(out)) == [
        "base_model.x",
        "lm_head.weight",
        "model.layers.0.w",
        "thinker.x",
    ]


@pytest.mark.parametrize("save_dir", [True, False])
def test_no_model_weights(save_dir: bool, tmp_path: Path, out: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoints.save_single({"optimizer.state.w.exp_avg": torch.ones(2), "step": 7}, checkpoint)
    before = compare.tree_digest(tmp_path)
    where = ("--save-dir", out) if save_dir else ()
    done = cli.expect(cli.MAPPING, COMMAND, "--load-dir", checkpoint, *where)
    assert "No model weights found in checkpoint." in done.stderr
    assert compare.tree_digest(tmp_path) == before
    assert not out.exists()
    assert not (checkpoint / "hf_ckpt").exists()


def test_convert_can_do_the_same(trained: Path, tmp_path: Path) -> None:
    source = trained / "llama_fsdp2"
    merged(source, tmp_path / "a", "--shard-size", 20_000)
    options = ("--recipe", "veomni", "--packing", "lexicographic", "--dtype", "bfloat16")
    options += ("--dtype-for", ".=bfloat16")
    cli.convert(source, tmp_path / "b", *options, "--shard-size", 20_000)
    weights_of = [
        {path.name: path.read_bytes() for path in compare.weight_files(tmp_path / name)}
        for name in "ab"
    ]
    assert weights_of[0] == weights_of[1]
