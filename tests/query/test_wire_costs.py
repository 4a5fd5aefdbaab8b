"""What goes between ranks: as the forecast says, and as plans and reports tell."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.derived import Runs

from .test_ranks import counted

N, C, BUDGET = 6_000, 24, 100
SUBPOOL: dict[str, Any] = {"acquisition": "delta", "kmeans_tol": 0.0, "subpool_max_iter": 3}
QUICK = cf.CCMAConfig(kmeans_max_iter=3, kmeans_tol=0.0)


class Pool:
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        y = rng.integers(C, size=N)
        centres, self.t = (rng.standard_normal((C, d), dtype=np.float32) for d in (96, 64))
        self.x = (centres[y] + 2 * rng.standard_normal((N, 96), dtype=np.float32)).astype(np.float16)
        self.v = (self.t[y] + 2 * rng.standard_normal((N, 64), dtype=np.float32)).astype(np.float16)
        self.labels = np.where(np.arange(N) % 15 == 0, y, -1)

    def teacher(self) -> cf.Teacher:
        return cf.Teacher(self.v, self.t)


POOL = Pool()

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-teacher": {"teacher": None},
    "trust": {"config": cf.CCMAConfig(acquisition="trust")},
    "delta": {"config": cf.CCMAConfig(acquisition="delta")},
    "published": {"config": replace(cf.CCMAConfig.paper(), kmeans_tol=0.0, subpool_max_iter=3, max_epochs=2)},
    "by-sample": {"config": cf.CCMAConfig(**SUBPOOL, subpool_size=BUDGET // 2, subpool_method="sample")},
    "two-level": {"config": cf.CCMAConfig(**SUBPOOL, subpool_size=2 * BUDGET, subpool_method="two-level")},
    "sizes": {"config": cf.CCMAConfig(acquisition="delta", calibration="target_size")},
    "aps": {"config": cf.CCMAConfig(acquisition="delta", nonconformity="aps", nonempty="raise")},
    "reweight": {"config": cf.CCMAConfig(acquisition="delta", reweight=True)},
    "masks": {"exclude": np.arange(1, N, 3), "pending": np.arange(2, N, 33)},
    "include": {"include": np.arange(0, N, 4)},
    "shares": {"class_distribution": np.full(C, 1 / C), "config": cf.CCMAConfig(student_kappa=20)},
    "spaced": {"min_distance": 0.2},
    "cold": {"labels": None, "teacher": None, "config": QUICK},
    "cold-teacher": {"labels": None, "config": QUICK},
    "cold-trust": {"labels": None, "config": cf.CCMAConfig(acquisition="trust")},
    "cold-covered": {"labels": np.where(np.arange(N) % 60 == 3, 2, -1), "teacher": None, "config": QUICK},
}


def dealt(n_ranks: int) -> list[Runs]:
    cuts = [N * rank // n_ranks for rank in range(n_ranks + 1)]
    return [Runs([start], [stop]) for start, stop in pairwise(cuts)]


# Those whose terms others have as well.
LIKE_OTHERS = {"no-teacher", "by-sample", "aps", "reweight", "include"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in OPTIONS]
)
def test_bytes_and_messages_are_those_of_the_forecast(name: str) -> None:
    options = {"labels": POOL.labels, "teacher": POOL.teacher(), **OPTIONS[name]}
    picks, transport = counted(dealt(4), POOL.x, BUDGET, **options)
    plan = picks.report.plan
    assert plan is not None
    expected = plan.bytes_exchanged - plan.stages["ranks"].bytes_exchanged
    assert picks.report.bytes_exchanged > 300_000
    assert expected == pytest.approx(picks.report.bytes_exchanged, rel=0.1)
    # Besides the stages there are the constants of the query, and the first count of what was read.
    assert 0 < transport.bytes_exchanged - picks.report.bytes_exchanged < 10_000
    n_messages = plan.messages - plan.stages["ranks"].messages
    assert n_messages == pytest.approx(transport.n_messages, abs=12)


def test_a_plan_for_ranks_needs_none() -> None:
    """It is the forecast of the query on so many, with what the time goes to."""
    given = {"labels": POOL.labels, "teacher": POOL.teacher()}
    picks, _ = counted(dealt(3), POOL.x, BUDGET, **given)
    plan = cf.plan(POOL.x, BUDGET, **given, ranks=3)
    reported = picks.report.plan
    assert (plan.n_ranks, plan.bytes_exchanged, plan.messages) == (3, reported.bytes_exchanged, reported.messages)
    assert {name: (of.first, of.other) for name, of in plan.stages.items()} == {
        name: (of.first, of.other) for name, of in reported.stages.items()
    }
    assert (reported.seconds, reported.spent) == (None, None)
    assert plan.seconds == pytest.approx(sum(vars(plan.spent).values()))
    first, other = (plan.of_rank(which).bytes_exchanged for which in ("first", "other"))
    assert first + 2 * other == pytest.approx(2 * plan.bytes_exchanged, rel=1e-3)  # each byte has two ends
    assert other < first <= plan.bytes_exchanged
    with pytest.raises(ValueError, match="name must be 'first' or 'other', got 'others'"):
        plan.of_rank("others")
    assert plan.of_rank("other").peak_memory < plan.of_rank("first").peak_memory
    assert plan.of_rank("other").bytes_read == pytest.approx(plan.bytes_read / 3, rel=1e-3)


def test_the_network_counts() -> None:
    def spent(**network: float) -> Any:
        return cf.plan(POOL.x, BUDGET, config=QUICK, ranks=8, **network).spent

    usual, slow, far = spent(), spent(network_gbit_s=0.1), spent(network_latency_ms=50)
    assert slow.sending == pytest.approx(100 * usual.sending)
    assert far.waiting == pytest.approx(500 * usual.waiting)
    assert (slow.waiting, far.sending) == (usual.waiting, usual.sending)
    assert spent(network_latency_ms=0).waiting == 0


def test_more_ranks_read_less_each_and_send_more() -> None:
    plans = [cf.plan(POOL.x, BUDGET, config=QUICK, ranks=n) for n in (2, 4, 8)]
    for fewer, more in pairwise(plans):
        assert more.of_rank("other").bytes_read == pytest.approx(fewer.of_rank("other").bytes_read / 2, rel=1e-3)
        assert more.bytes_exchanged > fewer.bytes_exchanged
        assert more.messages == fewer.messages


def test_messages_do_not_grow_with_the_pool_nor_bytes_by_much() -> None:
    few, many = (cf.plan(np.ones((n, 64), np.float16), BUDGET, config=QUICK, ranks=4) for n in (20_000, 200_000))
    assert many.messages == few.messages
    assert many.bytes_exchanged < 1.01 * few.bytes_exchanged


def test_one_rank_is_one_process() -> None:
    one, plain = cf.plan(POOL.x, BUDGET, ranks=1), cf.plan(POOL.x, BUDGET)
    assert type(one) is type(plain) is cf.Plan
    assert str(one).splitlines()[0] == str(plain).splitlines()[0]
    assert "bytes_exchanged" not in json.dumps(plain.to_dict())


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ranks": 0}, ValueError, "ranks must be at least 1, got 0"),
        ({"ranks": 2.0}, TypeError, "ranks must be an integer, got float 2.0"),
        ({"ranks": 10**9}, ValueError, "ranks must be at most 1048576, got 1000000000"),
        ({"ranks": 2, "network_gbit_s": 0}, ValueError, "network_gbit_s must be greater than 0, got 0"),
        ({"ranks": 2, "network_latency_ms": -1}, ValueError, "network_latency_ms must be at least 0, got -1"),
        (
            {"network_gbit_s": 10},
            ValueError,
            "network_gbit_s and network_latency_ms are those of a network between ranks; give ranks too",
        ),
    ],
)
def test_plans_that_are_none(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        cf.plan(POOL.x, BUDGET, **options)
    assert str(raised.value) == text


def test_what_is_exchanged_is_told() -> None:
    """By a report and by a plan, as text, as plain values and in a notebook."""
    report = counted(dealt(3), POOL.x, BUDGET, config=QUICK)[0].report
    megabytes = f"{report.bytes_exchanged / 1e6:.1f} MB"
    assert f" on 3 ranks, {megabytes} exchanged, " in str(report)
    assert " exchanged   expected" in str(report)
    told = report.to_dict()
    assert told["n_ranks"] == 3
    assert told["stages"]["coverage"]["bytes_exchanged"] == report.stages["coverage"].bytes_exchanged > 0
    assert "exchanged" in report._repr_html_()
    plan = cf.plan(POOL.x, BUDGET, config=QUICK, ranks=3, network_gbit_s=25)
    text = str(plan)
    assert "3 ranks, network 25 Gbit/s, 0.1 ms: reading " in text
    assert repr(plan).startswith("Plan(3 ranks, ")
    assert "25 Gbit/s" in plan._repr_html_()
    told = json.loads(json.dumps(plan.to_dict()))
    assert told["network"] == {"gbit_s": 25.0, "latency_ms": 0.1}
    assert told["total"]["messages"] == plan.messages
    assert told["total"]["other"] == vars(plan.of_rank("other"))
    alone = cf.select(POOL.x, BUDGET, config=QUICK).report
    assert (alone.n_ranks, alone.bytes_exchanged) == (1, 0)
    assert "ranks" not in str(alone)
    assert "exchanged" not in str(alone)
