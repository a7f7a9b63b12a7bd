#!/usr/bin/env python3
"""Makes examples/tiny-llama-dcp: what a small training run leaves behind.

Four gloo processes shard a tiny Llama with FSDP2, train it for a few steps with AdamW and save
model and optimizer with PyTorch Distributed Checkpoint, in the tree of VeOmni's trainer: the keys
are `model.model.layers...`, `model.lm_head.weight`, `optimizer.state...`. Nothing is downloaded.

    python examples/make_tiny_llama_dcp.py          # needs torch, transformers, tokenizers
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORLD_SIZE = 4
NAME = "tiny-llama-dcp"
VOCABULARY = 512

CORPUS = [
    "A checkpoint is the memory of a training run: every weight, every moment, every step.",
    "The same weights can lie on one rank or on a thousand; the model does not change.",
    "Each rank writes its own shard, and the metadata says where every chunk begins and ends.",
    "To convert a checkpoint is to move bytes from one layout to another, and to lose none.",
    "Reading is easy; knowing that nothing was left behind is the work.",
]

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|{{ message['role'] }}|> {{ message['content'] }}</s>"
    "{% endfor %}"
)


def llama_config() -> LlamaConfig:
    """90 is no multiple of four, so that the ranks hold shards of different sizes."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=90,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def write_assets(directory: Path) -> None:
    """config.json, generation_config.json and a byte-level BPE tokenizer."""
    config = llama_config()
    config.architectures = ["LlamaForCausalLM"]
    config.dtype = torch.float32
    config.save_pretrained(directory)
    GenerationConfig(
        bos_token_id=0, eos_token_id=1, pad_token_id=2, max_new_tokens=32
    ).save_pretrained(directory)

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=256,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(directory)


def train_and_save(rank: int, rendezvous: str) -> None:
    """One of the four processes. The directory's name stays relative: `.metadata` records it."""
    dist.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE
    )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = LlamaForCausalLM(llama_config())
    mesh = init_device_mesh("cpu", (WORLD_SIZE,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(3):
        generator = torch.Generator().manual_seed(WORLD_SIZE * step + rank)
        tokens = torch.randint(VOCABULARY, (2, 32), generator=generator)
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    state = {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, optimizer),
    }
    dcp.save(state, storage_writer=dcp.FileSystemWriter(NAME))
    dist.destroy_process_group()


def main() -> None:
    os.chdir(Path(__file__).resolve().parent)
    shutil.rmtree(NAME, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        mp.spawn(train_and_save, args=(os.path.join(scratch, "rendezvous"),), nprocs=WORLD_SIZE)
    write_assets(Path(NAME))
    size = sum(path.stat().st_size for path in Path(NAME).iterdir())
    print(f"{NAME}: {size / 1e6:.2f} MB in {len(os.listdir(NAME))} files")


if __name__ == "__main__":
    main()
