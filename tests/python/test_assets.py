"""What lies beside the weights: copied as bytes, but for one value of config.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import cli, compare
from transformers import AutoTokenizer

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"

ASSETS = {
    "generation_config.json": b'{"max_new_tokens": 3}',
    "tokenizer.json": b'{"version":"1.0"}\r\n',
    "tokenizer_config.json": b"{}",
    "tokenizer.model": bytes(range(256)),
    "special_tokens_map.json": b"{}",
    "added_tokens.json": b"{}",
    "vocab.json": '{"\u00e9": 0}'.encode(),
    "merges.txt": b"#version: 0.2\n",
    "preprocessor_config.json": b"{}",
    "processor_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "modeling_own.py": b"raise SystemExit('never imported')\n",
    "configuration_own.py": b"\n",
}
# Odd on purpose: the text of every value and the order of the keys must survive.
CONFIG = """{
  "zebra": 1e-06, "architectures": ["OwnModel"],
    "%s": "float64",
  "rope_theta": 1000000.0,
  "big": 12345678901234567890123,
  "text": "\\u00e9 \\"quoted\\"", "null": null, "empty": {}, "list": [1, 2.50, true],
  "alpha": {"nested": 1E5}
}
"""


def with_texts(text: str) -> object:
    """JSON with the order of keys and the spelling of numbers kept."""
    return json.loads(text, object_pairs_hook=list, parse_float=str, parse_int=str)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    directory = tmp_path / "assets"
    directory.mkdir()
    for name, data in ASSETS.items():
        (directory / name).write_bytes(data)
    for weights in ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json"):
        (directory / weights).write_bytes(b"not to be copied")
    return directory


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_config_changes_in_one_value(key: str, dtype: str, assets: Path, out: Path) -> None:
    text = CONFIG % key
    (assets / "config.json").write_text(text)
    cli.convert(SAMPLE, out, "--assets-from", assets, "--dtype", dtype)
    assert with_texts((out / "config.json").read_text()) == with_texts(
        text.replace("float64", dtype)
    )


def test_other_assets_are_copied_as_bytes(assets: Path, out: Path) -> None:
    (assets / "config.json").write_text(CONFIG % "dtype")
    cli.convert(SAMPLE, out, "--assets-from", assets)
    for name, data in ASSETS.items():
        assert (out / name).read_bytes() == data, name
    assert not (out / "pytorch_model.bin").exists()
    assert not (out / "model.safetensors.index.json").exists()
    assert len(compare.read_hf(out)) > 0


def test_assets_may_lie_beside_the_checkpoint(out: Path) -> None:
    cli.convert(SAMPLE, out)
    for path in SAMPLE.iterdir():
        if path.suffix in (".json", ".jinja"):
            assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    tokens = AutoTokenizer.from_pretrained(out)("the weights do not change")["input_ids"]
    assert tokens == AutoTokenizer.from_pretrained(SAMPLE)("the weights do not change")["input_ids"]


def test_dtype_of_the_sample_follows_the_weights(out: Path) -> None:
    cli.convert(SAMPLE, out, "--dtype", "bfloat16")
    text = (SAMPLE / "config.json").read_text()
    assert '"dtype": "float32"' in text
    assert (out / "config.json").read_text() == text.replace("float32", "bfloat16")


def test_what_a_loader_will_miss_is_said(trained: Path, out: Path) -> None:
    assert "config.json" in cli.convert(trained / "qwen3_hsdp", out).stderr


def test_assets_beside_the_checkpoint(trained: Path, assets: Path, out: Path) -> None:
    (assets / "config.json").write_text(CONFIG % "dtype")
    checkpoint = assets / "step-100"
    checkpoint.symlink_to(trained / "qwen3_hsdp")
    cli.convert(checkpoint, out)
    assert (out / "tokenizer.json").read_bytes() == ASSETS["tokenizer.json"]
    assert '"float32"' in (out / "config.json").read_text()


def test_assets_directory_that_does_not_exist(tmp_path: Path, out: Path) -> None:
    options = ("--to", "hf", "--assets-from", tmp_path / "nowhere")
    done = cli.run("convert", SAMPLE, out, *options)
    assert done.returncode in (cli.USAGE, cli.SOURCE), done.stderr
    assert "nowhere" in done.stderr
    assert not out.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_broken_config_is_refused(text: str, assets: Path, out: Path) -> None:
    (assets / "config.json").write_text(text)
    cli.refused(cli.SOURCE, SAMPLE, out, "--assets-from", assets, names="config.json")
