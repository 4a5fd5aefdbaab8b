"""The weighted sums of the rows of each cluster, the same in any order (steps 1 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import PLAN_BLOCK, UPDATE_TILE, alignment, column_width, launch
from ._math import load_exact

__all__ = ["Sums", "Units", "accumulate", "means"]

# sums_k = Σ w_i y_i,  mass_k = Σ w_i  over the rows y = scale · x of cluster k, in fixed point
#
# A term, which float64 holds exactly, joins the first limb as a whole number of units; what rounding leaves joins the
# next one in units that are smaller. Whole numbers add up to the same in any order, so that no sum depends on where
# chunks of rows end, nor on which program is done first. Rows are sorted by label and those of a cluster fall into
# segments of a fixed length: no program goes through more rows than a segment has.

_RUN_TIME = ["n_clusters", "n_columns", "n_segments", "stride", "n_limbs", "n_mass_limbs"]

# 1.5 · 2^52, and its bits: adding it to a number of at most 2^51 rounds that to a whole one, and leaves this in the low
# bits.
_SHIFTER = tl.constexpr(6755399441055744.0)
_SHIFTER_BITS = tl.constexpr(0x4338000000000000)


class Units(NamedTuple):
    """How sums are formed. Terms stay below 2^51 units and sums below 2^62."""

    powers: torch.Tensor
    """Units of the first limbs in one, of sums and of mass; units of each next limb in one: powers of two, float64."""
    n_limbs: int
    n_mass_limbs: int

    @classmethod
    def of(
        cls, device: torch.device, exponent: int, mass_exponent: int, step: int, *, n_limbs: int, n_mass_limbs: int
    ) -> Units:
        """Units of 2^−exponent in the first limb, 2^step times as small in each next one."""
        powers = torch.tensor([2.0**exponent, 2.0**mass_exponent, 2.0**step], dtype=torch.float64)
        return cls(powers.to(device), n_limbs, n_mass_limbs)


@dataclass
class Sums:
    """Sums of clusters so far, on the device."""

    found: torch.Tensor
    """Both that follow, one behind the other."""
    sums: torch.Tensor
    """Limbs, shape (limbs, K, D), int64."""
    mass: torch.Tensor
    """(limbs, K), int64."""
    numbers: torch.Tensor
    """0 to K, int32."""
    units: Units

    @classmethod
    def empty(cls, n_clusters: int, n_columns: int, units: Units) -> Sums:
        """Sums over no rows."""
        device = units.powers.device
        sizes = [units.n_limbs * n_clusters * n_columns, units.n_mass_limbs * n_clusters]
        found = torch.zeros(sum(sizes), dtype=torch.int64, device=device)
        sums, mass = found.split(sizes)
        numbers = torch.arange(n_clusters + 1, dtype=torch.int32, device=device)
        shape = (units.n_limbs, n_clusters, n_columns)
        return cls(found, sums.view(shape), mass.view(units.n_mass_limbs, n_clusters), numbers, units)

    def totals(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The sums, shape (K, D), and the mass, shape (K,), float64."""
        of_sums, of_mass, step = self.units.powers
        return _value(self.sums, step) / of_sums, _value(self.mass, step) / of_mass


def _value(limbs: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
    value = limbs[-1].double()
    for limb in limbs[:-1].flip(0):
        value = value / step + limb
    return value


@triton.jit(do_not_specialize=_RUN_TIME)
def _plan_kernel(
    ends, n_clusters, n_segments,  # where each cluster begins in the order, (K + 1,) int64; room for segments
    first,  # out: segments of lower clusters, (K,) int64
    clusters,  # out: of each segment, K where there is none, (S,) int64
    LENGTH: tl.constexpr, B: tl.constexpr,  # rows of a segment; clusters at a time
):  # fmt: skip
    """Deals out the segments; one program."""
    n_before = tl.full((), 0, tl.int64)
    for start in range(0, n_clusters, B):
        cluster = start + tl.arange(0, B)
        inside = cluster < n_clusters
        n_rows = tl.load(ends + cluster + 1, mask=inside, other=0) - tl.load(ends + cluster, mask=inside, other=0)
        n = (n_rows + LENGTH - 1) // LENGTH
        at = n_before + tl.cumsum(n, axis=0) - n
        tl.store(first + cluster, at, mask=inside)
        most = tl.max(n, axis=0)
        for i in range(0, most):
            tl.store(clusters + at + i, cluster.to(tl.int64), mask=i < n)
        n_before += tl.sum(n, axis=0)
    for start in range(n_before, n_segments, B):
        segment = start + tl.arange(0, B)
        tl.store(clusters + segment, segment * 0 + n_clusters, mask=segment < n_segments)


@triton.jit
def _in_limb(term, limb, step):
    """The whole number of units that a term, in units of the first limb, has in a limb."""
    shifted = term + _SHIFTER
    for _ in range(0, limb):
        term = (term - (shifted - _SHIFTER)) * step
        shifted = term + _SHIFTER
    return shifted.to(tl.int64, bitcast=True) - _SHIFTER_BITS


@triton.jit(do_not_specialize=_RUN_TIME)
def _segments_kernel(
    x, stride, scale, weights,  # rows (n, D') of any storage type; (n,) float32
    order, ends,  # rows by cluster, (n,) int64; where each cluster begins in it, (K + 1,) int64
    first, clusters,  # of `_plan_kernel`
    n_clusters, n_columns,  # K, D'
    powers, n_limbs, n_mass_limbs,  # of `Units`
    sums, mass,  # in and out: (limbs, K, D') and (limbs, K) int64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    WITH_SCALE: tl.constexpr,
    D: tl.constexpr, AHEAD: tl.constexpr, LENGTH: tl.constexpr,  # columns at a time; rows at once, and of a segment
):  # fmt: skip
    """Adds the rows of a segment to one limb of their cluster's sum."""
    segment = tl.program_id(0).to(tl.int64)
    limb = tl.program_id(2)
    cluster = tl.load(clusters + segment)
    if cluster < n_clusters:
        columns = tl.program_id(1) * D + tl.arange(0, D)
        begin = tl.load(ends + cluster) + (segment - tl.load(first + cluster)) * LENGTH
        end = tl.minimum(begin + LENGTH, tl.load(ends + cluster + 1))
        of_sums = tl.load(powers)
        of_mass = tl.load(powers + 1)
        step = tl.load(powers + 2)
        total = tl.zeros((D,), tl.int64)
        weight = tl.full((), 0, tl.int64)
        for row_place in range(begin, end, AHEAD):
            # Loads of several rows are on their way at once.
            for i in tl.static_range(AHEAD):
                in_segment = row_place + i < end
                row = tl.load(order + row_place + i, mask=in_segment, other=0)
                w = tl.load(weights + row, mask=in_segment, other=0.0).to(tl.float64)
                factor = tl.load(scale + row, mask=in_segment, other=0.0) if WITH_SCALE else 1.0
                in_row = columns < tl.where(in_segment, n_columns * WIDTH, 0)
                y = load_exact(x + row * (stride * ALIGN) + columns, in_row, factor)
                total += _in_limb((w * of_sums) * y, limb, step)
                weight += _in_limb(w * of_mass, limb, step)
        # No order is needed: integers.
        at = (limb * n_clusters.to(tl.int64) + cluster) * (n_columns * WIDTH) + columns
        in_sum = columns < tl.where(limb < n_limbs, n_columns * WIDTH, 0)
        tl.atomic_add(sums + at, total, mask=in_sum, sem="relaxed")
        of_cluster = (tl.program_id(1) == 0) & (limb < n_mass_limbs)
        tl.atomic_add(mass + limb * n_clusters + cluster, weight, mask=of_cluster, sem="relaxed")


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
    tile, units, n_clusters = UPDATE_TILE, sums.units, sums.mass.shape[1]
    ordered, order = torch.sort(labels)
    ends = torch.searchsorted(ordered, sums.numbers)
    # A segment for each cluster, and one more for each `length` rows.
    most = n_clusters + n_rows // tile.length
    first, of_segments = ends.new_empty(n_clusters), ends.new_empty(most)
    _plan_kernel[(1,)](
        ends, n_clusters, most, first, of_segments, LENGTH=tile.length, B=PLAN_BLOCK.block, **launch(PLAN_BLOCK.warps)
    )
    align, width = alignment(x), column_width(n_columns)
    grid = (most, triton.cdiv(n_columns, tile.D), max(units.n_limbs, units.n_mass_limbs))
    _segments_kernel[grid](
        x, x.stride(0) // align, weights if scale is None else scale, weights, order, ends, first, of_segments,
        n_clusters, n_columns // width, units.powers, units.n_limbs, units.n_mass_limbs, sums.sums, sums.mass,
        ALIGN=align, WIDTH=width, WITH_SCALE=scale is not None, D=tile.D, AHEAD=tile.ahead, LENGTH=tile.length,
        **launch(tile.warps),
    )  # fmt: skip


@triton.jit(do_not_specialize=_RUN_TIME)
def _means_kernel(
    sums, mass,  # (limbs, K, D) and (limbs, K) int64
    powers, n_limbs, n_mass_limbs,  # of `Units`
    centroids,  # (K, D) float32
    n_clusters, n_columns,
    means,  # out: (K, D) float32
    D: tl.constexpr,  # columns at a time
):  # fmt: skip
    cluster = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    mask = columns < n_columns
    at = cluster * n_columns + columns
    step = tl.load(powers + 2)
    weight = tl.full((), 0.0, tl.float64)
    total = tl.zeros((D,), tl.float64)
    for above in range(0, n_mass_limbs):
        limb = n_mass_limbs - 1 - above
        weight = weight / step + tl.load(mass + limb * n_clusters + cluster).to(tl.float64)
    for above in range(0, n_limbs):
        limb = (n_limbs - 1 - above).to(tl.int64)
        total = total / step + tl.load(sums + limb * n_clusters * n_columns + at, mask=mask, other=0).to(tl.float64)
    has_mass = weight > 0.0
    total = total / tl.load(powers)
    weight = weight / tl.load(powers + 1)
    mean = (total / tl.where(has_mass, weight, 1.0)).to(tl.float32)
    tl.store(means + at, tl.where(has_mass, mean, tl.load(centroids + at, mask=mask, other=0.0)), mask=mask)


def means(sums: Sums, centroids: torch.Tensor) -> torch.Tensor:
    """The mean of each cluster, or its centroid where its rows weigh nothing, shape (K, D), float32."""
    n_clusters, n_columns = centroids.shape
    found, units = torch.empty_like(centroids), sums.units
    _means_kernel[(n_clusters, triton.cdiv(n_columns, UPDATE_TILE.D))](
        sums.sums, sums.mass, units.powers, units.n_limbs, units.n_mass_limbs, centroids, n_clusters, n_columns, found,
        D=UPDATE_TILE.D, **launch(UPDATE_TILE.warps),
    )  # fmt: skip
    return found
