"""Many clusters of many rows: Lloyd's algorithm on all of them, on a sample, or in two levels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..pool.array_like import check_weights
from ..pool.arrays import kept
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..reference import KMeans

__all__ = ["cluster", "shares"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows per cluster that a sample has: centroids of so many are within a per cent or two of the full run's inertia.
_ROWS_OF_SAMPLE = 64

# Rows of one coarse cluster are read in every iteration, and kept where they fit into so many bytes.
_KEPT_BYTES = 1 << 28


def cluster(
    backend: Backend,
    x: Rows,
    n_clusters: int,
    *,
    method: str,
    weights: Float32 | None = None,
    random_state: np.random.Generator,
    **settings: Any,
) -> KMeans:
    """Weighted k-means by one of three methods.

    Parameters
    ----------
    x : Rows, shape (M, D)
    n_clusters : int
        K, from 1 to M.
    method : {"full", "sample", "two-level"}
        Lloyd's algorithm on every row, K · M distances an iteration; on 64 · K rows drawn at random, then one
        assignment of all rows; or √K coarse clusters by a sample, each split into as many as its share of the weight is
        worth, 2 · √K · M distances an iteration, where a row's label is the nearest centroid of its own coarse cluster.
    weights : ndarray, shape (M,), float32, optional
    random_state : Generator
    **settings
        What else the backend's `weighted_kmeans` takes.

    Returns
    -------
    KMeans
        Labels, inertia and squared distances of all rows. Updates are the most of any part.
    """
    if method == "sample" and _ROWS_OF_SAMPLE * n_clusters < x.n_rows:
        return _by_sample(backend, x, n_clusters, weights, random_state, settings)
    if method == "two-level" and n_clusters > 3:
        return _in_two_levels(backend, x, n_clusters, weights, random_state, settings)
    return backend.weighted_kmeans(x, n_clusters, weights=weights, random_state=random_state, **settings)


def _by_sample(
    backend: Backend, x: Rows, n_clusters: int, weights: Float32 | None, rng: np.random.Generator, settings: Any
) -> KMeans:
    drawn = np.sort(rng.choice(x.n_rows, _ROWS_OF_SAMPLE * n_clusters, replace=False))
    trained = backend.weighted_kmeans(
        kept(RowSubset(x, drawn), _KEPT_BYTES),
        n_clusters,
        weights=None if weights is None else weights[drawn],
        random_state=rng,
        **settings,
    )
    assigned = {**settings, "init": trained.centroids, "max_iter": 0}
    found = backend.weighted_kmeans(x, n_clusters, weights=weights, random_state=rng, **assigned)
    return replace(found, n_iter=trained.n_iter)


def _in_two_levels(
    backend: Backend, x: Rows, n_clusters: int, weights: Float32 | None, rng: np.random.Generator, settings: Any
) -> KMeans:
    coarse = cluster(backend, x, round(n_clusters**0.5), method="sample", weights=weights, random_state=rng, **settings)
    n_coarse = len(coarse.centroids)
    by_label = np.argsort(coarse.labels, kind="stable")
    n_rows = np.bincount(coarse.labels, minlength=n_coarse)
    ends = np.cumsum(n_rows)
    mass = np.bincount(coarse.labels, weights=weights, minlength=n_coarse).astype(np.float64)
    wanted = shares(mass, n_rows, n_clusters)

    labels, squared = np.empty(x.n_rows, np.int32), np.empty(x.n_rows, np.float32)
    centroids, n_found, n_iter = [], 0, coarse.n_iter
    for n_fine, begin, end in zip(wanted.tolist(), (ends - n_rows).tolist(), ends.tolist(), strict=True):
        if n_fine == 0:
            continue
        members = by_label[begin:end]
        fine = backend.weighted_kmeans(
            kept(RowSubset(x, members), _KEPT_BYTES),
            n_fine,
            weights=None if weights is None else weights[members],
            random_state=rng,
            **settings,
        )
        labels[members] = fine.labels + np.int32(n_found)
        n_found += n_fine
        squared[members] = fine.squared_distances
        centroids.append(fine.centroids)
        n_iter = max(n_iter, fine.n_iter)
    w = check_weights(weights, x.n_rows)
    inertia = float(np.multiply(w, squared, dtype=np.float64).sum())
    return KMeans(np.concatenate(centroids), labels, inertia, n_iter, coarse.backend, squared)


def shares(mass: npt.NDArray[np.float64], n_rows: Int64, total: int) -> Int64:
    """`total` things shared out in proportion to mass, at least one for whoever has rows and no more than rows.

    Parameters
    ----------
    mass : ndarray, shape (n,), float64
        Not negative; proportional to the rows where it is all zero.
    n_rows : ndarray, shape (n,), int64
    total : int
        From the number of those with rows to the sum of `n_rows`.

    Returns
    -------
    ndarray, shape (n,), int64
        Adds up to `total`. What rounding leaves goes to the largest mass per share (ties: the lower index).
    """
    mass = np.where(n_rows > 0, mass, 0.0) if mass.any() else n_rows.astype(np.float64)
    share: Int64 = np.floor(total * (mass / mass.sum())).astype(np.int64)
    share = np.clip(share, np.minimum(n_rows, 1), n_rows)
    while (missing := total - int(share.sum())) != 0:
        # Few steps: rounding leaves less than one for each, and what a limit cuts off is seldom much.
        if missing > 0:
            worth = np.where(share < n_rows, mass / (share + 1), -1.0)
            share[int(worth.argmax())] += 1
        else:
            worth = np.where(share > 1, mass / share, np.inf)
            share[int(worth.argmin())] -= 1
    return share
