"""Models as they lie on ranks in training, saved by the package, by PyTorch and by transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import reshard.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from reshard.torch import _catalog
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

from . import models, tiny_text

Sharder = Callable[[PreTrainedModel], None]


@dataclass(frozen=True)
class Case:
    """One model on one mesh, and how it is saved."""

    world: int
    model: str
    shard: Sharder
    dtype: str | None = None
    limits: dict[str, int] = field(default_factory=dict)  # set in reshard.torch._catalog


def plain(model: PreTrainedModel) -> None:
    """The whole model on every rank."""


def fsdp(model: PreTrainedModel) -> None:
    models.shard_fsdp(model, init_device_mesh("cpu", (dist.get_world_size(),)))


def hsdp(model: PreTrainedModel) -> None:
    names = ("replicate", "shard")
    models.shard_fsdp(model, init_device_mesh("cpu", (2, 2), mesh_dim_names=names))


def tp_fsdp(model: PreTrainedModel) -> None:
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    models.shard_tp(model, mesh["tp"])
    models.shard_fsdp(model, mesh["dp"])


def tp(model: PreTrainedModel) -> None:
    models.shard_tp(model, init_device_mesh("cpu", (dist.get_world_size(),)))


def gathered_by_forward(model: PreTrainedModel) -> None:
    """FSDP2 whose forward pass has left its parameters gathered, in another type."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    fully_shard(model, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    with torch.no_grad():
        model(torch.arange(8)[None])


CASES = {
    "plain-1": Case(1, "llama", plain),
    "fsdp-1": Case(1, "qwen3-moe", fsdp, dtype="bfloat16"),
    "fsdp-2": Case(2, "llama", fsdp, dtype="bfloat16"),
    "fsdp-tied-2": Case(2, "tied", fsdp),
    "fsdp-moe-2": Case(2, "qwen3-moe", fsdp),
    "forward-2": Case(2, "qwen3", gathered_by_forward),
    "tp-2": Case(2, "llama", tp),
    "fsdp-4": Case(4, "llama", fsdp),
    "hsdp-4": Case(4, "qwen3", hsdp),
    "hsdp-moe-4": Case(4, "qwen3-moe", hsdp, dtype="bfloat16"),
    "tp-fsdp-4": Case(4, "llama", tp_fsdp, dtype="bfloat16"),
    "tp-fsdp-tied-4": Case(4, "tied", tp_fsdp),
    # Shards that interleave in the files are written as they lie.
    "tp-fsdp-interleaved-4": Case(4, "qwen3", tp_fsdp, limits={"RUN_BYTES": 0}),
    "small-boxes-4": Case(4, "llama", hsdp, limits={"BOX_BYTES": 200}),
    "plain-4": Case(4, "qwen3", plain),
}


def build(name: str) -> PreTrainedModel:
    if name != "qwen3-moe":
        return models.build(name)
    torch.manual_seed(1)
    cls, config = tiny_text._MODELS[name]
    return cls(config)


def save_all(root: str) -> dict[str, Any]:
    """Every case of this number of ranks: <root>/<case>/{live,dcp,hf}; the reports."""
    reports = {}
    for name, case in CASES.items():
        if case.world != dist.get_world_size():
            continue
        directory = Path(root, name)
        model = build(case.model)
        if dist.get_rank() == 0:
            model.save_pretrained(directory / "hf")
        case.shard(model)
        saved = {limit: getattr(_catalog, limit) for limit in case.limits}
        try:
            for limit, value in case.limits.items():
                setattr(_catalog, limit, value)
            reports[name] = reshard.torch.save_checkpoint(
                model, directory / "live", dtype=case.dtype, shard_size=20_000
            )
        finally:
            for limit, value in saved.items():
                setattr(_catalog, limit, value)
        dcp.save(model.state_dict(), checkpoint_id=directory / "dcp")
    return reports
