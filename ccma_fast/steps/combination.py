"""Student and teacher as one model: a weighted geometric mean of their posteriors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.rows import Chunk, Rows, to_float32
from .temperature import log_likelihoods, smoothed_temperature

__all__ = ["Combination", "CombinedRows", "combination", "log_softmax"]

Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]

# From the student alone to the teacher alone.
_SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)


class Combination(NamedTuple):
    """Logits scale · (share · ln p^S + (1 − share) · ln p^T)."""

    share: float = 1.0
    """Of the student."""
    scale: float = 1.0

    def __call__(self, student: Float32, teacher: Float32) -> Float32:
        """Logits of rows, shape (n, C)."""
        z: Float32 = np.float32(self.scale * self.share) * log_softmax(student)
        z += np.float32(self.scale * (1.0 - self.share)) * log_softmax(teacher)
        return z


class CombinedRows(Rows):
    """Combined logits of every row, computed as chunks of both models' logits are read."""

    def __init__(self, combined: Combination, student: Rows, teacher: Rows) -> None:
        self.name = "combined_logits"
        self.n_rows, self.n_columns = student.n_rows, student.n_columns
        self._combined, self._student, self._teacher = combined, student, teacher

    @property
    def behind(self) -> tuple[Rows, ...]:
        return self._student, self._teacher

    @property
    def bytes_read(self) -> int:  # type: ignore[override]
        return self._student.bytes_read + self._teacher.bytes_read

    def chunk_rows(self, chunk_size: int | None = None) -> int:
        return min(self._student.chunk_rows(chunk_size), self._teacher.chunk_rows(chunk_size))

    def slice(self, start: int, stop: int) -> Chunk:
        return self._of(self._student.slice(start, stop), self._teacher.slice(start, stop))

    def take(self, indices: npt.NDArray[np.int64]) -> Chunk:
        return self._of(self._student.take(indices), self._teacher.take(indices))

    def row_number(self, row: int) -> int:
        return self._student.row_number(row)

    def expect(self, start: int, stop: int) -> None:
        self._student.expect(start, stop)
        self._teacher.expect(start, stop)

    def release(self, start: int, stop: int) -> None:
        self._student.release(start, stop)
        self._teacher.release(start, stop)

    def _of(self, student: Chunk, teacher: Chunk) -> Float32:
        return self._combined(to_float32(student), to_float32(teacher))


def combination(student: Float32, teacher: Float32, labels: npt.NDArray[np.int64]) -> Combination:
    """The combination that is expected by logits (n, C) of rows whose labels neither model saw.

    The share is the mean of five, from the student alone to the teacher alone, each weighted by its likelihood, so that
    a few rows do not decide for one model; one half where there is no row. Its scale is the likeliest.
    """
    n = labels.size
    of_student, of_teacher = (log_softmax(z).astype(np.float64) for z in (student, teacher))

    def mixed(share: float) -> tuple[Float64, float]:
        z = share * of_student + (1.0 - share) * of_teacher
        tau = smoothed_temperature(z, labels)
        return z, 0.0 if math.isinf(tau) else 1.0 / tau

    likelihood = np.zeros(len(_SHARES))
    for k, share in enumerate(_SHARES if n else ()):
        z, scale = mixed(share)
        likelihood[k] = log_likelihoods((scale * z).astype(np.float32), labels).sum()
    weights = np.exp(likelihood - likelihood.max())
    share = float(weights @ np.array(_SHARES) / weights.sum())
    return Combination(share, mixed(share)[1] if n else 1.0)


def log_softmax(z: Float32) -> Float32:
    """ln softmax(z) of each row, shape (n, C), float32."""
    with np.errstate(over="ignore", invalid="ignore"):  # NaN is refused, with its row, where the logits are used
        z = z - z.max(axis=1, keepdims=True)
        z -= np.log(np.exp(z).sum(axis=1, keepdims=True))
    return z
