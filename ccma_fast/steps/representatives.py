"""Step 6: the rows that stand for clusters."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.exact_sums import FixedPoint, exact_total, rounded_sum, slabs, weight_of_labels, weight_range
from ..backends.parts import OnePart, Parts
from ..pool.derived import Runs
from ..reference import TIE, KMeans

__all__ = ["RepresentedPart", "representatives", "representatives_of_parts"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

_NO_ROW = np.iinfo(np.int64).max


def representatives(
    found: KMeans, n_picks: int, weights: Float32 | None = None, preference: Float32 | None = None
) -> tuple[Int64, Int64]:
    """:func:`ccma_fast.reference.representatives`, in ten bytes a row.

    Parameters
    ----------
    found : KMeans
        Of M rows.
    n_picks : int
        At most M.
    weights : ndarray, shape (M,), float32, optional
        The weights of the clustering; unit weights where missing.
    preference : ndarray, shape (M,), float32, optional
        What to prefer instead of nearness.

    Returns
    -------
    picks, represents : ndarray, shape (n_picks,), int64
        Rows, and how many stand behind each.
    """
    numbers = Runs([0], [found.labels.size])
    part = RepresentedPart(found.labels, found.squared_distances, numbers, weights, preference)
    return representatives_of_parts(OnePart(part, numbers.size), len(found.centroids), n_picks)


def representatives_of_parts(parts: Parts, n_clusters: int, n_picks: int) -> tuple[Int64, Int64]:
    """The same of rows that lie in several places.

    Parameters
    ----------
    parts : Parts
        Of :class:`RepresentedPart`.
    n_clusters : int
    n_picks : int
        At most the number of rows.
    """
    lightest, heaviest, weight = zip(*parts.each("weight"), strict=True)
    total = rounded_sum(np.sum(weight, axis=0))
    fixed = FixedPoint.exact(min(lightest), max(heaviest), total, parts.n_rows)
    counts, *limbs = parts.total("counts_and_mass", n_clusters, fixed)
    mass = fixed.rounded(np.stack(limbs))
    parts.each("level", np.min(parts.each("least", n_clusters), axis=0))

    picks, clusters = np.empty(0, np.int64), np.empty(0, np.int64)
    turn = n_first = 0
    while missing := n_picks - picks.size:
        # The next of every cluster: of the least cost, the first of several.
        costs, rows = (np.stack(column) for column in zip(*parts.each("next", n_clusters, picks[turn:]), strict=True))
        least = costs.min(axis=0)
        row = np.where(costs == least, rows, _NO_ROW).min(axis=0)
        open_clusters = np.flatnonzero(np.isfinite(least))
        order = np.lexsort((open_clusters, -mass[open_clusters]))[:missing]
        turn = picks.size
        clusters = np.concatenate([clusters, open_clusters[order]])
        picks = np.concatenate([picks, row[open_clusters[order]]])
        n_first = n_first or picks.size
    later = np.bincount(clusters[n_first:], minlength=n_clusters)
    return picks, np.concatenate([(counts - later)[clusters[:n_first]], np.ones(n_picks - n_first, np.int64)])


class RepresentedPart:
    """The clustered rows of one place.

    Parameters
    ----------
    labels : ndarray, shape (M,), int32
    squared : ndarray, shape (M,), float32
        Squared distances to the centroids.
    numbers : Runs
        The rows' numbers in the whole.
    weights, preference : ndarray, shape (M,), float32, optional
        As in :func:`representatives`.
    """

    def __init__(
        self,
        labels: Int32,
        squared: Float32,
        numbers: Runs,
        weights: Float32 | None = None,
        preference: Float32 | None = None,
    ) -> None:
        self._labels, self._numbers = labels, numbers
        self._cost = squared.copy() if preference is None else -preference
        self._weights = np.broadcast_to(np.float32(1.0), labels.shape) if weights is None else weights

    def weight(self) -> tuple[float, float, Int64]:
        """The least weight that is not zero, the largest, and the sum of all."""
        return *weight_range(self._weights), exact_total(self._weights)

    def counts_and_mass(self, n_clusters: int, fixed: FixedPoint) -> Int64:
        """Rows of each cluster, and limbs of what they weigh, shape (1 + limbs, K)."""
        counts = np.bincount(self._labels, minlength=n_clusters)
        return np.vstack([counts, weight_of_labels(self._labels, self._weights, n_clusters, fixed)])

    def least(self, n_clusters: int) -> Float32:
        """The least cost of each cluster, infinite where it has no row here."""
        least = np.full(n_clusters, np.inf, np.float32)
        for part in slabs(self._labels.size):
            np.minimum.at(least, self._labels[part], self._cost[part])
        return least

    def level(self, least: Float32) -> None:
        """What lies within the tie of its cluster's least cost counts as equal."""
        for part in slabs(self._labels.size):
            cost, best = self._cost[part], least[self._labels[part]]
            self._cost[part] = np.where(cost <= best.astype(np.float64) + TIE, best, cost)

    def next(self, n_clusters: int, taken: Int64) -> tuple[Float32, Int64]:
        """The row of least cost of each cluster, the first of several: its cost and its number.

        Rows that were `taken` since the last time are none any more.
        """
        positions = self._numbers.positions(taken)
        self._cost[positions[positions >= 0]] = np.inf
        least = self.least(n_clusters)
        rows = np.full(n_clusters, _NO_ROW)
        for part in slabs(self._labels.size):
            labels = self._labels[part]
            found = np.flatnonzero(self._cost[part] <= least[labels])
            np.minimum.at(rows, labels[found], self._numbers[part][found])
        return least, rows
