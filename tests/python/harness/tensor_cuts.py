"""Ways to cut a whole tensor among tensor parallel ranks: one shard per rank, in order."""

from __future__ import annotations

from collections.abc import Callable

import torch

Cut = Callable[[torch.Tensor, int], list[torch.Tensor]]


def whole(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    return [tensor] * ranks


def rows(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    assert tensor.shape[0] % ranks == 0
    return list(tensor.split(tensor.shape[0] // ranks))


def uneven_rows(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """As even as can be; the first ranks have one more."""
    return list(tensor.split(shares(tensor.shape[0], ranks)))


def rows_of(units: int) -> Cut:
    """Rows that belong together in `units` equal blocks: no block may be cut."""

    def cut(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
        assert units % ranks == 0
        return rows(tensor, ranks)

    return cut


def columns(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """The bias of such a module is added after the sum over ranks, so each holds the whole."""
    if tensor.dim() == 1:
        return whole(tensor, ranks)
    assert tensor.shape[1] % ranks == 0
    return list(tensor.split(tensor.shape[1] // ranks, dim=1))


def halves(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    """Each rank has its rows of the gate, then its rows of the up projection."""
    gate, up = tensor.chunk(2)
    return [torch.cat(pair) for pair in zip(rows(gate, ranks), rows(up, ranks), strict=True)]


def shares(count: int, ranks: int) -> list[int]:
    """As even as can be; the first ranks have one more."""
    return [count // ranks + (rank < count % ranks) for rank in range(ranks)]


def head_rows(heads: int) -> Cut:
    """[Q;K;V]: each rank has the rows of its heads of each, as [q;k;v]."""

    def cut(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
        size = tensor.shape[0] // (3 * heads)
        sizes = [share * size for share in shares(heads, ranks)]
        parts = [part.split(sizes) for part in tensor.chunk(3)]
        return [torch.cat(three) for three in zip(*parts, strict=True)]

    return cut


def head_columns(heads: int) -> Cut:
    """The columns of the heads whose rows `head_rows` gives."""

    def cut(tensor: torch.Tensor, ranks: int) -> list[torch.Tensor]:
        if tensor.dim() == 1:
            return whole(tensor, ranks)
        size = tensor.shape[1] // heads
        return list(tensor.split([share * size for share in shares(heads, ranks)], dim=1))

    return cut
