"""Recipes as Python values: read from the repository with their parts, changed, written as TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cli import REPOSITORY

RECIPES = REPOSITORY / "recipes"

Table = dict[str, Any]


def load(name: str) -> Table:
    """A built-in recipe with the rules and sizes of its parts beside its own."""
    recipe = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    for include in recipe.pop("include", []):
        assert include.keys() == {"part"}, "a prefix would have to be written out"
        part = tomllib.loads((RECIPES / "parts" / f"{include['part']}.toml").read_text())
        for key, value in part.items():
            if isinstance(value, dict):
                recipe[key] = value | recipe.get(key, {})
            else:
                recipe[key] = recipe.get(key, []) + value
    return recipe


def save(recipe: Table, path: Path) -> Path:
    path.write_text("\n".join(_lines(recipe)) + "\n")
    return path


def _lines(recipe: Table) -> Iterator[str]:
    # A JSON string, list of strings, number or flag is TOML too.
    for key, value in recipe.items():
        if not _has_tables(value):
            yield f"{key} = {json.dumps(value)}"
    for key, value in recipe.items():
        if not _has_tables(value):
            continue
        for table in value if isinstance(value, list) else [value]:
            yield f"[[{key}]]" if isinstance(value, list) else f"[{key}]"
            for name, field in table.items():
                yield f"{json.dumps(name)} = {_inline(field)}"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    )


def keep_names(directory: Path, stage: str = "llm.every") -> Path:
    """A recipe of one's own that keeps every name, in `directory`, beside a config.json that says
    nothing. `identity` refuses ranks' files: one of many is no model."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text("{}")
    recipe = directory / "own.toml"
    recipe.write_text(
        f"""
name = "own"
description = "a test's"

[[rule]]
here  = "{{name*}}"
hub   = "{{name*}}"
stage = "{stage}"
"""
    )
    return recipe
