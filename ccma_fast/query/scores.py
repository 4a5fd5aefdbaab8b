"""The scores of the rows of the subpool, as far as the picks and the report depend on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..reference import RowScores

__all__ = ["TOTALS", "Columns", "Scores", "class_type"]

Columns = Mapping[str, npt.DTypeLike]
"""Fields of :class:`ccma_fast.reference.RowScores` to keep per row, with their dtypes."""


def class_type(n_classes: int) -> npt.DTypeLike:
    """The narrowest dtype that holds every class: NumPy sorts 16-bit integers by radix sort."""
    return np.uint16 if n_classes <= 1 << 16 else np.int32


TOTALS = ("student_size", "teacher_size", "overlap", "top1_differs")
"""What the report has means of."""


class Scores:
    """Columns of the scores of M rows, and the means of the rest.

    Arrays, tensors where the backend has a device, or columns that lie on several ranks: code uses only operations that
    all of them support, and :func:`ccma_fast.backends.protocol.on_host`.

    Parameters
    ----------
    n_rows : int
        M.
    columns : mapping of str to dtype
        The scores to keep per row.
    """

    def __init__(self, n_rows: int, columns: Columns) -> None:
        self.n_rows = n_rows
        self._columns: dict[str, Any] = {name: np.empty(n_rows, dtype) for name, dtype in columns.items()}
        self.totals = dict.fromkeys(TOTALS, 0)
        """Sums over all rows."""

    @classmethod
    def of(cls, n_rows: int, columns: dict[str, Any], totals: dict[str, int]) -> Scores:
        """Columns and totals that are there."""
        scores = cls(n_rows, {})
        scores._columns, scores.totals = columns, totals
        return scores

    def put(self, rows: slice | npt.NDArray[np.int64], part: RowScores) -> None:
        """Take the scores of some rows, see :data:`ccma_fast.backends.protocol.PutScores`."""
        for name, values in self._columns.items():
            values[rows] = getattr(part, name)
        for name in self.totals:
            self.totals[name] += int(getattr(part, name).sum())

    def put_tensors(self, whole: Any) -> None:
        """Take the scores of all rows and leave them where they are."""
        self._columns = {name: getattr(whole, name) for name in self._columns}
        import torch

        sums = torch.stack([getattr(whole, name).sum() for name in self.totals])
        self.totals = dict(zip(self.totals, sums.tolist(), strict=True))

    def __getitem__(self, column: str) -> Any:
        return self._columns[column]

    def mean(self, name: str) -> float:
        """Mean of a set size, an overlap or an indicator over all rows."""
        return self.totals[name] / self.n_rows
