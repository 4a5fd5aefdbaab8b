"""A number of classes that cannot be computed with, or is surely a mistake, is refused where it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool import class_limits
from ccma_fast.pool.class_limits import MOST_CLASSES
from ccma_fast.research.metrics import accuracy, macro_f1
from ccma_fast.research.study import open_study
from ccma_fast.system.machine import MachineMemory

N, D = 200, 4
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
TRUTH = np.arange(N) % 3
QUICK = cf.CCMAConfig(max_epochs=2)


def with_one(label: int, of: Any = TRUTH) -> np.ndarray:
    labels = np.array(of)
    labels[17] = label
    return labels


def simulated(labels: Any, test_labels: Any = TRUTH, **given: Any) -> Any:
    return cf.simulate(
        X, labels, test_features=X, test_labels=test_labels, strategies="random", seeds=[1], rounds=1, progress=False,
        config=QUICK, **given,
    )  # fmt: skip


@pytest.mark.parametrize("label", [10_000, 500_000, MOST_CLASSES - 1])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("labels", lambda y: cf.select(X, 3, labels=y)),
        ("labels", lambda y: cf.plan(X, 3, labels=y)),
        ("labels", lambda y: cf.select(X, 3, labels=np.where(np.arange(N) == 17, y, -1))),
        ("labels", lambda y: cf.ActiveLearner(X, labels=y)),
        ("y", lambda y: cf.ActiveLearner(X).label(np.arange(N), y)),
        ("y", lambda y: cf.LinearHead(max_epochs=1).fit(X, y)),
        ("labels", lambda y: simulated(y)),
        ("test_labels", lambda y: simulated(TRUTH, y)),
    ],
)
def test_one_label_that_would_make_thousands_of_classes(name: str, call: Callable[[Any], Any], label: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^{name} must be classes from 0 to 9999 .* 200 rows.*, got {label} at row 17;"
    ):
        call(with_one(label))


def test_larger_labels_are_classes_where_there_are_as_many_rows_or_somebody_says_so() -> None:
    y = with_one(10_999, np.arange(11_000) % 3)
    rows = np.zeros((y.size, 1), dtype=np.float32)
    assert cf.ActiveLearner(rows, labels=y).labels.max() == 10_999
    study = open_study(
        (rows, y), (rows[:3], [0, 1, 10_999]), contenders=(), base=QUICK, teacher=None, student=None, class_names=None,
        backend_name="cpu", force=False,
    )  # fmt: skip
    assert study.n_classes == 11_000
    for given in ({"n_classes": 21_841}, {"class_names": [f"n{c:08}" for c in range(21_841)]}):
        learner = cf.ActiveLearner(X, config=QUICK, **given)
        learner.label([3, 4, 5], [0, 1, 21_840])
        assert learner.labels[5] == 21_840
    classes = np.random.default_rng(1).standard_normal((21_841, D)).astype(np.float32)
    labels = with_one(21_840, np.full(N, -1))
    assert cf.Teacher(X, classes).n_classes == 21_841
    assert len(cf.select(X, 3, labels=labels, teacher=cf.Teacher(X, classes), config=QUICK)) == 3
    assert cf.LinearHead(21_841, max_epochs=1).fit(X, with_one(21_840)).coef_.shape == (21_841, D)


@pytest.mark.parametrize("n_classes", [MOST_CLASSES + 1, 2**31, 2**63, 10**400])
def test_more_classes_than_anybody_has(n_classes: int) -> None:
    calls = [
        lambda: cf.ActiveLearner(X, n_classes=n_classes),
        lambda: cf.ActiveLearner(X, student=cf.LinearHead(n_classes)),
        lambda: cf.LinearHead(n_classes).fit(X, TRUTH),
        lambda: cf.select(X, 3, labels=TRUTH, student=cf.LinearHead(n_classes)),
        lambda: simulated(TRUTH, student=cf.LinearHead(n_classes)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"^n_classes.* must be at most 1048576, got "):
            call()


def test_matrices_of_more_classes_than_anybody_has() -> None:
    wide = np.broadcast_to(np.float32(0), (N, MOST_CLASSES + 1))
    for call in (lambda: cf.Teacher.from_logits(wide), lambda: cf.select(X, 3, student_logits=wide)):
        with pytest.raises(
            ValueError, match=r"the columns \(classes\) of .*_logits must be at most 1048576, got 1048577"
        ):
            call()
    with pytest.raises(ValueError, match=r"the rows \(classes\) of class_features must be at most 1048576"):
        cf.Teacher(X[:, :1], np.broadcast_to(np.float32(1), (MOST_CLASSES + 1, 1)))
    with pytest.raises(ValueError, match="class_names must be at most 1048576, got 1048577"):
        cf.select(X, 3, class_names=list(map(str, range(MOST_CLASSES + 1))))


@pytest.mark.parametrize(
    "label",
    [
        3_000_000,
        2**31,
        2**63 - 1,
        2**63,
        2**64 - 1,
        10**400,
        float(2**63),
        1e300,
        np.uint64(2**63),
        np.uint64(2**64 - 2),
    ],
    ids=lambda label: f"{label:.20}" if isinstance(label, str) else f"{type(label).__name__} {label!s:.20}",
)
@pytest.mark.parametrize(
    "given", [{}, {"n_classes": MOST_CLASSES}, {"student": cf.LinearHead(4)}], ids=["alone", "counted", "of a student"]
)
def test_a_label_is_never_another_number_and_all_are_taken_or_none(label: Any, given: dict[str, Any]) -> None:
    learner = cf.ActiveLearner(X, config=QUICK, **given)
    learner.label([0, 1, 2], [0, 1, 2])
    before = learner.labels.copy()
    for y in ([1, label], np.array([1, label], dtype=object), np.array([label, label])):
        with pytest.raises(ValueError, match=r"^y must be "):
            learner.label([3, 4], y)
        np.testing.assert_array_equal(learner.labels, before)
    with pytest.raises(ValueError, match=r"^labels must be "):
        cf.select(X, 3, labels=[label, *TRUTH[1:].tolist()])
    with pytest.raises((ValueError, TypeError), match=r"^y must be "):
        cf.LinearHead(max_epochs=1).fit(X[:2], np.array([0, label]))
    if not given:
        assert len(learner.query(2)) == 2  # nothing blocks the next one


def test_labels_beyond_the_classes_of_a_head_are_told_when_they_are_given() -> None:
    learner = cf.ActiveLearner(X, student=cf.LinearHead(4))
    with pytest.raises(ValueError, match=r"y must be -1 \(not labelled\) or a class from 0 to 3, got 7"):
        learner.label([3], [7])
    with pytest.raises(ValueError, match="student was made for 4 classes, but labels, teacher or logits have 3"):
        cf.ActiveLearner(X, student=cf.LinearHead(4), teacher=cf.Teacher(X, np.eye(3, D)))


@pytest.mark.parametrize("call", [accuracy, lambda y, truth: macro_f1(truth, y)], ids=["accuracy", "macro F1"])
def test_classes_that_are_measured_do_not_wrap(call: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="must be classes below 1048576, got 9223372036854775808 at row 1"):
        call(np.array([0, 2**63], dtype=np.uint64), [0, 1])


@pytest.mark.parametrize(
    "call",
    [
        lambda y: cf.LinearHead(max_epochs=1).fit(X[:3], y),
        lambda y: cf.nonconformity_scores(X[:3], y),
        lambda y: accuracy(y, [0, 1, 2]),
        lambda y: cf.select(X[:3], 1, labels=y),
        lambda y: cf.ActiveLearner(X).label([0, 1, 2], y),
    ],
)
def test_true_among_numbers_is_no_class(call: Callable[[Any], Any]) -> None:
    """NumPy makes 1 of it."""
    with pytest.raises(TypeError, match=r"(y|labels|predicted) must be integers"):
        call([0, True, 2])


def test_a_head_that_no_memory_could_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_limits, "machine_memory", lambda: MachineMemory(240 * 5 * 100, 0))
    monkeypatch.setattr(class_limits, "_ALWAYS_THERE", 0)
    known = with_one(99)
    assert cf.ActiveLearner(X, labels=known).labels.max() == 99
    learner = cf.ActiveLearner(X, labels=np.where(np.arange(N) < 9, TRUTH, -1))
    before = learner.labels.copy()
    calls = [
        lambda: cf.ActiveLearner(X, n_classes=101),
        lambda: cf.ActiveLearner(X, labels=with_one(100)),
        lambda: learner.label([17], [100]),
        lambda: cf.select(X, 3, labels=with_one(100, np.where(np.arange(N) < 9, TRUTH, -1))),
        lambda: cf.LogisticHead(101).fit(X, TRUTH),
        lambda: simulated(TRUTH, class_names=list(map("class {}".format, range(101)))),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"^a head of 101 classes on 4 columns takes 0.000121 GB .*this machine has 0.00012 GB"
        ):
            call()
    np.testing.assert_array_equal(learner.labels, before)
    # A weight of the published head takes an eighth of that, and two thirds.
    cf.LinearHead(750, max_epochs=1).fit(X, TRUTH)
    with pytest.raises(ValueError, match=r"^a head of 751 classes on 4 columns takes 0.00012 GB"):
        cf.LinearHead(751).fit(X, TRUTH)
