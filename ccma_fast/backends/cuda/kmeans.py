"""Weighted k-means of the CUDA backend: Lloyd's algorithm, see :func:`ccma_fast.reference.weighted_kmeans`.

The initialisation is that of every backend; in it the squared distances of each round are copied to the host. In
Lloyd's iterations labels, distances and sums stay on the device. The objective and the number of empty clusters are
copied to the host while the device forms the means of the next iteration, so that the device is never idle. Where rows
are not on the device, the host synchronises before the next iteration.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_outcome
from ...pool.array_like import check_weights
from ...pool.derived import Runs
from ...pool.rows import Rows
from ...reference import KMeans
from ..exact_sums import rounded_sum
from ..kmeans_part import ClusterPart, facts_of
from ..kmeans_start import initial_centroids
from ..lloyd import lloyd
from ..parts import OnePart, Parts
from ..protocol import Clustered
from .device import NAME
from .kmeans_rows import ClusteredRows, rows_of_matrix, units_of
from .reader import Reader
from .transfers import Later

__all__ = ["kmeans_of_parts", "weighted_kmeans"]

Float32 = npt.NDArray[np.float32]


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
    rows = ClusteredRows(x, reader, unit=unit, chunk_size=chunk_size)
    host_weights = check_weights(weights, x.n_rows)
    parts = OnePart(ClusterPart(rows, Runs([0], [x.n_rows]), host_weights), x.n_rows)
    facts = facts_of(parts)
    if isinstance(init, str):
        clustered = partial(rows_of_matrix, reader=reader)
        first = initial_centroids(parts, facts, n_clusters, init, random_state, clustered)
    else:
        first = np.array(init, dtype=np.float32)
    del parts
    units = units_of(facts.sums(n_clusters), reader.device)
    centroids, w = reader.tensor(first), reader.tensor(host_weights)

    labels, squared = rows.assign(centroids)
    found = _Outcome(labels, squared, w, n_clusters)
    inertia, n_iter = math.nan, 0  # there is no objective before the first: nothing is less than NaN
    while n_iter < max_iter:
        means = rows.means(labels, w, centroids, units) if rows.are_on_device else None
        previous, (inertia, n_empty) = inertia, found.read()
        if previous - inertia <= tol * previous:
            break
        if n_empty or means is None:
            owners = _reseeded(labels, w * squared, n_clusters, n_empty) if n_empty else labels
            means = rows.means(owners, w, centroids, units)
        centroids = means
        n_iter += 1
        labels, squared = rows.assign(centroids)
        found = _Outcome(labels, squared, w, n_clusters)
    inertia, _ = found.read()
    return KMeans(centroids.cpu().numpy(), labels.cpu().numpy(), inertia, n_iter, NAME, squared.cpu().numpy())


def kmeans_of_parts(
    parts: Parts,
    n_clusters: int,
    *,
    init: str | Float32 = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
) -> Clustered:
    """The same of rows in several places, parts of which are :class:`~.kmeans_part.DevicePart`.

    Centroids and sums cross to the host and back in every iteration, which takes longer than to move them on the device
    as :func:`weighted_kmeans` does.
    """
    return lloyd(
        parts,
        n_clusters,
        init=init,
        max_iter=max_iter,
        tol=tol,
        random_state=random_state,
        clustered=partial(rows_of_matrix, reader=Reader()),
    )


class _Outcome:
    """The objective of an assignment, which is copied to the host while the device goes on."""

    def __init__(self, labels: torch.Tensor, squared: torch.Tensor, weights: torch.Tensor, n_clusters: int) -> None:
        found = kmeans_outcome.outcome(labels, squared, weights, n_clusters)
        self._found = Later(found[: kmeans_outcome.N_EMPTY + 1])

    def read(self) -> tuple[float, int]:
        """The objective, and how many clusters are empty."""
        found = self._found.array()
        return rounded_sum(found[: kmeans_outcome.LIMBS]), int(found[kmeans_outcome.N_EMPTY])


def _reseeded(labels: torch.Tensor, contribution: torch.Tensor, n_clusters: int, n_empty: int) -> torch.Tensor:
    """The labels, with the rows that contribute most to the objective given to the empty clusters."""
    owned = torch.bincount(labels, minlength=n_clusters) > 0
    empty = torch.sort(owned, stable=True).indices[:n_empty]
    seeds = torch.sort(contribution, descending=True, stable=True).indices[:n_empty]
    labels = labels.clone()
    labels[seeds] = torch.where(contribution[seeds] > 0.0, empty[: len(seeds)].to(labels.dtype), labels[seeds])
    return labels
