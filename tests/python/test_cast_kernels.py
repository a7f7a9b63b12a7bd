"""Casts are PyTorch's, bit for bit (NaN as a class), and so is the count of overflows.

RESHARD_BIN_DIR names the directory of cast_tool, a program of developer builds. RESHARD_SLOW=1 adds
every float32 there is.
"""

import os
import pathlib
import subprocess

import numpy as np
import pytest
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = pathlib.Path(os.environ.get("RESHARD_BIN_DIR", ROOT / "build/dev/bin")) / "cast_tool"
TYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
}
PAIRS = [(a, b) for a in TYPES for b in TYPES if a != b]
PATHS = ["scalar", "avx2"]

pytestmark = pytest.mark.skipif(
    not TOOL.is_file() and "RESHARD_BIN_DIR" not in os.environ,
    reason=f"{TOOL} does not exist: build the preset dev, or set RESHARD_BIN_DIR",
)


def run_tool(source: torch.Tensor, name: str, target: str, path: str) -> tuple[torch.Tensor, int]:
    run = subprocess.run(
        [TOOL, name, target, path], input=to_bytes(source), capture_output=True, check=False
    )
    if run.returncode == 2 and path == "avx2":
        pytest.skip("this machine has no AVX2")
    assert run.returncode == 0, run.stderr
    return torch.frombuffer(bytearray(run.stdout), dtype=TYPES[target]), int(run.stderr)


def to_bytes(tensor: torch.Tensor) -> bytes:
    return tensor.view(torch.uint8).numpy().tobytes()


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def check(source: torch.Tensor, name: str, target: str, path: str) -> None:
    expected = source.to(TYPES[target])
    actual, overflows = run_tool(source, name, target, path)
    assert actual.shape == expected.shape
    same = (bits(actual) == bits(expected)) | (actual.isnan() & expected.isnan())
    wrong = torch.nonzero(~same).flatten()[:5]
    assert same.all(), [(source[i], actual[i], expected[i]) for i in wrong]
    assert overflows == int((expected.isinf() & source.isfinite()).sum())


def from_bits(values: np.ndarray, name: str) -> torch.Tensor:
    return torch.from_numpy(values).view(TYPES[name])


def sample(name: str) -> torch.Tensor:
    if name in ("float16", "bfloat16"):
        return from_bits(np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.int16), name)
    tops = np.arange(1 << 9, dtype=np.uint64)[:, None]  # sign and exponent of a float32
    powers = np.uint64(1) << np.arange(24, dtype=np.uint64)
    near = np.concatenate([powers + np.uint64(d) for d in (0, 1, 2)]) - np.uint64(1)
    near = (near[:, None] + (powers >> np.uint64(1))[None, :]).ravel() & np.uint64(0x7FFFFF)
    dense = (tops << np.uint64(23) | near[None, :]).ravel()
    stride = np.arange(0, 1 << 32, 1021, dtype=np.uint64)
    singles = np.concatenate([dense, stride]).astype(np.uint32).view(np.int32)
    if name == "float32":
        return from_bits(singles, name)
    # float64: every such float32, and its neighbours; then anything.
    doubles = from_bits(singles, "float32").double().view(torch.int64).numpy()
    random = np.random.default_rng(3).integers(-(1 << 63), (1 << 63) - 1, 1 << 20, dtype=np.int64)
    halfway = doubles[::3] + (1 << 28)
    return from_bits(
        np.concatenate([doubles, doubles[::3] + 1, doubles[::3] - 1, halfway, halfway + 1, random]),
        name,
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("name", "target"), PAIRS)
def test_sample(name: str, target: str, path: str) -> None:
    check(sample(name), name, target, path)


@pytest.mark.skipif(os.environ.get("RESHARD_SLOW") != "1", reason="RESHARD_SLOW=1 runs it")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("target", ["bfloat16", "float16"])
def test_every_float32(target: str, path: str) -> None:
    step = 1 << 26
    for start in range(0, 1 << 32, step):
        chunk = np.arange(start, start + step, dtype=np.uint64).astype(np.uint32).view(np.int32)
        check(from_bits(chunk, "float32"), "float32", target, path)
