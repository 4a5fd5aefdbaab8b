"""Digests of rows: the same for the same values, whatever type holds them."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from .derived import RowSubset
from .rows import Rows, to_float32

__all__ = ["DIGEST_BYTES", "Digests", "digests_of", "row_digests"]

Digests = npt.NDArray[np.uint8]

DIGEST_BYTES = 16


def row_digests(rows: Rows, numbers: npt.NDArray[np.int64]) -> Digests:
    """Digests of some rows as float32, shape (n, 16)."""
    parts = [digests_of(to_float32(chunk)) for _, chunk in RowSubset(rows, numbers).chunks()]
    return np.concatenate([np.empty((0, DIGEST_BYTES), dtype=np.uint8), *parts])


def digests_of(values: npt.NDArray[np.float32]) -> Digests:
    """Digests of the rows of an array, shape (n, 16)."""
    rows = np.ascontiguousarray(values, dtype="<f4")
    text = b"".join(hashlib.blake2b(row, digest_size=DIGEST_BYTES).digest() for row in rows)
    return np.frombuffer(text, dtype=np.uint8).reshape(len(rows), DIGEST_BYTES)
