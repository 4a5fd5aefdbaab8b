"""The rows of a clustering on the device: distances to centroids, and means of clusters."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_assign, kmeans_update
from ...kernels import linear as products
from ...pool.rows import Rows
from ...pool.tensors import TensorRows
from ..kmeans_origin import sample_positions
from .reader import Reader
from .rows import check_row_lengths
from .sorting import top_m

__all__ = ["ClusteredRows"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# What float32 may take from a length.
_LONGER = 1.0 + 2.0**-20


class ClusteredRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows)."""

    def __init__(self, rows: Rows, reader: Reader, *, unit: bool, chunk_size: int | None) -> None:
        self.n_rows = rows.n_rows
        self._reader, self._chunk_size = reader, chunk_size
        self._rows = reader.kept(rows)
        self.are_on_device = reader.is_on_device(self._rows)
        lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=reader.device)
        for part, chunk in self._chunks():
            lengths[part] = products.row_lengths(chunk)
        check_row_lengths(rows, lengths, directions=unit)
        self._scale = (1.0 / lengths).float() if unit else None
        self._lengths = torch.full_like(lengths, _LONGER).float() if unit else (lengths * _LONGER).float()
        sample = self._take(sample_positions(rows.n_rows))
        self._origin = sample.mean(dim=0, dtype=torch.float64).float()

    def _chunks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for start, (chunk,) in self._reader.chunks(self._rows, chunk_size=self._chunk_size):
            yield slice(start, start + len(chunk)), chunk

    def _scaled(self, part: slice) -> torch.Tensor | None:
        return None if self._scale is None else self._scale[part]

    def _take(self, indices: Int64) -> torch.Tensor:
        taken = self._reader.take(self._rows, indices).float()
        return taken if self._scale is None else taken * self._scale[self._reader.tensor(indices), None]

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        rows: Float32 = self._take(indices).cpu().numpy()
        return rows

    def of_matrix(self, x: Float32) -> ClusteredRows:
        """Rows of a matrix as they are."""
        rows = TensorRows(self._reader.tensor(x), "candidates")
        return ClusteredRows(rows, self._reader, unit=False, chunk_size=None)

    @property
    def lengths(self) -> tuple[float, float]:
        """The least length of a row that is not zero (infinite where there is none), and the largest (0)."""
        if self._scale is not None:
            return 1.0, 1.0
        longer_than_0 = self._lengths[self._lengths > 0.0]
        if longer_than_0.numel() == 0:
            return math.inf, 0.0
        shortest, longest = torch.stack(torch.aminmax(longer_than_0)).tolist()
        return shortest, longest

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        return top_m(scores, m)

    def nearest(self, centroids: Float32, *, within: Float32 | None = None) -> tuple[Int32, Float32]:
        """The nearest centroid of each row, see :class:`ccma_fast.backends.kmeans_part.ClusteredRows`."""
        of_device, squared_there = self.assign(self._reader.tensor(centroids))
        found = torch.stack([of_device, squared_there.view(torch.int32)]).cpu().numpy()  # in one copy
        labels, squared = found[0], found[1].view(np.float32)
        if within is not None:
            nearer = squared < within
            labels, squared = np.where(nearer, labels, np.int32(-1)), np.where(nearer, squared, within)
        return labels, squared

    def assign(self, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest centroid of each row and the squared distance to it, on the device."""
        labels = torch.empty(self.n_rows, dtype=torch.int32, device=centroids.device)
        squared = torch.empty(self.n_rows, dtype=torch.float32, device=centroids.device)
        prepared = kmeans_assign.prepare_centroids(centroids, self._origin)
        for part, chunk in self._chunks():
            labels[part], squared[part], _ = kmeans_assign.nearest(
                chunk, self._scaled(part), self._lengths[part], prepared
            )
        return labels, squared

    def means(
        self, labels: torch.Tensor, weights: torch.Tensor, centroids: torch.Tensor, units: kmeans_update.Units
    ) -> torch.Tensor:
        """The weighted mean of each cluster's rows, or its centroid as it was where they weigh nothing."""
        n_clusters, n_columns = centroids.shape
        found = kmeans_update.Sums.empty(n_clusters, n_columns, units)
        for part, chunk in self._chunks():
            kmeans_update.accumulate(chunk, self._scaled(part), weights[part], labels[part], found)
        means: torch.Tensor = kmeans_update.means(found, centroids)
        return means
