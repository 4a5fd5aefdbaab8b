"""Weighted k-means: ten Lloyd iterations from the same centroids, on rows that look like embeddings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from . import data, peers

N_ITER = 10


@cache
def rows_and_weights(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of 100 classes, and weights as uneven as δ is."""
    rng = np.random.default_rng(0)
    rows, _ = data.embeddings(rng.integers(0, 100, n_rows), n_columns, seed=1)
    return rows, rng.gamma(2.0, 0.5, n_rows).astype(np.float32)


def mean_squared_distance(x: np.ndarray, found: peers.Clustered, weights: np.ndarray | None) -> float:
    """Of rows to the centroids that their labels name, in float64, weighted."""
    squared = [
        np.square(x[i : i + 4096] - found.centroids[found.labels[i : i + 4096]]).sum(axis=1, dtype=np.float64)
        for i in range(0, len(x), 4096)
    ]
    return float(np.average(np.concatenate(squared), weights=weights))


@pytest.mark.parametrize("contender", peers.contenders(peers.KMEANS))
@pytest.mark.parametrize(
    ("n_rows", "n_columns", "n_clusters", "weighted"),
    [
        (50_000, 384, 100, False),
        (50_000, 384, 100, True),
        (50_000, 384, 1_000, False),
        (50_000, 384, 1_000, True),
        (20_000, 768, 1_000, False),
    ],
)
def test_kmeans(
    measure: Callable[..., peers.Clustered],
    record: Callable,
    contender: str,
    n_rows: int,
    n_columns: int,
    n_clusters: int,
    weighted: bool,
) -> None:
    x, w = rows_and_weights(n_rows, n_columns)
    start = x[np.random.default_rng(2).choice(n_rows, n_clusters, replace=False)]
    weights = w if weighted else None
    found = measure(
        "k-means, 10 iterations",
        contender,
        peers.KMEANS[contender],
        x,
        start,
        weights,
        N_ITER,
        shape={"N": n_rows, "D": n_columns, "K": n_clusters, "weighted": weighted},
        warm_up=n_clusters < 1_000,
    )
    record({"mean squared distance": mean_squared_distance(x, found, weights)})
