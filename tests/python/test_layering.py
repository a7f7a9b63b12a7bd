"""The arrows of docs/architecture.md, and other rules of the sources that a grep can check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.cli import REPOSITORY

# What each folder of src/ may include besides itself and the public headers.
ARROWS: dict[str, set[str]] = {
    "base": set(),
    "io": {"base"},
    "formats/pickle": {"base"},
    "formats/safetensors": {"base"},
    "formats/zip": {"base"},
    "formats/dcp": {"base", "formats/pickle"},
    "formats/torch_save": {"base", "formats/pickle", "formats/zip"},
    "view": {"base"},
    "recipe": {"base", "io", "view"},
    "plan": {"base", "view", "recipe"},
    "engine": {"base", "io", "view", "plan"},
    "checkpoints": {"base", "io", "view", "recipe", "formats/*"},
    "api": {"base", "io", "view", "recipe", "plan", "engine", "checkpoints", "formats/*"},
    "cli": set(),
}

# Single headers that may be included against the arrows, and why.
EXCEPTIONS = {
    ("cli", "base/json_writer.h"),  # JSON for people's scripts; not worth a public header
    ("cli", "io/file.h"),  # plan.json and YAML: bytes from outside, as any other
    ("cli", "base/nearest.h"),  # what a misspelt word was to be, as the library tells it
}

# Formats see bytes, never where they come from, and what they do is done by one thread. Their tests
# read files that other programs wrote.
NOT_IN_FORMATS = {
    "filesystem", "fstream", "thread", "mutex", "atomic", "fcntl.h", "unistd.h", "sys/stat.h",
}  # fmt: skip

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
SOURCE_SUFFIXES = {".h", ".cc", ".py", ".sh", ".cmake", ".toml", ".in"}


def folder_of(path: str) -> str:
    """'formats/zip' of 'formats/zip/x.h', 'checkpoints' of 'checkpoints/hf/x.h'."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "formats" else parts[0]


def sources(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.suffix in {".h", ".cc"})


def may_include(folder: str, header: str) -> bool:
    if header.startswith("reshard/") or (folder, header) in EXCEPTIONS:
        return True
    target = folder_of(header)
    allowed = ARROWS[folder]
    return target == folder or target in allowed or (
        target.startswith("formats/") and "formats/*" in allowed
    )  # fmt: skip


def include_faults(root: Path) -> list[str]:
    """Includes under `root` that go against an arrow or lead nowhere."""
    faults = []
    for path in sources(root / "src"):
        name = path.relative_to(root / "src").as_posix()
        folder = folder_of(name)
        if folder not in ARROWS:
            faults.append(f"{name}: the folder '{folder}' is not among the arrows")
            continue
        for own, system in INCLUDE.findall(path.read_text()):
            if own and not may_include(folder, own):
                faults.append(f"{name}: may not include {own}")
            if own and not any((root / top / own).is_file() for top in ("src", "include")):
                faults.append(f"{name}: {own} does not exist")
            is_format = folder.startswith("formats/") and "test" not in path.stem
            if is_format and system in NOT_IN_FORMATS:
                faults.append(f"{name}: formats have no files and no threads, but <{system}>")
    for path in sources(root / "python" / "src"):
        for own, _ in INCLUDE.findall(path.read_text()):
            if own and not own.startswith("reshard/") and not (path.parent / own).is_file():
                faults.append(f"{path.name}: the extension may not include {own}")
    for path in sources(root / "include"):
        for own, system in INCLUDE.findall(path.read_text()):
            if own and not (own.startswith("reshard/") and (root / "include" / own).is_file()):
                faults.append(f"{path.name}: a public header may not include {own}")
            if "/" in system or system.endswith(".h"):
                faults.append(f"{path.name}: a public header may not include <{system}>")
    return faults


def test_includes_follow_the_arrows() -> None:
    assert include_faults(REPOSITORY) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/base/x.cc", '#include "io/file.h"'),
        ("src/formats/zip/x.cc", '#include "formats/pickle/pickle.h"'),
        ("src/formats/zip/x.cc", '#include "io/file.h"'),
        ("src/formats/zip/x.cc", "#include <thread>"),
        ("src/engine/x.cc", '#include "recipe/recipe.h"'),
        ("src/engine/x.cc", ' # include  "formats/zip/zip.h"'),
        ("src/checkpoints/hf/x.cc", '#include "plan/planner.h"'),
        ("src/checkpoints/hf/x.cc", '#include "engine/cast.h"'),
        ("src/cli/x.cc", '#include "base/try.h"'),
        ("src/api/x.cc", '#include "cli/output.h"'),
        ("src/new/x.cc", ""),
        ("python/src/x.cc", '#include "base/try.h"'),
        ("python/src/x.cc", '#include "api/jobs.h"'),
        ("include/reshard/x.h", '#include "base/try.h"'),
        ("include/reshard/x.h", "#include <fmt/format.h>"),
    ],
)
def test_an_include_against_the_arrows_is_found(tmp_path: Path, path: str, line: str) -> None:
    for header in (
        "io/file.h",
        "formats/pickle/pickle.h",
        "formats/zip/zip.h",
        "recipe/recipe.h",
        "plan/planner.h",
        "engine/cast.h",
        "base/try.h",
        "base/json_writer.h",
        "cli/output.h",
    ):
        (tmp_path / "src" / header).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / header).touch()
    (tmp_path / "src/cli/fine.cc").write_text('#include "base/json_writer.h"\n#include <fcntl.h>\n')
    assert include_faults(tmp_path) == []
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(line + "\n")
    assert len(include_faults(tmp_path)) == 1


def test_every_source_belongs_to_a_target() -> None:
    missing = []
    for top in ("src", "python", "bench", "fuzz", "tests", "examples"):
        for path in (REPOSITORY / top).rglob("*.cc"):
            folder = next(p for p in path.parents if (p / "CMakeLists.txt").is_file())
            listed = re.sub(r"#.*", "", (folder / "CMakeLists.txt").read_text())
            name = path.relative_to(folder).as_posix()
            stem = name.removesuffix(".cc")  # fuzz/ names its programs without the ending
            if not re.search(rf"(?<![\w/.]){re.escape(stem)}(\.cc)?(?![\w/.])", listed):
                missing.append(path.relative_to(REPOSITORY).as_posix())
    assert missing == []


def test_every_test_file_is_a_program_that_ctest_runs() -> None:
    for path in (REPOSITORY / "src").rglob("*_test.cc"):
        folder = next(p for p in path.parents if (p / "CMakeLists.txt").is_file())
        tests = re.findall(r"TESTS((?:\s+[\w/]+\.cc)+)", (folder / "CMakeLists.txt").read_text())
        named = {name for group in tests for name in group.split()}
        assert path.relative_to(folder).as_posix() in named, path


def test_header_guards_are_the_path() -> None:
    prefixes = {"src": "RESHARD_", "include/reshard": "RESHARD_", "python/src": "RESHARD_PYTHON_"}
    headers = {(top, path) for top in prefixes for path in sources(REPOSITORY / top)}
    for top, path in headers:
        if path.suffix != ".h":
            continue
        name = path.relative_to(REPOSITORY / top).as_posix()
        guard = prefixes[top] + re.sub(r"\W", "_", name).upper() + "_"
        text = path.read_text()
        assert text.startswith(f"#ifndef {guard}\n#define {guard}\n"), path
        assert text.endswith(f"#endif  // {guard}\n"), path


SOURCE_FOLDERS = (
    "src",
    "include",
    "python",
    "bench",
    "fuzz",
    "tests",
    "examples",
    "scripts",
    "cmake",
    "recipes",
)


# Calls of std::filesystem that throw unless they get an error code, and iterators that throw on
# the way. What must not fail by an exception, or silently, goes through io/directory.h.
THROWING = re.compile(
    r"(?:fs|filesystem)::(?:"
    r"(?:exists|is_directory|is_regular_file|is_symlink|is_empty|file_size|status|symlink_status|"
    r"absolute|canonical|weakly_canonical|relative|current_path|rename|remove|remove_all|"
    r"create_directory|create_directories|resize_file|copy_file|last_write_time|space|equivalent)"
    r"\((?P<arguments>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)"
    r"|(?P<iterator>directory_iterator\())"
)


def throwing_calls(text: str) -> list[str]:
    return [
        call.group(0)
        for call in THROWING.finditer(text)
        if call["iterator"] or not re.search(r"\b(?:code|ignored)$", call["arguments"].strip())
    ]


def test_no_call_of_the_file_system_throws() -> None:
    found = {
        path.relative_to(REPOSITORY).as_posix(): calls
        for top in ("src", "python/src")
        for path in sources(REPOSITORY / top)
        if "test" not in path.stem and (calls := throwing_calls(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("fs::exists(path / f(x, g(y)), code)", 0),
        ("fs::exists(path)", 1),
        ("std::filesystem::absolute(a).lexically_normal()", 1),
        ("fs::weakly_canonical(fs::absolute(path, code), code)", 0),
        ("for (const auto& entry : fs::directory_iterator(place, code))", 1),
        ("fs::current_path()", 1),
        ("fs::rename(a, b, ignored);", 0),
    ],
)
def test_a_call_that_throws_is_found(text: str, count: int) -> None:
    assert len(throwing_calls(text)) == count


def test_sources_are_ascii() -> None:
    for top in SOURCE_FOLDERS:
        for path in (REPOSITORY / top).rglob("*"):
            is_source = path.suffix in SOURCE_SUFFIXES or path.name == "CMakeLists.txt"
            if is_source and path.is_file() and "data" not in path.parts:
                assert path.read_bytes().isascii(), path
