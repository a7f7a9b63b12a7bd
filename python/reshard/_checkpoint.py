"""An opened checkpoint as a mapping from names to tensors, read where they are looked at."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, SupportsIndex

import numpy as np

from . import _core, _errors
from ._progress import Progress, reporting, warn
from ._words import DType, dtype_name, names_keywords

Index = SupportsIndex | slice | EllipsisType | tuple[SupportsIndex | slice | EllipsisType, ...]

_NUMPY_TYPES = {
    name: np.dtype(name)
    for name in [
        "uint8",
        "int8",
        "uint16",
        "int16",
        "uint32",
        "int32",
        "uint64",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "complex128",
    ]
} | {"bool": np.dtype(np.bool_)}


def numpy_type(dtype: str) -> np.dtype[Any]:
    """NumPy's type of that name; those that it lacks come from ml_dtypes, if it is installed."""
    if dtype in _NUMPY_TYPES:
        return _NUMPY_TYPES[dtype]
    try:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, dtype))
        return extended
    except (ImportError, AttributeError, TypeError):
        raise _errors.make(
            _errors.UsageError,
            found=f"NumPy has no type {dtype}",
            expected="a type that it has",
            help="install ml_dtypes, ask for another type (dtype='float32'), or hand the tensor to "
            "PyTorch: torch.from_dlpack(tensor)",
        ) from None


@dataclass(frozen=True)
class StoredObject:
    """A value that is no tensor: an optimizer's step, a data loader's state."""

    name: str
    summary: str  # the value in a few words where it is small, else what it is
    byte_size: int  # as stored


@dataclass(frozen=True)
class Dropped:
    """A tensor of the checkpoint that the names asked for do not have, and why."""

    name: str
    byte_size: int
    why: str


@dataclass(frozen=True)
class ReadReport:
    """What a read has done."""

    bytes_filled: int  # in memory
    bytes_read: int  # from the checkpoint, what was compared included
    seconds: float
    overflows: Mapping[str, int]  # finite values that became infinite in a narrower type


def strides_of(shape: Sequence[int]) -> list[int]:
    """Row-major strides, in elements."""
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * max(shape[i + 1], 1)
    return strides


class Tensor:
    """A tensor of a checkpoint, or a box of one: a description until it is read.

    `tensor[3:5, 0]` is again such a tensor; `numpy()`, `np.asarray(tensor)` and
    `torch.from_dlpack(tensor)` read the bytes of its box, and no others.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        number: int,
        dtype: str,
        start: Sequence[int],
        extent: Sequence[int],
        kept: Sequence[int],
    ) -> None:
        self._checkpoint = checkpoint
        self._number = number
        self._start = tuple(start)
        self._extent = tuple(extent)
        self._kept = tuple(kept)  # dimensions that no integer has indexed
        self.dtype = dtype

    @property
    def name(self) -> str:
        return self._checkpoint._names[self._number]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._extent[dim] for dim in self._kept)

    @property
    def ndim(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """How many elements it has."""
        return int(np.prod(self._extent, dtype=np.int64))

    def __len__(self) -> int:
        if not self._kept:
            raise TypeError("len() of a tensor without dimensions")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"reshard.Tensor({self.name!r}, {self.dtype}, {list(self.shape)})"

    def __getitem__(self, index: Index) -> Tensor:
        start, extent, kept = list(self._start), list(self._extent), []
        for dim, item in zip(self._kept, self._by_dimension(index), strict=True):
            size = extent[dim]
            if isinstance(item, slice):
                first, last, step = item.indices(size)
                if step != 1:
                    raise IndexError(f"{self!r}: only slices of step 1 are read; got {item!r}")
                start[dim] += first
                extent[dim] = max(last - first, 0)
                kept.append(dim)
            else:
                number = operator.index(item)
                if not -size <= number < size:
                    raise IndexError(f"index {number} of {size} in {self!r}")
                start[dim] += number % size
                extent[dim] = 1
        return Tensor(self._checkpoint, self._number, self.dtype, start, extent, kept)

    def _by_dimension(self, index: Index) -> list[SupportsIndex | slice]:
        """An integer or a slice for each dimension."""
        given = index if isinstance(index, tuple) else (index,)
        items = [item for item in given if not isinstance(item, EllipsisType)]
        missing = self.ndim - len(items)
        if missing < 0 or len(given) - len(items) > 1:
            raise IndexError(f"{self!r} cannot be indexed by {index!r}")
        gap = next((i for i, item in enumerate(given) if item is Ellipsis), len(items))
        return [*items[:gap], *[slice(None)] * missing, *items[gap:]]

    def numpy(self, dtype: DType | None = None, *, jobs: int = 0) -> np.ndarray[Any, Any]:
        """Its elements, in another of the floating types if asked for."""
        wanted = self.dtype if dtype is None else dtype_name(dtype)
        out = np.empty(self._extent, numpy_type(wanted))
        self._read(wanted, out.ctypes.data, jobs)
        return out.reshape(self.shape)

    def tobytes(self) -> bytes:
        """Its elements row by row, of any type: also of those that NumPy and DLPack lack."""
        data = self._memory()
        self._read(self.dtype, data.ctypes.data, 0)
        return data.tobytes()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("a tensor of a checkpoint can only be copied")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __dlpack__(self, **options: Any) -> Any:
        return self._as_array().__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def _as_array(self) -> Any:
        data = self._memory()
        array = _core.as_array(data, self.dtype, self.shape)
        self._read(self.dtype, data.ctypes.data, 0)
        return array

    def _memory(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.empty(self.size * _core.item_size(self.dtype), np.uint8)

    def _read(self, dtype: str, address: int, jobs: int) -> None:
        box = (self._number, dtype, self._start, self._extent, address, strides_of(self._extent))
        self._checkpoint._core.read([box], jobs, 0, 0, None)


class Checkpoint(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, whatever its kind; made by `reshard.open`."""

    def __init__(self, core: _core.Checkpoint) -> None:
        self._core = core
        self._tensors = core.tensors()
        self._names = [name for name, _, _ in self._tensors]
        self._numbers = {name: number for number, name in enumerate(self._names)}

    kind = property(lambda self: self._core.kind, doc="dcp, hf, megatron, pt, or live")
    evidence = property(lambda self: self._core.evidence, doc="how the kind was told")
    root = property(lambda self: self._core.root, doc="the directory that its files lie in")
    recipe = property(lambda self: self._core.recipe, doc="the recipe, or both")
    recipe_why = property(lambda self: self._core.recipe_why, doc="how the recipe was chosen")

    @property
    def objects(self) -> dict[str, StoredObject]:
        """What it holds beside tensors."""
        return {entry[0]: StoredObject(*entry) for entry in self._core.objects()}

    @property
    def dropped(self) -> list[Dropped]:
        """The tensors that are not among the names asked for."""
        return [Dropped(*entry) for entry in self._core.dropped()]

    def __getitem__(self, name: str) -> Tensor:
        number = self._numbers[name]
        _, dtype, shape = self._tensors[number]
        return Tensor(self, number, dtype, [0] * len(shape), shape, range(len(shape)))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<reshard.Checkpoint of {len(self)} tensors, {self.kind}, {self.root!r}>"

    def read_into(
        self,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        *,
        jobs: int = 0,
        check: bool = True,
        progress: Progress = None,
    ) -> ReadReport:
        """Fills arrays with whole tensors, all of them on the same threads.

        An array has the tensor's shape, any strides, and any type that its elements may be cast to.
        With `check`, what the checkpoint holds twice is compared too.
        """
        boxes = []
        for name, array in arrays.items():
            tensor = self[name]
            if array.shape != tensor.shape or not array.flags.writeable:
                raise _errors.make(
                    _errors.UsageError,
                    found=f"an array of the shape {list(array.shape)}",
                    expected=f"a writable one of the shape {list(tensor.shape)}",
                    tensor=name,
                )
            strides = [stride // array.itemsize for stride in array.strides]
            zeros = [0] * len(array.shape)
            boxes.append(
                (tensor._number, array.dtype.name, zeros, array.shape, array.ctypes.data, strides)
            )
        with reporting(progress, "reading") as on_progress:
            return ReadReport(**self._core.read(boxes, jobs, 0, int(check), on_progress))


@names_keywords
def open(
    path: str | os.PathLike[str],
    recipe: str | os.PathLike[str] | None = None,
    *,
    to: str | None = None,
    from_: str = "auto",
    from_layout: str = "",
    assets_from: str | os.PathLike[str] = "",
    config_json: str = "",
    dequantize: bool = False,
    ignore: Sequence[str] = (),
) -> Checkpoint:
    """Opens a checkpoint of any kind; reads its metadata only.

    Without a recipe its tensors have the names that they are stored under. With one ("auto", a
    flavor such as "megatron-core", or a file) they have the hub's, and with `to` another flavor's
    ("transformers-runtime"): whole, and as the wanted names' layout has them, fused or split.
    With `dequantize` float8 weights are float32 tensors, multiplied by their scales, and a read may
    ask for another type. `from_` and `from_layout` are as on the command line: "megatron",
    "tp=2,pp=2".
    """
    core = _core.Checkpoint.open(
        os.fspath(path),
        from_,
        from_layout,
        "identity" if recipe is None else os.fspath(recipe),
        to or "",
        os.fspath(assets_from),
        config_json,
        dequantize,
        False,
        list(ignore),
        warn,
    )
    return Checkpoint(core)
