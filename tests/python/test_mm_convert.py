"""mm-convert takes MindSpeed-MM's documented command lines and does what `convert` does."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from harness import cli, compare, tiny_multimodal
from harness.mindspeed_reference import Layout
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

COMMAND = "mm-convert"
METHODS = ["hf_to_mm", "mm_to_hf", "resplit", "hf_to_mm_dcp"]

# Class, tiny model, its recipe's name within a flavor, two layouts.
TWO_STAGES = Layout([[1, 3]], [[4, 0]], tp=2)
CHUNKS = Layout([[0, 1], [2, 1]], [[3, 1], [0, 0]])
EXPERTS = Layout([[1, 3]], [[4, 0]], tp=2, vit_tp=1, ep=4)
ONE = Layout([[4]], [[4]])
CONVERTERS: dict[str, tuple[str, str, Layout, Layout]] = {
    "Qwen2VLConverter": ("qwen2_vl_tied", "/qwen2-vl", TWO_STAGES, ONE),
    "Qwen2_5_VLConverter": ("qwen2_5_vl", "/qwen2.5-vl", TWO_STAGES, CHUNKS),
    "Qwen2_5_OmniConverter": (
        "qwen2_5_omni",
        "/qwen2.5-omni",
        Layout([[1, 3]], [[4, 0]], [[2, 2]], tp=2, audio_tp=1),
        Layout([[4]], [[4]], [[4]]),
    ),
    "Qwen3VLMegatronConverter": ("qwen3_vl_moe", "", EXPERTS, ONE),
    "InternVLConverter": ("internvl_qwen2", "/internvl", TWO_STAGES, CHUNKS),
    "DeepSeekVLConverter": ("deepseek_vl2", "/deepseek-vl2", EXPERTS, ONE),
    "GlmConverter": ("glm4_1v", "/glm-4.1v", CHUNKS, ONE),
    "VideoAlignConverter": ("videoalign", "/videoalign", TWO_STAGES, CHUNKS),
}
CANONICAL = {
    name: CONVERTERS[name]
    for name in ("Qwen2VLConverter", "Qwen2_5_VLConverter", "VideoAlignConverter")
}
SELF = list(CONVERTERS)


def published(converter: str, directory: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    model = tiny_multimodal.build(CONVERTERS[converter][0])
    tiny_multimodal.save(model.config, model.tensors, directory, files=2)
    (directory / "tokenizer.json").write_text("{}")
    return directory, model.tensors


def parallel(layout: Layout, group: str = "parallel_config") -> list[str]:
    """The flags of one of MindSpeed-MM's layouts, as its documentation writes them."""
    sizes = {
        "tp_size": layout.tp,
        "vit_tp_size": layout.vit_tp,
        "audio_tp_size": layout.audio_tp,
        "ep_size": layout.ep,
    }
    lists = {"llm": layout.llm, "vit": layout.vit, "audio": layout.audio}
    flags = [f"--cfg.{group}.{name}={size}" for name, size in sizes.items()]
    for part, rows in lists.items():
        if rows is not None:
            text = str(rows[0] if len(rows) == 1 and group != "parallel_config" else rows)
            flags += [f"--cfg.{group}.{part}_pp_layers", text.replace(" ", "")]
    return flags


def from_options(layout: Layout) -> str:
    words = iter(layout.options())
    pairs = zip(words, words, strict=True)
    fields = [f"{flag.removeprefix('--')}={value}" for flag, value in pairs]
    return f"megatron:{','.join(fields)}"


def files_of(directory: Path) -> dict[str, str]:
    """All but the manifests, which name the command's request."""
    digest = compare.tree_digest(directory)
    return {name: value for name, value in digest.items() if "reshard-manifest" not in name}


def printed(*args: object) -> Any:
    """What --print_config prints, by another YAML parser."""
    return yaml.safe_load(cli.ok(COMMAND, *args, "--print_config").stdout)


# --- the same files as convert --------------------------------------------------------------------


def to_mm(converter: str, hf: Path, mm: Path, layout: Layout, *args: object) -> None:
    paths = ("--cfg.mm_dir", mm, "--cfg.hf_config.hf_dir", hf)
    cli.ok(COMMAND, converter, "hf_to_mm", *paths, *parallel(layout), *args)


@pytest.mark.parametrize("converter", SELF)
def test_hf_to_mm(converter: str, tmp_path: Path, out: Path) -> None:
    _, recipe, layout, _ = CONVERTERS[converter]
    hf, _ = published(converter, tmp_path / "hf")
    to_mm(converter, hf, out, layout, "--cfg.trust_remote_code", "True")

    same = ("--recipe", f"mindspeed-mm{recipe}", "--assets-from", hf, *layout.options())
    cli.ok("convert", hf, tmp_path / "same", "--to", "megatron", *same)
    assert files_of(out) == files_of(tmp_path / "same")
    assert (out / "latest_checkpointed_iteration.txt").read_text() == "release"


@pytest.mark.parametrize("converter", SELF)
def test_mm_to_hf(converter: str, tmp_path: Path, out: Path) -> None:
    """Also where MindSpeed-MM's own method does nothing. The original's files, with its assets."""
    layout = CONVERTERS[converter][2]
    hf, tensors = published(converter, tmp_path / "hf")
    to_mm(converter, hf, tmp_path / "mm", layout)
    paths = ("--cfg.mm_dir", tmp_path / "mm", "--cfg.hf_config.hf_dir", hf)
    flags = (*paths, "--cfg.save_hf_dir", out, *parallel(layout))
    cli.ok(COMMAND, converter, "mm_to_hf", *flags)

    compare.assert_reads_as(out, tensors)
    assert (out / "tokenizer.json").read_text() == "{}"
    weights = {path.name: compare.read_safetensors(path) for path in compare.weight_files(hf)}
    assert {path.name for path in compare.weight_files(out)} == set(weights)
    for name, expected in weights.items():
        compare.assert_same(compare.read_safetensors(out / name), expected)


@pytest.mark.parametrize("converter", SELF)
def test_resplit(converter: str, tmp_path: Path, out: Path) -> None:
    _, recipe, source, target = CONVERTERS[converter]
    hf, _ = published(converter, tmp_path / "hf")
    to_mm(converter, hf, tmp_path / "mm", source)
    paths = ("--cfg.source_dir", tmp_path / "mm", "--cfg.target_dir", out)
    layouts = (
        *parallel(source, "source_parallel_config"),
        *parallel(target, "target_parallel_config"),
    )
    cli.ok(COMMAND, converter, "resplit", *paths, *layouts, "--cfg.hf_config.hf_dir", hf)

    same = ("--from", from_options(source), "--recipe", f"mindspeed-mm{recipe}", *target.options())
    assets = ("--assets-from", hf)
    cli.ok("convert", tmp_path / "mm", tmp_path / "same", "--to", "megatron", *same, *assets)
    assert files_of(out) == files_of(tmp_path / "same")


# Of the tied one config.json alone says that it is.
KEPT = [(name, has) for name in CANONICAL for has in (True, False) if has or "2_5" in name]


@pytest.mark.parametrize(("converter", "has_config"), KEPT)
def test_resplit_keeps_the_flavor(
    converter: str, has_config: bool, tmp_path: Path, out: Path
) -> None:
    """Without the flag. Beside MindSpeed-MM's own files no config.json lies."""
    size = 2 if has_config else 1
    source, target = CONVERTERS[converter][2:]
    layouts = [dataclasses.replace(layout, tp=size, vit_tp=1) for layout in (source, target)]
    hf, _ = published(converter, tmp_path / "hf")
    canonical = ("--cfg.common_model_config.enable_canonical_hf_struct", "true")
    to_mm(converter, hf, tmp_path / "mm", layouts[0], *canonical)
    (tmp_path / "mm" / "release" / "config.json").unlink()
    paths = ("--cfg.source_dir", tmp_path / "mm", "--cfg.target_dir", out)
    said = (
        *parallel(layouts[0], "source_parallel_config"),
        *parallel(layouts[1], "target_parallel_config"),
    )
    assets = ("--cfg.hf_config.hf_dir", hf) if has_config else ()
    cli.ok(COMMAND, converter, "resplit", *paths, *said, *assets)

    to_mm(converter, hf, tmp_path / "same", layouts[1], *canonical)
    if not has_config:
        (tmp_path / "same" / "release" / "config.json").unlink()
    assert files_of(out) == files_of(tmp_path / "same")


@pytest.mark.parametrize("converter", SELF)
def test_hf_to_mm_dcp(converter: str, tmp_path: Path, out: Path) -> None:
    """PyTorch rebuilds what MindSpeed-MM saves: the one rank's tensors, under "model"."""
    hf, _ = published(converter, tmp_path / "hf")
    whole = CONVERTERS[converter][3] if converter == "Qwen2_5_OmniConverter" else ONE
    to_mm(converter, hf, tmp_path / "mm", whole)
    cli.ok(COMMAND, converter, "hf_to_mm_dcp", "--cfg.mm_dir", out, "--cfg.hf_config.hf_dir", hf)

    assert (out / "latest_checkpointed_iteration.txt").read_text() == "release"
    dcp_to_torch_save(out / "release", tmp_path / "whole.pt")
    have = torch.load(tmp_path / "whole.pt", weights_only=True)
    assert have["checkpoint_version"] == 3.0
    file = tmp_path / "mm" / "release" / "mp_rank_00" / "model_optim_rng.pt"
    compare.assert_same_tensors(have["model"], torch.load(file, weights_only=True)["model"])


@pytest.mark.parametrize("converter", list(CANONICAL))
def test_canonical(converter: str, tmp_path: Path, out: Path) -> None:
    """There, cut anew and back; the fused layout's command differs in one flag only."""
    _, recipe, source, target = CONVERTERS[converter]
    source = dataclasses.replace(source, vit_tp=1)  # how more would cut the tower is not known
    hf, tensors = published(converter, tmp_path / "hf")
    canonical = ("--cfg.common_model_config.enable_canonical_hf_struct", "true")
    to_mm(converter, hf, tmp_path / "mm", source, *canonical)
    same = ("--recipe", f"mindspeed-mm-canonical{recipe}", "--assets-from", hf, *source.options())
    cli.ok("convert", hf, tmp_path / "same", "--to", "megatron", *same)
    assert files_of(tmp_path / "mm") == files_of(tmp_path / "same")

    layouts = (
        *parallel(source, "source_parallel_config"),
        *parallel(target, "target_parallel_config"),
    )
    paths = ("--cfg.source_dir", tmp_path / "mm", "--cfg.target_dir", tmp_path / "anew")
    cli.ok(COMMAND, converter, "resplit", *paths, *layouts, *canonical)
    paths = ("--cfg.mm_dir", tmp_path / "anew", "--cfg.hf_config.hf_dir", hf)
    flags = (*paths, "--cfg.save_hf_dir", out, *parallel(target), *canonical)
    cli.ok(COMMAND, converter, "mm_to_hf", *flags)
    compare.assert_reads_as(out, tensors)


def test_vision_tower_alone(tmp_path: Path, out: Path) -> None:
    hf, _ = published("Qwen2_5_VLConverter", tmp_path / "hf")
    to_mm("Qwen2_5_VLConverter", hf, out, ONE, "--cfg.save_vit_only", "true")
    file = out / "release" / "mp_rank_00" / "model_optim_rng.pt"
    names = torch.load(file, weights_only=True)["model"].keys()
    assert names
    assert all(name.startswith("image_encoder.") for name in names)


def test_weights_of_a_pt_file(tmp_path: Path, out: Path) -> None:
    """A model in PEFT's wrapper, with config.json of the model below it."""
    hf, tensors = published("VideoAlignConverter", tmp_path / "hf")
    to_mm("VideoAlignConverter", hf, tmp_path / "same", ONE)
    torch.save({f"base_model.model.{k}": t for k, t in tensors.items()}, tmp_path / "model.pth")
    prefix = ("--cfg.common_model_config.model_prefix", "base_model.model.")
    to_mm("VideoAlignConverter", hf, out, ONE, "--cfg.pt_path", tmp_path / "model.pth", *prefix)
    rank = Path("release") / "mp_rank_00" / "model_optim_rng.pt"
    have = torch.load(out / rank, weights_only=True)["model"]
    want = torch.load(tmp_path / "same" / rank, weights_only=True)["model"]
    compare.assert_same_tensors(have, want)


@pytest.mark.parametrize(
    "flags",
    [
        ["--cfg.common_model_config.resize_vocab_size", "90"],
        ["--cfg.common_model_config.model_prefix", "model.base."],
        ["--cfg.save_vit_only", "true", "--cfg.save_lora_only", "true"],
    ],
)
def test_what_cannot_be_done_is_refused(flags: list[str], tmp_path: Path, out: Path) -> None:
    hf, _ = published("VideoAlignConverter", tmp_path / "hf")
    paths = ("--cfg.mm_dir", out, "--cfg.hf_config.hf_dir", hf, *parallel(ONE))
    done = cli.expect(cli.USAGE, COMMAND, "VideoAlignConverter", "hf_to_mm", *paths, *flags)
    assert flags[0].removeprefix("--") in done.stderr
    assert not out.exists()


# --- the configuration ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Example:
    """A command line, and the YAML that says the same."""

    converter: str
    method: str
    flags: str
    yaml: str


EXAMPLES = [
    Example(
        "Qwen2VLConverter",
        "hf_to_mm",
        """--cfg.mm_dir ckpt/mm_path/Qwen2-VL-7B-Instruct-vpp
        --cfg.hf_config.hf_dir ckpt/hf_path/Qwen2-VL-7B-Instruct
        --cfg.parallel_config.llm_pp_layers [[0,0,0,1],[4,4,4,4],[4,3,2,2]]
        --cfg.parallel_config.vit_pp_layers [[10,10,10,2],[0,0,0,0],[0,0,0,0]]
        --cfg.parallel_config.tp_size 1""",
        """cfg:
  # where to
  mm_dir: "ckpt/mm_path/Qwen2-VL-7B-Instruct-vpp"
  parallel_config:
    llm_pp_layers: [[0,0,0,1],[4,4,4,4],[4,3,2,2]]
    vit_pp_layers:
    - [10, 10, 10, 2]
    - [0, 0, 0, 0]
    - - 0
      - 0
      - 0
      - 0
    audio_pp_layers: null
    tp_size: 1
  hf_config:
    hf_dir: ckpt/hf_path/Qwen2-VL-7B-Instruct
  llm_hf_config: null
""",
    ),
    Example(
        "VideoAlignConverter",
        "hf_to_mm",
        """--cfg.mm_dir mm --cfg.hf_config.hf_dir hf --cfg.pt_path model.pth
        --cfg.parallel_config.llm_pp_layers [[28]] --cfg.parallel_config.vit_pp_layers [[32]]
        --cfg.common_model_config.model_prefix base_model.model.
        --cfg.common_model_config.enable_canonical_hf_struct true
        --cfg.common_model_config.resize_vocab_size 151660 --cfg.save_lora_only true""",
        """cfg: {mm_dir: mm, hf_config: {hf_dir: hf}, pt_path: model.pth, save_lora_only: true,
  parallel_config: {llm_pp_layers: [[28]], vit_pp_layers: [[32]]},
  common_model_config: {model_prefix: base_model.model., enable_canonical_hf_struct: true,
    resize_vocab_size: 151660}}""",
    ),
    Example(
        "Qwen2_5_VLConverter",
        "mm_to_hf",
        """--cfg.save_hf_dir back --cfg.mm_dir mm --cfg.hf_config.hf_dir hf
        --cfg.parallel_config.llm_pp_layers [1,10,10,7]
        --cfg.parallel_config.vit_pp_layers [32,0,0,0] --cfg.parallel_config.tp_size 1
        --cfg.common_model_config.enable_canonical_hf_struct true""",
        """cfg:
  save_hf_dir: back
  mm_dir: mm
  hf_config.hf_dir: hf
  parallel_config: {llm_pp_layers: [1,10,10,7], vit_pp_layers: [32,0,0,0]}
  common_model_config: {enable_canonical_hf_struct: True}""",
    ),
    Example(
        "Qwen2_5_VLConverter",
        "resplit",
        """--cfg.source_dir mm --cfg.target_dir anew
        --cfg.source_parallel_config.llm_pp_layers [12,16]
        --cfg.source_parallel_config.vit_pp_layers [32,0]
        --cfg.source_parallel_config.tp_size 1
        --cfg.target_parallel_config.llm_pp_layers [1,10,10,7]
        --cfg.target_parallel_config.vit_pp_layers [32,0,0,0]
        --cfg.target_parallel_config.tp_size 2""",
        """cfg:
  source_dir: mm
  target_dir: anew
  source_parallel_config: {llm_pp_layers: [12,16], vit_pp_layers: [32,0], tp_size: 1}
  target_parallel_config: {llm_pp_layers: [1,10,10,7], vit_pp_layers: [32,0,0,0], tp_size: 2}""",
    ),
]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{path}.{key}" if path else key)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.converter}-{e.method}")
def test_yaml_and_flags_say_the_same(example: Example, tmp_path: Path) -> None:
    chosen = (example.converter, example.method)
    flags = example.flags.split()
    (tmp_path / "config.yaml").write_text(example.yaml)
    by_flags = printed(*chosen, *flags)
    assert by_flags == printed(*chosen, "--config", tmp_path / "config.yaml")
    dashed = [word.replace("_", "-") if word.startswith("--") else word for word in flags]
    assert by_flags == printed(*chosen, *dashed)
    # As PyYAML reads the same words, which is how MindSpeed-MM reads them.
    pairs = zip(flags[::2], flags[1::2], strict=True)
    said = {flag: yaml.safe_load(value) for flag, value in pairs}
    have = {f"--{path}": value for path, value in leaves(by_flags)}
    assert said.items() <= have.items() or {k: have[k] for k in said} == said


@pytest.mark.parametrize("style", ["", "=comments", "=skip_null", "=comments,skip_default"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.converter}-{e.method}")
def test_printed_configuration_reads_back(example: Example, style: str, tmp_path: Path) -> None:
    chosen = (example.converter, example.method)
    text = cli.ok(COMMAND, *chosen, *example.flags.split(), f"--print_config{style}").stdout
    (tmp_path / "config.yaml").write_text(text)
    read = printed(*chosen, "--config", tmp_path / "config.yaml")
    assert read == printed(*chosen, *example.flags.split())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("converter", SELF)
def test_a_configuration_to_fill_in(converter: str, method: str, tmp_path: Path) -> None:
    """`--print_config > file`, the first step of MindSpeed-MM's guide, needs no paths."""
    empty = printed(converter, method)
    assert list(empty) == ["cfg"]
    assert None in dict(leaves(empty)).values()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(empty))
    done = cli.expect(cli.USAGE, COMMAND, converter, method, "--config", tmp_path / "config.yaml")
    assert "required" in done.stderr


def test_what_comes_later_counts(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("cfg: {mm_dir: b, hf_config: {hf_dir: hf}}")
    file = ("--config", tmp_path / "config.yaml")
    chosen = ("GlmConverter", "hf_to_mm")
    assert printed(*chosen, "--cfg.mm_dir", "a", *file)["cfg"]["mm_dir"] == "b"
    assert printed(*chosen, *file, "--cfg.mm_dir", "c")["cfg"]["mm_dir"] == "c"
    assert printed(*chosen, *file, "--cfg.mm_dir=c", "--cfg.mm-dir", "d")["cfg"]["mm_dir"] == "d"


@pytest.mark.parametrize(
    "text",
    [
        "cfg: [1, 2",
        "- cfg",
        "cfg: {mm_dir: a, mm_dir: b}",
        "cfg: &x {mm_dir: a}",
        "cfg: !!python/object:os.system {}",
        "cfg: {mm_dirr: a}",
        "cfg: {parallel_config: {tp_size: zero}}",
        "cfg: " + "{a: " * 200 + "}" * 200,
        "cfg: {mm_dir: " + "a" * 2_000_000 + "}",
    ],
    ids=lambda text: text[:24],
)
def test_damaged_yaml(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    file = ("--config", tmp_path / "config.yaml")
    done = cli.expect(cli.USAGE, COMMAND, "GlmConverter", "hf_to_mm", *file, "--print_config")
    assert "config.yaml" in done.stderr
    assert len(done.stderr) < 10_000


# --- what there is --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [None, *METHODS])
@pytest.mark.parametrize("converter", [None, *SELF])
def test_help_at_each_level(converter: str | None, method: str | None) -> None:
    words = [word for word in (converter, method) if word is not None]
    text = cli.ok(COMMAND, *([] if converter is None else words), "--help").stdout
    assert max(map(len, text.splitlines())) <= 100
    shown = SELF if converter is None else METHODS if method is None else ["--config"]
    assert all(word in text for word in shown)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["Qwen2VLConvertor"], "perhaps Qwen2VLConverter"),
        (["WanConverter", "hf_to_mm"], "; one of Qwen2VLConverter, "),
        (["WanConverter", "hf_to_mm", "--cfg.x", "y"], "one of Qwen2VLConverter, "),
        (["Qwen2VLConverter", "hf_to_m"], "perhaps hf_to_mm"),
        (["Qwen2_5_VLConverter", "lora_mm_to_hf"], "one of hf_to_mm, "),
        (["GlmConverter", "hf_to_mm", "--cfg.mm_dirr", "x"], "perhaps --cfg.mm_dir"),
        (["GlmConverter", "hf_to_mm", "--cfg.pt_path", "x"], ""),
        (["GlmConverter", "hf_to_mm"], "--config"),
        (["GlmConverter"], ""),
        ([], ""),
        (["GlmConverter", "hf_to_mm", "--print_config=all"], "skip_default"),
        (["GlmConverter", "hf_to_mm", "--cfg.parallel_config.tp_size", "0"], "from 1 on"),
        (["GlmConverter", "hf_to_mm", "--cfg.parallel_config.llm_pp_layers", "[[1],[2,3]]"], "[["),
        (["GlmConverter", "hf_to_mm", "--config", "no-such-file.yaml"], ""),
    ],
)
def test_wrong_usage(arguments: list[str], expected: str, tmp_path: Path) -> None:
    done = cli.expect(cli.USAGE, COMMAND, *arguments, cwd=tmp_path)
    assert expected in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []
