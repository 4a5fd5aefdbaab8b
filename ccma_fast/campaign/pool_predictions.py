"""What a model predicts for a pool: a label and a score for every row, from probabilities that are read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows, raise_not_finite
from ..pool.array_like import as_array
from ..pool.logits import open_logits
from ..pool.rows import RowId, Rows, to_float32
from ..steps.student import ProbabilityRows

__all__ = ["PoolPredictions", "PredictedRows", "read_predictions"]

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
        """Class and probability, see :class:`PoolPredictions`: one pass, whose outcome is kept."""
        return _most_probable(self)

    def row_ids(self) -> Iterator[RowId] | None:
        return self._of.row_ids()

    def ids_at(self, rows: Int64) -> list[RowId] | None:
        return self._of.ids_at(rows)

    def former_ids(self) -> dict[str, list[int]]:
        return self._of.former_ids()

    def vanished(self) -> Int64:
        return self._of.vanished()


class PoolPredictions(NamedTuple):
    """A label and a score for every row.

    Attributes
    ----------
    rows : Rows
        The probabilities, shape (N, C).
    labels : ndarray, shape (N,), int32
        The most probable class, the lower of equal ones.
    largest : ndarray, shape (N,), float32
        Its probability.
    scores : ndarray, shape (N,), float32
        The larger, the surer: the same array, or what the caller has instead.
    fingerprint : str
        Of labels and scores.
    """

    rows: Rows
    labels: Int32
    largest: Float32
    scores: Float32
    fingerprint: str


def read_predictions(probabilities: Any, scores: Any = None) -> PoolPredictions:
    """Labels and scores from a matrix of probabilities.

    Parameters
    ----------
    probabilities : as :func:`ccma_fast.pool.open.open_rows` takes them
    scores : array_like, shape (N,), optional

    Raises
    ------
    ValueError
        Rows that are no probabilities; scores of another shape, or not finite.
    TypeError
        Not real numbers.
    """
    rows = open_logits(probabilities, "probabilities")
    labels, largest = rows.most_probable if isinstance(rows, PredictedRows) else _most_probable(rows)
    own = largest if scores is None else _checked_scores(scores, rows.n_rows)
    return PoolPredictions(rows, labels, largest, own, _fingerprint(labels, own, rows.n_columns))


def _most_probable(rows: Rows) -> tuple[Int32, Float32]:
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


def _checked_scores(scores: Any, n_rows: int) -> Float32:
    given = as_array("scores", scores)
    if given.dtype.kind not in "fiu":
        raise TypeError(f"scores must hold real numbers, got dtype {given.dtype}")
    if given.ndim != 1:
        raise ValueError(f"scores must have one dimension, got shape {given.shape}")
    check_same_rows("scores", given.size, "probabilities", n_rows)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        found = np.ascontiguousarray(given, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(found))
    if bad.size:
        raise_not_finite("scores", int(bad[0]))
    return found


def _fingerprint(labels: Int32, scores: Float32, n_classes: int) -> str:
    digest = hashlib.blake2b(f"{n_classes} classes\n".encode(), digest_size=16)
    for array in (np.ascontiguousarray(labels, dtype="<i4"), np.ascontiguousarray(scores, dtype="<f4")):
        digest.update(array.data)
    return digest.hexdigest()
