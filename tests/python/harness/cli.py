"""Runs the program the way a person would: a process, its exit code and what it printed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import same_bytes

REPOSITORY = Path(__file__).resolve().parents[3]
FIXTURES = REPOSITORY / "tests" / "data" / "fixtures"
RESHARD = Path(
    os.environ.get("RESHARD", REPOSITORY / "build" / "release" / "bin" / "reshard")
).resolve()

# Another build of the program, whose outputs must be the same: see scripts/same_bytes.sh.
OTHER = os.environ.get("RESHARD_OTHER")

OK, NO, USAGE, SOURCE, MAPPING, DESTINATION, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 4, 5, 6, 130


def run(
    *args: object, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """`reshard ARGS...`, not on a terminal. Never raises for an exit code."""
    words = list(map(str, args))
    compared = OTHER is not None and same_bytes.is_comparable(words, cwd)
    done = _run(RESHARD, words, cwd, timeout)
    if OTHER is not None and compared and done.returncode == OK:
        with same_bytes.elsewhere(words) as moved:
            _run(OTHER, moved, cwd, timeout)
            same_bytes.compare(words, moved, cwd)
    return done


def _run(
    program: str | Path, words: list[str], cwd: Path | None, timeout: float
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(program), *words],
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        errors="backslashreplace",
    )


def ok(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`run` that must succeed."""
    return expect(OK, *args, cwd=cwd)


def expect(code: int, *args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`run` that must end with `code`."""
    done = run(*args, cwd=cwd)
    assert done.returncode == code, (
        f"exit {done.returncode}, expected {code}: reshard {' '.join(map(str, args))}\n"
        f"--- stdout\n{done.stdout[-4000:]}\n--- stderr\n{done.stderr[-4000:]}"
    )
    return done


def example(name: str, *args: object, ranks: int = 0) -> list[str]:
    """The lines that a program of examples/ prints, on as many ranks of torchrun if on any."""
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks)] if ranks else []
    done = subprocess.run(
        [sys.executable, *launcher, str(REPOSITORY / "examples" / name), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def convert(source: Path, destination: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """`reshard convert SRC DST --to hf ARGS...` that must succeed."""
    return ok("convert", source, destination, "--to", "hf", *args)


def identity(source: Path, destination: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """`convert` with every tensor under its own name."""
    return convert(source, destination, "--recipe", "identity", *args)


def refused(code: int, source: Path, destination: Path, *args: object, names: str = "") -> str:
    """A conversion that must end with `code`, say `names` on stderr and leave no destination."""
    done = expect(code, "convert", source, destination, "--to", "hf", *args)
    assert names in done.stderr, f"{names!r} is not named in:\n{done.stderr}"
    assert not destination.exists()
    return done.stderr


def staged(destination: Path) -> list[Path]:
    """The unfinished output directories beside `destination`."""
    return sorted(destination.parent.glob(f"{destination.name}.partial-*"))


def stop_midway(
    signal_number: signal.Signals, source: Path, destination: Path, *args: object
) -> int:
    """Starts a conversion and sends it a signal as soon as it has written something.

    Returns the exit code; a process that was quicker than the signal ends with 0.
    """
    command = [
        str(RESHARD),
        "convert",
        str(source),
        str(destination),
        "--to",
        "hf",
        *map(str, args),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(_has_bytes(directory) for directory in staged(destination)):
            process.send_signal(signal_number)
            break
    return process.wait(timeout=60)


def _has_bytes(directory: Path) -> bool:
    """Weights are being written: more than a journal or a header is there."""
    try:
        return any(entry.stat().st_blocks * 512 > 1 << 20 for entry in os.scandir(directory))
    except FileNotFoundError:
        return False


def json_values(text: str) -> list[Any]:
    """One JSON value, or one per line."""
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines()]


def strings_in(value: Any) -> Iterator[str]:
    """Every string in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings_in(item)


def regex(name: str) -> str:
    """A pattern for exactly `name`, whether the program searches or matches the whole."""
    return f"^{re.escape(name)}$"
