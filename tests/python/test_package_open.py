"""`reshard.open`: a checkpoint of any kind as a mapping, equal to what PyTorch reads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import reshard
import torch
from harness import checkpoints, cli, compare, float8, reference, tiny_text
from harness.fixtures import WHOLE, golden_of, source_of
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

SAMPLE = cli.REPOSITORY / "examples" / "tiny-llama-dcp"


def same(array: np.ndarray[Any, Any], tensor: torch.Tensor) -> bool:
    return array.shape == tuple(tensor.shape) and array.tobytes() == compare.tensor_bytes(tensor)


@pytest.mark.parametrize("name", WHOLE)
def test_every_tensor_of_every_fixture(name: str) -> None:
    golden = golden_of(name)
    checkpoint = reshard.open(source_of(name))
    assert list(checkpoint) == sorted(golden.tensors)
    assert len(checkpoint) == len(golden.tensors)
    assert checkpoint.kind == {"ts": "pt", "hf": "hf"}.get(name.split("_")[0], "dcp")
    for key, entry in golden.tensors.items():
        tensor = checkpoint[key]
        assert (tensor.dtype, list(tensor.shape)) == (entry["dtype"], entry["shape"]), key
        handed = torch.from_dlpack(tensor)
        assert compare.dtype_name(handed.dtype) == entry["dtype"], key
        assert list(handed.shape) == entry["shape"], key
        assert compare.stored_sha256(handed) == entry["sha256"], key
        assert tensor.tobytes() == compare.tensor_bytes(handed), key


@pytest.mark.parametrize("name", WHOLE)
def test_objects(name: str) -> None:
    golden = golden_of(name)
    objects = reshard.open(source_of(name)).objects
    assert set(golden.objects) <= set(objects)
    for key, entry in golden.objects.items():
        assert objects[key].name == key
        if entry["repr"].lstrip("-").replace(".", "").isdigit():  # small values are shown
            assert objects[key].summary == entry["repr"], key


def test_numpy_has_each_type_that_it_or_ml_dtypes_has() -> None:
    checkpoint = reshard.open(source_of("dcp_dtypes"))
    for name, tensor in checkpoint.items():
        if tensor.dtype == "float4_e2m1fn_x2":
            with pytest.raises(reshard.UsageError, match="NumPy has no type") as caught:
                tensor.numpy()
            assert "torch.from_dlpack" in caught.value.help
            continue
        assert tensor.numpy().dtype.name == tensor.dtype
        assert same(tensor.numpy(), torch.from_dlpack(tensor)), name
        assert same(np.asarray(tensor), torch.from_dlpack(tensor)), name


def test_numpy_casts_as_pytorch_does() -> None:
    wanted = reference.load(SAMPLE)
    checkpoint = reshard.open(SAMPLE)
    name = "model.model.embed_tokens.weight"
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        cast = checkpoint[name].numpy(compare.dtype_name(dtype))
        assert same(cast, wanted[name].to(dtype)), dtype
    assert np.asarray(checkpoint[name], np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copied"):
        checkpoint[name].__array__(copy=False)


def test_names_of_a_recipe() -> None:
    checkpoint = reshard.open(SAMPLE, recipe="auto")
    wanted = reference.weights(reference.load(SAMPLE))
    compare.assert_same_tensors({n: torch.from_dlpack(t) for n, t in checkpoint.items()}, wanted)
    assert checkpoint.recipe == "veomni"
    assert {drop.name for drop in checkpoint.dropped} == {
        name for name in reshard.open(SAMPLE) if not name.startswith("model.")
    }


@pytest.mark.parametrize("name", ["llama", "qwen3-moe"])
def test_ranks_of_megatron_are_put_together(name: str, tmp_path: Path) -> None:
    hub = tiny_text.save(name, tmp_path / "hub")
    cli.ok("convert", hub, tmp_path / "ranks", "--to", "megatron", "--tp", 2, "--pp", 2,
           "--recipe", "megatron-core")  # fmt: skip
    checkpoint = reshard.open(tmp_path / "ranks", recipe="megatron-core")
    assert checkpoint.kind == "megatron"
    tensors = {n: torch.from_dlpack(tensor) for n, tensor in checkpoint.items()}
    compare.assert_same_tensors(tensors, load_file(hub / "model.safetensors"))
    key = "model.layers.3.self_attn.k_proj.weight"
    assert same(checkpoint[key][3:37, 5].numpy(), tensors[key][3:37, 5])


# Cut into chunks by four ranks, along every dimension.
LAYOUTS = source_of("mr_tp_fsdp_2d")


def test_float8_times_its_scales(tmp_path: Path) -> None:
    values, scales = torch.randn(300, 200).to(torch.float8_e4m3fn), float8.scales_of([3, 2])
    source = float8.write(
        tmp_path / "fp8", {"a.weight": values, "a.weight_scale_inv": scales, "b": torch.ones(2)}
    )
    assert reshard.open(source)["a.weight"].dtype == "float8_e4m3fn"
    checkpoint = reshard.open(source, dequantize=True)
    assert list(checkpoint) == ["a.weight", "b"]
    tensor = checkpoint["a.weight"]
    assert tensor.dtype == "float32"
    assert same(tensor.numpy(), float8.product(values, scales, torch.float32))
    part = (slice(100, 250), slice(30, 170))
    bfloat = float8.product(values, scales)[part]
    assert same(tensor[part].numpy("bfloat16"), bfloat)
    turned = np.empty((200, 300), np.float16).T
    checkpoint.read_into({"a.weight": turned})
    assert same(np.ascontiguousarray(turned), float8.product(values, scales, torch.float16))

    report = reshard.convert(source, tmp_path / "out", dequantize=True)
    assert report.plan.casts == 1
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(written["a.weight"], float8.product(values, scales))


@st.composite
def indices(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """What NumPy takes: integers from both ends, slices, an ellipsis, fewer than dimensions."""
    items: list[Any] = []
    for size in shape[: draw(st.integers(0, len(shape)))]:
        bound = st.none() | st.integers(-size - 2, size + 2)
        one = st.integers(-size, size - 1) if size else st.nothing()
        items.append(draw(one | st.builds(slice, bound, bound)))
    if draw(st.booleans()):
        items = items[: draw(st.integers(0, len(items)))]
        items.append(...)
        left = len(shape) - len(items) + 1
        for size in shape[len(shape) - draw(st.integers(0, left)) :]:
            bound = st.none() | st.integers(-size - 2, size + 2)
            items.append(draw(st.builds(slice, bound, bound)))
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_slices_are_those_of_numpy(data: st.DataObject) -> None:
    checkpoint = reshard.open(LAYOUTS)
    name = data.draw(st.sampled_from(list(checkpoint)))
    tensor = checkpoint[name]
    whole = torch.from_dlpack(tensor).to(torch.float64).numpy()
    index = data.draw(indices(tensor.shape))
    part = tensor[index]
    assert part.shape == whole[index].shape
    assert part.ndim == whole[index].ndim
    assert part.size == whole[index].size
    assert np.array_equal(torch.from_dlpack(part).to(torch.float64).numpy(), whole[index])
    again = data.draw(indices(part.shape))
    assert np.array_equal(
        torch.from_dlpack(part[again]).to(torch.float64).numpy(), whole[index][again]
    )


def test_what_cannot_be_an_index() -> None:
    tensor = reshard.open(SAMPLE)["model.model.embed_tokens.weight"]
    rows, columns = tensor.shape
    for index in (slice(None, None, 2), slice(None, None, -1)):
        with pytest.raises(IndexError, match="only slices of step 1"):
            tensor[index]
    for index in (rows, -rows - 1, (0, columns), (0, 0, 0), (..., ...), (..., 0, 0, 0)):
        with pytest.raises(IndexError):
            tensor[index]
    for index in ("a", 1.5, None, [0, 1]):
        with pytest.raises(TypeError, match=r"int|integer|__index__"):
            tensor[index]
    with pytest.raises(KeyError):
        reshard.open(SAMPLE)["no.such.name"]
    assert "no.such.name" not in reshard.open(SAMPLE)
    with pytest.raises(TypeError, match="without dimensions"):
        len(tensor[0, 0])
    assert len(tensor) == rows


def bytes_read() -> int:
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar: ")[1].split()[0])


def test_a_slice_reads_its_bytes_only(tmp_path: Path) -> None:
    """Of a file of 8 GiB that is a hole, but for one row."""
    rows, columns = 1 << 21, 1024
    header = b'{"w":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}' % (
        rows, columns, 4 * rows * columns,
    )  # fmt: skip
    header += b" " * (-len(header) % 8)
    start = 8 + len(header)
    row = np.arange(columns, dtype=np.float32)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(start + 4 * rows * columns)
        file.seek(start + 4 * columns * 1_500_000)
        file.write(row.tobytes())

    before = bytes_read()
    tensor = reshard.open(tmp_path)["w"]
    assert tensor.shape == (rows, columns)
    found = tensor[1_499_999:1_500_002, 100:200].numpy()
    assert bytes_read() - before < 64 << 10
    assert np.array_equal(found, [np.zeros(100), row[100:200], np.zeros(100)])


def test_read_into_any_memory() -> None:
    wanted = reference.load(SAMPLE)
    checkpoint = reshard.open(SAMPLE)
    embedding, norm = "model.model.embed_tokens.weight", "model.model.norm.weight"
    rows, columns = checkpoint[embedding].shape

    turned = np.empty((columns, rows), np.float32).T
    apart = np.full((2 * rows, 3 * columns), -1, np.float64)[::2, 1::3]
    half = np.empty((rows, columns), np.float16)
    brain = np.empty((columns,), ml_dtypes.bfloat16)
    for array in (turned, apart, half):
        report = checkpoint.read_into({embedding: array, norm: brain})
        assert report.bytes_filled == array.size * array.itemsize + brain.nbytes
        assert report.bytes_read == 4 * (rows * columns + columns)
        assert report.overflows == {}
        dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
        assert np.array_equal(array, wanted[embedding].to(dtype).numpy())
        assert same(brain, wanted[norm].to(torch.bfloat16))
    assert (apart.base[1::2] == -1).all()
    assert (apart.base[:, ::3] == -1).all()

    backwards = np.empty((rows, columns), np.float32)[::-1]
    checkpoint.read_into({embedding: backwards})
    assert np.array_equal(backwards, wanted[embedding].numpy())


def test_read_into_counts_what_became_infinite(tmp_path: Path) -> None:
    save_file({"w": torch.tensor([1.0, 1e30, -1e30, torch.inf])}, tmp_path / "model.safetensors")
    out = np.empty(4, np.float16)
    report = reshard.open(tmp_path).read_into({"w": out})
    assert report.overflows == {"w": 2}
    assert out.tolist() == [1, np.inf, -np.inf, np.inf]


def test_read_into_refuses_what_does_not_fit() -> None:
    checkpoint = reshard.open(SAMPLE)
    name = "model.model.norm.weight"
    fixed = np.empty(checkpoint[name].shape, np.float32)
    fixed.flags.writeable = False
    for array in (np.empty((3,), np.float32), fixed):
        with pytest.raises(reshard.UsageError, match="writable one of the shape") as caught:
            checkpoint.read_into({name: array})
        assert caught.value.tensor == name
    with pytest.raises(reshard.Error) as caught:
        checkpoint.read_into({name: np.empty(checkpoint[name].shape, np.int32)})
    assert caught.value.tensor == name
    with pytest.raises(KeyError):
        checkpoint.read_into({"no.such.name": fixed})


def test_several_threads_read_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    checkpoint = reshard.open(source_of("dcp_zstd"))
    wanted = {name: tensor.tobytes() for name, tensor in checkpoint.items()}
    with ThreadPoolExecutor(8) as pool:
        for name, data in pool.map(lambda n: (n, checkpoint[n].tobytes()), list(wanted) * 40):
            assert data == wanted[name]


def test_a_tensor_outlives_the_name_of_its_checkpoint() -> None:
    tensor = reshard.open(SAMPLE)["model.model.norm.weight"]
    handed = torch.from_dlpack(tensor)
    del tensor
    assert torch.equal(handed, reference.load(SAMPLE)["model.model.norm.weight"])


def test_a_checkpoint_without_tensors(tmp_path: Path) -> None:
    checkpoints.save_single({"step": 7}, tmp_path / "ckpt")
    checkpoint = reshard.open(tmp_path / "ckpt")
    assert len(checkpoint) == 0
    assert checkpoint.objects["step"].summary == "7"


def test_the_package_does_not_import_pytorch() -> None:
    code = "import reshard, sys; assert 'torch' not in sys.modules; reshard.recipes()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_that_changes_is_not_read_as_if_it_had_not(tmp_path: Path) -> None:
    """What was read may be half of one state and half of the other."""
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(4), "b": torch.zeros(4)}, path)
    os.utime(path, (1, 1))
    checkpoint = reshard.open(tmp_path)
    assert checkpoint["a"].numpy().tolist() == [0, 0, 0, 0]
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(b"\x01\x01")
    with pytest.raises(reshard.SourceError, match="has been written to") as raised:
        checkpoint["b"].numpy()
    assert raised.value.file == str(path)
