"""Step 6, and the clusterings of step 1: weighted k-means and the rows that stand for its clusters."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _dispatch
from ._validate import check_choice, check_integer, check_number, check_weights, random_generator
from .pool import open_rows
from .reference import KMeans

__all__ = ["weighted_kmeans"]

_INITS = ("k-means||", "k-means++", "random")


def weighted_kmeans(
    X: Any,
    n_clusters: int,
    *,
    weights: npt.ArrayLike | None = None,
    init: str | npt.ArrayLike = "k-means||",
    max_iter: int = 20,
    tol: float = 1e-4,
    random_state: int | np.random.Generator | np.random.SeedSequence | None = None,
    backend: str = "auto",
) -> KMeans:
    """Lloyd's algorithm on Σ_i w_i · min_k ‖x_i − μ_k‖² (step 6).

    Parameters
    ----------
    X : array_like, torch.Tensor or path, shape (M, D)
        Rows as they are: normalise them first where directions are meant. float32, float16 and bfloat16 are read in
        place, chunk by chunk; sums are float32 or better.
    n_clusters : int
        K, from 1 to M.
    weights : array_like, shape (M,), optional
        w, finite and not negative; they count in the initialisation, the update and the objective. Unit weights where
        missing or all zero.
    init : {"k-means||", "k-means++", "random"} or array_like, shape (K, D), default "k-means||"
        k-means|| with 4 rounds of K/2 candidates (Bahmani et al., arXiv 1203.6402), k-means++ (Arthur and Vassilvitskii
        2007), distinct rows drawn by weight, or the centroids to start from.
    max_iter : int, default 20
        Most centroid updates.
    tol : float, default 1e-4
        Stop when the objective falls by no more than tol · objective.
    random_state : int, Generator, SeedSequence or None
        None draws fresh entropy. No global generator is drawn from.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    KMeans
        Centroids, labels (ties go to the lower index), inertia, n_iter, backend, squared distances. An empty cluster is
        re-seeded from the row that contributes most to the objective. The same bits at any number of threads.

    Raises
    ------
    ValueError
        Wrong shapes, more clusters than rows, NaN or infinity in a row (which is named), negative weights.
    TypeError
        Inputs that are not real numbers, or `n_clusters` not an integer.
    """
    rows = open_rows(X, "X")
    n_clusters = check_integer("n_clusters", n_clusters, minimum=1)
    if n_clusters > rows.n_rows:
        raise ValueError(f"n_clusters must be at most the number of rows, {rows.n_rows}, got {n_clusters}")
    check_integer("max_iter", max_iter, minimum=1)
    check_number("tol", tol, minimum=0.0)
    start: str | npt.NDArray[np.float32]
    if isinstance(init, str):
        check_choice("init", init, _INITS)
        start = init
    else:
        start = open_rows(init, "init").float32()
        if start.shape != (n_clusters, rows.n_columns):
            raise ValueError(f"init must have shape {(n_clusters, rows.n_columns)}, got {start.shape}")
        if not np.isfinite(start).all():
            raise ValueError("init must be finite, got NaN or infinity")
    return _dispatch.choose(backend).weighted_kmeans(
        rows,
        n_clusters,
        weights=check_weights(weights, rows.n_rows),
        init=start,
        max_iter=max_iter,
        tol=tol,
        random_state=random_generator(random_state),
    )
