"""What people take for a checkpoint and is none is told for what it is, with what would work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import checkpoints, cli, compare
from harness.cli import SOURCE, USAGE
from safetensors.torch import save_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 5\n"
WEIGHTS = {"model.layers.0.weight": torch.arange(12.0).reshape(3, 4), "b": torch.ones(2)}


def put(directory: Path, **files: bytes) -> Path:
    """Files by name; `__` stands for a dot."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_bytes(content)
    return directory


def inspected(path: Path) -> str:
    return cli.expect(SOURCE, "inspect", path).stderr


# What a weight file may be that was not downloaded as it should be, and a word of the answer.
CONTENTS = {
    "git-lfs": (POINTER, "git lfs pull"),
    "web page": (b"\n<!DOCTYPE html><html><title>404</title></html>", "download the file again"),
    "web page ": (b"<HTML>", "download the file again"),
    "XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "download"),
    "begins 'Entry not found'": (b"Entry not found", "download the file again"),
    """begins '{"error":""": (b'{"error":"Invalid token"}', "download the file again"),
    "GGUF": (b"GGUF" + b"\3" + bytes(60), "Hugging Face checkpoint"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "PyTorch checkpoint"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "gunzip"),
}


@pytest.mark.parametrize("what", CONTENTS)
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_weight_file_that_is_something_else(name: str, what: str, tmp_path: Path) -> None:
    content, help = CONTENTS[what]
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        said = inspected(path)
        assert what.strip() in said
        assert help in said
        assert "damaged" not in said


def test_pointers_in_every_kind_of_checkpoint(tmp_path: Path, out: Path) -> None:
    checkpoints.save_single(WEIGHTS, tmp_path / "dcp")
    (data,) = (tmp_path / "dcp").glob("*.distcp")
    data.write_bytes(POINTER)
    assert "git-lfs pointer" in inspected(tmp_path / "dcp")
    cli.refused(SOURCE, tmp_path / "dcp", out, names="git lfs pull")
    (tmp_path / "dcp" / ".metadata").write_bytes(POINTER)
    assert "git-lfs pointer" in inspected(tmp_path / "dcp")

    torch.save(WEIGHTS, tmp_path / "run.pt")
    (tmp_path / "run.pt").write_bytes(POINTER)
    assert "git-lfs pointer" in inspected(tmp_path / "run.pt")

    put(tmp_path / "index", model__safetensors__index__json=POINTER)
    assert "git-lfs pointer" in inspected(tmp_path / "index")

    parts = tmp_path / "parts"
    parts.mkdir()
    save_file(WEIGHTS, parts / "model-00001-of-00002.safetensors")
    (parts / "model-00002-of-00002.safetensors").write_bytes(POINTER)
    said = inspected(parts)
    assert "git-lfs pointer" in said
    assert "model-00002-of-00002" in said


def test_damage_stays_damage(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 8 + whole[8:])
    assert "damaged" in inspected(tmp_path)


def diffusers(directory: Path) -> None:
    put(directory, model_index__json=b"{}")
    (directory / "unet").mkdir()
    save_file(WEIGHTS, directory / "unet" / "diffusion_pytorch_model.safetensors")


# Files by which a directory is known, and words of the answer.
DIRECTORIES: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "adapter": (
        lambda d: put(d, adapter_config__json=b"{}", adapter_model__safetensors=b""),
        ["PEFT adapter", "merge_and_unload"],
    ),
    "zero": (
        lambda d: put(
            d, **{f"bf16_zero_pp_rank_{r}_mp_rank_00_optim_states__pt": b"" for r in range(2)}
        ),
        ["DeepSpeed", "zero_to_fp32"],
    ),
    "zero3": (
        lambda d: put(d, zero_pp_rank_0_mp_rank_00_model_states__pt=b""),
        ["DeepSpeed", "zero_to_fp32"],
    ),
    "zero's parent": (
        lambda d: (put(d, latest=b"global_step10"), (d / "global_step10").mkdir()),
        ["DeepSpeed", "zero_to_fp32"],
    ),
    "zero's script": (lambda d: put(d, zero_to_fp32__py=b""), ["DeepSpeed", "zero_to_fp32"]),
    "verl": (
        lambda d: put(d, **{f"model_world_size_2_rank_{r}__pt": b"" for r in range(2)}),
        ["verl", "verl.model_merger merge --backend fsdp"],
    ),
    "no .metadata": (
        lambda d: put(d, __0_0__distcp=b"").joinpath(".0_0.distcp").rename(d / "__0_0.distcp"),
        [".metadata", "rsync -a", "begin with a dot"],
    ),
    "variant": (lambda d: put(d, model__fp16__safetensors=b""), ["variant", "give the file"]),
    "variant.bin": (lambda d: put(d, pytorch_model__fp16__bin=b""), ["variant", "give the file"]),
    "accelerate": (
        lambda d: put(d, pytorch_model_fsdp__bin=b"", optimizer__bin=b""),
        ["accelerate", "give the file itself"],
    ),
    "diffusers": (diffusers, ["diffusers pipeline", "directory of one model"]),
    "diffusers's unet": (
        lambda d: put(d, diffusion_pytorch_model__safetensors=b""),
        ["diffusers model", "save_pretrained"],
    ),
    "gguf": (lambda d: put(d, model_Q4__gguf=b"GGUF"), ["GGUF", "Hugging Face checkpoint"]),
    "mistral": (
        lambda d: put(d, consolidated__safetensors=b"", params__json=b"{}"),
        ["its publisher", "consolidated.safetensors OUT --assets-from"],
    ),
    "meta": (
        lambda d: put(d, consolidated__00__pth=b"", params__json=b"{}"),
        ["its publisher", "consolidated.00.pth OUT --assets-from"],
    ),
    "meta, several": (
        lambda d: put(d, consolidated__00__pth=b"", consolidated__01__pth=b""),
        ["its publisher", "convert_llama_weights_to_hf"],
    ),
    "flax": (lambda d: put(d, flax_model__msgpack=b""), ["Flax", "from_flax=True"]),
    "tensorflow": (lambda d: put(d, tf_model__h5=b""), ["TensorFlow", "from_tf=True"]),
    "onnx": (lambda d: put(d, model__onnx=b""), ["ONNX", "PyTorch checkpoint"]),
    "nemo": (lambda d: put(d, model__nemo=b""), ["NeMo", "tar xf"]),
    "optimizer": (
        lambda d: put(d, optimizer__pt=b"", scheduler__pt=b"", trainer_state__json=b"{}"),
        ["a training run's state"],
    ),
    "config": (lambda d: put(d, config__json=b"{}"), ["without its weights", "git lfs pull"]),
    "some file": (lambda d: put(d, run7__pt=b"", config__json=b"{}"), ["run7.pt", "give the file"]),
}


@pytest.mark.parametrize("kind", DIRECTORIES)
def test_a_directory_is_told_for_what_it_is(kind: str, tmp_path: Path) -> None:
    make, words = DIRECTORIES[kind]
    directory = tmp_path / "it"
    directory.mkdir()
    make(directory)
    said = inspected(directory)
    for word in words:
        assert word in said


def test_a_checkpoint_below_is_worth_more_than_an_optimizer(tmp_path: Path) -> None:
    put(tmp_path, optimizer__bin=b"")
    checkpoints.save_single(WEIGHTS, tmp_path / "pytorch_model_fsdp_0")
    assert "did you mean" in inspected(tmp_path)
    assert "pytorch_model_fsdp_0?" in inspected(tmp_path)


def test_what_the_help_says_works(tmp_path: Path, out: Path) -> None:
    """The files that are to be given themselves, and a DCP with its .metadata again."""
    save_file(WEIGHTS, put(tmp_path / "variant") / "model.fp16.safetensors")
    torch.save(WEIGHTS, put(tmp_path / "accelerate") / "pytorch_model_fsdp.bin")
    for number, file in enumerate(
        ["variant/model.fp16.safetensors", "accelerate/pytorch_model_fsdp.bin"]
    ):
        destination = out.with_name(f"out{number}")
        cli.convert(tmp_path / file, destination)
        compare.assert_reads_as(destination, WEIGHTS)


def test_a_file_of_one_rank(tmp_path: Path) -> None:
    checkpoints.save_single(WEIGHTS, tmp_path / "dcp")
    (data,) = (tmp_path / "dcp").glob("*.distcp")
    assert f"give its directory: {tmp_path / 'dcp'}" in inspected(data)
    np.savez(tmp_path / "w.npz", a=np.zeros(3))
    assert "safetensors.numpy.save_file" in inspected(tmp_path / "w.npz")


# Files whose tensors can be looked at, but which are not, or not all of, a model.
@pytest.mark.parametrize(
    ("name", "word", "by_recipe"),
    [
        ("adapter_model.safetensors", "merge_and_unload", True),
        ("adapter_model.bin", "merge_and_unload", True),
        ("mp_rank_00_model_states.pt", "zero_to_fp32", True),
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_to_fp32", False),
        ("model_world_size_2_rank_0.pt", "verl.model_merger", False),
        ("diffusion_pytorch_model.safetensors", "diffusers", True),
        ("model-00001-of-00002.safetensors", "give its directory", True),
        ("pytorch_model-00002-of-00003.bin", "give its directory", True),
    ],
)
def test_a_file_that_is_no_model(
    name: str, word: str, by_recipe: bool, tmp_path: Path, out: Path
) -> None:
    if name.endswith(".safetensors"):
        save_file(WEIGHTS, tmp_path / name)
    else:
        torch.save({"module": WEIGHTS} if name.startswith("mp_rank") else WEIGHTS, tmp_path / name)
    cli.ok("inspect", tmp_path / name)
    cli.refused(SOURCE, tmp_path / name, out, names=word)
    # Who names a recipe knows what the names are; slices of tensors are a model's by none.
    done = cli.run("convert", tmp_path / name, out, "--recipe", "identity")
    assert (done.returncode == 0) == by_recipe


def test_one_of_several_originals(tmp_path: Path, out: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "consolidated.00.pth")
    cli.ok("plan", tmp_path / "consolidated.00.pth", out, "--recipe", "identity")
    shutil.copy(tmp_path / "consolidated.00.pth", tmp_path / "consolidated.01.pth")
    said = cli.refused(SOURCE, tmp_path / "consolidated.00.pth", out, "--recipe", "identity")
    assert "convert_llama_weights_to_hf" in said


def test_the_only_file_of_a_set_is_whole(tmp_path: Path, out: Path) -> None:
    save_file(WEIGHTS, tmp_path / "model-00001-of-00001.safetensors")
    cli.convert(tmp_path / "model-00001-of-00001.safetensors", out)
    compare.assert_reads_as(out, WEIGHTS)


def sharded(directory: Path, below: str = "") -> None:
    """Two files and their index."""
    (directory / below).mkdir(parents=True)
    weight_map = {}
    for number, (name, tensor) in enumerate(WEIGHTS.items(), 1):
        weight_map[name] = f"{below}model-{number:05}-of-00002.safetensors"
        save_file({name: tensor}, directory / weight_map[name])
    index = {"metadata": {}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_index_whose_files_are_missing(tmp_path: Path, out: Path) -> None:
    sharded(tmp_path / "hf")
    (tmp_path / "hf" / "model-00002-of-00002.safetensors").unlink()
    said = cli.refused(SOURCE, tmp_path / "hf", out)
    assert "1 of the 2 files that the index names are not here" in said
    assert "model-00002-of-00002.safetensors" in said
    assert "with 1 of its 2 tensors" in said


def test_a_stale_index(tmp_path: Path, out: Path) -> None:
    """The help's last advice is true: without the index the files that are there are read."""
    sharded(tmp_path / "hf")
    index = tmp_path / "hf" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("of-00002", "of-00004"))
    said = cli.refused(SOURCE, tmp_path / "hf", out)
    assert "2 of the 2 files" in said
    assert "move the index away" in said
    index.unlink()
    cli.convert(tmp_path / "hf", out)
    compare.assert_reads_as(out, WEIGHTS)


def test_an_index_of_files_in_a_directory_below(tmp_path: Path, out: Path) -> None:
    """transformers joins what the index says to the directory."""
    sharded(tmp_path / "hf", "weights/")
    cli.convert(tmp_path / "hf", out)
    compare.assert_reads_as(out, WEIGHTS)
    index = tmp_path / "hf" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("weights/", "weights/../../hf/weights/"))
    assert "leaves the directory" in inspected(tmp_path / "hf")


def hub_cache(root: Path) -> Path:
    """A repository in the form of huggingface_hub's cache: links into blobs."""
    repository = root / "hub" / "models--org--tiny"
    snapshot = repository / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    put(repository / "refs", main=b"abc123")
    (repository / "blobs").mkdir()
    save_file(WEIGHTS, repository / "blobs" / "0f")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0f")
    return snapshot


def test_a_link_to_what_is_gone(tmp_path: Path) -> None:
    snapshot = hub_cache(tmp_path)
    cli.ok("inspect", snapshot)
    (snapshot / "../../blobs/0f").resolve().unlink()
    for path in (snapshot, snapshot / "model.safetensors"):
        said = inspected(path)
        assert "a link to '../../blobs/0f', which is not there" in said
        assert "hf download org/tiny" in said
    (tmp_path / "link").symlink_to("nowhere")
    assert "a link to 'nowhere', which is not there" in inspected(tmp_path / "link")


def test_a_repository_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    said = cli.expect(USAGE, "inspect", "org/tiny", cwd=tmp_path).stderr
    assert "hf download org/tiny" in said
    snapshot = hub_cache(tmp_path)
    said = cli.expect(USAGE, "convert", "org/tiny", "out", cwd=tmp_path).stderr
    assert f"give {snapshot}" in said
    # A path whose directory is there is a path.
    (tmp_path / "org").mkdir()
    assert "hub" not in cli.expect(SOURCE, "inspect", "org/tiny", cwd=tmp_path).stderr
