"""Tiny models of the families that the tests convert, and the parallelism applied to them."""

from __future__ import annotations

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

# Sizes that four ranks cannot share equally, and more than ten layers for the order of names.
_COMMON = {
    "vocab_size": 99,
    "hidden_size": 16,
    "intermediate_size": 22,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 64,
}


def config(name: str) -> PreTrainedConfig:
    if name == "llama":
        made = LlamaConfig(**_COMMON, num_hidden_layers=12)
    elif name == "qwen3":
        made = Qwen3Config(**_COMMON, num_hidden_layers=3, tie_word_embeddings=False)
    elif name == "tied":
        made = LlamaConfig(**_COMMON, num_hidden_layers=2, tie_word_embeddings=True)
    else:
        raise ValueError(name)
    made.architectures = ["Qwen3ForCausalLM" if name == "qwen3" else "LlamaForCausalLM"]
    made.dtype = torch.float32
    return made


def build(name: str) -> PreTrainedModel:
    """The same weights in every process. No weight keeps a value that a fresh model would have."""
    torch.manual_seed(1)
    cls = Qwen3ForCausalLM if name == "qwen3" else LlamaForCausalLM
    model = cls(config(name))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def shard_fsdp(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """FSDP2; a two-dimensional mesh makes it HSDP."""
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


def shard_tp(model: PreTrainedModel, mesh: DeviceMesh) -> None:
    """Column- and row-wise tensor parallelism of every linear layer inside the blocks."""
    plan: dict[str, ColwiseParallel | RowwiseParallel] = {}
    for name, module in model.model.layers[0].named_modules():
        if isinstance(module, nn.Linear):
            row_wise = name.endswith(("o_proj", "down_proj"))
            plan[name] = RowwiseParallel() if row_wise else ColwiseParallel()
    for layer in model.model.layers:
        parallelize_module(layer, mesh, plan)
