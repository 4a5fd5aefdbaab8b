"""Arrays, tensors and lists as callers give them, without misreading an entry; and arrays that they cannot change."""

from __future__ import annotations

import numbers
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from ..system.file_integrity import loaded, reading

__all__ = [
    "as_array",
    "check_tensor",
    "check_unmasked",
    "check_weights",
    "is_exact",
    "is_missing",
    "is_tensor",
    "largest_exact",
    "read_only",
    "real_array",
    "real_vector",
    "row_weights",
    "uncoerced",
]


def as_array(name: str, values: Any) -> npt.NDArray[Any]:
    """`values` as an array in memory, of which no entry is masked.

    A masked entry is a missing value, and what lies under the mask is arbitrary. Labels alone may be missing, see
    :func:`ccma_fast.pool.labels.read_labels`.
    """
    check_unmasked(name, values)
    if is_tensor(values):
        check_tensor(name, values)
        values = values.detach().cpu()
    with reading():
        return loaded(np.asarray(values), name)


def is_tensor(values: Any) -> bool:
    """Whether `values` are a torch tensor, without importing PyTorch: who holds one has done so.

    Another thread may be about to, and the module has no tensors yet.
    """
    return isinstance(values, getattr(sys.modules.get("torch"), "Tensor", ()))


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view of `array` that cannot be made writable."""
    return np.asarray(array.data.toreadonly())


def uncoerced(values: Any) -> Any:
    """`values`; a list with text or booleans in it becomes an array of objects.

    NumPy would turn numbers among text into text, and booleans among numbers into numbers.
    """
    if not isinstance(values, (list, tuple)):
        return values
    if not any(isinstance(value, (str, bytes, bool, np.bool_)) for value in values):
        return values
    objects = np.empty(len(values), dtype=object)
    objects[:] = values
    return objects


def is_missing(value: Any) -> bool:
    """Whether a cell is one of the many markers of a missing value."""
    if value is None or type(value).__name__ in ("NAType", "NaTType", "MaskedConstant"):
        return True
    return isinstance(value, numbers.Real) and value != value


def is_exact(values: Any) -> Any:
    """Whether floating-point numbers are below :func:`largest_exact`, so that no integer was rounded to them."""
    return ~(np.abs(values) >= float(largest_exact(values.dtype)))


def largest_exact(dtype: np.dtype[Any]) -> int:
    """The integer up to which a floating-point type holds every integer."""
    return int(2 ** (np.finfo(dtype).nmant + 1))


def check_tensor(name: str, tensor: Any) -> None:
    """Check that a tensor is dense and holds all its values."""
    import torch

    if tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {tensor.layout}")
    if tensor.is_nested or tensor.is_meta or isinstance(tensor, torch.masked.MaskedTensor):
        kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else "masked"
        raise TypeError(f"{name} must be a tensor that holds all its values, got a {kind} one")


def check_unmasked(name: str, values: Any) -> None:
    """Check that no entry of an array or a sequence of arrays is masked, and none of a pyarrow array null."""
    rows = enumerate(values) if isinstance(values, (list, tuple)) else ()
    hidden = [row for row, entry in rows if isinstance(entry, np.ma.MaskedArray) and np.ma.getmaskarray(entry).any()]
    if isinstance(values, np.ma.MaskedArray):
        hidden = np.argwhere(np.atleast_1d(np.ma.getmaskarray(values)))[:, 0].tolist()
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None and isinstance(values, (pyarrow.Array, pyarrow.ChunkedArray)):
        hidden = np.flatnonzero(values.is_null()).tolist()
    if hidden:
        raise ValueError(
            f"{name} must have no masked entries, got {len(hidden)}, the first at row {hidden[0]}; "
            "fill them or leave the rows out"
        )


def check_weights(weights: Any, n_rows: int, name: str = "weights") -> npt.NDArray[np.float32]:
    """Non-negative finite weights as float32; unit weights for None, and where every weight is zero."""
    if weights is None:
        return np.ones(n_rows, dtype=np.float32)
    array = _weights(weights, n_rows, name)
    found = array.astype(np.float32)
    if found.any():
        return found
    if array.any():
        least = np.finfo(np.float32).smallest_subnormal
        raise ValueError(f"{name} must have one of at least {least:g} (float32), got at most {array.max():g}")
    return np.ones(n_rows, dtype=np.float32)


def row_weights(weights: Any, n_rows: int, name: str = "weights") -> npt.NDArray[np.float64]:
    """The same as float64, for what does not mind how small the largest is."""
    if weights is None:
        return np.ones(n_rows)
    array = _weights(weights, n_rows, name)
    return array.astype(np.float64) if array.any() else np.ones(n_rows)


def _weights(weights: Any, n_rows: int, name: str) -> npt.NDArray[Any]:
    array = as_array(name, weights)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    if array.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), got {array.shape}")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if bad.size:
        raise ValueError(f"{name} must be finite and not negative, got {array[bad[0]]} at row {bad[0]}")
    most = np.finfo(np.float32).max
    bad = np.flatnonzero(array > most)
    if bad.size:
        raise ValueError(f"{name} must be at most {most:g} (float32), got {array[bad[0]]} at row {bad[0]}")
    return array


def real_array(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Real numbers as float64, in C order."""
    array = as_array(name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return np.asarray(array, dtype=np.float64, order="C")


def real_vector(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """A vector of real numbers as float64."""
    array = real_array(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    return array
