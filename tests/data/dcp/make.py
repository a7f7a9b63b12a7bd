"""Makes the metadata that dcp_metadata_test.cc decodes, with PyTorch's own classes.

NAME.metadata is one pickle; NAME.txt lists what is in it, in the notation of `listing`: what torch
itself reads, with the entries of storage_data found by (name, offset). fixture_NAME.txt is the same
for ../fixtures/NAME/ckpt/.metadata. refused_NAME.metadata must be refused.
"""

import collections
import itertools
import pickle
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)

HERE = Path(__file__).parent
FIXTURES = [
    "dcp_dtypes", "dcp_fsspec", "dcp_nested", "dcp_safetensors_fmt", "dcp_zstd", "meta_2.1",
    "meta_2.4", "meta_2.7", "meta_2.9", "meta_2.15", "meta_py3.11.0", "meta_py3.14",
    "mr_dtensor_1d", "mr_dtensor_2d", "mr_tp_fsdp_2d",
]  # fmt: skip

# torch 2.15 adds a sixth part, which 2.13 cannot read.
plain_setstate = TensorProperties.__setstate__
TensorProperties.__setstate__ = lambda self, state: plain_setstate(self, state[:5])


def numbers(values):
    return "(" + ",".join(str(v) for v in values) + ")"


def entry(info):
    transforms = getattr(info, "transform_descriptors", None) or []
    applied = "".join(f" !{t}" for t in transforms)
    return f"{info.relative_path}@{info.offset}+{info.length}{applied}"


def listing(metadata):
    lines = []
    for name, record in metadata.state_dict_metadata.items():
        path = (metadata.planner_data or {}).get(name, ())
        where = " ".join(f"{type(p).__name__}:{p}" for p in path)
        if isinstance(record, BytesStorageMetadata):
            stored = metadata.storage_data[MetadataIndex(name)]
            lines.append(f"object {name} [{where}] {entry(stored)}")
            continue
        properties = record.properties
        dtype = str(properties.dtype).removeprefix("torch.")
        grad = properties.requires_grad
        lines.append(f"tensor {name} [{where}] {dtype} {numbers(record.size)} grad={grad}")
        for chunk in record.chunks:
            if 0 in chunk.sizes:
                continue
            info = metadata.storage_data[MetadataIndex(name, chunk.offsets)]
            lines.append(f"  {numbers(chunk.offsets)} {numbers(chunk.sizes)} {entry(info)}")
    return "".join(line + "\n" for line in lines)


def tensor(size, chunks, dtype=torch.float32, **properties):
    return TensorStorageMetadata(
        TensorProperties(dtype=dtype, **properties),
        torch.Size(size),
        [ChunkStorageMetadata(torch.Size(o), torch.Size(s)) for o, s in chunks],
    )


def stored(records, file="__0_0.distcp", **extra):
    """storage_data for the chunks of the records, in their order."""
    storage, offset = {}, 0
    for name, record in records.items():
        if isinstance(record, BytesStorageMetadata):
            storage[MetadataIndex(name)] = _StorageInfo(file, offset, 7)
            offset += 7
            continue
        for i, chunk in enumerate(record.chunks):
            index = MetadataIndex(name, chunk.offsets, i)
            storage[index] = _StorageInfo(file, offset, 100, **extra)
            offset += 100
    return storage


def rows(count, each, columns):
    return [((i * each, 0), (each, columns)) for i in range(count)]


def good():
    records = {
        "w": tensor((8, 3), rows(4, 2, 3), requires_grad=True),
        "scalar": tensor((), [((), ())], torch.int64),
        "gone": tensor((0, 3), [((0, 0), (0, 3))]),
        "uneven": tensor((5,), [((0,), (2,)), ((2,), (2,)), ((4,), (1,)), ((5,), (0,))]),
        "lr": BytesStorageMetadata(),
    }
    paths = {"w": ("w",), "lr": ("param_groups", 0, "lr"), "unknown": ("x",)}
    yield "plain", Metadata(records, paths, stored(records))

    storage = stored(records)
    yield "reversed", Metadata(records, None, dict(reversed(storage.items())))

    # One object in several places, as after copy-on-write of metadata by other programs.
    offset, size = torch.Size((0, 0)), torch.Size((2, 3))
    chunk = ChunkStorageMetadata(offset, size)
    both = {
        "a": TensorStorageMetadata(TensorProperties(dtype=torch.float32), size, [chunk]),
        "b": TensorStorageMetadata(TensorProperties(dtype=torch.float32), size, [chunk]),
    }
    storage = {}
    for i, name in enumerate(both):
        index = MetadataIndex(name, offset)
        object.__setattr__(index, "offset", offset)
        storage[index] = _StorageInfo("f", i, 1)
    yield "shared", Metadata(both, {}, storage)

    # What Megatron keeps beside: plans that share parts with the rest.
    items = [
        WriteItem(
            index,
            WriteItemType.SHARD,
            TensorWriteData(
                records["w"].chunks[i], records["w"].properties, records["w"].size
            ),
        )
        for i, index in enumerate(list(stored(records))[:4])
    ]
    megatron = Metadata(records, {}, stored(records))
    megatron.all_local_plans = [SavePlan(items)]
    megatron.mcore_data = collections.OrderedDict(sharded=True)
    yield "megatron", megatron

    yield "transforms", Metadata(
        records, {}, stored(records, transform_descriptors=["stream.zstd/1", "x/2"])
    )
    bare = Metadata(records, {}, stored(records))
    for record in records.values():
        if isinstance(record, TensorStorageMetadata):
            record.size = tuple(record.size)
            for chunk in record.chunks:
                chunk.offsets, chunk.sizes = tuple(chunk.offsets), tuple(chunk.sizes)
    yield "tuples", bare


def ranks():
    """Metadata of two ranks: `both` lies on both, `cut` in halves, `own` on one."""
    for rank in range(2):
        records = {
            "both": tensor((4,), [((0,), (4,))]),
            "cut": tensor((4, 2), [((2 - 2 * rank, 0), (2, 2))]),
            "step": BytesStorageMetadata(),
        }
        if rank == 1:
            records["own"] = tensor((1,), [((0,), (1,))], torch.bfloat16)
        name = f"rank{rank}"
        yield name, Metadata(records, {}, stored(records, f"__{rank}_0.distcp"))


def refused():
    def one(record, storage=None, **fields):
        records = {"good": tensor((1,), [((0,), (1,))]), "bad": record}
        return Metadata(records, {}, stored(records) if storage is None else storage, **fields)

    def without(metadata, *dropped):
        for index in dropped:
            del metadata.storage_data[index]
        return metadata

    yield "missing_chunk", without(one(tensor((4, 3), rows(2, 2, 3))), MetadataIndex("bad", (2, 0)))
    yield "missing_object", without(one(BytesStorageMetadata()), MetadataIndex("bad"))
    yield "rank", one(tensor((4, 3), [((0,), (4,))]))
    yield "negative_size", one(tensor((-4, 3), []))
    yield "negative_extent", one(tensor((4, 3), [((0, 0), (-4, 3))]))
    yield "negative_start", one(tensor((4, 3), [((-1, 0), (4, 3))]))
    yield "overflow", one(tensor((2**40, 2**40), [((0, 0), (1, 1))]))
    yield "box_overflow", one(tensor((4, 3), [((2**63 - 1, 0), (2, 3))]))
    yield "huge", one(tensor((2**70,), [((0,), (1,))]))
    yield "sparse", one(tensor((4,), [((0,), (4,))], layout=torch.sparse_coo))
    yield "offset_rank", one(
        tensor((4, 3), rows(1, 4, 3)),
        {
            MetadataIndex("good", (0,)): _StorageInfo("f", 0, 1),
            MetadataIndex("bad", (0,)): _StorageInfo("f", 1, 1),
        },
    )
    yield "chunks", one(TensorStorageMetadata(TensorProperties(), torch.Size((4,)), [None]), {})
    yield "properties", one(TensorStorageMetadata(None, torch.Size((4,)), []))
    yield "record", one({"a": "dict"}, {})
    record = tensor((4,), [((0,), (4,))])
    records = {"good": record, "bad": record}
    yield "twice", Metadata(records, {}, stored(records))


def write(name, metadata):
    (HERE / f"{name}.metadata").write_bytes(pickle.dumps(metadata))


def main():
    for name in FIXTURES:
        with open(HERE.parent / "fixtures" / name / "ckpt" / ".metadata", "rb") as file:
            text = listing(pickle.load(file))
        (HERE / f"fixture_{name}.txt").write_text(text, encoding="utf-8")
    for name, metadata in itertools.chain(good(), ranks()):
        write(name, metadata)
        (HERE / f"{name}.txt").write_text(listing(metadata), encoding="utf-8")
    for name, metadata in refused():
        write(f"refused_{name}", metadata)


if __name__ == "__main__":
    main()
