"""MindSpeed-MM's online loading of Hugging Face weights into FSDP2 models."""

from __future__ import annotations

import os

from torch import nn

from reshard.torch import load_checkpoint, looks_like_hf_weight_dir

__all__ = ["load_hf_checkpoint", "looks_like_hf_weight_dir"]


def load_hf_checkpoint(
    model: nn.Module,
    hf_dir: str,
    *,
    load_rank0_and_broadcast: bool = False,
    enable_lora: bool = False,
    load_strict: bool = False,
) -> bool:
    """Fills a model from the safetensors of a Hugging Face directory; True.

    As there, tensors that the model lacks are only logged. Parameters that the directory lacks are
    logged and keep what they hold, or with `load_strict` are a RuntimeError; adapters (`lora_`) may
    be missing. What differs: a rank reads its own shards alone, and a directory without weights, or
    with damaged ones, is a reshard.Error.
    """
    report = load_checkpoint(
        model,
        hf_dir,
        strict=False,
        lora=enable_lora,
        read="rank0-broadcast" if load_rank0_and_broadcast else "local",
        load_format="hf",
        progress=True,
    )
    parameters = {name for name, _ in model.named_parameters()}
    missing = sorted(n for n in report.missing if n in parameters and "lora_" not in n)
    if missing and load_strict:
        raise RuntimeError(
            f"{len(missing)} parameter key(s) absent from the HF checkpoint in "
            f"{os.fspath(hf_dir)} (load_strict=True): {missing}"
        )
    return True
