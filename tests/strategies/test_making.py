"""Rounds for tests of a strategy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import strategies

Blobs = Callable[..., tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def pool(blobs: Blobs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = blobs(120, 6, 3, seed=1)
    return x, y, np.where(np.arange(120) < 30, y, -1)


@pytest.mark.parametrize("name", ["margins", "typiclust", "badge", "ccma"])
def test_every_strategy_takes_it(pool: Any, name: str) -> None:
    x, _, labels = pool
    state = strategies.make_round(x, labels, 7)
    picks = strategies.pick(strategies.find(name), state)
    again = strategies.pick(strategies.find(name), strategies.make_round(x, labels, 7))
    np.testing.assert_array_equal(picks, again)


def test_what_is_in_it(pool: Any) -> None:
    x, y, labels = pool
    teacher = cf.Teacher(x, np.eye(3, 6), class_names=["a", "b", "c"])
    state = strategies.make_round(x, [None if c < 0 else "abc"[c] for c in labels], 7, teacher=teacher, random_state=3)
    np.testing.assert_array_equal(state.labels, labels)
    assert not state.labels.flags.writeable
    assert (state.n_classes, state.budget, state.teacher) == (3, 7, teacher)
    assert state.trained is not None
    assert (state.student.predict_proba(x).argmax(axis=1) == y).mean() > 0.9
    other = strategies.make_round(x, labels, 7, random_state=4)
    assert state.rng.random() != other.rng.random()


def test_a_student_of_ones_own(pool: Any) -> None:
    class First:
        def fit(self, X: np.ndarray, y: np.ndarray) -> None:
            self.n_rows = len(X)

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.tile([0.5, 0.25, 0.25], (len(X), 1))

    x, _, labels = pool
    given = First()
    state = strategies.make_round(x, labels, 7, student=given)
    assert state.student.n_rows == 30
    assert not hasattr(given, "n_rows"), "a copy is fitted"
    np.testing.assert_allclose(np.exp(state.unlabelled_logits.float32()[0]), [0.5, 0.25, 0.25], rtol=1e-6)


def test_without_a_label(pool: Any) -> None:
    x = pool[0]
    state = strategies.make_round(x, None, 4, n_classes=3)
    assert state.student is None
    assert strategies.pick(strategies.find("typiclust"), state).size == 4


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"labels": None}, "n_classes must be given"),
        ({"labels": np.where(np.arange(120) < 3, 1, -1)}, "labels of at least two classes"),
        ({"labels": np.arange(5)}, "labels has 5 rows but features has 120"),
        ({"budget": 91}, "budget must be"),
        ({"budget": 0}, "budget must be"),
        ({"n_classes": 2}, "labels must be"),
        ({"random_state": -1}, "random_state must be"),
    ],
)
def test_bad_arguments(pool: Any, change: dict[str, Any], text: str) -> None:
    x, _, labels = pool
    with pytest.raises(ValueError, match=text):
        strategies.make_round(**{"features": x, "labels": labels, "budget": 5, **change})
    x = x.copy()
    x[70, 2] = np.nan
    with pytest.raises(ValueError, match=r"features must be finite.* row 70"):
        strategies.make_round(x, labels, 5)
