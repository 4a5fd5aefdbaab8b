"""The matrix behind a teacher: its rows, their logits, and the sanity checks of those by labels."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import check_same_rows
from ..pool.agreement import accepted, differing_images
from ..pool.derived import DerivedRows, LinearRows
from ..pool.rows import Chunk, Rows, to_float32
from ..system import display
from .suspicions import Suspicions, suspicions

__all__ = ["TeacherRows", "teacher_suspicions"]

_AnyTeacher = TypeVar("_AnyTeacher", bound="TeacherRows")


class TeacherRows:
    """The rows of a teacher: image features with class directions, or ready-made logits.

    Parameters
    ----------
    source : Rows
        Image features, shape (N, D_T), or logits, shape (N, C).
    n_classes : int
        C.
    temperature : float
        τ, by which the logits are divided.
    class_names : list of str or None
    force : bool
        Whether to accept rows whose manifests, ids or shards do not match the pool's.
    forced : list of str
        Differences of manifests that were accepted so.
    """

    def __init__(
        self,
        source: Rows,
        n_classes: int,
        temperature: float,
        class_names: list[str] | None = None,
        *,
        force: bool,
        forced: list[str],
    ) -> None:
        self.n_rows, self.n_classes = source.n_rows, n_classes
        self.source = source
        self.features: Rows | None = None
        self._temperature, self._class_names = temperature, class_names
        self._class_directions: npt.NDArray[np.float32] | None = None
        self._force, self._forced = force, forced

    @property
    def temperature(self) -> float:
        return self._temperature

    @property
    def class_names(self) -> list[str] | None:
        return None if self._class_names is None else [*self._class_names]

    @property
    def class_directions(self) -> npt.NDArray[np.float32] | None:
        return self._class_directions

    def _facts(self) -> dict[str, Any]:
        names = self.class_names
        told = {"rows": self.n_rows, "classes": self.n_classes, "temperature": self.temperature}
        what = "image features and class features" if self.features is not None else "logits"
        return told | {
            "from": f"{what}, {self.source.n_columns} columns",
            "class names": None if names is None else display.few(names, len(names), shown=10),
            "accepted mismatches": "; ".join(self._forced) or None,
        }

    def __repr__(self) -> str:
        size = f"{self.n_rows:,} rows, {self.n_classes:,} classes"
        names = self.class_names
        listed = "" if names is None else f"[{display.few(names, len(names))}]"
        return display.line("Teacher", size, f"temperature {self.temperature:g}", listed)

    def _repr_html_(self) -> str:
        return display.notebook_html("Teacher", self.facts_html())

    def facts_html(self) -> str:
        """What a notebook shows below the title."""
        return display.facts({name: value for name, value in self._facts().items() if value is not None})

    def logits(self, backend: Backend) -> Rows:
        """z^T of every pool row, computed as chunks are read."""
        divisor = np.float32(self.temperature)
        if self.class_directions is None:
            if divisor == 1.0:
                return self.source
            return DerivedRows(self.source, self.source.name, self.n_classes, partial(_divided, divisor=divisor))
        classes = _divided(self.class_directions, divisor)
        return LinearRows(self.source, "teacher_logits", backend, classes, unit=True)

    def reading(self: _AnyTeacher, source: Rows) -> _AnyTeacher:
        """A copy of this teacher that reads the same rows from `source`."""
        teacher = copy.copy(self)
        teacher.source = source
        return teacher

    def check_rows(self, *matrices: Rows) -> list[str]:
        """Check that the teacher's rows are those of a pool, in each matrix that is given of it.

        Returns
        -------
        list of str
            Differences by manifests, ids or shards that `force` accepted.

        Raises
        ------
        PoolMismatchError
            By manifests, ids or shards they are other images, or in another order.
        ValueError
            Another number of rows.
        """
        forced = accepted([differing_images(self.source, rows) for rows in matrices], self._force)
        for rows in matrices:
            check_same_rows(self.source.name, self.n_rows, rows.name, rows.n_rows)
        return self._forced + forced

    def grown(self: _AnyTeacher) -> _AnyTeacher:
        """A copy of this teacher with all current rows of its source, see :meth:`ccma_fast.pool.rows.Rows.grown`."""
        source = self.source.grown()
        if source is self.source:
            return self
        teacher = copy.copy(self)
        teacher.source, teacher.n_rows = source, source.n_rows
        teacher.features = None if self.features is None else source
        return teacher


def _divided(logits: Chunk, divisor: np.float32) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):  # infinity is refused, with its row, where the logits are used
        return np.divide(to_float32(logits), divisor, dtype=np.float32)


def teacher_suspicions(
    teacher: TeacherRows,
    logits: Rows,
    labels: npt.NDArray[np.int64],
    class_names: Sequence[str] | None,
    *,
    whole_order: bool = True,
    unproven: bool = False,
) -> Suspicions:
    """Sanity checks of a teacher by labelled rows, of which `logits` are the teacher's.

    See :func:`ccma_fast.steps.suspicions.suspicions`.
    """
    return suspicions(
        "the teacher",
        logits,
        labels,
        class_names,
        temperature=teacher.temperature,
        ready_made=teacher.class_directions is None,
        whole_order=whole_order,
        unproven=unproven,
    )
