"""State dicts in another flavor's names; what is only renamed or cut stays where it is."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from .. import _core, _errors
from .._progress import warn
from ._distribute import Layout, Placements, distributed, laid_out, on_mesh
from ._shards import Shape, dtype_name, local_tensor, narrow
from ._views import Node, View, evaluate

logger = logging.getLogger("reshard")

HUB = ("hf", "hub")


class StateDictAdapter:
    """Turns a model's state dict into the hub's names and back, by a recipe.

    `recipe` is a flavor ("megatron-core"), a built-in recipe ("torchtitan/llama3") or a file.
    `config` says the model's sizes: a config of transformers, a dict, or a path to a config.json or
    to the directory that has one.

    A state dict has tensors, DTensors, tensors on the meta device, or (shape, dtype) in the place
    of a tensor, which becomes one on the meta device. It is never changed itself. Results are views
    of its tensors where these are contiguous: what is written into one is then in the other.
    A DTensor of which a rank needs another part than it has is redistributed, one tensor at a time;
    all ranks of its mesh must call alike.
    """

    def __init__(self, recipe: str | os.PathLike[str], config: Any = None) -> None:
        self.recipe = os.fspath(recipe)
        self._config_json = config_json(config)

    def to_hf(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The state dict of the recipe's flavor, under the names of a Hugging Face checkpoint."""
        return self._convert(state_dict, self.recipe, "", {})

    def from_hf(
        self,
        hf_state_dict: Mapping[str, Any],
        like: Mapping[str, Layout | None] | None = None,
    ) -> dict[str, Any]:
        """The inverse. With `like` (see `layouts`), tensors lie on their mesh as is said there."""
        return self._convert(hf_state_dict, "identity", self.recipe, like or {})

    def to(self, flavor: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """The state dict of the recipe's flavor as another flavor or recipe has it."""
        target = os.fspath(flavor)
        return self._convert(state_dict, self.recipe, "" if target in HUB else target, {})

    def _convert(
        self,
        state_dict: Mapping[str, Any],
        source: str,
        target: str,
        like: Mapping[str, Layout | None],
    ) -> dict[str, Any]:
        tensors = _tensors(state_dict)
        core = _core.map_live(
            [_declared(name, tensor) for name, tensor in tensors.items()],
            [],
            source,
            target,
            self._config_json,
            warn,
        )
        views = {
            name: View.parse(core.expression(number))
            for number, (name, _, _) in enumerate(core.tensors())
        }
        with torch.no_grad():
            _warn_of_lost(tensors, views, {name for name, _, _ in core.dropped()})
            return _evaluate_all(views, tensors, like)


def layouts(state_dict: Mapping[str, Any]) -> dict[str, Layout | None]:
    """How the tensors of a state dict lie on their meshes: None for one that is no DTensor."""
    return {name: Layout.of(tensor) for name, tensor in state_dict.items()}


def config_json(config: Any) -> str:
    """The text of a config.json, from whatever has it."""
    if config is None:
        return ""
    if isinstance(config, Mapping):
        return json.dumps(dict(config))
    if isinstance(config, str | os.PathLike):
        path = Path(config)
        return (path / "config.json" if path.is_dir() else path).read_text()
    if hasattr(config, "to_json_string"):  # of transformers
        return str(config.to_json_string(use_diff=False))
    raise _errors.make(
        _errors.UsageError,
        found=f"a config of the type {type(config).__qualname__}",
        expected="a config of transformers, a dict, or the path of a config.json",
        help="for a model of torchtitan use reshard.torchtitan.StateDictAdapter",
    )


def _tensors(state_dict: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What of a state dict are tensors; the rest is named in a warning."""
    tensors: dict[str, torch.Tensor] = {}
    others: list[str] = []
    for name, value in state_dict.items():
        if isinstance(value, torch.Tensor):
            tensors[name] = value.detach() if value.requires_grad else value
        elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], torch.dtype):
            tensors[name] = torch.empty(value[0], dtype=value[1], device="meta")
        else:
            others.append(name)
    if others:
        logger.warning("%d values are no tensors and left out: %s", len(others), _some(others))
    return tensors


def _declared(
    name: str, tensor: torch.Tensor
) -> tuple[str, str, Shape, list[tuple[int, Shape, Shape]]]:
    shape = tuple(tensor.shape)
    return name, dtype_name(tensor.dtype), shape, [(0, (0,) * len(shape), shape)]


def _evaluate_all(
    views: Mapping[str, View],
    tensors: Mapping[str, torch.Tensor],
    like: Mapping[str, Layout | None],
) -> dict[str, Any]:
    """Goes from source to source, so that only one at a time is held as it is redistributed."""
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    uses = Counter(name for view in views.values() for name in view.sources)
    cache: dict[str, dict[Placements, DTensor]] = {}
    made: dict[str, Any] = {}
    for name in sorted(views, key=lambda name: (min(views[name].sources, default=""), name)):
        view = views[name]
        result = _evaluate(view, [tensors[source] for source in view.sources], cache, device)
        layout = like.get(name)
        made[name] = result if layout is None else laid_out(result, layout)
        for source in view.sources:
            uses[source] -= 1
            if not uses[source]:
                cache.pop(source, None)
    return {name: made[name] for name in views}


def _evaluate(
    view: View,
    sources: list[torch.Tensor],
    cache: dict[str, dict[Placements, DTensor]],
    device: torch.device,
) -> torch.Tensor:
    node = view.root
    if node.op == "source":
        return sources[0]
    meshes = {source.device_mesh for source in sources if isinstance(source, DTensor)}
    if len(meshes) > 1:
        raise _errors.make(
            _errors.MappingError,
            found=f"tensors on {len(meshes)} meshes that become one: {_some(view.sources)}",
            expected="tensors on one mesh",
            help="redistribute them to one mesh first",
        )
    if meshes:
        mesh = meshes.pop()
        return distributed(view, [on_mesh(source, mesh) for source in sources], cache)
    if 0 in node.shape:
        return torch.empty(node.shape, dtype=node.dtype, device=device)

    def leaf(at: Node, start: Shape, extent: Shape) -> torch.Tensor:
        if at.op == "fill":
            where = sources[0].device if sources else device
            return torch.full(extent, at.value, dtype=at.dtype, device=where)
        return narrow(sources[at.source], start, extent)

    return evaluate(node, (0,) * len(node.shape), node.shape, leaf).contiguous()


def _warn_of_lost(
    tensors: Mapping[str, torch.Tensor], views: Mapping[str, View], dropped: set[str]
) -> None:
    """Warns of tensors without a place in the target, but for zeros and copies of others."""
    used = {source for view in views.values() for source in view.sources}
    lost = [
        name
        for name in tensors
        if name not in used | dropped and _says_more(tensors[name], [tensors[n] for n in used])
    ]
    if lost:
        logger.warning("not zero, but without a place there, and left out: %s", _some(lost))


def _says_more(tensor: torch.Tensor, others: list[torch.Tensor]) -> bool:
    local = local_tensor(tensor)
    if local.is_meta or not local.count_nonzero():
        return False
    return not any(
        _same(local, local_tensor(other))
        for other in others
        if other.shape == tensor.shape and Layout.of(other) == Layout.of(tensor)
    )


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a.data_ptr() == b.data_ptr() and a.dtype == b.dtype) or torch.equal(a, b)


def _some(names: list[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return shown if len(names) <= 5 else f"{shown}, and {len(names) - 5} more"
