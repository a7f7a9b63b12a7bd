"""PyTorch reads the DCP checkpoints that are written: on one, two and four ranks, bit for bit.

RESHARD_BIN_DIR names the directory of dcp_tool, a program of developer builds.
"""

from __future__ import annotations

import io
import itertools
import os
import pathlib
import subprocess
import zipfile
from collections.abc import Sequence

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from harness import compare
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("RESHARD_BIN_DIR", ROOT / "build/dev/bin")) / "dcp_tool"
RANKS = [1, 2, 4, 7]  # of the checkpoint
WORLDS = [1, 2, 4]  # that read it
OBJECTS = {"checkpoint_version": 3.0, "run": {"name": "caf\u00e9", "step": 2**40}}
Tensors = dict[str, torch.Tensor]

pytestmark = pytest.mark.skipif(
    not TOOL.is_file() and "RESHARD_BIN_DIR" not in os.environ,
    reason=f"{TOOL} does not exist: build the preset dev, or set RESHARD_BIN_DIR",
)


def write_dcp(source: pathlib.Path, destination: pathlib.Path, ranks: int, tree: str = "") -> None:
    """The checkpoint `destination`, of OBJECTS and what `source` holds."""
    done = subprocess.run([TOOL, source, destination, str(ranks), tree], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def state() -> Tensors:
    """Every type that torch can save, and shapes that few or no ranks can share evenly."""
    generator = torch.Generator().manual_seed(5)

    def raw(dtype: torch.dtype, *shape: int) -> torch.Tensor:
        size = torch.empty(shape, dtype=dtype, device="meta").nbytes
        data = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator)
        return (data % 2 if dtype == torch.bool else data).view(dtype).reshape(shape)

    dtypes = [getattr(torch, name) for name in [*compare.SAFETENSORS_DTYPES, "complex128"]]
    tensors = {f"model.type.{compare.dtype_name(dtype)}": raw(dtype, 7, 2) for dtype in dtypes}
    shapes: dict[str, tuple[int, ...]] = {
        "row": (1, 5), "few": (3, 5), "even": (8, 2), "five": (5, 4), "nine": (9,), "scalar": (),
        "one": (1,), "deep": (6, 2, 3, 2), "empty": (0, 4), "flat": (3, 0), "nothing": (0,),
    }  # fmt: skip
    for (name, shape), dtype in itertools.product(
        shapes.items(), [torch.float32, torch.bfloat16, torch.int64]
    ):
        tensors[f"model.{compare.dtype_name(dtype)}.{name}"] = raw(dtype, *shape)
    for i in range(40):
        rank = int(torch.randint(0, 4, (), generator=generator))
        shape = torch.randint(0, 8, (rank,), generator=generator).tolist()
        tensors[f"other.{i}"] = raw(torch.int16, *shape)
    return tensors


@pytest.fixture(scope="module")
def expected() -> Tensors:
    return state()


@pytest.fixture(scope="module")
def written(expected: Tensors, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """For each number of ranks, `flat-R` and `tree-R`, whose names begin in a dict "model"."""
    root = tmp_path_factory.mktemp("written")
    torch.save(expected, root / "source.pt")
    for ranks in RANKS:
        write_dcp(root / "source.pt", root / f"flat-{ranks}", ranks)
        write_dcp(root / "source.pt", root / f"tree-{ranks}", ranks, "model")
    return root


def blank(tensor: torch.Tensor) -> torch.Tensor:
    """Alike, but for every bit."""
    flipped = bytes(255 - byte for byte in compare.tensor_bytes(tensor))
    out = torch.empty_like(tensor)
    if flipped:
        out.untyped_storage().copy_(torch.UntypedStorage(flipped))
    return out


def nest(tensors: Tensors) -> dict:
    """The same in a dict "model", as trainers have it."""
    tree: dict = {"model": {}}
    for name, tensor in tensors.items():
        if name.startswith("model."):
            tree["model"][name.removeprefix("model.")] = tensor
        else:
            tree[name] = tensor
    return tree


def metadata_of(checkpoint: pathlib.Path) -> Metadata:
    return dcp.FileSystemReader(checkpoint).read_metadata()


@pytest.mark.parametrize("ranks", RANKS)
def test_one_process_reads_names(ranks: int, written: pathlib.Path, expected: Tensors) -> None:
    for name in (f"flat-{ranks}", f"tree-{ranks}"):
        loaded = {key: blank(tensor) for key, tensor in expected.items()}
        dcp.load(loaded, checkpoint_id=written / name, no_dist=True)
        compare.assert_same_tensors(loaded, expected)


@pytest.mark.parametrize("ranks", RANKS)
def test_one_process_reads_a_tree(ranks: int, written: pathlib.Path, expected: Tensors) -> None:
    for name in (f"flat-{ranks}", f"tree-{ranks}"):
        loaded = {key: blank(tensor) for key, tensor in expected.items()}
        tree = nest(loaded) | {"checkpoint_version": None, "run": {"name": "", "step": 0}}
        dcp.load(tree, checkpoint_id=written / name, no_dist=True)
        compare.assert_same_tensors(loaded, expected)
        assert {key: tree[key] for key in OBJECTS} == OBJECTS


@pytest.mark.parametrize("ranks", RANKS)
def test_dcp_to_torch_save(
    ranks: int, written: pathlib.Path, expected: Tensors, out: pathlib.Path
) -> None:
    for name, tree in ((f"flat-{ranks}", dict(expected)), (f"tree-{ranks}", nest(expected))):
        dcp_to_torch_save(written / name, out)
        loaded = torch.load(out, weights_only=True)
        assert {key: loaded.pop(key) for key in OBJECTS} == OBJECTS
        assert loaded.keys() == tree.keys()
        if "model" in tree:
            compare.assert_same_tensors(loaded.pop("model"), tree.pop("model"))
        compare.assert_same_tensors(loaded, tree)


@pytest.mark.parametrize("ranks", RANKS)
def test_the_files_are_whole(ranks: int, written: pathlib.Path) -> None:
    """Entries end to end, each a zip whose checksums Python's zipfile finds right."""
    checkpoint = written / f"flat-{ranks}"
    data = {f"__{rank}_0.distcp": checkpoint / f"__{rank}_0.distcp" for rank in range(ranks)}
    present = {path.name for path in checkpoint.iterdir()}
    assert present == {".metadata", *data}
    entries: dict[str, list[tuple[int, int]]] = {name: [] for name in data}
    for info in metadata_of(checkpoint).storage_data.values():
        entries[info.relative_path].append((info.offset, info.length))
    for name, path in data.items():
        content = path.read_bytes()
        end = 0
        for offset, length in sorted(entries[name]):
            assert offset == end
            end += length
            with zipfile.ZipFile(io.BytesIO(content[offset:end])) as archive:
                assert archive.testzip() is None
        assert end == len(content)


# What runs on several processes, once for each number of them: starting PyTorch costs the most.


def read_plain(root: pathlib.Path, expected: Tensors) -> None:
    for checkpoint in sorted(root.glob("*-*")):
        loaded = {key: blank(tensor) for key, tensor in expected.items()}
        dcp.load(nest(loaded), checkpoint_id=checkpoint)
        compare.assert_same_tensors(loaded, expected)


def read_dtensors(root: pathlib.Path, expected: Tensors) -> None:
    world = dist.get_world_size()
    line = init_device_mesh("cpu", (world,))
    meshes: list[tuple[DeviceMesh, list[Placement]]] = [
        (line, [Shard(0)]),
        (line, [Shard(1)]),
        (line, [Replicate()]),
    ]
    if world == 4:
        grid = init_device_mesh("cpu", (2, 2))
        meshes += [(grid, [Shard(0), Shard(1)]), (grid, [Replicate(), Shard(0)])]
    for checkpoint, (mesh, placements) in itertools.product(sorted(root.glob("*-*")), meshes):
        parts = {key: local_part(t, mesh, placements) for key, t in expected.items()}
        loaded = {
            key: as_dtensor(blank(parts[key]), tensor, mesh, placements)
            for key, tensor in expected.items()
        }
        dcp.load(nest(loaded), checkpoint_id=checkpoint)
        held = {key: t.to_local() if isinstance(t, DTensor) else t for key, t in loaded.items()}
        compare.assert_same_tensors(held, parts)


def save_dtensors(checkpoint: pathlib.Path, expected: Tensors) -> None:
    """What PyTorch itself writes when FSDP2 has cut the tensors."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    tensors = {
        key: as_dtensor(local_part(tensor, mesh, [Shard(0)]), tensor, mesh, [Shard(0)])
        for key, tensor in expected.items()
    }
    dcp.save(nest(tensors) | OBJECTS, checkpoint_id=checkpoint)


def fits(tensor: torch.Tensor, placements: Sequence[Placement]) -> bool:
    return all(p.dim < tensor.dim() for p in placements if isinstance(p, Shard))


def local_part(
    tensor: torch.Tensor, mesh: DeviceMesh, placements: Sequence[Placement]
) -> torch.Tensor:
    """What this rank holds of the tensor; all of it where it has too few dimensions."""
    if not fits(tensor, placements):
        return tensor
    sizes, starts = compute_local_shape_and_global_offset(tensor.shape, mesh, placements)
    part = tensor
    for dim, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        part = part.narrow(dim, min(start, tensor.shape[dim]), size)
    return part.contiguous()


def as_dtensor(
    part: torch.Tensor, whole: torch.Tensor, mesh: DeviceMesh, placements: Sequence[Placement]
) -> torch.Tensor:
    if not fits(whole, placements):
        return part
    return DTensor.from_local(
        part, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
    )


def work(rank: int, world: int, root: pathlib.Path, scratch: pathlib.Path) -> None:
    meeting = f"file://{scratch / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    torch.set_num_threads(1)
    expected = state()
    read_plain(root, expected)
    read_dtensors(root, expected)
    save_dtensors(scratch / "saved", expected)
    dist.destroy_process_group()


@pytest.mark.parametrize("world", WORLDS)
def test_ranks_read_and_cut_alike(
    world: int, written: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    mp.spawn(work, args=(world, written, tmp_path), nprocs=world)
    assert_same_metadata(metadata_of(written / f"tree-{world}"), metadata_of(tmp_path / "saved"))


def assert_same_metadata(ours: Metadata, theirs: Metadata) -> None:
    """But for where the entries lie."""
    assert ours.planner_data == theirs.planner_data
    assert ours.state_dict_metadata.keys() == theirs.state_dict_metadata.keys()
    for name, record in theirs.state_dict_metadata.items():
        mine = ours.state_dict_metadata[name]
        assert type(mine) is type(record), name
        if not isinstance(record, TensorStorageMetadata):
            assert MetadataIndex(name) in ours.storage_data
            continue
        assert mine.size == record.size, name
        assert vars(mine.properties) == vars(record.properties), name
        assert boxes(mine) == boxes(record), name
        for index, chunk in enumerate(mine.chunks):
            assert MetadataIndex(name, chunk.offsets, index) in ours.storage_data, name


def boxes(record: TensorStorageMetadata) -> set:
    """The chunks that hold anything: an empty one can stand anywhere."""
    return {(c.offsets, c.sizes) for c in record.chunks if 0 not in c.sizes}
