"""Step 3 on opened rows: the threshold of a mean set size, and the thresholds at which backends cut sets."""

from __future__ import annotations

import math
from typing import overload

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.protocol import Backend
from ..pool.rows import Rows
from ..reference import Cumulative

__all__ = ["raised", "row_thresholds", "size_threshold"]

Float64 = npt.NDArray[np.float64]


def size_threshold(
    logits: Rows,
    size: float,
    nonempty: str,
    backend: Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float:
    """:func:`ccma_fast.target_size_threshold` on opened rows."""
    if logits.n_rows == 0:
        raise ValueError(f"{logits.name} must have at least one row to take a threshold from, got none")
    q = backend.target_size_threshold(logits, size, cumulative, chunk_size=chunk_size)
    return raised(logits, q, nonempty, backend, chunk_size, cumulative)


def row_thresholds(
    logits: Rows,
    q: float | Float64,
    backend: Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64:
    """The thresholds on −ln p at which backends cut sets, from q in units of the score: above all that ties with q."""
    if cumulative is None:
        return reference.up_to_ties(q)
    admitted = reference.up_to_ties(q, reference.CUMULATIVE_TIE)
    return backend.row_thresholds(logits, admitted, cumulative, chunk_size=chunk_size)


@overload
def raised(
    logits: Rows,
    q: float,
    nonempty: str,
    backend: Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float: ...


@overload
def raised(
    logits: Rows,
    q: float | Float64,
    nonempty: str,
    backend: Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64: ...


def raised(
    logits: Rows,
    q: float | Float64,
    nonempty: str,
    backend: Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64:
    """q, lifted for `nonempty` "raise" until no row's set is empty."""
    if nonempty != "raise":
        return q
    if isinstance(q, np.ndarray):
        return np.maximum(q, backend.raised_threshold(logits, -math.inf, cumulative, chunk_size=chunk_size))
    return backend.raised_threshold(logits, q, cumulative, chunk_size=chunk_size)
