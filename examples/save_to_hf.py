"""A model that FSDP2 has sharded becomes a Hugging Face directory, each rank writing its part.

    torchrun --nproc-per-node 2 examples/save_to_hf.py DIR

DIR must lie where all ranks see it. On GPUs use "nccl" and "cuda"; nothing else changes.
"""

from __future__ import annotations

import sys

import reshard
import reshard.torch
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM


def main() -> None:
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=96,
            hidden_size=32,
            intermediate_size=56,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    )
    mesh = init_device_mesh("cpu", (world,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)

    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.arange(8)[None]
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()

    report = reshard.torch.save_checkpoint(model, sys.argv[1], dtype=torch.bfloat16)
    if rank == 0:
        print(f"{report.plan.tensors} tensors, {report.files} files, by {world} ranks")
        print(f"recipe {report.plan.recipe}, intact: {bool(reshard.verify(sys.argv[1]))}")
        loaded = AutoModelForCausalLM.from_pretrained(sys.argv[1])
        print(f"loads as {type(loaded).__name__}, {loaded.dtype}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
