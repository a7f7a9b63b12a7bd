"""Makes the files beside it. Needs torch 2.13; run it in this directory.

state_dict.bin     what torch.save writes for a dict of contiguous tensors
state_dict.json    that dict: name, dtype, shape, and the data as hex
state_dicts.json   CRC-32 of the pickles of dicts of 1, 1000, 1001 and 2500 tensors
nested.pkl         the pickle of a dict of dicts, numbers and texts
entries/*.zip      one tensor each, as DCP stores a chunk; entries.json says what they hold
values.json        what torch.save writes for values that are no tensors, as hex
leaves.pt          what is no tensor, and tensors that are not dense
leaves.json        the names that DCP's flattening gives its leaves
"""

import argparse
import collections
import enum
import io
import json
import pathlib
import zipfile
import zlib

import torch
from torch.distributed.checkpoint._nested_dict import flatten_state_dict

HERE = pathlib.Path(__file__).parent


class Color(enum.Enum):
    RED = 1


def raw(tensor):
    storage = tensor.clone(memory_format=torch.contiguous_format).untyped_storage()
    return bytes(storage).hex()


def describe(tensor):
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "hex": raw(tensor),
    }


def saved(value):
    """As DCP does it: into a stream, so that the zip's folder is not named after a file."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def state_dict():
    generator = torch.Generator().manual_seed(0)

    def data(n):
        return torch.randint(0, 256, (n,), dtype=torch.uint8, generator=generator)

    tensors = {
        "model.w": data(24).view(torch.float32).reshape(2, 3),
        "bf": data(6).view(torch.bfloat16),
        "u16": data(8).view(torch.uint16).reshape(2, 1, 2),
        "f8": data(5).view(torch.float8_e4m3fn),
        "scalar": torch.tensor(7, dtype=torch.int64),
        "empty": torch.zeros((2, 0, 3), dtype=torch.float16),
        "five": data(64).view(torch.complex64).reshape(1, 2, 1, 2, 2),
        "more u16": data(700).view(torch.uint16),
        "more bf": data(140000).view(torch.bfloat16)[:300].clone(),
        "bool": torch.tensor([True, False]),
        "\u00e9": data(3),
    }
    torch.save(tensors, HERE / "state_dict.bin")
    listed = [{"name": k} | describe(v) for k, v in tensors.items()]
    (HERE / "state_dict.json").write_text(json.dumps(listed, indent=1) + "\n")


def pickles():
    sizes = {}
    for count in (1, 1000, 1001, 2500):
        tensors = {f"layer.{i}": torch.zeros(i % 3, dtype=torch.int8) for i in range(count)}
        stream = io.BytesIO(saved(tensors))
        sizes[count] = zlib.crc32(zipfile.ZipFile(stream).read("archive/data.pkl"))
    (HERE / "state_dicts.json").write_text(json.dumps(sizes) + "\n")


def nested():
    # Protocol 2 as torch.save pickles; no text is used twice, so the memo is of no consequence.
    values = {
        "one": {"a": 1},
        "none": {},
        "scalars": {"deep": {"int": 300, "float": -2.5}, "text": "release"},
        "ints": {f"{n}": n for n in [0, 255, 65535, 65536, -1, -129, 2**31, -(2**31) - 1, 2**62]},
        "checkpoint_version": 3.0,
    }
    stream = io.BytesIO()
    torch.save(values, stream)
    (HERE / "nested.pkl").write_bytes(zipfile.ZipFile(stream).read("archive/data.pkl"))


def entries():
    out = HERE / "entries"
    out.mkdir(exist_ok=True)
    base = torch.arange(24, dtype=torch.float32)
    bits = torch.arange(6, dtype=torch.int16)
    cases = {
        "plain": base.reshape(4, 6).clone(),
        "transposed": base.reshape(4, 6).t(),
        "slice": base.reshape(4, 6)[1:3, 2:5],
        "expanded": base[:1].expand(5).detach(),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros((0, 4), dtype=torch.bfloat16),
        "uint16": bits.view(torch.uint16)[2:],
        "parameter": torch.nn.Parameter(base[:4].clone()),
        "conjugate": torch.complex(base[:4], base[4:8]).conj(),
        "negated": torch.complex(base[:4], base[4:8]).conj().imag,
        "large": torch.arange(900, dtype=torch.int32).reshape(30, 30),
    }
    attributes = base[:3].clone()
    attributes.note = "tensors with attributes go through _rebuild_from_type_v2"
    cases["attributes"] = attributes
    listed = {}
    for name, tensor in cases.items():
        (out / f"{name}.zip").write_bytes(saved(tensor))
        plain = tensor.detach().resolve_conj().resolve_neg()
        listed[name] = describe(plain) | {
            "strides": list(tensor.stride()),
            "storage_offset": tensor.storage_offset(),
        }
    bad = {
        "quantized": torch.quantize_per_tensor(base, 0.5, 0, torch.qint8),
        "sparse": base.reshape(4, 6).to_sparse(),
        "meta": torch.zeros(3, device="meta"),
        "list": [base],
    }
    for name, value in bad.items():
        (out / f"bad_{name}.zip").write_bytes(saved(value))
    (HERE / "entries.json").write_text(json.dumps(listed, indent=1) + "\n")


def values():
    out = []
    for value in (None, True, 3, 2**40, 3.0, "caf\u00e9"):
        out.append({"value": repr(value), "hex": saved(value).hex()})
    (HERE / "values.json").write_text(json.dumps(out, indent=1) + "\n")


def leaves():
    base = torch.arange(6, dtype=torch.float32)
    values = {
        "lr": 3e-5,
        "one": 1.0,
        "step": 10,
        "name": "adamw",
        "control": "a\x1b[31mb",
        "long": "x" * 100,
        "none": None,
        "flag": True,
        "plain": list(range(40)),
        "nested plain": [[1, 2], ["a"]],
        "tuple": (base, 1),
        "args": argparse.Namespace(hidden=8, layers=2),
        "dtype": torch.bfloat16,
        "color": Color.RED,
        "bytes": b"\x00\x01\x02",
        "nothing": {},
        "nothing nested": {"deep": collections.OrderedDict()},
        "list": [{"a": 1}, base, [base[2:4]], 5],
        "ordered": collections.OrderedDict(x=base.reshape(2, 3).t()),
        "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, k=1),
        7: {None: 1, True: 2, 2.5: 3, -1: 4},
        "quantized": torch.quantize_per_tensor(base, 0.5, 0, torch.qint8),
        "sparse": base.to_sparse(),
        "meta": torch.zeros(3, device="meta"),
        "tensor": base,
    }
    torch.save(values, HERE / "leaves.pt")
    names = flatten_state_dict(values)[0]
    (HERE / "leaves.json").write_text(json.dumps(list(names), indent=1) + "\n")


if __name__ == "__main__":
    state_dict()
    pickles()
    nested()
    entries()
    values()
    leaves()
