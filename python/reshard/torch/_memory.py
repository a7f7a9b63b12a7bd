"""Boxes of a checkpoint into tensors: straight into CPU memory, by way of it to an accelerator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from reshard import _core
from reshard._progress import ProgressFn

from ._shards import Piece, address, dtype_name, local_tensor, part_of, pieces
from ._stage import STAGE_BYTES, Stage, on_host

Box = tuple[int, str, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]


@dataclass
class Read:
    """A tensor of the checkpoint, and the tensor of the model that it fills."""

    number: int
    name: str
    tensor: torch.Tensor


@dataclass
class Filled:
    """What has been done to fill tensors."""

    bytes_read: int = 0
    bytes_filled: int = 0
    overflows: dict[str, int] = field(default_factory=dict)

    def add(self, report: Mapping[str, Any]) -> None:
        """What one call of the library has done."""
        self.bytes_read += report["bytes_read"]
        self.bytes_filled += report["bytes_filled"]
        for name, count in report["overflows"].items():
            self.overflows[name] = self.overflows.get(name, 0) + count


def read_here(
    core: _core.Checkpoint,
    reads: Sequence[Read],
    jobs: int,
    on_progress: ProgressFn | None,
    checks: tuple[int, int],
) -> Filled:
    """Fills what this rank has of the tensors.

    `checks` is this rank's share of the checkpoint's checks: its number, and of how many.
    """
    direct: list[Box] = []
    staged: list[tuple[int, torch.Tensor, Piece]] = []
    for read in reads:
        local = local_tensor(read.tensor)
        for piece in pieces(read.tensor):
            if on_host(local):
                direct.append(box_of(read.number, local, piece))
            else:
                staged.append((read.number, local, piece))
    filled = Filled()
    filled.add(core.read(direct, jobs, *checks, None if staged else on_progress))
    if staged:
        _read_staged(core, staged, jobs, on_progress, filled)
    return filled


def box_of(number: int, local: torch.Tensor, piece: Piece) -> Box:
    return (
        number,
        dtype_name(local.dtype),
        piece.start,
        piece.extent,
        address(local, piece.local),
        tuple(local.stride()),
    )


def cut(piece: Piece, item_size: int, most: int) -> Iterator[Piece]:
    """The piece as pieces of about `most` bytes, cut along the first dimension."""
    if not piece.extent:
        yield piece
        return
    row = item_size * math.prod(piece.extent[1:])
    step = max(1, most // max(row, 1))
    for first in range(0, piece.extent[0], step):
        count = min(step, piece.extent[0] - first)
        yield Piece(
            (piece.start[0] + first, *piece.start[1:]),
            (count, *piece.extent[1:]),
            (piece.local[0] + first, *piece.local[1:]),
        )


def _read_staged(
    core: _core.Checkpoint,
    staged: Sequence[tuple[int, torch.Tensor, Piece]],
    jobs: int,
    on_progress: ProgressFn | None,
    filled: Filled,
) -> None:
    stage = Stage()
    boxes: list[Box] = []
    copies: list[tuple[torch.Tensor, torch.Tensor]] = []
    total = filled.bytes_filled + sum(
        piece.numel * local.element_size() for _, local, piece in staged
    )

    def flush() -> None:
        filled.add(core.read(boxes, jobs, 0, 0, None))
        for target, host in copies:
            target.copy_(host)
        boxes.clear()
        copies.clear()
        stage.clear()
        if on_progress:
            on_progress(filled.bytes_filled, total)

    for number, local, whole in staged:
        for piece in cut(whole, local.element_size(), STAGE_BYTES):
            target = part_of(local, piece)
            if not stage.fits(target):
                flush()
            host = stage.take(target)
            boxes.append(box_of(number, host, piece.alone()))
            copies.append((target, host))
    flush()
