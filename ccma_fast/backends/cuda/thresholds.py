"""Thresholds on −ln p: for a target mean size, for no empty set, and for the sets of a cumulative score."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from ...kernels import threshold
from ...kernels.conformal_sets import log_normalizers
from ...kernels.cumulative import CumulativeScores, cumulative_scores
from ...pool.rows import Rows
from ...reference import Cumulative, target_size_rank
from ..order_statistic import HostScores, ScoresBetween
from .order_statistic import Grid, KeptCounts, Search, order_statistic, request
from .reader import Reader
from .rows import check_finite, raise_bad
from .transfers import Later

__all__ = [
    "of_rows",
    "raised_threshold",
    "row_thresholds",
    "scores_between",
    "target_size_threshold",
    "true_class_scores",
]

Float64 = npt.NDArray[np.float64]

# Scores kept in one pass of the threshold's search: 32 MiB of them.
_COLLECT = 1 << 22

# Rows of the sample that brackets a threshold: one in so many, but at least and at most so many.
_SAMPLED_SHARE, _LEAST_SAMPLE, _MOST_SAMPLE = 16, 256, 4096

# Scores of a chunk that are formed in float64, several matrices of them at a time: 32 MiB each.
_FORMED = 1 << 22


def target_size_threshold(
    logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The exact ⌈k·M⌉-th smallest of all M·C scores, without sorting or storing them."""
    return order_statistic(
        target_size_rank(size, logits.n_rows, logits.n_columns), _Scores(logits, cumulative, chunk_size).search()
    )


class _Scores:
    """All scores of a matrix of logits, chunk by chunk."""

    def __init__(self, logits: Rows, cumulative: Cumulative | None, chunk_size: int | None) -> None:
        self._logits, self._cumulative, self._chunk_size = logits, cumulative, chunk_size
        self._reader = Reader()

    def search(self) -> Search:
        """Passes over these scores; of a sample too where there are enough rows."""
        n_rows, n_classes = self._logits.n_rows, self._logits.n_columns
        # A program may have up to twice its share of the sample, all of which is kept.
        most = min(_MOST_SAMPLE, max(1, _COLLECT // (2 * n_classes)))
        step = -(-n_rows // min(most, max(_LEAST_SAMPLE, n_rows // _SAMPLED_SHARE)))

        def sample(low: float, high: float, grid: Grid) -> KeptCounts:
            rows = np.arange(0, n_rows, step)
            of_sample = None if self._cumulative is None else self._cumulative.of_rows(rows)
            part = self._reader.every(self._logits, step)
            return self._kept(iter([(0, part)]), of_sample, (low, high), grid, 0)

        def whole(low: float, high: float, grid: Grid, rank: int) -> KeptCounts:
            chunks = _chunks(self._reader, self._logits, self._cumulative, self._chunk_size)
            found = self._kept(chunks, self._cumulative, (low, high), grid, rank)
            raise_bad(found.bad, self._logits)
            return found

        return Search(n_rows, sample if step > 1 else None, -(-n_rows // step), whole)

    def _kept(
        self,
        chunks: Iterator[tuple[int, torch.Tensor]],
        cumulative: Cumulative | None,
        bracket: tuple[float, float],
        grid: Grid,
        rank: int,
    ) -> KeptCounts:
        """The counts of one pass; with a rank the values of its cell are listed."""
        state = self._reader.tensor(request(bracket, grid, rank))
        kept = self._pass(chunks, cumulative, state, _COLLECT)
        assert kept is not None, "there are rows"
        kept.count()
        if rank:
            kept.list()
        return KeptCounts.of(Later(state).array())

    def between(self, low: float, high: float, most: int) -> threshold.Kept | None:
        """The scores in (low, high], of which at most so many are kept; None where there are no rows."""
        state = self._reader.tensor(request((low, high), Grid.inside(low, high), 0))
        chunks = _chunks(self._reader, self._logits, self._cumulative, self._chunk_size)
        kept = self._pass(chunks, self._cumulative, state, most)
        check_finite(threshold.bad_of(state), self._logits)
        return kept

    def _pass(
        self, chunks: Iterator[tuple[int, torch.Tensor]], cumulative: Cumulative | None, state: torch.Tensor, most: int
    ) -> threshold.Kept | None:
        kept: threshold.Kept | None = None
        for start, chunk in chunks:
            if kept is None:
                kept = threshold.Kept(state, len(chunk), chunk.shape[1], most)
            if cumulative is None:
                kept.add(chunk, start)
            else:
                bad = threshold.bad_of(state)
                kept.add_scores(_cumulative_scores(self._reader, chunk, cumulative, bad, start).scores)
        return kept


def scores_between(
    logits: Rows,
    cumulative: Cumulative | None,
    low: float,
    high: float,
    chunk_size: int | None = None,
    share: float = 1.0,
) -> ScoresBetween:
    """Number of scores ≤ low, number in (low, high], and those, or some where there are very many.

    The rows are a `share` of all that are kept of.
    """
    found = _Scores(logits, cumulative, chunk_size).between(low, high, max(1, int(share * _COLLECT)))
    if found is None:
        return ScoresBetween(0, 0, HostScores(np.empty(0)))
    counts, values = found.found()
    below, inside = counts.tolist()
    return ScoresBetween(below, inside, HostScores(values.cpu().numpy()))


def raised_threshold(
    logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The least threshold from q up that leaves no set empty."""
    reader = Reader()
    bad = reader.nothing_bad()
    least = reader.thresholds(q)
    for start, chunk in _chunks(reader, logits, cumulative, chunk_size):
        if cumulative is None:
            smallest = log_normalizers(chunk, bad, start)
        else:
            smallest = _cumulative_scores(reader, chunk, cumulative, bad, start).scores[:, 0]
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
    for start, chunk in _chunks(reader, logits, cumulative, chunk_size):
        stop = start + len(chunk)
        of_chunk = _cumulative_scores(reader, chunk, cumulative, bad, start)
        found[start:stop] = of_chunk.row_thresholds(of_rows(given, start, stop))
    check_finite(bad, logits)
    thresholds: Float64 = found.cpu().numpy()
    return thresholds


def true_class_scores(logits: Rows, labels: npt.NDArray[np.int64], cumulative: Cumulative | None = None) -> Float64:
    """The nonconformity of each row's true class, by the sums that sets are cut by."""
    reader = Reader()
    classes, bad = reader.tensor(labels), reader.nothing_bad()
    found = torch.empty(logits.n_rows, dtype=torch.float64, device=reader.device)
    for start, chunk in _chunks(reader, logits, cumulative, None):
        part = slice(start, start + len(chunk))
        of_class = chunk.gather(1, classes[part, None]).float().double()
        scores = log_normalizers(chunk, bad, start)[:, None] + (chunk.amax(dim=1, keepdim=True).float() - of_class)
        if cumulative is not None:
            formed = _cumulative_scores(reader, chunk, cumulative, bad, start)
            at = torch.searchsorted(formed.nonconformity, scores)  # behind all of them where a row is not finite
            scores = formed.scores.gather(1, at.clamp_(max=chunk.shape[1] - 1))
        found[part] = scores[:, 0]
    found_and_bad = Later(torch.cat([found, bad.view(torch.float64)])).array()
    raise_bad(int(found_and_bad[-1:].view(np.int64)[0]), logits)
    true_class: Float64 = found_and_bad[:-1]
    return true_class


def _chunks(
    reader: Reader, logits: Rows, cumulative: Cumulative | None, chunk_size: int | None
) -> Iterator[tuple[int, torch.Tensor]]:
    """The chunks of a matrix with the index of their first row; smaller ones where scores are formed in memory."""
    if cumulative is not None:
        most = max(1, _FORMED // logits.n_columns)
        chunk_size = min(most, chunk_size or most)
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        yield start, chunk


def _cumulative_scores(
    reader: Reader, chunk: torch.Tensor, cumulative: Cumulative, bad: torch.Tensor, start: int
) -> CumulativeScores:
    """Cumulative scores of a chunk whose first row is row `start`, where they have draws of `u` of their own."""
    log_sums = log_normalizers(chunk, bad, start)
    u = None if cumulative.u is None else reader.tensor(cumulative.u[start : start + len(chunk)])
    return cumulative_scores(chunk, log_sums, cumulative.penalty, cumulative.k_reg, u)


def of_rows(q: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if len(q) > 1 else q
