"""Weights of any checkpoint straight into a live model: each rank reads the bytes that it keeps."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from reshard import _core, _errors
from reshard._progress import Progress, ProgressFn, reporting, warn
from reshard._words import DType, dtype_name, names_keywords

from . import _live, _ranks
from ._broadcast import read_and_broadcast
from ._live import Entry, LiveModel
from ._match import Match, Summary, Want, match, some, wanted_names, wants_of
from ._memory import Filled, Read, read_here
from ._shards import dtype_name as torch_dtype_name
from ._shards import local_tensor, torch_dtype

Read_ = Literal["local", "rank0-broadcast"]


@dataclass(frozen=True)
class LoadReport:
    """What a load has done, on this rank."""

    kind: str  # of the checkpoint: dcp, hf, megatron, pt
    recipe: str
    loaded: tuple[str, ...]  # parameters and buffers, by the model's names
    missing: tuple[str, ...] = ()  # the model's, not in the checkpoint; left as they were
    unexpected: tuple[str, ...] = ()  # the checkpoint's, without a place in any rank's model
    left_out: int = 0  # the checkpoint's tensors that are no weights: an optimizer's
    not_stored: tuple[str, ...] = ()  # buffers that no checkpoint holds
    # Of missing and not_stored: what was on the meta device before and is NaN now.
    uninitialized: tuple[str, ...] = ()
    tied: bool = False  # output embeddings were made the input's again
    bytes_filled: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    overflows: Mapping[str, int] = field(default_factory=dict)


def looks_like_hf_weight_dir(path: str | os.PathLike[str] | None) -> bool:
    """Whether a directory holds Hugging Face weights in safetensors, in one file or in several."""
    names = ("model.safetensors", "model.safetensors.index.json")
    if not path:
        return False
    return any(os.path.isfile(os.path.join(path, name)) for name in names)


@names_keywords
def load_checkpoint(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    strict: bool = True,
    lora: bool = False,
    read: Read_ = "local",
    dtype: DType | None = None,
    load_format: str = "auto",
    from_recipe: str = "auto",
    from_layout: str = "",
    dequantize: bool = False,
    ignore: Sequence[str] = (),
    device: torch.device | str | None = None,
    group: Any = None,
    jobs: int = 0,
    progress: Progress = True,
) -> LoadReport:
    """Fills the parameters and persistent buffers of `model` from a checkpoint of any kind.

    Works for plain modules and for those of FSDP2, HSDP and tensor parallelism, materialized or on
    the meta device (then on `device`, and in `dtype`, if given, where floating). Every rank of
    `group` calls it, with the same arguments. With `read="local"` each rank reads just the bytes
    of its own shards; with `"rank0-broadcast"` the first one reads all, once, and the files need
    not be seen by others.

    `recipe` is the flavor of the model's names, told from its class if not given; `from_recipe`
    that of the checkpoint. With `dequantize` float8 weights are multiplied by their scales. With
    `lora` the weights below PEFT's adapters are filled, not the adapters.

    Everything is looked at before the model is touched. A tensor without its like is an error
    (MappingError) with `strict`, else reported; a tensor of another shape always is one.
    """
    start = time.monotonic()
    broadcasts = _is_broadcast(read)
    wanted_type = None if dtype is None else torch_dtype(dtype_name(dtype))
    source = _Source(path, recipe, load_format, from_recipe, from_layout, dequantize, ignore)
    with _ranks.agreeing(group):
        found = _look(model, source, wanted_type, lora, not broadcasts or _ranks.rank(group) == 0)
    summary, wants = _told_by_all(found, broadcasts, group)
    # From here on to the end of a load all ranks know the same, so they decide alike.
    matched = match(summary, wants, found.wanted, lora, strict)
    with _ranks.agreeing(group):
        uninitialized = _make_room(model, found.live, matched, wanted_type, device, strict)
    with (
        reporting(progress, f"loading {summary.kind}") as on_progress,
        torch.no_grad(),
        _ranks.agreeing(group),
    ):
        filled = _fill(found, summary, matched, broadcasts, group, jobs, on_progress)
    return LoadReport(
        kind=summary.kind,
        recipe=summary.recipe,
        loaded=tuple(entry.name for _, entry in matched.pairs),
        missing=tuple(matched.missing),
        unexpected=tuple(matched.unexpected),
        left_out=matched.left_out,
        not_stored=tuple(entry.name for entry in found.live.scratch),
        uninitialized=tuple(uninitialized),
        tied=found.tied,
        bytes_filled=filled.bytes_filled,
        bytes_read=filled.bytes_read,
        seconds=time.monotonic() - start,
        overflows=filled.overflows,
    )


def _is_broadcast(read: str) -> bool:
    if read not in ("local", "rank0-broadcast"):
        raise _errors.make(
            _errors.UsageError,
            found=f"read={read!r}",
            expected="'local' or 'rank0-broadcast'",
        )
    return read == "rank0-broadcast"


@dataclass(frozen=True)
class _Source:
    """What is to be opened, and how."""

    path: str | os.PathLike[str]
    recipe: str | None
    load_format: str
    from_recipe: str
    from_layout: str
    dequantize: bool
    ignore: Sequence[str]


@dataclass
class _Opened:
    core: _core.Checkpoint
    rename: Callable[[str], str]

    def summary(self) -> Summary:
        tensors = [(self.rename(name), dtype, shape) for name, dtype, shape in self.core.tensors()]
        return Summary(self.core.kind, self.core.recipe, tensors, len(self.core.dropped()))


@dataclass(frozen=True)
class _Found:
    """What a rank has found before the model is touched."""

    live: LiveModel
    wanted: dict[str, Entry]
    wants: dict[str, Want]
    opened: _Opened | None  # none: another rank reads
    tied: bool


def _look(
    model: nn.Module, source: _Source, dtype: torch.dtype | None, lora: bool, opens: bool
) -> _Found:
    tied = _live.restore_tie(model)
    live = _live.describe(model)
    _check_types(live, dtype)
    wanted = wanted_names(live, lora)
    opened = _open(model, source, wanted) if opens else None
    return _Found(live, wanted, wants_of(wanted, dtype), opened, tied)


def _told_by_all(found: _Found, broadcasts: bool, group: Any) -> tuple[Summary, dict[str, Want]]:
    """What the checkpoint holds, as the first rank may have to tell, and what any rank wants."""
    own = found.opened.summary() if found.opened else None
    answers = _ranks.gather((found.wants, own if broadcasts else None), group)
    summary = own or answers[0][1]
    return summary, {name: want for wants, _ in answers for name, want in wants.items()}


def _open(model: nn.Module, source: _Source, wanted: Mapping[str, Entry]) -> _Opened:
    def open_as(from_recipe: str, to_recipe: str) -> _core.Checkpoint:
        return _core.Checkpoint.open(
            os.fspath(source.path),
            source.load_format,
            source.from_layout,
            from_recipe,
            to_recipe,
            "",
            config,
            source.dequantize,
            True,
            source.ignore,
            warn,
        )

    config = _live.config_json(model)
    mapping = getattr(_live.base_model(model), "_checkpoint_conversion_mapping", None) or {}
    if source.recipe is None and mapping:
        return _Opened(open_as(source.from_recipe, ""), lambda name: convert_key(name, mapping))
    target = _live.runtime_recipe(model) if source.recipe is None else source.recipe
    # A state dict that was saved as it is needs no recipe; what these formats hold never is one.
    by_recipe = source.load_format in ("hf", "megatron") or (
        source.load_format == "auto" and looks_like_hf_weight_dir(source.path)
    )
    if source.from_recipe == "auto" and source.recipe is None and not by_recipe:
        own = open_as("identity", "")
        if own.kind not in ("hf", "megatron") and _holds(own, wanted):
            return _Opened(own, str)
    return _Opened(open_as(source.from_recipe, target), str)


def _holds(core: _core.Checkpoint, wanted: Mapping[str, Entry]) -> bool:
    stored = {name: shape for name, _, shape in core.tensors()}
    return all(stored.get(name) == entry.shape for name, entry in wanted.items())


def convert_key(key: str, mapping: Mapping[str, str]) -> str:
    """A hub name as a class with a `_checkpoint_conversion_mapping` has it: the first pattern wins.

    Groups of the replacement say what the inverse looks for; they are no text of the name.
    """
    for pattern, replacement in mapping.items():
        replacement = re.sub(r"\(.*\)", "", replacement.lstrip("^"))
        new_key, count = re.subn(pattern, replacement, key)
        if count > 0:
            return new_key
    return key


def _check_types(live: LiveModel, dtype: torch.dtype | None) -> None:
    for entry in live.entries:
        tensor = entry.tensor
        if dtype and tensor.is_floating_point() and not tensor.is_meta and tensor.dtype != dtype:
            raise _errors.make(
                _errors.UsageError,
                found=f"the model has it in {torch_dtype_name(tensor.dtype)}",
                expected=f"{torch_dtype_name(dtype)}, as asked for, or the meta device",
                tensor=entry.name,
                help="leave dtype out: what is read is cast to the model's own types",
            )


def _make_room(
    model: nn.Module,
    live: LiveModel,
    matched: Match,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    strict: bool,
) -> list[str]:
    """Gives memory to what has none; tells which of it nothing will fill."""
    _materialize(live, dtype, device)
    uninitialized = _initialize_rest(model, live, matched)
    if strict and uninitialized:
        raise _not_initialized(uninitialized)
    return uninitialized


def _materialize(
    live: LiveModel,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> None:
    """Gives what is on the meta device memory, without values, and keeps ties."""
    for entry in [*live.entries, *live.scratch]:
        tensor = entry.tensor
        if not tensor.is_meta:
            continue
        place = device
        if place is None:
            mesh = getattr(tensor, "device_mesh", None)
            place = mesh.device_type if mesh is not None else "cpu"
        fresh = torch.empty_like(
            tensor,
            device=place,
            dtype=dtype if dtype and tensor.is_floating_point() else tensor.dtype,
        )
        for module, attribute in entry.places:
            if not entry.is_parameter:
                module._buffers[attribute] = fresh
                continue
            old = module._parameters[attribute]
            assert old is not None
            if module is entry.places[0][0]:
                parameter = nn.Parameter(fresh, requires_grad=old.requires_grad)
            module._parameters[attribute] = parameter
        entry.was_meta = True


def _initialize_rest(model: nn.Module, live: LiveModel, matched: Match) -> list[str]:
    """Marks memory that nothing fills, lets the model fill it, and tells what is left."""
    missing = set(matched.missing)
    rest = [entry for entry in live.entries if entry.was_meta and entry.name in missing]
    rest += [entry for entry in live.scratch if entry.was_meta]
    if not rest:
        return []
    with torch.no_grad():
        for entry in rest:
            tensor = entry.tensor
            tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
        initialize = getattr(_live.base_model(model), "_init_weights", None)
        done: set[int] = set()
        for entry in rest:
            module = entry.places[0][0]
            own = [p for p in module._parameters.values() if p is not None]
            # Only modules that have nothing else: what was loaded stays.
            if (
                callable(initialize)
                and not own
                and not entry.is_parameter
                and id(module) not in done
            ):
                done.add(id(module))
                initialize(module)
        left = []
        for entry in rest:
            tensor = entry.tensor
            if not tensor.is_floating_point() or bool(torch.isnan(tensor).any()):
                left.append(entry.name)
    return left


def _not_initialized(names: Sequence[str]) -> _errors.Error:
    return _errors.make(
        _errors.MappingError,
        found=f"{len(names)} tensors were on the meta device and no checkpoint holds them: "
        f"{some(names)}",
        expected="buffers that are not saved made by the model itself",
        tensor=names[0],
        help="build the model with those buffers in memory, or fill them after strict=False",
    )


def _fill(
    found: _Found,
    summary: Summary,
    matched: Match,
    broadcasts: bool,
    group: Any,
    jobs: int,
    on_progress: ProgressFn | None,
) -> Filled:
    core = found.opened.core if found.opened else None
    if broadcasts:
        filled = read_and_broadcast(
            core, summary.tensors, matched.types, matched.reads(), group, jobs, on_progress
        )
    else:
        assert core is not None
        share = (_ranks.rank(group), _ranks.world(group))
        filled = read_here(core, matched.reads(), jobs, on_progress, share)
    if core is not None:
        filled.bytes_read += _compare_twins(core, matched.twins, jobs)
    return filled


def _compare_twins(core: _core.Checkpoint, twins: list[tuple[int, Entry, int]], jobs: int) -> int:
    """A tied tensor that is stored twice must be the same twice."""
    total = 0
    for number, entry, first in twins:
        if _origins(core, number) == _origins(core, first):
            continue  # the recipe repeats it
        other = torch.empty_like(entry.tensor)
        total += read_here(core, [Read(number, entry.name, other)], jobs, None, (0, 0)).bytes_read
        if not torch.equal(local_tensor(entry.tensor), local_tensor(other)):
            raise _errors.make(
                _errors.SourceError,
                found="the checkpoint has another tensor under another of its names",
                expected="the same twice, as the model ties them: " + ", ".join(entry.names),
                tensor=entry.name,
                help="set tie_word_embeddings to false in the model's config",
            )
    return total


def _origins(core: _core.Checkpoint, number: int) -> set[str]:
    shape = core.tensors()[number][2]
    return {name for name, _, _ in core.origins(number, [0] * len(shape), shape)}
