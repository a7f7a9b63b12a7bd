"""The words that people bring from elsewhere: URLs, names of types, sizes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path, PurePosixPath

import pytest
from harness import cli
from harness.cli import USAGE

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"

# Where a command takes a path.
PLACES = {
    "inspect": ["inspect", "URL"],
    "SRC": ["convert", "URL", "out"],
    "DST": ["convert", SAMPLE, "URL"],
    "DST of a plan": ["plan", SAMPLE, "URL"],
    "--assets-from": ["convert", SAMPLE, "out", "--assets-from", "URL"],
    "--like": ["convert", SAMPLE, "out", "--like", "URL"],
    "--llm-from": ["convert", SAMPLE, "out", "--llm-from", "URL"],
    "--recipe": ["convert", SAMPLE, "out", "--recipe", "URL.toml"],
    "--layout": ["convert", SAMPLE, "out", "--to", "megatron", "--layout", "URL.toml"],
    "--from-layout": ["convert", SAMPLE, "out", "--from-layout", "URL.toml"],
    "--plan": ["convert", "--plan", "URL"],
    "-o": ["plan", SAMPLE, "out", "-o", "URL"],
    "verify": ["verify", "URL"],
    "recipe show": ["recipe", "show", "URL.toml"],
    "recipe check": ["recipe", "check", "URL.toml"],
    "load-dir": ["merge-dcp-to-hf", "--load-dir", "URL", "--save-dir", "out"],
    "save-dir": ["merge-dcp-to-hf", "--load-dir", SAMPLE, "--save-dir", "URL"],
    "mm-convert": ["mm-convert", "Qwen2VLConverter", "hf_to_mm", "--cfg.mm_dir", "out",
                   "--cfg.hf_config.hf_dir", "URL", "--cfg.parallel_config.llm_pp_layers", "[1]",
                   "--cfg.parallel_config.vit_pp_layers", "[1]"],
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_url_is_no_path(place: str, tmp_path: Path) -> None:
    url = "s3://bucket/run"
    arguments = [str(word).replace("URL", url) for word in PLACES[place]]
    said = cli.expect(USAGE, *arguments, cwd=tmp_path).stderr
    assert "this is a URL" in said
    assert "aws s3 cp --recursive" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("gs://bucket/run", "gcloud storage cp -r gs://bucket/run DIRECTORY"),
        ("az://container/run", "azcopy"),
        ("hf://org/name", "hf download org/name"),
        ("https://huggingface.co/org/name/tree/main", "hf download org/name"),
        ("https://example.com/model.safetensors", "wget or curl"),
        ("file:///data/run", "leave the scheme out: /data/run"),
        (str(PurePosixPath("s3://bucket/run")), "aws s3 cp --recursive s3://bucket/run DIRECTORY"),
    ],
)
def test_what_would_work_in_place_of_a_url(url: str, advice: str, tmp_path: Path) -> None:
    assert advice in cli.expect(USAGE, "convert", url, "out", cwd=tmp_path).stderr
    cli.expect(USAGE, "convert", SAMPLE, url, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["--target", "hf"], "--to"),
        (["--output", "x"], "DST"),
        (["-i", "x"], "SRC"),
        (["--torch-dtype=bf16"], "--dtype"),
        (["--dytpe", "bf16"], "--dtype"),
        (["--overwrite"], "--force"),
    ],
)
def test_options_of_other_programs(theirs: list[str], ours: str, tmp_path: Path) -> None:
    said = cli.expect(USAGE, "convert", SAMPLE, "out", *theirs, cwd=tmp_path).stderr
    assert f"perhaps {ours}" in said


def test_other_names_of_the_target(tmp_path: Path) -> None:
    said = cli.expect(USAGE, "convert", SAMPLE, "out", "--to", "safetensors", cwd=tmp_path).stderr
    assert "hf is a Hugging Face directory" in said


def test_help_and_version() -> None:
    assert cli.ok("help").stdout == cli.ok("--help").stdout
    assert cli.ok("help", "convert").stdout == cli.ok("convert", "--help").stdout
    assert cli.ok("-V").stdout == cli.ok("--version").stdout


def on_a_terminal(columns: int, *command: object) -> str:
    """What a command prints where standard error is a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen([cli.RESHARD, *map(str, command)], stderr=theirs) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while part := os.read(ours, 4096):
                said += part
    os.close(ours)
    assert process.returncode == 0
    return said.decode()


@pytest.mark.parametrize("columns", [1, 5, 20, 48, 80, 200])
def test_the_bar_fits_the_terminal(columns: int, out: Path) -> None:
    said = on_a_terminal(columns, "convert", SAMPLE, out, "--to", "hf")
    bars = re.findall(r"\r([^\r\n]*)\x1b\[K", said)
    bars = [bar for bar in bars if bar]
    assert bars or columns == 1
    assert max(map(len, bars), default=0) < columns
    if columns >= 20:
        assert all("%" in bar for bar in bars)
    if columns >= 80:
        assert all(bar.startswith("[") for bar in bars)
    assert "\x1b" not in cli.ok("convert", SAMPLE, out, "--force").stderr
