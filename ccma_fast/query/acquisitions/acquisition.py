"""What an acquisition is: everything in which queries with different ones differ."""

from __future__ import annotations

from typing import Protocol

from ..cost_inputs import CostInputs
from ..inputs import Inputs
from ..picks import Picks
from ..scores import Columns, Scores
from ..settings import RowNumbers
from ..stage_costs import StageCost

__all__ = ["Acquisition"]


class Acquisition(Protocol):
    """A rule that chooses rows by the scores of student and teacher."""

    covers_pool: bool
    """Whether coverage also runs among the student's embeddings, which then all need a direction."""
    teacher_first: bool
    """Whether a teacher, where there is one, chooses at cold start."""

    def forms_sets(self, has_teacher: bool, n_labelled: int) -> bool:
        """Whether the picks depend on conformal sets."""
        ...

    def columns(self, has_teacher: bool, n_classes: int) -> Columns:
        """The scores of a row that the picks depend on."""
        ...

    def score_bytes(self, has_teacher: bool) -> int:
        """Bytes that those take, for the cost model."""
        ...

    def picks(self, inputs: Inputs, scored: RowNumbers, scores: Scores) -> Picks:
        """Steps 5 and 6: ``inputs.budget`` of the scored rows. The columns of the scores may be overwritten."""
        ...

    def coverage_cost(self, given: CostInputs) -> StageCost:
        """What :meth:`picks` takes, for the cost model."""
        ...
