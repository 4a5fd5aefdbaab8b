"""The rows of a clustering in one place on the host, through Lloyd's algorithm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import kept
from ...pool.derived import RowSubset, Runs
from ...pool.rows import Chunk, Rows
from ..exact_sums import exact_sum
from ..kmeans_part import Sums
from ..kmeans_sizes import KEPT_BYTES
from ..lloyd_part import LloydPart
from .kmeans_rows import Before, ClusteredRows

__all__ = ["KEPT_ALONG", "HostPart"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

# What is kept of the rows along the directions, where it fits and the caller does not say how much may be; else they
# are projected anew in every pass.
KEPT_ALONG = 1 << 30


class HostPart(LloydPart):
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
        kept_bytes: int = KEPT_ALONG,
    ) -> None:
        super().__init__(ClusteredRows(rows, unit=unit, chunk_size=chunk_size), numbers, weights)
        self._source, self._unit, self._chunk_size, self._kept_bytes = rows, unit, chunk_size, kept_bytes
        self._found: Int64 = np.empty(0, np.int64)

    def look_from(self, origin: Float32, sample: Float32, n_centroids: float) -> None:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.look_from`."""
        self.labels = self.squared = None
        self._found = np.empty(0, np.int64)
        self.rows.look_from(origin)
        self.rows.find_directions(sample, n_centroids, self._kept_bytes)

    def assign(self, centroids: Float32, moved: Bool | None, sums: Sums | None) -> Int64:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.assign`."""
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

    def sums(self) -> Int64:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.sums`."""
        return self._found

    def _join(self, sums: Sums, positions: Int64, labels: Int32, weights: Float32) -> None:
        self._add(sums, self.rows.take(positions), None, labels, weights)

    def _some(self, positions: Int64, numbers: Runs) -> HostPart:
        self.rows.forget_directions()
        return HostPart(
            kept(RowSubset(self._source, positions), KEPT_BYTES),
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
