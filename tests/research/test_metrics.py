"""Accuracy, macro AUROC and macro F1 against scikit-learn, ties and absent classes included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccma_fast.research.metrics import accuracy, macro_auroc, macro_f1

pytestmark = pytest.mark.processor


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[Any, Any, Any]:
    """(scores, predicted, labels): few rows and values, so that ties and absent classes are common."""
    n_rows, n_classes = draw(st.integers(2, 40)), draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_values = draw(st.sampled_from([1, 2, 5, 1000]))
    scores = rng.integers(n_values, size=(n_rows, n_classes)) / n_values
    labels = rng.integers(draw(st.integers(1, n_classes)), size=n_rows)
    return scores, rng.integers(n_classes, size=n_rows), labels


@given(outcomes())
def test_accuracy(outcome: tuple[Any, Any, Any]) -> None:
    from sklearn.metrics import accuracy_score

    _, predicted, labels = outcome
    assert accuracy(predicted, labels) == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)


@given(outcomes())
def test_macro_f1(outcome: tuple[Any, Any, Any]) -> None:
    from sklearn.metrics import f1_score

    _, predicted, labels = outcome
    expected = f1_score(labels, predicted, labels=np.unique(labels), average="macro", zero_division=0)
    assert macro_f1(predicted, labels) == pytest.approx(expected, abs=1e-12)


@given(outcomes())
def test_macro_auroc(outcome: tuple[Any, Any, Any]) -> None:
    from sklearn.metrics import roc_auc_score

    scores, _, labels = outcome
    classes = np.unique(labels)
    if classes.size == 1:
        assert np.isnan(macro_auroc(scores, labels))
        return
    expected = np.mean([roc_auc_score(labels == c, scores[:, c]) for c in classes])
    assert macro_auroc(scores, labels) == pytest.approx(expected, abs=1e-12)


def test_macro_auroc_is_scikit_learns_one_vs_rest_where_no_class_is_absent(rng: np.random.Generator) -> None:
    from sklearn.metrics import roc_auc_score

    labels = rng.integers(4, size=500)
    p = rng.dirichlet(np.ones(4), size=500)
    expected = roc_auc_score(labels, p, multi_class="ovr", average="macro")
    assert macro_auroc(p, labels) == pytest.approx(expected, abs=1e-12)
    assert macro_auroc(np.log(p), labels) == macro_auroc(p, labels)


def test_by_hand() -> None:
    labels = np.array([0, 0, 1, 1])
    # Class 0: of the pairs (0, 2), (0, 3), (1, 2), (1, 3) two are won, one is tied. Class 1: the same mirrored.
    first = np.array([0.9, 0.2, 0.2, 0.5])
    scores = np.column_stack([first, 1 - first, np.ones(4)])
    assert macro_auroc(scores, labels) == (2 + 0.5) / 4
    # F1 of class 0: 2 · 1 / (2 + 1), of class 1: 2 · 1 / (2 + 2); class 2 is predicted once and counts for nothing.
    predicted = np.array([0, 1, 1, 2])
    assert macro_f1(predicted, labels) == pytest.approx((2 / 3 + 2 / 4) / 2, abs=1e-15)
    assert accuracy(predicted, labels) == 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: accuracy([0, 1], [0]), ValueError, "predicted has 2 rows but labels has 1"),
        (lambda: accuracy([], []), ValueError, r"predicted must have shape \(M,\) with M at least 1, got \(0,\)"),
        (lambda: macro_f1([0.5], [0]), TypeError, "predicted must be integers"),
        (lambda: macro_f1([0, 1], [0]), ValueError, "predicted has 2 rows but labels has 1"),
        (lambda: macro_auroc([0.5, 0.5], [0, 1]), ValueError, r"scores must have two dimensions .* got shape \(2,\)"),
        (lambda: macro_auroc([[0.5, 0.5]], [0, 1]), ValueError, "scores has 1 rows but labels has 2"),
        (lambda: macro_auroc([[0.5], [0.5]], [0, 1]), ValueError, "classes from 0 to 0, got 1 at row 1"),
        (lambda: macro_auroc([[0.5, 0.5], [np.nan, 0.1]], [0, 1]), ValueError, "got NaN at row 1"),
    ],
)
def test_mistakes(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
