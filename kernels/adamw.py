"""A step of AdamW whose factors lie on the device (the student's training)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import ADAMW_BLOCK, launch

__all__ = ["adamw"]

# m ← m + (1 − β₁) (g − m),  v ← β₂ v + (1 − β₂) g²,  p ← (1 − decay) p − a m / (b √v + 10⁻⁸)
#
# a = rate / (1 − β₁ᵗ) and b = (1 − β₂ᵗ)^(−½) depend on the number t of the step: they are read, so that a launch that
# is repeated as part of a graph takes those of its step.

_FIRST_DECAY, _SECOND_DECAY, _EPS = tl.constexpr(0.9), tl.constexpr(0.999), tl.constexpr(1e-8)


@triton.jit(do_not_specialize=["n", "n_rows", "decay"])
def _adamw_kernel(
    parameters, gradient, first, second,  # in and out but for the gradient: (n,) float32
    factors,  # a and b, (2,) float64
    n, n_rows, decay,  # rows whose gradients were added up; share of the parameters that a step takes away
    B: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    inside = at < n
    step = tl.load(factors).to(tl.float32)
    of_spread = tl.load(factors + 1).to(tl.float32)
    g = tl.load(gradient + at, mask=inside, other=0.0) / n_rows
    m = tl.load(first + at, mask=inside, other=0.0)
    v = tl.load(second + at, mask=inside, other=0.0)
    p = tl.load(parameters + at, mask=inside, other=0.0)
    m += (1.0 - _FIRST_DECAY) * (g - m)
    v = _SECOND_DECAY * v + (1.0 - _SECOND_DECAY) * g * g
    p -= decay * p
    p -= step * (m / (of_spread * tl.sqrt(v) + _EPS))
    tl.store(first + at, m, mask=inside)
    tl.store(second + at, v, mask=inside)
    tl.store(parameters + at, p, mask=inside)


def adamw(
    parameters: torch.Tensor,
    gradient: torch.Tensor,
    first: torch.Tensor,
    second: torch.Tensor,
    factors: torch.Tensor,
    n_rows: int,
    decay: float,
) -> None:
    """One step, in place; without host synchronisation.

    Parameters
    ----------
    parameters, gradient, first, second : Tensor, shape (n,), float32
        Contiguous. The gradient is a sum over `n_rows` rows; the moments are of their mean.
    factors : Tensor, shape (2,), float64
        a and b.
    n_rows : int
    decay : float
        Learning rate · weight decay.
    """
    n = len(parameters)
    _adamw_kernel[(triton.cdiv(n, ADAMW_BLOCK.block),)](
        parameters, gradient, first, second, factors, n, float(n_rows), decay,
        B=ADAMW_BLOCK.block, **launch(ADAMW_BLOCK.warps),
    )  # fmt: skip
