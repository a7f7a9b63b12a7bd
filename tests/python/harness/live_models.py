"""Tiny models of transformers laid out over ranks: FSDP2, HSDP, tensor parallelism under FSDP2."""

from __future__ import annotations

import copy

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from transformers import PreTrainedModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from harness import tiny_text

# Which meshes there are for how many ranks.
MESHES = {1: ("fsdp",), 2: ("fsdp",), 4: ("fsdp", "hsdp", "tp-fsdp")}
NAMES = ("llama", "llama-tied", "qwen3-tied", "qwen3-moe", "qwen2.5-vl")


def build(name: str) -> PreTrainedModel:
    """The same weights on every call, in float32."""
    if name != "qwen2.5-vl":
        return tiny_text.build(name)
    torch.manual_seed(6)
    model = Qwen2_5_VLForConditionalGeneration(_qwen2_5_vl()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def on_meta(name: str) -> PreTrainedModel:
    """The model without memory."""
    model = build(name)
    with torch.device("meta"):
        return type(model)(copy.deepcopy(model.config)).eval()


def shard(model: PreTrainedModel, mesh: str, world: int) -> PreTrainedModel:
    """Lays the model out: its layers, then itself, as training does."""
    if mesh == "fsdp":
        return _fully_shard(model, init_device_mesh("cpu", (world,)))
    if mesh == "hsdp":
        names = ("replicate", "shard")
        return _fully_shard(model, init_device_mesh("cpu", (2, world // 2), mesh_dim_names=names))
    grid = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))
    for layer in layers(model):
        plan = {f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}
        plan["self_attn.o_proj"] = RowwiseParallel()
        if hasattr(layer.mlp, "gate_proj"):
            plan |= {f"mlp.{name}_proj": ColwiseParallel() for name in ("gate", "up")}
            plan["mlp.down_proj"] = RowwiseParallel()
        parallelize_module(layer, grid["tp"], plan)
    return _fully_shard(model, grid["dp"])


def layers(model: PreTrainedModel) -> torch.nn.ModuleList:
    decoder = model.get_decoder()
    return decoder.layers


def _fully_shard(model: PreTrainedModel, mesh: object) -> PreTrainedModel:
    for layer in layers(model):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def _qwen2_5_vl() -> Qwen2_5_VLConfig:
    # An odd number of rows nearly everywhere: shards are uneven.
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": 98,
            "hidden_size": 32,
            "intermediate_size": 58,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "tie_word_embeddings": False,
            "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 24,
            "intermediate_size": 38,
            "num_heads": 2,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
        },
        tie_word_embeddings=False,
    )
