"""Real Megatron-Core on the CPU: loads each rank's file and runs the model over gloo processes.

Megatron-Core is made for CUDA. `_without_cuda` replaces what stops it on a CPU; the model, the
cutting and the collectives are its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig

from .megatron_layout import Layout, Rank, read_rank

WORLD_SIZE = 4


@dataclass(frozen=True)
class Job:
    """A checkpoint to load and the tokens to run through it."""

    config: Path  # the Hugging Face directory that has the model's config.json
    checkpoint: Path
    layout: Layout
    tokens: Tensor  # [batch, sequence]


class Client:
    """Four processes that take jobs, one at a time; a layout of fewer ranks is run several times.

    Starting them costs seconds, so one client serves all tests; so does a change of layout.
    """

    def __enter__(self) -> Client:
        self._scratch = tempfile.TemporaryDirectory()
        context = mp.get_context("spawn")
        self._jobs = [context.SimpleQueue() for _ in range(WORLD_SIZE)]
        self._answers = context.SimpleQueue()
        self._processes = [
            context.Process(
                target=_work, args=(rank, self._scratch.name, jobs, self._answers), daemon=True
            )
            for rank, jobs in enumerate(self._jobs)
        ]
        for process in self._processes:
            process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        self._scratch.cleanup()

    def logits(self, job: Job) -> Tensor:
        """[batch, sequence, vocabulary]. Fails with the rank's own words if one could not load."""
        for jobs in self._jobs:
            jobs.put(job)
        answers = [self._answers.get() for _ in self._processes]
        failed = [answer for answer in answers if isinstance(answer, str)]
        assert not failed, "\n".join(failed)
        return torch.from_numpy(next(answer for answer in answers if answer is not None))


def _work(rank: int, scratch: str, jobs: Any, answers: Any) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    _without_cuda()
    layout: Layout | None = None
    for number in itertools.count():
        job = jobs.get()
        try:
            if job.layout != layout:
                _connect(rank, os.path.join(scratch, f"rendezvous-{number}"), job.layout)
                layout = job.layout
            answers.put(_logits(job))
        except Exception:
            answers.put(f"rank {rank}:\n{traceback.format_exc()}")


def _connect(rank: int, rendezvous: str, layout: Layout) -> None:
    """Makes Megatron's process groups. All older ones go: many of them make each new one slow."""
    from megatron.core import parallel_state

    if dist.is_initialized():
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=WORLD_SIZE,
        timeout=timedelta(seconds=60),
    )
    parallel_state.initialize_model_parallel(
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        virtual_pipeline_model_parallel_size=layout.vpp if layout.vpp > 1 else None,
        expert_model_parallel_size=layout.ep,
        expert_tensor_parallel_size=layout.expert_tp,
    )


def _without_cuda() -> None:
    from megatron.core.tensor_parallel.random import CudaRNGStatesTracker
    from megatron.core.transformer.moe import moe_utils

    torch.cuda.current_device = lambda: "cpu"
    torch.Tensor.cuda = lambda self, *_, **__: self
    CudaRNGStatesTracker.fork = lambda self, *_: contextlib.nullcontext()
    moe_utils.te_general_gemm = None


def _logits(job: Job) -> Any:
    """The logits on the first process of the last stage, None on all others."""
    from megatron.core import parallel_state

    chunks, failed = _load(job)
    # All ranks give up together, or one would wait for another's message.
    failures: list[str | None] = [None] * WORLD_SIZE
    dist.all_gather_object(failures, failed)
    if any(failures):
        raise RuntimeError(failed or "another rank failed")
    with torch.inference_mode():
        logits = _run(chunks, job)
    is_first = parallel_state.get_tensor_model_parallel_rank() == 0
    is_first &= parallel_state.get_data_parallel_rank() == 0
    return logits.numpy() if logits is not None and is_first else None


def _load(job: Job) -> tuple[list[torch.nn.Module], str | None]:
    """This rank's part of the model, and why it could not be loaded."""
    from megatron.core import parallel_state

    rank = Rank(
        parallel_state.get_tensor_model_parallel_rank(),
        parallel_state.get_pipeline_model_parallel_rank(),
        parallel_state.get_expert_model_parallel_rank(),
    )
    try:
        chunks = [_build(job, rank.stage, chunk) for chunk in range(job.layout.vpp)]
        states = read_rank(job.checkpoint, job.layout, rank)
        for chunk, state in zip(chunks, states, strict=True):
            chunk.load_state_dict(state, strict=True)
    except Exception:
        return [], traceback.format_exc()
    return chunks, None


def _build(job: Job, stage: int, chunk: int) -> torch.nn.Module:
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_decoder_block_spec

    layout = job.layout
    hub = AutoConfig.from_pretrained(job.config)
    config = _transformer_config(hub, layout)
    vp_stage = chunk if layout.vpp > 1 else None
    spec = get_gpt_decoder_block_spec(
        config, use_transformer_engine=False, normalization="RMSNorm", vp_stage=vp_stage
    )
    return GPTModel(
        config,
        spec,
        vocab_size=hub.vocab_size,
        max_sequence_length=hub.max_position_embeddings,
        pre_process=stage == 0 and chunk == 0,
        post_process=stage == layout.pp - 1 and chunk == layout.vpp - 1,
        parallel_output=False,
        share_embeddings_and_output_weights=hub.tie_word_embeddings,
        position_embedding_type="rope",
        rotary_base=hub.rope_parameters["rope_theta"],
        vp_stage=vp_stage,
    ).eval()


def _transformer_config(hub: PreTrainedConfig, layout: Layout) -> Any:
    from megatron.core.transformer.transformer_config import TransformerConfig

    options: dict[str, Any] = {}
    expert_count = getattr(hub, "num_local_experts", None) or getattr(hub, "num_experts", None)
    if expert_count is not None:
        options |= {
            "num_moe_experts": expert_count,
            "moe_router_topk": hub.num_experts_per_tok,
            "moe_router_load_balancing_type": "none",
            "moe_ffn_hidden_size": getattr(hub, "moe_intermediate_size", hub.intermediate_size),
            "moe_token_dispatcher_type": "allgather",
        }
    if layout.layer_counts is not None:
        options["pipeline_model_parallel_layout"] = _pipeline_layout(layout)
    return TransformerConfig(
        num_layers=hub.num_hidden_layers,
        hidden_size=hub.hidden_size,
        ffn_hidden_size=hub.intermediate_size,
        num_attention_heads=hub.num_attention_heads,
        num_query_groups=hub.num_key_value_heads,
        kv_channels=hub.head_dim,
        normalization="RMSNorm",
        layernorm_epsilon=hub.rms_norm_eps,
        gated_linear_unit=True,
        activation_func=torch.nn.functional.silu,
        add_bias_linear=False,
        add_qkv_bias=hub.model_type == "qwen2",
        qk_layernorm=hub.model_type.startswith("qwen3"),
        attention_dropout=0.0,
        hidden_dropout=0.0,
        tensor_model_parallel_size=layout.tp,
        pipeline_model_parallel_size=layout.pp,
        virtual_pipeline_model_parallel_size=layout.vpp if layout.vpp > 1 else None,
        expert_model_parallel_size=layout.ep,
        expert_tensor_parallel_size=layout.expert_tp,
        pipeline_dtype=torch.float32,
        use_cpu_initialization=True,
        perform_initialization=False,
        masked_softmax_fusion=False,
        bias_activation_fusion=False,
        apply_rope_fusion=False,
        gradient_accumulation_fusion=False,
        **options,
    )


def _pipeline_layout(layout: Layout) -> list[list[str]]:
    """What each chunk holds, in Megatron's words: all stages' first chunks, then the second."""
    assert layout.layer_counts is not None
    stages = [["decoder"] * count for counts in layout.layer_counts for count in counts]
    stages[0].insert(0, "embedding")
    stages[-1].append("loss")
    return stages


def _run(chunks: list[torch.nn.Module], job: Job) -> Tensor | None:
    """The chunks in the model's order; each stage tells all others what it computed."""
    from megatron.core import parallel_state

    batch, length = job.tokens.shape
    positions = torch.arange(length).expand(batch, length)
    mask = torch.ones(length, length).triu(1).bool()[None, None]
    group = parallel_state.get_pipeline_model_parallel_group()
    stage = parallel_state.get_pipeline_model_parallel_rank()
    hidden = torch.empty(length, batch, chunks[0].config.hidden_size)
    for number, chunk in enumerate(chunks):
        for owner in range(job.layout.pp):
            if owner == stage:
                chunk.set_input_tensor(hidden)
                out = chunk(job.tokens, positions, mask)
                if chunk.post_process:
                    return out
                hidden = out.contiguous()
            if (number, owner) != (job.layout.vpp - 1, job.layout.pp - 1):
                dist.broadcast(hidden, group=group, group_src=owner)
    return None
