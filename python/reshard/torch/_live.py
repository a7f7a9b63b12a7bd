"""A live model as names and tensors: wrappers' prefixes, ties, LoRA, and what config it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from reshard import _core

from ._shards import Shape

# Under which names wrappers hold what they wrap: activation checkpointing, torch.compile, old FSDP.
_WRAPPED = ("_checkpoint_wrapped_module", "_orig_mod", "_fsdp_wrapped_module")
_IN_NAMES = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(_WRAPPED)})\.")
_PARALLEL = (nn.parallel.DistributedDataParallel, nn.DataParallel)


@dataclass
class Entry:
    """A parameter or a persistent buffer, and all names that it has."""

    names: list[str]  # as the model's own state dict has them, wrappers' prefixes left out
    places: list[tuple[nn.Module, str]]  # the modules that hold it, and under which attribute
    is_parameter: bool
    was_meta: bool = False  # before it was given memory

    @property
    def tensor(self) -> torch.Tensor:
        module, attribute = self.places[0]
        found = (module._parameters if self.is_parameter else module._buffers)[attribute]
        assert found is not None
        return found

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def shape(self) -> Shape:
        return tuple(self.tensor.shape)

    @property
    def is_adapter(self) -> bool:
        return "lora_" in self.name


@dataclass
class LiveModel:
    """What a model wants to have loaded, or saved."""

    entries: list[Entry]
    scratch: list[Entry] = field(default_factory=list)  # buffers that no checkpoint holds

    def by_name(self) -> dict[str, Entry]:
        return {name: entry for entry in self.entries for name in entry.names}


def describe(model: nn.Module) -> LiveModel:
    """The parameters and buffers of a model; a tensor in several places is one entry."""
    entries: dict[int, Entry] = {}
    live = LiveModel([])
    for name, module, attribute, is_parameter, persists in _places(model):
        tensor = (module._parameters if is_parameter else module._buffers)[attribute]
        if tensor is None:
            continue
        known = entries.get(id(tensor))
        if known is not None:
            known.names.append(name)
            known.places.append((module, attribute))
            continue
        entry = Entry([name], [(module, attribute)], is_parameter)
        entries[id(tensor)] = entry
        (live.entries if persists else live.scratch).append(entry)
    return live


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, bool, bool]]:
    for path, module in _modules(model, ""):
        for attribute in module._parameters:
            yield path + attribute, module, attribute, True, True
        for attribute in module._buffers:
            persists = attribute not in module._non_persistent_buffers_set
            yield path + attribute, module, attribute, False, persists


def _modules(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """A module and all below it by path; what wraps another adds nothing to the path."""
    yield path, module
    inner = _wrapped(module)
    for name, child in module._modules.items():
        if child is not None:
            yield from _modules(child, path if child is inner else f"{path}{name}.")


def _wrapped(module: nn.Module) -> nn.Module | None:
    """What a wrapper wraps; a child called "module" is that of DDP alone."""
    names = ("module",) if isinstance(module, _PARALLEL) else _WRAPPED
    return next((module._modules[name] for name in names if name in module._modules), None)


def unwrapped_names(names: Iterable[str]) -> dict[str, str]:
    """Names of a state dict -> those of the model that was wrapped when it was taken."""
    plain = {name: _IN_NAMES.sub("", name) for name in names}
    # DDP's "module." stands before all names, or DDP was not there.
    if plain and all(name.startswith("module.") for name in plain.values()):
        plain = {name: inner.removeprefix("module.") for name, inner in plain.items()}
    return plain


def base_name(name: str) -> str:
    """The name that a tensor has in the model without PEFT's wrapper."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def base_model(model: nn.Module) -> nn.Module:
    """The model within wrappers, PEFT's included, or the model itself."""
    model = _unwrapped(model)
    get = getattr(model, "get_base_model", None)
    found = get() if callable(get) else model
    return _unwrapped(found) if isinstance(found, nn.Module) else model


def _unwrapped(model: nn.Module) -> nn.Module:
    while (inner := _wrapped(model)) is not None:
        model = inner
    return model


def class_names(model: nn.Module) -> list[str]:
    """The model's class and those it is derived from: fully_shard makes one of its own."""
    return [cls.__name__ for cls in type(base_model(model)).__mro__]


def config_json(model: nn.Module) -> str:
    """The model's config as the text of a config.json, its class named; empty where it has none."""
    config = getattr(base_model(model), "config", None)
    if config is None:
        return ""
    fields = config if isinstance(config, dict) else getattr(config, "to_dict", dict)()
    names = class_names(model)
    known = [name for name in names if _core.recipe_for("transformers-runtime", [name])]
    fields = dict(fields) | {"architectures": known[:1] or names[:1]}
    return json.dumps(fields, default=str)


def runtime_recipe(model: nn.Module) -> str:
    """The recipe between the model's names in memory and the hub's; empty where there is none."""
    return next(
        (
            recipe
            for name in class_names(model)
            if (recipe := _core.recipe_for("transformers-runtime", [name]))
        ),
        "",
    )


def wants_tie(model: nn.Module) -> bool:
    """Whether the config ties input and output embeddings: a nested text config may forbid it."""
    config: Any = getattr(base_model(model), "config", None)
    if config is None:
        return False
    get = getattr(config, "get_text_config", None)
    text = get(decoder=True) if callable(get) else config
    flags = [
        bool(part.tie_word_embeddings)
        for part in (config, text)
        if getattr(part, "tie_word_embeddings", None) is not None
    ]
    return bool(flags) and all(flags)


def restore_tie(model: nn.Module) -> bool:
    """Makes the output embeddings the input's again, where the config wants it and they are not."""
    base = base_model(model)
    if not wants_tie(model):
        return False
    ends = []
    for get in ("get_input_embeddings", "get_output_embeddings"):
        function = getattr(base, get, None)
        module = function() if callable(function) else None
        if module is None or "weight" not in getattr(module, "_parameters", {}):
            return False
        ends.append(module)
    source, target = ends
    if target._parameters["weight"] is source._parameters["weight"]:
        return False
    target._parameters["weight"] = source._parameters["weight"]
    return True
