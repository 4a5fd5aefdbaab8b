"""Greedy coverage of rows by some of them, over the pairs of rows with a gain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.rows import Rows, to_float32
from ..unit_rows import Kernel, ListedCoverage

__all__ = ["listed_coverage"]

Float32 = npt.NDArray[np.float32]

# Squares of pairs that are looked at together, some work for many threads; pairs are counted after each.
_SQUARES = 4


def listed_coverage(
    rows: Rows,
    scale: Float32,
    near: Float32,
    kernel: Kernel,
    weights: Float32,
    open_rows: npt.NDArray[np.bool_],
    most_pairs: int,
    sum_rows: int,
) -> ListedCoverage | None:
    """Lists the pairs (i, j) of rows with s_ij > s_i, a product for each two rows; None where they are too many."""
    pairs, n, square = _core.NearerPairs(near, most_pairs), rows.n_rows, _core.NearerPairs.SQUARE
    step = _SQUARES * square
    for first_other in range(0, n, square):
        part = slice(first_other, min(first_other + square, n))
        others = _core.Panels(to_float32(rows.read(part.start, part.stop)) * scale[part, None])
        for first in range(first_other, n, step):
            part = slice(first, min(first + step, n))
            if not pairs.add(others, first_other, rows.read(part.start, part.stop), scale[part], first):
                return None
    for similarity in pairs.complete():
        if kernel.kind != "similarity":
            similarity[:] = kernel(similarity)
    return _core.ListedCoverage(pairs, kernel(near), weights, open_rows, sum_rows)
