"""Weighted k-means of the CUDA backend: exact labels, the sums, and the core's own clusterings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ccma_fast.kernels import _configs, kmeans_assign, kmeans_update

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import kmeans_rows, reader
from ccma_fast.backends.cuda.device import device
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows

CUDA, CPU = choose_backend("cuda"), choose_backend("cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def on_device(array: np.ndarray, dtype: str = "float32") -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32)).to(DTYPES[dtype]).to(device())


def assign(x: torch.Tensor, centroids: np.ndarray, scale: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Labels and squared distances by the kernels."""
    factor = None if scale is None else on_device(scale)
    y = x.float() if factor is None else x.float() * factor[:, None]
    lengths = y.double().norm(dim=1).float() * 1.000001
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), y.mean(dim=0), x.dtype)
    return tuple(found.cpu().numpy() for found in kmeans_assign.nearest(x, factor, lengths, prepared))


def assert_nearest(y: np.ndarray, centroids: np.ndarray, labels: np.ndarray, squared: np.ndarray) -> None:
    """In float64 no centroid is nearer than the label's by more than rounding, and no lower one as near."""
    distances = ((y.astype(np.float64)[:, None] - centroids) ** 2).sum(axis=2)
    chosen = distances[np.arange(len(y)), labels]
    np.testing.assert_allclose(squared, chosen, rtol=1e-6, atol=1e-12)
    assert (chosen <= distances.min(axis=1) * (1 + 1e-12)).all()
    np.testing.assert_array_equal(labels, distances.argmin(axis=1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n_rows", "n_columns", "k"), [(1, 1, 1), (5, 2, 3), (131, 65, 20), (40, 200, 130), (7, 1025, 4)]
)
def test_labels_are_exact(n_rows, n_columns, k, dtype):
    rng = np.random.default_rng(n_columns)
    x = on_device(rng.standard_normal((n_rows, n_columns)) / n_columns**0.5, dtype)
    centroids = (rng.standard_normal((k, n_columns)) / n_columns**0.5).astype(np.float32)
    scale = rng.uniform(0.5, 2.0, n_rows).astype(np.float32)
    y = x.float().cpu().numpy()
    assert_nearest(y, centroids, *assign(x, centroids))
    assert_nearest(y * scale[:, None], centroids, *assign(x, centroids, scale))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["far", "repeated", "huge", "tiny", "between", "equal"])
def test_what_16_bits_cannot_settle(kind, dtype, monkeypatch):
    """Data on which most rows go on to the next product, or to the distances themselves."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 24))
    centroids = rng.standard_normal((9, 24))
    if kind == "far":
        x, centroids = 300.0 + 0.1 * x, 300.0 + 0.1 * centroids
    elif kind == "repeated":
        centroids = centroids[np.arange(9) % 3]
    elif kind in ("huge", "tiny"):
        factor = 1e18 if kind == "huge" else 1e-15
        x, centroids = factor * x, factor * centroids
    elif kind == "between":  # as near to one as to the other
        centroids[1::2] = -centroids[:-1:2]
        x[:, 12:] = centroids[:, 12:] = 0.0
        x[:, :12] = np.round(x[:, :12])
        centroids = np.round(centroids)
        x[:30] = 0.0
    else:
        x[:] = centroids[:] = 0.3
    lengths = []
    listed = kmeans_assign._listed
    monkeypatch.setattr(kmeans_assign, "_listed", lambda is_open: lengths.append(int(is_open.sum())) or listed(is_open))
    tensor = on_device(x, dtype)
    centroids = centroids.astype(np.float32)
    assert_nearest(tensor.float().cpu().numpy(), centroids, *assign(tensor, centroids))
    assert lengths[0] >= lengths[1]
    # Ties are left to the distances themselves, and so is what may overflow.
    assert lengths[1] > 0 or kind in ("far", "tiny")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n_columns", "k", "kind"), [(131, 65, 20, "random"), (8, 12, 515, "repeated")])
def test_the_library_s_product_gives_the_same_labels(n_rows, n_columns, k, kind, dtype, monkeypatch):
    rng = np.random.default_rng(n_columns)
    centroids = (rng.standard_normal((k, n_columns)) / n_columns**0.5).astype(np.float32)
    if kind == "repeated":
        centroids = centroids[np.arange(k) % 257]
    x = on_device(centroids[rng.integers(k, size=n_rows)] + 0.2 * rng.standard_normal((n_rows, n_columns)), dtype)
    scale = on_device(rng.uniform(0.5, 2.0, n_rows))
    lengths = (x.double().norm(dim=1) * scale * 1.000001).float()
    prepared = kmeans_assign.prepare_centroids(on_device(centroids), x.float().mean(dim=0), x.dtype)
    monkeypatch.setattr(kmeans_assign, "score_rows", lambda k: 5)
    open_rows = []
    listed = kmeans_assign._listed
    monkeypatch.setattr(kmeans_assign, "_listed", lambda of: open_rows.append(int(of.sum())) or listed(of))
    found, expected = (
        kmeans_assign.nearest(x, scale, lengths, prepared._replace(by_library=library)) for library in (True, False)
    )
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    # The reduction settles what the fused kernel settles, but for rows at the very bound.
    assert abs(open_rows[0] - open_rows[2]) <= 1
    assert (open_rows[0] == n_rows) == (kind == "repeated")


def test_the_library_is_chosen_by_shape_in_one_place():
    shapes = [(10_000, d) for d in (768, 1024, 1536, 2048)] + [(100, 2048)]
    chosen = {
        capability: [_configs.by_library(torch.bfloat16, k, d, capability) for k, d in shapes]
        for capability in ((8, 0), (9, 0), (10, 0))
    }
    assert chosen == {
        (8, 0): [False] * 5,
        (9, 0): [False, False, False, True, False],
        (10, 0): [False, True, True, True, False],
    }
    assert not _configs.by_library(torch.float16, 10_000, 4096, (9, 0))  # whose sums PyTorch may round
    assert 32 << 20 >= 4 * 10_112 * _configs.score_rows(10_112) > 24 << 20


def test_bounds_hold(monkeypatch):
    """With bounds of zero labels are wrong, so that it is the bounds that make them right."""
    rng = np.random.default_rng(0)
    x = on_device(rng.standard_normal((300, 40)))
    centroids = (1.0 + 0.05 * rng.standard_normal((60, 40))).astype(np.float32)
    exact, _ = assign(x, centroids)
    prepare = kmeans_assign.prepare_centroids

    def careless(*args: object) -> kmeans_assign.Centroids:
        prepared = prepare(*args)
        return prepared._replace(bounds=torch.zeros_like(prepared.bounds))

    monkeypatch.setattr(kmeans_assign, "prepare_centroids", careless)
    wrong, _ = assign(x, centroids)
    assert 0 < (wrong != exact).sum() < 60


@pytest.mark.parametrize(("k", "length"), [(7, 1024), (7, 4), (1, 16), (2, 1)])
def test_sums_of_clusters(k, length, monkeypatch):
    """In the order of the rows, whatever the chunks, in segments of any length; no rows are of no mass."""
    monkeypatch.setattr(kmeans_update, "UPDATE_TILE", _configs.UPDATE_TILE._replace(length=length))
    rng = np.random.default_rng(0)
    x, scale, w = rng.standard_normal((90, 37)), rng.random(90).astype(np.float32), rng.random(90).astype(np.float32)
    labels = rng.integers(k, size=90).astype(np.int32)
    labels[labels == 3] = 4
    y = (x.astype(np.float32) * scale[:, None]).astype(np.float64)
    expected = np.stack([(w[labels == c, None] * y[labels == c]).sum(axis=0) for c in range(k)])
    found = []
    for ends in ([90], [1, 50, 51, 51, 90]):
        state = kmeans_update.Sums.empty(k, 37, device())
        for start, stop in zip([0, *ends], ends, strict=False):
            part = slice(start, stop)
            kmeans_update.accumulate(
                on_device(x[part]), on_device(scale[part]), on_device(w[part]),
                torch.from_numpy(labels[part]).to(device()), state,
            )  # fmt: skip
        sums, mass = state.totals()
        np.testing.assert_allclose(sums.cpu().numpy(), expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(mass.cpu().numpy(), np.bincount(labels, w, minlength=k), rtol=1e-12)
        found.append((sums, mass))
    for whole, in_chunks in zip(*found, strict=True):
        assert torch.equal(whole, in_chunks)


@pytest.mark.parametrize("init", ["k-means||", "k-means++", "random"])
@pytest.mark.parametrize("unit", [True, False])
def test_the_same_clusterings_as_the_core(blobs, init, unit):
    """Same seeds, same start, same labels: the differences are counted, and none is allowed."""
    x, _ = blobs(120, 24, 8, seed=2, distance=0.8)
    weights = np.random.default_rng(0).exponential(size=120).astype(np.float32)
    found, expected = (
        backend.weighted_kmeans(
            open_rows(x, "x"),
            9,
            weights=weights,
            init=init,
            max_iter=4,
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
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((70, 12)).astype(np.float32)).bfloat16()
    rows = np.random.default_rng(2).permutation(70)[:40]

    def run(source: object, chunk_size: int | None = None) -> cf.KMeans:
        subset = RowSubset(open_rows(source, "x"), rows)
        return CUDA.weighted_kmeans(
            subset, 4, max_iter=2, random_state=np.random.default_rng(0), unit=True, chunk_size=chunk_size
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
    x = np.random.default_rng(3).standard_normal((12, 9)).astype(np.float32)
    found = cf.weighted_kmeans(x, 12, random_state=5, max_iter=1, backend="cuda")
    assert sorted(found.labels) == list(range(12))
    assert found.inertia == 0.0
