"""torchtitan's checkpoints to the hub and back, compared with torchtitan's own adapters.

Where an adapter of torchtitan 0.3.0 loses weights, `harness.titan_reference` stands in.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from harness import checkpoints, cli, compare, float8, reference, titan_models
from harness.titan_models import NAMES, RECIPES, Tensors, Titan
from harness.titan_reference import INNER, hub_of, titan_of
from safetensors.torch import load_file, save_file
from torchtitan.models.gpt_oss.moe import GptOssGroupedExperts
from transformers import GptOssConfig
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def titan(name: str) -> Titan:
    return titan_models.build(name)


@pytest.fixture
def assets(titan: Titan, tmp_path: Path) -> Path:
    return titan.save_config(tmp_path / "assets")


def train_state(state: Tensors) -> dict:
    """A whole training checkpoint: the model's names stand bare among the others."""
    moments = {
        f"optimizer.state.{name}.{kind}": tensor + 1
        for name, tensor in state.items()
        for kind in ("exp_avg", "exp_avg_sq")
    }
    return (
        dict(state)
        | moments
        | {
            "optimizer.param_groups.norm.weight.lr": 0.1,
            "lr_scheduler.last_epoch": 3,
            "dataloader.dp_rank_0": b"state",
            "train_state.step": torch.tensor(3),
        }
    )


def write_hub(directory: Path, titan: Titan, tensors: Tensors) -> Path:
    titan.save_config(directory)
    save_file({name: tensor.clone() for name, tensor in tensors.items()},
              directory / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
    return directory


def hub_tensors(directory: Path, prefix: str) -> Tensors:
    tensors = load_file(directory / "model.safetensors")
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def to_dcp(source: Path, destination: Path, *args: object) -> None:
    cli.ok("convert", source, destination, "--to", "dcp", "--recipe", "torchtitan", *args)


def test_the_hub_gets_what_the_adapter_gives(
    name: str, titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    checkpoints.save_single(train_state(state), tmp_path / "step-3")
    done = cli.convert(tmp_path / "step-3", out, "--assets-from", assets)
    compare.assert_reads_as(out, hub_of(titan, state))
    assert f"recipe {RECIPES[name]}: " in done.stderr
    left_out = 2 * len(state) + 1  # the moments and the step
    assert f"left out {left_out} tensors and 3 objects" in done.stderr


def test_a_checkpoint_gets_what_the_adapter_gives(titan: Titan, tmp_path: Path, out: Path) -> None:
    hub = hub_of(titan, titan.state_dict(seed=2))
    to_dcp(write_hub(tmp_path / "hub", titan, hub), out)
    compare.assert_same_tensors(reference.load(out), titan_of(titan, hub))


def test_torchtitan_loads_the_checkpoint(titan: Titan, tmp_path: Path, out: Path) -> None:
    """Every name that its model asks for is there, as it asks for it."""
    state = titan.state_dict(seed=3)
    to_dcp(write_hub(tmp_path / "hub", titan, hub_of(titan, state)), out)
    model = titan.build()
    loaded = model.state_dict()
    dcp.load(loaded, checkpoint_id=str(out), no_dist=True)
    compare.assert_same_tensors(loaded, state)
    assert model.load_state_dict(loaded) == torch.nn.modules.module._IncompatibleKeys([], [])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_there_and_back(
    dtype: torch.dtype | None, titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = {name: reference.cast(tensor, dtype) for name, tensor in titan.state_dict().items()}
    for name in state:
        if name.endswith("expert_bias_E"):
            state[name] = state[name].float()
    checkpoints.save_single(state, tmp_path / "first")
    cli.convert(tmp_path / "first", tmp_path / "hub", "--assets-from", assets)
    to_dcp(tmp_path / "hub", out)
    compare.assert_same_tensors(reference.load(out), state)


# The names that a model's tensors had before torchtitan 0.3.0, by what they were renamed to.
OLD_NAMES = {
    r"^lm_head\.weight$": "output.weight",
    r"attention\.qkv_linear\.(w[qkv])": r"attention.\1",
    rf"{re.escape(INNER)}\.(w[123])_E\w+$": r"moe.experts.\1",
    rf"{re.escape(INNER)}\.(mlp[12]_(?:weight|bias))_E\w+$": r"moe.experts.\1",
    r"expert_bias_E$": "expert_bias",
}
YOUNGER_NAMES = {rf"{re.escape(INNER)}\.": "moe.experts."}


@pytest.mark.parametrize("names", [OLD_NAMES, YOUNGER_NAMES], ids=["old", "younger"])
def test_names_of_other_years_are_read(
    names: dict[str, str], titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    renamed = {}
    for name, tensor in state.items():
        for now, then in names.items():
            name = re.sub(now, then, name)
        renamed[name] = tensor
    checkpoints.save_single(renamed, tmp_path / "old")
    cli.convert(tmp_path / "old", out, "--assets-from", assets)
    compare.assert_reads_as(out, hub_of(titan, state))


@pytest.mark.parametrize("name", ["deepseek-v3-mtp"], indirect=True)
def test_shared_experts_were_a_stack_of_one(
    titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    old = {}
    for name, tensor in state.items():
        stacked = re.sub(r"shared_experts\.(w\d)\.weight$", r"shared_expert.\1", name)
        old[stacked] = tensor if stacked == name else tensor.unsqueeze(0)
    checkpoints.save_single(old, tmp_path / "old")
    cli.convert(tmp_path / "old", out, "--assets-from", assets)
    compare.assert_reads_as(out, hub_of(titan, state))


@pytest.mark.parametrize("name", ["qwen3-moe", "gpt-oss"], indirect=True)
def test_a_bias_that_the_hub_cannot_hold_is_not_lost(
    titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    expected = hub_of(titan, state)
    bias = "layers.1.moe.expert_bias_E"
    state[bias][3] = 0.001
    checkpoints.save_single(state, tmp_path / "trained")
    said = cli.refused(
        cli.SOURCE,
        tmp_path / "trained",
        out,
        "--assets-from",
        assets,
        names=f"element [3] of '{bias}'",
    )
    assert "the hub has no place for it" in said
    cli.convert(tmp_path / "trained", out, "--assets-from", assets, "--ignore", "expert_bias_E$")
    compare.assert_reads_as(out, expected)


@pytest.mark.parametrize("name", ["llama3-tied", "qwen3-tied"], indirect=True)
def test_a_head_that_is_not_the_embedding_is_not_lost(
    titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    checkpoints.save_single(state, tmp_path / "untied")
    cli.refused(
        cli.SOURCE, tmp_path / "untied", out, "--assets-from", assets, names="'lm_head.weight'"
    )


@pytest.mark.parametrize("name", ["llama3", "deepseek-v3-mtp", "qwen3-moe"], indirect=True)
@pytest.mark.parametrize(
    "lost", ["layers.2.attention_norm.weight", "norm.weight", "lm_head.weight"]
)
def test_what_is_missing_is_named(
    lost: str, titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    hub = hub_of(titan, state)
    del state[lost]
    checkpoints.save_single(state, tmp_path / "partial")
    hub_name = {
        "layers.2.attention_norm.weight": "model.layers.2.input_layernorm.weight",
        "norm.weight": "model.norm.weight",
    }.get(lost, lost)
    cli.refused(cli.MAPPING, tmp_path / "partial", out, "--assets-from", assets, names=hub_name)
    del hub[hub_name]
    source = write_hub(tmp_path / "hub", titan, hub)
    done = cli.expect(cli.MAPPING, "convert", source, out, "--to", "dcp", "--recipe", "torchtitan")
    assert hub_name in done.stderr


@pytest.mark.parametrize("name", ["qwen3"], indirect=True)
def test_the_last_layers_are_missed_too(
    titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    state = {n: t for n, t in titan.state_dict().items() if not n.startswith("layers.2.")}
    checkpoints.save_single(state, tmp_path / "short")
    cli.refused(cli.MAPPING, tmp_path / "short", out, "--assets-from", assets,
                names="model.layers.2.")  # fmt: skip


@pytest.mark.parametrize("name", ["qwen3-moe"], indirect=True)
def test_an_expert_that_is_missing_is_named(titan: Titan, tmp_path: Path, out: Path) -> None:
    hub = hub_of(titan, titan.state_dict())
    last = f"model.layers.0.mlp.experts.{titan_models.EXPERTS - 1}"
    hub = {n: t for n, t in hub.items() if not n.startswith(last)}
    source = write_hub(tmp_path / "hub", titan, hub)
    done = cli.expect(cli.MAPPING, "convert", source, out, "--to", "dcp", "--recipe", "torchtitan")
    assert f"{last}." in done.stderr


def early(state: Tensors) -> Tensors:
    """As torchtitan had it until early 2025: other names, and the frequencies in the state dict."""
    old = {
        name.replace("attention.qkv_linear.", "attention.").replace("lm_head.", "output."): tensor
        for name, tensor in state.items()
    }
    return old | {"freqs_cis": torch.polar(torch.ones(64, 4), torch.randn(64, 4))}


@pytest.mark.parametrize("name", ["llama3"], indirect=True)
@pytest.mark.parametrize("form", ["whole", "model", "file", "bare"])
def test_the_nested_layout_of_early_2025(
    form: str, titan: Titan, assets: Path, tmp_path: Path, out: Path
) -> None:
    """The model below "model", alone or beside its optimizer; never taken for another trainer's."""
    state = titan.state_dict()
    moments = {name: {"exp_avg": tensor + 1} for name, tensor in state.items()}
    tree = {"model": early(state), "optimizer": {"state": moments}, "train_state": {"step": 3}}
    source = tmp_path / "step-3"
    if form == "file":
        torch.save(tree, source)
    else:
        dcp.save({"whole": tree, "model": {"model": tree["model"]}, "bare": tree["model"]}[form],
                 checkpoint_id=source)  # fmt: skip
    done = cli.convert(source, out, "--assets-from", assets)
    compare.assert_reads_as(out, hub_of(titan, state))
    flavor = "torchtitan" if form == "bare" else "torchtitan-nested"
    assert f"recipe {flavor}/llama3: " in done.stderr


@pytest.mark.parametrize("name", ["llama3"], indirect=True)
@pytest.mark.parametrize("config", [False, True])
def test_the_nested_layout_of_no_model_or_another_is_refused(
    config: bool, titan: Titan, tmp_path: Path, out: Path
) -> None:
    state = titan.state_dict()
    moments = {name: {"exp_avg": tensor + 1} for name, tensor in state.items()}
    dcp.save({"model": early(state), "optimizer": {"state": moments}},
             checkpoint_id=tmp_path / "step-3")  # fmt: skip
    if config:
        (tmp_path / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    said = cli.refused(cli.MAPPING, tmp_path / "step-3", out, names="torchtitan-nested")
    assert "LlamaForCausalLM" in said


@pytest.mark.parametrize("name", ["llama3"], indirect=True)
def test_without_a_config_the_names_alone_do_not_decide(
    titan: Titan, tmp_path: Path, out: Path
) -> None:
    checkpoints.save_single(titan.state_dict(), tmp_path / "step-1")
    said = cli.refused(cli.MAPPING, tmp_path / "step-1", out, names="the names are those of")
    assert "torchtitan" in said
    assert "--assets-from" in said
    state = titan.state_dict()
    cli.identity(tmp_path / "step-1", out)
    compare.assert_reads_as(out, state)


@pytest.mark.parametrize("name", ["gpt-oss"], indirect=True)
class TestGptOss:
    def blocks(self, hub: Tensors) -> Tensors:
        """Under the names, and in the layout, that torchtitan exports experts in."""
        return {
            name + "_blocks" if name.endswith(("gate_up_proj", "down_proj")) else name: (
                tensor.transpose(1, 2).contiguous()
                if name.endswith(("gate_up_proj", "down_proj"))
                else tensor
            )
            for name, tensor in hub.items()
        }

    def test_what_torchtitan_exports_is_read(self, titan: Titan, tmp_path: Path, out: Path) -> None:
        state = titan.state_dict()
        hub = self.blocks(hub_of(titan, state))
        to_dcp(write_hub(tmp_path / "hub", titan, hub), out)
        compare.assert_same_tensors(reference.load(out), state)

    def test_mxfp4_is_refused(self, titan: Titan, tmp_path: Path, out: Path) -> None:
        hub = self.blocks(hub_of(titan, titan.state_dict()))
        for name in [name for name in hub if name.endswith("_blocks")]:
            experts, rows, _ = hub[name].shape
            hub[name] = torch.zeros(experts, rows, 1, 16, dtype=torch.uint8)
            hub[name.replace("_blocks", "_scales")] = torch.zeros(
                experts, rows, 1, dtype=torch.uint8
            )
        source = write_hub(tmp_path / "hub", titan, hub)
        done = cli.expect(
            cli.MAPPING, "convert", source, out, "--to", "dcp", "--recipe", "torchtitan"
        )
        assert "MXFP4" in done.stderr
        assert not out.exists()

    def test_both_experts_compute_the_same(
        self, titan: Titan, assets: Path, tmp_path: Path, out: Path
    ) -> None:
        """transformers' experts with the hub's weights, torchtitan's with its own."""
        state = {name: tensor * 0.3 for name, tensor in titan.state_dict().items()}
        checkpoints.save_single(state, tmp_path / "step-1")
        cli.convert(tmp_path / "step-1", out, "--assets-from", assets)
        hub = hub_tensors(out, "model.layers.0.mlp.experts.")
        theirs = GptOssExperts(
            GptOssConfig(
                num_local_experts=titan_models.EXPERTS,
                hidden_size=titan_models.DIM,
                intermediate_size=titan_models.EXPERT_FFN,
            )
        )
        theirs.load_state_dict(hub)
        ours = GptOssGroupedExperts(
            GptOssGroupedExperts.Config(
                dim=titan_models.DIM,
                hidden_dim=titan_models.EXPERT_FFN,
                num_experts=titan_models.EXPERTS,
            )
        )
        prefix = f"layers.0.{INNER}."
        ours.load_state_dict(
            {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        )
        generator = torch.Generator().manual_seed(4)
        tokens = torch.randn(titan_models.EXPERTS, titan_models.DIM, generator=generator)
        each = torch.arange(titan_models.EXPERTS).unsqueeze(1)
        with torch.no_grad():
            expected = theirs(tokens, each, torch.ones_like(each, dtype=torch.float32))
            actual = ours(tokens, torch.ones(titan_models.EXPERTS, dtype=torch.int32))
        # torchtitan multiplies in bfloat16.
        torch.testing.assert_close(actual.float(), expected, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("name", ["deepseek-v3-mtp"], indirect=True)
class TestDeepSeek:
    def test_what_the_mtp_layer_repeats_is_checked(
        self, titan: Titan, tmp_path: Path, out: Path
    ) -> None:
        state = titan.state_dict()
        hub = hub_of(titan, state)
        repeats = {
            "model.layers.4.embed_tokens.weight": hub["model.embed_tokens.weight"],
            "model.layers.5.shared_head.head.weight": hub["lm_head.weight"],
        }
        to_dcp(write_hub(tmp_path / "hub", titan, hub | repeats), out)
        compare.assert_same_tensors(reference.load(out), state)

        repeats = {name: tensor + 1 for name, tensor in repeats.items()}
        source = write_hub(tmp_path / "other", titan, hub | repeats)
        cli.expect(cli.SOURCE, "convert", source, tmp_path / "no", "--to", "dcp",
                   "--recipe", "torchtitan")  # fmt: skip

    def test_scales_of_a_quantized_model_are_refused(
        self, titan: Titan, tmp_path: Path, out: Path
    ) -> None:
        hub = hub_of(titan, titan.state_dict())
        hub["model.layers.0.mlp.down_proj.weight_scale_inv"] = torch.ones(1, 1)
        source = write_hub(tmp_path / "hub", titan, hub)
        done = cli.expect(
            cli.MAPPING, "convert", source, out, "--to", "dcp", "--recipe", "torchtitan"
        )
        assert "the scale of a quantized weight" in done.stderr

    def test_a_quantized_model_is_dequantized(
        self, titan: Titan, tmp_path: Path, out: Path
    ) -> None:
        """As the hub has DeepSeek-V3: linear layers and experts in float8, scaled by blocks."""
        hub = hub_of(titan, titan.state_dict())
        products = float8.quantize(tmp_path / "hub", hub, titan.hub_config, 12)
        assert sum(not torch.equal(products[name], hub[name]) for name in hub) > len(hub) / 2
        to_dcp(tmp_path / "hub", out, "--dequantize", "--dtype", "float32")
        compare.assert_same_tensors(reference.load(out), titan_of(titan, products))
