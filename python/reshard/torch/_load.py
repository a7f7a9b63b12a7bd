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
from reshard._progress import Progress, reporting, warn

from . import _live, _ranks
from ._broadcast import read_and_broadcast
from ._live import Entry, LiveModel
from ._memory import Read, read_here
from ._shards import dtype_name, local_tensor

Read_ = Literal["local", "rank0-broadcast"]

_SHOWN = 5  # names in an error


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


@dataclass
class _Match:
    """Which tensor of the checkpoint goes where."""

    pairs: list[tuple[int, Entry]] = field(default_factory=list)
    # Stored again under another of its names: number, tensor, number of the first.
    twins: list[tuple[int, Entry, int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    left_out: int = 0


def looks_like_hf_weight_dir(path: str | os.PathLike[str] | None) -> bool:
    """Whether a directory holds Hugging Face weights in safetensors, in one file or in several."""
    names = ("model.safetensors", "model.safetensors.index.json")
    if not path:
        return False
    return any(os.path.isfile(os.path.join(path, name)) for name in names)


def load_checkpoint(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    strict: bool = True,
    lora: bool = False,
    read: Read_ = "local",
    dtype: torch.dtype | None = None,
    load_format: str = "auto",
    from_recipe: str = "auto",
    from_layout: str = "",
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
    that of the checkpoint. With `lora` the weights below PEFT's adapters are filled, not the
    adapters.

    Everything is looked at before the model is touched. A tensor without its like is an error
    (MappingError) with `strict`, else reported; a tensor of another shape always is one.
    """
    start = time.monotonic()
    if read not in ("local", "rank0-broadcast"):
        raise _errors.make(
            _errors.UsageError,
            found=f"read={read!r}",
            expected="'local' or 'rank0-broadcast'",
        )
    broadcasts = read == "rank0-broadcast"
    opened: _Opened | None = None
    tied = False
    live = LiveModel([])
    mine: _Answer | Exception
    try:
        tied = _live.restore_tie(model)
        live = _live.describe(model)
        _check_types(live, dtype)
        wanted = _wanted_names(live, lora)
        if not broadcasts or _ranks.rank(group) == 0:
            opened = _open(
                model, path, wanted, recipe, load_format, from_recipe, from_layout, ignore
            )
        mine = _Answer(_wants(wanted, dtype), opened.summary() if broadcasts and opened else None)
    except Exception as caught:
        mine = caught
    answers = _ranks.all_well(mine, group)
    summary = opened.summary() if opened else answers[0].summary
    assert summary is not None
    wants = {name: want for answer in answers for name, want in answer.wants.items()}
    # From here on to the end of a load all ranks know the same, so they decide alike.
    match = _match(summary, wants, wanted, lora, strict)

    error: Exception | None = None
    uninitialized: list[str] = []
    try:
        _materialize(live, dtype, device)
        uninitialized = _initialize_rest(model, live, match)
        if strict and uninitialized:
            raise _not_initialized(uninitialized)
    except Exception as caught:
        error = caught
    _ranks.agree(error, group)

    bytes_read = bytes_filled = 0
    overflows: dict[str, int] = {}
    targets = [Read(number, entry.name, entry.tensor) for number, entry in match.pairs]
    with reporting(progress, f"loading {summary.kind}") as on_progress, torch.no_grad():
        try:
            if broadcasts:
                report = read_and_broadcast(
                    opened.core if opened else None,
                    summary.tensors,
                    {
                        number: wants[name].dtype
                        for number, (name, _, _) in enumerate(summary.tensors)
                        if name in wants
                    },
                    targets,
                    group,
                    jobs,
                    on_progress,
                )
            else:
                assert opened is not None
                share = (_ranks.rank(group), _ranks.world(group))
                report = read_here(opened.core, targets, jobs, on_progress, share)
            bytes_read, bytes_filled, overflows = report
            if opened is not None:
                bytes_read += _compare_twins(opened.core, match.twins, jobs)
        except Exception as caught:
            error = caught
        _ranks.agree(error, group)
    return LoadReport(
        kind=summary.kind,
        recipe=summary.recipe,
        loaded=tuple(entry.name for _, entry in match.pairs),
        missing=tuple(match.missing),
        unexpected=tuple(match.unexpected),
        left_out=match.left_out,
        not_stored=tuple(entry.name for entry in live.scratch),
        uninitialized=tuple(uninitialized),
        tied=tied,
        bytes_filled=bytes_filled,
        bytes_read=bytes_read,
        seconds=time.monotonic() - start,
        overflows=overflows,
    )


@dataclass
class _Summary:
    """What all ranks must know of the checkpoint."""

    kind: str
    recipe: str
    tensors: list[tuple[str, str, tuple[int, ...]]]  # under the model's names
    dropped: int


@dataclass(frozen=True)
class _Want:
    """What a rank wants under a name."""

    entry: str  # its first name in the model
    shape: tuple[int, ...]
    dtype: str
    is_adapter: bool


@dataclass(frozen=True)
class _Answer:
    """What a rank tells the others before the model is touched."""

    wants: dict[str, _Want]
    summary: _Summary | None


@dataclass
class _Opened:
    core: _core.Checkpoint
    rename: Callable[[str], str]

    def summary(self) -> _Summary:
        tensors = [(self.rename(name), dtype, shape) for name, dtype, shape in self.core.tensors()]
        return _Summary(self.core.kind, self.core.recipe, tensors, len(self.core.dropped()))


def _open(
    model: nn.Module,
    path: str | os.PathLike[str],
    wanted: Mapping[str, Entry],
    recipe: str | None,
    load_format: str,
    from_recipe: str,
    from_layout: str,
    ignore: Sequence[str],
) -> _Opened:
    def open_as(source: str, target: str) -> _core.Checkpoint:
        return _core.Checkpoint.open(
            os.fspath(path),
            load_format,
            from_layout,
            source,
            target,
            "",
            config,
            False,
            True,
            ignore,
            warn,
        )

    config = _live.config_json(model)
    mapping = getattr(_live.base_model(model), "_checkpoint_conversion_mapping", None) or {}
    if recipe is None and mapping:
        return _Opened(open_as(from_recipe, ""), lambda name: convert_key(name, mapping))
    target = _live.runtime_recipe(model) if recipe is None else recipe
    # A state dict that was saved as it is needs no recipe; what these formats hold never is one.
    by_recipe = load_format in ("hf", "megatron") or (
        load_format == "auto" and looks_like_hf_weight_dir(path)
    )
    if from_recipe == "auto" and recipe is None and not by_recipe:
        own = open_as("identity", "")
        if own.kind not in ("hf", "megatron") and _holds(own, wanted):
            return _Opened(own, str)
    return _Opened(open_as(from_recipe, target), str)


def _holds(core: _core.Checkpoint, wanted: Mapping[str, Entry]) -> bool:
    stored = {name: shape for name, _, shape in core.tensors()}
    return all(stored.get(name) == entry.shape for name, entry in wanted.items())


def _wants(wanted: Mapping[str, Entry], dtype: torch.dtype | None) -> dict[str, _Want]:
    wants = {}
    for name, entry in wanted.items():
        tensor = entry.tensor
        own = dtype if dtype and tensor.is_meta and tensor.is_floating_point() else tensor.dtype
        wants[name] = _Want(entry.name, entry.shape, dtype_name(own), entry.is_adapter)
    return wants


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


def _wanted_names(live: LiveModel, lora: bool) -> dict[str, Entry]:
    """All names under which a checkpoint may have what the model wants."""
    wanted: dict[str, Entry] = {}
    for entry in live.entries:
        for name in entry.names:
            key = _live.base_name(name) if lora else name
            other = wanted.setdefault(key, entry)
            if other is not entry:
                raise _errors.make(
                    _errors.MappingError,
                    found=f"'{name}' and '{other.name}' would both be filled from '{key}'",
                    expected="one tensor for each name",
                    tensor=key,
                )
    return wanted


def _match(
    summary: _Summary,
    wants: Mapping[str, _Want],
    wanted: Mapping[str, Entry],
    lora: bool,
    strict: bool,
) -> _Match:
    """Compares the checkpoint with what all ranks want; pairs are this rank's."""
    match = _Match(left_out=summary.dropped)
    roots = {name.split(".", 1)[0] for name in wants}
    found: dict[str, int] = {}  # by a tensor's first name
    shapes: list[str] = []
    for number, (name, _, shape) in enumerate(summary.tensors):
        want = wants.get(name)
        if want is None:
            if name.split(".", 1)[0] in roots:
                match.unexpected.append(name)
            else:
                match.left_out += 1
        elif tuple(shape) != want.shape:
            shapes.append(
                f"{name}: {list(shape)} in the checkpoint, {list(want.shape)} in the model"
            )
        else:
            first = found.setdefault(want.entry, number)
            entry = wanted.get(name)
            if entry is not None and first == number:
                match.pairs.append((number, entry))
            elif entry is not None:
                match.twins.append((number, entry, first))
    optional = {want.entry for want in wants.values() if lora and want.is_adapter}
    entries = dict.fromkeys(want.entry for want in wants.values())
    match.missing = [name for name in entries if name not in found and name not in optional]
    if shapes:
        raise _errors.make(
            _errors.MappingError,
            found=f"{len(shapes)} tensors have another shape: {_some(shapes)}",
            expected="the model's own shapes",
            help="is this the checkpoint of this model, with this config?",
        )
    if strict and (match.missing or match.unexpected):
        parts = []
        if match.missing:
            parts.append(f"{len(match.missing)} missing: {_some(match.missing)}")
        if match.unexpected:
            parts.append(f"{len(match.unexpected)} unexpected: {_some(match.unexpected)}")
        raise _errors.make(
            _errors.MappingError,
            found="checkpoint and model do not have the same tensors; " + "; ".join(parts),
            expected="a tensor for each parameter and persistent buffer, and none besides",
            tensor=(match.missing + match.unexpected)[0],
            help="strict=False loads the rest and reports them; recipe= says how names map",
        )
    for what, names in (("missing in", match.missing), ("unexpected in", match.unexpected)):
        if names:
            warn(f"{len(names)} tensors are {what} the checkpoint: {_some(names)}")
    return match


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _check_types(live: LiveModel, dtype: torch.dtype | None) -> None:
    for entry in live.entries:
        tensor = entry.tensor
        if dtype and tensor.is_floating_point() and not tensor.is_meta and tensor.dtype != dtype:
            raise _errors.make(
                _errors.UsageError,
                found=f"the model has it in {dtype_name(tensor.dtype)}",
                expected=f"{dtype_name(dtype)}, as asked for, or the meta device",
                tensor=entry.name,
                help="leave dtype out: what is read is cast to the model's own types",
            )


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


def _initialize_rest(model: nn.Module, live: LiveModel, match: _Match) -> list[str]:
    """Marks memory that nothing fills, lets the model fill it, and tells what is left."""
    missing = set(match.missing)
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
        f"{_some(names)}",
        expected="buffers that are not saved made by the model itself",
        tensor=names[0],
        help="build the model with those buffers in memory, or fill them after strict=False",
    )


def _compare_twins(core: _core.Checkpoint, twins: list[tuple[int, Entry, int]], jobs: int) -> int:
    """A tied tensor that is stored twice must be the same twice."""
    total = 0
    for number, entry, first in twins:
        if _origins(core, number) == _origins(core, first):
            continue  # the recipe repeats it
        other = torch.empty_like(entry.tensor)
        total += read_here(core, [Read(number, entry.name, other)], jobs, None, (0, 0))[0]
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
