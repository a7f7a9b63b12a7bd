"""What torchtitan and the hub should get of one another: what torchtitan's own adapters give, and
what those of 0.3.0 lose.
"""

from __future__ import annotations

import re

import torch

from .titan_models import Tensors, Titan

INNER = "moe.routed_experts.inner_experts"
# gpt-oss's experts: what torchtitan calls them, the hub's name, whether the last two axes swap.
GPT_OSS_EXPERTS = {
    "mlp1_weight_EGD": ("gate_up_proj", True),
    "mlp1_bias_EG": ("gate_up_proj_bias", False),
    "mlp2_weight_EDF": ("down_proj", True),
    "mlp2_bias_ED": ("down_proj_bias", False),
}


def hub_of(titan: Titan, state: Tensors) -> Tensors:
    """The adapter's answer, and the experts that the one of gpt-oss drops."""
    hub = titan.adapter().to_hf(dict(state))
    for name, tensor in state.items():
        layer, own = name.removeprefix("layers.").split(".", 1) if "." in name else ("", "")
        if own.startswith(f"{INNER}.mlp"):
            hub_name, swap = GPT_OSS_EXPERTS[own.removeprefix(f"{INNER}.")]
            hub[f"model.layers.{layer}.mlp.experts.{hub_name}"] = (
                tensor.transpose(1, 2) if swap else tensor
            )
    return {name: tensor.contiguous() for name, tensor in hub.items()}


def titan_of(titan: Titan, hub: Tensors) -> Tensors:
    """The adapter's answer, with what it does not give: gpt-oss's experts, and the zeros that a
    balancing bias begins with."""
    state = titan.adapter().from_hf(dict(hub))
    state = {name: t for name, t in state.items() if not re.search(r"\.mlp\d_bias$", name)}
    for name, tensor in hub.items():
        found = re.fullmatch(r"model\.layers\.(\d+)\.mlp\.experts\.(gate_up|down)(_proj\w*)", name)
        for own, (hub_name, swap) in GPT_OSS_EXPERTS.items():
            if found and name.endswith(f".{hub_name}"):
                value = tensor.transpose(1, 2) if swap else tensor
                state[f"layers.{found[1]}.{INNER}.{own}"] = value
    for name, tensor in titan.build().state_dict().items():
        if name.endswith("expert_bias_E") and name not in state:
            state[name] = torch.zeros_like(tensor)
    return state
