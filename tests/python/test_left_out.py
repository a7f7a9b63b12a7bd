"""What is left out is counted once for each tensor, and everywhere alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from harness import checkpoints, cli, tiny_text
from safetensors.torch import load_file, save_file


def counts_agree(source: Path, out: Path, *options: object) -> list[dict[str, object]]:
    """Runs plan and convert both ways; gives the tensors that all of them say are left out."""
    plan = json.loads(cli.ok("plan", source, out, *options, "--json").stdout)
    dropped = [entry for entry in plan["dropped"] if entry["by"] != "padding"]
    parts = [entry for entry in plan["dropped"] if entry["by"] == "padding"]
    objects = plan["summary"]["dropped_objects"]
    count = len(dropped)
    assert plan["summary"]["dropped_tensors"] == count
    assert plan["summary"]["dropped_parts"] == len(parts)
    assert len({entry["name"] for entry in dropped}) == count

    text = cli.ok("plan", source, out, *options).stdout
    line = re.search(r"^dropped +(\d+) tensors?, (\d+) objects?", text, re.MULTILINE)
    assert line, text
    assert [int(line[1]), int(line[2])] == [count, objects]

    done = cli.ok("convert", source, out, *options, "--json")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["dropped_tensors"] == count
    assert summary["left_out"] == plan["summary"]["left_out"]
    said = re.search(r"left out (\d+) tensors?", done.stderr)
    assert said, done.stderr
    assert int(said[1]) == count

    manifest = json.loads(next(out.rglob("reshard-manifest.json")).read_text())
    assert manifest["left_out"] == plan["summary"]["left_out"]
    by = {entry["by"] for entry in plan["dropped"]}
    assert {name: len([e for e in plan["dropped"] if e["by"] == name]) for name in by} == {
        name: number for name, number in manifest["left_out"].items() if number and name in by
    }
    assert manifest["left_out"]["objects"] == objects
    return dropped


def test_a_drop_rule_and_ignore(tmp_path: Path, out: Path) -> None:
    names = ("model.model.w", "model.model.norm.w", "optimizer.state.w.exp_avg", "ema.w")
    state = {name: torch.ones(2, 3) for name in names} | {"step": 7}
    checkpoints.save_single(state, tmp_path / "checkpoint")
    dropped = counts_agree(tmp_path / "checkpoint", out, "--to", "hf", "--ignore", "norm")
    assert {entry["name"]: entry["by"] for entry in dropped} == {
        "model.model.norm.w": "ignore",
        "optimizer.state.w.exp_avg": "recipe",
        "ema.w": "recipe",
    }


def test_only_some_tensors(tmp_path: Path, out: Path) -> None:
    source = tiny_text.save("qwen2", tmp_path / "model")
    names = set(load_file(source / "model.safetensors"))
    dropped = counts_agree(source, out, "--to", "hf", "--only", "mlp")
    assert {entry["name"] for entry in dropped} == {n for n in names if "mlp" not in n}
    assert {entry["why"] for entry in dropped} == {"--only mlp"}


def test_what_a_recipe_drops_on_the_way_to_its_layout(tmp_path: Path, out: Path) -> None:
    """torchtitan has no frequencies, which some published files have in every layer."""
    source = tiny_text.save("llama", tmp_path / "model")
    tensors = load_file(source / "model.safetensors")
    extra = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(5) for i in range(4)}
    save_file(tensors | extra, source / "model.safetensors", metadata={"format": "pt"})
    dropped = counts_agree(source, out, "--to", "dcp", "--recipe", "torchtitan")
    assert {entry["name"] for entry in dropped} == set(extra)


def test_extra_states_of_ranks_are_those_that_inspect_counts(tmp_path: Path, out: Path) -> None:
    """Each rank's own tensors, by the names that they have there; padding is said apart."""
    model = tiny_text.save("llama", tmp_path / "model")
    root = tmp_path / "root"
    options = ("--to", "megatron", "--recipe", "megatron-core", "--tp", 2, "--pad-vocab-to", 128)
    cli.ok("convert", model, root, *options)
    for path in root.rglob("model_optim_rng.pt"):
        state = torch.load(path, weights_only=True)
        for name in [name for name in state["model"] if name.endswith("linear_fc1.weight")]:
            extra = name.removesuffix("weight") + "_extra_state"
            state["model"][extra] = torch.zeros(7, dtype=torch.uint8)
        torch.save(state, path)
    listed = json.loads(cli.ok("inspect", root, "--json", "--tensors").stdout)["tensor_list"]
    extra = {tensor["name"] for tensor in listed if "_extra_state" in tensor["name"]}
    assert len(extra) == 8
    dropped = counts_agree(
        *(root, out, "--to", "hf", "--recipe", "megatron-core", "--assets-from", model)
    )
    assert {entry["name"] for entry in dropped} == extra


def test_notes_of_the_source_are_in_the_plan(tmp_path: Path, out: Path) -> None:
    """An index that leaves a tensor of its file out: inspect tells, and so does the plan."""
    source = tiny_text.save("llama", tmp_path / "model")
    names = sorted(load_file(source / "model.safetensors"))
    (source / "model.safetensors").rename(source / "model-00001-of-00001.safetensors")
    weight_map = dict.fromkeys(names[1:], "model-00001-of-00001.safetensors")
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    notes = json.loads(cli.ok("inspect", source, "--json").stdout)["notes"]
    assert notes
    plan = json.loads(cli.ok("plan", source, out, "--json").stdout)
    assert plan["warnings"] == notes
