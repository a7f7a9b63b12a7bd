"""Host memory that elements pass through on their way from or to an accelerator."""

from __future__ import annotations

import torch

# An accelerator reaches page-locked memory several times as fast as other memory; to lock it costs
# as much time as that saves on a gigabyte or less, so there is little of it, used again and again.
STAGE_BYTES = 64 << 20
_ALIGNMENT = 16


def on_host(tensor: torch.Tensor) -> bool:
    """Whether files can be read into, or written from, the tensor's own memory."""
    return tensor.device.type == "cpu"


class Stage:
    """Room for some tensors at a time, as many as STAGE_BYTES hold, or one that is larger."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def fits(self, part: torch.Tensor) -> bool:
        """Whether there is room for a tensor beside those that have some."""
        return self._used == 0 or self._used + part.nbytes <= self._memory.numel()

    def take(self, part: torch.Tensor) -> torch.Tensor:
        """Room for the elements of `part`, which fits, row by row."""
        if part.nbytes > self._memory.numel():
            self._memory = _host_memory(max(part.nbytes, STAGE_BYTES), part.device)
        room = self._memory[self._used : self._used + part.nbytes]
        self._used += -(-part.nbytes // _ALIGNMENT) * _ALIGNMENT
        return room.view(part.dtype).view(part.shape)

    def clear(self) -> None:
        """What has room has it no longer."""
        self._used = 0


def _host_memory(size: int, device: torch.device) -> torch.Tensor:
    try:
        return torch.empty(size, dtype=torch.uint8, pin_memory=device.type != "cpu")
    except RuntimeError:  # too much is locked already, or the device knows no such memory
        return torch.empty(size, dtype=torch.uint8)
