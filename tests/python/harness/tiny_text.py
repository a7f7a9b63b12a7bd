"""Tiny text models with random weights, which transformers saves as Hugging Face directories."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

# No two sizes are equal, so that no tensor fits in the place of another or of its transpose; each
# can be cut in four. The heads together are wider than the hidden size.
_COMMON = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 10,
    "max_position_embeddings": 64,
}
_EXPERTS = {"num_experts_per_tok": 2}

_MODELS: dict[str, tuple[type[PreTrainedModel], PreTrainedConfig]] = {
    "llama": (LlamaForCausalLM, LlamaConfig(**_COMMON)),
    # Two groups of heads, which is what four ranks of tensor parallelism cannot share.
    "llama-tied": (
        LlamaForCausalLM,
        LlamaConfig(**_COMMON | {"num_key_value_heads": 2}, tie_word_embeddings=True),
    ),
    "mistral": (MistralForCausalLM, MistralConfig(**_COMMON)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**_COMMON)),
    "qwen2-tied": (
        Qwen2ForCausalLM,
        Qwen2Config(**_COMMON | {"num_key_value_heads": 8}, tie_word_embeddings=True),
    ),
    "qwen3-tied": (Qwen3ForCausalLM, Qwen3Config(**_COMMON, tie_word_embeddings=True)),
    "qwen3-moe": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig(
            **_COMMON, **_EXPERTS, num_experts=4, moe_intermediate_size=20, norm_topk_prob=True
        ),
    ),
    "mixtral": (MixtralForCausalLM, MixtralConfig(**_COMMON, **_EXPERTS, num_local_experts=4)),
}

NAMES = tuple(_MODELS)
MOE = ("qwen3-moe", "mixtral")


def build(name: str) -> PreTrainedModel:
    """The same weights on every call, in float32; norms and biases have no default values."""
    torch.manual_seed(5)
    cls, config = _MODELS[name]
    model = cls(deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def save(
    name: str, directory: Path, dtype: torch.dtype = torch.float32, shard_size: str = "5GB"
) -> Path:
    """Writes `directory` as a repository on the hub looks: weights, config.json, no tokenizer."""
    build(name).to(dtype).save_pretrained(directory, max_shard_size=shard_size)
    return directory
