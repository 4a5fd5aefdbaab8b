"""Weighted k-means of the CUDA backend.

What is computed is defined by :mod:`ccma_fast.reference`, how the nearest centroid is found by
:mod:`ccma_fast.kernels.kmeans_assign`. The initialisation is that of every backend; in it the host learns the squared
distances of each round. In Lloyd's iterations labels, distances and sums stay on the device. Whether to go on, and how
many clusters are empty, the host learns while the device forms the means that are wanted if it goes on and none is: it
never waits for a device that has nothing to do. Where rows are read from elsewhere it asks first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_assign, kmeans_update
from ...kernels import linear as products
from ...pool.array_like import check_weights
from ...pool.rows import Rows
from ...pool.tensors import TensorRows
from ...reference import KMeans
from ..kmeans_start import initial_rows
from .rows import Later, Reader, check_rows_of_lengths, top_m

__all__ = ["NAME", "ON_HOST", "weighted_kmeans"]

NAME = "cuda"
ON_HOST = False

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# Rows, spread evenly, whose mean is the origin that bounds go by.
_SAMPLE = 2048

# What float32 may take from a length.
_LONGER = 1.0 + 2.0**-20


class _ClusteredRows:
    """The rows of a clustering: stored values times a factor per row (1 / length for unit rows)."""

    def __init__(self, rows: Rows, reader: Reader, *, unit: bool, chunk_size: int | None) -> None:
        self.n_rows = rows.n_rows
        self._reader, self._chunk_size = reader, chunk_size
        self._rows = reader.kept(rows)
        self.are_here = reader.is_here(self._rows)
        lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=reader.device)
        for part, chunk in self._chunks():
            lengths[part] = products.row_lengths(chunk)
        check_rows_of_lengths(rows, lengths, directions=unit)
        self._scale = (1.0 / lengths).float() if unit else None
        self._lengths = torch.full_like(lengths, _LONGER).float() if unit else (lengths * _LONGER).float()
        n_sample = min(rows.n_rows, _SAMPLE)
        sample = self._take((np.arange(n_sample) * rows.n_rows) // n_sample)
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

    def among(self, indices: Int64) -> _ClusteredRows:
        """Some rows, as rows of their own."""
        return _ClusteredRows(TensorRows(self._take(indices), "candidates"), self._reader, unit=False, chunk_size=None)

    def top_m(self, scores: Float32, m: int) -> Int64:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        return top_m(scores, m)

    def nearest(self, centroids: Float32, *, within: Float32 | None = None) -> tuple[Int32, Float32]:
        """The nearest centroid of each row, see :class:`ccma_fast.backends.kmeans_start.ClusteredRows`."""
        found = self.assign(self._reader.tensor(centroids))
        labels, squared = (column.cpu().numpy() for column in found)
        if within is not None:
            nearer = squared < within
            labels, squared = np.where(nearer, labels, np.int32(-1)), np.where(nearer, squared, within)
        return labels, squared

    def assign(self, centroids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The nearest centroid of each row and the squared distance to it, on the device."""
        labels = torch.empty(self.n_rows, dtype=torch.int32, device=centroids.device)
        squared = torch.empty(self.n_rows, dtype=torch.float32, device=centroids.device)
        prepared: dict[torch.dtype, kmeans_assign.Centroids] = {}
        for part, chunk in self._chunks():
            if chunk.dtype not in prepared:
                prepared[chunk.dtype] = kmeans_assign.prepare_centroids(centroids, self._origin, chunk.dtype)
            labels[part], squared[part] = kmeans_assign.nearest(
                chunk, self._scaled(part), self._lengths[part], prepared[chunk.dtype]
            )
        return labels, squared

    def means(self, labels: torch.Tensor, weights: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
        """The weighted mean of each cluster's rows, or its centroid as it was where they weigh nothing."""
        n_clusters, n_columns = centroids.shape
        found = kmeans_update.Sums.empty(n_clusters, n_columns, centroids.device)
        for part, chunk in self._chunks():
            kmeans_update.accumulate(chunk, self._scaled(part), weights[part], labels[part], found)
        sums, mass = found.totals()
        return torch.where(mass[:, None] > 0.0, (sums / mass[:, None]).float(), centroids)


def weighted_kmeans(
    x: Rows,
    n_clusters: int,
    *,
    weights: Float32 | None = None,
    init: str | Float32 = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
    unit: bool = False,
    chunk_size: int | None = None,
    kept_bytes: int = 0,
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖²; rows that fit are copied to the device once.

    What the host may keep, `kept_bytes`, is not needed.
    """
    reader = Reader()
    rows = _ClusteredRows(x, reader, unit=unit, chunk_size=chunk_size)
    host_weights = check_weights(weights, x.n_rows)
    if isinstance(init, str):
        first = rows.take(initial_rows(rows, n_clusters, host_weights, init, random_state).rows)
    else:
        first = np.array(init, dtype=np.float32)
    centroids, w = reader.tensor(first), reader.tensor(host_weights)

    labels, squared = rows.assign(centroids)
    inertia = _objective(w, squared)
    # There is no objective before the first: nothing is less than NaN.
    found, n_iter = _outcome(labels, inertia, torch.nan, tol, n_clusters), 0
    while n_iter < max_iter:
        means = rows.means(labels, w, centroids) if rows.are_here else None
        is_last, n_empty = found.tolist()
        if is_last:
            break
        if n_empty or means is None:
            owners = _reseeded(labels, w * squared, n_clusters, n_empty) if n_empty else labels
            means = rows.means(owners, w, centroids)
        centroids = means
        n_iter += 1
        labels, squared = rows.assign(centroids)
        previous, inertia = inertia, _objective(w, squared)
        found = _outcome(labels, inertia, previous, tol, n_clusters)
    return KMeans(centroids.cpu().numpy(), labels.cpu().numpy(), float(inertia), n_iter, NAME, squared.cpu().numpy())


def _objective(w: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
    return (w.double() * squared.double()).sum()


def _outcome(
    labels: torch.Tensor, inertia: torch.Tensor, previous: torch.Tensor | float, tol: float, n_clusters: int
) -> Later:
    """Whether the objective fell by too little to go on, and how many clusters are empty."""
    owned = torch.zeros(n_clusters, dtype=torch.bool, device=labels.device)
    owned[labels.long()] = True
    is_last = previous - inertia <= tol * previous
    return Later(torch.stack([is_last.long(), n_clusters - owned.sum()]))


def _reseeded(labels: torch.Tensor, contribution: torch.Tensor, n_clusters: int, n_empty: int) -> torch.Tensor:
    """The labels, with the rows that contribute most to the objective given to the empty clusters."""
    owned = torch.bincount(labels, minlength=n_clusters) > 0
    empty = torch.sort(owned, stable=True).indices[:n_empty]
    seeds = torch.sort(contribution, descending=True, stable=True).indices[:n_empty]
    labels = labels.clone()
    labels[seeds] = torch.where(contribution[seeds] > 0.0, empty[: len(seeds)].to(labels.dtype), labels[seeds])
    return labels
