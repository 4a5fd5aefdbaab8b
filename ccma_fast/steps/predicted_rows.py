"""Class probabilities of rows, computed by a model whenever they are read."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..checks import raise_not_finite
from ..pool.rows import RowId, Rows, to_float32
from .student import ProbabilityRows

__all__ = ["PredictedRows", "most_probable"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

# How far the probabilities of a row may be from 1 in sum: bfloat16 rounds each by up to 0.4 %.
_TOLERANCE = 0.01


class PredictedRows(ProbabilityRows):
    """Class probabilities of rows, computed by a model whenever they are read; shape (N, C).

    Attributes
    ----------
    is_labelled : ndarray, shape (N,), bool, or None
        Rows that had a label, on which the model may have been trained; None where these are other rows.
    class_names : list of str or None
    """

    def __init__(
        self, logits: Rows, of: Rows, is_labelled: npt.NDArray[np.bool_] | None, class_names: list[str] | None
    ) -> None:
        super().__init__(logits)
        self.is_labelled, self.class_names = is_labelled, class_names
        self._of, self.index = of, of.index

    @cached_property
    def most_probable(self) -> tuple[Int32, Float32]:
        """Class and probability, see :func:`most_probable`: one pass, whose outcome is kept."""
        return most_probable(self)

    def row_ids(self) -> Iterator[RowId] | None:
        return self._of.row_ids()

    def ids_at(self, rows: Int64) -> list[RowId] | None:
        return self._of.ids_at(rows)

    def former_ids(self) -> dict[str, list[int]]:
        return self._of.former_ids()

    def vanished(self) -> Int64:
        return self._of.vanished()


def most_probable(rows: Rows) -> tuple[Int32, Float32]:
    """The most probable class of each row, the lower of equal ones, and its probability."""
    labels, largest = np.empty(rows.n_rows, np.int32), np.empty(rows.n_rows, np.float32)
    for start, chunk in rows.chunks():
        values = to_float32(chunk)
        at = slice(start, start + len(values))
        labels[at] = values.argmax(axis=1)
        largest[at] = values.max(axis=1)
        _check_probabilities(values, largest[at], start)
        del chunk, values  # before the next is read
    return labels, largest


def _check_probabilities(values: Float32, largest: Float32, start: int) -> None:
    sums = values.sum(axis=1, dtype=np.float64)
    # NaN is neither above nor below.
    bad = ~((np.abs(sums - 1) <= _TOLERANCE) & (values.min(axis=1) >= 0) & (largest <= 1))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        if not np.isfinite(values[first]).all():
            raise_not_finite("probabilities", start + first)
        raise ValueError(
            f"probabilities must be from 0 to 1 and have the sum 1 in each row, got {values[first].min():g} to "
            f"{largest[first]:g} with the sum {sums[first]:g} at row {start + first}"
        )
