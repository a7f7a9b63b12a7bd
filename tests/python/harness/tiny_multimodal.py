"""Tiny multimodal models as Hugging Face directories, under the names of the published files.

Names and shapes come from transformers' own classes where it has them, built without memory. Where
only the model's own code on the hub exists (InternVL, DeepSeek-VL2) they are written out here.
Every tensor is random, norms and biases too, so no two of them are mistaken for each other. Text
and vision have different widths, and all sizes divide by four, but for InternVL's vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
)

Config = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

DEPTH = 4
HIDDEN, VOCAB, FFN, HEADS = 32, 96, 48, 8
VIT_HIDDEN, VIT_FFN, VIT_HEADS = 16, 24, 4


@dataclass(frozen=True)
class Tiny:
    """A model as its publisher writes it and, where that differs, as transformers 5 holds it."""

    config: Config
    tensors: dict[str, torch.Tensor]
    runtime_config: Config | None = None
    runtime: dict[str, torch.Tensor] | None = None


def build(name: str) -> Tiny:
    """One of MODELS; the same weights every time."""
    return MODELS[name]()


def save(config: Config, tensors: dict[str, torch.Tensor], directory: Path, files: int = 1) -> None:
    """config.json and `files` safetensors files, with an index when there is more than one."""
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    weight_map: dict[str, str] = {}
    for i in range(files):
        file = (
            "model.safetensors" if files == 1 else f"model-{i + 1:05d}-of-{files:05d}.safetensors"
        )
        part = {name: tensors[name].contiguous() for name in sorted(tensors)[i::files]}
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    if files > 1:
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def qwen2_vl(layers: int = DEPTH, groups: int = 4, tied: bool = False) -> Tiny:
    vision = {"embed_dim": VIT_HIDDEN, "hidden_size": HIDDEN, "mlp_ratio": 2}
    config = Qwen2VLConfig(
        text_config=_text(num_hidden_layers=layers, num_key_value_heads=groups),
        vision_config=_vision(**vision),
        tie_word_embeddings=tied,
    )
    return _flat(config, Qwen2VLForConditionalGeneration)


def qwen2_5_vl() -> Tiny:
    config = Qwen2_5_VLConfig(text_config=_text(), vision_config=_vision())
    return _flat(config, Qwen2_5_VLForConditionalGeneration)


def videoalign() -> Tiny:
    """A reward model on a tied Qwen2-VL: no lm_head is stored."""
    base = qwen2_vl(tied=True)
    head = _random({"rm_head.weight": (3, HIDDEN)})
    assert base.runtime is not None
    assert base.runtime_config is not None
    name = {"architectures": ["Qwen2VLRewardModelBT"]}
    return Tiny(
        base.config | name, base.tensors | head, base.runtime_config | name, base.runtime | head
    )


def qwen2_5_omni() -> Tiny:
    """The thinker under the names that it has inside the published model."""
    audio = {
        "num_mel_bins": 8,
        "d_model": VIT_HIDDEN,
        "encoder_layers": DEPTH,
        "encoder_attention_heads": VIT_HEADS,
        "encoder_ffn_dim": VIT_FFN,
        "max_source_positions": 12,
        "n_window": 4,
        "output_dim": HIDDEN,
    }
    config = Qwen2_5OmniThinkerConfig(
        text_config=_text(), vision_config=_vision(), audio_config=audio
    )
    runtime_config, runtime = _instantiate(config, Qwen2_5OmniThinkerForConditionalGeneration)
    inside = {f"thinker.{_unwrapped(name)}": tensor for name, tensor in runtime.items()}
    published = {
        "architectures": ["Qwen2_5OmniModel"],
        "model_type": "qwen2_5_omni",
        "thinker_config": runtime_config,
    }
    return Tiny(published, inside, runtime_config, runtime)


def qwen3_vl(tied: bool = False) -> Tiny:
    config = Qwen3VLConfig(
        text_config=_text(head_dim=8), vision_config=_deepstack(), tie_word_embeddings=tied
    )
    return Tiny(*_instantiate(config, Qwen3VLForConditionalGeneration))


def qwen3_vl_moe() -> Tiny:
    """Experts as [E, in, out] in the published files and [E, out, in] in transformers 5."""
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 12}
    text = _text(head_dim=8, num_key_value_heads=2, **experts)
    config = Qwen3VLMoeConfig(text_config=text, vision_config=_deepstack())
    runtime_config, runtime = _instantiate(config, Qwen3VLMoeForConditionalGeneration)
    tensors = {
        name: tensor.transpose(1, 2).contiguous() if ".experts." in name else tensor
        for name, tensor in runtime.items()
    }
    published = dict(runtime_config["text_config"])
    published["num_experts"] = published.pop("num_local_experts")
    return Tiny(runtime_config | {"text_config": published}, tensors, runtime_config, runtime)


def glm4_1v() -> Tiny:
    config = Glm4vConfig(text_config=_text(pad_token_id=0), vision_config=_vision(image_size=8))
    return Tiny(*_instantiate(config, Glm4vForConditionalGeneration))


def internvl(llm: str, large: bool = False) -> Tiny:
    """OpenGVLab's own code on the hub around a Qwen2, a Llama or an InternLM2.

    The large tower has heads that four ranks cannot share, and norms of queries and keys.
    """
    vit_heads = 6 if large else VIT_HEADS
    width = 4 * vit_heads
    shapes: Shapes = {
        "vision_model.embeddings.class_embedding": (1, 1, width),
        "vision_model.embeddings.position_embedding": (1, 5, width),
        **_affine("vision_model.embeddings.patch_embedding", width, 3, 2, 2),
        **_affine("mlp1.0", 4 * width),
        **_affine("mlp1.1", HIDDEN, 4 * width),
        **_affine("mlp1.3", HIDDEN, HIDDEN),
    }
    for n in range(DEPTH):
        layer = f"vision_model.encoder.layers.{n}"
        shapes |= _vit_layer(layer, width)
        shapes |= {f"{layer}.ls1": (width,), f"{layer}.ls2": (width,)}
        if large:
            shapes |= {f"{layer}.attn.{kind}_norm.weight": (width,) for kind in "qk"}
            for module in ("norm1", "norm2", "attn.qkv"):
                del shapes[f"{layer}.{module}.bias"]
    shapes |= _internlm2() if llm == "InternLM2" else _internvl_qwen(llm)
    odd = {name: shapes[name] for name in shapes if shapes[name] == (VOCAB, HIDDEN)}
    assert len(odd) == 2
    shapes |= dict.fromkeys(odd, (VOCAB + 1, HIDDEN))
    config = {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "llm_config": _text() | {"architectures": [f"{llm}ForCausalLM"], "vocab_size": VOCAB + 1},
        "vision_config": {
            "hidden_size": width,
            "num_attention_heads": vit_heads,
            "num_hidden_layers": DEPTH,
            "intermediate_size": VIT_FFN,
            "qkv_bias": not large,
            "qk_normalization": large,
        },
    }
    return Tiny(config, _random(shapes))


def _internvl_qwen(llm: str) -> Shapes:
    """A Qwen2, or a Llama, whose attention has no bias."""
    shapes = _decoder_ends("language_model.")
    for n in range(DEPTH):
        layer = f"language_model.model.layers.{n}"
        shapes |= _decoder_norms(layer) | _gated_mlp(f"{layer}.mlp", FFN)
        for kind, rows in (("q", HIDDEN), ("k", HIDDEN // 2), ("v", HIDDEN // 2)):
            projection = _affine(f"{layer}.self_attn.{kind}_proj", rows, HIDDEN)
            if llm == "Llama":
                del projection[f"{layer}.self_attn.{kind}_proj.bias"]
            shapes |= projection
        shapes[f"{layer}.self_attn.o_proj.weight"] = (HIDDEN, HIDDEN)
    return shapes


def _internlm2() -> Shapes:
    """Queries, keys and values in one tensor, which is grouped already."""
    root = "language_model."
    shapes: Shapes = {
        f"{root}model.tok_embeddings.weight": (VOCAB, HIDDEN),
        f"{root}model.norm.weight": (HIDDEN,),
        f"{root}output.weight": (VOCAB, HIDDEN),
    }
    for n in range(DEPTH):
        layer = f"{root}model.layers.{n}"
        shapes |= {
            f"{layer}.attention_norm.weight": (HIDDEN,),
            f"{layer}.ffn_norm.weight": (HIDDEN,),
            f"{layer}.attention.wqkv.weight": (2 * HIDDEN, HIDDEN),
            f"{layer}.attention.wo.weight": (HIDDEN, HIDDEN),
            f"{layer}.feed_forward.w1.weight": (FFN, HIDDEN),
            f"{layer}.feed_forward.w3.weight": (FFN, HIDDEN),
            f"{layer}.feed_forward.w2.weight": (HIDDEN, FFN),
        }
    return shapes


def deepseek_vl2(q_lora_rank: int | None) -> Tiny:
    """Latent attention, a dense first layer, then routed and shared experts."""
    shapes: Shapes = {
        "image_newline": (HIDDEN,),
        "view_seperator": (HIDDEN,),
        "vision.pos_embed": (1, 5, VIT_HIDDEN),
        **_affine("vision.patch_embed.proj", VIT_HIDDEN, 3, 2, 2),
        **_affine("vision.norm", VIT_HIDDEN),
        **_attention_pool("vision.attn_pool"),
        **_affine("projector.layers.0", HIDDEN, 4 * VIT_HIDDEN),
        **_affine("projector.layers.2", HIDDEN, HIDDEN),
        **_decoder_ends("language."),
    }
    for n in range(DEPTH):
        shapes |= _vit_layer(f"vision.blocks.{n}", VIT_HIDDEN)
    experts, expert_ffn, first_dense = 8, 12, 1
    for n in range(DEPTH):
        layer = f"language.model.layers.{n}"
        shapes |= _decoder_norms(layer) | _latent_attention(f"{layer}.self_attn", q_lora_rank)
        if n < first_dense:
            shapes |= _gated_mlp(f"{layer}.mlp", FFN)
            continue
        shapes[f"{layer}.mlp.gate.weight"] = (experts, HIDDEN)
        shapes[f"{layer}.mlp.gate.e_score_correction_bias"] = (experts,)
        shapes |= _gated_mlp(f"{layer}.mlp.shared_experts", 2 * expert_ffn)
        for e in range(experts):
            shapes |= _gated_mlp(f"{layer}.mlp.experts.{e}", expert_ffn)
    config = {
        "architectures": ["DeepseekVLV2ForCausalLM"],
        "model_type": "deepseek_vl_v2",
        "language_config": {
            "architectures": ["DeepseekV2ForCausalLM"],
            "hidden_size": HIDDEN,
            "vocab_size": VOCAB,
            "intermediate_size": FFN,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "q_lora_rank": q_lora_rank,
            "topk_method": "noaux_tc",
            "use_mla": True,
            "n_routed_experts": experts,
            "n_shared_experts": 2,
            "moe_intermediate_size": expert_ffn,
            "first_k_dense_replace": first_dense,
            "moe_layer_freq": 1,
            "tie_word_embeddings": False,
            **_LATENT,
        },
        "vision_config": {"width": VIT_HIDDEN, "layers": DEPTH, "heads": VIT_HEADS},
        "tile_tag": "2D",
    }
    return Tiny(config, _random(shapes))


MODELS: dict[str, Callable[[], Tiny]] = {
    "qwen2_vl": lambda: qwen2_vl(layers=12),
    "qwen2_vl_tied": lambda: qwen2_vl(groups=2, tied=True),
    "qwen2_5_vl": qwen2_5_vl,
    "qwen2_5_omni": qwen2_5_omni,
    "qwen3_vl": qwen3_vl,
    "qwen3_vl_tied": lambda: qwen3_vl(tied=True),
    "qwen3_vl_moe": qwen3_vl_moe,
    "glm4_1v": glm4_1v,
    "internvl_qwen2": lambda: internvl("Qwen2"),
    "internvl_llama": lambda: internvl("Llama", large=True),
    "internvl_internlm2": lambda: internvl("InternLM2"),
    "deepseek_vl2": lambda: deepseek_vl2(q_lora_rank=None),
    "deepseek_vl2_q_lora": lambda: deepseek_vl2(q_lora_rank=20),
    "videoalign": videoalign,
}

_LATENT = {"kv_lora_rank": 12, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 6}


def _text(**more: Any) -> Config:
    return {
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": FFN,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 4,
        "bos_token_id": None,
        "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 0]},
    } | more


def _vision(**more: Any) -> Config:
    sizes = {"hidden_size": VIT_HIDDEN, "intermediate_size": VIT_FFN, "out_hidden_size": HIDDEN}
    return {"depth": DEPTH, "num_heads": VIT_HEADS, "patch_size": 2} | sizes | more


def _deepstack() -> Config:
    return _vision(num_position_embeddings=16, deepstack_visual_indexes=[0, 2, 3])


def _instantiate(
    config: PreTrainedConfig, cls: type[PreTrainedModel]
) -> tuple[Config, dict[str, torch.Tensor]]:
    """config.json and the stored tensors: a tied lm_head is not among them."""
    with torch.device("meta"):
        model = cls(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    written = json.loads(config.to_json_string(use_diff=False))
    return written | {"architectures": [cls.__name__], "dtype": "bfloat16"}, _random(shapes)


def _flat(config: PreTrainedConfig, cls: type[PreTrainedModel]) -> Tiny:
    """Published before transformers nested the text model: its sizes are at the top level."""
    runtime_config, runtime = _instantiate(config, cls)
    published = runtime_config["text_config"] | runtime_config
    del published["text_config"]
    tensors = {_unwrapped(name): tensor for name, tensor in runtime.items()}
    return Tiny(published, tensors, runtime_config, runtime)


def _unwrapped(name: str) -> str:
    """The name before transformers put `model.` around all parts."""
    parts = {"model.language_model.": "model.", "model.visual.": "visual."}
    for held, published in (parts | {"model.audio_tower.": "audio_tower."}).items():
        if name.startswith(held):
            return published + name.removeprefix(held)
    return name


def _random(shapes: Shapes) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(shapes))
    return {
        name: torch.randn(shape, generator=generator).to(
            torch.float32 if name.endswith("e_score_correction_bias") else torch.bfloat16
        )
        for name, shape in shapes.items()
    }


def _affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _vit_layer(layer: str, width: int) -> Shapes:
    return {
        **_affine(f"{layer}.norm1", width),
        **_affine(f"{layer}.attn.qkv", 3 * width, width),
        **_affine(f"{layer}.attn.proj", width, width),
        **_affine(f"{layer}.norm2", width),
        **_affine(f"{layer}.mlp.fc1", VIT_FFN, width),
        **_affine(f"{layer}.mlp.fc2", width, VIT_FFN),
    }


def _attention_pool(pool: str) -> Shapes:
    return {
        f"{pool}.latent": (1, 1, VIT_HIDDEN),
        **_affine(f"{pool}.q", VIT_HIDDEN, VIT_HIDDEN),
        **_affine(f"{pool}.kv", 2 * VIT_HIDDEN, VIT_HIDDEN),
        **_affine(f"{pool}.proj", VIT_HIDDEN, VIT_HIDDEN),
        **_affine(f"{pool}.norm", VIT_HIDDEN),
        **_affine(f"{pool}.mlp.fc1", VIT_FFN, VIT_HIDDEN),
        **_affine(f"{pool}.mlp.fc2", VIT_HIDDEN, VIT_FFN),
    }


def _decoder_ends(root: str) -> Shapes:
    return {
        f"{root}model.embed_tokens.weight": (VOCAB, HIDDEN),
        f"{root}model.norm.weight": (HIDDEN,),
        f"{root}lm_head.weight": (VOCAB, HIDDEN),
    }


def _decoder_norms(layer: str) -> Shapes:
    kinds = ("input", "post_attention")
    return {f"{layer}.{kind}_layernorm.weight": (HIDDEN,) for kind in kinds}


def _gated_mlp(mlp: str, width: int) -> Shapes:
    return {
        f"{mlp}.gate_proj.weight": (width, HIDDEN),
        f"{mlp}.up_proj.weight": (width, HIDDEN),
        f"{mlp}.down_proj.weight": (HIDDEN, width),
    }


def _latent_attention(attention: str, q_lora_rank: int | None) -> Shapes:
    rank, rope = _LATENT["kv_lora_rank"], _LATENT["qk_rope_head_dim"]
    nope, value = _LATENT["qk_nope_head_dim"], _LATENT["v_head_dim"]
    query = HEADS * (nope + rope)
    shapes: Shapes = {
        f"{attention}.kv_a_proj_with_mqa.weight": (rank + rope, HIDDEN),
        f"{attention}.kv_a_layernorm.weight": (rank,),
        f"{attention}.kv_b_proj.weight": (HEADS * (nope + value), rank),
        f"{attention}.o_proj.weight": (HIDDEN, HEADS * value),
    }
    if q_lora_rank is None:
        return shapes | {f"{attention}.q_proj.weight": (query, HIDDEN)}
    return shapes | {
        f"{attention}.q_a_proj.weight": (q_lora_rank, HIDDEN),
        f"{attention}.q_a_layernorm.weight": (q_lora_rank,),
        f"{attention}.q_b_proj.weight": (query, q_lora_rank),
    }
