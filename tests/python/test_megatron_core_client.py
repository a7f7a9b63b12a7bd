"""Megatron-Core itself reads the files: its logits must be those of transformers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from harness import cli, megatron_reference, tiny_text
from harness.megatron_client import Client, Job
from harness.megatron_layout import Layout
from transformers import AutoModelForCausalLM

LAYOUTS = (
    Layout(),
    Layout(tp=2),
    Layout(pp=2),
    Layout(tp=2, pp=2),
)
EXPERT_LAYOUTS = (
    Layout(ep=2),
    Layout(tp=2, ep=2),
    Layout(pp=2, ep=2),
)
# What the plain cases leave out: chunks in turn.
MORE = (
    ("llama", Layout(tp=4)),
    ("llama-tied", Layout(pp=2, vpp=2)),
)
# The reference alone: stages of unequal size, experts that are not cut.
SPECIAL = (
    ("qwen2", Layout(tp=2, pp=2, layer_counts=((3, 1),))),
    ("qwen3-tied", Layout(pp=2, vpp=2, layer_counts=((1, 2), (1, 0)))),
    ("qwen3-moe", Layout(tp=2, ep=2, etp=1)),
    ("mixtral", Layout(tp=2, pp=2, ep=2, etp=1)),
)
# By layout, since another layout needs other process groups.
PLAIN = (
    *((name, layout) for layout in LAYOUTS for name in tiny_text.NAMES),
    *((name, layout) for layout in EXPERT_LAYOUTS for name in tiny_text.MOE),
    *MORE,
)
CASES = (
    *((*case, maker) for case in PLAIN for maker in ("reference", "reshard")),
    *((*case, "reference") for case in SPECIAL),
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client() as started:
        yield started


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model's Hugging Face directory, below one."""
    root = tmp_path_factory.mktemp("models")
    for name in tiny_text.NAMES:
        tiny_text.save(name, root / name)
    return root


def by_reference(model: Path, root: Path, layout: Layout) -> None:
    megatron_reference.write(model, root, layout, "megatron-core-local")


def by_reshard(model: Path, root: Path, layout: Layout) -> None:
    to = ("--to", "megatron", "--recipe", "megatron-core-local")
    cli.ok("convert", model, root, *to, *layout.options())


MAKERS = {"reference": by_reference, "reshard": by_reshard}


@pytest.mark.parametrize(("name", "layout", "maker"), CASES, ids=str)
def test_logits_are_those_of_transformers(
    client: Client, models: Path, out: Path, name: str, layout: Layout, maker: str
) -> None:
    model = models / name
    MAKERS[maker](model, out, layout)
    tokens = torch.randint(96, (2, 7), generator=torch.Generator().manual_seed(11))
    with torch.inference_mode():
        loaded = AutoModelForCausalLM.from_pretrained(model, attn_implementation="eager")
        expected = loaded(tokens).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(
        client.logits(Job(model, out, layout, tokens)), expected, rtol=1e-5, atol=1e-5
    )
