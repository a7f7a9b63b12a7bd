"""Makes the files beside it. Needs torch 2.13; run it in this directory.

one/model_optim_rng.pt      a rank's file as converters write it: one model chunk and a version
chunks/model_optim_rng.pt   the same with two chunks
trained/model_optim_rng.pt  a rank's file as training writes it: args, optimizer, random states, ...

In one and chunks the data of the i-th tensor is as many bytes i+1.
"""

import argparse
import enum
import io
import pathlib
import sys
import types

import torch

HERE = pathlib.Path(__file__).parent


def tensors(shapes, first=0):
    return {
        name: torch.full((torch.Size(shape).numel() * 2,), first + i + 1, dtype=torch.uint8)
        .view(torch.bfloat16)
        .reshape(shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def converted():
    version = {"checkpoint_version": 3.0}
    layers = {"decoder.layers.0.mlp.linear_fc1.weight": (4, 3), "decoder.norm": (3,)}
    torch.save({"model": tensors(layers)} | version, HERE / "one/model_optim_rng.pt")
    second = {"decoder.layers.0.mlp.linear_fc2.weight": (3, 2), "output_layer.weight": (5, 3)}
    chunks = {"model0": tensors(layers), "model1": tensors(second, 2)}
    torch.save(chunks | version, HERE / "chunks/model_optim_rng.pt")


def fake_enum(module, name):
    """A member of an enumeration in a module that no reader of the file will have."""
    sys.modules[module] = types.ModuleType(module)
    made = enum.Enum(name, ["first"], module=module)
    setattr(sys.modules[module], name, made)
    return made.first


def trained():
    args = argparse.Namespace(
        tensor_model_parallel_size=1,
        pipeline_model_parallel_size=1,
        virtual_pipeline_model_parallel_size=None,
        expert_model_parallel_size=1,
        num_layers=2,
        padded_vocab_size=128,
        untie_embeddings_and_output_weights=True,
        lr=3e-4,
        rank=0,
        params_dtype=torch.bfloat16,
        model_type=fake_enum("megatron.core.enums", "ModelType"),
        attention_backend=fake_enum("megatron.core.transformer.enums", "AttnBackend"),
    )
    embedding = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    model = {
        "embedding.word_embeddings.weight": embedding,
        "output_layer.weight": embedding,
        "slice": embedding.t()[1:],
        "self_attention._extra_state": io.BytesIO(b"state"),
        "mlp._extra_state": None,
    }
    optimizer = {"state": {0: {"exp_avg": torch.zeros(4, 3)}}, "param_groups": [{"lr": 1e-4}]}
    content = {
        "args": args,
        "checkpoint_version": 3.0,
        "iteration": 1000,
        "model": model,
        "optimizer": optimizer,
        "opt_param_scheduler": {"max_lr": 3e-4},
        "rng_state": [{"torch_rng_state": torch.zeros(5, dtype=torch.uint8)}],
    }
    torch.save(content, HERE / "trained/model_optim_rng.pt")


if __name__ == "__main__":
    converted()
    trained()
