"""How a tensor is made of others, as the library says it: box by box, with PyTorch's operations.

A tensor is a tree of `source`, `fill`, `slice`, `concat`, `reshape`, `permute` and `cast`. A box
of it is made of boxes of its inputs, down to the sources. So one walk tells which elements a rank
needs, and the same walk computes them: as views of the sources, wherever PyTorch can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ._shards import Shape, narrow, torch_dtype

# Makes a box (start, extent) of a source or a fill.
Leaf = Callable[["Node", Shape, Shape], torch.Tensor]


@dataclass(frozen=True)
class Node:
    """A tensor of the tree. Sources go by number: trees of layers that are alike are equal."""

    op: str
    dtype: torch.dtype
    shape: Shape
    source: int = 0
    dim: int = 0
    start: int = 0
    value: float = 0.0
    dims: tuple[int, ...] = ()
    inputs: tuple[Node, ...] = ()


@dataclass(frozen=True)
class View:
    """A tree, and the names of its sources by number."""

    root: Node
    sources: list[str] = field(compare=False)

    @staticmethod
    def parse(expression: dict[str, Any]) -> View:
        """Of what `_core.Checkpoint.expression` gives."""
        numbers: dict[str, int] = {}

        def node(tree: dict[str, Any]) -> Node:
            op = tree["op"]
            return Node(
                op=op,
                dtype=torch_dtype(tree["dtype"]),
                shape=tuple(tree["shape"]),
                source=numbers.setdefault(tree["source"], len(numbers)) if op == "source" else 0,
                dim=tree["dim"],
                start=tree["start"],
                value=tree["value"],
                dims=tuple(tree["dims"]),
                inputs=tuple(map(node, tree["inputs"])),
            )

        return View(node(expression), list(numbers))


def origins(node: Node, start: Shape, extent: Shape) -> Iterator[tuple[int, Shape, Shape]]:
    """Boxes of sources that have all that a box is made of."""
    if node.op == "source":
        yield node.source, start, extent
    for part in _parts(node, start, extent):
        yield from origins(*part)


def evaluate(node: Node, start: Shape, extent: Shape, leaf: Leaf) -> torch.Tensor:
    """A box of a tensor."""
    if not node.inputs:
        return leaf(node, start, extent)
    inputs = [evaluate(*part, leaf) for part in _parts(node, start, extent)]
    match node.op:
        case "concat" if len(inputs) > 1:
            return torch.cat(inputs, node.dim)
        case "reshape":
            around, _ = reshaped_boxes(node.shape, node.inputs[0].shape, start, extent)
            inside = tuple(at - low for at, low in zip(start, around[0], strict=True))
            return narrow(inputs[0].reshape(around[1]), inside, extent)
        case "permute":
            return inputs[0].permute(node.dims)
        case "cast":
            return inputs[0].to(node.dtype)
        case _:
            return inputs[0]


def _parts(node: Node, start: Shape, extent: Shape) -> list[tuple[Node, Shape, Shape]]:
    """Boxes of its inputs that have all that a box of a node is made of."""
    match node.op:
        case "slice":
            return [(node.inputs[0], _moved(start, node.dim, node.start), extent)]
        case "concat":
            return _concat_parts(node, start, extent)
        case "permute":
            return [(node.inputs[0], _unpermuted(start, node.dims), _unpermuted(extent, node.dims))]
        case "reshape":
            _, around = reshaped_boxes(node.shape, node.inputs[0].shape, start, extent)
            return [(node.inputs[0], *around)]
        case "cast":
            return [(node.inputs[0], start, extent)]
        case "source" | "fill":
            return []
    raise NotImplementedError(node.op)


def _moved(start: Shape, dim: int, by: int) -> Shape:
    return (*start[:dim], start[dim] + by, *start[dim + 1 :])


def _unpermuted(values: Shape, dims: Sequence[int]) -> Shape:
    return tuple(value for _, value in sorted(zip(dims, values, strict=True)))


def _concat_parts(node: Node, start: Shape, extent: Shape) -> list[tuple[Node, Shape, Shape]]:
    dim, first, last = node.dim, start[node.dim], start[node.dim] + extent[node.dim]
    parts, begin = [], 0
    for piece in node.inputs:
        end = begin + piece.shape[dim]
        low, high = max(first, begin), min(last, end)
        if low < high:
            at = (*start[:dim], low - begin, *start[dim + 1 :])
            parts.append((piece, at, (*extent[:dim], high - low, *extent[dim + 1 :])))
        begin = end
    return parts


def reshaped_boxes(
    shape: Shape, other: Shape, start: Shape, extent: Shape
) -> tuple[tuple[Shape, Shape], tuple[Shape, Shape]]:
    """The smallest box around one of `shape` that is a box of `other` too; as it is in both."""
    boxes: list[tuple[list[int], list[int]]] = [([], []), ([], [])]
    for here, there in _groups(shape, other):
        first, last = _ends(shape[here], start[here], extent[here])
        while True:
            near = _cover(shape[here], first, last)
            far = _cover(other[there], *_ends(shape[here], *near))
            if _ends(other[there], *far) == (first, last):
                break
            first, last = _ends(other[there], *far)
        for (starts, extents), (at, size) in zip(boxes, (near, far), strict=True):
            starts += at
            extents += size
    (near_start, near_extent), (far_start, far_extent) = boxes
    return (tuple(near_start), tuple(near_extent)), (tuple(far_start), tuple(far_extent))


def _groups(shape: Shape, other: Shape) -> Iterator[tuple[slice, slice]]:
    """The shortest runs of dimensions that have as many elements in both shapes."""
    i = j = 0
    while i < len(shape) or j < len(other):
        first_i, first_j = i, j
        here = there = 1
        while (i == first_i and j == first_j) or here != there:
            if i < len(shape) and (here <= there or j == len(other)):
                here, i = here * shape[i], i + 1
            else:
                there, j = there * other[j], j + 1
        yield slice(first_i, i), slice(first_j, j)


def _ends(shape: Shape, start: Shape, extent: Shape) -> tuple[int, int]:
    """The numbers of a box's first and last element in row-major order."""
    first = last = 0
    for size, at, length in zip(shape, start, extent, strict=True):
        first, last = first * size + at, last * size + at + length - 1
    return first, last


def _cover(shape: Shape, first: int, last: int) -> tuple[Shape, Shape]:
    """The smallest box with these elements that has no gap in row-major order."""
    start: list[int] = []
    extent: list[int] = []
    rest = math.prod(shape)
    for dim, size in enumerate(shape):
        rest //= size
        low, high = first // rest, last // rest
        start.append(low)
        extent.append(high - low + 1)
        if low != high:
            after = shape[dim + 1 :]
            return (*start, *(0 for _ in after)), (*extent, *after)
        first, last = first - low * rest, last - low * rest
    return tuple(start), tuple(extent)
