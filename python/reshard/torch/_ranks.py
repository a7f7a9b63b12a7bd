"""What processes tell each other: who is there, and whether all are well."""

from __future__ import annotations

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


def gather(value: Any, group: Group = None) -> list[Any]:
    """Every rank's value, by rank."""
    count = world(group)
    if count == 1:
        return [value]
    values: list[Any] = [None] * count
    dist.all_gather_object(values, value, group=group)
    return values


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


def agree(error: Exception | None, group: Group = None) -> None:
    """Raises this rank's error, or else the first one that another rank has."""
    all_well(error, group)


def _portable(error: Exception) -> _errors.Error:
    if isinstance(error, _errors.Error):
        return error
    return _errors.InternalError(f"{type(error).__name__}: {error}")
