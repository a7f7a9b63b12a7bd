"""Plain tensors as the DTensors that FSDP2, tensor parallelism, or both make of them."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

Tensors = dict[str, torch.Tensor]


def shard(state: Tensors, kind: str) -> Tensors:
    """On all ranks: `fsdp`, `hsdp` (two replicas), `tp`, or `fsdp+tp` (two ranks of it)."""
    world = dist.get_world_size()
    if kind == "fsdp":
        return _fsdp(state, init_device_mesh("cpu", (world,)))
    if kind == "hsdp":
        return _fsdp(state, init_device_mesh("cpu", (2, world // 2), mesh_dim_names=("r", "s")))
    if kind == "tp":
        return _tp(state, init_device_mesh("cpu", (world,)))
    assert kind == "fsdp+tp", kind
    mesh = init_device_mesh("cpu", (world // 2, 2), mesh_dim_names=("dp", "tp"))
    return _fsdp(_tp(state, mesh["tp"]), mesh["dp"])


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _tp(state: Tensors, mesh: DeviceMesh) -> Tensors:
    """Matrices by rows; every other one, and what stands for several matrices, by columns."""

    def placement(number: int, tensor: torch.Tensor) -> Shard | Replicate:
        return Shard(number % 2) if tensor.dim() > 1 else Replicate()

    return {
        name: distribute_tensor(tensor, mesh, [placement(number, tensor)])
        for number, (name, tensor) in enumerate(sorted(state.items()))
    }


def _fsdp(state: Tensors, mesh: DeviceMesh) -> Tensors:
    """By FSDP2 itself, as parameters of a module."""
    module = torch.nn.Module()
    for number, tensor in enumerate(state.values()):
        module.register_parameter(f"p{number}", torch.nn.Parameter(tensor, requires_grad=False))
    fully_shard(module, mesh=mesh)
    made = module.state_dict()
    return {name: made[f"p{number}"].detach() for number, name in enumerate(state)}
