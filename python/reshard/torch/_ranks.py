"""What processes tell each other: who is there, and whether all are well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from reshard import _errors

Group = Any  # a process group; None is all processes


def rank(group: Group = None) -> int:
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def world(group: Group = None) -> int:
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def first(group: Group = None) -> int:
    """The number of the group's first rank among all processes."""
    return 0 if group is None else dist.get_global_rank(group, 0)


def gather(value: Any, group: Group = None) -> list[Any]:
    """Every rank's value, by rank."""
    count = world(group)
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value, group=group)
    return values


def from_first(value: Any, group: Group = None) -> Any:
    """The first rank's value."""
    if world(group) == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=first(group), group=group)
    return box[0]


@contextmanager
def together(group: Group = None) -> Iterator[None]:
    """Work that each rank does by itself: if one fails, all raise, so that none waits for it."""
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    agree(error, group)


def agree(error: Exception | None, group: Group = None) -> None:
    """Raises this rank's error, or else the first one that another rank has."""
    if world(group) == 1:
        if error is not None:
            raise error
        return
    # What another rank cannot unpickle must not keep it waiting.
    errors = gather(None if error is None else _portable(error), group)
    if error is not None:
        raise error
    for number, other in enumerate(errors):
        if other is not None:
            other.add_note(f"on rank {number}") if hasattr(other, "add_note") else None
            raise other


def _portable(error: Exception) -> _errors.Error:
    if isinstance(error, _errors.Error):
        return error
    return _errors.InternalError(f"{type(error).__name__}: {error}")
