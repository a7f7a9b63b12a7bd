"""Every stored checkpoint is read exactly: as golden.json says, which no code of ours made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from harness import cli, compare
from harness.cli import FIXTURES, MAPPING, SOURCE
from harness.fixtures import WHOLE, golden_of, source_of
from harness.recipe_text import keep_names


def ignoring(names: list[str]) -> list[str]:
    return [argument for name in names for argument in ("--ignore", cli.regex(name))]


def test_every_fixture_is_covered() -> None:
    present = {path.name for path in FIXTURES.iterdir()}
    assert present == {*WHOLE, "crash_file_missing", "crash_meta_truncated", "crash_no_metadata"}


def as_is(name: str, out: Path, *options: object) -> None:
    """Converts with every name kept. A rank's file alone is no model: whoever means it says so by a
    recipe of his own."""
    own = name == "ts_megatron"
    recipe = keep_names(out.parent / "own", "every") if own else "identity"
    cli.convert(source_of(name), out, "--recipe", recipe, *options)


@pytest.mark.parametrize("name", WHOLE)
def test_reads_exactly(name: str, out: Path) -> None:
    golden = golden_of(name)
    holdable = golden.holdable()
    rest = sorted(set(golden.tensors) - set(holdable))
    as_is(name, out, *ignoring(rest))
    compare.assert_golden(compare.read_hf(out), holdable)


@pytest.mark.parametrize("name", WHOLE)
def test_bin_holds_every_type(name: str, out: Path) -> None:
    golden = golden_of(name)
    as_is(name, out, "--weights", "bin")
    tensors: dict[str, torch.Tensor] = {}
    for path in compare.weight_files(out, "pytorch_model", "bin"):
        tensors |= torch.load(path, weights_only=True)
    assert sorted(tensors) == sorted(golden.tensors)
    for key, entry in golden.tensors.items():
        tensor = tensors[key]
        assert compare.dtype_name(tensor.dtype) == entry["dtype"], key
        assert list(tensor.shape) == entry["shape"], key
        assert compare.stored_sha256(tensor) == entry["sha256"], key


@pytest.mark.parametrize("name", WHOLE)
def test_kind_may_be_named(name: str, out: Path) -> None:
    kind = {"ts": "pt", "hf": "hf"}.get(name.split("_")[0], "dcp")
    golden = golden_of(name)
    rest = sorted(set(golden.tensors) - set(golden.holdable()))
    as_is(name, out, "--from", kind, *ignoring(rest))
    compare.assert_golden(compare.read_hf(out), golden.holdable())


@pytest.mark.parametrize("name", WHOLE)
def test_inspect_names_everything(name: str) -> None:
    golden = golden_of(name)
    report = json.loads(cli.ok("inspect", source_of(name), "--tensors", "--json").stdout)
    strings = set(cli.strings_in(report))
    assert set(golden.tensors) <= strings
    assert set(golden.objects) <= strings


def test_type_that_safetensors_lacks_is_refused(out: Path) -> None:
    golden = golden_of("dcp_dtypes")
    unholdable = set(golden.tensors) - set(golden.holdable())
    assert unholdable
    message = cli.refused(MAPPING, source_of("dcp_dtypes"), out, "--recipe", "identity")
    assert any(name in message for name in unholdable), message
    assert "--ignore" in message or "--weights bin" in message


def test_sharded_files_without_consolidation(out: Path) -> None:
    """The ranks' own files, without the whole ones beside them, hold the same tensors."""
    cli.identity(FIXTURES / "hf_dcp_consolidated" / "ckpt" / "sharded", out)
    expected = golden_of("hf_dcp_consolidated").holdable()
    compare.assert_golden(compare.read_hf(out), expected)


@pytest.mark.parametrize(
    "name", ["crash_file_missing", "crash_meta_truncated", "crash_no_metadata"]
)
@pytest.mark.parametrize("command", ["convert", "plan"])
def test_crashed_save_is_refused(name: str, command: str, out: Path) -> None:
    source = FIXTURES / name / "ckpt"
    done = cli.expect(SOURCE, command, source, out, "--to", "hf", "--recipe", "identity")
    blamed = "__0_" if name == "crash_file_missing" else ".metadata"
    assert blamed in done.stderr
    assert not out.exists()
