"""The acquisition "trust": how far the teacher is trusted, what it leads, and what the student leads."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.unit_rows import Kernel
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.coverage import unit_rows
from ccma_fast.steps.cuts import teacher_share
from ccma_fast.steps.greedy import greedy_coverage
from ccma_fast.steps.quotas import class_quotas

pytestmark = pytest.mark.processor

BACKENDS = ("cpu", "reference")
TRUST = cf.CCMAConfig(acquisition="trust", head="published", max_epochs=15)


def certain(classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Logits that leave no doubt of the given classes."""
    return (40.0 * np.eye(n_classes)[classes]).astype(np.float32)


@pytest.fixture(scope="module")
def pool(partly_labelled):
    """400 rows of 6 classes in overlapping clusters; a vague student, a better teacher, 60 labels."""
    rng = np.random.default_rng(11)
    y = rng.integers(6, size=400)
    x = (rng.standard_normal((6, 9))[y] + rng.standard_normal((400, 9))).astype(np.float32)
    student, teacher = (
        (signal * np.eye(6)[y] + rng.standard_normal((400, 6))).astype(np.float32) for signal in (1.0, 1.6)
    )
    labels = partly_labelled(y, 60, seed=1)
    return SimpleNamespace(x=x, y=y, z_s=student, z_t=teacher, labels=labels, unlabelled=np.flatnonzero(labels < 0))


def query(pool: SimpleNamespace, budget: int, z_t: np.ndarray | None, **options) -> cf.Selection:
    teacher = None if z_t is None else cf.Teacher.from_logits(z_t)
    options = {"labels": pool.labels, "student_logits": pool.z_s, "config": TRUST, **options}
    return cf.select(pool.x, budget, teacher=teacher, **options)


def led_by_teacher(picks: cf.Selection) -> int:
    """How many of the picks the teacher leads: its share, rounded half up."""
    return int(picks.report.trust * len(picks) + 0.5)


# ---------------------------------------------------------------------------------------------------------------------
# How far the teacher is trusted


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (5.0, 1.0, 1.0),  # nothing left open
        (5.0, 2.0, 0.75),  # one class of four open ones
        (3.0, 2.0, 0.5),
        (5.0, 5.0, 0.0),  # no smaller: nothing resolved
        (5.0, 7.5, 0.0),  # larger: never below 0
        (1.0, 1.0, 0.0),  # a student that is sure leaves nothing to resolve
        (1.0, 4.0, 0.0),
        (1.0 + 1e-12, 1.0, 1.0),
        (1.0 + 1e-12, 2.0, 0.0),
    ],
)
def test_trust_of_mean_set_sizes(student, teacher, expected):
    assert teacher_share(student, teacher) == pytest.approx(expected, abs=1e-15)


def test_trust_is_that_of_the_sets(pool):
    """The report's figures from the public functions alone."""
    picks = query(pool, 20, pool.z_t)
    report = picks.report
    labelled = np.flatnonzero(pool.labels >= 0)
    sizes = []
    for logits, q in ((pool.z_s, report.q_student), (pool.z_t, report.q_teacher)):
        assert q == cf.coverage_threshold(cf.nonconformity_scores(logits[labelled], pool.labels[labelled]), 0.1)
        sizes.append(cf.prediction_sets(logits[pool.unlabelled], q).sum(axis=1).mean())
    assert [report.mean_student_set, report.mean_teacher_set] == pytest.approx(sizes)
    assert report.trust == pytest.approx(1.0 - (sizes[1] - 1.0) / (sizes[0] - 1.0))
    assert 0.2 < report.trust < 0.9  # both lead some of the picks


@pytest.mark.parametrize("budget", [1, 3, 12])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_perfect_teacher_leads_all_picks_and_balances_the_classes(backend, budget):
    """Labels (5, 2, 1, 0): one after the other to the class with the fewest, 12 picks make it 5 each."""
    y = np.arange(80) % 4
    labels = np.full(80, -1)
    for c, count in enumerate((5, 2, 1, 0)):
        labels[np.flatnonzero(y == c)[:count]] = c
    x = np.random.default_rng(3).standard_normal((80, 5))
    picks = cf.select(
        x,
        budget,
        labels=labels,
        student_logits=np.random.default_rng(4).standard_normal((80, 4)),
        teacher=cf.Teacher.from_logits(certain(y, 4)),
        config=TRUST,
        backend=backend,
    )
    assert picks.report.trust == 1.0
    assert picks.report.mean_teacher_set == 1.0
    expected = {1: (0, 0, 0, 1), 3: (0, 0, 1, 2), 12: (0, 3, 4, 5)}[budget]
    assert np.bincount(y[picks.indices], minlength=4).tolist() == list(expected)


@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")  # which says so
def test_a_teacher_of_noise_has_no_say(pool):
    """Over seeds it is hardly ever trusted with a pick, and where it is not, the picks are those without it."""
    alone = query(pool, 20, None)
    assert alone.report.trust == 0.0
    trusts = []
    for seed in range(20):
        noise = 4 * np.random.default_rng([seed, 1]).standard_normal((400, 6), dtype=np.float32)
        picks = query(pool, 20, noise)
        trusts.append(picks.report.trust)
        if led_by_teacher(picks) == 0:
            for name in ("indices", "scores", "represents"):
                np.testing.assert_array_equal(getattr(picks, name), getattr(alone, name))
    assert np.mean(trusts) < 0.02
    assert np.median(trusts) == 0.0


def test_a_teacher_that_has_no_say_does_not_change_the_students_training(pool):
    """The same, with a head that is fitted, and refitted for its out-of-fold scores where there is a teacher."""
    noise = np.random.default_rng(8).standard_normal((400, 6), dtype=np.float32)
    options = {"student_logits": None, "config": TRUST}
    found, alone = (query(pool, 15, z_t, **options) for z_t in (noise, None))
    assert found.report.calibration == "coverage"
    assert led_by_teacher(found) == 0
    np.testing.assert_array_equal(found.indices, alone.indices)
    np.testing.assert_array_equal(found.scores, alone.scores)


def test_without_labels_nothing_judges_the_teacher(pool):
    picks = query(pool, 15, certain(pool.y, 6), labels=None)
    assert (picks.report.trust, picks.report.calibration) == (0.0, "")
    np.testing.assert_array_equal(picks.indices, query(pool, 15, None, labels=None).indices)


@pytest.mark.parametrize(
    ("n", "rank"), [(1, 1), (2, 2), (5, 5), (8, 8), (9, 9), (10, 10), (18, 18), (19, 18), (29, 27)]
)
def test_few_labels_calibrate_to_the_coverage_that_they_attain(pool, n, rank):
    """⌈(n+1)(1−α)⌉ exceeds n below 9 labels: the largest score, coverage n/(n+1), instead of every class for all."""
    labels = np.full(400, -1)
    labels[pool.unlabelled[:n]] = pool.y[pool.unlabelled[:n]]
    picks = query(pool, 5, pool.z_t, labels=labels)
    for logits, q in ((pool.z_s, picks.report.q_student), (pool.z_t, picks.report.q_teacher)):
        scores = cf.nonconformity_scores(logits[labels >= 0], labels[labels >= 0])
        assert q == np.sort(scores)[rank - 1]
    published = query(pool, 5, pool.z_t, labels=labels, config=cf.CCMAConfig(acquisition="delta"))
    assert np.isinf(published.report.q_student) == (n < 9)


# ---------------------------------------------------------------------------------------------------------------------
# Quotas


@given(st.data(), st.integers(1, 4))
def test_quotas_are_the_most_balanced_of_all(data, n_classes):
    """Of all ways to spend the budget the one whose label counts, least first, are lexicographically largest."""
    counts = st.lists(st.integers(0, 5), min_size=n_classes, max_size=n_classes).map(np.array)
    available, labelled = data.draw(counts), data.draw(counts)
    budget = data.draw(st.integers(0, int(available.sum())))
    quotas = class_quotas(available, labelled, budget)
    assert quotas.dtype == np.int64
    assert quotas.sum() == budget
    assert (quotas >= 0).all()
    assert (quotas <= available).all()
    np.testing.assert_array_equal(quotas, reference.class_quotas(available, labelled, budget))
    ways = itertools.product(*(range(m + 1) for m in available.tolist()))
    best = max(sorted((labelled + way).tolist()) for way in ways if sum(way) == budget)
    assert sorted((labelled + quotas).tolist()) == best


@pytest.mark.parametrize(
    ("available", "labelled", "budget", "expected"),
    [
        ([9, 9, 9], [0, 0, 0], 4, [2, 1, 1]),  # a tie goes to the lower index
        ([9, 9, 10], [0, 0, 0], 4, [1, 1, 2]),  # but first to the class with more rows
        ([9, 9, 9], [4, 0, 1], 3, [0, 2, 1]),
        ([1, 9, 0], [0, 3, 0], 4, [1, 3, 0]),  # a class gives no more than it has
        ([0, 0], [2, 0], 0, [0, 0]),
    ],
)
def test_quotas_by_hand(available, labelled, budget, expected):
    assert class_quotas(available, labelled, budget).tolist() == expected
    assert reference.class_quotas(available, labelled, budget).tolist() == expected


# ---------------------------------------------------------------------------------------------------------------------
# What the student leads


@pytest.mark.parametrize("backend", BACKENDS)
def test_coverage_by_hand(backend):
    """Rows on the unit circle, one labelled at 0°; ‖a − b‖² = 2 − 2 cos of the angle between.

    The row at 94° reduces the sum the most, 10.3 of it, also because the far side is nearer to it than to its
    neighbours; then 180°, which is uncertain (2.8 against 2.8 · ½ of its neighbour); 20° is covered and 270° sure.
    """
    degrees = np.array([0, 20, 88, 91, 94, 180, 181, 270])
    x = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)
    u = np.array([1, 1, 1, 1, 1, 1, 0.5, 1e-3])
    p = np.stack([0.5 + 0.5 * (1 - u), 0.5 - 0.5 * (1 - u)], axis=1)
    labels = np.where(degrees == 0, 0, -1)
    picks = cf.select(x, 2, labels=labels, student_logits=np.log(p), backend=backend)
    assert degrees[picks.indices].tolist() == [94, 180]
    np.testing.assert_allclose(picks.scores, [1.0, 1.0], atol=1e-6)
    # 20°, 88°, 91° and 94° are nearer to 94°, the others to 180°.
    assert picks.represents.tolist() == [4, 3]


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_labels_cover_is_not_picked_again(backend):
    """60 rows about one axis, 20 about another: the first pick lies where there is no label yet."""
    rng = np.random.default_rng(6)
    side = np.arange(80) // 60
    x = np.eye(2, 5)[side] + 0.05 * rng.standard_normal((80, 5))
    z = np.zeros((80, 2))
    for labelled, expected in ((None, 0), (0, 1), (70, 0)):
        labels = np.where(np.arange(80) == labelled, 0, -1)
        assert side[cf.select(x, 1, labels=labels, student_logits=z, backend=backend).indices].tolist() == [expected]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(0, 5), st.integers(2, 6))
def test_picks_of_the_student_are_those_of_an_exhaustive_greedy(seed, n, n_covered, d):
    rng = np.random.default_rng(seed)
    x, covered = (rng.standard_normal((m, d)).astype(np.float32) for m in (n, n_covered))
    weights = rng.random(n, dtype=np.float32)
    n_picks = int(rng.integers(1, n + 1))
    known = reference.unit_rows(covered) if n_covered else covered.astype(np.float64)
    expected = reference.greedy_coverage(reference.unit_rows(x), known, n_picks, weights)
    for backend in map(choose_backend, BACKENDS):
        rows, known_rows = (unit_rows(open_rows(of, "x"), backend) for of in (x, covered))
        picks = greedy_coverage(
            rows,
            known_rows,
            np.arange(n),
            n_picks,
            kernel=Kernel(),
            rng=np.random.default_rng(0),
            weights=weights,
            least=-1.0,
        )
        np.testing.assert_array_equal(picks, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_that_add_no_coverage_are_picked_by_their_uncertainty(backend):
    """Equal rows beside a label of their kind: no pick covers anything, so the most uncertain rows come first."""
    rng = np.random.default_rng(4)
    labels = np.where(np.arange(50) < 4, np.arange(50) % 2, -1)
    z = np.zeros((50, 2), np.float32)
    z[:, 0] = rng.integers(10, size=50) / 4  # coarse: there are ties
    picks = cf.select(np.ones((50, 3)), 20, labels=labels, student_logits=z, backend=backend)
    uncertainty = 1.0 - reference.score(z).margin[4:]
    expected = 4 + np.argsort(-uncertainty, kind="stable")[:20]
    np.testing.assert_array_equal(picks.indices, expected)


def test_the_students_candidates_are_its_most_uncertain_rows(pool):
    picks = query(pool, 7, None, config=replace(TRUST, student_kappa=3))
    assert picks.report.n_candidates == 21
    uncertainty = 1.0 - reference.score(pool.z_s).margin
    least = np.sort(uncertainty[pool.unlabelled])[-21]
    assert (uncertainty[picks.indices] >= least).all()
    limited = query(pool, 7, None, config=replace(TRUST, student_kappa=20, candidate_limit=3))
    assert limited.report.n_candidates == 14  # never fewer than twice the picks


# ---------------------------------------------------------------------------------------------------------------------
# What a selection says of its picks


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_order_and_what_stands_behind(pool, backend):
    budget = 20
    picks = query(pool, budget, pool.z_t, backend=backend)
    n_led = led_by_teacher(picks)
    assert 0 < n_led < budget
    # δ of those that the teacher leads, and of the others, from the sets that the report names.
    rows = reference.score(pool.z_s, pool.z_t, picks.report.q_student, picks.report.q_teacher)
    uncertainty = 1.0 - rows.margin
    delta = rows.confidence * (uncertainty + rows.divergence / np.log(2.0))
    led, others = picks.indices[:n_led], picks.indices[n_led:]
    np.testing.assert_allclose(picks.scores[:n_led], delta[led], rtol=2e-6)
    np.testing.assert_allclose(picks.scores[n_led:], uncertainty[others], rtol=2e-6)
    assert (np.diff(picks.scores[:n_led]) <= 0).all()
    # Each class gets its quota, from its κ rows of largest δ for each pick.
    top1 = pool.z_t.argmax(axis=1)
    already = np.bincount(pool.labels[pool.labels >= 0], minlength=6)
    quotas = class_quotas(np.bincount(top1[pool.unlabelled], minlength=6), already, n_led)
    np.testing.assert_array_equal(np.bincount(top1[led], minlength=6), quotas)
    n_candidates = 0
    for c in np.flatnonzero(quotas):
        members = pool.unlabelled[top1[pool.unlabelled] == c]
        best = members[np.argsort(-delta[members])][: 20 * quotas[c]]
        assert np.isin(led[top1[led] == c], best).all()
        n_candidates += best.size
    # Candidates of a class stand behind its picks; all rows left, fewer than 100 a pick, behind the student's.
    assert picks.represents[:n_led].sum() == n_candidates
    assert picks.represents[n_led:].sum() == pool.unlabelled.size - n_led
    assert picks.report.n_candidates == picks.represents.sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pick_stands_for_itself_where_rows_are_equal(pool, backend):
    """Each row ten times, more picks than distinct rows: nobody stands behind nothing."""
    x = pool.x[np.arange(400) // 10]
    picks = cf.select(x, 90, student_logits=pool.z_s, config=TRUST, backend=backend)
    assert picks.represents.min() == 1
    assert picks.represents.sum() == 400


# ---------------------------------------------------------------------------------------------------------------------
# Cold start


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_labels_are_central_rows_of_the_surest_quarter_of_each_class(pool, backend):
    teacher = cf.Teacher.from_logits(pool.z_t)
    picks = cf.select(pool.x, 14, teacher=teacher, config=TRUST, backend=backend)
    assert picks.report.mode == "cold start"
    assert np.isnan(picks.scores).all()
    assert np.isnan(picks.report.trust)
    top1, margin = pool.z_t.argmax(axis=1), reference.score(pool.z_t).margin
    counts = np.bincount(top1, minlength=6)
    quotas = class_quotas(counts, np.zeros(6, int), 14)
    assert sorted(quotas.tolist()) == [2, 2, 2, 2, 3, 3]
    np.testing.assert_array_equal(np.bincount(top1[picks.indices], minlength=6), quotas)
    for c in range(6):
        members = np.flatnonzero(top1 == c)
        surest = members[np.argsort(-margin[members])][: counts[c] // 4]
        mine = top1[picks.indices] == c
        assert np.isin(picks.indices[mine], surest).all()
        assert picks.represents[mine].sum() == surest.size
    assert (np.diff(margin[picks.indices]) <= 1e-6).all()
    assert picks.report.n_candidates == picks.represents.sum()


def test_first_labels_of_one_pick_are_next_to_the_mean(pool):
    """One pick of each class of two: the row that is nearest to the mean direction of the class's surest quarter."""
    y = np.arange(400) % 2
    margins = np.random.default_rng(0).random(400)
    z = np.where(np.arange(2) == y[:, None], 1.0 + margins[:, None], 0.0)
    picks = cf.select(pool.x, 2, teacher=cf.Teacher.from_logits(z), config=TRUST)
    unit = reference.unit_rows(pool.x)
    for c in (0, 1):
        members = np.flatnonzero(y == c)
        surest = members[np.argsort(-margins[members])][:50]
        nearest = surest[((unit[surest] - unit[surest].mean(axis=0)) ** 2).sum(axis=1).argmin()]
        assert picks.indices[y[picks.indices] == c].tolist() == [nearest]


# ---------------------------------------------------------------------------------------------------------------------
# What may be missing


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("budget", [1, 40, 339, 340, 1000])
@pytest.mark.parametrize("cold", [False, True], ids=["query", "cold start"])
def test_classes_that_the_teacher_never_names(pool, backend, budget, cold):
    """It is sure, but knows two of six classes: both give picks until they have no rows left."""
    z_t = certain(pool.y % 2, 6)
    labels = np.where(pool.labels >= 0, pool.y % 2, -1)
    if cold:
        picks = cf.select(pool.x, budget, teacher=cf.Teacher.from_logits(z_t), config=TRUST, backend=backend)
        n = 400
    else:
        picks = query(pool, budget, z_t, labels=labels, backend=backend)
        n = 340
        assert picks.report.trust == 1.0
        assert picks.report.n_classes == 6
        available, already = (np.bincount(rows % 2) for rows in (pool.y[labels < 0], labels[labels >= 0]))
        expected = class_quotas(available, already, min(budget, n))
        np.testing.assert_array_equal(np.bincount(pool.y[picks.indices] % 2, minlength=2), expected)
    assert len(picks) == np.unique(picks.indices).size == min(budget, n)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("z_t", ["none", "noise", "good", "perfect"])
def test_fewer_rows_than_the_budget(pool, backend, z_t):
    """All of them come back, each standing for itself."""
    of_teacher = {"none": None, "noise": pool.z_t[::-1].copy(), "good": pool.z_t, "perfect": certain(pool.y, 6)}
    picks = query(pool, 10_000, of_teacher[z_t], backend=backend)
    np.testing.assert_array_equal(np.sort(picks.indices), pool.unlabelled)
    assert picks.represents.sum() == picks.report.n_candidates
    none_left = query(pool, 5, of_teacher[z_t], labels=pool.y, backend=backend)
    assert len(none_left) == 0


class Untouched:
    """A student that must not be fitted."""

    def fit(self, X, y):
        raise AssertionError("fitted before the input was checked")

    predict_proba = fit


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_without_direction_is_named_before_anything_is_computed(pool, backend):
    """The student's picks need directions of x, also where the clusterings run in the teacher's space."""
    x = pool.x.copy()
    x[137] = 0.0
    teacher = cf.Teacher(pool.x, np.eye(6, 9))
    text = r"features must have a direction \(.*\), got a zero-length vector at row 137"
    options = {"teacher": teacher, "config": TRUST, "backend": backend}
    with pytest.raises(ValueError, match=f"^{text}$"):
        cf.select(x, 5, labels=pool.labels, student=Untouched(), **options)
    with pytest.raises(ValueError, match=f"^{text}$"):
        cf.select(x, 5, labels=pool.labels, student_logits=pool.z_s, **options)
    # The default's first labels cover the rows of x.
    with pytest.raises(ValueError, match=f"^{text}$"):
        cf.select(x, 5, teacher=teacher, backend=backend)
    # Where only the teacher's space is used, a zero row of x is a row as any other.
    published = cf.CCMAConfig(acquisition="delta")
    assert len(cf.select(x, 5, **options)) == 5
    picks = cf.select(
        x, 5, labels=pool.labels, student_logits=pool.z_s, teacher=teacher, config=published, backend=backend
    )
    assert len(picks) == 5
