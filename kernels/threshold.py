"""The exact order statistic of all M · C scores (step 3, "target size"), without sorting or storing them.

A pass over the logits counts the scores up to a bracket's lower end and keeps those inside; whatever order programs run
in, each keeps them in a place of its own. Among what was kept the order statistic is found digit by digit of the
numbers' bits, with counts alone.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import DIGIT_BITS, DIGITS_TILE, alignment, column_width, launch, programs, row_tile
from ._math import cuts, load_tile, log_of_sum, of_rows, row_sum, tile_columns, top1_and_sums

__all__ = ["ScoresBetween", "joined", "order_statistic", "scores_between"]

# a_c = L + (max z − z_c);  below = #{ a ≤ low },  inside = { a : low < a ≤ high }

_RUN_TIME = ["n_rows", "n_classes", "stride", "first_row", "capacity", "n_blocks", "shift", "n_segments"]


@triton.jit(do_not_specialize=_RUN_TIME)
def _scores_between_kernel(
    logits, stride, n_rows, n_classes,  # (M, C) of any storage type
    first_row, bad,  # the number of row 0; (1,) int64, see `report_rows`
    low, high,  # (1,) float64
    values, capacity,  # out: (programs, capacity) float64
    counts,  # out: (3, programs) int64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of C
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """counts (3, programs): scores up to low, scores inside, and how many of those are among `values`."""
    program, n_programs = tl.program_id(0), tl.num_programs(0)
    n_columns = n_classes * WIDTH
    low_q, high_q = tl.load(low), tl.load(high)
    segment = values + program.to(tl.int64) * capacity
    below = tl.zeros((), tl.int64)
    inside = tl.zeros((), tl.int64)
    kept = tl.zeros((), tl.int32)
    for block in range(program, tl.cdiv(n_rows, R), n_programs):
        rows = (tl.zeros((R,), tl.int64) + block) * R + tl.arange(0, R)
        in_rows = rows < n_rows
        maximum, _, total = top1_and_sums(logits, rows, in_rows, stride * ALIGN, n_columns, first_row, bad, K, R, J)
        log_sum = log_of_sum(total)
        cut_low = cuts(maximum, log_sum, tl.full((R,), 0.0, tl.float64) + low_q)
        cut_high = cuts(maximum, log_sum, tl.full((R,), 0.0, tl.float64) + high_q)
        for start in range(0, n_columns, K * J):
            columns = start + tile_columns(K, J)
            mask = in_rows[None, :, None] & (columns < n_columns)
            z = load_tile(logits, rows, stride * ALIGN, columns, mask)
            is_below = mask & (z >= of_rows(cut_low))
            is_inside = mask & (z >= of_rows(cut_high)) & (z < of_rows(cut_low))
            below += tl.sum(row_sum(is_below.to(tl.int32)), axis=0)
            n_inside = tl.sum(row_sum(is_inside.to(tl.int32)), axis=0)
            inside += n_inside
            if (n_inside > 0) & (kept < capacity):
                chosen = tl.reshape(is_inside.to(tl.int32), (K * R * J,))
                score = of_rows(log_sum) + (of_rows(maximum).to(tl.float64) - z.to(tl.float64))
                place = kept + tl.cumsum(chosen, axis=0) - 1
                tl.store(segment + place, tl.reshape(score, (K * R * J,)), mask=(chosen != 0) & (place < capacity))
                kept = tl.minimum(kept + n_inside, capacity)
    tl.store(counts + program, below)
    tl.store(counts + n_programs + program, inside)
    tl.store(counts + 2 * n_programs + program, kept.to(tl.int64))


@triton.jit(do_not_specialize=_RUN_TIME)
def _digits_kernel(
    values, capacity, sizes,  # (S, capacity) float64; (S,) int64
    first, state, shift,  # (1,) and (2,) int64; bits below the digit
    bins,  # in and out: (2^DIGIT,) int32
    DIGIT: tl.constexpr, BLOCK: tl.constexpr,  # bits of a digit; numbers at a time
):  # fmt: skip
    """bins (2^DIGIT): how many keys, bits(value) − first, have the digits found so far and then each next digit."""
    segment = tl.program_id(0)
    n = tl.load(sizes + segment)
    prefix = tl.load(state)
    origin = tl.load(first)
    found = tl.zeros((1 << DIGIT,), tl.int32)
    for start in range(0, n, BLOCK):
        place = start + tl.arange(0, BLOCK)
        mask = place < n
        value = tl.load(values + segment.to(tl.int64) * capacity + place, mask=mask, other=0.0)
        key = value.to(tl.int64, bitcast=True) - origin
        mask = mask & ((key >> (shift + DIGIT)) == prefix)
        digit = ((key >> shift) & ((1 << DIGIT) - 1)).to(tl.int32)
        found += tl.histogram(digit, 1 << DIGIT, mask=mask)
    bin = tl.arange(0, 1 << DIGIT)
    tl.atomic_add(bins + bin, found, mask=found > 0, sem="relaxed")


@triton.jit
def _next_digit_kernel(bins, state, DIGIT: tl.constexpr):
    """state = (digits found so far, rank among what has them): one digit more, and the bins empty again."""
    bin = tl.arange(0, 1 << DIGIT)
    count = tl.load(bins + bin)
    tl.store(bins + bin, tl.zeros((1 << DIGIT,), tl.int32))
    rank = tl.load(state + 1)
    upto = tl.cumsum(count, axis=0).to(tl.int64)
    digit = tl.sum((upto < rank).to(tl.int32), axis=0)
    before = tl.sum(tl.where(bin < digit, count, 0), axis=0)
    tl.store(state, (tl.load(state) << DIGIT) + digit)
    tl.store(state + 1, rank - before)


class ScoresBetween(NamedTuple):
    """The scores in (low, high]."""

    below: torch.Tensor
    """Number of scores ≤ low, int64."""
    inside: torch.Tensor
    """Number of scores in (low, high], int64."""
    values: torch.Tensor
    """Those, float64, shape (programs, capacity): the first of each row, as many as its size says."""
    sizes: torch.Tensor
    """Shape (programs,), int64. Together fewer than `inside` where a program found more than it could keep."""


def scores_between(
    logits: torch.Tensor, low: torch.Tensor, high: torch.Tensor, capacity: int, bad: torch.Tensor, first_row: int = 0
) -> ScoresBetween:
    """Counts and keeps scores, each logit read from memory once.

    Parameters
    ----------
    logits, bad, first_row
        As in :func:`conformal_score`; at least one row.
    low, high : Tensor, shape (1,), float64
        low ≤ high.
    capacity : int
        Scores that all programs together may keep; each has an equal share.
    """
    n_rows, n_classes = logits.shape
    align, width = alignment(logits), column_width(n_classes)
    tile = row_tile(n_classes)
    n_programs = programs(logits.device, triton.cdiv(n_rows, tile.R))
    share = triton.cdiv(capacity, n_programs)
    values = torch.empty((n_programs, share), dtype=torch.float64, device=logits.device)
    counts = torch.empty((3, n_programs), dtype=torch.int64, device=logits.device)
    _scores_between_kernel[(n_programs,)](
        logits, logits.stride(0) // align, n_rows, n_classes // width, first_row, bad, low, high, values, share, counts,
        ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
    )  # fmt: skip
    return ScoresBetween(counts[0].sum(), counts[1].sum(), values, counts[2])


def joined(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The values and sizes of several passes as those of one."""
    if len(parts) == 1:
        return parts[0]
    kept = [values[_filled(values, sizes)] for values, sizes in parts]
    total = sum(len(part) for part in kept)
    rows = triton.cdiv(max(1, total), DIGITS_TILE.block)
    values = torch.zeros((rows, DIGITS_TILE.block), dtype=torch.float64, device=kept[0].device)
    torch.cat(kept, out=values.view(-1)[:total])
    sizes = torch.full((rows,), DIGITS_TILE.block, dtype=torch.int64, device=values.device)
    sizes[-1] = total - (rows - 1) * DIGITS_TILE.block
    return values, sizes


def _filled(values: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    return torch.arange(values.shape[1], device=values.device) < sizes[:, None]


def order_statistic(values: torch.Tensor, sizes: torch.Tensor, rank: int, low: float, high: float) -> float:
    """The rank-th smallest, from 1, of the first `sizes` numbers of each row of `values`.

    All lie in [low, high], and none is negative. Digit by digit: one reading of the numbers for each; the host
    synchronises once, after the last.
    """
    first, last = _bits(max(low, 0.0)), _bits(high)
    n_digits = triton.cdiv(max(1, (last - first).bit_length()), DIGIT_BITS)
    device = values.device
    origin = torch.tensor([first], dtype=torch.int64, device=device)
    state = torch.tensor([0, rank], dtype=torch.int64, device=device)
    bins = torch.zeros(1 << DIGIT_BITS, dtype=torch.int32, device=device)
    for digit in range(n_digits - 1, -1, -1):
        _digits_kernel[(len(values),)](
            values, values.stride(0), sizes, origin, state, digit * DIGIT_BITS, bins,
            DIGIT=DIGIT_BITS, BLOCK=DIGITS_TILE.block, **launch(DIGITS_TILE.warps),
        )  # fmt: skip
        _next_digit_kernel[(1,)](
            bins,
            state,
            DIGIT=DIGIT_BITS,
            **launch(DIGITS_TILE.warps),
        )
    return _number(first + int(state[0].item()))


def _bits(value: float) -> int:
    """The bits of a number that is not negative: they order as the numbers do."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def _number(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<q", bits))[0])
