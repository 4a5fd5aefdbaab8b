"""Smallest margin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .registry import Round, register

__all__ = ["margins"]


@register("margins")
def margins(state: Round) -> npt.NDArray[np.int64]:
    """The rows whose two largest p^S lie closest (Scheffer et al. 2001); ties go to the lower index."""
    return state.unlabelled[state.backend.top_m(-state.backend.score(state.unlabelled_logits).margin, state.budget)]
