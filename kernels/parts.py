"""Matrices in parts of the type of the rows that they are multiplied with (steps 1 and 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton

from ._configs import ProductTile
from .halves import HALF_BITS

__all__ = ["Weight", "part_count", "precision", "prepare_weight"]

# Float32 factors in parts that add up to them, so that only the sums round, in float32: three of bfloat16 (3 · 8 bits),
# or two of float16 (2 · 11 bits), the second times 2^11, of what a power of two for each row has brought into float16's
# range. float32 rows are multiplied as three products of TF32 parts, whose error is near that of float32.

_HALF_EXPONENT = 14


class Weight(NamedTuple):
    """A matrix (C, D) as the kernel takes it."""

    parts: torch.Tensor
    """(T, C', D'), C and D rounded up to whole tiles, zeros beyond; of the rows' type."""
    unit: torch.Tensor
    """(C,) float32, powers of two that the product is multiplied with."""
    bias: torch.Tensor
    """(C,) float32."""


def part_count(dtype: torch.dtype) -> int:
    """The parts of a weight for rows of this type."""
    return {torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}[dtype]


def precision(dtype: torch.dtype) -> str:
    """Arithmetic of products of this dtype."""
    return "tf32x3" if dtype == torch.float32 else "ieee"


def prepare_weight(
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    tile: ProductTile,
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
    tile : ProductTile
        To whose multiples the parts are padded.
    n_parts : int, optional
        Parts to keep, at most, and by default, :func:`part_count`.
    """
    n_classes, n_columns = weight.shape
    n_parts = n_parts or part_count(dtype)
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
