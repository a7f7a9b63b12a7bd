"""Live models become Hugging Face files: each rank writes its own bytes of them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reshard
import reshard.torch
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from harness import checkpoints, cli, compare, models, ranks, reference, save_cases
from harness.save_cases import CASES
from reshard.compat import veomni
from reshard.torch import _save
from safetensors.torch import load_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from transformers import AutoModelForCausalLM

INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What `work` gives on each rank, by number of ranks: to start them costs the most."""
    root = tmp_path_factory.mktemp("saved")
    (root / "faults" / "taken").mkdir(parents=True)
    (root / "faults" / "taken" / "notes.txt").write_text("mine")
    (root / "faults" / "file").write_text("no directory")
    return {world: ranks.run(work, world, str(root), seconds=300) for world in (1, 2, 4)}


def work(root: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"root": root, "reports": save_cases.save_all(root)}
    if dist.get_world_size() == 2:
        answer["wide"] = save_wide(root + "/wide")
        answer["faults"] = provoke(root + "/faults")
    if dist.get_world_size() == 4:
        save_layouts(root + "/layouts")
        save_stages(root + "/stages")
    return answer


@pytest.fixture(scope="module")
def saved(answers: dict[int, list[dict[str, Any]]]) -> Path:
    """The directory of all that was saved. Read only."""
    return Path(answers[1][0]["root"])


def read_all(directory: Path) -> dict[str, torch.Tensor]:
    """By safetensors' own reader."""
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def weights_of(directory: Path) -> dict[str, bytes]:
    """Weight files and index."""
    files = [*directory.glob("*.safetensors"), *directory.glob("*.index.json")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", CASES)
def test_as_transformers_saves_it(name: str, saved: Path) -> None:
    dtype = CASES[name].dtype
    expected = read_all(saved / name / "hf")
    if dtype:
        expected = {key: tensor.to(getattr(torch, dtype)) for key, tensor in expected.items()}
    compare.assert_same_tensors(read_all(saved / name / "live"), expected)


@pytest.mark.parametrize("name", CASES)
def test_bit_equal_to_converting_a_dcp(name: str, saved: Path, out: Path) -> None:
    options = ["--recipe", "transformers-runtime", "--assets-from", saved / name / "hf"]
    options += ["--shard-size", 20_000]
    if CASES[name].dtype:
        options += ["--dtype", CASES[name].dtype]
    cli.convert(saved / name / "dcp", out, *options)
    live = weights_of(saved / name / "live")
    assert len(live) > 2
    assert INDEX in live
    assert live == weights_of(out)


@pytest.mark.parametrize("name", CASES)
def test_from_pretrained_misses_nothing(name: str, saved: Path) -> None:
    case, directory = CASES[name], saved / name / "live"
    model, info = AutoModelForCausalLM.from_pretrained(directory, output_loading_info=True)
    assert not any(info.values()), info
    whole = save_cases.build(case.model)
    assert type(model) is type(whole)
    dtype = getattr(torch, case.dtype or "float32")
    expected = {key: tensor.to(dtype) for key, tensor in whole.state_dict().items()}
    compare.assert_same_tensors(dict(model.state_dict()), expected)
    assert reshard.verify(directory)


def test_all_ranks_have_one_report(answers: dict[int, list[dict[str, Any]]]) -> None:
    for world, ranked in answers.items():
        for name, report in ranked[0]["reports"].items():
            sizes = [
                path.stat().st_size for path in files_of(Path(ranked[0]["root"], name, "live"))
            ]
            assert (report.files, report.bytes_written) == (len(sizes), sum(sizes))
            for other in ranked[1:world]:
                assert replace(other["reports"][name], seconds=report.seconds) == report


def files_of(directory: Path) -> list[Path]:
    """What was written but the manifest."""
    return [path for path in directory.iterdir() if path.name != "reshard-manifest.json"]


# --- state dicts -------------------------------------------------------------------------------


def save_layouts(root: str) -> None:
    state = checkpoints._layout_state()["model"]
    reshard.torch.save_checkpoint(state, Path(root, "live"))
    dcp.save(state, checkpoint_id=Path(root, "dcp"))
    whole = {
        name: t.full_tensor().clone() if isinstance(t, DTensor) else t for name, t in state.items()
    }
    if dist.get_rank() == 0:
        torch.save(whole, Path(root, "whole.pt"))


def test_every_way_for_a_tensor_to_lie(saved: Path, out: Path) -> None:
    directory = saved / "layouts"
    compare.assert_reads_as(directory / "live", torch.load(directory / "whole.pt"))
    cli.identity(directory / "dcp", out)
    assert weights_of(directory / "live") == weights_of(out)


def save_stages(path: str) -> None:
    """Two stages of two ranks: each has other tensors; embeddings are on both."""
    stage = dist.get_rank() // 2
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("stage", "shard"))["shard"]
    generator = torch.Generator().manual_seed(5)
    full = {name: torch.randn(6, 5, generator=generator) for name in ("embed", "w0", "w1")}
    state = {
        "embed": distribute_tensor(full["embed"], mesh, [Shard(0)], src_data_rank=None),
        f"w{stage}": distribute_tensor(full[f"w{stage}"], mesh, [Shard(1)], src_data_rank=None),
        f"rope.{stage}": torch.full((3,), stage),
    }
    reshard.torch.save_checkpoint(state, path)


def test_stages_of_a_pipeline(saved: Path) -> None:
    generator = torch.Generator().manual_seed(5)
    expected = {name: torch.randn(6, 5, generator=generator) for name in ("embed", "w0", "w1")}
    expected |= {f"rope.{stage}": torch.full((3,), stage) for stage in range(2)}
    compare.assert_reads_as(saved / "stages", expected)


def save_wide(path: str) -> tuple[Any, list[tuple[int, int]]]:
    mesh = init_device_mesh("cpu", (2,))
    values = torch.full((4, 3), 70_000.0)
    values[0, 0] = torch.inf
    state = {
        "sharded": distribute_tensor(values, mesh, [Shard(0)]),
        "replicated": distribute_tensor(values, mesh, [Replicate()]),
        "plain": torch.full((2,), 1.0),
    }
    calls: list[tuple[int, int]] = []
    report = reshard.torch.save_checkpoint(
        state, path, dtype=torch.float16, progress=lambda *done: calls.append(done)
    )
    return report, calls


def test_overflows_and_progress_are_reported(answers: dict[int, list[dict[str, Any]]]) -> None:
    written = 0
    for report, calls in (answer["wide"] for answer in answers[2]):
        assert report.overflows == {"sharded": 11, "replicated": 11}
        assert calls[-1][0] == calls[-1][1]
        assert calls == sorted(calls)
        written += calls[-1][1]
    assert written == 2 * (12 + 12 + 2)


def test_without_distributed(out: Path) -> None:
    state = {"b": torch.arange(6).reshape(2, 3).t(), "a": torch.tensor(1.5)}
    report = reshard.torch.save_checkpoint(state, out)
    assert report.bytes_written == sum(path.stat().st_size for path in files_of(out))
    compare.assert_reads_as(out, state)
    with pytest.raises(reshard.DestinationError, match="exists"):
        reshard.torch.save_checkpoint(state, out)
    reshard.torch.save_checkpoint({"c": torch.ones(1)}, out, force=True)
    compare.assert_reads_as(out, {"c": torch.ones(1)})


def test_assets_are_copied(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "config.json").write_text('{"dtype": "float32", "x": 1}')
    (tmp_path / "assets" / "tokenizer.json").write_text("{}")
    report = reshard.torch.save_checkpoint(
        {"w": torch.ones(2)}, tmp_path / "o", dtype="bfloat16", assets_from=tmp_path / "assets"
    )
    assert (tmp_path / "o" / "config.json").read_text() == '{"dtype": "bfloat16", "x": 1}'
    assert (tmp_path / "o" / "tokenizer.json").read_text() == "{}"
    assert report.plan.assets_from == str(tmp_path / "assets")


# --- what goes wrong ---------------------------------------------------------------------------

State = dict[str, Any]


def good() -> State:
    mesh = init_device_mesh("cpu", (2,))
    return {
        "plain": torch.ones(3, 2),
        "columns": distribute_tensor(torch.ones(4, 6), mesh, [Shard(1)]),
    }


def replica_differs(state: State) -> None:
    state["plain"][1] += dist.get_rank()


def shape_differs(state: State) -> None:
    state["plain"] = torch.ones(3, 2 + dist.get_rank())


def one_rank_lacks_its_shard(state: State) -> None:
    if dist.get_rank() == 1:
        del state["columns"]


def meta_on_one_rank(state: State) -> None:
    if dist.get_rank() == 1:
        state["plain"] = state["plain"].to("meta")


def no_tensor(state: State) -> None:
    state["step"] = 7


def cut_in_two_ways(state: State) -> None:
    if dist.get_rank() == 1:
        state["columns"] = torch.ones(4, 6)


def one_rank_cannot_write(state: State) -> None:
    if dist.get_rank() == 1:
        _save._Writer.write = fail


def fail(*args: Any) -> None:
    raise OSError(28, "No space left on device")


def file_system_is_not_shared(state: State) -> None:
    _save._SEEN_WITHIN = 0.2
    if dist.get_rank() == 1:
        wait = _save._wait_for
        _save._wait_for = lambda probe: wait(Path("/proc") / probe.name)


def other_working_directory(state: State) -> None:
    os.chdir("/" if dist.get_rank() else "/tmp")


FAULTS: dict[str, tuple[Callable[[State], None], str, str, str]] = {
    # what is done, the destination, the error, what its text says
    "replica": (replica_differs, "new", "MappingError", "ranks 0 and 1 have different values"),
    "shape": (shape_differs, "new", "MappingError", r"rank 1 has it as float32 \[3, 3\]"),
    "lacks": (one_rank_lacks_its_shard, "new", "MappingError", "rank 1 does not have it"),
    "cuts": (cut_in_two_ways, "new", "MappingError", "cut in another way|does not have it"),
    "meta": (meta_on_one_rank, "new", "UsageError", "meta device"),
    "object": (no_tensor, "new", "UsageError", "step"),
    "exists": (lambda state: None, "taken", "DestinationError", "exists"),
    "unwritable": (lambda state: None, "file/out", "DestinationError", "create"),
    "no space": (one_rank_cannot_write, "new", "Error", "No space left"),
    "not shared": (file_system_is_not_shared, "new", "DestinationError", "all ranks share"),
    "relative": (other_working_directory, "relative", "UsageError", "rank 1 has another place"),
}


def provoke(root: str) -> dict[str, tuple[str, str, float]]:
    errors = {}
    original = _save._Writer.write, _save._wait_for, os.getcwd()
    for name, (spoil, place, _, _) in FAULTS.items():
        state = good()
        spoil(state)
        start = time.monotonic()
        path = place if place == "relative" else os.path.join(root, place)
        try:
            reshard.torch.save_checkpoint(state, path)
        except reshard.Error as error:
            errors[name] = (type(error).__name__, str(error), time.monotonic() - start)
        _save._Writer.write, _save._wait_for = original[:2]
        os.chdir(original[2])
        dist.barrier()
    reshard.torch.save_checkpoint(good(), os.path.join(root, "good"))
    return errors


@pytest.mark.parametrize("name", FAULTS)
def test_an_error_is_one_on_all_ranks(name: str, answers: dict[int, list[dict[str, Any]]]) -> None:
    _, _, kind, text = FAULTS[name]
    for answer in answers[2]:
        cls, said, seconds = answer["faults"][name]
        assert issubclass(getattr(reshard, cls), getattr(reshard, kind))
        assert re.search(text, said), said
        assert seconds < 30
    if name in ("meta", "no space", "not shared"):  # rank 1's own
        assert re.search(r"on rank +1", answers[2][0]["faults"][name][1])


def test_nothing_is_left_of_what_failed(saved: Path) -> None:
    root = saved / "faults"
    assert sorted(path.name for path in root.iterdir()) == ["file", "good", "taken"]
    assert [path.name for path in (root / "taken").iterdir()] == ["notes.txt"]
    compare.assert_reads_as(root / "good", {"plain": torch.ones(3, 2), "columns": torch.ones(4, 6)})


# --- the example, and VeOmni's function --------------------------------------------------------


def test_the_example_saves_on_two_ranks(out: Path) -> None:
    lines = cli.example("save_to_hf.py", out, ranks=2)
    assert lines == [
        "21 tensors, 3 files, by 2 ranks",
        "recipe transformers-runtime/dense, intact: True",
        "loads as LlamaForCausalLM, torch.bfloat16",
    ]


@pytest.fixture(scope="module")
def dcp_of_veomni(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("veomni") / "checkpoint"
    state = {f"model.{name}": t for name, t in models.build("llama").state_dict().items()}
    checkpoints.save_single(state | {"optimizer.state.x": torch.ones(2)}, directory)
    return directory


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16, None])
@pytest.mark.parametrize("shard_size", [20_000, 2_000_000_000])
def test_veomni_function(
    shard_size: int, dtype: str | torch.dtype | None, dcp_of_veomni: Path, out: Path
) -> None:
    config = models.config("llama")
    veomni.save_model_weights(out, dcp_of_veomni, dtype, shard_size, model_assets=[config, 7])
    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    expected = reference.merge(dcp_of_veomni, wanted, shard_size)
    assert sorted(path.name for path in compare.weight_files(out)) == sorted(expected)
    for file, tensors in expected.items():
        compare.assert_same_tensors(load_file(out / file), tensors)
    config.save_pretrained(out.parent / "config")
    text = (out.parent / "config" / "config.json").read_text()
    assert (out / "config.json").read_text() == text


def test_veomni_function_writes_bin_files(dcp_of_veomni: Path, out: Path) -> None:
    veomni.save_model_weights(out, dcp_of_veomni, safe_serialization=False)
    (expected,) = reference.merge(dcp_of_veomni, torch.bfloat16, 2_000_000_000).values()
    compare.assert_same_tensors(torch.load(out / "pytorch_model.bin"), expected)


def test_veomni_function_without_a_model(tmp_path: Path, out: Path) -> None:
    checkpoints.save_single({"optimizer.state.x": torch.ones(2)}, tmp_path / "checkpoint")
    veomni.save_model_weights(out, tmp_path / "checkpoint")
    assert list(out.iterdir()) == []
