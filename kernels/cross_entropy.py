"""Cross-entropy of rows of logits, and its gradient in their place (the student's training)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ._configs import CROSS_ENTROPY_BLOCK, launch

__all__ = ["cross_entropy"]

# loss_i = ln Σ_c exp z_ic − z_iy,  ∂loss_i / ∂z_ic = exp(z_ic) / Σ_d exp z_id − [c = y]
#
# One program takes one row: its maximum, its sum of exponentials, and the gradient, B logits at a time.


@triton.jit(do_not_specialize=["n_columns"])
def _cross_entropy_kernel(
    logits, n_columns,  # in: z; out: the gradient, (n, C) float32
    targets,  # y, (n,) int64
    losses,  # out: (n,) float32
    B: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    target = tl.load(targets + row)
    z = logits + row * n_columns
    most = tl.full((B,), -float("inf"), tl.float32)
    for start in range(0, n_columns, B):
        columns = start + tl.arange(0, B)
        most = tl.maximum(most, tl.load(z + columns, mask=columns < n_columns, other=-float("inf")))
    top = tl.max(most, axis=0)
    total = tl.zeros((B,), tl.float32)
    of_target = tl.zeros((B,), tl.float32)
    for start in range(0, n_columns, B):
        columns = start + tl.arange(0, B)
        below = tl.load(z + columns, mask=columns < n_columns, other=-float("inf")) - top
        total += tl.exp(below)
        of_target += tl.where(columns == target, below, 0.0)
    log_total = tl.log(tl.sum(total, axis=0))
    tl.store(losses + row, log_total - tl.sum(of_target, axis=0))
    for start in range(0, n_columns, B):
        columns = start + tl.arange(0, B)
        inside = columns < n_columns
        p = tl.exp(tl.load(z + columns, mask=inside, other=-float("inf")) - top - log_total)
        tl.store(z + columns, p - tl.where(columns == target, 1.0, 0.0), mask=inside)


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of each row, shape (n,), float32, in nats; without host synchronisation.

    Parameters
    ----------
    logits : Tensor, shape (n, C), float32
        Contiguous and finite; the gradient of the sum of the losses takes their place.
    targets : Tensor, shape (n,), int64
        Classes from 0 to C − 1.
    """
    n_rows, n_columns = logits.shape
    losses = torch.empty(n_rows, dtype=torch.float32, device=logits.device)
    if n_rows:
        _cross_entropy_kernel[(n_rows,)](
            logits, n_columns, targets, losses, B=CROSS_ENTROPY_BLOCK.block, **launch(CROSS_ENTROPY_BLOCK.warps)
        )
    return losses
