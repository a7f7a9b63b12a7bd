"""Conversions between kinds and layouts, the flags that say how, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from harness import checkpoints, cli, megatron_layout, megatron_reference, tiny_text
from harness.compare import assert_same, assert_same_tensors, read_hf
from harness.megatron_layout import Layout
from safetensors.torch import load_file
from transformers import AutoConfig

FLAVOR = "megatron-core"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hugging Face directories, below one. Read only."""
    root = tmp_path_factory.mktemp("models")
    for name in ("llama", "llama-tied", "qwen2", "qwen3-moe"):
        tiny_text.save(name, root / name, torch.bfloat16)
    return root


def megatron(source: Path, root: Path, *options: object) -> Path:
    cli.ok("convert", source, root, "--to", "megatron", *options)
    return root


def assert_is_reference(root: Path, model: Path, layout: Layout, flavor: str = FLAVOR) -> None:
    expected = megatron_reference.rank_states(
        load_file(model / "model.safetensors"), AutoConfig.from_pretrained(model), layout, flavor
    )
    for rank, chunks in megatron_layout.read(root, layout):
        for chunk, want in zip(chunks, expected[rank], strict=True):
            assert_same_tensors(chunk, want)


# ------------------------------------------------------------------------------------------- DCP


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_dcp_target_holds_the_hub_tensors(models: Path, out: Path, ranks: int) -> None:
    cli.ok("convert", models / "qwen2", out, "--to", f"dcp:ranks={ranks}")
    want = load_file(models / "qwen2" / "model.safetensors")
    got = {name: torch.zeros_like(tensor) for name, tensor in want.items()}
    dcp.load(got, checkpoint_id=out)
    assert_same_tensors(got, want)
    files = {path.name for path in out.iterdir()}
    assert {f"__{rank}_0.distcp" for rank in range(ranks)} | {".metadata"} <= files


def test_dcp_in_the_names_of_a_flavor_and_back(models: Path, tmp_path: Path) -> None:
    titled = tmp_path / "dcp"
    cli.ok("convert", models / "llama", titled, "--to", "dcp:ranks=2", "--recipe", "veomni")
    hub = load_file(models / "llama" / "model.safetensors")
    got = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in hub.items()}
    dcp.load(got, checkpoint_id=titled)
    assert_same_tensors({name.removeprefix("model."): value for name, value in got.items()}, hub)
    cli.convert(titled, tmp_path / "back", "--assets-from", models / "llama")
    assert_same(read_hf(tmp_path / "back"), read_hf(models / "llama"))


def test_dcp_to_megatron_in_one_pass(models: Path, tmp_path: Path) -> None:
    """By way of the hub's layout, and never through its files."""
    source = tmp_path / "dcp"
    cli.ok("convert", models / "llama", source, "--to", "dcp:ranks=3", "--recipe", "veomni")
    layout = Layout(tp=2, pp=2)
    root = megatron(source, tmp_path / "root", "--recipe", FLAVOR, *layout.options())
    assert_is_reference(root, models / "llama", layout)
    target = tmp_path / "again"
    cli.ok("convert", root, target, "--to", "dcp", "--recipe", "veomni")
    back = tmp_path / "back"
    cli.convert(target, back, "--assets-from", models / "llama")
    assert_same(read_hf(back), read_hf(models / "llama"))


def test_a_live_model_to_megatron_in_one_pass(models: Path, tmp_path: Path) -> None:
    """Experts that are stacked in memory and in VeOmni's DCP are rank by rank those of the hub."""
    model = models / "qwen3-moe"
    state = tiny_text.build("qwen3-moe").to(torch.bfloat16).state_dict()
    layout = Layout(tp=2, ep=2)
    for prefix in ("", "model."):
        source = tmp_path / f"{prefix}dcp"
        checkpoints.save_single({prefix + name: t for name, t in state.items()}, source)
        options = ("--recipe", FLAVOR, "--assets-from", model, *layout.options())
        root = megatron(source, tmp_path / f"{prefix}root", *options)
        assert_is_reference(root, model, layout)


# -------------------------------------------------------------------------------------- Megatron


def test_uneven_lists_with_leading_zeros_keep_every_layer(models: Path, tmp_path: Path) -> None:
    layout = Layout(pp=3, vpp=2, layer_counts=((0, 1, 0), (1, 0, 2)))
    root = megatron(models / "llama", tmp_path / "root", "--recipe", FLAVOR, *layout.options())
    assert_is_reference(root, models / "llama", layout)
    cli.convert(root, tmp_path / "back", "--recipe", FLAVOR, "--assets-from", models / "llama")
    assert_same(read_hf(tmp_path / "back"), read_hf(models / "llama"))


def test_experts_may_be_cut_otherwise(models: Path, tmp_path: Path) -> None:
    layout = Layout(tp=2, ep=2, etp=1)
    root = megatron(models / "qwen3-moe", tmp_path / "root", "--recipe", FLAVOR, *layout.options())
    assert_is_reference(root, models / "qwen3-moe", layout)
    cli.convert(root, tmp_path / "back", "--recipe", FLAVOR, "--assets-from", models / "qwen3-moe")
    assert_same(read_hf(tmp_path / "back"), read_hf(models / "qwen3-moe"))


def test_a_layout_may_come_from_a_file(models: Path, tmp_path: Path) -> None:
    (tmp_path / "layout.toml").write_text("tp = 2\nllm-pp-layers = [[3, 1]]\n")
    root = megatron(
        *(models / "llama", tmp_path / "root"),
        *("--recipe", FLAVOR, "--layout", tmp_path / "layout.toml"),
    )
    assert_is_reference(root, models / "llama", Layout(tp=2, pp=2, layer_counts=((3, 1),)))


def test_split_anew_without_a_word_about_flavor_or_source(models: Path, tmp_path: Path) -> None:
    """Flavor and layout of the source are in its names, files and the config.json beside them."""
    first = megatron(models / "llama-tied", tmp_path / "first", "--recipe", FLAVOR, "--tp", 2)
    second = megatron(first, tmp_path / "second", "--pp", 2, "--vpp", 2)
    assert_is_reference(second, models / "llama-tied", Layout(pp=2, vpp=2))


def test_iterations_share_a_root(models: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    megatron(models / "llama", root, "--recipe", FLAVOR, "--iteration", 7)
    megatron(models / "llama", root, "--recipe", FLAVOR, "--iteration", 1000)
    assert (root / "latest_checkpointed_iteration.txt").read_bytes() == b"1000"
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == [
        "iter_0000007",
        "iter_0001000",
    ]
    cli.expect(
        cli.DESTINATION,
        *("convert", models / "llama", root, "--to", "megatron"),
        *("--recipe", FLAVOR, "--iteration", 7),
    )


@pytest.mark.parametrize(("how", "rows"), [("128", 128), ("x64", 128), ("x64:last-row", 128)])
def test_the_vocabulary_is_padded_and_trimmed(
    models: Path, tmp_path: Path, how: str, rows: int
) -> None:
    model = models / "llama"
    root = megatron(
        *(model, tmp_path / "root", "--recipe", FLAVOR),
        *("--tp", 2, "--pad-vocab-to", how),
    )
    layout = Layout(tp=2)
    ranks = megatron_layout.read(root, layout)
    embedding = torch.cat([chunks[0]["embedding.word_embeddings.weight"] for _, chunks in ranks])
    hub = load_file(model / "model.safetensors")["model.embed_tokens.weight"]
    padding = hub[-1:] if how.endswith("last-row") else torch.zeros_like(hub[-1:])
    assert torch.equal(embedding, torch.cat([hub, padding.expand(rows - len(hub), -1)]))

    again = megatron(root, tmp_path / "again", "--tp", 4, "--recipe", FLAVOR)
    kept = torch.cat(
        [
            chunks[0]["embedding.word_embeddings.weight"]
            for _, chunks in megatron_layout.read(again, Layout(tp=4))
        ]
    )
    assert torch.equal(kept, embedding)

    done = cli.ok("convert", again, tmp_path / "back", "--recipe", FLAVOR, "--assets-from", model)
    assert_same(read_hf(tmp_path / "back"), read_hf(model))
    plan = json.loads(
        cli.ok(
            *("plan", again, tmp_path / "x", "--recipe", FLAVOR, "--assets-from", model, "--json"),
        ).stdout
    )
    dropped = [entry["name"] for entry in plan["dropped"] if "rows 96 to 128" in entry["name"]]
    assert len(dropped) == 2, done.stderr
    assert "rows of padding of 2 tensors" in done.stderr
    assert plan["summary"]["dropped_parts"] == 2
    assert plan["summary"]["dropped_tensors"] == 0


def test_a_new_split_may_have_another_padding(models: Path, tmp_path: Path) -> None:
    first = megatron(
        *(models / "llama", tmp_path / "first", "--recipe", FLAVOR),
        *("--tp", 2, "--pad-vocab-to", "100:last-row"),
    )
    again = megatron(
        first, tmp_path / "again", "--tp", 4, "--pad-vocab-to", "x64", "--recipe", FLAVOR
    )
    [rank, *_] = [chunks[0] for _, chunks in megatron_layout.read(again, Layout(tp=4))]
    assert rank["embedding.word_embeddings.weight"].shape[0] == 128 // 4
    cli.convert(again, tmp_path / "back")
    assert_same(read_hf(tmp_path / "back"), read_hf(models / "llama"))


def test_a_new_split_in_another_flavor_needs_the_new_one_alone(
    models: Path, tmp_path: Path
) -> None:
    first = megatron(models / "llama", tmp_path / "first", "--recipe", FLAVOR, "--tp", 2)
    second = megatron(first, tmp_path / "second", "--recipe", "megatron-core-local", "--pp", 2)
    assert_is_reference(second, models / "llama", Layout(pp=2), "megatron-core-local")


def test_a_stored_plan_is_the_same_plan(models: Path, tmp_path: Path) -> None:
    options = ("--to", "megatron", "--recipe", FLAVOR, "--tp", 2, "--llm-pp-layers", "[[1,3]]")
    plan, direct, stored = tmp_path / "plan.json", tmp_path / "direct", tmp_path / "stored"
    cli.ok("plan", models / "llama", stored, *options, "-o", plan)
    cli.ok("convert", "--plan", plan)
    megatron(models / "llama", direct, *options[2:])
    layout = Layout(tp=2, pp=2, layer_counts=((1, 3),))
    assert_is_reference(stored, models / "llama", layout)
    for rank in layout.ranks():
        name = f"release/{layout.directory(rank)}/model_optim_rng.pt"
        assert (stored / name).read_bytes() == (direct / name).read_bytes()


# ----------------------------------------------------------------------------- parts of a model


def test_only_some_tensors(models: Path, out: Path) -> None:
    cli.convert(models / "llama", out, "--only", "norm")
    want = {
        name: value
        for name, value in load_file(models / "llama" / "model.safetensors").items()
        if "norm" in name
    }
    assert_same_tensors(load_file(out / "model.safetensors"), want)


def test_like_files_of_the_other_format(models: Path, tmp_path: Path) -> None:
    """The distribution is theirs, the names are those that readers look for."""
    for weights in ("safetensors", "bin"):
        cli.convert(
            models / "llama", tmp_path / weights, "--shard-size", "40kB", "--weights", weights
        )
    for weights, other in (("bin", "safetensors"), ("safetensors", "bin")):
        again = tmp_path / f"{other}-like-{weights}"
        cli.convert(models / "llama", again, "--weights", other, "--like", tmp_path / weights)
        names = [path.name for path in (tmp_path / other).iterdir() if "manifest" not in path.name]
        assert len(names) > 3
        for name in names:
            assert (again / name).read_bytes() == (tmp_path / other / name).read_bytes()
    assert_same(read_hf(tmp_path / "safetensors-like-bin"), read_hf(models / "llama"))


def test_the_source_s_flavor_by_either_name(models: Path, tmp_path: Path) -> None:
    source = tmp_path / "dcp"
    cli.ok("convert", models / "llama", source, "--to", "dcp", "--recipe", "veomni")
    cli.convert(source, tmp_path / "kept", "--from-recipe", "identity")
    hub = load_file(models / "llama" / "model.safetensors")
    got = load_file(tmp_path / "kept" / "model.safetensors")
    assert_same_tensors(got, {f"model.{name}": value for name, value in hub.items()})


def test_the_language_model_from_elsewhere(models: Path, tmp_path: Path) -> None:
    """What the other has is replaced by name, and what it has not is kept: an old layer, too."""
    base = tmp_path / "base"
    shutil.copytree(models / "llama", base)
    tensors = load_file(base / "model.safetensors")
    tensors["visual.proj.weight"] = torch.ones(2, 2)
    from safetensors.torch import save_file

    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    other = tmp_path / "other"
    whole = load_file(models / "qwen2" / "model.safetensors")
    few = {name: tensor for name, tensor in whole.items() if "layers.3" not in name}
    other.mkdir()
    save_file(few, other / "model.safetensors", metadata={"format": "pt"})
    done = cli.convert(base, tmp_path / "out", "--llm-from", other)
    got = load_file(tmp_path / "out" / "model.safetensors")
    assert_same_tensors(got, tensors | few)
    replaced = tensors.keys() & few.keys()
    kept = len([name for name in tensors if "layers.3" in name])
    assert f"left out {len(replaced)} tensors" in done.stderr
    assert f"{kept} tensors stay" in done.stderr
    assert "layers.3" in done.stderr

    plan = json.loads(cli.ok("plan", base, tmp_path / "x", "--llm-from", other, "--json").stdout)
    assert {entry["name"] for entry in plan["dropped"]} == replaced
    assert {entry["why"] for entry in plan["dropped"]} == {f"replaced by --llm-from {other}"}
    assert any(f"{kept} tensors stay" in warning for warning in plan["warnings"])

    manifest = json.loads((tmp_path / "out" / "reshard-manifest.json").read_text())
    assert manifest["left_out"]["llm-from"] == len(replaced)
    assert str(tmp_path) not in json.dumps(manifest)


def test_old_layers_beside_a_language_model_of_fewer_are_refused(
    models: Path, tmp_path: Path
) -> None:
    """Its config.json says how many there are. What the error says to do leaves the others out."""
    from safetensors.torch import save_file

    other = tmp_path / "other"
    other.mkdir()
    whole = load_file(models / "llama" / "model.safetensors")
    few = {n: t + 1 for n, t in whole.items() if "layers.2" not in n and "layers.3" not in n}
    save_file(few, other / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((models / "llama" / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 2}))
    options = ("--llm-from", other)
    said = cli.refused(cli.MAPPING, models / "llama", tmp_path / "out", *options, names="layers.2.")
    wanted = re.search(r"--ignore '(.*)'", said)
    assert wanted, said
    cli.convert(models / "llama", tmp_path / "out", *options, "--ignore", wanted[1])
    assert_same_tensors(load_file(tmp_path / "out" / "model.safetensors"), few)


# --------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--to", "megatron"], cli.USAGE, ["megatron-core-local", "megatron-core"]),
        (["--to", "nemo"], cli.USAGE, ["megatron"]),
        (["--tp", "2"], cli.USAGE, ["--to megatron"]),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--pp", "3"],
            cli.MAPPING,
            ["4", "3", "--llm-pp-layers"],
        ),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--llm-pp-layers", "[[1,2]]"],
            cli.MAPPING,
            ["sum to 3", "4"],
        ),
        (["--to", "megatron", "--recipe", FLAVOR, "--tp", "8"], cli.MAPPING, ["8"]),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--llm-pp-layers", "[[1,2],[1]]"],
            cli.USAGE,
            ["[[1,2],[1]]"],
        ),
        (["--to", "megatron", "--recipe", "nonsense"], cli.USAGE, ["nonsense", FLAVOR]),
        (["--to", "megatron", "--recipe", "megatron-core/mixtral"], cli.MAPPING, ["down_proj"]),
        (["--to", "megatron", "--recipe", FLAVOR, "--pad-vocab-to", "many"], cli.USAGE, ["many"]),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--pad-vocab-to", "50"],
            cli.MAPPING,
            ["50", "96"],
        ),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--pad-vocab-to", "192"],
            cli.MAPPING,
            ["96 rows", "fewer"],
        ),
        (["--to", "dcp:ranks=0"], cli.USAGE, ["dcp:ranks=0"]),
        (["--only", "vit"], cli.MAPPING, ["--only vit", "a part 'vit'"]),
        (["--only", "lora"], cli.MAPPING, ["--only lora", "none of 39"]),
        (["--to", "dcp", "--like", "{model}"], cli.USAGE, ["--like", "--to hf"]),
        (["--to", "dcp", "--weights", "bin"], cli.USAGE, ["--weights", "--to hf"]),
        (["--recipe", "veomni", "--from-recipe", "identity"], cli.USAGE, ["veomni", "identity"]),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--vit-tp", "2"],
            cli.MAPPING,
            ["vit-tp", "'vit'"],
        ),
        (
            ["--to", "megatron", "--recipe", FLAVOR, "--etp", "2"],
            cli.MAPPING,
            ["etp is 2", "divides 1"],
        ),
        (
            ["--to", "megatron:pp=2,vpp=2", "--recipe", FLAVOR, "--llm-pp-layers", "[[2,2]]"],
            cli.MAPPING,
            ["[[2,2]]", "all 4 entries"],
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_numbers(
    models: Path, out: Path, options: list[str], code: int, words: list[str]
) -> None:
    options = [option.format(model=models / "llama") for option in options]
    done = cli.expect(code, "convert", models / "llama", out, *options)
    for word in words:
        assert word in done.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("tp=4", ["the files are of tp 2", "tp 4"]),
        ("tp=1", ["the files are of tp 2", "tp 1"]),
        ("pp=4", ["the files are of pp 2"]),
        ("vpp=2", ["the files are of vpp 1"]),
        ("llm-tp=1", ["the files are of llm-tp 2"]),
        ("vit-tp=1", ["'vit'"]),
        ("ep=2", ["ep is 2"]),
    ],
)
def test_what_is_said_of_a_source_must_be_so(
    models: Path, tmp_path: Path, said: str, words: list[str]
) -> None:
    layout = Layout(tp=2, pp=2)
    root = megatron(models / "llama", tmp_path / "root", "--recipe", FLAVOR, *layout.options())
    out = tmp_path / "out"
    done = cli.expect(cli.MAPPING, "convert", root, out, "--from", f"megatron:{said}")
    assert all(word in done.stderr for word in words), done.stderr
    assert not out.exists()
    cli.convert(root, out, "--from", "megatron:tp=2,pp=2,vpp=1,llm-tp=2,llm-pp-layers=[[2,2]]")


def test_a_layout_is_said_of_ranks_alone(models: Path, tmp_path: Path) -> None:
    (tmp_path / "layout.toml").write_text("tp = 2\n")
    for file in (tmp_path / "layout.toml", tmp_path):  # the second is no file
        done = cli.expect(
            *(cli.USAGE, "convert", models / "llama", tmp_path / "out", "--from-layout", file)
        )
        assert str(models / "llama") in done.stderr or str(tmp_path) in done.stderr
