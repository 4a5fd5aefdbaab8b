"""Thresholds on −ln p: for a target mean size, for no empty set, and for the sets of a cumulative score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.rows import Rows
from ...reference import Cumulative, target_size_rank
from ..order_statistic import HostScores, ScoresBetween, order_statistic
from .rows import check_finite

__all__ = ["of_rows", "raised_threshold", "row_thresholds", "scores_between", "target_size_threshold"]

Float64 = npt.NDArray[np.float64]

# Scores kept in one pass of the threshold's search: 32 MiB of them.
_COLLECT = 1 << 22


def target_size_threshold(
    logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The exact ⌈k·M⌉-th smallest of all M·C scores, without sorting or storing them."""
    return order_statistic(
        target_size_rank(size, logits.n_rows, logits.n_columns),
        logits,
        cumulative,
        lambda rows, rule, low, high: scores_between(rows, rule, low, high, chunk_size),
    )


def scores_between(
    logits: Rows,
    cumulative: Cumulative | None,
    low: float,
    high: float,
    chunk_size: int | None = None,
    share: float = 1.0,
) -> ScoresBetween:
    """Number of scores ≤ low, number in (low, high], and those, or a sample where there are very many.

    The rows are a `share` of all that are kept of.
    """
    below = inside = 0
    kept = []
    for start, chunk in logits.chunks(chunk_size):
        most = max(1, int(share * _COLLECT) * len(chunk) // logits.n_rows)
        score_of_rows = None if cumulative is None else cumulative.of_rows(slice(start, start + len(chunk)))
        n_below, n_inside, values, bad = _core.scores_between(chunk, low, high, most, score_of_rows)
        check_finite(logits, start, bad)
        below += n_below
        inside += n_inside
        kept.append(values)
    return ScoresBetween(below, inside, HostScores(np.concatenate([np.empty(0), *kept])))


def raised_threshold(
    logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The least threshold from q up that leaves no set empty."""
    for start, chunk in logits.chunks(chunk_size):
        if cumulative is None:
            smallest_scores, bad = _core.log_normalizers(chunk)
        else:
            smallest_scores, bad = _core.least_scores(chunk, cumulative.of_rows(slice(start, start + len(chunk))))
        check_finite(logits, start, bad)
        q = float(smallest_scores.max(initial=q))
    return q


def row_thresholds(
    logits: Rows, q: float | Float64, cumulative: Cumulative, *, chunk_size: int | None = None
) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score."""
    thresholds = np.empty(logits.n_rows)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        score_of_rows = cumulative.of_rows(slice(start, stop))
        thresholds[start:stop], bad = _core.row_thresholds(chunk, of_rows(q, start, stop), score_of_rows)
        check_finite(logits, start, bad)
    return thresholds


def of_rows(q: float | Float64, start: int, stop: int) -> float | Float64:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if isinstance(q, np.ndarray) else q
