"""What ranks' files say of the training must be what config.json says.

A model that was pretrained with Megatron gets a config.json by hand: with other heads of the same
rows it would be another model, and with other settings the stored values mean something else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import cli, compare, megatron_reference, tiny_text
from harness.megatron_layout import Layout
from safetensors.torch import load_file, save_file

TWO = Layout(tp=2)
# As Megatron-LM trains the tiny models: 8 heads of 10 in 4 groups.
TRAINED: dict[str, Any] = {
    "num_attention_heads": 8,
    "num_query_groups": 4,
    "group_query_attention": True,
    "kv_channels": 10,
    "hidden_size": 32,
    "ffn_hidden_size": 56,
    "untie_embeddings_and_output_weights": True,
    "swiglu": True,
    "normalization": "RMSNorm",
    "apply_layernorm_1p": False,
    "rotary_interleaved": False,
    "add_qkv_bias": False,
    "qk_layernorm": False,
    "make_vocab_size_divisible_by": 8,
    "tensor_model_parallel_size": 2,
    "num_experts": None,
    "save": "/ckpt" * 40,
    "lr": 1e-5,
}


def trained(name: str, root: Path, layout: Layout = TWO, **settings: Any) -> tuple[Path, Path]:
    """The hub's directory of a tiny model, and ranks' files with what they were trained with."""
    hub = tiny_text.save(name, root / "hub", torch.bfloat16)
    ranks = megatron_reference.write(hub, root / "ranks", layout, "megatron-core")
    say(ranks, **settings)
    return hub, ranks


def say(root: Path, **settings: Any) -> None:
    args = argparse.Namespace(**TRAINED | settings)
    for path in root.rglob("model_optim_rng.pt"):
        torch.save(torch.load(path, weights_only=True) | {"args": args}, path)


def set_in_config(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("llama", {}, id="all agree"),
        pytest.param("llama", {"num_attention_heads": None, "kv_channels": 10.5}, id="unknown"),
        pytest.param(
            "qwen2-tied",  # as many key heads as others: Megatron-LM has one group for that
            {
                "group_query_attention": False,
                "num_query_groups": 1,
                "untie_embeddings_and_output_weights": False,
                "add_qkv_bias": True,
            },
            id="no groups, tied, with biases",
        ),
        pytest.param(
            "qwen3-moe",
            {
                "num_experts": 4,
                "moe_ffn_hidden_size": 20,
                "ffn_hidden_size": 128,
                "qk_layernorm": True,
            },
            id="experts",
        ),
    ],
)
def test_settings_that_fit(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    hub, ranks = trained(name, tmp_path, **settings)
    cli.convert(ranks, tmp_path / "out", "--recipe", "megatron-core", "--assets-from", hub)
    compare.assert_same(compare.read_hf(tmp_path / "out"), compare.read_hf(hub))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("llama", {"num_attention_heads": 4}, ["args.num_attention_heads = 4", "8"]),
        ("llama", {"num_query_groups": 2}, ["args.num_query_groups = 2", "num_key_value_heads"]),
        ("llama", {"kv_channels": 20}, ["args.kv_channels = 20", "head_dim"]),
        ("llama", {"hidden_size": 64}, ["args.hidden_size = 64", "32"]),
        ("llama", {"ffn_hidden_size": 128}, ["args.ffn_hidden_size = 128", "intermediate_size"]),
        ("llama", {"swiglu": False}, ["args.swiglu = 0"]),
        ("llama", {"normalization": "LayerNorm"}, ["args.normalization.LayerNorm"]),
        ("llama", {"apply_layernorm_1p": True}, ["args.apply_layernorm_1p = 1"]),
        ("llama", {"rotary_interleaved": True}, ["args.rotary_interleaved = 1"]),
        ("qwen2", {}, ["args.add_qkv_bias = 0", "Qwen2ForCausalLM"]),
        ("qwen3-moe", {"qk_layernorm": True, "num_experts": 8}, ["args.num_experts = 8", "4"]),
    ],
)
def test_settings_that_do_not_fit(
    name: str, settings: dict[str, Any], says: list[str], tmp_path: Path
) -> None:
    hub, ranks = trained(name, tmp_path, **settings)
    options = ("--recipe", "megatron-core", "--assets-from", hub)
    said = cli.refused(cli.MAPPING, ranks, tmp_path / "out", *options)
    assert [text for text in says if text not in said] == []


def test_other_heads_of_the_same_rows(tmp_path: Path) -> None:
    """4 heads of 20 have the rows of 8 heads of 10, and shapes alone tell no difference."""
    hub, ranks = trained("llama", tmp_path)
    set_in_config(hub, num_attention_heads=4, num_key_value_heads=2, head_dim=20)
    options = ("--recipe", "megatron-core", "--assets-from", hub)
    assert "args.num_attention_heads = 8" in cli.refused(
        cli.MAPPING, ranks, tmp_path / "out", *options
    )


@pytest.mark.parametrize(
    ("layout", "code"), [(Layout(tp=2), cli.MAPPING), (Layout(tp=2, pp=2), cli.SOURCE)]
)
def test_a_tied_config_of_an_untied_model(layout: Layout, code: int, tmp_path: Path) -> None:
    """On one stage a tensor has no place, on several a copy is none: both say what to correct."""
    hub, ranks = trained("llama", tmp_path, layout, pipeline_model_parallel_size=layout.pp)
    set_in_config(hub, tie_word_embeddings=True)
    options = ("--recipe", "megatron-core", "--assets-from", hub)
    said = cli.refused(code, ranks, tmp_path / "out", *options, names="output_layer.weight")
    assert "args.untie_embeddings_and_output_weights = 1" in said
    assert "tie_word_embeddings" in said


def test_an_untied_config_of_a_tied_model(tmp_path: Path) -> None:
    settings = {"num_query_groups": 2, "untie_embeddings_and_output_weights": False}
    hub, ranks = trained("llama-tied", tmp_path, **settings)
    set_in_config(hub, tie_word_embeddings=False)
    options = ("--recipe", "megatron-core", "--assets-from", hub)
    said = cli.refused(cli.MAPPING, ranks, tmp_path / "out", *options)
    assert "args.untie_embeddings_and_output_weights = 0" in said


@pytest.mark.parametrize("pp", [1, 2])
def test_tied_weights_are_tied_whatever_args_says(pp: int, tmp_path: Path) -> None:
    """As those that were untied for a training that has not begun."""
    settings = {"num_query_groups": 2, "pipeline_model_parallel_size": pp}
    hub, ranks = trained("llama-tied", tmp_path, Layout(tp=2, pp=pp), **settings)
    cli.convert(ranks, tmp_path / "out", "--recipe", "megatron-core", "--assets-from", hub)
    compare.assert_same(compare.read_hf(tmp_path / "out"), compare.read_hf(hub))


# --- padding of the vocabulary ------------------------------------------------------------------


def padded(root: Path, rows: int, layout: Layout, **settings: Any) -> tuple[Path, Path]:
    """A model of 400 rows, and ranks' files with so many."""
    hub = tiny_text.save("llama", root / "hub", torch.bfloat16)
    tensors = load_file(hub / "model.safetensors")
    ends = ("model.embed_tokens.weight", "lm_head.weight")

    def save(count: int) -> None:
        generator = torch.Generator().manual_seed(1)
        grown = {name: torch.randn(rows, 32, generator=generator).bfloat16() for name in ends}
        kept = {name: tensor[:count].clone() for name, tensor in grown.items()}
        save_file(tensors | kept, hub / "model.safetensors", metadata={"format": "pt"})

    save(rows)
    ranks = megatron_reference.write(hub, root / "ranks", layout, "megatron-core")
    save(400)
    set_in_config(hub, vocab_size=400)
    if settings:
        say(ranks, **settings)
    return hub, ranks


@pytest.mark.parametrize(
    ("rows", "layout", "settings", "options"),
    [
        (512, Layout(), {}, []),
        (526, Layout(tp=2), {}, []),
        (700, Layout(), {"make_vocab_size_divisible_by": 512}, []),
        (700, Layout(), {}, ["--pad-vocab-to", "700"]),
    ],
)
def test_padding_is_left_out(
    rows: int, layout: Layout, settings: dict[str, Any], options: list[str], tmp_path: Path
) -> None:
    settings = settings and {"tensor_model_parallel_size": layout.tp} | settings
    hub, ranks = padded(tmp_path, rows, layout, **settings)
    cli.convert(
        ranks, tmp_path / "out", "--recipe", "megatron-core", "--assets-from", hub, *options
    )
    compare.assert_same(compare.read_hf(tmp_path / "out"), compare.read_hf(hub))


@pytest.mark.parametrize(("rows", "layout"), [(528, Layout()), (656, Layout(tp=2))])
def test_more_rows_are_another_vocabulary(rows: int, layout: Layout, tmp_path: Path) -> None:
    hub, ranks = padded(tmp_path, rows, layout)
    options = ("--recipe", "megatron-core", "--assets-from", hub)
    said = cli.refused(cli.MAPPING, ranks, tmp_path / "out", *options)
    assert f"{rows} rows, {rows - 400} more" in said
    assert f"--pad-vocab-to {rows}" in said
    assert "config.json" in said


def test_padding_is_said_of_ranks_alone(tmp_path: Path) -> None:
    hub = tiny_text.save("llama", tmp_path / "hub")
    done = cli.expect(cli.USAGE, "convert", hub, tmp_path / "out", "--pad-vocab-to", "128")
    assert "--pad-vocab-to" in done.stderr
