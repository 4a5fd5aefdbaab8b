"""TypiClust to Margin."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .margins import margins
from .registry import Round, register
from .typiclust import typiclust

__all__ = ["tcm"]

# Labels per class from which on the margin decides.
_LABELS_PER_CLASS = 20


@register("tcm", needs_labels=False)
def tcm(state: Round) -> npt.NDArray[np.int64]:
    """``typiclust`` while there are fewer than 20 · C labels, from then on ``margins``; ties as theirs.

    Doucet, Estermann, Aczel and Wattenhofer, "Bridging Diversity and Uncertainty in Active learning with
    Self-Supervised Pre-Training" (TCM), arXiv 2403.03728: typical rows against the cold start, the smallest margin once
    the student is good enough, which on self-supervised embeddings is early. Departures: those of
    :func:`~.typiclust.typiclust`; and the authors read the number of TypiClust's rounds off their experiments, for each
    size of a round, while here one number of labels decides, whatever the budget: 20 · C, which another implementation
    reports as the paper's rule and which was not compared with the paper's own table.

    Raises
    ------
    ValueError
        NaN or infinity in a row, or before the change a zero vector; the row is named.
    """
    return typiclust(state) if state.labelled.size < _LABELS_PER_CLASS * state.n_classes else margins(state)
