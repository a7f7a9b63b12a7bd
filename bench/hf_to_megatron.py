#!/usr/bin/env python3
"""How fast, and in how much memory, a model goes to Megatron's rank files, back, and to others.

One table of ratios, for 1.2 GB of bfloat16: Hugging Face to TP2 PP2, TP2 PP2 to Hugging Face, and
TP4 PP1 to TP2 PP2, each in alternating runs of reshard, of the same work with PyTorch
(bench/torch_megatron.py) and of `cp -r SRC X && sync`. Every tensor that reshard has written is
compared with PyTorch's.

    python3 bench/hf_to_megatron.py [--only split|merge|resplit] [--rounds N] [--json]

Needs build/release, which scripts/convert.sh builds, a Python with PyTorch, such as the .venv that
scripts/test.sh makes, and 8 GB of disk.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import measure
from options import REPOSITORY, parse, show
from table import Row, at_least, at_most, ratio, times

TORCH = REPOSITORY / "bench" / "torch_megatron.py"
MIB = 1 << 20
RECIPE = ["--recipe", "megatron-core", "-q"]


@dataclass(frozen=True)
class Way:
    """One conversion: what it reads, and what is behind source and destination for each program."""

    what: str
    source: str
    reshard: list[object]
    torch: list[object]


def ways(workdir: Path) -> dict[str, Way]:
    assets, config = ["--assets-from", workdir / "hf"], ["--config", workdir / "hf" / "config.json"]
    tp2_pp2: list[object] = ["--tp", 2, "--pp", 2]
    to_megatron = ["--to", "megatron", *RECIPE, *tp2_pp2]
    return {
        "split": Way("hf to tp2 pp2", "hf", to_megatron, tp2_pp2),
        "merge": Way("tp2 pp2 to hf", "tp2-pp2", ["--to", "hf", *RECIPE, *assets], config),
        "resplit": Way("tp4 to tp2 pp2", "tp4", [*to_megatron, *assets], [*tp2_pp2, *config]),
    }


def make(options: argparse.Namespace) -> None:
    """Once: a directory whose last file is there is complete."""
    model = options.workdir / "hf"
    if not (model / "config.json").exists():
        print(f"making {model}", file=sys.stderr)
        shutil.rmtree(model, ignore_errors=True)
        maker = REPOSITORY / "bench" / "make_checkpoints.py"
        measure.run([options.python, maker, "hf", model])
    for name, sizes in (("tp2-pp2", ["--tp", 2, "--pp", 2]), ("tp4", ["--tp", 4])):
        directory = options.workdir / name
        if (directory / "latest_checkpointed_iteration.txt").exists():
            continue
        print(f"making {directory}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        measure.run([options.python, TORCH, "split", model, directory, *sizes])


def bench(key: str, way: Way, options: argparse.Namespace) -> list[Row]:
    source = options.workdir / way.source
    ours, theirs, copy = (options.workdir / f"out-{name}" for name in ("reshard", "torch", "cp"))
    runs: dict[str, tuple[Path, list[object]]] = {
        "reshard": (ours, [options.reshard, "convert", source, ours, *way.reshard]),
        "torch": (theirs, [options.python, TORCH, key, source, theirs, *way.torch]),
        "cp": (copy, ["sh", "-c", 'cp -r "$1" "$2" && sync', "sh", source, copy]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, int] = dict.fromkeys(runs, 0)
    for number in range(options.rounds):
        for name, (out, command) in runs.items():
            shutil.rmtree(out, ignore_errors=True)
            done = measure.run(command)
            seconds[name].append(done.seconds)
            cpu[name].append(done.cpu_seconds)
            peaks[name] = max(peaks[name], done.peak_bytes)
            print(f"{way.what}, round {number + 1}: {name} {done.seconds:.2f} s", file=sys.stderr)
        shutil.rmtree(copy)
    measure.run([options.python, TORCH, "compare", ours, theirs])
    shutil.rmtree(ours)
    shutil.rmtree(theirs)

    return [
        at_least(
            f"{way.what}: speed of PyTorch",
            ratio(seconds["torch"], seconds["reshard"]),
            8,
            f"{times('script', seconds['torch'])}; its peak {peaks['torch'] / MIB:.0f} MiB",
        ),
        at_most(
            f"{way.what}: time of cp -r && sync",
            ratio(seconds["reshard"], seconds["cp"]),
            "x",
            1.3,
            f"{times('reshard', seconds['reshard'])}; {times('cp', seconds['cp'])}",
        ),
        at_most(
            f"{way.what}: peak memory",
            peaks["reshard"] / MIB,
            "MiB",
            64,
            "processor time: " + ", ".join(times(name, cpu[name]) for name in ("reshard", "torch")),
        ),
    ]


def main() -> None:
    options = parse(__doc__, ["split", "merge", "resplit"])
    make(options)

    rows: list[Row] = []
    for key, way in ways(options.workdir).items():
        if options.only in (None, key):
            rows += bench(key, way, options)
    show(rows, options.json)


if __name__ == "__main__":
    main()
