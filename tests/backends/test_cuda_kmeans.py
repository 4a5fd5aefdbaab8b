"""Weighted k-means of the CUDA backend: the sums, and the core's own clusterings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ccma_fast.kernels import _configs, kmeans_update

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import kmeans_rows, reader
from ccma_fast.backends.cuda.device import device
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows

from ..combinations import thinned

CUDA, CPU = choose_backend("cuda"), choose_backend("cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def on_device(array: np.ndarray, dtype: str = "float32") -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32)).to(DTYPES[dtype]).to(device())


@pytest.mark.parametrize(("k", "length"), [(7, 1024), (7, 4), (1, 16), (2, 1)])
def test_sums_of_clusters(k, length, monkeypatch):
    """The same whatever the chunks, in segments of any length; no rows are of no mass."""
    monkeypatch.setattr(kmeans_update, "UPDATE_TILE", _configs.UPDATE_TILE._replace(length=length))
    rng = np.random.default_rng(0)
    x, scale, w = rng.standard_normal((40, 37)), rng.random(40).astype(np.float32), rng.random(40).astype(np.float32)
    labels = rng.integers(k, size=40).astype(np.int32)
    labels[labels == 3] = 4
    y = (x.astype(np.float32) * scale[:, None]).astype(np.float64)
    expected = np.stack([(w[labels == c, None] * y[labels == c]).sum(axis=0) for c in range(k)])
    found = []
    units = kmeans_update.Units.of(device(), 12, 40, 20, n_limbs=3, n_mass_limbs=2)
    for ends in ([40], [1, 20, 21, 21, 40]):
        state = kmeans_update.Sums.empty(k, 37, units)
        for start, stop in zip([0, *ends], ends, strict=False):
            part = slice(start, stop)
            kmeans_update.accumulate(
                on_device(x[part]), on_device(scale[part]), on_device(w[part]),
                torch.from_numpy(labels[part]).to(device()), state,
            )  # fmt: skip
        sums, mass = state.totals()
        np.testing.assert_allclose(sums.cpu().numpy(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(mass.cpu().numpy(), np.bincount(labels, w, minlength=k), rtol=1e-12)
        found.append((state.sums, state.mass))
        # The limbs are those of the core.
        limbs, limbs_of_mass = np.zeros((3, k, 37), np.int64), np.zeros((2, k), np.int64)
        core = x.astype(np.float32), scale, labels, w
        _core.accumulate(*core, limbs, 2.0**12, limbs_of_mass, 2.0**40, 2.0**20)
        np.testing.assert_array_equal(state.sums.cpu().numpy(), limbs)
        np.testing.assert_array_equal(state.mass.cpu().numpy(), limbs_of_mass)
    for whole, in_chunks in zip(*found, strict=True):
        assert torch.equal(whole, in_chunks)


@pytest.mark.parametrize(("unit", "init"), thinned(2, [True, False], ["k-means||", "k-means++", "random"]))
def test_the_same_clusterings_as_the_core(blobs, init, unit):
    """Same seeds, same start, same labels: the differences are counted, and none is allowed."""
    x, _ = blobs(80, 24, 8, seed=2, distance=0.8)
    weights = np.random.default_rng(0).exponential(size=80).astype(np.float32)
    found, expected = (
        backend.weighted_kmeans(
            open_rows(x, "x"),
            9,
            weights=weights,
            init=init,
            max_iter=2,
            random_state=np.random.default_rng(5),
            unit=unit,
        )
        for backend in (CUDA, CPU)
    )
    assert np.count_nonzero(found.labels != expected.labels) == 0
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.squared_distances, expected.squared_distances, rtol=2e-6, atol=1e-6)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-6)
    assert (found.n_iter, found.backend) == (expected.n_iter, "cuda")


def test_chunks_storage_and_place_do_not_matter(monkeypatch):
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((50, 12)).astype(np.float32)).bfloat16()
    rows = np.random.default_rng(2).permutation(50)[:26]

    def run(source: object, chunk_size: int | None = None) -> cf.KMeans:
        subset = RowSubset(open_rows(source, "x"), rows)
        return CUDA.weighted_kmeans(
            subset, 3, max_iter=2, random_state=np.random.default_rng(0), unit=True, chunk_size=chunk_size
        )

    expected = run(x)
    found = [run(x.float().numpy()), run(x.to(device()), 17)]
    monkeypatch.setattr(reader, "_KEPT_BYTES", 0)
    monkeypatch.setattr(reader, "_KEPT_SHARE", 0.0)
    found += [run(x, 25)]
    for other in found:
        np.testing.assert_array_equal(other.labels, expected.labels)
        np.testing.assert_array_equal(other.centroids, expected.centroids)
        assert other.inertia == pytest.approx(expected.inertia, rel=1e-12)


def test_empty_clusters_go_to_the_rows_that_cost_most():
    rng = np.random.default_rng(4)
    x, weights = rng.standard_normal((50, 3)).astype(np.float32), rng.random(50).astype(np.float32)
    init = x[[0, 0, 0, 7, 0]]
    found = cf.weighted_kmeans(x, 5, weights=weights, init=init, max_iter=1, backend="cuda")
    expected = reference.weighted_kmeans(x, 5, weights=weights, init=init, max_iter=1)
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found.labels, expected.labels)
    # Fewer distinct rows than clusters: nothing to move to.
    same = cf.weighted_kmeans(np.ones((6, 2), np.float32), 3, random_state=0, backend="cuda")
    assert same.inertia == 0.0
    assert np.unique(same.labels).tolist() == [0]


@pytest.mark.parametrize(("tol", "are_on_device"), [(0.0, True), (0.05, False), (1.0, True)])
def test_the_iteration_that_stops_is_kept(tol, are_on_device, monkeypatch):
    """Clusters that are empty at first, and an end that the host hears of when the next means are under way."""
    x = np.random.default_rng(4).standard_normal((30, 3)).astype(np.float32)
    if not are_on_device:
        monkeypatch.setattr(reader, "_KEPT_BYTES", 0)
        monkeypatch.setattr(reader, "_KEPT_SHARE", 0.0)
    formed = []
    means = kmeans_rows.ClusteredRows.means
    monkeypatch.setattr(kmeans_rows.ClusteredRows, "means", lambda *args: formed.append(0) or means(*args))
    expected, found = (
        cf.weighted_kmeans(x, 6, init=x[[0, 0, 0, 7, 0, 5]], max_iter=12, tol=tol, backend=backend)
        for backend in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_allclose(found.centroids, expected.centroids, rtol=1e-6, atol=1e-6)
    assert found.n_iter == expected.n_iter == (1 if tol == 1.0 else expected.n_iter)
    assert found.inertia == pytest.approx(expected.inertia, rel=1e-6)
    # Once in vain where clusters were empty, once at the end; never where rows are read from elsewhere.
    assert len(formed) == found.n_iter + (2 if are_on_device else 0)


def test_as_many_clusters_as_rows():
    x = np.random.default_rng(3).standard_normal((8, 9)).astype(np.float32)
    found = cf.weighted_kmeans(x, 8, random_state=5, max_iter=1, backend="cuda")
    assert sorted(found.labels) == list(range(8))
    assert found.inertia == 0.0


@pytest.mark.parametrize("init", ["k-means||", "k-means++"])
def test_distances_that_overflow_are_said(init):
    """No row can be drawn by them, and a device would read centroids that are not there."""
    x = 1e30 * np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)
    for backend in (CUDA, CPU):
        with pytest.raises(ValueError, match="squared distances must be finite in float32"):
            backend.weighted_kmeans(open_rows(x, "X"), 3, init=init, random_state=np.random.default_rng(0))
