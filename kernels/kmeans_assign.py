"""The nearest centroid of each row, exactly, without a matrix of N · K distances (steps 1 and 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch.nn.functional import pad

from ._configs import (
    CAREFUL_TILE,
    EXACT_TILE,
    FAST_TILE,
    REDUCE_TILE,
    ProductTile,
    alignment,
    by_library,
    capability,
    column_width,
    launch,
    row_tile,
    score_rows,
    stages,
)
from ._math import dot, load_exact, row_sum, tile_columns
from .halves import LOW_PART
from .parts import Weight, precision, prepare_weight

__all__ = ["Centroids", "nearest", "prepare_centroids"]

# d²(y, μ) = ‖y − μ‖² for rows y = scale · x. With m = μ − origin the nearest centroid has the largest
#
#   v_k = y · m_k − h_k,  h_k = origin · m_k + ½ ‖m_k‖²,  for d² = ‖y − origin‖² − 2 v_k
#
# First all v are computed from factors of 16 bits, by one kernel or by the library's products and a kernel that reduces
# them (`_configs.by_library`), and the largest and the second largest of a row are kept. They are wrong by no more than
# E = ‖y‖ A + B, where by Cauchy and Schwarz A = max_k (‖m_k − m̃_k‖ + (δ + γ) ‖m_k‖), for rounded centroids m̃, rows that
# were rounded by a share δ of their length, and sums that round by a share γ of their terms' absolute values. γ holds
# for the library too: its sums are float32 from the same instructions, and parts of a sum that it splits are shorter by
# more than it takes to join them. A row whose two differ by more than 2 E has its label. The others are computed again,
# from factors that keep float32's digits, and compared by an E that is that much smaller; what is then left, ties for
# the most part, by d² itself in float64. Lower indices win where values are equal.
#
# The lists of rows that go on are made, and their lengths read, on the device.

_RUN_TIME = ["n_rows", "n_centroids", "n_columns", "stride", "depth"]

# Rounding of float32, of bfloat16, and of products of three TF32 parts, as shares.
_FLOAT, _BFLOAT, _TF32X3 = 2.0**-24, 2.0**-8, 2.0**-19

# Lengths whose products may overflow float32: then no bound holds.
_TOO_LONG = 1e37


class Centroids(NamedTuple):
    """Centroids as the kernels take them."""

    exact: torch.Tensor
    """μ, shape (K, D), float32."""
    fast: Weight
    """m in one part of 16 bits; the bias is −h."""
    careful: Weight
    """m in parts that keep float32's digits."""
    bounds: torch.Tensor
    """A and B of the fast and of the careful product, shape (2, 2), float32; +inf where none holds."""
    by_library: bool
    """Whether the fast product is the library's."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _assign_kernel(
    x, stride, scale, lengths,  # rows (n, D') of any storage type; (n,) float32
    parts, depth, unit, bias,  # m: (PARTS, K, depth · D), zeros beyond; (K,) float32, see `linear.Weight`
    bounds,  # A and B, (2,) float32
    listed, n_listed,  # which rows, (n + 1,) int32, and how many, (1,)
    n_rows, n_centroids, n_columns,  # n, K, D'
    labels, is_open,  # out: (n,) int32; (n,) int8
    ALIGN: tl.constexpr,  # unit of the stride and of D'
    PARTS: tl.constexpr, LOW: tl.constexpr, ROUND: tl.constexpr, PRECISION: tl.constexpr,  # the product's factors
    WITH_SCALE: tl.constexpr, LISTED: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, D: tl.constexpr,  # the tile: M rows, N centroids, D columns at a time
):  # fmt: skip
    """Labels of the rows, all or those that are listed, and 1 in `is_open` where the bound does not settle them."""
    places = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    n = tl.load(n_listed) if LISTED else n_rows
    if tl.program_id(0).to(tl.int64) * M < n:
        in_rows = places < n
        rows = tl.load(listed + places, mask=in_rows, other=0).to(tl.int64) if LISTED else tl.minimum(places, n - 1)
        columns = tl.arange(0, D)
        x_rows = x + rows[:, None] * (stride * ALIGN)
        n_tiles = tl.cdiv(n_centroids, N)
        part_size = n_tiles.to(tl.int64) * N * (depth * D)
        if WITH_SCALE:
            factor = tl.load(scale + rows)
        best = tl.full((M,), -float("inf"), tl.float32)
        second = best
        label = tl.zeros((M,), tl.int32)
        for tile in range(0, n_tiles):
            centroids = tile * N + tl.arange(0, N)
            part = parts + centroids[:, None].to(tl.int64) * (depth * D)
            total = tl.zeros((M, N), tl.float32)
            low = tl.zeros((M, N), tl.float32)
            for start in range(0, depth * D, D):
                at = start + columns[None, :]
                values = tl.load(x_rows + at, mask=at < n_columns * ALIGN, other=0.0)
                if ROUND:
                    values = values.to(tl.bfloat16)
                total = dot(values, tl.trans(tl.load(part + at)), total, PRECISION)
                if PARTS == 2:
                    low = dot(values, tl.trans(tl.load(part + part_size + at)), low, PRECISION)
                if PARTS == 3:
                    total = dot(values, tl.trans(tl.load(part + part_size + at)), total, PRECISION)
                    total = dot(values, tl.trans(tl.load(part + 2 * part_size + at)), total, PRECISION)
            if PARTS == 2:
                total += low * LOW
            in_centroids = centroids < n_centroids
            total *= tl.load(unit + centroids, mask=in_centroids, other=0.0)[None, :]
            if WITH_SCALE:
                total *= factor[:, None]
            value = total + tl.load(bias + centroids, mask=in_centroids, other=-float("inf"))[None, :]
            top = tl.max(value, axis=1)
            first = tl.min(tl.where(value == top[:, None], centroids[None, :], 0x7FFFFFFF), axis=1)
            rest = tl.max(tl.where(centroids[None, :] == first[:, None], -float("inf"), value), axis=1)
            second = tl.maximum(tl.maximum(second, rest), tl.minimum(best, top))
            label = tl.where(top > best, first, label)
            best = tl.maximum(best, top)
        _store_labels(rows, in_rows, label, best, second, lengths, bounds, labels, is_open)


@triton.jit(do_not_specialize=_RUN_TIME)
def _reduce_kernel(
    scores, stride, scale, lengths,  # products (n, K') float32, as many columns as the stride; (n,) float32
    unit, bias,  # (K',) float32, −inf in the bias beyond the centroids
    bounds, n_rows,  # A and B, (2,) float32; n
    labels, is_open,  # out: (n,) int32; (n,) int8
    ALIGN: tl.constexpr, WITH_SCALE: tl.constexpr,  # unit of the stride
    M: tl.constexpr, N: tl.constexpr,  # the tile: M rows, N centroids
):  # fmt: skip
    """As `_assign_kernel`, from precomputed products in memory."""
    rows = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    in_rows = rows < n_rows
    if WITH_SCALE:
        factor = tl.load(scale + rows, mask=in_rows, other=0.0)[:, None]
    # Of every N-th centroid; only at the end threads look at each other's.
    best = tl.full((M, N), -float("inf"), tl.float32)
    second = best
    label = tl.zeros((M, N), tl.int32)
    for start in range(0, stride * ALIGN, N):
        centroids = start + tl.arange(0, N)
        inside = centroids < stride * ALIGN
        at = rows[:, None] * (stride * ALIGN) + centroids[None, :]
        value = tl.load(scores + at, mask=in_rows[:, None] & inside[None, :], other=0.0)
        value *= tl.load(unit + centroids, mask=inside, other=0.0)[None, :]
        if WITH_SCALE:
            value *= factor
        value += tl.load(bias + centroids, mask=inside, other=-float("inf"))[None, :]
        second = tl.maximum(second, tl.minimum(best, value))
        label = tl.where(value > best, centroids[None, :], label)
        best = tl.maximum(best, value)
    top = tl.max(best, axis=1)
    first = tl.min(tl.where(best == top[:, None], label, 0x7FFFFFFF), axis=1)
    rest = tl.max(tl.where((best == top[:, None]) & (label == first[:, None]), second, best), axis=1)
    _store_labels(rows, in_rows, first, top, rest, lengths, bounds, labels, is_open)


@triton.jit
def _store_labels(
    rows, in_rows, label, best, second,  # (M,): which rows, which of them exist, and what was found
    lengths, bounds,  # (n,) and (2,) float32
    labels, is_open,  # out: (n,) int32; (n,) int8
):  # fmt: skip
    error = tl.load(lengths + rows, mask=in_rows, other=0.0) * tl.load(bounds) + tl.load(bounds + 1)
    settled = best - second > 2.0 * error
    tl.store(labels + rows, label, mask=in_rows)
    tl.store(is_open + rows, tl.where(settled, 0, 1).to(tl.int8), mask=in_rows)


@triton.jit(do_not_specialize=_RUN_TIME)
def _assign_exact_kernel(
    x, stride, scale,  # rows (n, D') of any storage type; (n,) float32
    centroids, listed, n_listed,  # (K, D') float32; which rows, (n + 1,) int32, and how many, (1,)
    n_centroids, n_columns,  # K, D'
    labels,  # out: (n,) int32
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    WITH_SCALE: tl.constexpr,
    N: tl.constexpr, D: tl.constexpr,  # the tile: N centroids, D columns
):  # fmt: skip
    """One listed row: the least d² of all centroids."""
    if tl.program_id(0) < tl.load(n_listed):
        row = tl.load(listed + tl.program_id(0)).to(tl.int64)
        factor = tl.load(scale + row) if WITH_SCALE else 1.0
        best = tl.full((), float("inf"), tl.float64)
        label = tl.zeros((), tl.int32)
        for tile in range(0, tl.cdiv(n_centroids, N)):
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
            least = tl.min(squared, axis=0)
            first = tl.min(tl.where(squared == least, index, 0x7FFFFFFF), axis=0)
            label = tl.where(least < best, first, label)
            best = tl.minimum(best, least)
        tl.store(labels + row, label)


@triton.jit(do_not_specialize=_RUN_TIME)
def _squared_kernel(
    x, stride, scale,  # rows (n, D') of any storage type; (n,) float32
    centroids, labels,  # (K, D') float32; (n,) int32
    n_rows, n_columns,  # n, D'
    squared,  # out: (n,) float32
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    WITH_SCALE: tl.constexpr,
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    """d² of each row to the centroid of its label."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    label = tl.load(labels + rows, mask=in_rows, other=0).to(tl.int64)
    factor = tl.load(scale + rows, mask=in_rows, other=0.0)[None, :, None] if WITH_SCALE else 1.0
    total = tl.zeros((K, R, J), tl.float64)
    for start in range(0, n_columns * WIDTH, K * J):
        columns = start + tile_columns(K, J)
        mask = in_rows[None, :, None] & (columns < n_columns * WIDTH)
        y = load_exact(x + rows[None, :, None] * (stride * ALIGN) + columns, mask, factor)
        centroid = tl.load(centroids + label[None, :, None] * (n_columns * WIDTH) + columns, mask=mask, other=0.0)
        difference = tl.where(mask, y - centroid.to(tl.float64), 0.0)
        total += difference * difference
    tl.store(squared + rows, row_sum(total).to(tl.float32), mask=in_rows)


def prepare_centroids(centroids: torch.Tensor, origin: torch.Tensor, dtype: torch.dtype) -> Centroids:
    """Centroids for rows of a type.

    Parameters
    ----------
    centroids : Tensor, shape (K, D), float32
    origin : Tensor, shape (D,), float32
        Anything; near the rows' mean bounds are tightest.
    dtype : torch.dtype
        float32, float16 or bfloat16.
    """
    moved = centroids - origin
    wide = moved.double()
    lengths = wide.square().sum(dim=1).sqrt()
    h = wide @ origin.double() + 0.5 * lengths.square()
    bias = (-h).float()
    rounded = factor_type(dtype, is_fast=True)
    fast = prepare_weight(moved, bias, rounded, FAST_TILE[rounded], n_parts=1)
    careful = prepare_weight(moved, bias, dtype, CAREFUL_TILE[dtype])
    k, d = centroids.shape
    seen = fast.parts[0, :k, :d].double() * fast.unit.double()[:, None]
    lost = (wide - seen).square().sum(dim=1).sqrt()
    # m itself is the rounded difference of two float32 numbers.
    origin_lost = _FLOAT * lengths
    # A matrix instruction adds at least eight products at once and truncates what it has by then.
    sums = (d / 8.0 + 16.0) * 2.0 * _FLOAT
    of_rows = _BFLOAT if dtype == torch.float32 else 0.0
    of_parts = _TF32X3 if dtype == torch.float32 else 4.0 * _FLOAT
    most_h = 4.0 * _FLOAT * h.abs().amax()
    bounds = torch.stack([
        (lost + origin_lost + (of_rows + sums) * (lengths + lost)).amax(), most_h,
        (origin_lost + (of_parts + 3.0 * sums) * lengths).amax(), most_h,
    ])  # fmt: skip
    # Where it may overflow nothing is settled.
    bounds = torch.where(lengths.amax() < _TOO_LONG**0.5, bounds * (1.0 + 16.0 * _FLOAT), torch.inf)
    library = by_library(rounded, k, d, capability(centroids.device))
    return Centroids(centroids.contiguous(), fast, careful, bounds.float().view(2, 2), library)


def nearest(
    x: torch.Tensor, scale: torch.Tensor | None, lengths: torch.Tensor, centroids: Centroids
) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest centroid of each row, shape (M,), int32, and d² to it, float32; without host synchronisation.

    Parameters
    ----------
    x : Tensor, shape (M, D)
        Rows in a storage type, of any stride.
    scale : Tensor, shape (M,), float32, optional
        y = scale · x, rounded to float32; y = x where missing.
    lengths : Tensor, shape (M,), float32
        Upper bounds on ‖y‖.
    centroids : Centroids
        Prepared for the rows' type.
    """
    n_rows, n_columns = x.shape
    device = x.device
    labels = torch.empty(n_rows, dtype=torch.int32, device=device)
    squared = torch.empty(n_rows, dtype=torch.float32, device=device)
    if n_rows == 0:
        return labels, squared
    factor = lengths if scale is None else scale
    is_open = torch.zeros(n_rows, dtype=torch.int8, device=device)
    k = len(centroids.exact)
    if centroids.by_library:
        _assign_by_library(x, factor, lengths, centroids, labels, is_open, with_scale=scale is not None)
    else:
        _assign(x, factor, lengths, centroids, labels, is_open, None, with_scale=scale is not None)
    _assign(x, factor, lengths, centroids, labels, is_open, _listed(is_open), with_scale=scale is not None)
    listed, n_listed = _listed(is_open)
    align, width = alignment(x), column_width(n_columns)
    _assign_exact_kernel[(n_rows,)](
        x, x.stride(0) // align, factor, centroids.exact, listed, n_listed, k, n_columns // width, labels,
        ALIGN=align, WIDTH=width, WITH_SCALE=scale is not None, N=EXACT_TILE.N, D=EXACT_TILE.D,
        **launch(EXACT_TILE.warps),
    )  # fmt: skip
    rows = row_tile(n_columns)
    _squared_kernel[(triton.cdiv(n_rows, rows.R),)](
        x, x.stride(0) // align, factor, centroids.exact, labels, n_rows, n_columns // width, squared,
        ALIGN=align, WIDTH=width, WITH_SCALE=scale is not None, K=rows.K, R=rows.R, J=rows.J,
        **launch(rows.warps),
    )  # fmt: skip
    return labels, squared


def _assign(
    x: torch.Tensor,
    factor: torch.Tensor,
    lengths: torch.Tensor,
    centroids: Centroids,
    labels: torch.Tensor,
    is_open: torch.Tensor,
    some: tuple[torch.Tensor, torch.Tensor] | None,
    *,
    with_scale: bool,
) -> None:
    """Labels of all rows by the fast product, or of some by the careful one, and which rows they leave open."""
    is_fast = some is None
    listed, n_listed = some or (labels, labels)
    weight = centroids.fast if is_fast else centroids.careful
    align, n_parts = alignment(x), len(weight.parts)
    dtype = factor_type(x.dtype, is_fast=is_fast)
    tile = (FAST_TILE if is_fast else CAREFUL_TILE)[dtype]
    _assign_kernel[(triton.cdiv(len(x), tile.M),)](
        x, x.stride(0) // align, factor, lengths, weight.parts, weight.parts.shape[2] // tile.D, weight.unit,
        weight.bias, centroids.bounds[0 if is_fast else 1], listed, n_listed, len(x), len(centroids.exact),
        x.shape[1] // align, labels, is_open,
        ALIGN=align, PARTS=n_parts, LOW=LOW_PART, ROUND=dtype != x.dtype, PRECISION=precision(dtype),
        WITH_SCALE=with_scale, LISTED=not is_fast, M=tile.M, N=tile.N, D=tile.D, **launch(tile.warps),
        num_stages=stages(x.device, assign_stage_bytes(tile, x.dtype, dtype, n_parts)),
    )  # fmt: skip


def _assign_by_library(
    x: torch.Tensor,
    factor: torch.Tensor,
    lengths: torch.Tensor,
    centroids: Centroids,
    labels: torch.Tensor,
    is_open: torch.Tensor,
    *,
    with_scale: bool,
) -> None:
    """Labels of all rows by products of the library, some rows at a time, and which rows they leave open."""
    part = centroids.fast.parts[0, :, : x.shape[1]]
    beyond = (0, len(part) - len(centroids.exact))
    unit, bias = pad(centroids.fast.unit, beyond), pad(centroids.fast.bias, beyond, value=-torch.inf)
    step = score_rows(len(part))
    scores = torch.empty((min(step, len(x)), len(part)), dtype=torch.float32, device=x.device)
    for start in range(0, len(x), step):
        of = slice(start, start + step)
        rows = x[of].to(part.dtype)
        n_rows = len(rows)
        if x.device.type == "cpu":  # where PyTorch returns factors' types alone
            torch.mm(rows.float(), part.float().T, out=scores[:n_rows])
        else:
            torch.mm(rows, part.T, out_dtype=torch.float32, out=scores[:n_rows])
        _reduce_kernel[(triton.cdiv(n_rows, REDUCE_TILE.M),)](
            scores, len(part) // FAST_TILE[part.dtype].N, factor[of], lengths[of], unit, bias, centroids.bounds[0],
            n_rows, labels[of], is_open[of],
            ALIGN=FAST_TILE[part.dtype].N, WITH_SCALE=with_scale, M=REDUCE_TILE.M, N=REDUCE_TILE.N,
            **launch(REDUCE_TILE.warps),
        )  # fmt: skip


def factor_type(stored: torch.dtype, *, is_fast: bool) -> torch.dtype:
    """What enters the matrix units: the fast product of float32 rows rounds them on their way there."""
    return torch.bfloat16 if is_fast and stored == torch.float32 else stored


def assign_stage_bytes(tile: ProductTile, stored: torch.dtype, dtype: torch.dtype, n_parts: int) -> int:
    """Shared memory of what is loaded for one step of the product."""
    return (tile.M * stored.itemsize + n_parts * tile.N * dtype.itemsize) * tile.D


def _listed(is_open: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The open rows, ascending, and their number, (1,); without the host learning it."""
    upto = is_open.cumsum(dim=0, dtype=torch.int64)
    n_rows = len(is_open)
    listed = torch.empty(n_rows + 1, dtype=torch.int32, device=is_open.device)
    # All others write to a place behind the list.
    places = torch.where(is_open != 0, upto - 1, n_rows)
    listed.scatter_(0, places, torch.arange(n_rows, dtype=torch.int32, device=is_open.device))
    return listed, upto[-1:]
