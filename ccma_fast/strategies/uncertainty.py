"""Least confidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..checks import raise_not_finite
from .registry import Round, register

__all__ = ["uncertainty"]

Int64 = npt.NDArray[np.int64]


@register("uncertainty")
def uncertainty(state: Round) -> Int64:
    """The rows of smallest max_c p^S_c (least confidence; Lewis and Gale 1994); ties go to the lower index.

    Ranked by (1 − p) / p = Σ_{c ≠ top} exp(z_c − z_top), which tells apart rows whose 1 − p rounds to zero.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    logits = state.unlabelled_logits
    doubt = np.empty(logits.n_rows, np.float32)
    for start, chunk in logits.chunks():
        bad = np.flatnonzero(~np.isfinite(chunk).all(axis=1))
        if bad.size:
            raise_not_finite(logits.name, logits.row_number(start + int(bad[0])))
        odds = np.exp(chunk - chunk.max(axis=1, keepdims=True))
        odds[np.arange(len(chunk)), chunk.argmax(axis=1)] = 0.0
        doubt[start : start + len(chunk)] = odds.sum(axis=1)
    return state.unlabelled[state.backend.top_m(doubt, state.budget)]
