"""Live models of transformers 5: their state dicts, as DCP, become hub files and come from them.

The references are transformers itself: `save_pretrained` says how hub files look, `from_pretrained`
and `load_state_dict` say whether they are read.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
import transformers
from harness import checkpoints, cli, compare, tiny_multimodal, tiny_text
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, PreTrainedModel

FLAVOR = "transformers-runtime"
VISION = ("qwen2_vl", "qwen2_vl_tied", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_tied", "qwen3_vl_moe")
NAMES = (*tiny_text.NAMES, *VISION)
TIED = [name for name in NAMES if name.endswith("tied")]
STACKED = ("qwen3-moe", "mixtral")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Live:
    """A model in memory, and where transformers has saved it."""

    model: PreTrainedModel
    saved: Path
    config: Path  # config.json alone

    @property
    def state(self) -> Tensors:
        return self.model.state_dict()


def build(name: str) -> PreTrainedModel:
    if name in tiny_text.NAMES:
        return tiny_text.build(name).to(torch.bfloat16)
    tiny = tiny_multimodal.build(name)
    config = tiny.runtime_config or tiny.config
    cls = getattr(transformers, config["architectures"][0])
    model: PreTrainedModel = cls(AutoConfig.for_model(**config)).to(torch.bfloat16).eval()
    left = model.load_state_dict(tiny.runtime or tiny.tensors, strict=False)
    assert not left.unexpected_keys
    assert left.missing_keys == (["lm_head.weight"] if name in TIED else [])
    return model


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Live]:
    made = {}
    for name in NAMES:
        model = build(name)
        root = tmp_path_factory.mktemp(name)
        model.save_pretrained(root / "saved")
        (root / "config").mkdir()
        shutil.copy(root / "saved" / "config.json", root / "config")
        made[name] = Live(model, root / "saved", root / "config")
    return made


def read_dcp(directory: Path) -> Tensors:
    """All that PyTorch finds in it."""
    entries = dcp.FileSystemReader(directory).read_metadata().state_dict_metadata
    state = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in entries.items()
    }
    dcp.load(state, checkpoint_id=directory, no_dist=True)
    return state


def to_runtime(hub: Path, out: Path, *args: object) -> Tensors:
    cli.ok("convert", hub, out, "--to", "dcp:ranks=2", "--recipe", FLAVOR, *args)
    return read_dcp(out)


def save_hub(tensors: Tensors, config: Path, directory: Path) -> Path:
    directory.mkdir()
    shutil.copy(config / "config.json", directory)
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def published(name: str, live: Live) -> Tensors:
    """The tensors of hub files. Qwen3-VL's experts are published otherwise than saved."""
    if name == "qwen3_vl_moe":
        return tiny_multimodal.build(name).tensors
    return load_file(live.saved / "model.safetensors")


def assert_loads(directory: Path, live: Live) -> None:
    cls = type(live.model)
    model, info = cls.from_pretrained(directory, output_loading_info=True, dtype=torch.bfloat16)
    assert not any(info.values()), info
    compare.assert_same_tensors(model.state_dict(), live.state)


# ------------------------------------------------------------------------------ hub -> live model


@pytest.mark.parametrize("name", NAMES)
def test_saved_files_become_the_state_dict(name: str, lives: dict[str, Live], out: Path) -> None:
    compare.assert_same_tensors(to_runtime(lives[name].saved, out), lives[name].state)


@pytest.mark.parametrize("name", VISION)
def test_published_files_become_the_state_dict(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    """Qwen2-VL: `visual.`, `model.`, a flat config.json. Qwen3-VL-MoE: experts as [E, in, out]."""
    tiny = tiny_multimodal.build(name)
    tiny_multimodal.save(tiny.config, tiny.tensors, tmp_path / "hub", files=2)
    compare.assert_same_tensors(to_runtime(tmp_path / "hub", out), lives[name].state)


@pytest.mark.parametrize("name", VISION)
def test_files_in_the_spelling_of_memory(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    """`model.visual.`, `model.language_model.`; where lm_head is tied, it is stored once more."""
    hub = save_hub(
        {key: tensor.clone() for key, tensor in lives[name].state.items()},
        lives[name].config,
        tmp_path / "hub",
    )
    compare.assert_same_tensors(to_runtime(hub, out), lives[name].state)


@pytest.mark.parametrize("name", TIED)
def test_a_stored_head_that_is_tied(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    tensors = load_file(live.saved / "model.safetensors")
    assert "lm_head.weight" not in tensors
    tensors["lm_head.weight"] = live.state["lm_head.weight"].clone()
    save_hub(tensors, live.config, tmp_path / "equal")
    compare.assert_same_tensors(to_runtime(tmp_path / "equal", out), live.state)

    tensors["lm_head.weight"][3, 5] += 1
    save_hub(tensors, live.config, tmp_path / "other")
    command = ("convert", tmp_path / "other", tmp_path / "no", "--to", "dcp", "--recipe", FLAVOR)
    assert "lm_head.weight" in cli.expect(cli.SOURCE, *command).stderr


def test_what_old_llama_files_hold_besides(
    lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives["llama"]
    tensors = load_file(live.saved / "model.safetensors")
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(5)
    save_hub(tensors, live.config, tmp_path / "hub")
    compare.assert_same_tensors(to_runtime(tmp_path / "hub", out), live.state)


@pytest.mark.parametrize("expert", [0, 1, 3])
@pytest.mark.parametrize("name", STACKED)
def test_a_missing_expert_is_told(
    name: str, expert: int, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    tensors = {
        key: tensor
        for key, tensor in load_file(live.saved / "model.safetensors").items()
        if f".layers.2.mlp.experts.{expert}." not in key
        and f".layers.2.block_sparse_moe.experts.{expert}." not in key
    }
    hub = save_hub(tensors, live.config, tmp_path / "hub")
    done = cli.expect(cli.MAPPING, "convert", hub, out, "--to", "dcp", "--recipe", FLAVOR)
    assert "layers.2." in done.stderr
    assert not out.exists()


# ------------------------------------------------------------------------------ live model -> hub


@pytest.mark.parametrize("name", NAMES)
def test_the_state_dict_becomes_hub_files(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    checkpoints.save_single(live.state, tmp_path / "dcp")
    cli.convert(tmp_path / "dcp", out, "--recipe", FLAVOR, "--assets-from", live.config)
    compare.assert_reads_as(out, published(name, live))
    assert_loads(out, live)


@pytest.mark.parametrize("name", TIED)
def test_parameters_alone_have_no_second_name(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    parameters = {key: tensor.detach() for key, tensor in live.model.named_parameters()}
    assert "lm_head.weight" not in parameters
    checkpoints.save_single(parameters, tmp_path / "dcp")
    cli.convert(tmp_path / "dcp", out, "--recipe", FLAVOR, "--assets-from", live.config)
    compare.assert_reads_as(out, published(name, live))


@pytest.mark.parametrize("name", [*STACKED, "qwen2_vl", "qwen2_vl_tied", "qwen2_5_vl"])
def test_auto_tells_names_that_hub_files_have_not(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    checkpoints.save_single(live.state, tmp_path / "dcp")
    done = cli.convert(tmp_path / "dcp", out, "--assets-from", live.config)
    assert f"recipe {FLAVOR}/" in done.stderr
    compare.assert_reads_as(out, published(name, live))


@pytest.mark.parametrize("name", STACKED)
def test_stacked_experts_in_an_hf_directory(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    """VeOmni exports them so while it trains."""
    live = lives[name]
    cli.convert(save_hub(live.state, live.config, tmp_path / "hf_ckpt"), out)
    compare.assert_reads_as(out, published(name, live))
    assert_loads(out, live)


def test_unknown_names_are_refused(lives: dict[str, Live], tmp_path: Path, out: Path) -> None:
    live = lives["qwen3-moe"]
    checkpoints.save_single(
        live.state | {"model.layers.0.adapter": torch.ones(2)}, tmp_path / "dcp"
    )
    options = ("--recipe", FLAVOR, "--assets-from", live.config)
    cli.refused(cli.MAPPING, tmp_path / "dcp", out, *options, names="model.layers.0.adapter")


# ----------------------------------------------------------------------------------------- VeOmni


VEOMNI = ("qwen3-moe", "mixtral", "qwen2_vl", "qwen2_vl_tied", "qwen2_5_vl", "qwen3_vl_moe")


def save_veomni(state: Tensors, directory: Path) -> Path:
    """The tree of VeOmni's trainer, `model` and `optimizer`, with AdamW's state of each tensor."""
    moments = {
        name: {
            "exp_avg": torch.zeros_like(tensor),
            "exp_avg_sq": torch.ones_like(tensor),
            "step": torch.tensor(3.0),
        }
        for name, tensor in state.items()
        if name != "lm_head.weight"
    }
    tree = {"model": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-3}]}}
    checkpoints.save_single(tree, directory)
    return directory


@pytest.mark.parametrize("name", VEOMNI)
def test_a_veomni_checkpoint_becomes_hub_files(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    source = save_veomni(live.state, tmp_path / "dcp")
    done = cli.convert(source, out, "--assets-from", live.config)
    assert "recipe veomni/" in done.stderr
    compare.assert_reads_as(out, published(name, live))
    assert_loads(out, live)


def test_veomni_before_gate_and_up_were_one(
    lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives["qwen3-moe"]
    state: Tensors = {}
    for key, tensor in live.state.items():
        if key.endswith(".gate_up_proj"):
            gate, up = tensor.chunk(2, dim=1)
            state[key.replace("gate_up", "gate")] = gate.contiguous()
            state[key.replace("gate_up", "up")] = up.contiguous()
        else:
            state[key] = tensor
    source = save_veomni(state, tmp_path / "dcp")
    done = cli.convert(source, out, "--assets-from", live.config)
    assert "recipe veomni/qwen3-moe" in done.stderr
    compare.assert_reads_as(out, published("qwen3-moe", live))


@pytest.mark.parametrize("name", STACKED)
def test_veomni_expert_by_expert(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    """As transformers 4 held them: the hub's own names."""
    live = lives[name]
    hub = published(name, live)
    done = cli.convert(save_veomni(hub, tmp_path / "dcp"), out, "--assets-from", live.config)
    assert "recipe veomni:" in done.stderr
    compare.assert_reads_as(out, hub)


@pytest.mark.parametrize("name", STACKED)
def test_the_script_of_veomni_leaves_experts_stacked(
    name: str, lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    live = lives[name]
    source = save_veomni(live.state, tmp_path / "dcp")
    command = ("merge-dcp-to-hf", "--load-dir", source, "--save-dir", out)
    cli.ok(*command, "--model-assets-dir", live.config)
    compare.assert_reads_as(out, live.state)


def test_hub_files_become_a_veomni_model(lives: dict[str, Live], tmp_path: Path, out: Path) -> None:
    live = lives["qwen3-moe"]
    cli.ok("convert", live.saved, out, "--to", "dcp:ranks=3", "--recipe", "veomni/qwen3-moe")
    expected = {f"model.{name}": tensor for name, tensor in live.state.items()}
    compare.assert_same_tensors(read_dcp(out), expected)
    cli.convert(out, tmp_path / "back", "--assets-from", live.config)
    compare.assert_reads_as(tmp_path / "back", published("qwen3-moe", live))


def test_a_model_name_that_veomni_has_not_is_refused(
    lives: dict[str, Live], tmp_path: Path, out: Path
) -> None:
    """Only what is not the model is left out."""
    live = lives["qwen3-moe"]
    source = save_veomni(live.state | {"model.layers.0.adapter": torch.ones(2)}, tmp_path / "dcp")
    name = "model.model.layers.0.adapter"
    cli.refused(cli.MAPPING, source, out, "--assets-from", live.config, names=name)
