"""Views of DTensors: where the result lies, and what has to move between ranks for it.

What is decided here, and in which order ranks communicate, depends only on what all of them know:
shapes, meshes and placements.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from ._shards import Piece, Shape, local_shape, narrow, part_of, pieces_at
from ._views import Node, View, evaluate, origins

Placements = tuple[Placement, ...]


@dataclass(frozen=True)
class Layout:
    """How a tensor lies on a mesh."""

    mesh: DeviceMesh
    placements: Placements

    @staticmethod
    def of(tensor: torch.Tensor) -> Layout | None:
        if not isinstance(tensor, DTensor):
            return None
        return Layout(tensor.device_mesh, tuple(tensor.placements))


@dataclass(frozen=True)
class Route:
    """Where a tensor is made: on each rank of what it has of sources that lie as is said here."""

    sources: tuple[Placements, ...]
    target: Placements
    gathered: bool = False


def distributed(
    view: View, sources: Sequence[DTensor], cache: dict[str, dict[Placements, DTensor]]
) -> DTensor:
    """The tensor, on the sources' mesh. `cache` has sources by name as they were needed before."""
    mesh = sources[0].device_mesh
    shapes = tuple(tuple(source.shape) for source in sources)
    stay = tuple(tuple(source.placements) for source in sources)
    route = _route(view.root, mesh, shapes, stay)
    moved = []
    for name, source, placements in zip(view.sources, sources, route.sources, strict=True):
        known = cache.setdefault(name, {})
        if placements not in known:
            known[placements] = _redistribute(source, placements)
        moved.append(known[placements])
    local = _local(view.root, moved, route.target)
    # A clone lets go of the whole.
    local = local.clone(memory_format=torch.contiguous_format) if route.gathered else local
    return from_local(local, Layout(mesh, route.target), view.root.shape)


def from_local(local: torch.Tensor, layout: Layout, shape: Shape) -> DTensor:
    """A DTensor of this rank's part."""
    return DTensor.from_local(
        local.contiguous(),
        layout.mesh,
        layout.placements,
        run_check=False,
        shape=torch.Size(shape),
        stride=torch.empty(shape, device="meta").stride(),
    )


def on_mesh(tensor: torch.Tensor, mesh: DeviceMesh) -> DTensor:
    """The tensor on a mesh; one that is no DTensor is whole on every rank."""
    if isinstance(tensor, DTensor):
        return tensor
    return from_local(tensor, Layout(mesh, (Replicate(),) * mesh.ndim), tuple(tensor.shape))


def laid_out(tensor: torch.Tensor, layout: Layout) -> DTensor:
    """The tensor as the layout has it."""
    return _redistribute(on_mesh(tensor, layout.mesh), layout.placements)


def _redistribute(tensor: DTensor, placements: Placements) -> DTensor:
    if tuple(tensor.placements) == placements:
        return tensor
    if tensor.to_local().is_meta:
        coordinate = tensor.device_mesh.get_coordinate() or [0] * tensor.device_mesh.ndim
        layout = Layout(tensor.device_mesh, placements)
        shape = local_shape(tuple(tensor.shape), layout.mesh, placements, coordinate)
        local = torch.empty(shape, dtype=tensor.dtype, device="meta")
        return from_local(local, layout, tuple(tensor.shape))
    return tensor.redistribute(placements=placements)


@functools.lru_cache(maxsize=4096)
def _route(
    node: Node, mesh: DeviceMesh, shapes: tuple[Shape, ...], stay: tuple[Placements, ...]
) -> Route:
    """Without moving anything if it can be, else with all to all, else from whole sources."""
    for placements in _moves(stay, min(map(len, shapes))):
        for target in _along_other_dims(_first_sharded(placements), len(node.shape)):
            if _is_local(node, mesh, shapes, Route(placements, target)):
                return Route(placements, target)
    whole = (Replicate(),) * mesh.ndim
    cut = tuple(
        Replicate() if placement.is_replicate() or not node.shape else Shard(0)
        for placement in _first_sharded(stay)
    )
    return Route((whole,) * len(shapes), cut, gathered=True)


def _first_sharded(placements: Sequence[Placements]) -> Placements:
    return next((all_ for all_ in placements if _shard_dims(all_)), placements[0])


def _moves(stay: tuple[Placements, ...], dims: int) -> Iterator[tuple[Placements, ...]]:
    yield stay
    for moved in _along_other_dims(_first_sharded(stay), dims):
        plain = tuple(
            placement if (dim := _dim(placement)) is None else Shard(dim) for placement in moved
        )
        yield (plain,) * len(stay)


def _along_other_dims(placements: Placements, dims: int) -> Iterator[Placements]:
    """The placements themselves, and then the same cuts along other dimensions."""
    cut = _shard_dims(placements)
    for others in itertools.permutations(range(dims), len(cut)):
        to = dict(zip(cut, others, strict=True))
        yield tuple(_along(placement, to) for placement in placements)


def _along(placement: Placement, to: Mapping[int, int]) -> Placement:
    dim = _dim(placement)
    if dim is None or dim == to[dim]:
        return placement
    factor = getattr(placement, "split_factor", None)
    kind: Any = type(placement)
    return Shard(to[dim]) if factor is None else kind(to[dim], split_factor=factor)


def _dim(placement: Placement) -> int | None:
    return getattr(placement, "dim", None)


def _shard_dims(placements: Placements) -> list[int]:
    return list(dict.fromkeys(dim for p in placements if (dim := _dim(p)) is not None))


def _is_local(node: Node, mesh: DeviceMesh, shapes: tuple[Shape, ...], route: Route) -> bool:
    """Whether every rank has all that its part of the target is made of."""
    everywhere = (route.target, *route.sources)
    axes = [
        range(mesh.size(axis))
        if any(_dim(placements[axis]) is not None for placements in everywhere)
        else range(1)
        for axis in range(mesh.ndim)
    ]
    return all(
        _has_origins(node, mesh, shapes, route, coordinate)
        for coordinate in itertools.product(*axes)
    )


def _has_origins(
    node: Node,
    mesh: DeviceMesh,
    shapes: tuple[Shape, ...],
    route: Route,
    coordinate: Sequence[int],
) -> bool:
    has = [
        pieces_at(shape, mesh, placements, coordinate)
        for shape, placements in zip(shapes, route.sources, strict=True)
    ]
    return all(
        _holder(has[source], start, extent) is not None
        for piece in pieces_at(node.shape, mesh, route.target, coordinate)
        for source, start, extent in origins(node, piece.start, piece.extent)
    )


def _holder(pieces: Sequence[Piece], start: Shape, extent: Shape) -> Piece | None:
    """The piece that a box lies in."""
    for piece in pieces:
        if all(
            low <= at and at + size <= low + length
            for low, length, at, size in zip(piece.start, piece.extent, start, extent, strict=True)
        ):
            return piece
    return None


def _local(node: Node, sources: Sequence[DTensor], target: Placements) -> torch.Tensor:
    """This rank's part of the target."""
    mesh = sources[0].device_mesh
    coordinate = mesh.get_coordinate()
    locals_ = [source.to_local() for source in sources]
    device = locals_[0].device
    if coordinate is None:
        return torch.empty((0,) * len(node.shape), dtype=node.dtype, device=device)
    has = [
        pieces_at(tuple(source.shape), mesh, source.placements, coordinate) for source in sources
    ]

    def leaf(at: Node, start: Shape, extent: Shape) -> torch.Tensor:
        if at.op == "fill":
            return torch.full(extent, at.value, dtype=at.dtype, device=device)
        piece = _holder(has[at.source], start, extent)
        assert piece is not None
        return narrow(locals_[at.source], _within(piece, start), extent)

    pieces = pieces_at(node.shape, mesh, target, coordinate)
    shape = local_shape(node.shape, mesh, target, coordinate)
    if len(pieces) == 1:
        return evaluate(node, pieces[0].start, pieces[0].extent, leaf)
    local = torch.empty(shape, dtype=node.dtype, device=device)
    for piece in pieces:
        box = evaluate(node, piece.start, piece.extent, leaf)
        part_of(local, piece).copy_(box)
    return local


def _within(piece: Piece, start: Shape) -> Shape:
    """Where in the local tensor something of a piece is."""
    return tuple(
        local + at - low for local, at, low in zip(piece.local, start, piece.start, strict=True)
    )
