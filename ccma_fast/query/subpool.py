"""Step 1: the rows to score."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np

from ..backends.protocol import on_ranks
from ..pool.derived import RowSubset
from ..steps.clustering import cluster
from .inputs import Inputs
from .picks import stand_for_clusters
from .settings import RowNumbers

__all__ = ["Subpool", "diverse_subpool"]


class Subpool(NamedTuple):
    """The rows to score."""

    rows: RowNumbers
    """Row numbers, ascending."""
    n_clusters: int = 0
    """Number of clusters that the rows represent; 0 where every row is scored."""


def diverse_subpool(inputs: Inputs) -> Subpool:
    """All selectable rows or a random sample; of these all, or the rows nearest to k-means centroids."""
    settings, unlabelled = inputs.settings, inputs.unlabelled
    config, rng = settings.config, settings.streams.subpool
    left: RowNumbers = unlabelled
    if inputs.n_left < unlabelled.size:
        left = unlabelled[np.sort(rng.choice(unlabelled.size, inputs.n_left, replace=False))]
    if inputs.n_scored == left.size:
        return Subpool(left)
    n_clusters = config.cluster_count(left.size, inputs.n_scored)
    spread = on_ranks(settings.backend)
    clustered = partial(cluster, settings.backend) if spread is None else spread.cluster
    found = clustered(
        RowSubset(inputs.space, left) if left is unlabelled else settings.kept(inputs.space, left),
        n_clusters,
        method=config.subpool_method,
        init="random",
        max_iter=config.subpool_max_iter,
        tol=config.kmeans_tol,
        random_state=rng,
        unit=True,
        chunk_size=settings.chunk_size,
        kept_bytes=settings.memory.sketch,
    )
    positions, _ = stand_for_clusters(settings, found, inputs.n_scored)
    return Subpool(left[np.sort(positions)], n_clusters)
