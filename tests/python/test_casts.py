"""--dtype and --dtype-for give what PyTorch's `.to()` gives."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, reference
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

DTYPES = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32")}
SOURCES = {**DTYPES, "float64": torch.float64}


def sample(dtype: torch.dtype) -> torch.Tensor:
    """Every 16-bit pattern; of wider types those around rounding boundaries, and random ones."""
    if dtype in (torch.float16, torch.bfloat16):
        return torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    generator = torch.Generator().manual_seed(11)
    high = torch.arange(-(2**15), 2**15, dtype=torch.int32) << 16
    low = torch.tensor(
        [0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=torch.int32
    )
    patterns = (high[:, None] | low[None, :]).flatten()
    dice = torch.randint(-(2**31), 2**31, (1 << 18,), generator=generator).to(torch.int32)
    values = torch.cat([patterns, dice]).view(torch.float32)
    if dtype == torch.float32:
        return values
    wide = values.double()
    return torch.cat([wide, wide * (1 + 2**-30), wide * 2.0**-100, wide * 2.0**100])


def same_class(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal bits, except that any NaN may stand for any other."""
    return torch.equal(actual.isnan(), expected.isnan()) and compare.tensor_bytes(
        actual.nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf)
    ) == compare.tensor_bytes(expected.nan_to_num(0.0, posinf=torch.inf, neginf=-torch.inf))


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("casts") / "checkpoint"
    state = {f"model.model.{name}": sample(dtype) for name, dtype in SOURCES.items()}
    state["model.model.integer"] = torch.arange(300)
    state["model.model.fp8"] = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    state["model.model.flag"] = torch.tensor([True, False])
    checkpoints.save_single(state, directory)
    return directory


def read(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


@pytest.mark.parametrize("target", DTYPES)
def test_every_pair_of_floating_types(target: str, values: Path, out: Path) -> None:
    cli.convert(values, out, "--dtype", target)
    actual = read(out)
    for source, dtype in SOURCES.items():
        # From float64, PyTorch's narrowing goes through float32.
        tensor = sample(dtype)
        expected = (tensor.float() if dtype == torch.float64 else tensor).to(DTYPES[target])
        assert actual[f"model.{source}"].dtype == DTYPES[target]
        assert same_class(actual[f"model.{source}"], expected), (source, target)
        assert same_class(tensor.to(DTYPES[target]), expected), "not what PyTorch does"


@pytest.mark.parametrize("target", DTYPES)
def test_other_types_are_kept(target: str, values: Path, out: Path) -> None:
    cli.convert(values, out, "--dtype", target)
    actual = read(out)
    expected = reference.weights(reference.load(values))
    for name in ("model.integer", "model.fp8", "model.flag"):
        assert compare.stored(actual[name]) == compare.stored(expected[name])


def test_keep_is_the_default(values: Path, tmp_path: Path) -> None:
    cli.convert(values, tmp_path / "a")
    cli.convert(values, tmp_path / "b", "--dtype", "keep")
    expected = reference.weights(reference.load(values))
    compare.assert_reads_as(tmp_path / "a", expected)
    compare.assert_reads_as(tmp_path / "b", expected)


def test_dtype_for_some_names(trained: Path, out: Path) -> None:
    options = (
        "--dtype",
        "bfloat16",
        "--dtype-for",
        ".*norm.*=float32",
        "--dtype-for",
        ".*lm_head.*=float16",
    )
    cli.convert(trained / "llama_fsdp2", out, *options)
    expected = {}
    for name, tensor in reference.weights(checkpoints.expected(trained / "llama_fsdp2")).items():
        dtype = torch.float32 if "norm" in name else torch.bfloat16
        expected[name] = tensor.to(torch.float16 if "lm_head" in name else dtype)
    compare.assert_reads_as(out, expected)


@pytest.mark.parametrize("name", ["layouts", "tied_tp_fsdp"])
@pytest.mark.parametrize("target", DTYPES)
def test_casts_of_sharded_tensors(name: str, target: str, trained: Path, out: Path) -> None:
    """Chunks of every form, so that no run of elements is cast past its end."""
    cli.convert(trained / name, out, "--dtype", target)
    weights = reference.weights(checkpoints.expected(trained / name))
    compare.assert_reads_as(out, {n: reference.cast(t, DTYPES[target]) for n, t in weights.items()})


def test_values_that_become_infinite_are_reported(tmp_path: Path, out: Path) -> None:
    tensor = torch.tensor([1.0, 70000.0, -1e30, torch.inf])
    checkpoints.save_single({"model.model.w": tensor}, tmp_path / "checkpoint")
    done = cli.convert(tmp_path / "checkpoint", out, "--dtype", "float16")
    report = (done.stdout + done.stderr).lower()
    assert "inf" in report
    assert any(word in report for word in ("2 ", "two")), report


def test_lengths_around_a_vector(tmp_path: Path, out: Path) -> None:
    state = {}
    for length, (name, dtype) in itertools.product(range(70), SOURCES.items()):
        state[f"model.model.{name}.{length}"] = torch.linspace(-3, 3, length).to(dtype)
    checkpoints.save_single(state, tmp_path / "checkpoint")
    cli.convert(tmp_path / "checkpoint", out, "--dtype", "bfloat16")
    weights = reference.weights(state)
    compare.assert_reads_as(out, {n: reference.cast(t, torch.bfloat16) for n, t in weights.items()})


# --------------------------------------------------------------------- what --dtype leaves alone


def write(directory: Path, tensors: dict[str, torch.Tensor]) -> Path:
    directory.mkdir()
    apart = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(apart, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


FP8 = torch.zeros(4, 4).to(torch.float8_e4m3fn)
BYTES = torch.zeros(4, 4, dtype=torch.uint8)
INTS = torch.zeros(4, 4, dtype=torch.int32)
SCALE = torch.tensor([[0.001]])

# What publishers call quantized values, and the scales beside them.
QUANTIZED = {
    "deepseek": ({"mlp.up_proj.weight": FP8}, ["mlp.up_proj.weight_scale_inv"]),
    "static": ({"q_proj.weight": FP8}, ["q_proj.weight_scale", "q_proj.input_scale"]),
    "cache": ({"k_proj.weight": FP8}, ["k_proj.k_scale", "k_proj.weight_scale"]),
    "nvfp4": ({"up.weight": BYTES}, ["up.weight_scale_2", "up.input_scale"]),
    "packed": ({"up.weight_packed": INTS}, ["up.weight_scale", "up.weight_global_scale"]),
    "gptq": ({"up.qweight": INTS}, ["up.scales"]),
    "experts": ({"mlp.experts.gate_up_proj": FP8}, ["mlp.experts.gate_up_proj_scale_inv"]),
    "bitsandbytes": ({"up.weight": BYTES}, ["up.weight.absmax", "up.weight.quant_map"]),
    "int8": ({"up.weight": BYTES.to(torch.int8)}, ["up.SCB"]),
}


@pytest.mark.parametrize("method", QUANTIZED)
def test_scales_of_quantized_weights_keep_their_type(
    method: str, tmp_path: Path, out: Path
) -> None:
    """They are part of the weights: a scale that is rounded is an error of its whole block."""
    values, scales = QUANTIZED[method]
    layer = values | {name: SCALE for name in scales}
    tensors = {f"model.layers.0.{name}": tensor for name, tensor in layer.items()}
    # The same words where nothing is quantized are parameters like others.
    plain = {f"vision.{name}": SCALE for name in ("logit_scale", *scales)}
    source = write(tmp_path / "model", tensors | plain | {"norm.weight": torch.ones(4)})
    done = cli.convert(source, out, "--dtype", "bfloat16")
    got = read(out)
    compare.assert_same_tensors({name: got[name] for name in tensors}, tensors)
    assert {got[name].dtype for name in (*plain, "norm.weight")} == {torch.bfloat16}
    kept = f"{len(scales)} tensor{'s' if len(scales) > 1 else ''} kept"
    assert kept in done.stderr
    assert "scales of quantized weights" in done.stderr


def test_a_rule_of_its_own_casts_a_scale(tmp_path: Path, out: Path) -> None:
    tensors = {"up.weight": FP8, "up.weight_scale": SCALE}
    source = write(tmp_path / "model", tensors)
    cli.convert(source, out, "--dtype", "bfloat16", "--dtype-for", "weight_scale$=float16")
    assert read(out)["up.weight_scale"].dtype == torch.float16


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeepSeek-V3 whose routing bias says what bfloat16 cannot."""
    torch.manual_seed(3)
    config = DeepseekV3Config(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, moe_intermediate_size=16,
        n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, first_k_dense_replace=1,
        n_group=1, topk_group=1, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4,
        qk_nope_head_dim=8, v_head_dim=8,
    )  # fmt: skip
    model = DeepseekV3ForCausalLM(config)
    model.state_dict()[BIAS].copy_(torch.tensor([3.0001, 3.0002, 3.0003, 3.0004]))
    directory = tmp_path_factory.mktemp("deepseek") / "model"
    model.save_pretrained(directory)
    return directory


BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"


def test_what_a_model_keeps_in_float32_stays(deepseek: Path, tmp_path: Path, out: Path) -> None:
    """As in transformers' own save in bfloat16."""
    cast = DeepseekV3ForCausalLM.from_pretrained(deepseek, dtype=torch.bfloat16)
    cast.save_pretrained(tmp_path / "theirs")
    done = cli.convert(deepseek, out, "--dtype", "bfloat16", "--json")
    compare.assert_same_tensors(read(out), read(tmp_path / "theirs"))
    summary = json.loads(done.stdout.splitlines()[-1])
    assert list(summary["kept_types"].values()) == [1]


@pytest.mark.parametrize("recipe", ["veomni", "torchtitan"])
def test_it_stays_in_every_layout(recipe: str, deepseek: Path, tmp_path: Path, out: Path) -> None:
    options = ("--to", "dcp", "--recipe", recipe, "--dtype", "bfloat16")
    cli.ok("convert", deepseek, out, *options)
    got = reference.load(out)
    kept = {name for name, tensor in got.items() if tensor.dtype == torch.float32}
    name = {"veomni": "model." + BIAS, "torchtitan": "layers.1.moe.expert_bias_E"}[recipe]
    assert kept == {name}
    back = ("--dtype", "bfloat16", "--assets-from", deepseek)
    cli.convert(out, tmp_path / "back", *back)
    assert torch.equal(read(tmp_path / "back")[BIAS], read(deepseek)[BIAS])


def test_the_seed_script_s_command_casts_all(deepseek: Path, tmp_path: Path, out: Path) -> None:
    """merge-dcp-to-hf stands in for a script that knows no exceptions."""
    cli.ok("convert", deepseek, tmp_path / "dcp", "--to", "dcp", "--recipe", "veomni")
    cli.ok("merge-dcp-to-hf", "--load-dir", tmp_path / "dcp", "--save-dir", out)
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in read(deepseek).items()}
    compare.assert_reads_as(out, expected)
