"""Tiny models of torchtitan's own classes, with the config.json of the same model on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchtitan.models.common import ComplexRoPE, CosSinRoPE, Embedding, Linear
from torchtitan.models.common.nn_modules import RMSNorm
from torchtitan.models.deepseek_v3 import (
    DeepSeekV3Model,
    _build_dsv3_layers,
    _build_mtp_layers,
)
from torchtitan.models.deepseek_v3.state_dict_adapter import DeepSeekV3StateDictAdapter
from torchtitan.models.gpt_oss import GptOssModel, _build_gptoss_layers
from torchtitan.models.gpt_oss.state_dict_adapter import GptOssStateDictAdapter
from torchtitan.models.llama3 import Llama3Model, _build_llama3_layers
from torchtitan.models.llama3.state_dict_adapter import Llama3StateDictAdapter
from torchtitan.models.qwen3 import Qwen3Model, _build_qwen3_layers, _build_qwen3_moe_layers
from torchtitan.models.qwen3.state_dict_adapter import Qwen3StateDictAdapter
from torchtitan.protocols.state_dict_adapter import StateDictAdapter

Tensors = dict[str, torch.Tensor]

# No two sizes of a tensor are equal, and twelve layers or experts do not sort as texts do.
VOCAB, DIM, FFN, HEADS, GROUPS, HEAD_DIM = 96, 32, 56, 4, 2, 10
EXPERTS, EXPERT_FFN = 12, 24
SEQUENCE = 64
# Of latent attention.
NOPE, ROPE, VALUE, KV_RANK, Q_RANK, SHARED = 12, 4, 9, 10, 11, 3


@dataclass(frozen=True)
class Titan:
    """A model as torchtitan has it and as the hub describes it."""

    config: Any  # of torchtitan's model
    adapter_class: Callable[[Any, str | None], StateDictAdapter]
    hub_config: dict[str, Any]

    def adapter(self) -> StateDictAdapter:
        """A new one: it remembers what it has seen."""
        return self.adapter_class(self.config, None)

    def build(self) -> torch.nn.Module:
        return self.config.build()

    def state_dict(self, seed: int = 1) -> Tensors:
        """What training saves of the model, under its native names. The bias that balances experts
        is zeros where the hub has no place for it."""
        generator = torch.Generator().manual_seed(seed)
        state = dict(self.build().state_dict())
        keeps_bias = self.adapter_class is DeepSeekV3StateDictAdapter
        with torch.no_grad():
            for name, tensor in state.items():
                if name.endswith("expert_bias_E") and not keeps_bias:
                    tensor.zero_()
                else:
                    tensor.copy_(torch.randn(tensor.shape, generator=generator))
        return state

    def save_config(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.hub_config))
        return directory


def build(name: str) -> Titan:
    return _MODELS[name]()


def _hub_config(architecture: str, layers: int, **sizes: object) -> dict[str, Any]:
    common = {
        "architectures": [architecture],
        "vocab_size": VOCAB,
        "hidden_size": DIM,
        "intermediate_size": FFN,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "num_hidden_layers": layers,
        "tie_word_embeddings": False,
    }
    return common | sizes


def _decoder(**rest: object) -> dict[str, Any]:
    """What all of torchtitan's configs have beside the layers."""
    return {
        "dim": DIM,
        "vocab_size": VOCAB,
        "tok_embeddings": Embedding.Config(num_embeddings=VOCAB, embedding_dim=DIM),
        "norm": RMSNorm.Config(normalized_shape=DIM),
        "lm_head": Linear.Config(in_features=DIM, out_features=VOCAB),
    } | rest


def _llama3(tied: bool = False, layers: int = 12) -> Titan:
    # torchtitan has no head_dim of its own here: heads are DIM / HEADS wide.
    blocks = _build_llama3_layers(
        n_layers=layers,
        dim=DIM,
        n_heads=HEADS,
        n_kv_heads=GROUPS,
        hidden_dim=FFN,
        rope=ComplexRoPE.Config(dim=DIM // HEADS, max_seq_len=SEQUENCE),
        attn_backend="flex",
    )
    return Titan(
        Llama3Model.Config(**_decoder(layers=blocks, enable_weight_tying=tied)),
        Llama3StateDictAdapter,
        _hub_config("LlamaForCausalLM", layers, tie_word_embeddings=tied),
    )


def _qwen3(tied: bool = False, layers: int = 3) -> Titan:
    blocks = _build_qwen3_layers(
        n_layers=layers,
        dim=DIM,
        n_heads=HEADS,
        n_kv_heads=GROUPS,
        head_dim=HEAD_DIM,
        hidden_dim=FFN,
        rope=CosSinRoPE.Config(dim=HEAD_DIM, max_seq_len=SEQUENCE),
        attn_backend="flex",
    )
    return Titan(
        Qwen3Model.Config(**_decoder(layers=blocks, enable_weight_tying=tied)),
        Qwen3StateDictAdapter,
        _hub_config("Qwen3ForCausalLM", layers, tie_word_embeddings=tied, head_dim=HEAD_DIM),
    )


def _qwen3_moe(layers: int = 3) -> Titan:
    blocks = _build_qwen3_moe_layers(
        n_layers=layers,
        dim=DIM,
        n_heads=HEADS,
        n_kv_heads=GROUPS,
        head_dim=HEAD_DIM,
        moe_hidden_dim=EXPERT_FFN,
        num_experts=EXPERTS,
        top_k=2,
        rope=CosSinRoPE.Config(dim=HEAD_DIM, max_seq_len=SEQUENCE),
        attn_backend="flex",
        moe_comm_backend="standard",
    )
    sizes = {"num_experts": EXPERTS, "moe_intermediate_size": EXPERT_FFN, "head_dim": HEAD_DIM}
    return Titan(
        Qwen3Model.Config(**_decoder(layers=blocks)),
        Qwen3StateDictAdapter,
        _hub_config("Qwen3MoeForCausalLM", layers, **sizes),
    )


def _deepseek_v3(q_rank: int = 0, mtp: int = 0, layers: int = 4, dense: int = 2) -> Titan:
    blocks = _build_dsv3_layers(
        n_layers=layers,
        n_dense_layers=dense,
        dim=DIM,
        n_heads=HEADS,
        q_lora_rank=q_rank,
        kv_lora_rank=KV_RANK,
        qk_nope_head_dim=NOPE,
        qk_rope_head_dim=ROPE,
        v_head_dim=VALUE,
        mscale=1.0,
        dense_hidden_dim=FFN,
        moe_hidden_dim=EXPERT_FFN,
        num_experts=EXPERTS,
        num_shared_experts=SHARED,
        router_top_k=2,
        router_score_func="sigmoid",
        attn_backend="flex",
        moe_comm_backend="standard",
        non_blocking_capacity_factor=None,
        rope=ComplexRoPE.Config(dim=ROPE, max_seq_len=SEQUENCE),
    )
    return Titan(
        DeepSeekV3Model.Config(
            **_decoder(layers=blocks),
            mtp_layers=_build_mtp_layers(blocks[-1], dim=DIM, num_mtp_layers=mtp),
        ),
        DeepSeekV3StateDictAdapter,
        _hub_config(
            "DeepseekV3ForCausalLM",
            layers,
            first_k_dense_replace=dense,
            q_lora_rank=q_rank or None,
            kv_lora_rank=KV_RANK,
            qk_nope_head_dim=NOPE,
            qk_rope_head_dim=ROPE,
            v_head_dim=VALUE,
            moe_intermediate_size=EXPERT_FFN,
            n_routed_experts=EXPERTS,
            n_shared_experts=SHARED,
            num_nextn_predict_layers=mtp,
        ),
    )


def _gpt_oss(layers: int = 3) -> Titan:
    """Its heads are 64 wide whatever one asks for."""
    blocks = _build_gptoss_layers(
        dim=DIM,
        n_layers=layers,
        hidden_dim=EXPERT_FFN,
        num_experts=EXPERTS,
        top_k=2,
        load_balance_coeff=1e-3,
        attn_backend="flex",
        moe_comm_backend="standard",
        rope=CosSinRoPE.Config(dim=64, max_seq_len=SEQUENCE),
    )
    sizes = {
        "intermediate_size": EXPERT_FFN,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": EXPERTS,
    }
    return Titan(
        GptOssModel.Config(**_decoder(layers=blocks)),
        GptOssStateDictAdapter,
        _hub_config("GptOssForCausalLM", layers, **sizes),
    )


_MODELS: dict[str, Callable[[], Titan]] = {
    "llama3": _llama3,
    "llama3-tied": lambda: _llama3(tied=True, layers=2),
    "qwen3": _qwen3,
    "qwen3-tied": lambda: _qwen3(tied=True),
    "qwen3-moe": _qwen3_moe,
    "deepseek-v3": _deepseek_v3,
    "deepseek-v3-lora": lambda: _deepseek_v3(q_rank=Q_RANK),
    "deepseek-v3-mtp": lambda: _deepseek_v3(q_rank=Q_RANK, mtp=2),
    "gpt-oss": _gpt_oss,
}

NAMES = tuple(_MODELS)
RECIPES = {name: f"torchtitan/{name.removesuffix('-tied')}" for name in NAMES} | {
    name: "torchtitan/deepseek-v3" for name in NAMES if name.startswith("deepseek")
}
