"""Masked arrays: a masked label is no label, and any other masked entry is refused."""

from __future__ import annotations

import numpy as np
import pytest

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
