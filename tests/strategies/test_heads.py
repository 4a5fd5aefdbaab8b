"""Strategies under every head of the package: what they need of one, and what small pools and few labels leave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import strategies
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.dropout_streams import DROPOUT_STEPS, random_bits
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.train import train
from ccma_fast.strategies.uncertainty_herding import calibrated_temperature

pytestmark = pytest.mark.processor

WITH_DROPOUT = ("bald", "powerbald", "dropout")
OF_A_HEAD = ("alfamix", "badge", *WITH_DROPOUT)

MakeRound = Callable[..., strategies.Round]


@pytest.fixture(scope="module")
def pool(blobs: Callable[..., tuple], partly_labelled: Callable[..., np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes, 30 of 300 rows labelled."""
    x, y = blobs(300, 12, 4, distance=0.5)
    return x, partly_labelled(y, 30)


def choose(name: str, state: strategies.Round) -> list[int]:
    return strategies.pick(strategies.find(name), state).tolist()


def round_of(
    x: np.ndarray,
    labels: np.ndarray,
    budget: int,
    *,
    teacher: cf.Teacher | None = None,
    n_classes: int = 4,
    head: str = "distilled",
    **constants: float,
) -> strategies.Round:
    """A round with the models that a simulation trains."""
    rows, known = open_rows(x, "features"), np.flatnonzero(labels >= 0)
    config, backend = cf.CCMAConfig(head=head, **constants), choose_backend("cpu")
    trained = train(
        None,
        rows,
        known,
        labels[known],
        n_classes,
        teacher=teacher,
        teacher_source=None if teacher is None else teacher.source,
        config=config,
        rng=np.random.default_rng(1),
        backend=backend,
    )
    rng = np.random.default_rng(0)
    return strategies.Round(rows, labels, n_classes, budget, trained, teacher, config, rng, backend)


def logistic(head: cf.LinearHead) -> cf.LogisticHead:
    """The same affine map."""
    state = {name: value for name, value in head.state_dict().items() if name != "loss"}
    return cf.LogisticHead().load_state_dict({**state, "scale": 1.0, "penalty": 0.1})


@pytest.mark.parametrize("name", OF_A_HEAD)
def test_the_map_counts_and_not_how_it_was_learnt(name: str, make_round: MakeRound, pool: tuple) -> None:
    """The configuration's dropout is that of a LinearHead by default."""
    linear = make_round(*pool, 15)
    assert choose(name, make_round(*pool, 15, student=logistic(linear.student))) == choose(name, linear)


def test_a_pass_of_dropout(pool: tuple, make_round: MakeRound) -> None:
    state = make_round(*pool, 1)
    head, x, dropout = logistic(state.student), pool[0], 0.6
    keep = round(0.4 * DROPOUT_STEPS)
    kept = random_bits(np.random.default_rng(7), x.shape) < keep
    assert kept.mean() == pytest.approx(0.4, abs=0.03)
    mean = head.mean_.astype(np.float64)
    moved = mean + kept * (x - mean) / (keep / DROPOUT_STEPS)
    expected = moved @ head.coef_.T.astype(np.float64) + head.intercept_
    found = head.dropout_logits(x, dropout, np.random.default_rng(7), state.backend)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_the_share_of_dropped_inputs_is_the_configuration_s(name: str, pool: tuple) -> None:
    states = [round_of(*pool, 15, dropout=dropout) for dropout in (0.75, 0.75, 0.2)]
    first, again, other = (choose(name, state) for state in states)
    assert first == again
    assert first != other


def test_rows_that_were_held_out_calibrate_the_temperature(pool: tuple) -> None:
    x, labels = pool
    labels = np.where(labels >= 0, np.random.default_rng(1).integers(4, size=300), -1)  # that rows do not explain
    state = round_of(x, labels, 5)
    assert state.trained is not None
    held_out = state.trained.held_out
    assert held_out is not None
    z, y = held_out.student.astype(np.float64), labels[state.labelled[held_out.rows]]
    errors = []
    for temperature in np.arange(10, 200) / 10:
        p = np.exp(z / temperature)
        p /= p.sum(axis=1, keepdims=True)
        confidence, right = p.max(axis=1), p.argmax(axis=1) == y
        bins = np.ceil(4 * confidence).astype(int)
        errors.append(sum(abs((right - confidence)[bins == b].sum()) for b in range(1, 5)) / y.size)
    least = min(errors)
    found = calibrated_temperature(state)
    assert errors[round(10 * found) - 10] <= least + 1e-9
    # No student is fitted for it, and nothing is drawn.
    assert state.rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def small_pools() -> dict[str, tuple[np.ndarray, np.ndarray, int, int]]:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((30, 5)).astype(np.float32)
    two, lacking, most = np.full(30, -1), np.full(30, -1), np.arange(30) % 3
    two[[4, 20]] = 0, 1
    lacking[[1, 7, 9, 12, 15]] = 0, 3, 3, 0, 1
    most[[0, 9, 17]] = -1
    return {
        "two labels": (x, two, 2, 6),
        "classes without a label": (x, lacking, 6, 6),
        "three rows left": (x, most, 3, 3),
        "equal rows": (np.ones_like(x), lacking, 4, 6),
        "five rows": (x[:5], np.array([0, -1, 1, -1, -1]), 2, 3),
    }


@pytest.mark.parametrize("head", ["distilled", "ridge"])
@pytest.mark.parametrize("case", small_pools())
def test_few_labels_and_rows(case: str, head: str) -> None:
    x, labels, n_classes, budget = small_pools()[case]
    z = np.random.default_rng(0).standard_normal((len(x), n_classes))
    state = round_of(x, labels, budget, teacher=cf.Teacher.from_logits(z), n_classes=n_classes, head=head)
    for name in strategies.names():
        choose(name, replace(state, rng=np.random.default_rng(0)))  # checks number, kind, repetition


@pytest.mark.parametrize("has_teacher", [False, True])
def test_ccma_is_a_query_with_the_models_of_the_round(
    has_teacher: bool, pool: tuple, blobs: Callable[..., tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = pool
    v, y = blobs(300, 6, 4, seed=2)
    teacher = cf.Teacher(v, np.stack([v[y == c].mean(axis=0) for c in range(4)])) if has_teacher else None
    state = round_of(x, labels, 9, teacher=teacher)
    monkeypatch.setattr("ccma_fast.query.select.trained_models", lambda *_: state.trained)
    seed = int(np.random.default_rng(0).integers(2**63))
    expected = cf.select(x, 9, labels=labels, teacher=teacher, config=state.config, random_state=seed)
    assert choose("ccma", state) == expected.indices.tolist()


def test_a_round_without_labels_has_no_student(pool: tuple, make_round: MakeRound) -> None:
    state = make_round(*pool, 1)
    nothing = strategies.Round(
        state.features, np.full(300, -1), 4, 1, None, None, state.config, state.rng, state.backend
    )
    assert nothing.student is None
