"""Makes checkpoints with real PyTorch on four gloo processes, and what PyTorch says is in them.

One set of processes makes all of them, since starting PyTorch costs more than the saving. Beside
each checkpoint `X/` lies `X.expected.pt`: its tensors, gathered before anything was written.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint._extension import ZStandard
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from . import models

WORLD_SIZE = 4
Maker = Callable[[Path], None]


def make_all(root: Path) -> None:
    """Every multi-rank checkpoint of the suite, below `root`."""
    with tempfile.TemporaryDirectory() as scratch:
        rendezvous = os.path.join(scratch, "rendezvous")
        mp.spawn(_work, args=(rendezvous, str(root)), nprocs=WORLD_SIZE)


def expected(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Every tensor of `checkpoint` under its name there."""
    return torch.load(checkpoint.with_suffix(".expected.pt"), weights_only=True)


def save_single(state: dict, directory: Path, **options: object) -> None:
    """A checkpoint by this process alone."""
    dcp.save(state, storage_writer=dcp.FileSystemWriter(directory, **options), no_dist=True)


def _work(rank: int, rendezvous: str, root: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE
    )
    torch.set_num_threads(1)
    makers: list[Maker] = [llama_fsdp2, qwen3_hsdp, tied_tp_fsdp, layouts, layouts_zstd]
    for maker in makers:
        maker(Path(root) / maker.__name__)
    dist.destroy_process_group()


def llama_fsdp2(directory: Path) -> None:
    """FSDP2 over four ranks, uneven shards, AdamW state beside the model."""
    model = models.build("llama")
    models.shard_fsdp(model, init_device_mesh("cpu", (WORLD_SIZE,)))
    _save(_training_state(model), directory)


def qwen3_hsdp(directory: Path) -> None:
    """HSDP 2x2: each shard on two ranks, two files per rank."""
    model = models.build("qwen3")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    models.shard_fsdp(model, mesh)
    _save({"model": get_model_state_dict(model)}, directory, thread_count=2)


def tied_tp_fsdp(directory: Path) -> None:
    """Tied embeddings, TP then FSDP2 on a 2x2 mesh: nested cuts of one dimension."""
    model = models.build("tied")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    models.shard_tp(model, mesh["tp"])
    models.shard_fsdp(model, mesh["dp"])
    _save(_training_state(model), directory)


def layouts(directory: Path) -> None:
    _save(_layout_state(), directory)


def layouts_zstd(directory: Path) -> None:
    _save(_layout_state(), directory, _extensions=[ZStandard()])


def _training_state(model: torch.nn.Module) -> dict:
    """Model and optimizer after one step, in the tree of VeOmni's trainer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, foreach=False)
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone()
    optimizer.step()
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
        "step": 1,
    }


def _layout_state() -> dict:
    """Ways for a tensor to lie on the ranks, and types, that no model above has."""
    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    grid = init_device_mesh("cpu", (2, 2))
    generator = torch.Generator().manual_seed(7)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    block = random(3, 6) + dist.get_rank()
    tensors = {
        "rows": distribute_tensor(random(7, 3), mesh, [Shard(0)]),
        "fewer_rows_than_ranks": distribute_tensor(random(3, 5), mesh, [Shard(0)]),
        "columns": distribute_tensor(random(4, 10), mesh, [Shard(1)]),
        "middle": distribute_tensor(random(2, 9, 3), mesh, [Shard(1)]),
        "grid": distribute_tensor(random(7, 9), grid, [Shard(0), Shard(1)]),
        "nested": distribute_tensor(random(10, 6), grid, [Shard(0), Shard(0)]),
        "half_replicated": distribute_tensor(random(6, 5), grid, [Replicate(), Shard(1)]),
        "replicated": distribute_tensor(random(5, 5), mesh, [Replicate()]),
        # Each rank's part is written with the strides it has: this one column by column.
        "transposed": DTensor.from_local(block.t().contiguous().t(), mesh, [Shard(0)]),
        "plain": random(3, 4),
        "scalar": random(1)[0],
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False, True]),
        "counts": torch.arange(-4, 5),
        "half": distribute_tensor(random(9, 2).half(), mesh, [Shard(0)]),
        "bfloat16": distribute_tensor(random(9, 2).bfloat16(), mesh, [Shard(0)]),
        "double": distribute_tensor(random(9, 2).double(), mesh, [Shard(0)]),
        "fp8": random(6, 2).to(torch.float8_e4m3fn),
    }
    return {"model": {f"model.{name}": tensor for name, tensor in tensors.items()}, "epoch": 3}


def _save(state: dict, directory: Path, **options: object) -> None:
    whole = _gather(state)
    dcp.save(state, storage_writer=dcp.FileSystemWriter(directory, **options))
    if dist.get_rank() == 0:
        torch.save(whole, directory.with_suffix(".expected.pt"))
    dist.barrier()


def _gather(tree: object, path: str = "") -> dict[str, torch.Tensor]:
    """Flat names and whole tensors. Collective: every rank gathers in the same order."""
    if isinstance(tree, dict):
        whole: dict[str, torch.Tensor] = {}
        for key, value in tree.items():
            whole |= _gather(value, f"{path}.{key}" if path else str(key))
        return whole
    if isinstance(tree, list):
        return _gather(dict(enumerate(tree)), path)
    if isinstance(tree, DTensor):
        return {path: tree.detach().full_tensor().clone()}
    if isinstance(tree, torch.Tensor):
        return {path: tree.detach().clone()}
    return {}
