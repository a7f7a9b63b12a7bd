"""Float8 weights with their scales, as published models have them; their products by PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

BLOCK = [128, 128]
FLOAT8 = {
    name: getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}


def write(
    directory: Path,
    tensors: dict[str, torch.Tensor],
    block: list[int] | None = BLOCK,
    **config: Any,
) -> Path:
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    quantization: dict[str, Any] = {"quant_method": "fp8", "fmt": "e4m3"}
    if block:
        quantization["weight_block_size"] = block
    text = {"architectures": ["Own"], "quantization_config": quantization, "dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(text | config))
    return directory


def grid(shape: tuple[int, ...], block: list[int]) -> list[int]:
    block = [1] * (len(shape) - len(block)) + block
    return [-(-extent // size) for extent, size in zip(shape, block, strict=True)]


def spread(scales: torch.Tensor, shape: tuple[int, ...], block: list[int]) -> torch.Tensor:
    """Each value's scale."""
    if scales.numel() == 1:
        return scales.reshape(()).expand(shape)
    for dim, size in enumerate([1] * (len(shape) - len(block)) + block):
        scales = scales.repeat_interleave(size, dim).narrow(dim, 0, shape[dim])
    return scales


def product(
    values: torch.Tensor,
    scales: torch.Tensor,
    dtype: torch.dtype = torch.bfloat16,
    block: list[int] = BLOCK,
) -> torch.Tensor:
    return (values.float() * spread(scales.float(), tuple(values.shape), block)).to(dtype)


def noise(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """All bytes, NaN and infinities among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).view(dtype)


def scales_of(shape: list[int], seed: int = 1) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 0.01 + 1e-4


def quantized(tensor: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """In square blocks, as the largest value of each says."""
    scales = torch.empty(grid(tuple(tensor.shape), [size, size]))
    values = torch.empty(tensor.shape, dtype=torch.float8_e4m3fn)
    for row in range(scales.shape[0]):
        for column in range(scales.shape[1]):
            where = (
                slice(size * row, size * row + size),
                slice(size * column, size * column + size),
            )
            scales[row, column] = tensor[where].abs().max().float() / 448
            values[where] = (tensor[where].float() / scales[row, column]).to(values.dtype)
    return values, scales


def quantize(
    directory: Path, weights: dict[str, torch.Tensor], config: dict[str, Any], size: int
) -> dict[str, torch.Tensor]:
    """Writes a model with its linear layers in float8; gives the products of what it wrote."""
    fp8, products = {}, {}
    for name, tensor in weights.items():
        fp8[name] = products[name] = tensor
        if name.endswith("_proj.weight"):
            fp8[name], fp8[f"{name}_scale_inv"] = quantized(tensor, size)
            scales = fp8[f"{name}_scale_inv"]
            products[name] = product(fp8[name], scales, tensor.dtype, [size, size])
    write(directory, fp8, [size, size], **config)
    return products
