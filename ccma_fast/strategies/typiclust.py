"""TypiClust."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..pool.derived import RowSubset
from ..steps.coverage import HostUnitRows
from .registry import Round, register

__all__ = ["typiclust"]

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

# The published code's constants.
MAX_CLUSTERS = 500
LARGEST_DROPPED_CLUSTER = 5
N_NEIGHBOURS = 20

# Pairs of rows whose distances are computed for one pick: all of a cluster's up to 4,096 rows.
_PAIRS = 4096**2

# Rows whose neighbours are looked for in one product.
_BATCH = 256


@register("typiclust", needs_labels=False)
def typiclust(state: Round) -> Int64:
    """The most typical row of the largest clusters that hold the fewest labels.

    Hacohen, Dekel and Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low Budgets", arXiv
    2202.02794. k-means with min(|L| + B, 500) clusters on the L2-normalised embeddings of all rows, labelled ones
    included; clusters of up to 5 rows are dropped; the others are ordered by their number of labelled rows, then the
    larger first (ties: the lower cluster), and visited in that order, again and again where B exceeds them. Each visit
    takes the row of highest typicality, 1 / (mean distance to its nearest neighbours), ties to the lower index.
    Neighbours are the 20 nearest, or as many as half of the rows, of the cluster's rows that are neither labelled nor
    chosen.

    Departures from the published code: one k-means for any number of clusters, the paper's distance where the code has
    its square, clusters without an unlabelled row are passed over, and the dropped ones, in the same order, serve when
    the others are used up.

    Raises
    ------
    ValueError
        NaN, infinity or a zero vector in a row, which is named.

    Notes
    -----
    In a cluster of more than 4,096 such rows, n, the typicality of 4,096² / n rows drawn at random is computed, with
    neighbours among all of them. Memory is some 20 bytes per pool row and one block of distances.
    """
    n_clusters = min(state.labelled.size + state.budget, MAX_CLUSTERS, state.labels.size)
    labels = state.backend.weighted_kmeans(
        state.features,
        n_clusters,
        max_iter=state.config.kmeans_max_iter,
        tol=state.config.kmeans_tol,
        random_state=state.rng,
        unit=True,
        kept_bytes=state.sketch_bytes,
    ).labels
    sizes = np.bincount(labels, minlength=n_clusters)
    n_labelled = np.bincount(labels[state.labelled], minlength=n_clusters)
    left = [state.unlabelled[labels[state.unlabelled] == cluster] for cluster in range(n_clusters)]
    kept, dropped = sizes > LARGEST_DROPPED_CLUSTER, sizes <= LARGEST_DROPPED_CLUSTER
    order = np.lexsort((-sizes, n_labelled))
    chosen: list[int] = []
    for visited in (order[kept[order]], order[dropped[order]]):
        while len(chosen) < state.budget and any(left[cluster].size for cluster in visited):
            for cluster in visited:
                if left[cluster].size and len(chosen) < state.budget:
                    row = _most_typical(state, left[cluster])
                    chosen.append(row)
                    left[cluster] = left[cluster][left[cluster] != row]
    return np.asarray(chosen, dtype=np.int64)


def _most_typical(state: Round, rows: Int64) -> int:
    """The pool row among `rows` whose mean distance to its nearest neighbours among `rows` is smallest."""
    n_neighbours = min(N_NEIGHBOURS, rows.size // 2)
    if n_neighbours == 0:
        return int(rows[0])
    members = HostUnitRows(RowSubset(state.features, rows), state.backend)
    candidates = np.arange(rows.size)
    if rows.size**2 > _PAIRS:
        n_candidates = max(1, _PAIRS // rows.size)
        candidates = np.sort(state.rng.choice(candidates, n_candidates, replace=False))
    mean_distance: Float64 = np.empty(candidates.size)
    for start in range(0, candidates.size, _BATCH):
        batch = candidates[start : start + _BATCH]
        squared = np.empty((batch.size, rows.size), np.float32)
        for part, similarity in members.similarities(members.take(batch)):
            squared[:, part] = 2.0 - 2.0 * similarity.T
        squared[np.arange(batch.size), batch] = np.inf  # a row is not its own neighbour
        nearest = np.partition(squared, n_neighbours - 1, axis=1)[:, :n_neighbours]
        nearest.sort(axis=1)
        distances = np.sqrt(np.maximum(nearest, 0.0), dtype=np.float64)
        mean_distance[start : start + _BATCH] = distances.mean(axis=1)
    return int(rows[candidates[mean_distance.argmin()]])
