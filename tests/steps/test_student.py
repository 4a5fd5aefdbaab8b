"""The linear head: what it learns, that it is repeatable, and how it behaves among scikit-learn's tools."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference

pytestmark = pytest.mark.processor


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(240, 10, 4, seed=2)


@pytest.fixture(scope="module")
def fitted(data):
    return cf.LinearHead(max_epochs=60).fit(*data)


def test_learns_a_separable_problem(data, fitted):
    x, y = data
    assert (fitted.predict(x) == y).mean() > 0.99
    assert fitted.coef_.shape == (4, 10)
    assert fitted.intercept_.shape == (4,)
    assert fitted.coef_.dtype == fitted.intercept_.dtype == np.float32
    assert fitted.classes_.tolist() == [0, 1, 2, 3]
    assert 1 <= fitted.n_iter_ <= 60


def test_outputs_are_one_affine_map(data, fitted):
    x, _ = data
    expected = x.astype(np.float64) @ fitted.coef_.T.astype(np.float64) + fitted.intercept_
    np.testing.assert_allclose(fitted.decision_function(x), expected, rtol=1e-5, atol=1e-5)
    probabilities = fitted.predict_proba(x)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(probabilities, np.exp(-reference.nonconformity(expected)), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(fitted.predict(x), probabilities.argmax(axis=1))
    assert fitted.predict_proba(x[:0]).shape == (0, 4)


def test_normalisation_is_folded_into_the_map(blobs):
    """Without dropout the loss of the map that comes out is the loss that training reported, wherever the data lie."""
    x, y = blobs(300, 6, 3, seed=5, distance=0.4)
    far = (50 + np.array([0.01, 0.1, 1, 10, 100, 1000]) * x).astype(np.float32)
    head = cf.LinearHead(dropout=0.0, max_epochs=400, patience=400).fit(far, y)
    loss = reference.nonconformity(head.decision_function(far))[np.arange(300), y].mean()
    assert loss == pytest.approx(head.loss_, abs=5e-3)
    assert loss < 0.9 * np.log(3)
    # And it does not matter that they lie there.
    near = cf.LinearHead(dropout=0.0, max_epochs=400, patience=400).fit(x, y)
    assert near.loss_ == pytest.approx(head.loss_, abs=1e-2)


def test_constant_columns_are_harmless(data):
    x, y = data
    x = np.concatenate([x, np.full((len(x), 2), 7.0, np.float32)], axis=1)
    head = cf.LinearHead(max_epochs=60).fit(x, y)
    assert np.isfinite(head.coef_).all()
    assert (head.predict(x) == y).mean() > 0.99


def test_a_dropout_that_leaves_nothing(data):
    """Of 2¹⁶ random numbers none is small enough: the intercepts alone are learnt."""
    head = cf.LinearHead(dropout=0.999999, max_epochs=3).fit(*data)
    assert np.isfinite(head.coef_).all()
    assert head.n_iter_ == 3


@pytest.mark.parametrize("rows", [[1], [1, 2]])
def test_infinities_of_both_signs(rows):
    x = np.ones((4, 2), np.float32)
    x[rows, 0] = [np.inf, -np.inf][: len(rows)]
    with pytest.raises(ValueError, match=r"got NaN or infinity at row 1$"):
        cf.LinearHead().fit(x, [0, 1, 0, 1])


def test_fitting_is_the_hosts_work_whatever_queries_run_on(data, monkeypatch):
    heads = []
    for name in ("cuda", "cpu", "auto"):
        monkeypatch.setenv("CCMA_BACKEND", name)
        heads.append(cf.LinearHead(max_epochs=2).fit(*data))
    for head in heads[1:]:
        np.testing.assert_array_equal(head.coef_, heads[0].coef_)
    monkeypatch.setenv("CCMA_BACKEND", "reference")
    reference_head = cf.LinearHead(max_epochs=2).fit(*data)
    np.testing.assert_allclose(reference_head.coef_, heads[0].coef_, atol=1e-4)
    assert not np.array_equal(reference_head.coef_, heads[0].coef_)

    def not_built():
        raise ImportError("not built")

    monkeypatch.delenv("CCMA_BACKEND")
    monkeypatch.setattr("ccma_fast.backends.choose.load_core", not_built)
    np.testing.assert_array_equal(cf.LinearHead(max_epochs=2).fit(*data).coef_, reference_head.coef_)


def test_classes_without_a_label(data):
    x, y = data
    head = cf.LinearHead(7, max_epochs=60).fit(x, np.where(y < 2, y, 5))
    assert head.classes_.tolist() == list(range(7))
    probabilities = head.predict_proba(x)
    assert probabilities.shape == (240, 7)
    assert probabilities[:, [2, 3, 4, 6]].max(axis=1).mean() < 0.2
    assert cf.LinearHead(max_epochs=2).fit(x, y * 2).coef_.shape == (7, 10)


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize(
    ("n", "batch_size"), [(240, 64), (2500, 4096), (2500, 1200)], ids=["small", "whole", "batches"]
)
def test_same_bits_for_any_threads_and_storage(blobs, n, batch_size):
    x, y = blobs(n, 10, 4, seed=2)
    head = cf.LinearHead(max_epochs=8, batch_size=batch_size)
    expected = copy.deepcopy(head).fit(x, y)

    def assert_same(other):
        np.testing.assert_array_equal(other.coef_, expected.coef_)
        np.testing.assert_array_equal(other.intercept_, expected.intercept_)
        assert (other.n_iter_, other.loss_) == (expected.n_iter_, expected.loss_)

    for n_threads in (1, 3):
        cf.set_num_threads(n_threads)
        assert_same(copy.deepcopy(head).fit(x, y))
        torch.set_num_threads(n_threads)
        assert_same(copy.deepcopy(head).fit(x, y))
        assert torch.get_num_threads() == n_threads
    for source in (np.asfortranarray(x), torch.from_numpy(x), x.astype(np.float64), x.tolist()):
        assert_same(copy.deepcopy(head).fit(source, y))
    assert_same(copy.deepcopy(expected).fit(x, y))


def test_seeds(data):
    x, y = data

    def coef(seed):
        return cf.LinearHead(max_epochs=3, random_state=seed).fit(x, y).coef_

    np.testing.assert_array_equal(coef(1), coef(1))
    np.testing.assert_array_equal(coef(np.random.default_rng(1)), coef(np.random.default_rng(1)))
    assert not np.array_equal(coef(1), coef(2))
    assert not np.array_equal(coef(None), coef(None))
    # Fitting again is the same fit: the generator given is not used up.
    head = cf.LinearHead(max_epochs=3, random_state=np.random.default_rng(1))
    np.testing.assert_array_equal(head.fit(x, y).coef_.copy(), head.fit(x, y).coef_)


def test_global_generators_are_left_alone(data):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the state in question
    cf.LinearHead(max_epochs=3).fit(*data)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_training_works_where_gradients_are_off(data):
    x, y = data
    expected = cf.LinearHead(max_epochs=3).fit(x, y).coef_
    with torch.no_grad():
        np.testing.assert_array_equal(cf.LinearHead(max_epochs=3).fit(x, y).coef_, expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(cf.LinearHead(max_epochs=3).fit(x, y).coef_, expected)


def test_the_default_dtype_of_torch_does_not_matter(data):
    x, y = data
    expected = cf.LinearHead(max_epochs=3).fit(x, y).coef_
    torch.set_default_dtype(torch.float64)
    try:
        np.testing.assert_array_equal(cf.LinearHead(max_epochs=3).fit(x, y).coef_, expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("n", "batch_size"), [(2, 4096), (3, 2), (9, 8), (17, 8), (5, 1), (6, 2)])
def test_batches_of_one_row_do_not_happen(data, n, batch_size):
    """One row has no variance to normalise by."""
    x, y = data
    y = np.arange(n) % 2
    head = cf.LinearHead(max_epochs=5, batch_size=batch_size).fit(x[:n], y)
    assert np.isfinite(head.coef_).all()
    assert np.isfinite(head.loss_)


def test_stops_after_epochs_without_gain(data):
    assert cf.LinearHead(patience=1, min_gain=100.0).fit(*data).n_iter_ == 2
    assert cf.LinearHead(patience=7, min_gain=100.0).fit(*data).n_iter_ == 8
    assert cf.LinearHead(max_epochs=5).fit(*data).n_iter_ == 5
    long = cf.LinearHead(dropout=0.0).fit(*data)
    assert 20 < long.n_iter_ < 400


def test_keeps_the_best_epoch(data):
    """The parameters are those of the epoch that counted, not of the last one."""
    one = cf.LinearHead(max_epochs=1).fit(*data)
    several = cf.LinearHead(max_epochs=8, min_gain=100.0).fit(*data)
    np.testing.assert_array_equal(one.coef_, several.coef_)
    assert one.loss_ == several.loss_


def test_state(data, fitted):
    x, _ = data
    other = cf.LinearHead().load_state_dict(fitted.state_dict())
    np.testing.assert_array_equal(other.decision_function(x), fitted.decision_function(x))
    assert (other.n_iter_, other.loss_) == (fitted.n_iter_, fitted.loss_)
    np.testing.assert_array_equal(other.classes_, fitted.classes_)
    state = {
        key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in fitted.state_dict().items()
    }
    np.testing.assert_array_equal(cf.LinearHead().load_state_dict(state).predict_proba(x), fitted.predict_proba(x))
    with pytest.raises(ValueError, match=r"state must have the keys \['classes', .*\], got \['coef'\]"):
        cf.LinearHead().load_state_dict({"coef": fitted.coef_})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"classes": [0.5, 1.5, 2.5, 3.5]}, ValueError, "classes must be 0 to 3, one for each row of coef, got array"),
        ({"classes": [0, 1]}, ValueError, "classes must be 0 to 3"),
        ({"n_iter": 1.5}, TypeError, "n_iter must be an integer, got float 1.5"),
    ],
)
def test_a_state_that_is_none(fitted, changed, error, message):
    state = {**fitted.state_dict(), "classes": np.arange(4), "coef": np.zeros((4, 2)), **changed}
    with pytest.raises(error, match=message):
        cf.LinearHead().load_state_dict(state)


@pytest.mark.parametrize("classes", [[0, -1], [0, 3], [0.0, 1.5], ["0", "1"], [[0, 1]]])
def test_columns_of_a_classifier_that_are_no_classes(classes):
    """A position of −1 would be the last class, and 1.5 the first but one."""

    class Odd:
        def fit(self, X, y):
            self.classes_ = np.array(classes)

        def predict_proba(self, X):
            return np.full((len(X), 2), 0.5)

    x = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    with pytest.raises(ValueError, match=r"student.classes_ must be classes from 0 to 2, got array"):
        cf.select(x, 3, labels=np.where(np.arange(30) < 9, np.arange(30) % 3, -1), student=Odd())


def test_among_scikit_learns_tools(data, fitted):
    from sklearn.base import clone

    head = cf.LinearHead(4, dropout=0.5, max_epochs=7)
    twin = clone(head)
    assert twin is not head
    assert twin.get_params() == head.get_params()
    assert twin.set_params(dropout=0.25) is twin
    assert (twin.dropout, head.dropout) == (0.25, 0.5)
    assert not hasattr(clone(fitted), "coef_")
    with pytest.raises(ValueError, match="LinearHead has no parameter 'depth', expected one of n_classes, "):
        head.set_params(depth=3)


def test_constants_come_from_the_configuration():
    config = cf.CCMAConfig(
        dropout=0.1, learning_rate=0.2, weight_decay=0.3, max_epochs=4, batch_size=5, patience=6, min_gain=7
    )
    params = cf.LinearHead.from_config(config, 8, 9).get_params()
    assert list(params.values()) == [8, 0.1, 0.2, 0.3, 4, 5, 6, 7, 9]
    assert cf.LinearHead.from_config(cf.CCMAConfig(), None, 0).get_params() == cf.LinearHead().get_params()


X, Y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 2, 0, 1, 2])
WITH_NAN = np.where(np.arange(6)[:, None] == 3, np.nan, X)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cf.LinearHead().fit(X, Y[:5]), ValueError, r"y must have shape \(6,\) as X has rows, got \(5,\)"),
        (lambda: cf.LinearHead().fit(X, Y[:, None]), ValueError, r"y must have shape \(6,\) .*, got \(6, 1\)"),
        (
            lambda: cf.LogisticHead().fit(X, [*map(str, Y)]),
            TypeError,
            r"y must be .*dtype object; of names give .*return_inverse=True\)",
        ),
        (lambda: cf.LinearHead().fit(X, Y * 1.0), TypeError, r"y must be integers \(classes\), got dtype float64"),
        (lambda: cf.LinearHead().fit(X, Y - 1), ValueError, "y must be a class of at least 0, got -1 at row 0"),
        (lambda: cf.LinearHead(2).fit(X, Y), ValueError, "y must be a class from 0 to 1, got 2 at row 2"),
        (lambda: cf.LinearHead().fit(X, Y * 0), ValueError, "a student needs labels .*, got 1 .*"),
        (lambda: cf.LinearHead().fit(X[:0], Y[:0]), ValueError, "a student needs labels .*, got 0 .*"),
        (lambda: cf.LinearHead().fit(WITH_NAN, Y), ValueError,
         "X must be finite, got NaN or infinity at row 3"),
        (lambda: cf.LinearHead().predict(X), ValueError, r"LinearHead must be fitted first: call fit\(X, y\)"),
        (lambda: cf.LinearHead().state_dict(), ValueError, r"LinearHead must be fitted first: call fit\(X, y\)"),
        (lambda: cf.LinearHead(max_epochs=1).fit(X, Y).predict(X[:, :2]), ValueError,
         "X must have 3 columns as in fit, got 2"),
        (lambda: cf.LinearHead(max_epochs=1).fit(X, Y).predict(WITH_NAN), ValueError,
         "X must be finite, got NaN or infinity at row 3"),
        (lambda: cf.LinearHead(dropout=1.0).fit(X, Y), ValueError, r"dropout must lie inside \(0, 1\), got 1.0"),
        (lambda: cf.LinearHead(learning_rate=0).fit(X, Y), ValueError, "learning_rate must be greater than 0, got 0"),
        (lambda: cf.LinearHead(weight_decay=-1).fit(X, Y), ValueError, "weight_decay must be at least 0, got -1"),
        (lambda: cf.LinearHead(batch_size=0).fit(X, Y), ValueError, "batch_size must be at least 1, got 0"),
        (lambda: cf.LinearHead(patience=2.0).fit(X, Y), TypeError, "patience must be an integer, got float 2.0"),
        (lambda: cf.LinearHead("3").fit(X, Y), TypeError, "n_classes must be an integer, got str '3'"),
        (lambda: cf.LinearHead(random_state=-1).fit(X, Y), ValueError, "random_state must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=f"^{text}$"):
        call()


class HeadWithNote(cf.LinearHead):
    """As scikit-learn's users add a parameter of their own."""

    def __init__(self, note: str = "", **constants: Any) -> None:
        super().__init__(**constants)
        self.note = note

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        return {**super().get_params(deep), "note": self.note}


def test_a_subclass_may_have_more_parameters(blobs):
    x, y = blobs(60, 8, 3)
    plain, derived = cf.LinearHead(max_epochs=5).fit(x, y), HeadWithNote("mine", max_epochs=5).fit(x, y)
    np.testing.assert_array_equal(derived.coef_, plain.coef_)
    assert type(cf.LinearHead) is type  # so that it mixes with classes that have a metaclass
