"""The heads among scikit-learn's tools."""

from __future__ import annotations

import numpy as np
import pytest

import ccma_fast as cf

# scikit-learn is imported by the tests: it takes seconds, and every worker of a run imports every module of tests.

Data = tuple[np.ndarray, np.ndarray]
HEADS = {"logistic": cf.LogisticHead(penalty=0.1), "linear": cf.LinearHead(max_epochs=20)}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


@pytest.fixture(scope="module")
def data() -> Data:
    rng = np.random.default_rng(0)
    y = rng.integers(4, size=160)
    return (2.0 * np.eye(4, 6)[y] + rng.standard_normal((160, 6))).astype(np.float32), y


@each_head
def test_the_score_is_the_accuracy(head, data: Data) -> None:
    from sklearn.metrics import accuracy_score

    x, y = data
    head.fit(x, y)
    weights = np.random.default_rng(1).random(160)
    assert head.score(x, y) == pytest.approx(accuracy_score(y, head.predict(x)))
    assert head.score(x, y, weights) == pytest.approx(accuracy_score(y, head.predict(x), sample_weight=weights))
    assert head.score(x, y + 100) == 0.0
    with pytest.raises(ValueError, match=r"y must have shape \(160,\) as X has rows, got \(1,\)"):
        head.score(x, y[:1])
    with pytest.raises(TypeError, match=r"y must be integers \(classes\), got dtype float64"):
        head.score(x, y * 1.0)
    with pytest.raises(ValueError, match="X must have at least one row, got none"):
        head.score(x[:0], y[:0])


@each_head
@pytest.mark.parametrize("n_classes", [2, 4])
def test_cross_validation(head, n_classes: int, data: Data) -> None:
    from sklearn.base import is_classifier
    from sklearn.metrics import accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    x, y = data[0], data[1] % n_classes
    assert is_classifier(head)
    scores = cross_val_score(head, x, y, cv=3)
    folds = StratifiedKFold(3).split(x, y)  # dealt out by class, as to a classifier
    expected = [accuracy_score(y[test], head.fit(x[train], y[train]).predict(x[test])) for train, test in folds]
    np.testing.assert_allclose(scores, expected)


@each_head
def test_ranking_of_two_classes(head, data: Data) -> None:
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_score

    x, y = data[0], data[1] % 2
    head.fit(x, y)
    z, p = head.decision_function(x), head.predict_proba(x)
    assert (z.shape, p.shape) == ((160,), (160, 2))
    np.testing.assert_allclose(z, np.log(p[:, 1] / p[:, 0]), atol=1e-3)
    found = cross_val_score(head, x, y, cv=[(np.arange(160), np.arange(160))], scoring="roc_auc")
    assert found[0] == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-3)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_constants_are_searched_and_probabilities_calibrated(n_classes: int, data: Data) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = data[0], data[1] % n_classes
    search = GridSearchCV(
        make_pipeline(StandardScaler(), cf.LogisticHead()),
        {"logistichead__penalty": [1e4, 0.1]},
        scoring="neg_log_loss",
        cv=3,
    ).fit(x, y)
    assert search.best_params_ == {"logistichead__penalty": 0.1}
    assert search.best_score_ > -np.log(n_classes)
    for method in ("sigmoid", "isotonic"):
        calibrated = CalibratedClassifierCV(search.best_estimator_, method=method, cv=3).fit(x, y)
        np.testing.assert_allclose(calibrated.predict_proba(x).sum(axis=1), 1.0)
        assert calibrated.score(x, y) > 0.6
