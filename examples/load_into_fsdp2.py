"""Weights of a Hugging Face directory into a model that FSDP2 has sharded, a part for each rank.

    torchrun --nproc-per-node 2 examples/load_into_fsdp2.py [DIR]

Without DIR a tiny Llama is made first. On GPUs use "nccl" and "cuda"; nothing else changes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import reshard.torch
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig


def main() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else make_tiny_llama()

    # On the meta device a model of any size takes no memory.
    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)

    report = reshard.torch.load_checkpoint(model, directory)
    if rank == 0:
        print(f"{len(report.loaded)} tensors, by recipe {report.recipe}")
        print(f"rank 0 of {world} has read {report.bytes_read} bytes")
        print(f"made by the model itself: {', '.join(report.not_stored)}")
    logits = model(torch.arange(8)[None]).logits
    if rank == 0:
        print(f"logits {list(logits.shape)}, finite: {bool(logits.isfinite().all())}")
    dist.destroy_process_group()


def make_tiny_llama() -> Path:
    """On rank 0, in a directory that the others are told of."""
    box = [tempfile.mkdtemp() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(box)
    directory = Path(str(box[0]))
    if dist.get_rank() == 0:
        config = LlamaConfig(
            vocab_size=96,
            hidden_size=32,
            intermediate_size=56,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
        AutoModelForCausalLM.from_config(config).save_pretrained(directory)
    dist.barrier()
    return directory


if __name__ == "__main__":
    main()
