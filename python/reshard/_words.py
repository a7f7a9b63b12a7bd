"""What callers write: names of types in all their forms, and keywords that are not known."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from . import _core, _errors

P = ParamSpec("P")
T = TypeVar("T")


class TorchDType(Protocol):
    """`torch.dtype` to type checkers, which need not look at PyTorch for it."""

    @property
    def is_floating_point(self) -> bool: ...
    @property
    def is_complex(self) -> bool: ...


# "bfloat16", "bf16", torch.bfloat16, numpy.float16, numpy.dtype("float32")
DType = str | TorchDType | np.dtype[Any] | type[Any]


def dtype_word(dtype: DType) -> str:
    """A type as text: what is no text is PyTorch's or NumPy's."""
    if isinstance(dtype, str):
        return dtype
    if type(dtype).__module__ == "torch":
        return str(dtype)
    of_numpy: Any = dtype
    return str(np.dtype(of_numpy).name)


def dtype_name(dtype: DType) -> str:
    """The one name that the library has for a type."""
    return _core.dtype_name(dtype_word(dtype))


def unknown_keyword(function: str, keyword: str, known: Iterable[str]) -> _errors.Error:
    """The error for a keyword that a function does not have, with the one that was meant."""
    found = f"{function}() has no keyword '{keyword}'"
    words = [word for word in known if not word.startswith("_")]
    nearest = difflib.get_close_matches(keyword, words, 1)
    flag = "--" + keyword.strip("_").replace("_", "-")
    return _errors.make(
        _errors.KeywordError,
        found=f"{found}: did you mean {nearest[0]}?" if nearest else found,
        expected=f"one of {', '.join(words)}",
        help=f"keywords are named as the flags of the command line, and there is no {flag}",
    )


def names_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Has a function tell the keyword that was meant, where it is called with one that it lacks."""
    known = inspect.signature(function).parameters

    @functools.wraps(function)
    def called(*args: P.args, **keywords: P.kwargs) -> T:
        for keyword in keywords:
            if keyword not in known:
                raise unknown_keyword(function.__name__, keyword, known)
        return function(*args, **keywords)

    return called
