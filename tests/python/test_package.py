"""What `pip install` puts in place: the extension alone and whole, the program, and types."""

from __future__ import annotations

import ast
import doctest
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest
import reshard
from harness import cli, reference
from reshard import _core

PACKAGE = Path(reshard.__file__).parent
EXTENSION = Path(_core.__file__)
SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"


def run(*command: object, cwd: Path = cli.REPOSITORY) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_it_is_the_installed_package() -> None:
    """A folder in PYTHONPATH would hide what an installation lacks."""
    assert PACKAGE.parent == Path(sysconfig.get_path("platlib"))


def test_files() -> None:
    files = importlib.metadata.files("reshard")
    assert files is not None
    names = {str(path) for path in files if path.suffix != ".pyc"}
    sources = {
        path.relative_to(cli.REPOSITORY / "python").as_posix()
        for path in (cli.REPOSITORY / "python" / "reshard").rglob("*")
        if path.suffix in {".py", ".pyi"} or path.name == "py.typed"
    }
    inside = {name for name in names if name.startswith("reshard/")}
    assert inside == sources | {f"reshard/{EXTENSION.name}"}
    others = names - inside
    assert {name for name in others if "dist-info" not in name} == {"../../../bin/reshard"}


def test_one_version() -> None:
    told = run(Path(sysconfig.get_path("scripts")) / "reshard", "--version")
    assert reshard.__version__ == importlib.metadata.version("reshard")
    assert reshard.__version__ in told
    assert reshard.__version__ in cli.ok("--version").stdout


def test_the_program_of_the_wheel_works(out: Path) -> None:
    program = Path(sysconfig.get_path("scripts")) / "reshard"
    run(program, "convert", SAMPLE, out, "--to", "hf")
    assert (out / "model.safetensors").is_file()


def test_one_symbol_is_visible() -> None:
    table = run("nm", "--dynamic", "--defined-only", EXTENSION)
    assert [line.split()[-1] for line in table.splitlines()] == ["PyInit__core"]


def test_what_the_extension_needs() -> None:
    """No C++ runtime and no compression library that PyTorch may have in another version."""
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "--dynamic", EXTENSION))
    assert set(needed) <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libsimdjson.so.14"}


@pytest.mark.parametrize("first", ["torch", "reshard"])
def test_beside_pytorch(first: str) -> None:
    second = {"torch": "reshard", "reshard": "torch"}[first]
    code = f"import {first}, {second}; reshard.open('examples/tiny-llama-dcp'); torch.ones(3).sum()"
    run(sys.executable, "-c", code)


def test_the_source_distribution(tmp_path: Path) -> None:
    """What is needed to build a wheel, and no test data."""
    code = "import scikit_build_core.build as b, sys; print(b.build_sdist(sys.argv[1], {}))"
    name = run(sys.executable, "-c", code, tmp_path).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        members = {m.name.partition("/")[2]: m.size for m in archive.getmembers() if m.isfile()}
    tops = {member.partition("/")[0] for member in members}
    assert {"CMakeLists.txt", "pyproject.toml", "LICENSE", "README.md", "src", "include", "recipes",
            "cmake", "python"} <= tops  # fmt: skip
    assert not tops & {"build", "out", "tests", "bench", "fuzz", "examples", "scripts"}
    assert not [member for member in members if member.endswith((".so", ".pyc", "_test.cc"))]
    for folder in ("src", "include", "recipes", "python"):
        for path in (cli.REPOSITORY / folder).rglob("*"):
            wanted = path.suffix in {".h", ".cc", ".toml", ".py", ".pyi", ".map"}
            if wanted and "_test" not in path.name:
                assert path.relative_to(cli.REPOSITORY).as_posix() in members, path
    assert sum(members.values()) < 4 << 20


def test_the_types_of_the_package() -> None:
    run(sys.executable, "-m", "mypy")  # with the settings of pyproject.toml


def signatures(stub: Path) -> dict[str, list[str]]:
    """Every function and method of a stub by its path, with the names of its parameters."""
    found = {}
    for node in ast.parse(stub.read_text()).body:
        is_class = isinstance(node, ast.ClassDef)
        prefix = f"{node.name}." if is_class else ""
        for item in node.body if is_class else [node]:
            if isinstance(item, ast.FunctionDef):
                found[prefix + item.name] = [argument.arg for argument in item.args.args]
    return found


def test_the_stub_says_what_the_extension_has(tmp_path: Path) -> None:
    """Every function and its parameters, as nanobind itself tells them, and nothing else."""
    run(sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "reshard._core",
        "-o", tmp_path / "told.pyi")  # fmt: skip
    assert signatures(PACKAGE / "_core.pyi") == signatures(tmp_path / "told.pyi")


def test_a_user_s_program_is_typed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy, reshard\n"
        "checkpoint = reshard.open('x')\n"
        "reveal_type(checkpoint['a'][0].shape)\n"
        "reveal_type(reshard.plan('a', 'b').files[0].tensors[0].byte_size)\n"
        "reshard.verify(3)\n"
        "reshard.convert('a', 'b', dtype=numpy.float16, dtype_for={'norm': 'fp32'}, tp=2)\n"
        "reshard.convert('a', 'b', dtpye='bfloat16')\n"
        "reshard.plan('a', 'b', weights='gguf')\n"
        "reshard.open('a', asets_from='b')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--output", "json", program],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(entry["line"], entry["severity"]) for entry in told] == [
        (3, "note"), (4, "note"), (5, "error"), (7, "error"), (8, "error"), (9, "error"),
    ], told  # fmt: skip
    assert "tuple[int, ...]" in told[0]["message"]
    assert '"int"' in told[1]["message"]


@pytest.fixture
def copy_of_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory to work in, with the repository's examples."""
    (tmp_path / "examples").symlink_to(cli.REPOSITORY / "examples")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("copy_of_the_root")
def test_the_document_s_examples() -> None:
    failed, tried = doctest.testfile(
        str(cli.REPOSITORY / "docs" / "python.md"), module_relative=False
    )
    assert tried > 15
    assert failed == 0  # what differs has been printed


def test_the_example_program() -> None:
    name = "lm_head.weight"
    wanted = reference.weights(reference.load(SAMPLE))[name]
    shown = run(sys.executable, "-W", "error", cli.REPOSITORY / "examples" / "open_and_slice.py")
    assert f"reshard.Tensor('{name}', float32, {list(wanted.shape)})" in shown
    assert f"{wanted[:2, -3:].numpy()}" in shown
    assert f"{wanted.nbytes} bytes read, {wanted.nbytes // 2} filled\n" in shown
    assert "SourceError: there is no such file or directory" in shown
