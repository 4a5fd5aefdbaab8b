"""Learning curves: their statistics over the seeds, and tables of a few of them as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..system import display

__all__ = [
    "LearningCurve",
    "accuracy_table",
    "aligned",
    "curves_csv",
    "mean_and_error",
    "mean_percent",
    "percent",
    "targets_table",
]


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Test accuracy, or another measure in [0, 1], of one method against the number of labels.

    Parameters
    ----------
    name : str
    n_labels : ndarray, shape (R,), int64
        Labels at which the accuracy was measured, ascending.
    accuracy : ndarray, shape (S, R), float64
        One row per seed, in [0, 1].
    """

    name: str
    n_labels: npt.NDArray[np.int64]
    accuracy: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.accuracy.ndim != 2 or self.accuracy.shape[1] != self.n_labels.size or not self.accuracy.size:
            raise ValueError(
                f"accuracy must have shape (seeds, {self.n_labels.size}) with at least one of each, "
                f"got {self.accuracy.shape}"
            )

    @property
    def n_seeds(self) -> int:
        """S."""
        return int(self.accuracy.shape[0])

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean over the seeds, shape (R,)."""
        mean: npt.NDArray[np.float64] = self.accuracy.mean(axis=0)
        return mean

    @property
    def standard_error(self) -> npt.NDArray[np.float64]:
        """Standard error of the mean over the seeds (sample standard deviation / √S), shape (R,); NaN for one seed."""
        return mean_and_error(self.accuracy)[1]

    @property
    def area(self) -> npt.NDArray[np.float64]:
        """Area under each seed's curve (trapezoids) divided by the range of labels, shape (S,).

        It is the mean accuracy over that range, in the curve's own units; the accuracy itself where there is one count.
        """
        if self.n_labels.size == 1:
            return self.accuracy[:, 0]
        widths = np.diff(self.n_labels)
        area: npt.NDArray[np.float64] = (self.accuracy[:, 1:] + self.accuracy[:, :-1]) @ widths / (2 * widths.sum())
        return area

    def __repr__(self) -> str:
        reached = f"{self.mean[-1]:.4g} at {self.n_labels[-1]:,} labels"
        return display.line("LearningCurve", repr(self.name), f"{self.n_seeds} seeds", reached)

    def _repr_html_(self) -> str:
        points = zip(self.n_labels.tolist(), self.mean.tolist(), self.standard_error.tolist(), strict=True)
        table = display.table(["labels", "mean", "standard error"], points, self.n_labels.size, shown=20)
        return display.notebook_html(f"{self.name}, {self.n_seeds} seeds", table)

    def crossings(self, accuracy: float) -> npt.NDArray[np.float64]:
        """Labels at which each seed's curve first reaches `accuracy`, shape (S,); NaN where it never does.

        Between the last count below and the first measured count at or above, the curve is taken as a straight line. A
        curve that starts at or above is given its first count.
        """
        labels = np.full(self.n_seeds, np.nan)
        for seed, row in enumerate(self.accuracy):
            reached = np.flatnonzero(row >= accuracy)
            if reached.size:
                upper = reached[0]
                lower = max(upper - 1, 0)
                labels[seed] = np.interp(accuracy, row[[lower, upper]], self.n_labels[[lower, upper]])
        return labels

    def labels_to_reach(self, accuracy: float) -> int | None:
        """The first measured number of labels at which the mean is at least `accuracy`, None where it never is."""
        reached = np.flatnonzero(self.mean >= accuracy)
        return int(self.n_labels[reached[0]]) if reached.size else None


def mean_and_error(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean over the first axis, and its standard error (sample standard deviation / √n; NaN for n = 1)."""
    mean: npt.NDArray[np.float64] = values.mean(axis=0)
    if len(values) == 1:
        return mean, np.full_like(mean, np.nan)
    error: npt.NDArray[np.float64] = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return mean, error


def mean_percent(shares: npt.NDArray[np.float64]) -> str:
    """The mean of one share per seed, with its standard error, as text."""
    return percent(*map(float, mean_and_error(shares)))


def percent(mean: float, error: float) -> str:
    """Shares as text: "81.5 ± 0.3", without the error where it is NaN."""
    return f"{100 * mean:.1f}" if math.isnan(error) else f"{100 * mean:.1f} ± {100 * error:.1f}"


def aligned(corner: str, index: Sequence[str], header: Sequence[str], columns: Sequence[Sequence[str]]) -> str:
    """A text table: right-aligned columns under their names, `index` under `corner` before them."""
    padded = []
    for name, cells in zip([corner, *header], [index, *columns], strict=True):
        width = max(len(cell) for cell in (name, *cells))
        padded.append([cell.rjust(width) for cell in (name, *cells)])
    return "\n".join("   ".join(row) for row in zip(*padded, strict=True))


def accuracy_table(curves: Sequence[LearningCurve]) -> str:
    """Accuracy in % against labels, mean ± standard error over the seeds, one column per curve.

    Parameters
    ----------
    curves : sequence of LearningCurve
        At least one, all measured at the same numbers of labels.
    """
    n_labels = _shared_labels(curves)
    cells = [[percent(m, e) for m, e in zip(c.mean, c.standard_error, strict=True)] for c in curves]
    return aligned("labels", [str(n) for n in n_labels], [c.name for c in curves], cells)


def targets_table(curves: Sequence[LearningCurve], targets: Sequence[float]) -> str:
    """Labels at which each mean curve first reaches each accuracy, or "not reached".

    Parameters
    ----------
    curves : sequence of LearningCurve
    targets : sequence of float
        Accuracies in [0, 1].
    """
    reached = [[curve.labels_to_reach(target) for target in targets] for curve in curves]
    cells = [["not reached" if n is None else str(n) for n in column] for column in reached]
    return aligned("accuracy", [f"{100 * t:g} %" for t in targets], [c.name for c in curves], cells)


def curves_csv(curves: Sequence[LearningCurve], seeds: Sequence[int]) -> str:
    """Every measured accuracy as CSV with the columns method, seed, labels, accuracy (in [0, 1])."""
    lines = ["method,seed,labels,accuracy"]
    for curve in curves:
        for seed, row in zip(seeds, curve.accuracy, strict=True):
            lines += [f"{curve.name},{seed},{n},{a:.6g}" for n, a in zip(curve.n_labels, row, strict=True)]
    return "\n".join(lines) + "\n"


def _shared_labels(curves: Sequence[LearningCurve]) -> npt.NDArray[np.int64]:
    for curve in curves:
        if not np.array_equal(curve.n_labels, curves[0].n_labels):
            raise ValueError(f"curves must share their numbers of labels, got others for {curve.name!r}")
    return curves[0].n_labels
