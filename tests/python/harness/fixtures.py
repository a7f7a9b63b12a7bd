"""The stored checkpoints, and what golden.json says that they hold."""

from __future__ import annotations

from pathlib import Path

from . import compare
from .cli import FIXTURES

WHOLE = sorted(path.parent.name for path in FIXTURES.glob("*/golden.json"))


def source_of(name: str) -> Path:
    """The checkpoint: a directory, or the one file of a torch.save fixture."""
    directory = FIXTURES / name / "ckpt"
    return next(directory.glob("*.pt")) if name.startswith("ts_") else directory


def golden_of(name: str) -> compare.Golden:
    return compare.Golden.load(FIXTURES / name / "golden.json")
