"""The teacher: zero-shot posteriors from image and class-text embeddings, or from anywhere else."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from . import reference
from ._dispatch import Backend
from ._validate import check_lengths, check_number, check_same_rows
from .config import CCMAConfig
from .conformal import open_logits
from .pool import Chunk, DerivedRows, Rows, open_rows, to_float32

__all__ = ["Teacher"]


class Teacher:
    """Zero-shot knowledge of the classes: z^T_ic = cos(v_i, t_c) / τ.

    Parameters
    ----------
    image_features : array_like, torch.Tensor or path, shape (N, D_T)
        v, one row per pool row, any length (normalised here; none may be zero).
    class_features : array_like, torch.Tensor or path, shape (C, D_T)
        t, one row per class, C ≥ 2, any length (normalised here; none may be zero).
    temperature : float, default 0.03
        τ, greater than 0, in units of cosine similarity.

    Attributes
    ----------
    n_rows, n_classes : int
        N and C.
    source : Rows
        What is read: the image features, or the logits of :meth:`from_logits`.
    features : Rows or None
        The space in which coverage runs; None for :meth:`from_logits`.
    class_directions : ndarray, shape (C, D_T), float32, or None
        t, normalised; None for :meth:`from_logits`.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, NaN, infinity or a zero vector among the class features, τ ≤ 0.
    TypeError
        Inputs that are not real numbers.
    """

    def __init__(self, image_features: Any, class_features: Any, temperature: float = CCMAConfig.temperature) -> None:
        self.temperature = _check_temperature(temperature)
        images = open_rows(image_features, "image_features")
        classes = open_rows(class_features, "class_features")
        if classes.n_columns != images.n_columns:
            raise ValueError(
                f"class_features has {classes.n_columns} columns but image_features has {images.n_columns}; "
                "both must come from the same teacher"
            )
        if classes.n_rows < 2:
            raise ValueError(f"class_features must have at least two rows (classes), got {classes.n_rows}")
        self.n_classes = classes.n_rows
        self.n_rows = images.n_rows
        self.source: Rows = images
        self.features: Rows | None = images
        self.class_directions: npt.NDArray[np.float32] | None = _unit(classes)

    @classmethod
    def from_logits(cls, logits: Any, temperature: float = 1.0) -> Teacher:
        """A teacher whose logits are already there.

        Parameters
        ----------
        logits : array_like, torch.Tensor or path, shape (N, C)
            Logits, or logarithms of probabilities; C ≥ 2.
        temperature : float, default 1.0
            The logits are divided by it.

        Returns
        -------
        Teacher
            Without image features: coverage then runs in the student's space.
        """
        teacher = cls.__new__(cls)
        teacher.temperature = _check_temperature(temperature)
        rows = open_logits(logits, "teacher_logits")
        teacher.n_rows, teacher.n_classes = rows.n_rows, rows.n_columns
        teacher.source, teacher.features, teacher.class_directions = rows, None, None
        return teacher

    def logits(self, backend: Backend) -> Rows:
        """z^T of every pool row, computed as chunks are read."""
        divisor = np.float32(self.temperature)
        if self.class_directions is None:
            if divisor == 1.0:
                return self.source
            return DerivedRows(
                self.source, self.source.name, self.n_classes, lambda chunk: _divided(to_float32(chunk), divisor)
            )
        classes = _divided(self.class_directions, divisor)

        def similarities(images: Chunk) -> Chunk:
            return backend.linear(images, classes, scale=(1.0 / backend.row_lengths(images)).astype(np.float32))

        return DerivedRows(self.source, "teacher_logits", self.n_classes, similarities)

    def reading(self, source: Rows) -> Teacher:
        """This teacher, its rows read from `source`, where the same ones are."""
        teacher = copy.copy(self)
        teacher.source = source
        return teacher

    def check_rows(self, n_rows: int) -> None:
        """Raises ValueError unless the teacher describes `n_rows` rows."""
        name = "teacher_logits" if self.features is None else "image_features"
        check_same_rows(name, self.n_rows, "features", n_rows)


def _check_temperature(temperature: Any) -> float:
    return check_number("temperature", temperature, above=0.0, minimum=float(np.finfo(np.float32).tiny))


def _divided(logits: npt.NDArray[np.float32], divisor: np.float32) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinity is refused, with its row, where the logits are used
        return np.divide(logits, divisor, dtype=np.float32)


def _unit(vectors: Rows) -> npt.NDArray[np.float32]:
    """The rows divided by their lengths."""
    values = vectors.float32()
    lengths = reference.row_lengths(values)
    check_lengths(vectors, 0, lengths, directions=True)
    unit: npt.NDArray[np.float32] = (values / lengths[:, None]).astype(np.float32)
    return unit
