"""Steps 5 and 6: greedy coverage, on the host or a device."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Coverage, Kernel, UnitRows

__all__ = ["greedy_coverage"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

# Candidates that are evaluated together, first and at most.
_FIRST_BATCH, _LARGEST_BATCH = 64, 1024


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
        Draws the remaining picks where no candidate has a positive gain.
    weights : ndarray, shape (N,), float32, optional
        w, not negative; unit weights where missing.
    least : float, default −∞
        Lower bound of every row's similarity to the rows that cover.

    Returns
    -------
    ndarray, shape (n_picks,), int64
        Rows of `pool` in the order of selection; ties go to the lower index.

    Notes
    -----
    Lazy greedy, exact (Minoux 1978): by submodularity an earlier marginal gain is an upper bound, and only candidates
    whose bound reaches the best gain so far are evaluated again. Time is O(n · N); memory is some bytes per row of the
    pool and some blocks of similarities.
    """
    coverage = pool.coverage(covered, least, candidates, kernel, weights)
    chosen: list[int] = []
    while len(chosen) < n_picks:
        best = _best(coverage)
        if best < 0:
            rest = np.setdiff1d(candidates, chosen, assume_unique=True)
            chosen.extend(rng.choice(rest, n_picks - len(chosen), replace=False).tolist())
            break
        chosen.append(int(candidates[best]))
        coverage.choose(best)
    return np.asarray(chosen, dtype=np.int64)


def _best(coverage: Coverage) -> int:
    """The candidate of largest gain (ties: the first), or −1 where no gain is positive."""
    coverage.sort()
    best, best_gain = -1, 0.0
    start, size = 0, _FIRST_BATCH
    while True:
        gain, candidate, bound, following = coverage.evaluate(start, size)
        if gain > best_gain or (gain == best_gain and candidate < best):
            best, best_gain = candidate, gain
        if bound <= 0.0 or bound < best_gain or (bound == best_gain and following > best):
            return best
        start, size = start + size, min(2 * size, _LARGEST_BATCH)
