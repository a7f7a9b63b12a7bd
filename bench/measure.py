"""Runs one process and says how long it took and how much memory it had at most.

Import nothing large beside this: Linux counts the memory of the process that starts another one
towards the peak of the other, so the driver itself has to be small.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Run:
    seconds: float
    cpu_seconds: float  # of user and system, all threads together
    peak_bytes: int
    stdout: str


def run(command: Sequence[object]) -> Run:
    """Wall time from start to exit, and peak resident memory. What was dirty is written before."""
    os.sync()
    arguments = [str(argument) for argument in command]
    started = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    stdout = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"exit {process.returncode}: {' '.join(arguments)}")
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, stdout)
