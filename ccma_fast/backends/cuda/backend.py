"""The CUDA backend: Triton kernels, fed with chunks of rows.

Contracts are those of :mod:`ccma_fast.reference`. Tensors on the device are used where they lie; all else is read chunk
by chunk and copied through pinned memory while the device works on the chunk before. Logits that come from features are
computed on the device, chunk by chunk, and go from its cache into the kernel that uses them. No result depends on where
the chunks end. The host waits for the device at the end of a pass, never within.

Under Triton's interpreter (``TRITON_INTERPRET=1``) the same code runs on the processor, slowly: that is how it is
tested where no GPU is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton

from ...kernels import conformal_score, conformal_sets, cumulative, threshold
from ...kernels import linear as products
from ...pool.rows import Chunk, Rows
from ...reference import Cumulative, RowScores, target_size_rank
from ..order_statistic import ScoresBetween, order_statistic
from .coverage import unit_rows
from .kmeans import NAME, ON_HOST, weighted_kmeans
from .rows import INTERPRETED, Reader, Uploads, check_finite, check_rows_of_lengths, device, of_rows, top_m
from .training import training

__all__ = [
    "NAME",
    "ON_HOST",
    "arithmetic",
    "check_rows",
    "describe",
    "grouped",
    "kept",
    "linear",
    "prediction_sets",
    "raised_threshold",
    "row_lengths",
    "row_thresholds",
    "score",
    "score_at_sizes",
    "score_here",
    "target_size_threshold",
    "top_m",
    "training",
    "unit_rows",
    "weighted_kmeans",
    "why_unavailable",
]

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

# The oldest Triton that the kernels have been tried with.
_LEAST_TRITON = (3, 6)

# Scores kept in one pass of the threshold's search: 32 MiB of them.
_COLLECT = 1 << 22


def why_unavailable() -> str | None:
    """What keeps the backend from running here, or None."""
    if not INTERPRETED and not torch.cuda.is_available():
        return "PyTorch sees no CUDA device"
    version = tuple(map(int, triton.__version__.split(".")[:2]))
    if version < _LEAST_TRITON:
        return f"its kernels need Triton {'.'.join(map(str, _LEAST_TRITON))} or newer, got {triton.__version__}"
    return None


def describe() -> str:
    """The backend with its device."""
    return f"cuda ({'the interpreter' if INTERPRETED else torch.cuda.get_device_name()})"


arithmetic = describe


def kept(rows: Rows, limit: int, chunk_size: int | None = None) -> Rows:
    """Rows that are read several times: on the device where they fit into `limit` bytes, else read anew."""
    if 4 * rows.n_rows * rows.n_columns > limit:
        return rows
    return Reader().kept(rows)


def check_rows(rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
    """Every row is finite and, where `directions` are needed, long enough to have one."""
    reader = Reader()
    lengths = torch.empty(rows.n_rows, dtype=torch.float64, device=reader.device)
    for start, (chunk,) in reader.chunks(rows, chunk_size=chunk_size):
        lengths[start : start + len(chunk)] = products.row_lengths(chunk)
    check_rows_of_lengths(rows, lengths, directions=directions)


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
    scores = score_here(student_logits, teacher_logits, q_student, q_teacher, chunk_size=chunk_size)
    return RowScores(*(column.cpu().numpy() for column in scores))


def score_here(
    student_logits: Rows,
    teacher_logits: Rows | None = None,
    q_student: float | Float64 = np.inf,
    q_teacher: float | Float64 = np.inf,
    *,
    chunk_size: int | None = None,
) -> Any:
    """:func:`score` as tensors on the device."""
    reader = Reader()
    given = [rows for rows in (student_logits, teacher_logits) if rows is not None]
    q_s, q_t, bad = reader.thresholds(q_student), reader.thresholds(q_teacher), reader.nothing_bad()
    scores = conformal_score.Scores.empty(student_logits.n_rows, reader.device, with_teacher=len(given) == 2)
    for start, chunks in reader.chunks(*given, chunk_size=chunk_size):
        stop = start + len(chunks[0])
        conformal_score.conformal_score(
            chunks[0],
            chunks[1] if len(chunks) == 2 else None,
            of_rows(q_s, start, stop),
            of_rows(q_t, start, stop),
            scores.part(start, stop),
            bad,
            start,
        )
    check_finite(bad, student_logits, teacher_logits)
    columns: tuple[Any, ...] = scores
    return RowScores(*columns)


def grouped(classes: torch.Tensor, n_classes: int) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Rows by their classes, those of a class ascending, and how many each class has."""
    sizes: npt.NDArray[np.int64] = torch.bincount(classes, minlength=n_classes).cpu().numpy()
    return torch.sort(classes, stable=True).indices, sizes


def score_at_sizes(*_: Any, **__: Any) -> None:
    """Thresholds come first here, and the scores after them."""


def raised_threshold(logits: Rows, q: float, rule: Cumulative | None = None, *, chunk_size: int | None = None) -> float:
    """The least threshold from q up that leaves no set empty."""
    reader = Reader()
    bad = reader.nothing_bad()
    least = reader.thresholds(q)
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        smallest = conformal_sets.log_normalizers(chunk, bad, start)
        if rule is not None:
            smallest = _cumulative_scores(reader, chunk, smallest, rule, start).scores[:, 0]
        least = torch.maximum(least, smallest.amax())
    check_finite(bad, logits)
    return float(least.item())


def prediction_sets(logits: Rows, q: float | Float64, *, chunk_size: int | None = None) -> npt.NDArray[np.bool_]:
    """Γ of every row."""
    reader = Reader()
    sets = np.empty((logits.n_rows, logits.n_columns), dtype=np.bool_)
    thresholds, bad = reader.thresholds(q), reader.nothing_bad()
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        stop = start + len(chunk)
        packed = conformal_sets.prediction_sets(chunk, of_rows(thresholds, start, stop), bad, start)
        sets[start:stop] = np.unpackbits(packed.cpu().numpy(), axis=1, count=logits.n_columns, bitorder="little")
    check_finite(bad, logits)
    return sets


def row_thresholds(logits: Rows, q: float | Float64, rule: Cumulative, *, chunk_size: int | None = None) -> Float64:
    """Thresholds on −ln p that give the sets of a cumulative score."""
    reader = Reader()
    given, bad = reader.thresholds(q), reader.nothing_bad()
    found = torch.empty(logits.n_rows, dtype=torch.float64, device=reader.device)
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        stop = start + len(chunk)
        log_sums = conformal_sets.log_normalizers(chunk, bad, start)
        of_chunk = _cumulative_scores(reader, chunk, log_sums, rule, start)
        found[start:stop] = of_chunk.row_thresholds(of_rows(given, start, stop))
    check_finite(bad, logits)
    thresholds: Float64 = found.cpu().numpy()
    return thresholds


def _cumulative_scores(
    reader: Reader, chunk: torch.Tensor, log_sums: torch.Tensor, rule: Cumulative, start: int
) -> cumulative.CumulativeScores:
    u = None if rule.u is None else reader.tensor(rule.u[start : start + len(chunk)])
    return cumulative.cumulative_scores(chunk, log_sums, rule.penalty, rule.k_reg, u)


# ---------------------------------------------------------------------------------------------------------------------
# Thresholds


class _Kept:
    """Scores that a pass kept, on the device."""

    def __init__(self, parts: list[tuple[torch.Tensor, torch.Tensor]], low: float, high: float) -> None:
        self._values, self._sizes = threshold.joined(parts)
        self._bracket = low, high
        self.size = int(self._sizes.sum().item())

    def at(self, *places: int) -> list[float]:
        return [threshold.order_statistic(self._values, self._sizes, place + 1, *self._bracket) for place in places]


def target_size_threshold(
    logits: Rows, size: float, rule: Cumulative | None = None, *, chunk_size: int | None = None
) -> float:
    """The exact ⌈k·M⌉-th smallest of all M·C scores, without sorting or storing them."""
    return order_statistic(
        target_size_rank(size, logits.n_rows, logits.n_columns),
        logits,
        rule,
        lambda rows, of, low, high: _scores_between(rows, of, low, high, chunk_size),
    )


def _scores_between(
    logits: Rows, rule: Cumulative | None, low: float, high: float, chunk_size: int | None
) -> ScoresBetween:
    """How many scores are ≤ low, how many in (low, high], and those, or some where there are very many."""
    reader = Reader()
    bad = reader.nothing_bad()
    low_q, high_q = reader.thresholds(low), reader.thresholds(high)
    counts = torch.zeros(2, dtype=torch.int64, device=reader.device)
    parts = []
    for start, (chunk,) in reader.chunks(logits, chunk_size=chunk_size):
        capacity = max(1, _COLLECT * len(chunk) // logits.n_rows)
        if rule is None:
            found = threshold.scores_between(chunk, low_q, high_q, capacity, bad, start)
        else:
            log_sums = conformal_sets.log_normalizers(chunk, bad, start)
            scores = _cumulative_scores(reader, chunk, log_sums, rule, start).scores
            found = cumulative.scores_between(scores, low_q, high_q, capacity)
        counts += torch.stack([found.below, found.inside])
        parts.append((found.values, found.sizes))
    check_finite(bad, logits)
    below, inside = counts.tolist()
    return ScoresBetween(below, inside, _Kept(parts, low, high))


# ---------------------------------------------------------------------------------------------------------------------
# Rows and products


def row_lengths(x: Chunk) -> Float64:
    """Euclidean length of each row of a chunk; not finite exactly where the row is not."""
    lengths: Float64 = products.row_lengths(Uploads(device())(x)).cpu().numpy()
    return lengths


def linear(x: Chunk, weight: Float32, bias: Float32 | None = None, *, scale: Float32 | None = None) -> Float32:
    """(scale · x) Wᵀ + b; each product depends on its row and column alone."""
    reader = Reader()
    rows = Uploads(reader.device)(x)
    prepared = products.prepare_weight(reader.tensor(weight), None if bias is None else reader.tensor(bias), rows.dtype)
    product: Float32 = products.linear(rows, prepared, None if scale is None else reader.tensor(scale)).cpu().numpy()
    return product
