#!/usr/bin/env python3
"""How fast float8 weights become bfloat16: 1.1 GB to 2.1 GB.

In alternating runs of reshard, of the same with PyTorch (bench/torch_dequantize.py) and of a copy
of what comes out, `cp -r OUT X && sync`.

    python3 bench/dequantize.py [--rounds N] [--json]

Needs build/release, which scripts/convert.sh builds, a Python with PyTorch, such as the .venv that
scripts/test.sh makes, and 8 GB of disk.
"""

from __future__ import annotations

import shutil
import sys

import measure
from options import REPOSITORY, parse, show
from table import at_least, at_most, ratio, times

MIB = 1 << 20

COMPARE = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
ours, theirs = ({k: v for p in Path(d).glob("*.safetensors") for k, v in load_file(p).items()}
                for d in sys.argv[1:])
assert ours.keys() == theirs.keys()
assert all(torch.equal(ours[k].view(torch.int16), theirs[k].view(torch.int16)) for k in ours)
"""


def main() -> None:
    options = parse(__doc__)

    script = REPOSITORY / "bench" / "torch_dequantize.py"
    source = options.workdir / "model-fp8"
    if not (source / "config.json").exists():
        shutil.rmtree(source, ignore_errors=True)
        measure.run([options.python, script, "make", source])
    ours, theirs, copy = (options.workdir / name for name in ("ours", "theirs", "copy"))
    commands: dict[str, list[object]] = {
        "reshard": [options.reshard, "convert", source, ours, "--dequantize", "-q"],
        "torch": [options.python, script, "convert", source, theirs],
        "cp": ["sh", "-c", 'cp -r "$1" "$2" && sync', "sh", ours, copy],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    processor: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, int] = dict.fromkeys(commands, 0)
    for number in range(options.rounds):
        for directory in (ours, theirs, copy):
            shutil.rmtree(directory, ignore_errors=True)
        for name, command in commands.items():
            done = measure.run(command)
            seconds[name].append(done.seconds)
            processor[name].append(done.cpu_seconds)
            peaks[name] = max(peaks[name], done.peak_bytes)
            print(
                f"round {number + 1}: {name} {done.seconds:.2f} s, "
                f"processor {done.cpu_seconds:.2f} s",
                file=sys.stderr,
            )
    measure.run([options.python, "-c", COMPARE, ours, theirs])
    for directory in (ours, theirs, copy):
        shutil.rmtree(directory)

    rows = [
        at_least(
            "speed of the PyTorch script",
            ratio(seconds["torch"], seconds["reshard"]),
            4,
            f"{times('script', seconds['torch'])}; its peak {peaks['torch'] / MIB:.0f} MiB",
        ),
        at_most(
            "time of a copy of the result",
            ratio(seconds["reshard"], seconds["cp"]),
            "x",
            1.3,
            f"{times('reshard', seconds['reshard'])}; {times('cp', seconds['cp'])}",
        ),
        at_most(
            "peak memory",
            peaks["reshard"] / MIB,
            "MiB",
            64,
            times("processor", processor["reshard"]),
        ),
    ]
    show(rows, options.json)


if __name__ == "__main__":
    main()
