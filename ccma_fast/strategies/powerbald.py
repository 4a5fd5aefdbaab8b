"""BALD, drawn at random in proportion to its score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .bald import ROUNDING, mutual_information
from .head import affine_head
from .registry import Round, register

__all__ = ["powerbald"]


@register("powerbald")
def powerbald(state: Round) -> npt.NDArray[np.int64]:
    """The rows of largest ln I + Gumbel noise: a draw without replacement in proportion to the mutual information I.

    Kirsch et al., "Stochastic Batch Acquisition: A Simple Baseline for Deep Active Learning", arXiv 2106.12059, with
    their β = 1; I is that of :func:`~ccma_fast.strategies.bald.bald`. Rows whose I is within rounding of zero count as
    equal, so that the noise decides among them.

    Raises
    ------
    TypeError
        The student is none of the package's heads, :class:`~ccma_fast.LogisticHead` and
        :class:`~ccma_fast.LinearHead`.
    ValueError
        NaN or infinity in a row, which is named.
    """
    information = np.maximum(mutual_information(state, affine_head(state, "powerbald")), ROUNDING)
    scores = np.log(information) + state.rng.gumbel(size=information.size)
    return state.unlabelled[state.backend.top_m(scores.astype(np.float32), state.budget)]
