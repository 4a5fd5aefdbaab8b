"""The interface of an acquisition: all that differs between queries by their acquisition."""

from __future__ import annotations

from typing import Protocol

from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import Picks
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..stage_costs import StageCost

__all__ = ["Acquisition", "scores_teacher"]


class Acquisition(Protocol):
    """A rule that selects rows by the scores of student and teacher."""

    covers_pool: bool
    """Whether the coverage step also runs in the student's embedding space; all rows must then be non-zero."""
    teacher_first: bool
    """Whether the cold start selects by the teacher, where there is one."""

    def forms_sets(self, has_teacher: bool, n_labelled: int) -> bool:
        """Whether the picks depend on conformal sets; where they do not, they depend on the student alone."""
        ...

    def columns(self, has_teacher: bool, n_classes: int) -> Columns:
        """The scores of a row that the picks depend on."""
        ...

    def score_bytes(self, has_teacher: bool) -> int:
        """Bytes of those columns per row, for the cost model."""
        ...

    def picks(self, inputs: Inputs, scored: RowNumbers, scores: Scores) -> Picks:
        """Steps 5 and 6: ``inputs.budget`` of the scored rows. The columns of the scores may be overwritten."""
        ...

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """Reads, memory and work of :meth:`picks`, for the cost model."""
        ...


def scores_teacher(acquisition: Acquisition, inputs: Inputs) -> bool:
    """Whether the teacher's posteriors of every scored row are needed."""
    if inputs.teacher is None:
        return False
    if inputs.cold:
        return acquisition.teacher_first or inputs.shares is not None
    return acquisition.forms_sets(True, inputs.labelled.size)
