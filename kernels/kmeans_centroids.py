"""Centroids as products of float16 take them, and how much their scores may err by (steps 1 and 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import (
    CAREFUL_TILE,
    CENTROID_TILE,
    FAST_TILE,
    RANGE_TILE,
    capability,
    column_width,
    launch,
    row_tile,
)
from ._math import row_sum, tile_columns
from .halves import LENGTH_EXPONENT, LOW_PART, MOST_EXPONENT, PAD

__all__ = ["STREAMS", "Centroids", "prepare_centroids", "sum_error"]

# m = μ − origin ≈ unit · (P1 + low · P2), with one unit for all centroids, and h = origin · m + ½ ‖m‖² − c with the c
# that makes the largest |h| small. All of it in float64: differences of float32 numbers are exact in it but for 2⁻⁵³.

_RUN_TIME = [
    "n_centroids", "n_columns", "n_padded", "depth", "row_share", "careful_row_share", "score_share",
    "careful_score_share",
]  # fmt: skip

STREAMS = tl.constexpr(8)
"""Columns of a tile of scores that follow each other belong to so many streams, see ``kmeans_assign``."""

# Rounding of float32, as a share.
_FLOAT = 2.0**-24

# How many times the score of what is padding exceeds all others in absolute value.
_HUGE = tl.constexpr(2.0**40)


class Centroids(NamedTuple):
    """Centroids as the kernels take them."""

    exact: torch.Tensor
    """μ, shape (K, D), float32."""
    parts: torch.Tensor
    """m / unit in two parts of float16, shape (2, K', D'), K and D rounded up to whole tiles, zeros beyond."""
    bias: torch.Tensor
    """−h, and −huge beyond the centroids, shape (K',), float32."""
    limits: torch.Tensor
    """A, C, B, unit and huge of the fast and of the careful product, shape (2, 5), float32; see `_shares`."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _centroid_sums_kernel(
    centroids, origin,  # (K, D'), (D',) float32
    n_centroids, n_columns,  # K, D'
    lengths, h,  # out: (K,) float64
    WIDTH: tl.constexpr,  # unit of D'
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R centroids of K · J columns
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_centroids
    squares = tl.zeros((K, R, J), tl.float64)
    products = tl.zeros((K, R, J), tl.float64)
    for start in range(0, n_columns * WIDTH, K * J):
        columns = start + tile_columns(K, J)
        at = rows[None, :, None] * (n_columns * WIDTH) + columns
        mask = in_rows[None, :, None] & (columns < n_columns * WIDTH)
        o = tl.load(origin + columns, mask=columns < n_columns * WIDTH, other=0.0).to(tl.float64)
        m = tl.where(mask, tl.load(centroids + at, mask=mask, other=0.0).to(tl.float64) - o, 0.0)
        squares += m * m
        products += m * o
    square = row_sum(squares)
    tl.store(lengths + rows, tl.sqrt(square), mask=in_rows)
    tl.store(h + rows, row_sum(products) + 0.5 * square, mask=in_rows)


@triton.jit(do_not_specialize=_RUN_TIME)
def _centroid_parts_kernel(
    centroids, origin, scalars,  # (K, D'), (D',) float32; (4,) float64, see `_range_kernel`
    n_centroids, n_columns, depth,  # K, D'; of the parts, in D
    parts, lost,  # out: (2, programs · R, depth · D) float16; (2, K) float64, ‖m − its first part‖, ‖m − both‖
    WIDTH: tl.constexpr, LOW: tl.constexpr,  # unit of D'; of the second part
    R: tl.constexpr, D: tl.constexpr,  # the tile: R centroids, D columns at a time
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_centroids
    one = tl.load(scalars)
    part_size = tl.num_programs(0).to(tl.int64) * R * (depth * D)
    missed = tl.zeros((R, D), tl.float64)
    still_missed = tl.zeros((R, D), tl.float64)
    for start in range(0, depth * D, D):
        columns = start + tl.arange(0, D)[None, :]
        in_columns = columns < n_columns * WIDTH
        mask = in_rows[:, None] & in_columns
        o = tl.load(origin + columns, mask=in_columns, other=0.0).to(tl.float64)
        value = tl.load(centroids + rows[:, None] * (n_columns * WIDTH) + columns, mask=mask, other=0.0).to(tl.float64)
        # By a power of two, whose reciprocal is a normal number.
        m = tl.where(mask, value - o, 0.0) / one
        high = m.to(tl.float32).to(tl.float16)
        rest = m - high.to(tl.float64)
        low = (rest * (1.0 / LOW)).to(tl.float32).to(tl.float16)
        missed += rest * rest
        rest -= low.to(tl.float64) * LOW
        still_missed += rest * rest
        at = parts + rows[:, None] * (depth * D) + columns
        tl.store(at, high)
        tl.store(at + part_size, low)
    tl.store(lost + rows, one * tl.sqrt(tl.sum(missed, axis=1)), mask=in_rows)
    tl.store(lost + n_centroids + rows, one * tl.sqrt(tl.sum(still_missed, axis=1)), mask=in_rows)


@triton.jit(do_not_specialize=_RUN_TIME)
def _range_kernel(
    lengths, h, n_centroids,  # (K,) float64; K
    scalars,  # out: (4,) float64, the unit, huge, c, and the largest |h − c|
    B: tl.constexpr,  # centroids at a time
):  # fmt: skip
    """What all centroids have in common, by one program."""
    longest = tl.zeros((B,), tl.float64)
    most = tl.full((B,), -float("inf"), tl.float64)
    least = tl.full((B,), float("inf"), tl.float64)
    for start in range(0, n_centroids, B):
        at = start + tl.arange(0, B)
        mask = at < n_centroids
        longest = tl.maximum(longest, tl.load(lengths + at, mask=mask, other=0.0))
        most = tl.maximum(most, tl.load(h + at, mask=mask, other=-float("inf")))
        least = tl.minimum(least, tl.load(h + at, mask=mask, other=float("inf")))
    length, upper, lower = tl.max(longest, axis=0), tl.max(most, axis=0), tl.min(least, axis=0)
    # From bits: of no length the least unit.
    exponent = ((length.to(tl.int64, bitcast=True) >> 52) & 0x7FF) - (1023 + LENGTH_EXPONENT)
    exponent = tl.minimum(tl.maximum(exponent, -MOST_EXPONENT), MOST_EXPONENT)
    half = 0.5 * (upper - lower)
    tl.store(scalars, ((1023 + exponent) << 52).to(tl.float64, bitcast=True))
    tl.store(scalars + 1, tl.maximum(half, length * length) * _HUGE)
    tl.store(scalars + 2, 0.5 * (upper + lower))
    tl.store(scalars + 3, half)


@triton.jit(do_not_specialize=_RUN_TIME)
def _limits_kernel(
    lengths, lost, h, scalars,  # (K,), (2, K), (K,), (4,) float64
    n_centroids, n_padded,  # K, K'
    row_share, careful_row_share, score_share, careful_score_share,  # see `_shares`
    bias, limits,  # out, see `Centroids`
    B: tl.constexpr,  # centroids at a time
):  # fmt: skip
    """The limits from the largest over all centroids, and their biases, by one program."""
    unit, huge, center, most = tl.load(scalars), tl.load(scalars + 1), tl.load(scalars + 2), tl.load(scalars + 3)
    a = tl.zeros((B,), tl.float64)
    careful_a = tl.zeros((B,), tl.float64)
    longest = tl.zeros((B,), tl.float64)
    for start in range(0, n_padded, B):
        at = start + tl.arange(0, B)
        mask = at < n_centroids
        length = tl.load(lengths + at, mask=mask, other=0.0)
        missed = tl.load(lost + at, mask=mask, other=0.0)
        still_missed = tl.load(lost + n_centroids + at, mask=mask, other=0.0)
        longest = tl.maximum(longest, length + missed)
        a = tl.maximum(a, missed + row_share * (length + missed))
        careful_a = tl.maximum(careful_a, still_missed + careful_row_share * (length + still_missed))
        value = tl.where(mask, center - tl.load(h + at, mask=mask, other=0.0), 0.0 - huge)
        tl.store(bias + at, value.to(tl.float32), mask=at < n_padded)
    wider = 1.0 + 2.0**-10
    c = (1.0 + score_share) * tl.max(longest, axis=0) * wider
    tl.store(limits, (tl.max(a, axis=0) * wider).to(tl.float32))
    tl.store(limits + 1, c.to(tl.float32))
    # What float32 takes from the least numbers is far below the last term.
    tl.store(limits + 2, (((score_share + 2.0**-21) * most + 2.0**-120) * wider).to(tl.float32))
    tl.store(limits + 5, (tl.max(careful_a, axis=0) * wider).to(tl.float32))
    tl.store(limits + 6, c.to(tl.float32))
    tl.store(limits + 7, (((careful_score_share + 2.0**-21) * most + 2.0**-120) * wider).to(tl.float32))
    for product in tl.static_range(2):
        tl.store(limits + 5 * product + 3, unit.to(tl.float32))
        tl.store(limits + 5 * product + 4, huge.to(tl.float32))


def sum_error(n_columns: int, generation: int) -> float:
    """What a matrix unit's sum of products of float16 errs by, as a share of the sum of their absolute values.

    Parameters
    ----------
    n_columns : int
        Products, added to what there is in steps.
    generation : int
        Major part of the compute capability; 0 in the interpreter.

    Notes
    -----
    A unit aligns the exact products of a step and the sum so far to the largest of their exponents, cuts them off at
    bit F behind its leading one, adds them up exactly, and cuts the sum off at 24 bits (bit-accurate models of the
    units: MMA-Sim, arXiv 2511.10909; Khattak and Mikaitis, arXiv 2512.07004). Hopper and Blackwell add 16 products and
    cut at F = 25, Ampere and Ada 8 at F = 24. No term is larger than the sum of the absolute values, T, and the one
    that sets the exponent loses nothing. So a step of L products errs by at most (L 2⁻ᶠ + 2⁻²³) T, and n products by
    n / L times as much: n / 3.2 or n / 1.6 times 2⁻²³ T. A third and two thirds of n leave room for what errors add to
    T, below n = 2^19. The library's products are of the same instructions; where it splits a sum, it adds up the parts
    in float32, for less than the parts are shorter. Sums in float32 with an addition for each product, as in the
    interpreter, err by half of n.
    """
    return (n_columns / (3.0 if generation >= 9 else 1.5) + 1.0) * 2.0 * _FLOAT


def _shares(n_columns: int, generation: int) -> tuple[float, float, float, float]:
    """What rows and scores of the fast and the careful product err by: two shares of ‖y‖ ‖m̃‖, and two of |h|.

    Let m̃ be the centroid's parts and x̃ the row's, u = 2⁻²⁴. What a score errs by, in units of v:

    - y m − scale x̃ m̃: ‖y‖ ‖m − m̃‖ for the centroid, u ‖y‖ ‖m̃‖ for the rounding of y = scale x to float32, and for the
      row's parts scale ‖x − x̃‖ ‖m̃‖: measured of one part; of two at most 2⁻²² ‖y‖ ‖m̃‖, and as much for the product
      of the second parts, which is left out. Elements below 2⁻¹⁴ in their unit lose more of themselves, but less than
      2⁻³⁸ √D of the row's length.
    - the sum, a share γ of what it adds up: ‖y‖ ‖m̃‖ and |h|. With two parts each step of columns has a sum of its own,
      and all steps are added up in float32; those of the second parts err as a whole, but are 2^10 times smaller.
    - h in float32, times a reciprocal that errs by 2 units (4 u in all), and the score in float32 and without its
      lowest bits: u and N / 8 of 2 u.

    So E = ‖y‖ A + scale ‖x − x̃‖ C + B, with A the largest of ‖m − m̃‖ + share · ‖m̃‖, C of (1 + γ) ‖m̃‖, and B a share of
    the largest |h|.
    """
    whole = triton.cdiv(n_columns, PAD) * PAD
    of_sum = sum_error(whole, generation)
    steps = whole // CAREFUL_TILE.D
    of_steps = sum_error(CAREFUL_TILE.D, generation) + (2.0 * steps + 4.0) * _FLOAT + 2.0**-9 * of_sum
    score, careful_score = (
        share + (8.0 + 2.0 * tile.N / STREAMS.value) * _FLOAT
        for share, tile in ((of_sum, FAST_TILE), (of_steps, CAREFUL_TILE))
    )
    of_parts = 2.0 * 2.0**-22 + 2.0**-38 * n_columns**0.5
    return _FLOAT + score, _FLOAT + of_parts + careful_score, score, careful_score


def prepare_centroids(centroids: torch.Tensor, origin: torch.Tensor) -> Centroids:
    """Centroids for rows of any storage type.

    Parameters
    ----------
    centroids : Tensor, shape (K, D), float32
    origin : Tensor, shape (D,), float32
        Anything; near the rows' mean bounds are tightest.
    """
    exact = centroids.contiguous()
    k, n_columns = exact.shape
    n_padded, depth = triton.cdiv(k, FAST_TILE.N) * FAST_TILE.N, triton.cdiv(n_columns, PAD)
    even = k + k % 2  # so that all begin on 16 bytes, whatever K
    numbers = torch.empty(4 * even + 4, dtype=torch.float64, device=exact.device)
    lengths, h, lost, scalars = numbers.split([even, even, 2 * even, 4])
    parts = torch.empty((2, n_padded, depth * PAD), dtype=torch.float16, device=exact.device)
    bias = torch.empty(n_padded, dtype=torch.float32, device=exact.device)
    limits = torch.empty((2, 5), dtype=torch.float32, device=exact.device)
    width, rows, tile, of_range = column_width(n_columns), row_tile(n_columns), CENTROID_TILE, RANGE_TILE
    _centroid_sums_kernel[(triton.cdiv(k, rows.R),)](
        exact, origin, k, n_columns // width, lengths, h,
        WIDTH=width, K=rows.K, R=rows.R, J=rows.J, **launch(rows.warps),
    )  # fmt: skip
    _range_kernel[(1,)](lengths, h, k, scalars, B=of_range.block, **launch(of_range.warps))
    _centroid_parts_kernel[(n_padded // tile.M,)](
        exact, origin, scalars, k, n_columns // width, depth * PAD // tile.N, parts, lost,
        WIDTH=width, LOW=LOW_PART, R=tile.M, D=tile.N, **launch(tile.warps),
    )  # fmt: skip
    _limits_kernel[(1,)](
        lengths, lost, h, scalars, k, n_padded, *_shares(n_columns, capability(exact.device)[0]), bias, limits,
        B=of_range.block, **launch(of_range.warps),
    )  # fmt: skip
    return Centroids(exact, parts, bias, limits)
