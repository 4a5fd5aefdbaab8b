"""Logistic regression as a student: what it learns, how it chooses its penalty, and wherever else a student goes."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.steps import logistic_head, softmax_regression
from ccma_fast.steps.logistic_head import PENALTIES
from ccma_fast.steps.scaling import INTERCEPT, Scaling
from ccma_fast.steps.selection import stratified_folds
from ccma_fast.steps.softmax_regression import SoftmaxRegression

pytestmark = pytest.mark.processor


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(240, 10, 4, seed=2, distance=0.5)


@pytest.fixture(scope="module")
def fitted(data):
    return cf.LogisticHead().fit(*data)


def scaled(x, weights=None):
    """Rows as the head sees them, in float64."""
    centred = x - np.average(x.astype(np.float64), axis=0, weights=weights)
    scale = np.sqrt(np.average((centred**2).sum(axis=1), weights=weights))
    return np.concatenate([centred / scale, np.full((len(x), 1), INTERCEPT)], axis=1)


def test_scikit_learns_probabilities(data, monkeypatch):
    linear_model = pytest.importorskip("sklearn.linear_model")
    monkeypatch.setattr(logistic_head, "_TOLERANCE", 1e-6)
    x, y = data
    x = 5.0 + 3.0 * x
    weights = np.random.default_rng(0).random(240)
    for class_weight in (None, "balanced", {1: 3.0, 2: 0.0}):
        given = {"fit_intercept": False, "tol": 1e-10, "max_iter": 1000, "class_weight": class_weight}
        theirs = linear_model.LogisticRegression(C=1 / 0.03, **given)
        with_weights = {} if class_weight == "balanced" else {"sample_weight": weights}  # versions differ there
        counts = np.bincount(y)
        of_class = y.size / (np.count_nonzero(counts) * np.maximum(counts, 1))
        if class_weight != "balanced":
            of_class = np.array([(class_weight or {}).get(c, 1.0) for c in range(counts.size)])
        rows = scaled(x, of_class[y] * with_weights.get("sample_weight", 1.0))
        theirs.fit(rows, y, **with_weights)
        ours = cf.LogisticHead(penalty=0.03, class_weight=class_weight).fit(x, y, **with_weights)
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(rows), atol=5e-5)


def test_a_row_of_weight_zero_is_no_row(data):
    x, y = data
    far, weights = x.copy(), np.ones(len(x))
    far[0], weights[0] = 1e6, 0.0
    head = cf.LogisticHead(penalty=0.1)
    without = head.fit(x[1:], y[1:]).predict_proba(x[1:])
    assert np.abs(head.fit(far, y, sample_weight=weights).predict_proba(x[1:]) - without).max() < 2e-3


def test_attributes(data, fitted):
    x, y = data
    assert (fitted.predict(x) == y).mean() > 0.7
    assert fitted.coef_.shape == (4, 10)
    assert fitted.intercept_.shape == (4,)
    assert fitted.coef_.dtype == fitted.intercept_.dtype == fitted.mean_.dtype == np.float32
    assert fitted.classes_.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(fitted.mean_, x.mean(axis=0), atol=1e-6)
    assert fitted.penalty_ in PENALTIES
    assert fitted.n_iter_ > 1
    expected = x.astype(np.float64) @ fitted.coef_.T.astype(np.float64) + fitted.intercept_
    np.testing.assert_allclose(fitted.decision_function(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n_classes", [4, 50])
def test_the_penalty_is_the_likeliest_out_of_fold(data, n_classes):
    x, y = data
    x, y = x[:60], y[:60]
    z, weights = scaled(x).astype(np.float32), np.linspace(0.5, 2.0, 60)
    folds = stratified_folds(y, 3, np.random.default_rng(7))
    losses = []
    for penalty in PENALTIES:
        losses.append(0.0)
        for fold in range(3):
            train, test = folds != fold, folds == fold
            regression = SoftmaxRegression(z[train], y[train], n_classes=n_classes, backend=choose_backend("cpu"))
            solution = regression.solve(penalty=penalty, label_weights=weights[train])
            of_label = reference.nonconformity(z[test] @ solution.coef.T)[np.arange(test.sum()), y[test]]
            losses[-1] += (weights[test] * of_label).sum()
    assert np.ptp(losses) > 1.0
    head = cf.LogisticHead(n_classes, random_state=7).fit(x, y, weights)
    assert head.penalty_ == PENALTIES[int(np.argmin(losses))]


def test_a_hundred_thousand_classes_of_which_few_have_labels(data):
    x, y = data
    head = cf.LogisticHead(100_000).fit(x[:40], 1000 * y[:40])
    assert head.coef_.shape == (100_000, x.shape[1])
    np.testing.assert_array_equal(head.coef_[1], head.coef_[-1])
    assert (head.predict(x) == 1000 * y).mean() > 0.5


def test_folds_share_out_every_class():
    labels = np.random.default_rng(0).integers(0, 5, 103)
    folds = stratified_folds(labels, 4, np.random.default_rng(1))
    for rows in (folds, *(folds[labels == label] for label in range(5))):
        counts = np.bincount(rows, minlength=4)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, stratified_folds(labels, 4, np.random.default_rng(2)))
    assert sorted(stratified_folds(labels[:3], 5, np.random.default_rng(1))) == [0, 1, 2]


def test_two_rows_and_a_class_that_a_fold_lacks(data):
    x, _ = data
    head = cf.LogisticHead(3).fit(x[:2], [0, 2])
    assert head.predict(x[:2]).tolist() == [0, 2]
    assert np.isfinite(head.decision_function(x)).all()
    assert cf.LogisticHead(n_folds=5).fit(x[:4], [0, 1, 1, 2]).penalty_ in PENALTIES


@pytest.mark.parametrize("factor", [1e-20, 1.0, 1e20])
def test_scale_and_place_are_folded_in(data, factor):
    x, y = data
    x = np.concatenate([x, np.full((240, 1), 7.0, np.float32), np.zeros((240, 1), np.float32)], axis=1)
    expected = cf.LogisticHead(penalty=0.1).fit(x, y)
    head = cf.LogisticHead(penalty=0.1).fit(x * np.float32(factor), y)
    np.testing.assert_allclose(head.predict_proba(x * np.float32(factor)), expected.predict_proba(x), atol=1e-4)
    assert not head.coef_[:, -1].any()


def test_rows_that_are_all_the_same():
    head = cf.LogisticHead(penalty=0.1).fit(np.full((5, 3), 2.0), [0, 0, 0, 1, 1])
    assert head.predict(np.full((2, 3), 2.0)).tolist() == [0, 0]
    assert not head.coef_.any()


def test_the_scaling_of_a_pool(data):
    x, y = data
    few = np.flatnonzero(y < 2)[:20]
    rows = open_rows(x[few], "X")
    of_pool = Scaling.of(x)
    given = cf.LogisticHead(4, penalty=0.1).fit_rows(rows, y[few], scaling=of_pool)
    np.testing.assert_allclose(given.mean_, of_pool.mean, atol=1e-6)
    assert given.scale_ == of_pool.scale
    own = cf.LogisticHead(4, penalty=0.1).fit_rows(rows, y[few])
    assert abs(given.coef_ - own.coef_).max() > 1e-3


def test_balanced_classes_and_weights_of_each(data):
    x, y = data
    few = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:5]])
    counts = np.bincount(y[few])
    balanced = cf.LogisticHead(penalty=0.1, class_weight="balanced").fit(x[few], y[few])
    of_class = len(few) / (2 * counts)
    by_array = cf.LogisticHead(penalty=0.1, class_weight=of_class).fit(x[few], y[few])
    by_row = cf.LogisticHead(penalty=0.1).fit(x[few], y[few], sample_weight=of_class[y[few]])
    np.testing.assert_array_equal(balanced.coef_, by_array.coef_)
    np.testing.assert_array_equal(balanced.coef_, by_row.coef_)
    plain = cf.LogisticHead(penalty=0.1).fit(x[few], y[few])
    assert (balanced.predict(x) == 1).sum() > (plain.predict(x) == 1).sum()


@pytest.mark.parametrize("unit", [2.0**-120, 2.0**-20, 2.0**20, 2.0**120])
def test_weights_and_penalty_in_any_unit(data, unit):
    """F times a power of two, of which float32 would hold no square."""
    x, y = data
    expected = cf.LogisticHead(penalty=0.1).fit(x, y)
    found = cf.LogisticHead(penalty=0.1 * unit).fit(x, y, sample_weight=np.full(len(y), unit))
    np.testing.assert_array_equal(found.coef_, expected.coef_)


def test_weights_that_outweigh_the_penalty_or_vanish_beside_it(data):
    x, y = data
    nearly = cf.LogisticHead(penalty=1e-9).fit(x, y).predict_proba(x)
    for weights in ({"sample_weight": np.full(len(y), 1e36)}, {"class_weight": dict.fromkeys(range(4), 1e30)}):
        head = cf.LogisticHead(penalty=0.1, class_weight=weights.get("class_weight"))
        p = head.fit(x, y, weights.get("sample_weight")).predict_proba(x)
        np.testing.assert_allclose(p, nearly, atol=0.02)
    for weight in (1e-30, 1e-300):
        none = cf.LogisticHead(penalty=0.1).fit(x, y, np.full(len(y), weight))
        np.testing.assert_allclose(none.predict_proba(x), 0.25, atol=1e-6)
    both = cf.LogisticHead(penalty=0.1, class_weight=np.full(4, 1e-30)).fit(x, y, np.full(len(y), 1e30))
    np.testing.assert_allclose(both.coef_, cf.LogisticHead(penalty=0.1).fit(x, y).coef_, atol=1e-3)


@pytest.mark.usefixtures("restore_threads")
def test_same_bits_for_any_threads_and_storage(data):
    x, y = data
    expected = cf.LogisticHead().fit(x, y)
    for n_threads, source in ((1, np.asfortranarray(x)), (2, x.astype(np.float64)), (3, x.tolist())):
        cf.set_num_threads(n_threads)
        other = cf.LogisticHead().fit(source, y)
        np.testing.assert_array_equal(other.coef_, expected.coef_)
        np.testing.assert_array_equal(other.intercept_, expected.intercept_)
        assert (other.n_iter_, other.penalty_) == (expected.n_iter_, expected.penalty_)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter's NumPy warns of what a GPU does as it is told
def test_on_a_device(data):
    x, y = data[0][:15, :4], data[1][:15]
    rows = open_rows(x, "X")
    cpu, cuda = (cf.LogisticHead(4, penalty=0.1).fit_rows(rows, y, choose_backend(name)) for name in ("cpu", "cuda"))
    np.testing.assert_allclose(cuda.predict_proba(x), cpu.predict_proba(x), atol=1e-3)


def test_a_generator_is_left_as_it_is(data):
    head = cf.LogisticHead(random_state=np.random.default_rng(1))
    np.testing.assert_array_equal(head.fit(*data).coef_.copy(), head.fit(*data).coef_)


def test_state(data, fitted):
    x, _ = data
    other = cf.LogisticHead().load_state_dict(fitted.state_dict())
    np.testing.assert_array_equal(other.decision_function(x), fitted.decision_function(x))
    assert other.state_dict().keys() == fitted.state_dict().keys()
    assert (other.n_iter_, other.penalty_, other.scale_) == (fitted.n_iter_, fitted.penalty_, fitted.scale_)
    with pytest.raises(ValueError, match=r"state must have the keys \['classes', .*\], got \['coef'\]"):
        cf.LogisticHead().load_state_dict({"coef": fitted.coef_})
    with pytest.raises(ValueError, match=r"scale must be greater than 0, got 0"):
        cf.LogisticHead().load_state_dict({**fitted.state_dict(), "scale": 0.0})


def test_among_scikit_learns_tools(data):
    base = pytest.importorskip("sklearn.base")
    head = cf.LogisticHead(4, penalty=0.1, n_folds=4, class_weight="balanced", random_state=3)
    twin = base.clone(head)
    assert twin is not head
    assert twin.get_params() == head.get_params()
    with pytest.raises(ValueError, match="LogisticHead has no parameter 'depth', expected one of n_classes, "):
        head.set_params(depth=3)


def test_wherever_a_student_goes(data, partly_labelled):
    x, y = data
    labels = partly_labelled(y, 40)
    student, teacher = cf.LogisticHead(4), cf.Teacher.from_logits(2.0 * np.eye(4, dtype=np.float32)[y])
    before = copy.deepcopy(vars(student))
    picks = cf.select(x, 8, labels=labels, teacher=teacher, student=student)
    assert len(set(picks.indices.tolist())) == 8
    assert (labels[picks.indices] < 0).all()
    assert "posteriors" in cf.plan(x, 8, labels=labels, teacher=teacher, student=student).stages
    learner = cf.ActiveLearner(x, n_classes=4, student=student)
    learner.label(np.flatnonzero(labels >= 0), y[labels >= 0])
    probabilities = learner.predict_proba(x)
    expected = cf.LogisticHead(4).fit(x[labels >= 0], y[labels >= 0]).predict_proba(x)
    np.testing.assert_array_equal(probabilities, expected)
    assert vars(student) == before  # copies of it are fitted


def test_strategies_with_and_without_dropout_passes(data):
    x, y = data
    given = {"test_features": x, "test_labels": y, "seeds": [1], "rounds": 2, "budget": 4, "progress": False}
    results = cf.simulate(x, y, strategies=["margins", "bald"], student=cf.LogisticHead(4), **given)
    for name in results.strategies:
        assert results.curve(name).mean[-1] > 0.4


def test_a_search_that_does_not_end_warns(data, monkeypatch):
    monkeypatch.setattr(softmax_regression, "_MOST_EVALUATIONS", 2)
    with pytest.warns(RuntimeWarning, match="the regression was not solved: its gradient is still .* 2 evaluations"):
        cf.LogisticHead(penalty=1e-4).fit(*data)


X, Y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 2, 0, 1, 2])
WITH_NAN = np.where(np.arange(6)[:, None] == 3, np.nan, X)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cf.LogisticHead().fit(X, Y[:5]), ValueError, r"y must have shape \(6,\) as X has rows, got \(5,\)"),
        (lambda: cf.LogisticHead().fit(X, Y * 0), ValueError, "a student needs labels .*, got 1 .*"),
        (lambda: cf.LogisticHead().fit(X[:1], Y[:1]), ValueError, "a student needs labels .*, got 1 .*"),
        (lambda: cf.LogisticHead().fit(WITH_NAN, Y), ValueError,
         "X must be finite, got NaN or infinity at row 3"),
        (lambda: cf.LogisticHead().predict(X), ValueError, r"LogisticHead must be fitted first: call fit\(X, y\)"),
        (lambda: cf.LogisticHead(penalty="ridge").fit(X, Y), ValueError,
         "penalty must be 'auto' or a number, got 'ridge'"),
        (lambda: cf.LogisticHead(penalty=0).fit(X, Y), ValueError, "penalty must be greater than 0, got 0"),
        (lambda: cf.LogisticHead(penalty=None).fit(X, Y), TypeError, "penalty must be a number, got None.*"),
        (lambda: cf.LogisticHead(n_folds=1).fit(X, Y), ValueError, "n_folds must be at least 2, got 1"),
        (lambda: cf.LogisticHead().fit(X, Y, [1.0]), ValueError, r"sample_weight must have shape \(6,\), got \(1,\)"),
        (lambda: cf.LogisticHead().fit(X, Y, -1.0 * Y), ValueError,
         "sample_weight must be finite and not negative, got -1.0 at row 1"),
        (lambda: cf.LogisticHead(class_weight="even").fit(X, Y), ValueError,
         "class_weight must be None, 'balanced', a mapping or an array, got 'even'"),
        (lambda: cf.LogisticHead(class_weight={3: 1.0}).fit(X, Y), ValueError,
         "a class of class_weight must be at most 2, got 3"),
        (lambda: cf.LogisticHead(class_weight={0: -1.0}).fit(X, Y), ValueError,
         "class_weight of class 0 must be at least 0, got -1.0"),
        (lambda: cf.LogisticHead(class_weight={0: np.inf}).fit(X, Y), ValueError,
         "class_weight of class 0 must be finite, got inf"),
        (lambda: cf.LogisticHead(class_weight={0: 1e300}).fit(X, Y), ValueError,
         "class_weight must be at most 3.40282e.38 .float32., got 1e.300 at row 0"),
        (lambda: cf.LogisticHead(4, class_weight={0: 0, 1: 0, 2: 0}).fit(X, Y), ValueError,
         "class_weight must leave a row of y with a weight above 0, got 0 for the classes of all"),
        (lambda: cf.LogisticHead().fit(X, Y, np.full(6, np.nan)), ValueError,
         "sample_weight must be finite and not negative, got nan at row 0"),
        (lambda: cf.LogisticHead().fit(X, Y, np.full(6, 1e300)), ValueError,
         "sample_weight must be at most 3.40282e.38 .float32., got 1e.300 at row 0"),
        (lambda: cf.weighted_kmeans(X, 2, weights=[1e-300, 2e-300, 0, 0, 0, 0]), ValueError,
         "weights must have one of at least 1.4013e-45 .float32., got at most 2e-300"),
        (lambda: cf.LogisticHead(class_weight=[1.0]).fit(X, Y), ValueError,
         r"class_weight must have shape \(3,\), got \(1,\)"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        call()
