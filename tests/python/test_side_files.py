"""All that lies beside a model's weights goes with them, or is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare
from harness.cli import SOURCE
from safetensors.torch import save_file

# What loaders of real models look for.
TAKEN = [
    "1_Pooling/config.json",  # sentence-transformers: without it, silently mean pooling
    "LICENSE",
    "README.md",
    "adapter_config.json",
    "bpe.codes",
    "config.json",
    "config_sentence_transformers.json",
    "configuration.json",
    "hf_quant_config.json",
    "mm_projector.bin",  # LLaVA
    "modules.json",
    "params.json",
    "quant_config.json",
    "quantize_config.json",
    "sentencepiece.model",
    "source.spm",
    "spk_dict.pt",  # Qwen2.5-Omni: from_pretrained fails without it
    "tekken.json",  # Mistral's only tokenizer
]
LEFT = [
    "consolidated.00.pth",
    "flax_model.msgpack",
    "model.gguf",
    "onnx/model.onnx",
    "optimizer.pt",
    "pytorch_model.bin",
    "training_args.bin",
]


def put(directory: Path, names: list[str]) -> None:
    for name in names:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("{}")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    put(directory, [*TAKEN, *LEFT, ".gitattributes", ".cache/x"])
    save_file({"w": torch.ones(2)}, directory / "model.safetensors", {"format": "pt"})
    return directory


def files_of(directory: Path) -> set[str]:
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)) for path in paths}


@pytest.mark.parametrize("weights", ["safetensors", "bin"])
def test_of_a_hub_model(weights: str, model: Path, out: Path) -> None:
    done = cli.convert(model, out, "--weights", weights)
    file = "model.safetensors" if weights == "safetensors" else "pytorch_model.bin"
    assert files_of(out) == {*TAKEN, file, "reshard-manifest.json"}
    assert f"left in {model}: consolidated.00.pth, flax_model.msgpack, model.gguf, " in done.stderr
    assert "a loader will miss" not in done.stderr


def test_names_in_json(model: Path, out: Path) -> None:
    left = sorted({name if "/" not in name else "onnx/" for name in LEFT})
    plan = json.loads(cli.ok("plan", model, out, "--json").stdout)
    assert plan["left_behind"] == left
    events = cli.convert(model, out, "--json").stdout.splitlines()
    assert json.loads(events[-1])["left_behind"] == left
    assert "left: consolidated.00.pth, " in cli.ok("plan", model, out).stdout


def test_a_base_models_own_weights_are_not_spoken_of(tmp_path: Path, out: Path) -> None:
    checkpoints.save_single({"w": torch.ones(3)}, tmp_path / "dcp")
    base = tmp_path / "base"
    put(base, ["config.json", "tekken.json"])
    tensors = {"x": torch.ones(2), "y": torch.ones(2)}
    for i, (name, tensor) in enumerate(tensors.items()):
        save_file({name: tensor}, base / f"model-0000{i + 1}-of-00002.safetensors")
    index = {name: f"model-0000{i + 1}-of-00002.safetensors" for i, name in enumerate(tensors)}
    (base / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    done = cli.identity(tmp_path / "dcp", out, "--assets-from", base)
    assert "left in" not in done.stderr
    assert files_of(out) == {
        "config.json",
        "tekken.json",
        "model.safetensors",
        "reshard-manifest.json",
    }


def test_of_a_file_among_others_only_known_names(tmp_path: Path, out: Path) -> None:
    """Whoever converts ~/run.pt does not ask for a copy of his home."""
    torch.save({"w": torch.ones(2)}, tmp_path / "run.pt")
    put(tmp_path, ["tokenizer.json", "thesis.pdf", "other.pt", "photos/1.jpg"])
    cli.identity(tmp_path / "run.pt", out)
    assert files_of(out) == {"tokenizer.json", "model.safetensors", "reshard-manifest.json"}


def test_a_run_that_goes_on_sees_the_same(model: Path) -> None:
    """An output within the model's directory is no part of the model, finished or not."""
    staging = model / "out.partial-0123456789abcdef"
    put(staging, ["model.safetensors.partial", "x.json"])
    done = cli.convert(model, model / "out")
    assert "partial" not in done.stderr.partition("left in")[2].splitlines()[0]
    assert "x.json" not in {Path(name).name for name in files_of(model / "out")}


def test_a_link_to_nothing_where_a_loader_looks(model: Path, out: Path) -> None:
    """A snapshot of the hub's cache whose blob is gone."""
    (model / "tokenizer.json").symlink_to("../../blobs/0123")
    cli.refused(SOURCE, model, out, names="tokenizer.json")


@pytest.mark.parametrize("kind", ["hf", "dcp", "megatron"])
def test_a_config_that_cannot_be_looked_at(kind: str, tmp_path: Path, out: Path) -> None:
    """What cannot be seen is not taken for what is not there: here a ring of links."""
    source = tmp_path / "source"
    source.mkdir()
    save_file({"w": torch.ones(2)}, source / "model.safetensors")
    os.symlink("config.json", source / "config.json")
    done = cli.expect(SOURCE, "convert", source, out, "--to", kind)
    assert "config.json" in done.stderr
    assert not out.exists()


def test_links_into_a_cache_are_followed(model: Path, tmp_path: Path, out: Path) -> None:
    snapshot = tmp_path / "snapshot"
    for name in files_of(model):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(model / name)
    cli.convert(snapshot, out)
    assert {*TAKEN, "model.safetensors"} < files_of(out)
    assert not (out / "spk_dict.pt").is_symlink()
    assert len(compare.read_hf(out)) == 1
