"""Killed at any call, or with a call failing, a run leaves the old or the new; the next completes.

A sample of the calls, another one each time; RESHARD_SLOW=1 takes them all (scripts/faults.sh).
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import cli
from harness.faults import Case, Fault, build_shim

ALL = os.environ.get("RESHARD_SLOW") == "1"
SAMPLE = 4  # calls of a kind
ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR)
EXAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"

FLAVOR = ("--recipe", "megatron-core")

# What is written, and an older output with files of other names.
TARGETS = {
    "hf": (("--to", "hf", "--shard-size", "100kB"), ("--to", "hf", "--dtype", "bfloat16")),
    "bin": (
        ("--to", "hf", "--weights", "bin", "--shard-size", "100kB"),
        ("--to", "hf", "--dtype", "bfloat16"),
    ),
    "dcp": (("--to", "dcp:ranks=2"), ("--to", "dcp:ranks=3", "--dtype", "bfloat16")),
    "megatron": (("--to", "megatron:tp=2", *FLAVOR), ("--to", "megatron:tp=1", *FLAVOR)),
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source") / "hf"
    cli.convert(EXAMPLE, directory)
    return directory


@pytest.fixture(params=[(target, older) for target in TARGETS for older in (False, True)],
                ids=lambda param: param[0] + ("-force" if param[1] else ""))  # fmt: skip
def case(request: pytest.FixtureRequest, shim: Path, source: Path, tmp_path: Path) -> Case:
    target, older = request.param
    options, before = TARGETS[target]
    megatron = target == "megatron"
    return Case(
        name=target + ("-force" if older else ""),
        shim=shim,
        workplace=tmp_path,
        # The other targets begin with what the first makes.
        source=EXAMPLE if target == "hf" else source,
        options=options,
        out="dst/release" if megatron else "dst",
        tracker="dst/latest_checkpointed_iteration.txt" if megatron else "",
        older=before if older else (),
    )


def sample(numbers: list[int], always: set[int]) -> list[int]:
    if ALL or len(numbers) <= SAMPLE:
        return numbers
    return sorted(always | set(random.SystemRandom().sample(numbers, SAMPLE)))


def steps(trace: list[str], case: Case) -> set[int]:
    """The calls around what gives the output its name, where most can go wrong."""
    exchanges = [at for at, name in enumerate(trace, 1) if name == "renameat2"]
    last = exchanges[-1] if exchanges else len(trace) - 2
    return {at for at in range(last - 1, last + 3) if 1 <= at <= len(trace)} | {
        at for at in range(len(trace) - (6 if case.tracker else 1), len(trace) + 1)
    }


def check_all(case: Case, faults: Iterator[Fault]) -> None:
    with ThreadPoolExecutor(max_workers=2) as pool:
        wrong = [text for texts in pool.map(case.check, list(faults)) for text in texts]
    assert not wrong, "\n".join(wrong)


def test_killed(case: Case) -> None:
    trace = case.trace("change")
    numbers = sample(list(range(1, len(trace) + 1)), steps(trace, case))
    check_all(case, (Fault("change", deed, at) for at in numbers
                     for deed in ("kill-before", "kill-after")))  # fmt: skip


def test_failing_changes(case: Case) -> None:
    trace = case.trace("change")
    numbers = sample(list(range(1, len(trace) + 1)), steps(trace, case))
    errors = ERRORS if ALL else (random.choice(ERRORS),)
    check_all(case, (Fault("change", deed, at, error) for at in numbers for error in errors
                     for deed in ("fail", "fail-on", "short")
                     if not (deed == "fail-on" and error == errno.EINTR)))  # fmt: skip


def test_failing_reads(case: Case) -> None:
    trace = case.trace("read")
    # Of many reads of weights a few will do; each other call is of its own.
    reads = [at for at, name in enumerate(trace, 1) if name.startswith("pread")]
    others = [at for at, name in enumerate(trace, 1) if not name.startswith("pread")]
    few = reads if ALL else random.sample(reads, min(2, len(reads)))
    numbers = sample(others, set()) + few
    check_all(case, (Fault("read", deed, at, error) for at in numbers
                     for deed, error in (("fail", errno.EIO), ("fail", errno.EINTR),
                                         ("short", 0))))  # fmt: skip


def test_failing_memory(case: Case) -> None:
    count = len(case.trace("memory"))
    numbers = random.sample(range(1, count + 1), min(count, 300 if ALL else 4))
    check_all(case, (Fault("memory", deed, at) for at in numbers for deed in ("fail", "fail-on")))
