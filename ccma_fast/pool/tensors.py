"""Rows in a PyTorch tensor on any device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import file_under, reading
from .array_like import check_tensor
from .rows import BFLOAT16_BITS, Chunk, Rows, to_storage

__all__ = ["TensorRows"]

# Types whose values NumPy can hold; others are quantized, or have 8 bits and a scale elsewhere.
_TENSORS = {"bfloat16", "float16", "float32", "float64"} | {f"{s}int{n}" for s in ("", "u") for n in (8, 16, 32, 64)}


class TensorRows(Rows):
    """A torch tensor on any device, copied to the host chunk by chunk when it is read there."""

    def __init__(self, tensor: Any, name: str) -> None:
        import torch

        check_tensor(name, tensor)
        if tensor.is_complex() or tensor.dtype == torch.bool:
            raise TypeError(f"{name} must hold real numbers, got dtype {tensor.dtype}")
        if tensor.dtype not in {getattr(torch, kind, None) for kind in _TENSORS}:
            raise TypeError(f"{name} must hold real numbers of 16 bits or more or integers, got dtype {tensor.dtype}")
        if tensor.ndim != 2:
            raise ValueError(f"{name} must have two dimensions (rows, columns), got shape {tuple(tensor.shape)}")
        if tensor.shape[1] == 0:
            raise ValueError(f"{name} must have at least one column, got shape {tuple(tensor.shape)}")
        self.name = name
        self.n_rows, self.n_columns = tensor.shape
        self.bytes_read = 0
        self.tensor = tensor.detach()
        self._bfloat16 = tensor.dtype == torch.bfloat16
        in_use = file_under(tensor, name)  # as safetensors loads them
        self.in_use = () if in_use is None else (in_use,)

    @property
    def row_bytes(self) -> int:
        return int(self.tensor.element_size()) * self.n_columns

    def resident_bytes(self, n: int, *, picked: bool = False) -> int:
        return n * self.row_bytes * (picked or self.tensor.device.type != "cpu" or not self.tensor.is_contiguous())

    def _host(self, part: Any) -> Chunk:
        import torch

        self.bytes_read += part.nbytes
        part = part.contiguous().resolve_neg().cpu()
        if self._bfloat16:  # which NumPy does not have
            return np.asarray(part.view(torch.int16).numpy().view(BFLOAT16_BITS))
        return to_storage(part.numpy())

    def slice(self, start: int, stop: int) -> Chunk:
        return self._host(self.tensor[start:stop])

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        import torch

        with reading():
            taken = self._host(self.tensor[torch.from_numpy(indices).to(self.tensor.device)])
            self.check()
        return taken

    def row_number(self, row: int) -> int:
        self.check()  # as in ArrayRows
        return row

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ = {**state, "in_use": ()}  # another process receives the values
