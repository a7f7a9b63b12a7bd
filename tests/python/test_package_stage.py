"""Tensors that files cannot be read into or written from directly pass through a stage.

Here such tensors lie on the CPU and are said not to: bench/accelerator.py has them on a GPU.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import reshard.torch
import torch
from harness import compare
from reshard.torch import _catalog, _memory, _save, _stage
from safetensors.torch import load_file, save_file
from torch import nn

STAGE = 4096


@pytest.fixture(autouse=True)
def staged(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (_memory, _save):
        monkeypatch.setattr(module, "on_host", lambda tensor: False)
    for module in (_memory, _stage):
        monkeypatch.setattr(module, "STAGE_BYTES", STAGE)
    monkeypatch.setattr(_catalog, "BOX_BYTES", STAGE)


def tensors() -> dict[str, torch.Tensor]:
    """Of many types, with odd strides; some fill a stage together, some have rows beyond it."""
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(24, 36, generator=generator)
    state = {
        "conjugate": torch.complex(base, -base).conj(),
        "expanded": base[:, :1].expand(24, 5),
        "inner": base[3:9, 5:11],
        "scalar": torch.tensor(2.5),
        "stepped": base[::3, 1::2],
        "three bytes": torch.arange(3, dtype=torch.uint8),
        "tall": torch.randn(3 * STAGE, 1, generator=generator),
        "wide": torch.randn(2, 3 * STAGE, generator=generator),
        "wide transposed": torch.randn(3 * STAGE, 2, generator=generator).t(),
    }
    for dtype in ("bool", "int64", "bfloat16", "float64", "float8_e4m3fn"):
        state[dtype] = base.to(getattr(torch, dtype)).t()
    return state


def test_what_is_saved(out: Path) -> None:
    reshard.torch.save_checkpoint(tensors(), out)
    compare.assert_reads_as(out, tensors())


def test_a_cast_on_the_way(out: Path) -> None:
    state = {"master": torch.randn(70, 50).t(), "large": torch.full((1000, 3), 1e6)}
    report = reshard.torch.save_checkpoint(state, out, dtype=torch.float16)
    compare.assert_reads_as(out, {name: tensor.half() for name, tensor in state.items()})
    assert report.overflows == {"large": 3000}


class Holder(nn.Module):
    """Parameters in another order of memory, and in another type, than files have them."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Parameter(torch.zeros(2, 3 * STAGE))
        self.turned = nn.Parameter(torch.zeros(3 * STAGE, 7).t())
        self.cast = nn.Parameter(torch.zeros(90, 40, dtype=torch.float16))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))


@pytest.mark.parametrize("read", ["local", "rank0-broadcast"])
def test_what_is_loaded(read: str, tmp_path: Path) -> None:
    stored = {
        "wide": torch.randn(2, 3 * STAGE),
        "turned": torch.randn(7, 3 * STAGE),
        "cast": torch.full((90, 40), 7e4),
        "count": torch.tensor(12),
    }
    stored["cast"][:, 0] = 1.1
    save_file(stored, tmp_path / "model.safetensors")
    model, calls = Holder(), []
    report = reshard.torch.load_checkpoint(
        model, tmp_path, read=read, progress=lambda *call: calls.append(call)
    )
    expected = load_file(tmp_path / "model.safetensors")
    expected["cast"] = expected["cast"].half()
    compare.assert_same_tensors(model.state_dict(), expected)
    assert report.overflows == {"cast": 90 * 39}
    assert calls == sorted(calls)
    assert calls[-1][0] == calls[-1][1]
    assert len(calls) > 3 or read == "rank0-broadcast"


def test_memory_that_cannot_be_locked_is_other_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.empty

    def refuse(*shape: int, pin_memory: bool = False, **options: object) -> torch.Tensor:
        if pin_memory:
            raise RuntimeError("cannot lock")
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", refuse)
    assert _stage._host_memory(8, torch.device("cuda")).shape == (8,)
