"""The merge of a DCP checkpoint into Hugging Face files, done slowly with PyTorch.

What merge-dcp-to-hf must do, stated a second time and independently: the key rules, the greedy
packing in lexicographic order, and the casts.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

CASTABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def hub_name(key: str) -> str | None:
    """`model.X` is X, anything else is no weight."""
    return key.removeprefix("model.") if key.startswith("model.") else None


def is_expected_form(key: str) -> bool:
    """Keys whose prefix is stripped without a warning."""
    return key.startswith("model.model.") or key == "model.lm_head.weight"


def cast(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """Floating tensors only; float64 goes through float32, as PyTorch's own narrowing does."""
    return tensor.to(dtype) if dtype is not None and tensor.dtype in CASTABLE else tensor


def load(checkpoint: Path, keys: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint by PyTorch's own reader; all of them without `keys`."""
    metadata = dcp.FileSystemReader(checkpoint).read_metadata()
    wanted = metadata.state_dict_metadata if keys is None else keys
    state = {}
    for key in wanted:
        entry = metadata.state_dict_metadata[key]
        if isinstance(entry, TensorStorageMetadata):
            state[key] = torch.empty(entry.size, dtype=entry.properties.dtype)
    dcp.load(state, storage_reader=dcp.FileSystemReader(checkpoint), no_dist=True)
    return state


def weights(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The model's tensors under their names on the hub."""
    named = ((hub_name(key), tensor) for key, tensor in tensors.items())
    return {name: tensor for name, tensor in named if name is not None}


def pack(tensors: dict[str, torch.Tensor], shard_size: int) -> list[list[str]]:
    """Greedy, by name as text: a file is closed when the next tensor would not fit."""
    files: list[list[str]] = []
    room = 0
    for name in sorted(tensors):
        size = tensors[name].numel() * tensors[name].element_size()
        if not files or (size > room and files[-1]):
            files.append([])
            room = shard_size
        files[-1].append(name)
        room -= size
    return files


def merge(
    checkpoint: Path, dtype: torch.dtype | None, shard_size: int
) -> dict[str, dict[str, torch.Tensor]]:
    """File name to its tensors."""
    tensors = {name: cast(t, dtype) for name, t in weights(load(checkpoint)).items()}
    files = pack(tensors, shard_size)
    if len(files) == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{i + 1:05d}-of-{len(files):05d}.safetensors" for i in range(len(files))]
    return {
        name: {key: tensors[key] for key in keys} for name, keys in zip(names, files, strict=True)
    }
