"""The student: training the linear head on the labelled rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from . import data, marks, peers

N_CLASSES, N_TEST = 100, 10_000


@pytest.mark.parametrize("contender", peers.contenders(peers.HEADS))
@pytest.mark.parametrize(("n_labelled", "n_columns"), [(500, 384), (2_000, 768)])
def test_fit(
    measure: Callable[..., peers.Trained], record: Callable, contender: str, n_labelled: int, n_columns: int
) -> None:
    y = np.random.default_rng(0).integers(0, N_CLASSES, n_labelled + N_TEST)
    x, _ = data.embeddings(y, n_columns, seed=1)
    trained = measure(
        marks.HEAD,
        contender,
        peers.HEADS[contender],
        x[:n_labelled],
        y[:n_labelled],
        N_CLASSES,
        shape={"n": n_labelled, "D": n_columns, "C": N_CLASSES},
    )
    right = trained.predict(x[n_labelled:]) == y[n_labelled:]
    record({"epochs": trained.n_epochs, "test accuracy [%]": 100.0 * float(right.mean())})
