"""Thresholds for a target size: the exact order statistic, also where its search is made hard, and scores with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends import order_statistic
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cpu import scores as cpu_scores
from ccma_fast.backends.cpu import thresholds as cpu_thresholds
from ccma_fast.pool.open import open_rows

CPU = choose_backend("cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

pytestmark = pytest.mark.usefixtures("time_limit")


def stored(values: np.ndarray, dtype: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, np.float32)).to(DTYPES[dtype])


def chunk_of(tensor: torch.Tensor) -> np.ndarray:
    """The matrix as the C++ core takes it."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def count_at_most(tensor: torch.Tensor, q: float) -> int:
    """How many scores the backend's own sets hold when cut at q, the classes that fill empty sets not counted."""
    sets = CPU.prediction_sets(open_rows(tensor, "logits"), q)
    smallest, _ = _core.log_normalizers(chunk_of(tensor))
    return int(sets[smallest <= q].sum())


def assert_is_order_statistic(tensor: torch.Tensor, size: float, expected: float | None = None) -> None:
    """q is the ⌈k·M⌉-th smallest of the backend's own scores, and within 1e-6 of the reference's."""
    q = cf.target_size_threshold(tensor, size, backend="cpu")
    rank = reference.target_size_rank(size, *tensor.shape)
    assert count_at_most(tensor, q) >= rank
    assert count_at_most(tensor, math.nextafter(q, -math.inf)) < rank
    if expected is None:
        expected = reference.target_size_threshold(tensor.float().numpy(), size)
    # A score of several hundred has no more digits than float64 leaves to float32 logits.
    assert q == pytest.approx(expected, rel=0, abs=1e-6)


SHAPES = [
    (n_rows, n_classes)
    for n_classes in (2, 3, 10, 100, 257, 1000, 21_000)
    for n_rows in (1, 2, 31, 32, 33, 1000)
    if n_rows * n_classes <= 1_000_000
]
# One scale of each type, another one at the next shape. The rest: slow.
SCALES = (0.01, 1.0, 10.0, 80.0)
CASES = [
    pytest.param(
        *shape,
        dtype,
        scale,
        marks=[pytest.mark.slow] if (i + j + k) % len(SCALES) else [],
    )
    for i, shape in enumerate(SHAPES)
    for j, dtype in enumerate(DTYPES)
    for k, scale in enumerate(SCALES)
]


@pytest.mark.parametrize(("n_rows", "n_classes", "dtype", "scale"), CASES)
def test_target_size_threshold_is_exact(simd_levels, n_rows, n_classes, dtype, scale):
    rng = np.random.default_rng([n_rows, n_classes])
    tensor = stored(scale * rng.standard_normal((n_rows, n_classes)), dtype)
    size = min(3.0, 0.6 * n_classes)
    expected = reference.target_size_threshold(tensor.float().numpy(), size)
    for _ in simd_levels:
        assert_is_order_statistic(tensor, size, expected)


@pytest.mark.parametrize("size", [1e-300, 1e-9, 0.001, 0.5, 1, 1.0001, 2.5, 16.999, 17, 17.5, 1e6, 1e308])
@pytest.mark.parametrize("n_rows", [1, 64, 65])
def test_every_size(size, n_rows):
    tensor = stored(np.random.default_rng(0).standard_normal((n_rows, 17)), "float32")
    assert_is_order_statistic(tensor, size)
    assert cf.target_size_threshold(tensor, size, backend="cpu") == pytest.approx(
        cf.target_size_threshold(tensor, size, backend="reference"), abs=1e-6
    )


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_rank_is_the_ceiling_of_the_product_of_decimals(backend):
    """⌈1.1 · 10⌉ is 11 although the product of the two doubles lies above it."""
    z = np.random.default_rng(0).standard_normal((10, 5)).astype(np.float32)
    q = cf.target_size_threshold(z, 1.1, backend=backend)
    assert q == pytest.approx(np.sort(reference.nonconformity(z), axis=None)[10], abs=1e-6)


def equal_rows(rng: np.random.Generator) -> np.ndarray:
    return np.tile(rng.standard_normal(10), (500, 1))


def equal_logits(rng: np.random.Generator) -> np.ndarray:
    return np.zeros((500, 10))


def two_values(rng: np.random.Generator) -> np.ndarray:
    return np.where(rng.random((500, 10)) < 0.5, 0.0, 3.0)


def heavy_ties(rng: np.random.Generator) -> np.ndarray:
    z = rng.integers(3, size=(40, 10))
    return z[rng.integers(40, size=500)]


def easy_rows_first(rng: np.random.Generator) -> np.ndarray:
    z = 0.1 * rng.standard_normal((500, 10))
    z[:250, 0] += 60.0
    return z


def easy_rows_last(rng: np.random.Generator) -> np.ndarray:
    return easy_rows_first(rng)[::-1]


def sorted_by_difficulty(rng: np.random.Generator) -> np.ndarray:
    return np.linspace(0.0, 40.0, 500)[:, None] * rng.standard_normal((500, 10))


def hidden_from_the_sample(rng: np.random.Generator) -> np.ndarray:
    """A sample of evenly spaced rows sees one kind of row only."""
    z = 0.1 * rng.standard_normal((640, 10))
    z[np.arange(640) % 10 != 0] *= 300.0
    return z


def seen_by_the_sample_alone(rng: np.random.Generator) -> np.ndarray:
    z = 30.0 * rng.standard_normal((640, 10))
    z[np.arange(640) % 10 == 0] *= 1e-3
    return z


def one_row_unlike_the_rest(rng: np.random.Generator) -> np.ndarray:
    z = np.zeros((500, 10))
    z[333] = 50.0 * rng.standard_normal(10)
    return z


def one_row(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((1, 3000))


def one_number_many_times(rng: np.random.Generator) -> np.ndarray:
    """Between two numbers of the sample lies a score that more than half of all logits share."""
    z = rng.standard_normal((500, 10))
    z[rng.random(500) < 0.7] = np.arange(10) % 2
    return z


HARD = [
    equal_rows,
    equal_logits,
    two_values,
    heavy_ties,
    easy_rows_first,
    easy_rows_last,
    sorted_by_difficulty,
    hidden_from_the_sample,
    seen_by_the_sample_alone,
    one_row_unlike_the_rest,
    one_row,
    one_number_many_times,
]


@pytest.mark.parametrize("collect", [None, 1, 8, 100, 2000])
@pytest.mark.parametrize("make", HARD, ids=lambda make: make.__name__)
def test_hard_matrices(simd, monkeypatch, make, collect):
    """The search ends, and ends at the right number, also where one pass can keep only a handful of scores."""
    if collect is not None:
        monkeypatch.setattr(cpu_thresholds, "_COLLECT", collect)
    tensor = stored(make(np.random.default_rng(7)), "float32")
    for size in (0.01, 1, 5.5, 10):
        assert_is_order_statistic(tensor, size)


def test_a_small_budget_of_scores_takes_several_passes(monkeypatch, rng):
    """The test above means nothing unless the paths it is about are taken."""
    passes = []
    count = _core.scores_between

    def counted(*args):
        passes.append(args[1:3])
        return count(*args)

    z = rng.standard_normal((5000, 10)).astype(np.float32)
    monkeypatch.setattr(_core, "scores_between", counted)
    easy = cf.target_size_threshold(z, 3.0, backend="cpu")
    assert len(passes) == 3  # a few rows, more of them, and all rows once
    monkeypatch.setattr(cpu_thresholds, "_COLLECT", 8)
    passes.clear()
    assert cf.target_size_threshold(z, 3.0, backend="cpu") == easy
    assert len(passes) > 4


@pytest.mark.parametrize("seed", range(20))
def test_a_random_budget_of_scores(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(cpu_thresholds, "_COLLECT", int(rng.integers(1, 3000)))
    z = rng.standard_normal((int(rng.integers(1, 3000)), int(rng.integers(2, 40)))) * 10 ** rng.uniform(-2, 2)
    tensor = stored(np.round(z, int(rng.integers(0, 4))), str(rng.choice(list(DTYPES))))
    for size in rng.uniform(0.0, 1.1 * z.shape[1], size=3):
        assert_is_order_statistic(tensor, float(size))


@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_any_threads_chunks_and_layout(rng):
    z = rng.standard_normal((3000, 33)).astype(np.float32)
    expected = cf.target_size_threshold(z, 3.0, backend="cpu")
    for n_threads in (1, 2, 7):
        cf.set_num_threads(n_threads)
        for other in (z, np.asfortranarray(z), torch.from_numpy(z), z.astype(np.float64)):
            assert cf.target_size_threshold(other, 3.0, backend="cpu") == expected
    from ccma_fast.pool.open import open_rows

    for chunk_size in (1, 7, 64, None):
        assert CPU.target_size_threshold(open_rows(z, "z"), 3.0, chunk_size=chunk_size) == expected


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_mean_set_size_reaches_the_target(backend, rng):
    z = rng.standard_normal((700, 20)).astype(np.float32)
    for size in (1.5, 3, 5):
        q = cf.target_size_threshold(z, size, backend=backend)
        raw = (reference.nonconformity(z) <= q + 1e-6).sum()
        assert raw == math.ceil(size * 700)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_raise_leaves_no_set_empty(backend, rng):
    z = (rng.standard_normal((700, 20)) * rng.uniform(0, 3, size=(700, 1))).astype(np.float32)
    plain = cf.target_size_threshold(z, 2.0, backend=backend)
    raised = cf.target_size_threshold(z, 2.0, nonempty="raise", backend=backend)
    smallest = reference.nonconformity(z).min(axis=1)
    assert (smallest > plain).any()
    assert raised == pytest.approx(smallest.max(), abs=1e-6)
    # Sets at the raised threshold hold no fallback: lowering it by a hair would empty one.
    np.testing.assert_array_equal(
        cf.prediction_sets(z, raised, backend=backend), cf.prediction_sets(z, raised, nonempty="raise", backend=backend)
    )
    assert cf.target_size_threshold(z, 19.5, nonempty="raise", backend=backend) == cf.target_size_threshold(
        z, 19.5, backend=backend
    )


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds and scores in one pass


@pytest.mark.parametrize("nonempty", ["top1", "raise"])
@pytest.mark.parametrize("n_rows", [50, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_scores_at_sizes_are_thresholds_and_scores(n_rows, dtype, nonempty):
    rng = np.random.default_rng(n_rows)
    student, teacher = (2 * rng.standard_normal((n_rows, 12), dtype=np.float32).astype(dtype) for _ in range(2))
    found = cf.score_at_sizes(student, teacher, student_size=3, teacher_size=2.5, nonempty=nonempty, backend="cpu")
    thresholds = [cf.target_size_threshold(z, k, nonempty=nonempty) for z, k in ((student, 3), (teacher, 2.5))]
    assert (found.q_student, found.q_teacher) == tuple(thresholds)
    given = dict(zip(("q_student", "q_teacher"), thresholds, strict=True))
    np.testing.assert_array_equal(found.delta, cf.score(student, teacher, **given, nonempty=nonempty))
    twin = cf.score_at_sizes(student, teacher, student_size=3, teacher_size=2.5, nonempty=nonempty, backend="reference")
    np.testing.assert_allclose(found.delta, twin.delta, rtol=2e-6, atol=2e-6)
    assert found[1:] == pytest.approx(twin[1:], rel=1e-6)


@pytest.mark.parametrize("with_teacher", [True, False])
@pytest.mark.parametrize("deviations", [2.6, 0.0, 1000.0], ids=["likely", "missed", "wide"])
def test_thresholds_and_scores_in_one_pass(simd, with_teacher, deviations, monkeypatch):
    """The bits of thresholds first and scores after them, or nothing where the sample missed the threshold."""
    rng = np.random.default_rng(0)
    # Whole numbers, so that rows have ties; rows without any preference, whose sets are empty or full; large sets.
    logits = [np.round(3 * rng.standard_normal((3000, 41), dtype=np.float32)) for _ in range(2)]
    for z in logits:
        z[rng.integers(3000, size=300)] = 0.0
        z[rng.integers(3000, size=300)] *= 0.2
    student, teacher = (open_rows(z, "z") for z in logits)
    given = teacher if with_teacher else None
    q_student = CPU.target_size_threshold(student, 12.0)
    q_teacher = CPU.target_size_threshold(teacher, 2.5) if with_teacher else np.inf
    expected = CPU.score(student, given, q_student, q_teacher)
    assert expected.student_size.max() > 32, "sets that fill more than a lane's pairs"
    monkeypatch.setattr(order_statistic, "_LEAST_ROWS", 0)
    monkeypatch.setattr(order_statistic, "_SIZE_SAMPLED_SHARE", 15)
    monkeypatch.setattr(cpu_scores, "_SIZE_DEVIATIONS", deviations)
    for chunk_size in (None, 700):
        scores, times = reference.RowScores.empty(3000), np.zeros(3000, int)

        def put(rows, part, scores=scores, times=times):
            times[rows] += 1
            for ours, of_part in zip(scores, part, strict=True):
                ours[rows] = of_part

        found = CPU.score_at_sizes(student, given, 12.0, 2.5, put, chunk_size=chunk_size)
        if deviations == 0.0:
            assert found is None
            continue
        assert found == (q_student, q_teacher)
        assert set(times) == {1, 2} if deviations == 2.6 else {2}
        for ours, theirs in zip(scores, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    monkeypatch.setattr(cpu_scores, "_OPEN_BYTES", 0)
    monkeypatch.setattr(cpu_scores, "_OPEN_BYTES_OF_ROW", 1)
    assert CPU.score_at_sizes(student, given, 12.0, 2.5, put) is None, "open rows that memory has no room for"
    truth = [reference.target_size_threshold(z, size) for z, size in ((student, 12.0), (given, 2.5)) if z is not None]
    twin = reference.score(student, given, *truth)
    np.testing.assert_allclose(expected.delta, twin.delta, rtol=2e-6, atol=2e-6)
