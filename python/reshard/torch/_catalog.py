"""Which tensors the ranks have between them, in which boxes, and who writes each box."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.placement_types import Placement

from reshard import _errors

from . import _ranks
from ._memory import cut
from ._shards import Piece, Shape, dtype_name, pieces, pieces_by_rank, torch_dtype, whole

Box = tuple[Shape, Shape]  # start and extent

# Boxes are cut to this: what is copied from an accelerator at once, and what replicas share out.
BOX_BYTES = 64 << 20

# Shorter runs of bytes are not worth a write of their own.
RUN_BYTES = 64 << 10


@dataclass(frozen=True)
class RankMesh:
    """A device mesh as another process can know it: the ranks alone, row by row."""

    sizes: Shape
    ranks: tuple[int, ...]

    def size(self, axis: int) -> int:
        return self.sizes[axis]

    @property
    def mesh(self) -> torch.Tensor:
        return torch.tensor(self.ranks).reshape(self.sizes)


@dataclass(frozen=True)
class Holding:
    """How a tensor lies on the ranks that have it."""

    dtype: str
    shape: Shape
    mesh: RankMesh | None = None  # none: whole on each rank by itself
    placements: tuple[Placement, ...] = ()

    def boxes_by_rank(self, ranks: Sequence[int]) -> dict[int, list[Piece]]:
        if self.mesh is None:
            by_rank = dict.fromkeys(ranks, whole(self.shape))
        else:
            by_rank = pieces_by_rank(self.shape, self.mesh, self.placements)
        size = torch_dtype(self.dtype).itemsize
        return {rank: _boxes(own, size) for rank, own in by_rank.items()}


@dataclass
class SharedTensor:
    """A tensor over all ranks."""

    name: str
    layout: Holding
    holders: dict[Box, list[int]]
    compared: bool  # whether nothing but a comparison tells that the holders of a box have the same
    owners: dict[Box, int] = field(default_factory=dict)

    def bytes_of(self, box: Box) -> int:
        return math.prod(box[1]) * torch_dtype(self.layout.dtype).itemsize


def boxes_of(tensor: torch.Tensor) -> list[Piece]:
    """This rank's boxes of a tensor that lies as its layout says."""
    return _boxes(pieces(tensor), tensor.element_size())


def _boxes(own: Sequence[Piece], item_size: int) -> list[Piece]:
    return [box for piece in own for box in cut(piece, item_size, BOX_BYTES)]


def layout_of(name: str, tensor: torch.Tensor) -> Holding:
    """How a tensor of this rank lies; with the rows exchanged where `exchange_of` says so."""
    if not isinstance(tensor, DTensor):
        _check_memory(name, tensor)
        return Holding(dtype_name(tensor.dtype), tuple(tensor.shape))
    _check_memory(name, tensor.to_local())
    if any(placement.is_partial() for placement in tensor.placements):
        raise _errors.make(
            _errors.UsageError,
            tensor=name,
            found="a DTensor with a partial placement",
            expected="elements that are known",
            help="redistribute it to Replicate() or Shard(dim)",
        )
    ranks = tensor.device_mesh.mesh
    mesh = RankMesh(tuple(ranks.shape), tuple(ranks.flatten().tolist()))
    placements = exchange_of(tensor) or tuple(tensor.placements)
    return Holding(dtype_name(tensor.dtype), tuple(tensor.shape), mesh, placements)


def exchange_of(tensor: DTensor) -> tuple[Placement, ...] | None:
    """The placements, by rows, to write a tensor from whose shards would interleave small runs."""
    if all(getattr(placement, "dim", 0) == 0 for placement in tensor.placements):
        return None
    # All ranks decide by the same shard, the first.
    mesh, shape = tensor.device_mesh, tuple(tensor.shape)
    boxes = pieces_by_rank(shape, mesh, tensor.placements)[int(mesh.mesh.flatten()[0])]
    if all(_run_bytes(box, shape, tensor.dtype.itemsize) >= RUN_BYTES for box in boxes):
        return None
    return tuple(
        placement if placement.is_replicate() else Shard(0) for placement in tensor.placements
    )


def _run_bytes(box: Piece, shape: Shape, item_size: int) -> float:
    """How many bytes of a box lie together in the whole tensor; endless for a box of one run."""
    run = item_size
    for dim in reversed(range(len(shape))):
        run *= box.extent[dim]
        if box.extent[dim] != shape[dim]:
            return math.inf if all(extent == 1 for extent in box.extent[:dim]) else run
    return math.inf


def _check_memory(name: str, tensor: torch.Tensor) -> None:
    plain = type(tensor.detach()) is torch.Tensor and tensor.layout == torch.strided
    if plain and not tensor.is_meta and not tensor.is_quantized:
        return
    raise _errors.make(
        _errors.UsageError,
        tensor=name,
        found="a tensor on the meta device"
        if tensor.is_meta
        else f"a {type(tensor).__name__}, {tensor.layout}",
        expected="a strided tensor, or a DTensor of such, that has its elements in memory",
    )


def gather_layouts(own: Mapping[str, Holding], group: _ranks.Group) -> list[Mapping[str, Holding]]:
    """The layouts of all ranks, by rank; each different one travels once."""
    digests = _ranks.gather(hashlib.sha256(repr(own).encode()).digest(), group)
    first = digests.index(digests[_ranks.rank(group)])
    sent = _ranks.gather(own if first == _ranks.rank(group) else None, group)
    return [sent[digests.index(digest)] for digest in digests]


def assemble(by_rank: Sequence[Mapping[str, Holding]]) -> list[SharedTensor]:
    """The tensors of all ranks, sorted by name, each box with one owner: the same on every rank."""
    names = sorted({name for layouts in by_rank for name in layouts})
    tensors = []
    for name in names:
        holding = {rank: own[name] for rank, own in enumerate(by_rank) if name in own}
        tensors.append(_unite(name, holding))
    _assign_owners(tensors, len(by_rank))
    return tensors


def _unite(name: str, layouts: Mapping[int, Holding]) -> SharedTensor:
    first_rank, first = next(iter(layouts.items()))
    # DTensors on one mesh are one tensor; everything else is a copy of its own.
    copies: dict[tuple[Holding, int], list[int]] = {}
    for rank, layout in layouts.items():
        if (layout.dtype, layout.shape) != (first.dtype, first.shape):
            raise _errors.make(
                _errors.MappingError,
                tensor=name,
                found=f"rank {rank} has it as {layout.dtype} {list(layout.shape)}",
                expected=f"{first.dtype} {list(first.shape)}, as rank {first_rank} has it",
                help="parts of a tensor must be DTensors, or have names of their own",
            )
        copies.setdefault((layout, rank if layout.mesh is None else -1), []).append(rank)
    tensor = SharedTensor(name, first, {}, compared=len(copies) > 1)
    for (layout, _), ranks in copies.items():
        holders = _holders(name, layout, ranks)
        if tensor.holders and holders.keys() != tensor.holders.keys():
            raise _errors.make(
                _errors.MappingError,
                tensor=name,
                found=f"rank {ranks[0]} has it cut in another way than rank {first_rank}",
                expected="the same shards in all copies",
                help="redistribute one of them, or leave it out of the state dict",
            )
        for box, own in holders.items():
            tensor.holders.setdefault(box, []).extend(own)
    return tensor


def _holders(name: str, layout: Holding, ranks: Sequence[int]) -> dict[Box, list[int]]:
    holders: dict[Box, list[int]] = {}
    for rank, boxes in layout.boxes_by_rank(ranks).items():
        if rank not in ranks:
            raise _errors.make(
                _errors.MappingError,
                tensor=name,
                found=f"rank {rank} does not have it",
                expected=f"it on all ranks of its mesh, as rank {ranks[0]} says",
            )
        for box in boxes:
            holders.setdefault((box.start, box.extent), []).append(rank)
    return holders


def _assign_owners(tensors: Sequence[SharedTensor], world: int) -> None:
    """Gives each box to one of its holders, the large ones first, to whom has the least so far."""
    load = [0] * world
    shared: list[tuple[int, str, Box, SharedTensor]] = []
    for tensor in tensors:
        for box, holders in tensor.holders.items():
            if len(holders) > 1:
                shared.append((-tensor.bytes_of(box), tensor.name, box, tensor))
                continue
            tensor.owners[box] = holders[0]
            load[holders[0]] += tensor.bytes_of(box)
    for size, _, box, tensor in sorted(shared, key=lambda entry: entry[:3]):
        owner = min(tensor.holders[box], key=lambda rank: (load[rank], rank))
        tensor.owners[box] = owner
        load[owner] -= size
