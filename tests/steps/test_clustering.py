"""Clusterings of many rows, on a sample or in two levels, and the rows that stand for clusters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.config import KMEANS_METHODS
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import clustering

from ..combinations import thinned

pytestmark = pytest.mark.processor

BACKENDS = ("cpu", "reference")


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


@pytest.mark.parametrize(("method", "weighted"), thinned(2, ["sample", "two-level"], [False, True]))
def test_methods_for_many_clusters(simd, blobs, method, weighted, monkeypatch):
    """What is returned describes the rows as it says, at a small loss of inertia, whatever the chunks."""
    monkeypatch.setattr(clustering, "KMEANS_SAMPLE_ROWS", 8)
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


def test_the_smallest_weights_that_float32_holds():
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = cf.weighted_kmeans(x, 2, weights=np.full(6, 1e-45, np.float32), backend="cpu")
    assert np.isfinite(found.centroids).all()
    assert set(found.labels.tolist()) == {0, 1}
