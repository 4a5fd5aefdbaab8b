"""The report of a query before any row is scored."""

from __future__ import annotations

from ..version import __version__
from .inputs import Inputs
from .report import Report
from .report_warnings import suspicions_from_logits

__all__ = ["first_report"]


def first_report(inputs: Inputs, random_state: int) -> Report:
    """The report of a query before any row is scored."""
    return Report(
        version=__version__,
        random_state=random_state,
        config=inputs.settings.config.to_dict(),
        backend=inputs.settings.backend.describe(),
        n_ranks=inputs.settings.n_ranks,
        mode="cold start" if inputs.cold else "query",
        n_rows=inputs.pool.n_rows,
        n_labelled=inputs.labelled.size,
        n_unlabelled=inputs.unlabelled.size,
        n_pending=inputs.rows.pending.size,
        n_excluded=inputs.rows.n_excluded,
        n_vanished=inputs.rows.n_vanished,
        n_classes=inputs.n_classes,
        warnings=suspicions_from_logits(inputs) if inputs.cold or inputs.labelled.size == 0 else [],
        forced=inputs.forced,
    )
