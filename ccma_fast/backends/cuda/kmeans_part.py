"""The rows of a clustering in one place on the device, through Lloyd's algorithm."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_outcome, kmeans_update
from ...pool.derived import RowSubset, Runs
from ...pool.rows import Rows
from ..kmeans_part import Sums
from ..lloyd_part import LloydPart
from .kmeans_rows import ClusteredRows, units_of
from .reader import Reader

__all__ = ["DevicePart"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


class DevicePart(LloydPart):
    """The rows of one place: on the device where they fit, and what is found of each until it is asked for.

    Parameters
    ----------
    rows : Rows
        Finite and, where `unit`, not too short to have a direction.
    numbers : Runs
        Their numbers in the whole.
    weights : ndarray, shape (N,), float32
        Finite and not negative.
    unit : bool
        Cluster the rows divided by their lengths.
    chunk_size : int, optional
    kept_bytes : int
        What the host may keep, which is not needed.
    """

    rows: ClusteredRows
    _there: tuple[torch.Tensor, torch.Tensor] | None
    """Labels and squared distances that the host has not copied yet."""

    def __init__(
        self,
        rows: Rows,
        numbers: Runs,
        weights: Float32,
        *,
        unit: bool,
        chunk_size: int | None = None,
        kept_bytes: int = 0,
    ) -> None:
        clustered = ClusteredRows(rows, Reader(), unit=unit, chunk_size=chunk_size)
        super().__init__(clustered, numbers, weights)
        self._unit, self._chunk_size = unit, chunk_size
        self._weights_there = torch.empty(0)
        self._sums: kmeans_update.Sums | None = None

    def look_from(self, origin: Float32, sample: Float32, n_centroids: float) -> None:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.look_from`."""
        self.labels = self.squared = None
        self.rows.look_from(origin)
        self._weights_there = self.rows.reader.tensor(self.weights)

    def assign(self, centroids: Float32, moved: Bool | None, sums: Sums | None) -> Int64:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.assign`."""
        n_clusters, weights, self._sums = len(centroids), self._weights_there, None
        join = None
        if sums is not None:
            found = kmeans_update.Sums.empty(n_clusters, self.rows.n_columns, units_of(sums, weights.device))

            def join(chunk: torch.Tensor, scale: torch.Tensor | None, labels: torch.Tensor, part: slice) -> None:
                kmeans_update.accumulate(chunk, scale, weights[part], labels, found)

            self._sums = found
        self._there = self.rows.assign(self.rows.reader.tensor(centroids), join)
        outcome = kmeans_outcome.outcome(*self._there, weights, n_clusters).cpu().numpy()
        return np.concatenate([outcome[: kmeans_outcome.LIMBS], outcome[kmeans_outcome.OWNED :]])

    def sums(self) -> Int64:
        """See :meth:`ccma_fast.backends.lloyd_part.LloydPart.sums`."""
        assert self._sums is not None
        found: Int64 = self._sums.found.cpu().numpy()
        return found

    def _join(self, sums: Sums, positions: Int64, labels: Int32, weights: Float32) -> None:
        assert self._sums is not None
        (stored, scale), tensor = self.rows.stored(positions), self.rows.reader.tensor
        kmeans_update.accumulate(stored, scale, tensor(weights), tensor(labels), self._sums)

    def _some(self, positions: Int64, numbers: Runs) -> DevicePart:
        return DevicePart(
            RowSubset(self.rows.source, positions),
            numbers,
            self.weights[positions],
            unit=self._unit,
            chunk_size=self._chunk_size,
        )

    @property
    def labels(self) -> Int32 | None:
        """The nearest centroid of each row."""
        self._fetch()
        return self._labels

    @labels.setter
    def labels(self, values: Int32 | None) -> None:
        self._labels, self._there = values, None

    @property
    def squared(self) -> Float32 | None:
        """The squared distance to it."""
        self._fetch()
        return self._squared

    @squared.setter
    def squared(self, values: Float32 | None) -> None:
        self._squared, self._there = values, None

    def _fetch(self) -> None:
        """Copies what an assignment has found to the host, once."""
        if self._there is not None:
            labels, squared = (tensor.cpu().numpy() for tensor in self._there)
            self._labels, self._squared, self._there = labels, squared, None
