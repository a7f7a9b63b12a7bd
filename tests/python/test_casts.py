"""--dtype and --dtype-for give what PyTorch's `.to()` gives."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, reference
from safetensors.torch import load_file

DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32")}
SOURCES = {**DTYPES, "float64": torch.float64}


def sample(dtype: torch.dtype) -> torch.Tensor:
    """Every 16-bit pattern; of wider types those around rounding boundaries, and random ones."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    generator = torch.Generator().manual_seed(11)
    high = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    low = torch.tensor(
        [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=torch.int32
    )
    patterns = (high[:, None] | low[None, :]).flatten()
    dice = torch.randint(-(2**31), 2**31, (1 << 18,), generator=generator).to(torch.int32)
    values = torch.cat([patterns, dice]).view(torch.float32)
    if dtype == torch.float32:
        return values
    wide = values.double()
    return torch.cat([wide, wide * (1 + 2**-30), wide * 2.0**-100, wide * 2.0**100])


def same_class(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal bits, except that any NaN may stand for any other."""
    return torch.equal(actual.isnan(), expected.isnan()) and compare.tensor_bytes(
        actual.nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf)
    ) == compare.tensor_bytes(expected.nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf))


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("casts") / "checkpoint"
    state = {f"model.model.{name}": sample(dtype) for name, dtype in SOURCES.items()}
    state["model.model.integer"] = torch.arange(300)
    state["model.model.fp8"] = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    state["model.model.flag"] = torch.tensor([True, False])
    checkpoints.save_single(state, directory)
    return directory


def read(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize("target", DTYPES)
def test_every_pair_of_floating_types(target: str, values: Path, out: Path) -> None:
    cli.convert(values, out, "--dtype", target)
    actual = read(out)
    for source, dtype in SOURCES.items():
        # From float64, PyTorch's narrowing goes through float32.
        tensor = sample(dtype)
        expected = (tensor.float() if dtype == torch.float64 else tensor).to(DTYPES[target])
        assert actual[f"model.{source}"].dtype == DTYPES[target]
        assert same_class(actual[f"model.{source}"], expected), (source, target)
        assert same_class(tensor.to(DTYPES[target]), expected), "not what PyTorch does"


@pytest.mark.parametrize("target", DTYPES)
def test_other_types_are_kept(target: str, values: Path, out: Path) -> None:
    cli.convert(values, out, "--dtype", target)
    actual = read(out)
    expected = reference.weights(reference.load(values))
    for name in ("model.integer", "model.fp8", "model.flag"):
        assert compare.stored(actual[name]) == compare.stored(expected[name])


def test_keep_is_the_default(values: Path, tmp_path: Path) -> None:
    cli.convert(values, tmp_path / "a")
    cli.convert(values, tmp_path / "b", "--dtype", "keep")
    expected = reference.weights(reference.load(values))
    compare.assert_reads_as(tmp_path / "a", expected)
    compare.assert_reads_as(tmp_path / "b", expected)


def test_dtype_for_some_names(trained: Path, out: Path) -> None:
    options = (
        "--dtype",
        "bfloat16",
        "--dtype-for",
        ".*norm.*=float32",
        "--dtype-for",
        ".*lm_head.*=float16",
    )
    cli.convert(trained / "llama_fsdp2", out, *options)
    expected = {}
    for name, tensor in reference.weights(checkpoints.expected(trained / "llama_fsdp2")).items():
        dtype = torch.float32 if "norm" in name else torch.bfloat16
        expected[name] = tensor.to(torch.float16 if "lm_head" in name else dtype)
    compare.assert_reads_as(out, expected)


@pytest.mark.parametrize("name", ["layouts", "tied_tp_fsdp"])
@pytest.mark.parametrize("target", DTYPES)
def test_casts_of_sharded_tensors(name: str, target: str, trained: Path, out: Path) -> None:
    """Chunks of every form, so that no run of elements is cast past its end."""
    cli.convert(trained / name, out, "--dtype", target)
    weights = reference.weights(checkpoints.expected(trained / name))
    compare.assert_reads_as(out, {n: reference.cast(t, DTYPES[target]) for n, t in weights.items()})


def test_values_that_become_infinite_are_reported(tmp_path: Path, out: Path) -> None:
    tensor = torch.tensor([1.0, 70000.0, -1e30, torch.inf])
    checkpoints.save_single({"model.model.w": tensor}, tmp_path / "checkpoint")
    done = cli.convert(tmp_path / "checkpoint", out, "--dtype", "float16")
    report = (done.stdout + done.stderr).lower()
    assert "inf" in report
    assert any(word in report for word in ("2 ", "two")), report


def test_lengths_around_a_vector(tmp_path: Path, out: Path) -> None:
    state = {}
    for length, (name, dtype) in itertools.product(range(70), SOURCES.items()):
        state[f"model.model.{name}.{length}"] = torch.linspace(-3, 3, length).to(dtype)
    checkpoints.save_single(state, tmp_path / "checkpoint")
    cli.convert(tmp_path / "checkpoint", out, "--dtype", "bfloat16")
    weights = reference.weights(state)
    compare.assert_reads_as(out, {n: reference.cast(t, torch.bfloat16) for n, t in weights.items()})
