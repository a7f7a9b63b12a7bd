"""The contract of the command line: exit codes, what is printed where, what is left on disk."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare
from harness.cli import DESTINATION, FIXTURES, MAPPING, NO, OK, SOURCE, USAGE

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"
COMMANDS = ["inspect", "plan", "convert", "verify", "recipe", "merge-dcp-to-hf", "mm-convert"]


def everything_below(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_a_screen(command: str) -> None:
    text = cli.ok(command, "--help").stdout
    assert len(text.splitlines()) <= 60
    assert max(map(len, text.splitlines())) <= 100
    assert command in text


def test_program_lists_its_commands() -> None:
    text = cli.ok("--help").stdout
    assert all(command in text for command in COMMANDS)
    assert cli.ok("--version").stdout.strip()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["convert"],
        ["convert", SAMPLE],
        ["convert", SAMPLE, "out", "--to", "no-such-kind"],
        ["convert", SAMPLE, "out", "--to", "hf", "--no-such-flag"],
        ["convert", SAMPLE, "out", "--to", "hf", "--dtype", "float31"],
        ["convert", SAMPLE, "out", "--to", "hf", "--dtype-for", "no-equals-sign"],
        ["convert", SAMPLE, "out", "--to", "hf", "--dtype-for", "(=float16"],
        ["convert", SAMPLE, "out", "--to", "hf", "--ignore", "("],
        ["convert", SAMPLE, "out", "--to", "hf", "--shard-size", "many"],
        ["convert", SAMPLE, "out", "--to", "hf", "--shard-size", "0"],
        ["convert", SAMPLE, "out", "--to", "hf", "--shard-size", "-1"],
        ["convert", SAMPLE, "out", "--to", "hf", "--shard-size", "99999999999999999999"],
        ["convert", SAMPLE, "out", "--to", "hf", "--jobs", "-2"],
        ["convert", SAMPLE, "out", "--to", "hf", "--packing", "random"],
        ["convert", SAMPLE, "out", "--to", "hf", "--weights", "gguf"],
        ["convert", SAMPLE, "out", "--to", "hf", "--recipe", "no-such-recipe"],
        ["recipe", "show", "no-such-recipe"],
        ["inspect"],
        ["verify"],
    ],
)
def test_wrong_usage(arguments: list[object], tmp_path: Path) -> None:
    done = cli.expect(USAGE, *arguments, cwd=tmp_path)
    assert done.stderr.strip()
    assert everything_below(tmp_path) == []


def test_destination_that_exists_is_refused(tmp_path: Path, out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    before = everything_below(tmp_path)
    done = cli.expect(DESTINATION, "convert", SAMPLE, out, "--to", "hf")
    assert str(out) in done.stderr
    assert "--force" in done.stderr
    assert everything_below(tmp_path) == before


def test_force_replaces(out: Path) -> None:
    out.mkdir()
    (out / "model-00001-of-00002.safetensors").write_bytes(b"stale")
    cli.convert(SAMPLE, out, "--force")
    assert [path.name for path in compare.weight_files(out)] == ["model.safetensors"]
    cli.convert(SAMPLE, out, "--force", "--shard-size", "100KB")
    assert len(compare.weight_files(out)) > 1
    compare.read_hf(out)


def test_destination_that_cannot_be_written() -> None:
    done = cli.expect(DESTINATION, "convert", SAMPLE, "/proc/no/such/place", "--to", "hf")
    assert "/proc/no" in done.stderr


def test_destination_inside_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cli.expect(DESTINATION, "convert", SAMPLE, tmp_path / "file" / "out", "--to", "hf")


def test_nothing_is_left_beside_the_destination(tmp_path: Path, out: Path) -> None:
    cli.convert(SAMPLE, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "reshard-manifest.json").is_file()


@pytest.mark.parametrize("command", ["plan", "convert --dry-run"])
def test_planning_writes_nothing(command: str, tmp_path: Path, out: Path) -> None:
    name, *flags = command.split()
    cli.ok(name, SAMPLE, out, "--to", "hf", *flags)
    report = cli.json_values(cli.ok(name, SAMPLE, out, "--to", "hf", *flags, "--json").stdout)
    assert "model.safetensors" in set(cli.strings_in(report))
    assert everything_below(tmp_path) == []


def test_a_plan_can_be_stored_and_run(tmp_path: Path, out: Path) -> None:
    plan = tmp_path / "plan.json"
    options = ("--to", "hf", "--dtype", "bfloat16", "--shard-size", "100KB")
    cli.ok("plan", SAMPLE, out, *options, "-o", plan)
    json.loads(plan.read_text())
    assert not out.exists()
    cli.ok("convert", SAMPLE, out, "--plan", plan)
    cli.ok("convert", SAMPLE, tmp_path / "direct", *options)
    assert compare.tree_digest(out) == compare.tree_digest(tmp_path / "direct")


def test_a_plan_of_a_source_that_changed_is_refused(tmp_path: Path, out: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    checkpoints.save_single({"model.model.w": torch.ones(4, 4)}, checkpoint)
    plan = tmp_path / "plan.json"
    cli.ok("plan", checkpoint, out, "--to", "hf", "-o", plan)
    checkpoints.save_single({"model.model.w": torch.ones(9, 4)}, checkpoint)
    done = cli.run("convert", checkpoint, out, "--plan", plan)
    assert done.returncode not in (OK, 70), done.stderr
    assert not out.exists()


@pytest.mark.parametrize("command", ["inspect", "convert", "verify"])
def test_json_is_all_there_is_on_stdout(command: str, out: Path) -> None:
    """One value, or one per line; progress and warnings are on stderr."""
    if command == "verify":
        cli.convert(SAMPLE, out)
    arguments = {"inspect": [SAMPLE], "convert": [SAMPLE, out, "--to", "hf"], "verify": [out]}
    if command == "verify" and "--json" not in cli.ok("verify", "--help").stdout:
        pytest.skip("verify has no --json")
    done = cli.ok(command, *arguments[command], "--json")
    assert all(isinstance(value, dict) for value in cli.json_values(done.stdout))


def test_quiet_is_quiet(out: Path) -> None:
    done = cli.convert(SAMPLE, out, "-q")
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) <= 1


def test_verify(out: Path) -> None:
    cli.convert(SAMPLE, out, "--shard-size", "100KB")
    cli.ok("verify", out)
    for path in compare.weight_files(out):
        data = bytearray(path.read_bytes())
        for position in (0, len(data) // 2, len(data) - 1):
            data[position] ^= 0x10
            path.write_bytes(data)
            assert path.name in flat(cli.expect(NO, "verify", out))
            data[position] ^= 0x10
        path.write_bytes(data[:-1])
        assert path.name in flat(cli.expect(NO, "verify", out))
        path.write_bytes(data)
    cli.ok("verify", out)
    path.unlink()
    assert path.name in flat(cli.expect(NO, "verify", out))


def flat(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout}\n{done.stderr}"


def test_manifest_has_no_paths_and_no_times(out: Path) -> None:
    cli.convert(SAMPLE, out)
    text = (out / "reshard-manifest.json").read_text()
    assert str(out) not in text
    assert str(SAMPLE) not in text
    files = {path.name for path in out.iterdir()} - {"reshard-manifest.json"}
    assert files <= set(cli.strings_in(json.loads(text)))


@pytest.mark.parametrize("weights", ["safetensors", "bin"])
def test_the_same_bytes_for_any_number_of_jobs(weights: str, trained: Path, tmp_path: Path) -> None:
    options = ("--weights", weights, "--shard-size", "30KB", "--dtype", "bfloat16")
    digests = []
    for jobs in (1, 2, 8):
        cli.convert(trained / "llama_fsdp2", tmp_path / str(jobs), "--jobs", jobs, *options)
        digests.append(compare.tree_digest(tmp_path / str(jobs)))
    assert digests[0] == digests[1] == digests[2]


def test_the_same_bytes_of_a_large_checkpoint(large: Path, tmp_path: Path) -> None:
    for name, options in {"a": ["--jobs", "1"], "b": ["--jobs", "8", "--memory", "32MiB"]}.items():
        cli.convert(large, tmp_path / name, *options, "--shard-size", "64MB")
    assert compare.tree_digest(tmp_path / "a") == compare.tree_digest(tmp_path / "b")


def test_ignore_drops_and_says_so(trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out, "--ignore", ".*lm_head.*", "--ignore", ".*mlp.*")
    assert not [name for name in compare.read_hf(out) if "lm_head" in name or "mlp" in name]


def test_auto_says_which_recipe_and_why(trained: Path, out: Path) -> None:
    assert "veomni" in cli.convert(trained / "llama_fsdp2", out).stderr
    plain = cli.convert(FIXTURES / "hf_single" / "ckpt", out.with_name("plain"))
    assert "identity" in plain.stderr


def test_no_weights_for_the_recipe(out: Path) -> None:
    cli.refused(MAPPING, FIXTURES / "mr_dtensor_1d" / "ckpt", out, "--recipe", "veomni")


def test_recipes() -> None:
    listed = cli.ok("recipe", "list").stdout
    for name in ("identity", "veomni", "veomni-old", "auto"):
        assert name in listed
    for name in ("identity", "veomni", "veomni-old"):
        assert name in cli.ok("recipe", "show", name).stdout


def test_recipe_check(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(cli.ok("recipe", "show", "veomni").stdout)
    cli.ok("recipe", "check", path)
    path.write_text("name = \n")
    assert "mine.toml" in flat(cli.run("recipe", "check", path))
    assert cli.run("recipe", "check", path).returncode in (NO, USAGE, SOURCE, MAPPING)


def test_a_recipe_of_ones_own(trained: Path, tmp_path: Path, out: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(cli.ok("recipe", "show", "veomni").stdout)
    cli.convert(trained / "qwen3_hsdp", out, "--recipe", path)
    cli.convert(trained / "qwen3_hsdp", tmp_path / "named", "--recipe", "veomni")
    compare.assert_same(compare.read_hf(out), compare.read_hf(tmp_path / "named"))
