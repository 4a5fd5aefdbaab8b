"""Masked arrays: a masked label is no label, and any other masked entry is refused."""

from __future__ import annotations

import numpy as np
import pandas
import pyarrow
import pytest
import torch

import ccma_fast as cf

RNG = np.random.default_rng(0)
Y = RNG.integers(3, size=90)
X = (3 * np.eye(3, 8)[Y] + RNG.standard_normal((90, 8))).astype(np.float32)
KNOWN = np.arange(90) < 30
PLAIN = np.where(KNOWN, Y, -1)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, np.float32])
@pytest.mark.parametrize("hidden", [0, 2, 77])
def test_what_lies_under_the_mask_of_labels_is_not_read(dtype, hidden):
    labels = np.ma.masked_array(np.where(KNOWN, Y, hidden).astype(dtype), mask=~KNOWN)
    picks = cf.select(X, 5, labels=labels)
    assert picks.report.n_labelled == 30
    np.testing.assert_array_equal(picks.indices, cf.select(X, 5, labels=PLAIN).indices)
    np.testing.assert_array_equal(cf.ActiveLearner(X, labels=labels).labels, PLAIN)


def test_a_mask_that_hides_nothing_changes_nothing():
    np.testing.assert_array_equal(cf.select(np.ma.masked_array(X), 5).indices, cf.select(X, 5).indices)


def one_hidden(array):
    return np.ma.masked_array(array, mask=np.arange(array.size).reshape(array.shape) == 0)


CASES = {
    "features": lambda: cf.select(one_hidden(X), 3),
    "student_logits": lambda: cf.select(X, 3, student_logits=one_hidden(X)),
    "image_features": lambda: cf.Teacher(one_hidden(X), X[:3]),
    "class_features": lambda: cf.Teacher(X, one_hidden(X[:3])),
    "teacher_logits": lambda: cf.Teacher.from_logits(one_hidden(X)),
    "weights": lambda: cf.weighted_kmeans(X, 2, weights=one_hidden(np.ones(90))),
    "init": lambda: cf.weighted_kmeans(X, 2, init=one_hidden(X[:2])),
    "logits": lambda: cf.nonconformity_scores(one_hidden(X)),
    "labels": lambda: cf.nonconformity_scores(X, one_hidden(Y)),
    "u": lambda: cf.prediction_sets(X, 0.5, score="aps", u=one_hidden(np.ones(90))),
    "q": lambda: cf.prediction_sets(X, one_hidden(np.ones(90))),
    "calibration_scores": lambda: cf.coverage_threshold(one_hidden(np.ones(90)), 0.1),
    "labelled_cells": lambda: cf.stratified_weights(one_hidden(Y), Y),
    "test_weights": lambda: cf.weighted_coverage_threshold(np.ones(90), 0.1, np.ones(90), one_hidden(np.ones(90))),
    "y": lambda: cf.LinearHead().fit(X, one_hidden(Y)),
    "indices": lambda: cf.ActiveLearner(X).label(one_hidden(np.arange(2)), [0, 1]),
    "X": lambda: cf.LinearHead(max_epochs=2).fit(X, Y).predict_proba(one_hidden(X)),
}


@pytest.mark.parametrize("name", CASES)
def test_other_masked_entries_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must have no masked entries, got 1, the first at row 0"):
        CASES[name]()


NULLS = pyarrow.array([None, *Y.tolist()[1:]])


@pytest.mark.parametrize(
    "labels",
    [
        NULLS.dictionary_encode(),
        pyarrow.chunked_array([NULLS.dictionary_encode()]),
        pyarrow.chunked_array([NULLS[:7].dictionary_encode(), NULLS[7:].dictionary_encode()]),
        pandas.Series(NULLS.dictionary_encode(), dtype=pandas.ArrowDtype(NULLS.dictionary_encode().type)),
        pandas.Series(NULLS.to_pylist(), dtype="UInt8"),
        [np.ma.masked, *Y.tolist()[1:]],
        [np.ma.masked_array(7, mask=True), *Y.tolist()[1:]],
    ],
    ids=["dictionary", "chunk", "chunks", "pandas of Arrow", "UInt8", "masked", "masked of no dimension"],
)
def test_labels_that_are_missing_in_other_ways(labels):
    """NumPy takes a null in chunks of a dictionary for the last entry, and warns of a masked one."""
    np.testing.assert_array_equal(cf.ActiveLearner(X, labels=labels).labels, [-1, *Y[1:]])


@pytest.mark.filterwarnings("ignore:The PyTorch API of")
@pytest.mark.parametrize("kind", ["masked", "nested"])
def test_tensors_that_do_not_hold_all_their_values(kind):
    values = torch.arange(2)
    if kind == "masked":
        tensor = torch.masked.masked_tensor(values, torch.tensor([True, False]))
    else:
        tensor = torch.nested.nested_tensor([values, values[:1]])
    for name, call in {
        "labels": lambda: cf.select(X[:2], 1, labels=tensor),
        "indices": lambda: cf.ActiveLearner(X).label(tensor, [0, 1]),
        "y": lambda: cf.ActiveLearner(X).label([0, 1], tensor),
        "weights": lambda: cf.weighted_kmeans(X[:2], 1, weights=tensor),
    }.items():
        with pytest.raises(TypeError, match=f"{name} must be a tensor that holds all its values, got a {kind} one"):
            call()


def test_tensors_with_a_gradient_are_taken():
    weights = torch.ones(90, requires_grad=True)
    found = cf.weighted_kmeans(X, 2, weights=weights, random_state=0)
    np.testing.assert_array_equal(found.labels, cf.weighted_kmeans(X, 2, random_state=0).labels)


@pytest.mark.parametrize("name", ["weights", "indices", "y", "calibration_scores"])
def test_nulls_where_nothing_may_be_missing(name):
    nulls = pyarrow.chunked_array([pyarrow.array([1, None]).dictionary_encode()])
    calls = {
        "weights": lambda: cf.weighted_kmeans(X[:2], 1, weights=nulls),
        "indices": lambda: cf.ActiveLearner(X).label(nulls, [0, 1]),
        "y": lambda: cf.ActiveLearner(X).label([0, 1], nulls),
        "calibration_scores": lambda: cf.coverage_threshold(nulls, 0.1),
    }
    with pytest.raises(ValueError, match=f"^{name} must have no masked entries, got 1, the first at row 1"):
        calls[name]()
