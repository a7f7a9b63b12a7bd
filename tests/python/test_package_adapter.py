"""reshard.torch.StateDictAdapter: any flavor's state dict and the hub's, in memory.

What it gives for plain tensors is compared with a reference that the tests write in PyTorch, from
the definitions of the layouts; what it gives for DTensors with what it gives for plain tensors.
"""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
import reshard
import torch
from harness import ranks, sharding
from reshard.torch import StateDictAdapter, layouts
from reshard.torch._views import Node, evaluate, narrow, origins
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import CommDebugMode

Tensors = dict[str, torch.Tensor]

# No two sizes are equal. Two ranks cut between the two groups of heads, four cut through them; no
# number of ranks but two divides the vocabulary or the experts.
HEADS, GROUPS, HEAD_DIM, HIDDEN, FFN, VOCAB, LAYERS = 8, 2, 6, 24, 28, 38, 2
EXPERTS, EXPERT_FFN = 6, 12

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "moe_intermediate_size": EXPERT_FFN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": GROUPS,
    "head_dim": HEAD_DIM,
    "num_experts": EXPERTS,
    "tie_word_embeddings": False,
}
DENSE = CONFIG | {"architectures": ["LlamaForCausalLM"]}


def hub_state(config: dict, dtype: torch.dtype = torch.float32) -> Tensors:
    generator = torch.Generator().manual_seed(5)

    def new(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    state = {"model.embed_tokens.weight": new(VOCAB, HIDDEN), "model.norm.weight": new(HIDDEN)}
    if not config["tie_word_embeddings"]:
        state["lm_head.weight"] = new(VOCAB, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        state |= {
            at + "input_layernorm.weight": new(HIDDEN),
            at + "post_attention_layernorm.weight": new(HIDDEN),
            at + "self_attn.q_proj.weight": new(HEADS * HEAD_DIM, HIDDEN),
            at + "self_attn.k_proj.weight": new(GROUPS * HEAD_DIM, HIDDEN),
            at + "self_attn.v_proj.weight": new(GROUPS * HEAD_DIM, HIDDEN),
            at + "self_attn.o_proj.weight": new(HIDDEN, HEADS * HEAD_DIM),
            at + "mlp.gate_proj.weight": new(FFN, HIDDEN),
            at + "mlp.up_proj.weight": new(FFN, HIDDEN),
            at + "mlp.down_proj.weight": new(HIDDEN, FFN),
        }
    return state


def fused_reference(hub: Tensors) -> Tensors:
    """Megatron's layout of a Llama: query, key and value fused by group, and gate with up."""
    state = {
        "embedding.word_embeddings.weight": hub["model.embed_tokens.weight"],
        "decoder.final_layernorm.weight": hub["model.norm.weight"],
    }
    if "lm_head.weight" in hub:
        state["output_layer.weight"] = hub["lm_head.weight"]
    for layer in range(LAYERS):
        at, to = f"model.layers.{layer}.", f"decoder.layers.{layer}."
        q, k, v = (
            hub[f"{at}self_attn.{name}_proj.weight"].view(GROUPS, -1, HIDDEN) for name in "qkv"
        )
        gate, up = (hub[f"{at}mlp.{name}_proj.weight"] for name in ("gate", "up"))
        state |= {
            to + "self_attention.linear_qkv.weight": torch.cat([q, k, v], 1).reshape(-1, HIDDEN),
            to + "self_attention.linear_qkv.layer_norm_weight": hub[at + "input_layernorm.weight"],
            to + "self_attention.linear_proj.weight": hub[at + "self_attn.o_proj.weight"],
            to + "mlp.linear_fc1.weight": torch.cat([gate, up]),
            to + "mlp.linear_fc1.layer_norm_weight": hub[at + "post_attention_layernorm.weight"],
            to + "mlp.linear_fc2.weight": hub[at + "mlp.down_proj.weight"],
        }
    return state


def equal(got: dict, expected: Tensors) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype, name
        assert torch.equal(got[name], tensor), name


@pytest.fixture
def megatron() -> StateDictAdapter:
    return StateDictAdapter("megatron-core", DENSE)


def test_from_hf_is_the_reference(megatron: StateDictAdapter) -> None:
    hub = hub_state(DENSE)
    equal(megatron.from_hf(hub), fused_reference(hub))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_to_hf_is_the_inverse(megatron: StateDictAdapter, dtype: torch.dtype) -> None:
    hub = hub_state(DENSE, dtype)
    equal(megatron.to_hf(fused_reference(hub)), hub)
    equal(megatron.to("hf", fused_reference(hub)), hub)


def moe_state(config: dict) -> Tensors:
    """A Qwen3-MoE: the Llama with norms of heads, and experts in the place of the MLP."""
    generator = torch.Generator().manual_seed(6)
    state = {name: t for name, t in hub_state(config).items() if ".mlp." not in name}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for norm in "qk":
            state[f"{at}self_attn.{norm}_norm.weight"] = torch.randn(HEAD_DIM, generator=generator)
        state[at + "mlp.gate.weight"] = torch.randn(EXPERTS, HIDDEN, generator=generator)
        for expert in range(EXPERTS):
            for name in ("gate", "up", "down"):
                shape = (HIDDEN, EXPERT_FFN) if name == "down" else (EXPERT_FFN, HIDDEN)
                tensor = torch.randn(shape, generator=generator)
                state[f"{at}mlp.experts.{expert}.{name}_proj.weight"] = tensor
    return state


MODELS = {
    "llama": (DENSE, hub_state),
    "tied": (DENSE | {"tie_word_embeddings": True}, hub_state),
    "moe": (CONFIG, moe_state),
}


MESHES = {1: ("fsdp",), 2: ("fsdp", "tp"), 4: ("fsdp", "hsdp", "fsdp+tp")}
CASES = [("megatron-core", "llama"), ("megatron-core", "tied"), ("megatron-core", "moe")]


def adapt_all() -> dict[str, int]:
    """On each rank, all cases, as starting ranks is what costs; gives the number of collectives."""
    counts = {}
    for recipe, model in CASES:
        for mesh in MESHES[torch.distributed.get_world_size()]:
            for direction, count in adapt(recipe, model, mesh).items():
                counts[f"{recipe} {model} {mesh} {direction}"] = count
    lie_as_asked()
    return counts


def adapt(recipe: str, model: str, mesh: str) -> dict[str, int]:
    """Both directions of DTensors against those of plain tensors."""
    config, make = MODELS[model]
    adapter = StateDictAdapter(recipe, config)
    hub = make(config)
    native = adapter.from_hf(hub)
    counts = {}
    for direction, convert, plain in (
        ("from_hf", adapter.from_hf, hub),
        ("to_hf", adapter.to_hf, native),
    ):
        where = f"{recipe} {model} {mesh} {direction}"
        expected = convert(plain)
        given = sharding.shard(plain, mesh)
        kept, names = {n: sharding.local(t).clone() for n, t in given.items()}, list(given)
        with CommDebugMode() as communication:
            made = convert(given)
        counts[direction] = communication.get_total_counts()
        assert made.keys() == expected.keys()
        for key, tensor in made.items():
            assert isinstance(tensor, DTensor), (where, key)
            assert torch.equal(tensor.full_tensor(), expected[key]), (where, key)
            assert tensor.to_local().is_contiguous(), (where, key)
            assert tensor.stride() == expected[key].stride(), (where, key)
        assert list(given) == names, where
        for key, tensor in given.items():
            assert torch.equal(sharding.local(tensor), kept[key]), (where, key)
    return counts


@pytest.fixture(scope="module", params=[1, 2, 4])
def counts(request: pytest.FixtureRequest) -> dict[str, int]:
    by_rank = ranks.run(adapt_all, request.param)
    assert all(counts == by_rank[0] for counts in by_rank)
    return by_rank[0]


def test_only_what_is_cut_through_travels(counts: dict[str, int]) -> None:
    """What DTensors become is compared on the ranks. A fused matrix that is cut by rows has no row
    of `up` where `gate` is; one of query, key and value is left alone if groups stay whole."""
    if "megatron-core llama tp to_hf" not in counts and len(counts) < 8:
        assert set(counts.values()) == {0}
    elif "megatron-core llama hsdp to_hf" not in counts:
        assert counts["megatron-core llama fsdp to_hf"] == LAYERS
        assert counts["megatron-core llama fsdp from_hf"] == 2 * LAYERS
    else:
        assert counts["megatron-core llama hsdp to_hf"] == LAYERS
        assert counts["megatron-core llama fsdp to_hf"] == 2 * LAYERS
        assert counts["megatron-core llama fsdp from_hf"] == 5 * LAYERS


def test_experts_are_theirs_again() -> None:
    adapter = StateDictAdapter("megatron-core", CONFIG)
    hub = moe_state(CONFIG)
    equal(adapter.to_hf(adapter.from_hf(hub)), hub)


def test_what_is_only_renamed_is_the_same_tensor(megatron: StateDictAdapter) -> None:
    native = fused_reference(hub_state(DENSE))
    hub = megatron.to_hf(native)
    assert hub["model.norm.weight"] is native["decoder.final_layernorm.weight"]
    q = hub["model.layers.0.self_attn.q_proj.weight"]
    fused = native["decoder.layers.1.mlp.linear_fc1.weight"]
    up = hub["model.layers.1.mlp.up_proj.weight"]
    assert q.shape == (HEADS * HEAD_DIM, HIDDEN)
    assert up.untyped_storage().data_ptr() == fused.untyped_storage().data_ptr()
    up.fill_(7)
    assert torch.equal(fused[FFN:], torch.full((FFN, HIDDEN), 7.0))


@pytest.mark.parametrize("form", ["meta", "shape"])
def test_names_and_shapes_need_no_memory(megatron: StateDictAdapter, form: str) -> None:
    hub = hub_state(DENSE, torch.bfloat16)
    told = {
        name: t.to("meta") if form == "meta" else (tuple(t.shape), t.dtype)
        for name, t in hub.items()
    }
    native = megatron.from_hf(told)
    expected = fused_reference(hub)
    assert native.keys() == expected.keys()
    for name, tensor in native.items():
        assert tensor.is_meta
        assert (tensor.shape, tensor.dtype) == (expected[name].shape, torch.bfloat16)
    again = megatron.to_hf(native)
    assert {n: t.shape for n, t in again.items()} == {n: t.shape for n, t in hub.items()}


def test_a_config_may_be_of_transformers_or_a_file(tmp_path: Path) -> None:
    from transformers import LlamaConfig

    hub = hub_state(DENSE)
    (tmp_path / "config.json").write_text(json.dumps(DENSE))
    for config in (LlamaConfig(**DENSE), tmp_path, str(tmp_path / "config.json")):
        equal(StateDictAdapter("megatron-core", config).from_hf(hub), fused_reference(hub))
    with pytest.raises(reshard.UsageError, match="a config of the type int"):
        StateDictAdapter("megatron-core", 3)


def test_tied_weights_are_one(caplog: pytest.LogCaptureFixture) -> None:
    config = DENSE | {"tie_word_embeddings": True}
    adapter = StateDictAdapter("megatron-core", config)
    hub = hub_state(config)
    alias = hub | {"lm_head.weight": hub["model.embed_tokens.weight"]}
    names = list(alias)
    with caplog.at_level(logging.WARNING, "reshard"):
        equal(adapter.from_hf(alias), adapter.from_hf(hub))
    assert not caplog.messages
    assert list(alias) == names
    alias["lm_head.weight"] = alias["lm_head.weight"] + 1
    with caplog.at_level(logging.WARNING, "reshard"):
        adapter.from_hf(alias)
    assert "lm_head.weight" in caplog.text


def test_values_that_are_no_tensors_are_named(
    megatron: StateDictAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    native = fused_reference(hub_state(DENSE)) | {"decoder.layers.0.mlp._extra": None}
    with caplog.at_level(logging.WARNING, "reshard"):
        equal(megatron.to_hf(native), hub_state(DENSE))
    assert "decoder.layers.0.mlp._extra" in caplog.text


def test_a_name_that_the_recipe_does_not_know_is_an_error(megatron: StateDictAdapter) -> None:
    with pytest.raises(reshard.MappingError, match="decoder.layers.0.mlp.linear_fc9.weight"):
        megatron.to_hf({"decoder.layers.0.mlp.linear_fc9.weight": torch.zeros(2, 3)})


def lie_as_asked() -> None:
    """On each rank: results are laid out as other tensors are, and on the meta device."""
    adapter = StateDictAdapter("megatron-core", DENSE)
    native = sharding.shard(fused_reference(hub_state(DENSE)), "fsdp")
    back = adapter.from_hf(adapter.to_hf(native), like=layouts(native))
    assert layouts(back) == layouts(native)
    for name, tensor in native.items():
        assert torch.equal(back[name].to_local(), tensor.to_local()), name
    plain = adapter.from_hf(hub_state(DENSE), like=layouts(native))
    for name, tensor in native.items():
        assert torch.equal(plain[name].to_local(), tensor.to_local()), name
    meta = {
        name: DTensor.from_local(
            tensor.to_local().to("meta"),
            tensor.device_mesh,
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )
        for name, tensor in native.items()
    }
    hub = adapter.to_hf(native)
    for name, tensor in adapter.to_hf(meta).items():
        assert tensor.to_local().is_meta
        assert tensor.placements == hub[name].placements
        assert tensor.to_local().shape == hub[name].to_local().shape


def random_view(random_: random.Random, whole: torch.Tensor) -> tuple[Node, torch.Tensor]:
    """A tree of views over `whole`, and what PyTorch makes of the same operations."""
    node = Node("source", whole.dtype, tuple(whole.shape))
    for _ in range(random_.randint(1, 4)):
        d = random_.randrange(whole.dim())
        size = whole.shape[d]
        op = random_.choice(["permute", "split", "merge", "slice", "concat"])
        given: dict[str, Any] = {"dim": d}
        if op == "permute":
            given = {"dims": tuple(random_.sample(range(whole.dim()), whole.dim()))}
            whole = whole.permute(given["dims"])
        elif op == "slice":
            given["start"] = random_.randrange(size)
            whole = whole.narrow(d, given["start"], random_.randint(1, size - given["start"]))
        elif op == "concat":
            whole = torch.cat([whole, whole], d)
        elif op == "split" and size % 2 == 0:
            whole = whole.unflatten(d, (size // 2, 2))
        elif op == "merge" and d + 1 < whole.dim():
            whole = whole.flatten(d, d + 1)
        op = "reshape" if op in ("split", "merge") else op
        inputs = (node, node) if op == "concat" else (node,)
        node = Node(op, node.dtype, tuple(whole.shape), inputs=inputs, **given)
    return node, whole


def test_a_box_of_a_view_is_that_box() -> None:
    """Any box of a random composition, against PyTorch's slice of the whole."""
    random_ = random.Random(4)
    source = torch.arange(240.0).reshape(4, 6, 10)
    for _ in range(300):
        node, whole = random_view(random_, source)
        start = tuple(random_.randrange(size) for size in whole.shape)
        extent = tuple(random_.randint(1, s - a) for s, a in zip(whole.shape, start, strict=True))
        asked: list[tuple[int, tuple[int, ...], tuple[int, ...]]] = []

        def leaf(at: Node, start: tuple, extent: tuple, asked: list = asked) -> torch.Tensor:
            asked.append((at.source, start, extent))
            return narrow(source, start, extent)

        assert torch.equal(evaluate(node, start, extent, leaf), narrow(whole, start, extent))
        assert list(origins(node, start, extent)) == asked
