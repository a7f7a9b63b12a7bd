"""Checkpoints and live PyTorch models."""

from ._load import LoadReport, load_checkpoint, looks_like_hf_weight_dir

__all__ = ["LoadReport", "load_checkpoint", "looks_like_hf_weight_dir"]
