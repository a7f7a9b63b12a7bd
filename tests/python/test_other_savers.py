"""Checkpoints as programs other than PyTorch's and transformers' own savers leave them."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from harness import checkpoints, cli, tiny_text
from harness.compare import assert_reads_as
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

BASE, OVERLAY = "model-00001-of-00001.safetensors", "model-overlay-00001.safetensors"


@pytest.mark.parametrize("laid_over", [1, 2])
def test_the_index_decides_which_copy_is_meant(laid_over: int, tmp_path: Path, out: Path) -> None:
    """A file laid over some tensors of an older one, which still has its own: as transformers reads
    it."""
    source = tiny_text.save("llama", tmp_path / "model")
    whole = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    names = sorted(whole)[:laid_over]
    old = {name: torch.zeros_like(whole[name]) for name in names}
    save_file(whole | old, source / BASE, {"format": "pt"})
    save_file({name: whole[name] for name in names}, source / OVERLAY, {"format": "pt"})
    weight_map = dict.fromkeys(whole, BASE) | dict.fromkeys(names, OVERLAY)
    index = {"metadata": {}, "weight_map": weight_map}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    done = cli.convert(source, out)
    assert_reads_as(out, whole)
    for name in names:
        assert f"{BASE} holds '{name}' too; that of {OVERLAY} is taken" in done.stderr
    theirs = AutoModelForCausalLM.from_pretrained(source).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in whole.items())


def test_two_copies_neither_of_them_where_the_index_says(tmp_path: Path, out: Path) -> None:
    """Nothing tells which of them is meant."""
    files = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    a = {"a.weight": torch.ones(2)}
    parts = ({"b.weight": torch.ones(2)}, a | {"c.weight": torch.ones(2)}, a | {"d": torch.ones(2)})
    for file, part in zip(files, parts, strict=True):
        save_file(part, tmp_path / file, {"format": "pt"})
    weight_map = dict(zip(("b.weight", "c.weight", "d"), files, strict=True))
    index = {"metadata": {}, "weight_map": weight_map | {"a.weight": files[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    options = ("--recipe", "identity")
    cli.refused(cli.SOURCE, tmp_path, out, *options, names="a.weight")


def test_a_storage_of_ones_own(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OLMo-core writes DCP with a `_StorageInfo` of its own module."""
    source = tmp_path / "dcp"
    tensors = {"a.weight": torch.randn(4, 3), "b.weight": torch.randn(5)}
    checkpoints.save_single(tensors, source)
    module = types.ModuleType("olmo_core.distributed.checkpoint.filesystem")
    for name in ("olmo_core", "olmo_core.distributed", "olmo_core.distributed.checkpoint"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    own = dataclasses.make_dataclass("_StorageInfo", ["relative_path", "offset", "length"])
    own.__module__ = module.__name__
    module._StorageInfo = own  # type: ignore[attr-defined]
    metadata = pickle.loads((source / ".metadata").read_bytes())
    metadata.storage_data = {
        key: own(value.relative_path, value.offset, value.length)
        for key, value in metadata.storage_data.items()
    }
    (source / ".metadata").write_bytes(pickle.dumps(metadata))
    cli.identity(source, out)
    assert_reads_as(out, tensors)
