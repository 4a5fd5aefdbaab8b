"""Weighted k-means: Lloyd's algorithm on all rows, on a sample, or in two levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.exact_sums import exact_sum, mass_of_labels, rounded_sum
from ..backends.kmeans_part import facts_of
from ..backends.kmeans_sizes import KEPT_BYTES
from ..backends.parts import Inside, Parts
from ..backends.protocol import Backend, Clustered, PartedBackend
from ..checks import check_choice, check_integer, check_number, random_generator
from ..config import KMEANS_METHODS
from ..pool.array_like import check_weights
from ..pool.arrays import kept
from ..pool.derived import RowSubset
from ..pool.open import open_rows
from ..pool.rows import Rows
from ..reference import KMEANS_SAMPLE_ROWS, KMeans

__all__ = ["cluster", "cluster_parts", "shares", "weighted_kmeans"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

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
    rows = _Matrix(backend, x, weights, settings)
    found = _clustered(rows, n_clusters, method, random_state)
    return KMeans(found.centroids, rows.labels, found.inertia, found.n_iter, rows.backend, rows.squared)


def cluster_parts(
    backend: PartedBackend,
    parts: Parts,
    n_clusters: int,
    *,
    method: str,
    random_state: np.random.Generator,
    **settings: Any,
) -> Clustered:
    """The same of rows in several places, which have `labels` and `squared` distances then.

    Parameters
    ----------
    backend : PartedBackend
    parts : Parts
        Of the backend's `kmeans_part`.
    n_clusters, method, random_state
        As in :func:`cluster`.
    **settings
        Further arguments of the backend's `kmeans_of_parts`.

    Returns
    -------
    Clustered
    """
    return _clustered(_Parts(backend, parts, settings), n_clusters, method, random_state)


class _Clusterable(Protocol):
    """Rows that are clustered as a whole and in subsets, wherever they lie."""

    n_rows: int

    def kmeans(self, n_clusters: int, rng: np.random.Generator, **settings: Any) -> Clustered:
        """Lloyd's algorithm, which leaves labels and squared distances."""
        ...

    def some(self, numbers: Int64) -> AbstractContextManager[_Clusterable]:
        """Rows of ascending numbers."""
        ...

    def group(self, n_labels: int) -> tuple[Float64, Int64]:
        """The weight of the rows of each label, and how many there are; :meth:`of_label` goes by these labels."""
        ...

    def of_label(self, label: int, first_label: int) -> AbstractContextManager[_Clusterable]:
        """The rows of a label; what is found of them, labels counted from `first_label` on, takes its place."""
        ...

    def objective(self) -> float:
        """Σ w d²."""
        ...


def _clustered(rows: _Clusterable, n_clusters: int, method: str, rng: np.random.Generator) -> Clustered:
    if method == "sample" and KMEANS_SAMPLE_ROWS * n_clusters < rows.n_rows:
        return _by_sample(rows, n_clusters, rng)
    if method == "two-level" and n_clusters > 3:
        return _in_two_levels(rows, n_clusters, rng)
    return rows.kmeans(n_clusters, rng)


def _by_sample(rows: _Clusterable, n_clusters: int, rng: np.random.Generator) -> Clustered:
    drawn = np.sort(rng.choice(rows.n_rows, KMEANS_SAMPLE_ROWS * n_clusters, replace=False))
    with rows.some(drawn) as sample:
        trained = sample.kmeans(n_clusters, rng)
    found = rows.kmeans(n_clusters, rng, init=trained.centroids, max_iter=0)
    return found._replace(n_iter=trained.n_iter)


def _in_two_levels(rows: _Clusterable, n_clusters: int, rng: np.random.Generator) -> Clustered:
    coarse = _clustered(rows, round(n_clusters**0.5), "sample", rng)
    mass, n_rows = rows.group(len(coarse.centroids))
    centroids, n_found, n_iter = [], 0, coarse.n_iter
    for label, n_fine in enumerate(shares(mass, n_rows, n_clusters).tolist()):
        if n_fine == 0:
            continue
        with rows.of_label(label, n_found) as members:
            fine = members.kmeans(n_fine, rng)
        n_found += n_fine
        centroids.append(fine.centroids)
        n_iter = max(n_iter, fine.n_iter)
    return Clustered(np.concatenate(centroids), rows.objective(), n_iter)


class _Matrix:
    """Rows of one matrix, clustered by any backend."""

    def __init__(self, backend: Backend, x: Rows, weights: Float32 | None, settings: Mapping[str, Any]) -> None:
        self.n_rows = x.n_rows
        self._backend, self._x, self._weights, self._settings = backend, x, weights, settings
        self._by_label = self._ends = np.empty(0, np.int64)

    def kmeans(self, n_clusters: int, rng: np.random.Generator, **settings: Any) -> Clustered:
        found = self._backend.weighted_kmeans(
            self._x, n_clusters, weights=self._weights, random_state=rng, **{**self._settings, **settings}
        )
        self.backend, self.labels, self.squared = found.backend, found.labels, found.squared_distances
        return Clustered(found.centroids, found.inertia, found.n_iter)

    @contextmanager
    def some(self, numbers: Int64) -> Iterator[_Matrix]:
        yield self._subset(numbers)

    def group(self, n_labels: int) -> tuple[Float64, Int64]:
        self._by_label = np.argsort(self.labels, kind="stable")
        n_rows = np.bincount(self.labels, minlength=n_labels)
        self._ends = np.cumsum(n_rows)
        return mass_of_labels(self.labels, check_weights(self._weights, self.n_rows), n_labels), n_rows

    @contextmanager
    def of_label(self, label: int, first_label: int) -> Iterator[_Matrix]:
        members = self._by_label[self._ends[label - 1] if label else 0 : self._ends[label]]
        subset = self._subset(members)
        yield subset
        self.labels[members] = subset.labels + np.int32(first_label)
        self.squared[members] = subset.squared

    def objective(self) -> float:
        return rounded_sum(exact_sum(check_weights(self._weights, self.n_rows), self.squared))

    def _subset(self, numbers: Int64) -> _Matrix:
        weights = None if self._weights is None else self._weights[numbers]
        return _Matrix(self._backend, kept(RowSubset(self._x, numbers), KEPT_BYTES), weights, self._settings)


class _Parts:
    """Rows in several places."""

    def __init__(self, backend: PartedBackend, parts: Parts, settings: Mapping[str, Any]) -> None:
        self.n_rows = parts.n_rows
        self._backend, self._parts, self._settings = backend, parts, settings

    def kmeans(self, n_clusters: int, rng: np.random.Generator, **settings: Any) -> Clustered:
        of_all = {**self._settings, **settings}
        return self._backend.kmeans_of_parts(self._parts, n_clusters, random_state=rng, **of_all)

    @contextmanager
    def some(self, numbers: Int64) -> Iterator[_Parts]:
        self._parts.each("open_some", numbers)
        yield self._inside(numbers.size)
        self._parts.each("close")

    def group(self, n_labels: int) -> tuple[Float64, Int64]:
        starts, counts = (np.concatenate(column) for column in zip(*self._parts.each("group", n_labels), strict=True))
        order = np.argsort(starts)
        self._starts, counts = starts[order], counts[order]
        self._n_rows = counts.sum(axis=0)
        self._firsts = np.cumsum(counts, axis=0) - counts
        fixed = facts_of(self._parts).mass()
        return fixed.rounded(self._parts.total("mass", n_labels, fixed)), self._n_rows

    @contextmanager
    def of_label(self, label: int, first_label: int) -> Iterator[_Parts]:
        self._parts.each("open_group", label, self._starts, self._firsts[:, label])
        yield self._inside(int(self._n_rows[label]))
        self._parts.each("close", first_label)

    def objective(self) -> float:
        return rounded_sum(self._parts.total("potential"))

    def _inside(self, n_rows: int) -> _Parts:
        return _Parts(self._backend, Inside(self._parts, n_rows), self._settings)


def shares(mass: Float64, n_rows: Int64, total: int) -> Int64:
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
            worth = np.where(share > 1, mass / np.maximum(share, 1), np.inf)
            share[int(worth.argmin())] -= 1
    return share
