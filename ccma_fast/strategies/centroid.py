"""The rows nearest to the centroids of k-means."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..query.select import query
from .registry import Round, register

__all__ = ["centroid"]


@register("centroid", needs_labels=False)
def centroid(state: Round) -> npt.NDArray[np.int64]:
    """k-means with B clusters on the L2-normalised embeddings of the unlabelled rows; of each cluster the nearest row.

    The seed set of the published code of Nguyen et al., arXiv 2603.23159, and what :func:`ccma_fast.select` does where
    nothing is labelled: largest cluster first, ties to the lower index, as many clusters as the configuration allows.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in an unlabelled row, which is named.
    """
    return state.unlabelled[
        query(
            state.unlabelled_features,
            state.budget,
            labels=np.full(state.unlabelled.size, -1),
            teacher=None,
            trained=None,
            config=state.config,
            random_state=int(state.rng.integers(2**63)),
            backend=state.backend,
            memory_limit=state.memory_limit,
        ).indices
    ]
