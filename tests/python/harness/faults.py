"""Runs the program with one call of it killed or failing, and says what is wrong afterwards.

The promise: whatever happens, the destination is absent, or the old one, or the new one, and the
same command once more ends with the new one, complete and alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from .cli import DESTINATION, OK, PARTIAL, REPOSITORY, RESHARD, SOURCE

Digest = dict[str, str]


def build_shim(directory: Path) -> Path:
    """Compiles tests/tools/fault_shim.c."""
    shim = directory / "fault_shim.so"
    source = REPOSITORY / "tests" / "tools" / "fault_shim.c"
    command = ["cc", "-std=gnu17", "-O1", "-shared", "-fPIC", "-o", str(shim), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return shim


def digest(directory: Path) -> Digest:
    """Of each file below `directory`, the SHA-256 of its bytes. Directories end in '/'."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory).as_posix()
        if path.is_dir():
            found[name + "/"] = ""
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@dataclass(frozen=True)
class Fault:
    """What happens at the call with this number."""

    calls: str  # "change", "read" or "memory"
    deed: str  # "kill-before", "kill-after", "fail", "fail-on" or "short"
    at: int
    error: int = errno.EIO

    @property
    def kills(self) -> bool:
        return self.deed.startswith("kill")

    def __str__(self) -> str:
        error = "" if self.kills or self.deed == "short" else f" with {errno.errorcode[self.error]}"
        return f"{self.deed} at call {self.at} of '{self.calls}'{error}"


@dataclass
class Case:
    """A command that writes DST, and what there is before and after it.

    `out` is what a reader opens, below the directory that holds all; `tracker` names it, if any.
    """

    name: str
    shim: Path
    workplace: Path
    source: Path
    options: tuple[str, ...]
    out: str = "dst"
    tracker: str = ""
    older: tuple[str, ...] = ()  # the options of an older output that --force replaces
    old: Digest = field(default_factory=dict)  # of all that is there before
    new: Digest = field(default_factory=dict)  # and after the command that nothing disturbs
    template: Path = field(init=False)
    runs: int = 0

    def __post_init__(self) -> None:
        self.template = self.fresh()
        if self.older:
            self.run(self.template, options=self.older)
        self.old = digest(self.template)
        undisturbed = self.fresh(copy=True)
        done = self.run(undisturbed)
        assert done.returncode == 0, done.stderr
        self.new = digest(undisturbed)

    def fresh(self, copy: bool = False) -> Path:
        """A directory with what is there before."""
        self.runs += 1
        place = self.workplace / f"{self.name}-{self.runs}"
        if copy:
            shutil.copytree(self.template, place)
        else:
            place.mkdir(parents=True)
        return place

    def run(
        self, place: Path, fault: Fault | None = None, log: Path | None = None,
        options: tuple[str, ...] | None = None,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        arguments = self.options if options is None else options
        force = ["--force"] if self.older and options is None else []
        command = [
            str(RESHARD), "convert", str(self.source), str(place / "dst"),
            "--jobs", "1", "-q", *arguments, *force,
        ]  # fmt: skip
        environment = dict(os.environ)
        if fault:
            environment |= {
                "LD_PRELOAD": str(self.shim),
                "FAULT_CALLS": fault.calls,
                "FAULT_DO": fault.deed,
                "FAULT_AT": str(fault.at),
                "FAULT_ERRNO": str(fault.error),
            }
        if log:
            environment["FAULT_LOG"] = str(log)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def trace(self, calls: str) -> list[str]:
        """The names of all calls of an undisturbed run, in their order."""
        place = self.fresh(copy=True)
        log = self.workplace / f"{self.name}-{calls}.log"
        self.run(place, Fault(calls, "count", 0), log)
        shutil.rmtree(place)
        return log.read_text().split()

    def part(self, whole: Digest) -> Digest:
        """What lies in the directory that a reader opens."""
        prefix = self.out + "/"
        return {name: sha for name, sha in whole.items() if name.startswith(prefix)}

    def check(self, fault: Fault) -> list[str]:
        """What is wrong after the fault, or after the same command once more."""
        place = self.fresh(copy=True)
        struck = self.run(place, fault)
        faults = [*self.check_exit(fault, struck), *self.check_between(digest(place), struck)]
        again = self.run(place)
        faults += self.check_after(digest(place), again)
        for done in (struck, again):
            if done.returncode < 0 and not (done is struck and fault.kills):
                faults.append(f"died of signal {-done.returncode}")
        if not faults:
            shutil.rmtree(place)
        return [f"{self.name}, {fault}: {text}" for text in faults]

    def check_exit(self, fault: Fault, struck: subprocess.CompletedProcess[str]) -> list[str]:
        code = struck.returncode
        if fault.kills:
            fine = code in (-signal.SIGKILL, OK)
        elif fault.calls == "memory":
            fine = code in (OK, PARTIAL)
        else:
            fine = code in (OK, SOURCE, DESTINATION, PARTIAL)
        faults = [] if fine else [f"exit {code}: {struck.stderr.strip()}"]
        if code > 0 and not struck.stderr.startswith(("error[", "warning: ")):
            faults.append(f"exit {code} without a word")
        return faults

    def check_between(self, found: Digest, struck: subprocess.CompletedProcess[str]) -> list[str]:
        part = self.part(found)
        if part not in ({}, self.part(self.old), self.part(self.new)):
            return [f"the destination is neither old nor new: {sorted(part)}"]
        if not part and self.old:
            return ["the old destination is gone"]
        if self.tracker in found and found[self.tracker] != self.new.get(self.tracker):
            return ["the tracker is damaged"]
        # What cannot be removed stays beside the output, for the next run to remove.
        whole = {name: sha for name, sha in found.items() if ".partial-" not in name}
        if struck.returncode == 0 and whole != self.new:
            return [f"exit 0, but {differences(whole, self.new)}"]
        return []

    def check_after(self, found: Digest, again: subprocess.CompletedProcess[str]) -> list[str]:
        faults = []
        # A run that had come to its end, but could not say so, leaves nothing to do.
        refused = again.returncode == DESTINATION and "exists" in again.stderr and not self.older
        if again.returncode != 0 and not refused:
            faults.append(f"the rerun: exit {again.returncode}: {again.stderr.strip()}")
        if found != self.new:
            faults.append(f"after the rerun {differences(found, self.new)}")
        return faults


def differences(found: Digest, expected: Digest) -> str:
    """The names that are missing, too many or different."""
    missing = sorted(expected.keys() - found.keys())
    more = sorted(found.keys() - expected.keys())
    other = sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name])
    return f"missing {missing}, too many {more}, different {other}"
