"""Which rows and labels a call means: ids to rows, names to classes, and every check before a label changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows
from ..pool.array_like import check_unmasked
from ..pool.class_codes import class_codes
from ..pool.row_ids import check_beside, distinct_rows
from ..steps.classes import ClassSet, check_implied_count
from .labelled_pool import LabelledPool

__all__ = ["rows_to_label", "rows_to_unlabel"]

Int64 = npt.NDArray[np.int64]


def rows_to_label(
    pool: LabelledPool, indices: npt.ArrayLike, y: npt.ArrayLike, classes: ClassSet, student: Any, *, overwrite: bool
) -> tuple[Int64, Int64]:
    """The rows and the labels that :meth:`ActiveLearner.label` was given.

    Returns
    -------
    rows : ndarray, shape (n,), int64
    codes : ndarray, shape (n,), int64
        Their classes.

    Raises
    ------
    ValueError, TypeError
        As :meth:`ActiveLearner.label`.
    """
    rows = distinct_rows(pool.features, indices)
    check_unmasked("y", y)
    check_beside("y", y, indices)
    codes = class_codes(y, class_names=classes.names, n_classes=classes.n_classes, name="y", place=" of y")
    check_same_rows("y", codes.size, "indices", rows.size)
    if (codes < 0).any():
        row = rows[np.flatnonzero(codes < 0)[0]]
        raise ValueError(f"y must have a class for each row, got none for row {row}; unlabel withdraws labels")
    check_implied_count(codes, "y", classes, student, pool.features)
    labelled = rows[pool.labels[rows] >= 0]
    if labelled.size and not overwrite:
        code = int(pool.labels[labelled[0]])
        label = code if classes.names is None else repr(classes.names[code])
        raise ValueError(f"row {labelled[0]} already has the label {label}; pass overwrite=True to change it")
    return rows, codes


def rows_to_unlabel(pool: LabelledPool, indices: npt.ArrayLike) -> Int64:
    """The rows that :meth:`ActiveLearner.unlabel` was given.

    Raises
    ------
    ValueError, TypeError
        As :meth:`ActiveLearner.unlabel`.
    """
    rows = distinct_rows(pool.features, indices)
    unlabelled = rows[pool.labels[rows] < 0]
    if unlabelled.size:
        raise ValueError(f"indices must be rows that have a label, got row {unlabelled[0]}, which has none")
    return rows
