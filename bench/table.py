"""Rows of what a benchmark has measured, each against a goal, and how they are printed."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. `goal` is a bound in the unit of `value`."""

    what: str
    value: float
    unit: str
    goal: str
    met: bool
    detail: str


def at_least(what: str, value: float, goal: float, detail: str) -> Row:
    return Row(what, value, "x", f">= {goal:g}x", value >= goal, detail)


def at_most(what: str, value: float, unit: str, goal: float, detail: str) -> Row:
    return Row(what, value, unit, f"<= {goal:g} {unit}", value <= goal, detail)


def times(name: str, seconds: list[float]) -> str:
    return f"{name} {min(seconds):.2f} s min, {statistics.median(seconds):.2f} s median"


def ratio(numerator: list[float], denominator: list[float]) -> float:
    """The median of the rounds' ratios: what drifts between rounds drops out."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def print_table(rows: list[Row]) -> None:
    lines = [("measured", "value", "to reach", "", "from")]
    for row in rows:
        value = f"{row.value:.2f} {row.unit}" if row.value < 10 else f"{row.value:.0f} {row.unit}"
        lines.append((row.what, value, row.goal, "yes" if row.met else "NO", row.detail))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |")
