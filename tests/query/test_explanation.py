"""Where picks come from: who led them, the sets of both models, the shortlist, and the rows that they represent."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.query.represented import MOST_NEAREST, nearest_represented
from ccma_fast.steps.combination import Combination

pytestmark = [pytest.mark.processor, pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")]

N, C, BUDGET = 400, 6, 12


@pytest.fixture(scope="module")
def pool() -> SimpleNamespace:
    rng = np.random.default_rng(5)
    y = rng.integers(C, size=N)
    x = (rng.standard_normal((C, 9))[y] + rng.standard_normal((N, 9))).astype(np.float32)
    student, teacher = (
        (signal * np.eye(C)[y] + rng.standard_normal((N, C))).astype(np.float32) for signal in (1.0, 1.6)
    )
    return SimpleNamespace(x=x, y=y, z_s=student, z_t=teacher, labels=np.where(np.arange(N) < 60, y, -1))


def explained(pool: SimpleNamespace, **given: Any) -> cf.Selection:
    return cf.select(pool.x, BUDGET, explain=True, **given)


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(-reference.nonconformity(z))


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


QUERIES: dict[str, Any] = {
    "cold": lambda p: {},
    "cold, one class": lambda p: {"labels": np.where(np.arange(N) == 3, p.y[3], -1), "teacher": teacher(p)},
    "cold, teacher": lambda p: {"teacher": teacher(p)},
    "cold, teacher first": lambda p: {"teacher": teacher(p), "config": cf.CCMAConfig(acquisition="trust")},
    "default": lambda p: {"labels": p.labels, "teacher": teacher(p)},
    "default, no teacher": lambda p: {"labels": p.labels},
    "trust": lambda p: given_logits(p, cf.CCMAConfig(acquisition="trust")),
    "trust, raps": lambda p: given_logits(p, cf.CCMAConfig(acquisition="trust", nonconformity="raps")),
    "delta": lambda p: given_logits(p, cf.CCMAConfig(acquisition="delta")),
    "delta, aps, reweighted": lambda p: given_logits(
        p, cf.CCMAConfig(acquisition="delta", nonconformity="aps", reweight=True)
    ),
    "paper": lambda p: given_logits(p, cf.CCMAConfig.paper()),
    "a head without a teacher": lambda p: {"labels": p.labels, "config": cf.CCMAConfig(head="published", max_epochs=9)},
}


def teacher(pool: SimpleNamespace) -> cf.Teacher:
    return cf.Teacher.from_logits(pool.z_t)


def given_logits(pool: SimpleNamespace, config: cf.CCMAConfig) -> dict[str, Any]:
    return {"labels": pool.labels, "student_logits": pool.z_s, "teacher": teacher(pool), "config": config}


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", QUERIES)
def test_the_picks_are_the_same_and_every_one_is_explained(pool, name, backend):
    given = {**QUERIES[name](pool), "backend": backend}
    plain, picks = cf.select(pool.x, BUDGET, **given), explained(pool, **given)
    assert plain.explanation is None
    assert plain.indices.tolist() == picks.indices.tolist()
    assert plain.scores.tobytes() == picks.scores.tobytes()
    assert plain.represents.tolist() == picks.represents.tolist()
    for field in ("q_student", "q_teacher", "mean_student_set", "mean_overlap", "calibration", "warnings"):
        assert str(getattr(plain.report, field)) == str(getattr(picks.report, field)), field
    told = picks.explanation
    assert [pick.rank for pick in told.picks] == list(range(1, BUDGET + 1))
    assert [pick.row for pick in told.picks] == picks.indices.tolist()
    assert np.array([pick.score for pick in told.picks], np.float32).tobytes() == picks.scores.tobytes()
    assert [pick.represents for pick in told.picks] == picks.represents.tolist()
    for pick in told.picks:
        assert pick.id is None
        assert pick.nearest_ids is None
        assert len(set(pick.nearest)) == len(pick.nearest)
        assert pick.row not in pick.nearest
        assert len(pick.nearest) == min(MOST_NEAREST, pick.represents - 1)
        for found in (pick.student_set, pick.teacher_set, pick.shortlist):
            if found is not None:
                assert list(found.probabilities) == sorted(found.probabilities, reverse=True)
                assert all(0.0 <= p <= 1.0 for p in found.probabilities)
                assert len(set(found.classes)) == len(found.classes) == found.size


@pytest.mark.parametrize(
    ("name", "leaders"),
    [
        ("cold", {"coverage"}),
        ("cold, teacher", {"coverage"}),
        ("cold, teacher first", {"teacher"}),
        ("default", {"student"}),
        ("trust", {"teacher", "student"}),
        ("delta", {"both"}),
        ("default, no teacher", {"student"}),
    ],
)
def test_who_led_them(pool, name, leaders):
    picks = explained(pool, **QUERIES[name](pool))
    led = [pick.led_by for pick in picks.explanation.picks]
    assert set(led) == leaders
    if name == "trust":
        n_led = int(picks.report.trust * BUDGET + 0.5)
        assert led == ["teacher"] * n_led + ["student"] * (BUDGET - n_led)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("name", ["trust", "trust, raps", "delta", "paper"])
def test_sets_are_those_of_the_reports_thresholds(pool, name, backend):
    given = QUERIES[name](pool)
    config = given["config"]
    picks = explained(pool, **given, backend=backend)
    told = picks.explanation
    assert (told.q_student, told.q_teacher) == (picks.report.q_student, picks.report.q_teacher)
    assert told.calibration == config.calibration
    rule = {"score": config.nonconformity, "penalty": config.raps_penalty, "k_reg": config.raps_k_reg}
    for logits, q, own in ((pool.z_s, told.q_student, "student_set"), (pool.z_t, told.q_teacher, "teacher_set")):
        wanted = cf.prediction_sets(logits[picks.indices], q, backend="reference", **rule)
        p = softmax(logits[picks.indices])
        for pick, members, of_pick in zip(told.picks, wanted, p, strict=True):
            found = getattr(pick, own)
            assert sorted(found.classes) == np.flatnonzero(members).tolist()
            assert found.probabilities == pytest.approx(of_pick[list(found.classes)], rel=1e-5)
    combined = softmax(Combination(0.5)(pool.z_s[picks.indices], pool.z_t[picks.indices]))
    for pick, p in zip(told.picks, combined, strict=True):
        union = {*pick.student_set.classes, *pick.teacher_set.classes}
        assert list(pick.shortlist.classes) == sorted(union, key=lambda c: -p[c])
        assert pick.shortlist.probabilities == pytest.approx(p[list(pick.shortlist.classes)], rel=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the interpreter's arithmetic
def test_a_device_says_the_same(pool):
    rows = slice(20, 110)
    given = {
        "labels": pool.labels[rows],
        "student_logits": pool.z_s[rows],
        "teacher": cf.Teacher.from_logits(pool.z_t[rows]),
        "config": cf.CCMAConfig(acquisition="trust", nonconformity="raps"),
    }
    found = [cf.select(pool.x[rows], 4, explain=True, backend=b, **given).explanation for b in ("cpu", "cuda")]
    for pick, other in zip(found[0].picks, found[1].picks, strict=True):
        assert (pick.row, pick.led_by, pick.nearest) == (other.row, other.led_by, other.nearest)
        assert pick.teacher_set.classes == other.teacher_set.classes
        assert pick.shortlist.probabilities == pytest.approx(other.shortlist.probabilities, rel=1e-4)


def test_sets_by_weighted_thresholds_are_those_that_the_picks_depended_on(pool):
    """A threshold for each row: the sets of the picks are not those of the median."""
    picks = explained(pool, **QUERIES["delta, aps, reweighted"](pool))
    sizes = [pick.student_set.size for pick in picks.explanation.picks]
    assert min(sizes) >= 1
    median = cf.prediction_sets(pool.z_s[picks.indices], picks.report.q_student, score="aps").sum(axis=1)
    assert np.abs(median - sizes).max() <= C


@pytest.mark.parametrize("with_teacher", [True, False])
def test_the_default_query_has_sets_too_and_predicts_as_the_loop_does(pool, with_teacher):
    """Of the student without a teacher as well, where the report has none."""
    given = QUERIES["default" if with_teacher else "default, no teacher"](pool)
    told = explained(pool, **given).explanation
    assert told.calibration == "coverage"
    assert np.isfinite(told.q_student)
    assert np.isfinite(told.q_teacher) == with_teacher
    for pick in told.picks:
        assert (pick.teacher_set is not None) == with_teacher
        union = {*pick.student_set.classes, *(pick.teacher_set.classes if with_teacher else ())}
        assert {*pick.shortlist.classes} == union
    p = softmax(told.combined.float32())
    predicted = told.predict(np.array([7, 3, 399]))
    assert predicted.classes.tolist() == p[[7, 3, 399]].argmax(axis=1).tolist()
    assert predicted.probabilities == pytest.approx(p[[7, 3, 399]].max(axis=1), rel=1e-5)
    for pick in told.picks:
        assert pick.shortlist.probabilities == pytest.approx(p[pick.row][list(pick.shortlist.classes)], rel=1e-5)
    # The models of `select` and of a loop are trained by other folds; both are the same kind of model.
    loop = cf.ActiveLearner(pool.x, labels=pool.labels, teacher=given.get("teacher"))
    assert (loop.predict_proba().argmax(axis=1) == p.argmax(axis=1)).mean() > 0.9


@pytest.mark.parametrize("name", ["cold, teacher", "cold, teacher first", "cold, one class"])
def test_at_a_cold_start_the_teacher_alone_makes_the_shortlist(pool, name):
    told = explained(pool, **QUERIES[name](pool)).explanation
    assert told.calibration == ""
    p = softmax(pool.z_t)
    for pick in told.picks:
        assert pick.student_set is None
        assert pick.teacher_set is None
        order = np.argsort(-p[pick.row], kind="stable")
        size = 1 + int((np.cumsum(p[pick.row][order])[:-1] < 0.95).sum())
        assert list(pick.shortlist.classes) == order[:size].tolist()
    assert told.predict(np.arange(5)).classes.tolist() == p[:5].argmax(axis=1).tolist()


def test_without_any_model_there_is_nothing_to_say(pool):
    told = explained(pool).explanation
    assert told.combined is None
    assert told.predict(np.arange(3)) is None
    assert all(pick.shortlist == ((), (), 0) for pick in told.picks)


def test_a_student_whose_folds_would_have_to_be_fitted_gives_no_sets(pool):
    """No more is trained than the query needs: the shortlist is not calibrated then."""
    fits = []

    class Counted:
        def fit(self, X: np.ndarray, y: np.ndarray) -> Counted:
            fits.append(len(y))
            self.classes_ = np.arange(C)
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return np.tile(np.arange(1, C + 1) / 21.0, (len(X), 1))

        def __deepcopy__(self, memo: Any) -> Counted:
            return self

    told = explained(pool, labels=pool.labels, student=Counted()).explanation
    assert fits == [60]
    assert told.calibration == ""
    assert told.picks[0].shortlist.classes == (5, 4, 3, 2, 1)


@pytest.mark.parametrize("name", ["default", "default, no teacher"])
def test_every_listed_row_is_nearer_to_its_pick_than_to_any_other(pool, name):
    picks = explained(pool, **QUERIES[name](pool))
    x = unit(pool.x)
    similarity = x @ x[picks.indices].T
    for k, pick in enumerate(picks.explanation.picks):
        rows = list(pick.nearest)
        assert (pool.labels[rows] < 0).all()
        assert (similarity[rows, k] >= similarity[rows].max(axis=1) - 1e-6).all()
        own = np.flatnonzero((similarity.argmax(axis=1) == k) & (pool.labels < 0))
        own = own[~np.isin(own, picks.indices)]
        assert rows == own[np.argsort(-similarity[own, k], kind="stable")][:MOST_NEAREST].tolist()


def test_the_nearest_of_clusters():
    """Later picks of a cluster represent themselves alone; a group without a pick has no list; picks are not listed."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((300, 5)).astype(np.float32)
    group = rng.integers(7, size=300)
    cost = rng.random(300).astype(np.float32)
    group[[4, 9, 30, 50]] = [2, 5, 2, 0]
    picks = np.array([4, 9, 30, 50])
    for given in (None, cost):
        nearest = nearest_represented(choose_backend("cpu"), open_rows(x, "x"), picks, group, given)
        similarity = unit(x) @ unit(x).T
        for k, pick in enumerate(picks):
            members = np.flatnonzero(group == group[pick])
            if given is not None:
                members = members[np.argsort(cost[members], kind="stable")][:32]
            members = members[~np.isin(members, picks)]
            expected = members[np.lexsort((members, -similarity[pick, members]))][:MOST_NEAREST]
            assert nearest[k].tolist() == ([-1] * MOST_NEAREST if pick == 30 else expected.tolist())


def test_the_nearest_rows_of_a_clustering_longer_than_a_part(monkeypatch):
    monkeypatch.setattr("ccma_fast.query.represented._PART", 64)
    rng = np.random.default_rng(8)
    x = open_rows(rng.standard_normal((500, 4)).astype(np.float32), "x")
    group, cost = rng.integers(3, size=500), (rng.integers(40, size=500) / 8).astype(np.float32)
    picks = np.array([11, 2, 400])
    group[picks] = [0, 1, 2]
    in_parts = nearest_represented(choose_backend("cpu"), x, picks, group, cost)
    monkeypatch.setattr("ccma_fast.query.represented._PART", 1 << 18)
    assert in_parts.tolist() == nearest_represented(choose_backend("cpu"), x, picks, group, cost).tolist()


def test_a_set_of_many_classes_lists_the_most_probable_50_and_its_size():
    rng = np.random.default_rng(4)
    n, n_classes = 80, 130
    z = np.round(rng.standard_normal((n, n_classes)), 1).astype(np.float32)  # with ties
    picks = cf.select(
        rng.standard_normal((n, 4)),
        5,
        student_logits=z,
        teacher=cf.Teacher.from_logits(z[:, ::-1].copy()),
        config=cf.CCMAConfig(acquisition="delta", calibration="target_size", student_set_size=90.0),
        explain=True,
    )
    wanted = cf.prediction_sets(z[picks.indices], picks.report.q_student)
    p = softmax(z[picks.indices])
    assert (wanted.sum(axis=1) > 50).any()
    for pick, members, of_pick in zip(picks.explanation.picks, wanted, p, strict=True):
        assert pick.student_set.size == members.sum()
        own = np.flatnonzero(members)
        order = own[np.argsort(-z[pick.row][own], kind="stable")]
        assert list(pick.student_set.classes) == order[:50].tolist()
        assert pick.student_set.probabilities == pytest.approx(of_pick[order[:50]], rel=1e-5)


def test_few_rows_at_a_time_say_the_same(pool, monkeypatch):
    whole = explained(pool, **QUERIES["default"](pool)).explanation
    monkeypatch.setattr("ccma_fast.query.explanation._AT_ONCE", 5 * C)
    in_parts = explained(pool, **QUERIES["default"](pool)).explanation
    assert in_parts.to_dict() == whole.to_dict()
    rows = np.arange(N)
    assert in_parts.predict(rows).classes.tolist() == whole.predict(rows).classes.tolist()


def parquet_pool(pool: SimpleNamespace, folder: Path, ids: list[Any]) -> Path:
    """The pool as a file with ids."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"embedding": list(pool.x), "image_path": ids}
    parquet.write_table(pa.table(columns), folder / "x.parquet")
    return folder / "x.parquet"


def test_ids_of_picks_and_of_what_they_represent(pool, tmp_path):
    """Repeated ids and rows without one are told as they are."""
    ids = [None if row % 7 == 0 else f"<b>{row // 2}</b>.jpg" for row in range(N)]
    picks = cf.select(parquet_pool(pool, tmp_path, ids), BUDGET, labels=pool.labels, explain=True)
    assert picks.ids == [ids[row] for row in picks.indices]
    assert picks.explanation.ids == picks.ids
    for pick in picks.explanation.picks:
        assert pick.id == ids[pick.row]
        assert list(pick.nearest_ids) == [ids[row] for row in pick.nearest]


@pytest.mark.parametrize("name", ["cold", "default", "trust", "delta"])
def test_rows_that_cannot_be_picked_are_not_represented(pool, name, monkeypatch):
    """Neither labelled ones nor those whose images have vanished."""
    rows = open_rows(pool.x, "features")
    monkeypatch.setattr(rows, "vanished", lambda: np.arange(150, N))
    given = QUERIES[name](pool)
    picks = cf.select(rows, BUDGET, explain=True, **given)
    free = np.arange(60 if "labels" in given else 0, 150)
    for pick in picks.explanation.picks:
        assert np.isin([pick.row, *pick.nearest], free).all()
    assert picks.explanation.inputs["n_vanished"] == N - 150


def test_all_rows_labelled(pool):
    picks = explained(pool, labels=pool.y)
    assert len(picks) == 0
    assert picks.explanation.picks == ()


def test_as_json(pool):
    for name, query in QUERIES.items():
        told = explained(pool, **query(pool)).explanation
        plain = told.to_dict()
        again = json.loads(json.dumps(plain))
        assert again["picks"][0]["row"] == told.picks[0].row
        assert again["picks"][0]["shortlist"]["classes"] == list(told.picks[0].shortlist.classes), name


def test_explain_must_be_a_flag(pool):
    with pytest.raises(TypeError, match="explain must be"):
        cf.select(pool.x, 3, explain="yes")
