"""Products of rows with a matrix, and lengths of rows (steps 1 and 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import LINEAR_TILE, ProductTile, alignment, column_width, launch, row_tile, stages
from ._math import dot, row_sum, tile_columns
from .halves import HALF_BITS, LOW_PART

__all__ = ["Weight", "linear", "part_count", "precision", "prepare_weight", "row_lengths", "stage_bytes"]

# out_ic = scale_i · unit_c · Σ_d x_id · (W1_cd + low · W2_cd + W3_cd) + b_c, and ‖x_i‖ = √ Σ_d x_id²
#
# Rows of 16 bits go into the matrix units as they are. The float32 weights go there in parts of the same type that add
# up to them, so that only the sums round, in float32: three of bfloat16 (3 · 8 bits), or two of float16 (2 · 11 bits),
# the second times 2^11, of weights that a power of two for each class has brought into float16's range. float32 rows
# are multiplied as three products of TF32 parts, whose error is near that of float32.

_RUN_TIME = ["n_rows", "n_classes", "n_columns", "stride", "depth"]
_HALF_EXPONENT = 14


class Weight(NamedTuple):
    """A matrix (C, D) as the kernel takes it."""

    parts: torch.Tensor
    """(T, C', D'), C and D rounded up to whole tiles, zeros beyond; of the rows' type."""
    unit: torch.Tensor
    """(C,) float32, powers of two that the product is multiplied with."""
    bias: torch.Tensor
    """(C,) float32."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _linear_kernel(
    x, stride,  # rows (n, D') of a storage type
    parts, depth, unit, bias,  # (PARTS, C, depth · D) of the rows' type, zeros beyond; (C,) float32, see `Weight`
    scale,  # (n,) float32
    out,  # (n, C) float32
    n_rows, n_classes, n_columns,  # n, C, D'
    ALIGN: tl.constexpr,  # unit of the stride and of D'
    PARTS: tl.constexpr, LOW: tl.constexpr, WITH_SCALE: tl.constexpr, PRECISION: tl.constexpr,  # the product's factors
    M: tl.constexpr, N: tl.constexpr, D: tl.constexpr,  # the tile: M rows, N classes, D columns at a time
    GROUP: tl.constexpr,  # tiles of rows side by side
):  # fmt: skip
    # Programs that run at the same time share rows and weights in cache: GROUP tiles of rows, all of their columns.
    n_row_tiles, n_class_tiles = tl.cdiv(n_rows, M), tl.cdiv(n_classes, N)
    program = tl.program_id(0)
    group = program // (GROUP * n_class_tiles)
    height = tl.minimum(n_row_tiles - group * GROUP, GROUP)
    row_tile = group * GROUP + (program % (GROUP * n_class_tiles)) % height
    class_tile = (program % (GROUP * n_class_tiles)) // height

    rows = row_tile.to(tl.int64) * M + tl.arange(0, M)
    classes = class_tile * N + tl.arange(0, N)
    columns = tl.arange(0, D)
    x_rows = x + tl.minimum(rows, n_rows - 1)[:, None] * (stride * ALIGN)
    part = parts + classes[:, None].to(tl.int64) * (depth * D)
    part_size = n_class_tiles.to(tl.int64) * N * (depth * D)
    total = tl.zeros((M, N), tl.float32)
    low = tl.zeros((M, N), tl.float32)
    for start in range(0, depth * D, D):
        at = start + columns[None, :]
        values = tl.load(x_rows + at, mask=at < n_columns * ALIGN, other=0.0)
        total = dot(values, tl.trans(tl.load(part + at)), total, PRECISION)
        if PARTS == 2:
            low = dot(values, tl.trans(tl.load(part + part_size + at)), low, PRECISION)
        if PARTS == 3:
            total = dot(values, tl.trans(tl.load(part + part_size + at)), total, PRECISION)
            total = dot(values, tl.trans(tl.load(part + 2 * part_size + at)), total, PRECISION)
    if PARTS == 2:
        total += low * LOW
    in_rows, in_classes = rows < n_rows, classes < n_classes
    total *= tl.load(unit + classes, mask=in_classes, other=0.0)[None, :]
    if WITH_SCALE:
        total *= tl.load(scale + rows, mask=in_rows, other=0.0)[:, None]
    total += tl.load(bias + classes, mask=in_classes, other=0.0)[None, :]
    tl.store(out + rows[:, None] * n_classes + classes[None, :], total, mask=in_rows[:, None] & in_classes[None, :])


@triton.jit(do_not_specialize=_RUN_TIME)
def _row_lengths_kernel(
    x, stride, n_rows, n_columns,  # (n, D') of any storage type
    out,  # (n,) float64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    squares = tl.zeros((K, R, J), tl.float64)
    for start in range(0, n_columns * WIDTH, K * J):
        columns = start + tile_columns(K, J)
        mask = in_rows[None, :, None] & (columns < n_columns * WIDTH)
        value = tl.load(x + rows[None, :, None] * (stride * ALIGN) + columns, mask=mask, other=0.0).to(tl.float64)
        squares += value * value
    tl.store(out + rows, tl.sqrt(row_sum(squares)), mask=in_rows)


def part_count(dtype: torch.dtype) -> int:
    """The parts of a weight for rows of this type."""
    return {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}[dtype]


def precision(dtype: torch.dtype) -> str:
    """Arithmetic of products of this dtype."""
    return "tf32x3" if dtype == torch.float32 else "ieee"


def stage_bytes(dtype: torch.dtype) -> int:
    """Shared memory of what is loaded for one step of a product."""
    tile = LINEAR_TILE[dtype]
    return (tile.M + part_count(dtype) * tile.N) * tile.D * dtype.itemsize


def prepare_weight(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    tile: ProductTile | None = None,
    *,
    n_parts: int | None = None,
) -> Weight:
    """The weights for rows of a type.

    Parameters
    ----------
    weight : Tensor, shape (C, D), float32
    bias : Tensor, shape (C,), float32, optional
    dtype : torch.dtype
        float32, float16 or bfloat16.
    tile : ProductTile, optional
        To whose multiples the parts are padded.
    n_parts : int, optional
        Parts to keep, at most, and by default, :func:`part_count`.
    """
    n_classes, n_columns = weight.shape
    tile, n_parts = tile or LINEAR_TILE[dtype], n_parts or part_count(dtype)
    unit = torch.ones(n_classes, device=weight.device)
    rest, step = weight, 0
    if dtype == torch.float16:
        _, exponent = torch.frexp(weight.abs().amax(dim=1))
        rest, step = torch.ldexp(weight, (_HALF_EXPONENT - exponent)[:, None]), HALF_BITS
        unit = torch.ldexp(unit, exponent - _HALF_EXPONENT)
    shape = (n_parts, triton.cdiv(n_classes, tile.N) * tile.N, triton.cdiv(n_columns, tile.D) * tile.D)
    parts = torch.zeros(shape, dtype=dtype, device=weight.device)
    for part in parts[:, :n_classes, :n_columns]:
        part.copy_(rest)
        rest = torch.ldexp(rest - part.float(), torch.tensor(step, device=weight.device))
    return Weight(parts, unit, torch.zeros_like(unit) if bias is None else bias)


def linear(x: torch.Tensor, weight: Weight, scale: torch.Tensor | None = None) -> torch.Tensor:
    """(scale · x) Wᵀ + b, shape (M, C), float32.

    Parameters
    ----------
    x : Tensor, shape (M, D)
        Of the type that the weight was prepared for; rows of any stride.
    weight : Weight
    scale : Tensor, shape (M,), float32, optional
    """
    n_rows, n_columns = x.shape
    n_classes = len(weight.unit)
    out = torch.empty((n_rows, n_classes), dtype=torch.float32, device=x.device)
    if n_rows == 0:
        return out
    tile, n_parts, align = LINEAR_TILE[x.dtype], len(weight.parts), alignment(x)
    _linear_kernel[(triton.cdiv(n_rows, tile.M) * triton.cdiv(n_classes, tile.N),)](
        x, x.stride(0) // align, weight.parts, weight.parts.shape[2] // tile.D, weight.unit, weight.bias,
        weight.unit if scale is None else scale, out, n_rows, n_classes, n_columns // align,
        ALIGN=align, PARTS=n_parts, LOW=LOW_PART, WITH_SCALE=scale is not None,
        PRECISION=precision(x.dtype),
        M=tile.M, N=tile.N, D=tile.D, GROUP=tile.group, **launch(tile.warps),
        num_stages=stages(x.device, stage_bytes(x.dtype)),
    )  # fmt: skip
    return out


def row_lengths(x: torch.Tensor) -> torch.Tensor:
    """Euclidean length of each row, shape (M,), float64; not finite exactly where the row is not."""
    n_rows, n_columns = x.shape
    out = torch.empty(n_rows, dtype=torch.float64, device=x.device)
    if n_rows:
        align, width = alignment(x), column_width(n_columns)
        tile = row_tile(n_columns)
        _row_lengths_kernel[(triton.cdiv(n_rows, tile.R),)](
            x, x.stride(0) // align, n_rows, n_columns // width, out,
            ALIGN=align, WIDTH=width, K=tile.K, R=tile.R, J=tile.J, **launch(tile.warps),
        )  # fmt: skip
    return out
