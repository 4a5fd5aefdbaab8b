"""The bound that an audit gives: exact tails, the theorem by enumeration of all audits, and by many random ones."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from ccma_fast.steps.risk_control import Audited, controlled_thresholds, hypergeometric_tail, least_audit, most_wrong


def exact_tail(most: int, n_drawn: int, n_marked: int, n_rows: int) -> Fraction:
    ways = sum(math.comb(n_marked, x) * math.comb(n_rows - n_marked, n_drawn - x) for x in range(most + 1))
    return Fraction(ways, math.comb(n_rows, n_drawn))


def control(scores: Any, audit: Any, is_wrong: Any, max_error: float, delta: float) -> Any:
    population = Audited(np.sort(scores), scores[audit], is_wrong[audit])
    return controlled_thresholds([population], max_error, delta)[0]


def is_broken(scores: Any, audit: Any, is_wrong: Any, threshold: float, max_error: float) -> bool:
    """Whether more of the rows labelled outside the audit are wrong than promised."""
    labelled = scores >= threshold
    labelled[audit] = False
    return bool(is_wrong[labelled].sum() > max_error * labelled.sum())


def test_the_tail_is_exact() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        n_rows = int(rng.integers(1, 300))
        n_drawn, n_marked = rng.integers(0, n_rows + 1, size=2).tolist()
        most = int(rng.integers(0, n_drawn + 1))
        exact = float(exact_tail(most, n_drawn, n_marked, n_rows))
        assert hypergeometric_tail(most, n_drawn, n_marked, n_rows) == pytest.approx(exact, rel=1e-12, abs=1e-300)


def test_the_limit_of_a_large_pool_is_that_of_clopper_and_pearson() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n_errors, n_drawn in ((0, 59), (3, 160), (80, 2000)):
        limit = stats.beta.ppf(0.95, n_errors + 1, n_drawn - n_errors)
        assert most_wrong(n_errors, n_drawn, 10**8, 0.05) / 10**8 == pytest.approx(limit, rel=1e-5)
        tail = stats.binom.cdf(n_errors, n_drawn, 0.05)
        assert hypergeometric_tail(n_errors, n_drawn, 5 * 10**10, 10**12) == pytest.approx(tail, rel=1e-6)


def test_the_limit_of_a_small_pool_is_the_last_that_is_not_refuted() -> None:
    for n_rows, n_drawn, n_errors in ((40, 12, 2), (40, 40, 3), (7, 1, 0), (25, 10, 10)):
        possible = range(n_errors, n_rows - n_drawn + n_errors + 1)
        exact = max(m for m in possible if exact_tail(n_errors, n_drawn, m, n_rows) > 0.1)
        assert most_wrong(n_errors, n_drawn, n_rows, 0.1) == exact


def test_least_audit() -> None:
    """(1 − ε)ⁿ ≤ δ in a large pool."""
    assert least_audit(10**7, 0.05, 0.05) == 59
    assert least_audit(10**8, 0.01, 0.05) == 299
    # What the audit has seen is right, so that all errors are among the others.
    assert 59 < least_audit(1000, 0.05, 0.05) <= 62
    assert least_audit(1, 0.05, 0.05) == 1


@pytest.mark.parametrize("n_scores", [10, 4])
def test_the_theorem_by_all_audits_of_a_small_pool(n_scores: int) -> None:
    """The promise is broken by at most a share δ of all equally probable audits, whichever rows are wrong."""
    max_error, delta, n_rows, n_audit = 0.35, 0.4, 10, 5
    rng = np.random.default_rng(n_scores)
    audits = [np.array(rows) for rows in combinations(range(n_rows), n_audit)]
    worst = labelled = 0
    for _ in range(6):
        scores = rng.permutation(n_rows).astype(np.float32) % n_scores
        is_wrong = np.zeros(n_rows, np.bool_)
        # As many as are just not refuted make the promise hardest to keep.
        is_wrong[np.argsort(scores + 9 * rng.random(n_rows))[: rng.integers(3, 6)]] = True
        broken = 0
        for audit in audits:
            found = control(scores, audit, is_wrong, max_error, delta)
            labelled += found.n_rows > 0
            broken += is_broken(scores, audit, is_wrong, found.threshold, max_error)
        worst = max(worst, broken)
    assert worst <= delta * len(audits)
    assert worst > 0
    assert labelled > 0


def scorers(rng: np.random.Generator, n: int) -> dict[str, tuple[Any, Any]]:
    """Scores and which rows are wrong: by a calibrated, an overconfident and two useless scorers."""
    error = rng.random(n) ** 4  # a fifth of the rows is wrong
    is_wrong = rng.random(n) < error
    barely = np.zeros(n, np.bool_)
    barely[rng.choice(n, int(0.106 * n), replace=False)] = True  # hardly more than promised, at any score
    return {
        "calibrated": ((1 - error).astype(np.float32), is_wrong),
        "overconfident": (np.minimum(1.2 - error, 1).astype(np.float32), is_wrong),
        "useless": (rng.random(n).astype(np.float32), is_wrong),
        "barely wrong": (rng.random(n).astype(np.float32), barely),
    }


@pytest.mark.parametrize("repetitions", [250, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scorer", ["calibrated", "overconfident", "useless", "barely wrong"])
def test_the_promise_is_broken_as_rarely_as_it_says(scorer: str, repetitions: int) -> None:
    rng = np.random.default_rng(1)
    n, n_audit, max_error, delta = 1500, 120, 0.1, 0.05
    scores, is_wrong = scorers(rng, n)[scorer]
    broken = share = 0.0
    for _ in range(repetitions):
        audit = rng.choice(n, n_audit, replace=False)
        found = control(scores, audit, is_wrong, max_error, delta)
        broken += is_broken(scores, audit, is_wrong, found.threshold, max_error)
        share += found.n_rows / n / repetitions
    assert broken <= repetitions * delta + 3 * math.sqrt(repetitions * delta * (1 - delta))
    if scorer in ("calibrated", "overconfident"):
        order = np.argsort(-scores, kind="stable")
        best = np.flatnonzero(is_wrong[order].cumsum() <= max_error * np.arange(1, n + 1)).max() / n
        assert share > 0.3 * best
    else:
        assert share < 0.1


def test_several_populations_keep_their_promises_at_once() -> None:
    rng = np.random.default_rng(2)
    sizes, repetitions, max_error, delta = (900, 900, 600, 60), 300, 0.1, 0.1
    scores = [rng.random(n).astype(np.float32) for n in sizes]
    is_wrong = []
    for n in sizes:
        wrong = np.zeros(n, np.bool_)
        wrong[rng.choice(n, int(0.106 * n), replace=False)] = True
        is_wrong.append(wrong)
    ends, total = np.cumsum(sizes), sum(sizes)
    n_broken = 0
    for _ in range(repetitions):
        drawn = rng.choice(total, 300, replace=False)
        audits = [drawn[(drawn >= end - n) & (drawn < end)] - (end - n) for n, end in zip(sizes, ends, strict=True)]
        parts = list(zip(scores, audits, is_wrong, strict=True))
        found = controlled_thresholds(
            [Audited(np.sort(s), s[audit], wrong[audit]) for s, audit, wrong in parts], max_error, delta
        )
        assert found[-1].n_rows == 0  # some seven audit rows bound nothing
        n_broken += any(
            is_broken(s, audit, wrong, one.threshold, max_error)
            for (s, audit, wrong), one in zip(parts, found, strict=True)
        )
    assert 0 < n_broken <= repetitions * delta + 3 * math.sqrt(repetitions * delta * (1 - delta))


def test_as_many_populations_are_tested_as_an_equal_share_of_the_level_allows() -> None:
    rng = np.random.default_rng(5)
    max_error, delta, counts = 0.1, 0.2, set()
    for _ in range(30):
        sizes = rng.integers(0, 120, size=rng.integers(1, 12)).tolist()
        audits = [int(rng.integers(n + 1)) for n in sizes]
        order = np.argsort([-n for n in audits], kind="stable").tolist()
        p_values = [
            exact_tail(0, a, math.floor(max_error * n * (1 - a / n)) + 1, n) if 0 < a < n else 1
            for n, a in zip(sizes, audits, strict=True)
        ]
        expected: list[int] = []
        for n_tested in range(1, len(sizes) + 1):
            able = [k for k in order if 0 < audits[k] < sizes[k] and p_values[k] <= delta / n_tested]
            if len(able) >= n_tested:
                expected = able[:n_tested]
        scores = [np.sort(rng.random(n).astype(np.float32)) for n in sizes]
        found = controlled_thresholds(
            [Audited(s, rng.permutation(s)[:n], np.zeros(n, np.bool_)) for s, n in zip(scores, audits, strict=True)],
            max_error,
            delta,
        )
        assert [k for k, one in enumerate(found) if one.is_tested] == sorted(expected)
        counts.add(len(expected))
    assert len(counts) >= 4


def test_classes_without_audit_rows_cost_nothing() -> None:
    rng = np.random.default_rng(6)
    nothing = np.empty(0, np.float32)
    scores = np.sort(rng.random(400).astype(np.float32))
    one = Audited(scores, scores[rng.choice(400, 200, replace=False)], np.zeros(200, np.bool_))
    rest = Audited(scores[:3], nothing, np.empty(0, np.bool_))
    found = controlled_thresholds([*[rest] * 20_000, one], 0.1, 0.05)
    assert found[-1] == controlled_thresholds([one], 0.1, 0.05)[0]
    assert found[-1].n_rows == 400


def test_ties_are_never_split_and_the_counts_are_those_of_the_threshold() -> None:
    rng = np.random.default_rng(3)
    found_any = 0
    for n_values in (1, 2, 5, 40):
        scores = rng.integers(n_values, size=2000).astype(np.float32)
        is_wrong = rng.random(2000) < 0.3 * 0.8 ** (10 * (scores + 1) / n_values)
        audit = rng.choice(2000, 600, replace=False)
        found = control(scores, audit, is_wrong, 0.1, 0.05)
        at = scores >= found.threshold
        assert found.n_rows == at.sum()
        assert found.n_audit == at[audit].sum()
        assert found.n_errors == is_wrong[audit][at[audit]].sum()
        found_any += found.n_rows > 0
        if found.n_rows:
            assert found.bound <= 0.1
    assert found_any >= 2


def test_a_model_that_is_always_right_labels_all_and_one_that_is_always_wrong_nothing() -> None:
    scores = np.arange(1000, dtype=np.float32)
    audit = np.random.default_rng(4).permutation(1000)[:62]
    right = control(scores, audit, np.zeros(1000, np.bool_), 0.05, 0.05)
    assert (right.n_rows, right.n_audit, right.n_errors) == (1000, 62, 0)
    assert control(scores, audit, np.ones(1000, np.bool_), 0.05, 0.05).n_rows == 0
    assert control(scores, audit[:59], np.zeros(1000, np.bool_), 0.05, 0.05).n_rows == 0
    everything = control(scores, np.arange(1000), np.zeros(1000, np.bool_), 0.05, 0.05)
    assert everything.n_rows == 0  # nothing is left to label
