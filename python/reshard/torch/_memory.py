"""Boxes of a checkpoint into tensors: straight into CPU memory, by way of it to an accelerator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from reshard import _core
from reshard._progress import ProgressFn

from ._shards import Piece, address, dtype_name, local_tensor, part_of, pieces

# What is on its way to an accelerator at one time.
STAGE_BYTES = 16 << 20

Box = tuple[int, str, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]


@dataclass
class Read:
    """A tensor of the checkpoint, and the tensor of the model that it fills."""

    number: int
    name: str
    tensor: torch.Tensor


def read_here(
    core: _core.Checkpoint,
    reads: Sequence[Read],
    jobs: int,
    on_progress: ProgressFn | None,
    checks: tuple[int, int],
) -> tuple[int, int, dict[str, int]]:
    """Fills what this rank has of the tensors: (bytes read, bytes filled, overflows).

    `checks` is this rank's share of the checkpoint's checks: its number, and of how many.
    """
    direct: list[Box] = []
    staged: list[tuple[Read, Piece]] = []
    for read in reads:
        local = local_tensor(read.tensor)
        for piece in pieces(read.tensor):
            if local.device.type == "cpu":
                direct.append(box_of(read.number, local, piece))
            else:
                staged.append((read, piece))
    report = core.read(direct, jobs, *checks, on_progress)
    total = [report["bytes_read"], report["bytes_filled"]]
    overflows = dict(report["overflows"])
    for group in _groups(staged):
        bytes_read, bytes_filled, more = _read_staged(core, group, jobs)
        total[0] += bytes_read
        total[1] += bytes_filled
        for name, count in more.items():
            overflows[name] = overflows.get(name, 0) + count
    return total[0], total[1], overflows


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


def _groups(staged: Sequence[tuple[Read, Piece]]) -> Iterator[list[tuple[Read, Piece]]]:
    group: list[tuple[Read, Piece]] = []
    size = 0
    for read, piece in staged:
        for part in cut(piece, read.tensor.element_size(), STAGE_BYTES):
            bytes_ = read.tensor.element_size() * part.numel
            if group and size + bytes_ > STAGE_BYTES:
                yield group
                group, size = [], 0
            group.append((read, part))
            size += bytes_
    if group:
        yield group


def _read_staged(
    core: _core.Checkpoint, group: Sequence[tuple[Read, Piece]], jobs: int
) -> tuple[int, int, dict[str, int]]:
    boxes: list[Box] = []
    copies: list[tuple[torch.Tensor, torch.Tensor]] = []
    for read, piece in group:
        local = local_tensor(read.tensor)
        host = torch.empty(piece.extent, dtype=local.dtype)
        boxes.append(box_of(read.number, host, piece.alone()))
        copies.append((part_of(local, piece), host))
    report = core.read(boxes, jobs, 0, 0, None)
    for target, host in copies:
        target.copy_(host)
    return report["bytes_read"], report["bytes_filled"], report["overflows"]
