"""What a model predicts for a pool: a label and a score for every row, from probabilities that are read once."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..checks import check_same_rows, raise_not_finite
from ..pool.array_like import as_array
from ..pool.logits import open_logits
from ..pool.rows import Rows
from ..steps.predicted_rows import PredictedRows, most_probable

__all__ = ["PoolPredictions", "read_predictions"]

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]


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
    labels, largest = rows.most_probable if isinstance(rows, PredictedRows) else most_probable(rows)
    own = largest if scores is None else _checked_scores(scores, rows.n_rows)
    return PoolPredictions(rows, labels, largest, own, _fingerprint(labels, own, rows.n_columns))


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
