"""Least confidence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .._validate import raise_not_finite
from ._registry import Round, register

__all__ = ["score_rows", "uncertainty"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


@register("uncertainty")
def uncertainty(state: Round) -> Int64:
    """The rows of smallest max_c p^S_c (least confidence; Lewis and Gale 1994); ties go to the lower index.

    Ranked by (1 − p) / p = Σ_{c ≠ top} exp(z_c − z_top), which tells apart rows whose 1 − p rounds to zero.
    """
    return state.unlabelled[state.backend.top_m(score_rows(state, _doubt), state.budget)]


def _doubt(logits: Float32) -> Float32:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    odds[np.arange(len(logits)), logits.argmax(axis=1)] = 0.0
    doubt: Float32 = odds.sum(axis=1)
    return doubt


def score_rows(state: Round, measure: Callable[[Float32], Float32]) -> Float32:
    """A score of each unlabelled row, from its logits alone.

    Parameters
    ----------
    state : Round
    measure : callable
        From logits, shape (M, C), float32, to scores, shape (M,), float32.

    Returns
    -------
    ndarray, shape (U,), float32

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    logits = state.unlabelled_logits
    scores = np.empty(logits.n_rows, np.float32)
    for start, chunk in logits.chunks():
        part = slice(start, start + len(chunk))
        bad = np.flatnonzero(~np.isfinite(chunk).all(axis=1))
        if bad.size:
            raise_not_finite(logits.name, logits.row_number(start + int(bad[0])))
        scores[part] = measure(chunk)
    return scores
