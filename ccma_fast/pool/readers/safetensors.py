"""safetensors: a header with the place of each tensor, and the tensors, which are memory-mapped."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np

from ...errors import FileReadError
from ...system.file_integrity import FileInUse, open_regular
from ..arrays import ArrayRows
from ..keys import chosen_key
from ..rows import BFLOAT16_BITS

__all__ = ["open_safetensors"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": BFLOAT16_BITS,
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100_000_000  # the format's own limit


def open_safetensors(file: str, key: str | None, name: str) -> ArrayRows:
    """A tensor of two dimensions in a ``.safetensors`` file, mapped.

    Parameters
    ----------
    file : str
    key : str or None
        The tensor's name; without it the one that is called `name`, or the only one of two dimensions.
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        No such file or tensor, or a damaged file.
    TypeError
        A tensor that does not hold real numbers.
    """
    in_use = FileInUse(file, name)
    header, begin = _header(file, name)
    found = {
        tensor: f"{entry['dtype']} {tuple(entry['shape'])}"
        for tensor, entry in header.items()
        if tensor != "__metadata__" and (key is not None or len(entry["shape"]) == 2)
    }
    entry = header[chosen_key(name, file, key, found, [name], "tensor")]
    dtype, shape = _DTYPES.get(entry["dtype"]), tuple(entry["shape"])
    if dtype is None:
        raise TypeError(f"{name} must hold real numbers, got dtype {entry['dtype']} in {file!r}")
    first, last = entry["data_offsets"]
    size, n_bytes = os.path.getsize(file), dtype.itemsize * math.prod(shape)
    if last - first != n_bytes or begin + last > size:
        row = max(0, size - begin - first) * shape[0] // max(1, n_bytes) if shape else 0
        raise FileReadError(
            f"{name}: {file!r} is damaged: it has {size} bytes and ends in row {row}, expected {begin + last} bytes"
        )
    array = np.memmap(file, dtype, "r", begin + first, shape) if n_bytes else np.empty(shape, dtype)
    in_use.hold_array(array)
    return ArrayRows(np.asarray(array), name, bfloat16=entry["dtype"] == "BF16", file=file, in_use=in_use)


def _header(file: str, name: str) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors begin."""
    try:
        with open_regular(file, name) as handle:
            length = int.from_bytes(handle.read(_LENGTH_BYTES), "little")
            if length > _MOST_HEADER_BYTES:
                raise ValueError(f"its header would have {length} bytes")
            header = json.loads(handle.read(length), object_pairs_hook=_once)
        if not isinstance(header, dict):
            raise ValueError("its header is no mapping")
        end = _end_of_tensors({key: entry for key, entry in header.items() if key != "__metadata__"})
        if (beyond := os.path.getsize(file) - _LENGTH_BYTES - length - end) > 0:
            raise ValueError(f"{beyond} bytes behind its last tensor belong to none")
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as .safetensors: {error}") from error
    return header, _LENGTH_BYTES + length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has a key twice")
    return found


def _end_of_tensors(entries: dict[str, Any]) -> int:
    """End offset of the last tensor; in this format tensors are contiguous."""
    spans = []
    for tensor, entry in entries.items():
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
            raise ValueError(f"its header does not describe {tensor!r}")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not isinstance(entry["dtype"], str) or not _are_counts(shape) or not _are_counts(offsets, 2):
            raise ValueError(f"its header describes {tensor!r} by {entry!r:.200}")
        spans.append((*offsets, tensor))
    end = 0
    for first, last, tensor in sorted(spans):
        if first != end or last < first:
            raise ValueError(f"{tensor!r} lies in the bytes {first} to {last}, expected it from {end} on")
        end = last
    return end


def _are_counts(values: Any, n: int | None = None) -> bool:
    if not isinstance(values, list) or (n is not None and len(values) != n):
        return False
    return all(type(value) is int and value >= 0 for value in values)
