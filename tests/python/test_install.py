"""What `cmake --install` gives: a program, and a library that another project finds and links."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from harness import cli
from safetensors import safe_open

BUILD = cli.RESHARD.parent.parent
SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"


def run(*command: object, cwd: Path | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation that was moved after it was made."""
    if not (BUILD / "cmake_install.cmake").is_file():
        pytest.skip(f"{cli.RESHARD} does not lie in a build directory")
    installed = tmp_path_factory.mktemp("install") / "first"
    run("cmake", "--install", BUILD, "--prefix", installed)
    return installed.rename(installed.with_name("moved"))


def test_what_is_installed(prefix: Path) -> None:
    files = {path.relative_to(prefix).as_posix() for path in prefix.rglob("*") if path.is_file()}
    root = cli.REPOSITORY
    headers = {f"include/reshard/{path.name}" for path in root.glob("include/reshard/*.h")}
    recipes = {f"share/reshard/recipes/{path.name}" for path in root.glob("recipes/*.toml")}
    assert headers | recipes | {"bin/reshard"} <= files
    assert {name for name in files if name.startswith("include/")} == headers
    assert [name for name in files if name.endswith((".a", ".so"))] == ["lib/libreshard.a"]


def test_the_package_knows_no_place(prefix: Path) -> None:
    for path in prefix.glob("lib/cmake/reshard/*.cmake"):
        assert str(cli.REPOSITORY) not in path.read_text(), path


def test_the_program_runs(prefix: Path, out: Path) -> None:
    run(prefix / "bin" / "reshard", "convert", SAMPLE, out, "--to", "hf")
    assert (out / "model.safetensors").is_file()


def test_the_example_builds_against_it(prefix: Path, tmp_path: Path, out: Path) -> None:
    # A copy, so that nothing of this repository can be found by accident.
    shutil.copytree(cli.REPOSITORY / "examples", tmp_path / "project")
    build = tmp_path / "build"
    run("cmake", "-S", tmp_path / "project", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", build)
    shown = run(build / "quickstart", SAMPLE, out)
    cli.convert(SAMPLE, tmp_path / "reference")
    reference = tmp_path / "reference" / "model.safetensors"
    assert (out / "model.safetensors").read_bytes() == reference.read_bytes()
    with safe_open(reference, "pt") as file:
        names = list(file.keys())
    assert f"{len(names)} tensors" in shown
    assert "model.embed_tokens.weight: float32, shape" in shown

    missing = subprocess.run([build / "quickstart", tmp_path / "none", out], capture_output=True)
    assert missing.returncode == cli.SOURCE


def test_each_public_header_stands_alone(prefix: Path) -> None:
    for header in sorted((prefix / "include" / "reshard").glob("*.h")):
        run("g++", "-std=c++23", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
            "-I", prefix / "include", "-x", "c++", header)  # fmt: skip
