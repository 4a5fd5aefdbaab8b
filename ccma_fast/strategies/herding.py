"""Greedy coverage of a pool by unlabelled rows, which MaxHerding, ProbCover and Uncertainty Herding share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.unit_rows import Kernel
from ..pool.derived import RowSubset
from ..steps.coverage import unit_rows
from ..steps.greedy import greedy_coverage
from .registry import Round

__all__ = ["BANDWIDTH", "candidate_rows", "herd"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# σ: the bandwidth of MaxHerding's experiments, on unit rows.
BANDWIDTH = 1.0

# Pairs of pool row and candidate that one evaluation of all candidates may have.
_PAIRS = 2**31

# Candidates there are for each pick at least, however large the pool.
_CANDIDATES_PER_PICK = 4


def herd(state: Round, kernel: Kernel, *, weights: Float32 | None = None, least: float = -np.inf) -> Int64:
    """Greedily the unlabelled rows that cover the pool, where the labelled rows cover already.

    See :func:`ccma_fast.steps.greedy.greedy_coverage`.

    Parameters
    ----------
    state : Round
    kernel : Kernel
        k, 0 at similarity −∞.
    weights : ndarray, shape (N,), float32, optional
    least : float, default −∞
        A similarity up to which k is 0.

    Returns
    -------
    ndarray, shape (budget,), int64
        In the order of choice.

    Notes
    -----
    All rows of the pool count as rows to cover; :func:`candidate_rows` tells which can be chosen.
    """
    pool = unit_rows(state.features, state.backend)
    candidates = candidate_rows(state, pool.n_rows)
    labelled = unit_rows(RowSubset(state.features, state.labelled), state.backend)
    return greedy_coverage(
        pool, labelled, candidates, state.budget, kernel=kernel, rng=state.rng, weights=weights, least=least
    )


def candidate_rows(state: Round, n_rows: int) -> Int64:
    """The unlabelled rows that can be chosen, ascending, where each is compared with all of a pool of n rows.

    Every unlabelled row up to some 46,000 rows; in larger pools max(2³¹ / n, 4 · budget) of them, drawn at random.
    """
    n_candidates = max(_PAIRS // n_rows, _CANDIDATES_PER_PICK * state.budget)
    if state.unlabelled.size <= n_candidates:
        return state.unlabelled
    return np.sort(state.rng.choice(state.unlabelled, n_candidates, replace=False))
