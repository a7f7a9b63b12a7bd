"""A correct recipe, broken in every way that drops, doubles or leaves a hole: each is refused.

What no program can know is not here: two names of one shape that are swapped, or parts in another
order, make another model of the same elements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import cli, megatron_reference, recipe_text, tiny_text
from harness.compare import assert_same, read_hf
from harness.megatron_layout import Layout
from harness.recipe_text import Table
from safetensors.torch import load_file, save_file

FLAVOR = "megatron-core"


@dataclass(frozen=True)
class Model:
    """A tiny model, its recipe, and a layout that cuts it in every way that it can be cut."""

    recipe: str
    layout: Layout
    save: str


MODELS = {
    "llama": Model("megatron-core/dense", Layout(tp=2, pp=2), "llama"),
    "tied": Model("megatron-core/dense", Layout(tp=2, pp=2), "llama-tied"),
    "whole": Model("megatron-core/dense", Layout(), "llama-tied"),
    "qwen2": Model("megatron-core/dense", Layout(tp=2, pp=2), "qwen2"),
    "moe": Model("megatron-core/qwen3-moe", Layout(tp=2, pp=2, ep=2), "qwen3-moe"),
}

TO_MEGATRON, TO_HUB = "to megatron", "to hub"
BOTH = (TO_MEGATRON, TO_HUB)

Change = Callable[[Table], None]


@dataclass(frozen=True)
class Case:
    name: str
    change: Change
    # The rule or the tensor at fault, as the message names it; a pair where the ways differ.
    says: str | tuple[str, str]
    model: str = "llama"
    ways: tuple[str, ...] = field(default=BOTH)


def rule(recipe: Table, name: str, kind: str = "rule") -> Table:
    """The rule with this in one of its names."""
    found = [r for r in recipe[kind] if name in r.get("here", "") or name in r.get("hub", "")]
    assert len(found) == 1, f"{len(found)} rules for {name}"
    return found[0]


def remove(name: str, kind: str = "rule") -> Change:
    def change(recipe: Table) -> None:
        recipe[kind].remove(rule(recipe, name, kind))
        if not recipe[kind]:
            del recipe[kind]

    return change


def double(name: str, kind: str = "rule") -> Change:
    return lambda recipe: recipe[kind].append(dict(rule(recipe, name, kind)))


def put(name: str, kind: str = "rule", **fields: Any) -> Change:
    return lambda recipe: rule(recipe, name, kind).update(fields)


def without(name: str, *fields: str, kind: str = "rule") -> Change:
    def change(recipe: Table) -> None:
        for key in fields:
            del rule(recipe, name, kind)[key]

    return change


def size(**sizes: str) -> Change:
    return lambda recipe: recipe["sizes"].update(sizes)


def forget_size(*names: str) -> Change:
    def change(recipe: Table) -> None:
        for name in names:
            del recipe["sizes"][name]

    return change


def drop(here: str, **fields: Any) -> Change:
    return lambda recipe: recipe["drop"].append({"here": here, "why": "why not", **fields})


def in_turn(*changes: Change) -> Change:
    def change(recipe: Table) -> None:
        for each in changes:
            each(recipe)

    return change


def in_all(key: str, value: Any) -> Change:
    """Sets a field of every rule and copy; None removes it."""

    def change(recipe: Table) -> None:
        for each in recipe["rule"] + recipe["copy"]:
            each.pop(key, None)
            if value is not None:
                each[key] = value

    return change


def swap(name: str, other: str, key: str) -> Change:
    def change(recipe: Table) -> None:
        one, two = rule(recipe, name), rule(recipe, other)
        one[key], two[key] = two[key], one[key]

    return change


EMBEDDING, HEAD, NORM = "word_embeddings", "lm_head", "final_layernorm"
QKV, PROJ = "linear_qkv.weight", "linear_proj"
NORM1, NORM2 = "input_layernorm", "post_attention_layernorm"
FC1, FC2, ROUTER = "up}_proj", "down_proj", "router"
QKV_HUB = "model.layers.{layer}.self_attn.%s_proj.weight"
OUTPUT = "output_layer.weight"


def no_rule(name: str, says: str | tuple[str, str], model: str = "llama") -> Case:
    return Case(f"no rule for {name}", remove(name), says, model)


CASES = [
    # A rule is missing.
    no_rule(EMBEDDING, ("embed", "no rule with 'ep'")),
    no_rule(HEAD, "_"),
    no_rule(NORM, "norm"),
    no_rule(QKV, "self_att"),
    no_rule(PROJ, "self_att"),
    no_rule(NORM1, "norm"),
    no_rule(NORM2, "norm"),
    no_rule(FC1, "mlp"),
    no_rule(FC2, "mlp"),
    no_rule(ROUTER, "mlp", "moe"),
    no_rule(FC1, "experts", "moe"),
    no_rule(FC2, "experts", "moe"),
    no_rule("{q|k}_norm", "k_", "moe"),
    no_rule("linear_qkv.bias", "bias", "qwen2"),
    # A rule is there twice, or takes what is another's.
    Case("embedding twice", double(EMBEDDING), "embed"),
    Case("head twice", double(HEAD), OUTPUT),
    Case("qkv twice", double(QKV), "self_att"),
    Case("experts twice", double(FC1), "experts", "moe"),
    Case("tie twice", double(HEAD, "tie"), "model.embed_tokens.weight", "tied"),
    Case("a rule for everything in a layer",
         put(FC2, hub="model.layers.{layer}.{a*}", here="decoder.layers.{layer}.{a*}", map="*",
             tp=""),
         "claim one name"),
    Case("a hub name for two", put(NORM1, hub=f"model.layers.{{layer}}.{NORM2}.weight"), NORM2),
    # Names that are lost or stand twice.
    Case("no value", put(QKV, hub=QKV_HUB % "{q,k}"), "2 names"),
    Case("two keys, no value", put(QKV, hub=QKV_HUB % "{q,k,k}"), "k_proj"),
    Case("key and query swapped", put(QKV, hub=QKV_HUB % "{k,q,v}"), "self_attn", ways=BOTH[:1]),
    Case("no up", put(FC1, hub="model.layers.{layer}.mlp.gate_proj.weight"), "1 names"),
    Case("a hub name with a slip", put(FC2, hub="model.layers.{layer}.mlp.dwn_proj.weight"),
         "down_proj", ways=BOTH[:1]),
    Case("a name here with a slip", put(FC2, here="decoder.layers.{layer}.mlp.linear_fc.weight"),
         "linear_fc2", ways=BOTH[1:]),
    Case("two names of different shapes swapped", swap(PROJ, FC2, "here"), "linear_",
         ways=BOTH[1:]),
    Case("an alias that joins two",
         lambda r: r.update(
             alias=[{"other": "lm_head.weight", "hub": "model.embed_tokens.weight"}]),
         "another spelling", ways=BOTH[:1]),
    # Captures.
    Case("layer lost here", put(FC2, here="decoder.mlp.linear_fc2.weight"), "'layer'"),
    Case("layer lost in the hub", put(FC2, hub="model.layers.down_proj.weight"), "'layer'"),
    Case("expert lost here", put(FC2, here="decoder.layers.{layer}.mlp.experts.linear_fc2.weight"),
         "'expert'", "moe"),
    Case("layer is another's", put(FC2, here="decoder.layers.{l}.mlp.linear_fc2.weight"),
         "captures"),
    Case("each layer one up", put(FC2, index={"layer": "layer + 1"}), "linear_fc2"),
    Case("each layer one down", put(FC2, index={"layer": "layer - 1"}),
         ("down", "model.layers.4.")),
    Case("all layers of everything one up", lambda r: [
        each.update(index={"layer": "layer + 1"}) for each in r["rule"] if "{layer}" in each["here"]
    ], "layer"),
    Case("an index of no capture", put(FC2, index={"expert": "layer + 1"}), "'expert'"),
    Case("a table that is not there", put(FC2, index={"layer": "layer_order[layer]"}), "layers"),
    # Maps.
    Case("three parts for two", put(FC1, map="f h, f h -> ([1 1 1] f) h"), "parts"),
    Case("a part of two", put(FC1, map="f h, f h -> ([2 1] f) h"), "axis '2'"),
    Case("a map of one tensor for two", put(FC1, map="f h"), "2 names"),
    Case("no map for two", without(FC1, "map", "tp"), "2 names"),
    Case("the fused tensor transposed", put(FC1, map="f h, f h -> h ([1 1] f)"), "linear_fc1",
         ways=BOTH[1:]),
    Case("one part transposed", put(FC1, map="f h, h f -> ([1 1] f) h"), "mlp", ways=BOTH[:1]),
    Case("down transposed", put(FC2, map="f h"), ("down_proj", "linear_fc2")),
    Case("an axis forgotten", put(FC2, map="h f -> h"), "axis"),
    Case("an axis too many", put(NORM, map="h other"), "norm"),
    Case("groups without their queries",
         put(QKV, map="(group per dim) h, (group dim) h, (group dim) h -> (group [1 1 1] dim) h"),
         "per"),
    Case("queries for the values too",
         put(QKV,
             map="(group per dim) h, (group dim) h, (group dim) h -> (group [per 1 per] dim) h"),
         "per"),
    Case("zeros that are not there", put(FC1, map="f h, zero f h, f h -> ([1 1 1] f) h"),
         "linear_fc1", ways=BOTH[1:]),
    Case("only zeros first", put(FC1, map="zero f h, f h, f h -> ([1 1 1] f) h"), "zero"),
    Case("a map that is not closed", put(FC1, map="f h, f h -> ([1 1 f) h"), "([1 1 f) h"),
    # Tensor parallelism.
    Case("tp of no axis", put(FC1, tp="x"), "'x'"),
    Case("tp of the other axis", put(FC1, tp="h"), "linear_fc"),
    Case("tp of a norm", put(NORM, tp="h"), "norm"),
    Case("tp lost", without(FC2, "tp"), "linear_fc"),
    Case("tp lost in the embedding", without(EMBEDDING, "tp"), EMBEDDING),
    Case("tp lost behind the attention", without(PROJ, "tp"), PROJ),
    Case("tp lost in all of the MLP", in_turn(without(FC1, "tp"), without(FC2, "tp")),
         "linear_fc", ways=BOTH[1:]),
    Case("tp lost everywhere", in_all("tp", None), "tp"),
    # Expert parallelism.
    Case("ep lost", without(FC2, "ep"), "linear_fc2", "moe"),
    Case("ep lost everywhere", in_all("ep", None), "ep", "moe"),
    Case("ep of no axis", put(FC1, ep="experts"), "'experts'", "moe"),
    Case("ep where tp cuts", put(FC1, ep="f"), "'f'", "moe"),
    # Stages.
    Case("no stage", without(FC2, "stage"), "linear_fc2"),
    Case("no stage for the last norm", without(NORM, "stage"), NORM),
    Case("no stages at all", in_all("stage", None), ("stage", "no rule for this tensor")),
    Case("on every stage", put(FC2, stage="every"), "linear_fc2"),
    Case("layers on the first stage", put(FC2, stage="llm.first"), "linear_fc2"),
    Case("a stage of no part", put(NORM, stage="llm.middle"), "llm.middle"),
    Case("a stage of another part", put(NORM, stage="vit.last"), "'vit'"),
    Case("layers of another part", put(FC2, stage="vit.layer"), "linear_fc2"),
    Case("a layer without a number", put(NORM, stage="llm.layer"), "{layer}"),
    Case("the last norm on the first stage", put(NORM, stage="llm.first"),
         "decoder.layers.2.", ways=BOTH[1:]),
    Case("the embedding on the last stage", put(EMBEDDING, stage="llm.last"),
         "no rule with 'ep'", ways=BOTH[1:]),
    # Tied weights.
    Case("the head only where it is tied", put(HEAD, when="tied"), "_"),
    Case("the head always", without(HEAD, "when"), OUTPUT, "tied"),
    Case("the copy always", without(OUTPUT, "when", kind="copy"), OUTPUT),
    Case("the copy with every tie", put(OUTPUT, "copy", when="tied"), OUTPUT, "whole",
         BOTH[:1]),
    Case("the copy for many stages", put(OUTPUT, "copy", when="tied and pp > 2"), OUTPUT, "tied"),
    Case("no copy", remove(OUTPUT, "copy"), OUTPUT, "tied"),
    Case("the copy twice", double(OUTPUT, "copy"), OUTPUT, "tied"),
    Case("a copy of the norm", put(OUTPUT, "copy", hub="model.norm.weight", map="h", tp="",
                                   pad=""),
         OUTPUT, "tied"),
    Case("a copy under another name", put(OUTPUT, "copy", here="output.weight"), OUTPUT, "tied"),
    Case("neither tie nor copy", lambda r: [r.pop("tie"), r.pop("copy")], OUTPUT, "tied"),
    Case("a tie to the norm", put(HEAD, "tie", of="model.norm.weight"), OUTPUT, "tied"),
    # What is dropped.
    Case("everything is dropped", drop("{name*}"), "{name*}"),
    Case("all weights are dropped", drop("{name*}.weight"), "{name*}.weight"),
    Case("the first layer is dropped", drop("decoder.layers.0.{name*}"), "decoder.layers.0"),
    Case("forgotten rules are dropped",
         in_turn(remove(FC2), drop("{name*}", otherwise=True)), "{name*}"),
    Case("a drop without a reason", drop("{name*}.scale", why=""), "why"),
    # Padding.
    Case("padding of the hidden size", put(FC2, pad="h"), "linear_fc2"),
    Case("padding of the second axis", put(FC2, pad="f"), "linear_fc2"),
    Case("padding of two parts", put(FC1, pad="f"), "linear_fc1"),
    Case("no padding of the head", without(HEAD, "pad"), OUTPUT),
    # Sizes.
    Case("no size of the vocabulary", forget_size("vocab"), "vocab"),
    Case("no groups", forget_size("group"), "group"),
    Case("no size of a head", forget_size("per", "dim"), "dim"),
    Case("no size that says tied", forget_size("tied"), "'tied'", "tied", BOTH[:1]),
    Case("groups are heads", size(group="heads"), "group"),
    Case("the vocabulary is small", size(vocab="hidden_size"), "embed"),
    Case("the vocabulary is smaller by one", size(vocab="vocab_size - 1"), "embed", ways=BOTH[:1]),
    Case("a layer too few", lambda r: r["layers"].update(llm="num_hidden_layers - 1"), "layers.3"),
    Case("a layer too many", lambda r: r["layers"].update(llm="num_hidden_layers + 1"), "layers"),
    Case("a size without its end", size(per="heads /"), "heads /"),
    Case("a size by nothing", size(per="heads / 0"), "heads / 0"),
    Case("a size that does not divide", size(per="heads / 3"), "heads / 3"),
    Case("a bracket that is open", size(per="(heads"), "(heads"),
    Case("a condition without its end", put(HEAD, when="not"), "not"),
    # Slips of the pen.
    Case("an unknown field", put(FC2, tpp="f"), "tpp"),
    Case("a field of another type", put(FC2, tp=2), "tp"),
    Case("rules instead of rule", lambda r: r.update(rules=r.pop("rule")), "rule"),
    Case("a part that is not there", lambda r: r.update(include=[{"part": "nothing"}]), "nothing"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of every model its Hugging Face directory and its Megatron root. Read only."""
    root = tmp_path_factory.mktemp("models")
    for name, model in MODELS.items():
        tiny_text.save(model.save, root / name / "hub", torch.bfloat16)
        megatron_reference.write(root / name / "hub", root / name / "ranks", model.layout, FLAVOR)
    return root


def conversion(models: Path, name: str, way: str, out: Path, recipe: Path) -> list[object]:
    model = models / name
    if way == TO_HUB:
        return ["convert", model / "ranks", out, "--recipe", recipe, "--assets-from", model / "hub"]
    options = ["--to", "megatron", "--recipe", recipe, *MODELS[name].layout.options()]
    return ["convert", model / "hub", out, *options]


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("name", MODELS)
def test_the_whole_recipe_is_correct(models: Path, tmp_path: Path, name: str, way: str) -> None:
    """As one file, so that what breaks below is what was changed."""
    recipe = recipe_text.save(recipe_text.load(MODELS[name].recipe), tmp_path / "whole.toml")
    cli.ok(*conversion(models, name, way, tmp_path / "out", recipe))
    if way == TO_HUB:
        assert_same(read_hf(tmp_path / "out"), read_hf(models / name / "hub"))


@pytest.mark.parametrize(
    ("case", "way"),
    [pytest.param(c, way, id=f"{c.name} ({way})") for c in CASES for way in c.ways],
)
def test_a_broken_recipe_is_refused(models: Path, tmp_path: Path, case: Case, way: str) -> None:
    recipe = recipe_text.load(MODELS[case.model].recipe)
    case.change(recipe)
    path = recipe_text.save(recipe, tmp_path / "broken.toml")
    done = cli.run(*conversion(models, case.model, way, tmp_path / "out", path))
    assert done.returncode in (cli.USAGE, cli.MAPPING), (done.returncode, done.stderr)
    # The message names what the case is about.
    says = case.says if isinstance(case.says, str) else case.says[BOTH.index(way)]
    assert says in done.stderr, done.stderr
    # Nothing was written, not even beside the destination.
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.toml"]


def test_a_head_that_is_stored_and_not_tied_is_no_longer_lost(models: Path, tmp_path: Path) -> None:
    """The hub's file holds the tied head too: without the [[tie]] no rule takes it."""
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_bytes((models / "tied" / "hub" / "config.json").read_bytes())
    tensors = load_file(models / "tied" / "hub" / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, hub / "model.safetensors", metadata={"format": "pt"})
    recipe = recipe_text.load(MODELS["tied"].recipe)
    whole = recipe_text.save(recipe, tmp_path / "whole.toml")
    options = ["--to", "megatron", *MODELS["tied"].layout.options()]
    cli.ok("convert", hub, tmp_path / "out", *options, "--recipe", whole)
    del recipe["tie"]
    broken = recipe_text.save(recipe, tmp_path / "broken.toml")
    done = cli.expect(
        cli.MAPPING, "convert", hub, tmp_path / "none", *options, "--recipe", broken
    )
    assert "lm_head.weight" in done.stderr
    assert not (tmp_path / "none").exists()


Edit = Callable[[dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    ("model", "edit", "names"),
    [
        ("llama", lambda t: t.pop("model.layers.1.input_layernorm.weight"), "layers.1"),
        ("llama", lambda t: t.pop("model.layers.3.mlp.down_proj.weight"), "layers.3"),
        ("llama", lambda t: t.pop("model.layers.2.mlp.up_proj.weight"), "up_proj"),
        ("llama", lambda t: t.pop("model.norm.weight"), "norm"),
        ("llama", lambda t: t.pop("lm_head.weight"), "output_layer"),
        ("tied", lambda t: t.pop("model.embed_tokens.weight"), "embed"),
        ("moe", lambda t: t.pop("model.layers.1.mlp.gate.weight"), "layers.1"),
        ("moe", lambda t: t.pop("model.layers.1.mlp.experts.3.down_proj.weight"), "layers.1"),
        ("moe", lambda t: [t.pop(f"model.layers.{n}.mlp.experts.3.down_proj.weight")
                           for n in range(4)], "linear_fc2.weight3"),
        ("llama", lambda t: [t.pop(name) for name in list(t) if "layers.3." in name], "layers.3"),
        ("llama", lambda t: [t.pop(name) for name in list(t) if "layers.0." in name], "layers.0"),
        ("llama", lambda t: t.update({"model.layers.4.mlp.down_proj.weight": torch.ones(32, 56)}),
         "layers.4"),
        ("llama", lambda t: t.update(
            {"model.layers.00.mlp.down_proj.weight": t.pop("model.layers.0.mlp.down_proj.weight")}),
         "layers.00"),
    ],
)  # fmt: skip
def test_a_hole_in_the_source_is_named(
    models: Path, tmp_path: Path, model: str, edit: Edit, names: str
) -> None:
    """The recipe is right, and what it promises is not there."""
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_bytes((models / model / "hub" / "config.json").read_bytes())
    tensors = load_file(models / model / "hub" / "model.safetensors")
    edit(tensors)
    save_file(tensors, hub / "model.safetensors", metadata={"format": "pt"})
    done = cli.expect(
        *(cli.MAPPING, "convert", hub, tmp_path / "out", "--to", "megatron", "--recipe", FLAVOR),
        *MODELS[model].layout.options(),
    )
    assert names in done.stderr
    assert not (tmp_path / "out").exists()
