"""Checkpoints and live PyTorch models."""

from ._adapter import StateDictAdapter, layouts
from ._distribute import Layout
from ._load import LoadReport, load_checkpoint, looks_like_hf_weight_dir

__all__ = [
    "Layout",
    "LoadReport",
    "StateDictAdapter",
    "layouts",
    "load_checkpoint",
    "looks_like_hf_weight_dir",
]
