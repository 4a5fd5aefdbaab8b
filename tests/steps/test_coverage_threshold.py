"""The threshold of a calibration set: its rank, and the coverage that it promises."""

from __future__ import annotations

import math

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    [
        (9, 0.1, 9),
        (10, 0.1, 10),
        (19, 0.1, 18),
        (99, 0.05, 95),
        (1, 0.5, 1),
        (3, 0.25, 3),
        (100, 0.9, 11),
        (4, 0.999, 1),
    ],
)
def test_coverage_threshold_is_the_published_order_statistic(n, alpha, rank, rng):
    scores = rng.permutation(np.arange(1.0, n + 1))
    assert cf.coverage_threshold(scores, alpha) == rank
    assert cf.coverage_threshold(list(scores.astype(np.float32)), alpha) == rank


@pytest.mark.parametrize(("n", "alpha"), [(0, 0.1), (1, 0.1), (8, 0.1), (98, 0.01), (0, 0.999)])
def test_too_few_calibration_rows_admit_every_class(n, alpha):
    assert cf.coverage_threshold(np.zeros(n), alpha) == math.inf


def test_infinite_calibration_scores_are_scores():
    assert cf.coverage_threshold([1.0, math.inf, 2.0], 0.5) == 2.0
    assert cf.coverage_threshold([1.0, math.inf, math.inf], 0.25) == math.inf


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("n", [20, 200])
def test_sets_cover_the_true_class_as_often_as_promised(n, alpha):
    """Split conformal: coverage lies in [1 − α, 1 − α + 1 / (n + 1)] over calibration and test rows together."""
    rng = np.random.default_rng(int(1000 * alpha) + n)
    covered = []
    for _ in range(200):
        z = 1.5 * rng.standard_normal((n + 200, 6))
        # True classes drawn from probabilities that the model has only half right.
        y = (0.5 * z + rng.gumbel(size=z.shape)).argmax(axis=1)
        a = reference.nonconformity(z)[np.arange(len(z)), y]
        covered.append((a[n:] <= cf.coverage_threshold(a[:n], alpha)).mean())
    error = 4 * np.std(covered) / len(covered) ** 0.5
    assert 1 - alpha - error <= np.mean(covered) <= 1 - alpha + 1 / (n + 1) + error
