"""Hugging Face files from a live model: each rank writes its own bytes of them."""

from __future__ import annotations

import copy
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from reshard import _core, _errors
from reshard._convert import PlanSummary, fields_of
from reshard._progress import Progress, ProgressFn, reporting, warn
from reshard._words import DType, names_keywords

from . import _live, _ranks
from ._catalog import (
    BOX_BYTES,
    Box,
    SharedTensor,
    assemble,
    boxes_of,
    exchange_of,
    gather_layouts,
    layout_of,
)
from ._shards import Piece, local_tensor, part_of
from ._stage import Stage, on_host

# How long a new file may take to be seen on the other machines of a network file system.
_SEEN_WITHIN = 15.0

StateDict = Mapping[str, torch.Tensor]
# name, start of the shard, address, strides
_Memory = tuple[str, tuple[int, ...], int, tuple[int, ...]]


@dataclass(frozen=True)
class SaveReport:
    """What a save has done, over all ranks; the same on each."""

    plan: PlanSummary
    bytes_written: int
    files: int
    seconds: float
    overflows: Mapping[str, int]  # finite values that became infinite in a narrower type
    missing_assets: tuple[str, ...]  # what a loader will look for and not find


@names_keywords
def save_checkpoint(
    model: nn.Module | StateDict,
    path: str | os.PathLike[str],
    to: str = "hf",
    recipe: str | os.PathLike[str] | None = None,
    dtype: DType | None = None,
    assets_from: str | os.PathLike[str] | None = None,
    shard_size: str | int = "5GB",
    force: bool = False,
    progress: Progress = None,
) -> SaveReport:
    """Writes the parameters and persistent buffers of `model` as a Hugging Face directory.

    Every rank calls it, with the same arguments, and writes what it has of the final files, which
    must lie on a file system that all ranks see; no tensor is gathered whole. The directory appears
    when all ranks have written all; where one fails, all raise and nothing is left.

    `model` is a module, of which a tied tensor is saved once, or a state dict; of tensors and
    DTensors on any device. What torch.compile, DDP and activation checkpointing put into names is
    left out of them. `recipe` says what the names become: by default that of transformers'
    models in memory, if the model's class has one, else names stay. Floating tensors become
    `dtype`, if given. Configuration and tokenizer come from `assets_from`; without it the model's
    own configuration is written.
    """
    start = time.monotonic()
    given = assets_from or ""
    with _ranks.on_cpu() as group, ExitStack() as stack:
        with _ranks.together(group):
            tensors = _tensors_of(model)
            layouts = {name: layout_of(name, tensors[name]) for name in sorted(tensors)}
        everyone = gather_layouts(layouts, group)
        with _ranks.together(group):
            catalog = assemble(everyone)
        if assets_from is None and isinstance(model, nn.Module):
            assets_from = stack.enter_context(_own_assets(model, group))
        with _ranks.together(group):
            live = model if isinstance(model, nn.Module) else None
            if recipe is None:
                recipe = (_live.runtime_recipe(live) if live is not None else "") or "identity"
            options = {
                "destination": path,
                "to": to,
                "recipe": recipe,
                "dtype": dtype,
                "shard_size": shard_size,
                "assets_from": assets_from,
                "config_json": (_live.config_json(live) if live is not None else "") or None,
            }
            core = _core.SharedSave.prepare(
                fields_of(options),
                [_declared(tensor) for tensor in catalog],
                _ranks.rank(group),
                warn if _ranks.rank(group) == 0 else None,
            )
        _check_agreement(core, group)
        try:
            _create(core, force, group)
            with reporting(progress, "saving") as on_progress:
                overflows = _write(core, catalog, tensors, on_progress, group)
            report = _commit(core, group)
        except BaseException:
            core.abandon()
            raise
    plan = PlanSummary(**report["plan"])
    return SaveReport(
        plan=replace(plan, assets_from=os.fspath(given)),
        bytes_written=report["bytes_written"],
        files=report["files"],
        seconds=time.monotonic() - start,
        overflows=overflows,
        missing_assets=report["missing_assets"],
    )


def _tensors_of(model: nn.Module | StateDict) -> dict[str, torch.Tensor]:
    if isinstance(model, nn.Module):
        _reshard(model)
        return {entry.name: entry.tensor for entry in _live.describe(model).entries}
    for name, value in model.items():
        if not isinstance(value, torch.Tensor):
            raise _errors.make(
                _errors.UsageError,
                tensor=str(name),
                found=f"a {type(value).__name__}",
                expected="a tensor",
                help="leave it out of the state dict that is saved",
            )
    tensors: dict[str, torch.Tensor] = {}
    for name, plain in _live.unwrapped_names(model).items():
        if plain in tensors:
            raise _errors.make(
                _errors.UsageError,
                tensor=name,
                found=f"another tensor is '{plain}' too, without what wrappers put into names",
                expected="names that differ in more than a wrapper's word",
                help="save the state dict of one model",
            )
        tensors[plain] = model[name]
    return tensors


def _reshard(model: nn.Module) -> None:
    """Gives FSDP2's modules their shards back, which a forward pass may have left gathered."""
    cls = _fsdp_module()
    for module in model.modules():
        if isinstance(module, cls):
            module.reshard()


def _fsdp_module() -> Any:
    """The class that fully_shard makes modules of."""
    import torch.distributed.fsdp as fsdp

    if hasattr(fsdp, "FSDPModule"):
        return fsdp.FSDPModule
    import torch.distributed._composable.fsdp as before_2_6

    return vars(before_2_6)["FSDPModule"]


def _declared(tensor: SharedTensor) -> Any:
    layout = tensor.layout
    shards = [(owner, *box) for box, owner in tensor.owners.items()]
    return tensor.name, layout.dtype, layout.shape, shards


@contextmanager
def _own_assets(model: nn.Module, group: _ranks.Group) -> Iterator[str | None]:
    """A directory of this process with what transformers would write beside the model's weights."""
    texts: dict[str, bytes] = {}
    with _ranks.together(group):
        if _ranks.rank(group) == 0:
            texts = _asset_texts(model)
    texts = _ranks.from_first(texts, group)
    if not texts:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory:
        for name, text in texts.items():
            Path(directory, name).write_bytes(text)
        yield directory


def _asset_texts(model: nn.Module) -> dict[str, bytes]:
    base = _live.base_model(model)
    config: Any = copy.deepcopy(getattr(base, "config", None))
    with tempfile.TemporaryDirectory() as directory:
        if hasattr(config, "save_pretrained"):
            names = _live.class_names(model)
            # fully_shard makes a class of its own out of the model's.
            config.architectures = [names[1] if names[0] == f"FSDP{names[1]}" else names[0]]
            config.save_pretrained(directory)
            generation = getattr(base, "generation_config", None)
            if generation is not None:
                generation.save_pretrained(directory)
        return {path.name: path.read_bytes() for path in Path(directory).iterdir()}


def _check_agreement(core: _core.SharedSave, group: _ranks.Group) -> None:
    plans = _ranks.gather(core.summary()["plan_id"], group)
    staging = _ranks.gather(core.staging, group)
    for what, values in (("plan", plans), ("place to write to", staging)):
        other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
        if other is not None:
            raise _errors.make(
                _errors.UsageError,
                found=f"rank {other} has another {what} than rank 0: {values[other]}",
                expected=f"the same on all ranks: {values[0]}",
                help="call save_checkpoint with the same arguments on all ranks; a relative path "
                "is the same only in the same working directory",
            )


def _create(core: _core.SharedSave, force: bool, group: _ranks.Group) -> None:
    """Makes the files, at their size, and sees to it that all ranks see them."""
    first = _ranks.rank(group) == 0
    probe = Path(core.staging, f"probe-{_ranks.from_first(secrets.token_hex(8), group)}")
    with _ranks.together(group):
        if first:
            core.create(force, warn)
            probe.touch()
    with _ranks.together(group):
        _wait_for(probe)
    if first:
        probe.unlink()


def _wait_for(probe: Path) -> None:
    deadline = time.monotonic() + _SEEN_WITHIN
    while not probe.exists():
        if time.monotonic() > deadline:
            raise _errors.make(
                _errors.DestinationError,
                found=f"the directory that rank 0 has made is not seen here: {probe.parent}",
                expected="a file system that all ranks share",
                help="save to shared storage",
            )
        time.sleep(0.05)


def _write(
    core: _core.SharedSave,
    catalog: Sequence[SharedTensor],
    tensors: StateDict,
    on_progress: ProgressFn | None,
    group: _ranks.Group,
) -> dict[str, int]:
    """Writes this rank's boxes and compares copies over the ranks; gives the overflows of all."""
    writer = _Writer(core, _ranks.rank(group), on_progress)
    error: Exception | None = None
    with torch.no_grad():
        for tensor in catalog:
            live = tensors.get(tensor.name)
            if live is None:
                continue
            exchange = exchange_of(live) if isinstance(live, DTensor) else None
            if isinstance(live, DTensor) and exchange:
                # Ranks wait for each other here: also one that has failed takes part.
                live = live.redistribute(placements=exchange)
            if error is None:
                try:
                    writer.write(tensor, live)
                    if exchange:
                        writer.flush()  # nothing else holds the rows
                except Exception as caught:
                    error = caught
    with _ranks.together(group):
        if error is not None:
            raise error
        writer.flush()
        core.sync()
    _compare_copies(_ranks.gather(writer.digests, group))
    overflows: dict[str, int] = {}
    for own in _ranks.gather(core.overflows(), group):
        for name, count in own:
            overflows[name] = overflows.get(name, 0) + count
    return overflows


class _Writer:
    """Boxes of this rank on their way to the files, a bounded group at a time."""

    def __init__(self, core: _core.SharedSave, rank: int, on_progress: ProgressFn | None) -> None:
        self._core = core
        self._rank = rank
        self._on_progress = on_progress
        self._jobs = _jobs()
        self._group: list[_Memory] = []
        self._held: list[torch.Tensor] = []  # keeps the group's memory
        self._stage = Stage()
        self._bytes = 0
        self.digests: dict[tuple[str, Box], int] = {}  # of boxes that others have too

    def write(self, tensor: SharedTensor, live: torch.Tensor) -> None:
        local = local_tensor(live)
        for piece in boxes_of(live):
            box = (piece.start, piece.extent)
            owned = tensor.owners[box] == self._rank
            if not owned and not tensor.compared:
                continue
            part = self._to_host(part_of(local, piece).resolve_conj().resolve_neg())
            if tensor.compared:
                dense = part.contiguous()
                size = dense.numel() * dense.element_size()
                self.digests[tensor.name, box] = _core.digest(dense.data_ptr(), size)
            if owned:
                self._add(tensor.name, piece, part)

    def _to_host(self, part: torch.Tensor) -> torch.Tensor:
        if on_host(part):
            return part
        if not self._stage.fits(part):
            self.flush()
        return self._stage.take(part).copy_(part)

    def _add(self, name: str, piece: Piece, part: torch.Tensor) -> None:
        self._group.append((name, piece.start, part.data_ptr(), tuple(part.stride())))
        self._held.append(part)
        self._bytes += part.numel() * part.element_size()
        if self._bytes >= BOX_BYTES:
            self.flush()

    def flush(self) -> None:
        self._core.write(self._group, self._jobs, self._on_progress)
        self._group, self._held, self._bytes = [], [], 0
        self._stage.clear()


def _jobs() -> int:
    """This rank's share of the machine's processors."""
    ranks_here = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) or _ranks.world()
    return max(1, len(os.sched_getaffinity(0)) // ranks_here)


def _compare_copies(digests: Sequence[Mapping[tuple[str, Box], int]]) -> None:
    """All ranks have the same digests here, and so the same answer."""
    first: dict[tuple[str, Box], int] = {}  # the rank that is compared with
    for rank, own in enumerate(digests):
        for key, digest in own.items():
            other = first.setdefault(key, rank)
            if digests[other][key] == digest:
                continue
            name, (start, extent) = key
            raise _errors.make(
                _errors.MappingError,
                tensor=name,
                found=f"ranks {other} and {rank} have different values of it, in the box of "
                f"{list(extent)} at {list(start)}",
                expected="the same on all ranks that have it",
                help="parts of a tensor must be DTensors, or have names of their own; copies that "
                "have drifted apart must be made equal before they are saved",
            )


def _commit(core: _core.SharedSave, group: _ranks.Group) -> dict[str, Any]:
    with _ranks.together(group):
        own = core.sum(_ranks.rank(group), _ranks.world(group), _jobs())
    sums = _ranks.gather(own, group)
    report: dict[str, Any] = {}
    with _ranks.together(group):
        if _ranks.rank(group) == 0:
            report = core.commit(sums, warn)
    return _ranks.from_first(report, group)
