"""Asynchronous copies between host and device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ...pool.rows import BFLOAT16_BITS, Chunk

__all__ = ["TENSOR_TYPES", "Later", "Uploads"]

Int64 = npt.NDArray[np.int64]

TENSOR_TYPES = {"float32": torch.float32, "float16": torch.float16, BFLOAT16_BITS.name: torch.bfloat16}
"""The storage dtypes of rows, by the dtype of a chunk on the host."""

_UPLOADED = TENSOR_TYPES | {"int64": torch.int64}

# Streams and events, whose constructors not every version of PyTorch annotates.
_streams: Any = torch.cuda


class Uploads:
    """Copies of host memory to the device, through pinned memory and on a stream of their own."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = None if device.type == "cpu" else _streams.Stream(device)
        self._turn = 0
        self._staged: list[tuple[torch.Tensor, Any] | None] = [None] * 4

    def __call__(self, chunk: Chunk | Int64) -> torch.Tensor:
        """The chunk, or other numbers, on the device, ready for what is launched from now on."""
        dtype = _UPLOADED[chunk.dtype.name]
        if self._stream is None:
            return torch.from_numpy(np.array(chunk).reshape(-1).view(np.uint8)).view(dtype).view(chunk.shape)
        staged, copied_out = self._pinned(chunk.nbytes)
        staged.numpy()[:] = chunk.reshape(-1).view(np.uint8)
        with torch.cuda.stream(self._stream):
            copied = staged.to(self._device, non_blocking=True)
            copied_out.record(self._stream)
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._stream)
        copied.record_stream(current)
        return copied.view(dtype).view(chunk.shape)

    def beside(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """An array that is small beside chunks, in the order of the launches; the host does not wait.

        PyTorch keeps its pinned memory from being used again before the copy has left it.
        """
        values = torch.from_numpy(np.array(array))
        return values if self._stream is None else values.pin_memory().to(self._device, non_blocking=True)

    def _pinned(self, nbytes: int) -> tuple[torch.Tensor, Any]:
        """The pinned memory whose turn it is, once the copy before has left it, and the event of the next one."""
        self._turn = (self._turn + 1) % len(self._staged)
        slot = self._staged[self._turn]
        if slot is not None:
            slot[1].synchronize()
        if slot is None or slot[0].numel() < nbytes:
            slot = (torch.empty(nbytes, dtype=torch.uint8, pin_memory=True), _streams.Event())
            self._staged[self._turn] = slot
        return slot[0][:nbytes], slot[1]


class Later:
    """An asynchronous copy to the host; whoever looks at it waits for it alone, not for kernels launched after it."""

    def __init__(self, values: torch.Tensor) -> None:
        self._values, self._copied = values, None
        if values.is_cuda:
            self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._copied = _streams.Event()
            self._copied.record()

    def array(self) -> npt.NDArray[Any]:
        """The numbers."""
        if self._copied is not None:
            self._copied.synchronize()
        array: npt.NDArray[Any] = self._values.numpy()
        return array

    def tolist(self) -> list[Any]:
        """The numbers as Python's."""
        return list(self.array().tolist())
