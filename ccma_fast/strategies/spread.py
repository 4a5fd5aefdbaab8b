"""Picks spread over candidates by k-means, as ALFA-Mix and DropQuery choose them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..reference import representatives
from .registry import Round

__all__ = ["spread"]

Int64 = npt.NDArray[np.int64]


def spread(state: Round, candidates: Int64) -> Int64:
    """`budget` rows spread over candidates: of each of B clusters the row nearest to the centroid.

    k-means on the L2-normalised features with unit weights, see :func:`ccma_fast.reference.representatives` for the
    choice and its ties. Where there are fewer candidates than picks, all of them and others at random, as the authors
    of ALFA-Mix and of DropQuery do.

    Parameters
    ----------
    state : Round
    candidates : ndarray, shape (n,), int64
        Positions among the unlabelled rows, ascending.

    Returns
    -------
    ndarray, shape (B,), int64
        Rows of the pool.

    Raises
    ------
    ValueError
        A candidate without a direction, which is named.
    """
    if candidates.size <= state.budget:
        others = np.delete(state.unlabelled, candidates)
        filling = state.rng.choice(others, state.budget - candidates.size, replace=False)
        return np.concatenate([state.unlabelled[candidates], filling])
    found = state.backend.weighted_kmeans(
        RowSubset(state.unlabelled_features, candidates),
        state.budget,
        max_iter=state.config.kmeans_max_iter,
        tol=state.config.kmeans_tol,
        random_state=state.rng,
        unit=True,
        kept_bytes=state.sketch_bytes,
    )
    ones = np.ones(candidates.size, np.float32)
    picks, _ = representatives(found.labels, found.squared_distances, state.budget, ones, state.budget)
    return state.unlabelled[candidates[picks]]
