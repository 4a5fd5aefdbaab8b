"""The student: training the linear head, or solving a logistic regression, on the labelled rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from . import data, marks, peers

N_TEST = data.scale(10_000)
STUDENTS = peers.HEADS | peers.REGRESSIONS


@pytest.mark.parametrize("contender", peers.contenders(STUDENTS))
@pytest.mark.parametrize(
    ("n_labelled", "n_columns", "n_classes"),
    [(500, 384, 100), (2_000, 768, 100), pytest.param(2_000, 768, 1_000, marks=pytest.mark.slow)],
)
def test_fit(
    measure: Callable[..., peers.Trained],
    record: Callable,
    contender: str,
    n_labelled: int,
    n_columns: int,
    n_classes: int,
) -> None:
    n_labelled, n_classes = data.scale(n_labelled), data.scale(n_classes)
    if contender.startswith("scikit-learn") and n_classes > 100:
        pytest.skip("scikit-learn: more than a minute a fit")
    y = np.random.default_rng(0).integers(0, n_classes, n_labelled + N_TEST)
    x, _ = data.embeddings(y, n_columns, seed=1)
    trained = measure(
        marks.HEAD,
        contender,
        STUDENTS[contender],
        x[:n_labelled],
        y[:n_labelled],
        n_classes,
        shape={"n": n_labelled, "D": n_columns, "C": n_classes},
    )
    right = trained.predict(x[n_labelled:]) == y[n_labelled:]
    record({"epochs": trained.n_epochs, "test accuracy [%]": 100.0 * float(right.mean())})
