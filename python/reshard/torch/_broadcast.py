"""One rank reads all, once, and sends it to the others in buffers of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from reshard import _core
from reshard._progress import ProgressFn

from . import _ranks
from ._memory import Filled, Read, box_of, cut
from ._shards import Piece, local_tensor, part_of, pieces, torch_dtype, whole

# Of each of the two buffers: one is filled while the other one is sent.
BUFFER_BYTES = 16 << 20
_ALIGNMENT = 16
_FAILED = 1


@dataclass(frozen=True)
class Segment:
    """Rows of a tensor, and where they stand in a buffer."""

    number: int
    dtype: str
    piece: Piece
    offset: int
    size: int


def read_and_broadcast(
    core: _core.Checkpoint | None,
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    types: Mapping[int, str],
    reads: Sequence[Read],
    group: Any,
    jobs: int,
    on_progress: ProgressFn | None,
) -> Filled:
    """Fills the tensors on all ranks; the first one has `core`.

    `types` says in which type each of the tensors that some rank wants is sent.
    """
    by_number = {read.number: read for read in reads}
    buffers = list(
        _buffers([(number, types[number], tensors[number][2]) for number in sorted(types)])
    )
    total = sum(segment.size for segments in buffers for segment in segments)
    device = _device(group)
    memory = [torch.zeros(BUFFER_BYTES + _ALIGNMENT, dtype=torch.uint8) for _ in range(2)]
    filled = Filled()
    error: Exception | None = None
    pending: tuple[Any, torch.Tensor, list[Segment]] | None = None
    done = 0
    for turn, segments in enumerate([*buffers, None]):
        sent = None
        if segments is not None:
            host = _sized(memory, turn % 2, segments)
            if core is not None:
                try:
                    _read(core, host, segments, jobs, filled)
                except Exception as caught:
                    error = caught
                    host[-1] = _FAILED
            sent = _send(host, device, group, segments)
        if pending is not None:
            work, buffer, arrived = pending
            if work is not None:
                work.wait()
            if int(buffer[-1]) == _FAILED:
                pending = None
                break
            for segment in arrived:
                filled.bytes_filled += _place(buffer, segment, by_number)
                done += segment.size
            if on_progress:
                on_progress(done, total)
        pending = sent
    if pending is not None and pending[0] is not None:
        pending[0].wait()
    if error is not None:
        raise error
    return filled


def _device(group: Any) -> torch.device:
    if _ranks.world(group) == 1:
        return torch.device("cpu")
    backend = str(dist.get_backend(group))
    return torch.device("cuda" if backend == "nccl" else "cpu")


def _buffers(tensors: Sequence[tuple[int, str, tuple[int, ...]]]) -> Iterator[list[Segment]]:
    """All elements of the tensors, in buffers of about BUFFER_BYTES."""
    segments: list[Segment] = []
    used = 0
    for number, dtype, shape in tensors:
        item = torch_dtype(dtype).itemsize
        for piece in (part for box in whole(shape) for part in cut(box, item, BUFFER_BYTES)):
            size = item * piece.numel
            if segments and used + size > BUFFER_BYTES:
                yield segments
                segments, used = [], 0
            segments.append(Segment(number, dtype, piece, used, size))
            used = -(-(used + size) // _ALIGNMENT) * _ALIGNMENT
    if segments:
        yield segments


def _sized(memory: list[torch.Tensor], which: int, segments: Sequence[Segment]) -> torch.Tensor:
    """A buffer with a byte for the state behind the segments."""
    needed = segments[-1].offset + segments[-1].size + 1
    if memory[which].numel() < needed:  # one row that is longer than a buffer
        memory[which] = torch.zeros(needed, dtype=torch.uint8)
    buffer = memory[which][:needed]
    buffer[-1] = 0
    return buffer


def _view(buffer: torch.Tensor, segment: Segment) -> torch.Tensor:
    flat = buffer[segment.offset : segment.offset + segment.size]
    return flat.view(torch_dtype(segment.dtype)).view(segment.piece.extent)


def _read(
    core: _core.Checkpoint,
    host: torch.Tensor,
    segments: Sequence[Segment],
    jobs: int,
    filled: Filled,
) -> None:
    boxes = [
        box_of(segment.number, _view(host, segment), segment.piece.alone()) for segment in segments
    ]
    # All checks are made with the first buffer.
    first = segments[0].offset == filled.bytes_read == 0
    report = core.read(boxes, jobs, 0, 1 if first else 0, None)
    filled.add(report | {"bytes_filled": 0})  # nothing but a buffer yet


def _send(
    host: torch.Tensor, device: torch.device, group: Any, segments: list[Segment]
) -> tuple[Any, torch.Tensor, list[Segment]]:
    if _ranks.world(group) == 1:
        return None, host, segments
    buffer = host if device.type == "cpu" else host.to(device)
    work = dist.broadcast(buffer, src=_ranks.first(group), group=group, async_op=True)
    return work, buffer, segments


def _place(buffer: torch.Tensor, segment: Segment, reads: dict[int, Read]) -> int:
    """Copies what this rank wants of a segment; gives its bytes."""
    read = reads.get(segment.number)
    if read is None:
        return 0
    local = local_tensor(read.tensor)
    arrived = _view(buffer, segment)
    copied = 0
    for piece in pieces(read.tensor):
        both = _overlap(piece, segment.piece)
        if both is None:
            continue
        target, source = both
        target_part = part_of(local, target)
        target_part.copy_(part_of(arrived, source))
        copied += target_part.numel() * local.element_size()
    return copied


def _overlap(piece: Piece, arrived: Piece) -> tuple[Piece, Piece] | None:
    """What two boxes of a tensor share: as places in the local tensor, and in what has arrived."""
    start, extent, local, source = [], [], [], []
    for dim in range(len(piece.start)):
        first = max(piece.start[dim], arrived.start[dim])
        last = min(piece.start[dim] + piece.extent[dim], arrived.start[dim] + arrived.extent[dim])
        if first >= last:
            return None
        start.append(first)
        extent.append(last - first)
        local.append(piece.local[dim] + first - piece.start[dim])
        source.append(first - arrived.start[dim])
    box = tuple(start), tuple(extent)
    return Piece(*box, tuple(local)), Piece(*box, tuple(source))
