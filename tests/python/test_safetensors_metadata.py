"""The `__metadata__` of safetensors goes along: torchao's loader, for one, lives by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from harness import cli
from harness.cli import FIXTURES, SOURCE
from safetensors import safe_open
from safetensors.torch import save_file

# As torchao.prototype.safetensors.flatten_tensor_state_dict writes it.
TORCHAO = {
    "format": "pt",
    "tensor_names": '["w"]',
    "w": '{"_type": "Float8Tensor", "_data": {"block_size": [1, 4]}}',
}


def metadata_of(file: Path) -> dict[str, str]:
    with safe_open(file, "pt") as opened:
        return dict(opened.metadata() or {})


def shards(directory: Path, metadata: list[dict[str, str] | None]) -> Path:
    directory.mkdir()
    count = len(metadata)
    for i, of in enumerate(metadata):
        save_file(
            {f"w{i}": torch.full((2,), float(i))},
            directory / f"model-{i + 1:05}-of-{count:05}.safetensors",
            of,
        )
    return directory


def test_of_one_file(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "model.safetensors"
    save_file({"w_qdata": torch.ones(4), "w_scale": torch.ones(1)}, source, TORCHAO)
    cli.convert(source, out)
    assert metadata_of(out / "model.safetensors") == TORCHAO


def test_every_file_that_is_written_has_it(tmp_path: Path, out: Path) -> None:
    source = shards(tmp_path / "model", [TORCHAO, TORCHAO, {"format": "pt", "other": "1"}])
    cli.convert(source, out, "--shard-size", 8)
    files = sorted(out.glob("*.safetensors"))
    assert len(files) == 3
    for file in files:
        assert metadata_of(file) == TORCHAO | {"other": "1"}


def test_what_two_files_say_differently_is_left_out_and_said(tmp_path: Path, out: Path) -> None:
    source = shards(tmp_path / "model", [{"part": "1", "by": "me"}, {"part": "2", "by": "me"}])
    done = cli.convert(source, out)
    assert metadata_of(out / "model.safetensors") == {"format": "pt", "by": "me"}
    assert "'part'" in done.stderr


@pytest.mark.parametrize("metadata", [None, {"format": "mlx"}])
def test_the_format_is_pytorchs(metadata: dict[str, str] | None, tmp_path: Path, out: Path) -> None:
    source = shards(tmp_path / "model", [metadata])
    cli.convert(source, out)
    assert metadata_of(out / "model.safetensors") == {"format": "pt"}


@pytest.mark.parametrize("fixture", ["hf_dcp_consolidated/ckpt/sharded", "hf_dcp_rank0/ckpt"])
def test_what_dcp_says_of_its_shards_is_not_carried(fixture: str, out: Path) -> None:
    source = FIXTURES / fixture
    said = [metadata_of(file) for file in source.glob("*.safetensors")]
    assert any(any(key.startswith("DCP_") for key in of) for of in said)
    cli.convert(source, out)
    assert metadata_of(out / "model.safetensors") == {"format": "pt"}


def test_an_index_with_a_name_twice_is_read_as_python_reads_it(tmp_path: Path, out: Path) -> None:
    source = shards(tmp_path / "model", [None, None])
    first, second = (path.name for path in sorted(source.glob("*.safetensors")))
    text = f'{{"weight_map": {{"w0": "{second}", "w1": "{second}", "w0": "{first}"}}}}'
    assert json.loads(text)["weight_map"] == {"w0": first, "w1": second}
    (source / "model.safetensors.index.json").write_text(text)
    assert "warning" not in cli.convert(source, out).stderr


def test_a_nul_in_an_indexed_file_name(tmp_path: Path, out: Path) -> None:
    source = shards(tmp_path / "model", [None])
    names = {"w0": "model-00001-of-00001.safetensors\0.other"}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    cli.refused(SOURCE, source, out, names="NUL")
