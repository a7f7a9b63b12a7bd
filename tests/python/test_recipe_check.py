"""`recipe check FILE CHECKPOINT` says what does not fit: each tensor, its nearest rule, and what a
conversion would miss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import checkpoints, cli, harbor
from harness.harbor import Tensors


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "harbor.toml"
    path.write_text(harbor.recipe())
    return path


def fit(code: int, recipe: object, checkpoint: Path, *args: object) -> dict[str, Any]:
    """What `--json` prints first, after checking it against the text and the exit code."""
    done = cli.expect(code, "recipe", "check", recipe, checkpoint, *args, "--json")
    found, *rest = cli.json_values(done.stdout)
    assert (found["message_type"], found["schema_version"]) == ("recipe_fit", 1)
    assert found["fits"] == (code == cli.OK) == (not found["no_rule"] and not found["misfits"])
    assert [message["message_type"] for message in rest] == ([] if code == cli.OK else ["error"])
    text = cli.expect(code, "recipe", "check", recipe, checkpoint, *args).stdout.splitlines()
    expected = [
        f"no rule  {t['tensor']}; the nearest is '{t['nearest']}'" for t in found["no_rule"]
    ]
    for misfit in found["misfits"]:
        named = f"{misfit['tensor']}: " if misfit["tensor"] else ""
        expected.append(f"misfit   {named}{misfit['found']}; expected {misfit['expected']}")
    expected += [f"unused   no tensor is like {name}" for name in found["unused_rules"]]
    expected += [f"unknown  {size}: not in config.json" for size in found["unknown_sizes"]]
    assert text[1 : 1 + len(expected)] == expected
    assert text[1 + len(expected) :] == ([f"ok: {recipe}"] if code == cli.OK else [])
    return found


def hub(tmp_path: Path, **changes: torch.Tensor | None) -> Path:
    """Harbor with some tensors put in, or taken out."""
    state = harbor.tensors()
    for name, tensor in changes.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    return harbor.save(state, tmp_path / "hub")


def save_ranks(ranks: dict[tuple[int, int], Tensors], root: Path) -> Path:
    for (tp, pp), tensors in ranks.items():
        directory = root / "release" / f"mp_rank_{tp:02d}_{pp:03d}"
        directory.mkdir(parents=True)
        state = {"model": tensors, "checkpoint_version": 3.0, "iteration": 0}
        torch.save(state, directory / "model_optim_rng.pt")
    (root / "latest_checkpointed_iteration.txt").write_text("release")
    (root / "release" / "config.json").write_text(json.dumps(harbor.CONFIG))
    return root


def all_ranks() -> dict[tuple[int, int], Tensors]:
    state = harbor.tensors()
    return {(tp, pp): harbor.rank(state, tp, pp) for tp in range(2) for pp in range(2)}


def test_all_fits_in_the_hub_s_names(tmp_path: Path, recipe: Path) -> None:
    found = fit(cli.OK, recipe, hub(tmp_path))
    assert (found["recipe"], found["names"], found["tensors"]) == ("harbor", "hub", 39)
    assert found["unused_rules"] == found["unknown_sizes"] == []


def test_all_fits_in_the_names_of_ranks(tmp_path: Path, recipe: Path) -> None:
    found = fit(cli.OK, recipe, save_ranks(all_ranks(), tmp_path / "ranks"))
    assert (found["names"], found["tensors"]) == ("here", 2 * (2 * 13 + 2) - 2 * 2 * 7 + 2 * 13)


def test_a_tensor_without_a_rule_is_told_the_nearest(tmp_path: Path, recipe: Path) -> None:
    extra = {
        "transformer.h.0.ln_3.weight": torch.ones(16),
        "transformer.h.2.attn.wx.weight": torch.ones(16, 16),
        "transformer.wpe.weight": torch.ones(50, 16),
    }
    assert fit(cli.NO, recipe, hub(tmp_path, **extra))["no_rule"] == [
        {
            "tensor": "transformer.h.0.ln_3.weight",
            "nearest": "transformer.h.{layer}.ln_1.weight",
        },
        {
            "tensor": "transformer.h.2.attn.wx.weight",
            "nearest": "transformer.h.{layer}.attn.wq.weight",
        },
        {"tensor": "transformer.wpe.weight", "nearest": "transformer.wte.weight"},
    ]


def test_a_tensor_of_ranks_without_a_rule_is_named_once(tmp_path: Path, recipe: Path) -> None:
    ranks = all_ranks()
    for rank in ranks.values():
        rank["decoder.layers.0.mlp.linear_fc3.weight"] = torch.ones(4)
    [named] = fit(cli.NO, recipe, save_ranks(ranks, tmp_path / "ranks"))["no_rule"]
    assert named["tensor"] == "decoder.layers.0.mlp.linear_fc3.weight"
    assert named["nearest"] in {f"decoder.layers.{{layer}}.mlp.linear_fc{n}.weight" for n in (1, 2)}


def test_shapes_that_are_not_what_the_map_says(tmp_path: Path, recipe: Path) -> None:
    wrong = {
        "transformer.h.1.ln_2.weight": torch.ones(15),
        "transformer.h.2.mlp.w_up.weight": torch.ones(23, 16),
        "transformer.h.3.mlp.w_down.weight": torch.ones(16, 24),
        "transformer.ln_f.weight": torch.ones(16, 1),
    }
    found = fit(cli.NO, recipe, hub(tmp_path, **wrong))
    assert found["no_rule"] == []
    misfits = {misfit.pop("tensor"): misfit for misfit in found["misfits"]}
    assert misfits.keys() == wrong.keys()
    for name, tensor in wrong.items():
        assert str(list(tensor.shape)) in misfits[name]["found"]
    assert misfits["transformer.h.1.ln_2.weight"]["expected"].startswith("16 ")
    assert misfits["transformer.h.2.mlp.w_up.weight"]["expected"].startswith("24 ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("transformer.h.1.ln_2.weight", "decoder.layers.1.pre_mlp_layernorm.weight"),
        ("transformer.h.3.mlp.w_up.weight", "transformer.h.3.mlp.w_up.weight"),
        ("transformer.ln_f.weight", "decoder.final_layernorm.weight"),
    ],
)
def test_what_a_conversion_would_miss(tmp_path: Path, recipe: Path, name: str, says: str) -> None:
    found = fit(cli.NO, recipe, hub(tmp_path, **{name: None}))
    [misfit] = found["misfits"]
    assert says in json.dumps(misfit)


def test_a_replica_that_a_rank_lacks(tmp_path: Path, recipe: Path) -> None:
    ranks = all_ranks()
    del ranks[1, 0]["decoder.layers.1.self_attention.linear_qkv.weight"]
    [misfit] = fit(cli.NO, recipe, save_ranks(ranks, tmp_path / "ranks"))["misfits"]
    assert misfit["tensor"] == "decoder.layers.1.self_attention.linear_qkv.weight"
    assert "shard 1 of 2" in misfit["found"]


def test_rules_and_sizes_that_are_not_used_are_no_fault(tmp_path: Path, recipe: Path) -> None:
    text = harbor.recipe().replace("[layers]\n", 'rotary = "rope_dim"\n\n[layers]\n', 1)
    spare = "transformer.h.{layer}.attn.sink"
    text += f'\n[[rule]]\nhub = "{spare}"\nhere = "decoder.layers.{{layer}}.sink"\n'
    recipe.write_text(text + 'stage = "llm.layer"\noptional = true\n')
    found = fit(cli.OK, recipe, hub(tmp_path))
    assert (found["unused_rules"], found["unknown_sizes"]) == ([spare], ["rotary = rope_dim"])


def test_a_checkpoint_of_another_model_has_rules_for_nothing(tmp_path: Path) -> None:
    found = fit(cli.NO, "megatron-core/dense", hub(tmp_path))
    assert {tensor["tensor"] for tensor in found["no_rule"]} == harbor.tensors().keys() - {
        "lm_head.weight"
    }
    assert "model.embed_tokens.weight" in found["unused_rules"]


def test_dcp_and_a_config_from_elsewhere(tmp_path: Path, recipe: Path) -> None:
    state = harbor.tensors()
    checkpoints.save_single(state, tmp_path / "dcp")
    assets = tmp_path / "assets"
    assets.mkdir()
    (assets / "config.json").write_text(json.dumps(harbor.CONFIG))
    options = ("--from", "dcp", "--assets-from", assets)
    assert fit(cli.OK, recipe, tmp_path / "dcp", *options)["names"] == "hub"
    # Twice the heads: the shapes of keys and values no longer are what the map says.
    (assets / "config.json").write_text(json.dumps(harbor.CONFIG | {"n_head": 8}))
    misfits = fit(cli.NO, recipe, tmp_path / "dcp", *options)["misfits"]
    assert {misfit["tensor"].split(".attn.")[1] for misfit in misfits} == {"wk.weight", "wv.weight"}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("nowhere", cli.SOURCE, "nowhere"),
        ("", cli.SOURCE, "expected"),
    ],
)
def test_a_checkpoint_that_cannot_be_read(
    tmp_path: Path, recipe: Path, name: str, code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = cli.expect(code, "recipe", "check", recipe, tmp_path / (name or "empty"))
    assert says in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ('tp    = "vocab"', 'tpp   = "vocab"', "tpp"),
        ('map   = "f h -> h f"', 'map   = "f h -> h g"', "'g'"),
        ("{layer}.ln_2", "{number}.ln_2", "captures"),
        ("[[rule]]", "[[rules]]", "rules"),
    ],
)
def test_a_recipe_that_is_none_is_told_by_its_line(
    tmp_path: Path, recipe: Path, old: str, new: str, line: str
) -> None:
    text = harbor.recipe()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    for checkpoint in ([], [hub(tmp_path)]):
        done = cli.expect(cli.USAGE, "recipe", "check", recipe, *checkpoint)
        assert line in done.stderr
        assert f"{recipe}:" in done.stderr
        assert done.stdout == ""


def test_json_and_the_options_of_a_checkpoint_need_one(recipe: Path) -> None:
    for option in (["--json"], ["--from", "hf"], ["--assets-from", "."]):
        done = cli.expect(cli.USAGE, "recipe", "check", recipe, *option)
        assert "CKPT" in done.stderr
