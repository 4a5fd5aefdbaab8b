"""Weighted k-means: ten Lloyd iterations from the same centroids, on rows that look like embeddings; how they grow."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import pytest

from . import data, marks, peers

N_ITER = 10

# N, D, K, weighted.
SHAPES = [(20_000, 384, 100, False), (20_000, 384, 100, True), (20_000, 768, 1_000, False), (20_000, 768, 1_000, True)]
LARGE_SHAPES = [
    (50_000, 384, 1_000, False),
    (50_000, 384, 1_000, True),
    (100_000, 768, 1_000, False),
    (100_000, 768, 1_000, True),
    (100_000, 768, 5_000, False),
    (100_000, 768, 5_000, True),
    (200_000, 384, 5_000, False),
    (200_000, 1_024, 1_000, False),
]

# N, K: one of the two grows.
GROWTH = [(10_000, 1_000), (100_000, 1_000), (1_000_000, 1_000), (100_000, 100), (100_000, 10_000)]


@lru_cache(maxsize=1)
def rows_and_weights(n_rows: int, n_columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of 100 classes, and weights as uneven as δ is."""
    rng = np.random.default_rng(0)
    rows, _ = data.embeddings(rng.integers(0, 100, n_rows), n_columns, seed=1)
    return rows, rng.gamma(2.0, 0.5, n_rows).astype(np.float32)


def first_centroids(x: np.ndarray, n_clusters: int) -> np.ndarray:
    """Random rows."""
    return x[np.random.default_rng(2).choice(len(x), n_clusters, replace=False)]


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
    [*SHAPES, *(pytest.param(*shape, marks=pytest.mark.slow) for shape in LARGE_SHAPES)],
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
    if weighted and not peers.KMEANS[contender].weighted:
        pytest.skip(f"{contender} takes no weights")
    n_rows, n_clusters = data.scale(n_rows), data.scale(n_clusters)
    x, w = rows_and_weights(n_rows, n_columns)
    weights = w if weighted else None
    found = measure(
        marks.KMEANS,
        contender,
        peers.KMEANS[contender],
        x,
        first_centroids(x, n_clusters),
        weights,
        N_ITER,
        shape={"N": n_rows, "D": n_columns, "K": n_clusters, "weighted": weighted},
        warm_up=n_clusters < 1_000,
    )
    record({marks.DISTANCE: mean_squared_distance(x, found, weights)})


@pytest.mark.parametrize("contender", peers.contenders(peers.KMEANS, peers.OURS, "FAISS"))
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(
    ("n_rows", "n_clusters"), [GROWTH[0], *(pytest.param(*shape, marks=pytest.mark.slow) for shape in GROWTH[1:])]
)
def test_growth(
    measure: Callable[..., peers.Clustered],
    record: Callable,
    contender: str,
    n_threads: int,
    n_rows: int,
    n_clusters: int,
) -> None:
    n_rows, n_clusters = data.scale(n_rows), data.scale(n_clusters)
    x, _ = rows_and_weights(n_rows, 384)
    found = measure(
        f"{marks.KMEANS}: growth",
        contender,
        peers.KMEANS[contender],
        x,
        first_centroids(x, n_clusters),
        None,
        N_ITER,
        shape={"N": n_rows, "D": 384, "K": n_clusters, "threads": n_threads},
        warm_up=False,
        n_threads=n_threads,
    )
    record({marks.DISTANCE: mean_squared_distance(x, found, None)})
