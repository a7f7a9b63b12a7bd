"""Looks into a checkpoint from Python: what is there, a few rows of a tensor, all of it as NumPy's.

    python examples/open_and_slice.py [CHECKPOINT]
"""

import sys
from pathlib import Path

import numpy as np
import reshard

source = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "tiny-llama-dcp"

# %% Any kind of checkpoint is a mapping of names to tensors. Only its metadata has been read.
stored = reshard.open(source)
print(f"{stored.kind}, as told by {stored.evidence}: {len(stored)} tensors")
for name, entry in list(stored.objects.items())[:3]:
    print(f"  {name} = {entry.summary}")

# %% With a recipe they have the names of the hub, and what is no weight is left out by name.
checkpoint = reshard.open(source, recipe="auto")
print(f"recipe {checkpoint.recipe}: {checkpoint.recipe_why}")
for name in list(checkpoint)[:3]:
    print(f"  {checkpoint[name]}")
print(f"left out: {len(checkpoint.dropped)}, the first because it is {checkpoint.dropped[0].why}")

# %% A slice is a tensor too; its bytes are read when it becomes an array, and no others.
name = next(name for name, tensor in checkpoint.items() if tensor.ndim == 2)
corner = checkpoint[name][:2, -3:]
print(f"{corner}\n{corner.numpy()}")

# %% Into memory that is there already, of another type and with any strides, on all processors.
mine = np.empty(checkpoint[name].shape[::-1], np.float16).T
report = checkpoint.read_into({name: mine})
print(f"{report.bytes_read} bytes read, {report.bytes_filled} filled")
print(f"finite values that became infinite: {report.overflows}")

# %% PyTorch, JAX and NumPy take it by DLPack, each with the types that it has.
print(f"{np.from_dlpack(checkpoint[name]).nbytes} bytes by DLPack")

# %% Errors say what was found, what was expected and what to do, as on the command line.
try:
    reshard.open("no/such/directory")
except reshard.SourceError as error:
    print(f"{type(error).__name__}: {error}")
