"""A bit that has changed in stored weights is found by the checksums that torch.save writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli
from harness.cli import SOURCE
from harness.recipe_text import keep_names
from safetensors.torch import load_file
from torch.serialization import set_crc32_options

IDENTITY = ("--recipe", "identity")


def state(size: int = 3000) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    names = ("a.weight", "b.weight", "c.weight")
    return {name: torch.randn(size // 10, 10, generator=generator) for name in names}


def save_pt(tensors: dict[str, torch.Tensor], where: Path) -> tuple[Path, Path]:
    torch.save(tensors, where / "run.pt")
    return where / "run.pt", where / "run.pt"


def save_bin(tensors: dict[str, torch.Tensor], where: Path) -> tuple[Path, Path]:
    torch.save(tensors, where / "pytorch_model.bin")
    return where, where / "pytorch_model.bin"


def save_rank(tensors: dict[str, torch.Tensor], where: Path) -> tuple[Path, Path]:
    file = where / "release" / "mp_rank_00" / "model_optim_rng.pt"
    file.parent.mkdir(parents=True)
    torch.save({"model": tensors, "checkpoint_version": 3.0}, file)
    return where / "release", file


def save_dcp(tensors: dict[str, torch.Tensor], where: Path) -> tuple[Path, Path]:
    checkpoints.save_single(tensors, where / "dcp")
    return where / "dcp", next((where / "dcp").glob("*.distcp"))


KINDS = {"pt": save_pt, "bin": save_bin, "mp_rank": save_rank, "distcp": save_dcp}


def flip(file: Path, tensor: torch.Tensor, element: int) -> None:
    """Changes the lowest bit of one element where the tensor is stored."""
    data = bytearray(file.read_bytes())
    stored = tensor.numpy().tobytes()
    assert data.count(stored) == 1
    data[data.index(stored) + element * tensor.element_size()] ^= 1
    file.write_bytes(data)


def as_is(kind: str, directory: Path) -> tuple[object, ...]:
    """Options by which the tensors keep their names."""
    return ("--recipe", keep_names(directory)) if kind == "mp_rank" else IDENTITY


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("options", [("--jobs", 1), ("--weights", "bin", "--dtype", "bfloat16")])
def test_one_changed_bit(kind: str, options: tuple[object, ...], tmp_path: Path, out: Path) -> None:
    tensors = state()
    source, file = KINDS[kind](tensors, tmp_path)
    options = (*as_is(kind, tmp_path), *options)
    cli.convert(source, tmp_path / "sound", *options)
    flip(file, tensors["b.weight"], 1234)
    error = cli.refused(SOURCE, source, out, *options, names="b.weight")
    assert file.name in error
    assert not cli.staged(out)


def test_large_tensors_in_pieces_by_threads(kind: str, tmp_path: Path, out: Path) -> None:
    """Blocks of 4 MiB by four threads, and a last element that no block begins with."""
    tensors = state(1_500_000)
    source, file = KINDS[kind](tensors, tmp_path)
    options = (*as_is(kind, tmp_path), "--jobs", 4)
    cli.convert(source, tmp_path / "sound", *options)
    flip(file, tensors["c.weight"], 1_499_999)
    cli.refused(SOURCE, source, out, *options, names="c.weight")


def test_the_same_command_again_does_not_pass(tmp_path: Path, out: Path) -> None:
    """Files that were finished before the damage was met do not hide it from the next run."""
    tensors = state(300_000)
    source, file = save_pt(tensors, tmp_path)
    flip(file, tensors["c.weight"], 299_999)
    for _ in range(2):
        options = ("--shard-size", "1MB", "--jobs", 1)
        cli.refused(SOURCE, source, out, *IDENTITY, *options, names="c.weight")
        assert not cli.staged(out)


def test_what_is_left_out_is_not_looked_at(tmp_path: Path, out: Path) -> None:
    tensors = state()
    source, file = save_pt(tensors, tmp_path)
    flip(file, tensors["b.weight"], 0)
    cli.identity(source, out, "--ignore", "^b")
    assert set(load_file(out / "model.safetensors")) == {"a.weight", "c.weight"}


@pytest.fixture
def no_checksums() -> Iterator[None]:
    set_crc32_options(False)
    yield
    set_crc32_options(True)


@pytest.mark.usefixtures("no_checksums")
def test_files_without_checksums_are_read(kind: str, tmp_path: Path, out: Path) -> None:
    tensors = state()
    source, file = KINDS[kind](tensors, tmp_path)
    assert tensors["a.weight"].numpy().tobytes() in file.read_bytes()
    cli.convert(source, out, *as_is(kind, tmp_path))
    written = load_file(out / "model.safetensors")
    assert len(written) == 3
    for name, tensor in written.items():
        assert torch.equal(tensor, tensors[name])


def test_data_that_is_filled_in_later_is_read(tmp_path: Path, out: Path) -> None:
    """torch.serialization.skip_data leaves room for the data, and knows no checksum of it."""
    file = tmp_path / "run.pt"
    tensors = {"a.weight": torch.arange(100.0)}
    with torch.serialization.skip_data():
        torch.save(tensors, file)
    data = bytearray(file.read_bytes())
    place = torch.load(file, mmap=True)["a.weight"].untyped_storage()
    offset = torch._C.PyTorchFileReader(str(file)).get_record_offset("data/0")
    assert place.nbytes() == 400
    data[offset : offset + 400] = tensors["a.weight"].numpy().tobytes()
    file.write_bytes(data)
    cli.identity(file, out)
    assert torch.equal(load_file(out / "model.safetensors")["a.weight"], tensors["a.weight"])
