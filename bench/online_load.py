#!/usr/bin/env python3
"""How fast, and in how much memory, weights come into a live FSDP2 model on four ranks.

1.2 GB of bfloat16 from a Hugging Face directory into a model of transformers that fully_shard has
laid out, on gloo ranks of one machine, in alternating rounds: reshard.torch.load_checkpoint, both
ways; the loops of MindSpeed-MM's loader, in which every rank reads everything, or the first one
reads and broadcasts; torch.distributed.checkpoint.load with its HuggingFaceStorageReader; and,
where they are installed, fastsafetensors and runai-model-streamer. Every shard is compared. Timed
is the load alone: the model stands, its memory is not touched yet, files are in the page cache.

    .venv/bin/python bench/online_load.py [--rounds N] [--ranks N] [--json]

Needs the package in that Python (scripts/test.sh python puts it there) and 1.3 GB of disk.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from table import Row, at_least, at_most, print_table, times

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20
OURS, OURS_SENT = "reshard", "reshard, rank0-broadcast"
EVERY, SENT, DCP = "every rank reads", "rank 0 broadcasts", "dcp.load"


def build(directory: Path) -> Any:
    """The model on this rank: sharded, with memory that nothing has touched."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model.to_empty(device="cpu")


def with_reshard(model: Any, directory: Path) -> None:
    import reshard.torch

    reshard.torch.load_checkpoint(model, directory, progress=False, strict=True)


def with_reshard_sent(model: Any, directory: Path) -> None:
    import reshard.torch

    reshard.torch.load_checkpoint(model, directory, read="rank0-broadcast", progress=False)


def full_tensors(directory: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118
                yield name, file.get_tensor(name)


def put(parameter: Any, full: Any) -> None:
    """A whole tensor into this rank's shard: replicated, then redistributed, then copied."""
    from torch.distributed.tensor import DTensor, Replicate

    mesh = parameter.device_mesh
    whole = DTensor.from_local(full.to(parameter.dtype), mesh, [Replicate()] * mesh.ndim)
    parameter.copy_(whole.redistribute(mesh, parameter.placements))


def every_rank_reads(model: Any, directory: Path) -> None:
    parameters = dict(model.named_parameters())
    for name, full in full_tensors(directory):
        put(parameters[name].data, full)


def rank0_broadcasts(model: Any, directory: Path) -> None:
    import torch
    import torch.distributed as dist
    from safetensors.torch import load_file

    parameters = dict(model.named_parameters())
    first = dist.get_rank() == 0
    for path in sorted(directory.glob("*.safetensors")):
        state = load_file(path) if first else {}
        box = [[(name, tensor.shape, tensor.dtype) for name, tensor in state.items()]]
        dist.broadcast_object_list(box, src=0)
        for name, shape, dtype in box[0]:
            tensor = state[name] if first else torch.empty(shape, dtype=dtype)
            dist.broadcast(tensor, src=0)
            put(parameters[name].data, tensor)


def dcp_load(model: Any, directory: Path) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    state = {name: parameter.data for name, parameter in model.named_parameters()}
    dcp.load(state, storage_reader=HuggingFaceStorageReader(str(directory)))


def with_fastsafetensors(model: Any, directory: Path) -> None:
    import torch
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    parameters = dict(model.named_parameters())
    loader = SafeTensorsFileLoader(SingleGroup(), torch.device("cpu"), nogds=True)
    loader.add_filenames({0: [str(path) for path in sorted(directory.glob("*.safetensors"))]})
    buffers = loader.copy_files_to_device()
    for name in buffers.key_to_rank_lidx:
        put(parameters[name].data, buffers.get_tensor(name))
    buffers.close()
    loader.close()


def with_runai(model: Any, directory: Path) -> None:
    from runai_model_streamer import SafetensorsStreamer

    parameters = dict(model.named_parameters())
    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(path) for path in sorted(directory.glob("*.safetensors"))])
        for name, tensor in streamer.get_tensors():
            put(parameters[name].data, tensor)


METHODS: dict[str, Callable[[Any, Path], None]] = {
    OURS: with_reshard,
    OURS_SENT: with_reshard_sent,
    EVERY: every_rank_reads,
    SENT: rank0_broadcasts,
    DCP: dcp_load,
}
if importlib.util.find_spec("fastsafetensors"):
    METHODS["fastsafetensors, every rank"] = with_fastsafetensors
if importlib.util.find_spec("runai_model_streamer"):
    METHODS["runai-model-streamer, every rank"] = with_runai


def status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1]) * 1024


def checksum(model: Any) -> list[int]:
    """Of each shard: two loads are the same where all of these are."""
    import torch

    return [
        int(parameter.to_local().view(torch.int16).to(torch.int64).mul_(31).sum())
        for parameter in model.parameters()
    ]


def work(directory: Path, rounds: int, answer: Path) -> None:
    """One rank: prints nothing, leaves what it has measured."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{answer}-rendezvous",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    extra: dict[str, int] = dict.fromkeys(METHODS, 0)
    wanted: list[int] | None = None
    for number in range(-1, rounds):  # the first is not counted: imports, thread pools
        for name, load in METHODS.items():
            model = build(directory)
            shards = sum(p.to_local().numel() * p.element_size() for p in model.parameters())
            gc.collect()
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts afresh
            before = status("VmRSS")
            dist.barrier()
            started = time.perf_counter()
            with torch.no_grad():
                load(model, directory)
            dist.barrier()
            elapsed = time.perf_counter() - started
            extra[name] = max(extra[name], status("VmHWM") - before - shards)
            sums = checksum(model)
            wanted = wanted or sums
            if sums != wanted:
                raise SystemExit(f"{name} has loaded other values")
            if number >= 0:
                seconds[name].append(elapsed)
            del model
    Path(f"{answer}-{dist.get_rank()}").write_text(json.dumps([seconds, extra]))
    dist.destroy_process_group()


def measure(options: argparse.Namespace, directory: Path) -> tuple[dict, dict]:
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer"
        command = [sys.executable, __file__, "--work", answer, "--rounds", options.rounds,
                   "--model", directory]  # fmt: skip
        processes = [
            subprocess.Popen(
                [str(word) for word in command],
                env=os.environ
                | {"RANK": str(rank), "WORLD_SIZE": str(options.ranks), "OMP_NUM_THREADS": "1"}
                # What one method has freed must not be another one's memory.
                | {"MALLOC_MMAP_THRESHOLD_": "65536"},
            )
            for rank in range(options.ranks)
        ]
        if any(process.wait() for process in processes):
            raise SystemExit("a rank has failed")
        answers = [
            json.loads(Path(f"{answer}-{rank}").read_text()) for rank in range(options.ranks)
        ]
    seconds = {name: answers[0][0][name] for name in METHODS}
    extra = {name: max(answer[1][name] for answer in answers) for name in METHODS}
    return seconds, extra


def table(seconds: dict[str, list[float]], extra: dict[str, int]) -> list[Row]:
    def ratio(other: str) -> float:
        pairs = zip(seconds[other], seconds[OURS], strict=True)
        return statistics.median(a / b for a, b in pairs)

    goals = {EVERY: 4.0, SENT: 10.0, DCP: 1.5}
    rows = [
        at_least(f"speed of: {name}", ratio(name), goals.get(name, 1.0),
                 f"{times(name, seconds[name])}; beyond the shards {extra[name] / MIB:.0f} MiB")
        for name in METHODS if name != OURS
    ]  # fmt: skip
    rows.append(
        at_most(
            "memory of a rank beyond its shards",
            extra[OURS] / MIB,
            "MiB",
            64,
            times(OURS, seconds[OURS]),
        )  # fmt: skip
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--model", type=Path, default=REPOSITORY / "build" / "bench" / "hf")
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.model, options.rounds, options.work)
    if not (options.model / "config.json").exists():
        maker = REPOSITORY / "bench" / "make_checkpoints.py"
        subprocess.run([sys.executable, maker, "hf", options.model], check=True)
    rows = table(*measure(options, options.model))
    print(json.dumps([asdict(row) for row in rows], indent=2)) if options.json else print_table(
        rows
    )


if __name__ == "__main__":
    main()
