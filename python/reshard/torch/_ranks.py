"""What processes tell each other: who is there, and whether all are well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch.distributed as dist

from reshard import _errors

Group = Any  # a process group; None is all processes
T = TypeVar("T")


def rank(group: Group = None) -> int:
    return dist.get_rank(group) if dist.is_available() and dist.is_initialized() else 0


def world(group: Group = None) -> int:
    return dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1


def first(group: Group = None) -> int:
    """The number of the group's first rank among all processes."""
    return 0 if group is None else dist.get_global_rank(group, 0)


@contextmanager
def on_cpu() -> Iterator[Group]:
    """A group of all processes whose messages need no accelerator."""
    if world() == 1 or "cpu:" in dist.get_backend_config():
        yield None
        return
    group = dist.new_group(backend="gloo")
    try:
        yield group
    finally:
        dist.destroy_process_group(group)


def gather(value: Any, group: Group = None) -> list[Any]:
    """Every rank's value, by rank."""
    count = world(group)
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value, group=group)
    return values


def from_first(value: T, group: Group = None) -> T:
    """The first rank's value."""
    values: list[T] = gather(value if rank(group) == 0 else None, group)
    return values[0]


def all_well(mine: T | Exception, group: Group = None) -> list[T]:
    """Every rank's answer, by rank. If one has an error instead, all raise: their own, or its."""
    if world(group) == 1:
        if isinstance(mine, Exception):
            raise mine
        return [mine]
    answers = gather(_portable(mine) if isinstance(mine, Exception) else mine, group)
    if isinstance(mine, Exception):
        raise mine
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@contextmanager
def agreeing(group: Group = None) -> Iterator[None]:
    """Work of each rank by itself: where one fails all raise, their own error or another rank's."""
    error: Exception | None = None
    try:
        yield
    except Exception as caught:
        error = caught
    all_well(error, group)


@contextmanager
def together(group: Group = None) -> Iterator[None]:
    """As `agreeing`, and the text names the rank."""
    with agreeing(group):
        try:
            yield
        except Exception as caught:
            if world(group) == 1:
                raise
            error = _portable(caught)
            error.args = (f"{error}\n  {'on rank':<9} {rank(group)}",)
            raise error from caught


def _portable(error: Exception) -> _errors.Error:
    if isinstance(error, _errors.Error):
        return error
    cls = _errors.DestinationError if isinstance(error, OSError) else _errors.InternalError
    return cls(f"{type(error).__name__}: {error}")
