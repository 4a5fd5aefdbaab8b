"""The objective of a clustering, and whether Lloyd's algorithm goes on (steps 1 and 6)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import OUTCOME_BLOCK, launch

__all__ = ["outcome"]

# objective = Σ_i w_i d²_i, in float64
#
# Each program adds up the terms of some rows and marks the clusters that own one; the last adds up their sums in order.


@triton.jit(do_not_specialize=["n_rows"])
def _objective_kernel(
    labels, squared, weights, n_rows,  # (N,) int32 and float32
    partial,  # out: a sum of each program, float64
    owned,  # out: 1 where a cluster owns a row, (K,) int32
    B: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * B + tl.arange(0, B)
    inside = rows < n_rows
    w = tl.load(weights + rows, mask=inside, other=0.0).to(tl.float64)
    terms = w * tl.load(squared + rows, mask=inside, other=0.0).to(tl.float64)
    tl.store(partial + tl.program_id(0), tl.sum(terms, axis=0))
    label = tl.load(labels + rows, mask=inside, other=0)
    # Several programs may write it: the same number.
    tl.store(owned + label, tl.full((B,), 1, tl.int32), mask=inside)


@triton.jit(do_not_specialize=["n_partial", "n_clusters"])
def _outcome_kernel(
    partial, n_partial, owned, n_clusters,  # as above
    previous, tol,  # the objective of before, and the tolerance, (1,) float64
    objective, found,  # out: (1,) float64; (2,) int64
    B: tl.constexpr,
):  # fmt: skip
    total = tl.zeros((B,), tl.float64)
    for start in range(0, n_partial, B):
        at = start + tl.arange(0, B)
        total += tl.load(partial + at, mask=at < n_partial, other=0.0)
    now = tl.sum(total, axis=0)
    n_owned = tl.zeros((B,), tl.int64)
    for start in range(0, n_clusters, B):
        at = start + tl.arange(0, B)
        n_owned += tl.load(owned + at, mask=at < n_clusters, other=0)
    before = tl.load(previous)
    tl.store(objective, now)
    # There is no objective before the first: nothing is less than NaN.
    tl.store(found, (before - now <= tl.load(tol) * before).to(tl.int64))
    tl.store(found + 1, n_clusters - tl.sum(n_owned, axis=0))


def outcome(
    labels: torch.Tensor,
    squared: torch.Tensor,
    weights: torch.Tensor,
    n_clusters: int,
    previous: torch.Tensor,
    tol: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The objective, and whether it fell by too little to go on and how many clusters are empty; no synchronisation.

    Parameters
    ----------
    labels : Tensor, shape (N,), int32
    squared, weights : Tensor, shape (N,), float32
    n_clusters : int
    previous : Tensor, shape (1,), float64
        The objective of before, NaN where there is none.
    tol : Tensor, shape (1,), float64

    Returns
    -------
    objective : Tensor, shape (1,), float64
    found : Tensor, shape (2,), int64
    """
    n_rows, block = len(labels), OUTCOME_BLOCK.block
    n_partial = triton.cdiv(n_rows, block)
    partial = previous.new_empty(n_partial)
    owned = torch.zeros(n_clusters, dtype=torch.int32, device=labels.device)
    _objective_kernel[(n_partial,)](
        labels, squared, weights, n_rows, partial, owned, B=block, **launch(OUTCOME_BLOCK.warps)
    )
    objective, found = torch.empty_like(previous), torch.empty(2, dtype=torch.int64, device=labels.device)
    _outcome_kernel[(1,)](
        partial, n_partial, owned, n_clusters, previous, tol, objective, found, B=block, **launch(OUTCOME_BLOCK.warps)
    )
    return objective, found
