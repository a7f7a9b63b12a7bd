"""reshard: the checkpoint of a large model in one layout becomes the same one in another.

`open` gives any checkpoint as a mapping of lazy tensors; `convert`, `plan` and `verify` are those
of the command line. `reshard.torch` loads into live models and saves from them, and adapts state
dicts; it is the only part that needs PyTorch, together with `reshard.torchtitan` and
`reshard.compat`.
"""

from ._checkpoint import Checkpoint, Dropped, ReadReport, StoredObject, Tensor, open
from ._convert import (
    ConvertOptions,
    ConvertReport,
    Plan,
    PlannedFile,
    PlannedTensor,
    PlanSummary,
    VerifyFault,
    VerifyReport,
    convert,
    plan,
    recipes,
    verify,
)
from ._core import version as _version
from ._errors import (
    AnswerNo,
    DestinationError,
    Error,
    InternalError,
    Interrupted,
    MappingError,
    PartialError,
    SourceError,
    UsageError,
)

__version__ = _version()

__all__ = [
    "AnswerNo",
    "Checkpoint",
    "ConvertOptions",
    "ConvertReport",
    "DestinationError",
    "Dropped",
    "Error",
    "InternalError",
    "Interrupted",
    "MappingError",
    "PartialError",
    "Plan",
    "PlanSummary",
    "PlannedFile",
    "PlannedTensor",
    "ReadReport",
    "SourceError",
    "StoredObject",
    "Tensor",
    "UsageError",
    "VerifyFault",
    "VerifyReport",
    "convert",
    "open",
    "plan",
    "recipes",
    "verify",
]
