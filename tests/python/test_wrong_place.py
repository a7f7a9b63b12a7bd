"""Pointed at the wrong thing, the program says what it found there and what it was looking for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare
from harness.cli import MAPPING, SOURCE


def test_a_directory_that_does_not_exist(tmp_path: Path, out: Path) -> None:
    cli.refused(SOURCE, tmp_path / "nowhere", out, names="nowhere")
    assert "nowhere" in cli.expect(SOURCE, "inspect", tmp_path / "nowhere").stderr


def test_an_empty_directory(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    message = cli.refused(SOURCE, tmp_path / "empty", out, names="empty")
    assert ".metadata" in message
    assert "safetensors" in message


def test_the_repository_itself(out: Path) -> None:
    message = cli.refused(SOURCE, cli.REPOSITORY / "examples", out)
    assert ".metadata" in message


def test_data_files_without_metadata(tmp_path: Path, out: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoints.save_single({"w": torch.ones(3)}, checkpoint)
    (checkpoint / ".metadata").unlink()
    cli.refused(SOURCE, checkpoint, out, names=".metadata")


def test_a_file_that_is_no_checkpoint(out: Path) -> None:
    cli.refused(SOURCE, cli.REPOSITORY / "LICENSE", out, names="LICENSE")


@pytest.mark.parametrize("kind", ["dcp", "hf", "pt"])
def test_the_wrong_kind_is_named(kind: str, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    cli.refused(SOURCE, tmp_path / "empty", out, "--from", kind, names="empty")


def test_a_tracker_that_points_nowhere(tmp_path: Path, out: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("700\n")
    cli.refused(SOURCE, tmp_path / "run", out, names="700")


@pytest.mark.parametrize("text", ["", "../../etc", "1" * 10_000, "-5", "\x00"])
def test_a_hostile_tracker(text: str, tmp_path: Path, out: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text(text)
    cli.refused(SOURCE, tmp_path / "run", out)


HOSTILE = [
    'quote " and \\ backslash',
    "line\nbreak",
    "tab\tand \x1b[31mcolour",
    "../../escape",
    "/absolute",
    "\u00e9\u4e16\U0001f600",
    "a b",
    ".",
    "model..w",
    "null\x00byte",
    "x" * 5000,
]


def test_hostile_names_are_only_names(tmp_path: Path, out: Path) -> None:
    state = {name: torch.full((2, 3), i) for i, name in enumerate(HOSTILE)}
    checkpoints.save_single(state, tmp_path / "checkpoint")
    report = cli.ok("inspect", tmp_path / "checkpoint", "--tensors")
    assert "\x1b" not in report.stdout
    assert "\x00" not in report.stdout
    out.mkdir()
    for weights in ("safetensors", "bin"):
        cli.identity(tmp_path / "checkpoint", out / weights, "--weights", weights)
    compare.assert_reads_as(out / "safetensors", state)
    read = torch.load(out / "bin" / "pytorch_model.bin", weights_only=True)
    compare.assert_same_tensors(read, state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "out"]


def test_a_name_that_safetensors_reserves(tmp_path: Path, out: Path) -> None:
    checkpoints.save_single({"__metadata__": torch.ones(2)}, tmp_path / "checkpoint")
    message = cli.refused(MAPPING, tmp_path / "checkpoint", out, "--recipe", "identity")
    assert "__metadata__" in message


def test_error_text_has_no_escape_sequences(tmp_path: Path, out: Path) -> None:
    state = {"\x1b[31mred": torch.zeros(2, dtype=torch.complex128)}
    checkpoints.save_single(state, tmp_path / "checkpoint")
    message = cli.refused(MAPPING, tmp_path / "checkpoint", out, "--recipe", "identity")
    assert "\x1b" not in message
    assert "red" in message
