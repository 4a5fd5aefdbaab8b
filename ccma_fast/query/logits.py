"""The logits of student and teacher for the same rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..backends.protocol import on_ranks
from ..pool.derived import DerivedRows, RowSubset
from ..pool.rows import Rows
from .settings import RowNumbers, Settings

__all__ = ["Logits", "kept_logits"]


class Logits(NamedTuple):
    """z^S and z^T of the same rows, in chunks."""

    student: Rows
    teacher: Rows | None = None

    def of(self, rows: RowNumbers) -> Logits:
        """The logits of some of the rows, read or computed on access."""
        return self.each(lambda z: RowSubset(z, rows))

    def each(self, function: Callable[[Rows], Rows]) -> Logits:
        """A function applied to the student's and, where there is one, the teacher's."""
        return Logits(function(self.student), None if self.teacher is None else function(self.teacher))

    @property
    def matrices(self) -> list[Rows]:
        """The student's matrix and, where there is one, the teacher's."""
        return [self.student] if self.teacher is None else [self.student, self.teacher]


def kept_logits(z: Logits, scored: RowNumbers, settings: Settings) -> Logits:
    """Logits of the scored rows; computed ones are cached, where all of them fit."""
    limit = settings.memory.logits
    if on_ranks(settings.backend) is not None:
        return z.of(scored)  # which each rank computes of its own rows
    if sum(4 * scored.size * rows.n_columns for rows in z.matrices if isinstance(rows, DerivedRows)) > limit:
        return z.of(scored)

    def kept(rows: Rows) -> Rows:
        subset = RowSubset(rows, scored)
        return settings.backend.kept(subset, limit, settings.chunk_size) if isinstance(rows, DerivedRows) else subset

    return z.each(kept)
