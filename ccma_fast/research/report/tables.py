"""The tables of a report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ..curves import aligned, mean_percent, percent
from .run import Run
from .statistics import CONFIDENCE, Difference, difference_to, labels_to_reach, seconds_per_round

__all__ = ["Table", "areas_table", "differences_table", "labels_table", "rounds_table", "seconds_table"]


@dataclass(frozen=True)
class Table:
    """Cells of text under a header.

    Attributes
    ----------
    name : str
        That of the picture which shows the same, or one of its own.
    title, note : str
        One line each; the note says how to read it.
    header : tuple of str
    rows : sequence of tuple of str
        As many cells as the header has.
    marked : str
        The row whose first cell is this one stands out.
    """

    name: str
    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    marked: str = ""

    def __str__(self) -> str:
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        body = aligned(self.header[0], columns[0], self.header[1:], columns[1:])
        return f"{self.title}\n{textwrap.fill(self.note, 100)}\n\n{body}"


def areas_table(run: Run, baseline: str) -> Table:
    """Area under the learning curves and accuracy at the end, by falling area under the accuracy curve."""
    metrics = [name for name in ("accuracy", "macro_auroc", "macro_f1") if run.has(name, run.compared)]
    rows = []
    for strategy in run.compared:
        curves = [run.compared_curve(strategy, metric) for metric in metrics]
        areas = [mean_percent(curve.area) for curve in curves]
        accuracy = curves[0]
        end = percent(float(accuracy.mean[-1]), float(accuracy.standard_error[-1]))
        rows.append((strategy, *areas, end, str(accuracy.n_seeds)))
    n_labels = run.compared_curve(run.compared[0]).n_labels
    return Table(
        "curves_accuracy",
        "Area under the learning curve",
        f"In %: the mean over {n_labels[0]} to {n_labels[-1]} labels. Mean ± standard error over the seeds.",
        ("strategy", *(_AREAS[metric] for metric in metrics), "accuracy at the end", "seeds"),
        rows,
        baseline,
    )


_AREAS = {"accuracy": "accuracy", "macro_auroc": "macro AUROC", "macro_f1": "macro F1"}


def differences_table(run: Run, baseline: str) -> Table:
    """Areas and final accuracies less the baseline's, paired by seed, in the order of :func:`areas_table`."""
    rows = []
    for strategy in run.compared:
        if strategy == baseline:
            continue
        area, end = difference_to(run, strategy, baseline), difference_to(run, strategy, baseline, run.horizon)
        if area is None or end is None:
            rows.append((strategy, "no seed in common", "", "", ""))
            continue
        interval = "" if math.isnan(area.low) else f"{100 * area.low:+.2f} to {100 * area.high:+.2f}"
        rows.append((strategy, _points(area), interval, f"{area.n_better} of {area.n_seeds}", _points(end)))
    return Table(
        "paired_differences",
        f"Paired differences to {baseline}",
        "In points of accuracy: mean over the seeds of (strategy - reference on the same seed) ± standard error; "
        f"two-sided {100 * CONFIDENCE:g} % t interval, not adjusted for the number of comparisons.",
        ("strategy", "area", f"{100 * CONFIDENCE:g} % interval", "seeds better", "accuracy at the end"),
        rows,
    )


def labels_table(run: Run, baseline: str, targets: Sequence[float]) -> Table:
    """Labels to reach each accuracy, in the order of :func:`areas_table`."""
    curves = [run.compared_curve(strategy) for strategy in run.compared]
    rows = [(curve.name, *(str(labels_to_reach(curve, target)) for target in targets)) for curve in curves]
    return Table(
        "labels_to_reach",
        "Labels to reach an accuracy",
        "The first crossing of each seed's curve, a straight line between two rounds; mean ± standard error over the "
        'seeds. "> n (a of b)": only a of b seeds got there and the others count with their last number of labels.',
        ("strategy", *(f"{100 * target:g} %" for target in targets)),
        rows,
        baseline,
    )


def rounds_table(run: Run, baseline: str) -> Table:
    """Accuracy after each round, a row for each strategy, in the order of :func:`areas_table`."""
    curves = [run.compared_curve(strategy) for strategy in run.compared]
    return Table(
        "accuracy",
        "Accuracy by number of labels",
        "In %, on the test rows: mean over the seeds.",
        ("strategy", *map(str, curves[0].n_labels)),
        [(curve.name, *(f"{100 * mean:.1f}" for mean in curve.mean)) for curve in curves],
        baseline,
    )


def seconds_table(run: Run, baseline: str) -> Table:
    """Mean seconds of each stage of a round, the fastest strategy first."""
    seconds = {strategy: seconds_per_round(run, strategy) for strategy in run.started}
    stages = list(dict.fromkeys(stage for of_one in seconds.values() for stage in of_one))
    order = sorted(seconds, key=lambda strategy: sum(seconds[strategy].values()))
    rows = [
        (
            strategy,
            *(f"{seconds[strategy][stage]:.3f}" if stage in seconds[strategy] else "" for stage in stages),
            f"{sum(seconds[strategy].values()):.3f}",
        )
        for strategy in order
    ]
    return Table(
        "seconds",
        "Seconds per round",
        "Mean wall time of each stage over all seeds and rounds in which it ran; stages of one run can share the "
        "machine with other runs.",
        ("strategy", *stages, "sum"),
        rows,
        baseline,
    )


def _points(difference: Difference) -> str:
    mean = f"{100 * difference.mean:+.2f}"
    return mean if math.isnan(difference.error) else f"{mean} ± {100 * difference.error:.2f}"
