"""Scoring: from two matrices of logits to δ."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from ccma_fast import reference

from . import data, peers

# Rows and classes. The last is ImageNet-21k.
SHAPES = [(200_000, 10), (100_000, 100), (50_000, 1_000), (2_000, 21_000)]
SIZES = (5.0, 3.0)


@cache
def true_thresholds(n_rows: int, n_classes: int) -> tuple[float, float]:
    """The thresholds of both models in float64."""
    student, teacher = data.logits(n_rows, n_classes)
    return reference.target_size_threshold(student, SIZES[0]), reference.target_size_threshold(teacher, SIZES[1])


def largest_error(delta: np.ndarray, n_rows: int, n_classes: int) -> float:
    """Against the reference, on every so-manieth row."""
    part = slice(None, None, max(1, n_rows * n_classes // 2_000_000))
    student, teacher = data.logits(n_rows, n_classes)
    truth = reference.score(student[part], teacher[part], *true_thresholds(n_rows, n_classes)).delta
    return float(np.abs(delta[part].astype(np.float64) - truth).max())


@pytest.mark.parametrize("contender", peers.contenders(peers.SCORERS))
@pytest.mark.parametrize(("n_rows", "n_classes"), SHAPES)
def test_score(
    measure: Callable[..., np.ndarray | None], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    delta = measure(
        "Score, thresholds given",
        contender,
        peers.SCORERS[contender],
        *data.logits(n_rows, n_classes),
        *true_thresholds(n_rows, n_classes),
        shape={"M": n_rows, "C": n_classes},
        warm_up=contender != "NumPy reference",
    )
    if delta is not None:
        record({"largest error of δ [nats]": largest_error(delta, n_rows, n_classes)})


@pytest.mark.parametrize("contender", peers.contenders(peers.SCORERS_WITH_THRESHOLDS))
@pytest.mark.parametrize(("n_rows", "n_classes"), SHAPES)
def test_thresholds_and_score(
    measure: Callable[..., peers.Scored], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    scored = measure(
        "Two target-size thresholds and score",
        contender,
        peers.SCORERS_WITH_THRESHOLDS[contender],
        *data.logits(n_rows, n_classes),
        *SIZES,
        shape={"M": n_rows, "C": n_classes},
    )
    q_s, q_t = true_thresholds(n_rows, n_classes)
    record(
        {
            "largest error of q [nats]": max(abs(scored.q_student - q_s), abs(scored.q_teacher - q_t)),
            "largest error of δ [nats]": largest_error(scored.delta, n_rows, n_classes),
        }
    )
