"""What Megatron-Core's checkpoint of a text model holds, cut with PyTorch from the hub's tensors.

The rules of the format stated a second time, without recipes: which tensors are fused and in what
order, which dimension each is cut in, and which rank has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from . import megatron_layout
from .megatron_layout import Chunk, Layout, Rank

# Transformer Engine fuses a norm into the linear layer behind it, and the experts into one module.
FLAVORS = ("megatron-core", "megatron-core-local")


def write(model: Path, root: Path, layout: Layout, flavor: str) -> Path:
    """The Hugging Face directory `model`, which has one weight file, as a checkpoint."""
    hub = load_file(model / "model.safetensors")
    config = AutoConfig.from_pretrained(model)
    return megatron_layout.write(root, layout, rank_states(hub, config, layout, flavor))


def rank_states(
    hub: dict[str, Tensor], config: PreTrainedConfig, layout: Layout, flavor: str
) -> dict[Rank, list[Chunk]]:
    """For each rank its chunks, one per virtual stage."""
    assert flavor in FLAVORS
    return {
        rank: [_chunk(hub, config, layout, flavor, rank, chunk) for chunk in range(layout.vpp)]
        for rank in layout.ranks()
    }


def _chunk(
    hub: dict[str, Tensor],
    config: PreTrainedConfig,
    layout: Layout,
    flavor: str,
    rank: Rank,
    chunk: int,
) -> Chunk:
    first = rank.stage == 0 and chunk == 0
    last = rank.stage == layout.pp - 1 and chunk == layout.vpp - 1
    embedding = "model.embed_tokens.weight"
    held: Chunk = {}
    if first:
        held["embedding.word_embeddings.weight"] = _rows(hub[embedding], rank.tensor, layout.tp)
    layers = layout.layers(chunk, rank.stage, config.num_hidden_layers)
    for local, layer in enumerate(layers):
        prefix = f"model.layers.{layer}."
        of_layer = {k.removeprefix(prefix): t for k, t in hub.items() if k.startswith(prefix)}
        for name, tensor in _layer(of_layer, config, layout, flavor, rank):
            held[f"decoder.layers.{local}.{name}"] = tensor
    if last:
        held["decoder.final_layernorm.weight"] = hub["model.norm.weight"]
        # A tied head has a tensor of its own only where the embedding is in another process.
        if not (config.tie_word_embeddings and first):
            head = embedding if config.tie_word_embeddings else "lm_head.weight"
            held["output_layer.weight"] = _rows(hub[head], rank.tensor, layout.tp)
    return {name: tensor.clone() for name, tensor in held.items()}


def _layer(
    hub: Chunk, config: PreTrainedConfig, layout: Layout, flavor: str, rank: Rank
) -> Iterator[tuple[str, Tensor]]:
    """The names and tensors of one layer, both without the layer's prefix."""
    fused_norms = flavor == "megatron-core"
    has_experts = "mlp.gate_proj.weight" not in hub

    norm = (
        "self_attention.linear_qkv.layer_norm_weight" if fused_norms else "input_layernorm.weight"
    )
    yield norm, hub["input_layernorm.weight"]
    for kind in ("weight", "bias"):
        if f"self_attn.q_proj.{kind}" in hub:
            parts = [hub[f"self_attn.{part}_proj.{kind}"] for part in "qkv"]
            fused = _interleave_groups(*parts, config, rank.tensor, layout.tp)
            yield f"self_attention.linear_qkv.{kind}", fused
    for part in "qk":
        if f"self_attn.{part}_norm.weight" in hub:
            weight = hub[f"self_attn.{part}_norm.weight"]
            yield f"self_attention.{part}_layernorm.weight", weight
    o_proj = hub["self_attn.o_proj.weight"]
    yield "self_attention.linear_proj.weight", _columns(o_proj, rank.tensor, layout.tp)

    separate = has_experts or not fused_norms
    norm = "pre_mlp_layernorm.weight" if separate else "mlp.linear_fc1.layer_norm_weight"
    yield norm, hub["post_attention_layernorm.weight"]
    if has_experts:
        yield from _experts(hub, layout, flavor, rank)
    else:
        parts = [hub[f"mlp.{part}_proj.weight"] for part in ("gate", "up", "down")]
        fc1, fc2 = _gated(*parts, rank.tensor, layout.tp)
        yield "mlp.linear_fc1.weight", fc1
        yield "mlp.linear_fc2.weight", fc2


def _experts(hub: Chunk, layout: Layout, flavor: str, rank: Rank) -> Iterator[tuple[str, Tensor]]:
    if "block_sparse_moe.gate.weight" in hub:
        prefix, parts = "block_sparse_moe.", ("w1", "w3", "w2")
    else:
        prefix, parts = "mlp.", ("gate_proj", "up_proj", "down_proj")
    router = hub[f"{prefix}gate.weight"]
    yield "mlp.router.weight", router
    count = router.shape[0] // layout.ep
    assert count * layout.ep == router.shape[0]
    for local in range(count):
        expert = f"{prefix}experts.{rank.expert * count + local}."
        weights = [hub[f"{expert}{part}.weight"] for part in parts]
        both = _gated(*weights, rank.tensor % layout.expert_tp, layout.expert_tp)
        for linear, weight in zip(("linear_fc1", "linear_fc2"), both, strict=True):
            if flavor == "megatron-core":
                yield f"mlp.experts.{linear}.weight{local}", weight
            else:
                yield f"mlp.experts.local_experts.{local}.{linear}.weight", weight


def _interleave_groups(
    q: Tensor, k: Tensor, v: Tensor, config: PreTrainedConfig, index: int, count: int
) -> Tensor:
    """Each group's query heads, then its key head and its value head; a rank has whole groups."""
    groups = config.num_key_value_heads
    assert groups % count == 0
    width = config.head_dim
    query_width = config.num_attention_heads // groups * width
    parts: list[Tensor] = []
    for group in range(index * groups // count, (index + 1) * groups // count):
        parts.append(q[group * query_width : (group + 1) * query_width])
        parts.append(k[group * width : (group + 1) * width])
        parts.append(v[group * width : (group + 1) * width])
    return torch.cat(parts)


def _gated(gate: Tensor, up: Tensor, down: Tensor, index: int, count: int) -> tuple[Tensor, Tensor]:
    """fc1 and fc2: a rank has its part of gate, then its part of up."""
    fc1 = torch.cat([_rows(gate, index, count), _rows(up, index, count)])
    return fc1, _columns(down, index, count)


def _rows(tensor: Tensor, index: int, count: int) -> Tensor:
    each = tensor.shape[0] // count
    assert each * count == tensor.shape[0]
    return tensor[index * each : (index + 1) * each]


def _columns(tensor: Tensor, index: int, count: int) -> Tensor:
    return _rows(tensor.T, index, count).T
