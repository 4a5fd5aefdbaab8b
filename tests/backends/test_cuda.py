"""The CUDA backend against the reference and the C++ core: on a GPU, or else in Triton's interpreter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ccma_fast.kernels import conformal_sets

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import thresholds as cuda_thresholds
from ccma_fast.backends.cuda.device import device
from ccma_fast.pool.derived import RowSubset
from ccma_fast.pool.open import open_rows
from ccma_fast.reference import Cumulative

from ..combinations import thinned

CUDA, CPU = choose_backend("cuda"), choose_backend("cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
INF = math.inf

# Triton's interpreter computes with NumPy, which warns of what a GPU does as it is told.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

# Around tiles, and the row that is too long for one; rows that end on 16 bytes and rows that do not.
CLASSES = (2, 3, 10, 16, 17, 100, 257, 1000, 4096, 4097)


def logits_of(n_rows: int, n_classes: int, dtype: str = "float32", scale: float = 3.0, seed: int = 0) -> torch.Tensor:
    values = scale * np.random.default_rng([seed, n_rows, n_classes]).standard_normal((n_rows, n_classes))
    return torch.from_numpy(values.astype(np.float32)).to(DTYPES[dtype])


def on_device(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(device())


def away_from_scores(logits: np.ndarray, size: float) -> float:
    """A threshold for sets of about `size` classes, in the widest gap between scores there."""
    a = np.sort(reference.nonconformity(logits), axis=None)
    if a.size == 0:
        return 1.0
    low, high = int(0.7 * size * len(logits)), int(1.4 * size * len(logits)) + 2
    at = low + int(np.diff(a[low:high]).argmax())
    return float(a[at] + a[at + 1]) / 2


def assert_agree(found: reference.RowScores, expected: reference.RowScores) -> None:
    for name, part, whole in zip(found._fields, found, expected, strict=True):
        assert part.dtype == whole.dtype, name
        if part.dtype.kind == "f":
            np.testing.assert_allclose(part, whole, rtol=2e-6, atol=2e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(part, whole, err_msg=name)


@pytest.mark.parametrize("n_classes", CLASSES)
def test_scores_and_sets_agree_with_the_reference(n_classes, has_gpu):
    kinds = [("float32", 0.01), ("float32", 10.0), ("float16", 1.0), ("bfloat16", 80.0)]
    if not has_gpu:  # each of them with every other number of classes
        kinds = kinds[CLASSES.index(n_classes) % 2 :: 2]
    for n_rows in (0, 1, 31, 33, 1000) if has_gpu else (0, 17) if n_classes <= 257 else (0, 2):
        for dtype, scale in kinds:
            student, teacher = (logits_of(n_rows, n_classes, dtype, scale, seed=seed) for seed in (0, 1))
            z_s, z_t = student.float().numpy(), teacher.float().numpy()
            q_s, q_t = (
                away_from_scores(z_s, min(5.0, 0.6 * n_classes)),
                away_from_scores(z_t, min(3.0, 0.4 * n_classes)),
            )
            found = CUDA.score(open_rows(on_device(student), "s"), open_rows(on_device(teacher), "t"), q_s, q_t)
            assert_agree(found, reference.score(z_s, z_t, q_s, q_t))
            sets = CUDA.prediction_sets(open_rows(on_device(student), "s"), q_s)
            np.testing.assert_array_equal(sets, reference.prediction_sets(z_s, q_s))
    assert_agree(CUDA.score(open_rows(student, "s")), reference.score(z_s))


@pytest.mark.parametrize(
    ("n_classes", "thresholds"),
    thinned(2, [2, 257, 4097], [(INF, INF), (-INF, -1.0), (INF, -1.0), (1e-300, 1e300)]),
)
def test_thresholds_that_admit_everything_or_nothing(n_classes, thresholds):
    q_s, q_t = thresholds
    z_s, z_t = (logits_of(9 if n_classes < 1000 else 2, n_classes, seed=seed).numpy() for seed in (0, 1))
    assert_agree(CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q_s, q_t), reference.score(z_s, z_t, q_s, q_t))
    np.testing.assert_array_equal(cf.prediction_sets(z_s, q_s, backend="cuda"), reference.prediction_sets(z_s, q_s))


@pytest.mark.parametrize("n_classes", [2, 16, 17, 4099])
def test_degenerate_rows(n_classes):
    rng = np.random.default_rng(3)
    ties = rng.integers(3, size=(6, n_classes)).astype(np.float32)
    ties[:, :2] = 2.0
    certain = np.full((2, n_classes), -1e4, np.float32)
    certain[:, 1] = 1e4
    huge = np.tile(np.array([3e38, -3e38], np.float32), n_classes)[:n_classes]
    tiny = np.tile(np.array([-1e-36, 1e-36], np.float32), n_classes)[:n_classes]
    z_s = np.vstack([np.zeros((1, n_classes), np.float32), ties, certain, huge, tiny, -huge])
    z_t = np.ascontiguousarray(z_s[:, ::-1])
    for q in (-1.0, 0.3, INF) if n_classes < 100 else (0.3,):
        assert_agree(CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q, q), reference.score(z_s, z_t, q, q))
        np.testing.assert_array_equal(cf.prediction_sets(z_s, q, backend="cuda"), reference.prediction_sets(z_s, q))


@pytest.mark.parametrize(("n_classes", "dtype"), thinned(2, [31, 37, 40, 1000], list(DTYPES)))
def test_padding_and_the_lowest_logits_of_each_type(n_classes, dtype):
    """Rows at the lower end of their type, where what stands for absent classes must not be taken for one."""
    lowest = torch.finfo(DTYPES[dtype]).min
    z_s = logits_of(5, n_classes, dtype)
    z_s[0], z_s[1], z_s[2, 1:] = lowest, lowest, lowest
    z_s[1, n_classes // 2] = lowest / 2
    z_t = z_s.flip(1).contiguous()
    expected = [z.double().numpy() for z in (z_s, z_t)]
    for q in (-1.0, 2.0, INF):
        found = CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q, q)
        assert_agree(found, reference.score(*expected, q, q))


def test_sets_that_span_several_words_of_a_long_row():
    n_classes = 33_001
    z_s, z_t = (logits_of(3, n_classes, seed=seed).numpy() for seed in (0, 1))
    z_s[0, -1] = z_t[1, -2] = z_s[2, 7] = z_s[2, -3] = 40.0
    for q_s, q_t in ((7.0, 6.0), (-1.0, 9.0), (-1.0, -1.0)):
        found = CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q_s, q_t)
        assert_agree(found, reference.score(z_s, z_t, q_s, q_t))


def test_thresholds_of_each_row_and_layouts():
    z_s, z_t = (logits_of(20, 37, seed=seed).numpy() for seed in (0, 1))
    q_s, q_t = np.random.default_rng(0).uniform(0.5, 6.0, (2, 20))
    expected = CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), q_s, q_t)
    assert_agree(expected, reference.score(z_s, z_t, q_s, q_t))
    wide = np.full((40, 74), np.nan, np.float32)
    wide[::2, ::2] = z_s
    padded = on_device(torch.full((20, 45), torch.nan))
    padded[:, 3:40] = on_device(torch.from_numpy(z_s))
    reordered = RowSubset(open_rows(on_device(torch.from_numpy(z_s[::-1].copy())), "s"), np.arange(20)[::-1])
    for other in (np.asfortranarray(z_s), wide[::2, ::2], padded[:, 3:40], z_s.astype(np.float64), reordered):
        for chunk_size in (7, None):
            found = CUDA.score(open_rows(other, "s"), open_rows(z_t, "t"), q_s, q_t, chunk_size=chunk_size)
            for part, whole in zip(found, expected, strict=True):
                np.testing.assert_array_equal(part, whole)


@pytest.mark.parametrize(
    ("n_classes", "value"), [(3, np.nan), (3, np.inf), (3, -np.inf), (300, -np.inf), (4100, -np.inf)]
)
def test_the_first_row_that_is_not_finite_is_named(n_classes, value):
    z_s, z_t = (logits_of(5, n_classes, seed=seed).numpy() for seed in (0, 1))
    z_s[4, n_classes - 1], z_t[2, 0], z_t[4, 1] = value, value, value
    with np.errstate(all="ignore"):
        for chunk_size in (2, None) if n_classes == 3 else (None,):
            with pytest.raises(ValueError, match=r"t must be finite, got NaN or infinity at row 2"):
                CUDA.score(open_rows(z_s, "s"), open_rows(z_t, "t"), 1.0, 1.0, chunk_size=chunk_size)
            with pytest.raises(ValueError, match=r"s must be finite, got NaN or infinity at row 4"):
                CUDA.score(open_rows(z_s, "s"), chunk_size=chunk_size)


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


def assert_is_order_statistic(tensor: torch.Tensor, size: float) -> None:
    """q is the ⌈k·M⌉-th smallest of the backend's own scores, and within 2 ulp of float32 of the C++ core's."""
    rows = open_rows(tensor, "z")
    q = CUDA.target_size_threshold(rows, size)
    rank = reference.target_size_rank(size, *tensor.shape)
    bad = torch.full((1,), 2**63 - 1, device=device())
    least = conformal_sets.log_normalizers(on_device(tensor), bad).cpu().numpy()

    def count_at_most(threshold: float) -> int:
        return int(CUDA.prediction_sets(rows, threshold)[least <= threshold].sum())

    assert count_at_most(q) >= rank
    assert count_at_most(math.nextafter(q, -INF)) < rank
    # Where a set is cut is decided by the same sums: the sizes of a score are those of the sets.
    np.testing.assert_array_equal(CUDA.score(rows, q_student=q).student_size, CUDA.prediction_sets(rows, q).sum(axis=1))
    expected = CPU.target_size_threshold(rows, size)
    assert abs(q - expected) <= 2 * float(np.spacing(np.float32(expected)))


@pytest.mark.parametrize(
    ("n_rows", "n_classes", "dtype"),
    [
        (1, 2, "float32"),
        (7, 3, "float16"),
        (33, 16, "bfloat16"),
        (9, 100, "float32"),
        (5, 257, "bfloat16"),
        (1, 4100, "float16"),
    ],
)
def test_target_size_threshold_is_exact(n_rows, n_classes, dtype):
    assert_is_order_statistic(logits_of(n_rows, n_classes, dtype), min(3.0, 0.6 * n_classes))


@pytest.mark.parametrize(
    ("matrix", "collect"),
    thinned(
        2,
        [("equal", 1), ("two values", 5.5), ("ties", 0.5), ("hidden", 10), ("spread", 1e-9), ("spread", 3)],
        [40, None],
    ),
)
def test_hard_matrices(monkeypatch, matrix, collect):
    """Ends at the right number, also where one pass can keep a handful of scores only."""
    kind, size = matrix
    if collect is not None:
        monkeypatch.setattr(cuda_thresholds, "_COLLECT", collect)
    rng = np.random.default_rng(7)
    z = {
        "equal": np.zeros((20, 10)),
        "two values": np.where(rng.random((20, 10)) < 0.5, 0.0, 3.0),
        "ties": rng.integers(3, size=(20, 10)),
        "hidden": 0.1 * rng.standard_normal((20, 10)) * np.where(np.arange(20) % 10 != 0, 300.0, 1.0)[:, None],
        "spread": np.linspace(0.0, 40.0, 20)[:, None] * rng.standard_normal((20, 10)),
    }[kind].astype(np.float32)
    found = CUDA.target_size_threshold(open_rows(z, "z"), size)
    assert found == pytest.approx(reference.target_size_threshold(z, size), rel=0, abs=1e-6)
    if collect is None:
        assert CUDA.target_size_threshold(open_rows(z, "z"), size, chunk_size=13) == found


@pytest.mark.parametrize("rule", [Cumulative(), Cumulative(0.05, 2), Cumulative(0.0, 0, np.linspace(0, 1, 60))])
def test_cumulative_scores(rule):
    """APS and RAPS: the threshold, the cuts and the sets that they give."""
    z = np.round(logits_of(60, 12).numpy(), 1)  # with ties
    rows = open_rows(z, "z")
    for size in (0.7, 3.0, 11.9):
        q = CUDA.target_size_threshold(rows, size, rule)
        assert q == pytest.approx(reference.target_size_threshold(z, size, rule), abs=1e-9)
    q = 0.61
    cuts = CUDA.row_thresholds(rows, q, rule, chunk_size=7)
    np.testing.assert_allclose(cuts, reference.row_thresholds(z, q, rule), atol=1e-6)
    np.testing.assert_array_equal(
        CUDA.prediction_sets(rows, cuts), reference.prediction_sets(z, reference.row_thresholds(z, q, rule))
    )
    raised = CUDA.raised_threshold(rows, 0.1, rule)
    assert raised == pytest.approx(reference.raised_threshold(z, 0.1, rule), abs=1e-9)


def test_both_thresholds_and_the_scores_under_them():
    z_s, z_t = (logits_of(50, 21, seed=seed).numpy() for seed in (0, 1))
    rows = open_rows(z_s, "s"), open_rows(z_t, "t")
    q_s, q_t = (CUDA.target_size_threshold(of, size) for of, size in zip(rows, (4.0, 2.5), strict=True))
    scores = CUDA.score(*rows, q_s, q_t)
    # The class whose score is the threshold is in: exactly k · M classes are, and the most probable of empty sets.
    empty = reference.nonconformity(z_s).min(axis=1) > q_s
    assert scores.student_size.sum() == 200 + empty.sum()


# ---------------------------------------------------------------------------------------------------------------------
# Rows and products


@pytest.mark.parametrize(
    ("shape", "dtype"), thinned(2, [(1, 1, 2), (130, 65, 10), (7, 200, 70), (3, 768, 5)], list(DTYPES))
)
def test_products_are_no_worse_than_those_of_float32(shape, dtype):
    n_rows, n_columns, n_classes = shape
    rng = np.random.default_rng(n_columns)
    x = logits_of(n_rows, n_columns, dtype)
    weight = rng.standard_normal((n_classes, n_columns)) * 10.0 ** rng.uniform(-6, 3, (n_classes, 1))
    weight[0] *= 1e-30
    weight, bias, scale = weight.astype(np.float32), rng.standard_normal(n_classes, np.float32), rng.random(n_rows)
    scale = scale.astype(np.float32)
    chunk = open_rows(x, "x").slice(0, n_rows)
    for b, s in ((bias, scale), (None, None)):
        found = CUDA.linear(chunk, weight, b, scale=s)
        exact = reference.linear(x.double().numpy(), weight, b, scale=s)
        size = np.abs(x.double().numpy()) @ np.abs(weight.T.astype(np.float64))
        size = (size if s is None else size * s[:, None]) + (0.0 if b is None else np.abs(b))
        assert (np.abs(found - exact) <= 1e-6 * size).all()
        assert found.dtype == np.float32
    lengths = CUDA.row_lengths(chunk)
    np.testing.assert_allclose(lengths, reference.row_lengths(x.double().numpy()), rtol=1e-12)


def test_lengths_are_not_finite_exactly_where_rows_are_not():
    x = np.full((5, 3000), 3e38, np.float32)
    x[1, 2999], x[2, 0], x[3, 7] = np.nan, np.inf, -np.inf
    assert np.isfinite(CUDA.row_lengths(x)).tolist() == [True, False, False, False, True]


def test_largest_scores_come_first_and_ties_by_index():
    scores = np.array([1.0, -0.0, 3.0, 0.0, 3.0, -np.inf, 1.0], np.float32)
    for m in (0, 1, 4, 7, 99):
        np.testing.assert_array_equal(CUDA.top_m(scores, m), reference.top_m(scores, m))


def test_posteriors_from_features_are_scored_without_being_stored(blobs, has_gpu):
    """Student and teacher as products of chunks, in place or copied, all rows or some: the same bits."""
    x, y = blobs(90, 24, 5, distance=1.0)
    head = cf.LinearHead(5, max_epochs=5).fit(x, y)
    classes = x[:5, :16]
    if not has_gpu:  # Triton's interpreter leaves products to BLAS: so few bits that no sum of them rounds
        x, head.coef_, classes = np.round(4 * x), np.round(8 * head.coef_) / 32, np.sign(classes)
    some = np.r_[3:40, 80, 2]
    expected = reference.score(
        head.logits(open_rows(x, "x"), choose_backend("reference")).float32()[some],
        cf.Teacher(x[:, :16], classes, temperature=2**-5).logits(choose_backend("reference")).float32()[some],
        1.2,
        0.9,
    )
    first = None
    for source in (x, on_device(torch.from_numpy(x))):
        z_s = head.logits(open_rows(source, "x"), CUDA)
        z_t = cf.Teacher(source[:, :16], classes, temperature=2**-5).logits(CUDA)
        for chunk_size in (None, 16):
            found = CUDA.score(RowSubset(z_s, some), RowSubset(z_t, some), 1.2, 0.9, chunk_size=chunk_size)
            assert_agree(found, expected)
            first = first or found
            np.testing.assert_array_equal(found.delta, first.delta)


# ---------------------------------------------------------------------------------------------------------------------
# The whole query


@pytest.mark.parametrize("acquisition", ["trust", "delta", "first labels"])
def test_the_same_picks_as_the_core(blobs, partly_labelled, acquisition, monkeypatch):
    """Differences are counted, and none is allowed; nothing that grows with the pool comes to the host."""
    x, y = blobs(180, 20, 6, distance=1.0)
    labels = None if acquisition == "first labels" else partly_labelled(y, 24)
    config = cf.CCMAConfig(
        acquisition="delta" if acquisition == "delta" else "trust",
        calibration="target_size" if acquisition == "delta" else "coverage",
        head="published",
        max_epochs=4,
        kappa=4,
        student_kappa=8,
        kmeans_max_iter=3,
    )
    teacher = cf.Teacher(x[:, :13], x[[np.flatnonzero(y == c)[0] for c in range(6)], :13])
    expected = cf.select(x, 6, labels=labels, teacher=teacher, config=config, backend="cpu")
    sizes = []
    to_host = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: sizes.append(tensor.numel()) or to_host(tensor))
    found = cf.select(x, 6, labels=labels, teacher=teacher, config=config, backend="cuda")
    assert 0 < max(sizes) < 156
    assert np.count_nonzero(found.indices != expected.indices) == 0
    np.testing.assert_array_equal(found.represents, expected.represents)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-6)
    assert found.report.backend.startswith("cuda (")
    assert found.report.trust == pytest.approx(expected.report.trust, nan_ok=True)
    assert found.report.mean_student_set == pytest.approx(expected.report.mean_student_set, nan_ok=True)
    assert found.report.top1_disagreement == pytest.approx(expected.report.top1_disagreement, nan_ok=True)


@pytest.mark.parametrize(
    ("with_teacher", "acquisition"),
    [
        (True, "trust"),
        (True, "delta"),
        (False, "trust"),
        pytest.param(False, "delta", marks=pytest.mark.slow),  # without a teacher as the one before
    ],
)
def test_the_same_picks_as_the_core_where_one_class_is_labelled(blobs, acquisition, with_teacher):
    x, y = blobs(60, 20, 4)
    labels = np.where((np.arange(60) % 4 == 0) & (y == 1), y, -1)
    teacher = cf.Teacher(x[:, :13], x[[np.flatnonzero(y == c)[0] for c in range(4)], :13]) if with_teacher else None
    config = cf.CCMAConfig(acquisition=acquisition, kmeans_max_iter=2)
    expected, found = (
        cf.select(x, 5, labels=labels, teacher=teacher, config=config, backend=backend) for backend in ("cpu", "cuda")
    )
    assert found.report.mode == "cold start"
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.represents, expected.represents)
