"""Runs a second build of the program beside each conversion of the tests and compares the outputs.

A change of structure must not change a byte of any output. `scripts/same_bytes.sh OTHER` runs the
tests with RESHARD_OTHER set: every `convert` that succeeds with a fresh destination is then done
once more by that program, into a directory of its own, and the two outputs are compared file by
file. The manifest names the program's version and its plan's id, so of it only the list of files
is compared.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "reshard-manifest.json"


def is_comparable(words: list[str], cwd: Path | None) -> bool:
    """`convert SRC DST ...` that will write, to a place where nothing is yet."""
    plain = len(words) > 2 and words[0] == "convert" and not words[1].startswith("-")
    writes = plain and not words[2].startswith("-") and "--dry-run" not in words
    return writes and not os.path.lexists((cwd or Path()) / words[2])


@contextmanager
def elsewhere(words: list[str]) -> Iterator[list[str]]:
    """The command with a destination of the same name in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        yield [*words[:2], str(Path(directory) / Path(words[2]).name), *words[3:]]


def compare(words: list[str], moved: list[str], cwd: Path | None) -> None:
    """Notes what differs in the file RESHARD_OTHER_LOG; every comparison is a line there."""
    ours, theirs = _read((cwd or Path()) / words[2]), _read(Path(moved[2]))
    differing = sorted(
        name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)
    )
    if not theirs:
        differing = ["the other program refuses"]
    line = {"test": os.environ.get("PYTEST_CURRENT_TEST"), "command": words, "differ": differing}
    with Path(os.environ["RESHARD_OTHER_LOG"]).open("a") as log:
        log.write(json.dumps(line) + "\n")


def _read(root: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(root)): _files_of(path) if path.name == MANIFEST else path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def _files_of(manifest: Path) -> Any:
    return json.loads(manifest.read_text())["files"]
