"""The rows of a clustering in one place, through Lloyd's algorithm; backends compute what goes over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.derived import Runs
from .kmeans_part import ClusteredRows, ClusterPart, Sums

__all__ = ["LloydPart"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def _runs(numbers: Int64) -> Runs:
    """Ascending numbers as ranges."""
    ends = np.flatnonzero(np.diff(numbers) != 1) + 1
    return Runs(numbers[np.r_[0, ends]], numbers[np.r_[ends, numbers.size] - 1] + 1) if numbers.size else Runs([], [])


class _Grouped(NamedTuple):
    """Rows grouped by label."""

    order: Int64
    """The positions of the rows, those of each label ascending."""
    counts: Int64
    """Rows of each label in each range of row numbers, shape (ranges, K)."""

    @classmethod
    def by(cls, labels: Int32, numbers: Runs, n_labels: int) -> _Grouped:
        counts = [np.bincount(labels[positions], minlength=n_labels) for _, positions in numbers.each()]
        return cls(np.argsort(labels, kind="stable"), np.reshape(counts, (-1, n_labels)).astype(np.int64))

    def members(self, label: int) -> Int64:
        n_rows = self.counts[:, : label + 1].sum(axis=0)
        end = int(n_rows.sum())
        return self.order[end - int(n_rows[-1]) : end]


class LloydPart(ClusterPart, ABC):
    """The rows of one place, which can be clustered as a whole and, opened, in subsets."""

    def __init__(self, rows: ClusteredRows, numbers: Runs, weights: Float32) -> None:
        super().__init__(rows, numbers, weights)
        self._grouped: _Grouped | None = None
        self._inner: LloydPart | None = None
        self._inside: Int64 = np.empty(0, np.int64)

    @abstractmethod
    def look_from(self, origin: Float32, sample: Float32, n_centroids: float) -> None:
        """A clustering begins: the origin of its distances, a sample of all rows, and how many centroids each meets."""

    @abstractmethod
    def assign(self, centroids: Float32, moved: Bool | None, sums: Sums | None) -> Int64:
        """Labels and squared distances by these centroids, of which some may have `moved` since the last assignment.

        Where `sums` says how, the sums of the clusters are formed as well, for :meth:`sums`. What is returned is the
        objective, for :func:`ccma_fast.backends.exact_sums.rounded_sum`, followed by a number for each cluster, which
        is 0 where it owns no row and else positive.
        """

    @abstractmethod
    def sums(self) -> Int64:
        """The sums of the clusters as :class:`~ccma_fast.backends.kmeans_part.Sums` reads them."""

    @abstractmethod
    def _join(self, sums: Sums, positions: Int64, labels: Int32, weights: Float32) -> None:
        """Some rows join the sums of clusters, with weights of any sign."""

    @abstractmethod
    def _some(self, positions: Int64, numbers: Runs) -> LloydPart:
        """Some rows as a part of their own, in which they have these numbers; what was kept to search these may go."""

    def move(self, sums: Sums, numbers: Int64, labels: Int32) -> None:
        """Let the rows of these numbers count in the sums of other clusters."""
        assert self.labels is not None
        positions = self.numbers.positions(numbers)
        here = np.flatnonzero(positions >= 0)
        at = positions[here]
        self._join(sums, at, self.labels[at], -self.weights[at])
        self._join(sums, at, labels[here], self.weights[at])

    def open_some(self, numbers: Int64) -> None:
        """Some of all rows, by ascending numbers, as rows of a clustering of their own, in the order given."""
        positions = self.numbers.positions(numbers)
        here = np.flatnonzero(positions >= 0)
        self._open(positions[here], _runs(here))

    def group(self, n_labels: int) -> tuple[Int64, Int64]:
        """Group the rows by label: where each range of row numbers begins, and how many rows of each label it has."""
        assert self.labels is not None
        self._grouped = _Grouped.by(self.labels, self.numbers, n_labels)
        return self.numbers.starts, self._grouped.counts

    def open_group(self, label: int, starts: Int64, firsts: Int64) -> None:
        """The rows of a label as rows of a clustering of their own.

        Of the range of row numbers that begins at each of the `starts`, ascending, the first row of the label has the
        number `firsts` among those of the label.
        """
        assert self._grouped is not None
        first, counts = firsts[np.searchsorted(starts, self.numbers.starts)], self._grouped.counts[:, label]
        self._open(self._grouped.members(label), Runs(first, first + counts))

    def inside(self, method: str, *args: Any) -> Any:
        """What a method returns of the part of the rows that were opened last."""
        return getattr(self._inner, method)(*args)

    def close(self, first_label: int | None = None) -> None:
        """The rows that were opened are done with; their labels, from `first_label` on, may be those of all rows."""
        assert self._inner is not None
        if first_label is not None:
            assert self.labels is not None
            assert self.squared is not None
            assert self._inner.labels is not None
            self.labels[self._inside] = self._inner.labels + np.int32(first_label)
            self.squared[self._inside] = self._inner.squared
        self._inner, self._inside = None, np.empty(0, np.int64)

    def _open(self, positions: Int64, numbers: Runs) -> None:
        self._inner, self._inside = None, positions  # the part before goes first
        self._inner = self._some(positions, numbers)
