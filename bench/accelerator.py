#!/usr/bin/env python3
"""Live models on an accelerator: saves and loads them, compares every tensor, and takes times.

Checks, each tensor bit for bit against transformers, safetensors or torch.distributed.checkpoint:
plain and FSDP2 models are saved, as they are and cast; loaded from Hugging Face, DCP and Megatron
files, onto the meta device and over other values; tensors of every type, with odd strides; and two
ranks that share the card. Then a model of bfloat16 is saved and loaded in alternating rounds, by
reshard and by safetensors.

    python bench/accelerator.py [--device cuda] [--only checks|times] [--gigabytes 1] [--rounds 3]

Needs the package in that Python, transformers, and room for three copies of the model.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import reshard
import reshard.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from reshard.torch import _catalog
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "python"))

from harness import compare, tiny_text  # noqa: E402

MODELS = ("llama", "llama-tied", "qwen3-moe")
MIB = 1 << 20
Tensors = dict[str, torch.Tensor]


def read(directory: Path) -> Tensors:
    """By safetensors' own reader."""
    tensors: Tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def on_cpu(model: torch.nn.Module) -> Tensors:
    """The model's state dict, whole."""
    return {
        name: (t.full_tensor() if isinstance(t, DTensor) else t).cpu()
        for name, t in model.state_dict().items()
    }


def shard(model: Any, device: str) -> None:
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


@contextmanager
def group(backend: str, rank: int, world: int, rendezvous: Path) -> Iterator[None]:
    dist.init_process_group(
        backend, init_method=f"file://{rendezvous}", rank=rank, world_size=world
    )
    try:
        yield
    finally:
        dist.destroy_process_group()


# --- checks ------------------------------------------------------------------------------------


def check_saving(name: str, sharded: bool, device: str, root: Path) -> None:
    tiny_text.save(name, root / "hub")
    model = tiny_text.build(name).to(device)
    if sharded:
        shard(model, device)
        dcp.save(model.state_dict(), checkpoint_id=root / "dcp")
    for dtype in (None, torch.bfloat16):
        out = root / f"live-{dtype}"
        reshard.torch.save_checkpoint(model, out, dtype=dtype, shard_size=40_000)
        expected = {
            key: tensor.to(dtype or tensor.dtype) for key, tensor in read(root / "hub").items()
        }
        compare.assert_same_tensors(read(out), expected)
        assert reshard.verify(out)
        if not sharded:
            continue
        files = root / f"converted-{dtype}"
        reshard.convert(root / "dcp", files, recipe="transformers-runtime", shard_size=40_000,
                        dtype=dtype and "bfloat16", assets_from=root / "hub")  # fmt: skip
        for path in compare.weight_files(files):
            assert path.read_bytes() == (out / path.name).read_bytes(), path.name


def check_loading(name: str, sharded: bool, device: str, root: Path) -> None:
    original = tiny_text.build(name)
    tiny_text.save(name, root / "hub")
    dcp.save(original.state_dict(), checkpoint_id=root / "dcp", no_dist=True)
    layout = {"ep": 2} if name in tiny_text.MOE else {"tp": 2, "pp": 2}
    reshard.convert(
        root / "hub", root / "megatron", to="megatron", recipe="megatron-core", **layout
    )
    for kind, read_as, on_meta, dtype in itertools.product(
        ("hub", "dcp", "megatron"),
        ("local", "rank0-broadcast"),
        (True, False),
        (None, torch.bfloat16),
    ):
        with torch.device("meta" if on_meta else device):
            model = AutoModelForCausalLM.from_config(original.config, dtype=dtype or torch.float32)
        if sharded:
            shard(model, device)
        reshard.torch.load_checkpoint(
            model, root / kind, read=read_as, device=device, progress=False,
            from_recipe="megatron-core" if kind == "megatron" else "auto",
        )  # fmt: skip
        assert all(p.device.type == device for p in model.parameters())
        expected = {key: t.to(dtype or t.dtype) for key, t in original.state_dict().items()}
        compare.assert_same_tensors(on_cpu(model), expected)


def check_strides(device: str, root: Path) -> None:
    """Tensors that are no row-major block of memory, and every type that safetensors can hold."""
    base = torch.arange(24 * 36, device=device, dtype=torch.float32).reshape(24, 36) / 7
    big = torch.randn(3000, 9000, device=device)  # more than one box
    state: Tensors = {
        "transposed": base.t(),
        "stepped": base[::3, 1::2],
        "permuted": base.reshape(2, 12, 36).permute(2, 0, 1),
        "expanded": base[:, :1].expand(24, 5),
        "inner": base[3:9, 5:11],
        "conjugate": torch.complex(base, -base).conj(),
        "negative": torch.complex(base, -base).conj().imag,
        "scalar": torch.tensor(2.5, device=device),
        "empty": torch.empty(0, 7, device=device),
        "big": big,
        "big transposed": big.t(),
        "host": torch.arange(10),
    }
    for dtype in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16",
                  "float64", "float8_e4m3fn", "float8_e5m2"):  # fmt: skip
        state[dtype] = base.to(getattr(torch, dtype)).t()
    reshard.torch.save_checkpoint(state, root / "out")
    compare.assert_same_tensors(
        read(root / "out"), {n: t.cpu().contiguous() for n, t in state.items()}
    )
    parameter = torch.nn.Module()
    parameter.weight = torch.nn.Parameter(torch.zeros(36, 24, device=device).t())
    parameter.big = torch.nn.Parameter(torch.zeros(9000, 3000, device=device).t())
    reshard.torch.save_checkpoint({"weight": base, "big": big}, root / "plain")
    reshard.torch.load_checkpoint(parameter, root / "plain", progress=False)
    compare.assert_same_tensors(on_cpu(parameter), {"weight": base.cpu(), "big": big.cpu()})


def two_ranks(rank: int, device: str, root: Path) -> None:
    """Over gloo, as NCCL wants a card for each rank; nothing here gathers whole tensors."""
    with group(f"{device}:gloo", rank, 2, root / "rendezvous"):
        mesh = init_device_mesh(device, (2,))
        whole = torch.arange(35 * 70, dtype=torch.float32).reshape(35, 70)

        def part(dim: int) -> DTensor:
            local = whole.chunk(2, dim)[rank].contiguous().to(device)
            return DTensor.from_local(
                local, mesh, [Shard(dim)], shape=whole.shape, stride=whole.stride()
            )

        plain = whole.to(device)
        same = DTensor.from_local(plain.clone(), mesh, [Replicate()])
        state = {"columns": part(1), "plain": plain, "replicated": same, "rows": part(0)}
        for run_bytes in (_catalog.RUN_BYTES, 0):  # the ranks exchange rows; or write columns
            _catalog.RUN_BYTES = run_bytes
            out = root / f"state-{run_bytes}"
            reshard.torch.save_checkpoint(state, out)
            compare.assert_same_tensors(read(out), dict.fromkeys(state, whole))
        state["plain"][0, 0] += rank
        with pytest.raises(reshard.MappingError, match="ranks 0 and 1 have different values"):
            reshard.torch.save_checkpoint(state, root / "drifted")

        model = tiny_text.build("qwen3-moe").to(device)
        shard(model, device)
        reshard.torch.save_checkpoint(model, root / "live", dtype=torch.bfloat16)
        reshard.torch.load_checkpoint(model, root / "live", progress=False)
        loaded = {name: t.to_local().cpu() for name, t in model.state_dict().items()}
        expected = {
            name: tensor.bfloat16().to(tensor.dtype).chunk(2)[rank]
            for name, tensor in tiny_text.build("qwen3-moe").state_dict().items()
        }
        compare.assert_same_tensors(loaded, expected)


def checks(device: str, root: Path) -> None:
    cases: list[tuple[str, Callable[..., None], tuple[Any, ...]]] = [
        (
            f"{fn.__name__[6:]} {name}, {'FSDP2' if sharded else 'plain'}",
            fn,
            (name, sharded, device),
        )
        for fn in (check_saving, check_loading)
        for name in MODELS
        for sharded in (False, True)
    ]
    cases.append(("strides and types", check_strides, (device,)))
    for number, (what, fn, arguments) in enumerate(cases):
        directory = root / f"case-{number}"
        directory.mkdir()
        fn(*arguments, directory)
        print(f"same: {what}", flush=True)
    (root / "two").mkdir()
    mp.spawn(two_ranks, args=(device, root / "two"), nprocs=2)
    print("same: two ranks on one card", flush=True)


# --- times -------------------------------------------------------------------------------------


def model_of(size: float, device: str) -> LlamaForCausalLM:
    """About so many bytes of bfloat16."""
    config = LlamaConfig(hidden_size=2048, intermediate_size=5632, num_attention_heads=16,
                         num_key_value_heads=8, vocab_size=32_000)  # fmt: skip
    layer = 2048 * (2048 * 3 + 5632 * 3) * 2
    config.num_hidden_layers = max(1, round((size - 2 * 2 * 32_000 * 2048) / layer))
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) * 1024


def timed(work: Callable[[], Any]) -> tuple[float, int]:
    """Seconds, and the host memory that this took at its peak.

    What PyTorch keeps from the round before, as the locked memory of a stage, is not in it.
    """
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
    before = status("VmRSS")
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, status("VmHWM") - before


def report(what: str, runs: list[tuple[float, int]], size: int) -> None:
    seconds = [run[0] for run in runs]
    median = statistics.median(seconds)
    each = " ".join(f"{value:.3f}" for value in seconds)
    memory = max(run[1] for run in runs) / MIB
    print(f"{what:<28} {median:.3f} s ({each})  {size / median / 1e9:.2f} GB/s  +{memory:.0f} MiB")


def times(device: str, root: Path, size: float, rounds: int) -> None:
    model = model_of(size, device)
    shard(model, device)
    state = model.state_dict()
    nbytes = sum(t.numel() * t.element_size() for t in state.values())
    ours, plain = root / "ours", root / "theirs.safetensors"

    def with_reshard() -> None:
        reshard.torch.save_checkpoint(model, ours)

    def local(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def with_safetensors() -> None:
        save_file({name: local(t).cpu() for name, t in model.state_dict().items()}, plain)

    def on_the_disk() -> None:
        with_safetensors()
        with plain.open("rb") as file:
            os.fsync(file)

    def load_with_reshard() -> None:
        reshard.torch.load_checkpoint(model, ours, progress=False)

    def load_with_safetensors() -> None:
        loaded = load_file(plain, device=device)
        for name, tensor in model.state_dict().items():
            local(tensor).copy_(loaded[name])

    methods: dict[str, Callable[[], None]] = {
        "save: reshard": with_reshard,
        "save: safetensors": with_safetensors,
        "save: safetensors and fsync": on_the_disk,
        "load: reshard": load_with_reshard,
        "load: safetensors": load_with_safetensors,
    }
    runs: dict[str, list[tuple[float, int]]] = {what: [] for what in methods}
    for number in range(-1, rounds):  # the first is not counted
        shutil.rmtree(ours, ignore_errors=True)
        for what, work in methods.items():
            if what.startswith("save: safe"):
                plain.unlink(missing_ok=True)
            with torch.no_grad():
                measured = timed(work)
            if number >= 0:
                runs[what].append(measured)
        compare.assert_same_tensors(read(ours), load_file(plain))
    print(f"{nbytes / 1e9:.2f} GB of bfloat16, FSDP2, one rank, files in {root}")
    for what, measured_runs in runs.items():
        report(what, measured_runs, nbytes)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=("checks", "times"))
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where files are written; else temporary")
    options = parser.parse_args()
    card = torch.cuda.get_device_name() if options.device == "cuda" else options.device
    print(f"{card}, Python {sys.version.split()[0]}, torch {torch.__version__}", flush=True)
    backend = "nccl" if options.device == "cuda" else "gloo"
    with (
        tempfile.TemporaryDirectory(dir=options.directory) as scratch,
        group(backend, 0, 1, Path(scratch, "rendezvous")),
    ):
        if options.only != "times":
            checks(options.device, Path(scratch))
        if options.only != "checks":
            times(options.device, Path(scratch), options.gigabytes * 1e9, options.rounds)


if __name__ == "__main__":
    main()
