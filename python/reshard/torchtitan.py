"""torchtitan's interface to checkpoints of the hub, by recipe.

`StateDictAdapter` stands in the place of torchtitan's own adapters: as a `state_dict_adapter` of a
ModelSpec, or as a CheckpointManager's `sd_adapter`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import HuggingFaceStorageReader  # type: ignore[attr-defined]
from torchtitan.protocols.state_dict_adapter import BaseStateDictAdapter

from . import _errors
from .torch import Layout, layouts
from .torch import StateDictAdapter as _StateDictAdapter

__all__ = ["StateDictAdapter", "hub_config"]

_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class _Family:
    architecture: str
    rope: str  # the class that the hub's order of rows is for
    with_experts: str = ""  # the architecture where it is another one
    quantized: bool = False  # whether PyTorch's reader of blocks of 128 knows the hub's files


_FAMILIES = {
    "Llama3Model": _Family("LlamaForCausalLM", "ComplexRoPE"),
    "Qwen3Model": _Family("Qwen3ForCausalLM", "CosSinRoPE", with_experts="Qwen3MoeForCausalLM"),
    "DeepSeekV3Model": _Family("DeepseekV3ForCausalLM", "ComplexRoPE", quantized=True),
    "GptOssModel": _Family("GptOssForCausalLM", "CosSinRoPE"),
}


class StateDictAdapter(BaseStateDictAdapter):  # type: ignore[misc]
    """Between a model of torchtitan and the hub; the model's class picks the recipe.

    `from_hf` lays tensors out on their meshes as the state dict that `to_hf` saw last.
    """

    def __init__(self, model_config: Any, hf_assets_path: str | None = None) -> None:
        self.model_config = model_config
        self.hf_assets_path = hf_assets_path
        self._adapter = _StateDictAdapter("torchtitan", hub_config(model_config))
        self._layouts: dict[str, Layout | None] = {}

    def to_hf(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        _check_rope(self.model_config)
        self._layouts = layouts(state_dict)
        return self._adapter.to_hf(state_dict)

    def from_hf(self, hf_state_dict: dict[str, Any]) -> dict[str, Any]:
        _check_rope(self.model_config)
        return self._adapter.from_hf(hf_state_dict, like=self._layouts)

    @cached_property
    def fqn_to_index_mapping(self) -> dict[Any, int] | None:
        """Which file of the assets' index each tensor of the whole model belongs to, from 1 on.

        None without an index, which is one file. A name that the index lacks goes where the one
        before it goes; one that the model lacks is not listed.
        """
        index = Path(self.hf_assets_path or "", _INDEX)
        if not self.hf_assets_path or not index.is_file():
            return None
        files: dict[str, str] = json.loads(index.read_text())["weight_map"]
        with torch.device("meta"):
            model = self.model_config.build().state_dict()
        names = self._adapter.to_hf(model)
        used = sorted({files[name] for name in names if name in files})
        numbers = {file: number for number, file in enumerate(used, start=1)}
        mapping, last = {}, 1
        for name in names:
            last = numbers[files[name]] if name in files else last
            mapping[name] = last
        return mapping if used else None

    def get_hf_storage_reader(
        self, path: str, from_quantized: bool = False
    ) -> HuggingFaceStorageReader:
        if not _has_weights(path):
            raise _errors.make(
                _errors.SourceError,
                found=f"{path}: no weights of Hugging Face's layout",
                expected=f"*.safetensors, one file or the several that {_INDEX} names",
                help="convert others with `reshard convert` first",
            )
        if not from_quantized:
            return HuggingFaceStorageReader(path)
        if not _family(self.model_config).quantized:
            raise _errors.make(
                _errors.UsageError,
                found="initial_load_in_hf_quantized for a model without blocks of 128",
                expected="weights that are not quantized",
            )
        from torch.distributed.checkpoint.quantized_hf_storage import (
            QuantizedHuggingFaceStorageReader,
        )

        return QuantizedHuggingFaceStorageReader(
            path=path, target_dtype=torch.float32, block_size=128, thread_count=4
        )


def _has_weights(path: str | os.PathLike[str]) -> bool:
    """Whether a directory has safetensors: one file, or all that its index names."""
    directory = Path(path)
    index = directory / _INDEX
    if not index.is_file():
        return any(directory.glob("*.safetensors"))
    files = set(json.loads(index.read_text())["weight_map"].values())
    return bool(files) and all((directory / file).is_file() for file in files)


def hub_config(model_config: Any) -> dict[str, Any]:
    """What a config.json of the hub says of the sizes of a model of torchtitan."""
    family = _family(model_config)
    layers = model_config.layers
    attention = layers[0].attention
    dense = next((layer.feed_forward for layer in layers if layer.feed_forward), None)
    moe = next((layer.moe for layer in layers if layer.moe), None)
    experts: Any = moe.routed_experts.inner_experts if moe else None
    architecture = family.with_experts if moe and family.with_experts else family.architecture
    config = {
        "architectures": [architecture],
        "vocab_size": model_config.vocab_size,
        "hidden_size": model_config.dim,
        "num_hidden_layers": len(layers),
        "num_nextn_predict_layers": len(getattr(model_config, "mtp_layers", [])),
        "num_attention_heads": attention.n_heads,
        "num_key_value_heads": getattr(attention, "n_kv_heads", None) or attention.n_heads,
        "head_dim": getattr(attention, "head_dim", None) or model_config.dim // attention.n_heads,
        "intermediate_size": dense.w1.out_features if dense else experts.hidden_dim,
        "tie_word_embeddings": model_config.enable_weight_tying,
    }
    # Of latent attention.
    ranks = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    config |= {name: getattr(attention, name) or None for name in ranks if hasattr(attention, name)}
    if moe:
        names = ("num_experts", "num_local_experts", "n_routed_experts")
        config |= dict.fromkeys(names, moe.num_experts)
        config["moe_intermediate_size"] = experts.hidden_dim
        # Which layers have none: Qwen3's way to say it, and DeepSeek's, where they are the first.
        without = [number for number, layer in enumerate(layers) if not layer.moe]
        config |= {"mlp_only_layers": without, "first_k_dense_replace": len(without)}
        if moe.shared_experts:
            shared = moe.shared_experts.w1.out_features
            config["n_shared_experts"] = shared // experts.hidden_dim
    return config


def _family(model_config: Any) -> _Family:
    for cls in type(model_config).__mro__:
        if found := _FAMILIES.get(cls.__qualname__.split(".")[0]):
            return found
    raise _errors.make(
        _errors.MappingError,
        found=f"a model of torchtitan with the config {type(model_config).__qualname__}",
        expected=f"that of one of {', '.join(_FAMILIES)}",
        help="use reshard.torch.StateDictAdapter with a recipe for it",
    )


def _check_rope(model_config: Any) -> None:
    expected = _family(model_config).rope
    for number, layer in enumerate(model_config.layers):
        found = type(layer.attention.rope).__qualname__.split(".")[0]
        if found != expected:
            raise _errors.make(
                _errors.MappingError,
                found=f"layer {number} rotates by {found}",
                expected=f"{expected}, which the hub's weights are for",
            )
