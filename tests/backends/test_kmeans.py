"""Weighted k-means: assignment, update and initialisation of the C++ core, and what holds for both backends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cpu import kmeans
from ccma_fast.config import KMEANS_METHODS
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import clustering

pytestmark = pytest.mark.processor

CPU = choose_backend("cpu")
BACKENDS = ("cpu", "reference")

# Around the widths of vectors, tiles of rows and panels of centroids.
DIMENSIONS = (1, 2, 7, 15, 16, 17, 31, 64, 255, 256, 257, 384, 768, 1025)
ROWS = (1, 5, 6, 7, 13, 14, 15, 111, 112, 113)
CLUSTERS = (1, 2, 15, 16, 17, 31, 32, 33, 100)


def assert_nearest(x: np.ndarray, found: cf.KMeans, *, weights: np.ndarray | None = None) -> None:
    """Every row's centroid is, in float64, as near as the nearest one, and distances and inertia are those numbers."""
    _, least = reference.assign(x, found.centroids)
    rows = np.asarray(x, np.float64)
    chosen = ((rows - found.centroids[found.labels]) ** 2).sum(axis=1)
    assert (chosen - least <= 1e-6).all(), (chosen - least).max()
    np.testing.assert_allclose(found.squared_distances, chosen, rtol=1e-6, atol=1e-6)
    w = np.ones(len(rows)) if weights is None else weights
    assert found.inertia == pytest.approx((w * chosen).sum(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("n_columns", DIMENSIONS)
def test_assignment_and_update_at_every_edge(simd_levels, n_columns):
    """One iteration from given centroids: the labels are the nearest, the centroids the means that float64 finds."""
    rng = np.random.default_rng(n_columns)
    # Rows of length about one, as those of directions.
    x = (rng.standard_normal((max(ROWS), n_columns)) / n_columns**0.5).astype(np.float32)
    cases = []
    for n_rows in ROWS:
        for k in CLUSTERS:
            if k > n_rows:
                continue
            init = x[rng.permutation(n_rows)[:k]]
            init = init + rng.normal(scale=0.1 / n_columns**0.5, size=init.shape).astype(np.float32)
            cases.append((n_rows, init, reference.weighted_kmeans(x[:n_rows], k, init=init, max_iter=1)))
    for _ in simd_levels:
        for n_rows, init, expected in cases:
            found = cf.weighted_kmeans(x[:n_rows], len(init), init=init, max_iter=1, backend="cpu")
            assert_nearest(x[:n_rows], found)
            np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-5, atol=1e-6)
            assert found.centroids.dtype == np.float32
            assert found.labels.dtype == np.int32
            assert found.n_iter == 1


@pytest.mark.parametrize("offset", [0.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("n_columns", [3, 16, 65, 384])
def test_storage_types_and_data_far_from_the_origin(simd, n_columns, dtype, offset):
    rng = np.random.default_rng(n_columns)
    tensor = torch.from_numpy(offset + rng.standard_normal((300, n_columns)) / n_columns**0.5).to(dtype)
    x = tensor.double().numpy()
    found = cf.weighted_kmeans(tensor, 20, random_state=3, max_iter=3, backend="cpu")
    assert_nearest(x, found)
    widened = cf.weighted_kmeans(tensor.float(), 20, random_state=3, max_iter=3, backend="cpu")
    np.testing.assert_array_equal(found.labels, widened.labels)
    np.testing.assert_array_equal(found.centroids, widened.centroids)


@pytest.mark.parametrize("length", [1e-15, 1e-3, 1.0, 1e4, 1e15])
def test_directions_are_those_of_unit_rows(simd, length):
    rng = np.random.default_rng(1)
    x = (length * rng.standard_normal((200, 33)) * rng.uniform(0.1, 10, (200, 1))).astype(np.float32)
    found = CPU.weighted_kmeans(open_rows(x, "x"), 9, random_state=np.random.default_rng(0), unit=True)
    assert_nearest(reference.unit_rows(x), found)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_the_unit_of_the_data_does_not_matter(simd, factor):
    x = np.random.default_rng(1).standard_normal((300, 20)).astype(np.float32)
    found = cf.weighted_kmeans(x, 8, random_state=0, backend="cpu")
    scaled = cf.weighted_kmeans(x * np.float32(factor), 8, random_state=0, backend="cpu")
    np.testing.assert_array_equal(scaled.labels, found.labels)
    np.testing.assert_array_equal(scaled.centroids, found.centroids * np.float32(factor))


@pytest.mark.parametrize("n_columns", [1, 5, 40])
def test_of_equally_near_centroids_the_lowest_is_taken(simd, n_columns):
    rng = np.random.default_rng(n_columns)
    x = rng.standard_normal((60, n_columns)).astype(np.float32)
    distinct = rng.standard_normal((5, n_columns)).astype(np.float32)
    # Every centroid stands seven times, within a panel and across panels.
    repeated = distinct[np.arange(35) % 5]
    labels, _ = _core.Search(repeated, np.zeros(n_columns, np.float32)).nearest(x)
    expected, _ = reference.assign(x, distinct)
    np.testing.assert_array_equal(labels, expected)
    # The same by the public call: a row half-way between two centroids.
    middle = cf.weighted_kmeans([[0.0], [-1.0], [1.0]], 2, init=[[1.0], [-1.0]], max_iter=1, tol=0.0, backend="cpu")
    assert middle.centroids.tolist() == [[0.5], [-1.0]]


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


@pytest.mark.parametrize("kept", [True, False])
def test_directions_change_nothing(simd, blobs, kept, monkeypatch):
    """The whole algorithm, with directions and without, kept or projected anew in every pass."""
    x, _ = blobs(700, 120, 25, seed=3, distance=0.7)
    weights = np.random.default_rng(0).exponential(size=700)

    def run(init):
        return cf.weighted_kmeans(x, 60, weights=weights, init=init, tol=0.0, random_state=1, backend="cpu")

    plain = {init: run(init) for init in ("k-means||", "k-means++", "random")}
    monkeypatch.setattr(kmeans, "_LEAST_PRODUCTS", 0.0)
    monkeypatch.setattr(kmeans, "_LEAST_CENTROIDS", 0)
    if not kept:
        monkeypatch.setattr(kmeans, "_KEPT_BYTES", 0)
    searched = []
    monkeypatch.setattr(kmeans._Directions, "width", lambda *_, hinted: searched.append(hinted) or 32)
    for init, expected in plain.items():
        found = run(init)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.centroids, expected.centroids)
        np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
    assert set(searched) == {True, False}


def test_directions_are_looked_along_when_that_is_cheaper(monkeypatch):
    """Rows of few dimensions among many: few directions. Rows of all dimensions alike: none."""
    monkeypatch.setattr(kmeans, "_LEAST_PRODUCTS", 0.0)
    rng = np.random.default_rng(0)
    for rank, expected in ((8, 32), (384, 0)):
        x = (rng.standard_normal((1000, rank)) @ orthonormal(rng, rank, 384)).astype(np.float32)
        rows = kmeans._ClusteredRows(open_rows(x, "x"), unit=False, chunk_size=None)
        rows.find_directions(1e6)
        assert rows._directions.width(x[:500], hinted=False) == expected


@pytest.mark.parametrize("backend", BACKENDS)
class TestContracts:
    """What holds for any clustering, whoever computes it."""

    def test_labels_are_those_of_the_centroids_returned(self, backend, rng):
        x = rng.standard_normal((150, 6)).astype(np.float32)
        weights = rng.random(150).astype(np.float32)
        for max_iter in (1, 2, 5, 100):
            found = cf.weighted_kmeans(x, 12, weights=weights, max_iter=max_iter, random_state=1, backend=backend)
            assert_nearest(x, found, weights=weights)
            assert 1 <= found.n_iter <= max_iter
            assert found.backend == backend

    @pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
    def test_objective_never_rises(self, backend, init, rng):
        x = rng.standard_normal((200, 5)).astype(np.float32)
        weights = rng.exponential(size=200)
        objective = [
            cf.weighted_kmeans(
                x, 20, weights=weights, init=init, max_iter=i, tol=0.0, random_state=4, backend=backend
            ).inertia
            for i in range(1, 15)
        ]
        assert (np.diff(objective) <= 1e-6 * objective[0]).all()
        assert objective[-1] < objective[0]

    def test_stops_when_the_objective_hardly_falls(self, backend, rng):
        x = rng.standard_normal((200, 5)).astype(np.float32)
        steps = [
            cf.weighted_kmeans(x, 10, tol=tol, max_iter=200, random_state=0, backend=backend).n_iter
            for tol in (1.0, 1e-2, 0.0)
        ]
        assert steps[0] == 1
        assert steps[0] < steps[1] < steps[2] < 200

    def test_a_weight_counts_like_so_many_rows(self, backend, rng):
        x = rng.standard_normal((60, 4)).astype(np.float32)
        weights = rng.integers(1, 4, size=60)
        init = x[:7]
        heavy = cf.weighted_kmeans(x, 7, weights=weights, init=init, tol=0.0, backend=backend)
        repeated = cf.weighted_kmeans(np.repeat(x, weights, axis=0), 7, init=init, tol=0.0, backend=backend)
        np.testing.assert_allclose(heavy.centroids, repeated.centroids, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.repeat(heavy.labels, weights), repeated.labels)
        assert heavy.inertia == pytest.approx(repeated.inertia, rel=1e-5)

    def test_rows_without_weight_move_nothing(self, backend, rng):
        x = rng.standard_normal((80, 4)).astype(np.float32)
        weights = np.r_[np.ones(40), np.zeros(40)]
        whole = cf.weighted_kmeans(x, 5, weights=weights, init=x[:5], backend=backend)
        alone = cf.weighted_kmeans(x[:40], 5, init=x[:5], backend=backend)
        np.testing.assert_array_equal(whole.centroids, alone.centroids)
        np.testing.assert_array_equal(whole.labels[:40], alone.labels)
        for init in ("k-means||", "k-means++", "random"):
            found = cf.weighted_kmeans(x, 40, weights=weights, init=init, random_state=2, max_iter=3, backend=backend)
            assert found.inertia == pytest.approx(0.0, abs=1e-9), init

    def test_all_weights_zero_means_none(self, backend, rng):
        x = rng.standard_normal((50, 4)).astype(np.float32)
        zero = cf.weighted_kmeans(x, 5, weights=np.zeros(50), random_state=0, backend=backend)
        none = cf.weighted_kmeans(x, 5, random_state=0, backend=backend)
        np.testing.assert_array_equal(zero.labels, none.labels)

    @pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
    def test_as_many_clusters_as_rows(self, backend, init, rng):
        x = rng.standard_normal((70, 9)).astype(np.float32)
        found = cf.weighted_kmeans(x, 70, init=init, random_state=5, backend=backend)
        assert sorted(found.labels) == list(range(70))
        assert found.inertia == pytest.approx(0.0, abs=1e-9)

    @pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
    @pytest.mark.parametrize("n_distinct", [1, 3])
    def test_fewer_distinct_rows_than_clusters(self, backend, init, n_distinct, rng):
        x = rng.standard_normal((n_distinct, 6)).astype(np.float32)[rng.integers(n_distinct, size=40)]
        found = cf.weighted_kmeans(x, 10, init=init, random_state=0, backend=backend)
        assert found.centroids.shape == (10, 6)
        assert np.isfinite(found.centroids).all()
        assert found.inertia == pytest.approx(0.0, abs=1e-9)
        assert np.unique(found.labels).size == n_distinct

    def test_one_cluster_is_the_weighted_mean(self, backend, rng):
        x = rng.standard_normal((90, 7)).astype(np.float32)
        weights = rng.random(90)
        found = cf.weighted_kmeans(x, 1, weights=weights, random_state=0, backend=backend)
        np.testing.assert_allclose(found.centroids[0], np.average(x, axis=0, weights=weights), rtol=1e-5, atol=1e-6)

    def test_one_row(self, backend):
        found = cf.weighted_kmeans([[1.0, 2.0]], 1, random_state=0, backend=backend)
        assert found.centroids.tolist() == [[1.0, 2.0]]
        assert (found.labels.tolist(), found.inertia) == ([0], 0.0)

    def test_empty_clusters_go_to_the_rows_that_cost_most(self, backend, rng):
        x = rng.standard_normal((100, 3)).astype(np.float32)
        weights = rng.random(100).astype(np.float32)
        # Clusters 1, 2 and 4 start on top of cluster 0 and so own no row.
        init = x[[0, 0, 0, 7, 0]]
        _, squared = reference.assign(x, init)
        costly = reference.top_m(weights * squared, 3)
        found = cf.weighted_kmeans(x, 5, weights=weights, init=init, max_iter=1, backend=backend)
        np.testing.assert_allclose(found.centroids[[1, 2, 4]], x[costly], rtol=1e-6)

    def test_an_array_to_start_from_is_left_as_it_is(self, backend, rng):
        x = rng.standard_normal((100, 3)).astype(np.float32)
        init, copy = x[:4].copy(), x[:4].copy()
        cf.weighted_kmeans(x, 4, init=init, random_state=0, backend=backend)
        np.testing.assert_array_equal(init, copy)
        other = cf.weighted_kmeans(x, 4, init=init, random_state=1, backend=backend)
        np.testing.assert_array_equal(
            other.centroids, cf.weighted_kmeans(x, 4, init=init.tolist(), random_state=2, backend=backend).centroids
        )

    def test_seeds(self, backend, rng):
        x = rng.standard_normal((200, 6)).astype(np.float32)

        def run(seed):
            return cf.weighted_kmeans(x, 15, random_state=seed, max_iter=1, backend=backend).centroids

        np.testing.assert_array_equal(run(3), run(3))
        np.testing.assert_array_equal(run(3), run(np.random.default_rng(3)))
        np.testing.assert_array_equal(run(3), run(np.random.SeedSequence(3)))
        assert not np.array_equal(run(3), run(4))
        assert not np.array_equal(run(None), run(None))
        generator = np.random.default_rng(3)
        assert not np.array_equal(run(generator), run(generator))  # drawn from, so that its second use differs

    @pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
    def test_init_prefers_heavy_rows(self, backend, init):
        """Of three far groups, two clusters find the two that weigh something."""
        x = np.repeat([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], 20, axis=0) + np.tile(np.linspace(0, 0.1, 20), 3)[:, None]
        weights = np.repeat([1.0, 1e-6, 1.0], 20)
        hits = Counter()
        for seed in range(20):
            found = cf.weighted_kmeans(x, 2, weights=weights, init=init, random_state=seed, backend=backend)
            hits[found.inertia < 1.0] += 1
        # "random" takes both of its rows from one group half of the time, and Lloyd's algorithm stays there.
        assert hits[True] >= (1 if init == "random" else 18)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
@pytest.mark.parametrize("seed", range(4))
def test_whole_algorithm_agrees_with_the_reference(simd, blobs, init, seed):
    x, _ = blobs(400, 12, 10, seed=seed)
    weights = np.random.default_rng(seed).exponential(size=400).astype(np.float32)
    found, expected = (
        cf.weighted_kmeans(x, 10, weights=weights, init=init, random_state=seed, backend=b) for b in BACKENDS
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.squared_distances, expected.squared_distances, rtol=1e-4, atol=1e-6)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-5)
    assert found.n_iter == expected.n_iter


@pytest.mark.parametrize("n_clusters", [8, 40])
def test_quality_of_the_initialisation(n_clusters):
    """After one update k-means|| stands on average where k-means++ does, and better than random rows."""
    rng = np.random.default_rng(8)
    # Groups of very different sizes, which is where random rows miss most.
    centres = 5 * rng.standard_normal((n_clusters, 10))
    x = centres[rng.choice(n_clusters, 3000, p=rng.dirichlet(np.ones(n_clusters)))] + rng.standard_normal((3000, 10))
    x = x.astype(np.float32)
    mean = {
        init: np.mean(
            [
                cf.weighted_kmeans(x, n_clusters, init=init, max_iter=1, random_state=s, backend="cpu").inertia
                for s in range(10)
            ]
        )
        for init in ("k-means||", "k-means++", "random")
    }
    assert mean["k-means||"] < mean["random"]
    assert mean["k-means||"] < 1.1 * mean["k-means++"]


@pytest.mark.parametrize("init", ["k-means||", "k-means++"])
def test_quality_beside_scikit_learn(blobs, init):
    from sklearn.cluster import KMeans

    x, _ = blobs(2000, 16, 30, seed=1, distance=1.0)
    weights = np.random.default_rng(0).exponential(size=2000)
    ours = np.mean(
        [
            cf.weighted_kmeans(x, 30, weights=weights, init=init, max_iter=300, random_state=s, backend="cpu").inertia
            for s in range(10)
        ]
    )
    theirs = np.mean([KMeans(30, n_init=1, random_state=s).fit(x, sample_weight=weights).inertia_ for s in range(10)])
    # Means of ten local optima each; one missed blob costs several per cent.
    assert ours < 1.02 * theirs


def test_groups_that_are_tight_and_far_apart():
    """Eight blobs around each of two far points: distances between rows of one group still count in the start."""
    rng = np.random.default_rng(5)
    inner = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    centres = np.concatenate([inner - 100.0, inner + 100.0])
    x = (centres[rng.integers(16, size=800)] + 0.01 * rng.standard_normal((800, 3))).astype(np.float32)
    for init in ("k-means||", "k-means++"):
        found, expected = (
            np.median(
                [cf.weighted_kmeans(x, 16, init=init, max_iter=1, random_state=s, backend=b).inertia for s in range(9)]
            )
            for b in BACKENDS
        )
        assert found < 1.5 * expected + 1.0, init


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
def test_same_bits_for_any_threads_chunks_and_layout(simd, init, rng, tmp_path):
    x = rng.standard_normal((1000, 37)).astype(np.float32)
    weights = rng.random(1000).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((2000, 74), np.float32)
    wide[::2, ::2] = x

    def run(source, chunk_size=None):
        return CPU.weighted_kmeans(
            open_rows(source, "x"),
            70,
            weights=weights,
            init=init,
            max_iter=3,
            random_state=np.random.default_rng(0),
            chunk_size=chunk_size,
        )

    expected = run(x)
    sources = [x, np.asfortranarray(x), wide[::2, ::2], torch.from_numpy(x), torch.from_numpy(x.T.copy()).T]
    sources += [tmp_path / "x.npy", np.load(tmp_path / "x.npy", mmap_mode="r")]
    runs = [(1, 1, x), (1, 64, x), (1, None, x), (2, 7, x), (7, 64, x), (7, None, x)]
    for n_threads, chunk_size, source in [*runs, *((2, None, source) for source in sources)]:
        cf.set_num_threads(n_threads)
        found = run(source, chunk_size)
        np.testing.assert_array_equal(found.centroids, expected.centroids)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.squared_distances, expected.squared_distances)
        assert (found.inertia, found.n_iter) == (expected.inertia, expected.n_iter)


def test_representatives_by_hand():
    labels = [0, 0, 0, 1, 1, 2]
    squared = [0.3, 0.1, 0.1, 0.5, 0.4, 0.0]
    weights = np.array([1, 1, 1, 3, 3, 1.0])
    # Heaviest cluster first; of rows 1 and 2, equally near, the lower; second picks only after all first ones.
    picks, represents = reference.representatives(labels, squared, 4, weights, 3)
    assert picks.tolist() == [4, 1, 5, 3]
    assert represents.tolist() == [1, 3, 1, 1]
    picks, represents = reference.representatives(labels, squared, 3, weights, 3, preference=[0, 0, 9, 1, 0, 0])
    assert picks.tolist() == [3, 2, 5]
    assert represents.tolist() == [2, 3, 1]
    picks, represents = reference.representatives(labels, squared, 6, weights, 4)
    assert sorted(picks) == list(range(6))
    assert represents.tolist() == [1] * 6
    # What rounding leaves between equals is no preference.
    assert reference.representatives([0, 0], [0.1 + 1e-7, 0.1], 1, [1, 1], 1)[0].tolist() == [0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", ["sample", "two-level"])
def test_methods_for_many_clusters(simd, blobs, method, weighted, monkeypatch):
    """What is returned describes the rows as it says, at a small loss of inertia, whatever the chunks."""
    monkeypatch.setattr(clustering, "_ROWS_OF_SAMPLE", 8)
    x, _ = blobs(1500, 40, 24, seed=5, distance=1.0)
    x = x.astype(np.float32)
    weights = np.random.default_rng(0).exponential(size=1500).astype(np.float32) if weighted else None
    full = cf.weighted_kmeans(x, 90, weights=weights, random_state=1, backend="cpu")
    found = cf.weighted_kmeans(x, 90, weights=weights, method=method, random_state=1, backend="cpu")
    assert found.centroids.shape == full.centroids.shape
    squared = ((x.astype(np.float64)[:, None] - found.centroids) ** 2).sum(axis=2)
    of_label = squared[np.arange(1500), found.labels]
    np.testing.assert_allclose(found.squared_distances, of_label, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.inertia, np.average(of_label, weights=weights) * _total(weights), rtol=1e-5)
    if method == "sample":
        assert (of_label <= squared.min(axis=1) * (1 + 1e-6)).all()
    assert full.inertia < found.inertia * 1.02
    assert found.inertia < full.inertia * (1.25 if method == "sample" else 1.15)
    for chunk_size in (7, 1500):
        again = clustering.cluster(
            choose_backend("cpu"),
            open_rows(x, "X"),
            90,
            method=method,
            weights=weights,
            random_state=np.random.default_rng(1),
            chunk_size=chunk_size,
        )
        np.testing.assert_array_equal(again.labels, found.labels)
        np.testing.assert_array_equal(again.centroids, found.centroids)


def _total(weights):
    return 1500.0 if weights is None else float(weights.sum(dtype=np.float64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_levels_of_few_rows(backend):
    """As many clusters as rows, equal rows, and rows without weight."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((30, 3)).astype(np.float32)
    found = cf.weighted_kmeans(x, 30, method="two-level", random_state=0, backend=backend)
    assert found.inertia < 1e-9
    assert len(np.unique(found.labels)) == 30
    same = cf.weighted_kmeans(np.ones((30, 3)), 9, method="two-level", random_state=0, backend=backend)
    assert same.centroids.shape == (9, 3)
    assert same.inertia == 0.0
    weights = np.r_[np.ones(3), np.zeros(27)]
    found = cf.weighted_kmeans(x, 20, weights=weights, method="two-level", random_state=0, backend=backend)
    assert found.inertia < 1e-9
    with pytest.raises(ValueError, match="centroids to start from need method='full', got 'sample'"):
        cf.weighted_kmeans(x, 2, init=x[:2], method="sample")
    with pytest.raises(ValueError, match="method must be one of 'full', 'sample', 'two-level', got 'half'"):
        cf.weighted_kmeans(x, 2, method="half")


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1, max_size=30), st.data())
def test_shares(groups, data):
    """All is given out, everyone with rows gets some, nobody more than their rows."""
    mass, n_rows = (np.asarray(column) for column in zip(*groups, strict=True))
    mass = np.where(n_rows > 0, mass, 0.0).astype(np.float64)
    if not n_rows.any():
        return
    total = data.draw(st.integers(int((n_rows > 0).sum()), int(n_rows.sum())))
    share = clustering.shares(mass, n_rows, total)
    assert share.sum() == total
    assert (share >= np.minimum(n_rows, 1)).all()
    assert (share <= n_rows).all()


def test_a_subpool_by_each_method():
    """The clustered subpool has its size by every method, and the picks come from it."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 16)).astype(np.float32)
    logits = rng.standard_normal((3000, 4)).astype(np.float32)
    for method in KMEANS_METHODS:
        config = cf.CCMAConfig(
            acquisition="delta", calibration="target_size", student_set_size=2, subpool_size=200, subpool_method=method
        )
        picks = cf.select(x, 10, student_logits=logits, config=config)
        assert picks.report.n_scored == picks.report.n_subpool_clusters == 200
        assert len(np.unique(picks.indices)) == 10
