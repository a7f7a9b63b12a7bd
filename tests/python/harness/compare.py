"""Bit-exact comparison: two tensors are equal when their bytes are, whatever the values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch

# How safetensors names PyTorch's types; the rest it cannot hold.
SAFETENSORS_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "float4_e2m1fn_x2": "F4",
}


@dataclass(frozen=True)
class Stored:
    """One tensor as a file holds it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Row-major bytes, whatever the type, the strides and the conjugate bit."""
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous()
    size = flat.numel() * flat.element_size()
    raw = torch.empty(0, dtype=torch.uint8)
    raw.set_(flat.untyped_storage(), flat.storage_offset() * flat.element_size(), (size,))
    return raw.numpy().tobytes()


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def stored(tensor: torch.Tensor) -> Stored:
    """What a safetensors file must hold for `tensor`."""
    name = dtype_name(tensor.dtype)
    return Stored(SAFETENSORS_DTYPES[name], tuple(tensor.shape), tensor_bytes(tensor))


def read_header(path: Path) -> dict[str, dict]:
    """A safetensors header, `__metadata__` included, after checking what its reader would."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    assert length % 8 == 0, f"{path.name}: the data do not start at a multiple of 8"
    ranges = sorted(
        tuple(item["data_offsets"]) for name, item in header.items() if name != "__metadata__"
    )
    end = 0
    for begin, stop in ranges:
        assert begin == end, f"{path.name}: hole or overlap at {end}"
        end = stop
    assert path.stat().st_size == 8 + length + end
    return header


def read_safetensors(path: Path) -> dict[str, Stored]:
    """Every tensor of one file, by our own reading of the format: no library in between."""
    header = read_header(path)
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, item in header.items():
        if name == "__metadata__":
            continue
        begin, end = item["data_offsets"]
        tensors[name] = Stored(
            item["dtype"], tuple(item["shape"]), data[start + begin : start + end]
        )
    return tensors


def weight_files(directory: Path, stem: str = "model", suffix: str = "safetensors") -> list[Path]:
    """The weight files in order: named as Hugging Face names them, and no other is there."""
    found = sorted(path.name for path in directory.glob(f"*.{suffix}"))
    count = len(found)
    numbered = [f"{stem}-{i + 1:05d}-of-{count:05d}.{suffix}" for i in range(count)]
    assert found == [f"{stem}.{suffix}"] or found == numbered, found
    return [directory / name for name in found]


def read_hf(directory: Path) -> dict[str, Stored]:
    """Every tensor of a Hugging Face directory, after checking the index against the files."""
    tensors: dict[str, Stored] = {}
    weight_map: dict[str, str] = {}
    for path in weight_files(directory):
        assert read_header(path)["__metadata__"] == {"format": "pt"}
        for name, tensor in read_safetensors(path).items():
            assert name not in tensors, f"{name} is in two files"
            tensors[name] = tensor
            weight_map[name] = path.name
    index_path = directory / "model.safetensors.index.json"
    assert index_path.exists() == (len(set(weight_map.values())) > 1)
    if index_path.exists():
        index = json.loads(index_path.read_text())
        assert index["weight_map"] == weight_map
        assert index["metadata"]["total_size"] == sum(
            len(tensor.data) for tensor in tensors.values()
        )
    return tensors


def assert_same(actual: dict[str, Stored], expected: dict[str, Stored]) -> None:
    """The same names, and for each the same type, shape and bytes."""
    assert sorted(actual) == sorted(expected)
    for name, want in expected.items():
        have = actual[name]
        assert (have.dtype, have.shape) == (want.dtype, want.shape), name
        assert have.data == want.data, f"{name}: the bytes differ"


def assert_reads_as(directory: Path, expected: dict[str, torch.Tensor]) -> None:
    assert_same(read_hf(directory), {name: stored(tensor) for name, tensor in expected.items()})


def assert_same_tensors(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """As `assert_same`, for tensors that a library has read."""
    assert sorted(actual) == sorted(expected)
    for name, want in expected.items():
        have = actual[name]
        assert (have.dtype, have.shape) == (want.dtype, want.shape), name
        assert tensor_bytes(have) == tensor_bytes(want), f"{name}: the bytes differ"


@dataclass(frozen=True)
class Golden:
    """The expected value of a fixture: what golden.json says, made without the program."""

    tensors: dict[str, dict]
    objects: dict[str, dict]

    @staticmethod
    def load(path: Path) -> Golden:
        entries = json.loads(path.read_text())
        tensors = {name: entry for name, entry in entries.items() if entry["kind"] == "tensor"}
        objects = {name: entry for name, entry in entries.items() if entry["kind"] == "object"}
        assert len(tensors) + len(objects) == len(entries)
        return Golden(tensors, objects)

    def holdable(self) -> dict[str, dict]:
        """The tensors that safetensors can hold. A lone pair of 4-bit values has no shape there."""
        return {
            name: entry
            for name, entry in self.tensors.items()
            if entry["dtype"] in SAFETENSORS_DTYPES
            and not (entry["dtype"] == "float4_e2m1fn_x2" and not entry["shape"])
        }


def assert_golden(actual: dict[str, Stored], expected: dict[str, dict]) -> None:
    assert sorted(actual) == sorted(expected)
    for name, entry in expected.items():
        shape = list(entry["shape"])
        if entry["dtype"] == "float4_e2m1fn_x2":
            shape[-1] *= 2  # safetensors counts values, PyTorch counts bytes
        have = actual[name]
        assert (have.dtype, list(have.shape)) == (SAFETENSORS_DTYPES[entry["dtype"]], shape), name
        assert have.sha256 == entry["sha256"], f"{name}: the bytes differ"


def tree_digest(directory: Path) -> dict[str, str]:
    """Every file below `directory` and its SHA-256."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def stored_sha256(tensor: torch.Tensor) -> str:
    """As in golden.json."""
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()
