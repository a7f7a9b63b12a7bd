"""A model that is compiled, parallel or checkpointed is saved and loaded as the model itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import reshard
import reshard.torch
import torch
import torch.distributed as dist
from harness import compare
from safetensors.torch import load_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False,
)  # fmt: skip


def build(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(CONFIG)


def compiled(model: LlamaForCausalLM) -> nn.Module:
    wrapped: nn.Module = torch.compile(model)  # nothing is compiled before the first forward pass
    return wrapped


def compiled_layer(model: LlamaForCausalLM) -> nn.Module:
    model.model.layers[1] = torch.compile(model.model.layers[1])
    return model


def checkpointed(model: LlamaForCausalLM) -> nn.Module:
    for number, layer in enumerate(model.model.layers):
        model.model.layers[number] = checkpoint_wrapper(layer)
    return model


def parallel(model: LlamaForCausalLM) -> nn.Module:
    return nn.parallel.DistributedDataParallel(model)


def all_of_them(model: LlamaForCausalLM) -> nn.Module:
    return compiled(parallel(compiled_layer(checkpointed(model))))


WRAPPERS: list[Callable[[LlamaForCausalLM], nn.Module]] = [
    compiled, compiled_layer, checkpointed, parallel, nn.DataParallel, all_of_them,
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_process() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers saves of the model that nothing wraps."""
    directory = tmp_path_factory.mktemp("expected")
    build().save_pretrained(directory)
    return directory


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda wrap: wrap.__name__)
def test_saved_as_the_model_itself(
    wrap: Callable[[LlamaForCausalLM], nn.Module], expected: Path, out: Path
) -> None:
    reshard.torch.save_checkpoint(wrap(build()), out)
    compare.assert_same_tensors(
        load_file(out / "model.safetensors"), load_file(expected / "model.safetensors")
    )
    model, told = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert type(model) is LlamaForCausalLM
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda wrap: wrap.__name__)
def test_loaded_as_the_model_itself(
    wrap: Callable[[LlamaForCausalLM], nn.Module], expected: Path
) -> None:
    model = build(seed=1)
    report = reshard.torch.load_checkpoint(wrap(model), expected, progress=False)
    assert not report.missing
    wanted = build().state_dict()
    for (name, tensor), other in zip(model.state_dict().items(), wanted.values(), strict=True):
        assert torch.equal(tensor, other), name


@pytest.mark.parametrize("wrap", WRAPPERS, ids=lambda wrap: wrap.__name__)
def test_state_dicts(
    wrap: Callable[[LlamaForCausalLM], nn.Module], expected: Path, out: Path
) -> None:
    reshard.torch.save_checkpoint(wrap(build()).state_dict(), out)
    compare.assert_same_tensors(
        load_file(out / "model.safetensors"), load_file(expected / "model.safetensors")
    )


def test_a_child_that_is_called_module(out: Path) -> None:
    """Only DDP's is left out of names."""
    model = nn.ModuleDict({"module": nn.Linear(2, 3), "other": nn.Linear(3, 2)})
    for number, given in enumerate((model, model.state_dict())):
        destination = out.with_name(f"out{number}")
        reshard.torch.save_checkpoint(given, destination)
        compare.assert_same_tensors(
            load_file(destination / "model.safetensors"), dict(model.state_dict())
        )


def test_names_that_would_become_one(out: Path) -> None:
    state = {"w": torch.ones(2), "_orig_mod.w": torch.zeros(2)}
    with pytest.raises(reshard.UsageError, match="another tensor is 'w' too"):
        reshard.torch.save_checkpoint(state, out)
