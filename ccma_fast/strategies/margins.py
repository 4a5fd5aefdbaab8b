"""Smallest margin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ._registry import Round, register
from .uncertainty import score_rows

__all__ = ["margins"]

Float32 = npt.NDArray[np.float32]


@register("margins")
def margins(state: Round) -> npt.NDArray[np.int64]:
    """The rows whose two largest p^S lie closest (Scheffer et al. 2001); ties go to the lower index."""
    return state.unlabelled[state.backend.top_m(score_rows(state, minus_margin), state.budget)]


def minus_margin(logits: Float32) -> Float32:
    """−(p_1 − p_2) = p_1 · (exp(z_2 − z_1) − 1) of the two largest, exact where they are close."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    largest = 1.0 / np.exp(shifted).sum(axis=1)
    shifted[np.arange(len(logits)), logits.argmax(axis=1)] = -np.inf
    negative: Float32 = largest * np.expm1(shifted.max(axis=1))
    return negative
