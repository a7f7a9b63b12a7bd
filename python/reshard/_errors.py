"""What goes wrong, as exceptions: one class for each kind of error of the command line."""

from __future__ import annotations


class Error(Exception):
    """A failure: where it is, what was found there, what was expected, what to do about it.

    `str()` is the text of the command line. Fields that say nothing are empty, or None.
    """

    kind = "internal"

    def __init__(
        self,
        text: str,
        *,
        file: str = "",
        offset: int | None = None,
        tensor: str = "",
        found: str = "",
        expected: str = "",
        help: str = "",
    ) -> None:
        super().__init__(text)
        self.file = file
        self.offset = offset
        self.tensor = tensor
        self.found = found or text
        self.expected = expected
        self.help = help

    def __reduce__(self) -> tuple[object, ...]:
        """Errors travel between processes whole."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class AnswerNo(Error):
    """The answer to a question is no: a file differs from its manifest."""

    kind = "answer_no"


class UsageError(Error, ValueError):
    """The request itself is wrong."""

    kind = "usage"


class KeywordError(UsageError, TypeError):
    """A keyword that a function does not have: to Python that is a TypeError."""


class SourceError(Error):
    """The source is unreadable, corrupt or unsafe."""

    kind = "source"


class MappingError(Error):
    """The source is fine, but does not fit the recipe, the model or the target."""

    kind = "mapping"


class DestinationError(Error):
    """The destination or the environment: it exists, there is no space, no permission."""

    kind = "destination"


class PartialError(Error):
    """Stopped part-way for another reason; the same call again goes on."""

    kind = "partial"


class InternalError(Error):
    """A defect of reshard."""

    kind = "internal"


class Interrupted(Error):
    """Stopped by the caller."""

    kind = "interrupted"


_CLASSES: dict[str, type[Error]] = {
    cls.kind: cls
    for cls in (
        AnswerNo,
        UsageError,
        SourceError,
        MappingError,
        DestinationError,
        PartialError,
        InternalError,
        Interrupted,
    )
}


def from_core(
    kind: str,
    text: str,
    file: str,
    offset: int | None,
    tensor: str,
    found: str,
    expected: str,
    help: str,
) -> Error:
    """The exception that stands for an error of the library."""
    return _CLASSES.get(kind, InternalError)(
        text, file=file, offset=offset, tensor=tensor, found=found, expected=expected, help=help
    )


def make(cls: type[Error], *, found: str, expected: str, help: str = "", tensor: str = "") -> Error:
    """An error of the package's own, in the form that the library's have."""
    lines = [found]
    for label, value in (("tensor", tensor), ("expected", expected), ("help", help)):
        if value:
            lines.append(f"  {label:<9} {value}")
    return cls("\n".join(lines), tensor=tensor, found=found, expected=expected, help=help)


def _rebuild(cls: type[Error], text: str, fields: dict[str, object]) -> Error:
    error = cls(text)
    error.__dict__.update(fields)
    return error
