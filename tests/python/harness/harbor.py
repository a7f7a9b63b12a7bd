"""Harbor, the model of docs/recipes.md that no library knows: its tensors, and Megatron's ranks of
them by PyTorch."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import documents

CONFIG: dict[str, object] = {
    "architectures": ["HarborForCausalLM"],
    "n_layer": 4,
    "n_head": 4,
    "n_kv_head": 2,
    "n_embd": 16,
    "n_inner": 24,
    "vocab_size": 50,
    "tie_word_embeddings": False,
}

Tensors = dict[str, torch.Tensor]


def recipe() -> str:
    """The document's text of it."""
    sections = documents.blocks("recipes.md", "A model that ranks share")
    return next(text for language, text in sections if language == "toml")


def tensors() -> Tensors:
    generator = torch.Generator().manual_seed(11)
    layer = {
        "ln_1": (16,),
        "attn.wq": (16, 16),
        "attn.wk": (8, 16),
        "attn.wv": (8, 16),
        "attn.wo": (16, 16),
        "ln_2": (16,),
        "mlp.w_gate": (24, 16),
        "mlp.w_up": (24, 16),
        "mlp.w_down": (24, 16),
    }
    shapes: dict[str, tuple[int, ...]] = {"transformer.wte.weight": (50, 16)}
    for number in range(4):
        shapes |= {f"transformer.h.{number}.{name}.weight": layer[name] for name in layer}
    shapes |= {"transformer.ln_f.weight": (16,), "lm_head.weight": (50, 16)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save(state: Tensors, directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(CONFIG))
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def rank(state: Tensors, tp: int, pp: int) -> Tensors:
    """What the rank of two tensor parallel ranks and two stages holds."""

    def rows(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.chunk(2)[tp]

    made: Tensors = {}
    if pp == 0:
        made["embedding.word_embeddings.weight"] = rows(state["transformer.wte.weight"])
    for here in range(2):
        old = f"transformer.h.{2 * pp + here}."
        new = f"decoder.layers.{here}."
        # Two groups of query heads, each with one key and one value head of 4: one on each rank.
        heads = [state[f"{old}attn.w{part}.weight"].chunk(2)[tp] for part in "qkv"]
        made[f"{new}self_attention.linear_qkv.weight"] = torch.cat(heads)
        made[f"{new}self_attention.linear_proj.weight"] = state[f"{old}attn.wo.weight"].chunk(2, 1)[
            tp
        ]
        gate, up = (rows(state[f"{old}mlp.w_{part}.weight"]) for part in ("gate", "up"))
        made[f"{new}mlp.linear_fc1.weight"] = torch.cat([gate, up])
        made[f"{new}mlp.linear_fc2.weight"] = rows(state[f"{old}mlp.w_down.weight"]).T.contiguous()
        made[f"{new}input_layernorm.weight"] = state[f"{old}ln_1.weight"]
        made[f"{new}pre_mlp_layernorm.weight"] = state[f"{old}ln_2.weight"]
    if pp == 1:
        made["decoder.final_layernorm.weight"] = state["transformer.ln_f.weight"]
        made["output_layer.weight"] = rows(state["lm_head.weight"])
    return made
