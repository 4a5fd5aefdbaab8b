"""A model of how NVIDIA's matrix units add up products, after MMA-Sim (arXiv 2511.10909).

Products are exact. Each step aligns them and the sum so far to the largest of their exponents, those of a product's
factors added up, cuts off what lies below a number of bits, adds up, and cuts the sum off at float32's 24 bits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["AMPERE", "HOPPER", "Unit", "adversarial_row"]

Float64 = npt.NDArray[np.float64]


class Unit(NamedTuple):
    """A generation's unit for factors of 16 bits."""

    generation: int
    """Major part of the compute capability."""
    products: int
    """Products of one step."""
    bits: int
    """Bits behind the leading one of the largest exponent."""

    def dot(self, a: Float64, b: Float64, total: float | Float64 = 0.0) -> Float64:
        """total + Σ_d a_id b_id of rows of float16 numbers, shape (n,)."""
        n_rows, n_columns = a.shape
        found = np.broadcast_to(np.asarray(total, dtype=np.float64), (n_rows,)).copy()
        for start in range(0, n_columns, self.products):
            of = slice(start, start + self.products)
            terms = np.concatenate([found[:, None], a[:, of] * b[:, of]], axis=1)
            exponents = np.concatenate([_exponent(found)[:, None], _exponent(a[:, of]) + _exponent(b[:, of])], axis=1)
            most = np.where(terms != 0.0, exponents, -(1 << 12)).max(axis=1, keepdims=True)
            unit = np.ldexp(1.0, np.maximum(most - self.bits, -1000))
            cut = (np.trunc(terms / unit) * unit).sum(axis=1)
            last = np.ldexp(1.0, _exponent(cut) - 23)
            found = np.trunc(cut / last) * last
        return found


HOPPER, AMPERE = Unit(9, 16, 25), Unit(8, 8, 24)


def adversarial_row(n_columns: int, bits: int) -> npt.NDArray[np.float16]:
    """(1, ε, ε, …), whose product with itself is 1 + (D − 1) ε²; ε² is just below 2^−bits, and cut off each time."""
    row = np.full(n_columns, math.sqrt(0.998 * 2.0**-bits))
    row[0] = 1.0
    return row.astype(np.float16)


def _exponent(values: Float64) -> npt.NDArray[np.int32]:
    """That of the leading one."""
    exponents: npt.NDArray[np.int32] = np.frexp(values)[1] - 1
    return exponents
