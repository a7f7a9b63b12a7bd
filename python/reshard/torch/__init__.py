"""Checkpoints and live PyTorch models."""

from ._adapter import StateDictAdapter, layouts
from ._distribute import Layout
from ._load import LoadReport, load_checkpoint, looks_like_hf_weight_dir
from ._save import SaveReport, save_checkpoint

__all__ = [
    "Layout",
    "LoadReport",
    "SaveReport",
    "StateDictAdapter",
    "layouts",
    "load_checkpoint",
    "looks_like_hf_weight_dir",
    "save_checkpoint",
]
