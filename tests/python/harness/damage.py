"""Edits the `.metadata` of a checkpoint: Python's pickle with PyTorch's classes, then one lie."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)

Edit = Callable[[Metadata], str]


def copy_of(checkpoint: Path, directory: Path) -> Path:
    """A copy that may be damaged."""
    copied = directory / "damaged"
    shutil.copytree(checkpoint, copied)
    return copied


def rewrite(checkpoint: Path, edit: Edit) -> str:
    """Applies `edit` to `.metadata`; returns what it returns: the name that must be blamed."""
    path = checkpoint / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    blamed = edit(metadata)
    path.write_bytes(pickle.dumps(metadata, protocol=4))
    return blamed


def tensor(metadata: Metadata, name: str) -> TensorStorageMetadata:
    entry = metadata.state_dict_metadata[name]
    assert isinstance(entry, TensorStorageMetadata)
    return entry


def move_chunk(metadata: Metadata, name: str, number: int, offsets: tuple[int, ...]) -> None:
    """Says that a chunk lies elsewhere in the tensor, in both places that say so."""
    entry = tensor(metadata, name)
    chunk = entry.chunks[number]
    old = _index(metadata, name, chunk.offsets)
    info = metadata.storage_data.pop(old)
    entry.chunks[number] = ChunkStorageMetadata(torch.Size(offsets), chunk.sizes)
    metadata.storage_data[MetadataIndex(name, torch.Size(offsets), old.index)] = info


def drop_chunk(metadata: Metadata, name: str, number: int) -> None:
    chunk = tensor(metadata, name).chunks.pop(number)
    del metadata.storage_data[_index(metadata, name, chunk.offsets)]


def edit_entry(metadata: Metadata, name: str, number: int = 0, **changes: Any) -> None:
    """Changes relative_path, offset or length of one chunk's entry."""
    index = _index(metadata, name, tensor(metadata, name).chunks[number].offsets)
    metadata.storage_data[index] = replace(metadata.storage_data[index], **changes)


def entry_of(metadata: Metadata, name: str, number: int = 0) -> Any:
    return metadata.storage_data[
        _index(metadata, name, tensor(metadata, name).chunks[number].offsets)
    ]


def _index(metadata: Metadata, name: str, offsets: torch.Size) -> MetadataIndex:
    for index in metadata.storage_data:
        if index.fqn == name and index.offset == offsets:
            return index
    raise KeyError((name, offsets))


@dataclass
class Payload:
    """Unpickling this with Python runs a command that makes `marker`."""

    marker: Path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)
