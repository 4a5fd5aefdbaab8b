"""One query: labels, embeddings and the student's logits in, picks out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf

from . import data, marks, peers

N_ROWS, N_CLASSES, BUDGET, N_LABELLED = map(data.scale, (50_000, 100, 100, 500))

# The published score with and without the published caps; peers run the same steps.
CONFIGS = {
    "published": cf.CCMAConfig.paper(),
    "clustered subpool": replace(peers.PUBLISHED_SCORE, subpool_size=10_000),
    "whole pool": peers.PUBLISHED_SCORE,
}


@pytest.mark.parametrize("contender", peers.contenders(peers.QUERIES))
@pytest.mark.parametrize(
    "config",
    ["whole pool", *(pytest.param(name, marks=pytest.mark.slow) for name in ("published", "clustered subpool"))],
)
@pytest.mark.parametrize(("d_student", "d_teacher"), [(768, 1_024)])
def test_select(
    measure: Callable[..., peers.Picked],
    record: Callable,
    record_reports: Callable,
    contender: str,
    config: str,
    d_student: int,
    d_teacher: int,
) -> None:
    pool = data.pool(N_ROWS, d_student, d_teacher, N_CLASSES, N_LABELLED)
    reports: list[cf.Report] = []
    way = peers.QUERIES[contender]

    def run(*args: Any) -> peers.Picked:
        picked = way.run(*args)
        if picked.report is not None:
            reports.append(picked.report)
        return picked

    picked = measure(
        marks.QUERY,
        contender,
        replace(way, run=run),
        pool.features,
        pool.image_features,
        pool.class_features,
        pool.student_logits,
        pool.labels,
        BUDGET,
        CONFIGS[config],
        shape={"N": N_ROWS, "D_S": d_student, "D_T": d_teacher, "C": N_CLASSES, "B": BUDGET, "config": config},
        warm_up=CONFIGS[config].subpool_size is None,
    )
    record(
        {
            "picks": len(np.unique(picked.indices)),
            "classes among the picks": len(np.unique(pool.truth[picked.indices])),
            "mean δ of the picks [nats]": float(picked.scores.mean()),
        }
    )
    if reports:
        record_reports(reports)
