"""Text models to Megatron-Core's rank files and back, each tensor against a PyTorch reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from harness import cli, megatron_layout, megatron_reference, tiny_text
from harness.compare import assert_same, assert_same_tensors, read_hf, tree_digest
from harness.megatron_layout import Layout, Rank
from harness.megatron_reference import FLAVORS
from safetensors.torch import load_file
from transformers import AutoConfig

# For each size a layout that has it alone, and the ways in which two of them meet.
LAYOUTS = (
    Layout(),
    Layout(tp=2),
    Layout(tp=4),
    Layout(pp=2),
    Layout(pp=4),
    Layout(pp=2, vpp=2),
    Layout(tp=2, pp=4),
    Layout(tp=4, pp=2),
    Layout(tp=2, pp=2, vpp=2),
)
EXPERT_LAYOUTS = (
    Layout(ep=2),
    Layout(ep=4),
    Layout(tp=2, ep=2),
    Layout(pp=2, ep=2),
    Layout(tp=2, pp=2, vpp=2, ep=2),
)
GROUPS = {"llama-tied": 2}  # of attention heads; at most so many ranks share them
CASES = (
    *((n, layout) for n in tiny_text.NAMES for layout in LAYOUTS if layout.tp <= GROUPS.get(n, 4)),
    *((name, layout) for name in tiny_text.MOE for layout in EXPERT_LAYOUTS),
)
# What the other tests take: a tied model, one with biases, both ways to name experts.
FEW = (
    ("llama", Layout(tp=4)),
    ("llama-tied", Layout(tp=2, pp=2, vpp=2)),
    ("qwen2", Layout(tp=2, pp=4)),
    ("qwen3-tied", Layout()),
    ("qwen3-moe", Layout(tp=2, pp=2, ep=2)),
    ("mixtral", Layout(ep=4)),
)

in_all_layouts = pytest.mark.parametrize(("name", "layout"), CASES, ids=str)
in_few_layouts = pytest.mark.parametrize(("name", "layout"), FEW, ids=str)
in_both_flavors = pytest.mark.parametrize("flavor", FLAVORS)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model's Hugging Face directory, in bfloat16, below one. Read only."""
    root = tmp_path_factory.mktemp("models")
    for name in tiny_text.NAMES:
        tiny_text.save(name, root / name, torch.bfloat16)
    return root


def to_megatron(source: Path, root: Path, flavor: str, layout: Layout) -> Path:
    """Converts, either from the hub's layout or from another of the same flavor."""
    cli.ok("convert", source, root, "--to", "megatron", "--recipe", flavor, *layout.options())
    return root


def to_hub(root: Path, directory: Path, flavor: str, assets: Path, *args: object) -> Path:
    cli.convert(root, directory, "--recipe", flavor, "--assets-from", assets, *args)
    return directory


def assert_is_reference(root: Path, model: Path, flavor: str, layout: Layout) -> None:
    """Every rank has the reference's tensors, bit by bit, and no others."""
    hub = load_file(model / "model.safetensors")
    expected = megatron_reference.rank_states(
        hub, AutoConfig.from_pretrained(model), layout, flavor
    )
    for rank, chunks in megatron_layout.read(root, layout):
        for chunk, want in zip(chunks, expected[rank], strict=True):
            assert_same_tensors(chunk, want)


def weights_digest(directory: Path, suffix: str) -> dict[str, str]:
    digest = tree_digest(directory)
    return {name: digest[name] for name in digest if name.endswith(suffix)}


@in_both_flavors
@in_all_layouts
def test_every_rank_has_the_tensors_of_the_reference(
    models: Path, out: Path, name: str, layout: Layout, flavor: str
) -> None:
    to_megatron(models / name, out, flavor, layout)
    assert_is_reference(out, models / name, flavor, layout)


@in_both_flavors
@in_all_layouts
def test_files_of_pytorch_become_the_model(
    models: Path, tmp_path: Path, name: str, layout: Layout, flavor: str
) -> None:
    root = megatron_reference.write(models / name, tmp_path / "root", layout, flavor)
    back = to_hub(root, tmp_path / "back", flavor, models / name)
    assert_same(read_hf(back), read_hf(models / name))


@in_both_flavors
@in_few_layouts
def test_back_is_the_inverse(
    models: Path, tmp_path: Path, name: str, layout: Layout, flavor: str
) -> None:
    root = to_megatron(models / name, tmp_path / "root", flavor, layout)
    back = to_hub(root, tmp_path / "back", flavor, models / name)
    assert_same(read_hf(back), read_hf(models / name))
    config = (models / name / "config.json").read_bytes()
    assert (back / "config.json").read_bytes() == config


@in_few_layouts
def test_like_gives_the_same_files_from_every_kind(
    models: Path, tmp_path: Path, name: str, layout: Layout
) -> None:
    hub = tiny_text.save(name, tmp_path / "hub", torch.bfloat16, shard_size="20KB")
    root = to_megatron(hub, tmp_path / "root", "megatron-core", layout)
    direct = tmp_path / "direct"
    cli.convert(hub, direct, "--like", hub)
    around = to_hub(root, tmp_path / "around", "megatron-core", hub, "--like", hub)

    assert_same(read_hf(direct), read_hf(hub))
    index = "model.safetensors.index.json"
    shards = json.loads((hub / index).read_text())["weight_map"]
    assert len(set(shards.values())) > 2
    assert json.loads((direct / index).read_text())["weight_map"] == shards
    assert weights_digest(around, ".safetensors") == weights_digest(direct, ".safetensors")


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("llama", Layout(tp=4), Layout(pp=4)),
        ("llama-tied", Layout(tp=2, pp=2), Layout()),
        ("qwen2", Layout(tp=2), Layout(tp=4, pp=2, vpp=2)),
        ("qwen3-moe", Layout(tp=2, ep=2), Layout(pp=2, ep=4)),
        ("mixtral", Layout(tp=2, pp=2, vpp=2, ep=2), Layout(tp=4)),
    ],
    ids=str,
)
@in_both_flavors
def test_split_anew_and_back(
    models: Path, tmp_path: Path, name: str, one: Layout, other: Layout, flavor: str
) -> None:
    first = to_megatron(models / name, tmp_path / "first", flavor, one)
    second = to_megatron(first, tmp_path / "second", flavor, other)
    assert_is_reference(second, models / name, flavor, other)
    third = to_megatron(second, tmp_path / "third", flavor, one)
    digest = weights_digest(first, "model_optim_rng.pt")
    assert len(digest) == len(one.ranks())
    assert weights_digest(third, "model_optim_rng.pt") == digest


@pytest.mark.parametrize("name", tiny_text.MOE)
@pytest.mark.parametrize("source", FLAVORS)
def test_one_flavor_becomes_the_other(models: Path, tmp_path: Path, name: str, source: str) -> None:
    """By way of the hub's layout; the names of norms and experts differ, the bytes do not."""
    (target,) = set(FLAVORS) - {source}
    layout = Layout(tp=2, pp=2, ep=2)
    root = to_megatron(models / name, tmp_path / "root", source, layout)
    hub = to_hub(root, tmp_path / "hub", source, models / name)
    other = to_megatron(hub, tmp_path / "other", target, layout)
    assert_is_reference(other, models / name, target, layout)


def test_groups_of_heads_are_not_cut(models: Path, out: Path) -> None:
    done = cli.expect(
        cli.MAPPING,
        *("convert", models / "llama-tied", out),
        *("--to", "megatron", "--recipe", "megatron-core", "--tp", 4),
    )
    assert any(word in done.stderr for word in ("num_key_value_heads", "linear_qkv", "_proj"))
    assert not out.exists()


Content = dict[str, dict[str, torch.Tensor]]


def change(root: Path, layout: Layout, rank: Rank, edit: Callable[[Content], None]) -> None:
    """Rewrites the file of one rank."""
    directory = megatron_layout.iteration_directory(root) / layout.directory(rank)
    path = directory / "model_optim_rng.pt"
    content = torch.load(path, weights_only=True)
    edit(content)
    torch.save(content, path)


@pytest.mark.parametrize(
    ("name", "layout", "rank", "key"),
    [
        ("llama", Layout(tp=2), Rank(1, 0, 0), "decoder.final_layernorm.weight"),
        ("llama-tied", Layout(pp=2), Rank(0, 1, 0), "output_layer.weight"),
        ("mixtral", Layout(ep=2), Rank(0, 0, 1), "decoder.layers.1.mlp.router.weight"),
        ("mixtral", Layout(ep=2), Rank(0, 0, 1), "embedding.word_embeddings.weight"),
    ],
    ids=str,
)
def test_copies_that_differ_are_an_error(
    models: Path, tmp_path: Path, name: str, layout: Layout, rank: Rank, key: str
) -> None:
    """One value in one of the copies: none of them is the model's for certain."""
    root = megatron_reference.write(models / name, tmp_path / "root", layout, "megatron-core")

    def alter(content: Content) -> None:
        content["model"][key].view(-1)[-1] += 1

    change(root, layout, rank, alter)
    stderr = cli.refused(
        *(cli.SOURCE, root, tmp_path / "out", "--recipe", "megatron-core"),
        *("--assets-from", models / name),
    )
    assert key in stderr


def test_a_tensor_that_a_rank_lacks_is_named(models: Path, tmp_path: Path) -> None:
    layout = Layout(tp=2, pp=2)
    root = megatron_reference.write(models / "llama", tmp_path / "root", layout, "megatron-core")
    key = "decoder.layers.0.mlp.linear_fc2.weight"
    change(root, layout, Rank(1, 1, 0), lambda content: content["model"].pop(key))
    done = cli.run(
        *("convert", root, tmp_path / "out", "--to", "hf", "--recipe", "megatron-core"),
        *("--assets-from", models / "llama"),
    )
    assert done.returncode in (cli.SOURCE, cli.MAPPING)
    assert key in done.stderr
    assert not (tmp_path / "out").exists()
