"""Rows as float16, for the matrix units (steps 1, 2 and 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import alignment, column_width, launch, row_tile
from ._math import row_length

__all__ = ["HALF_BITS", "LENGTH_EXPONENT", "LOW_PART", "MOST_EXPONENT", "PAD", "Halves", "prepare_halves"]

# x_id ≈ unit_i · (P1_id + low · P2_id), where unit_i is the power of two that brings the row's length into [2^13, 2^14)
#
# So no element overflows float16, and each keeps 11 bits, or in absolute terms 2⁻²⁵ beside a length of at least 2^13:
# rows of float16 and bfloat16 lose at most 2⁻³⁸ of their length in an element. What the first part leaves, the second
# holds times 2^11, with 11 bits more. How much the first part loses is measured, row by row.

_RUN_TIME = ["n_rows", "n_columns", "stride", "depth"]

HALF_BITS = 11
"""Bits of a float16."""

LOW_PART = 2.0**-HALF_BITS
"""The unit of a second part."""

PAD = 64
"""Columns of the parts are a multiple of this many: those of one step of a product."""

# The exponent of a row's length in its unit, and those of the largest unit and of its reciprocal: both are normal.
LENGTH_EXPONENT = tl.constexpr(13)
MOST_EXPONENT = tl.constexpr(126)

# Shares that no rounding of `lost` exceeds. It is a float32 sum of squares, of at most 2^13 terms one after the other
# in rows of up to 2^25 columns; squares that vanish in it, and what x · 2^k loses below the normal numbers, are in all
# less than the second.
_ROUNDED = tl.constexpr(1.0 + 2.0**-10)
_VANISHED = tl.constexpr(2.0**-50)
_LEAST_NORMAL = tl.constexpr(2.0**-126)


class Halves(NamedTuple):
    """Rows (n, D) as products take them: x ≈ unit · (parts[0] + 2⁻¹¹ parts[1])."""

    parts: torch.Tensor
    """(P, n, D'), D rounded up to a multiple of `PAD`, zeros beyond; float16, contiguous."""
    unit: torch.Tensor
    """(n,) float32, powers of two."""
    lengths: torch.Tensor
    """(n,) float64, ‖x‖; not finite exactly where the row is not."""
    lost: torch.Tensor
    """(n,) float32, at least ‖x − unit · parts[0]‖; not finite where the row is not."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _halves_kernel(
    x, stride, n_rows, n_columns,  # (n, D') of any storage type
    depth,  # of the parts, in PAD
    parts, unit, lengths, lost,  # out, see `Halves`
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    PARTS: tl.constexpr, HIGH: tl.constexpr, PAD: tl.constexpr,  # how many parts; 1 / low; see above
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """The lengths as `linear.row_lengths` has them; the second reading of a row is from the nearest cache."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    length = row_length(x, rows, in_rows, stride * ALIGN, n_columns * WIDTH, K, R, J)
    tl.store(lengths + rows, length, mask=in_rows)

    # The exponent from the bits: of a length of 0 it is the least, of one that is not finite the largest.
    exponent = ((length.to(tl.int64, bitcast=True) >> 52) & 0x7FF).to(tl.int32) - (1023 + LENGTH_EXPONENT)
    exponent = tl.minimum(tl.maximum(exponent, -MOST_EXPONENT), MOST_EXPONENT)
    exponent = tl.where(length == 0.0, 0, exponent)
    one = ((127 + exponent) << 23).to(tl.float32, bitcast=True)
    inverse = ((127 - exponent) << 23).to(tl.float32, bitcast=True)
    tl.store(unit + rows, one, mask=in_rows)

    # A tile of another shape: the compiler deals out the columns of the stores to the threads as it likes, and leaves
    # the order of the sum above what it is where there is nothing to store.
    x_rows = x + rows[:, None] * (stride * ALIGN)
    out = parts + rows[:, None] * (depth * PAD)
    part_size = n_rows.to(tl.int64) * (depth * PAD)
    missed = tl.zeros((R, K * J), tl.float32)
    for start in range(0, depth * PAD, K * J):
        columns = start + tl.arange(0, K * J)[None, :]
        mask = in_rows[:, None] & (columns < n_columns * WIDTH)
        value = tl.load(x_rows + columns, mask=mask, other=0.0).to(tl.float32) * inverse[:, None]
        high = value.to(tl.float16)
        rest = value - high.to(tl.float32)  # exactly
        missed += rest * rest
        inside = in_rows[:, None] & (columns < depth * PAD)
        tl.store(out + columns, high, mask=inside)
        if PARTS == 2:
            tl.store(out + part_size + columns, (rest * HIGH).to(tl.float16), mask=inside)
    bound = tl.maximum(one * (tl.sqrt(tl.sum(missed, axis=1)) * _ROUNDED + _VANISHED), _LEAST_NORMAL)
    bound = tl.where(length < float("inf"), bound, float("inf"))
    tl.store(lost + rows, tl.where(length == 0.0, 0.0, bound), mask=in_rows)


def prepare_halves(x: torch.Tensor, n_parts: int) -> Halves:
    """Rows as products of float16 take them, and their lengths, in one pass.

    Parameters
    ----------
    x : Tensor, shape (n, D)
        Rows in a storage type (float32, float16 or bfloat16), of any stride.
    n_parts : {1, 2}
        Parts to keep: one holds all of float16 and bfloat16 (but 2⁻³⁸ of the length an element), two all but some 2⁻²²
        of float32.
    """
    n_rows, n_columns = x.shape
    depth = triton.cdiv(n_columns, PAD)
    found = Halves(
        torch.empty((n_parts, n_rows, depth * PAD), dtype=torch.float16, device=x.device),
        torch.empty(n_rows, dtype=torch.float32, device=x.device),
        torch.empty(n_rows, dtype=torch.float64, device=x.device),
        torch.empty(n_rows, dtype=torch.float32, device=x.device),
    )
    if n_rows:
        align, width, tile = alignment(x), column_width(n_columns), row_tile(n_columns)
        _halves_kernel[(triton.cdiv(n_rows, tile.R),)](
            x, x.stride(0) // align, n_rows, n_columns // width, depth, *found,
            ALIGN=align, WIDTH=width, PARTS=n_parts, HIGH=1.0 / LOW_PART, PAD=PAD,
            K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
        )  # fmt: skip
    return found
