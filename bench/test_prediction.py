"""Predictions beside a simulation: the labels and models are its own, and the verdict is that of the numbers."""

from __future__ import annotations

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.research.curves import LearningCurve

from .prediction import Pool, TeacherLogits, accuracy_of_all_labels, combined, prediction_table

N, M, C = 150, 60, 3


@pytest.fixture(scope="module")
def pool() -> Pool:
    rng = np.random.default_rng(4)
    y = rng.integers(C, size=N + M)
    x = (rng.standard_normal((N + M, 6)) + 1.5 * np.eye(C, 6)[y]).astype(np.float32)
    z = (2.0 * np.eye(C)[y] + rng.standard_normal((N + M, C))).astype(np.float32)
    return Pool(x[:N], y[:N], x[N:], y[N:], {"good": TeacherLogits(z[:N], z[N:])})


def test_models_are_those_of_the_simulation(pool: Pool) -> None:
    logits = pool.teachers["good"]
    given = {"test_features": pool.test_features, "test_labels": pool.test_labels}
    teacher, labels = cf.Teacher.from_logits(logits.pool), ["random", "ccma:start=ccma"]
    results = cf.simulate(
        pool.features, pool.labels, **given, teacher=teacher, strategies=labels, seeds=[3, 5], rounds=2, progress=False
    )
    for label in labels:
        both, student = combined(pool, logits, results, label), results.curve(label)
        assert both.n_labels.tolist() == [3, 6, 9]
        assert both.accuracy.shape == student.accuracy.shape
        assert (both.accuracy >= student.accuracy - 0.1).all()  # each knows what the other does not
    assert accuracy_of_all_labels(pool, logits) > results.curve("random").accuracy.mean()
    other = cf.simulate(pool.features, pool.labels, **given, strategies=["random"], seeds=[3], rounds=1, progress=False)
    with pytest.raises(RuntimeError, match="round 0 of 'random' with seed 3 was not trained as in the simulation"):
        combined(pool, logits, other, "random")


def test_the_verdict() -> None:
    def curve(*accuracies: list[float]) -> LearningCurve:
        return LearningCurve("made up", np.array([10, 20, 30]), np.array(accuracies))

    both, student = curve([0.5, 0.7, 0.84], [0.5, 0.8, 0.86]), curve([0.4, 0.6, 0.8], [0.4, 0.6, 0.8])
    alone = curve([0.3, 0.7, 0.9], [0.3, 0.8, 0.9])
    text = prediction_table(both, student, alone, 0.5)
    assert "by more than one standard error: at 30 labels." in text
    assert "| 20 | 0.5000 | 0.7500 ± 0.0500 | 0.6000 ± 0.0000 | 0.7500 ± 0.0500 | 0.0000 ± 0.0000 |" in text
    assert "standard error: nowhere." in prediction_table(both, student, student, 0.5)
