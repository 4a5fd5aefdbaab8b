"""What holds for any input, on inputs that nobody thought of."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

import ccma_fast as cf
from ccma_fast import _core, reference
from ccma_fast.backends.choose import choose_backend

CPU = choose_backend("cpu")
DELTA = cf.CCMAConfig(acquisition="delta", calibration="target_size")

values = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.5, 80.0, -80.0, 1e-3]), st.floats(-100.0, 100.0, width=32, allow_subnormal=False)
)
shapes = st.tuples(st.integers(1, 40), st.integers(2, 40))
logits = hnp.arrays(np.float32, shapes, elements=values)
thresholds = st.one_of(st.floats(-1.0, 50.0), st.sampled_from([-math.inf, math.inf, 0.0, math.log(2)]))


@given(logits, st.data())
def test_score(z_s, data):
    z_t = data.draw(hnp.arrays(np.float32, z_s.shape, elements=values))
    q_s, q_t = data.draw(thresholds), data.draw(thresholds)
    delta = cf.score(z_s, z_t, q_student=q_s, q_teacher=q_t, backend="cpu")
    assert delta.dtype == np.float32
    # A mean of J ≤ ln 2 and H ≤ ln C.
    assert (delta >= 0).all()
    assert (delta <= math.log(max(2, z_s.shape[1])) + 1e-5).all()
    near = sum(np.abs(reference.nonconformity(z) - q).min(axis=1) <= 1e-6 for z, q in ((z_s, q_s), (z_t, q_t)))
    clear = near == 0
    expected = reference.score(z_s, z_t, q_s, q_t).delta
    np.testing.assert_allclose(delta[clear], expected[clear], rtol=2e-6, atol=2e-6)


@given(logits, thresholds)
def test_sets(z, q):
    sets = cf.prediction_sets(z, q, backend="cpu")
    assert sets.any(axis=1).all()
    # The most probable class is in every set, and a set holds all classes more probable than one of its own.
    assert (sets & (z == z.max(axis=1, keepdims=True))).any(axis=1).all()
    least = np.where(sets, z, np.inf).min(axis=1, keepdims=True)
    larger = sets.sum(axis=1) > 1
    assert (sets == (z >= least))[larger].all()
    # Larger thresholds give larger sets, a shift of all logits none other.
    assert (cf.prediction_sets(z, q + 1.0, backend="cpu") >= sets).all()
    raised = cf.prediction_sets(z, q, nonempty="raise", backend="cpu")
    assert (raised >= sets)[reference.nonconformity(z).min(axis=1) <= q - 1e-6].all()


@given(logits, st.floats(1e-3, 50.0))
def test_threshold(z, size):
    q = cf.target_size_threshold(z, size, backend="cpu")
    rank = reference.target_size_rank(size, *z.shape)
    at_most, _, _, _ = _core.scores_between(z, q, math.inf, 1)
    below, _, _, _ = _core.scores_between(z, math.nextafter(q, -math.inf), math.inf, 1)
    assert below < rank <= at_most
    assert abs(q - reference.target_size_threshold(z, size)) <= 1e-6
    raised = cf.target_size_threshold(z, size, nonempty="raise", backend="cpu")
    assert raised >= q
    assert abs(raised - max(q, reference.nonconformity(z).min(axis=1).max())) <= 1e-6


@given(
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=False)),
    st.integers(0, 210),
)
def test_top_m(scores, m):
    np.testing.assert_array_equal(CPU.top_m(scores, m), reference.top_m(scores, m))


@given(hnp.arrays(np.float64, st.integers(0, 50), elements=st.floats(0, 50)), st.floats(0.001, 0.999))
def test_coverage_threshold(scores, alpha):
    q = cf.coverage_threshold(scores, alpha)
    assert (scores <= q).sum() >= min(scores.size, (scores.size + 1) * (1 - alpha) - 1e-6)
    if q < math.inf:
        assert (scores < q).sum() < (scores.size + 1) * (1 - alpha)


@given(st.data(), st.integers(1, 60), st.integers(1, 12))
def test_representatives(data, n, n_clusters):
    labels = data.draw(hnp.arrays(np.int32, n, elements=st.integers(0, n_clusters - 1)))
    squared = data.draw(hnp.arrays(np.float32, n, elements=st.floats(0, 4, width=32)))
    weights = data.draw(hnp.arrays(np.float32, n, elements=st.floats(0, 3, width=32)))
    n_picks = data.draw(st.integers(1, n))
    picks, represents = reference.representatives(labels, squared, n_picks, weights, n_clusters)
    assert np.unique(picks).size == n_picks
    assert (represents >= 1).all()
    used = np.unique(labels).size
    first = picks[: min(used, n_picks)]
    assert np.unique(labels[first]).size == first.size  # every cluster once before any twice
    if n_picks >= used:
        assert represents.sum() == n
    for row in first:
        assert squared[row] <= squared[labels == labels[row]].min() + 2 * reference.TIE
    mass = np.bincount(labels, weights=weights, minlength=n_clusters)
    assert (np.diff(mass[labels[first]]) <= 1e-9).all()


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 8)), elements=values),
    st.data(),
    st.sampled_from(["k-means||", "k-means++", "random"]),
)
def test_weighted_kmeans(x, data, init):
    k = data.draw(st.integers(1, len(x)))
    weights = data.draw(hnp.arrays(np.float32, len(x), elements=st.floats(0, 10, width=32)))
    found = cf.weighted_kmeans(x, k, weights=weights, init=init, random_state=0, max_iter=5, backend="cpu")
    assert np.isfinite(found.centroids).all()
    assert found.centroids.shape == (k, x.shape[1])
    scale = max(1.0, float(np.abs(x).max()) ** 2)
    _, least = reference.assign(x, found.centroids)
    chosen = ((x.astype(np.float64) - found.centroids[found.labels]) ** 2).sum(axis=1)
    assert (chosen - least <= 1e-6 * scale).all()
    assert found.inertia >= 0.0
    # No clustering is worse than one centroid for all, beyond what rounding does to it.
    one = cf.weighted_kmeans(x, 1, weights=weights, random_state=0, backend="cpu").inertia
    assert found.inertia <= one + 1e-4 * scale * max(1.0, float(weights.sum()))


pools = hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.integers(1, 6)), elements=values)


@given(pools, st.integers(1, 70), st.integers(0, 3))
def test_select_covers(x, budget, seed):
    assume((np.abs(x).max(axis=1) > 0).all())
    picks = cf.select(x, budget, random_state=seed, backend="cpu")
    assert np.unique(picks.indices).size == len(picks) == min(budget, len(x))
    assert picks.indices.min() >= 0
    assert picks.indices.max() < len(x)
    assert picks.represents.sum() <= len(x)


@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")  # arbitrary logits may look like probabilities
@given(pools, st.data())
def test_select_queries(x, data):
    assume((np.abs(x).max(axis=1) > 0).all())
    n, n_classes = len(x), data.draw(st.integers(2, 6))
    labels = data.draw(hnp.arrays(np.int64, n, elements=st.integers(-1, n_classes - 1)))
    budget = data.draw(st.integers(1, n + 3))
    z_s, z_t = (data.draw(hnp.arrays(np.float32, (n, n_classes), elements=values)) for _ in range(2))
    config = data.draw(
        st.sampled_from(
            [
                cf.CCMAConfig(),
                cf.CCMAConfig.paper(),
                cf.CCMAConfig(pick="highest", kappa=2, student_kappa=2, nonconformity="raps", reweight=True),
                cf.CCMAConfig(alpha=0.3, subpool_size=3, max_clusters=2, nonempty="raise"),
                replace(DELTA, pick="highest", kappa=2),
                replace(DELTA, calibration="coverage", alpha=0.3),
                replace(DELTA, subpool_size=3, max_clusters=2, nonempty="raise"),
            ]
        )
    )
    teacher = data.draw(st.sampled_from([None, cf.Teacher.from_logits(z_t)]))
    options = {"teacher": teacher, "config": config, "backend": "cpu"}
    picks = cf.select(x, budget, labels=labels, student_logits=z_s, **options)
    assert np.unique(picks.indices).size == len(picks) == min(budget, int((labels < 0).sum()))
    assert (labels[picks.indices] == -1).all()
    assert (picks.scores >= 0).all()
    assert np.isfinite(picks.scores).all()
    assert (picks.represents >= 1).all()
    first = cf.select(x, budget, **options)
    assert np.unique(first.indices).size == len(first) == min(budget, n)
    assert (first.represents >= 1).all()
