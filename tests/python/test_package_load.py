"""Weights of every kind of checkpoint into live models, compared with how PyTorch lays them out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import reshard
import reshard.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from harness import cli, float8, live_models, ranks
from reshard.compat import mindspeed
from reshard.torch._load import convert_key
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

KINDS = ("hf", "dcp", "megatron")
READS = ("local", "rank0-broadcast")


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every model as every kind of checkpoint: <name>/<kind>. Read only."""
    root = tmp_path_factory.mktemp("live")
    for name in live_models.NAMES:
        model = live_models.build(name)
        model.save_pretrained(root / name / "hf")
        state = {"model": {f"model.{key}": value for key, value in model.state_dict().items()}}
        dcp.save(state, checkpoint_id=root / name / "dcp", no_dist=True)
        flavor = "mindspeed-mm" if name == "qwen2.5-vl" else "megatron-core"
        layout = "megatron:tp=2,pp=2" if flavor == "megatron-core" else "megatron:tp=2"
        cli.ok("convert", root / name / "hf", root / name / "megatron", "--to", layout,
               "--recipe", flavor)  # fmt: skip
    return root


def local(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def differences(model: torch.nn.Module, wanted: torch.nn.Module) -> list[str]:
    """Which local shards are not what PyTorch's own distribution of the model has there."""
    wrong = []
    have, want = dict(model.state_dict()), dict(wanted.state_dict())
    if have.keys() != want.keys():
        return [f"names: {sorted(have.keys() ^ want.keys())}"]
    for name, tensor in want.items():
        a, b = local(have[name]), local(tensor)
        if a.dtype != b.dtype or a.shape != b.shape or not torch.equal(a, b):
            wrong.append(name)
    return wrong


def load_all(root: str, world: int) -> list[str]:
    wrong = []
    for name in live_models.NAMES:
        for mesh in live_models.MESHES[world]:
            wanted = live_models.shard(live_models.build(name), mesh, world)
            for kind in KINDS:
                for read in READS:
                    model = live_models.shard(live_models.on_meta(name), mesh, world)
                    report = reshard.torch.load_checkpoint(
                        model, Path(root) / name / kind, read=read, progress=False
                    )
                    case = f"{name} {mesh} {kind} {read}: "
                    wrong += [case + text for text in differences(model, wanted)]
                    if report.missing or report.unexpected or report.uninitialized:
                        wrong.append(case + repr(report))
    return wrong


@pytest.mark.parametrize("world", [1, 2, 4])
def test_every_shard_is_what_pytorch_distributes(checkpoints: Path, world: int) -> None:
    for wrong in ranks.run(load_all, world, str(checkpoints), world, seconds=900):
        assert wrong == []


@pytest.mark.parametrize("name", live_models.NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_model_gives_the_same_logits(checkpoints: Path, name: str, kind: str) -> None:
    wanted = live_models.build(name)
    model = live_models.on_meta(name)
    report = reshard.torch.load_checkpoint(model, checkpoints / name / kind, progress=False)
    tokens = torch.arange(7)[None]
    assert torch.equal(model(tokens).logits, wanted(tokens).logits)
    assert report.kind == kind
    assert set(report.loaded) == {key for key, _ in model.named_parameters()}


def broken(root: Path, case: str) -> None:
    """A directory for the tiny Llama that is wrong in one way."""
    file = root / "model.safetensors"
    tensors = load_file(file)
    if case == "missing":
        del tensors["model.layers.1.mlp.up_proj.weight"]
    elif case == "unexpected":
        tensors["model.layers.1.mlp.extra.weight"] = torch.zeros(3)
    elif case == "shape":
        tensors["model.norm.weight"] = torch.zeros(7)
    save_file(tensors, file)
    if case == "truncated":
        data = file.read_bytes()
        file.write_bytes(data[: len(data) - 1000])
    elif case == "gone":
        file.unlink()


BROKEN = {
    "missing": (reshard.MappingError, "1 missing: model.layers.1.mlp.up_proj.weight"),
    "unexpected": (reshard.MappingError, "1 unexpected: model.layers.1.mlp.extra.weight"),
    "shape": (reshard.MappingError, "model.norm.weight: [7] in the checkpoint, [32] in the model"),
    "truncated": (reshard.SourceError, "model.safetensors"),
    "gone": (reshard.SourceError, "no checkpoint"),
}


def load_broken(root: str, read: str) -> dict[str, tuple[str, str]]:
    caught = {}
    for case in BROKEN:
        model = live_models.shard(live_models.build("llama"), "fsdp", dist.get_world_size())
        before = {name: local(tensor).clone() for name, tensor in model.state_dict().items()}
        try:
            reshard.torch.load_checkpoint(model, Path(root) / case, read=read, progress=False)
        except reshard.Error as error:
            caught[case] = (type(error).__name__, str(error))
        for name, tensor in model.state_dict().items():
            assert torch.equal(local(tensor), before[name]), f"{case} has touched {name}"
    return caught


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_a_wrong_checkpoint_is_the_same_error_on_all_ranks(
    checkpoints: Path, tmp_path: Path, read: str, world: int
) -> None:
    for case in BROKEN:
        shutil.copytree(checkpoints / "llama" / "hf", tmp_path / case)
        broken(tmp_path / case, case)
    for caught in ranks.run(load_broken, world, str(tmp_path), read, seconds=300):
        for case, (cls, text) in BROKEN.items():
            assert caught[case][0] == cls.__name__
            assert text in caught[case][1]


def load_one_unreadable(root: str, read: str) -> str:
    """Reading fails on the first rank alone, when bytes are already on their way."""
    model = live_models.shard(live_models.on_meta("llama"), "fsdp", dist.get_world_size())
    if dist.get_rank() == 0:
        module = reshard.torch._memory if read == "local" else reshard.torch._broadcast
        name = "read_here" if read == "local" else "_read"

        def fail(*args: Any) -> None:
            raise reshard.SourceError("the disk is gone")

        setattr(reshard.torch._load if read == "local" else module, name, fail)
    try:
        reshard.torch.load_checkpoint(model, root, read=read, progress=False)
    except reshard.SourceError as error:
        return str(error)
    return "no error"


@pytest.mark.parametrize("read", READS)
def test_a_rank_that_fails_does_not_keep_others_waiting(checkpoints: Path, read: str) -> None:
    answers = ranks.run(
        load_one_unreadable, 2, str(checkpoints / "llama" / "hf"), read, seconds=120
    )
    assert answers == ["the disk is gone"] * 2


def count_bytes(root: str, mesh: str) -> tuple[int, int, int]:
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**WIDE))
    model = live_models.shard(model, mesh, dist.get_world_size())
    held = sum(local(p).numel() * p.element_size() for p in model.parameters())
    before = _read_by_process()
    report = reshard.torch.load_checkpoint(model, root, progress=False)
    return held, report.bytes_read, _read_by_process() - before


def _read_by_process() -> int:
    text = Path("/proc/self/io").read_text()
    return int(re.search(r"rchar: (\d+)", text)[1])


# Rows of 2 KiB, which tensor parallelism cuts in two.
WIDE = {
    "vocab_size": 4000,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
}


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """70 MB of a Llama: <kind>. Read only."""
    root = tmp_path_factory.mktemp("wide")
    model = LlamaForCausalLM(LlamaConfig(**WIDE))
    model.save_pretrained(root / "hf")
    state = {"model": {f"model.{key}": value for key, value in model.state_dict().items()}}
    dcp.save(state, checkpoint_id=root / "dcp", no_dist=True)
    return root


@pytest.mark.parametrize("mesh", ["fsdp", "hsdp", "tp-fsdp"])
@pytest.mark.parametrize("kind", ["hf", "dcp"])
def test_a_rank_reads_the_bytes_that_it_keeps(wide: Path, mesh: str, kind: str) -> None:
    answers = ranks.run(count_bytes, 4, str(wide / kind), mesh, seconds=120)
    held = sum(answer[0] for answer in answers)
    # By the library's own count, and by the system's, which has headers and messages too.
    assert sum(answer[1] for answer in answers) <= 1.05 * held
    assert sum(answer[2] for answer in answers) <= 1.05 * held


def test_not_strict_reports_what_is_missing_and_marks_memory(
    checkpoints: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "missing"
    shutil.copytree(checkpoints / "llama" / "hf", directory)
    broken(directory, "missing")
    model = live_models.on_meta("llama")
    report = reshard.torch.load_checkpoint(model, directory, strict=False, progress=False)
    name = "model.layers.1.mlp.up_proj.weight"
    assert report.missing == (name,) == report.uninitialized
    assert model.get_parameter(name).isnan().all()
    model = live_models.build("llama")
    kept = model.get_parameter(name).detach().clone()
    report = reshard.torch.load_checkpoint(model, directory, strict=False, progress=False)
    assert (report.missing, report.uninitialized) == ((name,), ())
    assert torch.equal(model.get_parameter(name), kept)


def test_not_strict_reports_what_is_unexpected(checkpoints: Path, tmp_path: Path) -> None:
    directory = tmp_path / "unexpected"
    shutil.copytree(checkpoints / "llama" / "hf", directory)
    broken(directory, "unexpected")
    model = live_models.on_meta("llama")
    report = reshard.torch.load_checkpoint(model, directory, strict=False, progress=False)
    assert report.unexpected == ("model.layers.1.mlp.extra.weight",)


class Mapped(torch.nn.Module):
    """A class whose names in memory are its own, told as transformers 4 did."""

    _checkpoint_conversion_mapping = {
        r"^visual": "model.visual",
        r"^model(?!\.(language_model|visual))": "model.language_model",
    }

    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.ModuleDict(
            {"visual": torch.nn.Linear(3, 2), "language_model": torch.nn.Linear(5, 4)}
        )
        self.register_buffer("scale", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("table", torch.ones(3), persistent=False)


def test_a_conversion_mapping_of_the_class_is_followed(tmp_path: Path) -> None:
    tensors = {
        "visual.weight": torch.randn(2, 3),
        "visual.bias": torch.randn(2),
        "model.weight": torch.randn(4, 5),
        "model.language_model.bias": torch.randn(4),
        "scale": torch.tensor([3, 4]),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    model = Mapped()
    report = reshard.torch.load_checkpoint(model, tmp_path, progress=False)
    assert report.not_stored == ("table",)
    assert torch.equal(model.model["visual"].weight, tensors["visual.weight"])
    assert torch.equal(model.model["language_model"].weight, tensors["model.weight"])
    assert torch.equal(model.model["language_model"].bias, tensors["model.language_model.bias"])
    assert torch.equal(model.scale, tensors["scale"])
    assert torch.equal(model.table, torch.ones(3))


@pytest.mark.parametrize(
    ("mapping", "key", "wanted"),
    [
        ({r"^visual": "model.visual"}, "visual.a", "model.visual.a"),
        ({r"^visual": "model.visual"}, "x.visual.a", "x.visual.a"),
        # The first pattern with a hit wins, even if a later one would fit too.
        ({r"a": "b", r"^a": "c"}, "a.a", "b.b"),
        # Groups of the replacement and its caret are the inverse's.
        ({r"^model": "^model.language_model(?!x)"}, "model.y", "model.language_model.y"),
        ({r"layers\.(\d+)": r"blocks.\1"}, "layers.12.w", "blocks.12.w"),
        ({r"(?P<n>\d+)$": r"<\g<n>>"}, "w.7", "w.<7>"),
        ({r"^model(?!\.visual)": "m"}, "model.visual.w", "model.visual.w"),
        ({r"\d": ""}, "\u0663.w", ".w"),
        ({}, "w", "w"),
    ],
)
def test_a_conversion_mapping_means_what_re_means(
    mapping: dict[str, str], key: str, wanted: str
) -> None:
    assert convert_key(key, mapping) == wanted


def lora(model: torch.nn.Module) -> torch.nn.Module:
    """Two projections with adapters, named as PEFT names them, in its wrapper."""

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base_layer = base
            self.lora_A = torch.nn.ModuleDict(
                {"default": torch.nn.Linear(base.in_features, 2, bias=False)}
            )
            self.lora_B = torch.nn.ModuleDict(
                {"default": torch.nn.Linear(2, base.out_features, bias=False)}
            )

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_model = torch.nn.Module()
            self.base_model.model = model

        def get_base_model(self) -> torch.nn.Module:
            return model

    for layer in model.model.layers:
        layer.self_attn.q_proj = Adapted(layer.self_attn.q_proj)
    return Wrapper()


def test_lora_fills_what_lies_below_the_adapters(checkpoints: Path) -> None:
    wanted = live_models.build("llama")
    model = lora(live_models.build("llama"))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    report = reshard.torch.load_checkpoint(
        model, checkpoints / "llama" / "hf", lora=True, progress=False
    )
    assert report.missing == ()
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            assert not tensor.any()
        else:
            bare = name.removeprefix("base_model.model.").replace(".base_layer", "")
            assert torch.equal(tensor, wanted.get_parameter(bare)), name
    with pytest.raises(reshard.MappingError, match="missing"):
        reshard.torch.load_checkpoint(model, checkpoints / "llama" / "hf", progress=False)


def test_a_broken_tie_is_restored(checkpoints: Path) -> None:
    model = live_models.on_meta("llama-tied").to_empty(device="cpu")
    head, embedding = model.lm_head, model.model.embed_tokens
    head.weight = torch.nn.Parameter(torch.empty_like(embedding.weight))
    report = reshard.torch.load_checkpoint(model, checkpoints / "llama-tied" / "hf", progress=False)
    assert report.tied
    assert head.weight is embedding.weight
    assert torch.equal(head.weight, live_models.build("llama-tied").lm_head.weight)


def test_a_tied_tensor_that_is_stored_twice_must_be_the_same_twice(
    checkpoints: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "twice"
    shutil.copytree(checkpoints / "llama-tied" / "hf", directory)
    tensors = load_file(directory / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, directory / "model.safetensors")
    model = live_models.on_meta("llama-tied")
    reshard.torch.load_checkpoint(model, directory, progress=False)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    tensors["lm_head.weight"][3, 3] += 1
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(reshard.SourceError, match=r"lm_head\.weight"):
        reshard.torch.load_checkpoint(live_models.on_meta("llama-tied"), directory, progress=False)


def test_values_are_cast_to_the_models_types(checkpoints: Path) -> None:
    model = live_models.on_meta("llama")
    reshard.torch.load_checkpoint(
        model, checkpoints / "llama" / "hf", dtype=torch.bfloat16, progress=False
    )
    for name, tensor in live_models.build("llama").named_parameters():
        assert torch.equal(model.get_parameter(name), tensor.to(torch.bfloat16)), name
    with pytest.raises(reshard.UsageError, match="as asked for"):
        reshard.torch.load_checkpoint(
            live_models.build("llama"),
            checkpoints / "llama" / "hf",
            dtype=torch.bfloat16,
            progress=False,
        )


@pytest.mark.parametrize("name", ["llama", "qwen3-moe"])
@pytest.mark.parametrize("read", READS)
def test_float8_weights_are_multiplied_by_their_scales(
    checkpoints: Path, name: str, read: str, tmp_path: Path
) -> None:
    """The model's config says nothing of blocks: the one beside the weights does."""
    hub = checkpoints / name / "hf"
    config = json.loads((hub / "config.json").read_text())
    products = float8.quantize(tmp_path / "fp8", load_file(hub / "model.safetensors"), config, 12)
    plain = tmp_path / "plain"
    shutil.copytree(hub, plain)
    save_file(products, plain / "model.safetensors", {"format": "pt"})
    models = []
    for directory, dequantize in ((tmp_path / "fp8", True), (plain, False)):
        models.append(live_models.on_meta(name))
        reshard.torch.load_checkpoint(
            models[-1],
            directory,
            dequantize=dequantize,
            read=read,
            dtype=torch.bfloat16,
            progress=False,
        )
    assert not differences(*models)
    with pytest.raises(reshard.MappingError, match="dequantize=True"):
        reshard.torch.load_checkpoint(
            live_models.on_meta(name), tmp_path / "fp8", read=read, progress=False
        )


def test_a_buffer_that_nothing_can_fill_is_an_error(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    with torch.device("meta"):
        model = torch.nn.Module()
        model.weight = torch.nn.Parameter(torch.empty(2))
        model.register_buffer("table", torch.empty(3), persistent=False)
    with pytest.raises(reshard.MappingError, match="table"):
        reshard.torch.load_checkpoint(model, tmp_path, progress=False)


def test_a_state_dict_saved_as_it_is_needs_no_recipe(tmp_path: Path) -> None:
    model = live_models.build("qwen3-moe")
    optimizer = {f"optimizer.state.{name}.step": torch.ones(1) for name in model.state_dict()}
    dcp.save(model.state_dict() | optimizer, checkpoint_id=tmp_path, no_dist=True)
    fresh = live_models.on_meta("qwen3-moe")
    report = reshard.torch.load_checkpoint(fresh, tmp_path, progress=False)
    assert report.left_out == len(optimizer)
    assert differences(fresh, model) == []


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        (["model.safetensors"], True),
        (["model.safetensors.index.json"], True),
        (["model-00001-of-00002.safetensors"], False),
        ([".metadata", "__0_0.distcp", "latest_checkpointed_iteration.txt"], False),
        ([], False),
    ],
)
def test_what_looks_like_hugging_face_weights(
    tmp_path: Path, files: list[str], wanted: bool
) -> None:
    for name in files:
        (tmp_path / name).touch()
    assert reshard.torch.looks_like_hf_weight_dir(tmp_path) is wanted
    assert mindspeed.looks_like_hf_weight_dir(str(tmp_path)) is wanted
    assert reshard.torch.looks_like_hf_weight_dir(None) is False


@pytest.mark.parametrize("broadcast", [False, True])
def test_mindspeeds_loader_is_replaced(
    checkpoints: Path, tmp_path: Path, broadcast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    load: Callable[..., bool] = mindspeed.load_hf_checkpoint
    model = live_models.on_meta("llama")
    directory = checkpoints / "llama" / "hf"
    assert load(model, str(directory), load_rank0_and_broadcast=broadcast) is True
    assert differences(model, live_models.build("llama")) == []
    bad = tmp_path / "bad"
    shutil.copytree(directory, bad)
    broken(bad, "missing")
    assert load(live_models.build("llama"), str(bad), load_rank0_and_broadcast=broadcast) is True
    assert "model.layers.1.mlp.up_proj.weight" in caplog.text
    with pytest.raises(RuntimeError, match=r"1 parameter key\(s\) absent"):
        load(live_models.build("llama"), str(bad), load_strict=True)


def test_a_config_of_another_model_says_which_shapes_differ(checkpoints: Path) -> None:
    model = live_models.build("llama")
    config = json.loads((checkpoints / "llama" / "hf" / "config.json").read_text())
    assert model.config.intermediate_size == config["intermediate_size"]
    other = type(model)(type(model.config)(**config | {"intermediate_size": 57}))
    with pytest.raises(reshard.MappingError, match=r"mlp\.down_proj\.weight: \[32, 56\]"):
        reshard.torch.load_checkpoint(other, checkpoints / "llama" / "hf", progress=False)


def test_the_example_loads_on_two_ranks() -> None:
    lines = cli.example("load_into_fsdp2.py", ranks=2)
    assert lines[0] == "21 tensors, by recipe transformers-runtime/dense"
    assert lines[-1] == "logits [1, 8, 96], finite: True"
