"""The figures of a report, in their order."""

from __future__ import annotations

from collections.abc import Sequence

from ..rounds import TEST_METRICS
from .comparison_figures import differences_figure, kappa_figure, kappa_groups, labels_figure, seconds_figure
from .curve_figures import curves_figure, side_by_side_figure
from .drawing import Picture
from .map_figure import map_figure
from .run import Run
from .sets_figure import sets_figure

__all__ = ["pictures"]


def pictures(run: Run, baseline: str, targets: Sequence[float]) -> list[Picture]:
    """Every picture that the run has numbers for, the most telling first.

    Parameters
    ----------
    run : Run
        With at least one finished round.
    baseline : str
        One of `run.compared`; it is drawn in black in every picture.
    targets : sequence of float
        Accuracies in (0, 1], perhaps none.
    """
    found = [curves_figure(run, baseline, metric) for metric in TEST_METRICS if run.has(metric, run.started)]
    if len(run.compared) > 1:
        found.insert(1, differences_figure(run, baseline))
    if len(run.started) > 2:
        found.insert(2, side_by_side_figure(run, baseline))
    if targets:
        found.append(labels_figure(run, baseline, targets))
    sets = sets_figure(run, baseline)
    if sets is not None:
        found.append(sets)
    groups = kappa_groups(run)
    if groups:
        found.append(kappa_figure(run, groups))
    if run.results.timings["seconds"].size:
        found.append(seconds_figure(run, baseline))
    if run.pool_map is not None:
        found.append(map_figure(run, run.pool_map, baseline))
    return found
