"""The merge that reshard is measured against: PyTorch's own reader, one output file at a time.

As VeOmni's merge_dcp_to_hf.py does it: pack names greedily, then for each file read `.metadata`
again, allocate the tensors whole, load them, cast, clone and write.

    python bench/torch_merge.py SRC DST [--shard-size BYTES] [--dtype bfloat16]
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.checkpoint.metadata import Metadata

PREFIX = "model."


def pack(metadata: Metadata, dtype: torch.dtype, shard_size: int) -> tuple[list[list[str]], int]:
    """The keys of each file, and the bytes of all."""
    files: list[list[str]] = []
    filled = total = 0
    for key in sorted(key for key in metadata.state_dict_metadata if key.startswith(PREFIX)):
        size = metadata.state_dict_metadata[key].size.numel() * dtype.itemsize
        if not files or filled + size > shard_size:
            files.append([])
            filled = 0
        files[-1].append(key)
        filled += size
        total += size
    return files, total


def write_file(source: Path, path: Path, keys: list[str], dtype: torch.dtype) -> None:
    reader = dcp.FileSystemReader(source)
    metadata = reader.read_metadata()
    state = {}
    for key in keys:
        entry = metadata.state_dict_metadata[key]
        state[key] = torch.empty(entry.size, dtype=entry.properties.dtype)
    dcp.load(state, checkpoint_id=source, storage_reader=reader, no_dist=True)
    tensors = {}
    for key in keys:
        tensors[key.removeprefix(PREFIX)] = state[key].to(dtype).cpu().detach().clone()
    del state, metadata, reader
    gc.collect()
    save_file(tensors, path, metadata={"format": "pt"})
    del tensors
    gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--shard-size", type=int, default=2_000_000_000)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)

    options.destination.mkdir(parents=True)
    metadata = dcp.FileSystemReader(options.source).read_metadata()
    files, total = pack(metadata, dtype, options.shard_size)
    weight_map = {}
    for i, keys in enumerate(files):
        name = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        if len(files) == 1:
            name = "model.safetensors"
        write_file(options.source, options.destination / name, keys, dtype)
        weight_map |= {key.removeprefix(PREFIX): name for key in keys}
    if len(files) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        path = options.destination / "model.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
