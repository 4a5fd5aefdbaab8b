"""Weighted k-means of the CUDA backend: Lloyd's algorithm, see :func:`ccma_fast.reference.weighted_kmeans`.

The initialisation is that of every backend; in it the squared distances of each round are copied to the host. In
Lloyd's iterations labels, distances and sums stay on the device. Convergence and the number of empty clusters are
copied to the host while the device forms the means of the next iteration, so that the device is never idle. Where rows
are not on the device, the host synchronises before the next iteration.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import kmeans_outcome, kmeans_update
from ...pool.array_like import check_weights
from ...pool.derived import Runs
from ...pool.rows import Rows
from ...reference import KMeans
from ..kmeans_part import ClusterPart, Sums, facts_of
from ..kmeans_start import initial_centroids
from ..parts import OnePart
from .device import NAME
from .kmeans_rows import ClusteredRows
from .reader import Reader
from .transfers import Later

__all__ = ["weighted_kmeans"]

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
        first = initial_centroids(parts, facts, n_clusters, init, random_state, rows.of_matrix)
    else:
        first = np.array(init, dtype=np.float32)
    del parts
    units = _units(facts.sums(n_clusters), reader.device)
    centroids, w = reader.tensor(first), reader.tensor(host_weights)

    tolerance = torch.full((1,), tol, dtype=torch.float64, device=w.device)
    labels, squared = rows.assign(centroids)
    # There is no objective before the first: nothing is less than NaN.
    inertia, outcome = kmeans_outcome.outcome(labels, squared, w, n_clusters, tolerance * torch.nan, tolerance)
    found, n_iter = Later(outcome), 0
    while n_iter < max_iter:
        means = rows.means(labels, w, centroids, units) if rows.are_on_device else None
        is_last, n_empty = found.tolist()
        if is_last:
            break
        if n_empty or means is None:
            owners = _reseeded(labels, w * squared, n_clusters, n_empty) if n_empty else labels
            means = rows.means(owners, w, centroids, units)
        centroids = means
        n_iter += 1
        labels, squared = rows.assign(centroids)
        inertia, outcome = kmeans_outcome.outcome(labels, squared, w, n_clusters, inertia, tolerance)
        found = Later(outcome)
    return KMeans(centroids.cpu().numpy(), labels.cpu().numpy(), float(inertia), n_iter, NAME, squared.cpu().numpy())


def _units(sums: Sums, device: torch.device) -> kmeans_update.Units:
    of_x, of_mass = sums.of_x, sums.of_mass
    return kmeans_update.Units.of(
        device, of_x.exponent, of_mass.exponent, of_x.step, n_limbs=of_x.n_limbs, n_mass_limbs=of_mass.n_limbs
    )


def _reseeded(labels: torch.Tensor, contribution: torch.Tensor, n_clusters: int, n_empty: int) -> torch.Tensor:
    """The labels, with the rows that contribute most to the objective given to the empty clusters."""
    owned = torch.bincount(labels, minlength=n_clusters) > 0
    empty = torch.sort(owned, stable=True).indices[:n_empty]
    seeds = torch.sort(contribution, descending=True, stable=True).indices[:n_empty]
    labels = labels.clone()
    labels[seeds] = torch.where(contribution[seeds] > 0.0, empty[: len(seeds)].to(labels.dtype), labels[seeds])
    return labels
