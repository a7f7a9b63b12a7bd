#!/usr/bin/env python3
"""How long, and in how much memory, the largest models are planned.

A Qwen3-MoE of the sizes of a model of 671 billion parameters, in 160 safetensors files that have
their headers and their length but no data, is planned for TP8 PP16 EP8: 1,024 ranks. The same with
a quarter and with half of its layers says whether time and memory grow as the model does.

    python3 bench/plan_large.py [--rounds N] [--json]

Needs build/release, which scripts/convert.sh builds, and 50 MB of disk: the files are sparse.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import measure

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20

LAYERS, EXPERTS, HIDDEN, EXPERT_WIDTH, VOCABULARY = 61, 256, 7168, 2048, 129_280
HEADS, GROUPS, HEAD_DIM = 128, 8, 128
FILES = 160
TP, PP, EP = 8, 16, 8


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for i in range(layers):
        layer = f"model.layers.{i}"
        attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
        yield f"{attention}.q_proj.weight", (HEADS * HEAD_DIM, HIDDEN)
        yield f"{attention}.k_proj.weight", (GROUPS * HEAD_DIM, HIDDEN)
        yield f"{attention}.v_proj.weight", (GROUPS * HEAD_DIM, HIDDEN)
        yield f"{attention}.o_proj.weight", (HIDDEN, HEADS * HEAD_DIM)
        yield f"{attention}.q_norm.weight", (HEAD_DIM,)
        yield f"{attention}.k_norm.weight", (HEAD_DIM,)
        yield f"{layer}.input_layernorm.weight", (HIDDEN,)
        yield f"{layer}.post_attention_layernorm.weight", (HIDDEN,)
        yield f"{mlp}.gate.weight", (EXPERTS, HIDDEN)
        for expert in range(EXPERTS):
            yield f"{mlp}.experts.{expert}.gate_proj.weight", (EXPERT_WIDTH, HIDDEN)
            yield f"{mlp}.experts.{expert}.up_proj.weight", (EXPERT_WIDTH, HIDDEN)
            yield f"{mlp}.experts.{expert}.down_proj.weight", (HIDDEN, EXPERT_WIDTH)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def config(layers: int) -> dict[str, object]:
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "num_hidden_layers": layers,
        "num_experts": EXPERTS,
        "hidden_size": HIDDEN,
        "moe_intermediate_size": EXPERT_WIDTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def write_file(path: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> None:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors:
        begin = end
        size = 2
        for extent in shape:
            size *= extent
        end += size
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def make(directory: Path, layers: int) -> int:
    """The number of tensors. Each file gets as many: with these sizes, nearly as many bytes."""
    tensors = list(shapes(layers))
    if (directory / "config.json").exists():
        return len(tensors)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    count = max(1, FILES * layers // LAYERS)
    weight_map = {}
    for i in range(count):
        part = tensors[len(tensors) * i // count : len(tensors) * (i + 1) // count]
        name = f"model-{i + 1:05d}-of-{count:05d}.safetensors"
        write_file(directory / name, part)
        weight_map |= {tensor: name for tensor, _ in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (directory / "config.json").write_text(json.dumps(config(layers), indent=2))
    return len(tensors)


def stage_list(layers: int) -> str:
    stages = [layers * (i + 1) // PP - layers * i // PP for i in range(PP)]
    return json.dumps([stages])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    release = REPOSITORY / "build" / "release" / "bin" / "reshard"
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=REPOSITORY / "build" / "bench")
    parser.add_argument("--reshard", type=Path, default=release)
    parser.add_argument("--json", action="store_true", help="the rows as JSON")
    options = parser.parse_args()

    parallel = ["--tp", TP, "--pp", PP, "--ep", EP]
    rows = []
    for layers in (LAYERS // 4 + 1, LAYERS // 2 + 1, LAYERS):
        source = options.workdir / f"moe-{layers}-layers"
        tensors = make(source, layers)
        command = [options.reshard, "plan", source, options.workdir / "out", "--to", "megatron"]
        command += ["--recipe", "megatron-core", *parallel, "--llm-pp-layers", stage_list(layers)]
        runs = [measure.run(command) for _ in range(options.rounds)]
        rows.append(
            {
                "layers": layers,
                "tensors": tensors,
                "seconds": statistics.median(run.seconds for run in runs),
                "cpu_seconds": statistics.median(run.cpu_seconds for run in runs),
                "peak_bytes": max(run.peak_bytes for run in runs),
            }
        )
    if options.json:
        json.dump(rows, sys.stdout, indent=2)
        print()
        return
    print("| layers | tensors | seconds | processor | us / tensor | peak MiB | bytes / tensor |")
    print("|--------|---------|---------|-----------|-------------|----------|----------------|")
    for row in rows:
        tensors, peak = row["tensors"], row["peak_bytes"]
        print(
            f"| {row['layers']:6} | {tensors:7} | {row['seconds']:7.2f} "
            f"| {row['cpu_seconds']:9.2f} | {row['cpu_seconds'] / tensors * 1e6:11.1f} "
            f"| {peak / MIB:8.0f} | {peak / tensors:14.0f} |"
        )


if __name__ == "__main__":
    main()
