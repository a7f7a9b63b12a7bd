"""Runs a function on several gloo ranks. One that hangs or dies is a failure."""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SECONDS = 240
# Importing these costs more than most tests: one process does, and the ranks are forks of it.
PRELOAD = ["torch.distributed.tensor", "torch.distributed.fsdp", "torch.distributed.checkpoint"]


def run(fn: Callable[..., Any], world: int, *args: Any, seconds: float = SECONDS) -> list[Any]:
    """What `fn(*args)` gives on each rank, by rank. `fn` is a module's own function."""
    with tempfile.TemporaryDirectory() as scratch:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        processes = [
            context.Process(target=_work, args=(fn, rank, world, scratch, args), daemon=True)
            for rank in range(world)
        ]
        for process in processes:
            process.start()
        try:
            _wait(processes, scratch, seconds)
        finally:
            for process in processes:
                process.kill()
                process.join()
        return [torch.load(_answer(scratch, rank), weights_only=False) for rank in range(world)]


def _wait(processes: list[Any], scratch: str, seconds: float) -> None:
    """Until all have ended well; at the first that has not, the others are not waited for."""
    end = time.monotonic() + seconds
    while any(process.is_alive() for process in processes):
        if time.monotonic() > end:
            stuck = [rank for rank, process in enumerate(processes) if process.is_alive()]
            raise TimeoutError(f"ranks {stuck} hang")
        if any(process.exitcode for process in processes):
            break
        processes[0].join(0.05)
    failed = {rank: p.exitcode for rank, p in enumerate(processes) if p.exitcode}
    if failed:
        texts = [path.read_text() for path in sorted(Path(scratch).glob("failure-*"))]
        raise AssertionError("\n".join([f"ranks ended with {failed}", *texts]))


def _work(
    fn: Callable[..., Any], rank: int, world: int, scratch: str, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{scratch}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=SECONDS),
    )
    try:
        torch.save(fn(*args), _answer(scratch, rank))
        dist.barrier()
    except BaseException:
        Path(scratch, f"failure-{rank}").write_text(f"rank {rank}: {traceback.format_exc()}")
        raise
    finally:
        dist.destroy_process_group()


def _answer(scratch: str, rank: int) -> str:
    return os.path.join(scratch, f"answer-{rank}.pt")
