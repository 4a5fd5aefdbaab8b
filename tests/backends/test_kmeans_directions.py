"""The C++ core's search for the nearest centroid along few directions first: it changes the time and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ccma_fast import _core
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cpu import kmeans_directions
from ccma_fast.backends.cpu.kmeans_rows import ClusteredRows
from ccma_fast.pool.open import open_rows

pytestmark = pytest.mark.processor

CPU = choose_backend("cpu")


def orthonormal(rng: np.random.Generator, width: int, n_columns: int) -> np.ndarray:
    return np.ascontiguousarray(np.linalg.qr(rng.standard_normal((n_columns, width)))[0].T, dtype=np.float32)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("n_columns", [64, 384])
def test_rows_that_are_settled_meet_only_the_centroids_that_moved(simd, n_columns, share):
    """The bits of a full search, whichever centroids moved, where to, and whatever stands equally near."""
    rng = np.random.default_rng(n_columns)
    n, k = 300, 150
    x = (rng.standard_normal((n, n_columns)) * np.arange(1, n_columns + 1) ** -0.5).astype(np.float32)
    x[n // 2 :] = x[rng.integers(n // 2, size=n - n // 2)]
    before = np.concatenate([x[rng.integers(n, size=k - 20)], x[:20]])  # many stand on rows, some twice
    origin = x.mean(axis=0)
    labels, squared = _core.Search(before, origin).nearest(x)

    moved = rng.random(k) < share
    after = before.copy()
    towards = x[rng.integers(n, size=k)]
    after[moved] += rng.choice([0.1, 1.0], (k, 1)).astype(np.float32)[moved] * (towards - before)[moved]
    expected = _core.Search(after, origin).nearest(x)
    sketch = _core.Sketch(orthonormal(rng, 32, n_columns), origin)
    for along, width, of_rows in ((None, 0, None), (sketch, 32, sketch.project(x))):
        search = _core.Search(after, origin, along, width, moved)
        found = search.nearest(x, sketched=of_rows, hints=labels, before=squared)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("n_columns", [64, 100, 384])
@pytest.mark.parametrize("kind", ["isotropic", "low rank", "decaying", "tiny", "huge", "far", "few distinct"])
def test_search_along_directions_is_exact(simd_levels, kind, n_columns):
    """Whatever the directions, hints or limits: the nearest centroid in float64, and the bits of a full search."""
    rng = np.random.default_rng(n_columns)
    n, k = 150, 220
    x = rng.standard_normal((n, n_columns))
    if kind == "low rank":
        x = rng.standard_normal((n, 3)) @ rng.standard_normal((3, n_columns))
    elif kind == "few distinct":
        x = x[rng.integers(5, size=n)]
    else:
        x = x * {"decaying": np.arange(1, n_columns + 1) ** -0.7, "tiny": 1e-12, "huge": 1e12}.get(kind, 1.0)
        x = x + (100.0 if kind == "far" else 0.0)
    x = x.astype(np.float32)
    noise = 0.0 if kind == "few distinct" else 0.1 * x.std()
    centroids = (x[rng.integers(n, size=k)] + noise * rng.standard_normal((k, n_columns))).astype(np.float32)
    origin = x.mean(axis=0)
    squared = ((x.astype(np.float64)[:, None] - centroids) ** 2).sum(axis=2)
    least = squared.min(axis=1)
    tolerance = 1e-5 * squared.max() if kind == "far" else 1e-6 * least
    hints = rng.integers(k, size=n).astype(np.int32)
    limits = (least * rng.choice([0.5, 2.0], n)).astype(np.float32)

    directions = orthonormal(rng, 64, n_columns)
    along = (x - origin).astype(np.float64) @ directions.T
    left = np.linalg.norm((x - origin) - along @ directions, axis=1)
    rounding = 1e-5 * np.linalg.norm(along, axis=1)
    for _ in simd_levels:
        labels, found = _core.Search(centroids, origin).nearest(x)
        assert (squared[np.arange(n), labels] - least <= tolerance).all()
        np.testing.assert_allclose(found, least, rtol=2e-6, atol=tolerance.max())
        sketch = _core.Sketch(directions, origin)
        sketched = sketch.project(x)
        scale, off, error = sketched[1].astype(np.float64).T
        assert (left <= off * (1 + 1e-6)).all()
        assert (np.linalg.norm(along - scale[:, None] * sketched[0], axis=1) <= error + rounding).all()
        for search, of_rows in [
            (_core.Search(centroids, origin), None),
            (_core.Search(centroids, origin, sketch, 32), sketched),
            (_core.Search(centroids, origin, sketch, 64), sketched),
        ]:
            for known in ({}, {"hints": hints}):
                again, distances = search.nearest(x, sketched=of_rows, **known)
                np.testing.assert_array_equal(again, labels)
                np.testing.assert_array_equal(distances, found)
            near, distances = search.nearest(x, sketched=of_rows, within=limits)
            np.testing.assert_array_equal(near, np.where(found < limits, labels, -1))
            np.testing.assert_array_equal(distances, np.minimum(found, limits))


@pytest.mark.parametrize("kept_bytes", [1 << 30, 0])
def test_directions_change_nothing(simd, blobs, kept_bytes, monkeypatch):
    """The whole algorithm, with directions and without, kept or projected anew in every pass."""
    x, _ = blobs(700, 120, 25, seed=3, distance=0.7)
    weights = np.random.default_rng(0).exponential(size=700).astype(np.float32)

    def run(init):
        rng = np.random.default_rng(1)
        rows = open_rows(x, "x")
        return CPU.weighted_kmeans(
            rows, 60, weights=weights, init=init, tol=0.0, random_state=rng, kept_bytes=kept_bytes
        )

    plain = {init: run(init) for init in ("k-means||", "k-means++", "random")}
    monkeypatch.setattr(kmeans_directions, "_LEAST_PRODUCTS", 0.0)
    monkeypatch.setattr(kmeans_directions, "_LEAST_CENTROIDS", 0)
    searched = []
    monkeypatch.setattr(kmeans_directions.Directions, "width", lambda *_, hinted: searched.append(hinted) or 32)
    for init, expected in plain.items():
        found = run(init)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.centroids, expected.centroids)
        np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    assert set(searched) == {True, False}


def test_directions_are_looked_along_when_that_is_cheaper(monkeypatch):
    """Rows of few dimensions among many: few directions. Rows of all dimensions alike: none."""
    monkeypatch.setattr(kmeans_directions, "_LEAST_PRODUCTS", 0.0)
    rng = np.random.default_rng(0)
    for rank, expected in ((8, 32), (384, 0)):
        x = (rng.standard_normal((1000, rank)) @ orthonormal(rng, rank, 384)).astype(np.float32)
        rows = ClusteredRows.of_matrix(x)
        rows.find_directions(x, 1e6, kept_bytes=1 << 30)
        assert rows._directions.width(x[:500], hinted=False) == expected
