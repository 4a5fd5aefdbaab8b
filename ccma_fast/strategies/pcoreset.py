"""Core-set in probability space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.derived import DerivedRows, RowSubset
from ..pool.rows import Chunk, Rows
from ..steps.student import student_logits
from .coreset import farthest_first
from .registry import Round, register

__all__ = ["pcoreset"]


@register("pcoreset")
def pcoreset(state: Round) -> npt.NDArray[np.int64]:
    """Again and again the row whose p^S is farthest from those of all labelled and chosen rows, ‖p_i − p_j‖.

    Kang et al., "PCoreSet: Effective Active Learning through Knowledge Distillation from Vision-Language Models",
    arXiv 2506.00910: greedy k-center in the space of the student's class probabilities; of equal rows the first. As in
    their code a labelled row stands there with the probabilities that the student gives it, not with its label.
    :func:`~.coreset.farthest_first` tells memory and how rounding decides. Departures: their student has two heads, one
    trained on labels and one distilled from the teacher, whose probabilities they average; here p^S is that of the
    student at hand, whatever it was trained on.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.
    """
    known = RowSubset(state.features, state.labelled)
    labelled_logits = student_logits(state.student, known, state.n_classes, state.backend)
    return farthest_first(state, _probabilities(state.unlabelled_logits), _probabilities(labelled_logits))


def _probabilities(logits: Rows) -> Rows:
    """softmax of logits, as they are read."""

    def softmax(chunk: Chunk) -> Chunk:
        with np.errstate(invalid="ignore"):  # infinity becomes NaN, which is refused
            e: Chunk = np.exp(chunk - chunk.max(axis=1, keepdims=True))
            e /= e.sum(axis=1, keepdims=True)
        return e

    return DerivedRows(logits, logits.name, logits.n_columns, softmax)
