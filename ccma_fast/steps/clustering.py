"""Weighted k-means: Lloyd's algorithm on all rows, on a sample, or in two levels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_choice, check_integer, check_number, random_generator
from ..config import KMEANS_METHODS
from ..pool.array_like import check_weights
from ..pool.arrays import kept
from ..pool.derived import RowSubset
from ..pool.open import open_rows
from ..pool.rows import Rows
from ..reference import KMeans

__all__ = ["cluster", "shares", "weighted_kmeans"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Rows per cluster that a sample has: centroids of so many are within a per cent or two of the full run's inertia.
_ROWS_OF_SAMPLE = 64

# Rows of one coarse cluster are read in every iteration, and kept where they fit into so many bytes.
_KEPT_BYTES = 1 << 28

_INITS = ("k-means||", "k-means++", "random")


# long: its docstring
def weighted_kmeans(
    X: Any,
    n_clusters: int,
    *,
    weights: npt.ArrayLike | None = None,
    init: str | npt.ArrayLike = "k-means||",
    method: str = "full",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
    backend: str = "auto",
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖² (step 6).

    Parameters
    ----------
    X : array_like, torch.Tensor or path, shape (M, D)
        Rows as they are: normalise them first where directions are meant. float32, float16 and bfloat16 are read in
        place, chunk by chunk; sums are float32 or better.
    n_clusters : int
        K, from 1 to M.
    weights : array_like, shape (M,), optional
        w, finite and not negative; they count in the initialisation, the update and the objective. Unit weights where
        missing or all zero.
    init : {"k-means||", "k-means++", "random"} or array_like, shape (K, D), default "k-means||"
        k-means|| with 3 rounds of K/2 candidates (Bahmani et al., arXiv 1203.6402), k-means++ (Arthur and Vassilvitskii
        2007), distinct rows drawn by weight, or the centroids to start from.
    method : {"full", "sample", "two-level"}, default "full"
        Every row in every iteration; for many clusters of many rows, training on 64 · K random rows and one exact
        assignment of all; or √K coarse clusters by a sample, each split by itself, where a row's label is the nearest
        centroid of its own coarse cluster. What they cost in inertia is measured in ``bench/``.
    max_iter : int, default 20
        Most centroid updates.
    tol : float, default 1e-4
        Stop when the objective falls by no more than tol · objective.
    random_state : int, Generator, SeedSequence or None
        None draws fresh entropy. No global generator is drawn from.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    KMeans
        Centroids, labels (ties go to the lower index), inertia, n_iter, backend, squared distances. An empty cluster is
        re-seeded from the row that contributes most to the objective. The core gives the same bits at any number of
        threads.

    Raises
    ------
    ValueError
        Wrong shapes, more clusters than rows, NaN or infinity in a row (which is named), negative weights.
    TypeError
        Inputs that are not real numbers, or `n_clusters` not an integer.

    Examples
    --------
    Three groups of rows, the first one of double weight:

    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> group = np.repeat([0, 1, 2], 100)
    >>> x = (10 * np.eye(3, 8)[group] + rng.standard_normal((300, 8))).astype(np.float32)
    >>> found = cf.weighted_kmeans(x, 3, weights=np.where(group == 0, 2.0, 1.0), random_state=0)
    >>> found.centroids.shape
    (3, 8)
    >>> np.bincount(found.labels).tolist()
    [100, 100, 100]
    """
    rows = open_rows(X, "X")
    n_clusters = check_integer("n_clusters", n_clusters, minimum=1)
    if n_clusters > rows.n_rows:
        raise ValueError(f"n_clusters must be at most the number of rows, {rows.n_rows}, got {n_clusters}")
    max_iter = check_integer("max_iter", max_iter, minimum=1)
    tol = check_number("tol", tol, minimum=0.0)
    check_choice("method", method, KMEANS_METHODS)
    start = _start(init, method, n_clusters, rows.n_columns)
    return cluster(
        choose_backend(backend, rows),
        rows,
        n_clusters,
        method=method,
        weights=check_weights(weights, rows.n_rows),
        init=start,
        max_iter=max_iter,
        tol=tol,
        random_state=random_generator(random_state),
    )


def _start(init: Any, method: str, n_clusters: int, n_columns: int) -> str | Float32:
    """The initialisation by name, or the centroids to start from."""
    if isinstance(init, str):
        check_choice("init", init, _INITS)
        return init
    if method != "full":
        raise ValueError(f"centroids to start from need method='full', got {method!r}")
    start = open_rows(init, "init").float32()
    if start.shape != (n_clusters, n_columns):
        raise ValueError(f"init must have shape {(n_clusters, n_columns)}, got {start.shape}")
    if not np.isfinite(start).all():
        raise ValueError("init must be finite, got NaN or infinity")
    return start


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
        Further arguments of the backend's `weighted_kmeans`.

    Returns
    -------
    KMeans
        Labels, inertia and squared distances of all rows; `n_iter` is the largest of any part.
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
    """`total` apportioned to masses: at least one for each group that has rows, and no more than its rows.

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
