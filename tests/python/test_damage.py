"""Damaged, lying and hostile checkpoints are refused, and the message says where to look."""

from __future__ import annotations

import pickle
import random
import time
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, damage
from harness.cli import FIXTURES, SOURCE
from harness.damage import Edit, Payload
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata

FIXTURE = FIXTURES / "mr_dtensor_1d" / "ckpt"
IDENTITY = ("--recipe", "identity")


@pytest.fixture(params=["fixture", "fresh"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A sound checkpoint, to be damaged: a stored one, and one of this PyTorch and this Python."""
    if request.param == "fixture":
        return damage.copy_of(FIXTURE, tmp_path)
    return damage.copy_of(request.getfixturevalue("trained") / "llama_fsdp2", tmp_path)


def data_file(checkpoint: Path) -> Path:
    """A data file that holds something."""
    return max(checkpoint.glob("*.distcp"), key=lambda path: path.stat().st_size)


def test_sound_copy_is_read(damaged: Path, out: Path) -> None:
    """Damage is the only reason that the other tests see a refusal."""
    cli.identity(damaged, out)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.999])
def test_truncated_data_file(damaged: Path, out: Path, keep: float) -> None:
    path = data_file(damaged)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    cli.refused(SOURCE, damaged, out, *IDENTITY, names=path.name)


def test_last_byte_missing(damaged: Path, out: Path) -> None:
    path = data_file(damaged)
    path.write_bytes(path.read_bytes()[:-1])
    cli.refused(SOURCE, damaged, out, *IDENTITY, names=path.name)


def test_missing_data_file(damaged: Path, out: Path) -> None:
    path = data_file(damaged)
    path.unlink()
    cli.refused(SOURCE, damaged, out, *IDENTITY, names=path.name)


def test_data_file_of_zeros(damaged: Path, out: Path) -> None:
    path = data_file(damaged)
    path.write_bytes(bytes(path.stat().st_size))
    cli.refused(SOURCE, damaged, out, *IDENTITY, names=path.name)


def test_metadata_cut_anywhere(tmp_path: Path, out: Path) -> None:
    checkpoint = damage.copy_of(FIXTURE, tmp_path)
    path = checkpoint / ".metadata"
    data = path.read_bytes()
    for size in [0, 1, 2, *range(3, len(data), max(1, len(data) // 40)), len(data) - 1]:
        path.write_bytes(data[:size])
        cli.refused(SOURCE, checkpoint, out, *IDENTITY, names=".metadata")


def test_flipped_metadata_bits_never_crash(tmp_path: Path) -> None:
    """A flip may pass unnoticed (a name's letter); it must never be a crash or a defect of ours."""
    checkpoint = damage.copy_of(FIXTURE, tmp_path)
    path = checkpoint / ".metadata"
    data = path.read_bytes()
    dice = random.Random(20)
    for _ in range(150):
        bit = dice.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        done = cli.run("plan", checkpoint, tmp_path / "out", "--to", "hf", *IDENTITY)
        assert done.returncode in (cli.OK, cli.SOURCE, cli.MAPPING), (bit, done.stderr)


def overlap(metadata: Metadata) -> str:
    damage.move_chunk(metadata, "even", 1, (1, 0))
    return "even"


def out_of_bounds(metadata: Metadata) -> str:
    damage.move_chunk(metadata, "even", 3, (7, 0))
    return "even"


def negative_offset(metadata: Metadata) -> str:
    damage.move_chunk(metadata, "even", 0, (-2, 0))
    return "even"


def hole(metadata: Metadata) -> str:
    damage.drop_chunk(metadata, "uneven", 1)
    return "uneven"


def no_chunks(metadata: Metadata) -> str:
    for _ in range(4):
        damage.drop_chunk(metadata, "even", 0)
    return "even"


def chunk_without_entry(metadata: Metadata) -> str:
    removed = next(index for index in metadata.storage_data if index.fqn == "col")
    del metadata.storage_data[removed]
    return "col"


def other_dtype_of_same_size(metadata: Metadata) -> str:
    damage.tensor(metadata, "even").properties.dtype = torch.int32
    return "even"


def narrower_dtype(metadata: Metadata) -> str:
    damage.tensor(metadata, "even").properties.dtype = torch.bfloat16
    return "even"


def larger_shape(metadata: Metadata) -> str:
    damage.tensor(metadata, "mid4d").size = torch.Size((2, 8, 2, 2))
    return "mid4d"


def smaller_shape(metadata: Metadata) -> str:
    damage.tensor(metadata, "mid4d").size = torch.Size((2, 6, 2, 2))
    return "mid4d"


def other_rank(metadata: Metadata) -> str:
    damage.tensor(metadata, "even").size = torch.Size((8, 3, 1))
    return "even"


def transposed_shape(metadata: Metadata) -> str:
    """The number of elements is right; the entry itself says that the shape is not."""
    entry = damage.tensor(metadata, "plain")
    entry.size = torch.Size((1, 9))
    entry.chunks[0] = ChunkStorageMetadata(torch.Size((0, 0)), torch.Size((1, 9)))
    return "plain"


def product_overflow(metadata: Metadata) -> str:
    damage.tensor(metadata, "even").size = torch.Size((2**62, 2**62))
    return "even"


def short_entry(metadata: Metadata) -> str:
    length = damage.entry_of(metadata, "even").length
    damage.edit_entry(metadata, "even", length=length - 1)
    return "even"


def entry_of_another(metadata: Metadata) -> str:
    other = damage.entry_of(metadata, "plain")
    damage.edit_entry(
        metadata,
        "rep",
        relative_path=other.relative_path,
        offset=other.offset,
        length=other.length,
    )
    return "rep"


def entry_beyond_file(metadata: Metadata) -> str:
    damage.edit_entry(metadata, "even", offset=2**40)
    return "even"


def entry_at_negative_offset(metadata: Metadata) -> str:
    damage.edit_entry(metadata, "even", offset=-1)
    return "even"


def entry_too_long(metadata: Metadata) -> str:
    damage.edit_entry(metadata, "even", length=2**63 - 1)
    return "even"


def tensor_of_wrong_class(metadata: Metadata) -> str:
    metadata.state_dict_metadata["even"] = {"chunks": []}
    return "even"


LIES: list[Edit] = [
    overlap,
    out_of_bounds,
    negative_offset,
    hole,
    no_chunks,
    chunk_without_entry,
    other_dtype_of_same_size,
    narrower_dtype,
    larger_shape,
    smaller_shape,
    other_rank,
    transposed_shape,
    product_overflow,
    short_entry,
    entry_of_another,
    entry_beyond_file,
    entry_at_negative_offset,
    entry_too_long,
    tensor_of_wrong_class,
]


@pytest.mark.parametrize("lie", LIES)
def test_lying_metadata(lie: Edit, tmp_path: Path, out: Path) -> None:
    checkpoint = damage.copy_of(FIXTURE, tmp_path)
    name = damage.rewrite(checkpoint, lie)
    started = time.monotonic()
    cli.refused(SOURCE, checkpoint, out, *IDENTITY, names=name)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize("number", range(4))
def test_hole_in_a_trained_checkpoint(
    trained: Path, tmp_path: Path, out: Path, number: int
) -> None:
    name = "model.model.layers.3.mlp.up_proj.weight"
    checkpoint = damage.copy_of(trained / "llama_fsdp2", tmp_path)

    def edit(metadata: Metadata) -> str:
        damage.drop_chunk(metadata, name, number)
        return name

    damage.rewrite(checkpoint, edit)
    cli.refused(SOURCE, checkpoint, out, names=name)


@pytest.mark.parametrize("path", ["/{}", "../{}", "a/../../{}", "./../damaged/../{}"])
def test_path_that_leaves_the_directory(path: str, tmp_path: Path, out: Path) -> None:
    """The file is there and would be read: only the form of its path is wrong."""
    checkpoint = damage.copy_of(FIXTURE, tmp_path)

    def edit(metadata: Metadata) -> str:
        inside = damage.entry_of(metadata, "even").relative_path
        (tmp_path / "outside.distcp").write_bytes((checkpoint / inside).read_bytes())
        target = (
            str(tmp_path / "outside.distcp") if path == "/{}" else path.format("outside.distcp")
        )
        damage.edit_entry(metadata, "even", relative_path=target)
        return "outside.distcp"

    name = damage.rewrite(checkpoint, edit)
    cli.refused(SOURCE, checkpoint, out, *IDENTITY, names=name)


@pytest.mark.parametrize(
    "place", ["root", "planner_data", "storage_data", "relative_path", "dtype"]
)
def test_code_in_metadata_is_never_run(place: str, tmp_path: Path, out: Path) -> None:
    checkpoint = damage.copy_of(FIXTURE, tmp_path)
    marker = tmp_path / "code-was-run"
    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())
    payload = Payload(marker)
    if place == "root":
        metadata = payload
    elif place in ("planner_data", "storage_data"):
        setattr(metadata, place, payload)
    elif place == "relative_path":
        damage.edit_entry(metadata, "even", relative_path=payload)
    else:
        damage.tensor(metadata, "even").properties.dtype = payload
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata, protocol=4))
    for command in (["inspect", checkpoint], ["convert", checkpoint, out, "--to", "hf", *IDENTITY]):
        done = cli.run(*command)
        assert not marker.exists()
        # What planner_data says is not needed to find the tensors.
        if place != "planner_data":
            assert done.returncode == SOURCE, done.stderr
    pickle.loads(pickle.dumps(payload))
    assert marker.exists(), "the payload would not have run anyway: the test proves nothing"


def test_code_in_an_object_is_never_run(tmp_path: Path, out: Path) -> None:
    marker = tmp_path / "code-was-run"
    checkpoint = tmp_path / "checkpoint"
    state = {"model.model.w": torch.ones(2, 2), "extra": Payload(marker)}
    checkpoints.save_single(state, checkpoint)
    report = cli.ok("inspect", checkpoint, "--tensors").stdout
    assert "extra" in report
    cli.identity(checkpoint, out)
    assert not marker.exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_torch_save_file_is_never_run(tmp_path: Path, out: Path, legacy: bool) -> None:
    marker = tmp_path / "code-was-run"
    path = tmp_path / "model.pt"
    state = {"w": torch.ones(2, 2), "extra": Payload(marker)}
    torch.save(state, path, _use_new_zipfile_serialization=not legacy)
    done = cli.run("convert", path, out, "--to", "hf", *IDENTITY)
    assert done.returncode in (cli.OK, cli.SOURCE), done.stderr
    assert not marker.exists()


def test_stale_files_of_an_earlier_save_do_not_matter(tmp_path: Path, out: Path) -> None:
    checkpoint = damage.copy_of(FIXTURE, tmp_path)
    (checkpoint / "__9_0.distcp").write_bytes(b"left by a larger world")
    (checkpoint / "__8_0.distcp").write_bytes(b"")
    cli.identity(checkpoint, out)
