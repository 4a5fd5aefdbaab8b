"""Strategies that rank rows by doubt: each against its definition in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import strategies
from ccma_fast.pool.open import open_rows
from ccma_fast.strategies import bald
from ccma_fast.strategies.head import dropout_chunks, dropout_logits

from ..combinations import thinned

pytestmark = pytest.mark.processor

NAMES = ("uncertainty", "entropy", "margins", "bald", "powerbald", "dropout")
WITH_DROPOUT = ("bald", "powerbald", "dropout")
BACKENDS = ("cpu", "reference")

MakeRound = Callable[..., strategies.Round]


@pytest.fixture(scope="session")
def pool(blobs: Callable[..., tuple], partly_labelled: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, 60 of 700 rows labelled."""
    x, y = blobs(700, 24, 5, distance=0.4)
    return x, partly_labelled(y, 60)


def choose(name: str, state: strategies.Round) -> np.ndarray:
    return strategies.pick(strategies.find(name), state)


def posteriors(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def largest(scores: np.ndarray, state: strategies.Round) -> list[int]:
    order = np.lexsort((np.arange(scores.size), -scores))[: state.budget]
    return state.unlabelled[order].tolist()


def least_confidence(p: np.ndarray) -> np.ndarray:
    return 1.0 - p.max(axis=1)


def shannon(p: np.ndarray) -> np.ndarray:
    return -np.where(p > 0.0, p * np.log(np.where(p > 0.0, p, 1.0)), 0.0).sum(axis=-1)


def minus_margin(p: np.ndarray) -> np.ndarray:
    first, second = np.sort(p, axis=1)[:, :-3:-1].T
    return second - first


MEASURES = {"uncertainty": least_confidence, "entropy": shannon, "margins": minus_margin}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", MEASURES)
def test_doubt_of_the_posterior(name: str, backend: str, make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, 37, backend=backend)
    head, x = state.student, pool[0][state.unlabelled].astype(np.float64)
    p = posteriors(x @ head.coef_.T.astype(np.float64) + head.intercept_)
    assert choose(name, state).tolist() == largest(MEASURES[name](p), state)


@pytest.mark.parametrize("name", MEASURES)
def test_any_student_with_probabilities(name: str, make_round: MakeRound, rng: np.random.Generator) -> None:
    p = rng.dirichlet(np.ones(4), size=50)

    class Table:
        def fit(self, x: np.ndarray, y: np.ndarray) -> None: ...

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            return p[x[:, 0].astype(int)]

    labels = np.full(50, -1)
    labels[[3, 10]] = 0, 3
    state = make_round(np.arange(50.0, dtype=np.float32)[:, None], labels, 9, student=Table())
    assert choose(name, state).tolist() == largest(MEASURES[name](p[state.unlabelled]), state)


def test_confidence_beyond_float32_is_told_apart(make_round: MakeRound) -> None:
    head = cf.LinearHead(2)
    coef = np.array([[0.0], [1.0]], np.float32)
    head.load_state_dict(
        {"classes": [0, 1], "coef": coef, "intercept": np.zeros(2), "mean": np.zeros(1), "n_iter": 1, "loss": 0.0}
    )
    x = np.array([[1.0], [40.0], [25.0], [30.0], [-28.0], [35.0], [2.0]], np.float32)  # 1 − p = exp(−|x|)
    state = make_round(x, np.array([0, -1, -1, -1, -1, -1, 1]), 5, student=head)
    assert choose("uncertainty", state).tolist() == [2, 4, 3, 5, 1]


@pytest.mark.parametrize("name", MEASURES)
def test_ties_go_to_the_lower_index(name: str, make_round: MakeRound, pool: tuple) -> None:
    x, labels = np.repeat(pool[0], 2, axis=0), np.repeat(pool[1], 2)
    once, twice = make_round(*pool, 8), make_round(x, labels, 16, student=make_round(*pool, 8).student)
    expected = np.stack([2 * choose(name, once), 2 * choose(name, once) + 1], axis=1).ravel()
    assert choose(name, twice).tolist() == expected.tolist()


def passes(state: strategies.Round, n_passes: int, seed: int) -> np.ndarray:
    """Logits of every pass and row, with the masks that a strategy draws from the same seed: (passes, U, C)."""
    head, rng, chunks = state.student, np.random.default_rng(seed), []
    for _, x in dropout_chunks(state):
        chunks.append(np.stack([head.dropout_logits(x, head.dropout, rng, state.backend) for _ in range(n_passes)]))
    return np.concatenate(chunks, axis=1).astype(np.float64)


@pytest.fixture
def several_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccma_fast.strategies.head._CHUNK_BYTES", 4 * 24 * 97)


@pytest.mark.usefixtures("several_chunks")
@pytest.mark.parametrize("backend", BACKENDS)
def test_mutual_information(backend: str, make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, 30, seed=5, backend=backend)
    p = posteriors(passes(state, 10, seed=5))
    expected = shannon(p.mean(axis=0)) - shannon(p).mean(axis=0)
    found = bald.mutual_information(state, state.student)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bald.ROUNDING)
    assert expected.max() > 0.1
    again = make_round(*pool, 30, seed=5, backend=backend)
    assert choose("bald", again).tolist() == largest(expected.astype(np.float32), state)


@pytest.mark.usefixtures("several_chunks")
def test_power_of_mutual_information(make_round: MakeRound, pool: tuple) -> None:
    state, twin = make_round(*pool, 30, seed=5), make_round(*pool, 30, seed=5)
    information = bald.mutual_information(twin, twin.student)
    gumbel = -np.log(-np.log1p(-twin.rng.random(information.size)))
    expected = np.log(np.maximum(information, bald.ROUNDING)) + gumbel
    picks = choose("powerbald", state)
    assert picks.tolist() == largest(expected.astype(np.float32), state)
    assert picks.tolist() != choose("bald", make_round(*pool, 30, seed=5)).tolist()


def test_power_without_any_information_is_random(make_round: MakeRound, pool: tuple) -> None:
    head = make_round(*pool, 1).student
    head.dropout = 0.0
    states = [make_round(*pool, 100, student=head, seed=seed) for seed in range(2)]
    assert np.abs(bald.mutual_information(states[0], head)).max() < bald.ROUNDING
    a, b = (set(choose("powerbald", state).tolist()) for state in states)
    # Two random hundreds of 640 share some 16; the same ranking would share all.
    assert 3 < len(a & b) < 40


@pytest.mark.usefixtures("several_chunks")
@pytest.mark.parametrize("backend", BACKENDS)
def test_dropquery(backend: str, make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, 3, seed=5, backend=backend)
    x = pool[0][state.unlabelled].astype(np.float64)
    head = state.student
    plain = (x @ head.coef_.T.astype(np.float64) + head.intercept_).argmax(axis=1)
    disagreeing = (passes(state, 3, seed=5).argmax(axis=2) != plain).sum(axis=0)
    most = np.flatnonzero(disagreeing > 1.5)
    assert 25 * state.budget <= most.size < plain.size
    picks = choose("dropout", state)

    twin = make_round(*pool, 3, seed=5, backend=backend)
    for _, chunk in dropout_chunks(twin):  # leaves the generator where the strategy's clustering finds it
        for _ in range(3):
            dropout_logits(twin, head, chunk)
    found = twin.backend.weighted_kmeans(
        open_rows(x[most].astype(np.float32), "candidates"), 3, random_state=twin.rng, unit=True, max_iter=20, tol=1e-4
    )
    unit = x[most] / np.linalg.norm(x[most], axis=1, keepdims=True)
    nearest = []
    for k in np.argsort(-np.bincount(found.labels), kind="stable"):
        members = np.flatnonzero(found.labels == k)
        centroid = unit[members].mean(axis=0)
        nearest.append(members[((unit[members] - centroid) ** 2).sum(axis=1).argmin()])
    assert picks.tolist() == state.unlabelled[most[nearest]].tolist()


def test_dropquery_asks_for_less_disagreement_where_candidates_are_few(make_round: MakeRound, pool: tuple) -> None:
    state = make_round(*pool, 20, seed=5)
    disagreeing = (passes(state, 3, seed=5).argmax(axis=2) != state.unlabelled_logits.float32().argmax(axis=1)).sum(
        axis=0
    )
    assert (disagreeing > 1).sum() < 25 * state.budget
    picked = disagreeing[np.isin(state.unlabelled, choose("dropout", state))]
    assert picked.min() == 1
    assert picked.max() > 1


def test_dropquery_fills_up_at_random(make_round: MakeRound, blobs: Callable[..., tuple]) -> None:
    x, y = blobs(300, 24, 3, distance=9.0)
    labels = np.where(np.arange(300) < 60, y, -1)
    head = make_round(x, labels, 1).student
    head.dropout = 0.05
    states = [make_round(x, labels, 40, student=head, seed=seed) for seed in range(2)]
    certain = passes(states[0], 3, seed=0).argmax(axis=2) == states[0].unlabelled_logits.float32().argmax(axis=1)
    assert certain.all()
    a, b = (set(choose("dropout", state).tolist()) for state in states)
    assert 0 < len(a & b) < 20


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
    if case == "all rows equal" and name in MEASURES:
        assert picks.tolist() == np.flatnonzero(labels < 0)[:budget].tolist()


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_picks(name: str, make_round: MakeRound, pool: tuple) -> None:
    picks = []
    for threads in (1, 3):
        cf.set_num_threads(threads)
        picks.append(choose(name, make_round(*pool, 25, seed=2)).tolist())
    assert picks[0] == picks[1]


@pytest.mark.parametrize("name", ["powerbald", "dropout", "bald"])
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


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_dropout_needs_an_affine_head(name: str, make_round: MakeRound, pool: tuple) -> None:
    with pytest.raises(TypeError, match=f"strategy {name} needs a LogisticHead or LinearHead.*, got object$"):
        choose(name, make_round(*pool, 4, student=object()))


def test_registered_for_rounds_with_labels() -> None:
    assert set(NAMES) <= set(strategies.names())
    assert not set(NAMES) & set(strategies.names(needs_labels=False))
