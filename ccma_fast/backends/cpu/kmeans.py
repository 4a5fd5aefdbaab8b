"""Weighted k-means of the CPU backend: Lloyd's algorithm, see :func:`ccma_fast.reference.weighted_kmeans`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...pool.array_like import check_weights
from ...pool.derived import Runs
from ...pool.rows import Rows
from ...reference import KMeans
from ..lloyd import lloyd
from ..parts import OnePart, Parts
from ..protocol import Clustered
from .device import NAME
from .kmeans_part import KEPT_ALONG, HostPart
from .kmeans_rows import ClusteredRows

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
    kept_bytes: int = KEPT_ALONG,
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖², all rows read once per iteration."""
    w = check_weights(weights, x.n_rows)
    part = HostPart(x, Runs([0], [x.n_rows]), w, unit=unit, chunk_size=chunk_size, kept_bytes=kept_bytes)
    found = kmeans_of_parts(
        OnePart(part, x.n_rows), n_clusters, init=init, max_iter=max_iter, tol=tol, random_state=random_state
    )
    assert part.labels is not None
    assert part.squared is not None
    return KMeans(found.centroids, part.labels, found.inertia, found.n_iter, NAME, part.squared)


def kmeans_of_parts(
    parts: Parts,
    n_clusters: int,
    *,
    init: str | Float32 = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: np.random.Generator,
) -> Clustered:
    """The same of rows in several places, parts of which are :class:`HostPart`."""
    return lloyd(
        parts,
        n_clusters,
        init=init,
        max_iter=max_iter,
        tol=tol,
        random_state=random_state,
        clustered=ClusteredRows.of_matrix,
    )
