"""DropQuery: disagreement under dropout, spread by k-means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .head import affine_head, dropout_chunks, dropout_logits
from .registry import Round, register
from .spread import spread

__all__ = ["dropout"]

# The authors' constants: dropout passes, and candidates per pick below which less disagreement is enough.
_N_PASSES = 3
_WANTED = 25


@register("dropout")
def dropout(state: Round) -> npt.NDArray[np.int64]:
    """Rows whose prediction most of 3 dropout passes change, spread by k-means (DropQuery).

    Gupte et al., "Revisiting Active Learning in the Era of Vision Foundation Models", arXiv 2401.14555. Candidates are
    the rows on which more than half of the passes disagree with the prediction without dropout; as in their code, where
    those are fewer than 25 · B, the rows on which any pass does. :func:`~.spread.spread` chooses among them.
    Departures: the dropout is the head's own, the configuration's where it is trained without any, and k-means stops
    after the configuration's iterations rather than 100.

    Raises
    ------
    TypeError
        The student is none of the package's heads, :class:`~ccma_fast.LogisticHead` and
        :class:`~ccma_fast.LinearHead`.
    ValueError
        NaN or infinity in a row, or a candidate without a direction; the row is named.
    """
    head, backend = affine_head(state, "dropout"), state.backend
    disagreeing = np.zeros(state.unlabelled.size, dtype=np.int8)
    for part, x in dropout_chunks(state):
        predicted = backend.linear(x, head.coef_, head.intercept_).argmax(axis=1)
        for _ in range(_N_PASSES):
            changed = dropout_logits(state, head, x).argmax(axis=1) != predicted
            disagreeing[part] += changed
    least = _N_PASSES // 2 + 1
    while least > 1 and (disagreeing >= least).sum() < _WANTED * state.budget:
        least -= 1
    return spread(state, np.flatnonzero(disagreeing >= least))
