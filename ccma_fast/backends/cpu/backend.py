"""The CPU backend: the C++ core's passes, streamed over chunks of rows.

Contracts are those of :mod:`ccma_fast.reference`. Every pass reads rows chunk by chunk, so that memory beyond the
input is some bytes per row and one chunk; no result depends on where the chunks end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool import checked
from ...pool.arrays import ReadRows, kept
from ...pool.checked import raise_not_finite
from ...pool.derived import RowSubset
from ...pool.rows import Rows, in_step
from ...reference import Cumulative, RowScores, target_size_rank, up_to_ties
from ..order_statistic import ScoresBetween, likely_bracket, order_statistic, size_sample
from ..protocol import PutScores
from .kmeans import NAME, ON_HOST, row_lengths, top_m, weighted_kmeans

__all__ = [
    "NAME",
    "ON_HOST",
    "arithmetic",
    "check_rows",
    "describe",
    "kept",
    "linear",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "target_size_threshold",
    "top_m",
    "weighted_kmeans",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# Scores kept in one pass of the threshold's search: 32 MiB of them.
_COLLECT = 1 << 22

# By how many standard deviations of a sample's mean set size a threshold's bracket reaches to both sides.
_SIZE_DEVIATIONS = 2.6

# What may be kept of rows whose sets are still open, in bytes: so many, and so many for each row.
_OPEN_BYTES = 1 << 27
_OPEN_BYTES_OF_ROW = 16


def arithmetic() -> str:
    """The backend with its instruction set."""
    return f"cpu ({_core.simd_level()})"


def describe() -> str:
    """The backend with its instruction set and threads."""
    return f"cpu ({_core.simd_level()}, {_core.num_threads()} threads)"


def check_rows(rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    checked.check_rows(rows, row_lengths, directions=directions, chunk_size=chunk_size)


# ---------------------------------------------------------------------------------------------------------------------
# Posteriors


def score(
    student_logits: Rows,
    teacher_logits: Rows | None = None,
    q_student: float | Float64 = np.inf,
    q_teacher: float | Float64 = np.inf,
    *,
    chunk_size: int | None = None,
) -> RowScores:
    """δ and the sizes of the sets, each logit read once."""
    n = student_logits.n_rows
    scores = RowScores.empty(n)
    given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
    for start, chunks in in_step(*given, chunk_size=chunk_size):
        stop = start + len(chunks[0])
        parts, bad, of_teacher = _core.score(
            chunks[0],
            chunks[1] if len(chunks) == 2 else None,
            _of_rows(q_student, start, stop),
            _of_rows(q_teacher, start, stop),
        )
        _check_finite(given, start, bad, of_teacher)
        for whole, part in zip(scores, parts, strict=True):
            whole[start:stop] = part
    return scores


def score_at_sizes(
    student_logits: Rows,
    teacher_logits: Rows | None,
    student_size: float,
    teacher_size: float,
    put: PutScores,
    *,
    chunk_size: int | None = None,
) -> tuple[float, float] | None:
    """Both target-size thresholds, and to `put` the scores under them, each logit read or computed once.

    A sample of rows says between which numbers each threshold lies but for a chance of some per cent. One pass counts
    the scores below and keeps those between, which gives the thresholds exactly. Rows whose sets are the same at both
    ends get their scores meanwhile; of the others the logits of both sets are kept. Where the rows are few, or the
    numbers turn out wrong or too far apart, the answer is None and what was put does not count: thresholds must come
    first, then scores.
    """
    given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
    n, n_columns = student_logits.n_rows, student_logits.n_columns
    n_sample = size_sample(n, n_columns)
    if not n_sample:
        return None
    sizes = (student_size, teacher_size)[: len(given)]
    brackets = [_likely_threshold(rows, size, n_sample) for rows, size in zip(given, sizes, strict=True)]
    # A set holds what ties with its threshold: a row's set is known where it has no score up to there.
    ends = [(low, up_to_ties(high)) for low, high in brackets]
    counts = [(0, 0) for _ in given]
    inside: list[list[Float64]] = [[] for _ in given]
    kept_open: list[tuple[int, _core.OpenRows]] = []
    n_bytes = 0
    for start, chunks in in_step(*given, chunk_size=chunk_size):
        teacher = chunks[1] if len(chunks) == 2 else None
        scores, *counted, open_rows, bad, of_teacher = _core.score_in_brackets(chunks[0], teacher, ends[0], ends[-1])
        _check_finite(given, start, bad, of_teacher)
        put(slice(start, start + len(chunks[0])), RowScores(*scores))
        kept_open.append((start, open_rows))
        n_bytes += open_rows.nbytes
        for i, (below, n_inside, values) in enumerate(counted[: len(given)]):
            counts[i] = (counts[i][0] + below, counts[i][1] + n_inside)
            inside[i].append(values)
            n_bytes += values.nbytes
        if n_bytes > _OPEN_BYTES + _OPEN_BYTES_OF_ROW * n:
            return None
        del chunks, teacher, scores  # before the next are computed
    thresholds = []
    for size, (_, high), (below, n_inside), parts in zip(sizes, brackets, counts, inside, strict=True):
        rank = target_size_rank(size, n, n_columns) - below
        if not 0 < rank <= n_inside:
            return None
        threshold = float(np.partition(np.concatenate(parts), rank - 1)[rank - 1])
        if threshold > high:
            return None
        thresholds.append(threshold)
    q_student, q_teacher = (*thresholds, np.inf)[:2]
    for start, open_rows in kept_open:
        rows, scores = open_rows.settle(up_to_ties(q_student), up_to_ties(q_teacher))
        put(start + rows, RowScores(*scores))
    return q_student, q_teacher


def _likely_threshold(logits: Rows, size: float, n_sample: int) -> tuple[float, float]:
    """Two numbers between which the threshold of all rows lies, but for a chance of about one in a hundred."""
    spread = RowSubset(logits, (np.arange(n_sample) * logits.n_rows) // n_sample)
    sample = ReadRows(spread, spread.read(0, n_sample))
    return likely_bracket(
        size * n_sample,
        sample,
        lambda rows, rule, low, high: _scores_between(rows, rule, low, high, None),
        lambda q: _SIZE_DEVIATIONS * float(score(sample, q_student=q).student_size.std()) * n_sample**0.5,
    )


def _check_finite(given: list[Rows], start: int, bad: int, of_teacher: bool) -> None:
    """Raises where a pass over some rows from `start` on found one that is not finite."""
    if bad >= 0:
        of = given[of_teacher]
        raise_not_finite(of.name, of.row_number(start + bad))


def raised_threshold(
    logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The least threshold from q up that leaves no set empty."""
    for start, chunk in logits.chunks(chunk_size):
        if cumulative is None:
            smallest_scores, bad = _core.log_normalizers(chunk)
        else:
            smallest_scores, bad = _core.least_scores(chunk, cumulative.of_rows(slice(start, start + len(chunk))))
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
        q = float(smallest_scores.max(initial=q))
    return q


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        sets[start:stop], bad = _core.prediction_sets(chunk, _of_rows(q, start, stop))
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
    return sets


def row_thresholds(
    logits: Rows, q: float | Float64, cumulative: Cumulative, *, chunk_size: int | None = None
) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score."""
    thresholds = np.empty(logits.n_rows)
    for start, chunk in logits.chunks(chunk_size):
        stop = start + len(chunk)
        score_of_rows = cumulative.of_rows(slice(start, stop))
        thresholds[start:stop], bad = _core.row_thresholds(chunk, _of_rows(q, start, stop), score_of_rows)
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
    return thresholds


def _of_rows(q: float | Float64, start: int, stop: int) -> float | Float64:
    """The thresholds of a chunk's rows."""
    return q[start:stop] if isinstance(q, np.ndarray) else q


def target_size_threshold(
    logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The exact ⌈k·M⌉-th smallest of all M·C scores, without sorting or storing them."""
    return order_statistic(
        target_size_rank(size, logits.n_rows, logits.n_columns),
        logits,
        cumulative,
        lambda rows, rule, low, high: _scores_between(rows, rule, low, high, chunk_size),
    )


def _scores_between(
    logits: Rows, cumulative: Cumulative | None, low: float, high: float, chunk_size: int | None
) -> ScoresBetween:
    """How many scores are ≤ low, how many in (low, high], and those, or a sample where there are very many."""
    below = inside = 0
    kept = []
    for start, chunk in logits.chunks(chunk_size):
        share = max(1, _COLLECT * len(chunk) // logits.n_rows)
        score_of_rows = None if cumulative is None else cumulative.of_rows(slice(start, start + len(chunk)))
        n_below, n_inside, values, bad = _core.scores_between(chunk, low, high, share, score_of_rows)
        if bad >= 0:
            raise_not_finite(logits.name, logits.row_number(start + bad))
        below += n_below
        inside += n_inside
        kept.append(values)
    return ScoresBetween(below, inside, _Kept(np.concatenate(kept)))


class _Kept:
    """Scores that a pass kept."""

    def __init__(self, values: Float64) -> None:
        self.size = values.size
        self._values = values

    def at(self, *places: int) -> list[float]:
        part = np.partition(self._values, places)
        return [float(part[place]) for place in places]


def linear(
    x: npt.NDArray[Any], weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None
) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone, whatever the threads and the chunk."""
    product: Float32 = _core.Panels(weight).multiply(x, scale, bias)
    return product
