"""The inputs of the cost model of a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import CCMAConfig
from ..pool.rows import Rows
from ..system.memory import Memory

__all__ = ["CostInputs"]


@dataclass(frozen=True)
class CostInputs:
    """The inputs of the cost model, as :func:`ccma_fast.query.cost_model.cost_inputs_of` collects them."""

    config: CCMAConfig
    memory: Memory
    chunk_size: int | None
    pool: Rows
    student_logits: Rows | None
    """Ready-made logits of the student."""
    teacher: Rows | None
    """The matrix that the teacher's logits are read or computed from."""
    space: Rows
    """The embedding space of the coverage step."""
    posteriors: tuple[Rows, ...]
    """Sources of the logits of every scored row."""
    computed: tuple[Rows, ...]
    """Those of them whose logits are computed, not read."""
    lazy: frozenset[Rows]
    """Sources that are validated while they are scored."""
    n_labelled: int
    n_covered: int
    """Labelled and pending rows."""
    n_population: int
    """Rows that may be read, from which the student's sample is drawn: all but the excluded."""
    n_unlabelled: int
    """Rows that can be selected."""
    has_labels: bool
    """Whether labels were given, even if no row has one."""
    n_left: int
    """Rows that may be scored."""
    n_scored: int
    n_classes: int
    budget: int
    cold: bool
    class_bytes: int
    """Bytes of each scored row's class, which is kept for a class distribution."""
    has_spacing: bool
    """Whether there is a minimum distance between picks."""
    forms_sets: bool
    """Whether the picks depend on conformal sets."""
    head: Literal["", "published", "ridge", "distilled"]
    """The head that is fitted, as a configuration names it; empty where none is."""
    has_brackets: bool
    """Whether rows may be scored before the thresholds of target sizes are known."""
    n_ranks: int = 1
    """Processes that share the rows."""

    @property
    def sources(self) -> list[Rows]:
        return list(dict.fromkeys(rows for rows in (self.pool, self.student_logits, self.teacher) if rows is not None))

    @property
    def student_source(self) -> Rows:
        """The matrix that the student's logits are read or computed from."""
        return self.pool if self.student_logits is None else self.student_logits

    @property
    def is_logistic(self) -> bool:
        """Whether a logistic regression is fitted."""
        return self.head in ("ridge", "distilled")

    def of_rank(self, n: int) -> int:
        """How many of n rows a rank has, where all have as many."""
        return -(-n // self.n_ranks)

    @property
    def leaves_rows_out(self) -> bool:
        """Whether chunks of the selectable rows are non-contiguous, so that they are copied."""
        return self.n_unlabelled < self.pool.n_rows
