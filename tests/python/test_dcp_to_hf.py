"""Checkpoints that PyTorch has just written, converted, and read back by their readers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, compare, models, reference
from safetensors import safe_open
from transformers import AutoModelForCausalLM

MODELS = {"llama_fsdp2": "llama", "qwen3_hsdp": "qwen3", "tied_tp_fsdp": "tied"}
ALL = [*MODELS, "layouts", "layouts_zstd"]


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config.json per model, in a directory of the checkpoint's name."""
    root = tmp_path_factory.mktemp("assets")
    for name, model in MODELS.items():
        models.config(model).save_pretrained(root / name)
    return root


def hub_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return reference.weights(checkpoints.expected(checkpoint))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("recipe", ["auto", "veomni"])
def test_weights_equal_what_pytorch_held(name: str, recipe: str, trained: Path, out: Path) -> None:
    done = cli.convert(trained / name, out, "--recipe", recipe)
    compare.assert_reads_as(out, hub_weights(trained / name))
    if recipe == "auto":
        assert "veomni" in done.stderr


@pytest.mark.parametrize("name", ALL)
def test_identity_keeps_names_and_optimizer_state(name: str, trained: Path, out: Path) -> None:
    cli.identity(trained / name, out)
    compare.assert_reads_as(out, checkpoints.expected(trained / name))


def test_the_libraries_read_the_same(trained: Path, out: Path) -> None:
    cli.convert(trained / "llama_fsdp2", out, "--shard-size", "20KB")
    tensors: dict[str, torch.Tensor] = {}
    for path in compare.weight_files(out):
        with safe_open(path, "pt") as file:
            assert file.metadata() == {"format": "pt"}
            tensors |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    compare.assert_same_tensors(tensors, reference.weights(reference.load(trained / "llama_fsdp2")))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shard_size", ["5GB", "10KB"])
@pytest.mark.parametrize("weights", ["safetensors", "bin"])
def test_transformers_loads_the_same_model(
    name: str, shard_size: str, weights: str, trained: Path, assets: Path, out: Path
) -> None:
    options = ("--shard-size", shard_size, "--weights", weights, "--assets-from", assets / name)
    cli.convert(trained / name, out, *options)
    loaded, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), info

    expected = models.build(MODELS[name])
    expected.load_state_dict(hub_weights(trained / name))
    compare.assert_same_tensors(loaded.state_dict(), expected.state_dict())
    tokens = torch.arange(2 * 24).reshape(2, 24) % expected.config.vocab_size
    with torch.no_grad():
        assert torch.equal(loaded.eval()(tokens).logits, expected.eval()(tokens).logits)


def test_tied_weights_may_be_stored_once(
    trained: Path, assets: Path, tmp_path: Path, out: Path
) -> None:
    """Trainers that keep one copy of a tied weight leave out lm_head."""
    state = checkpoints.expected(trained / "tied_tp_fsdp")
    state = {name: t for name, t in state.items() if name != "model.lm_head.weight"}
    checkpoints.save_single(state, tmp_path / "checkpoint")
    cli.convert(tmp_path / "checkpoint", out, "--assets-from", assets / "tied_tp_fsdp")
    loaded, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), info
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    embedding = state["model.model.embed_tokens.weight"]
    assert compare.tensor_bytes(loaded.lm_head.weight) == compare.tensor_bytes(embedding)


def test_bfloat16_model_loads_as_bfloat16(trained: Path, assets: Path, out: Path) -> None:
    options = ("--dtype", "bfloat16", "--assets-from", assets / "qwen3_hsdp")
    cli.convert(trained / "qwen3_hsdp", out, *options)
    loaded = AutoModelForCausalLM.from_pretrained(out, dtype="auto")
    weights = hub_weights(trained / "qwen3_hsdp")
    expected = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    compare.assert_same_tensors(loaded.state_dict(), expected)


def test_the_wrapped_era_of_veomni(tmp_path: Path, out: Path) -> None:
    """For a few weeks its keys had one `model.` more; the recipe and `auto` know them."""
    weights = {
        "model.layers.0.mlp.up_proj.weight": torch.randn(6, 4),
        "model.layers.0.input_layernorm.weight": torch.randn(4),
        "model.embed_tokens.weight": torch.randn(9, 4),
        "lm_head.weight": torch.randn(9, 4),
    }
    state = {f"model.model.{name}": tensor for name, tensor in weights.items()}
    state["optimizer.state.lm_head.weight.exp_avg"] = torch.randn(9, 4)
    checkpoints.save_single(state, tmp_path / "checkpoint")
    for recipe in ("veomni-old", "auto"):
        destination = out / recipe
        out.mkdir(exist_ok=True)
        done = cli.convert(tmp_path / "checkpoint", destination, "--recipe", recipe)
        compare.assert_reads_as(destination, weights)
        assert recipe == "veomni-old" or "veomni-old" in done.stderr


@pytest.mark.parametrize("name", ["iter_0000020", "release", "global_step_20"])
def test_parent_with_a_tracker_file(name: str, trained: Path, tmp_path: Path, out: Path) -> None:
    parent = tmp_path / "run"
    shutil.copytree(trained / "qwen3_hsdp", parent / name)
    latest = "release" if name == "release" else "20"
    (parent / "latest_checkpointed_iteration.txt").write_text(f"{latest}\n")
    cli.convert(parent, out)
    compare.assert_reads_as(out, hub_weights(trained / "qwen3_hsdp"))


def test_an_hf_directory_is_a_source_too(trained: Path, tmp_path: Path, out: Path) -> None:
    for weights in ("safetensors", "bin"):
        first = tmp_path / weights
        cli.convert(trained / "qwen3_hsdp", first, "--weights", weights, "--shard-size", "9KB")
        again = tmp_path / f"{weights}-again"
        cli.identity(first, again)
        compare.assert_reads_as(again, hub_weights(trained / "qwen3_hsdp"))


def test_the_sample_of_the_repository(out: Path) -> None:
    sample = cli.REPOSITORY / "examples" / "tiny-llama-dcp"
    cli.convert(sample, out)
    compare.assert_reads_as(out, reference.weights(reference.load(sample)))
    _, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(info.values()), info
