"""Step 3: thresholds and conformal sets, public.

The nonconformity of class c in row i is a_ic = −ln p_ic (LAC); a row's set is Γ_i = { c : a_ic ≤ q }.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _dispatch, reference
from ._validate import check_choice, check_fraction, check_number, check_threshold
from .config import NONEMPTY
from .pool import Rows, open_rows

__all__ = ["coverage_threshold", "prediction_sets", "target_size_threshold"]


def target_size_threshold(logits: Any, size: float, *, nonempty: str = "top1", backend: str = "auto") -> float:
    """The threshold at which the mean set size reaches `size` (step 3, "target size").

    Parameters
    ----------
    logits : array_like, torch.Tensor or path, shape (M, C)
        M ≥ 1 rows, C ≥ 2 classes; float32, float16 or bfloat16 are read as they are.
    size : float
        k, the wanted mean number of classes per set, greater than 0; above C it means C.
    nonempty : {"top1", "raise"}, default "top1"
        "raise" lifts the threshold until no row's set is empty, q ≥ max_i min_c a_ic; "top1" leaves it, because empty
        sets get their most probable class when sets are formed.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    float
        q in units of −ln p (nats): exactly the ⌈k·M⌉-th smallest of all M·C scores.

    Raises
    ------
    ValueError
        Wrong shape, no rows, NaN or infinity in a row (which is named), `size` not positive.
    TypeError
        Logits that are not real numbers.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> q = cf.target_size_threshold(np.log([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2]]), 1.5)
    >>> round(float(np.exp(-q)), 6)
    0.3
    """
    rows = open_logits(logits, "logits")
    check_choice("nonempty", nonempty, NONEMPTY)
    return size_threshold(rows, check_number("size", size, above=0.0), nonempty, _dispatch.choose(backend))


def size_threshold(
    logits: Rows, size: float, nonempty: str, backend: _dispatch.Backend, chunk_size: int | None = None
) -> float:
    """:func:`target_size_threshold` on opened rows."""
    if logits.n_rows == 0:
        raise ValueError(f"{logits.name} must have at least one row to take a threshold from, got none")
    q = backend.target_size_threshold(logits, size, chunk_size=chunk_size)
    return raised(logits, q, nonempty, backend, chunk_size)


def coverage_threshold(calibration_scores: npt.ArrayLike, alpha: float) -> float:
    """The split-conformal threshold with marginal coverage 1 − α (step 3, "coverage").

    Parameters
    ----------
    calibration_scores : array_like, shape (n,)
        s_j = −ln p_{j, y_j} in nats, of rows that the model was not fitted on. +∞ is allowed (a probability of zero).
    alpha : float
        Miscoverage, inside (0, 1).

    Returns
    -------
    float
        The ⌈(n+1)(1−α)⌉-th smallest score; +∞ where that exceeds n, so that every class is in every set.

    Raises
    ------
    ValueError
        α outside (0, 1), scores that are not one-dimensional, or NaN among them.

    Notes
    -----
    Coverage holds for rows that are exchangeable with the calibration rows. Rows that active learning chose are not
    exchangeable with the pool.
    """
    fraction = check_fraction("alpha", alpha)
    scores = np.asarray(calibration_scores)
    if scores.dtype.kind not in "fiu":
        raise TypeError(f"calibration_scores must be real numbers, got dtype {scores.dtype}")
    if scores.ndim != 1:
        raise ValueError(f"calibration_scores must have one dimension, got shape {scores.shape}")
    nan = np.flatnonzero(np.isnan(scores))
    if nan.size:
        raise ValueError(f"calibration_scores must be numbers, got NaN at row {nan[0]}")
    return reference.coverage_threshold(scores, fraction)


def prediction_sets(logits: Any, q: float, *, nonempty: str = "top1", backend: str = "auto") -> npt.NDArray[np.bool_]:
    """Γ_i = { c : −ln softmax(z_i)_c ≤ q } of every row.

    Parameters
    ----------
    logits : array_like, torch.Tensor or path, shape (M, C)
        C ≥ 2.
    q : float
        Threshold in units of −ln p (nats); ±∞ is allowed.
    nonempty : {"top1", "raise"}, default "top1"
        A row whose set would be empty gets its most probable class (ties: the lowest), or q is raised for all rows
        until none is empty.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    ndarray, shape (M, C), bool
        No row is empty.

    Raises
    ------
    ValueError
        Wrong shape, NaN or infinity in a row (which is named), q NaN.
    TypeError
        Logits or q that are not real numbers.
    """
    rows = open_logits(logits, "logits")
    q = check_threshold("q", q)
    check_choice("nonempty", nonempty, NONEMPTY)
    chosen = _dispatch.choose(backend)
    return chosen.prediction_sets(rows, raised(rows, q, nonempty, chosen))


def raised(logits: Rows, q: float, nonempty: str, backend: _dispatch.Backend, chunk_size: int | None = None) -> float:
    """q as `nonempty` wants it."""
    return backend.raised_threshold(logits, q, chunk_size=chunk_size) if nonempty == "raise" else q


def open_logits(source: Any, name: str) -> Rows:
    """Logits of at least two classes."""
    rows = open_rows(source, name)
    if rows.n_columns < 2:
        raise ValueError(f"{name} must have at least two columns (classes), got shape {(rows.n_rows, rows.n_columns)}")
    return rows


def true_class_scores(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], name: str
) -> npt.NDArray[np.float64]:
    """Calibration scores s_j = −ln p_{j, y_j}, in float64."""
    return reference.nonconformity(logits, name=name)[np.arange(labels.size), labels]
