"""convert, plan and verify from Python: the command line's answers, interruptible, and reported."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import reshard
from harness import cli, compare

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"


def summary(*command: object) -> dict[str, Any]:
    (last,) = [
        value
        for value in cli.json_values(cli.ok(*command, "--json").stdout)
        if value["message_type"] in {"summary", "verify"}
    ]
    return last


def assert_agrees(answer: Any, told: dict[str, Any], **names: str) -> None:
    """Each field of a dataclass has the value of the field of that name in the JSON."""
    for field in dataclasses.fields(answer):
        name = names.get(field.name, field.name)
        if name in told and field.name != "seconds":
            value = getattr(answer, field.name)
            if isinstance(value, tuple):
                value = list(value)
            if isinstance(value, dict):
                value = [{"tensor": tensor, "count": n} for tensor, n in value.items()]
            assert value == told[name], field.name


OPTIONS = [
    ({}, []),
    (
        {"dtype": "bfloat16", "shard_size": "100kB"},
        ["--dtype", "bfloat16", "--shard-size", "100kB"],
    ),
    (
        {"recipe": "identity", "dtype_for": {"norm": "float16"}, "ignore": ["exp_avg", "^step"]},
        ["--recipe", "identity", "--dtype-for", "norm=float16", "--ignore", "exp_avg",
         "--ignore", "^step"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "flags"), OPTIONS)
def test_convert(options: dict[str, Any], flags: list[str], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    report = reshard.convert(SAMPLE, ours, jobs=2, **options)
    told = summary("convert", SAMPLE, theirs, "--to", "hf", *flags)
    assert compare.tree_digest(ours) == compare.tree_digest(theirs)
    assert_agrees(report.plan, told, bytes_written="")
    assert_agrees(report, told)
    assert report.bytes_resumed == 0
    assert report.seconds > 0


def test_convert_to_ranks_and_back(tmp_path: Path) -> None:
    hub, ranks, again = tmp_path / "hub", tmp_path / "ranks", tmp_path / "again"
    reshard.convert(SAMPLE, hub)
    reshard.convert(hub, ranks, to="megatron", recipe="megatron-core", tp=2, pp=2)
    assert len(list(ranks.rglob("mp_rank_*/*.pt"))) == 4
    cli.ok("convert", hub, tmp_path / "theirs", "--to", "megatron:tp=2,pp=2",
           "--recipe", "megatron-core")  # fmt: skip
    assert compare.tree_digest(ranks) == compare.tree_digest(tmp_path / "theirs")
    reshard.convert(ranks, again, recipe="megatron-core", assets_from=hub)
    compare.assert_same(compare.read_hf(again), compare.read_hf(hub))


@pytest.mark.parametrize(("options", "flags"), OPTIONS)
def test_plan(options: dict[str, Any], flags: list[str], out: Path, tmp_path: Path) -> None:
    plan = reshard.plan(SAMPLE, out, **options)
    cli.ok("plan", SAMPLE, out, "--to", "hf", *flags, "-o", tmp_path / "plan.json")
    told = json.loads((tmp_path / "plan.json").read_text())
    assert plan.summary.plan_id == told["plan_id"]
    assert_agrees(plan.summary, told["summary"])
    assert list(plan.warnings) == told["warnings"]
    assert list(plan.missing_assets) == told["missing_assets"]
    assert [(d.name, d.byte_size, d.why) for d in plan.dropped] == [
        (d["name"], d["size"], d["why"]) for d in told["dropped"]
    ]
    assert [(f.path, f.byte_size) for f in plan.files] == [
        (f["path"], f["size"]) for f in told["files"]
    ]
    for file, entry in zip(plan.files, told["files"], strict=True):
        assert [dataclasses.asdict(t) | {"shape": list(t.shape)} for t in file.tensors] == [
            {key.replace("size", "byte_size"): value for key, value in tensor.items()}
            for tensor in entry.get("tensors", [])
        ]
    assert not out.exists()


def test_verify(out: Path) -> None:
    reshard.convert(SAMPLE, out)
    report = reshard.verify(out)
    assert report
    assert_agrees(report, summary("verify", out))

    with (out / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xaa")
    (out / "config.json").unlink()
    report = reshard.verify(out, jobs=1)
    assert not report
    (told,) = [
        value
        for value in cli.json_values(cli.expect(cli.NO, "verify", out, "--json").stdout)
        if value["message_type"] == "verify"
    ]
    assert_agrees(report, told | {"faults": [reshard.VerifyFault(**f) for f in told["faults"]]})
    assert {fault.file for fault in report.faults} == {"model.safetensors", "config.json"}


def test_recipes() -> None:
    shown = cli.ok("recipe", "list").stdout
    assert len(reshard.recipes()) >= 5
    for name, description in reshard.recipes().items():
        assert name in shown
        assert description in shown


def test_warnings_are_logged(caplog: pytest.LogCaptureFixture, out: Path) -> None:
    source = cli.FIXTURES / "dcp_nested" / "ckpt"
    plan = reshard.plan(source, out, recipe="veomni")
    assert plan.warnings
    logged = {r.getMessage() for r in caplog.records if r.name == "reshard"}
    assert set(plan.warnings) <= logged | set(plan.warnings)


def test_progress_is_told_on_the_calling_thread(large: Path, out: Path) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        assert threading.current_thread() is caller
        told.append((done, total))

    caller = threading.current_thread()
    report = reshard.convert(large, out, progress=progress)
    assert told == sorted(told)
    assert told[-1] == (report.bytes_written, report.bytes_written)
    assert {total for _, total in told} == {report.bytes_written}
    told.clear()
    assert reshard.verify(out, progress=progress)
    assert told[-1][0] == told[-1][1] > 0


def test_what_progress_raises_stops_the_work_and_is_raised(large: Path, out: Path) -> None:
    class Enough(Exception):
        pass

    calls = 0

    def progress(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        raise Enough(done)

    with pytest.raises(Enough):
        reshard.convert(large, out, jobs=1, progress=progress)
    assert calls == 1
    assert not out.exists()
    reshard.convert(large, out)
    assert reshard.verify(out)


def test_no_bar_off_a_terminal(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    reshard.convert(SAMPLE, out, progress=True)
    assert capfd.readouterr() == ("", "")


def test_other_threads_run_meanwhile(large: Path, out: Path) -> None:
    """A thread of Python goes on counting while the library works."""
    ticks: list[float] = []
    finished = threading.Event()

    def count() -> None:
        while not finished.wait(0.001):
            ticks.append(time.monotonic())

    thread = threading.Thread(target=count)
    thread.start()
    start = time.monotonic()
    reshard.convert(large, out, jobs=1)
    end = time.monotonic()
    finished.set()
    thread.join()
    during = [t for t in ticks if start < t < end]
    # Held, the GIL would let the thread run between two reports at most: ten times a second.
    assert len(during) > 20 * (end - start) + 5


# A hundred files, each waited for until it is on the disk: longer than the tenth of a second in
# which Ctrl-C is noticed, on any disk.
SLOWLY: dict[str, Any] = {"shard_size": "1MB", "jobs": 1}

WORK = f"""
import json, sys, reshard
print("started", flush=True)
try:
    reshard.convert(sys.argv[1], sys.argv[2], **{SLOWLY})
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
"""


def has_finished_a_file(staged: Path) -> bool:
    """The journal has a line beside its first, or the conversion has ended meanwhile."""
    try:
        return (staged / ".reshard-journal").read_text().count("\n") > 1
    except FileNotFoundError:
        return False


def interrupted(source: Path, parent: Path) -> Path:
    """A destination whose conversion Ctrl-C has stopped; where it was too quick, another one."""
    for attempt in range(20):
        destination = parent / f"attempt-{attempt}" / "out"
        destination.parent.mkdir()
        # A shell's background job ignores Ctrl-C, and would hand that on.
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(
            [sys.executable, "-c", WORK, str(source), str(destination)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        signal.signal(signal.SIGINT, before)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if any(has_finished_a_file(directory) for directory in cli.staged(destination)):
                break
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=30)
        if process.returncode == 0:
            continue
        assert process.returncode == 3
        assert printed == "started\ninterrupted\n"
        assert time.monotonic() - sent < 15
        return destination
    raise AssertionError("every conversion had ended before the signal")


def test_ctrl_c_and_the_same_call_again(large: Path, tmp_path: Path) -> None:
    reshard.convert(large, tmp_path / "undisturbed", **SLOWLY)
    destination = interrupted(large, tmp_path)
    assert not destination.exists()
    assert len(cli.staged(destination)) == 1
    assert reshard.convert(large, destination, **SLOWLY).bytes_resumed > 0
    assert cli.staged(destination) == []
    assert compare.tree_digest(destination) == compare.tree_digest(tmp_path / "undisturbed")
