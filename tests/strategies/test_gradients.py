"""The strategies coreset, badge and alfamix: each against its definition in float64."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import strategies
from ccma_fast.pool.open import open_rows
from ccma_fast.strategies import alfamix, badge, coreset
from ccma_fast.strategies.head import residuals
from ccma_fast.strategies.spread import spread

from ..combinations import thinned

pytestmark = pytest.mark.processor

NAMES = ("coreset", "badge", "alfamix")
BACKENDS = ("cpu", "reference")

MakeRound = Callable[..., strategies.Round]


@pytest.fixture(scope="session")
def pool(blobs: Callable[..., tuple], partly_labelled: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, 60 of 700 rows labelled."""
    x, y = blobs(700, 24, 5, distance=0.4)
    return x, partly_labelled(y, 60)


def choose(name: str, state: strategies.Round) -> np.ndarray:
    return strategies.pick(strategies.find(name), state)


# ---------------------------------------------------------------------------------------------------------------------
# coreset


def greedy_k_center(x: np.ndarray, labels: np.ndarray, budget: int) -> list[int]:
    """Every distance anew for every choice."""
    centres = np.flatnonzero(labels >= 0).tolist()
    picks: list[int] = []
    for _ in range(budget):
        squared = ((x[:, None].astype(np.float64) - x[centres]) ** 2).sum(axis=2).min(axis=1)
        squared[centres] = -1.0
        picks.append(int(squared.argmax()))
        centres.append(picks[-1])
    return picks


@pytest.mark.parametrize(("at_hand", "backend"), thinned(2, [1, 7, 64, 4096], BACKENDS))
def test_greedy_k_center(
    at_hand: int, backend: str, make_round: MakeRound, pool: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coreset, "_CANDIDATES", at_hand)
    assert choose("coreset", make_round(*pool, 25, backend=backend)).tolist() == greedy_k_center(*pool, 25)


@pytest.mark.parametrize("at_hand", [1, 5, 4096])
def test_greedy_k_center_among_ties(at_hand: int, make_round: MakeRound, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows equally far in exact arithmetic may come in any order, as they are rounded; equal rows in their own."""
    monkeypatch.setattr(coreset, "_CANDIDATES", at_hand)
    # Corners of a cube, twice.
    x = np.tile(np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], np.float32) * 2.0, (2, 1))
    labels = np.full(16, -1)
    labels[[0, 1]] = 0, 1
    picks = choose("coreset", make_round(x, labels, 14)).tolist()
    assert sorted(picks) == list(range(2, 16))
    centres = [0, 1]
    for pick in picks:
        squared = ((x[:, None] - x[centres]) ** 2).sum(axis=2).min(axis=1)
        assert squared[pick] == squared.max()
        assert pick < 8 or pick - 8 in centres
        centres.append(pick)


def test_one_pass_serves_many_choices(make_round: MakeRound, rng: np.random.Generator) -> None:
    x = rng.standard_normal((9000, 16)).astype(np.float32)
    labels = np.where(np.arange(9000) < 20, np.arange(9000) % 2, -1)
    state = make_round(x, labels, 60)
    before = state.features.bytes_read
    choose("coreset", state)
    # A pass reads every row twice (its length, its distance); three passes would be six, the choices' own reads aside.
    assert state.features.bytes_read - before < 5 * x.nbytes


# ---------------------------------------------------------------------------------------------------------------------
# badge


def gradient_embeddings(state: strategies.Round) -> np.ndarray:
    """(p − onehot(argmax p)) ⊗ x in full, shape (U, C · D)."""
    x, head = state.unlabelled_features.float32().astype(np.float64), state.student
    z = x @ head.coef_.T.astype(np.float64) + head.intercept_
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(p)), z.argmax(axis=1)] -= 1.0
    return (p[:, :, None] * x[:, None, :]).reshape(len(x), -1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_distances_of_gradient_embeddings(backend: str, make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool[0].copy(), pool[1]
    unlabelled = np.flatnonzero(labels < 0)
    x[unlabelled[1::3]] = x[unlabelled[:-1:3]] * np.float32(1.0 + 1e-3)  # products of rows this close cancel
    x[unlabelled[2::3]] = x[unlabelled[1:-1:3]]
    state = make_round(x, labels, 1, backend=backend)
    g = gradient_embeddings(state)
    rows = badge._Gradients(state.unlabelled_features.slice(0, len(g)), state.student, state.backend)
    centre = np.array([3, 1, 40])
    centres = badge._Gradients(state.unlabelled_features.take(centre), state.student, state.backend)
    squared = ((g[:, None] - g[centre]) ** 2).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(rows.squares, (g * g).sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(rows.nearest(centres), squared, rtol=2e-3)
    assert (rows.nearest(centres)[[1, 2, 3, 40]] == 0.0).all()


def test_gradients_of_confident_rows() -> None:
    z = np.array([[0.0, -30.0, -40.0], [3.0, 3.0, 1.0], [-200.0, 0.0, -90.0]])
    p = np.exp(z)
    others = np.where(np.arange(3) == z.argmax(axis=1)[:, None], 0.0, p)
    expected = others - np.where(np.arange(3) == z.argmax(axis=1)[:, None], others.sum(axis=1, keepdims=True), 0.0)
    expected /= p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(residuals(z.astype(np.float32)), expected, rtol=1e-5, atol=1e-44)


def test_badge_starts_at_the_longest_gradient(make_round: MakeRound, pool: tuple) -> None:
    for seed in range(3):
        state = make_round(*pool, 4, seed=seed)
        longest = np.linalg.norm(gradient_embeddings(state), axis=1).argmax()
        assert choose("badge", state)[0] == state.unlabelled[longest]


@pytest.mark.parametrize(("proposals", "pending"), [(64, 256), (1, 256), (4, 1)])
def test_badge_draws_by_squared_distance(
    proposals: int, pending: int, make_round: MakeRound, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three of seven rows, 200 times: second and third choice come as often as k-means++ says."""
    monkeypatch.setattr(badge, "_PROPOSALS", proposals)
    monkeypatch.setattr(badge, "_PENDING", pending)
    x = np.random.default_rng(8).standard_normal((11, 3)).astype(np.float32)
    x[9] = x[6]
    labels = np.where(np.arange(11) < 4, np.arange(11) % 2, -1)
    state = make_round(x, labels, 3)
    g = gradient_embeddings(state)
    squared = ((g[:, None] - g) ** 2).sum(axis=2)
    first = int((g * g).sum(axis=1).argmax())
    expected = {}
    for second in range(7):
        to_two = np.minimum(squared[first], squared[second])
        for third in np.flatnonzero(to_two / squared.max() > 1e-12):
            share = squared[first, second] / squared[first].sum() * to_two[third] / to_two.sum()
            expected[(4 + first, 4 + second, 4 + int(third))] = share
    n = 200
    strategy = strategies.find("badge")
    found = Counter(tuple(strategies.pick(strategy, state).tolist()) for _ in range(n))
    assert set(found) <= {triple for triple, share in expected.items() if share > 0.0}
    for triple, share in expected.items():
        assert abs(found[triple] - n * share) <= 4.5 * (n * share * (1.0 - share)) ** 0.5 + 1.0, triple


def test_badge_chooses_different_rows_first(make_round: MakeRound, rng: np.random.Generator) -> None:
    distinct = rng.standard_normal((9, 5)).astype(np.float32)
    x = np.concatenate([rng.standard_normal((6, 5)).astype(np.float32), np.repeat(distinct, 6, axis=0)])
    labels = np.where(np.arange(60) < 6, np.arange(60) % 3, -1)
    picks = choose("badge", make_round(x, labels, 12))
    assert sorted((picks[:9] - 6) // 6) == list(range(9))
    left = np.setdiff1d(np.arange(6, 60), picks[:9])
    assert picks[9:].tolist() == left[:3].tolist()


# ---------------------------------------------------------------------------------------------------------------------
# alfamix


def mixed_predictions_differ(state: strategies.Round) -> np.ndarray:
    """The paper's loop: α of every dimension by its closed form, every row mixed with every anchor, and predicted."""
    x, head = state.features.float32().astype(np.float64), state.student
    weight, z = head.coef_.astype(np.float64), x[state.unlabelled]
    y, known = state.labels[state.labelled], x[state.labelled]
    predicted = (z @ weight.T + head.intercept_).argmax(axis=1)
    p = np.exp(z @ weight.T + head.intercept_)
    gradient = (p / p.sum(axis=1, keepdims=True) - np.eye(state.n_classes)[predicted]) @ weight
    epsilon = 0.2 / np.sqrt(x.shape[1])
    differ = np.zeros(len(z), dtype=bool)
    for c in np.unique(y):
        difference = known[y == c].mean(axis=0) - z
        lengths = np.linalg.norm(difference, axis=1, keepdims=True) / np.linalg.norm(gradient, axis=1, keepdims=True)
        alpha = epsilon * lengths * gradient / difference
        differ |= ((z + alpha * difference) @ weight.T + head.intercept_).argmax(axis=1) != predicted
    return differ


@pytest.fixture
def candidates(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What alfamix lets `spread` choose from."""
    seen: list[np.ndarray] = []

    def spied(state: strategies.Round, rows: np.ndarray) -> np.ndarray:
        seen.append(rows)
        return spread(state, rows)

    monkeypatch.setattr(alfamix, "spread", spied)
    return seen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_labelled", [12, 200])
def test_rows_that_flip(
    n_labelled: int,
    backend: str,
    candidates: list[np.ndarray],
    make_round: MakeRound,
    blobs: Callable[..., tuple],
    partly_labelled: Callable[..., np.ndarray],
) -> None:
    x, y = blobs(700, 24, 5, distance=0.4)
    state = make_round(x, partly_labelled(y, n_labelled), 9, n_classes=6, backend=backend)  # one class without a label
    picks = choose("alfamix", state)
    expected = np.flatnonzero(mixed_predictions_differ(state))
    assert 2 * state.budget < expected.size < 0.9 * state.unlabelled.size
    assert candidates[0].tolist() == expected.tolist()
    assert np.isin(picks, state.unlabelled[expected]).all()


def test_one_pick_from_each_cluster(make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool
    state, twin = make_round(x, labels, 8, seed=3), make_round(x, labels, 8, seed=3)
    rows = np.arange(5, 605, 3)
    picks = spread(state, rows)
    chosen = twin.unlabelled[rows]
    found = twin.backend.weighted_kmeans(
        open_rows(x[chosen], "candidates"), 8, random_state=twin.rng, unit=True, max_iter=20, tol=1e-4
    )
    unit = x[chosen] / np.linalg.norm(x[chosen].astype(np.float64), axis=1, keepdims=True)
    squared = ((unit - found.centroids[found.labels]) ** 2).sum(axis=1)
    where = np.searchsorted(chosen, picks)
    assert sorted(found.labels[where]) == list(range(8))
    for row in where:
        assert squared[row] <= squared[found.labels == found.labels[row]].min() + 1e-6


def test_too_few_candidates_are_filled_up_at_random(make_round: MakeRound, pool: tuple) -> None:
    rows = np.array([2, 300, 639])
    fillings = []
    for seed in range(2):
        state = make_round(*pool, 50, seed=seed)
        picks = spread(state, rows)
        assert strategies.pick(lambda _, picks=picks: picks, state).tolist() == picks.tolist()
        assert picks[:3].tolist() == state.unlabelled[rows].tolist()
        fillings.append(set(picks[3:].tolist()))
    assert len(fillings[0] & fillings[1]) < 20


def test_a_candidate_needs_a_direction(make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool[0].copy(), pool[1]
    state = make_round(x, labels, 2)
    row = int(state.unlabelled[30])
    x[row] = 0.0
    with pytest.raises(ValueError, match=f"features must have a direction .* at row {row}$"):
        spread(state, np.arange(20, 40))


# ---------------------------------------------------------------------------------------------------------------------
# All of them


def degenerate_pools() -> dict[str, tuple[np.ndarray, np.ndarray, int]]:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    some = np.where(np.arange(40) % 5 == 0, np.arange(40) % 3, -1)
    one_left, one_each = np.arange(40) % 3, np.full(40, -1)
    one_left[17], one_each[[4, 30]] = -1, (1, 0)
    return {
        "all rows equal": (np.ones_like(x), some, 7),
        "one unlabelled row": (x, one_left, 1),
        "budget is all": (x, some, 32),
        "one column": (x[:, :1].copy(), some, 6),
        "one label of two classes": (x, one_each, 5),
        "duplicated rows": (np.tile(x[:5], (8, 1)), some, 12),
    }


@pytest.mark.parametrize(("name", "case", "backend"), thinned(2, NAMES, list(degenerate_pools()), BACKENDS))
def test_degenerate_pools(name: str, case: str, backend: str, make_round: MakeRound) -> None:
    x, labels, budget = degenerate_pools()[case]
    state = make_round(x, labels, budget, n_classes=3, backend=backend, max_epochs=5)
    picks = choose(name, state)  # checks number, kind, repetition
    if case == "budget is all":
        assert sorted(picks.tolist()) == np.flatnonzero(labels < 0).tolist()
    if case == "one unlabelled row":
        assert picks.tolist() == [17]
    if case == "all rows equal" and name != "alfamix":
        assert picks.tolist() == np.flatnonzero(labels < 0)[:budget].tolist()


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_picks(name: str, make_round: MakeRound, pool: tuple) -> None:
    picks = []
    for threads in (1, 3):
        cf.set_num_threads(threads)
        picks.append(choose(name, make_round(*pool, 25, seed=2)).tolist())
    assert picks[0] == picks[1]


@pytest.mark.parametrize("name", ["badge", "alfamix"])
def test_another_seed_other_picks(name: str, make_round: MakeRound, pool: tuple) -> None:
    assert choose(name, make_round(*pool, 25)).tolist() != choose(name, make_round(*pool, 25, seed=1)).tolist()


@pytest.mark.parametrize("name", NAMES)
def test_storage_types(name: str, make_round: MakeRound, pool: tuple) -> None:
    import torch

    x = torch.from_numpy(pool[0]).to(torch.bfloat16)
    head = make_round(*pool, 1).student
    values = x.float().numpy()
    expected = choose(name, make_round(values, pool[1], 11, student=head)).tolist()
    assert choose(name, make_round(x, pool[1], 11, student=head)).tolist() == expected
    half = values.astype(np.float16)
    expected = choose(name, make_round(half.astype(np.float32), pool[1], 11, student=head)).tolist()
    assert choose(name, make_round(half, pool[1], 11, student=head)).tolist() == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(name: str, value: float, make_round: MakeRound, pool: tuple) -> None:
    x, labels = pool[0].copy(), pool[1]
    state = make_round(x, labels, 4)
    row = int(state.unlabelled[123])
    x[row, 2] = value
    with pytest.raises(ValueError, match=f"must be finite, got NaN or infinity at row {row}$"):
        choose(name, state)


@pytest.mark.parametrize("name", ["badge", "alfamix"])
def test_gradients_need_an_affine_head(name: str, make_round: MakeRound, pool: tuple) -> None:
    with pytest.raises(TypeError, match=f"strategy {name} needs a LogisticHead or LinearHead.*, got object$"):
        choose(name, make_round(*pool, 4, student=object()))


def test_coreset_takes_any_student(make_round: MakeRound, pool: tuple) -> None:
    assert choose("coreset", make_round(*pool, 6, student=object())).tolist() == greedy_k_center(*pool, 6)


def test_registered_for_rounds_with_labels() -> None:
    assert set(NAMES) <= set(strategies.names())
    assert not set(NAMES) & set(strategies.names(needs_labels=False))
