"""Throughput of this machine, measured before a query for its plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..backends.protocol import Backend
from ..pool.arrays import ArrayRows
from ..system.file_integrity import reading
from .cost_inputs import CostInputs

__all__ = ["Rates", "machine_rates"]

# Rows on which rates are measured, and bytes of the pool.
_RATE_ROWS, _RATE_BYTES = 2048, 16 << 20


class Rates(NamedTuple):
    """Throughput of this machine, per second."""

    products: float
    """float32 multiply-adds of rows with class weights."""
    read: float
    """Bytes of the pool, read and validated."""
    scored: float
    """Pairs of logits of student and teacher."""


def machine_rates(given: CostInputs, backend: Backend) -> Rates:
    """The rates of this machine, measured on a small part of the pool and on random logits; takes under a second."""
    pool, rng = given.pool, np.random.default_rng(0)
    n_classes = min(max(2, given.n_classes), 2048)
    n_rows = min(pool.n_rows, max(1, _RATE_BYTES // pool.row_bytes))
    starts = [(pool.n_rows - n_rows) * i // 2 for i in range(3)]  # some of it may be cached, some not
    start = time.perf_counter()
    for first in starts:
        with reading():
            backend.row_lengths(pool.slice(first, first + n_rows))
            pool.release(first, first + n_rows)
    read = len(starts) * n_rows * pool.row_bytes / (time.perf_counter() - start)
    x = rng.standard_normal((_RATE_ROWS, min(1024, pool.n_columns)), dtype=np.float32)
    weights = rng.standard_normal((n_classes, x.shape[1]), dtype=np.float32)
    logits = ArrayRows(backend.linear(x[:64], weights).repeat(_RATE_ROWS // 64, axis=0), "logits")
    products = x.size * n_classes / _least_seconds(lambda: backend.linear(x, weights))
    scored = logits.n_rows * n_classes / _least_seconds(lambda: backend.score(logits, logits, 2.0, 2.0))
    return Rates(products, read, scored)


def _least_seconds(call: Callable[[], Any]) -> float:
    """The shortest of a few calls: disturbances only lengthen one."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
