"""Scores that add up probabilities, APS and RAPS (step 3), by PyTorch's own sort of each row.

They are the exception, not the rule: a chunk's scores are formed in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["CumulativeScores", "cumulative_scores"]

# s_c = (Σ_{c' before c} e_c' + u e_c) / Σ e + penalty · max(0, r_c − k_reg), e = exp(z − max z); c' is before c where
# its −ln p is smaller, r_c = 1 + how many are. One more is added where p_c < LEAST_PROBABILITY: sums of probabilities
# could not tell such a class from the one before it, and no threshold up to 1 is to admit it.

LEAST_PROBABILITY = 2.0**-40


class CumulativeScores(NamedTuple):
    """The classes of each row, most probable first; shape (M, C), float64."""

    nonconformity: torch.Tensor
    """a = −ln p, ascending."""
    scores: torch.Tensor
    """s, ascending: s grows with a."""

    def row_thresholds(self, q: torch.Tensor) -> torch.Tensor:
        """The largest a of each row's classes with s ≤ q, −∞ where there is none; shape (M,)."""
        admitted = self.scores <= q[:, None]
        return torch.where(admitted, self.nonconformity, -torch.inf).amax(dim=1)


def cumulative_scores(
    logits: torch.Tensor, log_sums: torch.Tensor, penalty: float, k_reg: int, u: torch.Tensor | None
) -> CumulativeScores:
    """Scores of rows of logits, shape (M, C).

    Parameters
    ----------
    logits : Tensor, shape (M, C)
    log_sums : Tensor, shape (M,), float64
        ln Σ exp(z − max z) as :func:`log_normalizers` has it, so that a is the score that sets are cut at.
    penalty, k_reg : float, int
    u : Tensor, shape (M,), float64, optional
        1 in every row where missing.
    """
    descending = logits.float().sort(dim=1, descending=True).values.double()
    shifted = descending[:, :1] - descending
    a = log_sums[:, None] + shifted
    place = torch.arange(logits.shape[1], device=logits.device).expand_as(a)
    is_first = torch.ones_like(a, dtype=torch.bool)
    is_first[:, 1:] = a[:, 1:] != a[:, :-1]
    first = torch.where(is_first, place, 0).cummax(dim=1).values
    e = torch.exp(-shifted)
    upto = e.cumsum(dim=1)
    before = torch.cat([torch.zeros_like(upto[:, :1]), upto], dim=1).gather(1, first)
    total = upto[:, -1:]
    share = e.gather(1, first)
    impossible = share / total < LEAST_PROBABILITY
    if u is not None:
        share = share * u[:, None]
    s = (before + share) / total + impossible
    # As float64: a number of Python times integers would be float32.
    return CumulativeScores(a, s + penalty * (first + 1 - k_reg).clamp(min=0).double())
