"""Weighted k-means of the CPU backend: Lloyd's algorithm, see :func:`ccma_fast.reference.weighted_kmeans`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...pool.array_like import check_weights
from ...pool.rows import Rows
from ...reference import KMeans
from ..kmeans_start import initial_rows
from .device import NAME
from .kmeans_rows import Before, ClusteredRows, Totals
from .sorting import top_m

__all__ = ["weighted_kmeans"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

# What is kept of the rows along the directions, where it fits and the caller does not say how much may be; else they
# are projected anew in every pass.
_KEPT_BYTES = 1 << 30


def weighted_kmeans(
    x: Rows,
    n_clusters: int,
    *,
    weights: Float32 | None = None,
    init: str | Float32 = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
    unit: bool = False,
    chunk_size: int | None = None,
    kept_bytes: int = _KEPT_BYTES,
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², all rows read once per iteration."""
    rows = ClusteredRows(x, unit=unit, chunk_size=chunk_size)
    w = check_weights(weights, x.n_rows)
    totals = Totals(n_clusters, x.n_columns, w)

    def assigned(
        centroids: Float32, hints: Int32 | None, before: Before | None, *, last: bool
    ) -> tuple[Int32, Float32, float]:
        totals.clear()
        labels, squared = rows.nearest(centroids, hints=hints, before=before, totals=None if last else totals)
        return labels, squared, float(np.multiply(w, squared, dtype=np.float64).sum())

    rows.find_directions(n_clusters * (max_iter + 1.0), kept_bytes)
    hints: Int32 | None = None
    if isinstance(init, str):
        start = initial_rows(rows, n_clusters, w, init, random_state)
        centroids, hints = rows.take(start.rows), start.hints
        del start
    else:
        centroids = np.array(init, dtype=np.float32)

    labels, squared, inertia = assigned(centroids, hints, None, last=max_iter == 0)
    n_iter = 0
    while n_iter < max_iter:
        seeded = _reseeded(labels, w * squared, n_clusters)
        if seeded is not labels:
            rows.recount(totals, labels, seeded)
        last, centroids = centroids, totals.means(centroids)
        n_iter += 1
        hints, before, previous = labels, Before(squared, (centroids != last).any(axis=1)), inertia
        del labels, squared, seeded, last  # before there are new ones
        labels, squared, inertia = assigned(centroids, hints, before, last=n_iter == max_iter)
        if previous - inertia <= tol * previous:
            break
    return KMeans(centroids, labels, inertia, n_iter, NAME, squared)


def _reseeded(labels: Int32, contribution: Float32, n_clusters: int) -> Int32:
    """The labels, with the rows that contribute most to the objective given to the empty clusters."""
    empty = np.flatnonzero(np.bincount(labels, minlength=n_clusters) == 0)
    if empty.size == 0:
        return labels
    seeds = top_m(contribution, empty.size)
    seeds = seeds[contribution[seeds] > 0.0]
    labels = labels.copy()
    labels[seeds] = empty[: seeds.size]
    return labels
