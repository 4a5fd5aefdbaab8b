"""Step 3, public: calibration scores, thresholds and the conformal sets that they cut.

A row's set holds the classes whose nonconformity (:mod:`ccma_fast.steps.nonconformity`) is at most q: the most probable
classes of the row. Classes of equal probability have the same score and enter a set together, so that no set depends on
the order of the classes.

Coarse models (votes, trees, neighbours, a teacher that only names a class) give many rows the same score. Rounding must
not split such ties, or rows would fall out of the sets at their own score: a class is in a set where its score is at
most q + 2⁻¹⁹ · max(1, |q|) for "lac", and 2⁻⁴² instead of 2⁻¹⁹ for the others, whose sums are float64 in every backend.
A row is in the set at its own score, whichever backend cuts it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import choose_backend
from ..checks import check_choice, check_fraction, check_number, check_same_rows, check_threshold
from ..config import NONEMPTY
from ..pool.array_like import as_array, real_array, uncoerced
from ..pool.logits import open_logits
from .nonconformity import calibration_scores_of, score_rule, true_class_scores
from .thresholds import raised, row_thresholds, size_threshold

__all__ = ["coverage_threshold", "nonconformity_scores", "prediction_sets", "target_size_threshold"]

Bool = npt.NDArray[np.bool_]
Float64 = npt.NDArray[np.float64]


def nonconformity_scores(
    logits: Any,
    labels: npt.ArrayLike | None = None,
    *,
    score: str = "lac",
    penalty: float = 0.01,
    k_reg: int = 5,
    u: npt.ArrayLike | None = None,
) -> Float64:
    """The nonconformity of every class, or of each row's true class: the calibration scores of split conformal.

    Parameters
    ----------
    logits : array_like, torch.Tensor or path, shape (M, C)
        C ≥ 2.
    labels : array_like, shape (M,), int, optional
        The true classes, from 0 to C − 1.
    score : {"lac", "aps", "raps"}, default "lac"
        See :mod:`ccma_fast.steps.nonconformity`.
    penalty, k_reg : float, int, default 0.01 and 5
        λ ≥ 0 and k_reg ≥ 0 of RAPS; the other scores do not have them.
    u : array_like, shape (M,), optional
        Numbers in [0, 1], one for each row, such as ``rng.random(M)``: the randomised APS and RAPS, in which a class
        counts u · p of its own probability, and whose coverage is then 1 − α and no more. Calibration and test rows
        need draws of their own. Without it u = 1: deterministic, and conservative.

    Returns
    -------
    ndarray, shape (M, C), or (M,) with labels, float64
        Computed in float64 by :mod:`ccma_fast.reference`.

    Raises
    ------
    ValueError
        Wrong shape, NaN or infinity in a row (which is named), labels or u out of range, u with "lac".
    TypeError
        Logits or u that are not real numbers, labels that are not integers.

    Examples
    --------
    The 1 − p of split conformal prediction as −ln p, of the true class of each of two rows:

    >>> import numpy as np, ccma_fast as cf
    >>> logits = np.log([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2]])
    >>> scores = cf.nonconformity_scores(logits, [1, 0])
    >>> np.exp(-scores).round(6)
    array([0.7, 0.5])

    The cumulative score of every class:

    >>> cf.nonconformity_scores(np.log([[0.2, 0.7, 0.1]]), score="aps").round(6)
    array([[0.9, 0.7, 1. ]])
    """
    rows = open_logits(logits, "logits")
    cumulative = score_rule(score, penalty, k_reg, u, rows.n_rows)
    if labels is None:
        return reference.nonconformity(rows, cumulative)
    y = as_array("labels", uncoerced(labels))
    if y.dtype.kind not in "iu" and y.size:
        raise TypeError(f"labels must be integers (classes), got dtype {y.dtype}")
    if y.ndim != 1:
        raise ValueError(f"labels must have shape ({rows.n_rows},), got {y.shape}")
    check_same_rows("labels", y.size, "logits", rows.n_rows)
    bad = np.flatnonzero((y < 0) | (y >= rows.n_columns))
    if bad.size:
        raise ValueError(f"labels must be a class from 0 to {rows.n_columns - 1}, got {y[bad[0]]} at row {bad[0]}")
    return true_class_scores(rows.float32(), y.astype(np.int64), rows.name, cumulative)


def target_size_threshold(
    logits: Any,
    size: float,
    *,
    score: str = "lac",
    penalty: float = 0.01,
    k_reg: int = 5,
    u: npt.ArrayLike | None = None,
    nonempty: str = "top1",
    backend: str = "auto",
) -> float:
    """The threshold at which the mean set size reaches `size` (step 3, "target size").

    Parameters
    ----------
    logits : array_like, torch.Tensor or path, shape (M, C)
        M ≥ 1 rows, C ≥ 2 classes; float32, float16 or bfloat16 are read as they are.
    size : float
        k, the wanted mean number of classes per set, greater than 0; above C it means C.
    score, penalty, k_reg, u
        As in :func:`nonconformity_scores`.
    nonempty : {"top1", "raise"}, default "top1"
        "raise" lifts the threshold until no row's set is empty, q ≥ max_i min_c a_ic; "top1" leaves it, because empty
        sets get their most probable class when sets are formed.
    backend : {"auto", "cuda", "cpu", "reference"}

    Returns
    -------
    float
        q in units of the score (−ln p in nats for "lac"): exactly the ⌈k·M⌉-th smallest of all M·C scores.

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
    cumulative = score_rule(score, penalty, k_reg, u, rows.n_rows)
    k = check_number("size", size, above=0.0)
    return size_threshold(rows, k, nonempty, choose_backend(backend, rows), cumulative=cumulative)


def coverage_threshold(calibration_scores: npt.ArrayLike, alpha: float) -> float:
    """The split-conformal threshold with marginal coverage 1 − α (step 3, "coverage").

    Parameters
    ----------
    calibration_scores : array_like, shape (n,)
        Scores of the true classes (:func:`nonconformity_scores`) of rows that the model was not fitted on. +∞
        is allowed (a probability of zero).
    alpha : float
        Miscoverage, inside (0, 1).

    Returns
    -------
    float
        The r-th smallest score, r = ⌈(n+1)(1−α)⌉; +∞ where r exceeds n, so that every class is in every set.

    Raises
    ------
    ValueError
        α outside (0, 1), scores that are not one-dimensional, or NaN among them.

    Notes
    -----
    Coverage holds for rows that are exchangeable with the calibration rows. Rows that active learning chose are not
    exchangeable with the pool: see :func:`ccma_fast.weighted_coverage_threshold`.

    It holds on average over calibration sets. Given one of n rows, the coverage over fresh rows is a random number with
    the law Beta(r, n + 1 − r) where scores have no ties (Vovk 2012; Angelopoulos and Bates 2023, arXiv 2107.07511): its
    mean is c = r / (n + 1), its standard deviation √(c (1 − c) / (n + 2)), 0.041 for n = 50 and α = 0.1. That is how
    far a coverage may honestly stray from 1 − α; :func:`ccma_fast.coverage_interval` adds what a finite test set leaves
    open.

    Examples
    --------
    Of 19 calibration rows the ⌈20 · 0.9⌉ = 18th smallest score:

    >>> import ccma_fast as cf
    >>> cf.coverage_threshold(range(1, 20), alpha=0.1)
    18.0

    Eight rows are too few for a coverage of 90 %, and every class is in every set:

    >>> cf.coverage_threshold(range(8), alpha=0.1)
    inf
    """
    fraction = check_fraction("alpha", alpha)
    return reference.coverage_threshold(calibration_scores_of(calibration_scores), fraction)


def prediction_sets(
    logits: Any,
    q: float | npt.ArrayLike,
    *,
    score: str = "lac",
    penalty: float = 0.01,
    k_reg: int = 5,
    u: npt.ArrayLike | None = None,
    nonempty: str = "top1",
    backend: str = "auto",
) -> Bool:
    """Γ_i, the classes of every row whose score is at most q, ties included (:mod:`ccma_fast.steps.conformal`).

    Parameters
    ----------
    logits : array_like, torch.Tensor or path, shape (M, C)
        C ≥ 2.
    q : float, or array_like of shape (M,)
        Threshold in units of the score (−ln p in nats for "lac"), of all rows or of each; ±∞ is allowed.
    score, penalty, k_reg, u
        As in :func:`nonconformity_scores`. Classes of equal probability enter together.
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

    Examples
    --------
    Sets of two rows whose classes have a probability of at least 0.25; the most probable class where none has:

    >>> import numpy as np, ccma_fast as cf
    >>> logits = np.log([[0.6, 0.3, 0.1], [0.9, 0.06, 0.04]])
    >>> cf.prediction_sets(logits, -np.log(0.25)).tolist()
    [[True, True, False], [True, False, False]]
    >>> cf.prediction_sets(logits, -np.log(0.95)).tolist()
    [[True, False, False], [True, False, False]]
    """
    rows = open_logits(logits, "logits")
    thresholds = _thresholds(q, rows.n_rows)
    check_choice("nonempty", nonempty, NONEMPTY)
    cumulative = score_rule(score, penalty, k_reg, u, rows.n_rows)
    chosen = choose_backend(backend, rows)
    thresholds = raised(rows, thresholds, nonempty, chosen, cumulative=cumulative)
    return chosen.prediction_sets(rows, row_thresholds(rows, thresholds, chosen, cumulative=cumulative))


def _thresholds(q: Any, n_rows: int) -> float | Float64:
    if not isinstance(q, (np.ndarray, list, tuple)):
        return check_threshold("q", q)
    thresholds = real_array("q", q)
    if thresholds.shape != (n_rows,):
        raise ValueError(f"q must be one number or have shape ({n_rows},), got shape {thresholds.shape}")
    nan = np.flatnonzero(np.isnan(thresholds))
    if nan.size:
        raise ValueError(f"q must be numbers, got NaN at row {nan[0]}")
    return thresholds
