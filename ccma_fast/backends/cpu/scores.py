"""The disagreement score and the set sizes, given the thresholds or together with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ... import _core
from ...pool.arrays import ReadRows
from ...pool.derived import RowSubset
from ...pool.rows import Rows, in_step
from ...reference import RowScores, target_size_rank, up_to_ties
from ..order_statistic import likely_bracket, size_sample
from ..protocol import PutScores
from .rows import check_finite
from .thresholds import of_rows, scores_between

__all__ = ["score", "score_at_sizes"]

Float64 = npt.NDArray[np.float64]

# By how many standard deviations of a sample's mean set size a threshold's bracket reaches to both sides.
_SIZE_DEVIATIONS = 2.6

# What may be kept of rows whose sets are still open, in bytes: so many, and so many for each row.
_OPEN_BYTES = 1 << 27
_OPEN_BYTES_OF_ROW = 16


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
            of_rows(q_student, start, stop),
            of_rows(q_teacher, start, stop),
        )
        check_finite(given[of_teacher], start, bad)
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
        check_finite(given[of_teacher], start, bad)
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
        lambda rows, rule, low, high: scores_between(rows, rule, low, high, None),
        lambda q: _SIZE_DEVIATIONS * float(score(sample, q_student=q).student_size.std()) * n_sample**0.5,
    )
