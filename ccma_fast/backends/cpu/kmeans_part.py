"""The rows of a clustering in one place on the host, through Lloyd's algorithm."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import kept
from ...pool.derived import RowSubset, Runs
from ...pool.rows import Chunk, Rows
from ..exact_sums import exact_sum
from ..kmeans_part import ClusterPart, Sums
from .kmeans_rows import Before, ClusteredRows

__all__ = ["KEPT_BYTES", "HostPart"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# What is kept of the rows along the directions, where it fits and the caller does not say how much may be; else they
# are projected anew in every pass.
KEPT_BYTES = 1 << 30


# Some of the rows are read in every iteration, and kept where they fit into so many bytes.
_KEPT_ROWS = 1 << 28


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


class HostPart(ClusterPart):
    """The rows of one place.

    Parameters
    ----------
    rows : Rows
        Read once: they are finite and, where `unit`, not too short to have a direction.
    numbers : Runs
        Their numbers in the whole.
    weights : ndarray, shape (N,), float32
        Finite and not negative.
    unit : bool
        Cluster the rows divided by their lengths.
    chunk_size : int, optional
    kept_bytes : int
        What may be kept of the rows along the directions of the search.
    """

    rows: ClusteredRows

    def __init__(
        self,
        rows: Rows,
        numbers: Runs,
        weights: Float32,
        *,
        unit: bool,
        chunk_size: int | None = None,
        kept_bytes: int = KEPT_BYTES,
    ) -> None:
        super().__init__(ClusteredRows(rows, unit=unit, chunk_size=chunk_size), numbers, weights)
        self._source, self._unit, self._chunk_size, self._kept_bytes = rows, unit, chunk_size, kept_bytes
        self._found: Int64 = np.empty(0, np.int64)
        self._grouped: _Grouped | None = None
        self._inner: HostPart | None = None
        self._inside: Int64 = np.empty(0, np.int64)

    def look_from(self, origin: Float32, sample: Float32, n_centroids: float) -> None:
        """A clustering begins: the origin of its distances, a sample of all rows, and how many centroids each meets."""
        self.labels = self.squared = None
        self._found = np.empty(0, np.int64)
        self.rows.look_from(origin)
        self.rows.find_directions(sample, n_centroids, self._kept_bytes)

    def assign(self, centroids: Float32, moved: Bool | None, sums: Sums | None) -> Int64:
        """Labels and squared distances by these centroids, of which some may have `moved` since the last assignment.

        Where `sums` says how, the sums of the clusters are formed as well, for :meth:`sums`. What is returned is the
        objective, for :func:`ccma_fast.backends.exact_sums.rounded_sum`, followed by the number of rows of each label.
        """
        hints, before = self.labels, None
        if moved is not None:
            assert self.squared is not None
            before = Before(self.squared, moved)
        if sums is None:
            self._found = np.empty(0, np.int64)
        elif self._found.size == 0:
            self._found = sums.empty(self.rows.n_columns)
        else:
            self._found[:] = 0

        def join(chunk: Chunk, scale: Float32 | None, labels: Int32, part: slice) -> None:
            assert sums is not None
            self._add(sums, chunk, scale, labels, self.weights[part])

        self.labels, self.squared = self.rows.nearest(
            centroids, hints=hints, before=before, join=None if sums is None else join
        )
        counts = np.bincount(self.labels, minlength=len(centroids))
        return np.concatenate([exact_sum(self.weights, self.squared), counts])

    def move(self, sums: Sums, numbers: Int64, labels: Int32) -> None:
        """Let the rows of these numbers count in the sums of other clusters."""
        assert self.labels is not None
        positions = self.numbers.positions(numbers)
        here = np.flatnonzero(positions >= 0)
        at = positions[here]
        rows, weights = self.rows.take(at), self.weights[at]
        self._add(sums, rows, None, self.labels[at], -weights)
        self._add(sums, rows, None, labels[here], weights)

    def sums(self) -> Int64:
        """The sums of the clusters as :class:`~ccma_fast.backends.kmeans_part.Sums` reads them."""
        return self._found

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
        self.rows.forget_directions()
        self._inner, self._inside = None, positions
        self._inner = HostPart(
            kept(RowSubset(self._source, positions), _KEPT_ROWS),
            numbers,
            self.weights[positions],
            unit=self._unit,
            chunk_size=self._chunk_size,
            kept_bytes=self._kept_bytes,
        )

    def _add(self, sums: Sums, x: Chunk, scale: Float32 | None, labels: Int32, weights: Float32) -> None:
        of_x, of_mass = sums.views(self._found, self.rows.n_columns)
        step = 2.0**sums.of_x.step
        _core.accumulate(x, scale, labels, weights, of_x, sums.of_x.scale, of_mass, sums.of_mass.scale, step)
