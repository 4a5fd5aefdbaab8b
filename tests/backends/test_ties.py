"""Tied scores: a row is in the set at its own score, and rounding decides about no set, on any backend.

Votes, trees, nearest neighbours and teachers that only name a class give many rows the same scores, in another order of
their classes. The sums behind them round differently; sets must not.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows

from ..combinations import thinned

# Triton's interpreter computes with NumPy, also what is then masked.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

BACKENDS = ["cpu", "reference", "cuda"]
RULES = ["lac", "aps", "raps"]


def one_hot(rng: np.random.Generator, n: int, n_classes: int) -> np.ndarray:
    return 4 * np.eye(n_classes, dtype=np.float32)[rng.integers(n_classes, size=n)]


def votes(rng: np.random.Generator, n: int, n_classes: int) -> np.ndarray:
    return rng.integers(3, size=(n, n_classes)).astype(np.float32)


def forest(rng: np.random.Generator, n: int, n_classes: int) -> np.ndarray:
    share = rng.multinomial(10, rng.dirichlet(np.full(n_classes, 0.3)), size=n) / 10
    return np.log(share + 1e-3).astype(np.float32)


def steep(rng: np.random.Generator, n: int, n_classes: int) -> np.ndarray:
    """Largest and second largest logits far above the others, where sums of probabilities are nearly 1."""
    z = np.zeros((n, n_classes))
    z[:, 0], z[:, 1] = 25.0, 18.0
    return rng.permuted(z, axis=1).astype(np.float32)


COARSE = [one_hot, votes, forest, steep]


def drawn_labels(rng: np.random.Generator, z: np.ndarray) -> np.ndarray:
    p = np.exp(-reference.nonconformity(z))
    return np.minimum((p.cumsum(axis=1) < rng.random((len(z), 1))).sum(axis=1), z.shape[1] - 1)


DTYPES = [np.float64, np.float32, np.float16]
HAS_GPU = torch.cuda.is_available()


@pytest.mark.parametrize(
    ("backend", "rule", "dtype", "n_classes"),
    [
        *thinned(2, ["cpu", "reference"], RULES, DTYPES, [2, 3, 17, 257]),
        # All on a GPU; in the interpreter each rule and each type once of 2 and of 17 classes, and the rest: slow.
        *(
            pytest.param(*case, marks=() if HAS_GPU or i // 2 % 3 == (i // 6 + i % 2) % 3 else pytest.mark.slow)
            for i, case in enumerate(itertools.product(["cuda"], RULES, DTYPES, [2, 17]))
        ),
    ],
)
def test_a_row_is_in_the_set_at_its_own_score(rng, backend, rule, dtype, n_classes):
    n = 10 if backend == "cuda" else 40
    y, u = rng.integers(n_classes, size=n), rng.random(n)
    for make in (*COARSE, lambda rng, n, k: 5 * rng.standard_normal((n, k)), lambda rng, n, k: np.zeros((n, k))):
        z = make(rng, n, n_classes).astype(dtype)
        for of_rows in (None,) if rule == "lac" else (None, u):
            own = cf.nonconformity_scores(z, y, score=rule, u=of_rows)
            sets = cf.prediction_sets(z, own, score=rule, u=of_rows, backend=backend)
            assert sets[np.arange(n), y].all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", COARSE)
def test_permuted_rows_have_permuted_sets(simd_levels, rng, make, rule):
    """At any of its scores a row has the set of every row with the same logits in another order."""
    row = make(rng, 1, 37)[0]
    z = rng.permuted(np.tile(row, (32, 1)), axis=1)
    for q in np.unique(cf.nonconformity_scores(row[None], score=rule)):
        expected = int(cf.prediction_sets(row[None], q, score=rule, backend="reference").sum())
        for backend in ("reference", "cuda"):
            assert (cf.prediction_sets(z, q, score=rule, backend=backend).sum(axis=1) == expected).all()
    for level in simd_levels:
        for q in np.unique(cf.nonconformity_scores(row[None], score=rule)):
            sizes = cf.prediction_sets(z, q, score=rule, backend="cpu").sum(axis=1)
            assert (sizes == sizes[0]).all(), level


@pytest.mark.parametrize("n_classes", [2, 3, 7, 10, 100, 1000, 1199])
@pytest.mark.parametrize("backend", BACKENDS)
def test_uniform_rows_hold_every_class_at_their_only_score(backend, n_classes):
    z = np.zeros((4, n_classes), np.float32)
    q = cf.coverage_threshold(cf.nonconformity_scores(z, np.zeros(4, int)), 0.5)
    assert cf.prediction_sets(z, q, backend=backend).all()


@pytest.mark.parametrize("n_classes", [3, 100])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("make", [one_hot, votes, forest])
def test_coarse_scores_are_covered_as_promised(make, rule, n_classes):
    """Mean coverage over calibration sets of 100 rows, and the same sets from every backend."""
    rng = np.random.default_rng(1)
    covered = []
    for repetition in range(15):
        z = make(rng, 300, n_classes)
        y = drawn_labels(rng, z)
        q = cf.coverage_threshold(cf.nonconformity_scores(z[:100], y[:100], score=rule), 0.1)
        sets = cf.prediction_sets(z[100:], q, score=rule, backend="cpu")
        covered.append(sets[np.arange(200), y[100:]].mean())
        if repetition == 0:
            for backend in ("reference", "cuda"):
                other = cf.prediction_sets(z[100:200], q, score=rule, backend=backend)
                np.testing.assert_array_equal(other, sets[:100])
    # Three standard errors of the mean below what is promised at most.
    assert np.mean(covered) >= 0.9 - 3 * np.std(covered) / len(covered) ** 0.5


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("size", [1.0, 2.0, 3.0])
def test_a_target_size_takes_all_that_tie(backend, size, rng):
    z = one_hot(rng, 40, 10)
    q = cf.target_size_threshold(z, size, backend=backend)
    expected = 1 if size == 1.0 else 10
    assert (cf.prediction_sets(z, q, backend=backend).sum(axis=1) == expected).all()


def test_scores_at_sizes_hold_what_ties_with_both_thresholds(rng):
    """The pass that finds thresholds on its way decides about ties as the two steps do."""
    z_s, z_t = votes(rng, 3000, 12), forest(rng, 3000, 12)
    z_t[::2] += rng.standard_normal((1500, 12)).astype(np.float32)
    for sizes in ((1.0, 1.0), (2.5, 3.0), (5.0, 2.0)):
        found = cf.score_at_sizes(z_s, z_t, student_size=sizes[0], teacher_size=sizes[1], backend="cpu")
        thresholds = {"q_student": found.q_student, "q_teacher": found.q_teacher}
        np.testing.assert_array_equal(found.delta, cf.score(z_s, z_t, **thresholds, backend="cpu"))
        for backend in ("reference", "cuda"):
            of_some = cf.score(z_s[:200], z_t[:200], **thresholds, backend=backend)
            np.testing.assert_allclose(found.delta[:200], of_some, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------------------
# Saturated posteriors


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["aps", "raps"])
@pytest.mark.parametrize("gap", [30.0, 37.0, 80.0, 1000.0])
@pytest.mark.parametrize("n_classes", [2, 5, 1000])
def test_impossible_classes_stay_out_where_the_softmax_saturates(backend, rule, gap, n_classes):
    y = np.arange(6) % n_classes
    z = (gap * np.eye(n_classes)[y]).astype(np.float32)
    q = cf.coverage_threshold(cf.nonconformity_scores(z, y, score=rule), 0.2)
    np.testing.assert_array_equal(
        cf.prediction_sets(z, q, score=rule, backend=backend), np.eye(n_classes, dtype=bool)[y]
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", ["aps", "raps"])
def test_rows_whose_class_was_impossible_ask_for_all_classes(backend, rule):
    z = (80 * np.eye(7)[[0, 1, 2, 3]]).astype(np.float32)
    wrong = cf.nonconformity_scores(z, [1, 2, 3, 4], score=rule)
    right = cf.nonconformity_scores(z, [0, 1, 2, 3], score=rule)
    assert wrong.min() > right.max()
    assert cf.prediction_sets(z, cf.coverage_threshold(wrong, 0.5), score=rule, backend=backend).all()
    assert cf.prediction_sets(z, np.inf, score=rule, backend=backend).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_target_sizes_of_saturated_rows(backend, rng):
    z = (80 * np.eye(9)[rng.integers(9, size=50)]).astype(np.float32)
    for size in (0.5, 1.0, 2.0, 9.0):
        q = cf.target_size_threshold(z, size, score="aps", backend=backend)
        assert cf.prediction_sets(z, q, score="aps", backend=backend).sum(axis=1).max() == (1 if size <= 1 else 9)


# ---------------------------------------------------------------------------------------------------------------------
# Ranks


@pytest.mark.parametrize("n", [1, 9, 99, 12_345])
def test_the_rank_of_a_coverage_is_never_below_the_first(n):
    scores = np.arange(n, dtype=float)
    for alpha in (1 - 1e-12, 1 - 1e-15, np.nextafter(1.0, 0.0)):
        assert cf.coverage_threshold(scores, alpha) == 0.0
        one = cf.weighted_coverage_threshold(scores, alpha, np.ones(n), np.ones(1))
        np.testing.assert_array_equal(one, [0.0])


@pytest.mark.parametrize(
    ("n", "alpha", "rank"), [(9, 0.1, 9), (99, 0.1, 90), (99, 0.1 - 1e-12, 91), (6, 1 / 7, 6), (19, 0.05, 19)]
)
def test_the_rank_of_a_coverage_is_that_of_the_decimals(n, alpha, rank):
    assert cf.coverage_threshold(np.arange(1, n + 1), alpha) == rank


@pytest.mark.parametrize("size", [1.1, 0.3, 2.3, 4.1])
def test_the_rank_of_a_size_is_that_of_the_decimals(size):
    assert reference.target_size_rank(size, 10, 5) == round(10 * size)
    assert reference.target_size_rank(1e-300, 10, 5) == 1


# ---------------------------------------------------------------------------------------------------------------------
# In a query


def pool(rng: np.random.Generator, n_classes: int = 10, n: int = 80) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y = rng.integers(n_classes, size=n)
    x = (2.5 * np.eye(n_classes, 32)[y] + rng.standard_normal((n, 32))).astype(np.float32)
    return x, y, np.where(np.arange(n) < n // 2, y, -1)


@pytest.mark.parametrize("rule", RULES)
def test_a_teacher_that_only_names_a_class_is_trusted_alike_by_every_backend(rng, rule):
    x, y, labels = pool(rng, n=50)
    guess = np.where(rng.random(y.size) < 0.6, y, rng.integers(10, size=y.size))
    teacher = cf.Teacher.from_logits(4 * np.eye(10, dtype=np.float32)[guess])
    config = cf.CCMAConfig(acquisition="trust", head="published", nonconformity=rule, max_epochs=3)
    reports = [
        cf.select(x, 2, labels=labels, teacher=teacher, config=config, backend=backend).report for backend in BACKENDS
    ]
    for report in reports[1:]:
        assert report.mean_teacher_set == reports[0].mean_teacher_set
        assert report.trust == pytest.approx(reports[0].trust, abs=2e-3)


def test_a_student_of_nearest_neighbours_is_cut_alike_by_every_backend(rng):
    neighbors = pytest.importorskip("sklearn.neighbors")
    x, y, labels = pool(rng)
    teacher = cf.Teacher.from_logits((3 * np.eye(10)[y] + rng.standard_normal((y.size, 10))).astype(np.float32))
    reports = [
        cf.select(
            x, 2, labels=labels, teacher=teacher, student=neighbors.KNeighborsClassifier(5), backend=backend
        ).report
        for backend in BACKENDS
    ]
    for report in reports[1:]:
        assert report.mean_student_set == reports[0].mean_student_set
        assert report.trust == pytest.approx(reports[0].trust, abs=1e-9)
    assert 0.0 < reports[0].trust < 1.0


def test_thresholds_without_a_teacher_are_numbers_too(rng):
    z = rng.standard_normal((5, 3)).astype(np.float32)
    for name in ("q_student", "q_teacher"):
        with pytest.raises(ValueError, match=f"{name} must be a number .*got nan"):
            cf.score(z, None, **{"q_student": 1.0, "q_teacher": 1.0, name: np.nan})


def test_backends_cut_where_they_are_told(rng):
    """The slack for ties is in one place, ahead of every backend."""
    z = open_rows(votes(rng, 16, 5), "z")
    scores = reference.nonconformity(z)
    for backend in ("cpu", "reference", "cuda"):
        chosen = choose_backend(backend)
        for q in np.unique(scores.round(3)):
            below, above = (chosen.prediction_sets(z, q + step) for step in (-1e-5, 1e-5))
            filled = scores.min(axis=1) <= q - 1e-5
            np.testing.assert_array_equal(below[filled], (scores <= q - 1e-5)[filled])
            np.testing.assert_array_equal(above[filled], (scores <= q + 1e-5)[filled])
