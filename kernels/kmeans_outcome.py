"""The objective of a clustering, exactly, and which clusters own a row (steps 1 and 6)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import OUTCOME_BLOCK, launch

__all__ = ["LIMBS", "N_EMPTY", "OWNED", "outcome"]

# objective = Σ_i w_i d²_i
#
# A term, which float64 holds exactly, is cut into three whole numbers of 32 bits, each for its limb: limb i counts
# 2^(32 i − 352). The last limb counts the terms that are not finite. Whole numbers add up to the same in any order, so
# that the sum depends neither on which program is done first, nor on where the rows lie.

LIMBS = 22
"""As in csrc/include/ccma/exact_sum.hpp."""

N_EMPTY, OWNED = LIMBS, LIMBS + 2
"""Places in an outcome behind the limbs; that of the clusters lies on 16 bytes, as pointers do."""

_BIAS = 352
_LOWEST_PLACE = tl.constexpr(_BIAS - 1075)
_MANTISSA, _LIMB = tl.constexpr((1 << 52) - 1), tl.constexpr((1 << 32) - 1)


@triton.jit(do_not_specialize=["n_rows"])
def _objective_kernel(
    labels, squared, weights, n_rows,  # (N,) int32 and float32
    found,  # in and out: (N_LIMBS,) int64
    owned,  # out: 1 where a cluster owns a row, (K,) int64
    N_LIMBS: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    inside = rows < n_rows
    label = tl.load(labels + rows, mask=inside, other=0)
    # Several programs may write it: the same number.
    tl.store(owned + label, tl.full((B,), 1, tl.int64), mask=inside)

    w = tl.load(weights + rows, mask=inside, other=0.0).to(tl.float64)
    term = w * tl.load(squared + rows, mask=inside, other=0.0).to(tl.float64)
    bits = term.to(tl.int64, bitcast=True)
    exponent = bits >> 52
    is_finite = (exponent >= 0) & (exponent < 2047)
    n_not_finite = tl.sum((~is_finite).to(tl.int64), axis=0)
    tl.atomic_add(found + N_LIMBS - 1, n_not_finite, mask=n_not_finite > 0, sem="relaxed")

    is_term = is_finite & (bits != 0)
    mantissa = tl.where(is_term, (bits & _MANTISSA) | (_MANTISSA + 1), 0)
    place = tl.where(is_term, exponent + _LOWEST_PLACE, 0)
    limb, shift = place >> 5, place & 31
    low, high = (mantissa & _LIMB) << shift, (mantissa >> 32) << shift
    first, second, third = low & _LIMB, (low >> 32) + (high & _LIMB), high >> 32
    carried = tl.full((), 0, tl.int64)
    least = tl.min(tl.where(is_term, limb, N_LIMBS), axis=0)
    most = tl.max(tl.where(is_term, limb, -4), axis=0)
    for at in range(least, most + 4):  # so far the last carry may go
        parts = tl.where(limb == at, first, 0)
        parts += tl.where(limb + 1 == at, second, 0)
        parts += tl.where(limb + 2 == at, third, 0)
        total = tl.sum(parts, axis=0) + carried
        carried = total >> 32
        tl.atomic_add(found + at, total & _LIMB, sem="relaxed")


@triton.jit(do_not_specialize=["n_clusters"])
def _empty_kernel(
    owned, n_clusters,  # (K,) int64
    n_empty,  # out: (1,) int64
    B: tl.constexpr,
):  # fmt: skip
    n_owned = tl.zeros((B,), tl.int64)
    for start in range(0, n_clusters, B):
        at = start + tl.arange(0, B)
        n_owned += tl.load(owned + at, mask=at < n_clusters, other=0)
    tl.store(n_empty, n_clusters - tl.sum(n_owned, axis=0))


def outcome(labels: torch.Tensor, squared: torch.Tensor, weights: torch.Tensor, n_clusters: int) -> torch.Tensor:
    """The objective, the number of clusters without rows, and which clusters have some; no synchronisation.

    Parameters
    ----------
    labels : Tensor, shape (N,), int32
    squared, weights : Tensor, shape (N,), float32
        Not negative.
    n_clusters : int
        K.

    Returns
    -------
    Tensor, shape (OWNED + K,), int64
        Σ w d² in limbs; at `N_EMPTY` the number; from `OWNED` on 1 for each cluster that owns a row, else 0.
    """
    n_rows, block = len(labels), OUTCOME_BLOCK.block
    found = torch.zeros(OWNED + n_clusters, dtype=torch.int64, device=labels.device)
    owned = found[OWNED:]
    if n_rows:
        _objective_kernel[(triton.cdiv(n_rows, block),)](
            labels, squared, weights, n_rows, found, owned, N_LIMBS=LIMBS, B=block, **launch(OUTCOME_BLOCK.warps)
        )
    _empty_kernel[(1,)](owned, n_clusters, found[N_EMPTY:], B=block, **launch(OUTCOME_BLOCK.warps))
    return found
