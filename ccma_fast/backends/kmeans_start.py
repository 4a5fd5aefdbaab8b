"""Initialisation of a weighted k-means: k-means||, k-means++ or rows at random, for rows in one place or several.

What is computed is defined by :func:`ccma_fast.reference.kmeans_init`. The random numbers are drawn and compared on the
host in float64, so that backends whose distances agree choose the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..reference import (
    KMEANS_PARALLEL_OVERSAMPLING,
    KMEANS_PARALLEL_ROUNDS,
    draw,
    drawn_unit,
    draws,
    kmeans_plus_plus_draws,
    unit_exponent,
)
from .exact_sums import rounded_sum
from .kmeans_part import ClusteredRows, Facts
from .kmeans_sizes import ROWS_OF_BLOCK
from .parts import OnePart, Parts, gathered, largest_first
from .positional_random import skip

__all__ = ["initial_centroids"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


def initial_centroids(
    parts: Parts,
    facts: Facts,
    n_clusters: int,
    init: str,
    rng: np.random.Generator,
    clustered: Callable[[Float32], ClusteredRows],
) -> Float32:
    """The initial centroids, see :func:`ccma_fast.reference.kmeans_init`; parts may know one near to each row then.

    Parameters
    ----------
    parts : Parts
        Of :class:`~ccma_fast.backends.kmeans_part.ClusterPart`.
    facts : Facts
        Of all rows.
    n_clusters : int
    init : {"k-means||", "k-means++", "random"}
        "k-means++" for rows in one place only.
    rng : Generator
    clustered : callable
        Makes clustered rows of a matrix.
    """
    if init == "random":
        found = parts.each("sampled", rng, n_clusters)
        skip(rng, parts.n_rows)
        return gathered(parts, largest_first(found, n_clusters)[1])
    if init == "k-means++":
        if not isinstance(parts, OnePart):
            raise ValueError("init must be 'k-means||' or 'random' for rows in several places, got 'k-means++'")
        part = parts.part
        chosen, part.labels = _kmeans_plus_plus(part.rows, n_clusters, part.weights.astype(np.float64), rng)
        return gathered(parts, chosen)

    candidates = _candidates(parts, facts, n_clusters, rng)
    mass = facts.mass()
    weight = mass.rounded(parts.total("mass", candidates.size, mass))
    rows = gathered(parts, candidates)
    chosen, nearest = _kmeans_plus_plus(clustered(rows), n_clusters, weight, rng)
    parts.each("end_start", nearest)
    return rows[chosen]


def _candidates(parts: Parts, facts: Facts, n_clusters: int, rng: np.random.Generator) -> Int64:
    """The candidates of k-means||, at least K, each the label of the rows that are nearest to it."""
    candidates = np.array([_drawn_row(parts, facts, rng.random())])
    if not all(parts.each("start_from", gathered(parts, candidates))):
        raise _too_long()
    for _ in range(KMEANS_PARALLEL_ROUNDS):
        total = rounded_sum(parts.total("potential"))
        if total == 0.0:
            break
        drawn = parts.each("oversampled", rng, total, KMEANS_PARALLEL_OVERSAMPLING * n_clusters)
        skip(rng, parts.n_rows)
        new = np.sort(np.concatenate(drawn))
        if new.size == 0:
            continue
        parts.each("join_nearer", gathered(parts, new), candidates.size)
        candidates = np.concatenate([candidates, new])
    if (missing := n_clusters - candidates.size) > 0:
        _, new = largest_first(parts.each("costliest", missing, candidates), missing)
        parts.each("label_rows", new, candidates.size)
        candidates = np.concatenate([candidates, new])
    return candidates


def _drawn_row(parts: Parts, facts: Facts, uniform: float) -> int:
    """The row that a uniform number draws by weight, see :func:`ccma_fast.reference.draws`: first its block."""
    exponent = unit_exponent(facts.heaviest, parts.n_rows)
    blocks = np.cumsum(parts.total("weight_by_block", exponent, -(-parts.n_rows // ROWS_OF_BLOCK)))
    unit = drawn_unit(uniform, int(blocks[-1]))
    block = int(np.searchsorted(blocks, unit, side="right"))
    rows = np.cumsum(parts.total("weight_in_block", exponent, block))
    before = int(blocks[block - 1]) if block else 0
    return block * ROWS_OF_BLOCK + int(np.searchsorted(rows, unit - before, side="right"))


def _too_long() -> ValueError:
    """Where distances overflow nothing could be drawn by them."""
    return ValueError("squared distances must be finite in float32: rows this long must be scaled down")


def _kmeans_plus_plus(
    rows: ClusteredRows, n_clusters: int, weights: Float64, rng: np.random.Generator
) -> tuple[Int64, Int32]:
    """k-means++, see :func:`ccma_fast.reference.kmeans_plus_plus`; every batch of draws reads the rows once.

    The chosen rows, and the nearest of them to each row.
    """
    chosen = [draw(weights, rng.random())]
    labels, squared = rows.nearest(rows.take(np.asarray(chosen)))
    if not np.isfinite(squared).all():
        raise _too_long()
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
    return np.asarray(chosen, dtype=np.int64), labels


def _accepted(
    rows: ClusteredRows, potential: Float64, weights: Float64, uniforms: Float64, most: int
) -> tuple[Int64, Float32]:
    """At most `most` rows that a batch of draws chooses by rejection sampling, in the order of the draws, and what they
    hold: they are read once.
    """
    drawn = draws(potential, uniforms[:, 0])
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
