"""Step 3 under covariate shift: calibration rows that were not drawn from the pool at random."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt

from .. import reference
from ..checks import check_fraction, check_same_rows
from ..errors import ExchangeabilityWarning
from ..pool.array_like import as_array, real_vector
from .nonconformity import calibration_scores_of

__all__ = ["stratified_weights", "warn_not_exchangeable", "weighted_coverage_threshold"]

Float64 = npt.NDArray[np.float64]


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
        As in :func:`ccma_fast.coverage_threshold`.
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
        more than the calibration rows can speak for gets every class. Equal weights give
        :func:`ccma_fast.coverage_threshold`.

    Raises
    ------
    ValueError
        α outside (0, 1), wrong shapes, NaN among the scores, weights that are not finite, negative, or zero for a row
        to cover.
    TypeError
        Scores or weights that are not real numbers.

    Examples
    --------
    Nineteen calibration rows of equal weight, and two rows to cover: one that weighs as much as they do, and one that
    is so unlike them that it gets every class:

    >>> import ccma_fast as cf
    >>> cf.weighted_coverage_threshold(range(1, 20), 0.1, weights=[1.0] * 19, test_weights=[1.0, 100.0]).tolist()
    [18.0, inf]
    """
    fraction = check_fraction("alpha", alpha)
    scores = calibration_scores_of(calibration_scores)
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


def _weights(name: str, values: npt.ArrayLike) -> Float64:
    weights = real_vector(name, values)
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
