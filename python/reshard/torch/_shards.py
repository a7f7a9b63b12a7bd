"""Which elements of a tensor lie where: the pieces of a DTensor, and memory as addresses."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.placement_types import Placement

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Piece:
    """A box of a tensor that lies in one box of a rank's local tensor."""

    start: Shape  # in the whole tensor
    extent: Shape
    local: Shape  # in the local tensor

    @property
    def numel(self) -> int:
        return math.prod(self.extent)

    def alone(self) -> Piece:
        """The same box in a tensor that holds nothing else."""
        return Piece(self.start, self.extent, (0,) * len(self.extent))


def dtype_name(dtype: torch.dtype) -> str:
    """`bfloat16` of `torch.bfloat16`: the name that the library uses too."""
    return str(dtype).removeprefix("torch.")


def torch_dtype(name: str) -> torch.dtype:
    """The inverse of `dtype_name`."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def local_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """What this rank has of a tensor: the memory itself, without autograd."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def narrow(tensor: torch.Tensor, start: Shape, extent: Shape) -> torch.Tensor:
    """A box of a tensor, as a view."""
    for dim, (at, size) in enumerate(zip(start, extent, strict=True)):
        tensor = tensor.narrow(dim, at, size)
    return tensor


def part_of(local: torch.Tensor, piece: Piece) -> torch.Tensor:
    """A piece's elements, as a view of the local tensor."""
    return narrow(local, piece.local, piece.extent)


def pieces(tensor: torch.Tensor) -> list[Piece]:
    """The pieces of a tensor that this rank has, in its local tensor; none where that is empty."""
    if not isinstance(tensor, DTensor):
        return whole(tuple(tensor.shape))
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        return []
    return pieces_at(tuple(tensor.shape), tensor.device_mesh, tensor.placements, coordinate)


def whole(shape: Shape) -> list[Piece]:
    zeros = (0,) * len(shape)
    return [] if 0 in shape else [Piece(zeros, shape, zeros)]


class Mesh(Protocol):
    """What of a DeviceMesh says where pieces lie."""

    @property
    def mesh(self) -> torch.Tensor: ...
    def size(self, axis: int, /) -> int: ...


def pieces_by_rank(
    shape: Shape, mesh: Mesh, placements: Sequence[Placement]
) -> dict[int, list[Piece]]:
    """The pieces of every rank of the mesh, by its global rank."""
    ranks = mesh.mesh
    return {
        int(ranks[coordinate]): pieces_at(shape, mesh, placements, coordinate)
        for coordinate in itertools.product(*(range(size) for size in ranks.shape))
    }


def pieces_at(
    shape: Shape, mesh: Mesh, placements: Sequence[Placement], coordinate: Sequence[int]
) -> list[Piece]:
    """The pieces of the rank at a coordinate of the mesh."""
    runs = _runs_by_dim(shape, mesh, placements, coordinate)
    found = []
    for boxes in itertools.product(*runs):
        start, extent, local = zip(*boxes, strict=True) if boxes else ((), (), ())
        found.append(Piece(start, extent, local))
    return found


def local_shape(
    shape: Shape, mesh: Mesh, placements: Sequence[Placement], coordinate: Sequence[int]
) -> Shape:
    """The shape of the local tensor of the rank at a coordinate of the mesh."""
    runs = _runs_by_dim(shape, mesh, placements, coordinate)
    return tuple(sum(length for _, length, _ in along) for along in runs)


def _runs_by_dim(
    shape: Shape, mesh: Mesh, placements: Sequence[Placement], coordinate: Sequence[int]
) -> list[tuple[tuple[int, int, int], ...]]:
    if any(placement.is_partial() for placement in placements):
        raise ValueError("a DTensor with a partial placement has no elements of its own yet")
    return [
        _runs(
            size,
            tuple(
                (placement, mesh.size(axis), coordinate[axis])
                for axis, placement in enumerate(placements)
                if getattr(placement, "dim", None) == dim
            ),
        )
        for dim, size in enumerate(shape)
    ]


@functools.lru_cache(maxsize=4096)
def _runs(size: int, cuts: tuple[tuple[Any, int, int], ...]) -> tuple[tuple[int, int, int], ...]:
    """(start in the whole, length, start in the local tensor) of each run along one dimension."""
    if not cuts:
        return ((0, size, 0),) if size > 0 else ()
    # A strided shard (FSDP over tensor parallelism) may have rows that lie apart: the placements
    # themselves say which, here of the row numbers.
    rows = torch.arange(size)
    for placement, count, number in cuts:
        along = rows.reshape((1,) * placement.dim + (-1,))
        parts, _ = placement._split_tensor(along, count, with_padding=False, contiguous=True)
        rows = parts[number].flatten() if number < len(parts) else rows[:0]
    if rows.numel() == 0:
        return ()
    breaks = torch.nonzero(rows[1:] != rows[:-1] + 1).flatten() + 1
    bounds = [0, *breaks.tolist(), rows.numel()]
    return tuple(
        (int(rows[first]), last - first, first) for first, last in itertools.pairwise(bounds)
    )


def address(tensor: torch.Tensor, at: Shape) -> int:
    """Where the element at `at` of a tensor in CPU memory lies."""
    offset = sum(i * stride for i, stride in zip(at, tensor.stride(), strict=True))
    return tensor.data_ptr() + offset * tensor.element_size()
