"""Which tensor goes to which file, and what the index and the headers say about it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, reference

SHARD_SIZE = 20_000


def files_of(directory: Path) -> list[list[str]]:
    return [sorted(compare.read_safetensors(path)) for path in compare.weight_files(directory)]


def sizes_of(directory: Path) -> list[list[int]]:
    """The bytes of each tensor, file by file."""
    return [
        [len(tensor.data) for tensor in compare.read_safetensors(path).values()]
        for path in compare.weight_files(directory)
    ]


@pytest.mark.parametrize("packing", ["natural", "lexicographic"])
def test_no_file_is_larger_than_asked(packing: str, trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out, "--shard-size", SHARD_SIZE, "--packing", packing)
    sizes = sizes_of(out)
    assert len(sizes) > 3
    assert all(sum(file) <= SHARD_SIZE or len(file) == 1 for file in sizes)


def test_natural_packing_follows_the_layers(trained: Path, out: Path) -> None:
    """It is the default, and layer 2 comes before layer 10."""
    cli.convert(trained / "llama_fsdp2", out, "--shard-size", SHARD_SIZE)
    last = 0
    for file in files_of(out):
        layers = sorted(int(m[1]) for name in file if (m := re.search(r"\.layers\.(\d+)\.", name)))
        if layers:
            assert layers[0] >= last
            last = layers[-1]
    assert last == 11


def test_lexicographic_packing_is_the_scripts(trained: Path, out: Path) -> None:
    source = trained / "llama_fsdp2"
    cli.convert(source, out, "--shard-size", SHARD_SIZE, "--packing", "lexicographic")
    expected = reference.pack(reference.weights(checkpoints.expected(source)), SHARD_SIZE)
    assert files_of(out) == [sorted(file) for file in expected]


def test_a_tensor_larger_than_a_file_has_its_own(trained: Path, out: Path) -> None:
    cli.convert(trained / "qwen3_hsdp", out, "--shard-size", 1)
    assert all(len(file) == 1 for file in files_of(out))


@pytest.mark.parametrize(
    ("text", "count"), [("20000", 20_000), ("20KB", 20_000), ("20kB", 20_000), ("20KiB", 20_480)]
)
def test_sizes_have_units(text: str, count: int, trained: Path, tmp_path: Path) -> None:
    options = ("--packing", "lexicographic")
    cli.convert(trained / "llama_fsdp2", tmp_path / "a", "--shard-size", text, *options)
    cli.convert(trained / "llama_fsdp2", tmp_path / "b", "--shard-size", count, *options)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_one_file_has_no_index(trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out)
    assert [path.name for path in out.glob("model*")] == ["model.safetensors"]


def test_index_is_sorted_and_indented(trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out, "--shard-size", SHARD_SIZE)
    text = (out / "model.safetensors.index.json").read_text()
    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_bin_files_have_an_index_too(trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out, "--shard-size", SHARD_SIZE, "--weights", "bin")
    index = json.loads((out / "pytorch_model.bin.index.json").read_text())
    total = 0
    seen: dict[str, str] = {}
    for path in compare.weight_files(out, "pytorch_model", "bin"):
        for name, tensor in torch.load(path, weights_only=True).items():
            seen[name] = path.name
            total += tensor.numel() * tensor.element_size()
    assert index["weight_map"] == seen
    assert index["metadata"]["total_size"] == total
