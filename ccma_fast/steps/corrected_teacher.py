"""A teacher with its correction by the labelled rows, see :mod:`~.teacher_correction`."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..pool.derived import DerivedRows, LinearRows
from ..pool.rows import Chunk, Rows, to_float32
from .scaling import Scaling

__all__ = ["CorrectedTeacher", "Correction", "TeacherSample"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class TeacherSample(NamedTuple):
    """Some rows of a teacher."""

    logits: Float32
    """z^T, shape (n, C), each row less its largest."""
    features: Float32
    """φ, standardised, shape (n, D + 1)."""

    def of(self, rows: Int64 | npt.NDArray[np.bool_]) -> TeacherSample:
        return TeacherSample(self.logits[rows], self.features[rows])


class Correction(NamedTuple):
    """β and Δ."""

    inverse_temperature: float
    coef: Float32 | None
    """Δ for standardised features, shape (C, D + 1); None for zero."""
    penalty: float

    def __call__(self, sample: TeacherSample, backend: Backend) -> Float32:
        """z of some rows, shape (n, C)."""
        z: Float32 = np.float32(self.inverse_temperature) * sample.logits
        if self.coef is not None:
            z += backend.linear(sample.features, self.coef)
        return z


class CorrectedTeacher(NamedTuple):
    """A teacher and its correction."""

    class_directions: Float32 | None
    """t, of a teacher with image features; None for ready-made logits."""
    temperature: float
    """τ of the teacher as it was."""
    n_classes: int
    correction: Correction
    scaling: Scaling

    def logits(self, source: Rows, backend: Backend) -> Rows:
        """z of every row of a source like the teacher's own, computed as chunks are read."""
        beta, coef, _ = self.correction
        directions, tau = self.class_directions, self.temperature
        if directions is None and coef is None:
            scaled = partial(_scaled, factor=np.float32(beta / tau))
            return DerivedRows(source, source.name, self.n_classes, scaled)
        weight, bias = np.float64(0.0), None
        if coef is not None:
            weight, bias = self.scaling.of_raw(coef)
        if directions is None:  # φ are centred logits z^T − mean(z^T)
            weight = (weight - weight.mean(axis=1, keepdims=True) + beta * np.eye(len(weight))) / tau
        else:
            weight = weight + (beta / tau) * directions
        return LinearRows(
            source,
            "teacher_logits",
            backend,
            np.ascontiguousarray(weight, np.float32),
            bias,
            unit=directions is not None,
        )


def _scaled(logits: Chunk, factor: np.float32) -> Float32:
    with np.errstate(over="ignore"):  # infinity is refused, with its row, where the logits are used
        product: Float32 = to_float32(logits) * factor
    return product
