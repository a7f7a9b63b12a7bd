"""A tensor of a layer that a checkpoint has lost is missed, whatever kind of layer it is.

Of models whose layers differ each tensor is left out in turn, alone. What a model has in which
layer is what transformers and torchtitan make of its config.json, and DeepSeek-VL2's own code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import (
    checkpoints,
    cli,
    megatron_layout,
    megatron_reference,
    mindspeed_reference,
    tiny_multimodal,
    tiny_text,
    titan_models,
)
from harness.mindspeed_reference import Layout
from harness.tiny_multimodal import Tiny
from harness.titan_reference import hub_of
from safetensors.torch import load_file, save_file
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

Tensors = dict[str, torch.Tensor]

_TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_experts": 3,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
}
_LINEAR = {
    "num_hidden_layers": 8,  # of which 3 and 7 have full attention
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "shared_expert_intermediate_size": 12,
}

# Layers with one of two kinds of attention, as a user would write it.
HYBRID = """
name   = "hybrid"
models = ["Qwen3NextForCausalLM"]

[layers]
llm = "num_hidden_layers"

[[rule]]
hub  = "{model.embed_tokens|model.norm|lm_head}.weight"
here = "{model.embed_tokens|model.norm|lm_head}.weight"

[[rule]]
hub  = "model.layers.{layer}.{input|post_attention}_layernorm.weight"
here = "model.layers.{layer}.{input|post_attention}_layernorm.weight"

[[rule]]
hub  = "model.layers.{layer}.mlp.{rest*}"
here = "model.layers.{layer}.mlp.{rest*}"

[[rule]]
hub   = "model.layers.{layer}.linear_attn.{rest*}"
here  = "model.layers.{layer}.linear_attn.{rest*}"
where = "layer in layer_types.linear_attention"

[[rule]]
hub   = "model.layers.{layer}.self_attn.{rest*}"
here  = "model.layers.{layer}.self_attn.{rest*}"
where = "layer in layer_types.full_attention"
"""


@dataclass(frozen=True)
class Model:
    """What the hub has of a model, and where it is converted to."""

    config: dict[str, Any]
    tensors: Tensors
    recipe: str
    to: str = "dcp"

    def save(self, directory: Path, but: str = "") -> Path:
        """A repository on the hub that lacks one tensor."""
        directory.mkdir(exist_ok=True)
        (directory / "config.json").write_text(json.dumps(self.config))
        tensors = {name: tensor for name, tensor in self.tensors.items() if name != but}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return directory

    def missed(self, directory: Path, recipe: str | Path, but: str = "") -> str:
        """What a conversion says of the model without that tensor; nothing where it would go on."""
        source = self.save(directory, but)
        done = cli.run("plan", source, directory / "out", "--to", self.to, "--recipe", recipe)
        assert done.returncode in (cli.OK, cli.MAPPING), done.stderr
        return done.stderr if done.returncode else ""


def saved(cls: type[PreTrainedModel], config: PretrainedConfig, directory: Path) -> Model:
    """What transformers writes of a model."""
    cls(config).save_pretrained(directory)
    config_json = json.loads((directory / "config.json").read_text())
    recipe = "hybrid" if cls is Qwen3NextForCausalLM else "torchtitan"
    return Model(config_json, load_file(directory / "model.safetensors"), recipe)


def mindspeed(tiny: Tiny) -> Model:
    tensors = {name: tensor.contiguous() for name, tensor in tiny.tensors.items()}
    return Model(tiny.config, tensors, "mindspeed-mm", "megatron")


def deepseek_v3(_: Path) -> Model:
    """Two dense layers, two with experts, two that predict further tokens."""
    titan = titan_models.build("deepseek-v3-mtp")
    return Model(titan.hub_config, hub_of(titan, titan.state_dict()), "torchtitan")


MODELS: dict[str, Callable[[Path], Model]] = {
    "dense, then experts": lambda _: mindspeed(tiny_multimodal.build("deepseek_vl2")),
    "dense, then experts, MTP": deepseek_v3,
    "one dense layer": lambda path: saved(
        Qwen3MoeForCausalLM, Qwen3MoeConfig(**_TEXT, mlp_only_layers=[1]), path
    ),
    "experts every other layer": lambda path: saved(
        Qwen3MoeForCausalLM, Qwen3MoeConfig(**_TEXT, decoder_sparse_step=2), path
    ),
    "mergers on some layers": lambda _: mindspeed(tiny_multimodal.build("qwen3_vl_moe")),
    "two kinds of attention": lambda path: saved(
        Qwen3NextForCausalLM, Qwen3NextConfig(**_TEXT | _LINEAR), path
    ),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return MODELS[request.param](tmp_path_factory.mktemp("saved"))


@pytest.fixture
def recipe(model: Model, tmp_path: Path) -> str | Path:
    if model.recipe != "hybrid":
        return model.recipe
    path = tmp_path / "hybrid.toml"
    path.write_text(HYBRID)
    return path


def test_the_whole_model_is_enough(model: Model, recipe: str | Path, tmp_path: Path) -> None:
    assert model.missed(tmp_path / "hub", recipe) == ""


def test_each_tensor_of_the_hub_is_missed(model: Model, recipe: str | Path, tmp_path: Path) -> None:
    said = {name: model.missed(tmp_path / "hub", recipe, name) for name in to_lose(model.tensors)}
    assert [name for name, text in said.items() if not text] == []


def to_lose(names: Iterable[str]) -> list[str]:
    """All of layers, but of the experts, which are many and alike, a layer's first alone."""
    layers = re.compile(r"(?<!projector\.)(layers|blocks|deepstack_merger_list)\.\d+\.")
    of_layers = [name for name in names if layers.search(name)]
    return [name for name in of_layers if not re.search(r"experts\.[1-9]", name)]


def test_each_tensor_of_a_native_checkpoint_is_missed(tmp_path: Path) -> None:
    titan = titan_models.build("deepseek-v3-mtp")
    state = titan.state_dict()
    assets = titan.save_config(tmp_path / "assets")

    def is_missed(name: str) -> bool:
        source = tmp_path / name
        checkpoints.save_single({n: t for n, t in state.items() if n != name}, source)
        arguments = ("plan", source, tmp_path / "out", "--to", "hf", "--assets-from", assets)
        return cli.run(*arguments, "--recipe", "torchtitan").returncode == cli.MAPPING

    assert [name for name in state if not is_missed(name)] == []


def test_each_tensor_of_a_rank_is_missed(tmp_path: Path) -> None:
    model = tiny_multimodal.build("deepseek_vl2")
    layout = Layout([[4]], [[4]])
    [(rank, [tensors])] = mindspeed_reference.convert(model.tensors, model.config, layout).items()
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "config.json").write_text(json.dumps(model.config))
    root = tmp_path / "ranks"
    (root / "release" / rank).mkdir(parents=True)
    (root / "latest_checkpointed_iteration.txt").write_text("release")

    def is_missed(name: str) -> bool:
        content = {"model": {n: t for n, t in tensors.items() if n != name}}
        torch.save(
            content | {"checkpoint_version": 3.0},
            root / "release" / rank / "model_optim_rng.pt",
        )
        arguments = ("plan", root, tmp_path / "out", "--to", "hf", "--recipe", "mindspeed-mm")
        done = cli.run(*arguments, "--assets-from", tmp_path / "assets")
        assert done.returncode in (cli.OK, cli.MAPPING), done.stderr
        return done.returncode == cli.MAPPING

    assert not is_missed("")
    assert [name for name in to_lose(tensors) if not is_missed(name)] == []


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("qwen2_5_vl", "model.layers.3."),
        ("qwen2_5_vl", "visual.blocks.3."),
        ("qwen2_5_omni", "thinker.audio_tower.layers.3."),
        ("internvl_internlm2", "language_model.model.layers.3."),
        ("internvl_internlm2", "vision_model.encoder.layers.3."),
        ("glm4_1v", "model.visual.blocks.3."),
        ("deepseek_vl2", "language.model.layers.3."),
    ],
)
def test_the_last_layer_of_each_part_is_missed(name: str, last: str, tmp_path: Path) -> None:
    whole = mindspeed(tiny_multimodal.build(name))
    lost = [each for each in whole.tensors if each.startswith(last)]
    assert lost
    left = {each: tensor for each, tensor in whole.tensors.items() if each not in lost}
    assert "layers.3." in Model(whole.config, left, whole.recipe, whole.to).missed(
        tmp_path / "hub", whole.recipe
    )


# What all layers of a class have, in the names of ranks: where all have lost it there is no
# other layer to tell that it is missing.
OF_ALL_LAYERS = [
    pytest.param("qwen2", r"linear_qkv\.bias", id="biases"),
    pytest.param("qwen3-tied", r"q_layernorm", id="norms of queries"),
    pytest.param("qwen3-moe", r"k_layernorm", id="norms of keys"),
    pytest.param("llama", r"mlp\.linear_fc2", id="half an MLP"),
]


@pytest.mark.parametrize(("name", "lost"), OF_ALL_LAYERS)
def test_what_all_layers_lack_is_missed(name: str, lost: str, tmp_path: Path) -> None:
    hub = tiny_text.save(name, tmp_path / "hub")
    layout = megatron_layout.Layout(pp=2)
    root = megatron_reference.write(hub, tmp_path / "ranks", layout, "megatron-core")
    plan = ("plan", root, tmp_path / "out", "--to", "hf", "--recipe", "megatron-core")
    cli.ok(*plan, "--assets-from", hub)
    for path in root.rglob("*.pt"):
        content = torch.load(path, weights_only=True)
        whole = content["model"]
        content["model"] = {key: each for key, each in whole.items() if not re.search(lost, key)}
        assert len(content["model"]) < len(whole)
        torch.save(content, path)
    done = cli.expect(cli.MAPPING, *plan, "--assets-from", hub)
    assert re.search(lost, done.stderr)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("qwen3_vl", r"q_norm"),
        ("internvl_llama", r"attn\.k_norm"),
        ("deepseek_vl2", r"e_score_correction_bias"),
        ("deepseek_vl2", r"shared_experts\.(gate|up)_proj"),
    ],
)
def test_what_all_layers_of_a_multimodal_model_lack_is_missed(
    name: str, lost: str, tmp_path: Path
) -> None:
    whole = mindspeed(tiny_multimodal.build(name))
    left = {key: tensor for key, tensor in whole.tensors.items() if not re.search(lost, key)}
    assert len(left) < len(whole.tensors)
    said = Model(whole.config, left, whole.recipe, whole.to).missed(tmp_path / "hub", whole.recipe)
    assert re.search(lost, said)
