"""The default query under what pools, labels and teachers may be: it never fails, and no teacher makes it worse."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.train import train
from ccma_fast.steps.trained import Trained

from ..combinations import thinned

pytestmark = [pytest.mark.processor, pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")]

BACKENDS = ("cpu", "reference")
N, C = 400, 6


@pytest.fixture(scope="module")
def pool() -> SimpleNamespace:
    """Rows of 6 overlapping classes, 48 of them labelled, and 400 more to measure on."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((C, 10))
    y = rng.integers(C, size=2 * N)
    x = (1.2 * centres[y] + rng.standard_normal((2 * N, 10))).astype(np.float32)
    labels = np.full(N, -1)
    labels[:48] = y[:48]
    return SimpleNamespace(x=x[:N], y=y[:N], labels=labels, test_x=x[N:], test_y=y[N:])


def noise(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 4.0 * rng.standard_normal((y.size, C))


def right(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return 5.0 * np.eye(C)[y] + rng.standard_normal((y.size, C))


USELESS = {
    "noise": noise,
    "permuted classes": lambda y, rng: right((y + 1) % C, rng),
    "constant": lambda y, rng: np.ones((y.size, C)),
    "always one class": lambda y, rng: np.tile(20.0 * np.eye(C)[2], (y.size, 1)),
    "columns of -1e9": lambda y, rng: np.where(np.arange(C) % 2, -1e9, noise(y, rng)),
    "probabilities of noise": lambda y, rng: rng.dirichlet(np.ones(C), y.size),
}
OTHERS = {
    "probabilities as logits": lambda y, rng: 0.9 * np.eye(C)[y] + 0.1 / C,
    "a class that nobody has": lambda y, rng: np.concatenate([right(y, rng), noise(y, rng)[:, :1] + 3.0], axis=1),
    "right but for one class": lambda y, rng: np.where((y == 0)[:, None], noise(y, rng), right(y, rng)),
    "-1e9 where wrong": lambda y, rng: np.where(np.eye(C)[y] > 0, 0.0, -1e9),
}


def assert_valid(picks: cf.Selection, budget: int, labels: np.ndarray) -> None:
    free = np.flatnonzero(labels < 0)
    assert len(np.unique(picks.indices)) == len(picks.indices) == min(budget, free.size)
    assert np.isin(picks.indices, free).all()
    assert np.isfinite(picks.scores).all()
    assert (picks.represents >= 1).all()


@pytest.mark.parametrize(("kind", "backend"), thinned(2, [*USELESS, *OTHERS], BACKENDS))
def test_no_teacher_makes_the_query_fail(pool, kind, backend):
    z = {**USELESS, **OTHERS}[kind](pool.y, np.random.default_rng(1)).astype(np.float32)
    picks = cf.select(pool.x, 12, labels=pool.labels, teacher=cf.Teacher.from_logits(z), backend=backend)
    assert_valid(picks, 12, pool.labels)
    assert picks.report.mode == "query"
    assert 0.0 <= picks.report.student_share <= 1.0


def trained(x: np.ndarray, labels: np.ndarray, n_classes: int, z: np.ndarray | None, seed: int) -> Trained:
    teacher = None if z is None else cf.Teacher.from_logits(z.astype(np.float32))
    labelled = np.flatnonzero(labels >= 0)
    return train(
        None,
        open_rows(x, "features"),
        labelled,
        labels[labelled],
        n_classes,
        teacher=teacher,
        teacher_source=None if teacher is None else teacher.source,
        config=cf.CCMAConfig(),
        rng=np.random.default_rng(seed),
        backend=choose_backend("cpu"),
    )


def drawn_labels(pool: SimpleNamespace, seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """48 labels, and the generator that has drawn them."""
    rng = np.random.default_rng([seed, 9])
    labels = np.full(N, -1)
    known = rng.choice(N, 48, replace=False)
    labels[known] = pool.y[known]
    return labels, rng


def accuracy(pool: SimpleNamespace, labels: np.ndarray, z: np.ndarray | None, seed: int) -> float:
    """Of the student on other rows."""
    return float((trained(pool.x, labels, C, z, seed).student.predict(pool.test_x) == pool.test_y).mean())


@pytest.fixture(scope="module")
def accuracies_alone(pool: SimpleNamespace) -> list[float]:
    """Without a teacher, for each drawing of labels."""
    return [accuracy(pool, drawn_labels(pool, seed)[0], None, seed) for seed in range(8)]


@pytest.mark.parametrize("kind", USELESS)
def test_a_useless_teacher_costs_the_student_no_more_than_noise(pool, accuracies_alone, kind):
    """Over 8 drawings of 48 labels and of the teacher; the same labels and folds with and without it."""
    changes = []
    for seed, alone in enumerate(accuracies_alone):
        labels, rng = drawn_labels(pool, seed)
        changes.append(accuracy(pool, labels, USELESS[kind](pool.y, rng), seed) - alone)
    error = np.std(changes, ddof=1) / np.sqrt(len(changes))
    assert np.mean(changes) >= -2.0 * error - 0.005


def test_a_good_teacher_makes_a_better_student(pool):
    rng = np.random.default_rng(2)
    z = right(pool.y, rng)
    gains = []
    for seed in range(4):
        labels = np.full(N, -1)
        known = np.random.default_rng(seed).choice(N, 24, replace=False)
        labels[known] = pool.y[known]
        gains.append(
            np.subtract(
                *(
                    (trained(pool.x, labels, C, of, seed).student.predict(pool.test_x) == pool.test_y).mean()
                    for of in (z, None)
                )
            )
        )
    assert np.mean(gains) > 0.03


LABELS = {
    "two labels": lambda y: np.where(np.isin(np.arange(N), [int(np.flatnonzero(y == c)[0]) for c in (1, 4)]), y, -1),
    "two classes": lambda y: np.where((np.arange(N) < 90) & (y < 2), y, -1),
    "one of each": lambda y: np.where(np.isin(np.arange(N), np.unique(y, return_index=True)[1]), y, -1),
    "one against many": lambda y: np.where((y == 3) | (np.arange(N) == np.flatnonzero(y == 5)[0]), y, -1),
    "all but three": lambda y: np.where(np.arange(N) < N - 3, y, -1),
}


@pytest.mark.parametrize("with_teacher", [False, True], ids=["alone", "teacher"])
@pytest.mark.parametrize("head", ["distilled", "ridge"])
@pytest.mark.parametrize("labelled", LABELS)
def test_labels_of_every_kind(pool, labelled, head, with_teacher):
    labels = LABELS[labelled](pool.y)
    teacher = cf.Teacher.from_logits(right(pool.y, np.random.default_rng(0)).astype(np.float32))
    config = cf.CCMAConfig(head=head)
    picks = cf.select(pool.x, 7, labels=labels, teacher=teacher if with_teacher else None, config=config)
    assert_valid(picks, 7, labels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_small_pools(pool, backend):
    for n in (3, 5):
        labels = np.full(n, -1)
        labels[:2] = 0, 1
        teacher = cf.Teacher.from_logits(right(pool.y[:n], np.random.default_rng(0)).astype(np.float32))
        assert_valid(cf.select(pool.x[:n], 2, labels=labels, teacher=teacher, backend=backend), 2, labels)


def test_a_thousand_classes_and_three_labels(pool):
    labels = np.full(N, -1)
    labels[:3] = 7, 400, 999
    z = np.random.default_rng(0).standard_normal((N, 1000)).astype(np.float32)
    picks = cf.select(pool.x, 9, labels=labels, teacher=cf.Teacher.from_logits(z))
    assert_valid(picks, 9, labels)
    assert picks.report.n_classes == 1000


POOLS = {
    "all rows equal": lambda x: np.ones_like(x),
    "two distinct rows": lambda x: x[np.arange(len(x)) % 2],
    "1e-20": lambda x: x * np.float32(1e-20),
    "1e20": lambda x: x * np.float32(1e20),
    "largest of float16": lambda x: np.clip(x / np.abs(x).max() * 65504, -65504, 65504).astype(np.float16),
    "far from zero": lambda x: x + np.float32(1e4),
    "one column": lambda x: np.abs(x[:, :1]) + 1,
    "bfloat16": lambda x: torch.from_numpy(x).bfloat16(),
}


@pytest.mark.parametrize("kind", POOLS)
def test_pools_of_every_kind(pool, kind):
    x = POOLS[kind](pool.x)
    v = right(pool.y, np.random.default_rng(0)).astype(np.float32)
    for teacher in (None, cf.Teacher.from_logits(v), cf.Teacher(v, np.eye(C))):
        picks = cf.select(x, 9, labels=pool.labels, teacher=teacher)
        assert_valid(picks, 9, pool.labels)


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_the_students_scale_changes_no_pick(pool, scale):
    """A power of two changes no bit; any other no more than rounding."""
    power = np.float32(2.0 ** round(np.log2(scale)))
    expected, found = (cf.select(x, 9, labels=pool.labels).indices for x in (pool.x, pool.x * power))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_no_number_is_named(pool, backend, bad):
    """Every row is in the sample of so small a pool."""
    teacher = cf.Teacher.from_logits(right(pool.y, np.random.default_rng(0)).astype(np.float32))
    x = pool.x.copy()
    x[317, 2] = bad
    with pytest.raises(ValueError, match=r"features must be finite.* row 317"):
        cf.select(x, 5, labels=pool.labels, teacher=teacher, backend=backend)
    z = right(pool.y, np.random.default_rng(0)).astype(np.float32)
    z[317, 2] = bad
    with pytest.raises(ValueError, match=r"teacher_logits must be finite.* row 317"):
        cf.select(pool.x, 5, labels=pool.labels, teacher=cf.Teacher.from_logits(z), backend=backend)


@pytest.mark.parametrize("row", [4, 317], ids=["labelled", "unlabelled"])
def test_a_zero_row_of_the_teacher_is_refused(pool, row):
    v = right(pool.y, np.random.default_rng(0)).astype(np.float32)
    v[row] = 0.0
    with pytest.raises(ValueError, match=f"image_features must have a direction .* at row {row}$"):
        cf.select(pool.x, 5, labels=pool.labels, teacher=cf.Teacher(v, np.eye(C)))


@pytest.mark.parametrize("reweight", [False, True])
def test_of_many_labels_some_calibrate(reweight):
    """Of 1,800 labels the 600 of one fold are held out: scores and weights are of the same rows."""
    rng = np.random.default_rng(4)
    y = rng.integers(4, size=2400)
    x = (np.eye(4, 8)[y] + rng.standard_normal((2400, 8))).astype(np.float32)
    z = (1.5 * np.eye(4)[y] + rng.standard_normal((2400, 4))).astype(np.float32)
    labels = np.where(np.arange(2400) < 1800, y, -1)
    config = cf.CCMAConfig(reweight=reweight)
    report = cf.select(x, 5, labels=labels, teacher=cf.Teacher.from_logits(z), config=config).report
    found = trained(x, labels, 4, z, 0)
    assert found.held_out.rows.size == found.student_scores.size == 600
    assert 0.0 < report.q_teacher < np.inf
    assert 1.0 <= report.mean_teacher_set < report.mean_student_set + 1.0 < 5.0
