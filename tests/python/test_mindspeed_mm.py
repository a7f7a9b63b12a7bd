"""Hugging Face models to MindSpeed-MM's files and back, against an independent reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from harness import cli, compare, tiny_multimodal
from harness import mindspeed_reference as reference
from harness.mindspeed_models import by_group
from harness.mindspeed_reference import Layout, Tensors
from harness.tensor_cuts import columns, halves, head_rows
from harness.tiny_multimodal import Tiny

RECIPE = ("--recipe", "mindspeed-mm")
CANONICAL = ("--recipe", "mindspeed-mm-canonical")

ONE = Layout([[4]], [[4]])
# Uneven stages, then stages without layers at either end: what is first or last is not on stage 0.
UNEVEN = Layout([[1, 3]], [[3, 1]], tp=2)
LEADING_ZEROS = Layout([[0, 0, 0, 1], [1, 1, 1, 0]], [[1, 3, 0, 0], [0, 0, 0, 0]], tp=2, vit_tp=1)
SHORTER_LIST = Layout([[2, 2]], [[4]], tp=1, vit_tp=2)
WIDE = Layout([[0, 4]], [[4, 0]], tp=4, vit_tp=2)
WIDE_VIT = Layout([[2, 2]], [[0, 4]], tp=2, vit_tp=4)
TWELVE = Layout([[0, 0, 0, 1], [5, 3, 2, 1]], [[0, 2, 1, 1], [0, 0, 0, 0]], tp=4, vit_tp=2)
CHUNKS = Layout([[5], [7]], [[4], [0]], tp=2)
AUDIO = Layout([[0, 1], [1, 2]], [[4, 0], [0, 0]], [[1, 3], [0, 0]], tp=4, vit_tp=2, audio_tp=1)
AUDIO_SHORTER = Layout([[0, 1, 1, 2]], [[1, 3, 0, 0]], [[2, 2]], tp=2, audio_tp=4)
EXPERTS = Layout([[1, 3]], [[4, 0]], tp=2, vit_tp=1, ep=4)
EXPERTS_CHUNKS = Layout([[0, 0, 1], [1, 2, 0]], [[2, 2, 0], [0, 0, 0]], tp=2, ep=2)
EXPERTS_ONLY = Layout([[4]], [[4]], ep=8)

CASES = {
    "qwen2_vl": [Layout([[12]], [[4]]), TWELVE, CHUNKS],
    "qwen2_vl_tied": [ONE, Layout([[1], [3]], [[4], [0]]), UNEVEN, LEADING_ZEROS],
    "qwen2_5_vl": [UNEVEN, LEADING_ZEROS, SHORTER_LIST, WIDE, WIDE_VIT],
    "qwen2_5_omni": [Layout([[4]], [[4]], [[4]]), AUDIO, AUDIO_SHORTER],
    "qwen3_vl": [ONE, UNEVEN, LEADING_ZEROS, WIDE_VIT],
    "qwen3_vl_tied": [WIDE],
    "qwen3_vl_moe": [ONE, EXPERTS, EXPERTS_CHUNKS, EXPERTS_ONLY],
    "glm4_1v": [ONE, Layout([[0, 1, 3]], [[3, 1, 0]])],
    "internvl_qwen2": [ONE, LEADING_ZEROS, WIDE],
    "internvl_llama": [UNEVEN, WIDE_VIT],
    "internvl_internlm2": [UNEVEN, LEADING_ZEROS],
    "deepseek_vl2": [ONE, EXPERTS, EXPERTS_ONLY],
    "deepseek_vl2_q_lora": [EXPERTS_CHUNKS, WIDE],
    "videoalign": [ONE, LEADING_ZEROS],
}
ALL = [
    pytest.param(name, layout, id=f"{name}-{i}")
    for name, layouts in CASES.items()
    for i, layout in enumerate(layouts)
]
TWO_SPELLINGS = ["qwen2_vl_tied", "qwen2_5_vl", "qwen2_5_omni", "qwen3_vl_moe", "videoalign"]
CANONICAL_CASES = [
    pytest.param("qwen2_vl", Layout(TWELVE.llm, TWELVE.vit, tp=4, vit_tp=1), id="qwen2_vl"),
    pytest.param("qwen2_5_vl", LEADING_ZEROS, id="qwen2_5_vl"),
]

_built: dict[str, Tiny] = {}


def tiny(name: str) -> Tiny:
    if name not in _built:
        _built[name] = tiny_multimodal.build(name)
    return _built[name]


def published(name: str, directory: Path) -> Path:
    tiny_multimodal.save(tiny(name).config, tiny(name).tensors, directory, files=2)
    return directory


def to_megatron(source: Path, destination: Path, layout: Layout, recipe: tuple[str, str]) -> None:
    options = (*recipe, *layout.options())
    cli.ok("convert", source, destination, "--to", "megatron", *options)


def rank_file(root: Path, rank: str) -> Path:
    return root / "release" / rank / "model_optim_rng.pt"


def read_ranks(root: Path) -> dict[str, list[Tensors]]:
    """Each rank's chunks by PyTorch's own reader, after checking what is beside them."""
    assert (root / "latest_checkpointed_iteration.txt").read_text() == "release"
    return {
        path.name: chunks(torch.load(rank_file(root, path.name), weights_only=True))
        for path in (root / "release").glob("mp_rank_*")
    }


def chunks(content: dict[str, Any]) -> list[Tensors]:
    assert content.pop("checkpoint_version") == 3.0
    if set(content) == {"model"}:
        return [content["model"]]
    assert len(content) > 1
    return [content.pop(f"model{i}") for i in range(len(content))]


def assert_ranks(root: Path, expected: dict[str, list[Tensors]]) -> None:
    actual = read_ranks(root)
    assert sorted(actual) == sorted(expected)
    for rank, want in expected.items():
        assert len(actual[rank]) == len(want), rank
        for have, chunk in zip(actual[rank], want, strict=True):
            compare.assert_same_tensors(have, chunk)


# --- the reference itself: these need no program ---------------------------------------------


@pytest.mark.parametrize("canonical", [False, True])
@pytest.mark.parametrize(("name", "layout"), ALL)
def test_the_reference_loses_nothing(name: str, layout: Layout, canonical: bool) -> None:
    """Every element is given a number of its own: all of them lie on some rank, and no others."""
    numbered: Tensors = {}
    count = 0
    for key, tensor in tiny(name).tensors.items():
        numbered[key] = torch.arange(count + 1, count + 1 + tensor.numel()).view(tensor.shape)
        count += tensor.numel()
    ranks = reference.convert(numbered, tiny(name).config, layout, canonical)
    seen = torch.zeros(count + 1, dtype=torch.bool)
    for tensors in (chunk for rank in ranks.values() for chunk in rank):
        for key, tensor in tensors.items():
            seen[tensor.flatten()] = True
            assert "audio" in key or bool((tensor > 0).all()), key
    assert bool(seen[1:].all())


def test_the_reference_on_numbers() -> None:
    """Two groups of two query heads; three heads of two rows for two ranks; gate and up."""
    q, k, v = torch.arange(4), torch.tensor([10, 11]), torch.tensor([20, 21])
    assert by_group(2, q, k, v).tolist() == [0, 1, 10, 20, 2, 3, 11, 21]
    first, second = head_rows(3)(torch.arange(18), 2)
    assert first.tolist() == [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15]
    assert second.tolist() == [4, 5, 10, 11, 16, 17]
    assert [part.tolist() for part in halves(torch.arange(8), 2)] == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert [part.tolist() for part in columns(torch.arange(4).view(1, 4), 2)] == [
        [[0, 1]],
        [[2, 3]],
    ]


# --- names, word for word -----------------------------------------------------------------------
# What MindSpeed-MM's own converters call the tensors of one vision layer.
BIASED = ("self_attention.linear_qkv", "self_attention.linear_proj", "mlp.linear_fc2")
NORMS = ("input_layernorm", "pre_mlp_layernorm")
INTERNVL = {
    *(f"{module}.{kind}" for module in (*BIASED, *NORMS) for kind in ("weight", "bias")),
    *("mlp.linear_fc1.weight", "mlp.linear_fc1.bias", "ls1", "ls2"),
}
LAYER_NAMES = [
    pytest.param("internvl_qwen2", RECIPE, "image_encoder.encoder.encoder", INTERNVL),
    pytest.param(
        "internvl_llama",
        RECIPE,
        "image_encoder.encoder.encoder",
        INTERNVL - {"self_attention.linear_qkv.bias", *(f"{norm}.bias" for norm in NORMS)}
        | {f"self_attention.{kind}_layernorm.weight" for kind in "qk"},
    ),
    pytest.param(
        "qwen2_5_vl",
        CANONICAL,
        "image_encoder.encoder.blocks",
        {
            *(f"{module}.{kind}" for module in BIASED for kind in ("weight", "bias")),
            *(f"mlp.{part}_proj.{kind}" for part in ("gate", "up") for kind in ("weight", "bias")),
            *(f"{norm}.weight" for norm in NORMS),
        },
    ),
]


@pytest.mark.parametrize(("name", "recipe", "root", "names"), LAYER_NAMES)
def test_the_names_of_a_vision_layer(
    name: str, recipe: tuple[str, str], root: str, names: set[str], tmp_path: Path, out: Path
) -> None:
    to_megatron(published(name, tmp_path / "hf"), out, ONE, recipe)
    ((tensors,),) = read_ranks(out).values()
    layer = f"{root}.layers.3."
    assert {key.removeprefix(layer) for key in tensors if key.startswith(layer)} == names


# --- the program ------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "layout"), ALL)
def test_there_and_back(name: str, layout: Layout, tmp_path: Path, out: Path) -> None:
    source = published(name, tmp_path / "hf")
    to_megatron(source, out, layout, RECIPE)
    assert_ranks(out, reference.convert(tiny(name).tensors, tiny(name).config, layout))

    cli.convert(out, tmp_path / "back", *RECIPE, "--assets-from", source, "--like", source)
    compare.assert_reads_as(tmp_path / "back", tiny(name).tensors)


@pytest.mark.parametrize(("name", "layout"), CANONICAL_CASES)
def test_canonical_there_and_back(name: str, layout: Layout, tmp_path: Path, out: Path) -> None:
    source = published(name, tmp_path / "hf")
    to_megatron(source, out, layout, CANONICAL)
    expected = reference.convert(tiny(name).tensors, tiny(name).config, layout, canonical=True)
    assert_ranks(out, expected)

    cli.convert(out, tmp_path / "back", *CANONICAL, "--assets-from", source)
    compare.assert_reads_as(tmp_path / "back", tiny(name).tensors)


@pytest.mark.parametrize("name", TWO_SPELLINGS)
def test_the_names_that_transformers_5_holds(name: str, tmp_path: Path, out: Path) -> None:
    """The same checkpoint under other names gives the same files: nothing goes missing silently."""
    model = tiny(name)
    assert model.runtime is not None
    assert model.runtime_config is not None
    tiny_multimodal.save(model.runtime_config, model.runtime, tmp_path / "hf")
    layout = CASES[name][-1]
    to_megatron(tmp_path / "hf", out, layout, RECIPE)
    assert_ranks(out, reference.convert(model.tensors, model.config, layout))


RESPLIT = [
    pytest.param("qwen2_vl_tied", UNEVEN, ONE, id="stages of a tied model"),
    pytest.param("qwen2_vl_tied", ONE, LEADING_ZEROS, id="a tied model in stages"),
    pytest.param("qwen2_5_vl", WIDE, SHORTER_LIST, id="a tower on every stage"),
    pytest.param("qwen2_5_omni", AUDIO, AUDIO_SHORTER, id="audio"),
    pytest.param("qwen3_vl_moe", EXPERTS, EXPERTS_CHUNKS, id="experts"),
    pytest.param("internvl_llama", WIDE_VIT, UNEVEN, id="uneven heads"),
    pytest.param("deepseek_vl2_q_lora", EXPERTS_CHUNKS, WIDE, id="latent attention"),
]


@pytest.mark.parametrize(("name", "first", "second"), RESPLIT)
def test_another_layout(
    name: str, first: Layout, second: Layout, tmp_path: Path, out: Path
) -> None:
    """The same files as from the published model, without going there."""
    source = published(name, tmp_path / "hf")
    to_megatron(source, tmp_path / "first", first, RECIPE)
    options = (*RECIPE, *second.options(), "--assets-from", source)
    cli.ok("convert", tmp_path / "first", out, "--to", "megatron", *options)
    assert_ranks(out, reference.convert(tiny(name).tensors, tiny(name).config, second))


def omni(directory: Path) -> Tensors:
    """Saves a model that speaks, and returns what it holds beside the thinker."""
    model = tiny("qwen2_5_omni")
    rest = {"talker.model.norm.weight": torch.randn(4), "token2wav.w": torch.randn(3, 2)}
    tiny_multimodal.save(model.config, model.tensors | rest, directory, files=2)
    return rest


def test_the_thinker_alone_is_trained(tmp_path: Path, out: Path) -> None:
    """What MindSpeed-MM does not hold comes back from the published model, byte for byte."""
    model = tiny("qwen2_5_omni")
    rest = omni(tmp_path / "hf")
    to_megatron(tmp_path / "hf", tmp_path / "mm", AUDIO, RECIPE)
    assert_ranks(tmp_path / "mm", reference.convert(model.tensors, model.config, AUDIO))

    # The published thinker is another one by then: of it nothing is taken.
    old = {name: tensor + 1 for name, tensor in model.tensors.items()}
    tiny_multimodal.save(model.config, old | rest, tmp_path / "published", files=2)
    options = (*RECIPE, "--assets-from", tmp_path / "published")
    done = cli.convert(tmp_path / "mm", out, *options, "--like", tmp_path / "published")
    compare.assert_reads_as(out, model.tensors | rest)
    assert "2 tensors are taken from" in done.stderr


def test_a_model_that_lacks_what_is_not_trained_is_refused(tmp_path: Path, out: Path) -> None:
    omni(tmp_path / "hf")
    to_megatron(tmp_path / "hf", tmp_path / "mm", AUDIO, RECIPE)
    options = (*RECIPE, "--assets-from", tmp_path / "hf")
    said = cli.refused(cli.MAPPING, tmp_path / "mm", out, *options, names="talker")
    assert "--like" in said
    cli.convert(tmp_path / "mm", out, *options, "--only", "^thinker")
    compare.assert_reads_as(out, tiny("qwen2_5_omni").tensors)


def test_a_reward_model_in_one_file_of_torch(tmp_path: Path, out: Path) -> None:
    model = tiny("videoalign")
    assets = published("videoalign", tmp_path / "hf")
    torch.save(model.tensors, tmp_path / "model.pth")
    options = (*RECIPE, *UNEVEN.options(), "--assets-from", assets, "--from", "pt")
    cli.ok("convert", tmp_path / "model.pth", out, "--to", "megatron", *options)
    assert_ranks(out, reference.convert(model.tensors, model.config, UNEVEN))


# --- what must be refused ---------------------------------------------------------------------

REFUSED = [
    pytest.param("qwen2_5_vl", Layout([[1, 2]], [[4, 0]]), id="a layer of the text is on no stage"),
    pytest.param("qwen2_5_vl", Layout([[2, 2]], [[4, 1]]), id="a stage for a layer that is not"),
    pytest.param("qwen2_5_vl", Layout([[1, 1], [2]], [[4]]), id="chunks of unequal length"),
    pytest.param("qwen2_vl_tied", Layout([[4]], [[4]], tp=4), id="two key heads for four ranks"),
    pytest.param("qwen2_5_vl", Layout([[4]], [[4]], tp=2, vit_tp=3), id="three ranks beside two"),
    pytest.param("qwen3_vl_moe", Layout([[4]], [[4]], ep=3), id="eight experts for three ranks"),
    pytest.param("glm4_1v", Layout([[4]], [[4]], tp=2), id="no tensor parallel layout is known"),
]


@pytest.mark.parametrize(("name", "layout"), REFUSED)
def test_refused(name: str, layout: Layout, tmp_path: Path, out: Path) -> None:
    """By a message and an exit code, before anything is written."""
    source = published(name, tmp_path / "hf")
    command = ("convert", source, out, "--to", "megatron", *RECIPE)
    cli.ok(*command, *ONE.options(), "--dry-run")  # all that is wrong is the layout
    done = cli.run(*command, *layout.options())
    assert done.returncode in (cli.USAGE, cli.MAPPING), done.stderr
    assert done.stderr
    assert not out.exists()


def save_changed(name: str, directory: Path, **sizes: object) -> None:
    """A model whose text config says something else."""
    config = tiny(name).config
    key = next(key for key in ("text_config", "language_config") if key in config)
    tiny_multimodal.save(config | {key: config[key] | sizes}, tiny(name).tensors, directory)


SAID_BY_CONFIG = [
    pytest.param("deepseek_vl2", {"use_mla": False}, "latent attention", id="no names"),
    # The shapes [8, 32, 24] and [8, 12, 32] would then be neither form of the experts.
    pytest.param("qwen3_vl_moe", {"moe_intermediate_size": 10}, "experts", id="neither form"),
]


@pytest.mark.parametrize(("name", "sizes", "says"), SAID_BY_CONFIG)
def test_refused_by_the_config(
    name: str, sizes: dict[str, object], says: str, tmp_path: Path, out: Path
) -> None:
    save_changed(name, tmp_path / "hf", **sizes)
    options = ("--to", "megatron", *RECIPE, *ONE.options())
    done = cli.expect(cli.MAPPING, "convert", tmp_path / "hf", out, *options)
    assert says in done.stderr
    assert not out.exists()


def test_a_canonical_vision_tower_is_not_cut(tmp_path: Path, out: Path) -> None:
    source = published("qwen2_5_vl", tmp_path / "hf")
    options = ("--to", "megatron", *CANONICAL, *UNEVEN.options())
    done = cli.expect(cli.MAPPING, "convert", source, out, *options)
    assert "vit_tp > 1" in done.stderr


def test_a_tensor_that_no_rule_knows_is_refused(tmp_path: Path, out: Path) -> None:
    model = tiny("qwen2_5_vl")
    extra = {"visual.merger.extra.weight": torch.ones(4)}
    tiny_multimodal.save(model.config, model.tensors | extra, tmp_path / "hf")
    options = (*RECIPE, *UNEVEN.options())
    done = cli.expect(cli.MAPPING, "convert", tmp_path / "hf", out, "--to", "megatron", *options)
    assert "visual.merger.extra.weight" in done.stderr
    assert not out.exists()


# A rank's tensor that must repeat another or hold zeros, and does not.
CHANGED = [
    pytest.param(
        "qwen2_vl_tied", UNEVEN, "mp_rank_01_001", "text_decoder.output_layer.weight", id="tied"
    ),
    pytest.param(
        "qwen2_5_vl",
        UNEVEN,
        "mp_rank_01_000",
        "image_encoder.encoder.patch_embed.proj.weight",
        id="replica",
    ),
    pytest.param(
        "qwen2_5_omni",
        Layout([[4]], [[4]], [[4]], tp=2),
        "mp_rank_01",
        "audio_encoder.encoder.blocks.layers.2.self_attention.linear_qkv.bias",
        id="bias of the keys",
    ),
]


@pytest.mark.parametrize(("name", "layout", "rank", "key"), CHANGED)
def test_what_cannot_be_written_back_is_refused(
    name: str, layout: Layout, rank: str, key: str, tmp_path: Path, out: Path
) -> None:
    """Training moved what the published model has once, or not at all: saying nothing loses it."""
    source = published(name, tmp_path / "hf")
    to_megatron(source, tmp_path / "mm", layout, RECIPE)
    content = torch.load(rank_file(tmp_path / "mm", rank), weights_only=True)
    tensor = content["model"][key]
    tensor[tensor == 0] = 1.0
    tensor += 1
    torch.save(content, rank_file(tmp_path / "mm", rank))
    hub = ("--to", "hf", "--assets-from", source, "--like", source)
    done = cli.run("convert", tmp_path / "mm", out, *hub, *RECIPE)
    assert done.returncode not in (cli.OK, cli.USAGE), done.stdout
    assert key in done.stderr
    assert not out.exists()
