"""Conversions and what belongs to them: as on the command line, with dataclasses as answers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from . import _core
from ._checkpoint import Dropped
from ._progress import Progress, reporting, warn
from ._words import DType, dtype_word, names_keywords, unknown_keyword

if TYPE_CHECKING:
    from typing_extensions import Unpack

PathLike = str | os.PathLike[str]
Layers = str | Sequence[Sequence[int]] | Sequence[int]


class ConvertOptions(TypedDict, total=False):
    """The options of `convert` and `plan`, named as the flags of `reshard convert`."""

    from_: str  # the source's kind: "auto", "dcp", "hf", "megatron:vit-tp=1", "pt"
    from_layout: str  # how the source is dealt out, where its files do not say: "tp=2,pp=2"
    recipe: PathLike | None
    from_recipe: PathLike | None
    like: PathLike | None
    hub_form: str
    llm_from: PathLike | None
    only: str
    packing: Literal["natural", "lexicographic"]
    dtype: DType | None
    dtype_for: Mapping[str, DType]  # an expression for names -> the type they get
    dequantize: bool
    shard_size: str | int
    weights: Literal["safetensors", "bin"]
    assets_from: PathLike | None
    config_json: str | None
    ignore: str | Sequence[str]
    tp: int
    pp: int
    vpp: int
    ep: int
    etp: int
    vit_tp: int
    audio_tp: int
    llm_pp_layers: Layers
    vit_pp_layers: Layers
    audio_pp_layers: Layers
    iteration: str | int
    pad_vocab_to: str | int


@dataclass(frozen=True)
class PlanSummary:
    """What a plan does, in numbers."""

    plan_id: str  # derived from all that decides the output's bytes
    source_kind: str
    recipe: str
    recipe_why: str
    assets_from: str
    tensors: int  # written
    casts: int  # of them, converted to another element type
    assembled: int  # of them, put together from more than one chunk
    checks: int  # parts of the source that are left out because others equal them
    bytes_read: int
    bytes_written: int
    objects: int  # values that are no tensors, written
    dropped_tensors: int  # that the target does not hold at all
    dropped_parts: int  # of which it does not hold the rows of padding
    dropped_objects: int


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the target, its place in its file, and what it is made of."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    byte_size: int
    view: str


@dataclass(frozen=True)
class PlannedFile:
    """A file of the target; `tensors` is empty for what holds none."""

    path: str
    byte_size: int
    tensors: list[PlannedTensor]


@dataclass(frozen=True)
class Plan:
    """Which files get which bytes: decided and proved, nothing written."""

    summary: PlanSummary
    files: list[PlannedFile]
    dropped: list[Dropped]  # tensors, and behind them rows of padding
    warnings: tuple[str, ...]
    left_behind: tuple[str, ...]  # beside the source's weights, and not copied
    missing_assets: tuple[str, ...]  # what a loader will look for and not find


@dataclass(frozen=True)
class ConvertReport:
    """What a conversion has done."""

    plan: PlanSummary
    bytes_written: int
    bytes_resumed: int  # of them, found finished from an earlier run
    files: int
    seconds: float
    overflows: Mapping[str, int]  # finite values that became infinite in a narrower type
    left_behind: tuple[str, ...]  # beside the source's weights, and not copied
    missing_assets: tuple[str, ...]  # what a loader will look for and not find


@dataclass(frozen=True)
class VerifyFault:
    """A file that differs from its manifest, or that a loader may take for weights beside it."""

    file: str
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """What was compared with a manifest; true where all is as it was written."""

    files: int
    bytes: int
    faults: list[VerifyFault]

    def __bool__(self) -> bool:
        return not self.faults


def fields_of(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keyword arguments as the flags of the command line: `from_layout` is --from-layout."""
    fields: list[tuple[str, str]] = []
    for key, value in options.items():
        name = key.strip("_").replace("_", "-")
        if value is None:
            continue
        if name == "dtype":
            fields.append((name, dtype_word(value)))
        elif name == "dtype-for":
            fields += [(name, f"{regex}={dtype_word(dtype)}") for regex, dtype in value.items()]
        elif name == "ignore":
            expressions: Sequence[str] = [value] if isinstance(value, str) else value
            fields += [(name, expression) for expression in expressions]
        else:
            fields.append(
                (name, os.fspath(value) if isinstance(value, os.PathLike) else str(value))
            )
    return fields


def _request(
    function: str, src: PathLike, dst: PathLike, to: str, options: Mapping[str, Any]
) -> list[tuple[str, str]]:
    known = ConvertOptions.__annotations__
    for keyword in options:
        if keyword not in known:
            raise unknown_keyword(function, keyword, [*known, *_RUNNING])
    return fields_of({"source": src, "destination": dst, "to": to, **options})


# What `convert` has beside the request.
_RUNNING = ("jobs", "memory", "force", "resume", "progress")


def convert(
    src: PathLike,
    dst: PathLike,
    to: str = "hf",
    *,
    jobs: int = 0,
    memory: str = "",
    force: bool = False,
    resume: bool = True,
    progress: Progress = None,
    **options: Unpack[ConvertOptions],
) -> ConvertReport:
    """Writes the checkpoint `src` as `dst`, which appears whole or not at all.

    `to` is "hf", "dcp:ranks=4", "megatron:tp=2,pp=2"; the options are those of `ConvertOptions`,
    named as the flags of `reshard convert`. Types may be PyTorch's and NumPy's own.
    """
    fields = _request("convert", src, dst, to, options)
    with reporting(progress, "converting") as on_progress:
        answer = _core.convert(fields, jobs, memory, force, resume, on_progress, warn)
    return ConvertReport(**answer | {"plan": PlanSummary(**answer["plan"])})


def plan(src: PathLike, dst: PathLike, to: str = "hf", **options: Unpack[ConvertOptions]) -> Plan:
    """What `convert` would write, without writing it."""
    answer = _core.plan(_request("plan", src, dst, to, options), warn)
    files = [
        PlannedFile(path, size, [PlannedTensor(*tensor) for tensor in tensors])
        for path, size, tensors in answer.pop("files")
    ]
    dropped = [Dropped(*entry) for entry in answer.pop("dropped")]
    rest = {name: answer.pop(name) for name in ("warnings", "left_behind", "missing_assets")}
    return Plan(PlanSummary(**answer), files, dropped, **rest)


@names_keywords
def verify(directory: PathLike, *, jobs: int = 0, progress: Progress = None) -> VerifyReport:
    """Reads every file that the manifest in `directory` lists and compares sizes and checksums."""
    with reporting(progress, "verifying") as on_progress:
        answer = _core.verify(os.fspath(directory), jobs, on_progress)
    return VerifyReport(
        answer["files"], answer["bytes"], [VerifyFault(*fault) for fault in answer["faults"]]
    )


def recipes() -> dict[str, str]:
    """The built-in recipes and what each is for."""
    return dict(_core.recipes())
