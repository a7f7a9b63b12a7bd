"""The conversion that `--dequantize` is measured against, and the model that both take.

As the publishers' scripts do it, on a CPU: each file is loaded whole, each float8 weight multiplied
by its scales, and the file saved again.

    python bench/torch_dequantize.py make DIR           1.1 GB of float8 in two files
    python bench/torch_dequantize.py convert SRC DST
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

BLOCK = 128
LAYERS, ROWS, COLUMNS = 16, 8192, 8192


def make(directory: Path) -> None:
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    weight_map = {}
    for file in range(2):
        tensors = {}
        for layer in range(file * LAYERS // 2, (file + 1) * LAYERS // 2):
            name = f"model.layers.{layer}.mlp.up_proj.weight"
            values = torch.randn(ROWS, COLUMNS, generator=generator)
            tensors[name] = values.to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.rand(
                ROWS // BLOCK, COLUMNS // BLOCK, generator=generator
            )
        path = f"model-{file + 1:05d}-of-00002.safetensors"
        save_file(tensors, directory / path, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, path)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}}
    (directory / "config.json").write_text(json.dumps(config))


def dequantize(values: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    rows, columns = values.shape
    blocks = values.float().view(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return (blocks * scales[:, None, :, None]).view(rows, columns).to(torch.bfloat16)


def convert(source: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    for path in sorted(source.glob("*.safetensors")):
        tensors = load_file(path)
        plain = {
            name: dequantize(tensor, tensors[f"{name}_scale_inv"])
            for name, tensor in tensors.items()
            if not name.endswith("_scale_inv")
        }
        save_file(plain, destination / path.name, metadata={"format": "pt"})


if __name__ == "__main__":
    verb, *paths = sys.argv[1:]
    {"make": make, "convert": convert}[verb](*map(Path, paths))
