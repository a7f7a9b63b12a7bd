"""Files that are no files, inputs that grow, an environment that gives nothing: each ends soon,
with the exit code of its kind and a sentence, never by a signal and never as a defect of ours."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import cli, compare

EXAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"
SECONDS = 20  # what each of these may take on a busy machine; without its mend it took minutes


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Hugging Face directory. Read only."""
    directory = tmp_path_factory.mktemp("hostile") / "hf"
    cli.convert(EXAMPLE, directory)
    return directory


def ends(
    code: int, *args: object, says: str = "", before: Callable[[], None] | None = None
) -> None:
    """`reshard ARGS...` that must end with `code`, soon, and say `says`."""
    command = [str(cli.RESHARD), *map(str, args)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            timeout=SECONDS, preexec_fn=before,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it does not end: {command}") from None
    assert done.returncode == code, f"exit {done.returncode}: {done.stderr}"
    assert says in done.stderr


def within(mebibytes: int) -> Callable[[], None]:
    """For `ends`: no more memory than this; a program that wants more ends with another code."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))


# ---- plan.json


@pytest.mark.parametrize("member", ["ignore", "dtype_for", "source", "shard_size", "dequantize"])
@pytest.mark.parametrize("instead", [None, "null", "number"])
def test_a_stored_request_that_lacks_a_member(
    hf: Path, tmp_path: Path, member: str, instead: str | None
) -> None:
    plan = json.loads(cli.ok("plan", hf, tmp_path / "out", "--to", "hf", "--json").stdout)
    if instead is None:
        del plan["request"][member]
    else:
        plan["request"][member] = None if instead == "null" else 7.5
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    ends(cli.USAGE, "convert", "--plan", tmp_path / "plan.json", says=f"'{member}'")


@pytest.mark.parametrize("request_", [None, [], "text", 1, {}])
def test_a_stored_request_that_is_none(hf: Path, tmp_path: Path, request_: object) -> None:
    plan = {"reshard_plan": 1, "plan_id": "00", "request": request_}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    ends(cli.USAGE, "convert", "--plan", tmp_path / "plan.json", "--dry-run")


# ---- recipes


def test_a_recipe_with_a_deep_key(tmp_path: Path) -> None:
    recipe = tmp_path / "deep.toml"
    recipe.write_text('name = "x"\n' + ".".join(["a"] * 200_000) + " = 1\n")
    ends(cli.USAGE, "recipe", "check", recipe, says="more than 32 parts")


def test_many_captures_in_a_name(tmp_path: Path) -> None:
    """Each capture more doubled the time."""
    captures = "_".join(f"{{c{i}}}" for i in range(30))
    recipe = tmp_path / "captures.toml"
    recipe.write_text(
        'name = "x"\ndescription = "x"\n'
        f'[[rule]]\nhub = "a.{captures}.x"\nhere = "b.{captures}.x"\n'
    )
    save_names(tmp_path / "source", ["b." + "_" * 400])
    ends(cli.MAPPING, "convert", tmp_path / "source", tmp_path / "out", "--to", "hf",
         "--recipe", recipe)  # fmt: skip


def many_rules(directory: Path, count: int) -> Path:
    """A recipe whose rules all begin with a capture: each must be compared with each other."""
    recipe = directory / "many.toml"
    rules = "".join(
        f'[[rule]]\nhub = "{{a}}.r{i}.{{b}}.w"\nhere = "{{a}}.s{i}.{{b}}.w"\n' for i in range(count)
    )
    recipe.write_text('name = "x"\ndescription = "x"\n' + rules)
    return recipe


def test_more_names_in_rules_than_can_be_compared(tmp_path: Path) -> None:
    ends(cli.USAGE, "recipe", "check", many_rules(tmp_path, 10_001), says="too many rules")


def save_names(directory: Path, names: list[str]) -> None:
    """A model.safetensors with tensors of one element each."""
    header = {
        name: {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]}
        for i, name in enumerate(names)
    }
    text = json.dumps(header).encode()
    directory.mkdir()
    (directory / "model.safetensors").write_bytes(
        len(text).to_bytes(8, "little") + text + bytes(len(names))
    )


# ---- what is no file


def fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    "name", ["model.safetensors.index.json", "model.safetensors", ".metadata", "__0.metadata",
             "latest_checkpointed_iteration.txt", "pytorch_model.bin"],
)  # fmt: skip
def test_a_fifo_in_place_of_a_source(tmp_path: Path, name: str) -> None:
    fifo(tmp_path / name)
    ends(cli.SOURCE, "inspect", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_fifo_among_the_assets(hf: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(hf, tmp_path / "source")
    fifo(tmp_path / "source" / name)
    done = cli.run("convert", tmp_path / "source", tmp_path / "out", "--to", "hf", timeout=SECONDS)
    # A loader will miss it, or it is an error: it is never waited for.
    assert done.returncode in (cli.OK, cli.SOURCE), done.stderr
    assert name in done.stderr or name == "tokenizer.json"


def test_a_fifo_among_the_files_of_a_manifest(hf: Path, tmp_path: Path) -> None:
    shutil.copytree(hf, tmp_path / "out")
    fifo(tmp_path / "out" / "config.json")
    ends(cli.NO, "verify", tmp_path / "out", says="config.json: it is no regular file")
    fifo(tmp_path / "out" / "reshard-manifest.json")
    ends(cli.SOURCE, "verify", tmp_path / "out")


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_no_file_is_given_where_one_is_wanted(hf: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "x.toml"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "fifo":
            os.mkfifo(place)
        elif kind == "socket":
            os.chdir(tmp_path)  # a socket's path is short
            listener.bind("x.toml")
        else:
            place.symlink_to("/dev/zero")
        ends(cli.USAGE, "convert", "--plan", place)
        ends(cli.USAGE, "recipe", "check", place)
        ends(cli.USAGE, "convert", hf, tmp_path / "o", "--to", "megatron", "--layout", place)
        ends(cli.USAGE, "mm-convert", "Qwen2VLConverter", "hf_to_mm", "--config", place)
        ends(cli.SOURCE, "inspect", place)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_it_before_anything_is_written(
    hf: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [str(cli.RESHARD), "convert", str(hf), str(tmp_path / "out"), "--to", "hf",
         "--recipe", str(many_rules(tmp_path, 3000))], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(timeout=SECONDS) in (cli.INTERRUPTED, -number)
    assert not list(tmp_path.glob("out*"))


# ---- what grows


@pytest.mark.parametrize("value", ["-Infinity", "NaN"])
def test_a_config_full_of_numbers_that_are_none(hf: Path, tmp_path: Path, value: str) -> None:
    shutil.copytree(hf, tmp_path / "source")
    config = (hf / "config.json").read_text().lstrip()
    numbers = ",".join([value] * (7_000_000 // (len(value) + 1)))
    (tmp_path / "source" / "config.json").write_text('{"a": [' + numbers + "]," + config[1:])
    ends(cli.OK, "convert", tmp_path / "source", tmp_path / "out", "--to", "hf", "--dry-run", "-q")


def test_a_config_full_of_types(hf: Path, tmp_path: Path) -> None:
    shutil.copytree(hf, tmp_path / "source")
    config = (hf / "config.json").read_text().lstrip()
    types = ",".join(['{"dtype":"half"}'] * 600_000)
    (tmp_path / "source" / "config.json").write_text('{"a": [' + types + "]," + config[1:])
    ends(cli.OK, "convert", tmp_path / "source", tmp_path / "out", "--to", "hf", "--dry-run", "-q",
         "--dtype", "bfloat16")  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("model.safetensors.index.json", b"[" + b"[]," * 15_000_000 + b"[]]"),
        ("model.safetensors.index.json", b'{"weight_map":{' + b'"a":"b",' * 7_000_000 + b'"":""}}'),
        ("config.json", b'{"a":[' + b",".join(b'"%x"' % i for i in range(900_000)) + b"]}"),
    ],
    ids=["brackets", "one tensor many times", "names"],
)
def test_a_large_file_costs_little(hf: Path, tmp_path: Path, name: str, text: bytes) -> None:
    shutil.copytree(hf, tmp_path / "source")
    if name != "config.json":
        (tmp_path / "source" / "model.safetensors").unlink()
    (tmp_path / "source" / name).write_bytes(text)
    ends(cli.OK if name == "config.json" else cli.SOURCE, "convert", tmp_path / "source",
         tmp_path / "out", "--to", "hf", "--dry-run", "-q", before=within(768))  # fmt: skip


def test_a_sparse_index(hf: Path, tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors.index.json").open("wb") as file:
        file.truncate(1 << 30)
    ends(cli.SOURCE, "inspect", tmp_path, before=within(256), says="1073741824 bytes")


def test_a_manifest_of_brackets(tmp_path: Path) -> None:
    (tmp_path / "reshard-manifest.json").write_bytes(b"[" + b"[]," * 20_000_000 + b"[]]")
    ends(cli.SOURCE, "verify", tmp_path, before=within(384))


def test_names_that_grow_with_their_depth(tmp_path: Path) -> None:
    """A megabyte of a key in each of 400 dictionaries: 80 GB of joined names."""
    tree: dict[str, object] = {"w": torch.zeros(1)}
    key = "k" * 1_000_000
    for _ in range(400):
        tree = {key: tree}
    torch.save(tree, tmp_path / "tree.pt")
    ends(cli.SOURCE, "inspect", tmp_path / "tree.pt", before=within(768))


def test_a_small_file_does_not_fill_the_disk(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1 << 20, 3 << 12)}, tmp_path / "huge.pt")
    assert (tmp_path / "huge.pt").stat().st_size < 2000
    ends(
        cli.SOURCE,
        "convert",
        tmp_path / "huge.pt",
        tmp_path / "o",
        "--to",
        "hf",
        says="tensor    w",
    )
    # One that a model has is written with all its elements, as torch.load gives it.
    mask = torch.arange(4.0).expand(1000, 4)
    torch.save({"mask": mask, "again": mask}, tmp_path / "mask.pt")
    cli.identity(tmp_path / "mask.pt", tmp_path / "written")
    compare.assert_reads_as(tmp_path / "written", {"mask": mask, "again": mask})


def test_more_ranks_than_there_are(hf: Path, tmp_path: Path) -> None:
    ends(cli.USAGE, "convert", hf, tmp_path / "o", "--to", "dcp:ranks=1000000", says="65536",
         before=within(256))  # fmt: skip


def test_a_shard_of_many_tensors(tmp_path: Path) -> None:
    """Each was looked for among all of them."""
    count = 100_000
    names = [f"t{i}" for i in range(count)]
    save_names(tmp_path / "plain", names)
    places = {name: {"saved_offsets": [i % 2]} for i, name in enumerate(names)}
    text = (tmp_path / "plain" / "model.safetensors").read_bytes()
    length = int.from_bytes(text[:8], "little")
    header = json.loads(text[8 : 8 + length])
    header["__metadata__"] = {"DCP_SHARDING_INFO": json.dumps(places), "DCP_VERSION": "1.0"}
    encoded = json.dumps(header).encode()
    (tmp_path / "shard").mkdir()
    (tmp_path / "shard" / "shard-00001-model-00001-of-00001.safetensors").write_bytes(
        len(encoded).to_bytes(8, "little") + encoded + text[8 + length :]
    )
    ends(cli.SOURCE, "inspect", tmp_path / "shard")


# ---- standard output


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("recipe", "list"),
                                       ("inspect", EXAMPLE), ("recipe", "show", "veomni"),
                                       ("inspect", EXAMPLE, "--json")], ids=str)  # fmt: skip
def test_output_to_a_full_disk(arguments: tuple[object, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(cli.RESHARD), *map(str, arguments)], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == cli.DESTINATION
    assert "standard output cannot be written: No space left on device" in done.stderr


def test_a_long_plan_to_a_full_disk(hf: Path, tmp_path: Path) -> None:
    """More than stdio holds back: the write that fails is not the last one."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(cli.RESHARD), "plan", str(hf), str(tmp_path / "o"), "--to", "hf", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == cli.DESTINATION
    assert "standard output" in done.stderr


def test_closed_output(hf: Path, tmp_path: Path) -> None:
    """What would be printed goes nowhere, and never into a file that got the number of stdout."""
    closed = ["sh", "-c", 'exec "$0" "$@" >&-', str(cli.RESHARD)]
    done = subprocess.run([*closed, "inspect", str(hf)], stderr=subprocess.PIPE, text=True)
    assert done.returncode == cli.DESTINATION, done.stderr
    subprocess.run([*closed, "convert", str(hf), str(tmp_path / "o"), "--to", "hf", "--json"])
    cli.ok("verify", tmp_path / "o")


def test_a_reader_that_has_seen_enough(hf: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [str(cli.RESHARD), "plan", str(hf), str(tmp_path / "o"), "--to", "hf", "--json"],
        stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)
    assert (done.returncode, done.stderr) == (cli.OK, "")


# ---- the environment


def test_a_working_directory_that_is_gone(hf: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$0" "$@"'
    for arguments, code in (
        (["inspect", "relative"], cli.SOURCE),
        (["inspect", "."], cli.SOURCE),
    ):
        gone.mkdir(exist_ok=True)
        done = subprocess.run(
            ["sh", "-c", script, str(cli.RESHARD), str(gone), *arguments],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stderr


def test_a_directory_that_must_not_be_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o011)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)

    def be_somebody() -> None:
        if os.getuid() == 0:
            os.setgid(61234)
            os.setuid(61234)

    ends(cli.SOURCE, "inspect", closed, before=be_somebody, says="Permission denied")


@pytest.mark.parametrize("mebibytes", [12, 16, 20, 24, 28, 32, 48, 64, 96])
def test_little_memory(hf: Path, tmp_path: Path, mebibytes: int) -> None:
    """Threads that are refused and memory that is not there: no abort, and the rerun ends."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mebibytes << 20, mebibytes << 20))

    process = subprocess.run(
        [str(cli.RESHARD), "convert", str(hf), str(tmp_path / "o"), "--to", "hf", "--jobs", "4"],
        preexec_fn=limit, capture_output=True, text=True,
    )  # fmt: skip
    # 127: the system could not even load the program.
    assert process.returncode in (cli.OK, cli.PARTIAL, 127), process.stderr
    if process.returncode == cli.PARTIAL:
        assert "there is not enough memory" in process.stderr
    if process.returncode != cli.OK:
        cli.ok("convert", hf, tmp_path / "o", "--to", "hf")
    cli.ok("verify", tmp_path / "o")
