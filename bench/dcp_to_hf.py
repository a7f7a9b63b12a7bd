#!/usr/bin/env python3
"""How fast, and in how much memory, a DCP checkpoint becomes a Hugging Face directory.

One table of ratios. `convert`: 2.4 GB of float32 from four ranks to bfloat16, in alternating runs
of reshard, of the same merge with PyTorch (bench/torch_merge.py) and of `cp -r SRC X && sync`.
`metadata`: a million chunks, planned by reshard and read by Python's pickle alone.

    python3 bench/dcp_to_hf.py [--only convert|metadata] [--rounds N] [--json]

Needs build/release, which scripts/convert.sh builds, a Python with PyTorch, such as the .venv that
scripts/test.sh makes, and 8 GB of disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import measure
from options import REPOSITORY, parse, show
from table import Row, at_least, at_most, ratio, times

SHARD_SIZES = ("100MB", "1GB", "5GB")
MIB = 1 << 20
CHUNKS = 1_000_000

READ_PICKLE = """
import pickle, sys, time
import torch.distributed.checkpoint
started = time.perf_counter()
with open(sys.argv[1], "rb") as file:
    metadata = pickle.load(file)
print(time.perf_counter() - started)
"""


def make(kind: str, directory: Path, python: Path) -> None:
    """Once: a directory with `.metadata` is complete."""
    if (directory / ".metadata").exists():
        return
    print(f"making {directory}", file=sys.stderr)
    shutil.rmtree(directory, ignore_errors=True)
    measure.run([python, REPOSITORY / "bench" / "make_checkpoints.py", kind, directory])


def bench_convert(options: argparse.Namespace) -> list[Row]:
    source = options.workdir / "model-dcp"
    make("model", source, options.python)
    out = options.workdir / "out"
    merge = REPOSITORY / "bench" / "torch_merge.py"
    to_bfloat16 = ["--to", "hf", "--dtype", "bfloat16", "-q"]
    commands: dict[str, list[object]] = {
        "reshard": [options.reshard, "convert", source, out, *to_bfloat16],
        "torch": [options.python, "-W", "ignore", merge, source, out],
        "cp": ["sh", "-c", 'cp -r "$1" "$2" && sync', "sh", source, out],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, int] = dict.fromkeys(commands, 0)
    for number in range(options.rounds):
        for name, command in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            done = measure.run(command)
            seconds[name].append(done.seconds)
            peaks[name] = max(peaks[name], done.peak_bytes)
            print(f"round {number + 1}: {name} {done.seconds:.2f} s", file=sys.stderr)

    rows = [
        at_least(
            "speed of the PyTorch script",
            ratio(seconds["torch"], seconds["reshard"]),
            15,
            f"{times('script', seconds['torch'])}; its peak {peaks['torch'] / MIB:.0f} MiB",
        ),
        at_most(
            "time of cp -r && sync",
            ratio(seconds["reshard"], seconds["cp"]),
            "x",
            0.8,
            f"{times('reshard', seconds['reshard'])}; {times('cp', seconds['cp'])}",
        ),
    ]
    for size in SHARD_SIZES:
        shutil.rmtree(out, ignore_errors=True)
        done = measure.run([*commands["reshard"], "--shard-size", size])
        detail = f"{done.seconds:.2f} s"
        rows.append(
            at_most(f"peak memory, --shard-size {size}", done.peak_bytes / MIB, "MiB", 64, detail)
        )
    shutil.rmtree(out, ignore_errors=True)
    return rows


def bench_metadata(options: argparse.Namespace) -> list[Row]:
    source = options.workdir / "million-chunks-dcp"
    make("metadata", source, options.python)
    size = (source / ".metadata").stat().st_size
    loads, plans, peaks = [], [], []
    for number in range(options.rounds):
        done = measure.run([options.reshard, "plan", source, options.workdir / "out", "--to", "hf"])
        plans.append(done.seconds)
        peaks.append(done.peak_bytes)
        read = measure.run([options.python, "-c", READ_PICKLE, source / ".metadata"])
        loads.append(float(read.stdout))
        print(
            f"round {number + 1}: plan {plans[-1]:.2f} s, pickle.load {loads[-1]:.2f} s",
            file=sys.stderr,
        )
    detail = f"{times('plan', plans)}; {times('pickle.load', loads)}; {size / 1e6:.0f} MB"
    memory = f"peak {max(peaks) / MIB:.0f} MiB; pickle.load {read.peak_bytes / MIB:.0f} MiB"
    return [
        at_least("million chunks: speed of pickle.load", ratio(loads, plans), 20, detail),
        at_most("million chunks: peak memory / chunk", max(peaks) / CHUNKS, "bytes", 200, memory),
    ]


def main() -> None:
    options = parse(__doc__, ["convert", "metadata"])

    rows: list[Row] = []
    if options.only != "metadata":
        rows += bench_convert(options)
    if options.only != "convert":
        rows += bench_metadata(options)
    show(rows, options.json)


if __name__ == "__main__":
    main()
