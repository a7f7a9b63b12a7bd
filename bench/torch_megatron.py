"""The conversions that reshard is measured against: PyTorch, with the whole model in memory.

As MindSpeed-MM's converter does it: load all files, rename and fuse the tensors in one dict, cut
each for tensor parallelism and clone the shards, sort them by pipeline stage, one torch.save for
each rank; and the same backwards.

    python bench/torch_megatron.py split HF OUT --tp 2 --pp 2
    python bench/torch_megatron.py merge MEGATRON OUT --config HF/config.json
    python bench/torch_megatron.py resplit MEGATRON OUT --tp 2 --pp 2 --config HF/config.json
    python bench/torch_megatron.py compare A B
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

SHARD_SIZE = 500_000_000
LAYER = re.compile(r"decoder\.layers\.(\d+)\.")
RENAMED = {
    "model.embed_tokens.weight": "embedding.word_embeddings.weight",
    "model.norm.weight": "decoder.final_layernorm.weight",
    "lm_head.weight": "output_layer.weight",
}
RENAMED_IN_LAYER = {
    "self_attn.o_proj.weight": "self_attention.linear_proj.weight",
    "mlp.down_proj.weight": "mlp.linear_fc2.weight",
    "input_layernorm.weight": "self_attention.linear_qkv.layer_norm_weight",
    "post_attention_layernorm.weight": "mlp.linear_fc1.layer_norm_weight",
}
# The dimension that tensor parallelism cuts; the fused gate and up are cut each for itself.
CUT = {
    "word_embeddings.weight": 0,
    "output_layer.weight": 0,
    "linear_qkv.weight": 0,
    "linear_qkv.bias": 0,
    "linear_fc1.weight": 0,
    "linear_proj.weight": 1,
    "linear_fc2.weight": 1,
}


def read_config(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(path.read_text())
    return config


def load_hf(directory: Path) -> Tensors:
    tensors: Tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors.update(load_file(path, device="cpu"))
    return tensors


def fuse(tensors: Tensors, config: dict[str, Any]) -> None:
    """Hugging Face's names become Megatron's, in place."""
    groups = config["num_key_value_heads"]
    for name, renamed in RENAMED.items():
        tensors[renamed] = tensors.pop(name)
    for i in range(config["num_hidden_layers"]):
        hub, here = f"model.layers.{i}", f"decoder.layers.{i}"
        for name, renamed in RENAMED_IN_LAYER.items():
            tensors[f"{here}.{renamed}"] = tensors.pop(f"{hub}.{name}")
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"{hub}.self_attn.{part}_proj.{kind}") for part in "qkv"]
            grouped = [part.reshape(groups, -1, *part.shape[1:]) for part in parts]
            fused = torch.cat(grouped, dim=1).flatten(0, 1)
            tensors[f"{here}.self_attention.linear_qkv.{kind}"] = fused
        gate_up = [tensors.pop(f"{hub}.mlp.{part}_proj.weight") for part in ("gate", "up")]
        tensors[f"{here}.mlp.linear_fc1.weight"] = torch.cat(gate_up)


def unfuse(tensors: Tensors, config: dict[str, Any]) -> None:
    """The inverse of `fuse`."""
    groups, heads = config["num_key_value_heads"], config["num_attention_heads"]
    for name, renamed in RENAMED.items():
        tensors[name] = tensors.pop(renamed)
    for i in range(config["num_hidden_layers"]):
        hub, here = f"model.layers.{i}", f"decoder.layers.{i}"
        for name, renamed in RENAMED_IN_LAYER.items():
            tensors[f"{hub}.{name}"] = tensors.pop(f"{here}.{renamed}")
        for kind in ("weight", "bias"):
            fused = tensors.pop(f"{here}.self_attention.linear_qkv.{kind}")
            grouped = fused.reshape(groups, heads // groups + 2, -1, *fused.shape[1:])
            parts = grouped.split([heads // groups, 1, 1], dim=1)
            for part, tensor in zip("qkv", parts, strict=True):
                name = f"{hub}.self_attn.{part}_proj.{kind}"
                tensors[name] = tensor.flatten(0, 2).contiguous()
        gate, up = tensors.pop(f"{here}.mlp.linear_fc1.weight").chunk(2)
        tensors[f"{hub}.mlp.gate_proj.weight"] = gate.clone()
        tensors[f"{hub}.mlp.up_proj.weight"] = up.clone()


def cut_dim(name: str) -> int | None:
    return next((dim for end, dim in CUT.items() if name.endswith(end)), None)


def split_by_tp(tensors: Tensors, tp: int) -> list[Tensors]:
    ranks: list[Tensors] = [{} for _ in range(tp)]
    for name, tensor in tensors.items():
        dim = cut_dim(name)
        shards: list[torch.Tensor] | tuple[torch.Tensor, ...] = [tensor] * tp
        if name.endswith("linear_fc1.weight"):
            gate, up = tensor.chunk(2)
            pairs = zip(gate.chunk(tp), up.chunk(tp), strict=True)
            shards = [torch.cat(pair) for pair in pairs]
        elif dim is not None:
            shards = tensor.chunk(tp, dim=dim)
        for rank, shard in zip(ranks, shards, strict=True):
            rank[name] = shard.clone()
    return ranks


def merge_tp(ranks: list[Tensors]) -> Tensors:
    tensors: Tensors = {}
    for name in ranks[0]:
        shards = [rank[name] for rank in ranks]
        dim = cut_dim(name)
        if name.endswith("linear_fc1.weight"):
            halves = zip(*(shard.chunk(2) for shard in shards), strict=True)
            tensors[name] = torch.cat([part for half in halves for part in half])
        else:
            tensors[name] = shards[0] if dim is None else torch.cat(shards, dim=dim)
    return tensors


def stage(tensors: Tensors, layers: int, pp: int, rank: int) -> Tensors:
    """What one pipeline stage holds, its layers counted from 0."""
    share = layers // pp
    part: Tensors = {}
    for name, tensor in tensors.items():
        layer = LAYER.match(name)
        if layer is None:
            if rank == (0 if name.startswith("embedding.") else pp - 1):
                part[name] = tensor
        elif int(layer[1]) // share == rank:
            own = f"decoder.layers.{int(layer[1]) - share * rank}.{name[layer.end() :]}"
            part[own] = tensor
    return part


def save_ranks(tensors: Tensors, layers: int, root: Path, tp: int, pp: int) -> None:
    for tp_rank, rank in enumerate(split_by_tp(tensors, tp)):
        for pp_rank in range(pp):
            name = f"mp_rank_{tp_rank:02d}" + (f"_{pp_rank:03d}" if pp > 1 else "")
            directory = root / "release" / name
            directory.mkdir(parents=True)
            saved = {"model": stage(rank, layers, pp, pp_rank), "checkpoint_version": 3.0}
            torch.save(saved, directory / "model_optim_rng.pt")
    (root / "latest_checkpointed_iteration.txt").write_text("release")


def load_ranks(root: Path) -> Tensors:
    ranks: dict[str, Tensors] = {}
    begins: dict[str, int] = {}
    for path in sorted(root.glob("release/mp_rank_*/model_optim_rng.pt")):
        tp_rank = path.parent.name.removeprefix("mp_rank_").split("_")[0]
        rank, begin = ranks.setdefault(tp_rank, {}), begins.setdefault(tp_rank, 0)
        for name, tensor in torch.load(path, weights_only=True)["model"].items():
            layer = LAYER.match(name)
            if layer is not None:
                number = begin + int(layer[1])
                name = f"decoder.layers.{number}.{name[layer.end() :]}"
                begins[tp_rank] = max(begins[tp_rank], number + 1)
            rank[name] = tensor
    return merge_tp([ranks[key] for key in sorted(ranks)])


def save_hf(tensors: Tensors, directory: Path) -> None:
    directory.mkdir(parents=True)
    files: list[Tensors] = []
    filled = 0
    for name in sorted(tensors):
        size = tensors[name].nbytes
        if not files or filled + size > SHARD_SIZE:
            files.append({})
            filled = 0
        files[-1][name] = tensors[name]
        filled += size
    weight_map = {}
    for i, part in enumerate(files):
        file = f"model-{i + 1:05d}-of-{len(files):05d}.safetensors"
        save_file(part, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def flatten(directory: Path) -> Tensors:
    tensors = load_hf(directory)
    for path in sorted(directory.rglob("model_optim_rng.pt")):
        for name, tensor in torch.load(path, weights_only=True)["model"].items():
            tensors[f"{path.parent.relative_to(directory)}/{name}"] = tensor
    return tensors


def compare(a: Path, b: Path) -> None:
    ours, theirs = flatten(a), flatten(b)
    if not ours or ours.keys() != theirs.keys():
        raise SystemExit(f"not in both: {sorted(ours.keys() ^ theirs.keys())[:5]}")
    for name, tensor in ours.items():
        other = theirs[name]
        same = tensor.dtype == other.dtype and tensor.shape == other.shape
        if not same or not torch.equal(tensor.view(torch.uint8), other.view(torch.uint8)):
            raise SystemExit(f"{name} differs")
    print(len(ours))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["split", "merge", "resplit", "compare"])
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--pp", type=int, default=1)
    parser.add_argument("--config", type=Path)
    options = parser.parse_args()
    if options.way == "compare":
        return compare(options.source, options.destination)
    config = read_config(options.config or options.source / "config.json")
    if options.way == "split":
        tensors = load_hf(options.source)
        fuse(tensors, config)
    else:
        tensors = load_ranks(options.source)
    if options.way == "merge":
        unfuse(tensors, config)
        return save_hf(tensors, options.destination)
    layers = config["num_hidden_layers"]
    save_ranks(tensors, layers, options.destination, options.tp, options.pp)


if __name__ == "__main__":
    main()
