"""A pool and what labelling adds to it."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError
from ..pool.rows import Rows
from ..steps.teacher import Teacher
from ..system import display
from .identity import RowDigests

__all__ = ["LabelledPool"]

Int64 = npt.NDArray[np.int64]


class LabelledPool:
    """A pool, its teacher, its labels, and the rows that queries have chosen.

    Other threads may label rows while one queries, fits or saves.

    Parameters
    ----------
    features : Rows
    teacher : Teacher or None
    labels : ndarray, shape (N,), int64
        −1 where there is none. It is changed in place.

    Attributes
    ----------
    features, teacher, labels
        The parameters, which :meth:`grow` replaces where the pool has grown.
    chosen : set of int
        Rows that a query has returned.
    n_rounds : int
        Queries so far.
    row_digests : RowDigests
        Of the rows that were labelled or chosen.
    refused : ndarray, int64
        Rows that are no images to learn from, ascending.
    """

    def __init__(self, features: Rows, teacher: Teacher | None, labels: Int64) -> None:
        self.features = features
        self.teacher = teacher
        self.labels = labels
        self.chosen: set[int] = set()
        self.n_rounds = 0
        self.row_digests = RowDigests()
        self.refused = np.empty(0, np.int64)

    def summary(self) -> str:
        """How far the labelling is, in a line."""
        n_labelled = int((self.labels >= 0).sum())
        teacher = "with a teacher" if self.teacher is not None else "without a teacher"
        return f"{self.labels.size:,} rows, {n_labelled:,} labelled, {self.n_rounds} rounds, {teacher}"

    def notebook_html(self, class_names: list[str] | None) -> str:
        """What a notebook shows of the loop: how far it is, and how many labels each class has."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=0 if class_names is None else len(class_names))
        order = np.argsort(-counts, kind="stable").tolist()
        rows = ((c if class_names is None else class_names[c], int(counts[c])) for c in order)
        parts = [display.table(["class", "labels"], rows, counts.size)] if counts.size else []
        if self.teacher is not None:
            parts.append(display.details("teacher", self.teacher.facts_html()))
        return display.notebook_html(f"ActiveLearner: {self.summary()}", *parts)

    @property
    def n_chosen_labelled(self) -> int:
        """Labelled rows that a query has chosen."""
        return int((self.labels[sorted(self.chosen)] >= 0).sum())

    def grow(self) -> None:
        """Take in the rows that were added to the files of the pool, unlabelled."""
        features = self.features.grown()
        teacher = None if self.teacher is None else self.teacher.grown()
        if teacher is not None:
            teacher.check_rows(features)
        if features.n_rows > self.features.n_rows:  # else the array stays that to which another thread may write
            unlabelled = np.full(features.n_rows - self.features.n_rows, -1, dtype=np.int64)
            self.labels = np.concatenate([self.labels, unlabelled])
        self.features, self.teacher = features, teacher

    def record_query(self, rows: Int64) -> None:
        """Count a query, which has returned `rows`."""
        self.row_digests.add(self.features, rows)
        self.n_rounds += 1
        self.chosen.update(rows.tolist())

    def label(self, rows: Int64, codes: Int64) -> None:
        with suppress(FileReadError):  # labels are taken, whatever has become of the pool's files
            self.row_digests.add(self.features, rows)
        self.labels[rows] = codes

    def unlabel(self, rows: Int64) -> None:
        self.labels[rows] = -1
