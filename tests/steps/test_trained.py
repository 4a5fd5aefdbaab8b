"""Student and teacher, trained together: what must not throw the choice of constants off."""

from __future__ import annotations

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.selection import Candidate, likeliest, simplest, stratified_folds, unseen
from ccma_fast.steps.temperature import likeliest_temperature
from ccma_fast.steps.train import train

C, N = 10, 2000


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features that tell little, logits that tell much, classes, and the labels of 40 rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(C, size=N)
    x = (0.4 * rng.standard_normal((C, 16))[y] + rng.standard_normal((N, 16))).astype(np.float32)
    z = (rng.standard_normal((N, C)) + 3.0 * np.eye(C)[y]).astype(np.float32)
    labels = np.full(N, -1)
    known = rng.permutation(N)[:40]
    labels[known] = y[known]
    return x, z, y, labels


@pytest.mark.parametrize("masked", [-100.0, -1e4, -1e9, float(np.finfo(np.float32).min / 8)])
def test_a_masked_class_does_not_cost_the_teacher_its_say(pool, masked: float) -> None:
    x, z, y, labels = pool
    both = np.concatenate([z, np.full((N, 1), masked, np.float32)], axis=1)
    p = cf.ActiveLearner(x, labels=labels, teacher=cf.Teacher.from_logits(both)).predict_proba()
    right = (p.argmax(axis=1) == y)[labels < 0].mean()
    assert right > (z.argmax(axis=1) == y)[labels < 0].mean() - 0.01


@pytest.mark.filterwarnings("ignore:the teacher's temperature")
@pytest.mark.parametrize(
    "scale", [1e-8, pytest.param(1e-6, marks=pytest.mark.slow), pytest.param(1e6, marks=pytest.mark.slow), 1e8]
)
def test_the_scale_of_a_teachers_logits_changes_nothing(pool, scale: float) -> None:
    x, z, _, labels = pool

    def learner(logits: np.ndarray) -> cf.ActiveLearner:
        return cf.ActiveLearner(x, labels=labels, teacher=cf.Teacher.from_logits(logits.astype(np.float32)))

    given, scaled = learner(z), learner(scale * z)
    np.testing.assert_allclose(scaled.predict_proba(), given.predict_proba(), atol=1e-4)
    expected, found = given.query(8), scaled.query(8)
    np.testing.assert_array_equal(found.indices, expected.indices)
    for name in ("penalty", "soft_weight", "correction_penalty"):
        assert getattr(found.report, name) == getattr(expected.report, name)
    for name in ("teacher_temperature", "likeliest_temperature"):
        assert getattr(found.report, name) == pytest.approx(scale * getattr(expected.report, name), rel=1e-5)


def test_logits_beyond_float32_are_refused_by_their_row(pool) -> None:
    x, z, _, labels = pool
    large = np.where(z > 0.0, 3e38, -3e38).astype(np.float32)
    with pytest.raises(ValueError, match=r"logits, less the largest of their row, must be finite, .* row"):
        cf.select(x, 5, labels=labels, teacher=cf.Teacher.from_logits(large))
    learner = cf.ActiveLearner(x, labels=labels, teacher=cf.Teacher.from_logits(z))
    with pytest.raises(ValueError, match="must be finite, got NaN or infinity at row 0"):
        learner.predict_proba(x[:2], cf.Teacher.from_logits(large[:2]))


def test_a_teacher_of_noise_is_left_out(pool) -> None:
    x, z, _, labels = pool
    noise = np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)
    report = cf.select(x, 5, labels=labels, teacher=cf.Teacher.from_logits(noise)).report
    assert report.soft_weight == 0.0
    assert report.correction_penalty == np.inf


def test_a_good_teacher_is_believed(pool) -> None:
    x, z, y, labels = pool
    teacher = cf.Teacher.from_logits(z)
    picks = cf.select(x, 5, labels=labels, teacher=teacher)
    assert picks.report.soft_weight > 0.0
    known = np.flatnonzero(labels >= 0)
    given = {"config": cf.CCMAConfig(), "rng": np.random.default_rng(0), "backend": choose_backend()}
    rows = open_rows(x, "x")
    with_teacher, alone = (
        train(None, rows, known, labels[known], C, teacher=t, teacher_source=t and t.source, **given)
        for t in (teacher, None)
    )
    of_both, of_labels = ((trained.student.predict(x) == y).mean() for trained in (with_teacher, alone))
    assert of_both > of_labels + 0.02


def test_the_simplest_within_a_standard_error_of_the_likeliest() -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal(100)
    noise = rng.standard_normal(100)
    near, far = base + 0.01 + noise, base + 1.0 + 0.1 * noise
    assert simplest([Candidate(0.0, base), Candidate(1.0, near)]).constant == 0.0
    assert simplest([Candidate(0.0, base), Candidate(1.0, far)]).constant == 1.0
    assert simplest([Candidate(0.0, base[:1]), Candidate(1.0, base[:1] + 9.0)]).constant == 0.0  # one row tells nothing


def test_a_path_is_left_once_the_likelihood_does_not_rise() -> None:
    asked: list[float] = []

    def at(constant: float) -> np.ndarray:
        asked.append(constant)
        return np.full(3, -abs(constant - 2.0))

    assert {found.constant for found in likeliest([0.0, 1.0, 2.0, 3.0, 4.0], at)} == {0.0, 1.0, 2.0, 3.0}
    assert asked == [0.0, 1.0, 2.0, 3.0]


def test_rows_whose_class_is_held_out_as_a_whole() -> None:
    labels = np.array([0, 0, 1, 2, 2, 2])
    fold = np.array([0, 1, 0, 1, 1, -1])
    assert unseen(labels, fold).tolist() == [False, False, True, False, False]
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=50)
    folds = stratified_folds(y, 3, rng)
    found = np.array([not (y[folds != folds[i]] == y[i]).any() for i in range(50)])
    assert (unseen(y, folds) == found).all()


def test_a_smoothed_temperature_has_a_maximum_where_no_row_is_wrong() -> None:
    z = np.array([[2.0, 0.0, -1.0], [3.0, 1.0, 0.0]])
    tau = likeliest_temperature(z, np.zeros(2, np.int64), pseudo_rows=1.0)
    scale = np.geomspace(1e-2, 1e2, 4001)

    def objective(beta: float) -> float:
        s = z - z.max(axis=1, keepdims=True)
        target = 2.0 / 3.0 * s[:, 0] + 1.0 / 3.0 * np.median(s, axis=1)
        return float((beta * target - np.log(np.exp(beta * s).sum(axis=1))).sum())

    best = scale[np.argmax([objective(beta) for beta in scale])]
    assert np.isclose(1.0 / tau, best, rtol=0.01)
