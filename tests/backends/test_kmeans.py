"""Weighted k-means: assignment, update and initialisation of the C++ core, and what holds for every backend."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows

from ..combinations import thinned

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
            # Of rows that fill a vector every other pair.
            if k > n_rows or (n_columns > 8 and (ROWS.index(n_rows) + CLUSTERS.index(k)) % 2):
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


@pytest.mark.parametrize(
    ("n_columns", "dtype", "offset"),
    thinned(2, [3, 16, 65, 384], [torch.float32, torch.float16, torch.bfloat16], [0.0, 1e3]),
)
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


def test_quality_beside_scikit_learn(blobs):
    from sklearn.cluster import KMeans

    x, _ = blobs(2000, 16, 30, seed=1, distance=1.0)
    weights = np.random.default_rng(0).exponential(size=2000)
    theirs = np.mean([KMeans(30, n_init=1, random_state=s).fit(x, sample_weight=weights).inertia_ for s in range(10)])
    for init in ("k-means||", "k-means++"):
        settings = {"init": init, "max_iter": 300, "backend": "cpu"}
        ours = np.mean(
            [cf.weighted_kmeans(x, 30, weights=weights, random_state=s, **settings).inertia for s in range(10)]
        )
        # Means of ten local optima each; one missed blob costs several per cent.
        assert ours < 1.02 * theirs, init


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
    x = rng.standard_normal((400, 37)).astype(np.float32)
    weights = rng.random(400).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    wide = np.zeros((800, 74), np.float32)
    wide[::2, ::2] = x

    def run(source, chunk_size=None):
        return CPU.weighted_kmeans(
            open_rows(source, "x"),
            40,
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
