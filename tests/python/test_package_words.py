"""What callers write: names of types in all their forms, keywords that are misspelt, URLs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reshard
import reshard.torch
import torch
from harness import cli
from safetensors.torch import load_file, save_file

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"

BFLOAT16 = ["bfloat16", "bf16", "BF16", "torch.bfloat16", torch.bfloat16]
FLOAT16 = ["float16", "fp16", "half", "F16", torch.half, np.float16, np.dtype("float16")]
FLOAT32 = ["float32", "fp32", "float", "F32", torch.float, np.float32, np.dtype("<f4")]
TYPES: list[tuple[Any, torch.dtype]] = [
    *((word, torch.bfloat16) for word in BFLOAT16),
    *((word, torch.float16) for word in FLOAT16),
    *((word, torch.float32) for word in FLOAT32),
]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("source")
    save_file({"a": torch.randn(3, 4), "b.norm": torch.randn(5)}, directory / "model.safetensors")
    return directory


def stored_request(plan: Path) -> dict[str, Any]:
    request: dict[str, Any] = json.loads(plan.read_text())["request"]
    return request


@pytest.mark.parametrize(("word", "dtype"), TYPES, ids=lambda value: str(value))
def test_types(word: Any, dtype: torch.dtype, source: Path, out: Path) -> None:
    name = str(dtype).removeprefix("torch.")
    reshard.convert(source, out, dtype=word, dtype_for={"norm": word})
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {dtype}
    if isinstance(word, str):
        plan = out.with_name("plan.json")
        cli.ok("plan", source, out, "--dtype", word, "--dtype-for", f"norm={word}", "-o", plan)
        assert stored_request(plan)["dtype"] == name
        assert stored_request(plan)["dtype_for"] == [["norm", name]]
    if dtype != torch.bfloat16:
        assert reshard.open(source)["a"].numpy(word).dtype == np.dtype(name)


def test_types_of_live_models(source: Path, out: Path) -> None:
    state = {"w": torch.randn(3)}
    for number, word in enumerate(("bf16", torch.bfloat16)):
        reshard.torch.save_checkpoint(state, out.with_name(f"o{number}"), dtype=word)
        saved = load_file(out.with_name(f"o{number}") / "model.safetensors")
        assert torch.equal(saved["w"], state["w"].bfloat16())
    model = torch.nn.Linear(4, 3, bias=False, device="meta")
    renamed = out.with_name("linear")
    reshard.torch.save_checkpoint({"weight": torch.ones(3, 4)}, renamed)
    reshard.torch.load_checkpoint(model, renamed, dtype="half", progress=False)
    assert model.weight.dtype == torch.float16


@pytest.mark.parametrize("word", ["fp8", "int8", "float64", "bf", "", "torch.", float, "f128"])
def test_what_is_no_type(word: Any, source: Path, out: Path) -> None:
    with pytest.raises(reshard.UsageError, match="no type to cast to"):
        reshard.convert(source, out, dtype=word)


@pytest.mark.parametrize(
    ("text", "size"),
    [("5G", 5 * 10**9), ("5g", 5 * 10**9), ("5M", 5 * 10**6), ("5Gi", 5 * 2**30), ("3k", 3000),
     ("5GB", 5 * 10**9), ("5gB", 5 * 10**9), ("1.5GiB", 3 * 2**29), ("2ti", 2 * 2**40),
     ("500 kB", 500_000), ("70", 70), ("7B", 7)],
)  # fmt: skip
def test_sizes(text: str, size: int, source: Path, out: Path) -> None:
    for flag in ("--shard-size", "--max-shard-size"):
        plan = out.with_name("plan.json")
        cli.ok("plan", source, out, flag, text, "-o", plan)
        assert stored_request(plan)["shard_size"] == size


@pytest.mark.parametrize("text", ["5Gb", "5gb", "5X", "G", "5GIB", "5iB", "5BB", "5GiBB", "-5G"])
def test_what_is_no_size(text: str, source: Path, out: Path) -> None:
    """Gb are gigabits to many, transformers among them."""
    cli.expect(cli.USAGE, "plan", source, out, f"--shard-size={text}")


MISSPELT: dict[str, Any] = {
    "open": lambda: reshard.open(SAMPLE, asets_from="x"),  # type: ignore[call-arg]
    "convert": lambda: reshard.convert(SAMPLE, "out", dtpye="bf16"),  # type: ignore[call-arg]
    "plan": lambda: reshard.plan(SAMPLE, "out", max_shard_size=1),  # type: ignore[call-arg]
    "verify": lambda: reshard.verify("out", job=1),  # type: ignore[call-arg]
    "load_checkpoint": lambda: reshard.torch.load_checkpoint(
        torch.nn.Linear(1, 1), SAMPLE, strickt=True
    ),
    "save_checkpoint": lambda: reshard.torch.save_checkpoint({}, "out", forced=True),
}
MEANT = {
    "open": ("asets_from", "assets_from"),
    "convert": ("dtpye", "dtype"),
    "plan": ("max_shard_size", "shard_size"),
    "verify": ("job", "jobs"),
    "load_checkpoint": ("strickt", "strict"),
    "save_checkpoint": ("forced", "force"),
}


@pytest.mark.parametrize("function", MISSPELT)
def test_a_misspelt_keyword(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, meant = MEANT[function]
    message = f"{function}() has no keyword '{wrong}': did you mean {meant}?"
    with pytest.raises(TypeError, match=re.escape(message)) as caught:
        MISSPELT[function]()
    assert isinstance(caught.value, reshard.UsageError)
    assert not list(tmp_path.iterdir())


def test_a_keyword_that_is_like_none() -> None:
    with pytest.raises(TypeError, match=r"has no keyword 'xyzzy'\n"):
        reshard.plan(SAMPLE, "out", xyzzy=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "to", ["megatron:dtyp=bf16", "megatron:vp=2", "megatron:llm-pp-layer=[[1]]"]
)
def test_a_misspelt_field_of_a_layout(to: str, out: Path) -> None:
    said = cli.expect(cli.USAGE, "convert", SAMPLE, out, "--to", to).stderr
    assert "there is no layout field" in said
    assert "did you mean" in said


def test_the_options_are_those_of_the_command_line() -> None:
    flags = set(re.findall(r"--([a-z][a-z-]+)", cli.ok("convert", "--help").stdout))
    of_runs = {"jobs", "memory", "force", "no-resume", "plan", "dry-run", "to"}
    of_programs = {"json", "quiet", "verbose", "help", "layout", "max-shard-size"}
    options = {name.strip("_").replace("_", "-") for name in reshard.ConvertOptions.__annotations__}
    assert flags - of_runs - of_programs == options - {"config-json"}


@pytest.mark.parametrize(
    "call",
    [
        lambda url: reshard.open(url),
        lambda url: reshard.convert(url, "out"),
        lambda url: reshard.convert(SAMPLE, url),
        lambda url: reshard.plan(SAMPLE, "out", assets_from=url),
        lambda url: reshard.verify(url),
        lambda url: reshard.torch.load_checkpoint(torch.nn.Linear(1, 1), url, progress=False),
        lambda url: reshard.torch.save_checkpoint({"w": torch.ones(1)}, url),
    ],
    ids=["open", "SRC", "DST", "assets_from", "verify", "load_checkpoint", "save_checkpoint"],
)
def test_a_url_is_no_path(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("s3://bucket/run", Path("s3://bucket/run")):
        with pytest.raises(reshard.UsageError, match="this is a URL"):
            call(url)
    assert not list(tmp_path.iterdir())
