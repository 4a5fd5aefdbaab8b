"""Audits and labels by a model: the draw, what is refused since it would bound nothing, and the rows that come out."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.pool.open import open_rows

N, C = 4000, 4


def calibrated(rng: np.random.Generator, weights: Any) -> tuple[Any, Any]:
    """Probabilities, and classes that are drawn from them."""
    p = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return p, (rng.random((len(p), 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)


@pytest.fixture(scope="module")
def pool() -> dict[str, Any]:
    """Probabilities that are calibrated, the truth drawn from them, and labels of 50 rows."""
    rng = np.random.default_rng(0)
    p, truth = calibrated(rng, np.exp(8.0 * rng.standard_normal((N, C))))
    labels = np.where(np.arange(N) < 50, truth, -1)
    return {"p": p, "truth": truth, "labels": labels}


def labelled(pool: dict[str, Any], n: int = 600, **options: Any) -> tuple[Any, Any]:
    audit = cf.audit_sample(pool["p"], n, labels=pool["labels"])
    return audit, cf.auto_label(pool["p"], audit, pool["truth"][audit.rows], labels=pool["labels"], **options)


# --- the draw -------------------------------------------------------------------------------------


def test_the_draw_is_uniform_over_ordered_pairs_of_unlabelled_rows() -> None:
    p, labels = np.full((7, 2), 0.5), [-1, 0, -1, -1, 1, -1, -1]
    counts = np.zeros((7, 7))
    for seed in range(2000):
        first, second = cf.audit_sample(p, 2, labels=labels, random_state=seed).rows
        counts[first, second] += 1
    unlabelled = [0, 2, 3, 5, 6]
    pairs = counts[np.ix_(unlabelled, unlabelled)][~np.eye(5, dtype=bool)]
    assert pairs.sum() == 2000
    assert ((pairs - 100) ** 2 / 100).sum() < 19 + 5 * np.sqrt(2 * 19)  # chi-squared of 19 degrees of freedom


def test_a_larger_audit_begins_with_the_smaller_one(pool: dict[str, Any]) -> None:
    small, large = (cf.audit_sample(pool["p"], n, random_state=3) for n in (20, N))
    np.testing.assert_array_equal(large.rows[:20], small.rows)
    np.testing.assert_array_equal(np.sort(large.rows), np.arange(N))
    assert not np.array_equal(cf.audit_sample(pool["p"], 20, random_state=4).rows, small.rows)


def test_an_audit_is_no_larger_than_the_rows_without_a_label(pool: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="n must be at most the number of rows without a label, 3950, got 3951"):
        cf.audit_sample(pool["p"], N - 49, labels=pool["labels"])


# --- labels ---------------------------------------------------------------------------------------


def test_every_unlabelled_row_is_labelled_audited_or_left_for_people(pool: dict[str, Any]) -> None:
    audit, found = labelled(pool)
    everything = np.concatenate([found.rows, found.for_people, audit.rows])
    np.testing.assert_array_equal(np.sort(everything), np.arange(50, N))
    top = pool["p"].max(axis=1)
    np.testing.assert_array_equal(found.labels, pool["p"].argmax(axis=1)[found.rows])
    np.testing.assert_array_equal(found.scores, top[found.rows])
    np.testing.assert_array_equal(found.people_scores, top[found.for_people])
    assert (np.diff(found.rows) > 0).all()
    assert (np.diff(found.people_scores) >= 0).all()
    assert top[found.rows].min() >= found.thresholds[0] > found.people_scores.max()
    assert found.share == found.rows.size / (N - 650)
    assert found.share > 0.4
    assert (pool["truth"][found.rows] != found.labels).mean() <= 0.05
    assert found.bounds[0] <= 0.05
    wrong = pool["p"].argmax(axis=1)[audit.rows] != pool["truth"][audit.rows]
    at = top[audit.rows] >= found.thresholds[0]
    assert (found.n_audit[0], found.n_audit_errors[0], found.n_wrong) == (at.sum(), wrong[at].sum(), wrong.sum())


def test_each_class_has_a_threshold_of_its_own() -> None:
    rng = np.random.default_rng(1)
    weights = np.exp(8.0 * rng.standard_normal((N, C)))
    weights[:, 3] = weights[:, :3].max(axis=1) / 30  # never predicted, so that no audit row is
    p, truth = calibrated(rng, weights)
    audit = cf.audit_sample(p, 1200)
    found = cf.auto_label(p, audit, truth[audit.rows], max_error=0.2, per_class=True, class_names=list("abcd"))
    for c in range(3):
        own = found.labels == c
        assert own.sum() > 100
        assert found.scores[own].min() >= found.thresholds[c]
        assert (truth[found.rows[own]] != c).mean() <= 0.2
    assert np.isinf(found.thresholds[3])
    assert np.isnan(found.bounds[3])
    assert "at most 20 % of the labels given of each class are wrong" in str(found)
    assert any(line.startswith("d  ") and "none: too few audit rows" in line for line in str(found).splitlines())


def test_other_scores_decide_where_they_are_given(pool: dict[str, Any]) -> None:
    scores = np.sort(pool["p"], axis=1)[:, -1] - np.sort(pool["p"], axis=1)[:, -2]  # margins
    audit = cf.audit_sample(pool["p"], 600, scores=scores)
    found = cf.auto_label(pool["p"], audit, pool["truth"][audit.rows], scores=scores)
    np.testing.assert_array_equal(found.scores, scores[found.rows])
    assert found.scores.min() >= found.thresholds[0] > found.people_scores.max()


def test_files_and_arrays_give_the_same(pool: dict[str, Any], tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", pool["p"])
    audit, found = labelled(pool)
    again = cf.auto_label(tmp_path / "p.npy", audit, pool["truth"][audit.rows], labels=pool["labels"])
    np.testing.assert_array_equal(again.rows, found.rows)
    np.testing.assert_array_equal(again.for_people, found.for_people)
    assert str(again) == str(found)


def test_names_of_classes(pool: dict[str, Any]) -> None:
    audit, found = labelled(pool)
    names = np.array(["ant", "bee", "cow", "doe"])
    again = cf.auto_label(
        pool["p"], audit, names[pool["truth"][audit.rows]], labels=pool["labels"], class_names=names.tolist()
    )
    np.testing.assert_array_equal(again.rows, found.rows)


def test_the_report_says_what_holds_and_what_an_audit_is_too_small_for(pool: dict[str, Any]) -> None:
    found = labelled(pool)[1]
    assert "With probability 0.95 over the draw of the audit, at most 5 % of the labels given are wrong" in str(found)
    nothing = labelled(pool, 40)[1]
    assert nothing.rows.size == 0
    assert nothing.for_people.size == N - 90
    assert "An audit of 40 rows is too small to show so small an error" in str(nothing)
    assert "are wrong, if" not in str(nothing)


# --- the probabilities of a loop ------------------------------------------------------------------


@pytest.fixture(scope="module")
def loop_pool(blobs: Any) -> dict[str, Any]:
    """Features, the truth, a teacher's logits, and labels of 60 rows, named."""
    x, truth = blobs(2500, 8, 3, seed=2)
    z = (3 * np.eye(3)[truth] + np.random.default_rng(5).standard_normal((2500, 3))).astype(np.float32)
    return {
        "x": x,
        "truth": truth,
        "z": z,
        "labels": np.where(np.arange(2500) % 41 == 0, truth, -1),
        "names": list("abc"),
    }


def loop_of(pool: dict[str, Any], features: Any = None, **options: Any) -> Any:
    given = {"labels": pool["labels"], "class_names": pool["names"], "teacher": cf.Teacher.from_logits(pool["z"])}
    return cf.ActiveLearner(pool["x"] if features is None else features, **{**given, **options})


def test_a_loop_gives_what_its_array_gives_in_one_pass(loop_pool: dict[str, Any]) -> None:
    rows, truth, labels = open_rows(loop_pool["x"], "features"), loop_pool["truth"], loop_pool["labels"]
    loop = loop_of(loop_pool, rows)
    array = loop.predict_proba()
    n_bytes = rows.bytes_read
    p = loop.probabilities()
    assert rows.bytes_read == n_bytes
    audit = cf.audit_sample(p, 400)
    found = cf.auto_label(p, audit, np.array(loop_pool["names"])[truth[audit.rows]])
    forecast = cf.audit_forecast(p, [100, 400], audit=audit, audit_labels=truth[audit.rows], repetitions=5)
    margins = np.diff(np.sort(array, axis=1)[:, 1:], axis=1)[:, 0]
    by_margin = cf.audit_sample(p, 400, scores=margins)
    assert rows.bytes_read - n_bytes == loop_pool["x"].nbytes

    assert (labels[audit.rows] < 0).all()
    expected = cf.audit_sample(array, 400, labels=labels)
    np.testing.assert_array_equal(audit.rows, expected.rows)
    assert (audit.predictions, audit.labelled, audit.n_labelled) == (expected.predictions, expected.labelled, 61)
    same = cf.auto_label(array, expected, truth[expected.rows], labels=labels, class_names=loop_pool["names"])
    assert found.rows.size > 1000
    for name in ("rows", "labels", "scores", "for_people", "people_scores", "thresholds", "bounds"):
        np.testing.assert_array_equal(getattr(found, name), getattr(same, name))
    assert str(found) == str(same)
    again = cf.audit_forecast(
        array, [100, 400], labels=labels, audit=expected, audit_labels=truth[expected.rows], repetitions=5
    )
    assert str(forecast) == str(again)
    assert by_margin.predictions == cf.audit_sample(array, 400, labels=labels, scores=margins).predictions


def test_probabilities_of_a_loop_are_those_of_its_labels_then(loop_pool: dict[str, Any]) -> None:
    truth = loop_pool["truth"]
    loop = loop_of(loop_pool)
    p = loop.probabilities()
    array = loop.predict_proba()
    audit = cf.audit_sample(p, 300)
    loop.label(audit.rows, truth[audit.rows])
    np.testing.assert_array_equal(np.asarray(p), array)
    found = cf.auto_label(p, audit, truth[audit.rows])
    assert not np.isin(found.rows, audit.rows).any()
    with pytest.raises(ValueError, match="are not those that the audit was drawn for"):
        cf.auto_label(loop.probabilities(), audit, truth[audit.rows])
    loop.unlabel(audit.rows)  # the loop is as it was
    np.testing.assert_array_equal(cf.auto_label(loop.probabilities(), audit, truth[audit.rows]).rows, found.rows)
    # Labels of other rows that somebody has given since leave the draw too.
    more = np.where(np.arange(2500) < 1000, truth, -1)
    rows = cf.audit_sample(p, 500, labels=more).rows
    assert ((rows >= 1000) & (loop_pool["labels"][rows] < 0)).all()
    with pytest.raises(ValueError, match=r"class_names must be those of the loop, \['a', 'b', 'c'\], got \['a', 'c'"):
        cf.audit_sample(p, 10, class_names=["a", "c", "b"])


def test_of_new_rows_all_may_be_drawn(loop_pool: dict[str, Any]) -> None:
    new = loop_of(loop_pool).probabilities(loop_pool["x"][:70], cf.Teacher.from_logits(loop_pool["z"][:70]))
    np.testing.assert_array_equal(np.sort(cf.audit_sample(new, 70).rows), np.arange(70))


def test_a_teacher_alone_labels_too(loop_pool: dict[str, Any]) -> None:
    truth = loop_pool["truth"]
    p = loop_of(loop_pool, labels=None).probabilities()
    audit = cf.audit_sample(p, 600)
    found = cf.auto_label(p, audit, truth[audit.rows], max_error=0.1)
    assert found.rows.size > 1000
    assert (truth[found.rows] != found.labels).mean() <= 0.1


def test_rows_whose_images_are_gone_are_neither_drawn_nor_labelled(loop_pool: dict[str, Any]) -> None:
    class Pool(ArrayRows):
        gone: Any = np.arange(100, 700)

        def vanished(self) -> Any:
            return self.gone

    pool = Pool(loop_pool["x"], "features")
    p = loop_of(loop_pool, pool).probabilities()
    n_free = int((np.delete(loop_pool["labels"], pool.gone) < 0).sum())
    audit = cf.audit_sample(p, n_free)
    assert not np.isin(audit.rows, pool.gone).any()
    few = cf.audit_sample(p, 300)
    found = cf.auto_label(p, few, loop_pool["truth"][few.rows])
    assert found.rows.size + found.for_people.size == n_free - 300
    assert not np.isin(np.concatenate([found.rows, found.for_people]), pool.gone).any()
    pool.gone = np.arange(100, 701)
    with pytest.raises(ValueError, match=r"got others: .* \(601 rows whose images are gone count as labelled\)"):
        cf.auto_label(p, few, loop_pool["truth"][few.rows])


def test_a_loop_takes_memory_for_a_chunk_and_some_bytes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    n, n_classes = 20_000, 400
    monkeypatch.setattr("ccma_fast.pool.rows._CHUNK_BYTES", 1 << 20)
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((n, 4), np.float32), rng.standard_normal((n, n_classes), np.float32)
    loop = cf.ActiveLearner(x, teacher=cf.Teacher.from_logits(z))
    tracemalloc.start()
    try:
        p = loop.probabilities()
        audit = cf.audit_sample(p, 100)
        cf.auto_label(p, audit, np.zeros(100, int))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * (1 << 20) + 32 * n < 4 * n * n_classes / 3


# --- what would bound nothing ---------------------------------------------------------------------


def test_people_may_stop_early_but_not_choose(pool: dict[str, Any]) -> None:
    audit = cf.audit_sample(pool["p"], 600, labels=pool["labels"])
    given = pool["truth"][audit.rows]
    given[400:] = -1
    found = cf.auto_label(pool["p"], audit, given, labels=pool["labels"])
    again = cf.auto_label(pool["p"], audit, given[:400], labels=pool["labels"])
    assert found.n_audited == 400
    np.testing.assert_array_equal(found.rows, again.rows)
    given[7] = -1
    with pytest.raises(ValueError, match=r"got none for row \d+ \(number 8 of the draw\) but one for row \d+ \(number"):
        cf.auto_label(pool["p"], audit, given, labels=pool["labels"])
    with pytest.raises(ValueError, match="audit_labels must have at least one label, got none"):
        cf.auto_label(pool["p"], audit, given[:0], labels=pool["labels"])


def test_what_is_no_audit_of_this_pool_is_refused(pool: dict[str, Any]) -> None:
    p, truth, labels = pool["p"], pool["truth"], pool["labels"]
    audit = cf.audit_sample(p, 100, labels=labels)
    given = truth[audit.rows]
    trained_on_it = labels.copy()
    trained_on_it[audit.rows[0]] = given[0]
    later = labels.copy()
    later[np.setdiff1d(np.arange(50, N), audit.rows)[0]] = 1
    moved = labels.copy()
    moved[np.setdiff1d(np.arange(50, N), audit.rows)[0]] = moved[0]
    moved[0] = -1
    retrained = p[:, [1, 0, 2, 3]]
    other = replace(audit, rows=np.sort(audit.rows))
    larger = replace(audit, rows=np.arange(N - 49))
    for call, message in (
        (
            (p, audit, given, trained_on_it),
            f"row {audit.rows[0]} of the audit has one, on which the model may have been",
        ),
        ((p, audit, given, later), "got others: 51 rows have one where 50 had"),
        ((p, audit, given, moved), "got others: other rows have one"),
        ((p, audit, given, None), "got others: 0 rows have one where 50 had"),
        ((retrained, audit, given, labels), "probabilities .or scores. are not those that the audit was drawn for"),
        ((p[:-1], audit, given, labels[:-1]), "probabilities has 3999 rows but the pool of the audit has 4000"),
        ((p, other, given, labels), "got rows that random_state=0 does not draw"),
        ((p, larger, given, labels), "audit must have from 1 to 3950 rows, as many as have no label, got 3951"),
        ((p, replace(audit, rows=audit.rows[:0]), [], labels), "audit must have from 1 to 3950 rows.* got 0"),
        ((p, replace(audit, random_state=-5), given, labels), "random_state of audit must be at least 0, got -5"),
        ((p, audit, [*given, 0], labels), "audit_labels must be at most 100, one for each row of the audit, got 101"),
        ((p, audit, np.zeros(N, int), labels), r"got 4000; of labels of the whole pool, y, give y\[audit.rows\]"),
        ((p, audit, given + 2, labels), "audit_labels"),
    ):
        with pytest.raises(ValueError, match=message):
            cf.auto_label(call[0], call[1], call[2], labels=call[3])
    with pytest.raises(TypeError, match=r"audit must be an AuditSample .* got ndarray"):
        cf.auto_label(p, audit.rows, given, labels=labels)


def test_a_series_of_other_rows_or_in_another_order_is_refused(pool: dict[str, Any]) -> None:
    pandas = pytest.importorskip("pandas")
    audit, found = labelled(pool)
    truth = pandas.Series(pool["truth"])
    of_audit = truth[audit.rows]
    for given in (of_audit, of_audit.reset_index(drop=True)):
        np.testing.assert_array_equal(cf.auto_label(pool["p"], audit, given, labels=pool["labels"]).rows, found.rows)
    assert cf.auto_label(pool["p"], audit, of_audit[:400], labels=pool["labels"]).n_audited == 400
    for given in (truth[np.sort(audit.rows)], truth[found.rows[:600]]):
        with pytest.raises(ValueError, match=r"audit_labels must be a Series .* that of audit\.rows"):
            cf.auto_label(pool["p"], audit, given, labels=pool["labels"])
        with pytest.raises(ValueError, match=r"audit_labels must be a Series .* that of audit\.rows"):
            cf.audit_forecast(pool["p"], labels=pool["labels"], audit=audit, audit_labels=given)


def test_what_is_no_probability_is_refused(pool: dict[str, Any]) -> None:
    p = pool["p"]
    nan = p.copy()
    nan[5, 1] = np.nan
    for bad, message in (
        (np.log(p), "probabilities must be from 0 to 1 and have the sum 1 in each row"),
        (p * 0.9, "with the sum 0.9 at row 0"),
        (nan, "probabilities must be finite, got NaN or infinity at row 5"),
    ):
        with pytest.raises(ValueError, match=message):
            cf.audit_sample(bad, 10)
    for scores, message in ((nan[:, 1], "scores must be finite.* at row 5"), (p, "scores must have one dimension")):
        with pytest.raises(ValueError, match=message):
            cf.audit_sample(p, 10, scores=scores)
    cf.audit_sample(p.astype(np.float16), 10)


# --- the forecast ---------------------------------------------------------------------------------


def test_the_forecast_is_near_what_audits_give(pool: dict[str, Any]) -> None:
    p, truth = pool["p"], pool["truth"]
    sizes = [30, 300, 900]
    shares = []
    for n in sizes:
        audits = [cf.audit_sample(p, n, random_state=seed) for seed in range(20)]
        shares.append(np.mean([cf.auto_label(p, audit, truth[audit.rows]).share for audit in audits]))
    assert shares[0] == 0 < shares[1] < shares[2]
    first = cf.audit_sample(p, 400, random_state=99)
    for extra in ({}, {"audit": first, "audit_labels": truth[first.rows]}):
        forecast = cf.audit_forecast(p, [*sizes, N], repetitions=20, **extra)
        assert forecast.sizes.tolist() == sizes  # an audit of all leaves nothing to label
        np.testing.assert_allclose(forecast.share, shares, atol=0.15)
        assert (forecast.low <= forecast.share + 1e-9).all()
        assert (forecast.share <= forecast.high + 1e-9).all()
        assert "the 400 rows audited so far" in str(forecast) or not extra
    by_class = cf.audit_forecast(p, sizes, repetitions=5, per_class=True, audit=first, audit_labels=truth[first.rows])
    assert by_class.share[2] < forecast.share[2]
    with pytest.raises(ValueError, match="audit and audit_labels must be given together"):
        cf.audit_forecast(p, audit=first)


def test_a_first_audit_of_a_row_does_not_make_the_model_perfect(pool: dict[str, Any]) -> None:
    p, truth = pool["p"], pool["truth"]
    audits = (cf.audit_sample(p, 1, random_state=seed) for seed in range(99))
    first = next(audit for audit in audits if truth[audit.rows] == p[audit.rows].argmax(axis=1))
    by_one = cf.audit_forecast(p, [300], audit=first, audit_labels=truth[first.rows])
    by_model = cf.audit_forecast(p, [300])
    assert by_model.share[0] < by_one.share[0] < 0.95
    assert by_one.low[0] < 0.9 < by_one.high[0]
    assert "by the 1 row audited so far" in str(by_one)


def test_no_size_and_no_row_to_audit(pool: dict[str, Any]) -> None:
    p, truth = pool["p"][:40], pool["truth"][:40]
    for sizes, kind, text in (
        (100, TypeError, "sizes must be a sequence of integers, such as .100, 200., got int 100"),
        ("100", TypeError, "sizes must be a sequence of integers, such as .100, 200., got str '100'"),
        ({100}, TypeError, "sizes must be a sequence of integers, such as .100, 200., got set .100."),
        ([np.nan], TypeError, "sizes must be an integer, got float nan"),
        ([], ValueError, "sizes must have at least one entry, got none"),
        ([0], ValueError, "sizes must be at least 1, got 0"),
    ):
        with pytest.raises(kind, match=f"^{text}$"):
            cf.audit_forecast(p, sizes)
    with pytest.raises(ValueError, match="must leave at least one row without a label, got 40 rows that all have one"):
        cf.audit_forecast(p, labels=truth)
    none = cf.audit_forecast(p, np.array([40, 100]))
    assert none.sizes.size == 0
    assert "no size is below 40, the rows without a label" in str(none)
    few = cf.audit_forecast(p[:10], [5])
    assert (few.share.tolist(), few.least) == ([0.0], 10)
    assert "no audit that leaves one shows so small an error" in str(few)


@pytest.mark.parametrize("per_class", [False, True])
def test_an_audit_of_every_row_leaves_nothing(pool: dict[str, Any], per_class: bool) -> None:
    p, truth = pool["p"][:60], pool["truth"][:60]
    audit = cf.audit_sample(p, 60)
    found = cf.auto_label(p, audit, truth[audit.rows], per_class=per_class)
    assert (found.rows.size, found.for_people.size, found.share) == (0, 0, 0.0)
    assert np.isinf(found.thresholds).all()
    assert str(found).endswith("People have labelled every row of the audit, which is every row that had no label.")
    small = cf.audit_sample(p[:10], 9)
    assert "No audit that leaves one of 10 rows to the model" in str(cf.auto_label(p[:10], small, truth[small.rows]))
