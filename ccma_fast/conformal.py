"""Step 3: nonconformity scores, thresholds and conformal sets, public.

A row's set holds the classes whose score is at most q. Three scores are offered:

- "lac": a_ic = −ln p_ic, in nats (Sadinle et al. 2019); the smallest sets on average.
- "aps": s_ic, the probability of all classes more probable than c plus p_ic, in [0, 1] (Romano et al. 2020, arXiv
  2006.02544); sets adapt to how hard a row is. A class with p_ic < 2⁻⁴⁰ scores one more: where the softmax saturates,
  sums of probabilities cannot tell the classes apart, and a threshold of 1 is not to admit the impossible ones.
- "raps": s_ic + λ · max(0, rank of c − k_reg) (Angelopoulos et al. 2021, arXiv 2009.14193): APS without its long tails.

A set of any of them is a set of the most probable classes of its row. Classes of equal probability have the same score,
the rank of the first of them, and enter a set together, so that no set depends on the order of the classes.

Coarse models (votes, trees, neighbours, a teacher that only names a class) give many rows the same score. Rounding is
not to split such ties, or rows would fall out of the sets at their own score: a class is in a set where its score is at
most q + 2⁻¹⁹ · max(1, |q|) for "lac", and 2⁻⁴² instead of 2⁻¹⁹ for the others, whose sums are float64 in every backend.
A row is in the set at its own score, whichever backend cuts it.
"""

from __future__ import annotations

import math
import warnings
from statistics import NormalDist
from typing import Any, NamedTuple, overload

import numpy as np
import numpy.typing as npt

from . import _dispatch, reference
from ._class_limits import check_class_count
from ._errors import ExchangeabilityWarning
from ._validate import (
    as_array,
    check_choice,
    check_fraction,
    check_integer,
    check_number,
    check_same_rows,
    check_threshold,
    uncoerced,
)
from .config import NONEMPTY, SCORES, CCMAConfig
from .pool import Rows, open_rows
from .reference import Cumulative

__all__ = [
    "SCORES",
    "coverage_interval",
    "coverage_threshold",
    "nonconformity_scores",
    "prediction_sets",
    "stratified_weights",
    "target_size_threshold",
    "warn_not_exchangeable",
    "weighted_coverage_threshold",
]

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
        See :mod:`ccma_fast.conformal`.
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
    >>> import numpy as np, ccma_fast as cf
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
    return size_threshold(rows, k, nonempty, _dispatch.choose(backend, rows), cumulative=cumulative)


def size_threshold(
    logits: Rows,
    size: float,
    nonempty: str,
    backend: _dispatch.Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float:
    """:func:`target_size_threshold` on opened rows."""
    if logits.n_rows == 0:
        raise ValueError(f"{logits.name} must have at least one row to take a threshold from, got none")
    q = backend.target_size_threshold(logits, size, cumulative, chunk_size=chunk_size)
    return raised(logits, q, nonempty, backend, chunk_size, cumulative)


def coverage_threshold(calibration_scores: npt.ArrayLike, alpha: float) -> float:
    """The split-conformal threshold with marginal coverage 1 − α (step 3, "coverage").

    Parameters
    ----------
    calibration_scores : array_like, shape (n,)
        Scores of the true classes (:func:`nonconformity_scores`) of rows that the model was not fitted on. +∞ is
        allowed (a probability of zero).
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
    exchangeable with the pool: see :func:`weighted_coverage_threshold`.

    It holds on average over calibration sets. Given one of n rows, the coverage over fresh rows is a random number with
    the law Beta(r, n + 1 − r) where scores have no ties (Vovk 2012; Angelopoulos and Bates 2023, arXiv 2107.07511): its
    mean is c = r / (n + 1), its standard deviation √(c (1 − c) / (n + 2)), 0.041 for n = 50 and α = 0.1. That is how
    far a coverage may honestly stray from 1 − α; :func:`coverage_interval` adds what a finite test set leaves open.
    """
    fraction = check_fraction("alpha", alpha)
    return reference.coverage_threshold(_calibration_scores(calibration_scores), fraction)


def weighted_coverage_threshold(
    calibration_scores: npt.ArrayLike, alpha: float, weights: npt.ArrayLike, test_weights: npt.ArrayLike
) -> Float64:
    """The split-conformal thresholds with marginal coverage 1 − α under a known covariate shift.

    Calibration rows that were chosen do not look like the rows that are to be covered. With weights w proportional to
    (density of the rows to cover) / (density of the calibration rows) split conformal prediction covers again
    (Tibshirani et al. 2019, arXiv 1904.06019): the threshold is the (1−α)-quantile of the calibration scores and of +∞,
    the latter with the test row's own weight.

    Parameters
    ----------
    calibration_scores : array_like, shape (n,)
        As in :func:`coverage_threshold`.
    alpha : float
        Miscoverage, inside (0, 1).
    weights : array_like, shape (n,)
        Weights of the calibration rows, finite and not negative, in any common unit. Where each row of the pool was
        drawn with a known probability π, 1 / π covers the pool; where π is not known, :func:`stratified_weights`
        estimates them.
    test_weights : array_like, shape (M,)
        Weights of the rows to cover, in the same unit, finite and positive.

    Returns
    -------
    ndarray, shape (M,), float64
        q_i = min{ s_k : Σ_{j : s_j ≤ s_k} w_j ≥ (1−α) · (Σ_j w_j + w_i) }, +∞ where there is none: a row that weighs
        more than the calibration rows can speak for gets every class. Equal weights give :func:`coverage_threshold`.

    Raises
    ------
    ValueError
        α outside (0, 1), wrong shapes, NaN among the scores, weights that are not finite, negative, or zero for a row
        to cover.
    TypeError
        Scores or weights that are not real numbers.
    """
    fraction = check_fraction("alpha", alpha)
    scores = _calibration_scores(calibration_scores)
    w = _weights("weights", weights)
    check_same_rows("weights", w.size, "calibration_scores", scores.size)
    of_test = _weights("test_weights", test_weights)
    zero = np.flatnonzero(of_test == 0.0)
    if zero.size:
        raise ValueError(f"test_weights must be positive, got 0 at row {zero[0]}")
    return reference.weighted_coverage_threshold(scores, fraction, w, of_test)


def stratified_weights(labelled_cells: npt.ArrayLike, pool_cells: npt.ArrayLike) -> tuple[Float64, Float64]:
    """Weights that make labelled rows stand for a pool from which they were not drawn at random: post-stratification.

    Rows are sorted into cells by anything that is known of all of them and drove the choice: bins of the acquisition
    score or of the largest probability, the teacher's most probable class, the labels of a k-means clustering. A row of
    cell g weighs its cell's share of the pool over its share of the labelled rows, where one row, spread over the cells
    as the pool is, counts as labelled besides those that were:

        w_g = (N_g / N) / ((n_g + N_g / N) / (n + 1)).

    That row bounds the weights by n + 1, which is what clipping would do, and fades as labels come in. The weights are
    exact, as n grows, where within a cell the choice does not depend on the score; take as many cells as leave a dozen
    labelled rows or more in each. A classifier of labelled rows against the pool would not need cells, but in
    embeddings of some hundred dimensions it tells a few hundred labelled rows from any pool, and its weights then say
    how it was regularised; a cell's weight is two counts.

    Parameters
    ----------
    labelled_cells : array_like, shape (n,), int
        Cell of each labelled (calibration) row.
    pool_cells : array_like, shape (N,), int
        Cell of each row that is to be covered, N ≥ 1.

    Returns
    -------
    weights : ndarray, shape (n,), float64
        Of the labelled rows; 0 in a cell without a row of the pool.
    test_weights : ndarray, shape (N,), float64
        Of the rows of the pool; n + 1 in a cell without a labelled row, whose rows then get every class.

    Raises
    ------
    ValueError
        Cells that are not one-dimensional, or no row in the pool.
    TypeError
        Cells that are not integers.

    Notes
    -----
    For :func:`weighted_coverage_threshold`. Post-stratification: Holt and Smith 1979; as weights of a covariate shift:
    Tibshirani et al. 2019, arXiv 1904.06019, section 2.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> weights, test_weights = cf.stratified_weights([0, 0, 0, 1], [0, 1])
    >>> weights.round(3).tolist(), test_weights.round(3).tolist()
    ([0.714, 0.714, 0.714, 1.667], [0.714, 1.667])
    """
    labelled, pool = _cells("labelled_cells", labelled_cells), _cells("pool_cells", pool_cells)
    if pool.size == 0:
        raise ValueError("pool_cells must have at least one row, got none")
    cells, pool_cell = np.unique(pool, return_inverse=True)
    share = np.bincount(pool_cell) / pool.size
    labelled_cell = np.minimum(np.searchsorted(cells, labelled), cells.size - 1)
    known = cells[labelled_cell] == labelled
    n_labelled = np.bincount(labelled_cell[known], minlength=cells.size)
    of_cell = share * (labelled.size + 1) / (n_labelled + share)
    return np.where(known, of_cell[labelled_cell], 0.0), of_cell[pool_cell]


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
    """Γ_i, the classes of every row whose score is at most q, ties included (:mod:`ccma_fast.conformal`).

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
    """
    rows = open_logits(logits, "logits")
    thresholds = _thresholds(q, rows.n_rows)
    check_choice("nonempty", nonempty, NONEMPTY)
    cumulative = score_rule(score, penalty, k_reg, u, rows.n_rows)
    chosen = _dispatch.choose(backend, rows)
    thresholds = raised(rows, thresholds, nonempty, chosen, cumulative=cumulative)
    return chosen.prediction_sets(rows, row_thresholds(rows, thresholds, chosen, cumulative=cumulative))


def coverage_interval(covered: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The confidence interval of a coverage that was counted on independent rows (Wilson 1927).

    Parameters
    ----------
    covered : int
        Rows whose set held the true class, from 0 to n.
    n : int
        Rows.
    confidence : float, default 0.95
        Inside (0, 1).

    Returns
    -------
    low, high : float
        (covered + z²/2 ± z √(covered (n − covered) / n + z²/4)) / (n + z²), z the normal quantile; (0, 1) for n = 0.

    Raises
    ------
    ValueError
        `covered` or `n` negative, more rows covered than there are, confidence outside (0, 1).
    TypeError
        Counts that are not integers.

    Notes
    -----
    Wilson's interval has a closed form, stays inside [0, 1], is right for 0 and for n covered rows, and is as often
    right as it says on average over coverages; the exact interval of Clopper and Pearson errs on the wide side at all
    of them (Brown, Cai and DasGupta 2001), and what is compared with 1 − α is better served by the sharper one.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> low, high = cf.coverage_interval(85, 100)
    >>> round(low, 3), round(high, 3)
    (0.767, 0.907)
    """
    rows = check_integer("n", n, minimum=0)
    k = check_integer("covered", covered, minimum=0, maximum=rows)
    z = NormalDist().inv_cdf(0.5 + 0.5 * check_fraction("confidence", confidence))
    if rows == 0:
        return 0.0, 1.0
    centre = k + 0.5 * z * z
    margin = z * math.sqrt(k * (rows - k) / rows + 0.25 * z * z)
    # Rounding is not to move an end off 0 or 1.
    low = 0.0 if k == 0 else (centre - margin) / (rows + z * z)
    high = 1.0 if k == rows else (centre + margin) / (rows + z * z)
    return low, high


def warn_not_exchangeable(n_rows: int, *, stacklevel: int = 2) -> None:
    """Say that the `n_rows` rows a coverage is calibrated on were chosen by active learning.

    Warns
    -----
    ExchangeabilityWarning
        `stacklevel` counts as in :func:`warnings.warn`, 1 being the caller of this function.
    """
    warnings.warn(
        f"the {n_rows} calibration rows were chosen by active learning: they are not exchangeable with the pool, and "
        "the conformal sets may cover the true class more or less often than 1 - alpha; label a random sample for "
        "calibration, or weight the scores (ccma_fast.weighted_coverage_threshold)",
        ExchangeabilityWarning,
        stacklevel=stacklevel + 1,
    )


def score_rule(
    score: str, penalty: float, k_reg: int, u: npt.ArrayLike | None = None, n_rows: int = 0
) -> Cumulative | None:
    """The score of :func:`nonconformity_scores` as backends take it: None for "lac"."""
    check_choice("score", score, SCORES)
    weight = check_number("penalty", penalty, minimum=0.0)
    free = check_integer("k_reg", k_reg, minimum=0)
    if score == "lac":
        if u is not None:
            raise ValueError("u belongs to the scores 'aps' and 'raps', got it with the score 'lac'")
        return None
    if u is not None:
        drawn = _real("u", u)
        if drawn.shape != (n_rows,):
            raise ValueError(f"u must have shape ({n_rows},), got {drawn.shape}")
        bad = np.flatnonzero(~((drawn >= 0.0) & (drawn <= 1.0)))
        if bad.size:
            raise ValueError(f"u must lie in [0, 1], got {drawn[bad[0]]} at row {bad[0]}")
        u = drawn
    return Cumulative(weight, free, u) if score == "raps" else Cumulative(u=u)


def configured_rule(config: CCMAConfig) -> Cumulative | None:
    """:func:`score_rule` of a configuration."""
    return score_rule(config.nonconformity, config.raps_penalty, config.raps_k_reg)


def row_thresholds(
    logits: Rows,
    q: float | Float64,
    backend: _dispatch.Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64:
    """Where backends cut sets on −ln p, from a threshold in units of the score: above all that ties with it."""
    if cumulative is None:
        return reference.up_to_ties(q)
    admitted = reference.up_to_ties(q, reference.CUMULATIVE_TIE)
    return backend.row_thresholds(logits, admitted, cumulative, chunk_size=chunk_size)


@overload
def raised(
    logits: Rows,
    q: float,
    nonempty: str,
    backend: _dispatch.Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float: ...
@overload
def raised(
    logits: Rows,
    q: float | Float64,
    nonempty: str,
    backend: _dispatch.Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64: ...
def raised(
    logits: Rows,
    q: float | Float64,
    nonempty: str,
    backend: _dispatch.Backend,
    chunk_size: int | None = None,
    cumulative: Cumulative | None = None,
) -> float | Float64:
    """q as `nonempty` wants it."""
    if nonempty != "raise":
        return q
    if isinstance(q, np.ndarray):
        return np.maximum(q, backend.raised_threshold(logits, -math.inf, cumulative, chunk_size=chunk_size))
    return backend.raised_threshold(logits, q, cumulative, chunk_size=chunk_size)


class Cuts(NamedTuple):
    """Where the sets of both models are cut."""

    student: float | Float64
    """On −ln p, as backends cut: of all rows, or of each, shape (M,)."""
    teacher: float | Float64
    """+∞ without a teacher."""
    q_student: float
    """In units of the nonconformity score; the median where rows have thresholds of their own."""
    q_teacher: float
    """NaN without a teacher."""

    def of_rows(self, rows: slice) -> tuple[float | Float64, float | Float64]:
        """Those of student and teacher for some of the rows."""
        student, teacher = (cut[rows] if isinstance(cut, np.ndarray) else cut for cut in (self.student, self.teacher))
        return student, teacher


def calibrated_cuts(
    student: tuple[Rows, Rows],
    teacher: tuple[Rows, Rows] | None,
    labels: npt.NDArray[np.int64],
    config: CCMAConfig,
    backend: _dispatch.Backend,
    *,
    student_scores: Float64 | None,
    chunk_size: int | None = None,
) -> Cuts:
    """Step 3 of a query: the thresholds of both models' sets, as the configuration wants them.

    Parameters
    ----------
    student, teacher : (Rows, Rows)
        Logits of the n labelled rows, and of the M rows that get a set.
    labels : ndarray, shape (n,), int64
    config : CCMAConfig
    backend : Backend
    student_scores : ndarray, shape (n,), or None
        The student's calibration scores, for only the caller knows what it was fitted on; None where the configuration
        wants set sizes.
    """
    teacher_scores = weights = None
    if student_scores is not None:
        if teacher is not None:
            teacher_scores = labelled_scores(teacher[0], labels, config)
        if config.reweight:
            judged = student if teacher is None else teacher
            cells = [backend.score(rows, chunk_size=chunk_size).student_top1 for rows in judged]
            weights = stratified_weights(*cells)

    def cut(logits: Rows, size: float, scores: Float64 | None) -> tuple[float, float | Float64]:
        q, cuts = _set_thresholds(
            logits, config, backend, size=size, scores=scores, weights=weights, chunk_size=chunk_size
        )
        return float(np.median(q)), cuts

    q_student, of_student = cut(student[1], config.student_set_size, student_scores)
    if teacher is None:
        return Cuts(of_student, math.inf, q_student, math.nan)
    q_teacher, of_teacher = cut(teacher[1], config.teacher_set_size, teacher_scores)
    return Cuts(of_student, of_teacher, q_student, q_teacher)


def labelled_scores(logits: Rows, labels: npt.NDArray[np.int64], config: CCMAConfig) -> Float64:
    """The nonconformity of each labelled row's class, given the logits of those rows."""
    return true_class_scores(logits.float32(), labels, logits.name, configured_rule(config))


def _set_thresholds(
    logits: Rows,
    config: CCMAConfig,
    backend: _dispatch.Backend,
    *,
    size: float,
    scores: npt.ArrayLike | None = None,
    weights: tuple[Float64, Float64] | None = None,
    chunk_size: int | None = None,
) -> tuple[float | Float64, float | Float64]:
    """The thresholds of one model's conformal sets.

    Parameters
    ----------
    logits : Rows, shape (M, C)
        Of the rows that get a set.
    config : CCMAConfig
    backend : Backend
    size : float
        The mean set size, where no scores are given.
    scores : array_like, shape (n,), optional
        Calibration scores. With ``acquisition="trust"`` a coverage that so few cannot attain is lowered to the largest
        that they can, n / (n + 1); else the threshold is +∞ there.
    weights : (ndarray, ndarray), optional
        Of the scores and of the M rows, as :func:`stratified_weights` gives them.

    Returns
    -------
    q, cuts : float or ndarray, shape (M,)
        The threshold in units of the score, and those on −ln p at which backends cut; one for each row where scores are
        weighted, and cuts of APS and RAPS always.
    """
    rule = configured_rule(config)
    q: float | Float64
    if scores is None:
        q = size_threshold(logits, size, config.nonempty, backend, chunk_size, rule)
    else:
        alpha = config.alpha
        if config.acquisition == "trust":
            alpha = max(alpha, 1.0 / (np.size(scores) + 1.0))
        q = (
            coverage_threshold(scores, alpha)
            if weights is None
            else weighted_coverage_threshold(scores, alpha, *weights)
        )
        q = raised(logits, q, config.nonempty, backend, chunk_size, rule)
    return q, row_thresholds(logits, q, backend, chunk_size, rule)


def trust(mean_student_size: float, mean_teacher_size: float) -> float:
    """The share of the student's ambiguity that the teacher resolves: max(0, 1 − (|Γ_T| − 1) / (|Γ_S| − 1)).

    Both sizes are means over the same rows, of sets calibrated to the same coverage on the same labelled rows, on which
    neither model was fitted. 1 where the teacher's sets hold one class, 0 where they are no smaller than the student's:
    sets that are right as often but larger say less. A student whose sets hold one class leaves nothing to resolve: 0.
    """
    ambiguity = mean_student_size - 1.0
    return max(0.0, 1.0 - (mean_teacher_size - 1.0) / ambiguity) if ambiguity > 0.0 else 0.0


def open_logits(source: Any, name: str) -> Rows:
    """Logits of at least two classes."""
    rows = open_rows(source, name)
    if rows.n_columns < 2:
        raise ValueError(f"{name} must have at least two columns (classes), got shape {(rows.n_rows, rows.n_columns)}")
    check_class_count(f"the columns (classes) of {name}", rows.n_columns)
    return rows


def true_class_scores(
    logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], name: str, cumulative: Cumulative | None = None
) -> Float64:
    """Calibration scores: the nonconformity of each row's true class, in float64."""
    return reference.nonconformity(logits, cumulative, name=name)[np.arange(labels.size), labels]


def _real(name: str, values: npt.ArrayLike) -> Float64:
    array = as_array(name, values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, got dtype {array.dtype}")
    return np.asarray(array, dtype=np.float64, order="C")


def _vector(name: str, values: npt.ArrayLike) -> Float64:
    array = _real(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    return array


def _calibration_scores(values: npt.ArrayLike) -> Float64:
    scores = _vector("calibration_scores", values)
    nan = np.flatnonzero(np.isnan(scores))
    if nan.size:
        raise ValueError(f"calibration_scores must be numbers, got NaN at row {nan[0]}")
    return scores


def _weights(name: str, values: npt.ArrayLike) -> Float64:
    weights = _vector(name, values)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0.0))
    if bad.size:
        raise ValueError(f"{name} must be finite and not negative, got {weights[bad[0]]} at row {bad[0]}")
    return weights


def _cells(name: str, values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    cells = as_array(name, values)
    if cells.dtype.kind not in "iu" and cells.size:
        raise TypeError(f"{name} must be integers, got dtype {cells.dtype}")
    if cells.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {cells.shape}")
    return cells.astype(np.int64)


def _thresholds(q: Any, n_rows: int) -> float | Float64:
    if not isinstance(q, (np.ndarray, list, tuple)):
        return check_threshold("q", q)
    thresholds = _real("q", q)
    if thresholds.shape != (n_rows,):
        raise ValueError(f"q must be one number or have shape ({n_rows},), got shape {thresholds.shape}")
    nan = np.flatnonzero(np.isnan(thresholds))
    if nan.size:
        raise ValueError(f"q must be numbers, got NaN at row {nan[0]}")
    return thresholds
