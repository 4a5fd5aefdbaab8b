"""k-means of rows that lie in several parts: the bits are those of one part."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from ccma_fast import _core, reference
from ccma_fast.backends import kmeans_part, kmeans_start
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.protocol import over_parts
from ccma_fast.pool.array_like import check_weights
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import clustering
from ccma_fast.steps.representatives import RepresentedPart, representatives, representatives_of_parts

pytestmark = pytest.mark.processor

CPU, CUDA = (over_parts(choose_backend(name)) for name in ("cpu", "cuda"))
N = 700


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows fall into several of the blocks that one is drawn from."""
    for module in (kmeans_part, kmeans_start):
        monkeypatch.setattr(module, "ROWS_OF_BLOCK", 64)


def weights_of(kind: str, rng: np.random.Generator) -> np.ndarray | None:
    """Weights of all kinds."""
    if kind == "none":
        return None
    if kind == "zeros":
        return np.where(rng.random(N) < 0.6, 0.0, rng.random(N)).astype(np.float32)
    if kind == "all zero":
        return np.zeros(N, np.float32)
    if kind == "any size":
        return np.exp2(rng.uniform(-140, 120, N)).astype(np.float32)
    return rng.exponential(size=N).astype(np.float32)


def rows_of(kind: str, rng: np.random.Generator) -> torch.Tensor:
    x = rng.standard_normal((N, 33))
    if kind == "equal":
        x = x[rng.integers(12, size=N)]
    if kind == "any length":
        x *= np.exp2(rng.uniform(-40, 20, (N, 1)))
    types = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    return torch.from_numpy(x).to(types.get(kind, torch.float32))


def assert_same(
    dealing,
    deals,
    x,
    n_clusters,
    weights,
    *,
    init="k-means||",
    unit=False,
    seed=0,
    chunk_size=None,
    method="full",
    backend=CPU,
    **settings,
):
    """Everything that comes of the clustering, and the generator after it; by the `method` where one is given."""
    rng, again = np.random.default_rng(seed), np.random.default_rng(seed)
    for generator in (rng, again):
        generator.integers(5, dtype=np.int32)  # half a number of its bits is kept for the next such draw
    rows = open_rows(x, "x")
    settings = {"init": init, "max_iter": 6, "tol": 0.0, **settings}
    whole = clustering.cluster(
        backend, rows, n_clusters, method=method, weights=weights, unit=unit, random_state=rng, **settings
    )
    w = np.ones(N, np.float32) if weights is None else weights

    def part(runs, numbers):
        return backend.kmeans_part(RowSubset(rows, numbers), runs, w[numbers], unit=unit, chunk_size=chunk_size)

    parts = dealing.split(N, deals, part)
    found = clustering.cluster_parts(backend, parts, n_clusters, method=method, random_state=again, **settings)
    np.testing.assert_array_equal(found.centroids, whole.centroids)
    assert (found.inertia, found.n_iter) == (whole.inertia, whole.n_iter)
    labels, squared = np.empty(N, np.int32), np.empty(N, np.float32)
    for here in parts.parts:
        numbers = dealing.numbers_of(here.numbers)
        labels[numbers], squared[numbers] = here.labels, here.squared
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(squared, whole.squared_distances)
    assert rng.bit_generator.state == again.bit_generator.state

    of_clusters = None if weights is None else check_weights(weights, N)
    preference = np.random.default_rng(seed).integers(9, size=N).astype(np.float32)
    for preferred in (None, preference):
        expected = representatives(whole, n_clusters + 7, of_clusters, preferred)

        def represented(runs, numbers, preferred=preferred):
            of_rows = (None if given is None else given[numbers] for given in (of_clusters, preferred))
            return RepresentedPart(labels[numbers], squared[numbers], runs, *of_rows)

        picks = representatives_of_parts(dealing.split(N, deals, represented), n_clusters, n_clusters + 7)
        for ours, theirs in zip(picks, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    return whole


LEVELS = ("scalar", "avx2", "avx512", "avx512_vnni")
LEVELS = LEVELS[: LEVELS.index(_core.simd_level()) + 1]
INITS = ("k-means||", "random")
WEIGHTS = ("none", "zeros", "all zero", "any size", "random")
N_PARTS = (1, 2, 3, 7)
# Each instruction set with all weights; each start with all weights and all numbers of parts. The rest: slow.
SOME = {(LEVELS[i // 5], WEIGHTS[i % 5], INITS[i % 2], N_PARTS[i // 2 % 4]) for i in range(5 * len(LEVELS))}


@pytest.mark.parametrize(
    ("simd", "weights", "init", "n_parts"),
    [
        pytest.param(*case, marks=() if case in SOME else pytest.mark.slow)
        for case in itertools.product(LEVELS, WEIGHTS, INITS, N_PARTS)
    ],
    indirect=["simd"],
)
def test_rows_may_lie_anywhere(simd, dealing, weights, init, n_parts):
    rng = np.random.default_rng(n_parts)
    w = weights_of(weights, rng)
    for seed, unit in enumerate((True, False)):
        deals = dealing.dealt(N, n_parts, rng)
        assert_same(dealing, deals, rows_of("any", rng), 25, w, init=init, unit=unit, seed=seed, chunk_size=97)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "equal", "any length"])
def test_rows_of_any_kind(dealing, kind):
    rng = np.random.default_rng(1)
    x = rows_of(kind, rng)
    for init in ("k-means||", "random"):
        assert_same(dealing, dealing.dealt(N, 3, rng), x, 40, weights_of("random", rng), init=init)
    # Three centroids on one row: two clusters own no row and are seeded, in another part than they were.
    start = np.asarray(open_rows(x, "x").float32())[[5, 5, 5, 80, 400]]
    assert_same(dealing, dealing.dealt(N, 4, rng), x, 5, weights_of("zeros", rng), init=start)


def test_every_row_in_a_range_of_its_own(dealing):
    rng = np.random.default_rng(3)
    assert_same(
        dealing, dealing.dealt(N, 3, rng, runs=5000), rows_of("any", rng), 30, weights_of("random", rng), unit=True
    )


METHODS = ("sample", "two-level")
OF_METHODS = WEIGHTS[0], WEIGHTS[1], WEIGHTS[3]
# Each method with all weights, starts and numbers of parts.
SOME_OF_METHODS = {(METHODS[i // 3], OF_METHODS[i % 3], INITS[i % 2], (2, 7)[i // 2 % 2]) for i in range(6)}


@pytest.mark.parametrize(
    ("method", "weights", "init", "n_parts"),
    [
        pytest.param(*case, marks=() if case in SOME_OF_METHODS else pytest.mark.slow)
        for case in itertools.product(METHODS, OF_METHODS, INITS, (2, 7))
    ],
)
def test_methods_for_many_clusters(dealing, method, weights, init, n_parts, monkeypatch):
    monkeypatch.setattr(clustering, "KMEANS_SAMPLE_ROWS", 8)
    rng = np.random.default_rng(n_parts)
    w = weights_of(weights, rng)
    for unit in (True, False):
        x = rows_of("equal" if unit else "any", rng)
        deals = dealing.dealt(N, n_parts, rng, runs=30)
        assert_same(dealing, deals, x, 40, w, method=method, init=init, unit=unit, seed=n_parts)


_ON_DEVICE = {
    "unit": {"unit": True, "kind": "bfloat16", "chunk_size": 64},
    "zeros": {"weights": "zeros", "init": "random"},
    "any size": {"weights": "any size", "kind": "any length", "init": "random"},
    "seeded anew": {"weights": "zeros", "unit": True, "start": [5, 5, 5, 40, 55]},
    "sample": {"method": "sample", "weights": "random"},
    "two-level": {"method": "two-level", "unit": True, "kind": "equal", "weights": "random", "init": "random"},
    "two-level of k-means||": {"method": "two-level", "unit": True, "kind": "equal", "weights": "random"},
}
SLOW_ON_DEVICE = {"unit", "any size", "two-level of k-means||"}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    "name", [pytest.param(of, marks=pytest.mark.slow if of in SLOW_ON_DEVICE else ()) for of in _ON_DEVICE]
)
def test_rows_on_devices(dealing, name, monkeypatch):
    """Several parts, all of them on the device that is here, or interpreted."""
    monkeypatch.setattr(clustering, "KMEANS_SAMPLE_ROWS", 4)
    monkeypatch.setitem(globals(), "N", 60)
    rng = np.random.default_rng(5)
    given = {"kind": "any", "weights": "none", **_ON_DEVICE[name]}
    x, w = rows_of(given.pop("kind"), rng), weights_of(given.pop("weights"), rng)
    if "start" in given:  # equal centroids leave two clusters without rows
        start = np.asarray(open_rows(x, "x").float32())[given.pop("start")]
        given["init"] = start / np.linalg.norm(start, axis=1, keepdims=True)
    n_clusters = len(given["init"]) if isinstance(given.get("init"), np.ndarray) else 6
    deals = dealing.dealt(N, 3, rng)
    assert_same(dealing, deals, x, n_clusters, w, backend=CUDA, max_iter=2, **given)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 12))])
def test_random_deals(dealing, seed):
    rng = np.random.default_rng(seed)
    _core.set_num_threads(int(rng.integers(1, 5)))
    kinds = ("none", "zeros", "any size", "random")
    x = rows_of(str(rng.choice(["any", "equal", "bfloat16"])), rng)
    assert_same(
        dealing,
        dealing.dealt(N, int(rng.integers(1, 8)), rng, runs=int(rng.integers(1, 60))),
        x,
        int(rng.integers(1, 120)),
        weights_of(str(rng.choice(kinds)), rng),
        init=str(rng.choice(["k-means||", "random"])),
        unit=bool(rng.integers(2)),
        seed=seed,
        chunk_size=int(rng.integers(1, 400)),
        max_iter=int(rng.integers(0, 5)),
    )


def _of_rows(x, numbers, runs):
    return CPU.kmeans_part(RowSubset(x, numbers), runs, np.ones(numbers.size, np.float32), unit=False)


def test_other_generators_draw_the_same_numbers(dealing):
    """A bit generator that cannot jump ahead is drawn from instead."""
    rng = np.random.default_rng(0)
    x, deals = open_rows(rows_of("any", rng), "x"), dealing.dealt(N, 3, rng)
    for bits in (np.random.MT19937, np.random.Philox, np.random.SFC64, np.random.PCG64DXSM):
        one, other = np.random.Generator(bits(5)), np.random.Generator(bits(5))
        whole = CPU.weighted_kmeans(x, 20, max_iter=1, random_state=one)
        parts = dealing.split(N, deals, lambda runs, at: _of_rows(x, at, runs))
        found = CPU.kmeans_of_parts(parts, 20, init="k-means||", max_iter=1, tol=0.0, random_state=other)
        np.testing.assert_array_equal(found.centroids, whole.centroids)
        np.testing.assert_equal(one.random(3), other.random(3))


def test_k_means_plus_plus_needs_all_rows_in_one_place(dealing):
    x = open_rows(np.eye(6, dtype=np.float32), "x")
    deals = dealing.dealt(6, 2, np.random.default_rng(0))
    parts = dealing.split(6, deals, lambda runs, at: _of_rows(x, at, runs))
    with pytest.raises(ValueError, match=r"init must be 'k-means\|\|' or 'random' for rows in several places"):
        CPU.kmeans_of_parts(
            parts,
            2,
            init="k-means++",
            max_iter=1,
            tol=0.0,
            random_state=np.random.default_rng(0),
        )


@pytest.mark.parametrize("weights", ["none", "zeros", "any size", "random"])
def test_means_are_those_of_exact_sums(weights):
    """However far weights are apart, each mean is within float32's rounding of the exact one."""
    rng = np.random.default_rng(4)
    x = rows_of("any", rng).numpy()
    w = weights_of(weights, rng)
    start = x[:9]
    found = CPU.weighted_kmeans(
        open_rows(x, "x"), 9, weights=w, init=start, max_iter=1, random_state=np.random.default_rng(0)
    )
    labels, _ = reference.assign(x, start)
    of_rows = (np.ones(N) if w is None else w.astype(np.float64)).tolist()
    for k in range(9):
        members = np.flatnonzero(labels == k).tolist()
        mass = math.fsum(of_rows[i] for i in members)
        if mass > 0.0:
            exact = [math.fsum(of_rows[i] * float(x[i, d]) for i in members) / mass for d in range(x.shape[1])]
            np.testing.assert_allclose(found.centroids[k], exact, rtol=3e-7, atol=1e-9)
