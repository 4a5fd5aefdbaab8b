"""Validation of every row of a query: finite and, where coverage needs one, with a direction.

A source of which every selectable row will be scored is validated lazily: its rows are read once, and validated before
anything else is done with them. All other sources are validated before the query's first step, but for excluded rows,
which nothing reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..pool.arrays import KeptRows
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..steps.validated_rows import LazilyValidatedRows
from .inputs import Inputs
from .settings import RowNumbers, Settings

__all__ = ["Validation", "planned_validation"]


def planned_validation(inputs: Inputs, *, covers_pool: bool, scores_teacher: bool) -> Validation:
    """Which sources are validated when, and what their rows need.

    Parameters
    ----------
    inputs : Inputs
    covers_pool : bool
        Whether the coverage step may also run in the student's embedding space.
    scores_teacher : bool
        Whether the teacher's posteriors of every row are scored.
    """
    directions = {inputs.space, inputs.pool} if covers_pool and not inputs.cold else {inputs.space}
    if inputs.teacher is not None and inputs.teacher.class_directions is not None:
        directions.add(inputs.teacher.source)  # zero-shot logits are of unit rows
    lazy = _lazy_sources(inputs, scores_teacher) if inputs.budget and inputs.settings.backend.ON_HOST else []
    return Validation(inputs.settings, inputs.sources, frozenset(directions), frozenset(lazy), inputs.rows.population)


def _lazy_sources(inputs: Inputs, scores_teacher: bool) -> list[Rows]:
    """The sources of which every selectable row will be scored."""
    of_teacher = [inputs.teacher.source] if scores_teacher and inputs.teacher is not None else []
    if inputs.cold:
        return of_teacher
    if inputs.n_scored < inputs.unlabelled.size:
        return []
    if inputs.student_logits is not None:
        return [inputs.student_logits, *of_teacher]
    # A user's own estimator is never given a pool with a row that is not finite.
    return [inputs.pool, *of_teacher] if inputs.student_is_head else of_teacher


@dataclass(frozen=True, eq=False)
class Validation:
    """Which sources are validated before the query's first step, and which as they are read."""

    settings: Settings
    sources: tuple[Rows, ...]
    """All sources, in the order in which they are validated."""
    directions: frozenset[Rows]
    """Sources whose rows must be non-zero."""
    lazy: frozenset[Rows]
    """Sources whose rows are validated as they are read."""
    population: RowNumbers
    """The rows that may be read."""

    def validate_up_front(self, pool: Rows, labelled: npt.NDArray[np.int64], pending: npt.NDArray[np.int64]) -> Rows:
        """Validate what is not validated lazily, the labelled rows of every source, and the pending ones of the pool.

        Returns
        -------
        Rows
            The labelled rows of the pool, kept where they fit.
        """
        self._validate(rows for rows in self.sources if rows not in self.lazy)
        x_labelled = self.settings.kept(self.validated(pool), labelled)
        is_read = isinstance(x_labelled, KeptRows)
        for rows in dict.fromkeys(self.sources):
            if rows not in self.lazy:
                continue
            needed = [] if is_read and rows is pool else [labelled]
            if rows is pool:
                needed.append(pending)
            for part in needed:
                for _ in RowSubset(self.validated(rows), part).chunks(self.settings.chunk_size):
                    pass
        return x_labelled

    def validated(self, rows: Rows) -> Rows:
        """One of the sources, each row validated when it is read where that has not been done."""
        if rows not in self.lazy:
            return rows
        return LazilyValidatedRows(
            rows,
            self.settings.backend,
            directions=rows in self.directions,
            refuse=lambda: self._validate(self.sources),  # raises for the first such row
        )

    def _validate(self, sources: Iterable[Rows]) -> None:
        backend, chunk_size = self.settings.backend, self.settings.chunk_size
        for rows in sources:
            is_whole = self.population.size == rows.n_rows
            needed = rows if is_whole else RowSubset(rows, self.population)
            backend.check_rows(needed, directions=rows in self.directions, chunk_size=chunk_size)
