"""What MindSpeed-MM's files must hold for a Hugging Face model, stated slowly with PyTorch.

A second and independent statement of the layout: mindspeed_models makes whole tensors, which are
then cut for tensor, pipeline and expert parallelism. A tensor that lies on no stage is an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import accumulate

from . import mindspeed_models as models
from .mindspeed_models import EMBEDDING, OUTPUT, PROJECTOR, A, Config, Made, Maker, T, Tensors, V
from .tensor_cuts import uneven_rows

Layers = list[list[int]]


@dataclass(frozen=True)
class Layout:
    """Layers per stage: one row per virtual chunk, one column per pipeline rank. 0: as `tp`."""

    llm: Layers
    vit: Layers
    audio: Layers | None = None
    tp: int = 1
    vit_tp: int = 0
    audio_tp: int = 0
    ep: int = 1

    @property
    def pp(self) -> int:
        return len(self.llm[0])

    @property
    def vpp(self) -> int:
        return len(self.llm)

    @property
    def ranks(self) -> int:
        return max(self.tp, self.vit_tp, self.audio_tp)

    def degree(self, name: str) -> int:
        """Among how many ranks the module of this tensor is cut."""
        if name.startswith("image_encoder."):
            return self.vit_tp or self.tp
        if name.startswith("audio_encoder."):
            return self.audio_tp or self.tp
        return self.tp

    def options(self) -> list[str]:
        """The same for the command line."""
        numbers = {"tp": self.tp, "vit-tp": self.vit_tp, "audio-tp": self.audio_tp, "ep": self.ep}
        lists = {"llm": self.llm, "vit": self.vit, "audio": self.audio}
        options = [word for key, n in numbers.items() if n for word in (f"--{key}", str(n))]
        for key, layers in lists.items():
            if layers is not None:
                options += [f"--{key}-pp-layers", json.dumps(layers, separators=(",", ":"))]
        return options


@dataclass(frozen=True)
class Schema:
    """The names by which the tensors of one modality find their stage."""

    layers: str
    first: tuple[str, ...]
    last: tuple[str, ...]
    every: tuple[str, ...] = ()


TEXT = Schema(
    f"{T}.",
    ("text_decoder.embedding.",),
    ("text_decoder.decoder.final_layernorm.", f"{OUTPUT}."),
)
REWARD_TEXT = Schema(TEXT.layers, TEXT.first, (TEXT.last[0], "rm_head."))
VISION = Schema(
    f"{V}.",
    ("image_encoder.encoder.patch_embed.", "image_encoder.encoder.pos_embed."),
    (f"{PROJECTOR}.",),
)
GLM_VISION = Schema(
    f"{V}.",
    (
        "image_encoder.encoder.patch_embed.",
        "image_encoder.encoder.post_conv_layernorm.",
        "image_encoder.encoder.embeddings.position_embedding.",
    ),
    (
        f"{PROJECTOR}.",
        "image_encoder.encoder.blocks.final_layernorm.",
        "image_encoder.encoder.downsample.",
    ),
)
INTERN_VISION = Schema(
    "image_encoder.encoder.encoder.layers.",
    ("image_encoder.encoder.embeddings.",),
    (f"{PROJECTOR}.",),
)
DEEPSEEK_VISION = Schema(
    "image_encoder.encoder.blocks.",
    ("image_encoder.encoder.patch_embed.", "image_encoder.encoder.pos_embed"),
    ("image_encoder.encoder.norm.", "image_encoder.encoder.attn_pool.", f"{PROJECTOR}."),
    ("image_newline", "view_seperator"),
)
AUDIO = Schema(
    f"{A}.",
    ("audio_encoder.encoder.conv", "audio_encoder.encoder.audio_bos_eos_token."),
    ("audio_encoder.encoder.proj.", "audio_encoder.encoder.ln_post."),
)


def make(tensors: Tensors, config: Config, canonical: bool) -> tuple[dict[str, Made], list[Schema]]:
    """The whole tensors of a model, and the schemas of its vision, text and audio."""
    m = Maker(tensors)
    architecture = config["architectures"][0]
    text = config.get("text_config", config)
    if architecture in ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"):
        models.qwen_text(m, "model.", "lm_head", text, canonical)
        models.qwen_vit(m, "visual.", config["vision_config"], canonical)
    elif architecture == "Qwen2VLRewardModelBT":
        models.qwen_text(m, "model.", "lm_head", text)
        models.qwen_vit(m, "visual.", config["vision_config"])
        m.module("rm_head", "rm_head")
        return m.finish(), [VISION, REWARD_TEXT]
    elif architecture == "Qwen2_5OmniModel":
        thinker = config["thinker_config"]
        models.qwen_text(m, "thinker.model.", "thinker.lm_head", thinker["text_config"])
        models.qwen_vit(m, "thinker.visual.", thinker["vision_config"])
        models.qwen_audio(m, "thinker.audio_tower.", thinker["audio_config"])
        return m.finish(), [VISION, TEXT, AUDIO]
    elif architecture.startswith("Qwen3VL"):
        models.qwen_text(m, "model.language_model.", "lm_head", text)
        models.qwen_vit(m, "model.visual.", config["vision_config"])
    elif architecture == "Glm4vForConditionalGeneration":
        models.glm_text(m, text)
        models.glm_vit(m, config["vision_config"])
        return m.finish(), [GLM_VISION, TEXT]
    elif architecture == "InternVLChatModel":
        llm = config["llm_config"]
        if llm["architectures"] == ["InternLM2ForCausalLM"]:
            models.internlm2_text(m, llm)
        else:
            root, head = "language_model.model.", "language_model.lm_head"
            models.qwen_text(m, root, head, llm, vocabulary=uneven_rows)
        models.intern_vit(m, config["vision_config"])
        return m.finish(), [INTERN_VISION, TEXT]
    elif architecture == "DeepseekVLV2ForCausalLM":
        models.deepseek_text(m, config["language_config"])
        models.deepseek_vit(m, tensors)
        return m.finish(), [DEEPSEEK_VISION, TEXT]
    else:
        raise ValueError(architecture)
    return m.finish(), [VISION, TEXT]


def is_tied(config: Config) -> bool:
    return bool(config.get("thinker_config", config).get("tie_word_embeddings", False))


def place(names: list[str], schemas: list[Schema], layout: Layout) -> list[dict[str, str]]:
    """For each stage, the names on it and, for each, the name it came from.

    Stages are numbered chunk by chunk. A modality with a shorter list than the longest repeats it.
    """
    lists = [sum(layers, []) for layers in (layout.vit, layout.llm, layout.audio) if layers]
    assert len(lists) == len(schemas)
    count = max(map(len, lists))
    stages = []
    for stage in range(count):
        here: dict[str, str] = {}
        for schema, layers in zip(schemas, lists, strict=True):
            here |= on_stage(names, schema, layers, stage % len(layers))
        stages.append(here)
    placed = {name for stage in stages for name in stage.values()}
    assert placed == set(names), f"on no stage: {sorted(set(names) - placed)}"
    return stages


def on_stage(names: list[str], schema: Schema, layers: list[int], index: int) -> dict[str, str]:
    filled = [i for i, count in enumerate(layers) if count]
    end = list(accumulate(layers))[index]
    begin = end - layers[index]
    prefixes = schema.every
    prefixes += schema.first if index == filled[0] else ()
    prefixes += schema.last if index == filled[-1] else ()
    here = {}
    for name in names:
        if name.startswith(schema.layers):
            number, rest = name.removeprefix(schema.layers).split(".", 1)
            if begin <= int(number) < end:
                here[f"{schema.layers}{int(number) - begin}.{rest}"] = name
        elif name.startswith(prefixes):
            here[name] = name
    return here


def on_expert_rank(here: dict[str, str], ep: int, rank: int) -> dict[str, str]:
    """Experts are shared out in runs and renumbered; everything else is on every rank."""
    marker = ".mlp.experts.local_experts."
    numbers = [int(name.split(marker)[1].split(".")[0]) for name in here if marker in name]
    if not numbers:
        return here
    experts = max(numbers) + 1
    assert experts % ep == 0
    each = experts // ep
    kept = {}
    for name, source in here.items():
        if marker not in name:
            kept[name] = source
            continue
        layer, expert = name.split(marker)
        number, rest = expert.split(".", 1)
        if int(number) // each == rank:
            kept[f"{layer}{marker}{int(number) % each}.{rest}"] = source
    return kept


def directory(layout: Layout, t: int, p: int, e: int) -> str:
    name = f"mp_rank_{t:02d}"
    name += f"_{p:03d}" if layout.pp > 1 else ""
    return name + (f"_{e:03d}" if layout.ep > 1 else "")


def convert(
    tensors: Tensors, config: Config, layout: Layout, canonical: bool = False
) -> dict[str, list[Tensors]]:
    """For each rank's directory, the tensors of each of its virtual chunks."""
    made, schemas = make(tensors, config, canonical)
    if is_tied(config) and layout.pp > 1 and schemas[1] is TEXT:
        made[f"{OUTPUT}.weight"] = made[EMBEDDING]
    shards = {}
    for name, whole_one in made.items():
        parts = whole_one.cut(whole_one.tensor, layout.degree(name))
        shards[name] = [parts[rank % len(parts)] for rank in range(layout.ranks)]
    stages = place(list(made), schemas, layout)
    assert len(stages) == layout.pp * layout.vpp

    def chunk(t: int, stage: int, e: int) -> Tensors:
        here = on_expert_rank(stages[stage], layout.ep, e)
        return {name: shards[source][t] for name, source in here.items()}

    return {
        directory(layout, t, p, e): [chunk(t, v * layout.pp + p, e) for v in range(layout.vpp)]
        for t in range(layout.ranks)
        for p in range(layout.pp)
        for e in range(layout.ep)
    }
