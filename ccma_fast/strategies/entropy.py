"""Largest entropy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .registry import Round, register

__all__ = ["entropy"]


@register("entropy")
def entropy(state: Round) -> npt.NDArray[np.int64]:
    """The rows of largest entropy −Σ_c p^S_c ln p^S_c (nats; Shannon 1948); ties go to the lower index.

    It is δ without a teacher, and computed as that is.
    """
    scores = state.backend.score(state.unlabelled_logits).delta
    return state.unlabelled[state.backend.top_m(scores, state.budget)]
