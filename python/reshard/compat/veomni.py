"""VeOmni's conversion of a DCP checkpoint to Hugging Face files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch

import reshard

logger = logging.getLogger("reshard")

__all__ = ["save_model_weights"]


def save_model_weights(
    output_dir: str | os.PathLike[str],
    checkpoint_path: str | os.PathLike[str],
    save_dtype: str | torch.dtype | None = "bfloat16",
    shard_size: int = 2_000_000_000,
    safe_serialization: bool = True,
    model_assets: Sequence[Any] | None = None,
) -> None:
    """Converts the model of a DCP checkpoint, its names as VeOmni's script makes them.

    As there, a checkpoint without a model is only warned of, and `model_assets` (config, tokenizer,
    processor) are written by their own save_pretrained. What differs: integers keep their type, and
    a directory that holds something is refused.
    """
    dtype = str(save_dtype or "keep").removeprefix("torch.")
    try:
        # Only what is asked for comes beside the weights, not what lies beside the checkpoint.
        with tempfile.TemporaryDirectory() as nothing:
            reshard.convert(
                checkpoint_path,
                output_dir,
                from_="dcp",
                recipe="veomni",
                dtype=dtype,
                shard_size=shard_size,
                packing="lexicographic",
                weights="safetensors" if safe_serialization else "bin",
                assets_from=nothing,
            )
    except reshard.MappingError as error:
        if "takes none of" not in error.found:
            raise
        os.makedirs(output_dir, exist_ok=True)
        return
    for asset in model_assets or ():
        if hasattr(asset, "save_pretrained"):
            asset.save_pretrained(output_dir)
        else:
            logger.warning("%s does not implement save_pretrained()", type(asset).__name__)
