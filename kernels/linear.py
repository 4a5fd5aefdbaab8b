"""Products of rows with a matrix, and lengths of rows (steps 1 and 2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ._configs import ProductTile, alignment, capability, column_width, launch, linear_tile, row_tile, stages
from ._math import dot, row_length
from .halves import LOW_PART, PAD, Halves

__all__ = ["Weight", "linear", "prepare_weight", "row_lengths", "row_parts", "stage_bytes"]

# out_ic = factor_i · unit_c · Σ_d (X1_id · (W1_cd + W2_cd) + X2_id · W3_cd) + b_c, and ‖x_i‖ = √ Σ_d x_id²
#
# All factors are float16, whatever the rows are stored in: rows as `halves` prepares them, and weights that a power of
# two for each class has brought to 2^14. W1 holds 11 bits of a weight and W2 the next 11, not scaled, so that all goes
# into one sum: beside weights of 2^14 it stays among the normal numbers. X2, the second part of float32 rows, is 2^11
# times too large, and W3 = 2⁻¹¹ W1. What is left out is in all at most
#
#   Σ_d |x w| (2⁻²² + 2⁻²² + 2⁻²²) + 2⁻³⁸ (‖x‖ Σ_d |w| + max |w| Σ_d |x|)
#
# (the second parts' ends and X2 · W2; elements that vanish beside the row's length or the largest weight of the class),
# the first bracket without the rows' two thirds where they are stored in 16 bits. The sums of T + 1 products round by
# at most ((T + 1) d / 3 + 16) 2⁻²³ Σ_d |x w|, where matrix units cut off what they add (see `kmeans_assign`), and a
# plain float32 sum by d 2⁻²⁴.

_RUN_TIME = ["n_rows", "n_classes", "n_columns", "stride", "depth"]
_WEIGHT_EXPONENT = 14

# Smaller weights stay below 2^14, so that the power of two is a float32; they keep their digits all the same.
_LEAST_EXPONENT = -112

# Columns of a result that are stored at once.
_STORED = 4


class Weight(NamedTuple):
    """A matrix (C, D) as the kernel takes it."""

    parts: torch.Tensor
    """(T + 1, C', D') float16 for rows of T parts, C and D rounded up to whole tiles, zeros beyond."""
    unit: torch.Tensor
    """(C,) float32, powers of two that the product is multiplied with."""
    bias: torch.Tensor
    """(C,) float32."""


@triton.jit(do_not_specialize=_RUN_TIME)
def _linear_kernel(
    x, factor,  # rows: (PARTS, n, depth · PAD) float16; (n,) float32, what products are multiplied with
    parts, unit, bias,  # (PARTS + 1, C', depth · PAD) float16; (C,) float32, see `Weight`
    out, stride,  # (n, stride · ALIGN) float32
    n_rows, n_classes, depth,  # n, C
    PARTS: tl.constexpr, PAD: tl.constexpr, ALIGN: tl.constexpr,  # parts of the rows; units of the depth and the stride
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
    x_at = x + tl.minimum(rows, n_rows - 1)[:, None] * (depth * PAD) + columns[None, :]
    w_at = parts + classes[None, :].to(tl.int64) * (depth * PAD) + columns[:, None]
    x_size = n_rows.to(tl.int64) * (depth * PAD)
    w_size = n_class_tiles.to(tl.int64) * N * (depth * PAD)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, depth * PAD, D):
        values = tl.load(x_at + start)
        total = dot(values, tl.load(w_at + start), total)
        total = dot(values, tl.load(w_at + w_size + start), total)
        if PARTS == 2:
            total = dot(tl.load(x_at + x_size + start), tl.load(w_at + 2 * w_size + start), total)
    in_rows, in_classes = rows < n_rows, classes < n_classes
    of_classes = tl.load(unit + classes, mask=in_classes, other=0.0)[None, :]
    total *= of_classes * tl.load(factor + rows, mask=in_rows, other=0.0)[:, None]
    total += tl.load(bias + classes, mask=in_classes, other=0.0)[None, :]
    # Beyond the classes zeros, as far as the rows of the result go, so that whole quadruples are stored.
    inside = in_rows[:, None] & (classes < stride * ALIGN)[None, :]
    tl.store(out + rows[:, None] * (stride * ALIGN) + classes[None, :], total, mask=inside)


@triton.jit(do_not_specialize=_RUN_TIME)
def _row_lengths_kernel(
    x, stride, n_rows, n_columns,  # (n, D') of any storage type
    out,  # (n,) float64
    ALIGN: tl.constexpr, WIDTH: tl.constexpr,  # units of the stride and of D'
    K: tl.constexpr, R: tl.constexpr, J: tl.constexpr,  # the tile: R rows of K · J columns
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    in_rows = rows < n_rows
    length = row_length(x, rows, in_rows, stride * ALIGN, n_columns * WIDTH, K, R, J)
    tl.store(out + rows, length, mask=in_rows)


def row_parts(dtype: torch.dtype) -> int:
    """The parts that rows of a storage type are prepared in for :func:`linear`."""
    return 2 if dtype == torch.float32 else 1


def stage_bytes(tile: ProductTile, n_parts: int) -> int:
    """Shared memory of what is loaded for one step of a product with rows of so many parts."""
    return (n_parts * tile.M + (n_parts + 1) * tile.N) * tile.D * 2


def prepare_weight(weight: torch.Tensor, bias: torch.Tensor | None, n_parts: int) -> Weight:
    """The weights for rows of so many parts.

    Parameters
    ----------
    weight : Tensor, shape (C, D), float32
    bias : Tensor, shape (C,), float32, optional
    n_parts : {1, 2}
    """
    n_classes, n_columns = weight.shape
    # From bits: on a device torch.ldexp multiplies by an approximate power, and frexp of infinity is anything.
    exponent = ((weight.abs().amax(dim=1).view(torch.int32) >> 23) & 0xFF) - 126
    exponent = exponent.clamp(min=_LEAST_EXPONENT)
    unit = _power_of_two(exponent - _WEIGHT_EXPONENT)
    scaled = weight * _power_of_two(_WEIGHT_EXPONENT - exponent)[:, None]
    tile = linear_tile(n_parts, capability(weight.device))
    shape = (n_parts + 1, triton.cdiv(n_classes, tile.N) * tile.N, triton.cdiv(n_columns, PAD) * PAD)
    parts = torch.zeros(shape, dtype=torch.float16, device=weight.device)
    inside = parts[:, :n_classes, :n_columns]
    inside[0].copy_(scaled)
    inside[1].copy_(scaled - inside[0].float())
    if n_parts == 2:
        inside[2].copy_(inside[0].float() * LOW_PART)
    return Weight(parts, unit, torch.zeros_like(unit) if bias is None else bias)


def _power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """2 to exponents from −126 to 127, int32, exactly; float32."""
    return ((exponent + 127) << 23).view(torch.float32)


def linear(x: Halves, weight: Weight, factor: torch.Tensor | None = None) -> torch.Tensor:
    """scale · x Wᵀ + b, shape (M, C), float32; rows begin at multiples of 16 bytes.

    Parameters
    ----------
    x : Halves
        M rows, in as many parts as the weight was prepared for.
    weight : Weight
    factor : Tensor, shape (M,), float32, optional
        scale · ``x.unit``, and by default, that unit: no scale.
    """
    n_parts, n_rows, depth = x.parts.shape
    n_classes, tile = len(weight.unit), linear_tile(n_parts, capability(x.parts.device))
    stride = triton.cdiv(n_classes, _STORED)
    out = torch.empty((n_rows, stride * _STORED), dtype=torch.float32, device=x.parts.device)
    if n_rows:
        _linear_kernel[(triton.cdiv(n_rows, tile.M) * triton.cdiv(n_classes, tile.N),)](
            x.parts, x.unit if factor is None else factor, weight.parts, weight.unit, weight.bias, out, stride,
            n_rows, n_classes, depth // PAD,
            PARTS=n_parts, PAD=PAD, ALIGN=_STORED, M=tile.M, N=tile.N, D=tile.D, GROUP=tile.group,
            **launch(tile.warps), num_stages=stages(out.device, stage_bytes(tile, n_parts)),
        )  # fmt: skip
    return out[:, :n_classes]


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
