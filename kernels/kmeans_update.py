"""The weighted sums of the rows of each cluster, deterministic and without atomics (steps 1 and 6)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ._configs import PLAN_BLOCK, UPDATE_TILE, alignment, column_width, launch
from ._math import load_exact

__all__ = ["Sums", "accumulate", "means"]

# sums_k = Σ w_i y_i,  mass_k = Σ w_i  over the rows y = scale · x of cluster k, in float64
#
# Rows are sorted by label, equal ones in their order, and those of a cluster fall into segments of a fixed length, by
# how many came before in all chunks. One program adds up some columns of a segment, row by row, and another the
# segments of a cluster, one by one. A segment that a chunk does not fill stays open for the next chunk: the sums do not
# depend on where chunks of rows end, and no program goes through more rows than a segment has.

_RUN_TIME = ["n_clusters", "n_columns", "n_segments", "stride"]


@dataclass
class Sums:
    """Sums of clusters so far, on the device."""

    closed: torch.Tensor
    """Sums over complete segments, shape (K, D), float64."""
    closed_mass: torch.Tensor
    """(K,), float64."""
    opened: torch.Tensor
    """Sums over the incomplete segment, shape (K, D), float64."""
    opened_mass: torch.Tensor
    """(K,), float64."""
    counts: torch.Tensor
    """Rows of each cluster, shape (K,), int64."""
    numbers: torch.Tensor
    """0 to K, int32."""
    n_rows: int = 0
    """Rows of all clusters."""

    @classmethod
    def empty(cls, n_clusters: int, n_columns: int, device: torch.device) -> Sums:
        """Sums over no rows."""
        sizes = [n_clusters * n_columns, n_clusters, n_clusters * n_columns, n_clusters, n_clusters]
        memory = torch.zeros(sum(sizes), dtype=torch.float64, device=device)  # whose bits are those of integers as well
        closed, closed_mass, opened, opened_mass, counts = memory.split(sizes)
        shape = (n_clusters, n_columns)
        numbers = torch.arange(n_clusters + 1, dtype=torch.int32, device=device)
        return cls(closed.view(shape), closed_mass, opened.view(shape), opened_mass, counts.view(torch.int64), numbers)

    def totals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The sums, shape (K, D), and the mass, shape (K,)."""
        return self.closed + self.opened, self.closed_mass + self.opened_mass


@triton.jit(do_not_specialize=_RUN_TIME)
def _plan_kernel(
    ends, n_clusters, n_segments,  # where each cluster begins in the order, (K + 1,) int64; room for segments
    counts,  # in and out: rows of each cluster so far, (K,) int64
    opened_rows, first,  # out: rows of the open segment, (K,) int64; segments of lower clusters, (K + 1,) int64
    clusters,  # out: of each segment, K where there is none, (S,) int64
    LENGTH: tl.constexpr, B: tl.constexpr,  # rows of a segment; clusters at a time
):  # fmt: skip
    """Deals out the segments; one program."""
    n_before = tl.full((), 0, tl.int64)
    for start in range(0, n_clusters, B):
        cluster = start + tl.arange(0, B)
        inside = cluster < n_clusters
        added = tl.load(ends + cluster + 1, mask=inside, other=0) - tl.load(ends + cluster, mask=inside, other=0)
        count = tl.load(counts + cluster, mask=inside, other=0)
        opened = count % LENGTH
        n = tl.where(added > 0, (opened + added + LENGTH - 1) // LENGTH, 0)
        at = n_before + tl.cumsum(n, axis=0) - n
        tl.store(first + cluster, at, mask=inside)
        tl.store(opened_rows + cluster, opened, mask=inside)
        tl.store(counts + cluster, count + added, mask=inside)
        most = tl.max(n, axis=0)
        for i in range(0, most):
            tl.store(clusters + at + i, cluster.to(tl.int64), mask=i < n)
        n_before += tl.sum(n, axis=0)
    tl.store(first + n_clusters, n_before)
    for start in range(n_before, n_segments, B):
        segment = start + tl.arange(0, B)
        tl.store(clusters + segment, segment * 0 + n_clusters, mask=segment < n_segments)


@triton.jit(do_not_specialize=_RUN_TIME)
def _segments_kernel(
    x, stride, scale, weights,  # rows (n, D') of any storage type; (n,) float32
    order, ends,  # rows by cluster, (n,) int64; where each cluster begins in it, (K + 1,) int64
    opened_rows, first, clusters,  # of `_plan_kernel`
    n_clusters, n_columns,  # K, D'
    opened, opened_mass,  # (K, D') and (K,) float64
    sums, mass,  # out: (S, D') and (S,) float64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    WITH_SCALE: tl.constexpr,
    D: tl.constexpr, AHEAD: tl.constexpr, LENGTH: tl.constexpr,  # columns at a time; rows at once, and of a segment
):  # fmt: skip
    """The sum of each segment that has a row in the chunk, what was there of it before included."""
    segment = tl.program_id(0).to(tl.int64)
    cluster = tl.load(clusters + segment)
    if cluster < n_clusters:
        columns = tl.program_id(1) * D + tl.arange(0, D)
        mask = columns < n_columns * WIDTH
        place = segment - tl.load(first + cluster)
        start = tl.load(ends + cluster) - tl.load(opened_rows + cluster) + place * LENGTH
        begin = tl.maximum(start, tl.load(ends + cluster))
        end = tl.minimum(start + LENGTH, tl.load(ends + cluster + 1))
        at = cluster * (n_columns * WIDTH) + columns
        total = tl.load(opened + at, mask=columns < tl.where(place == 0, n_columns * WIDTH, 0), other=0.0)
        weight = tl.load(opened_mass + cluster, mask=place == 0, other=0.0)
        for row_place in range(begin, end, AHEAD):
            # Loads of several rows are on their way at once; they join the sum one after the other.
            for i in tl.static_range(AHEAD):
                in_segment = row_place + i < end
                row = tl.load(order + row_place + i, mask=in_segment, other=0)
                w = tl.load(weights + row, mask=in_segment, other=0.0).to(tl.float64)
                factor = tl.load(scale + row, mask=in_segment, other=0.0) if WITH_SCALE else 1.0
                in_row = columns < tl.where(in_segment, n_columns * WIDTH, 0)
                y = load_exact(x + row * (stride * ALIGN) + columns, in_row, factor)
                total += w * y
                weight += w
        tl.store(sums + segment * (n_columns * WIDTH) + columns, total, mask=mask)
        tl.store(mass + segment, weight, mask=tl.program_id(1) == 0)


@triton.jit(do_not_specialize=_RUN_TIME)
def _fold_kernel(
    sums, mass,  # (S, D') and (S,) float64
    ends, opened_rows, first, n_columns,  # as in `_segments_kernel`
    closed, closed_mass, opened, opened_mass,  # in and out: (K, D') and (K,) float64
    WIDTH: tl.constexpr, D: tl.constexpr, LENGTH: tl.constexpr,  # unit of D'; as above
):  # fmt: skip
    """Adds the whole segments of a cluster to its sum; the last one, where it is not whole, is the open one now."""
    cluster = tl.program_id(0).to(tl.int64)
    begin = tl.load(first + cluster)
    end = tl.load(first + cluster + 1)
    if begin < end:
        columns = tl.program_id(1) * D + tl.arange(0, D)
        mask = columns < n_columns * WIDTH
        n_rows = tl.load(opened_rows + cluster) + tl.load(ends + cluster + 1) - tl.load(ends + cluster)
        n_whole = n_rows // LENGTH
        at = cluster * (n_columns * WIDTH) + columns
        total = tl.load(closed + at, mask=mask, other=0.0)
        weight = tl.load(closed_mass + cluster)
        for segment in range(begin, begin + n_whole):
            total += tl.load(sums + segment * (n_columns * WIDTH) + columns, mask=mask, other=0.0)
            weight += tl.load(mass + segment)
        is_open = begin + n_whole < end
        last = end - 1
        in_rest = columns < tl.where(is_open, n_columns * WIDTH, 0)
        rest = tl.load(sums + last * (n_columns * WIDTH) + columns, mask=in_rest, other=0.0)
        tl.store(closed + at, total, mask=mask)
        tl.store(opened + at, rest, mask=mask)
        of_cluster = tl.program_id(1) == 0
        tl.store(closed_mass + cluster, weight, mask=of_cluster)
        tl.store(opened_mass + cluster, tl.load(mass + last, mask=is_open, other=0.0), mask=of_cluster)


def accumulate(
    x: torch.Tensor, scale: torch.Tensor | None, weights: torch.Tensor, labels: torch.Tensor, sums: Sums
) -> None:
    """Adds the rows of a chunk to the sums of their clusters; without host synchronisation.

    Parameters
    ----------
    x : Tensor, shape (M, D)
        Rows in a storage type, of any stride.
    scale : Tensor, shape (M,), float32, optional
    weights : Tensor, shape (M,), float32
    labels : Tensor, shape (M,), int32
    sums : Sums
        Added to.
    """
    n_rows, n_columns = x.shape
    if n_rows == 0:
        return
    tile, n_clusters, device = UPDATE_TILE, len(sums.counts), x.device
    ordered, order = torch.sort(labels, stable=True)
    ends = torch.searchsorted(ordered, sums.numbers)
    # A segment for each cluster, and one more for each `length` rows of this chunk or of what is open.
    most = n_clusters + (n_rows + min(sums.n_rows, n_clusters * tile.length)) // tile.length
    opened_rows, first, of_segments = (ends.new_empty(n) for n in (n_clusters, n_clusters + 1, most))
    _plan_kernel[(1,)](
        ends, n_clusters, most, sums.counts, opened_rows, first, of_segments,
        LENGTH=tile.length, B=PLAN_BLOCK.block, **launch(PLAN_BLOCK.warps),
    )  # fmt: skip
    partial = torch.empty((most, n_columns), dtype=torch.float64, device=device)
    partial_mass = torch.empty(most, dtype=torch.float64, device=device)
    align, width = alignment(x), column_width(n_columns)
    n_stretches = triton.cdiv(n_columns, tile.D)
    _segments_kernel[(most, n_stretches)](
        x, x.stride(0) // align, weights if scale is None else scale, weights, order, ends, opened_rows, first,
        of_segments, n_clusters, n_columns // width, sums.opened, sums.opened_mass, partial, partial_mass,
        ALIGN=align, WIDTH=width, WITH_SCALE=scale is not None, D=tile.D, AHEAD=tile.ahead, LENGTH=tile.length,
        **launch(tile.warps),
    )  # fmt: skip
    _fold_kernel[(n_clusters, n_stretches)](
        partial, partial_mass, ends, opened_rows, first, n_columns // width, sums.closed, sums.closed_mass,
        sums.opened, sums.opened_mass, WIDTH=width, D=tile.D, LENGTH=tile.length, **launch(tile.warps),
    )  # fmt: skip
    sums.n_rows += n_rows


@triton.jit(do_not_specialize=_RUN_TIME)
def _means_kernel(
    closed, closed_mass, opened, opened_mass,  # (K, D) and (K,) float64
    centroids,  # (K, D) float32
    n_columns,
    means,  # out: (K, D) float32
    D: tl.constexpr,  # columns at a time
):  # fmt: skip
    cluster = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    mask = columns < n_columns
    at = cluster * n_columns + columns
    mass = tl.load(closed_mass + cluster) + tl.load(opened_mass + cluster)
    has_mass = mass > 0.0
    total = tl.load(closed + at, mask=mask, other=0.0) + tl.load(opened + at, mask=mask, other=0.0)
    mean = (total / tl.where(has_mass, mass, 1.0)).to(tl.float32)
    tl.store(means + at, tl.where(has_mass, mean, tl.load(centroids + at, mask=mask, other=0.0)), mask=mask)


def means(sums: Sums, centroids: torch.Tensor) -> torch.Tensor:
    """The mean of each cluster, or its centroid where its rows weigh nothing, shape (K, D), float32."""
    n_clusters, n_columns = centroids.shape
    found = torch.empty_like(centroids)
    _means_kernel[(n_clusters, triton.cdiv(n_columns, UPDATE_TILE.D))](
        sums.closed, sums.closed_mass, sums.opened, sums.opened_mass, centroids, n_columns, found,
        D=UPDATE_TILE.D, **launch(UPDATE_TILE.warps),
    )  # fmt: skip
    return found
