"""reshard.torchtitan: what torchtitan's own adapters do, and within its CheckpointManager."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import reshard
import torch
import torch.distributed as dist
from harness import cli, compare, ranks, sharding, titan_models
from harness.titan_models import NAMES, Tensors, Titan
from harness.titan_reference import hub_of, titan_of
from reshard.torch import layouts
from reshard.torchtitan import StateDictAdapter
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.quantized_hf_storage import QuantizedHuggingFaceStorageReader
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torchtitan.components.checkpoint import CheckpointManager
from torchtitan.models.common import CosSinRoPE
from torchtitan.protocols.state_dict_adapter import BaseStateDictAdapter

INDEX = "model.safetensors.index.json"
# One of each shape of a state dict: a rotated head, experts, layers of their own, swapped axes.
KINDS = ("llama3-tied", "qwen3-moe", "gpt-oss", "deepseek-v3-mtp")


@pytest.fixture(params=NAMES)
def titan(request: pytest.FixtureRequest) -> Titan:
    return titan_models.build(request.param)


def test_to_hf_is_torchtitans(titan: Titan) -> None:
    state = titan.state_dict()
    kept = dict(state)
    compare.assert_same_tensors(StateDictAdapter(titan.config).to_hf(state), hub_of(titan, state))
    assert state == kept


def test_from_hf_is_torchtitans(titan: Titan) -> None:
    hub = hub_of(titan, titan.state_dict(seed=2))
    kept = dict(hub)
    native = StateDictAdapter(titan.config).from_hf(hub)
    compare.assert_same_tensors(native, titan_of(titan, hub))
    assert hub == kept


def test_there_and_back(titan: Titan) -> None:
    state = {
        name: tensor if name.endswith("expert_bias_E") else tensor.bfloat16()
        for name, tensor in titan.state_dict().items()
    }
    adapter = StateDictAdapter(titan.config, None)
    compare.assert_same_tensors(adapter.from_hf(adapter.to_hf(state)), state)


def test_it_is_torchtitans_interface(titan: Titan) -> None:
    adapter = StateDictAdapter(titan.config, None)
    assert isinstance(adapter, BaseStateDictAdapter)
    assert adapter.fqn_to_index_mapping is None
    meta = {name: tensor.to("meta") for name, tensor in titan.state_dict().items()}
    hub = adapter.to_hf(meta)
    assert all(tensor.is_meta for tensor in hub.values())
    expected = hub_of(titan, titan.state_dict())
    assert {n: t.shape for n, t in hub.items()} == {n: t.shape for n, t in expected.items()}


def test_a_bias_that_the_hub_cannot_hold_is_named(caplog: pytest.LogCaptureFixture) -> None:
    titan = titan_models.build("qwen3-moe")
    state = titan.state_dict()
    state["layers.1.moe.expert_bias_E"][3] = 0.5
    with caplog.at_level(logging.WARNING, "reshard"):
        hub = StateDictAdapter(titan.config).to_hf(state)
    assert "layers.1.moe.expert_bias_E" in caplog.text
    assert "layers.2.moe.expert_bias_E" not in caplog.text
    compare.assert_same_tensors(hub, hub_of(titan, state))


def test_rotation_of_another_kind_is_refused() -> None:
    titan = titan_models.build("llama3")
    titan.config.layers[1].attention.rope = CosSinRoPE.Config(dim=8, max_seq_len=64)
    with pytest.raises(reshard.MappingError, match="layer 1 rotates by CosSinRoPE"):
        StateDictAdapter(titan.config).to_hf(titan.state_dict())


def test_a_model_without_a_recipe_is_refused() -> None:
    with pytest.raises(reshard.MappingError, match="Llama3Model"):
        StateDictAdapter(object())


def write_hub(directory: Path, titan: Titan, hub: Tensors, indexed: bool) -> Path:
    """One file; or two and an index: of a name without digits, and of a tensor too many."""
    titan.save_config(directory)
    if not indexed:
        save_file(hub, directory / "model.safetensors")
        return directory
    names = sorted(hub)
    files = {"mtp.safetensors": names[::2], "model-00007-of-00009.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: hub[name] for name in own}, directory / file)
    weight_map = {name: file for file, own in files.items() for name in own}
    weight_map["model.layers.0.weight_scale_inv"] = "mtp.safetensors"
    (directory / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory


def test_files_are_numbered_without_ghosts(tmp_path: Path) -> None:
    titan = titan_models.build("llama3-tied")
    hub = hub_of(titan, titan.state_dict())
    assets = write_hub(tmp_path / "hub", titan, hub, indexed=True)
    index = json.loads((assets / INDEX).read_text())
    index["weight_map"]["lm_head.weight"] = "model-00007-of-00009.safetensors"
    del index["weight_map"]["model.norm.weight"]
    (assets / INDEX).write_text(json.dumps(index))
    mapping = StateDictAdapter(titan.config, str(assets)).fqn_to_index_mapping
    names = sorted(hub)
    assert mapping is not None
    assert mapping.keys() == hub.keys()
    assert {mapping[n] for n in names[::2] if n != "model.norm.weight"} == {2}
    assert {mapping[n] for n in names[1::2] if n != "model.norm.weight"} == {1}


@pytest.mark.parametrize("indexed", [False, True])
def test_directories_of_either_form_are_recognized(indexed: bool, tmp_path: Path) -> None:
    titan = titan_models.build("deepseek-v3")
    hub = write_hub(tmp_path / "hub", titan, hub_of(titan, titan.state_dict()), indexed)
    adapter = StateDictAdapter(titan.config, None)
    assert adapter.get_hf_storage_reader(str(hub)).read_metadata().state_dict_metadata
    quantized = adapter.get_hf_storage_reader(str(hub), from_quantized=True)
    assert isinstance(quantized, QuantizedHuggingFaceStorageReader)
    next(hub.glob("m*.safetensors")).unlink()
    with pytest.raises(reshard.SourceError, match="no weights"):
        adapter.get_hf_storage_reader(str(hub))
    llama = StateDictAdapter(titan_models.build("llama3").config)
    hub = write_hub(tmp_path / "other", titan, hub_of(titan, titan.state_dict()), indexed)
    with pytest.raises(reshard.UsageError, match="initial_load_in_hf_quantized"):
        llama.get_hf_storage_reader(str(hub), from_quantized=True)


def on_ranks(root: str) -> None:
    """On each rank, all models: starting ranks is what costs."""
    for name in KINDS:
        adapt(name, "fsdp")
        for indexed in (False, True):
            load_and_save(Path(root), name, indexed)


def adapt(name: str, mesh: str) -> None:
    """DTensors become what plain tensors become, and come back as they lay."""
    titan = titan_models.build(name)
    adapter = StateDictAdapter(titan.config)
    plain = titan.state_dict()
    state = sharding.shard(plain, mesh)
    expected = hub_of(titan, plain)
    hub = adapter.to_hf(state)
    assert hub.keys() == expected.keys(), (name, mesh)
    for key, tensor in hub.items():
        assert isinstance(tensor, DTensor)
        assert torch.equal(tensor.full_tensor(), expected[key]), (name, mesh, key)
    back = adapter.from_hf(hub)
    assert layouts(back) == layouts(state), (name, mesh)
    for key, tensor in state.items():
        assert torch.equal(sharding.local(back[key]), sharding.local(tensor)), (name, mesh, key)


def load_and_save(root: Path, name: str, indexed: bool) -> None:
    """By torchtitan's CheckpointManager: the first load from the hub, the last save to it."""
    titan = titan_models.build(name)
    hub = root / f"{name}-{indexed}"
    model = titan.build()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.zero_()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers.values():
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    manager = CheckpointManager(
        CheckpointManager.Config(
            enable=True,
            initial_load_path=str(hub),
            initial_load_in_hf=True,
            initial_load_model_only=True,
            last_save_in_hf=True,
            last_save_model_only=True,
        ),
        dataloader=None,
        model_parts=[model],
        optimizers=None,
        lr_schedulers=None,
        states={},
        sd_adapter=StateDictAdapter(titan.config, str(hub)),
        base_folder=str(root / f"run-{dist.get_world_size()}-{name}-{indexed}"),
    )
    assert manager.load()
    loaded = model.state_dict()
    for key, tensor in titan.state_dict().items():
        whole = loaded[key].full_tensor() if isinstance(loaded[key], DTensor) else loaded[key]
        assert torch.equal(whole, tensor), (name, key)
    manager.save(3, last_step=True)
    manager.close()


@pytest.mark.parametrize("world", [1, 2])
def test_ranks(world: int, tmp_path: Path) -> None:
    expected = {}
    for name in KINDS:
        titan = titan_models.build(name)
        expected[name] = hub_of(titan, titan.state_dict())
        for indexed in (False, True):
            write_hub(tmp_path / f"{name}-{indexed}", titan, expected[name], indexed)
    ranks.run(on_ranks, world, str(tmp_path))
    saved = list(tmp_path.glob("run-*/checkpoint/step-3"))
    assert len(saved) == 2 * len(KINDS)
    for step in saved:
        _, _, *name, indexed = step.parent.parent.name.split("-")
        files = sorted(step.glob("*.safetensors"))
        assert len(files) == (2 if indexed == "True" else 1), step
        tensors = {key: t for file in files for key, t in load_file(file).items()}
        compare.assert_same_tensors(tensors, expected["-".join(name)])


def test_the_example_starts_from_the_hub_and_ends_there(tmp_path: Path) -> None:
    lines = cli.example("torchtitan_adapter.py", tmp_path)
    assert lines[-1] == f"{tmp_path}/checkpoint/step-1: the same logits"
