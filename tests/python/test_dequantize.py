"""Float8 weights and their scales become one tensor: against PyTorch and transformers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, tiny_text
from harness.float8 import BLOCK, FLOAT8, noise, product, quantize, scales_of, write
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize


def assert_equal(got: torch.Tensor, want: torch.Tensor) -> None:
    """Bit for bit, NaN as a class."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape)
    assert torch.equal(got.isnan(), want.isnan())
    bits = {2: torch.int16, 4: torch.int32}[want.element_size()]
    assert torch.equal(
        got.masked_fill(want.isnan(), 0).view(bits), want.masked_fill(want.isnan(), 0).view(bits)
    )


@pytest.mark.parametrize("scale", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", FLOAT8)
def test_every_type(name: str, scale: torch.dtype, tmp_path: Path, out: Path) -> None:
    values, scales = noise((300, 200), FLOAT8[name]), scales_of([3, 2]).to(scale)
    source = write(
        tmp_path / "fp8", {"a.weight": values, "a.weight_scale_inv": scales, "b": torch.ones(3)}
    )
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        cli.convert(source, out, "--dequantize", "--dtype", compare.dtype_name(dtype), "--force")
        got = load_file(out / "model.safetensors")
        assert got.keys() == {"a.weight", "b"}
        assert_equal(got["a.weight"], product(values, scales, dtype))


def test_scales_of_exponents(tmp_path: Path, out: Path) -> None:
    values = noise((256, 256), torch.float8_e4m3fn)
    scales = torch.tensor([[0, 100], [127, 140]], dtype=torch.uint8).view(torch.float8_e8m0fnu)
    source = write(tmp_path / "fp8", {"a.weight": values, "a.weight_scale_inv": scales})
    cli.convert(source, out, "--dequantize", "--dtype", "float32")
    want = product(values, scales, torch.float32)
    assert_equal(load_file(out / "model.safetensors")["a.weight"], want)


@pytest.mark.parametrize(
    ("shape", "scales", "block"),
    [
        ((1, 1), [1, 1], BLOCK),
        ((129, 127), [2, 1], BLOCK),
        ((700, 900), [6, 8], BLOCK),
        ((1000, 3), [32, 1], [32, 128]),
        ((3, 5000), [3, 157], [1, 32]),
        ((4, 200, 300), [4, 2, 3], BLOCK),
        ((700, 900), [700, 1], None),  # a scale for each row
        ((700, 900), [1], None),  # one scale
        ((700, 900), [], None),
        ((0, 200), [0, 2], BLOCK),
        ((640, 128), [640, 128], None),  # each value its own
    ],
)
def test_blocks(
    shape: tuple[int, ...],
    scales: list[int],
    block: list[int] | None,
    tmp_path: Path,
    out: Path,
) -> None:
    values, factors = noise(shape, torch.float8_e4m3fn), scales_of(scales)
    tensors = {"a.weight": values, "a.weight_scale": factors}
    source = write(tmp_path / "fp8", tensors, block)
    cli.convert(source, out, "--dequantize")
    by_row = [shape[-2] // max(scales[-2], 1), shape[-1]] if len(scales) > 1 else [1, 1]
    if scales == list(shape):
        by_row = [1, 1]
    want = product(values, factors, block=block or by_row)
    assert_equal(load_file(out / "model.safetensors")["a.weight"], want)


def test_as_transformers_does_it(tmp_path: Path, out: Path) -> None:
    values, scales = noise((4, 256, 384), torch.float8_e4m3fn), scales_of([4, 2, 3])
    tensors = {"experts.gate_up_proj": values, "experts.gate_up_proj_scale_inv": scales}
    cli.convert(write(tmp_path / "fp8", tensors), out, "--dequantize")
    want = Fp8Dequantize(None)._dequantize_one(values, scales, torch.bfloat16)
    assert_equal(load_file(out / "model.safetensors")["experts.gate_up_proj"], want)


def test_what_overflows_is_counted(tmp_path: Path, out: Path) -> None:
    values = torch.tensor([[1.0, 448.0], [-448.0, math.nan]]).to(torch.float8_e4m3fn)
    scales = torch.tensor([[3e38]])
    source = write(tmp_path / "fp8", {"a.weight": values, "a.weight_scale_inv": scales})
    done = cli.convert(source, out, "--dequantize", "--dtype", "float32")
    assert "2 finite values" in done.stderr
    assert "a.weight" in done.stderr


SIZE = 12  # of a block: no size of the tiny models is a multiple


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    """A model with its linear layers in float8, and the same as PyTorch dequantizes it."""
    plain = tiny_text.save("qwen3-moe", tmp_path / "plain", torch.bfloat16)
    config = json.loads((plain / "config.json").read_text())
    weights = load_file(plain / "model.safetensors")
    products = quantize(tmp_path / "fp8", weights, config, SIZE)
    save_file(products, plain / "model.safetensors", {"format": "pt"})
    return tmp_path / "fp8", plain


def test_a_model_to_megatron(model: tuple[Path, Path], tmp_path: Path) -> None:
    """The same files as from the weights that PyTorch dequantized."""
    source, plain = model
    layout = (
        "--to",
        "megatron",
        "--recipe",
        "megatron-core",
        "--tp",
        "2",
        "--pp",
        "2",
        "--ep",
        "2",
    )
    cli.ok("convert", source, tmp_path / "a", *layout, "--dequantize")
    cli.ok("convert", plain, tmp_path / "b", *layout)
    files = [path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*.pt")]
    assert len(files) == 8
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes()


def test_a_checkpoint_of_dcp(model: tuple[Path, Path], tmp_path: Path, out: Path) -> None:
    source, plain = model
    checkpoints.save_single(load_file(source / "model.safetensors"), tmp_path / "dcp")
    cli.convert(tmp_path / "dcp", out, "--dequantize", "--assets-from", source)
    compare.assert_reads_as(out, load_file(plain / "model.safetensors"))


def test_the_config_says_what_the_weights_are(model: tuple[Path, Path], out: Path) -> None:
    source, plain = model
    before = json.loads((source / "config.json").read_text())
    cli.convert(source, out, "--dequantize")
    assert json.loads((out / "config.json").read_text()) == {
        key: value for key, value in before.items() if key != "quantization_config"
    }
    cli.convert(source, out, "--force")
    assert json.loads((out / "config.json").read_text()) == before
    cli.convert(
        plain, out, "--force", "--assets-from", source
    )  # bfloat16 beside a config of float8
    assert "quantization_config" not in json.loads((out / "config.json").read_text())


def test_a_stored_plan(model: tuple[Path, Path], tmp_path: Path, out: Path) -> None:
    source, plain = model
    plan = cli.ok("plan", source, out, "--dequantize", "--json").stdout
    [view] = {
        tensor["view"]
        for file in json.loads(plan)["files"]
        for tensor in file.get("tensors", [])
        if tensor["name"] == "model.layers.0.self_attn.q_proj.weight"
    }
    name = "model.layers.0.self_attn.q_proj.weight"
    assert view == f'cast(dequantize("{name}", "{name}_scale_inv", [12, 12]), bfloat16)'
    (tmp_path / "plan.json").write_text(plan)
    cli.ok("convert", "--plan", tmp_path / "plan.json")
    compare.assert_reads_as(out, load_file(plain / "model.safetensors"))
    cli.ok("verify", out)


VALUES = noise((300, 200), torch.float8_e4m3fn)
SCALES = scales_of([3, 2])


@pytest.mark.parametrize(
    ("tensors", "block", "names"),
    [
        ({"a.weight": VALUES}, BLOCK, ["without a scale", "a.weight_scale_inv"]),
        ({"a.weight": VALUES, "a.weight_scale_inv": SCALES}, None, ["weight_block_size"]),
        (
            {"a.weight": VALUES, "a.weight_scale_inv": SCALES},
            [64, 64],
            ["a.weight", "scales [5, 4]"],
        ),
        (
            {"a.weight": VALUES, "a.weight_scale_inv": SCALES},
            [0, 128],
            ["a.weight", "in blocks of [0, 128]"],
        ),
        ({"a.weight": VALUES, "a.weight_scale_inv": SCALES[0]}, BLOCK, ["a.weight", "scales [2]"]),
        (
            {"a.weight": VALUES, "a.weight_scale_inv": SCALES.int()},
            BLOCK,
            ["a.weight", "int32 scales"],
        ),
        ({"a.weight": torch.ones(2)}, BLOCK, ["no tensor has a float8 type"]),
        (
            {
                "a.weight": VALUES,
                "a.weight_scale_inv": SCALES,
                "b.weight": torch.ones(2),
                "b.weight_scale_inv": torch.ones(1),
            },
            BLOCK,
            ["b.weight_scale_inv", "scales without float8 values"],
        ),
    ],
)
def test_what_is_refused(
    tensors: dict[str, torch.Tensor],
    block: list[int] | None,
    names: list[str],
    tmp_path: Path,
    out: Path,
) -> None:
    source = write(tmp_path / "fp8", tensors, block)
    said = cli.refused(cli.MAPPING, source, out, "--dequantize")
    assert all(name in said for name in names), said


def test_scales_are_not_to_be_ignored(tmp_path: Path, out: Path) -> None:
    source = write(tmp_path / "fp8", {"a.weight": VALUES, "a.weight_scale_inv": SCALES})
    cli.refused(
        cli.MAPPING, source, out, "--dequantize", "--ignore", "scale", names="without a scale"
    )


def test_a_cast_says_what_to_do(model: tuple[Path, Path], out: Path) -> None:
    """Without the option float8 is carried, and what does not carry it tells of the option."""
    source, _ = model
    cli.convert(source, out)
    compare.assert_reads_as(out, load_file(source / "model.safetensors"))
    layout = ("--to", "megatron", "--recipe", "megatron-core")
    said = cli.expect(cli.MAPPING, "convert", source, out.with_name("ranks"), *layout).stderr
    assert "weight_scale_inv" in said
    assert "--dequantize" in said
