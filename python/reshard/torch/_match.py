"""What a checkpoint holds against what the model, over all ranks, wants of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from reshard import _errors
from reshard._progress import warn

from . import _live
from ._live import Entry, LiveModel
from ._memory import Read
from ._shards import dtype_name

_SHOWN = 5  # names in an error


@dataclass
class Summary:
    """What all ranks must know of the checkpoint."""

    kind: str
    recipe: str
    tensors: list[tuple[str, str, tuple[int, ...]]]  # under the model's names
    dropped: int


@dataclass(frozen=True)
class Want:
    """What a rank wants under a name."""

    entry: str  # its first name in the model
    shape: tuple[int, ...]
    dtype: str
    is_adapter: bool


@dataclass
class Match:
    """Which tensor of the checkpoint goes where."""

    types: dict[int, str]  # of each tensor that some rank wants, as that one has it
    left_out: int
    pairs: list[tuple[int, Entry]] = field(default_factory=list)
    # Stored again under another of its names: number, tensor, number of the first.
    twins: list[tuple[int, Entry, int]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def reads(self) -> list[Read]:
        return [Read(number, entry.name, entry.tensor) for number, entry in self.pairs]


def wanted_names(live: LiveModel, lora: bool) -> dict[str, Entry]:
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


def wants_of(wanted: Mapping[str, Entry], dtype: torch.dtype | None) -> dict[str, Want]:
    """What a rank tells the others; `dtype` is what floating tensors without memory become."""
    wants = {}
    for name, entry in wanted.items():
        tensor = entry.tensor
        own = dtype if dtype and tensor.is_meta and tensor.is_floating_point() else tensor.dtype
        wants[name] = Want(entry.name, entry.shape, dtype_name(own), entry.is_adapter)
    return wants


def match(
    summary: Summary,
    wants: Mapping[str, Want],
    wanted: Mapping[str, Entry],
    lora: bool,
    strict: bool,
) -> Match:
    """Compares the checkpoint with what all ranks want; pairs are this rank's."""
    _check_shapes(summary, wants)
    found = _pair(summary, wants, wanted)
    stored = {wants[summary.tensors[number][0]].entry for number in found.types}
    optional = {want.entry for want in wants.values() if lora and want.is_adapter}
    entries = dict.fromkeys(want.entry for want in wants.values())
    found.missing = [name for name in entries if name not in stored and name not in optional]
    if strict:
        _check_complete(found)
    for what, names in (("missing in", found.missing), ("unexpected in", found.unexpected)):
        if names:
            warn(f"{len(names)} tensors are {what} the checkpoint: {some(names)}")
    return found


def _pair(summary: Summary, wants: Mapping[str, Want], wanted: Mapping[str, Entry]) -> Match:
    found = Match({}, summary.dropped)
    roots = {name.split(".", 1)[0] for name in wants}
    firsts: dict[str, int] = {}  # by a tensor's first name
    for number, (name, _, _) in enumerate(summary.tensors):
        want = wants.get(name)
        if want is None:
            if name.split(".", 1)[0] in roots:
                found.unexpected.append(name)
            else:
                found.left_out += 1
            continue
        found.types[number] = want.dtype
        first = firsts.setdefault(want.entry, number)
        entry = wanted.get(name)
        if entry is not None and first == number:
            found.pairs.append((number, entry))
        elif entry is not None:
            found.twins.append((number, entry, first))
    return found


def _check_shapes(summary: Summary, wants: Mapping[str, Want]) -> None:
    others = [
        f"{name}: {list(shape)} in the checkpoint, {list(wants[name].shape)} in the model"
        for name, _, shape in summary.tensors
        if name in wants and tuple(shape) != wants[name].shape
    ]
    if others:
        raise _errors.make(
            _errors.MappingError,
            found=f"{len(others)} tensors have another shape: {some(others)}",
            expected="the model's own shapes",
            help="is this the checkpoint of this model, with this config?",
        )


def _check_complete(found: Match) -> None:
    lists = (("missing", found.missing), ("unexpected", found.unexpected))
    parts = [f"{len(names)} {what}: {some(names)}" for what, names in lists if names]
    if parts:
        scaled = any(name.endswith(("_scale_inv", ".weight_scale")) for name in found.unexpected)
        raise _errors.make(
            _errors.MappingError,
            found="checkpoint and model do not have the same tensors; " + "; ".join(parts),
            expected="a tensor for each parameter and persistent buffer, and none besides",
            tensor=(found.missing + found.unexpected)[0],
            help="dequantize=True multiplies float8 weights with their scales"
            if scaled
            else "strict=False loads the rest and reports them; recipe= says how names map",
        )


def some(names: Sequence[str]) -> str:
    """The first of them, for a message."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
