"""Makes what bench/dcp_to_hf.py and bench/hf_to_megatron.py measure. Run by them, in a process of
its own.

python bench/make_checkpoints.py model DIR       2.4 GB of float32 from four gloo processes
python bench/make_checkpoints.py metadata DIR    a `.metadata` with a million chunks
python bench/make_checkpoints.py hf DIR          1.2 GB of bfloat16 in three safetensors files
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import save_file
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


QWEN: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "num_hidden_layers": 10,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "vocab_size": 32_000,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
HF_FILES = 3


def qwen_shapes() -> dict[str, tuple[int, ...]]:
    """A dense decoder with 603 million parameters."""
    hidden, intermediate = QWEN["hidden_size"], QWEN["intermediate_size"]
    vocabulary, kv = QWEN["vocab_size"], hidden // 2
    result: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, hidden)}
    for i in range(QWEN["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for name, rows in (("q", hidden), ("k", kv), ("v", kv)):
            result[f"{layer}.self_attn.{name}_proj.weight"] = (rows, hidden)
            result[f"{layer}.self_attn.{name}_proj.bias"] = (rows,)
        result |= {
            f"{layer}.self_attn.o_proj.weight": (hidden, hidden),
            f"{layer}.mlp.gate_proj.weight": (intermediate, hidden),
            f"{layer}.mlp.up_proj.weight": (intermediate, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, intermediate),
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
        }
    return result | {"model.norm.weight": (hidden,), "lm_head.weight": (vocabulary, hidden)}


def make_hf(directory: Path) -> None:
    torch.manual_seed(0)
    shapes = list(qwen_shapes().items())
    directory.mkdir(parents=True)
    weight_map = {}
    for i in range(HF_FILES):
        part = shapes[len(shapes) * i // HF_FILES : len(shapes) * (i + 1) // HF_FILES]
        tensors = {name: torch.randn(shape, dtype=torch.bfloat16) for name, shape in part}
        file = f"model-{i + 1:05d}-of-{HF_FILES:05d}.safetensors"
        save_file(tensors, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (directory / "config.json").write_text(json.dumps(QWEN, indent=2))


if __name__ == "__main__":
    makers = {"model": make_model, "metadata": make_metadata, "hf": make_hf}
    makers[sys.argv[1]](Path(sys.argv[2]))
