"""Initialisation of a weighted k-means: k-means||, k-means++ or rows at random, for backends that compute distances.

What is computed is defined by :func:`ccma_fast.reference.kmeans_init`. The random numbers are drawn and compared on the
host in float64, so that backends whose distances agree choose the same rows.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..reference import (
    KMEANS_PARALLEL_OVERSAMPLING,
    KMEANS_PARALLEL_ROUNDS,
    draw,
    kmeans_plus_plus_draws,
    weighted_sample,
)

__all__ = ["ClusteredRows", "Start", "initial_rows"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Draws of k-means|| at a time.
_DRAWS = 1 << 16


class ClusteredRows(Protocol):
    """The rows of a clustering, as the initialisation sees them: D-dimensional, shape (N, D)."""

    n_rows: int

    def take(self, indices: Int64) -> Float32:
        """Some rows, shape (m, D)."""
        ...

    def nearest(self, centroids: Float32, *, within: Float32 | None = None) -> tuple[Int32, Float32]:
        """The nearest centroid of each row (ties: the lower index) and the squared distance to it, shape (N,).

        With `within` the label is −1, and the squared distance `within`, where no centroid is nearer than that.
        """
        ...

    def among(self, indices: Int64) -> ClusteredRows:
        """Some rows, as the rows of another clustering."""
        ...

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        ...


class Start(NamedTuple):
    """The initial centroids of a clustering."""

    rows: Int64
    """Rows that are the centroids, shape (K,)."""
    hints: Int32 | None
    """A centroid that is near to each row, shape (N,), where the initialisation found one."""


def initial_rows(rows: ClusteredRows, n_clusters: int, weights: Float32, init: str, rng: np.random.Generator) -> Start:
    """The initial centroids, see :func:`ccma_fast.reference.kmeans_init`."""
    if init == "random":
        return Start(weighted_sample(weights.astype(np.float64), n_clusters, rng), None)
    if init == "k-means++":
        return _kmeans_plus_plus(rows, n_clusters, weights.astype(np.float64), rng)

    candidates = [draw(weights.astype(np.float64), rng.random())]
    labels, squared = _from_first(rows, candidates)
    for _ in range(KMEANS_PARALLEL_ROUNDS):
        potential = np.multiply(weights, squared, dtype=np.float64)
        total = potential.sum()
        if total == 0.0:
            break
        new = _drawn(potential, total, KMEANS_PARALLEL_OVERSAMPLING * n_clusters, rng)
        del potential
        if new.size == 0:
            continue
        new_labels, squared = rows.nearest(rows.take(new), within=squared)
        labels = np.where(new_labels >= 0, new_labels + np.int32(len(candidates)), labels)
        del new_labels
        candidates.extend(new.tolist())
    if len(candidates) < n_clusters:
        others = np.setdiff1d(np.arange(labels.size), candidates)
        new = others[rows.top_m((weights * squared)[others], n_clusters - len(candidates))]
        labels[new] = np.arange(len(candidates), n_clusters)
        candidates.extend(new.tolist())
    del squared
    chosen = np.asarray(candidates, dtype=np.int64)
    mass: Float64 = np.bincount(labels, weights=weights, minlength=chosen.size).astype(np.float64)
    among = rows.among(chosen)
    thinned = _kmeans_plus_plus(among, n_clusters, mass, rng)
    assert thinned.hints is not None
    return Start(chosen[thinned.rows], thinned.hints[labels])


def _from_first(rows: ClusteredRows, first: list[int]) -> tuple[Int32, Float32]:
    """The first centroid and the distances to it; where these overflow nothing could be drawn by them."""
    labels, squared = rows.nearest(rows.take(np.asarray(first)))
    if not np.isfinite(squared).all():
        raise ValueError("squared distances must be finite in float32: rows this long must be scaled down")
    return labels, squared


def _drawn(potential: Float64, total: float, wanted: float, rng: np.random.Generator) -> Int64:
    """Rows drawn independently with probabilities min(1, wanted · potential / total)."""
    found = []
    for start in range(0, potential.size, _DRAWS):
        part = potential[start : start + _DRAWS]
        found.append(start + np.flatnonzero(rng.random(part.size) * total < wanted * part))
    return np.concatenate(found)


def _kmeans_plus_plus(rows: ClusteredRows, n_clusters: int, weights: Float64, rng: np.random.Generator) -> Start:
    """k-means++, see :func:`ccma_fast.reference.kmeans_plus_plus`; every batch of draws reads the rows once."""
    chosen = [draw(weights, rng.random())]
    labels, squared = _from_first(rows, chosen)
    while len(chosen) < n_clusters:
        potential = weights * squared
        if potential.any():
            uniforms = rng.random((kmeans_plus_plus_draws(len(chosen)), 2))
            new, centroids = _accepted(rows, potential, weights, uniforms, n_clusters - len(chosen))
        else:
            new = np.setdiff1d(np.arange(rows.n_rows), chosen)[:1]
            centroids = rows.take(new)
        new_labels, squared = rows.nearest(centroids, within=squared)
        labels = np.where(new_labels >= 0, new_labels + np.int32(len(chosen)), labels)
        chosen.extend(new.tolist())
    return Start(np.asarray(chosen, dtype=np.int64), labels)


def _accepted(
    rows: ClusteredRows, potential: Float64, weights: Float64, uniforms: Float64, most: int
) -> tuple[Int64, Float32]:
    """At most `most` rows that a batch of draws chooses by rejection sampling, in the order of the draws, and what they
    hold: they are read once.
    """
    cumulative = np.cumsum(potential)
    last = int(np.flatnonzero(potential)[-1])
    drawn = np.minimum(np.searchsorted(cumulative, uniforms[:, 0] * cumulative[-1], side="right"), last)
    taken = rows.take(drawn)
    x = taken.astype(np.float64)
    x -= x.mean(axis=0)
    products = x @ x.T
    squares = np.diag(products)
    squared = squares[:, None] + squares - 2.0 * products
    squared[squared < 1e-12 * (squares[:, None] + squares)] = 0.0  # equal rows, but for rounding
    kept: list[int] = []
    for i, (row, uniform) in enumerate(zip(drawn.tolist(), uniforms[:, 1].tolist(), strict=True)):
        now = min(potential[row], weights[row] * squared[i, kept].min(initial=np.inf))
        if uniform * potential[row] < now:
            kept.append(i)
    return drawn[kept[:most]], taken[kept[:most]]
