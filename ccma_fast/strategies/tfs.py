"""Tail First Sampling."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .class_balance import rarest_class_first
from .registry import Round, register

__all__ = ["tfs"]


@register("tfs")
def tfs(state: Round) -> npt.NDArray[np.int64]:
    """Again and again the row of largest entropy of those predicted to be of the class with the fewest labels.

    Tail First Sampling: Wang, Wang and Kong, "Active Learning via Vision-Language Model Adaptation with Open Data"
    (ALOR), arXiv 2506.01724. A pick counts as a label of its predicted class before the next is chosen; where no row of
    the rarest class is left, the next rarest comes. Entropies are in nats; ties go to the lower class, then to the
    lower row. Departures: ALOR also trains on, and counts, images retrieved from the teacher's pretraining data, which
    tell it the tail where few labels are there; here the labels alone are counted. Entropies are exact, where their
    code adds 10⁻⁶ to each probability.

    Raises
    ------
    ValueError
        NaN or infinity in a row, which is named.

    Notes
    -----
    One pass over the pool; memory is some 60 bytes per row.
    """
    scores = state.backend.score(state.unlabelled_logits)
    return state.unlabelled[rarest_class_first(state, scores.student_top1, scores.delta)]
