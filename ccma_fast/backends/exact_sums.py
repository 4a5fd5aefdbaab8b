"""Sums over rows that are the same in any order, and so wherever the rows lie.

Parts of a sum are arrays of whole numbers (int64), which are added up element by element. What is made of them is
rounded once, at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .core import load_core

__all__ = [
    "FixedPoint",
    "bits_above",
    "exact_sum",
    "exact_total",
    "mass_of_labels",
    "rounded_sum",
    "slabs",
    "weight_of_labels",
    "weight_range",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# As in csrc/include/ccma/exact_sum.hpp.
_LIMBS, _BIAS, _LIMB_BITS = 22, 352, 32

# Rows that are gone through at a time where NumPy makes temporary arrays of them.
_SLAB = 1 << 16


def slabs(n_rows: int) -> Iterator[slice]:
    """Stretches of rows that are gone through one at a time."""
    for start in range(0, n_rows, _SLAB):
        yield slice(start, min(start + _SLAB, n_rows))


def exact_sum(w: Float32, x: Float32) -> Int64:
    """Σ_i w_i x_i of numbers that are not negative, as whole numbers for :func:`rounded_sum`."""
    try:
        core = load_core()
    except ImportError:
        return _exact_sum(w, x)
    limbs: Int64 = core.exact_sum(np.ascontiguousarray(w), np.ascontiguousarray(x))
    return limbs


def _exact_sum(w: Float32, x: Float32) -> Int64:
    """The same without the core."""
    limbs = np.zeros(_LIMBS, np.int64)
    for part in slabs(w.size):
        products = np.multiply(w[part], x[part], dtype=np.float64)
        finite = np.isfinite(products)
        limbs[-1] += np.count_nonzero(~finite)
        fractions, exponents = np.frexp(products[finite])
        mantissas = np.ldexp(fractions, 53).astype(np.int64)
        place = exponents.astype(np.int64) - 53 + _BIAS
        place[mantissas == 0] = 0
        limb, shift = place // _LIMB_BITS, place % _LIMB_BITS
        halves = ((mantissas & 0xFFFFFFFF) << shift, (mantissas >> _LIMB_BITS) << shift)
        for above, half in enumerate(halves):
            for more, bits in enumerate((half & 0xFFFFFFFF, half >> _LIMB_BITS)):
                # So few numbers below 2^32 add up in float64 without rounding.
                found = np.bincount(limb + (above + more), weights=bits, minlength=_LIMBS)
                limbs += found.astype(np.int64)
    return limbs


def exact_total(w: Float32) -> Int64:
    """Σ_i w_i, likewise."""
    ones = np.ones(min(w.size, _SLAB), np.float32)
    limbs = np.zeros(_LIMBS, np.int64)
    for part in slabs(w.size):
        limbs += exact_sum(w[part], ones[: part.stop - part.start])
    return limbs


def rounded_sum(limbs: Int64) -> float:
    """The sum that parts of :func:`exact_sum`, added up, stand for: rounded correctly, as by :func:`math.fsum`."""
    *values, n_not_finite = limbs.tolist()
    if n_not_finite:
        return math.inf
    total: int = sum(value << (_LIMB_BITS * i) for i, value in enumerate(values))
    return total / (1 << _BIAS)


class FixedPoint(NamedTuple):
    """How numbers are added up as whole ones, in limbs.

    The first limb counts 2^−exponent; each further one takes what rounding left of the numbers in the one before, in
    units 2^step times as small.
    """

    exponent: int
    step: int
    n_limbs: int

    @classmethod
    def covering(cls, largest: float, total: float, finest: int, n_rows: int) -> FixedPoint:
        """Room for the sum of `n_rows` numbers, rounded to no more than 2^−finest each.

        Parameters
        ----------
        largest, total : float
            Bounds on the size of a number and on the sum of the sizes; rounding may carry numbers a little above.
        finest : int
        n_rows : int
        """
        # Numbers stay below 2^51 so that they are rounded by an addition, sums below 2^62.
        exponent = min(50 - bits_above(largest), 61 - bits_above(total))
        step = min(50, 62 - n_rows.bit_length())
        return cls(exponent, step, 1 + max(0, -((exponent - finest) // step)))

    @classmethod
    def exact(cls, lightest: float, heaviest: float, total: float, n_rows: int) -> FixedPoint:
        """Room for the sum of weights (float32) without rounding, given the least one that is not zero."""
        return cls.covering(heaviest, total, min(149, 24 - bits_above(lightest)), n_rows)

    @property
    def scale(self) -> float:
        return math.ldexp(1.0, self.exponent)

    def limbs(self, values: Float32) -> list[Int64]:
        """The whole numbers of each limb."""
        found, terms = [], values.astype(np.float64) * self.scale
        for _ in range(self.n_limbs):
            whole = np.rint(terms)
            found.append(whole.astype(np.int64))
            terms = (terms - whole) * math.ldexp(1.0, self.step)
        return found

    def values(self, limbs: Int64) -> Float64:
        """What sums, shape (limbs, ...), stand for, within 2^−52 of their size."""
        found: Float64 = limbs[-1].astype(np.float64)
        for limb in limbs[-2::-1]:
            found *= math.ldexp(1.0, -self.step)
            found += limb
        found *= 1.0 / self.scale
        return found

    def rounded(self, limbs: Int64) -> Float64:
        """The same, rounded correctly; shape (limbs, n)."""
        if self.n_limbs == 1:
            whole_values: Float64 = limbs[0] / self.scale
            return whole_values
        whole = [0] * limbs.shape[1]
        for limb in limbs.tolist():
            whole = [(above << self.step) + value for above, value in zip(whole, limb, strict=True)]
        shift = self.exponent + self.step * (self.n_limbs - 1)
        up, down = 1 << max(0, -shift), 1 << max(0, shift)
        return np.array([value * up / down for value in whole], dtype=np.float64)


def bits_above(value: float) -> int:
    """The least k with value < 2^k."""
    return math.frexp(value)[1]


def weight_range(weights: Float32) -> tuple[float, float]:
    """The least weight that is not zero, infinite where there is none, and the largest."""
    return float(weights.min(where=weights > 0.0, initial=np.inf)), float(weights.max(initial=0.0))


def mass_of_labels(labels: Int32, weights: Float32, n_labels: int) -> Float64:
    """:func:`ccma_fast.reference.mass_of_labels`, in memory that does not grow with the rows."""
    total = rounded_sum(exact_total(weights))
    fixed = FixedPoint.exact(*weight_range(weights), total, weights.size)
    return fixed.rounded(weight_of_labels(labels, weights, n_labels, fixed))


def weight_of_labels(labels: Int32, weights: Float32, n_labels: int, fixed: FixedPoint) -> Int64:
    """The weight of the rows of each label in limbs of fixed point, shape (limbs, n_labels)."""
    mass = np.zeros((fixed.n_limbs, n_labels), np.int64)
    for part in slabs(labels.size):
        for of_limb, whole in zip(mass, fixed.limbs(weights[part]), strict=True):
            np.add.at(of_limb, labels[part], whole)
    return mass
