"""Scores, sets and thresholds of conformal prediction; coverage, and what repairs it where rows were chosen."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cpu import thresholds as cpu_thresholds
from ccma_fast.pool.open import open_rows
from ccma_fast.reference import Cumulative
from ccma_fast.steps.covariate_shift import warn_not_exchangeable

from ..combinations import thinned

CPU = choose_backend("cpu")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BACKENDS = ("cpu", "reference")

# A score that lies so close to its threshold may fall on either side: rounding, not the method, decides.
NEAR = 1e-6

pytestmark = pytest.mark.usefixtures("time_limit")


def rules(n_rows: int) -> dict[str, Cumulative]:
    u = np.random.default_rng(n_rows).random(n_rows)
    return {
        "aps": Cumulative(),
        "raps": Cumulative(0.01, 5),
        "raps from the first class on": Cumulative(0.3, 0),
        "randomised aps": Cumulative(u=u),
        "randomised raps": Cumulative(0.05, 2, u),
    }


RULES = tuple(rules(1))


def keywords(rule: str, n_rows: int) -> dict[str, object]:
    """The public functions' arguments for a rule."""
    penalty, k_reg, u = rules(n_rows)[rule]
    return {"score": "raps" if "raps" in rule else "aps", "penalty": penalty, "k_reg": k_reg, "u": u}


def logits_of(n_rows: int, n_classes: int, dtype: str, scale: float) -> torch.Tensor:
    rng = np.random.default_rng([n_rows, n_classes])
    return torch.from_numpy(scale * rng.standard_normal((n_rows, n_classes), dtype=np.float32)).to(DTYPES[dtype])


def posteriors(rng: np.random.Generator, n_rows: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of rows that are hard and easy, and true classes drawn from probabilities less sure than those."""
    z = rng.uniform(0.2, 4.0, size=(n_rows, 1)) * rng.standard_normal((n_rows, n_classes))
    return z, (0.5 * z + rng.gumbel(size=z.shape)).argmax(axis=1)


def brute_force(z: np.ndarray, rule: Cumulative) -> np.ndarray:
    """The definition, class by class."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    scores = np.empty_like(p)
    for i, c in np.ndindex(*p.shape):
        before = z[i] > z[i, c]
        u = 1.0 if rule.u is None else rule.u[i]
        scores[i, c] = p[i, before].sum() + u * p[i, c] + rule.penalty * max(0, before.sum() + 1 - rule.k_reg)
    return scores


# ---------------------------------------------------------------------------------------------------------------------
# Scores


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_scores_are_the_definition(rng, rule, decimals):
    z = np.round(2.0 * rng.standard_normal((40, 13)), decimals).astype(np.float32)
    expected = brute_force(z.astype(np.float64), rules(40)[rule])
    scores = cf.nonconformity_scores(z, **keywords(rule, 40))
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-12)
    y = rng.integers(13, size=40)
    np.testing.assert_array_equal(cf.nonconformity_scores(z, y, **keywords(rule, 40)), scores[np.arange(40), y])


def test_scores_by_hand():
    """Two classes of 0.3 share the score of the first of them, and its rank."""
    z = np.log([[0.3, 0.4, 0.3]])
    np.testing.assert_allclose(cf.nonconformity_scores(z, score="aps"), [[0.7, 0.4, 0.7]], atol=1e-7)
    raps = cf.nonconformity_scores(z, score="raps", penalty=0.1, k_reg=1)
    np.testing.assert_allclose(raps, [[0.8, 0.4, 0.8]], atol=1e-7)
    halved = cf.nonconformity_scores(z, score="aps", u=[0.5])
    np.testing.assert_allclose(halved, [[0.55, 0.2, 0.55]], atol=1e-7)
    np.testing.assert_allclose(cf.nonconformity_scores(z), -z, atol=1e-7)
    np.testing.assert_allclose(cf.nonconformity_scores(z, [1]), [-np.log(0.4)], atol=1e-7)


def test_no_rows_have_no_scores():
    z = np.empty((0, 4), np.float32)
    for score in ("lac", "aps", "raps"):
        assert cf.nonconformity_scores(z, score=score).shape == (0, 4)
        assert cf.nonconformity_scores(z, [], score=score).shape == (0,)
        for backend in BACKENDS:
            assert cf.prediction_sets(z, 0.5, score=score, backend=backend).shape == (0, 4)


@pytest.mark.parametrize(("penalty", "k_reg"), [(0.0, 0), (0.02, 3)])
def test_the_last_class_has_the_score_one_and_its_penalty(penalty, k_reg, rng):
    """Exactly, so that q = 1 is every class of APS."""
    z = (3.0 * rng.standard_normal((300, 50))).astype(np.float32)
    last = cf.nonconformity_scores(z, score="raps", penalty=penalty, k_reg=k_reg).max(axis=1)
    assert (last == 1.0 + penalty * max(0, 50 - k_reg)).all()
    if penalty == 0.0:
        for backend in BACKENDS:
            assert cf.prediction_sets(z, 1.0, score="aps", backend=backend).all()


# ---------------------------------------------------------------------------------------------------------------------
# Sets: the core against the reference

SHAPES = [(m, c) for c in (2, 3, 31, 33, 257, 1000) for m in (0, 1, 33) if (m, c) != (33, 2)] + [(300, 2), (300, 100)]


@pytest.mark.parametrize(("shape", "rule"), thinned(3, SHAPES, list(RULES)))
def test_sets_are_the_references(simd_levels, shape, rule):
    n_rows, n_classes = shape
    arguments, cases = keywords(rule, n_rows), []
    for dtype, scale in (("float32", 0.01), ("float32", 3.0), ("float16", 3.0), ("bfloat16", 3.0), ("float32", 40.0)):
        tensor = logits_of(n_rows, n_classes, dtype, scale)
        s = cf.nonconformity_scores(tensor, **arguments)
        for q in (0.3, 0.999, 1.2):
            expected = cf.prediction_sets(tensor, q, backend="reference", **arguments)
            filled = ~(s <= q).any(axis=1)
            np.testing.assert_array_equal(expected[~filled], (s <= q)[~filled])
            assert (expected[filled].sum(axis=1) == 1).all()
            cases.append((tensor, q, expected, (np.abs(s - q) > NEAR).all(axis=1), f"{dtype} {scale} {q}"))
    assert n_rows == 0 or sum(clear.sum() for *_, clear, _ in cases) > 0.5 * n_rows * len(cases)
    for level in simd_levels:
        for tensor, q, expected, clear, note in cases:
            found = cf.prediction_sets(tensor, q, backend="cpu", **arguments)
            np.testing.assert_array_equal(found[clear], expected[clear], err_msg=f"{level} {note}")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_classes", [2, 17, 300])
def test_degenerate_rows(simd_levels, n_classes, rule):
    """Ties, certain rows, rows all equal, logits so close that their probabilities are one number."""
    rng = np.random.default_rng(n_classes)
    one_hot = np.full((5, n_classes), -1e4)
    one_hot[np.arange(5), np.arange(5) % n_classes] = 1e4
    z = np.concatenate(
        [
            np.zeros((5, n_classes)),
            rng.integers(3, size=(20, n_classes)),
            one_hot,
            1e-30 * rng.standard_normal((5, n_classes)),
            1e-3 * rng.integers(2, size=(5, n_classes)),
            np.where(rng.random((5, n_classes)) < 0.5, 3e38, -3e38),
            np.r_[np.zeros(n_classes - 1), -90.0][None],
        ]
    ).astype(np.float32)
    arguments, cases = keywords(rule, len(z)), []
    s = cf.nonconformity_scores(z, **arguments)
    for q in (-math.inf, -1.0, 0.37, 0.77, 1.27, math.inf):
        clear = (np.abs(s - q) > NEAR).all(axis=1)
        assert clear.sum() > 20
        expected = cf.prediction_sets(z, q, backend="reference", **arguments)
        cases.append((q, clear, expected))
    for level in simd_levels:
        for q, clear, expected in cases:
            found = cf.prediction_sets(z, q, backend="cpu", **arguments)
            np.testing.assert_array_equal(found[clear], expected[clear], err_msg=f"{level} {q}")


values = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 80.0, -80.0, 1e-3]), st.floats(-100.0, 100.0, width=32, allow_subnormal=False)
)
logits = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(2, 30)), elements=values)


@given(logits, st.floats(0.0, 1.5), st.floats(0.0, 0.5), st.sampled_from(RULES), st.sampled_from(BACKENDS))
def test_sets_are_prefixes_that_grow(z, q, more, rule, backend):
    arguments = keywords(rule, len(z))
    sets = cf.prediction_sets(z, q, backend=backend, **arguments)
    assert sets.any(axis=1).all()
    # A set of more than the one class that fills an empty set holds all classes that are as probable as one of its own.
    least = np.where(sets, reference.nonconformity(z), -np.inf).max(axis=1, keepdims=True)
    several = sets.sum(axis=1) > 1
    np.testing.assert_array_equal(sets[several], (reference.nonconformity(z) <= least)[several])
    assert (cf.prediction_sets(z, q + more, backend=backend, **arguments) >= sets).all()
    # The same classes in another order.
    order = np.random.default_rng(0).permutation(z.shape[1])
    reordered = cf.prediction_sets(np.ascontiguousarray(z[:, order]), q, backend="reference", **arguments)
    expected = cf.prediction_sets(z, q, backend="reference", **arguments)
    clear = (np.abs(reference.nonconformity(z, rules(len(z))[rule]) - q) > 1e-9).all(axis=1) & several
    assert (reordered[clear] == expected[:, order][clear]).all()


@given(logits, st.floats(0.01, 35.0), st.sampled_from(RULES), st.sampled_from(BACKENDS))
def test_the_target_size_is_reached(z, size, rule, backend):
    """q is the smallest number at which the backend's own sets hold ⌈k·M⌉ classes, empty sets counted as empty."""
    arguments = keywords(rule, len(z))
    cumulative = rules(len(z))[rule]
    rows, chosen = open_rows(z, "z"), choose_backend(backend)

    def held(q: float) -> int:
        cuts = chosen.row_thresholds(rows, q, cumulative)
        return int(chosen.prediction_sets(rows, cuts)[~np.isneginf(cuts)].sum())

    q = cf.target_size_threshold(z, size, backend=backend, **arguments)
    rank = reference.target_size_rank(size, *z.shape)
    assert held(math.nextafter(q, -math.inf)) < rank <= held(q)
    assert abs(q - reference.target_size_threshold(z, size, cumulative)) <= NEAR


@pytest.mark.parametrize(("rule", "scale"), thinned(2, list(RULES), [0.0, 0.01, 3.0, 60.0]))
def test_target_size_threshold_where_one_pass_keeps_little(simd, monkeypatch, rng, rule, scale):
    """The search is the one of LAC; here it has to take many passes, also through scores that are all near one."""
    z = (scale * rng.standard_normal((300, 40))).astype(np.float32)
    z[::3] = np.round(z[::3])
    cumulative = rules(300)[rule]
    expected = [reference.target_size_threshold(z, size, cumulative) for size in (0.2, 1.5, 20.0, 39.9)]
    for collect in (1 << 22, 50, 1):
        monkeypatch.setattr(cpu_thresholds, "_COLLECT", collect)
        for size, q in zip((0.2, 1.5, 20.0, 39.9), expected, strict=True):
            assert abs(cf.target_size_threshold(z, size, backend="cpu", **keywords(rule, 300)) - q) <= NEAR


@pytest.mark.parametrize("rule", RULES)
def test_the_mean_size_is_the_target(rule, rng):
    z = (2.0 * rng.standard_normal((500, 20))).astype(np.float32)
    for size in (2.0, 5.5):
        q = cf.target_size_threshold(z, size, backend="cpu", **keywords(rule, 500))
        thresholds = CPU.row_thresholds(open_rows(z, "z"), q, rules(500)[rule])
        sizes = (reference.nonconformity(z) <= thresholds[:, None] + NEAR).sum(axis=1)
        assert sizes.sum() == math.ceil(size * 500)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rule", RULES)
def test_raise_leaves_no_set_empty(backend, rule, rng):
    z = (rng.uniform(0, 3, size=(300, 1)) * rng.standard_normal((300, 20))).astype(np.float32)
    arguments = keywords(rule, 300)
    least = cf.nonconformity_scores(z, **arguments).min(axis=1)
    q = cf.target_size_threshold(z, 0.5, nonempty="raise", backend=backend, **arguments)
    assert (least > cf.target_size_threshold(z, 0.5, backend=backend, **arguments)).any()
    assert q == pytest.approx(least.max(), abs=NEAR)
    sets = cf.prediction_sets(z, 0.0, nonempty="raise", backend=backend, **arguments)
    np.testing.assert_array_equal(sets, cf.prediction_sets(z, q, backend=backend, **arguments))
    of_rows = np.where(np.arange(300) < 150, 0.0, 5.0)
    mixed = cf.prediction_sets(z, of_rows, nonempty="raise", backend=backend, **arguments)
    np.testing.assert_array_equal(mixed[:150], sets[:150])
    assert mixed[150:].sum() > sets[150:].sum()


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_for_any_threads_and_chunks(rule, rng):
    z = (2.0 * rng.standard_normal((700, 33))).astype(np.float32)
    cumulative, rows = rules(700)[rule], open_rows(z, "z")
    q = rng.uniform(0.2, 1.1, size=700)
    thresholds, size = CPU.row_thresholds(rows, q, cumulative), CPU.target_size_threshold(rows, 3.0, cumulative)
    raised = CPU.raised_threshold(rows, 0.0, cumulative)
    for n_threads in (1, 2, 5):
        cf.set_num_threads(n_threads)
        for chunk_size in (1, 64, None):
            found = CPU.row_thresholds(rows, q, cumulative, chunk_size=chunk_size)
            np.testing.assert_array_equal(found, thresholds)
            assert CPU.target_size_threshold(rows, 3.0, cumulative, chunk_size=chunk_size) == size
            assert CPU.raised_threshold(rows, 0.0, cumulative, chunk_size=chunk_size) == raised


@pytest.mark.parametrize("n_classes", [2, 37, 300])
def test_thresholds_of_rows_reach_the_score(simd_levels, n_classes, rng):
    """δ and the sizes of APS sets through the fused pass, with a threshold for each row."""
    z_s, z_t = (2.0 * rng.standard_normal((2, 200, n_classes))).astype(np.float32)
    rows_s, rows_t = open_rows(z_s, "s"), open_rows(z_t, "t")
    reference_backend = choose_backend("reference")
    for level in simd_levels:
        results = []
        for backend in (CPU, reference_backend):
            t_s, t_t = (backend.row_thresholds(rows, 0.8, Cumulative(0.01, 2)) for rows in (rows_s, rows_t))
            results.append(backend.score(rows_s, rows_t, t_s, t_t))
        clear = np.ones(200, bool)
        for z in (z_s, z_t):
            clear &= (np.abs(reference.nonconformity(z, Cumulative(0.01, 2)) - 0.8) > NEAR).all(axis=1)
        for name, found, expected in zip(results[0]._fields, *results, strict=True):
            np.testing.assert_allclose(
                found[clear], expected[clear], rtol=2e-6 * (name == "delta"), atol=2e-6, err_msg=f"{level} {name}"
            )


# ---------------------------------------------------------------------------------------------------------------------
# Coverage


@pytest.mark.parametrize("score", ["lac", "aps", "raps", "randomised aps"])
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_sets_cover_as_often_as_promised(score, alpha):
    """At least 1 − α over many calibration sets, for every score; no more than chance above it where randomised."""
    rng = np.random.default_rng(17)
    n, n_test, repetitions = 60, 100, 60
    covered = np.empty(repetitions)
    for k in range(repetitions):
        z, y = posteriors(rng, n + n_test, 6)
        arguments = {"score": score.split()[-1]}
        u = rng.random(n + n_test) if " " in score else None
        of_calibration, of_test = (None, None) if u is None else (u[:n], u[n:])
        scores = cf.nonconformity_scores(z[:n], y[:n], u=of_calibration, **arguments)
        q = cf.coverage_threshold(scores, alpha)
        covered[k] = (cf.nonconformity_scores(z[n:], y[n:], u=of_test, **arguments) <= q).mean()
        if k == 0:
            sets = cf.prediction_sets(z[n:], q, u=of_test, **arguments)
            assert sets[np.arange(n_test), y[n:]].mean() >= covered[k]  # empty sets were filled
    error = 4.0 * covered.std() / repetitions**0.5
    assert covered.mean() >= 1.0 - alpha - error
    assert covered.mean() <= 1.0 - alpha + 1.0 / (n + 1) + error


def test_coverage_given_the_calibration_rows_has_the_beta_law():
    """What coverage_threshold says of it: Beta(r, n + 1 − r)."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    n, alpha = 50, 0.1
    # The score is uniform: the coverage of a threshold q is q.
    coverage = [cf.coverage_threshold(rng.random(n), alpha) for _ in range(2000)]
    r = math.ceil((n + 1) * (1 - alpha))
    assert stats.kstest(coverage, stats.beta(r, n + 1 - r).cdf).pvalue > 0.01
    c = r / (n + 1)
    assert np.std(coverage) == pytest.approx((c * (1 - c) / (n + 2)) ** 0.5, rel=0.05)
    assert round((c * (1 - c) / (n + 2)) ** 0.5, 3) == 0.041


def test_equal_weights_are_no_weights(rng):
    for n in (0, 1, 9, 10, 99, 1000):
        scores = np.round(rng.exponential(size=n), 2)
        for alpha in (0.05, 0.1, 0.25, 0.9):
            for weight in (1.0, 1e-3, 7.3):
                q = cf.weighted_coverage_threshold(scores, alpha, np.full(n, weight), np.full(3, weight))
                np.testing.assert_array_equal(q, cf.coverage_threshold(scores, alpha))


@given(
    hnp.arrays(np.float64, st.integers(0, 30), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf])),
    st.floats(0.01, 0.99),
    st.data(),
)
def test_weighted_threshold_is_the_definition(scores, alpha, data):
    w = data.draw(hnp.arrays(np.float64, scores.size, elements=st.floats(0.0, 5.0)))
    of_test = data.draw(hnp.arrays(np.float64, 4, elements=st.floats(0.01, 100.0)))
    q = cf.weighted_coverage_threshold(scores, alpha, w, of_test)
    for weight, threshold in zip(of_test, q, strict=True):
        wanted = (1 - alpha) * (w.sum() + weight)
        assert threshold == math.inf or w[scores <= threshold].sum() >= wanted * (1 - 1e-6)
        assert w[scores < threshold].sum() <= wanted * (1 + 1e-6)


def test_weights_by_hand():
    scores, w = [1.0, 2.0, 3.0], [1.0, 2.0, 1.0]
    q = cf.weighted_coverage_threshold(scores, 0.5, w, [0.1, 2.0, 2.1, 4.1])
    np.testing.assert_array_equal(q, [2.0, 2.0, 3.0, math.inf])
    weights, of_pool = cf.stratified_weights([0, 0, 0, 1, 9], [0, 1, 1, 5])
    # Shares of the pool 1/4, 1/2, 1/4; five labelled rows and one spread like the pool.
    np.testing.assert_allclose(weights, [0.25 * 6 / 3.25] * 3 + [0.5 * 6 / 1.5, 0.0])
    np.testing.assert_allclose(of_pool, [0.25 * 6 / 3.25, 2.0, 2.0, 6.0])
    assert cf.weighted_coverage_threshold(np.ones(5), 0.2, weights, of_pool)[3] == math.inf


def actively_chosen(seed: int) -> tuple[np.ndarray, ...]:
    """Scores of a pool by an overconfident model, rows chosen where it is unsure, π, and bins of its confidence."""
    rng = np.random.default_rng(seed)
    z, y = posteriors(rng, 3000, 10)
    scores = cf.nonconformity_scores(z, y)
    rank = np.exp(-cf.nonconformity_scores(z).min(axis=1)).argsort().argsort() / 3000
    chance = np.exp(-3.0 * rank)
    chosen = rng.random(3000) < 200 * chance / chance.sum()
    return scores, chosen, chance, (8 * rank).astype(int)


def test_weights_repair_the_coverage_of_rows_that_were_chosen():
    """Labels go to unsure rows; thresholds calibrated on those are too low for the rows on which the model is sure."""
    plain, estimated, known, unbounded = [], [], [], []
    for seed in range(40):
        scores, chosen, chance, cells = actively_chosen(seed)
        rest = ~chosen
        plain.append((scores[rest] <= cf.coverage_threshold(scores[chosen], 0.1)).mean())
        q = cf.weighted_coverage_threshold(scores[chosen], 0.1, *cf.stratified_weights(cells[chosen], cells[rest]))
        estimated.append((scores[rest] <= q).mean())
        unbounded.append(np.isinf(q).mean())
        q = cf.weighted_coverage_threshold(scores[chosen], 0.1, 1 / chance[chosen], 1 / chance[rest])
        known.append((scores[rest] <= q).mean())
    assert np.mean(plain) < 0.87
    for covered in (known, estimated):
        assert np.mean(covered) >= 0.9 - 3 * np.std(covered) / len(covered) ** 0.5
        assert np.mean(covered) <= 0.93
    # Not by sets that hold everything.
    assert np.mean(unbounded) < 0.02


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_coverage_interval(confidence):
    """Wilson's: inside [0, 1], around the share, symmetric, and the roots of the score test."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + confidence) / 2)
    for n in (1, 2, 10, 999, 10**6):
        for k in sorted({0, 1, n // 3, n - 1, n}):
            low, high = cf.coverage_interval(k, n, confidence)
            assert 0.0 <= low <= k / n <= high <= 1.0
            mirrored = cf.coverage_interval(n - k, n, confidence)
            assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]), abs=1e-12)
            for end in (low, high):
                if 0.0 < end < 1.0:
                    assert (k / n - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, rel=1e-6)
    assert cf.coverage_interval(0, 0, confidence) == (0.0, 1.0)
    assert cf.coverage_interval(np.int64(3), np.int64(9), confidence) == cf.coverage_interval(3, 9, confidence)


def test_coverage_interval_holds_the_coverage_as_often_as_it_says():
    stats = pytest.importorskip("scipy.stats")
    for n in (20, 100):
        intervals = np.array([cf.coverage_interval(k, n) for k in range(n + 1)])
        p = np.linspace(0.02, 0.98, 193)[:, None]
        inside = (intervals[:, 0] <= p) & (p <= intervals[:, 1])
        held = (stats.binom.pmf(np.arange(n + 1), n, p) * inside).sum(axis=1)
        assert held.mean() == pytest.approx(0.95, abs=0.01)
        # And is narrower than the exact one on average.
        k = np.arange(n + 1)
        exact = stats.beta.ppf(0.975, k + 1, n - k)[:-1] - stats.beta.ppf(0.025, k, n - k + 1)[:-1]
        exact[0] = stats.beta.ppf(0.975, 1, n)
        assert np.diff(intervals[:-1], axis=1).mean() < exact.mean()


def test_the_warning_names_the_caller():
    with pytest.warns(
        cf.ExchangeabilityWarning, match="the 40 calibration rows were chosen by active learning"
    ) as found:
        warn_not_exchangeable(40, stacklevel=1)
    assert found[0].filename == __file__
    assert issubclass(cf.ExchangeabilityWarning, UserWarning)


# ---------------------------------------------------------------------------------------------------------------------
# Bad input

Z = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
BAD = np.where(np.arange(24).reshape(6, 4) == 13, np.nan, Z)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"score": "thr"}, ValueError, "score must be one of 'lac', 'aps', 'raps', got 'thr'"),
        ({"penalty": -0.1}, ValueError, "penalty must be at least 0, got -0.1"),
        ({"penalty": math.nan}, ValueError, "penalty must be finite, got nan"),
        ({"penalty": "1"}, TypeError, "penalty must be a number, got str '1'"),
        ({"k_reg": -1}, ValueError, "k_reg must be at least 0, got -1"),
        ({"k_reg": 1.5}, TypeError, "k_reg must be an integer, got float 1.5"),
        ({"u": np.zeros(5)}, ValueError, r"u must have shape \(6,\), got \(5,\)"),
        ({"u": 0.5}, ValueError, r"u must have shape \(6,\), got \(\)"),
        ({"u": [0, 0, 1.5, 0, 0, 0]}, ValueError, r"u must lie in \[0, 1\], got 1.5 at row 2"),
        ({"u": [0, math.nan, 0, 0, 0, 0]}, ValueError, r"u must lie in \[0, 1\], got nan at row 1"),
        ({"u": ["a"] * 6}, TypeError, "u must be real numbers, got dtype <U1"),
        ({"u": np.zeros(6), "score": "lac"}, ValueError, "u belongs to the scores 'aps' and 'raps'"),
        ({"logits": BAD}, ValueError, "logits must be finite, got NaN or infinity at row 3"),
        ({"logits": BAD, "nonempty": "raise"}, ValueError, "logits must be finite, got NaN or infinity at row 3"),
        ({"logits": Z[:, :1]}, ValueError, r"logits must have at least two columns \(classes\), got shape \(6, 1\)"),
    ],
)
def test_bad_scores(backend, arguments, error, text):
    arguments = {"logits": Z, "score": "raps", **arguments}
    with pytest.raises(error, match=text):
        cf.prediction_sets(q=0.9, backend=backend, **arguments)
    with pytest.raises(error, match=text):
        cf.target_size_threshold(size=2.0, backend=backend, **arguments)
    if "nonempty" not in arguments:
        with pytest.raises(error, match=text):
            cf.nonconformity_scores(**arguments)


@pytest.mark.parametrize(
    ("q", "error", "text"),
    [
        (np.zeros(5), ValueError, r"q must be one number or have shape \(6,\), got shape \(5,\)"),
        (np.zeros((6, 1)), ValueError, r"q must be one number or have shape \(6,\), got shape \(6, 1\)"),
        ([0, math.nan, 0, 0, 0, 0], ValueError, "q must be numbers, got NaN at row 1"),
        (["a"] * 6, TypeError, "q must be real numbers, got dtype <U1"),
        (math.nan, ValueError, "q must be a number .*, got nan"),
        (None, TypeError, "q must be a number .*, got NoneType"),
    ],
)
def test_bad_thresholds(q, error, text):
    with pytest.raises(error, match=text):
        cf.prediction_sets(Z, q)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cf.nonconformity_scores(Z, [0.0] * 6), TypeError, "labels must be integers .*float64"),
        (lambda: cf.nonconformity_scores(Z, [[0] * 6]), ValueError, r"labels must have shape \(6,\), got \(1, 6\)"),
        (lambda: cf.nonconformity_scores(Z, [0] * 5), ValueError, "labels has 5 rows but logits has 6"),
        (lambda: cf.nonconformity_scores(Z, [0, 4, 0, 0, 0, 0]), ValueError, "class from 0 to 3, got 4 at row 1"),
        (lambda: cf.nonconformity_scores(Z, [0, 0, -1, 0, 0, 0]), ValueError, "class from 0 to 3, got -1 at row 2"),
        (
            lambda: cf.weighted_coverage_threshold([1.0], 1.0, [1.0], [1.0]),
            ValueError,
            r"alpha must lie inside \(0, 1\)",
        ),
        (lambda: cf.weighted_coverage_threshold([1.0], 0.1, [1.0, 2.0], [1.0]), ValueError, "weights has 2 rows but"),
        (
            lambda: cf.weighted_coverage_threshold([1.0], 0.1, [-1.0], [1.0]),
            ValueError,
            "weights must be finite and not",
        ),
        (lambda: cf.weighted_coverage_threshold([1.0], 0.1, [math.inf], [1.0]), ValueError, "got inf at row 0"),
        (lambda: cf.weighted_coverage_threshold([1.0], 0.1, [1.0], [1.0, 0.0]), ValueError, "positive, got 0 at row 1"),
        (lambda: cf.weighted_coverage_threshold([1.0], 0.1, [1.0], 1.0), ValueError, r"test_weights .*got shape \(\)"),
        (lambda: cf.weighted_coverage_threshold([math.nan], 0.1, [1.0], [1.0]), ValueError, "got NaN at row 0"),
        (lambda: cf.weighted_coverage_threshold([1.0], 0.1, ["a"], [1.0]), TypeError, "weights must be real numbers"),
        (lambda: cf.stratified_weights([0.5], [0]), TypeError, "labelled_cells must be integers, got dtype float64"),
        (
            lambda: cf.stratified_weights([0], [[0]]),
            ValueError,
            r"pool_cells must have one dimension, got shape \(1, 1\)",
        ),
        (lambda: cf.stratified_weights([0], []), ValueError, "pool_cells must have at least one row, got none"),
        (lambda: cf.coverage_interval(-1, 5), ValueError, "covered must be at least 0, got -1"),
        (lambda: cf.coverage_interval(6, 5), ValueError, "covered must be at most 5, got 6"),
        (lambda: cf.coverage_interval(1, -5), ValueError, "n must be at least 0, got -5"),
        (lambda: cf.coverage_interval(1.0, 5), TypeError, "covered must be an integer, got float 1.0"),
        (lambda: cf.coverage_interval(1, 5, 1.0), ValueError, r"confidence must lie inside \(0, 1\), got 1.0"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------------------------------------------------------------
# Against other packages, where they are installed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_classes", [10, 30, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_torchcp(n_classes, alpha):
    """Thresholds and sets of TorchCP's split predictor."""
    score = pytest.importorskip("torchcp.classification.score", reason="needs TorchCP")
    predictor = pytest.importorskip("torchcp.classification.predictor")
    z, y = posteriors(np.random.default_rng(n_classes), 1500, n_classes)
    z = z.astype(np.float32)
    tensor, n = torch.from_numpy(z).double(), 500
    peers = {
        "lac": score.LAC(),
        "aps": score.APS(randomized=False),
        "raps": score.RAPS(randomized=False, penalty=0.02, kreg=3),
    }
    for name, function in peers.items():
        peer = predictor.SplitPredictor(function)
        # The predictor itself narrows calibration logits to float32.
        peer.calculate_threshold(tensor[:n], torch.from_numpy(y[:n]), alpha)
        sets = peer.predict_with_logits(tensor[n:]).numpy().astype(bool)
        arguments = {"score": name, "penalty": 0.02, "k_reg": 3}
        q = cf.coverage_threshold(cf.nonconformity_scores(z[:n], y[:n], **arguments), alpha)
        assert (1 - math.exp(-q) if name == "lac" else q) == pytest.approx(float(peer.q_hat), abs=NEAR)
        s = cf.nonconformity_scores(z[n:], **arguments)
        for backend in BACKENDS:
            found = cf.prediction_sets(z[n:], q, backend=backend, **arguments)
            # TorchCP leaves empty sets empty.
            clear = (np.abs(s - q) > NEAR).all(axis=1) & sets.any(axis=1)
            assert clear.sum() > 500
            np.testing.assert_array_equal(found[clear], sets[clear])
            assert not (s <= q - NEAR).any(axis=1)[~sets.any(axis=1)].any()


class Posteriors:
    """A fitted classifier, as scikit-learn has them, whose inputs are its posteriors."""

    def __init__(self, n_classes: int) -> None:
        self.classes_ = np.arange(n_classes)
        self.is_fitted_ = True

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return X

    def predict(self, X):
        return X.argmax(axis=1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_classes", [10, 30, 100])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_mapie(n_classes, alpha):
    """Thresholds and sets of MAPIE, whose APS scores are randomised in calibration. Its RAPS tunes its own λ."""
    mapie = pytest.importorskip("mapie.classification", reason="needs MAPIE")
    z, y = posteriors(np.random.default_rng(n_classes), 1500, n_classes)
    z = z.astype(np.float32)
    n, p = 500, np.exp(-reference.nonconformity(z))
    y[:n_classes] = np.arange(n_classes)
    for name in ("lac", "aps"):
        peer = mapie.SplitConformalClassifier(
            Posteriors(n_classes), confidence_level=1 - alpha, conformity_score=name, random_state=7
        ).conformalize(p[:n], y[:n])
        # MAPIE counts the share 1 − u of a class's own probability.
        u = 1 - np.random.RandomState(7).uniform(size=n) if name == "aps" else None
        q = cf.coverage_threshold(cf.nonconformity_scores(z[:n], y[:n], score=name, u=u), alpha)
        s = cf.nonconformity_scores(z[n:], score=name)
        for backend in BACKENDS:
            found = cf.prediction_sets(z[n:], q, score=name, backend=backend)
            # Without the last label: the deterministic sets, of which none is empty.
            _, sets = peer.predict_set(p[n:], conformity_score_params={"include_last_label": False})
            # And it admits a class whose probability is less than 1e-8 below the last one's (of LAC, the threshold's).
            last = math.exp(-q) if name == "lac" else np.where(found, p[n:], 1.0).min(axis=1, keepdims=True)
            near = ~found & (p[n:] > last - 2e-8)
            clear = (np.abs(s - q) > NEAR).all(axis=1) & ~near.any(axis=1) & sets[:, :, 0].any(axis=1)
            assert clear.sum() > 500
            np.testing.assert_array_equal(found[clear], sets[clear, :, 0])
