"""The documents' worked examples as things to run: their code blocks, and their sessions of
commands with what these print."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .cli import REPOSITORY, RESHARD


class Block(NamedTuple):
    language: str
    text: str


def blocks(document: str, section: str) -> list[Block]:
    """The fenced blocks of the section with this title, in order."""
    text = (REPOSITORY / "docs" / document).read_text()
    part = re.search(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert part, f"{document} has no section {section!r}"
    return [Block(*found) for found in re.findall(r"```(\w*)\n(.*?)```", part[1], re.DOTALL)]


def replay(session: str, directory: Path) -> None:
    """Runs each command after a `$` in `directory`; what it prints must be what the session says.

    A line `...` there stands for any lines, and times are not compared.
    """
    for command, printed in commands(session):
        program, *args = shlex.split(command)
        assert program == "reshard", command
        done = subprocess.run(
            [str(RESHARD), *args],
            cwd=directory,
            timeout=60,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if printed:
            assert re.fullmatch(_expression(printed), done.stdout), (
                f"{command}\n--- printed\n{done.stdout}\n--- the document says\n{printed}"
            )
        else:
            assert done.returncode == 0, f"{command}\n{done.stdout}"


def commands(session: str) -> Iterator[tuple[str, str]]:
    """Each command and what is said to be printed; nothing where the document leaves that out."""
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def _expression(printed: str) -> str:
    lines = []
    for line in printed.splitlines():
        if line == "...":
            lines.append(r"(?:.*\n)*")
        else:
            lines.append(re.sub(r"\d+\\\.\d+\\ s\b", r"[0-9.]+\\ s", re.escape(line)) + r"\n")
    return "".join(lines)
