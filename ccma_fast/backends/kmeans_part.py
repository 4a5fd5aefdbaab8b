"""The rows of a clustering in one place, and what their initialisation keeps of each."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ..pool.derived import Runs
from ..reference import in_units, sample_keys
from .exact_sums import (
    FixedPoint,
    bits_above,
    exact_sum,
    exact_total,
    rounded_sum,
    slabs,
    weight_of_labels,
    weight_range,
)
from .kmeans_sizes import ROWS_OF_BLOCK
from .parts import Parts, largest_first
from .positional_random import uniforms

__all__ = ["ClusterPart", "ClusteredRows", "Facts", "Sums", "facts_of"]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Sums in float64 at a time.
_VALUES_OF_BAND = 1 << 18


class ClusteredRows(Protocol):
    """The rows of a clustering, as the initialisation sees them: D-dimensional, shape (N, D)."""

    n_rows: int

    @property
    def lengths(self) -> tuple[float, float]:
        """The least length of a row that is not zero (infinite where there is none), and the largest (0)."""
        ...

    def take(self, indices: Int64) -> Float32:
        """Some rows, shape (m, D)."""
        ...

    def nearest(self, centroids: Float32, *, within: Float32 | None = None) -> tuple[Int32, Float32]:
        """The nearest centroid of each row (ties: the lower index) and the squared distance to it, shape (N,).

        With `within` the label is −1, and the squared distance `within`, where no centroid is nearer than that.
        """
        ...

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        ...


class Facts(NamedTuple):
    """What is known of the rows of a part, or of all parts."""

    n_rows: int
    shortest: float
    """The least length of a row that is not zero; infinite where there is none."""
    longest: float
    lightest: float
    """The least weight that is not zero; infinite where there is none."""
    heaviest: float
    weight: Int64
    """The sum of the weights, for :func:`ccma_fast.backends.exact_sums.rounded_sum`."""

    def mass(self) -> FixedPoint:
        """How weights are added up: without rounding."""
        return FixedPoint.exact(self.lightest, self.heaviest, rounded_sum(self.weight), self.n_rows)

    def sums(self, n_clusters: int) -> Sums:
        """How clusters are added up: no w · x is rounded by more than 2^−30 of the least w · ‖x‖ that there may be."""
        shortest, longest = (self.shortest, self.longest) if self.longest > 0.0 else (1.0, 1.0)
        finest = 31 - bits_above(self.lightest) - bits_above(shortest)
        total = rounded_sum(self.weight) * longest
        of_x = FixedPoint.covering(self.heaviest * longest, total, finest, self.n_rows)
        return Sums(n_clusters, of_x, self.mass())


class Sums(NamedTuple):
    """How sums over the rows of clusters are formed: Σ w x and Σ w in limbs of fixed point, in one array."""

    n_clusters: int
    of_x: FixedPoint
    of_mass: FixedPoint

    def empty(self, n_columns: int) -> Int64:
        """Sums over no rows."""
        return np.zeros(self.n_clusters * (n_columns * self.of_x.n_limbs + self.of_mass.n_limbs), np.int64)

    def views(self, found: Int64, n_columns: int) -> tuple[Int64, Int64]:
        """Σ w x, shape (limbs, K, D), and Σ w, shape (limbs, K)."""
        shape = (self.of_x.n_limbs, self.n_clusters, n_columns)
        end = found.size - self.n_clusters * self.of_mass.n_limbs
        return found[:end].reshape(shape), found[end:].reshape(self.of_mass.n_limbs, self.n_clusters)

    def means(self, found: Int64, centroids: Float32) -> Float32:
        """The weighted mean of each cluster's rows, or its centroid as it was where they weigh nothing."""
        of_x, of_mass = self.views(found, centroids.shape[1])
        mass = self.of_mass.rounded(of_mass)
        heavy = mass > 0.0
        mass[~heavy] = 1.0
        means = np.empty_like(centroids)
        band = max(1, _VALUES_OF_BAND // centroids.shape[1])
        for start in range(0, self.n_clusters, band):
            some = slice(start, start + band)
            np.divide(self.of_x.values(of_x[:, some]), mass[some, None], out=means[some], casting="same_kind")
        means[~heavy] = centroids[~heavy]
        return means


def facts_of(parts: Parts) -> Facts:
    """The facts of all parts, whose rows weigh alike where none weighs anything."""
    found = _merged(parts.each("facts"))
    return found if found.heaviest > 0.0 else _merged(parts.each("weigh_alike"))


def _merged(found: list[Facts]) -> Facts:
    n_rows, shortest, longest, lightest, heaviest, weight = zip(*found, strict=True)
    return Facts(sum(n_rows), min(shortest), max(longest), min(lightest), max(heaviest), np.sum(weight, axis=0))


class ClusterPart:
    """The rows of one place, with what the initialisation keeps of each.

    Parameters
    ----------
    rows : ClusteredRows
    numbers : Runs
        Their numbers in the whole.
    weights : ndarray, shape (N,), float32
        Finite and not negative.
    """

    def __init__(self, rows: ClusteredRows, numbers: Runs, weights: Float32) -> None:
        self.rows, self.numbers, self.weights = rows, numbers, weights
        self.labels: Int32 | None = None
        """The nearest centroid of each row, or one that is near."""
        self.squared: Float32 | None = None
        """The squared distance to it, where it is the nearest."""

    def facts(self) -> Facts:
        w = self.weights
        return Facts(self.rows.n_rows, *self.rows.lengths, *weight_range(w), exact_total(w))

    def weigh_alike(self) -> Facts:
        self.weights = np.ones(self.rows.n_rows, np.float32)
        return self.facts()

    def take(self, numbers: Int64) -> tuple[Int64, Float32]:
        """Which of the numbers are those of rows here, as positions, and these rows."""
        positions = self.numbers.positions(numbers)
        here = np.flatnonzero(positions >= 0)
        return here, self.rows.take(positions[here])

    def weight_by_block(self, exponent: int, n_blocks: int) -> Int64:
        """The weight of the rows of each block of row numbers, in units of 2^−exponent."""
        found = np.zeros(n_blocks, np.int64)
        for part in slabs(self.rows.n_rows):
            np.add.at(found, self.numbers[part] // ROWS_OF_BLOCK, in_units(self.weights[part], exponent))
        return found

    def weight_in_block(self, exponent: int, block: int) -> Int64:
        """The same of each row of a block."""
        found = np.zeros(ROWS_OF_BLOCK, np.int64)
        positions = self.numbers.positions(np.arange(block * ROWS_OF_BLOCK, (block + 1) * ROWS_OF_BLOCK))
        here = positions >= 0
        found[here] = in_units(self.weights[positions[here]], exponent)
        return found

    def sampled(self, rng: np.random.Generator, m: int) -> tuple[Float64, Int64]:
        """The m largest keys of rows, and their numbers, see :func:`ccma_fast.reference.weighted_sample`."""
        best = np.empty(0), np.empty(0, np.int64)
        for part, drawn in uniforms(rng, self.numbers):
            keys = sample_keys(self.weights[part], drawn)
            # Of equal keys that of the lower number is there already.
            larger = np.flatnonzero(keys > best[0][-1]) if best[0].size == m else np.arange(keys.size)
            best = largest_first([best, (keys[larger], self.numbers[part][larger])], m)
        return best

    def start_from(self, centroid: Float32) -> bool:
        """The first centroid, shape (1, D); whether all squared distances to it are finite."""
        self.labels, self.squared = self.rows.nearest(centroid)
        return bool(np.isfinite(self.squared).all())

    def potential(self) -> Int64:
        """Σ w d², for :func:`ccma_fast.backends.exact_sums.rounded_sum`."""
        assert self.squared is not None
        return exact_sum(self.weights, self.squared)

    def oversampled(self, rng: np.random.Generator, total: float, wanted: float) -> Int64:
        """Numbers of rows drawn independently with probabilities min(1, wanted · w d² / total)."""
        assert self.squared is not None
        found = [np.empty(0, np.int64)]
        for part, drawn in uniforms(rng, self.numbers):
            potential = np.multiply(self.weights[part], self.squared[part], dtype=np.float64)
            found.append(self.numbers[part][drawn * total < wanted * potential])
        return np.concatenate(found)

    def join_nearer(self, centroids: Float32, first_label: int) -> None:
        """Rows nearer to one of more centroids, labelled from `first_label` on, than to any before join it."""
        assert self.labels is not None
        labels, self.squared = self.rows.nearest(centroids, within=self.squared)
        np.copyto(self.labels, labels + np.int32(first_label), where=labels >= 0)

    def costliest(self, m: int, without: Int64 | None = None) -> tuple[Float32, Int64]:
        """The m largest w d² with the numbers of their rows, but for some rows."""
        assert self.squared is not None
        cost = self.weights * self.squared
        if without is not None:
            positions = self.numbers.positions(without)
            cost[positions[positions >= 0]] = -1.0
        best = self.rows.top_m(cost, min(m, cost.size))
        if without is not None:
            best = best[cost[best] >= 0.0]
        return cost[best], self.numbers[best]

    def label_rows(self, numbers: Int64, first_label: int) -> None:
        """The rows of these numbers get labels of their own, from `first_label` on."""
        assert self.labels is not None
        positions = self.numbers.positions(numbers)
        here = np.flatnonzero(positions >= 0)
        self.labels[positions[here]] = first_label + here

    def mass(self, n_labels: int, fixed: FixedPoint) -> Int64:
        """The weight of the rows of each label in limbs of fixed point, shape (limbs, n_labels)."""
        assert self.labels is not None
        return weight_of_labels(self.labels, self.weights, n_labels, fixed)

    def end_start(self, centroid_of_label: Int32) -> None:
        """What labels mean from now on."""
        assert self.labels is not None
        self.labels, self.squared = centroid_of_label[self.labels], None
