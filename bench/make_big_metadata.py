"""Writes a large DCP `.metadata` as torch writes it after a sharded save.

    make_big_metadata.py OUT [--tensors 1000] [--ranks 1000] [--columns 4096]

Every tensor is two-dimensional and sharded on dim 0, one chunk per rank. Storage data come rank by
rank, as they are gathered: each rank's strings and offsets are objects of their own.
"""

import argparse
import gc
import pickle
import uuid

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--tensors", type=int, default=1000)
    parser.add_argument("--ranks", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=4096)
    args = parser.parse_args()
    gc.disable()

    rows = 1000
    entry = rows * args.columns * 4 + 1577
    names = [f"model.layers.{i // 10}.mlp.experts.{i % 10}.weight" for i in range(args.tensors)]
    state = {
        name: TensorStorageMetadata(
            TensorProperties(dtype=torch.float32),
            torch.Size((rows * args.ranks, args.columns)),
            [
                ChunkStorageMetadata(
                    torch.Size((rows * rank, 0)), torch.Size((rows, args.columns))
                )
                for rank in range(args.ranks)
            ],
        )
        for name in names
    }
    storage = {}
    for rank in range(args.ranks):
        path = f"__{rank}_0.distcp"
        for i, name in enumerate(names):
            own_name = name[:1] + name[1:]
            index = MetadataIndex(own_name, (rows * rank, 0), rank)
            storage[index] = _StorageInfo(path, i * entry, entry)
    metadata = Metadata(
        state_dict_metadata=state,
        planner_data={name: tuple(name.split(".", 1)) for name in names},
        storage_data=storage,
        storage_meta=StorageMeta("checkpoint", str(uuid.UUID(int=0)), None, []),
        version="1.0.0",
    )
    with open(args.out, "wb") as out:
        pickle.dump(metadata, out)


if __name__ == "__main__":
    main()
