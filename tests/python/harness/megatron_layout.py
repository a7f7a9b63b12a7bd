"""How Megatron-Core spreads a model over ranks, and the directories that its checkpoints have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

Chunk = dict[str, torch.Tensor]


class Rank(NamedTuple):
    """What one file is named by: the place in tensor, pipeline and expert parallelism."""

    tensor: int
    stage: int
    expert: int


@dataclass(frozen=True)
class Layout:
    """The sizes of the parallelism. Experts are cut over `etp` ranks, by default as all else is."""

    tp: int = 1
    pp: int = 1
    vpp: int = 1
    ep: int = 1
    etp: int | None = None
    layer_counts: tuple[tuple[int, ...], ...] | None = None  # [chunk][stage]; None: all equal

    def __str__(self) -> str:
        sizes = {"tp": self.tp, "pp": self.pp, "vpp": self.vpp, "ep": self.ep}
        text = "-".join(f"{name}{size}" for name, size in sizes.items() if size > 1) or "whole"
        text += f"-etp{self.etp}" if self.etp is not None else ""
        return text + ("-uneven" if self.layer_counts else "")

    @property
    def expert_tp(self) -> int:
        return self.tp if self.etp is None else self.etp

    def ranks(self) -> list[Rank]:
        """The ranks that exist. Within a stage Megatron numbers tensor ranks first for all layers
        but the experts, and for these expert-tensor ranks, then expert ranks."""
        numbers = range(self.tp * self.expert_tp * self.ep)
        places = {(n % self.tp, n // self.expert_tp % self.ep) for n in numbers}
        return sorted(Rank(t, p, e) for t, e in places for p in range(self.pp))

    def layers(self, chunk: int, stage: int, layer_count: int) -> range:
        """The model's layers in chunk `chunk` of stage `stage`: all stages' first chunks come
        before any second one."""
        if self.layer_counts is None:
            each = layer_count // self.vpp // self.pp
            begin = chunk * (layer_count // self.vpp) + stage * each
            return range(begin, begin + each)
        flat = [count for counts in self.layer_counts for count in counts]
        index = chunk * self.pp + stage
        return range(sum(flat[:index]), sum(flat[: index + 1]))

    def directory(self, rank: Rank) -> str:
        name = f"mp_rank_{rank.tensor:02d}"
        name += f"_{rank.stage:03d}" if self.pp > 1 else ""
        return name + (f"_{rank.expert:03d}" if self.ep > 1 else "")

    def options(self) -> list[str]:
        """As the program is told."""
        sizes = {"--tp": self.tp, "--pp": self.pp, "--vpp": self.vpp, "--ep": self.ep}
        told = [text for name, size in sizes.items() if size > 1 for text in (name, str(size))]
        if self.etp is not None:
            told += ["--etp", str(self.etp)]
        if self.layer_counts is not None:
            told += ["--llm-pp-layers", str([list(counts) for counts in self.layer_counts])]
        return told

    def chunk_keys(self) -> list[str]:
        return ["model"] if self.vpp == 1 else [f"model{chunk}" for chunk in range(self.vpp)]


def iteration_directory(root: Path) -> Path:
    """The directory that the tracker file names."""
    tracked = (root / "latest_checkpointed_iteration.txt").read_text().strip()
    return root / ("release" if tracked == "release" else f"iter_{int(tracked):07d}")


def write(root: Path, layout: Layout, states: dict[Rank, list[Chunk]]) -> Path:
    """A checkpoint as Megatron-LM lays it out, of weights alone."""
    for rank, chunks in states.items():
        directory = root / "release" / layout.directory(rank)
        directory.mkdir(parents=True)
        models = dict(zip(layout.chunk_keys(), chunks, strict=True))
        content = {"checkpoint_version": 3.0, "iteration": 0, **models}
        torch.save(content, directory / "model_optim_rng.pt")
    (root / "latest_checkpointed_iteration.txt").write_text("release")
    return root


def read_rank(root: Path, layout: Layout, rank: Rank) -> list[Chunk]:
    """What one rank loads: per chunk, names and tensors."""
    path = iteration_directory(root) / layout.directory(rank) / "model_optim_rng.pt"
    content = torch.load(path, weights_only=True)
    assert content["checkpoint_version"] == 3.0
    chunks = [content[key] for key in layout.chunk_keys()]
    assert {key for key in content if key.startswith("model")} == set(layout.chunk_keys())
    return chunks


def read(root: Path, layout: Layout) -> Iterator[tuple[Rank, list[Chunk]]]:
    """Every rank's content, after checking that exactly the ranks of `layout` are there."""
    found = sorted(path.name for path in iteration_directory(root).iterdir())
    wanted = sorted(layout.directory(rank) for rank in layout.ranks())
    assert [name for name in found if name.startswith("mp_rank_")] == wanted
    for rank in layout.ranks():
        yield rank, read_rank(root, layout, rank)
