"""The options that the benchmarks of the program have in common, and how their rows are shown."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from table import Row, print_table

REPOSITORY = Path(__file__).resolve().parent.parent


def parse(doc: str | None, only: Sequence[str] = ()) -> argparse.Namespace:
    """The command line; makes the working directory. `only` are the parts that can run alone."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    venv = REPOSITORY / ".venv" / "bin" / "python"
    release = REPOSITORY / "build" / "release" / "bin" / "reshard"
    if only:
        parser.add_argument("--only", choices=only)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workdir", type=Path, default=REPOSITORY / "build" / "bench")
    parser.add_argument("--reshard", type=Path, default=release)
    parser.add_argument(
        "--python", default=venv if venv.exists() else sys.executable, help="one with PyTorch"
    )
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    return options


def show(rows: Sequence[Row], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        print_table(list(rows))
