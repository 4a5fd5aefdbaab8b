"""Predictions by a student that is fitted on the labels of a pool."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.agreement import accepted, differing_encoders
from ..pool.derived import RowSubset
from ..pool.open import open_rows
from ..pool.rows import Rows
from ..steps.linear_head import LinearHead
from ..steps.student import check_two_classes, fit_student

__all__ = ["fit_on_labels", "rows_to_predict"]

Int64 = npt.NDArray[np.int64]


def rows_to_predict(X: Any, features: Rows) -> Rows:
    """The rows of `X`, of the same encoder as the pool's `features`.

    Raises
    ------
    PoolMismatchError
        By their manifests they come from another encoder.
    ValueError
        Another number of columns.
    """
    rows = open_rows(X, "X")
    accepted([differing_encoders("X", rows.manifest, "features", features.manifest)], force=None)
    if rows.n_columns != features.n_columns:
        raise ValueError(f"X must have {features.n_columns} columns as the pool, got {rows.n_columns}")
    return rows


def fit_on_labels(
    student: Any,
    features: Rows,
    labels: Int64,
    n_classes: int,
    config: CCMAConfig,
    random_state: int,
    backend: Backend,
) -> Any:
    """A copy of `student`, or where that is None a :class:`LinearHead`, fitted on the labelled rows.

    Raises
    ------
    ValueError
        Fewer than two labelled classes.
    """
    labelled = np.flatnonzero(labels >= 0)
    check_two_classes(labels[labelled])
    if student is None:
        student = LinearHead.from_config(config, n_classes, random_state)
    return fit_student(student, RowSubset(features, labelled), labels[labelled], n_classes, backend)
