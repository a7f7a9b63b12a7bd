"""The whole tensors of MindSpeed-MM's models, made from the published ones of Hugging Face.

Every published tensor is taken exactly once; anything else is an error here. What a family does is
written as plain statements in the order of its modules, with no table to share a mistake with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .tensor_cuts import (
    Cut,
    columns,
    halves,
    head_columns,
    head_rows,
    rows,
    rows_of,
    uneven_rows,
    whole,
)

Config = dict[str, Any]
Tensors = dict[str, torch.Tensor]

V = "image_encoder.encoder.blocks.layers"
A = "audio_encoder.encoder.blocks.layers"
T = "text_decoder.decoder.layers"
PROJECTOR = "image_encoder.projector"
EMBEDDING = "text_decoder.embedding.word_embeddings.weight"
OUTPUT = "text_decoder.output_layer"


@dataclass(frozen=True)
class Made:
    tensor: torch.Tensor
    cut: Cut


class Maker:
    """Takes published tensors, each once, and collects what they become."""

    def __init__(self, tensors: Tensors) -> None:
        self._left = dict(tensors)
        self.made: dict[str, Made] = {}

    def put(self, name: str, tensor: torch.Tensor, cut: Cut = whole) -> None:
        assert name not in self.made, name
        self.made[name] = Made(tensor, cut)

    def take(self, name: str) -> torch.Tensor:
        return self._left.pop(name)

    def has(self, name: str) -> bool:
        return name in self._left

    def tensor(self, source: str, name: str, cut: Cut = whole) -> None:
        """A tensor that is only renamed."""
        self.put(name, self.take(source), cut)

    def module(self, source: str, name: str, cut: Cut = whole) -> None:
        """A module's weight and, if it has one, its bias."""
        self.join([source], name, lambda only: only, cut)

    def join(
        self, sources: list[str], name: str, how: Callable[..., torch.Tensor], cut: Cut = whole
    ) -> None:
        """The weights of several modules as one, and their biases if they have them."""
        for kind in ("weight", "bias"):
            if kind == "weight" or self.has(f"{sources[0]}.{kind}"):
                parts = [self.take(f"{source}.{kind}") for source in sources]
                self.put(f"{name}.{kind}", how(*parts), cut)

    def finish(self) -> dict[str, Made]:
        assert not self._left, f"not taken: {sorted(self._left)}"
        return self.made


def cat(*parts: torch.Tensor) -> torch.Tensor:
    return torch.cat(parts)


def by_group(groups: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Per group: its query heads, its key head, its value head."""
    size, per_group = k.shape[0] // groups, q.shape[0] // groups
    blocks = []
    for g in range(groups):
        blocks.append(q[g * per_group : (g + 1) * per_group])
        blocks.append(k[g * size : (g + 1) * size])
        blocks.append(v[g * size : (g + 1) * size])
    return torch.cat(blocks)


def text_ends(m: Maker, root: str, head: str, vocabulary: Cut = rows) -> None:
    m.tensor(f"{root}embed_tokens.weight", EMBEDDING, vocabulary)
    m.module(f"{root}norm", "text_decoder.decoder.final_layernorm")
    if m.has(f"{head}.weight"):
        m.module(head, OUTPUT, vocabulary)


def text_norms(m: Maker, layer: str, mm: str) -> None:
    m.module(f"{layer}.input_layernorm", f"{mm}.input_layernorm")
    m.module(f"{layer}.post_attention_layernorm", f"{mm}.pre_mlp_layernorm")


def attention(m: Maker, layer: str, mm: str, config: Config, canonical: bool = False) -> None:
    groups = config["num_key_value_heads"]
    names = [f"{layer}.self_attn.{kind}_proj" for kind in "qkv"]
    if canonical:
        for kind, name in zip("qkv", names, strict=True):
            m.module(name, f"{mm}.self_attention.{kind}_proj", rows_of(groups))
    else:
        fused = f"{mm}.self_attention.linear_qkv"
        m.join(names, fused, lambda *parts: by_group(groups, *parts), rows_of(groups))
    m.module(f"{layer}.self_attn.o_proj", f"{mm}.self_attention.linear_proj", columns)
    for kind in "qk":
        if m.has(f"{layer}.self_attn.{kind}_norm.weight"):
            norm = f"{mm}.self_attention.{kind}_layernorm"
            m.module(f"{layer}.self_attn.{kind}_norm", norm)


def gated_mlp(m: Maker, mlp: str, mm: str) -> None:
    m.join([f"{mlp}.gate_proj", f"{mlp}.up_proj"], f"{mm}.linear_fc1", cat, halves)
    m.module(f"{mlp}.down_proj", f"{mm}.linear_fc2", columns)


def apart_mlp(m: Maker, mlp: str, mm: str) -> None:
    """As LoRA is trained: gate and up are modules of their own."""
    m.module(f"{mlp}.gate_proj", f"{mm}.gate_proj", rows)
    m.module(f"{mlp}.up_proj", f"{mm}.up_proj", rows)
    m.module(f"{mlp}.down_proj", f"{mm}.linear_fc2", columns)


def qwen_text(
    m: Maker,
    root: str,
    head: str,
    config: Config,
    canonical: bool = False,
    vocabulary: Cut = rows,
) -> None:
    text_ends(m, root, head, vocabulary)
    for n in range(config["num_hidden_layers"]):
        layer, mm = f"{root}layers.{n}", f"{T}.{n}"
        text_norms(m, layer, mm)
        attention(m, layer, mm, config, canonical)
        if m.has(f"{layer}.mlp.experts.gate_up_proj"):
            stacked_experts(m, f"{layer}.mlp", f"{mm}.mlp")
        else:
            (apart_mlp if canonical else gated_mlp)(m, f"{layer}.mlp", f"{mm}.mlp")


def stacked_experts(m: Maker, mlp: str, mm: str) -> None:
    """[E, in, out] as published; an expert of its own is [out, in]."""
    m.module(f"{mlp}.gate", f"{mm}.router")
    gate_up, down = m.take(f"{mlp}.experts.gate_up_proj"), m.take(f"{mlp}.experts.down_proj")
    for e in range(gate_up.shape[0]):
        expert = f"{mm}.experts.local_experts.{e}"
        m.put(f"{expert}.linear_fc1.weight", gate_up[e].t(), halves)
        m.put(f"{expert}.linear_fc2.weight", down[e].t(), columns)


def internlm2_text(m: Maker, config: Config) -> None:
    """Its fused attention is by groups as published."""
    root = "language_model."
    m.tensor(f"{root}model.tok_embeddings.weight", EMBEDDING, uneven_rows)
    m.module(f"{root}model.norm", "text_decoder.decoder.final_layernorm")
    m.module(f"{root}output", OUTPUT, uneven_rows)
    for n in range(config["num_hidden_layers"]):
        layer, mm = f"{root}model.layers.{n}", f"{T}.{n}"
        m.module(f"{layer}.attention_norm", f"{mm}.input_layernorm")
        m.module(f"{layer}.ffn_norm", f"{mm}.pre_mlp_layernorm")
        groups = rows_of(config["num_key_value_heads"])
        m.module(f"{layer}.attention.wqkv", f"{mm}.self_attention.linear_qkv", groups)
        m.module(f"{layer}.attention.wo", f"{mm}.self_attention.linear_proj", columns)
        w1, w3 = f"{layer}.feed_forward.w1", f"{layer}.feed_forward.w3"
        m.join([w1, w3], f"{mm}.mlp.linear_fc1", cat, halves)
        m.module(f"{layer}.feed_forward.w2", f"{mm}.mlp.linear_fc2", columns)


def deepseek_text(m: Maker, config: Config) -> None:
    text_ends(m, "language.model.", "language.lm_head")
    heads = config["num_attention_heads"]
    for n in range(config["num_hidden_layers"]):
        layer, mm = f"language.model.layers.{n}", f"{T}.{n}"
        text_norms(m, layer, mm)
        source, to = f"{layer}.self_attn", f"{mm}.self_attention"
        query = "q_proj" if config["q_lora_rank"] is None else "q_a_proj"
        down = [f"{source}.{query}", f"{source}.kv_a_proj_with_mqa"]
        m.join(down, f"{to}.linear_qkv", cat)
        if query == "q_a_proj":
            m.module(f"{source}.q_a_layernorm", f"{to}.q_layernorm")
            m.module(f"{source}.q_b_proj", f"{to}.linear_qb", rows_of(heads))
        m.module(f"{source}.kv_a_layernorm", f"{to}.k_layernorm")
        m.module(f"{source}.kv_b_proj", f"{to}.linear_kvb", rows_of(heads))
        m.module(f"{source}.o_proj", f"{to}.linear_proj", columns)
        if n < config["first_k_dense_replace"]:
            gated_mlp(m, f"{layer}.mlp", f"{mm}.mlp")
            continue
        m.module(f"{layer}.mlp.gate", f"{mm}.mlp.router")
        m.tensor(f"{layer}.mlp.gate.e_score_correction_bias", f"{mm}.mlp.router.expert_bias")
        gated_mlp(m, f"{layer}.mlp.shared_experts", f"{mm}.mlp.shared_experts")
        for e in range(config["n_routed_experts"]):
            gated_mlp(m, f"{layer}.mlp.experts.{e}", f"{mm}.mlp.experts.local_experts.{e}")


def glm_text(m: Maker, config: Config) -> None:
    root = "model.language_model."
    text_ends(m, root, "lm_head")
    for n in range(config["num_hidden_layers"]):
        layer, mm = f"{root}layers.{n}", f"{T}.{n}"
        text_norms(m, layer, mm)
        attention(m, layer, mm, config)
        for norm in ("post_self_attn_layernorm", "post_mlp_layernorm"):
            m.module(f"{layer}.{norm}", f"{mm}.{norm}")
        m.module(f"{layer}.mlp.gate_up_proj", f"{mm}.mlp.linear_fc1", halves)
        m.module(f"{layer}.mlp.down_proj", f"{mm}.mlp.linear_fc2", columns)


def qwen_vit(m: Maker, root: str, config: Config, canonical: bool = False) -> None:
    """Qwen2-VL, 2.5-VL, 2.5-Omni and 3-VL, told apart by the modules that they have."""
    heads = config["num_heads"]
    m.module(f"{root}patch_embed.proj", "image_encoder.encoder.patch_embed.proj")
    if m.has(f"{root}pos_embed.weight"):
        m.module(f"{root}pos_embed", "image_encoder.encoder.pos_embed")
    for n in range(config["depth"]):
        block, mm = f"{root}blocks.{n}", f"{V}.{n}"
        m.module(f"{block}.norm1", f"{mm}.input_layernorm")
        m.module(f"{block}.norm2", f"{mm}.pre_mlp_layernorm")
        qwen_vit_attention(m, f"{block}.attn", f"{mm}.self_attention", heads, canonical)
        if m.has(f"{block}.mlp.gate_proj.weight"):
            (apart_mlp if canonical else gated_mlp)(m, f"{block}.mlp", f"{mm}.mlp")
        else:
            fc = "linear_fc" if m.has(f"{block}.mlp.linear_fc1.weight") else "fc"
            m.module(f"{block}.mlp.{fc}1", f"{mm}.mlp.linear_fc1", rows)
            m.module(f"{block}.mlp.{fc}2", f"{mm}.mlp.linear_fc2", columns)
    if m.has(f"{root}merger.ln_q.weight"):
        qwen_merger(m, f"{root}merger", PROJECTOR, ("ln_q", "mlp.0", "mlp.2"))
    else:
        qwen_merger(m, f"{root}merger", PROJECTOR)
    for i, n in enumerate(config.get("deepstack_visual_indexes", [])):
        qwen_merger(m, f"{root}deepstack_merger_list.{i}", f"{V}.{n}.deepstack_layer")


def qwen_vit_attention(m: Maker, attn: str, mm: str, heads: int, canonical: bool) -> None:
    def interleaved(*parts: torch.Tensor) -> torch.Tensor:
        return by_group(heads, *(parts if len(parts) == 3 else parts[0].chunk(3)))

    fused = m.has(f"{attn}.qkv.weight")
    sources = [f"{attn}.qkv"] if fused else [f"{attn}.{kind}" for kind in "qkv"]
    if canonical:
        m.join(sources, f"{mm}.linear_qkv", cat, head_rows(heads))
    else:
        m.join(sources, f"{mm}.linear_qkv", interleaved, rows_of(heads))
    m.module(f"{attn}.proj", f"{mm}.linear_proj", columns)


def qwen_merger(
    m: Maker,
    merger: str,
    mm: str,
    names: tuple[str, str, str] = ("norm", "linear_fc1", "linear_fc2"),
) -> None:
    norm, fc1, fc2 = names
    m.module(f"{merger}.{norm}", f"{mm}.layernorm")
    m.module(f"{merger}.{fc1}", f"{mm}.encoder.linear_fc1", rows)
    m.module(f"{merger}.{fc2}", f"{mm}.encoder.linear_fc2", columns)


def qwen_audio(m: Maker, root: str, config: Config) -> None:
    """Its keys have no bias; the fused module has one, with zeros for the keys."""
    heads = config["encoder_attention_heads"]
    cut = rows_of(heads)
    for name in ("conv1", "conv2", "audio_bos_eos_token", "ln_post", "proj"):
        m.module(f"{root}{name}", f"audio_encoder.encoder.{name}")
    for n in range(config["encoder_layers"]):
        layer, mm = f"{root}layers.{n}", f"{A}.{n}"
        attn, fused = f"{layer}.self_attn", f"{mm}.self_attention.linear_qkv"
        q, k, v = (m.take(f"{attn}.{kind}_proj.weight") for kind in "qkv")
        m.put(f"{fused}.weight", by_group(heads, q, k, v), cut)
        q, v = (m.take(f"{attn}.{kind}_proj.bias") for kind in "qv")
        m.put(f"{fused}.bias", by_group(heads, q, torch.zeros_like(q), v), cut)
        m.module(f"{attn}.out_proj", f"{mm}.self_attention.linear_proj", columns)
        m.module(f"{layer}.self_attn_layer_norm", f"{mm}.input_layernorm")
        m.module(f"{layer}.final_layer_norm", f"{mm}.pre_mlp_layernorm")
        m.module(f"{layer}.fc1", f"{mm}.mlp.linear_fc1", rows)
        m.module(f"{layer}.fc2", f"{mm}.mlp.linear_fc2", columns)


def glm_vit(m: Maker, config: Config) -> None:
    root, to = "model.visual.", "image_encoder.encoder."
    for name in ("patch_embed.proj", "post_conv_layernorm", "embeddings.position_embedding"):
        m.module(f"{root}{name}", f"{to}{name}")
    m.module(f"{root}post_layernorm", f"{to}blocks.final_layernorm")
    m.module(f"{root}downsample", f"{to}downsample")
    for name in ("proj", "post_projection_norm", "gate_proj", "up_proj", "down_proj"):
        m.module(f"{root}merger.{name}", f"{PROJECTOR}.{name}")
    for n in range(config["depth"]):
        block, mm = f"{root}blocks.{n}", f"{V}.{n}"
        m.module(f"{block}.norm1", f"{mm}.input_layernorm")
        m.module(f"{block}.norm2", f"{mm}.pre_mlp_layernorm")
        m.module(f"{block}.attn.qkv", f"{mm}.self_attention.qkv")
        m.module(f"{block}.attn.proj", f"{mm}.self_attention.proj")
        gated_mlp(m, f"{block}.mlp", f"{mm}.mlp")


def intern_vit(m: Maker, config: Config) -> None:
    """A Megatron layer's names within each layer; every rank has the whole projector."""
    root, to = "vision_model.", "image_encoder.encoder."
    heads = config["num_attention_heads"]
    for name in ("class_embedding", "position_embedding"):
        m.tensor(f"{root}embeddings.{name}", f"{to}embeddings.{name}")
    m.module(f"{root}embeddings.patch_embedding", f"{to}embeddings.patch_embedding")
    for n in range(config["num_hidden_layers"]):
        layer, mm = f"{root}encoder.layers.{n}", f"{to}encoder.layers.{n}"
        m.module(f"{layer}.norm1", f"{mm}.input_layernorm")
        m.module(f"{layer}.norm2", f"{mm}.pre_mlp_layernorm")
        for name in ("ls1", "ls2"):
            m.tensor(f"{layer}.{name}", f"{mm}.{name}")
        m.module(f"{layer}.attn.qkv", f"{mm}.self_attention.linear_qkv", head_rows(heads))
        m.module(f"{layer}.attn.proj", f"{mm}.self_attention.linear_proj", head_columns(heads))
        for kind in "qk":
            if m.has(f"{layer}.attn.{kind}_norm.weight"):
                m.module(f"{layer}.attn.{kind}_norm", f"{mm}.self_attention.{kind}_layernorm")
        m.module(f"{layer}.mlp.fc1", f"{mm}.mlp.linear_fc1", rows)
        m.module(f"{layer}.mlp.fc2", f"{mm}.mlp.linear_fc2", columns)
    m.module("mlp1.0", f"{PROJECTOR}.norm")
    m.module("mlp1.1", f"{PROJECTOR}.linear_fc1")
    m.module("mlp1.3", f"{PROJECTOR}.linear_fc2")


def deepseek_vit(m: Maker, tensors: Tensors) -> None:
    """Everything keeps its own name below another root, and no rank has less than the whole."""
    roots = {"vision.": "image_encoder.encoder.", "projector.": f"{PROJECTOR}."}
    for name in tensors:
        for root, to in roots.items():
            if name.startswith(root):
                m.tensor(name, to + name.removeprefix(root))
    for name in ("image_newline", "view_seperator"):
        m.tensor(name, name)
