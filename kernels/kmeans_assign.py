"""The nearest centroid of each row, exactly, without a matrix of N · K distances (steps 1 and 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import (
    ProductTile,
    alignment,
    capability,
    careful_tile,
    fast_tile,
    halves_rows,
    launch,
    stages,
)
from ._math import dot, two_best
from .halves import LENGTH_EXPONENT, LOW_PART, MOST_EXPONENT, prepare_halves
from .kmeans_centroids import STREAMS, Centroids, prepare_centroids
from .kmeans_exact import scan, squared_distances

__all__ = ["Assignment", "Centroids", "nearest", "prepare_centroids"]

# d²(y, μ) = ‖y − μ‖² for rows y = scale · x. With m = μ − origin the nearest centroid has the largest
#
#   v_k = y · m_k − h_k,  h_k = origin · m_k + ½ ‖m_k‖² − c,  for d² = ‖y − origin‖² − 2 v_k + 2 c
#
# where c makes the largest |h| small. All v are computed from one part of float16 (`halves`) of rows and centroids, and
# are wrong by no more than E = ‖y‖ A + scale · lost C + B (`kmeans_centroids`). A row whose best and second differ by
# more than 2 E has its label; one whose best and third do has two candidates, which their d² in float64 settle. The
# others are computed again from two parts, which keep float32's digits, with an E that is some 60 times smaller; what
# is then left, ties of three for the most part, is settled by the d² of all centroids. Of equals the lower index wins.
#
# In units of factor = scale · unit_i · unit a score is a sum that a matrix unit forms by itself, from −h / factor on.
# Its lowest bits make room for the number of its column among those of its stream: a thread holds every eighth column
# of a row, twice, and keeps the best two of each of these streams, so that no thread waits for another before the end.
# If both candidates are of one stream, its third is unknown, and so is taken for as good as the second.
#
# The lists of rows that go on are made, and their lengths read, on the device. Their order is that in which programs
# end; no result depends on it.

_RUN_TIME = ["n_rows", "n_tiles", "n_columns", "n_centroids", "stride", "depth", "first_row", "scale_step", "keep"]

# What is padding scores −huge, which is to be below 2^120 in any unit, and beyond 2^30, four times the largest product.
_LEAST_NORMAL = tl.constexpr(2.0**-126)
_MOST = tl.constexpr(2.0**120)
_PADDING = tl.constexpr(2.0**30)


class Assignment(NamedTuple):
    """What :func:`nearest` finds."""

    labels: torch.Tensor
    """(M,) int32."""
    squared: torch.Tensor
    """(M,) float32, d² to the label's centroid."""
    n_open: torch.Tensor
    """(2,) int64: how many rows the fast product left to the careful one, and that to the distances themselves."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _assign_kernel(
    x, unit, lost,  # rows, see `halves.Halves`: one part (n, depth · D)
    scale, scale_step, lengths,  # (n,) float32, or (1,) and a step of 0; (n,) float32
    parts, bias, limits,  # see `Centroids`
    n_rows, n_centroids, n_tiles, depth,  # n, K; K' in N and D' in D
    first_row, keep,  # the number of row 0; −N / 8
    labels, others,  # out: (n,) int32, see `_settle`
    listed, n_listed,  # out: which rows are open, int32, and how many, (1,) int64
    M: tl.constexpr, N: tl.constexpr, D: tl.constexpr,  # the tile: M rows, N centroids, D columns at a time
):  # fmt: skip
    """Labels of all rows, or two candidates, or a place in the list of those that stay open."""
    places = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    in_rows = places < n_rows
    rows = tl.minimum(places, n_rows - 1)
    columns, centroids = tl.arange(0, D), tl.arange(0, N)
    row_factor = tl.load(scale + rows * scale_step) * tl.load(unit + rows)
    factor = row_factor * tl.load(limits + 3)
    inverse = 1.0 / factor
    x_rows = x + rows[:, None] * (depth * D) + columns[None, :]
    part = parts + centroids[:, None].to(tl.int64) * (depth * D) + columns[None, :]
    best = tl.full((M, STREAMS), -float("inf"), tl.float32)
    second = best
    at = tl.zeros((M, STREAMS), tl.int32)
    other_at = at
    # One loop over the steps of all tiles, so that the next tile's factors are on their way while this one's scores are
    # looked at, and so are its biases.
    total = tl.load(bias + centroids)[None, :] * inverse[:, None]
    ahead = tl.load(bias + tl.minimum(1, n_tiles - 1) * N + centroids)
    tile = 0
    step = 0
    for _ in range(0, n_tiles * depth):
        row = tl.load(x_rows + step * D)
        centroid = tl.load(part + (tile.to(tl.int64) * N * depth + step) * D)
        total = dot(row, tl.trans(centroid), total)
        step += 1
        if step == depth:
            best, second, at, other_at = _with_tile(total, keep, tile, best, second, at, other_at, M, N)
            total = ahead[None, :] * inverse[:, None]
            step = 0
            tile += 1
            ahead = tl.load(bias + tl.minimum(tile + 1, n_tiles - 1) * N + centroids)
    of_scale = tl.load(scale + rows * scale_step)
    error = tl.load(lengths + rows) * tl.load(limits) + of_scale * tl.load(lost + rows) * tl.load(limits + 1)
    error = (error + tl.load(limits + 2)) * inverse
    is_sure = _is_sure(row_factor, factor, inverse, limits)
    _settle(
        best, second, at, other_at, error, is_sure, rows, in_rows, first_row, n_centroids,
        labels, others, listed, n_listed, N,
    )  # fmt: skip


@triton.jit(do_not_specialize=_RUN_TIME)
def _assign_careful_kernel(
    x, stride, scale, scale_step, lengths,  # rows (n, D') of any storage type; as above
    parts, bias, limits,  # see `Centroids`
    open_rows, n_open,  # which rows, int32, and how many, (1,) int64
    n_columns, n_centroids, n_tiles, depth, keep,  # D'; as above
    labels, others, listed, n_listed,  # out: as above
    ALIGN: tl.constexpr,  # unit of the stride and of D'
    ROW_PARTS: tl.constexpr, LOW: tl.constexpr,  # how many parts a row has, and the unit of the second
    M: tl.constexpr, N: tl.constexpr, D: tl.constexpr,  # the tile: M rows, N centroids, D columns at a time
):  # fmt: skip
    """As `_assign_kernel`, for listed rows, whose parts are made on the way."""
    places = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    n = tl.load(n_open)
    if tl.program_id(0).to(tl.int64) * M < n:
        in_rows = places < n
        rows = tl.load(open_rows + places, mask=in_rows, other=0).to(tl.int64)
        columns, centroids = tl.arange(0, D), tl.arange(0, N)
        of_scale = tl.load(scale + rows * scale_step)
        length = tl.load(lengths + rows)
        one, inverse_unit = _unit(length / of_scale)
        row_factor = of_scale * one
        factor = row_factor * tl.load(limits + 3)
        x_rows = x + rows[:, None] * (stride * ALIGN)
        part_size = n_tiles.to(tl.int64) * N * (depth * D)
        best = tl.full((M, STREAMS), -float("inf"), tl.float32)
        second = best
        at = tl.zeros((M, STREAMS), tl.int32)
        other_at = at
        for tile in range(0, n_tiles):
            part = parts + (tile * N + centroids)[:, None].to(tl.int64) * (depth * D)
            value = tl.zeros((M, N), tl.float32) + tl.load(bias + tile * N + centroids)[None, :]
            low = tl.zeros((M, N), tl.float32)
            for start in range(0, depth * D, D):
                of_columns = start + columns[None, :]
                row = tl.load(x_rows + of_columns, mask=of_columns < n_columns * ALIGN, other=0.0).to(tl.float32)
                row *= inverse_unit[:, None]
                high = row.to(tl.float16)
                centroid = tl.trans(tl.load(part + of_columns))
                # A sum of its own for each step: what a matrix unit cuts off is a share of what it has added up so far.
                value += dot(high, centroid, tl.zeros((M, N), tl.float32)) * factor[:, None]
                low = dot(high, tl.trans(tl.load(part + part_size + of_columns)), low)
                if ROW_PARTS == 2:
                    rest = (row - high.to(tl.float32)) * (1.0 / LOW)
                    low = dot(rest.to(tl.float16), centroid, low)
            value += low * (factor * LOW)[:, None]
            best, second, at, other_at = _with_tile(value, keep, tile, best, second, at, other_at, M, N)
        error = length * tl.load(limits) + tl.load(limits + 2)
        is_sure = _is_sure(row_factor, factor, 1.0 / factor, limits)
        _settle(
            best, second, at, other_at, error, is_sure, rows, in_rows, 0, n_centroids,
            labels, others, listed, n_listed, N,
        )  # fmt: skip


@triton.jit
def _unit(length):
    """The power of two that brings a row of this length, or a shorter one, below 2^14, and its reciprocal."""
    exponent = ((length.to(tl.int32, bitcast=True) >> 23) & 0xFF) - (127 + LENGTH_EXPONENT)
    exponent = tl.where(length == 0.0, 0, tl.minimum(tl.maximum(exponent, -MOST_EXPONENT), MOST_EXPONENT))
    return (
        ((127 + exponent) << 23).to(tl.float32, bitcast=True),
        ((127 - exponent) << 23).to(tl.float32, bitcast=True),
    )


@triton.jit
def _with_tile(value, keep, tile, best, second, at, other_at, M: tl.constexpr, N: tl.constexpr):
    """The best two of each stream, and the tiles that they are of, with a tile's scores (M, N).

    `keep` is −N / 8, an argument so that one instruction clears the lowest bits and sets them.
    """
    number = (tl.arange(0, N) // STREAMS)[None, :]
    packed = ((value.to(tl.int32, bitcast=True) & keep) | number).to(tl.float32, bitcast=True)
    top, next_top = two_best(packed, M, N, STREAMS)
    is_new = top > best
    loser = tl.minimum(best, top)
    runner_up = tl.maximum(second, next_top)
    at_runner_up = tl.where(next_top > second, tile, other_at)
    other_at = tl.where(loser >= runner_up, tl.where(is_new, at, tile), at_runner_up)
    return tl.maximum(best, top), tl.maximum(loser, runner_up), tl.where(is_new, tile, at), other_at


@triton.jit
def _is_sure(row_factor, factor, inverse, limits):
    """Whether a row's factors are normal numbers and what is padding scores least."""
    huge = tl.load(limits + 4)
    is_normal = (row_factor >= _LEAST_NORMAL) & (factor >= _LEAST_NORMAL)
    return is_normal & (huge * inverse <= _MOST) & (factor * _PADDING <= huge)


@triton.jit
def _settle(
    best, second, at, other_at,  # (M, 8): the best two scores of each stream, and the tiles that they are of
    error, is_sure,  # (M,): the bound in units of the scores, and whether it holds
    rows, in_rows, first_row,  # (M,): which rows, and which of them exist; the number of row 0
    n_centroids,
    labels, others,  # out: the label and −1, or the two candidates, or anything and −1 of open rows
    listed, n_listed,  # out: the open rows, int32, and how many, (1,) int64
    N: tl.constexpr,
):  # fmt: skip
    stream = tl.arange(0, STREAMS)[None, :]
    bits: tl.constexpr = N // STREAMS - 1
    index = at * N + (best.to(tl.int32, bitcast=True) & bits) * STREAMS + stream
    other_index = other_at * N + (second.to(tl.int32, bitcast=True) & bits) * STREAMS + stream
    top = tl.max(best, axis=1)
    label = tl.min(tl.where(best == top[:, None], index, 0x7FFFFFFF), axis=1)
    is_taken = index == label[:, None]
    left, index = tl.where(is_taken, second, best), tl.where(is_taken, other_index, index)
    runner_up = tl.max(left, axis=1)
    other = tl.min(tl.where(left == runner_up[:, None], index, 0x7FFFFFFF), axis=1)
    # Nothing that is left of a stream is better than its second.
    third = tl.max(tl.where(index == other[:, None], second, left), axis=1)
    is_settled = is_sure & (top - runner_up > 2.0 * error)
    is_pair = is_sure & (top - third > 2.0 * error) & ~is_settled & (other < n_centroids)
    tl.store(labels + rows, tl.minimum(label, n_centroids - 1), mask=in_rows)
    tl.store(others + rows, tl.where(is_pair, other, -1), mask=in_rows)
    is_open = (in_rows & ~is_settled & ~is_pair).to(tl.int32)
    place = tl.atomic_add(n_listed, tl.sum(is_open, axis=0).to(tl.int64), sem="relaxed")
    tl.store(listed + place + tl.cumsum(is_open, axis=0) - 1, (first_row + rows).to(tl.int32), mask=is_open != 0)


def nearest(x: torch.Tensor, scale: torch.Tensor | None, lengths: torch.Tensor, centroids: Centroids) -> Assignment:
    """The nearest centroid of each row, and d² to it; without host synchronisation.

    Parameters
    ----------
    x : Tensor, shape (M, D)
        Rows in a storage type, of any stride.
    scale : Tensor, shape (M,), float32, optional
        y = scale · x, rounded to float32; y = x where missing.
    lengths : Tensor, shape (M,), float32
        Upper bounds on ‖y‖.
    centroids : Centroids
    """
    n_rows, n_columns = x.shape
    labels = torch.empty(n_rows, dtype=torch.int32, device=x.device)
    others, open_rows, still_open = torch.empty((3, _rounded_up(n_rows, 4)), dtype=torch.int32, device=x.device)
    n_open = torch.zeros(2, dtype=torch.int64, device=x.device)
    if n_rows == 0:
        return Assignment(labels, torch.empty(0, dtype=torch.float32, device=x.device), n_open)
    factor, scale_step = (torch.ones(1, device=x.device), 0) if scale is None else (scale, 1)
    step = halves_rows(x.device, n_columns)
    for start in range(0, n_rows, step):
        part = slice(start, min(start + step, n_rows))
        _assign(
            x[part], factor[part] if scale_step else factor, scale_step, lengths[part], centroids, start,
            labels[part], others[part], open_rows, n_open[:1],
        )  # fmt: skip
    tile, align, k = careful_tile(capability(x.device)), alignment(x), len(centroids.exact)
    _assign_careful_kernel[(triton.cdiv(n_rows, tile.M),)](
        x, x.stride(0) // align, factor, scale_step, lengths, centroids.parts, centroids.bias, centroids.limits[1],
        open_rows, n_open[:1], n_columns // align, k, len(centroids.bias) // tile.N,
        centroids.parts.shape[2] // tile.D, -(tile.N // STREAMS.value), labels, others, still_open, n_open[1:],
        ALIGN=align, ROW_PARTS=row_parts(x.dtype), LOW=LOW_PART, M=tile.M, N=tile.N, D=tile.D,
        num_stages=stages(x.device, careful_stage_bytes(tile, x.dtype)), **launch(tile.warps),
    )  # fmt: skip
    scan(x, factor, scale_step, centroids.exact, still_open, n_open[1:], labels, others)
    return Assignment(labels, squared_distances(x, factor, scale_step, centroids.exact, labels, others), n_open)


def _assign(
    x: torch.Tensor,
    scale: torch.Tensor,
    scale_step: int,
    lengths: torch.Tensor,
    centroids: Centroids,
    first_row: int,
    labels: torch.Tensor,
    others: torch.Tensor,
    listed: torch.Tensor,
    n_listed: torch.Tensor,
) -> None:
    """The fast product of some rows, whose halves live as long as this call."""
    rows, tile = prepare_halves(x, 1), fast_tile(capability(x.device))
    _assign_kernel[(triton.cdiv(len(x), tile.M),)](
        rows.parts, rows.unit, rows.lost, scale, scale_step, lengths, centroids.parts, centroids.bias,
        centroids.limits[0], len(x), len(centroids.exact), len(centroids.bias) // tile.N,
        centroids.parts.shape[2] // tile.D, first_row, -(tile.N // STREAMS.value), labels, others, listed, n_listed,
        M=tile.M, N=tile.N, D=tile.D, num_stages=stages(x.device, fast_stage_bytes(tile)), **launch(tile.warps),
    )  # fmt: skip


def row_parts(stored: torch.dtype) -> int:
    """Parts of float16 that keep the digits of rows."""
    return 2 if stored == torch.float32 else 1


def fast_stage_bytes(tile: ProductTile) -> int:
    """Shared memory of what is loaded for one step of the fast product."""
    return (tile.M + tile.N) * tile.D * 2


def careful_stage_bytes(tile: ProductTile, stored: torch.dtype) -> int:
    """Shared memory of what is loaded for one step of the careful product."""
    return (tile.M * stored.itemsize + 2 * tile.N * 2) * tile.D


def _rounded_up(n: int, step: int) -> int:
    return triton.cdiv(n, step) * step
