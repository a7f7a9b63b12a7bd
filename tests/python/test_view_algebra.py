"""Views are what NumPy says: random compositions of all nodes, whole and in boxes.

RESHARD_BIN_DIR names the directory of view_tool, a program of developer builds. RESHARD_CASES sets
how many compositions there are, RESHARD_SEED which.
"""

import math
import os
import pathlib
import random
import struct
import subprocess

import ml_dtypes
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("RESHARD_BIN_DIR", ROOT / "build/dev/bin")) / "view_tool"
CASES = int(os.environ.get("RESHARD_CASES", "10000"))
SEED = int(os.environ.get("RESHARD_SEED", "1"))
DEPTH = 8
VALUES = 2048
FLOATS = ["float16", "float32", "float64"]
TYPES = [*FLOATS, "int8", "uint8", "int16", "int32", "int64"]
QUANTIZED = ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"]
SCALES = ["float32", "float16", "bfloat16", "float8_e8m0fnu"]

pytestmark = pytest.mark.skipif(
    not TOOL.is_file() and "RESHARD_BIN_DIR" not in os.environ,
    reason=f"{TOOL} does not exist: build the preset dev, or set RESHARD_BIN_DIR",
)


class Composition:
    """A random view: `tokens` for the tool, `array` by NumPy."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tokens: list[str] = []
        self.next_value = 0
        self.nodes = 0
        shape = [rng.randint(1, 6) for _ in range(rng.choice([0, 1, 1, 2, 2, 2, 3, 3, 4]))]
        if shape and rng.random() < 0.02:
            shape[0] = 0
        self.array = self.node(rng.randint(1, DEPTH), shape, rng.choice(TYPES), may_cast=True)

    def emit(self, op: str, *numbers: object) -> None:
        self.tokens.append(" ".join(map(str, (op, *numbers))))

    def node(self, depth: int, shape: list[int], dtype: str, may_cast: bool) -> np.ndarray:
        self.nodes += 1
        ops = [self.reshape, self.permute]
        if shape:
            ops += [self.slice, self.slice, self.concat]
        if may_cast and dtype in FLOATS:
            ops.append(self.cast)
        if depth == 0 or self.nodes > 40:
            ops = [self.fill] if self.rng.random() < 0.15 else [self.source]
            if dtype == "float32" and self.rng.random() < 0.5:
                ops = [self.dequantize]
        return self.rng.choice(ops)(depth - 1, shape, dtype, may_cast)

    def source(self, _depth: int, shape: list[int], dtype: str, _may_cast: bool) -> np.ndarray:
        chunks, dim, at = self.rng.choice([0, 0, 1]), 0, 0
        if any(extent > 1 for extent in shape) and self.rng.random() < 0.4:
            dim = self.rng.choice([d for d, extent in enumerate(shape) if extent > 1])
            chunks, at = 2, self.rng.randint(1, shape[dim] - 1)
        if 0 in shape:
            chunks = 0
        self.emit("S", dtype, chunks, dim, at, len(shape), *shape)
        numel = math.prod(shape)
        values = np.arange(self.next_value, self.next_value + numel) % VALUES
        self.next_value += numel
        if dtype.startswith("float8"):  # counted as bytes
            return values.astype("uint8").view(getattr(ml_dtypes, dtype)).reshape(shape)
        named = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
        return values.astype(named).reshape(shape)

    def dequantize(self, _depth: int, shape: list[int], _dtype: str, _cast: bool) -> np.ndarray:
        block = [self.rng.randint(1, max(extent, 1)) for extent in shape]
        values = self.source(0, shape, self.rng.choice(QUANTIZED), False)
        grid = [-(-extent // size) for extent, size in zip(shape, block, strict=True)]
        if math.prod(grid) == 1 and self.rng.random() < 0.5:
            grid = self.rng.choice([[], [1], [1, 1, 1]])
        scales = self.source(0, grid, self.rng.choice(SCALES), False)
        self.emit("D", len(block), *block)
        scales = scales.astype("float32")
        if scales.size == 1:
            scales = scales.reshape([1] * len(shape))
        else:
            for dim, size in enumerate(block):
                scales = scales.repeat(size, axis=dim).take(range(shape[dim]), axis=dim)
        return values.astype("float32") * scales

    def fill(self, _depth: int, shape: list[int], dtype: str, _may_cast: bool) -> np.ndarray:
        value = self.rng.choice([0, 1, -3]) if dtype in FLOATS else 0
        self.emit("F", dtype, value, len(shape), *shape)
        return np.full(shape, value, dtype)

    def slice(self, depth: int, shape: list[int], dtype: str, may_cast: bool) -> np.ndarray:
        dim = self.rng.randrange(len(shape))
        start, after = self.rng.randint(0, 3), self.rng.randint(0, 3)
        outer = [*shape]
        outer[dim] += start + after
        of = self.node(depth, outer, dtype, may_cast)
        self.emit("L", dim, start, shape[dim])
        return of.take(range(start, start + shape[dim]), axis=dim)

    def concat(self, depth: int, shape: list[int], dtype: str, may_cast: bool) -> np.ndarray:
        dim = self.rng.randrange(len(shape))
        cuts = sorted(self.rng.randint(0, shape[dim]) for _ in range(self.rng.randint(0, 2)))
        parts = []
        for begin, end in zip([0, *cuts], [*cuts, shape[dim]], strict=True):
            part = [*shape]
            part[dim] = end - begin
            parts.append(self.node(depth, part, dtype, may_cast))
        self.emit("C", dim, len(parts))
        return np.concatenate(parts, axis=dim)

    def reshape(self, depth: int, shape: list[int], dtype: str, may_cast: bool) -> np.ndarray:
        of = self.node(depth, self.another_shape(shape), dtype, may_cast)
        self.emit("R", len(shape), *shape)
        return of.reshape(shape)

    def another_shape(self, shape: list[int]) -> list[int]:
        left = math.prod(shape)
        if left == 0:
            return [*self.rng.sample(shape, len(shape)), self.rng.randint(1, 3)]
        other = []
        for _ in range(self.rng.randint(0, 3)):
            other.append(self.rng.choice([d for d in range(1, left + 1) if left % d == 0]))
            left //= other[-1]
        other.append(left)
        return other

    def permute(self, depth: int, shape: list[int], dtype: str, may_cast: bool) -> np.ndarray:
        dims = self.rng.sample(range(len(shape)), len(shape))
        inner = [0] * len(shape)
        for i, dim in enumerate(dims):
            inner[dim] = shape[i]
        of = self.node(depth, inner, dtype, may_cast)
        self.emit("P", len(dims), *dims)
        return of.transpose(dims)

    def cast(self, depth: int, shape: list[int], dtype: str, _may_cast: bool) -> np.ndarray:
        of = self.node(depth, shape, self.rng.choice(FLOATS), may_cast=False)
        self.emit("K", dtype)
        return of.astype(dtype)

    def finish(self) -> np.ndarray:
        """Chooses windows and a box; gives the box."""
        size = max(self.array.nbytes, 1)
        step = self.rng.choice([size, self.rng.randint(1, size), self.array.itemsize])
        start, extent = [], []
        for length in self.array.shape:
            start.append(self.rng.randint(0, length))
            extent.append(self.rng.randint(0, length - start[-1]))
        rank = len(start)
        self.emit("W", max(step, size // 200 + 1), rank, *start, rank, *extent)
        return self.array[tuple(slice(s, s + e) for s, e in zip(start, extent, strict=True))]


def bits(array: np.ndarray) -> bytes:
    """Its bytes; of NaN none but that it is one."""
    array = np.ascontiguousarray(array)
    return (
        np.where(array != array, array.dtype.type(np.nan), array).tobytes()
        if (array.dtype.kind == "f")
        else array.tobytes()
    )


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_random_compositions() -> None:
    rng = random.Random(SEED)
    lines, wanted = [], []
    for _ in range(CASES):
        composition = Composition(rng)
        box = composition.finish()
        lines.append(" ".join(composition.tokens))
        wanted += [composition.array, box]
    run = subprocess.run(
        [TOOL], input="\n".join(lines).encode() + b"\n", capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    at = 0
    for i, want in enumerate(wanted):
        (length,) = struct.unpack_from("<Q", run.stdout, at)
        got = np.frombuffer(run.stdout[at + 8 : at + 8 + length], want.dtype)
        at += 8 + length
        assert bits(got) == bits(want), f"{'box of ' if i % 2 else ''}{lines[i // 2]}"
    assert at == len(run.stdout)
    assert len(set(lines)) > CASES * 0.9
