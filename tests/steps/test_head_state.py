"""The state of a head: what is saved, and what is refused."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import ccma_fast as cf

X, Y = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 2, 0, 1, 2])
HEADS = {"linear": cf.LinearHead(max_epochs=2), "logistic": cf.LogisticHead(penalty=0.1)}
each_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
LARGE = float(np.finfo(np.float32).max) * 2


@each_head
def test_a_state_is_a_copy_both_ways(head):
    head.fit(X, Y)
    before, state = head.decision_function(X), head.state_dict()
    other = type(head)().load_state_dict(state)
    for name in ("classes", "coef", "intercept", "mean"):
        state[name][...] = 7
    for each in (head, other):
        np.testing.assert_array_equal(each.decision_function(X), before)


@each_head
@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"depth": 3}, ValueError, "state must have the keys .*, got .*'depth'.*"),
        ({0: 3}, ValueError, "state must have the keys .*, got .0, .*"),
        ({"coef": np.zeros(3)}, ValueError, r"coef must have a row for each of 2 to 1048576 classes .* shape \(3,\)"),
        ({"coef": np.zeros((1, 3)), "classes": [0], "intercept": [0.0]}, ValueError, r"coef must .* shape \(1, 3\)"),
        ({"coef": np.zeros((3, 0)), "mean": []}, ValueError, r"coef must have .* each feature, got shape \(3, 0\)"),
        ({"coef": np.full((3, 3), "a")}, TypeError, "coef must be real numbers, got dtype <U1"),
        ({"coef": np.full((3, 3), 1j)}, TypeError, "coef must be real numbers, got dtype complex128"),
        ({"coef": np.where(np.eye(3) == 1, np.nan, 0)}, ValueError,
         r"coef must be finite in float32, got nan at \(0, 0\)"),
        ({"intercept": [0.0, LARGE, 0.0]}, ValueError, r"intercept must be finite in float32, got 6.8.* at \(1,\)"),
        ({"intercept": np.zeros(4)}, ValueError,
         r"intercept must have shape \(3,\) beside coef of shape \(3, 3\), got \(4,\)"),
        ({"mean": np.zeros((1, 3))}, ValueError, r"mean must have shape \(3,\) beside .*, got \(1, 3\)"),
        ({"classes": [0, 2, 1]}, ValueError, "classes must be 0 to 2, one for each row of coef, got array.*"),
        ({"n_iter": -1}, ValueError, "n_iter must be at least 0, got -1"),
    ],
)  # fmt: skip
def test_a_state_that_is_refused_changes_nothing(head, changed, error, text):
    head.fit(X, Y)
    before = copy.deepcopy(vars(head))
    with pytest.raises(error, match=f"^{text}$"):
        head.load_state_dict({**head.state_dict(), **changed})
    assert vars(head).keys() == before.keys()
    for name, value in vars(head).items():
        np.testing.assert_array_equal(value, before[name])


@each_head
def test_a_state_of_another_head(head):
    head.fit(X, Y)
    with pytest.raises(ValueError, match="state must be of a head of n_classes=4, got coef of 3 classes"):
        type(head)(4).load_state_dict(head.state_dict())
    with pytest.raises(TypeError, match="state must be a mapping, such as state_dict returns, got NoneType"):
        type(head)().load_state_dict(None)


@pytest.mark.parametrize(("name", "value"), [("scale", np.nan), ("scale", np.inf), ("penalty", 0.0), ("loss", np.nan)])
def test_numbers_of_a_state_that_are_out_of_range(name, value):
    head = HEADS["linear" if name == "loss" else "logistic"].fit(X, Y)
    with pytest.raises(ValueError, match=f"^{name} must be "):
        head.load_state_dict({**head.state_dict(), name: value})
