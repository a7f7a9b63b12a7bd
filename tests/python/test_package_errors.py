"""Errors of the package: a class for each kind, and the text of the command line."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reshard
from harness import cli

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"
CRASHED = cli.FIXTURES / "crash_file_missing" / "ckpt"

EXIT_CODES = {
    reshard.AnswerNo: 1,
    reshard.UsageError: 2,
    reshard.SourceError: 3,
    reshard.MappingError: 4,
    reshard.DestinationError: 5,
    reshard.PartialError: 6,
    reshard.InternalError: 70,
    reshard.Interrupted: 130,
}


def fails(call: Callable[[], object]) -> reshard.Error:
    with pytest.raises(reshard.Error) as caught:
        call()
    return caught.value


def assert_as_on_the_command_line(error: reshard.Error, *command: object) -> None:
    """The same kind, text and fields as the program's."""
    done = cli.run(*command, "--json")
    assert done.returncode == EXIT_CODES[type(error)]
    assert done.stderr.endswith(f"error[{error.kind}]: {error}\n")
    (told,) = [v for v in cli.json_values(done.stdout) if v["message_type"] == "error"]
    assert told["kind"] == error.kind
    for field in ("file", "offset", "tensor", "found", "expected", "help"):
        assert told[field] == getattr(error, field), field


@pytest.mark.parametrize("source", [Path("nowhere"), CRASHED, cli.FIXTURES / "crash_no_metadata"])
def test_a_source_that_cannot_be_read(source: Path) -> None:
    error = fails(lambda: reshard.open(source))
    assert isinstance(error, reshard.SourceError)
    assert error.file
    assert_as_on_the_command_line(error, "inspect", source)


OF_CONVERSIONS: dict[str, tuple[dict[str, Any], list[object]]] = {
    "no such recipe": ({"recipe": "lama"}, ["--recipe", "lama"]),
    "a misfit": ({"recipe": "megatron-core"}, ["--recipe", "megatron-core"]),
    "an expression": ({"ignore": "("}, ["--ignore", "("]),
    "what must be like": ({"like": "nowhere"}, ["--like", "nowhere"]),
}


@pytest.mark.parametrize("name", OF_CONVERSIONS)
def test_a_conversion_that_is_refused(name: str, out: Path) -> None:
    options, flags = OF_CONVERSIONS[name]
    for function, verb in ((reshard.convert, "convert"), (reshard.plan, "plan")):
        error = fails(lambda call=function: call(SAMPLE, out, **options))
        assert_as_on_the_command_line(error, verb, SAMPLE, out, "--to", "hf", *flags)
    assert not out.exists()


def test_a_destination_that_exists(out: Path) -> None:
    out.mkdir()
    (out / "notes.txt").touch()
    error = fails(lambda: reshard.convert(SAMPLE, out))
    assert isinstance(error, reshard.DestinationError)
    assert_as_on_the_command_line(error, "convert", SAMPLE, out, "--to", "hf")


def test_a_directory_without_manifest(tmp_path: Path) -> None:
    assert_as_on_the_command_line(fails(lambda: reshard.verify(tmp_path)), "verify", tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "int8"}, "int8"),
        ({"dtype_for": {"norm": "float99"}}, "float99"),
        ({"shard_size": "much"}, "much"),
        ({"to": "gguf"}, "gguf"),
        ({"memory": "much"}, "much"),
        ({"weights": "gguf"}, "gguf"),
        ({"packing": "tight"}, "tight"),
        # Not for a target that is not dealt out.
        ({"tp": 2}, "to megatron"),
        ({"pad_vocab_to": "x128"}, "to megatron"),
        ({"iteration": 7}, "to megatron"),
        ({"no_such_option": 1}, "no-such-option"),
    ],
)
def test_an_option_that_is_none(options: dict[str, Any], said: str, out: Path) -> None:
    error = fails(lambda: reshard.convert(SAMPLE, out, **options))
    assert isinstance(error, reshard.UsageError)
    assert isinstance(error, ValueError)
    assert said in str(error)
    assert not list(out.parent.iterdir())


def test_a_broken_recipe_file(tmp_path: Path) -> None:
    """What the reader of TOML throws stays in the extension."""
    recipe = tmp_path / "broken.toml"
    recipe.write_text("name = = 3\n")
    error = fails(lambda: reshard.open(SAMPLE, recipe=recipe))
    assert isinstance(error, reshard.UsageError)
    assert str(recipe) in error.file


def test_errors_travel_between_processes() -> None:
    error = fails(lambda: reshard.open(CRASHED))
    error.offset = 7
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_each_class_has_its_kind() -> None:
    kinds = {cls.kind for cls in EXIT_CODES}
    assert len(kinds) == len(EXIT_CODES)
    for cls in EXIT_CODES:
        assert issubclass(cls, reshard.Error)
        again = pickle.loads(pickle.dumps(cls("what happened", file="f", found="this")))
        assert (type(again), again.file, again.found) == (cls, "f", "this")


def test_the_package_s_own_errors_have_the_same_form() -> None:
    checkpoint = reshard.open(cli.FIXTURES / "dcp_dtypes" / "ckpt")
    error = fails(checkpoint["float4_e2m1fn_x2"].numpy)
    first, *rest = str(error).split("\n")
    assert first == error.found
    assert rest == [f"  expected  {error.expected}", f"  help      {error.help}"]
