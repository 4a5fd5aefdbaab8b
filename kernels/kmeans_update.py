"""The weighted sums of the rows of each cluster, deterministic and without atomics (steps 1 and 6)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import UPDATE_TILE, alignment, column_width, launch
from ._math import load_exact

__all__ = ["accumulate"]

# sums_k += Σ w_i y_i,  mass_k += Σ w_i  over the rows y = scale · x of cluster k, in the order of the rows, in float64
#
# Rows are sorted by label, equal ones in their order, and a program adds up some columns of one cluster, row by row:
# the sums do not depend on where chunks of rows end.

_RUN_TIME = ["n_columns", "stride"]


@triton.jit(do_not_specialize=_RUN_TIME)
def _accumulate_kernel(
    x, stride, scale, weights, order, ends, n_columns, sums, mass,
    ALIGN: tl.constexpr, WIDTH: tl.constexpr, WITH_SCALE: tl.constexpr, D: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    cluster = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * D + tl.arange(0, D)
    mask = columns < n_columns * WIDTH
    begin = tl.load(ends + cluster)
    end = tl.load(ends + cluster + 1)
    at = cluster * (n_columns * WIDTH) + columns
    total = tl.load(sums + at, mask=mask, other=0.0)
    keeps_mass = tl.program_id(1) == 0
    weight = tl.load(mass + cluster, mask=keeps_mass, other=0.0)
    for first in range(begin, end, AHEAD):
        # Loads of several rows are on their way at once; they join the sum one after the other.
        for i in tl.static_range(AHEAD):
            in_cluster = first + i < end
            row = tl.load(order + first + i, mask=in_cluster, other=0)
            w = tl.load(weights + row, mask=in_cluster, other=0.0).to(tl.float64)
            factor = tl.load(scale + row, mask=in_cluster, other=0.0) if WITH_SCALE else 1.0
            in_row = columns < tl.where(in_cluster, n_columns * WIDTH, 0)
            y = load_exact(x + row * (stride * ALIGN) + columns, in_row, factor)
            total += w * y
            weight += w
    tl.store(sums + at, total, mask=mask)
    tl.store(mass + cluster, weight, mask=keeps_mass)


def accumulate(
    x: torch.Tensor,
    scale: torch.Tensor | None,
    weights: torch.Tensor,
    labels: torch.Tensor,
    sums: torch.Tensor,
    mass: torch.Tensor,
) -> None:
    """Adds the rows of a chunk to the sums of their clusters; the host waits for nothing.

    Parameters
    ----------
    x : Tensor, shape (M, D)
        Rows in a storage type, of any stride.
    scale : Tensor, shape (M,), float32, optional
    weights : Tensor, shape (M,), float32
    labels : Tensor, shape (M,), int32
    sums, mass : Tensor, shape (K, D) and (K,), float64
        Added to.
    """
    n_rows, n_columns = x.shape
    if n_rows == 0:
        return
    ordered, order = torch.sort(labels, stable=True)
    clusters = torch.arange(len(mass) + 1, dtype=labels.dtype, device=labels.device)
    ends = torch.searchsorted(ordered, clusters)
    align, width = alignment(x), column_width(n_columns)
    _accumulate_kernel[(len(mass), triton.cdiv(n_columns, UPDATE_TILE.D))](
        x, x.stride(0) // align, weights if scale is None else scale, weights, order, ends, n_columns // width,
        sums, mass,
        ALIGN=align, WIDTH=width, WITH_SCALE=scale is not None, D=UPDATE_TILE.D, AHEAD=UPDATE_TILE.ahead,
        **launch(UPDATE_TILE.warps),
    )  # fmt: skip
