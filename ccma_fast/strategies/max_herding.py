"""MaxHerding, and what it shares with ProbCover and Uncertainty Herding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Kernel
from ..pool.derived import RowSubset
from ..steps.coverage import unit_rows
from ..steps.greedy import greedy_coverage
from .registry import Round, register

__all__ = ["BANDWIDTH", "herd", "max_herding"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# σ: the bandwidth of the paper's experiments, on unit rows.
BANDWIDTH = 1.0

# Pairs of pool row and candidate that one evaluation of all candidates may have.
_PAIRS = 2**31

# Candidates there are for each pick at least, however large the pool.
_CANDIDATES_PER_PICK = 4


@register("max-herding", needs_labels=False)
def max_herding(state: Round) -> Int64:
    """Greedily the rows that raise the generalised coverage (1/N) Σ_i max_j k(x_i, x_j), j over labelled and chosen.

    Bae, Noh and Sutherland, "Generalized Coverage for More Robust Low-Budget Active Learning", arXiv 2407.12212, with
    the Gaussian kernel k(x, x') = exp(−‖x − x'‖² / σ²), σ = 1, on the L2-normalised embeddings, as in their code. Ties
    go to the lower index. Where no row adds any coverage, the rest is drawn at random. Departure: their code cuts the
    pool at random to at most 35,000 rows, candidates and rows to cover alike; see :func:`herd` for ours.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.
    """
    return herd(state, Kernel.gaussian(BANDWIDTH))


def herd(state: Round, kernel: Kernel, *, weights: Float32 | None = None, least: float = -np.inf) -> Int64:
    """Greedily the unlabelled rows that cover the pool, labelled rows covering already: see :func:`greedy_coverage`.

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
    Every unlabelled row is a candidate up to some 46,000 rows. In larger pools max(2³¹ / N, 4 · budget) rows drawn at
    random are; all rows of the pool count as rows to cover.
    """
    pool = unit_rows(state.features, state.backend)
    candidates = state.unlabelled
    n_candidates = max(_PAIRS // pool.n_rows, _CANDIDATES_PER_PICK * state.budget)
    if candidates.size > n_candidates:
        candidates = np.sort(state.rng.choice(candidates, n_candidates, replace=False))
    labelled = unit_rows(RowSubset(state.features, state.labelled), state.backend)
    return greedy_coverage(
        pool, labelled, candidates, state.budget, kernel=kernel, rng=state.rng, weights=weights, least=least
    )
