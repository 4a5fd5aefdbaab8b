"""Steps 5 and 6: greedy coverage, on the host or a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.unit_rows import Kernel, UnitRows
from .coverage import HostUnitRows, Limits

__all__ = ["greedy_coverage", "limited_coverage"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def greedy_coverage(
    pool: UnitRows,
    covered: UnitRows,
    candidates: Int64,
    n_picks: int,
    *,
    kernel: Kernel,
    rng: np.random.Generator,
    weights: Float32 | None = None,
    least: float = -np.inf,
) -> Int64:
    """Greedy submodular facility location: maximise Σ_i w_i · max_j k(s_ij) over picks among the candidates.

    j runs over the rows that cover already and those selected.

    Parameters
    ----------
    pool : UnitRows, shape (N, D)
        The rows to cover.
    covered : UnitRows, shape (L, D)
        Rows that cover already, of the same kind.
    candidates : ndarray, shape (n,), int64
        Rows of `pool`, ascending.
    n_picks : int
        At most n.
    kernel : Kernel
        k, of similarities s.
    rng : Generator
        Draws the remaining picks where no candidate has a positive gain and there are no weights.
    weights : ndarray, shape (N,), float32, optional
        w, not negative; unit weights where missing. Where no candidate has a positive gain, the remaining picks are
        those of largest weight.
    least : float, default −∞
        Lower bound of every row's similarity to the rows that cover.

    Returns
    -------
    ndarray, shape (n_picks,), int64
        Rows of `pool` in the order of selection; ties go to the lower index.

    Raises
    ------
    ValueError
        Similarities count as they are, no row covers, and `least` is not finite.

    Notes
    -----
    Lazy greedy, exact (Minoux 1978): by submodularity an earlier marginal gain is an upper bound, and only candidates
    whose bound reaches the best gain so far are evaluated again. Time is O(n · N); memory is some bytes per row of the
    pool and some blocks of similarities.
    """
    if kernel.kind == "similarity" and not covered.n_rows and least == -np.inf:
        raise ValueError("least must be finite where no row covers yet: every gain would be infinite")
    chosen = candidates[pool.coverage(covered, least, candidates, kernel, weights).choose(n_picks)]
    if chosen.size < n_picks:
        rest = np.setdiff1d(candidates, chosen, assume_unique=True)
        n_left = n_picks - chosen.size
        if weights is None:
            filled = rng.choice(rest, n_left, replace=False)
        else:
            filled = rest[np.argsort(-weights[rest], kind="stable")[:n_left]]
        chosen = np.concatenate([chosen, filled])
    return chosen


def limited_coverage(
    pool: HostUnitRows, covered: HostUnitRows, n_picks: int, limits: Limits, *, weights: Float32, least: float
) -> Int64:
    """:func:`greedy_coverage` by similarity, among all rows of a pool on the host, as far as limits allow.

    Returns
    -------
    ndarray, int64
        At most `n_picks` rows: fewer where the limits allow no other.
    """
    rows = np.arange(pool.n_rows)
    chosen = pool.coverage(covered, least, rows, Kernel(), weights).choose(n_picks, limits).tolist()
    for row in np.argsort(-weights, kind="stable").tolist():
        if len(chosen) == n_picks:
            break
        if limits.admits(row):
            chosen.append(row)
    return np.asarray(chosen, np.int64)
