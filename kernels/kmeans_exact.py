"""Distances of rows to centroids themselves, in float64 (steps 1 and 6)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import EXACT_TILE, alignment, column_width, launch, programs, row_tile
from ._math import load_exact, row_sum, tile_columns

__all__ = ["scan", "squared_distances"]

# d²(y, μ) = Σ_d (y_d − μ_d)² for rows y = scale · x, rounded to float32. The nearest centroid of a row is that of the
# least d², and of equals the first.

_RUN_TIME = ["n_rows", "n_centroids", "n_columns", "stride", "scale_step"]


@triton.jit
def _slice_count(n, n_tiles):
    """Slices of the centroids of each of n rows, so that all programs have some: below n + programs in all."""
    n_programs = tl.num_programs(0)
    return tl.minimum(tl.maximum(n_programs // tl.maximum(n, 1), 1), n_tiles)


@triton.jit(do_not_specialize=_RUN_TIME)
def _scan_kernel(
    x, stride, scale, scale_step,  # rows (n, D') of any storage type; (n,) float32, or (1,) and a step of 0
    centroids, listed, n_listed,  # (K, D') float32; which rows, int32, and how many, (1,) int64
    n_centroids, n_columns,  # K, D'
    least, places,  # out: (n + programs,) float64 and int32, of each slice of each row
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    N: tl.constexpr, D: tl.constexpr,  # the tile: N centroids, D columns
):  # fmt: skip
    """The least d² of a slice of the centroids, and the first that has it, for the listed rows in turn."""
    n = tl.load(n_listed)
    n_tiles = tl.cdiv(n_centroids, N)
    n_slices = _slice_count(n, n_tiles)
    for item in range(tl.program_id(0).to(tl.int64), n * n_slices, tl.num_programs(0)):
        row = tl.load(listed + item // n_slices).to(tl.int64)
        factor = tl.load(scale + row * scale_step)
        part = (item % n_slices).to(tl.int32)
        best = tl.full((), float("inf"), tl.float64)
        label = tl.zeros((), tl.int32)
        for tile in range(part * n_tiles // n_slices.to(tl.int32), (part + 1) * n_tiles // n_slices.to(tl.int32)):
            index = tile * N + tl.arange(0, N)
            squared = tl.zeros((N,), tl.float64)
            for start in range(0, n_columns * WIDTH, D):
                columns = start + tl.arange(0, D)
                mask = columns < n_columns * WIDTH
                y = load_exact(x + row * (stride * ALIGN) + columns, mask, factor)
                at = index[:, None].to(tl.int64) * (n_columns * WIDTH) + columns[None, :]
                inside = (index < n_centroids)[:, None] & mask[None, :]
                difference = y[None, :] - tl.load(centroids + at, mask=inside, other=0.0).to(tl.float64)
                squared += tl.sum(tl.where(inside, difference * difference, 0.0), axis=1)
            squared = tl.where(index < n_centroids, squared, float("inf"))
            top = tl.min(squared, axis=0)
            first = tl.min(tl.where(squared == top, index, 0x7FFFFFFF), axis=0)
            label = tl.where(top < best, first, label)
            best = tl.minimum(best, top)
        tl.store(least + item, best)
        tl.store(places + item, label)


@triton.jit(do_not_specialize=_RUN_TIME)
def _least_kernel(
    least, places, listed, n_listed, n_centroids,  # as above
    labels, others,  # out: (n,) int32, the label and −1
    N: tl.constexpr, R: tl.constexpr,  # that of the slices; listed rows at a time
):  # fmt: skip
    """The labels of listed rows from their slices; has as many programs as `_scan_kernel`."""
    n = tl.load(n_listed)
    n_slices = _slice_count(n, tl.cdiv(n_centroids, N))
    for start in range(tl.program_id(0).to(tl.int64) * R, n, tl.num_programs(0) * R):
        place = start + tl.arange(0, R)
        mask = place < n
        best = tl.full((R,), float("inf"), tl.float64)
        label = tl.zeros((R,), tl.int32)
        for part in range(0, n_slices):
            squared = tl.load(least + place * n_slices + part, mask=mask, other=0.0)
            label = tl.where(squared < best, tl.load(places + place * n_slices + part, mask=mask, other=0), label)
            best = tl.minimum(best, squared)
        rows = tl.load(listed + place, mask=mask, other=0)
        tl.store(labels + rows, label, mask=mask)
        tl.store(others + rows, -1, mask=mask)


@triton.jit
def _squared(x_rows, factor, centroids, label, in_rows, n_columns, K: tl.constexpr, R: tl.constexpr, J: tl.constexpr):
    """d² of rows (R,) to the centroids of their labels, float64."""
    total = tl.zeros((K, R, J), tl.float64)
    for start in range(0, n_columns, K * J):
        columns = start + tile_columns(K, J)
        mask = in_rows[None, :, None] & (columns < n_columns)
        y = load_exact(x_rows[None, :, None] + columns, mask, factor[None, :, None])
        at = label.to(tl.int64)[None, :, None] * n_columns + columns
        difference = tl.where(mask, y - tl.load(centroids + at, mask=mask, other=0.0).to(tl.float64), 0.0)
        total += difference * difference
    return row_sum(total)


@triton.jit(do_not_specialize=_RUN_TIME)
def _squared_kernel(
    x, stride, scale, scale_step,  # rows (n, D') of any storage type; (n,) float32, or (1,) and a step of 0
    centroids, others,  # (K, D') float32; (n,) int32, see below
    n_rows, n_columns,  # n, D'
    labels, squared,  # out, labels in as well: (n,) int32; (n,) float32
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """d² of each row to the centroid of its label, or of its other candidate (≥ 0) where that is nearer."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    label = tl.load(labels + rows, mask=in_rows, other=0)
    other = tl.load(others + rows, mask=in_rows, other=-1)
    factor = tl.load(scale + rows * scale_step, mask=in_rows, other=0.0)
    x_rows = x + rows * (stride * ALIGN)
    nearest = _squared(x_rows, factor, centroids, label, in_rows, n_columns * WIDTH, K, R, J)
    is_pair = other >= 0
    if tl.max(is_pair.to(tl.int32), axis=0) > 0:
        found = _squared(x_rows, factor, centroids, other, is_pair, n_columns * WIDTH, K, R, J)
        is_other = is_pair & ((found < nearest) | ((found == nearest) & (other < label)))
        nearest = tl.where(is_other, found, nearest)
        tl.store(labels + rows, other, mask=is_other)
    tl.store(squared + rows, nearest.to(tl.float32), mask=in_rows)


def scan(
    x: torch.Tensor,
    scale: torch.Tensor,
    scale_step: int,
    centroids: torch.Tensor,
    listed: torch.Tensor,
    n_listed: torch.Tensor,
    labels: torch.Tensor,
    others: torch.Tensor,
) -> None:
    """Sets the labels of listed rows to the nearest of all centroids, and their other candidate to −1.

    A few rows are shared by all programs, a slice of the centroids each. Parameters are those of ``_scan_kernel``.
    """
    n_rows, n_columns = x.shape
    align, width = alignment(x), column_width(n_columns)
    n_programs = programs(x.device, n_rows * triton.cdiv(len(centroids), EXACT_TILE.N))
    least = torch.empty(n_rows + n_programs, dtype=torch.float64, device=x.device)
    places = torch.empty(n_rows + n_programs, dtype=torch.int32, device=x.device)
    _scan_kernel[(n_programs,)](
        x, x.stride(0) // align, scale, scale_step, centroids, listed, n_listed, len(centroids), n_columns // width,
        least, places, ALIGN=align, WIDTH=width, N=EXACT_TILE.N, D=EXACT_TILE.D, **launch(EXACT_TILE.warps),
    )  # fmt: skip
    _least_kernel[(n_programs,)](
        least, places, listed, n_listed, len(centroids), labels, others,
        N=EXACT_TILE.N, R=EXACT_TILE.rows, **launch(EXACT_TILE.warps),
    )  # fmt: skip


def squared_distances(
    x: torch.Tensor,
    scale: torch.Tensor,
    scale_step: int,
    centroids: torch.Tensor,
    labels: torch.Tensor,
    others: torch.Tensor,
) -> torch.Tensor:
    """d² to the nearer of each row's candidates, shape (M,), float32; `labels` then hold it alone.

    Parameters are those of ``_squared_kernel``.
    """
    n_rows, n_columns = x.shape
    squared = torch.empty(n_rows, dtype=torch.float32, device=x.device)
    align, width, tile = alignment(x), column_width(n_columns), row_tile(n_columns)
    _squared_kernel[(triton.cdiv(n_rows, tile.R),)](
        x, x.stride(0) // align, scale, scale_step, centroids, others, n_rows, n_columns // width, labels, squared,
        ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
    )  # fmt: skip
    return squared
