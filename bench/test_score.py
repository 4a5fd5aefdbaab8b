"""Scoring: from two matrices of logits to δ."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference

from . import data, marks, peers

GROWTH = [data.scale(n) for n in (10_000, 100_000, 1_000_000)]


def largest_error(delta: np.ndarray, n_rows: int, n_classes: int) -> float:
    """Against the reference, on every so-manieth row."""
    part = slice(None, None, max(1, n_rows * n_classes // 2_000_000))
    student, teacher = data.logits(n_rows, n_classes)
    truth = reference.score(student[part], teacher[part], *data.true_thresholds(n_rows, n_classes)).delta
    return float(np.abs(delta[part].astype(np.float64) - truth).max())


@pytest.mark.parametrize("contender", peers.contenders(peers.SCORERS))
@pytest.mark.parametrize(("n_rows", "n_classes"), data.shapes())
def test_score(
    measure: Callable[..., np.ndarray | None], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    peers.skip_slow_reference(contender, n_rows * n_classes)
    delta = measure(
        "Score, thresholds given",
        contender,
        peers.SCORERS[contender],
        *data.logits(n_rows, n_classes),
        *data.true_thresholds(n_rows, n_classes),
        shape={"M": n_rows, "C": n_classes},
        warm_up=contender != "NumPy reference",
    )
    if delta is not None:
        record({"largest error of δ [nats]": largest_error(delta, n_rows, n_classes)})


@pytest.mark.parametrize("contender", peers.contenders(peers.SCORERS_WITH_THRESHOLDS))
@pytest.mark.parametrize(("n_rows", "n_classes"), data.shapes())
def test_thresholds_and_score(
    measure: Callable[..., cf.SizedScores | None], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    scored = measure(
        marks.BOTH,
        contender,
        peers.SCORERS_WITH_THRESHOLDS[contender],
        *data.logits(n_rows, n_classes),
        *data.SIZES,
        shape={"M": n_rows, "C": n_classes},
    )
    if scored is not None:
        q_s, q_t = data.true_thresholds(n_rows, n_classes)
        record(
            {
                "largest error of q [nats]": max(abs(scored.q_student - q_s), abs(scored.q_teacher - q_t)),
                "largest error of δ [nats]": largest_error(scored.delta, n_rows, n_classes),
            }
        )


@pytest.mark.parametrize(
    "contender", peers.contenders(peers.SCORERS_WITH_THRESHOLDS, peers.OURS, "plain torch", "floor: copy, then exp")
)
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("n_rows", [GROWTH[0], *(pytest.param(n, marks=pytest.mark.slow) for n in GROWTH[1:])])
def test_growth(measure: Callable[..., cf.SizedScores | None], contender: str, n_threads: int, n_rows: int) -> None:
    measure(
        f"{marks.BOTH}: growth",
        contender,
        peers.SCORERS_WITH_THRESHOLDS[contender],
        *data.logits(n_rows, 100),
        *data.SIZES,
        shape={"M": n_rows, "C": 100, "threads": n_threads},
        n_threads=n_threads,
    )
