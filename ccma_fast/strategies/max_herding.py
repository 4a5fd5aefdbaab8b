"""MaxHerding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.unit_rows import Kernel
from .herding import BANDWIDTH, herd
from .registry import Round, register

__all__ = ["max_herding"]

Int64 = npt.NDArray[np.int64]


@register("max-herding", needs_labels=False)
def max_herding(state: Round) -> Int64:
    """Greedily the rows that raise the generalised coverage (1/N) Σ_i max_j k(x_i, x_j), j over labelled and chosen.

    Bae, Noh and Sutherland, "Generalized Coverage for More Robust Low-Budget Active Learning", arXiv 2407.12212, with
    the Gaussian kernel k(x, x') = exp(−‖x − x'‖² / σ²), σ = 1, on the L2-normalised embeddings, as in their code. Ties
    go to the lower index. Where no row adds any coverage, the rest is drawn at random. Departure: their code cuts the
    pool at random to at most 35,000 rows, candidates and rows to cover alike; see :func:`~.herding.herd` for ours.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.
    """
    return herd(state, Kernel.gaussian(BANDWIDTH))
