"""Makes what bench/dcp_to_hf.py measures. Run by it, in a process of its own.

python bench/make_checkpoints.py model DIR       2.4 GB of float32 from four gloo processes
python bench/make_checkpoints.py metadata DIR    a `.metadata` with a million chunks
"""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

WORLD_SIZE = 4
LAYERS, HIDDEN, INTERMEDIATE, KV, VOCABULARY = 24, 1024, 2816, 512, 151_936

TENSORS = RANKS = 1000
COLUMNS = 64
ENTRY_OVERHEAD = 1500  # of PyTorch's zip container


def shapes() -> dict[str, tuple[int, ...]]:
    """A dense decoder under the names of VeOmni's trainer: 594 million parameters."""
    result: dict[str, tuple[int, ...]] = {"model.model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for i in range(LAYERS):
        layer = f"model.model.layers.{i}"
        result |= {
            f"{layer}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": (KV, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": (KV, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HIDDEN),
            f"{layer}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            f"{layer}.input_layernorm.weight": (HIDDEN,),
            f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
        }
    return result | {
        "model.model.norm.weight": (HIDDEN,),
        "model.lm_head.weight": (VOCABULARY, HIDDEN),
    }


def make_model(directory: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        rendezvous = os.path.join(scratch, "rendezvous")
        mp.spawn(_save_part, args=(rendezvous, str(directory)), nprocs=WORLD_SIZE)


def _save_part(rank: int, rendezvous: str, directory: str) -> None:
    """Each rank holds a quarter of the rows, as FSDP2 shards them."""
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE
    )
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    state = {}
    for name, (rows, *rest) in shapes().items():
        local = torch.randn(rows // WORLD_SIZE, *rest)
        state[name] = DTensor.from_local(local, mesh, [Shard(0)], run_check=False)
    dcp.save(state, storage_writer=dcp.FileSystemWriter(directory))
    dist.destroy_process_group()


def make_metadata(directory: Path) -> None:
    """1,000 tensors in 1,000 parts each. The data files have the right size and no content."""
    tensors: dict[str, TensorStorageMetadata] = {}
    storage: dict[MetadataIndex, _StorageInfo] = {}
    length = COLUMNS * 4 + ENTRY_OVERHEAD
    for t in range(TENSORS):
        name = f"model.model.layers.{t}.mlp.up_proj.weight"
        chunks = []
        for rank in range(RANKS):
            chunk = ChunkStorageMetadata(torch.Size((rank, 0)), torch.Size((1, COLUMNS)))
            chunks.append(chunk)
            storage[MetadataIndex(name, chunk.offsets, rank)] = _StorageInfo(
                f"__{rank}_0.distcp", t * length, length
            )
        properties = TensorProperties(dtype=torch.float32)
        tensors[name] = TensorStorageMetadata(properties, torch.Size((RANKS, COLUMNS)), chunks)
    planner_data = {name: (name,) for name in tensors}

    directory.mkdir(parents=True)
    for rank in range(RANKS):
        with (directory / f"__{rank}_0.distcp").open("wb") as file:
            file.truncate(TENSORS * length)
    with (directory / ".metadata").open("wb") as file:
        pickle.dump(Metadata(tensors, planner_data, storage), file)


if __name__ == "__main__":
    {"model": make_model, "metadata": make_metadata}[sys.argv[1]](Path(sys.argv[2]))
