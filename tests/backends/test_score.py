"""δ, the sets and their sizes: every instruction set against the reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows

CPU = choose_backend("cpu")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SHAPES = [
    (n_rows, n_classes)
    for n_classes in (2, 3, 10, 100, 257, 1000, 21_000)
    for n_rows in (0, 1, 2, 31, 32, 33, 1000)
    if n_rows * n_classes <= 1_000_000
]
# One scale of each type, another one at the next shape. The rest: slow, and of large shapes left out.
SCALES = (0.01, 1.0, 10.0, 80.0)
CASES = [
    pytest.param(*shape, dtype, scale, marks=[pytest.mark.slow] if (i + j + k) % len(SCALES) else [])
    for i, shape in enumerate(SHAPES)
    for j, dtype in enumerate(DTYPES)
    for k, scale in enumerate(SCALES)
    if shape[0] * shape[1] <= 50_000 or (i + j + k) % len(SCALES) == 0
]
INF = float("inf")

# A score that lies so close to its threshold may fall on either side: rounding, not the method, decides.
NEAR = 1e-6


def logits_of(n_rows: int, n_classes: int, dtype: str, scale: float, *, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng([seed, n_rows, n_classes])
    values = scale * rng.standard_normal((n_rows, n_classes), dtype=np.float32)
    return torch.from_numpy(values).to(DTYPES[dtype])


def widened(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().numpy()


def between_scores(logits: np.ndarray, size: float) -> float:
    """A threshold for sets of about `size` classes on average, in the middle of the widest gap between scores there."""
    a = reference.nonconformity(logits).reshape(-1)
    if a.size == 0:
        return 1.0
    rank = size * len(logits)
    low, high = int(0.8 * rank), int(1.25 * rank) + 2
    a = np.sort(np.partition(a, min(high, a.size - 1))[:high])
    at = low + int(np.diff(a[low:]).argmax())
    return float(a[at] + a[at + 1]) / 2


def near_threshold(logits: np.ndarray, q: float) -> np.ndarray:
    """Which scores, of shape (M, C), lie within `NEAR` of q."""
    return np.abs(reference.nonconformity(logits) - q) <= NEAR


def assert_agree(
    found: reference.RowScores, expected: reference.RowScores, rows: np.ndarray | slice, note: object = ""
) -> None:
    """The same scores in all of `rows`: real numbers within 2e-6 + 2e-6 of their own, whole ones exactly."""
    for name, part, whole in zip(found._fields, found, expected, strict=True):
        assert part.dtype == whole.dtype, name
        if part.dtype.kind == "f":
            np.testing.assert_allclose(part[rows], whole[rows], rtol=2e-6, atol=2e-6, err_msg=f"{name} {note}")
        else:
            np.testing.assert_array_equal(part[rows], whole[rows], err_msg=f"{name} {note}")


@pytest.mark.parametrize(("n_rows", "n_classes", "dtype", "scale"), CASES)
def test_scores_and_sets_agree_with_the_reference(simd_levels, n_rows, n_classes, dtype, scale):
    student = logits_of(n_rows, n_classes, dtype, scale)
    teacher = logits_of(n_rows, n_classes, dtype, scale, seed=1)
    z_s, z_t = widened(student), widened(teacher)
    q_s, q_t = between_scores(z_s, min(5.0, 0.6 * n_classes)), between_scores(z_t, min(3.0, 0.45 * n_classes))
    cut_s, cut_t = reference.up_to_ties(q_s), reference.up_to_ties(q_t)
    expected = reference.score(z_s, z_t, cut_s, cut_t)
    sets = reference.prediction_sets(z_s, cut_s)
    clear_s = ~near_threshold(z_s, cut_s).any(axis=1)
    clear = clear_s & ~near_threshold(z_t, cut_t).any(axis=1)
    # Few rows may be left out, else the comparison would say nothing.
    assert (~clear).sum() <= n_rows // 20

    for level in simd_levels:
        found = CPU.score(open_rows(student, "s"), open_rows(teacher, "t"), cut_s, cut_t)
        assert_agree(found, expected, clear, level)
        np.testing.assert_array_equal(
            cf.score(student, teacher, q_student=q_s, q_teacher=q_t, backend="cpu"), found.delta
        )
        of_sets = cf.prediction_sets(student, q_s, backend="cpu")
        assert of_sets.dtype == np.bool_
        np.testing.assert_array_equal(of_sets[clear_s], sets[clear_s], err_msg=level)
        np.testing.assert_array_equal(of_sets.sum(axis=1), found.student_size)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_rows", "n_classes"), [(33, 2), (31, 17), (32, 257), (2, 21_000)])
def test_without_a_teacher_the_score_is_the_entropy(simd_levels, n_rows, n_classes, dtype, scale):
    student = logits_of(n_rows, n_classes, dtype, scale)
    expected = reference.score(widened(student))
    probabilities = np.exp(-reference.nonconformity(widened(student)))
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum(axis=1)
    for level in simd_levels:
        found = CPU.score(open_rows(student, "s"))
        assert_agree(found, expected, slice(None), level)
        np.testing.assert_allclose(found.delta, entropy, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("q_s", "q_t"), [(INF, INF), (-INF, -INF), (-1.0, -1.0), (INF, -1.0), (-1.0, INF), (0.0, 0.0), (1e-300, 1e300)]
)
@pytest.mark.parametrize("n_classes", [2, 10, 257])
def test_thresholds_that_admit_everything_or_nothing(simd_levels, n_classes, q_s, q_t):
    z_s, z_t = (
        widened(logits_of(33, n_classes, "float32", 3.0)),
        widened(logits_of(33, n_classes, "float32", 3.0, seed=1)),
    )
    expected = reference.score(z_s, z_t, q_s, q_t)
    for level in simd_levels:
        found = CPU.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q_s, q_t)
        assert_agree(found, expected, slice(None), level)
        sets = cf.prediction_sets(z_s, q_s, backend="cpu")
        np.testing.assert_array_equal(sets, reference.prediction_sets(z_s, q_s))
        if q_s <= 0.0:  # empty everywhere: the most probable class alone
            np.testing.assert_array_equal(sets, np.arange(n_classes) == z_s.argmax(axis=1)[:, None])
        if q_s == INF:
            assert sets.all()


def ties(n_classes: int) -> np.ndarray:
    """Rows in which several classes are the most probable."""
    z = np.random.default_rng(3).integers(3, size=(40, n_classes)).astype(np.float32)
    z[:, :2] = 2.0
    return z


def one_hot(n_classes: int) -> np.ndarray:
    """Rows that are certain: all other probabilities underflow."""
    z = np.full((40, n_classes), -1e4, np.float32)
    z[np.arange(40), np.arange(40) % n_classes] = 1e4
    return z


@pytest.mark.parametrize("n_classes", [2, 3, 16, 17, 257])
@pytest.mark.parametrize(
    "make",
    [
        lambda c: np.zeros((40, c), np.float32),
        lambda c: np.full((40, c), 77.0, np.float32),
        ties,
        one_hot,
        lambda c: np.tile(np.array([3e38, -3e38], np.float32), (40, c))[:, :c],
        lambda c: np.tile(np.array([-1e-6, 1e-6], np.float32), (40, c))[:, :c],
    ],
    ids=["zero", "equal", "ties", "one-hot", "huge", "nearly equal"],
)
def test_degenerate_rows(simd_levels, make, n_classes):
    z_s = make(n_classes)
    z_t = np.ascontiguousarray(z_s[:, ::-1])
    for q in (-1.0, 0.0, 0.7, 5.0, INF):
        expected = reference.score(z_s, z_t, q, q)
        # Scores on the threshold itself, such as ln 2 of two equal classes, are not what is asked here.
        assert not near_threshold(z_s, q).any() or q == 0.0
        for _ in simd_levels:
            found = CPU.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q, q)
            assert_agree(found, expected, slice(None), q)
            np.testing.assert_array_equal(
                cf.prediction_sets(z_s, q, backend="cpu"), reference.prediction_sets(z_s, q), err_msg=str(q)
            )
            assert np.isfinite(found.delta).all()


def test_fallback_of_an_empty_set_is_the_lowest_most_probable_class(simd):
    z = np.full((3, 40), -1.0, np.float32)
    z[0, [37, 5]] = z[1, [16, 15]] = z[2, [39, 0]] = 1.0
    np.testing.assert_array_equal(cf.prediction_sets(z, -1.0, backend="cpu").argmax(axis=1), [5, 15, 0])
    assert (cf.prediction_sets(z, -1.0, backend="cpu").sum(axis=1) == 1).all()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_fallback_is_the_class_of_the_largest_logit_however_small_the_difference(backend):
    """Where the scores of two classes round to one number, their logits still tell which is more probable."""
    z = np.array([[0.0, 1e-36], [-1e-42, 1e-42]], np.float32)
    assert cf.prediction_sets(z, -1.0, backend=backend).tolist() == [[False, True], [False, True]]


@pytest.mark.parametrize("n_classes", [2, 10, 257])
def test_raise_lifts_the_threshold_for_all_rows(simd, n_classes):
    z_s = widened(logits_of(200, n_classes, "float32", 2.0))
    z_t = widened(logits_of(200, n_classes, "float32", 2.0, seed=1))
    least = reference.raised_threshold(z_s, -INF)
    sets = cf.prediction_sets(z_s, 0.01, nonempty="raise", backend="cpu")
    assert sets.any(axis=1).all()
    # The row that raised it holds its top class alone; all others are cut at the same threshold.
    assert sets.sum(axis=1).min() == 1
    expected = reference.nonconformity(z_s) <= least + NEAR
    near = np.abs(reference.nonconformity(z_s) - least) <= NEAR
    np.testing.assert_array_equal(sets[~near], expected[~near])

    raised = [reference.raised_threshold(z, 0.01) + 1e-9 for z in (z_s, z_t)]
    np.testing.assert_allclose(
        cf.score(z_s, z_t, q_student=0.01, q_teacher=0.01, nonempty="raise", backend="cpu"),
        reference.score(z_s, z_t, *raised).delta,
        rtol=2e-6,
        atol=2e-6,
    )
    # A threshold that leaves no row empty stays.
    assert CPU.raised_threshold(open_rows(z_s, "s"), 50.0) == 50.0
    np.testing.assert_allclose(CPU.raised_threshold(open_rows(z_s, "s"), 0.0), least, atol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("nonempty", ["top1", "raise"])
def test_no_rows(backend, nonempty):
    z = np.empty((0, 4), np.float32)
    assert cf.score(z, backend=backend).shape == (0,)
    assert cf.score(z, z, q_student=1.0, q_teacher=1.0, nonempty=nonempty, backend=backend).shape == (0,)
    assert cf.prediction_sets(z, 1.0, nonempty=nonempty, backend=backend).shape == (0, 4)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_values_by_hand(backend):
    """Two classes, worked out on paper."""
    student, teacher = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.8, 0.2], [0.9, 0.1]])
    entropy = [np.log(2), -0.9 * np.log(0.9) - 0.1 * np.log(0.1)]
    np.testing.assert_allclose(cf.score(student, backend=backend), entropy, rtol=1e-6)
    mean = np.array([0.65, 0.35])
    js = 0.5 * (0.5 * np.log(0.5 / mean).sum() + (np.array([0.8, 0.2]) * np.log([0.8, 0.2] / mean)).sum())
    gate = 0.8 / (0.8 + 0.5)
    expected = [gate * js + (1 - gate) * entropy[0], 0.5 * entropy[1]]
    delta = cf.score(student, teacher, q_student=INF, q_teacher=INF, backend=backend)
    np.testing.assert_allclose(delta, expected, rtol=1e-6)
    # Sets {1} and {0}: the posteriors on their union are whole; sets that agree on one class leave no disagreement.
    delta = cf.score(student[1:], teacher[1:], q_student=0.2, q_teacher=0.2, backend=backend)
    np.testing.assert_allclose(delta, [0.5 * entropy[1]], rtol=1e-6)


def test_disagreement_restricted_to_one_class_each_reaches_its_bound(simd):
    """Sure of different classes: J = ln 2, and H = 0."""
    z_s = np.array([[60.0, -60.0, -60.0]], np.float32)
    delta = cf.score(z_s, z_s[:, ::-1].copy(), q_student=0.5, q_teacher=0.5, backend="cpu")
    np.testing.assert_allclose(delta, 0.5 * np.log(2), rtol=1e-6)


def test_a_probability_that_has_no_half_adds_nothing_to_the_divergence(simd):
    """The least number of all, exp(−744.4), of which half rounds to zero."""
    student, teacher = np.float32([[0.0, -744.4]]), np.float32([[0.0, -1e4]])
    for found in (reference.score(student, teacher), CPU.score(*(open_rows(z, "z") for z in (student, teacher)))):
        np.testing.assert_allclose([found.divergence, found.delta], 0.0, atol=1e-6)


def test_layouts_and_chunks_do_not_matter(simd, rng):
    z_s, z_t = 2 * rng.standard_normal((2, 500, 37), dtype=np.float32)
    expected = CPU.score(open_rows(z_s, "s"), open_rows(z_t, "t"), 2.0, 1.0)
    wide = np.zeros((1000, 74), np.float32)
    wide[::2, ::2] = z_s
    for other in (np.asfortranarray(z_s), wide[::2, ::2], torch.from_numpy(z_s), z_s.astype(np.float64)):
        for chunk_size in (1, 7, 64, None):
            found = CPU.score(open_rows(other, "s"), open_rows(z_t, "t"), 2.0, 1.0, chunk_size=chunk_size)
            for part, whole in zip(found, expected, strict=True):
                np.testing.assert_array_equal(part, whole)


def test_a_row_does_not_depend_on_its_neighbours(simd, rng):
    z_s, z_t = 2 * rng.standard_normal((2, 50, 41), dtype=np.float32)
    whole = cf.score(z_s, z_t, q_student=2.0, q_teacher=2.0, backend="cpu")
    order = rng.permutation(50)
    np.testing.assert_array_equal(
        cf.score(z_s[order], z_t[order], q_student=2.0, q_teacher=2.0, backend="cpu"), whole[order]
    )


def test_top_m_takes_the_largest_and_of_equals_the_first(rng):
    for values in (
        rng.standard_normal(1000).astype(np.float32),
        rng.integers(5, size=1000).astype(np.float32),
        np.zeros(100, np.float32),
        np.array([0.0, -0.0, 0.0, -0.0, 1e-45, -1e-45], np.float32),
        np.array([np.inf, -np.inf, 3e38, -3e38, 0.0, np.inf], np.float32),
        np.array([2.5], np.float32),
    ):
        for m in (0, 1, 2, values.size // 2, values.size, values.size + 3):
            np.testing.assert_array_equal(CPU.top_m(values, m), reference.top_m(values, m))
