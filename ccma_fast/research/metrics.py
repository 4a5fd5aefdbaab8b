"""Metrics of a classifier on test rows: accuracy, macro AUROC, macro F1."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..pool.array_like import as_array, uncoerced
from ..pool.class_limits import MOST_CLASSES

__all__ = ["accuracy", "class_areas", "macro_auroc", "macro_f1"]

Int64 = npt.NDArray[np.int64]


def accuracy(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The share of rows whose class was predicted, in [0, 1].

    Parameters
    ----------
    predicted, labels : array_like, shape (M,), int
        Classes, M ≥ 1.

    Raises
    ------
    ValueError
        No row, more than one dimension, or lengths that differ.
    TypeError
        Classes that are not integers.
    """
    guesses, truth = _predictions(predicted, labels)
    return float((guesses == truth).mean())


def macro_f1(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The unweighted mean over classes of F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c), in [0, 1].

    The mean is over the classes that occur in `labels`. A class that is absent there is left out, even where it was
    predicted: such a prediction counts as a miss of the class that the row has.

    Parameters
    ----------
    predicted, labels : array_like, shape (M,), int
        Classes, M ≥ 1.

    Raises
    ------
    ValueError
        No row, more than one dimension, or lengths that differ.
    TypeError
        Classes that are not integers.
    """
    guesses, truth = _predictions(predicted, labels)
    classes, of_row, n_true = np.unique(truth, return_inverse=True, return_counts=True)
    n_predicted = np.array([np.count_nonzero(guesses == c) for c in classes])
    n_right = np.bincount(of_row[guesses == truth], minlength=classes.size)
    return float((2.0 * n_right / (n_true + n_predicted)).mean())


def macro_auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The unweighted mean over classes of the area under the one-vs-rest ROC curve, in [0, 1].

    The area of class c is the probability that a row of c has a larger score in column c than a row of another class,
    ties counted half: (R_c − n_c (n_c + 1) / 2) / (n_c (M − n_c)), where R_c is the sum of the ranks of the n_c rows of
    c in that column and tied rows share their mean rank (Hanley and McNeil 1982).

    The mean is over the classes that occur in `labels`. A class that is absent there has no curve and is left out.

    Parameters
    ----------
    scores : array_like, shape (M, C)
        Posteriors p_ic, or anything that rises with them in each column, such as ln p_ic. Logits do not: their columns
        also hold each row's normalisation.
    labels : array_like, shape (M,), int
        Classes from 0 to C − 1.

    Returns
    -------
    float
        NaN where all rows are of one class.

    Raises
    ------
    ValueError
        No row, wrong shapes, classes out of range, or NaN among the scores.
    TypeError
        Classes that are not integers.
    """
    values, truth = as_array("scores", scores), _classes("labels", labels)
    if values.ndim != 2:
        raise ValueError(f"scores must have two dimensions (rows, classes), got shape {values.shape}")
    check_same_rows("scores", len(values), "labels", truth.size)
    n_classes = values.shape[1]
    if truth.min() < 0 or truth.max() >= n_classes:
        bad = np.flatnonzero((truth < 0) | (truth >= n_classes))[0]
        raise ValueError(f"labels must be classes from 0 to {n_classes - 1}, got {truth[bad]} at row {bad}")
    return float(np.mean(class_areas(values, truth)))


def class_areas(values: npt.NDArray[Any], truth: Int64, first: int = 0) -> list[float]:
    """The area of :func:`macro_auroc` of every class that occurs among those of some columns, in their order.

    Parameters
    ----------
    values : ndarray, shape (M, n)
        The columns of classes `first` to `first` + n − 1.
    truth : ndarray, shape (M,), int64

    Returns
    -------
    list of float
        NaN where all rows are of one class.
    """
    n_rows, n_columns = values.shape
    areas = []
    for c in np.unique(truth):
        if not first <= c < first + n_columns:
            continue
        is_c, of_class = truth == c, values[:, c - first]
        n_c = int(is_c.sum())
        if n_c == n_rows:
            return [float("nan")]
        column = np.sort(of_class)
        if np.isnan(column[-1]):  # NaN sorts last
            raise ValueError(f"scores must be numbers, got NaN at row {np.flatnonzero(np.isnan(of_class))[0]}")
        own = of_class[is_c]
        # The mean rank, counted from 1, of the places that a value takes in the sorted column.
        ranks = (np.searchsorted(column, own, "left") + np.searchsorted(column, own, "right") + 1) / 2
        areas.append(float((ranks.sum() - n_c * (n_c + 1) / 2) / (n_c * (n_rows - n_c))))
    return areas


def _predictions(predicted: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Int64, Int64]:
    guesses, truth = _classes("predicted", predicted), _classes("labels", labels)
    check_same_rows("predicted", guesses.size, "labels", truth.size)
    return guesses, truth


def _classes(name: str, values: Any) -> Int64:
    array = as_array(name, uncoerced(values))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have shape (M,) with M at least 1, got {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers (classes), got dtype {array.dtype}")
    if array.max() >= MOST_CLASSES:
        raise ValueError(f"{name} must be classes below {MOST_CLASSES}, got {array.max()} at row {array.argmax()}")
    return array.astype(np.int64)
