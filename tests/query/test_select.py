"""The query: what it promises of its picks, parity with the reference, and the numbers of the published run."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference

from ..combinations import thinned

BACKENDS = ("cpu", "reference")
# The published query without the caps of the published run.
DELTA = cf.CCMAConfig(acquisition="delta", head="published", calibration="target_size", subpool_size=10_000)
# Short trainings: what the student learns is not what these tests are about.
TRUST = cf.CCMAConfig(acquisition="trust", head="published", max_epochs=15)
ACQUISITIONS = {
    "coverage": cf.CCMAConfig(acquisition="coverage"),
    "trust": TRUST,
    "delta": replace(DELTA, max_epochs=15),
}


@pytest.fixture(scope="module")
def pool(blobs):
    """300 rows of 5 classes: features, teacher and labels."""

    x, y = blobs(300, 12, 5)
    v = x @ np.random.default_rng(1).standard_normal((12, 7), dtype=np.float32)
    t = np.stack([v[y == c].mean(axis=0) for c in range(5)])
    return SimpleNamespace(
        x=x,
        y=y,
        v=v,
        t=t,
        teacher=cf.Teacher(v, t),
        student_logits=np.random.default_rng(2).standard_normal((300, 5), dtype=np.float32),
        teacher_logits=np.random.default_rng(3).standard_normal((300, 5), dtype=np.float32),
    )


def assert_valid(picks: cf.Selection, budget: int, labels: np.ndarray) -> None:
    """min(budget, unlabelled) distinct unlabelled rows, of the types that are promised."""
    unlabelled = np.flatnonzero(labels < 0)
    assert len(picks) == picks.indices.size == min(budget, unlabelled.size)
    assert np.unique(picks.indices).size == picks.indices.size
    assert np.isin(picks.indices, unlabelled).all()
    assert picks.scores.shape == picks.represents.shape == picks.indices.shape
    assert (picks.indices.dtype, picks.scores.dtype, picks.represents.dtype) == (np.int64, np.float32, np.int64)
    assert (picks.represents >= 1).all()
    report = picks.report
    if len(picks):
        assert picks.represents.sum() <= report.n_candidates
        # With "coverage" and "trust" every candidate stands behind a pick of its class or of the student.
        if report.n_clusters in (0, len(picks)) or not np.isnan(report.trust):
            assert picks.represents.sum() == report.n_candidates
    if report.mode == "cold start":
        assert np.isnan(picks.scores).all()
    else:
        assert (picks.scores >= 0).all()
        if len(picks):
            assert np.isnan(report.trust) or 0.0 <= report.trust <= 1.0


LABELLED = {
    "none": lambda y: np.full(y.size, -1),
    "one class": lambda y: np.where((np.arange(y.size) % 3 == 0) & (y == 2), y, -1),
    "some": lambda y: np.where(np.arange(y.size) % 5 == 0, y, -1),
    "two classes": lambda y: np.where((np.arange(y.size) % 3 == 0) & (y < 2), y, -1),
    "most": lambda y: np.where(np.arange(y.size) < 280, y, -1),
    "all": lambda y: y,
}


@pytest.mark.parametrize(
    ("budget", "labelled", "by"),
    thinned(6, [1, 19, 20, 21, 1000], list(LABELLED), list(product(ACQUISITIONS, [False, True]))),
)
def test_exactly_the_budget_of_distinct_unlabelled_rows(pool, by, labelled, budget):
    """By each acquisition, without and with a teacher."""
    labels, (acquisition, with_teacher) = LABELLED[labelled](pool.y), by
    teacher = pool.teacher if with_teacher else None
    picks = cf.select(pool.x, budget, labels=labels, teacher=teacher, config=ACQUISITIONS[acquisition])
    assert_valid(picks, budget, labels)
    assert picks.report.mode == ("cold start" if labelled in ("none", "one class") else "query")


DEGENERATE = {
    "all rows equal": lambda x: np.ones_like(x),
    "two distinct rows": lambda x: x[np.arange(len(x)) % 2],
    "duplicates": lambda x: x[np.arange(len(x)) // 10],
    "opposite": lambda x: np.where(np.arange(len(x))[:, None] % 2 == 0, x[:1], -x[:1]),
    "one column": lambda x: np.abs(x[:, :1]) + 1,
    "tiny": lambda x: x * np.float32(1e-30),
    "huge": lambda x: x * np.float32(1e30),
}


@pytest.mark.parametrize(
    ("acquisition", "by", "make"), thinned(4, list(ACQUISITIONS), list(product(BACKENDS, [7, 100])), list(DEGENERATE))
)
def test_degenerate_pools(pool, acquisition, by, make):
    backend, budget = by
    x = DEGENERATE[make](pool.x[:120])
    labels = np.where(np.arange(120) % 9 == 0, pool.y[:120], -1)
    at_most_3 = np.minimum(labels, 3)
    zero = np.zeros((120, 4), np.float32)
    # As trusted as can be: sets of one class, where the student's hold all four.
    perfect = np.where(np.arange(4) == np.minimum(pool.y[:120], 3)[:, None], np.float32(50), np.float32(0))
    options = {"config": ACQUISITIONS[acquisition], "backend": backend}
    for logits in (None, zero, perfect):
        teacher = None if logits is None else cf.Teacher.from_logits(logits)
        picks = cf.select(x, budget, labels=at_most_3, student_logits=zero, teacher=teacher, **options)
        assert_valid(picks, budget, labels)
        if acquisition == "trust":
            assert picks.report.trust == float(logits is perfect)
    alike = np.where(labels == 1, 1, -1)
    for known in (None, alike):
        for teacher in (None, cf.Teacher.from_logits(perfect)):
            picks = cf.select(x, budget, labels=known, teacher=teacher, **options)
            assert_valid(picks, budget, np.full(120, -1) if known is None else known)
    if make in ("all rows equal", "duplicates", "one column"):
        assert_valid(cf.select(x, budget, labels=labels, **options), budget, labels)


@pytest.mark.parametrize("missing", [-1, np.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.int64, "list", "tensor"])
def test_forms_of_labels(pool, partly_labelled, dtype, missing):
    if dtype in (np.int8, np.int64) and missing != -1:
        pytest.skip("integers have no NaN")
    labels = partly_labelled(pool.y, 40)
    expected = cf.select(pool.x, 6, labels=labels).indices
    values = np.where(labels < 0, missing, labels)
    given = {"list": values.tolist, "tensor": lambda: torch.from_numpy(values)}.get(dtype, lambda: values.astype(dtype))
    np.testing.assert_array_equal(cf.select(pool.x, 6, labels=given()).indices, expected)


def test_what_no_label_becomes_in_an_unsigned_type_is_no_class(pool):
    labels = np.where(np.arange(300) < 20, pool.y, -1)
    with pytest.raises(
        ValueError, match=r"^labels must be of a signed type .*, got 255 at row 20 in uint8, which is what"
    ):
        cf.select(pool.x, 3, labels=labels.astype(np.uint8))
    assert cf.select(pool.x, 3, labels=pool.y.astype(np.uint8)).report.n_unlabelled == 0
    every = np.arange(300) % 256  # 255 is the last of 256 classes
    assert cf.select(pool.x, 3, labels=every.astype(np.uint8)).report.n_classes == 256


class TestWhereThePosteriorsComeFrom:
    def test_cold_start(self, pool):
        """Without labels and teacher the picks cover the pool."""
        labels = np.full(300, -1)
        alone = cf.select(pool.x, 9)
        assert_valid(alone, 9, labels)
        assert alone.report.mode == "cold start"
        assert (alone.report.n_candidates, alone.report.n_clusters) == (300, 9)
        assert alone.represents.sum() == 300
        assert np.isnan(alone.report.trust)
        np.testing.assert_array_equal(cf.select(pool.x, 9, labels=labels).indices, alone.indices)
        np.testing.assert_array_equal(cf.select(pool.x, 9, config=DELTA).indices, alone.indices)

    def test_cold_start_as_published(self, pool):
        """A teacher with features lends its space to the published query, others change nothing."""
        in_its_space = cf.select(pool.x, 9, teacher=pool.teacher, config=DELTA)
        np.testing.assert_array_equal(in_its_space.indices, cf.select(pool.v, 9).indices)
        from_logits = cf.select(pool.x, 9, teacher=cf.Teacher.from_logits(pool.teacher_logits), config=DELTA)
        np.testing.assert_array_equal(from_logits.indices, cf.select(pool.x, 9).indices)

    def test_cold_start_covers_the_classes(self, blobs):
        x, y = blobs(500, 16, 10, seed=4)
        covered = [np.unique(y[cf.select(x, 10, random_state=seed).indices]).size for seed in range(15)]
        assert min(covered) >= 8
        assert np.mean(covered) > 9.5

    def test_labels_of_one_class_are_covered(self, blobs):
        """The other picks lie where nothing is labelled, also where the one class is most of the pool."""
        x, y = blobs(500, 16, 10, seed=4)
        x, y = (
            np.concatenate([np.repeat(x[y == 3], 10, axis=0), x]),
            np.concatenate([np.full(10 * (y == 3).sum(), 3), y]),
        )
        labels = np.where((np.arange(y.size) % 40 == 0) & (y == 3), y, -1)
        found = [y[cf.select(x, 9, labels=labels, random_state=seed).indices] for seed in range(8)]
        assert min(np.setdiff1d(classes, [3]).size for classes in found) >= 7
        assert max((classes == 3).sum() for classes in found) <= 1
        every_row = cf.select(x, y.size, labels=labels)
        assert_valid(every_row, y.size, labels)

    def test_the_teacher_goes_on_to_other_classes(self, pool):
        labels = np.full(300, -1)
        labels[np.flatnonzero(pool.y == 2)[:5]] = 2
        picks = cf.select(pool.x, 8, labels=labels, teacher=pool.teacher, config=TRUST)
        assert picks.report.mode == "cold start"
        assert (picks.report.n_labelled, picks.report.n_classes) == (5, 5)
        assert np.bincount(pool.y[picks.indices], minlength=5).tolist() == [2, 2, 0, 2, 2]

    @pytest.mark.parametrize("acquisition", ACQUISITIONS)
    def test_a_student_waits_for_labels_of_two_classes(self, pool, acquisition):
        class Untouchable:
            def fit(self, X, y):
                raise AssertionError("fitted on one class")

            predict_proba = fit

        labels = LABELLED["one class"](pool.y)
        options = {"labels": labels, "config": ACQUISITIONS[acquisition]}
        picks = cf.select(pool.x, 5, student=Untouchable(), **options)
        np.testing.assert_array_equal(picks.indices, cf.select(pool.x, 5, **options).indices)
        # Ready-made logits need nobody to be fitted.
        assert cf.select(pool.x, 5, student_logits=pool.student_logits, **options).report.mode == "query"

    @pytest.mark.processor
    @pytest.mark.parametrize(
        ("acquisition", "backend", "student", "teacher"),
        thinned(3, list(ACQUISITIONS), BACKENDS, ["head", "logits", "classifier"], ["none", "features", "logits"]),
    )
    def test_every_combination(self, pool, partly_labelled, acquisition, backend, student, teacher):
        from sklearn.linear_model import LogisticRegression

        labels = partly_labelled(pool.y, 40)
        given = {
            "head": {},
            "logits": {"student_logits": pool.student_logits},
            "classifier": {"student": LogisticRegression()},
        }[student]
        of_teacher = {"none": None, "features": pool.teacher, "logits": cf.Teacher.from_logits(pool.teacher_logits)}
        config = ACQUISITIONS[acquisition]
        options = {"labels": labels, "teacher": of_teacher[teacher], "config": config, "backend": backend}
        picks = cf.select(pool.x, 8, **options, **given)
        assert_valid(picks, 8, labels)
        report = picks.report
        assert report.mode == "query"
        if teacher == "none":
            assert np.isnan([report.q_teacher, report.mean_teacher_set, report.mean_overlap]).all()
            assert np.isnan(report.top1_disagreement)
        else:
            assert report.mean_overlap <= report.mean_teacher_set + 1e-6
            assert 0.0 <= report.top1_disagreement <= 1.0
        assert np.isfinite(report.trust) == (acquisition == "trust")
        if acquisition != "delta":
            assert report.n_scored == 260
            if teacher == "none":
                # Nobody to be judged: no sets.
                assert report.calibration == ""
                assert np.isnan([report.q_student, report.mean_student_set]).all()
                assert report.trust == 0.0 or acquisition == "coverage"
            else:
                assert report.calibration == "coverage"
                assert min(report.mean_student_set, report.mean_teacher_set) >= 1.0
                assert max(report.mean_student_set, report.mean_teacher_set) <= 5.0
        else:
            assert report.n_scored == 260 // 3
            assert report.mean_student_set == pytest.approx(5.0, abs=0.1)
            if teacher == "logits":
                assert report.mean_teacher_set == pytest.approx(3.0, abs=0.1)
            elif teacher == "features":
                assert 3.0 <= report.mean_teacher_set < 4.0

    def test_ready_made_logits_need_no_labels(self, pool):
        picks = cf.select(pool.x, 8, student_logits=pool.student_logits)
        assert_valid(picks, 8, np.full(300, -1))
        assert picks.report.mode == "query"

    @pytest.mark.processor
    @pytest.mark.parametrize(
        ("acquisition", "backend", "n_classes"), thinned(2, list(ACQUISITIONS), BACKENDS, [None, 5])
    )
    def test_classes_that_have_no_label(self, pool, acquisition, backend, n_classes):
        """Labels of two classes of five: the teacher knows the other three, whatever the student is."""
        from sklearn.linear_model import LogisticRegression

        labels = LABELLED["two classes"](pool.y)
        config = ACQUISITIONS[acquisition]
        heads = cf.LinearHead(n_classes, max_epochs=15), cf.LogisticHead(n_classes)
        for student in (None, LogisticRegression(), *heads):
            picks = cf.select(
                pool.x, 8, labels=labels, teacher=pool.teacher, student=student, config=config, backend=backend
            )
            assert_valid(picks, 8, labels)
            assert picks.report.n_classes == 5

    def test_a_head_may_know_of_more_classes_than_the_labels(self, pool):
        labels = LABELLED["two classes"](pool.y)
        picks = cf.select(pool.x, 8, labels=labels, student=cf.LinearHead(9, max_epochs=5))
        assert picks.report.n_classes == 9
        learner = cf.ActiveLearner(pool.x, labels=labels, student=cf.LinearHead(9, max_epochs=5))
        assert learner.predict_proba(pool.x[:3]).shape == (3, 9)

    @pytest.mark.processor
    def test_every_kind_of_scikit_learn_classifier(self, pool, partly_labelled):
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.linear_model import LogisticRegression
        from sklearn.naive_bayes import GaussianNB
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        labels = partly_labelled(pool.y, 40)
        for student in (
            KNeighborsClassifier(3),  # probabilities of exactly 0
            GaussianNB(),
            make_pipeline(StandardScaler(), LogisticRegression()),
            RandomForestClassifier(10, random_state=0),  # has a length, and none before it is fitted
        ):
            before = copy.deepcopy(student.get_params())
            picks = cf.select(pool.x, 8, labels=labels, student=student, teacher=pool.teacher)
            assert_valid(picks, 8, labels)
            # A copy was fitted.
            assert not hasattr(student, "classes_")
            assert str(student.get_params()) == str(before)

    @pytest.mark.processor
    def test_a_student_of_ones_own(self, pool, partly_labelled):
        """Anything with fit and predict_proba, also without classes_."""

        class Nearest:
            def fit(self, X, y):
                assert isinstance(X, np.ndarray)
                self.means = np.stack([X[y == c].mean(axis=0) for c in range(5)])

            def predict_proba(self, X):
                z = X @ self.means.T
                e = np.exp(z - z.max(axis=1, keepdims=True))
                return e / e.sum(axis=1, keepdims=True)

        labels = partly_labelled(pool.y, 60)
        assert_valid(cf.select(pool.x, 8, labels=labels, student=Nearest()), 8, labels)


CONFIGS = {
    "default": cf.CCMAConfig(),
    "coverage, subpool": cf.CCMAConfig(subpool_size=60),
    "coverage, few candidates": cf.CCMAConfig(student_kappa=3),
    "coverage, least candidates": cf.CCMAConfig(student_kappa=100, candidate_limit=1),
    "coverage, limit, raps, reweighted": cf.CCMAConfig(pool_limit=50, nonconformity="raps", reweight=True),
    "coverage, sizes": cf.CCMAConfig(calibration="target_size"),
    "coverage, sizes, raise": cf.CCMAConfig(calibration="target_size", nonempty="raise"),
    "trust": TRUST,
    "trust, highest": replace(TRUST, pick="highest"),
    "trust, raise": replace(TRUST, nonempty="raise", alpha=0.3),
    "trust, aps": replace(TRUST, nonconformity="aps"),
    "trust, raps, reweighted": replace(TRUST, nonconformity="raps", raps_k_reg=2, reweight=True),
    "trust, reweighted": replace(TRUST, reweight=True),
    "trust, subpool": replace(TRUST, subpool_size=60),
    "trust, limit": replace(TRUST, pool_limit=50),
    "trust, few candidates": replace(TRUST, kappa=2, student_kappa=3),
    "trust, least candidates": replace(TRUST, kappa=1, student_kappa=100, candidate_limit=1),
    "trust, unweighted, few clusters": replace(TRUST, weighted_coverage=False, max_clusters=2, rows_per_cluster=4),
    "delta": DELTA,
    "paper": cf.CCMAConfig.paper(),
    **{f"paper {name}": cf.CCMAConfig.paper(name) for name in ("cifar10", "cifar100", "domainnet-real")},
    "highest": replace(DELTA, pick="highest"),
    "delta, coverage": replace(DELTA, calibration="coverage"),
    "delta, coverage, raise": replace(DELTA, calibration="coverage", nonempty="raise", alpha=0.3),
    "delta, coverage, raps, reweighted": replace(DELTA, calibration="coverage", nonconformity="raps", reweight=True),
    "sizes, aps": replace(DELTA, nonconformity="aps", nonempty="raise"),
    "whole pool": replace(DELTA, subpool_size=None),
    "small subpool": replace(DELTA, subpool_size=25),
    "subpool of one": replace(DELTA, subpool_size=1),
    "limit": replace(DELTA, pool_limit=50),
    "limit below budget": replace(DELTA, pool_limit=20),
    "raise": replace(DELTA, nonempty="raise"),
    "few clusters": replace(DELTA, max_clusters=3, subpool_size=60),
    "one cluster": replace(DELTA, max_clusters=1),
    "unweighted": replace(DELTA, weighted_coverage=False),
    "kappa": replace(DELTA, kappa=1),
    "sets": replace(DELTA, student_set_size=0.5, teacher_set_size=100.0, subpool_size=None),
}


@pytest.mark.parametrize(("name", "by"), thinned(4, list(CONFIGS), list(product(BACKENDS, [1, 20]))))
def test_configurations(pool, partly_labelled, name, by):
    backend, budget = by
    labels = partly_labelled(pool.y, 40)
    config = replace(CONFIGS[name], max_epochs=5)
    picks = cf.select(pool.x, budget, labels=labels, teacher=pool.teacher, config=config, backend=backend)
    if config.pool_limit is None or budget <= config.pool_limit:
        assert_valid(picks, budget, labels)
    assert picks.report.calibration == config.calibration


@pytest.mark.parametrize("n_unlabelled", [200, 0])
@pytest.mark.parametrize("config", ACQUISITIONS.values(), ids=ACQUISITIONS)
def test_a_limit_never_costs_picks(pool, config, n_unlabelled):
    """The budget is met also where the published cut of the pool would leave fewer rows."""
    labels = np.where(np.arange(300) < n_unlabelled, -1, pool.y)
    picks = cf.select(
        pool.x, 60, labels=labels, student_logits=pool.student_logits, config=replace(config, pool_limit=20)
    )
    assert_valid(picks, 60, labels)


# ---------------------------------------------------------------------------------------------------------------------
# Parity with the reference


class LogitsInASpace(cf.Teacher):
    """Logits of one's own and features in whose space coverage runs, so that both are the same numbers everywhere."""

    def __init__(self, features, logits):
        super().__init__(features, np.ones((logits.shape[1], features.shape[1])))
        self._of_rows = cf.Teacher.from_logits(logits)

    def logits(self, backend):
        return self._of_rows.logits(backend)


def noisy(y, n_classes, signal, rng):
    """Logits of which `signal` says how much they know of y, float32."""
    z = signal * np.eye(n_classes)[y] + rng.standard_normal((y.size, n_classes))
    return z.astype(np.float32)


def assert_as_expected(picks: cf.Selection, expected: reference.QueryResult, backend: str) -> None:
    np.testing.assert_array_equal(picks.indices, expected.indices, err_msg=backend)
    np.testing.assert_allclose(picks.scores, expected.scores, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(picks.represents, expected.represents)
    for name in ("q_student", "q_teacher", "mean_student_set", "mean_teacher_set", "trust"):
        found = getattr(picks.report, name)
        assert found == pytest.approx(getattr(expected, name), abs=1e-6, nan_ok=True), (name, backend)


@pytest.mark.processor
@pytest.mark.parametrize(("teacher", "name"), thinned(3, ["none", "logits", "features"], list(CONFIGS)))
def test_same_picks_as_the_reference(partly_labelled, teacher, name):
    seed = int(teacher == "features")
    rng = np.random.default_rng([seed, 7])
    features = rng.standard_normal((300, 11), dtype=np.float32) + 0.5
    v = rng.standard_normal((300, 7), dtype=np.float32) + 0.5
    y = rng.integers(9, size=300)
    z_s, z_t = noisy(y, 9, 1.0, rng), noisy(y, 9, 1.6, rng)
    labels = partly_labelled(y, 50, seed=seed)
    options = {"labels": labels, "student_logits": z_s, "config": CONFIGS[name], "random_state": seed}
    expected = reference.query(
        features,
        12,
        teacher_logits=None if teacher == "none" else z_t,
        teacher_features=v if teacher == "features" else None,
        **options,
    )
    if teacher != "none" and CONFIGS[name].acquisition == "trust":
        assert 1 <= expected.trust * 12 <= 11  # teacher and student lead some of the picks each
    of_teacher = {"none": None, "logits": cf.Teacher.from_logits(z_t), "features": LogitsInASpace(v, z_t)}
    for backend in BACKENDS:
        picks = cf.select(features, 12, teacher=of_teacher[teacher], backend=backend, **options)
        assert_as_expected(picks, expected, backend)
        assert picks.report.n_scored == expected.scored.size


SIGNALS = {"poor": (1.0, 0.0), "good": (1.0, 1.5), "perfect": (0.5, 9.0)}


@pytest.mark.processor
@pytest.mark.parametrize(
    ("acquisition", "signal", "n_classes", "budget"),
    thinned(6, ["coverage", "trust"], list(SIGNALS), [2, 7, 30], [1, 2, 30, 119, 120, 200]),
)
def test_same_picks_as_the_reference_for_any_budget(partly_labelled, acquisition, signal, n_classes, budget):
    rng = np.random.default_rng([n_classes, budget])
    y = rng.integers(n_classes, size=160)
    x, v = (rng.standard_normal((n_classes, d))[y] + rng.standard_normal((160, d)) for d in (10, 6))
    z_s, z_t = (noisy(y, n_classes, of_model, rng) for of_model in SIGNALS[signal])
    config = cf.CCMAConfig(acquisition=acquisition)
    options = {"labels": partly_labelled(y, 40), "student_logits": z_s, "config": config}
    expected = reference.query(x, budget, teacher_logits=z_t, teacher_features=v, **options)
    for backend in BACKENDS:
        picks = cf.select(x, budget, teacher=LogitsInASpace(v, z_t), backend=backend, **options)
        assert_as_expected(picks, expected, backend)


FIRST = {
    "default": cf.CCMAConfig(),
    "highest": cf.CCMAConfig(pick="highest", confident_share=0.6),
    "delta": DELTA,
}


@pytest.mark.processor
@pytest.mark.parametrize(
    ("labelled", "config", "teacher", "budget"),
    thinned(3, ["none", "one class"], list(FIRST), ["none", "logits", "features"], [1, 40, 300]),
)
def test_same_first_picks_as_the_reference(pool, labelled, config, teacher, budget):
    options = {"labels": LABELLED[labelled](pool.y), "config": FIRST[config], "random_state": 4}
    z_t = None if teacher == "none" else pool.teacher_logits
    v = pool.v if teacher == "features" else None
    expected = reference.query(pool.x, budget, teacher_logits=z_t, teacher_features=v, **options)
    of_teacher = {"none": None, "logits": cf.Teacher.from_logits(z_t) if teacher == "logits" else None}
    for backend in BACKENDS:
        given = LogitsInASpace(v, z_t) if teacher == "features" else of_teacher[teacher]
        picks = cf.select(pool.x, budget, teacher=given, backend=backend, **options)
        assert picks.report.mode == "cold start"
        assert_as_expected(picks, expected, backend)


def test_the_reference_fits_no_student(pool):
    with pytest.raises(ValueError, match="student_logits must be given with labels, got None and 300 labelled rows"):
        reference.query(pool.x, 3, labels=pool.y)


@pytest.mark.processor
@pytest.mark.parametrize(
    ("config", "seed"),
    thinned(3, [cf.CCMAConfig(), replace(TRUST, kappa=4), replace(DELTA, subpool_size=None, kappa=4)], [0, 1, 2]),
)
def test_same_picks_as_the_reference_in_the_teachers_space(pool, partly_labelled, config, seed):
    """The teacher's own cosines, which every backend computes for itself."""
    labels = partly_labelled(pool.y, 40, seed=seed)
    v, t = reference.unit_rows(pool.v), reference.unit_rows(pool.t)
    options = {"labels": labels, "student_logits": pool.student_logits, "config": config, "random_state": seed}
    expected = reference.query(pool.x, 12, teacher_logits=v @ t.T / 0.03, teacher_features=pool.v, **options)
    picks = cf.select(pool.x, 12, teacher=pool.teacher, backend="cpu", **options)
    np.testing.assert_array_equal(picks.indices, expected.indices)
    # The cosine is rounded to float32 before it is divided by τ.
    np.testing.assert_allclose(picks.scores, expected.scores, atol=2e-5)
    np.testing.assert_array_equal(picks.represents, expected.represents)


@pytest.mark.processor
def test_candidates_are_the_rows_of_largest_delta(pool, partly_labelled):
    labels = partly_labelled(pool.y, 40)
    unlabelled = np.flatnonzero(labels < 0)
    config = replace(DELTA, subpool_size=None, kappa=3)
    picks = cf.select(
        pool.x,
        10,
        labels=labels,
        student_logits=pool.student_logits,
        teacher=cf.Teacher.from_logits(pool.teacher_logits),
        config=config,
    )
    delta = cf.score(
        pool.student_logits,
        pool.teacher_logits,
        q_student=picks.report.q_student,
        q_teacher=picks.report.q_teacher,
    )
    candidates = unlabelled[reference.top_m(delta[unlabelled], 30)]
    assert np.isin(picks.indices, candidates).all()
    np.testing.assert_array_equal(picks.scores, delta[picks.indices])
    report = picks.report
    assert report.q_student == cf.target_size_threshold(pool.student_logits[unlabelled], 5.0)
    assert report.q_teacher == cf.target_size_threshold(pool.teacher_logits[unlabelled], 3.0)
    assert (report.n_rows, report.n_labelled, report.n_unlabelled) == (300, 40, 260)
    assert (report.n_scored, report.n_candidates, report.n_clusters) == (260, 30, 10)
    assert (report.n_classes, report.n_subpool_clusters) == (5, 0)


@pytest.mark.processor
def test_as_many_candidates_as_picks_come_in_order_of_delta(pool, partly_labelled):
    labels = partly_labelled(pool.y, 40)
    picks = cf.select(
        pool.x, 10, labels=labels, student_logits=pool.student_logits, config=replace(DELTA, kappa=1, subpool_size=None)
    )
    assert (np.diff(picks.scores) <= 0).all()
    assert (picks.represents == 1).all()


@pytest.mark.processor
def test_highest_takes_the_largest_delta_of_each_cluster(pool):
    nearest, highest = (
        cf.select(
            pool.x,
            10,
            student_logits=pool.student_logits,
            config=replace(DELTA, pick=pick, subpool_size=None),
            random_state=3,
        )
        for pick in ("nearest", "highest")
    )
    # The same clusters, heaviest first: each one's highest is at least its nearest.
    np.testing.assert_array_equal(nearest.represents, highest.represents)
    assert (highest.scores >= nearest.scores - 1e-6).all()
    assert highest.scores.sum() > nearest.scores.sum()


@pytest.mark.processor
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_coverage_calibration_uses_the_labelled_rows(pool, partly_labelled, acquisition):
    labels = partly_labelled(pool.y, 60)
    labelled = np.flatnonzero(labels >= 0)
    picks = cf.select(
        pool.x,
        10,
        labels=labels,
        student_logits=pool.student_logits,
        teacher=cf.Teacher.from_logits(pool.teacher_logits),
        config=cf.CCMAConfig(acquisition=acquisition, alpha=0.2),
    )
    for logits, q in ((pool.student_logits, picks.report.q_student), (pool.teacher_logits, picks.report.q_teacher)):
        scores = reference.nonconformity(logits)[labelled, labels[labelled]]
        assert q == pytest.approx(reference.coverage_threshold(scores, 0.2), abs=1e-9)


@pytest.mark.processor
def test_coverage_calibration_never_scores_a_row_by_a_student_fitted_on_it(pool, partly_labelled):
    """A student that remembers its training rows is certain of them, and of nothing else."""

    class Memory:
        def fit(self, X, y):
            self.seen = {row.tobytes(): c for row, c in zip(X, y, strict=True)}

        def predict_proba(self, X):
            p = np.full((len(X), 5), 0.2)
            for i, row in enumerate(X):
                if row.tobytes() in self.seen:
                    p[i] = np.eye(5)[self.seen[row.tobytes()]]
            return p

    labels = partly_labelled(pool.y, 50)
    for acquisition in ACQUISITIONS:
        config = cf.CCMAConfig(acquisition=acquisition)
        picks = cf.select(pool.x, 5, labels=labels, student=Memory(), teacher=pool.teacher, config=config)
        assert picks.report.q_student == pytest.approx(np.log(5), abs=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The report


def test_report(pool, partly_labelled):
    import json

    picks = cf.select(pool.x, 5, labels=partly_labelled(pool.y, 40), teacher=pool.teacher, backend="cpu")
    report = picks.report
    assert list(report.stages) == [
        "check",
        "subpool",
        "posteriors",
        "thresholds",
        "disagreement",
        "coverage",
    ]
    assert all(stage.seconds >= 0 and stage.bytes_read >= 0 for stage in report.stages.values())
    # The labelled rows first, and all others of the student once, when their posteriors are computed; the teacher's, of
    # which none is scored, are only validated. Training reads a sample, which all rows are here, and the labelled rows
    # of the teacher; the report compares both models on a sample, here all rows without a label.
    assert report.stages["check"].bytes_read == pool.x.nbytes * 40 // 300 + pool.v.nbytes
    trained = pool.x.nbytes + pool.v.nbytes * 340 // 300
    assert report.stages["posteriors"].bytes_read == pool.x.nbytes * 260 // 300 + trained
    assert report.stages["thresholds"].bytes_read == (pool.x.nbytes + pool.v.nbytes) * 260 // 300
    assert report.backend.startswith("cpu (")
    assert json.loads(json.dumps(report.to_dict()))["n_scored"] == report.n_scored
    for name in ("backend    cpu (", "teacher  ", "classes by the student", "by coverage", "MB read", "expected"):
        assert name in str(report)
    assert cf.select(pool.x, 5, backend="reference").report.backend.startswith("reference")


# ---------------------------------------------------------------------------------------------------------------------
# The published run


def test_paper_settings():
    """The published constants, and the default's differences from them."""
    paper, ours = cf.CCMAConfig.paper(), cf.CCMAConfig()
    assert ((paper.acquisition, paper.head), (ours.acquisition, ours.head)) == (
        ("delta", "published"),
        ("auto", "distilled"),
    )
    assert (ours.calibration, ours.alpha, ours.n_folds, ours.subpool_size) == ("coverage", 0.1, 3, None)
    assert (paper.pool_limit, paper.subpool_size, paper.rows_per_cluster, paper.max_clusters) == (
        50_000,
        10_000,
        10,
        5_000,
    )
    assert (paper.nonempty, paper.weighted_coverage, paper.pick) == ("raise", False, "nearest")
    assert (paper.student_set_size, paper.teacher_set_size, paper.temperature, paper.kappa) == (5, 3, 0.03, 20)
    assert (paper.dropout, paper.learning_rate, paper.weight_decay) == (0.75, 1e-2, 1e-2)
    assert (paper.max_epochs, paper.batch_size, paper.patience, paper.min_gain) == (400, 4096, 20, 1e-3)
    assert paper.calibration == "target_size"
    without_caps = replace(
        paper, pool_limit=None, rows_per_cluster=1, max_clusters=None, nonempty="top1", weighted_coverage=True
    )
    assert without_caps == DELTA
    changed = {"acquisition": "auto", "head": "distilled", "calibration": "coverage", "subpool_size": None}
    assert replace(DELTA, **changed) == ours


@pytest.mark.parametrize(
    ("dataset", "changed"),
    [
        ("food101", {}),
        ("caltech101", {}),
        ("cifar10", {"learning_rate": 1e-3}),
        ("cifar100", {"subpool_size": 20_000}),
        ("caltech256", {"subpool_size": 20_000}),
        ("domainnet-real", {"subpool_size": 30_000, "kappa": 10}),
    ],
)
def test_paper_data_sets(dataset, changed):
    assert cf.CCMAConfig.paper(dataset) == replace(cf.CCMAConfig.paper(), **changed)


@pytest.mark.parametrize(
    ("n", "budget", "rows", "clusters"),
    [
        (50_000, 100, 10_000, 5_000),  # S rows; n/10 and the cap are both 5,000
        (40_000, 100, 10_000, 4_000),  # n/10 clusters
        (30_000, 100, 10_000, 3_000),
        (29_999, 100, 9_999, 2_999),  # n/3 rows
        (3_000, 100, 1_000, 300),
        (300, 100, 100, 30),
        (240, 100, 100, 24),  # never fewer rows than the budget
        (90, 100, 90, 9),  # nor more than there are
    ],
)
def test_paper_subpool(n, budget, rows, clusters):
    """R = min(S, n/3) rows from min(R, n/10, 5,000) clusters."""
    paper = cf.CCMAConfig.paper()
    assert paper.subpool_rows(n, budget) == rows
    assert paper.cluster_count(n, rows) == clusters


@pytest.mark.parametrize(
    ("n_candidates", "budget", "clusters"), [(2_000, 100, 100), (500, 100, 50), (100_000, 6_000, 5_000), (5, 3, 1)]
)
def test_paper_coverage(n_candidates, budget, clusters):
    """min(B, m/10, 5,000) clusters for m candidates."""
    assert cf.CCMAConfig.paper().cluster_count(n_candidates, budget) == clusters


@pytest.mark.processor
def test_paper_steps_are_those_of_the_report(blobs):
    x, _ = blobs(900, 8, 4)
    z = np.random.default_rng(0).standard_normal((900, 4), dtype=np.float32)
    picks = cf.select(x, 30, student_logits=z, config=cf.CCMAConfig.paper())
    report = picks.report
    # 300 rows from 90 clusters, all of them candidates, and 30 picks from min(30, 300 / 10) clusters.
    assert (report.n_scored, report.n_subpool_clusters, report.n_candidates, report.n_clusters) == (300, 90, 300, 30)
    assert report.mean_student_set == 4.0
    limited = cf.select(x, 30, student_logits=z, config=replace(cf.CCMAConfig.paper(), pool_limit=600))
    assert limited.report.n_scored == 200
    assert limited.report.n_subpool_clusters == 60


def test_a_subpool_is_at_most_a_third_and_at_least_the_budget():
    assert [DELTA.subpool_rows(n, 100) for n in (10**6, 30_000, 3_000, 200, 50)] == [10_000, 10_000, 1_000, 100, 50]
    assert cf.CCMAConfig().subpool_rows(10**6, 100) == 10**6
    assert cf.CCMAConfig().cluster_count(10**6, 10_000) == 10_000
    assert cf.CCMAConfig().cluster_count(5, 10) == 5
