"""The worked examples of docs/recipes.md are run as they stand: recipes, commands, what is
printed, and the tensors that come of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from harness import checkpoints, documents, harbor
from harness.compare import assert_reads_as, assert_same_tensors


def my_model() -> dict[str, torch.Tensor]:
    """As in the document: what a research trainer calls the student's weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "tok_embeddings.weight": (16, 8),
        "head.weight": (16, 8),
    }
    for layer in range(2):
        shapes[f"blocks.{layer}.attn.wq.weight"] = (8, 8)
        shapes[f"blocks.{layer}.attn.wo.weight"] = (8, 8)
        shapes[f"blocks.{layer}.norm.scale"] = (8,)
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_a_model_of_your_own(tmp_path: Path) -> None:
    student = my_model()
    ema = {name: tensor + 1 for name, tensor in student.items() if name.endswith("wq.weight")}
    state = {"net": {"student": student}, "ema": ema, "step": 7}
    checkpoints.save_single(state, tmp_path / "out" / "step-100")
    listing, recipe, refused, rule, done = documents.blocks(
        "recipes.md", "A recipe for a model of your own"
    )

    documents.replay(listing.text, tmp_path)
    path = tmp_path / "my-model.toml"
    path.write_text(recipe.text)
    documents.replay(refused.text, tmp_path)
    path.write_text(recipe.text + rule.text)
    documents.replay(done.text, tmp_path)

    expected = {
        "model.embed_tokens.weight": student["tok_embeddings.weight"],
        "lm_head.weight": student["head.weight"],
    }
    for layer in range(2):
        old, new = f"blocks.{layer}", f"model.layers.{layer}"
        expected[f"{new}.self_attn.q_proj.weight"] = student[f"{old}.attn.wq.weight"]
        expected[f"{new}.self_attn.o_proj.weight"] = student[f"{old}.attn.wo.weight"]
        expected[f"{new}.input_layernorm.weight"] = student[f"{old}.norm.scale"]
    assert_reads_as(tmp_path / "out" / "my-model", expected)


def test_a_model_that_ranks_share(tmp_path: Path) -> None:
    state = harbor.tensors()
    hub = harbor.save(state, tmp_path / "harbor")
    config, listing, recipe, both_ways, without_ln_2 = documents.blocks(
        "recipes.md", "A model that ranks share"
    )
    assert json.loads(config.text) == harbor.CONFIG
    layer_0 = {n: t for n, t in state.items() if not re.search(r"\.h\.[1-9]", n)}
    shown = [re.split(r"\s{2,}", line) for line in listing.text.splitlines()]
    assert shown == [["float32", str(list(t.shape)), name] for name, t in layer_0.items()]

    path = tmp_path / "harbor.toml"
    path.write_text(recipe.text)
    documents.replay(both_ways.text, tmp_path)
    assert_reads_as(tmp_path / "back", state)
    for tp in range(2):
        for pp in range(2):
            name = f"ranks/release/mp_rank_{tp:02d}_{pp:03d}/model_optim_rng.pt"
            saved = torch.load(tmp_path / name, weights_only=True)["model"]
            assert_same_tensors(saved, harbor.rank(state, tp, pp))

    tables = recipe.text.split("\n\n")
    kept = [table for table in tables if "ln_2" not in table]
    assert len(kept) == len(tables) - 1
    path.write_text("\n\n".join(kept))
    documents.replay(without_ln_2.text, tmp_path)
    assert hub.is_dir()
