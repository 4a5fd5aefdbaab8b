"""The rows that one threshold is for: all without a label, or those of each predicted class."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..steps.risk_control import Audited, Controlled, controlled_thresholds
from .pool_predictions import PoolPredictions

__all__ = ["AuditedGroups"]

Int64 = npt.NDArray[np.int64]


class AuditedGroups:
    """The rows without a label, in groups of which each gets a threshold of its own.

    Parameters
    ----------
    predictions : PoolPredictions
    unlabelled : ndarray, int64
    per_class : bool
        A group for every predicted class, else one for all rows.
    """

    def __init__(self, predictions: PoolPredictions, unlabelled: Int64, *, per_class: bool) -> None:
        self._predictions, self._per_class = predictions, per_class
        scores = predictions.scores[unlabelled]
        if per_class:
            labels, n_classes = predictions.labels[unlabelled], predictions.rows.n_columns
            order = np.argsort(labels, kind="stable")
            self._scores = np.split(scores[order], np.bincount(labels, minlength=n_classes).cumsum()[:-1])
        else:
            self._scores = [scores]
        for of_group in self._scores:
            of_group.sort()

    def controlled(
        self, rows: Int64, is_wrong: npt.NDArray[np.bool_], max_error: float, confidence: float
    ) -> list[Controlled]:
        """The threshold of every group, given audit rows and whether their predicted labels are wrong."""
        groups = self.of_rows(rows)
        order = np.argsort(groups, kind="stable")
        ends = np.bincount(groups, minlength=len(self._scores)).cumsum()[:-1]
        scores, wrong = np.split(self._predictions.scores[rows[order]], ends), np.split(is_wrong[order], ends)
        audited = list(map(Audited, self._scores, scores, wrong))
        return controlled_thresholds(audited, max_error, 1 - confidence)

    def of_rows(self, rows: Int64) -> npt.NDArray[np.int32]:
        """The group of each of some rows."""
        return self._predictions.labels[rows] if self._per_class else np.zeros(rows.size, np.int32)
