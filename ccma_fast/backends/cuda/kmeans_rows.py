"""The rows of a clustering on the device: distances to centroids, and means of clusters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_assign, kmeans_update
from ...kernels import linear as products
from ...pool.rows import Rows
from ...pool.tensors import TensorRows
from ..kmeans_origin import sample_positions
from ..kmeans_part import Sums
from .reader import Reader
from .rows import check_row_lengths
from .sorting import top_m

__all__ = ["ClusteredRows", "Joined", "rows_of_matrix", "units_of"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# What float32 may take from a length.
_LONGER = 1.0 + 2.0**-20


Joined = Callable[[torch.Tensor, "torch.Tensor | None", torch.Tensor, slice], None]
"""Takes a chunk with its rows' scales, labels and positions."""


class ClusteredRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows).

    They are compared from an origin, near which products round less: the mean of a sample, until :meth:`look_from` says
    another. No result depends on it.
    """

    def __init__(self, rows: Rows, reader: Reader, *, unit: bool, chunk_size: int | None) -> None:
        self.n_rows, self.n_columns = rows.n_rows, rows.n_columns
        self.reader, self._chunk_size = reader, chunk_size
        self.source = reader.kept(rows)
        """The rows as they are stored, on the device where they fit."""
        self.are_on_device = reader.is_on_device(self.source)
        lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=reader.device)
        for part, chunk in self._chunks():
            lengths[part] = products.row_lengths(chunk)
        check_row_lengths(rows, lengths, directions=unit)
        self._scale = (1.0 / lengths).float() if unit else None
        self._lengths = torch.full_like(lengths, _LONGER).float() if unit else (lengths * _LONGER).float()
        self._origin = self._taken(sample_positions(rows.n_rows)).mean(dim=0, dtype=torch.float64).float()

    def _chunks(self) -> Iterator[tuple[slice, torch.Tensor]]:
        for start, (chunk,) in self.reader.chunks(self.source, chunk_size=self._chunk_size):
            yield slice(start, start + len(chunk)), chunk

    def _scaled(self, part: slice) -> torch.Tensor | None:
        return None if self._scale is None else self._scale[part]

    def take(self, indices: Int64) -> Float32:
        """Some rows as they are clustered."""
        rows: Float32 = self._taken(indices).cpu().numpy()
        return rows

    def _taken(self, indices: Int64) -> torch.Tensor:
        stored, scale = self.stored(indices)
        return stored.float() if scale is None else stored.float() * scale[:, None]

    def look_from(self, origin: Float32) -> None:
        """The origin that rows and centroids are compared from."""
        self._origin = self.reader.tensor(origin)

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
        of_device, squared_there = self.assign(self.reader.tensor(centroids))
        found = torch.stack([of_device, squared_there.view(torch.int32)]).cpu().numpy()  # in one copy
        labels, squared = found[0], found[1].view(np.float32)
        if within is not None:
            nearer = squared < within
            labels, squared = np.where(nearer, labels, np.int32(-1)), np.where(nearer, squared, within)
        return labels, squared

    def assign(self, centroids: torch.Tensor, join: Joined | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest centroid of each row and the squared distance to it, on the device.

        Every row may `join` others of its label while it is at hand.
        """
        labels = torch.empty(self.n_rows, dtype=torch.int32, device=centroids.device)
        squared = torch.empty(self.n_rows, dtype=torch.float32, device=centroids.device)
        prepared = kmeans_assign.prepare_centroids(centroids, self._origin)
        for part, chunk in self._chunks():
            labels[part], squared[part], _ = kmeans_assign.nearest(
                chunk, self._scaled(part), self._lengths[part], prepared
            )
            if join is not None:
                join(chunk, self._scaled(part), labels[part], part)
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

    def stored(self, indices: Int64) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Some rows as they are stored, on the device, and their scales."""
        scale = None if self._scale is None else self._scale[self.reader.tensor(indices)]
        return self.reader.take(self.source, indices), scale


def rows_of_matrix(x: Float32, reader: Reader) -> ClusteredRows:
    """Rows of a matrix as they are."""
    return ClusteredRows(TensorRows(reader.tensor(x), "candidates"), reader, unit=False, chunk_size=None)


def units_of(sums: Sums, device: torch.device) -> kmeans_update.Units:
    """How the device forms the sums of clusters."""
    of_x, of_mass = sums.of_x, sums.of_mass
    return kmeans_update.Units.of(
        device, of_x.exponent, of_mass.exponent, of_x.step, n_limbs=of_x.n_limbs, n_mass_limbs=of_mass.n_limbs
    )
