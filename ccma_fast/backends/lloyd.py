"""Lloyd's algorithm on rows that lie in one place or several, see :func:`ccma_fast.reference.weighted_kmeans`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from .exact_sums import rounded_sum
from .kmeans_origin import origin_of, sample_positions
from .kmeans_part import ClusteredRows, Sums, facts_of
from .kmeans_start import initial_centroids
from .parts import Parts, gathered, largest_first
from .protocol import Clustered

__all__ = ["lloyd"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def lloyd(
    parts: Parts,
    n_clusters: int,
    *,
    init: str | Float32,
    max_iter: int,
    tol: float,
    random_state: np.random.Generator,
    clustered: Callable[[Float32], ClusteredRows],
) -> Clustered:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², all rows read once per iteration.

    Parameters
    ----------
    parts : Parts
        Of :class:`~.lloyd_part.LloydPart`.
    n_clusters, init, max_iter, tol, random_state
        See :func:`ccma_fast.reference.weighted_kmeans`; an `init` array is left as it is.
    clustered : callable
        Makes clustered rows of a matrix, of candidates.

    Returns
    -------
    Clustered
        The parts have `labels` and `squared` distances of their rows.
    """
    facts = facts_of(parts)
    sums = facts.sums(n_clusters)
    sample = gathered(parts, sample_positions(parts.n_rows))
    parts.each("look_from", origin_of(sample), sample, n_clusters * (max_iter + 1.0))
    del sample
    if isinstance(init, str):
        centroids = initial_centroids(parts, facts, n_clusters, init, random_state, clustered)
    else:
        centroids = np.array(init, dtype=np.float32)

    inertia, empty = _assigned(parts, centroids, None, sums if max_iter > 0 else None)
    n_iter = 0
    while n_iter < max_iter:
        if empty.size:
            _reseed(parts, sums, empty)
        last, centroids = centroids, sums.means(parts.total("sums"), centroids)
        n_iter += 1
        previous = inertia
        moved = (centroids != last).any(axis=1)
        inertia, empty = _assigned(parts, centroids, moved, sums if n_iter < max_iter else None)
        if previous - inertia <= tol * previous:
            break
    return Clustered(centroids, inertia, n_iter)


def _assigned(
    parts: Parts, centroids: Float32, moved: npt.NDArray[np.bool_] | None, sums: Sums | None
) -> tuple[float, Int64]:
    """The objective of an assignment, and the clusters without rows."""
    found = parts.total("assign", centroids, moved, sums)
    n_clusters = len(centroids)
    return rounded_sum(found[:-n_clusters]), np.flatnonzero(found[-n_clusters:] == 0)


def _reseed(parts: Parts, sums: Sums, empty: Int64) -> None:
    """Let the rows that contribute most to the objective count in the sums of the empty clusters."""
    costs, seeds = largest_first(parts.each("costliest", empty.size), empty.size)
    seeds = seeds[costs > 0.0]
    parts.each("move", sums, seeds, empty[: seeds.size].astype(np.int32))
