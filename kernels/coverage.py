"""Marginal gains of candidates in greedy coverage (step 6, the student's picks)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import GAINS_TILE, SUMS_TILE, launch

__all__ = ["SEGMENT", "gain_sums", "segment_gains"]

# gain_j = Σ_i w_i · max(0, k(s_ij) − k(s_i)), s_i the similarity of row i to the nearest row that covers; k(s) is s,
# exp(p s − p), or 1 where s > p and else 0
#
# Terms are float32, sums float64. Each SEGMENT rows are added up by one program, and the segments' sums by another, in
# an order that follows from the tiles alone: a gain has the same bits whatever else is computed with it.

SEGMENT = 256
"""Rows whose sum one program forms; what is passed together begins at a multiple of it."""

_RUN_TIME = ["stride", "n_rows", "n_columns", "n_segments"]


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
    parameter, n_rows, n_columns,  # p, m, C
    sums,  # out: (⌈m / SIZE⌉, C) float64
    KIND: tl.constexpr, SIZE: tl.constexpr,  # of the kernel k; the rows of a segment
    M: tl.constexpr, N: tl.constexpr,  # the tile: M rows, N columns
):  # fmt: skip
    segment = tl.program_id(1).to(tl.int64)
    columns = tl.program_id(0) * N + tl.arange(0, N)
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
    _segment_gains_kernel[(triton.cdiv(n_columns, GAINS_TILE.N), triton.cdiv(n_rows, SEGMENT))](
        similarity, similarity.stride(0), near, weights, parameter, n_rows, n_columns, sums,
        KIND=kind, SIZE=SEGMENT, M=GAINS_TILE.M, N=GAINS_TILE.N, **launch(GAINS_TILE.warps),
    )  # fmt: skip


def gain_sums(sums: torch.Tensor) -> torch.Tensor:
    """The gains, shape (M,), float64, from the sums of all segments, shape (S, M)."""
    n_segments, n_columns = sums.shape
    gains = torch.empty(n_columns, dtype=torch.float64, device=sums.device)
    _gain_sums_kernel[(triton.cdiv(n_columns, SUMS_TILE.N),)](
        sums, n_segments, n_columns, gains, M=SUMS_TILE.M, N=SUMS_TILE.N, **launch(SUMS_TILE.warps)
    )
    return gains
