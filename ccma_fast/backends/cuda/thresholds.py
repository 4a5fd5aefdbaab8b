"""Thresholds on −ln p: for a target mean size, for no empty set, and for the sets of a cumulative score."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import threshold
from ...kernels.conformal_sets import log_normalizers
from ...kernels.cumulative import CumulativeScores, cumulative_scores
from ...kernels.cumulative import scores_between as cumulative_scores_between
from ...pool.rows import Rows
from ...reference import Cumulative, target_size_rank
from ..order_statistic import ScoresBetween, order_statistic
from .reader import Reader
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
    logits: Rows, cumulative: Cumulative | None, low: float, high: float, chunk_size: int | None
) -> ScoresBetween:
    """Number of scores ≤ low, number in (low, high], and those, or some where there are very many."""
    reader = Reader()
    bad = reader.nothing_bad()
    low_q, high_q = reader.thresholds(low), reader.thresholds(high)
    counts = torch.zeros(2, dtype=torch.int64, device=reader.device)
    parts = []
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        capacity = max(1, _COLLECT * len(chunk) // logits.n_rows)
        if cumulative is None:
            found = threshold.scores_between(chunk, low_q, high_q, capacity, bad, start)
        else:
            log_sums = log_normalizers(chunk, bad, start)
            scores = _cumulative_scores(reader, chunk, log_sums, cumulative, start).scores
            found = cumulative_scores_between(scores, low_q, high_q, capacity)
        counts += torch.stack([found.below, found.inside])
        parts.append((found.values, found.sizes))
    check_finite(bad, logits)
    below, inside = counts.tolist()
    return ScoresBetween(below, inside, _KeptScores(parts, low, high))


class _KeptScores:
    """Scores that a pass kept, on the device."""

    def __init__(self, parts: list[tuple[torch.Tensor, torch.Tensor]], low: float, high: float) -> None:
        self._values, self._sizes = threshold.joined(parts)
        self._bracket = low, high
        self.size = int(self._sizes.sum().item())

    def at(self, *places: int) -> list[float]:
        return [threshold.order_statistic(self._values, self._sizes, place + 1, *self._bracket) for place in places]


def raised_threshold(
    logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The least threshold from q up that leaves no set empty."""
    reader = Reader()
    bad = reader.nothing_bad()
    least = reader.thresholds(q)
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        smallest = log_normalizers(chunk, bad, start)
        if cumulative is not None:
            smallest = _cumulative_scores(reader, chunk, smallest, cumulative, start).scores[:, 0]
        least = torch.maximum(least, smallest.amax())
    check_finite(bad, logits)
    return float(least.item())


def row_thresholds(
    logits: Rows, q: float | Float64, cumulative: Cumulative, *, chunk_size: int | None = None
) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score."""
    reader = Reader()
    given, bad = reader.thresholds(q), reader.nothing_bad()
    found = torch.empty(logits.n_rows, dtype=torch.float64, device=reader.device)
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        stop = start + len(chunk)
        log_sums = log_normalizers(chunk, bad, start)
        of_chunk = _cumulative_scores(reader, chunk, log_sums, cumulative, start)
        found[start:stop] = of_chunk.row_thresholds(of_rows(given, start, stop))
    check_finite(bad, logits)
    thresholds: Float64 = found.cpu().numpy()
    return thresholds


def _cumulative_scores(
    reader: Reader, chunk: torch.Tensor, log_sums: torch.Tensor, cumulative: Cumulative, start: int
) -> CumulativeScores:
    u = None if cumulative.u is None else reader.tensor(cumulative.u[start : start + len(chunk)])
    return cumulative_scores(chunk, log_sums, cumulative.penalty, cumulative.k_reg, u)


def of_rows(q: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if len(q) > 1 else q
