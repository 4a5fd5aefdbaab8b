"""Marginal gains of candidates in greedy coverage (step 6, the student's picks)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import CHOICE_BLOCK, COVER_BLOCK, GAINS_TILE, SUMS_TILE, launch

__all__ = ["SEGMENT", "State", "choose", "cover", "gain_sums", "segment_gains"]

# gain_j = Σ_i w_i · max(0, k(s_ij) − k(s_i)), s_i the similarity of row i to the nearest row that covers; k(s) is s,
# exp(p s − p), or 1 where s > p and else 0
#
# Terms are float32, sums float64. Each SEGMENT rows are added up by one program, and the segments' sums by another, in
# an order that follows from the tiles alone: a gain has the same bits whatever else is computed with it. No term rises
# as s_i does, and rounding keeps that order (of the gaussian as far as the device's exponential does): a gain of before
# is an upper bound of the gain now.
#
# A window is some candidates whose similarities to all rows are at hand. Picks are made in it, one after the other,
# while its largest gain beats the bound of every candidate outside; the host need not know how many were.

SEGMENT = 256
"""Rows whose sum one program forms; what is passed together begins at a multiple of it."""

_RUN_TIME = ["stride", "n_rows", "n_columns", "n_segments", "n_blocks", "n_picks"]


class State(NamedTuple):
    """What a device knows of the picks so far."""

    picks: torch.Tensor
    """Candidates in the order of selection, of which the first `numbers[0]` are valid, int64."""
    numbers: torch.Tensor
    """Shape (4,), int64: how many were picked; the column of the window that was picked last, or −1; whether the window
    may hold the next; whether no candidate, inside or outside, has a positive gain."""


@triton.jit
def _value(similarity, p, KIND: tl.constexpr):
    value = similarity
    if KIND == "gaussian":
        value = tl.exp(p * similarity - p)
    if KIND == "ball":
        value = tl.where(similarity > p, 1.0, 0.0)
    return value


@triton.jit(do_not_specialize=_RUN_TIME)
def _segment_gains_kernel(
    similarity, stride,  # (m, C) float32
    near, weights,  # (m,) float32
    parameter, n_rows, n_columns, n_blocks,  # p, m, C, ⌈C / N⌉
    sums,  # out: (⌈m / SIZE⌉, C) float64
    KIND: tl.constexpr, SIZE: tl.constexpr,  # of the kernel k; the rows of a segment
    M: tl.constexpr, N: tl.constexpr,  # the tile: M rows, N columns
):  # fmt: skip
    # The blocks of columns of a segment lie beside each other.
    segment = (tl.program_id(0) // n_blocks).to(tl.int64)
    columns = tl.program_id(0) % n_blocks * N + tl.arange(0, N)
    in_columns = columns < n_columns
    total = tl.zeros((M, N), tl.float64)
    for start in range(0, SIZE, M):
        rows = segment * SIZE + start + tl.arange(0, M)
        in_rows = rows < n_rows
        covered = tl.load(near + rows, mask=in_rows, other=float("inf"))[:, None]
        weight = tl.load(weights + rows, mask=in_rows, other=0.0)[:, None]
        at = rows[:, None] * stride + columns[None, :]
        found = tl.load(similarity + at, mask=in_rows[:, None] & in_columns[None, :], other=-float("inf"))
        gained = (_value(found, parameter, KIND) - _value(covered, parameter, KIND)) * weight
        total += tl.where(found > covered, gained, 0.0).to(tl.float64)
    tl.store(sums + segment * n_columns + columns, tl.sum(total, axis=0), mask=in_columns)


@triton.jit(do_not_specialize=_RUN_TIME)
def _gain_sums_kernel(
    sums, n_segments, n_columns,  # (S, C) float64
    gains,  # out: (C,) float64
    M: tl.constexpr, N: tl.constexpr,  # the tile: M segments, N columns
):  # fmt: skip
    columns = tl.program_id(0) * N + tl.arange(0, N)
    in_columns = columns < n_columns
    total = tl.zeros((M, N), tl.float64)
    for start in range(0, n_segments, M):
        segments = start + tl.arange(0, M)
        at = segments[:, None].to(tl.int64) * n_columns + columns[None, :]
        total += tl.load(sums + at, mask=(segments < n_segments)[:, None] & in_columns[None, :], other=0.0)
    tl.store(gains + columns, tl.sum(total, axis=0), mask=in_columns)


def segment_gains(
    similarity: torch.Tensor,
    near: torch.Tensor,
    weights: torch.Tensor,
    kind: str,
    parameter: float,
    sums: torch.Tensor,
) -> None:
    """The sums over each segment of some rows; without host synchronisation.

    Parameters
    ----------
    similarity : Tensor, shape (m, M), float32
        Columns one after the other, rows of any stride.
    near, weights : Tensor, shape (m,), float32
        s_i and w_i.
    kind : {"similarity", "gaussian", "ball"}
    parameter : float
        p.
    sums : Tensor, shape (⌈m / SEGMENT⌉, M), float64
        Contiguous; overwritten.
    """
    n_rows, n_columns = similarity.shape
    n_blocks = triton.cdiv(n_columns, GAINS_TILE.N)
    _segment_gains_kernel[(n_blocks * triton.cdiv(n_rows, SEGMENT),)](
        similarity, similarity.stride(0), near, weights, parameter, n_rows, n_columns, n_blocks, sums,
        KIND=kind, SIZE=SEGMENT, M=GAINS_TILE.M, N=GAINS_TILE.N, **launch(GAINS_TILE.warps),
    )  # fmt: skip


def gain_sums(sums: torch.Tensor, gains: torch.Tensor) -> None:
    """Writes the gains, shape (M,), float64, from the sums of all segments, shape (S, M)."""
    n_segments, n_columns = sums.shape
    _gain_sums_kernel[(triton.cdiv(n_columns, SUMS_TILE.N),)](
        sums, n_segments, n_columns, gains, M=SUMS_TILE.M, N=SUMS_TILE.N, **launch(SUMS_TILE.warps)
    )


@triton.jit(do_not_specialize=_RUN_TIME)
def _cover_kernel(
    similarity, stride, n_rows,  # (m, C) float32
    numbers,  # of the state
    near,  # in and out: (m,) float32
    B: tl.constexpr,
):  # fmt: skip
    column = tl.load(numbers + 1)
    if column >= 0:
        rows = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
        inside = rows < n_rows
        covered = tl.load(near + rows, mask=inside)
        found = tl.load(similarity + rows * stride + column, mask=inside)
        tl.store(near + rows, tl.maximum(covered, found), mask=inside)


@triton.jit(do_not_specialize=_RUN_TIME)
def _choose_kernel(
    gains, members, n_columns,  # of the window: (C,) float64; its candidates, ascending, (C,) int64
    bounds, following,  # of all candidates, float64; the first of those outside, (1,) int64
    n_picks,
    inside_bounds, picks, numbers,  # in and out: (C,) float64, −∞ for those picked; and the state
    B: tl.constexpr,
):  # fmt: skip
    # One program, whose reduction stands between these loads and the stores behind it.
    n_chosen = tl.load(numbers)
    last = tl.load(numbers + 1)
    runs = tl.load(numbers + 2)
    outside = tl.load(following)
    bound = tl.load(bounds + outside)
    best = tl.full((B,), -float("inf"), tl.float64)
    place = tl.zeros((B,), tl.int64)
    for start in range(0, n_columns, B):
        columns = (start + tl.arange(0, B)).to(tl.int64)
        in_window = columns < n_columns
        before = tl.load(inside_bounds + columns, mask=in_window, other=-float("inf"))
        gain = tl.load(gains + columns, mask=in_window, other=-float("inf"))
        gain = tl.where((before == -float("inf")) | (columns == last), -float("inf"), gain)
        tl.store(inside_bounds + columns, gain, mask=in_window)
        place = tl.where(gain > best, columns, place)
        best = tl.maximum(best, gain)
    most = tl.max(best, axis=0)
    column = tl.min(tl.where(best == most, place, n_columns), axis=0)
    candidate = tl.load(members + column)
    wins = (most > bound) | ((most == bound) & (candidate < outside))
    takes = (runs != 0) & (n_chosen < n_picks) & (most > 0.0) & wins
    tl.store(picks + n_chosen, candidate, mask=takes)
    tl.store(numbers, n_chosen + takes.to(tl.int64))
    tl.store(numbers + 1, tl.where(takes, column, -1))
    tl.store(numbers + 2, takes.to(tl.int64))
    tl.store(numbers + 3, ((most <= 0.0) & (bound <= 0.0)).to(tl.int64))


def cover(similarity: torch.Tensor, state: State, near: torch.Tensor) -> None:
    """The similarities `near` (m,) to what covers, with the column that was picked last, if one was."""
    n_rows = len(similarity)
    _cover_kernel[(triton.cdiv(n_rows, COVER_BLOCK.block),)](
        similarity, similarity.stride(0), n_rows, state.numbers, near, B=COVER_BLOCK.block, **launch(COVER_BLOCK.warps)
    )


def choose(
    gains: torch.Tensor,
    members: torch.Tensor,
    bounds: torch.Tensor,
    following: torch.Tensor,
    inside_bounds: torch.Tensor,
    state: State,
) -> None:
    """Picks the candidate of largest gain where it lies in the window (ties: the lower); no synchronisation.

    Parameters
    ----------
    gains : Tensor, shape (M,), float64
        Of the window's candidates, those picked before included.
    members : Tensor, shape (M,), int64
        Candidates of the window, ascending.
    bounds : Tensor, float64
        Of all candidates, not less than their gains where they are outside.
    following : Tensor, shape (1,), int64
        The candidate outside that has the largest bound (ties: the lower).
    inside_bounds : Tensor, shape (M,), float64
        −∞ for what was picked; becomes the gains of the others.
    state : State
        Advanced.
    """
    _choose_kernel[(1,)](
        gains, members, len(members), bounds, following, len(state.picks), inside_bounds, *state,
        B=CHOICE_BLOCK.block, **launch(CHOICE_BLOCK.warps),
    )  # fmt: skip
