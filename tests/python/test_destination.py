"""What an output may hold and replace, and what was made of a source that did not keep still.

Whatever lies about, DST is afterwards what it was before, or exactly what was to be written.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import cli, compare
from harness.cli import DESTINATION, NO, SOURCE, USAGE
from safetensors.torch import save_file

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"
SHARDED = ("--shard-size", "100kB")
MEGATRON = ("--to", "megatron", "--recipe", "megatron-core", "--tp", 2)
IN_ROOT = ("--to", "dcp:in-root", "--recipe", "identity")


def staging(source: Path, destination: Path, *options: object) -> Path:
    """Where a conversion keeps its unfinished files."""
    plan = json.loads(cli.ok("plan", source, destination, "--json", *options).stdout)
    return destination.with_name(f"{destination.name}.partial-{plan['plan_id'][:16]}")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample as a Hugging Face directory. Read only."""
    directory = tmp_path_factory.mktemp("hub") / "model"
    cli.convert(SAMPLE, directory)
    return directory


# --- What an output holds -----------------------------------------------------------------------


def test_an_old_output_is_never_taken_for_an_unfinished_one(tmp_path: Path, out: Path) -> None:
    """As a run leaves it that is killed right after it has exchanged the old output and the new."""
    cli.convert(SAMPLE, out, *SHARDED)
    old = staging(SAMPLE, out, "--to", "hf", *SHARDED)
    cli.convert(SAMPLE, old, "--dtype", "float16")
    before = compare.tree_digest(tmp_path)
    done = cli.expect(DESTINATION, "convert", SAMPLE, out, "--to", "hf", *SHARDED, "--force")
    assert str(old) in done.stderr
    assert compare.tree_digest(tmp_path) == before


def test_a_planted_staging_directory_is_refused(tmp_path: Path, out: Path) -> None:
    planted = staging(SAMPLE, out, "--to", "hf")
    planted.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (planted / "model.safetensors.partial").symlink_to(victim)
    (planted / "modeling_evil.py").write_text("import os")
    assert str(planted) in cli.refused(DESTINATION, SAMPLE, out)
    assert victim.read_text() == "precious"


def test_what_is_planted_among_unfinished_files(tmp_path: Path, out: Path) -> None:
    unfinished = staging(SAMPLE, out, "--to", "hf")
    unfinished.mkdir()
    (unfinished / ".reshard-journal").touch()
    stranger = unfinished / "modeling_evil.py"
    stranger.write_text("import os")
    assert stranger.name in cli.refused(DESTINATION, SAMPLE, out)
    stranger.unlink()

    soft, hard = tmp_path / "soft", tmp_path / "hard"
    for victim in (soft, hard):
        victim.write_text("precious")
    link = unfinished / "model.safetensors.partial"
    link.symlink_to(soft)
    assert link.name in cli.refused(DESTINATION, SAMPLE, out)
    link.unlink()

    # A name that the run itself needs is taken; what has it elsewhere, too, is left alone.
    os.link(hard, unfinished / "config.json.partial")
    os.link(hard, unfinished / "reshard-manifest.json")
    cli.convert(SAMPLE, out)
    assert (soft.read_text(), hard.read_text()) == ("precious", "precious")
    cli.ok("verify", out)


def test_a_planted_folder_does_not_lead_elsewhere(hub: Path, tmp_path: Path, out: Path) -> None:
    cli.ok("convert", hub, out, *MEGATRON)
    shutil.rmtree(out)
    unfinished = staging(hub, out, *MEGATRON).name.replace(out.name, "release", 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (out / unfinished).mkdir(parents=True)
    (out / unfinished / ".reshard-journal").touch()
    (out / unfinished / "mp_rank_00").symlink_to(elsewhere)
    cli.expect(DESTINATION, "convert", hub, out, *MEGATRON)
    assert list(elsewhere.iterdir()) == []


def test_verify_names_weights_that_it_does_not_know(hub: Path, out: Path) -> None:
    """transformers takes model.safetensors where there is one, before any index."""
    cli.convert(SAMPLE, out, *SHARDED)
    (out / "README.md").write_text("notes")
    (out / "training_args.bin").write_bytes(b"x")
    cli.ok("verify", out)
    shutil.copy(hub / "model.safetensors", out)
    done = cli.expect(NO, "verify", out, "--json")
    assert "model.safetensors: it is not in the manifest" in done.stderr
    message = next(m for m in cli.json_values(done.stdout) if m["message_type"] == "verify")
    assert not message["ok"]
    assert message["faults"] == []
    assert [fault["file"] for fault in message["unlisted"]] == ["model.safetensors"]


# --- A source that changes ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory of some size, in three files. Read only."""
    directory = tmp_path_factory.mktemp("blocks")
    weight_map = {}
    for part in range(3):
        name = f"model-{part + 1:05}-of-00003.safetensors"
        tensors = {f"w.{part}.{i}": torch.full((512, 512), part * 10 + i) for i in range(10)}
        save_file(tensors, directory / name)
        weight_map |= dict.fromkeys(tensors, name)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (directory / "config.json").write_text('{"dtype": "float32", "a": "x"}')
    (directory / "tokenizer.json").write_text("{}")
    for path in directory.iterdir():
        os.utime(path, (1, 1))  # long ago: the clock of files has steps
    return directory


def halted(arguments: list[object], destination: Path, do: Callable[[], None]) -> tuple[int, str]:
    """Runs a conversion, halts it when it has begun to write, calls `do`, and lets it go on."""
    for _ in range(20):
        process = subprocess.Popen(
            [str(cli.RESHARD), *map(str, arguments)], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if any(any(path.rglob("*.safetensors.partial")) for path in cli.staged(destination)):
                process.send_signal(signal.SIGSTOP)
                break
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if process.poll() is None and not destination.exists():
            do()
            process.send_signal(signal.SIGCONT)
            _, errors = process.communicate(timeout=60)
            return process.returncode, errors
        process.communicate(timeout=60)
        shutil.rmtree(destination)
    raise AssertionError("every conversion had ended before it could be halted")


def overwrite(path: Path) -> None:
    """Changes the last bytes in place; size and inode stay."""
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"  " if path.suffix == ".json" else b"\x01\x01")


def exchange(path: Path) -> None:
    """Another file of the same size takes its place."""
    copy = path.with_suffix(".new")
    shutil.copy2(path, copy)
    copy.rename(path)


@pytest.mark.parametrize("change", [overwrite, exchange])
@pytest.mark.parametrize(
    "name",
    [
        "model-00003-of-00003.safetensors",
        "model.safetensors.index.json",
        "config.json",
        "tokenizer.json",
    ],
)
def test_a_source_that_changes_while_it_is_read(
    name: str, change: Callable[[Path], None], blocks: Path, tmp_path: Path, out: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(blocks, source)
    arguments = ["convert", source, out, "--to", "hf", "--recipe", "identity", "--jobs", 1]
    arguments += ["--shard-size", "1MB"]
    code, errors = halted(arguments, out, lambda: change(source / name))
    assert code == SOURCE, errors
    assert str(source / name) in errors
    assert "again" in errors
    assert not out.exists()
    assert cli.staged(out) == [], "what is half of one state is worth nothing"


def test_a_destination_that_appears_meanwhile(blocks: Path, out: Path) -> None:
    """It is kept, and so is all that was written: the next run writes nothing twice, as is said."""
    arguments = ["convert", blocks, out, "--to", "hf", "--recipe", "identity", "--jobs", 1]
    arguments += ["--shard-size", "1MB"]

    def appear() -> None:
        out.mkdir()
        (out / "theirs").write_text("1")

    code, errors = halted(arguments, out, appear)
    assert code == DESTINATION
    assert "nothing needs to be written twice" in errors
    assert [path.name for path in out.iterdir()] == ["theirs"]
    shutil.rmtree(out)
    summary = cli.json_values(cli.ok(*arguments, "--json").stdout)[-1]
    assert summary["bytes_resumed"] == summary["bytes_written"]


# --- The last steps -----------------------------------------------------------------------------


@pytest.mark.parametrize("options", [MEGATRON, IN_ROOT], ids=["megatron", "dcp"])
def test_a_root_without_its_tracker_is_finished(
    options: tuple[object, ...], hub: Path, tmp_path: Path, out: Path
) -> None:
    source = tmp_path / "source"
    shutil.copytree(hub, source)
    command = ("convert", source, out, *options)
    cli.ok(*command)
    whole = compare.tree_digest(out)
    tracker = out / "latest_checkpointed_iteration.txt"
    times = {path: path.stat().st_mtime_ns for path in (out / "release").rglob("*")}

    tracker.unlink()
    done = cli.ok(*command)
    assert "complete already" in done.stderr
    assert compare.tree_digest(out) == whole
    assert {path: path.stat().st_mtime_ns for path in (out / "release").rglob("*")} == times
    assert "complete output" in cli.expect(DESTINATION, *command).stderr

    # An iteration that was written later is not set back.
    tracker.write_text("2000")
    assert str(tracker) in cli.expect(DESTINATION, *command).stderr
    assert tracker.read_text() == "2000"

    # What has changed since may be another model of the same shape.
    tracker.unlink()
    os.utime(source / "model.safetensors")
    cli.expect(DESTINATION, *command)
    assert not tracker.exists()

    # Nor is anything finished that is not whole.
    shutil.copytree(hub, source, dirs_exist_ok=True)
    cli.ok(*command, "--force")
    tracker.unlink()
    (out / "release" / "config.json").unlink()
    cli.expect(DESTINATION, *command)
    assert not tracker.exists()


def test_a_planted_link_is_not_written_through_for_the_tracker(
    hub: Path, tmp_path: Path, out: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out.mkdir()
    (out / "latest_checkpointed_iteration.txt.partial").symlink_to(victim)
    cli.ok("convert", hub, out, *MEGATRON)
    assert victim.read_text() == "precious"
    assert (out / "latest_checkpointed_iteration.txt").read_text() == "release"


def test_more_source_files_than_may_be_open(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    weight_map = {}
    for i in range(100):
        save_file({f"w{i}": torch.full((300,), i)}, source / f"{i}.safetensors")
        weight_map[f"w{i}"] = f"{i}.safetensors"
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    command = [str(cli.RESHARD), "convert", str(source), str(out), "--to", "hf"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -n 40 && exec "$@"', "sh", *command, "--recipe", "identity"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    compare.assert_reads_as(out, {f"w{i}": torch.full((300,), i) for i in range(100)})


# --- What may be replaced -----------------------------------------------------------------------


def in_llm(dst: Path, hub: Path) -> list[object]:
    shutil.copytree(hub, dst / "llm")
    return [hub, dst, "--llm-from", dst / "llm"]


def in_like(dst: Path, hub: Path) -> list[object]:
    shutil.copytree(hub, dst / "like")
    return [hub, dst, "--like", dst / "like"]


def in_recipe(dst: Path, hub: Path) -> list[object]:
    (dst / "own.toml").write_text(cli.ok("recipe", "show", "identity").stdout)
    return [hub, dst, "--recipe", dst / "own.toml"]


def in_plan(dst: Path, hub: Path) -> list[object]:
    cli.ok("plan", hub, dst, "--to", "hf", "-o", dst / "plan.json")
    return ["--plan", dst / "plan.json"]


def in_layout(dst: Path, hub: Path) -> list[object]:
    (dst / "layout.toml").write_text("tp = 1\n")
    return [hub, dst, "--to", "megatron", "--layout", dst / "layout.toml"]


def in_links(dst: Path, hub: Path) -> list[object]:
    """A source of links, as in the hub's cache, to files that lie in DST."""
    shutil.copytree(hub, dst / "blobs")
    source = dst.with_name("source")
    source.mkdir()
    for path in (dst / "blobs").iterdir():
        (source / path.name).symlink_to(path)
    return [source, dst]


def in_linked_asset(dst: Path, hub: Path) -> list[object]:
    source = dst.with_name("source")
    shutil.copytree(hub, source)
    (source / "tokenizer.json").rename(dst / "tokenizer.json")
    (source / "tokenizer.json").symlink_to(dst / "tokenizer.json")
    return [source, dst]


def in_assets(dst: Path, hub: Path) -> list[object]:
    shutil.copytree(hub, dst / "base")
    return [hub, dst, "--assets-from", dst / "base"]


@pytest.mark.parametrize(
    "role",
    [in_llm, in_like, in_recipe, in_plan, in_layout, in_links, in_linked_asset, in_assets],
)
def test_what_is_in_use_is_not_replaced(
    role: Callable[[Path, Path], list[object]], hub: Path, tmp_path: Path, out: Path
) -> None:
    out.mkdir()
    arguments = role(out, hub)
    before = compare.tree_digest(tmp_path)
    done = cli.expect(USAGE, "convert", *arguments, "--force")
    assert "which is in use" in done.stderr
    assert compare.tree_digest(tmp_path) == before


def test_parents_that_cannot_be_looked_at(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = cli.expect(DESTINATION, "convert", hub, tmp_path / "loop" / "out", "--to", "hf")
    assert "look at" in done.stderr


def test_a_working_directory_that_is_gone(hub: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    command = [str(cli.RESHARD), "convert", str(hub), "out", "--to", "hf"]
    done = subprocess.run(
        ["sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", str(gone), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == DESTINATION, done.stderr
    assert "working directory" in done.stderr


def test_another_users_staging_directory_is_refused(out: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    theirs = staging(SAMPLE, out, "--to", "hf")
    theirs.mkdir()
    (theirs / ".reshard-journal").touch()
    os.chown(theirs, 12345, 12345)
    assert "another user" in cli.refused(DESTINATION, SAMPLE, out)
