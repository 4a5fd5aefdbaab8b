"""A minimum distance between picks, and a class distribution."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.steps.quotas import class_quotas

from ..combinations import thinned

BACKENDS = ("cpu", "reference")
CONFIGS = {
    "default": {},
    "coverage": {"acquisition": "coverage", "head": "ridge"},
    "trust": {"acquisition": "trust", "head": "published", "max_epochs": 5},
    "delta": {"acquisition": "delta", "head": "published", "max_epochs": 5, "calibration": "target_size"},
}
N, C = 180, 4
LABELLED = np.arange(0, N, 15)
PENDING = np.arange(1, N, 40)


@pytest.fixture(scope="module")
def pool(blobs):
    """60 images of 4 classes, each three times, nearly: features, a teacher, logits, and 12 labels."""
    x, y = blobs(N // 3, 10, C)
    rng = np.random.default_rng(0)
    x, y = np.repeat(x, 3, axis=0), np.repeat(y, 3)
    x = (x + 0.01 * rng.standard_normal(x.shape)).astype(np.float32)
    order = rng.permutation(N)
    x, y = x[order], y[order]
    labels = np.full(N, -1)
    labels[LABELLED] = y[LABELLED]
    v = x @ rng.standard_normal((10, 6), dtype=np.float32)
    t = np.stack([v[y == c].mean(axis=0) for c in range(C)])
    z = (2 * np.eye(C)[y] + rng.standard_normal((N, C))).astype(np.float32)
    return SimpleNamespace(x=x, y=y, v=v, t=t, teacher=cf.Teacher(v, t), labels=labels, z=z)


def select(pool: Any, budget: int, config: str = "default", **options: Any) -> cf.Selection:
    options = {"labels": pool.labels, "teacher": pool.teacher, **options}
    return cf.select(pool.x, budget, config=cf.CCMAConfig(**CONFIGS[config]), **options)


def distances(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of all pairs of unit rows, by their differences in float64."""
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(unit[:, None] - unit[None], axis=2))


def same(found: cf.Selection, expected: cf.Selection) -> None:
    for name in ("indices", "scores", "represents"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


# --- a minimum distance ---------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "cold", "backend"), thinned(2, list(CONFIGS), [False, True], BACKENDS))
def test_picks_are_far_from_each_other_and_what_is_covered(pool: Any, config: str, cold: bool, backend: str) -> None:
    """And as many as were asked for; of the whole pool, all that can be: no other row is far enough."""
    labels = None if cold else pool.labels
    known = PENDING if cold else np.union1d(LABELLED, PENDING)
    apart = distances(pool.x)
    for budget, least in ((12, 0.2), (30, 0.05), (N, 0.2), (N, 0.9), (1, 1.5)):
        picks = select(pool, budget, config, labels=labels, pending=PENDING, min_distance=least, backend=backend)
        rows = np.concatenate([known, picks.indices])
        among = apart[np.ix_(picks.indices, rows)]
        among[np.arange(len(picks)), known.size + np.arange(len(picks))] = 2.0
        assert len(picks) == 0 or among.min() >= least - 1e-6
        if len(picks) < budget:
            others = np.setdiff1d(np.arange(N), rows)
            assert apart[np.ix_(others, rows)].min(axis=1).max() < least
        assert picks.scores.shape == picks.represents.shape == picks.indices.shape
        assert (picks.represents >= 1).all()
        assert picks.represents.sum() <= picks.report.n_candidates
        assert np.unique(picks.indices).size == len(picks)
        assert not np.isin(picks.indices, known).any()
        assert picks.report.n_too_near <= N - rows.size
    assert 0 < len(select(pool, N, config, labels=labels, min_distance=0.2)) <= N // 3


@pytest.mark.parametrize(("config", "cold", "backend"), thinned(2, list(CONFIGS), [False, True], BACKENDS))
def test_a_distance_that_all_rows_have_changes_no_pick(pool: Any, config: str, cold: bool, backend: str) -> None:
    """Nor does 0, which is off."""
    options: dict[str, Any] = {"labels": None if cold else pool.labels, "backend": backend}
    expected = select(pool, 9, config, **options)
    same(select(pool, 9, config, min_distance=0.0, **options), expected)
    found = select(pool, 9, config, min_distance=1e-6, **options)
    same(found, expected)
    assert found.report.n_too_near == 0
    assert "passed over" not in str(found.report)


@pytest.mark.parametrize("config", CONFIGS)
def test_of_equal_images_one_is_picked(pool: Any, config: str) -> None:
    """At any distance above 0, whatever their lengths, which rounding changes."""
    lengths = np.random.default_rng(1).uniform(0.1, 10.0, (N, 1))
    x = (pool.x[np.arange(N) % 20] * lengths).astype(np.float32)
    copies = SimpleNamespace(**{**vars(pool), "x": x})
    for labels in (None, pool.labels):
        for least in (1e-12, 1e-3):
            picks = select(copies, N, config, labels=labels, min_distance=least)
            assert np.unique(picks.indices % 20).size == len(picks)
            known = np.empty(0, int) if labels is None else LABELLED % 20
            assert np.union1d(picks.indices % 20, known).size == 20
            assert f"{picks.report.n_too_near} rows passed over, nearer than min_distance\n" in str(picks.report)


def test_rows_at_the_very_distance_are_far_enough() -> None:
    """Orthogonal rows at sqrt(2), and opposite ones at 2."""
    x = np.eye(8, dtype=np.float32)
    assert len(cf.select(x, 8, min_distance=2**0.5)) == 8
    assert len(cf.select(x, 8, min_distance=2**0.5 + 1e-5)) == 1
    ends = np.repeat([[1.0, 2.0, 3.0], [-2.0, -4.0, -6.0]], 3, axis=0)
    assert len(cf.select(ends, 6, min_distance=2.0)) == 2


@pytest.mark.parametrize("least", [0.2, 0.6, 1.0])
def test_the_students_picks_are_the_greedy_ones_that_are_far_enough(pool: Any, least: float) -> None:
    """By trying every row each time, in float64: every selectable row is a candidate here."""
    picks = select(
        pool, 14, teacher=None, student_logits=pool.z, pending=PENDING, min_distance=least, config="coverage"
    )
    known = np.union1d(LABELLED, PENDING)
    free = np.setdiff1d(np.arange(N), known)
    margin = reference.score(pool.z[free].astype(np.float64)).margin
    weights, apart = 1.0 - margin.astype(np.float64), distances(pool.x)
    nearest, chosen = (apart[np.ix_(free, known)] ** 2).min(axis=1), []
    to_others = apart[np.ix_(free, free)]
    may = apart[np.ix_(free, known)].min(axis=1) >= least
    while len(chosen) < 14 and may.any():
        gains = (weights[:, None] * np.maximum(nearest[:, None] - to_others**2, 0.0)).sum(axis=0)
        best = int(np.where(may, gains, -1.0).argmax())
        chosen.append(best)
        nearest = np.minimum(nearest, to_others[:, best] ** 2)
        may &= to_others[:, best] >= least
    assert picks.indices.tolist() == free[chosen].tolist()


def test_a_permuted_pool_gives_the_same_images(pool: Any) -> None:
    order = np.random.default_rng(3).permutation(N)
    options: dict[str, Any] = {"config": cf.CCMAConfig(acquisition="coverage"), "min_distance": 0.3}
    exclude, pending = np.arange(5, 40), np.arange(45, 60)
    inverse = np.argsort(order)
    expected = cf.select(
        pool.x, 12, labels=pool.labels, student_logits=pool.z, exclude=exclude, pending=pending, **options
    )
    found = cf.select(
        pool.x[order],
        12,
        labels=pool.labels[order],
        student_logits=pool.z[order],
        exclude=inverse[exclude],
        pending=inverse[pending],
        **options,
    )
    assert order[found.indices].tolist() == expected.indices.tolist()


def test_further_candidates_follow_where_these_run_out() -> None:
    """The most uncertain rows are all of one image."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((400, 6)).astype(np.float32)
    x[:300] = x[0] + 1e-4 * rng.standard_normal((300, 6)).astype(np.float32)
    z = np.where(np.arange(400)[:, None] < 300, 0.0, [[4.0, 0.0, 0.0]]) + 1e-3 * rng.standard_normal((400, 3))
    labels = np.where(np.arange(400) >= 380, np.arange(400) % 3, -1)
    for acquisition in ("coverage", "delta"):
        config = cf.CCMAConfig(
            acquisition=acquisition, student_kappa=5, kappa=5, candidate_limit=20, calibration="target_size"
        )
        picks = cf.select(x, 10, labels=labels, student_logits=z, config=config, min_distance=0.05)
        assert len(picks) == 10
        assert np.count_nonzero(picks.indices < 300) == 1
        assert (np.diff(picks.scores[1:]) <= 0).all()  # most uncertain first


@pytest.mark.parametrize("value", [-0.1, 2.1, np.nan, np.inf])
def test_distances_that_are_refused(pool: Any, value: float) -> None:
    with pytest.raises(ValueError, match="min_distance must be"):
        select(pool, 3, min_distance=value)


@pytest.mark.parametrize("value", [True, "0.1", [0.1]])
def test_distances_of_the_wrong_type(pool: Any, value: Any) -> None:
    with pytest.raises(TypeError, match="min_distance must be a number"):
        cf.plan(pool.x, 3, min_distance=value)


# --- a class distribution -------------------------------------------------------------------------

SHARES = np.array([0.5, 0.3, 0.2, 0.0])


@given(st.data(), st.integers(1, 6))
def test_quotas(data: Any, n_classes: int) -> None:
    """As in the reference; at most the rows that are there; balanced where the shares are equal."""
    counts = st.lists(st.integers(0, 9), min_size=n_classes, max_size=n_classes)
    available, labelled = data.draw(counts), data.draw(counts)
    shares = data.draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0]), min_size=n_classes, max_size=n_classes))
    budget = data.draw(st.integers(0, sum(available)))
    quotas = class_quotas(available, labelled, budget, shares)
    np.testing.assert_array_equal(quotas, reference.class_quotas(available, labelled, budget, shares))
    assert quotas.sum() == budget
    assert (quotas <= available).all()
    equal = class_quotas(available, labelled, budget, np.full(n_classes, 0.3))
    np.testing.assert_array_equal(equal, class_quotas(available, labelled, budget))
    first = np.array(shares) > 0.0
    if (quotas[~first] > 0).any():  # classes of share 0 come last
        np.testing.assert_array_equal(quotas[first], np.array(available)[first])


def test_quotas_fill_up_what_the_labels_lack() -> None:
    many = np.full(4, 1000)
    assert class_quotas(many, np.zeros(4, int), 100, SHARES).tolist() == [50, 30, 20, 0]
    assert class_quotas(many, np.array([40, 30, 0, 5]), 30, SHARES).tolist() == [10, 0, 20, 0]
    assert class_quotas([1000, 4, 1000, 9], np.zeros(4, int), 100, SHARES).tolist() == [69, 4, 27, 0]


@pytest.mark.parametrize(
    ("config", "backend", "least"), thinned(2, ["coverage", "trust", "delta"], BACKENDS, [None, 0.05])
)
def test_picks_are_divided_by_the_students_classes(pool: Any, config: str, backend: str, least: float | None) -> None:
    options: dict[str, Any] = {"teacher": None, "student_logits": pool.z, "backend": backend, "min_distance": least}
    predicted = pool.z.argmax(axis=1)
    free = np.flatnonzero(pool.labels < 0)
    already = np.bincount(pool.labels[LABELLED], minlength=C)
    for shares in (SHARES, np.ones(C), [0.0, 0.0, 0.0, 1.0]):
        picks = select(pool, 16, config, class_distribution=shares, **options)
        quotas = class_quotas(np.bincount(predicted[free], minlength=C), already, 16, shares)
        assert np.bincount(predicted[picks.indices], minlength=C).tolist() == quotas.tolist()
        assert len(np.unique(picks.indices)) == 16
        assert (picks.represents >= 1).all()
        assert picks.represents.sum() <= picks.report.n_candidates
    every = select(pool, N, config, class_distribution=SHARES, **{**options, "min_distance": None})
    assert np.sort(every.indices).tolist() == free.tolist()


@pytest.mark.parametrize(("config", "backend", "least"), thinned(2, list(CONFIGS), BACKENDS, [None, 0.05]))
def test_first_picks_are_divided_by_the_teachers_classes(
    pool: Any, config: str, backend: str, least: float | None
) -> None:
    unit = (of / np.linalg.norm(of, axis=1, keepdims=True) for of in (pool.v, pool.t))
    v, t = unit
    predicted = (v @ t.T).argmax(axis=1)
    for labels, pending in ((None, None), (None, PENDING), (np.where(pool.labels == 1, 1, -1), PENDING)):
        options = {"labels": labels, "pending": pending, "min_distance": least, "backend": backend}
        picks = select(pool, 16, config, class_distribution=SHARES, **options)
        taken = np.zeros(N, bool) if pending is None else np.isin(np.arange(N), pending)
        already = np.zeros(C, int)
        if labels is not None:
            taken |= labels >= 0
            already = np.bincount(labels[labels >= 0], minlength=C)
        quotas = class_quotas(np.bincount(predicted[~taken], minlength=C), already, 16, SHARES)
        assert picks.report.mode == "cold start"
        assert np.bincount(predicted[picks.indices], minlength=C).tolist() == quotas.tolist()
        assert not taken[picks.indices].any()


def test_a_balanced_distribution_is_what_a_teacher_that_leads_has_anyway(pool: Any) -> None:
    for labels in (None, np.where(pool.labels == 1, 1, -1)):
        same(
            select(pool, 9, "trust", labels=labels, class_distribution=np.ones(C)),
            select(pool, 9, "trust", labels=labels),
        )


def test_teacher_and_student_fill_the_classes_together(pool: Any) -> None:
    """The student's quotas count the rows that the teacher leads."""
    z_teacher = (2.5 * np.eye(C)[pool.y] + np.random.default_rng(5).standard_normal((N, C))).astype(np.float32)
    picks = select(
        pool,
        30,
        "trust",
        teacher=cf.Teacher.from_logits(z_teacher),
        student_logits=pool.z,
        class_distribution=[1, 1, 1, 0],
        pending=PENDING,
    )
    n_led = int(picks.report.trust * 30 + 0.5)
    assert 0 < n_led < 30
    called = np.where(np.arange(30) < n_led, *(z.argmax(axis=1)[picks.indices] for z in (z_teacher, pool.z)))
    counts = np.bincount(np.concatenate([called, pool.labels[LABELLED]]), minlength=C)
    assert counts[:3].max() - counts[:3].min() <= 1
    assert counts[3] == np.count_nonzero(pool.labels == 3)


def test_what_a_class_cannot_fill_for_its_distance_goes_to_the_others(pool: Any) -> None:
    """All rows of the wanted class are one image."""
    x = pool.x.copy()
    predicted = pool.z.argmax(axis=1)
    x[predicted == 0] = x[0]
    copies = SimpleNamespace(**{**vars(pool), "x": x})
    options: dict[str, Any] = {"teacher": None, "labels": None, "student_logits": pool.z}
    for config in ("coverage", "trust", "delta"):
        picks = select(copies, 12, config, class_distribution=[1, 0, 0, 0], min_distance=0.05, **options)
        assert len(picks) == 12
        assert np.count_nonzero(predicted[picks.indices] == 0) == 1


def test_every_form_of_a_distribution(pool: Any, tmp_path: Path) -> None:
    names = ["cat", "dog", "owl", "hen"]
    expected = select(pool, 9, class_distribution=SHARES, class_names=names)
    (tmp_path / "list.json").write_text("[5, 3, 2, 0]")
    (tmp_path / "names.json").write_text('{"owl": 2, "cat": 5, "dog": 3}')
    np.save(tmp_path / "shares.npy", SHARES)
    for form in (
        [5, 3, 2, 0],
        {"cat": 0.5, "dog": 0.3, "owl": 0.2},
        {"owl": 2e200, "cat": 5e200, "dog": 3e200, "hen": 0},
        pandas.Series([0.3, 0.5, 0.2], index=["dog", "cat", "owl"]),
        tmp_path / "list.json",
        str(tmp_path / "names.json"),
        tmp_path / "shares.npy",
    ):
        same(select(pool, 9, class_distribution=form, class_names=names), expected)
    same(select(pool, 9, class_distribution={0: 5, 1: 3, 2: 2}), expected)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([1, 2], ValueError, "must have a share for each of the 4 classes, got 2"),
        ([1, -1, 0, 0], ValueError, "must be finite and not negative, got -1 for class 1"),
        ([1, np.nan, 0, 0], ValueError, "got nan for class 1"),
        ([0, 0, 0, 0], ValueError, "must have a share above 0"),
        ({}, ValueError, "must have a share above 0"),
        ({"cow": 1}, ValueError, "the classes of class_distribution must be class names.*got 'cow'"),
        ({"cat": 1, 0: 2}, ValueError, "must have one share for a class, got several for class 0"),
        ({None: 1}, ValueError, "must be of classes, got None"),
        ({4: 1}, ValueError, "got 4"),
        ({"cat": "many"}, TypeError, "must be real numbers"),
        ([True, False, False, False], TypeError, "must be real numbers"),
        ("shares.csv", cf.FileReadError, "expected a .npy or .json file"),
        ("none.json", cf.FileReadError, "no file 'none.json'"),
    ],
)
def test_distributions_that_are_refused(pool: Any, given: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        select(pool, 3, class_distribution=given, class_names=["cat", "dog", "owl", "hen"])


def test_without_a_model_there_are_no_classes(pool: Any) -> None:
    for labels in (None, np.where(pool.labels == 1, 1, -1)):
        with pytest.raises(ValueError, match="class_distribution needs a model that predicts classes"):
            cf.select(pool.x, 3, labels=labels, class_distribution=SHARES, class_names=list("abcd"))
