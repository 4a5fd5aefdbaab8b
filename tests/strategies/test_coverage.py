"""Strategies that cover the pool: each against its definition in float64, with full matrices and exhaustive search."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccma_fast as cf
from ccma_fast import reference, strategies
from ccma_fast.backends import exact_sums
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import coverage, representatives
from ccma_fast.steps.trained import Trained
from ccma_fast.strategies import herding

from ..combinations import thinned

pytestmark = pytest.mark.processor

WITHOUT_LABELS = ("centroid", "typiclust", "probcover", "max-herding")
NAMES = (*WITHOUT_LABELS, "uncertainty-herding")
BACKENDS = ("cpu", "reference")

# By name: importing `probcover` from a package whose functions share the modules' names reads like the function.
probcover, typiclust, uncertainty_herding = (
    import_module(f"ccma_fast.strategies.{name}") for name in ("probcover", "typiclust", "uncertainty_herding")
)


def make_round(
    x: object,
    labels: np.ndarray,
    budget: int,
    *,
    n_classes: int = 4,
    seed: int = 0,
    backend: str = "cpu",
    **constants: float,
) -> strategies.Round:
    """A round on x, with a head that was fitted on the labelled rows."""
    rows, known = open_rows(x, "features"), np.flatnonzero(labels >= 0)
    trained = None
    if np.unique(labels[known]).size >= 2:
        head = cf.LinearHead(n_classes, **{"max_epochs": 40, **constants})
        trained = Trained(head.fit(rows.take(known), labels[known]))
    config, rng = cf.CCMAConfig(), np.random.default_rng(seed)
    return strategies.Round(rows, labels, n_classes, budget, trained, None, config, rng, choose_backend(backend))


def choose(name: str, state: strategies.Round) -> list[int]:
    return strategies.pick(strategies.find(name), state).tolist()


def similarities(x: np.ndarray) -> np.ndarray:
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return unit @ unit.T


def gains(kernel: np.ndarray, weights: np.ndarray, covering: list[int]) -> np.ndarray:
    """What each row would add to Σ_i w_i · max_j k_ij over the covering rows j."""
    near = kernel[covering].max(axis=0, initial=0.0)
    return (weights * np.maximum(kernel - near, 0.0)).sum(axis=1)


def exhaustive_greedy(
    kernel: np.ndarray,
    labels: np.ndarray,
    budget: int,
    weights: np.ndarray | float = 1.0,
    among: np.ndarray | None = None,
) -> list[int]:
    covering = np.flatnonzero(labels >= 0).tolist()
    candidates = np.flatnonzero(labels < 0) if among is None else among
    chosen: list[int] = []
    for _ in range(budget):
        left = np.setdiff1d(candidates, chosen)
        chosen.append(int(left[gains(kernel, weights, covering + chosen)[left].argmax()]))
    return chosen


@pytest.fixture(scope="module")
def pool(blobs: Callable[..., tuple], partly_labelled: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, 20 of 400 rows labelled."""
    x, y = blobs(400, 12, 4, distance=0.6)
    return x, partly_labelled(y, 20)


@pytest.fixture(scope="module")
def unlabelled(pool: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return pool[0], np.full(len(pool[0]), -1)


@pytest.fixture(params=["pool", "unlabelled"])
def either(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """The pool with and without labels."""
    found: tuple[np.ndarray, np.ndarray] = request.getfixturevalue(request.param)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# Definitions


def test_centroid_takes_the_row_nearest_to_each_clusters_mean(blobs: Callable[..., tuple]) -> None:
    x, y = blobs(300, 8, 5)
    labels = np.where(np.arange(300) < 20, y, -1)
    unit = x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True)
    expected = set()
    for c in range(5):
        members = np.flatnonzero((y == c) & (labels < 0))
        centre = unit[members].mean(axis=0)
        expected.add(int(members[((unit[members] - centre) ** 2).sum(axis=1).argmin()]))
    assert set(choose("centroid", make_round(x, labels, 5, n_classes=5))) == expected


def kmeans_labels(state: strategies.Round, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """The clusters that the strategies start from; k-means has tests of its own."""
    found = state.backend.weighted_kmeans(state.features, n_clusters, random_state=rng, unit=True)
    return found.labels


def typical_rows(
    x: np.ndarray, state: strategies.Round, pairs: float = np.inf, smallest_kept: int = 6
) -> tuple[list[int], int]:
    """The published code's loop, and how often it began anew."""
    rng = np.random.default_rng(0)
    distance = np.sqrt(np.maximum(2.0 - 2.0 * similarities(x), 0.0))
    np.fill_diagonal(distance, np.inf)
    known = state.labels >= 0
    cluster = kmeans_labels(state, min(known.sum() + state.budget, 500), rng)
    ids = [c for c in range(cluster.max() + 1) if (cluster == c).sum() >= smallest_kept]
    ids.sort(key=lambda c: (known[cluster == c].sum(), -(cluster == c).sum(), c))
    chosen: list[int] = []
    visits = 0
    while len(chosen) < state.budget:
        c = ids[visits % len(ids)]
        visits += 1
        members = np.setdiff1d(np.flatnonzero((cluster == c) & ~known), chosen)
        if members.size == 0:
            continue
        k = min(20, members.size // 2)
        candidates = members
        if k and members.size**2 > pairs:
            candidates = members[np.sort(rng.choice(members.size, int(pairs // members.size), replace=False))]
        near = [np.sort(distance[i, members])[:k].mean() if k else 0.0 for i in candidates]
        chosen.append(int(candidates[np.argmin(near)]))
    return chosen, (visits - 1) // len(ids)


@pytest.mark.parametrize("backend", BACKENDS)
def test_typiclust(either: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    x, labels = either
    state = make_round(x, labels, 7, backend=backend)
    assert choose("typiclust", state) == typical_rows(x, state)[0]


def test_typiclust_drops_small_clusters_and_visits_the_others_again(rng: np.random.Generator) -> None:
    centres = np.eye(6)[[0] * 40 + [1] * 30 + [2] * 6 + [3] * 5 + [4] * 3]
    x = (centres + 0.01 * rng.standard_normal(centres.shape)).astype(np.float32)
    cluster, unknown = centres.argmax(axis=1), np.full(84, -1)
    state = make_round(x, unknown, 5)
    picks = choose("typiclust", state)
    assert cluster[picks].tolist() == [0, 1, 2, 0, 1], "largest first; 5 and 3 rows are too few"
    assert (picks, 1) == typical_rows(x, state)


def test_typiclust_takes_from_small_clusters_what_the_others_lack() -> None:
    x = np.eye(4, dtype=np.float32)[[0] * 40 + [1] * 5 + [2] * 3]
    labels = np.where(np.arange(48) < 39, np.arange(48) % 4, -1)
    assert choose("typiclust", make_round(x, labels, 4)) == [39, 40, 45, 41]


def test_typiclust_takes_labelled_clusters_last(rng: np.random.Generator) -> None:
    centres = np.eye(4)[[0] * 40 + [1] * 30 + [2] * 20]
    x = (centres + 0.01 * rng.standard_normal(centres.shape)).astype(np.float32)
    labels = np.full(90, -1)
    labels[0] = 0
    picks = choose("typiclust", make_round(x, labels, 2))
    assert centres.argmax(axis=1)[picks].tolist() == [1, 2]


def test_typiclust_of_a_large_cluster_looks_at_a_share_of_its_rows(
    unlabelled: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = unlabelled
    monkeypatch.setattr(typiclust, "_PAIRS", 500)
    state = make_round(x, labels, 4)
    expected, _ = typical_rows(x, state, pairs=500)
    assert choose("typiclust", state) == expected != typical_rows(x, state)[0]


def pure_radius(similarity: np.ndarray, cluster: np.ndarray, centres: np.ndarray) -> float:
    """The largest δ at which at least 95 % of the open balls around the centres hold one pseudo-label."""
    distance = np.sqrt(np.maximum(2.0 - 2.0 * similarity[centres], 0.0))
    others = cluster != cluster[centres, None]
    radii = np.unique(distance.min(axis=1, where=others, initial=2.0))  # between these nothing changes
    impure = [((distance < r) & others).any(axis=1).mean() for r in radii]
    return float(radii[np.flatnonzero(np.asarray(impure) <= 0.05 + 1e-12)[-1]])


@pytest.mark.parametrize("backend", BACKENDS)
def test_probcover(either: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    x, labels = either
    similarity = similarities(x)
    state = make_round(x, labels, 9, backend=backend)
    cluster = kmeans_labels(state, 4, np.random.default_rng(0))
    delta = pure_radius(similarity, cluster, np.arange(400))
    inside = (similarity > 1.0 - delta**2 / 2.0 + 1e-6).astype(float)  # the ball's edge is one pair's distance
    assert choose("probcover", state) == exhaustive_greedy(inside, labels, 9)


def test_the_radius_of_probcover_is_the_largest_that_is_pure(
    unlabelled: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = unlabelled
    for n_balls in (400, 37):
        monkeypatch.setattr(probcover, "_BALLS", n_balls)
        state = make_round(x, labels, 1)
        found = probcover.ball_similarity(state, coverage.HostUnitRows(state.features, state.backend))
        rng = np.random.default_rng(0)
        cluster = kmeans_labels(state, 4, rng)
        centres = np.arange(400) if n_balls == 400 else np.sort(rng.choice(400, n_balls, replace=False))
        assert np.sqrt(2.0 - 2.0 * found) == pytest.approx(pure_radius(similarities(x), cluster, centres), abs=1e-5)


def test_probcover_covers_everything_before_it_draws_at_random(rng: np.random.Generator) -> None:
    centres = np.eye(3)[[0] * 5 + [1] * 20 + [2] * 10]
    x = (centres + 0.01 * rng.standard_normal(centres.shape)).astype(np.float32)
    picks = choose("probcover", make_round(x, np.full(35, -1), 20, n_classes=3))
    assert centres.argmax(axis=1)[picks[:3]].tolist() == [1, 2, 0]
    assert sorted(picks[3:]) != picks[3:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_max_herding(either: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    x, labels = either
    kernel = np.exp(2.0 * similarities(x) - 2.0)
    assert choose("max-herding", make_round(x, labels, 12, backend=backend)) == exhaustive_greedy(kernel, labels, 12)


def margin_weights(state: strategies.Round, temperature: float) -> np.ndarray:
    z = state.student.decision_function(np.asarray(state.features)).astype(np.float64) / temperature
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p = np.sort(p / p.sum(axis=1, keepdims=True), axis=1)
    return np.where(state.labels < 0, 1.0 - (p[:, -1] - p[:, -2]), 0.0)


def best_temperature(state: strategies.Round) -> float:
    """The published search: a student on 70 % of the labels, the least calibration error on the others."""
    x, y = np.asarray(state.features), state.labels
    order = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))
    n_held_out = int(0.3 * order.size)
    held_out, train = order[:n_held_out], np.sort(order[n_held_out:])
    student = cf.LinearHead(**state.student.get_params()).fit(x[train], y[train])
    z = student.decision_function(x[held_out]).astype(np.float64)
    best, least = 0.0, np.inf
    for temperature in np.arange(1.0, 20.0, 0.1):
        p = np.exp(z / temperature)
        p /= p.sum(axis=1, keepdims=True)
        confidence, right = p.max(axis=1), p.argmax(axis=1) == y[held_out]
        error = 0.0
        for low, high in zip(np.linspace(0, 1, 5)[:-1], np.linspace(0, 1, 5)[1:], strict=True):
            inside = (confidence > low) & (confidence <= high)
            if inside.any():
                error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        if error < least - 1e-12:
            best, least = temperature, error
    return best


@pytest.mark.parametrize("backend", BACKENDS)
def test_uncertainty_herding(pool: tuple[np.ndarray, np.ndarray], backend: str) -> None:
    x, labels = pool
    # Labels that the rows do not explain, learnt by heart: a student that is too sure of itself.
    labels = np.where(labels >= 0, np.random.default_rng(1).integers(4, size=400), -1)
    head = {"max_epochs": 200, "dropout": 0.0}
    state = make_round(x, labels, 12, backend=backend, **head)
    temperature = best_temperature(state)
    assert temperature > 1.0, "otherwise nothing shows that it is used"
    assert uncertainty_herding.calibrated_temperature(make_round(x, labels, 12, **head)) == pytest.approx(temperature)
    known = np.flatnonzero(labels >= 0)
    similarity = similarities(x)
    pairs = similarity[np.ix_(known, known)][~np.eye(known.size, dtype=bool)]
    sigma = np.sqrt(2.0 - 2.0 * pairs.max())
    assert uncertainty_herding.bandwidth(state) == pytest.approx(sigma, rel=1e-5)
    kernel = np.exp((2.0 * similarity - 2.0) / sigma**2)
    weights = margin_weights(state, temperature)
    assert choose("uncertainty-herding", state) == exhaustive_greedy(kernel, labels, 12, weights)


def test_copies_among_the_labelled_rows_do_not_set_the_bandwidth() -> None:
    angle = np.array([0.0, 0.0, 0.001, 0.5, 1.2])
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    labels = np.array([0, 0, 0, 1, 1])
    expected = 2.0 * np.sin(0.499 / 2.0)  # the chord
    assert uncertainty_herding.bandwidth(make_round(x, labels, 1)) == pytest.approx(expected, rel=1e-5)
    copies = np.where(np.arange(5) < 3, labels, -1)
    assert uncertainty_herding.bandwidth(make_round(x, copies, 1)) == 1.0


def test_uncertainty_herding_is_pure_coverage_where_nothing_can_be_calibrated(
    unlabelled: tuple[np.ndarray, np.ndarray],
) -> None:
    x, labels = unlabelled
    labels = labels.copy()
    labels[[3, 50]] = 0, 1
    state = make_round(x, labels, 6)
    assert uncertainty_herding.calibrated_temperature(state) == np.inf
    similarity = similarities(x)
    kernel = np.exp((2.0 * similarity - 2.0) / (2.0 - 2.0 * similarity[3, 50]))
    assert choose("uncertainty-herding", state) == exhaustive_greedy(kernel, labels, 6)


# ---------------------------------------------------------------------------------------------------------------------
# The lazy greedy


@given(data=st.data())
def test_each_lazy_choice_is_one_that_exhaustive_search_could_make(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    # Few values: many equal rows, and many rows in one direction.
    x = rng.integers(-2, 3, (n, d)).astype(np.float32)
    x[~x.any(axis=1)] = 1.0
    labels = np.where(rng.random(n) < data.draw(st.sampled_from([0.0, 0.3])), 0, -1)
    labels[rng.integers(n)] = -1
    budget = data.draw(st.integers(1, int((labels < 0).sum())))
    sigma = data.draw(st.sampled_from([0.1, 1.0]))
    weights = rng.choice([0.0, 0.5, 1.0], n).astype(np.float32)
    state = make_round(x, labels, budget)
    covering = state.labelled.tolist()
    kernel = np.exp((2.0 * similarities(x) - 2.0) / sigma**2)
    picks = herding.herd(state, Kernel.gaussian(sigma), weights=weights).tolist()
    assert len(set(picks)) == budget
    assert (labels[picks] < 0).all()
    for row in picks:
        best = gains(kernel, weights, covering)
        left = np.setdiff1d(state.unlabelled, covering)
        assert best[row] >= best[left].max() - 1e-5 * (1.0 + weights.sum())
        covering.append(row)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Batches, blocks and sums of few rows, so that a small pool has many."""
    for name, value in (("_FIRST_EVALUATED", 3), ("_MOST_EVALUATED", 7)):
        monkeypatch.setattr(coverage, name, value)
    for name, value in (("_BATCH", 7), ("_SQUARE", 48), ("_SUM_ROWS", 32), ("_BLOCK", 99)):
        monkeypatch.setattr(coverage, name, value)
    return monkeypatch


@pytest.mark.parametrize(("dense", "most_pairs"), thinned(2, [0.0, 1.0], [0, 30_000, 1 << 24]))
def test_the_size_of_blocks_changes_no_choice(
    either: tuple[np.ndarray, np.ndarray], small_blocks: pytest.MonkeyPatch, dense: float, most_pairs: int
) -> None:
    x, labels = either
    small_blocks.setattr(coverage, "_DENSE", dense)
    small_blocks.setattr(coverage, "_MOST_PAIRS", most_pairs)
    kernel = np.exp(2.0 * similarities(x) - 2.0)
    assert choose("max-herding", make_round(x, labels, 12)) == exhaustive_greedy(kernel, labels, 12)


def test_what_a_row_adds_has_the_same_bits_in_any_company(
    pool: tuple[np.ndarray, np.ndarray], small_blocks: pytest.MonkeyPatch
) -> None:
    x, labels = pool
    state = make_round(x, labels, 1)
    unit = coverage.HostUnitRows(state.features, state.backend)
    weights = np.random.default_rng(0).random(400, dtype=np.float32)

    labelled = coverage.HostUnitRows(RowSubset(state.features, state.labelled), state.backend)

    def covered(least: float) -> coverage.ByProducts:
        return coverage.ByProducts(unit, unit.nearest(labelled, least), np.arange(400), Kernel.gaussian(1.0), weights)

    together = covered(0.0).gains(state.unlabelled)
    for dense in (0.0, 1.0):
        small_blocks.setattr(coverage, "_DENSE", dense)
        np.testing.assert_array_equal(covered(0.0).gains(state.unlabelled), together)
        alone = [covered(0.0).gains(np.array([row]))[0] for row in state.unlabelled[:50]]
        np.testing.assert_array_equal(alone, together[:50])
    # Bounds are bounds, and tight.
    bounds = covered(0.0)._bounds_of_all()[state.unlabelled]
    assert (bounds >= together).all()
    np.testing.assert_allclose(bounds, together, rtol=1e-5)
    # Gains by listed pairs are those by products, also beside rows selected since.
    by_products, listed = covered(0.0), covered(0.0).listed()
    assert listed is not None
    for row in (None, *state.unlabelled[:3].tolist()):
        if row is not None:
            listed.cover(row)
            by_products.cover(row)
        gains = [listed.gain(row) for row in state.unlabelled.tolist()]
        np.testing.assert_allclose(gains, by_products.gains(state.unlabelled), rtol=1e-6, atol=1e-6)


def test_pairs_are_listed_once_selected_rows_leave_few(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).standard_normal((600, 4), dtype=np.float32)
    rows = open_rows(x, "features")
    unit = coverage.HostUnitRows(rows, choose_backend("cpu"))
    monkeypatch.setattr(coverage, "_SQUARE", 100)
    picks = {}
    for most_pairs in (0, 20_000, 360_000):
        monkeypatch.setattr(coverage, "_MOST_PAIRS", most_pairs)
        near = np.full(600, -1.0, np.float32)
        start = coverage.HostCoverage(unit, near, np.arange(600), Kernel(), None)
        assert start.is_listed == (most_pairs == 360_000)
        picks[most_pairs] = start.choose(60).tolist()
        assert start.is_listed == (most_pairs > 0)
    assert picks[0] == picks[20_000] == picks[360_000]


def test_equal_rows_go_to_the_lower_index(pool: tuple[np.ndarray, np.ndarray]) -> None:
    once, _ = pool
    x = np.repeat(once[:60], 3, axis=0)[np.random.default_rng(0).permutation(180)]
    picks = choose("max-herding", make_round(x, np.full(180, -1), 20))
    assert all((x == x[row]).all(axis=1).argmax() == row for row in picks)


def test_in_a_large_pool_the_candidates_are_drawn_and_every_row_is_covered(
    pool: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = pool
    monkeypatch.setattr(herding, "_PAIRS", 400 * 31)
    kernel = np.exp(2.0 * similarities(x) - 2.0)
    for budget, n_candidates in ((5, 31), (10, 40)):
        drawn = np.random.default_rng(7).choice(np.flatnonzero(labels < 0), n_candidates, replace=False)
        expected = exhaustive_greedy(kernel, labels, budget, among=drawn)
        assert choose("max-herding", make_round(x, labels, budget, seed=7)) == expected


# ---------------------------------------------------------------------------------------------------------------------
# What holds for all of them


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [1, 37, 380])
def test_the_budget_is_met_exactly(pool: tuple[np.ndarray, np.ndarray], name: str, budget: int) -> None:
    x, labels = pool
    picks = choose(name, make_round(x, labels, budget))  # `pick` refuses labelled and repeated rows
    assert len(picks) == budget


def test_which_of_them_can_choose_the_first_labels() -> None:
    assert set(WITHOUT_LABELS) <= set(strategies.names(needs_labels=False))
    assert "uncertainty-herding" not in strategies.names(needs_labels=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["equal", "one left", "one column", "repeated", "two rows left"])
def test_degenerate_pools(name: str, case: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((30, 5)).astype(np.float32)
    labels = np.where(np.arange(30) < 6, np.arange(30) % 3, -1)
    if case == "equal":
        x[:] = x[0]
    elif case == "one left":
        labels = np.where(np.arange(30) == 17, -1, np.arange(30) % 3)
    elif case == "two rows left":
        labels = np.where(np.arange(30) < 28, np.arange(30) % 3, -1)
    elif case == "one column":
        x = x[:, :1].copy()
    else:
        x = x[rng.integers(4, size=30)]
    n_unlabelled = int((labels < 0).sum())
    for budget in {1, min(10, n_unlabelled), n_unlabelled}:
        assert len(choose(name, make_round(x, labels, budget, n_classes=3, max_epochs=5))) == budget
        if name in WITHOUT_LABELS:
            assert len(choose(name, make_round(x, np.full(30, -1), budget, n_classes=3))) == budget


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_a_pool_of_one_row(name: str) -> None:
    assert choose(name, make_round(np.ones((1, 3), np.float32), np.array([-1]), 1)) == [0]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_picks(
    pool: tuple[np.ndarray, np.ndarray], name: str, restore_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = pool
    monkeypatch.setattr(herding, "_PAIRS", 400 * 100)  # so that candidates are drawn
    picks = []
    for threads in (1, 3):
        cf.set_num_threads(threads)
        picks.append(choose(name, make_round(x, labels, 15, seed=3)))
    assert picks[0] == picks[1]


@pytest.mark.parametrize("name", NAMES)
def test_float16_rows_are_read_as_they_are(pool: tuple[np.ndarray, np.ndarray], name: str) -> None:
    x, labels = pool[0].astype(np.float16), pool[1]
    assert choose(name, make_round(x, labels, 8)) == choose(name, make_round(x.astype(np.float32), labels, 8))


@pytest.mark.parametrize("name", WITHOUT_LABELS)
def test_rows_without_a_direction_are_refused(unlabelled: tuple[np.ndarray, np.ndarray], name: str) -> None:
    for value, message in ((0.0, "zero-length vector at row 41"), (np.nan, "NaN or infinity at row 41")):
        x = unlabelled[0].copy()
        x[41] = value
        with pytest.raises(ValueError, match=message):
            choose(name, make_round(x, unlabelled[1], 5))


def test_uncertainty_herding_needs_a_student_that_can_be_fitted(pool: tuple[np.ndarray, np.ndarray]) -> None:
    state = make_round(pool[0], pool[1], 2)

    class Fixed:
        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return np.full((len(x), 4), 0.25)

    object.__setattr__(state, "trained", Trained(Fixed()))
    with pytest.raises(TypeError, match="got Fixed without fit"):
        choose("uncertainty-herding", state)


@pytest.mark.parametrize("preferred", [False, True])
@pytest.mark.parametrize("n_picks", [1, 5, 12, 30, 200])
def test_representatives_are_those_of_the_reference(n_picks, preferred, monkeypatch):
    """Ties, empty clusters, more picks than clusters, and parts that end anywhere."""
    rng = np.random.default_rng(n_picks)
    labels = rng.choice([0, 1, 2, 4, 5, 7, 8, 9, 10, 11], size=200).astype(np.int32)
    squared, preference = (rng.integers(6, size=200).astype(np.float32) / 8 for _ in range(2))
    weights = rng.random(200, dtype=np.float32)
    found = cf.KMeans(np.empty((12, 3), np.float32), labels, 0.0, 1, "cpu", squared)
    monkeypatch.setattr(exact_sums, "_SLAB", 7)
    preference = preference if preferred else None
    for w in (None, weights):
        ours = representatives.representatives(found, n_picks, w, preference)
        of_all = np.ones(200, np.float32) if w is None else w
        theirs = reference.representatives(labels, squared, n_picks, of_all, 12, preference=preference)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
