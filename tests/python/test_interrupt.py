"""Stopped half-way, in whatever manner, a second run ends with the bytes of an undisturbed one."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare

# A hundred files, each waited for until it is on the disk: longer than the tenth of a second in
# which Ctrl-C is noticed, on any disk.
OPTIONS = ("--jobs", 1, "--shard-size", "1MB", "--dtype", "bfloat16")


@pytest.fixture(scope="module")
def undisturbed(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("undisturbed") / "out"
    cli.convert(large, directory, *OPTIONS)
    return compare.tree_digest(directory)


def stop(number: signal.Signals, source: Path, parent: Path) -> tuple[int, Path]:
    """Stops a conversion half-way; tries again where it was quicker than the signal."""
    for attempt in range(20):
        destination = parent / f"attempt-{attempt}" / "out"
        destination.parent.mkdir()
        code = cli.stop_midway(number, source, destination, *OPTIONS)
        if code != 0:
            return code, destination
    raise AssertionError("every conversion had ended before the signal")


def test_killed_and_run_again(large: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    code, destination = stop(signal.SIGKILL, large, tmp_path)
    assert code == -signal.SIGKILL
    assert not destination.exists()
    assert len(cli.staged(destination)) == 1
    # What is not finished must not look like weights to anyone.
    assert not list(destination.parent.rglob("*.safetensors"))

    cli.convert(large, destination, *OPTIONS)
    assert compare.tree_digest(destination) == undisturbed
    assert [path.name for path in destination.parent.iterdir()] == ["out"]


def test_interrupted_and_run_again(
    large: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    code, destination = stop(signal.SIGINT, large, tmp_path)
    assert code == cli.INTERRUPTED
    assert not destination.exists()
    cli.convert(large, destination, *OPTIONS)
    assert compare.tree_digest(destination) == undisturbed
    assert cli.staged(destination) == []


def test_killed_twice(large: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    _, destination = stop(signal.SIGKILL, large, tmp_path)
    cli.stop_midway(signal.SIGKILL, large, destination, *OPTIONS)
    if not destination.exists():
        cli.convert(large, destination, *OPTIONS)
    assert compare.tree_digest(destination) == undisturbed


def test_without_resume(large: Path, undisturbed: dict[str, str], tmp_path: Path) -> None:
    _, destination = stop(signal.SIGKILL, large, tmp_path)
    cli.convert(large, destination, *OPTIONS, "--no-resume")
    assert compare.tree_digest(destination) == undisturbed


def test_what_was_staged_is_not_trusted_blindly(
    large: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    """Whatever the earlier run left is checked against checksums before it is kept."""
    _, destination = stop(signal.SIGKILL, large, tmp_path)
    for directory in cli.staged(destination):
        for path in directory.iterdir():
            data = bytearray(path.read_bytes())
            if len(data) > 1 << 20:
                data[len(data) // 2] ^= 0xFF
                path.write_bytes(data)
    cli.convert(large, destination, *OPTIONS)
    assert compare.tree_digest(destination) == undisturbed


def test_source_that_changed_in_between(tmp_path: Path) -> None:
    """Finished files of another source are not taken over."""
    checkpoint = tmp_path / "checkpoint"
    blocks = {f"model.model.layers.{i}.weight": torch.randn(1024, 512) for i in range(60)}
    checkpoints.save_single(blocks, checkpoint)
    _, destination = stop(signal.SIGKILL, checkpoint, tmp_path)
    changed = {name: tensor + 1 for name, tensor in blocks.items()}
    time.sleep(0.02)
    checkpoints.save_single(changed, checkpoint)
    cli.convert(checkpoint, destination, *OPTIONS)
    weights = {name.removeprefix("model."): t.bfloat16() for name, t in changed.items()}
    compare.assert_reads_as(destination, weights)
