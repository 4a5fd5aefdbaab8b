"""Evaluation of a teacher on labelled rows: accuracy, calibration, near-duplicate classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import reference
from ..system import display
from .intervals import coverage_interval
from .suspicions import chance_accuracy
from .temperature import likeliest_temperature

__all__ = ["ZeroShot", "measured"]

Float64 = npt.NDArray[np.float64]

_N_BINS = 15

# Two classes that are closer than this share of the median distance between classes are hard to tell apart.
_NEAR = 1 / 3
_MOST_FOR_MEDIAN = 1000
_PAIR_ROWS = 1024


@dataclass(frozen=True, eq=False)
class ZeroShot:
    """A teacher on the rows whose labels are known.

    Rows that active learning chose are no random sample of the pool: they are harder than it, as a rule, and so are the
    accuracies here lower.

    Attributes
    ----------
    n_rows : int
        Labelled rows.
    top1, top5 : float
        Share of them whose class is the most probable one, or among the five most probable; a class ranks behind those
        that are as probable as it.
    top1_low, top1_high : float
        Ends of the 95 % interval of `top1` (Wilson).
    chance : float
        The `top1` to be expected of predictions that are independent of the labels: Σ_c (share of rows predicted as c)
        · (share of rows of class c).
    calibration_error : float
        Expected calibration error at the teacher's temperature: the mean over the rows of |share that is right − mean
        probability of the top class|, in 15 bins of equal width of that probability.
    temperature, log_loss : float
        The teacher's τ, and the mean −ln p of the true classes at it, in nats.
    best_temperature, best_log_loss : float
        The τ of the largest likelihood, and the same at it; infinite where guessing evenly is likelier than anything
        that the teacher says, and at most 1e-6 where no row is wrong.
    recall : ndarray, shape (C,), float64
        Share of the rows of each class that are predicted as it; NaN where there is none.
    near_duplicates : list of (int, int, float)
        Pairs of classes whose text embeddings are closer than a third of the median distance between two classes, and
        the cosine of each pair, closest first. Empty for a teacher from ready-made logits.
    class_names : list of str
        Names, or numbers where there are none.
    warnings : list of str
        What seems wrong with the teacher, a sentence each: no better than chance; a temperature more than ten times
        too large or too small; probabilities where logits belong; classes in another order than the labels'. Of more
        than 16,384 labelled rows, or 2²¹ of their logits, the last three are tested on a random sample. Two
        exchanged classes are only detected by an accuracy worse than chance: the rows that a query selects may look the
        same.
    """

    n_rows: int
    top1: float
    top1_low: float
    top1_high: float
    top5: float
    chance: float
    calibration_error: float
    temperature: float
    log_loss: float
    best_temperature: float
    best_log_loss: float
    recall: Float64
    near_duplicates: list[tuple[int, int, float]]
    class_names: list[str]
    warnings: list[str]

    def _best(self) -> str:
        if math.isinf(self.best_temperature):
            return "none: guessing evenly is likelier"
        if (self.best_log_loss, self.top1) == (0.0, 1.0):
            return "not to be told: no row is wrong"
        return f"{self.best_temperature:.4g} (log loss {self.best_log_loss:.3f} nats instead of {self.log_loss:.3f})"

    def _facts(self) -> list[tuple[str, str]]:
        known = np.flatnonzero(~np.isnan(self.recall))
        worst = known[np.argsort(self.recall[known], kind="stable")][:5]
        return [
            (
                "top-1",
                f"{100 * self.top1:.1f} % of {self.n_rows} labelled rows, 95 % interval "
                f"{100 * self.top1_low:.1f} to {100 * self.top1_high:.1f} %; chance {100 * self.chance:.1f} %",
            ),
            ("top-5", f"{100 * self.top5:.1f} %"),
            ("calibration error", f"{100 * self.calibration_error:.1f} % at temperature {self.temperature:g}"),
            ("best temperature", self._best()),
            (
                "lowest recall",
                ", ".join(f"{self.class_names[c]} {100 * self.recall[c]:.0f} %" for c in worst.tolist()),
            ),
            *(
                ("near duplicates", f"{self.class_names[a]} ({a}), {self.class_names[b]} ({b}): cosine {cosine:.3f}")
                for a, b, cosine in self.near_duplicates[:5]
            ),
        ]

    def __str__(self) -> str:
        lines = [f"{name:<20}{text}" for name, text in self._facts()]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def __repr__(self) -> str:
        found = f"top-1 {display.percent(self.top1)} of {self.n_rows:,} labelled rows"
        chance, n = f"chance {display.percent(self.chance)}", len(self.warnings)
        warned = f"{n} warning{'s' if n > 1 else ''}" if n else ""
        return display.line("ZeroShot", found, chance, warned, "print it for all")

    def _repr_html_(self) -> str:
        title = f"The teacher on {self.n_rows:,} labelled rows"
        return display.notebook_html(title, display.warnings_list(self.warnings), display.facts(self._facts()))


def measured(
    logits: npt.NDArray[np.float32],
    log_p: Float64,
    labels: npt.NDArray[np.int64],
    *,
    temperature: float,
    class_directions: npt.NDArray[np.float32] | None,
    class_names: Sequence[str] | None,
    warnings: list[str],
) -> ZeroShot:
    """A teacher on labelled rows.

    Parameters
    ----------
    logits, log_p : ndarray, shape (n, C), float32 and float64
        Of the labelled rows, at the temperature, and the logarithms of their softmax.
    labels : ndarray, shape (n,), int64
    temperature, class_directions, class_names
        Of the teacher.
    warnings : list of str
        What seems wrong with the teacher.
    """
    n, n_classes = logits.shape
    z = logits.astype(np.float64)
    rows = np.arange(n)
    true = z[rows, labels]
    rank = (z >= true[:, None]).sum(axis=1)  # a tie is no hit
    top = log_p.argmax(axis=1)
    right = rank == 1
    low, high = coverage_interval(int(right.sum()), n)
    n_of_class = np.bincount(labels, minlength=n_classes)
    with np.errstate(invalid="ignore"):
        recall = np.bincount(labels[right], minlength=n_classes) / np.where(n_of_class, n_of_class, np.nan)
    best = likeliest_temperature(z * temperature, labels)
    best_loss = math.log(n_classes)
    if math.isfinite(best):
        best_loss = float(reference.nonconformity((z * (temperature / best)).astype(np.float32))[rows, labels].mean())
    return ZeroShot(
        n_rows=n,
        top1=float(right.mean()),
        top1_low=low,
        top1_high=high,
        top5=float((rank <= 5).mean()),
        chance=chance_accuracy(top, labels, n_classes),
        calibration_error=_calibration_error(np.exp(log_p[rows, top]), right),
        temperature=temperature,
        log_loss=float(-log_p[rows, labels].mean()),
        best_temperature=best,
        best_log_loss=best_loss,
        recall=recall,
        near_duplicates=[] if class_directions is None else _near_duplicates(class_directions),
        class_names=[str(c) for c in range(n_classes)] if class_names is None else list(class_names),
        warnings=warnings,
    )


def _calibration_error(confidence: Float64, right: npt.NDArray[np.bool_]) -> float:
    of_bin = np.minimum((confidence * _N_BINS).astype(np.int64), _N_BINS - 1)
    gaps = np.bincount(of_bin, weights=right - confidence, minlength=_N_BINS)
    return float(np.abs(gaps).sum() / confidence.size)


def _near_duplicates(directions: npt.NDArray[np.float32]) -> list[tuple[int, int, float]]:
    n = len(directions)
    some = directions[np.linspace(0, n - 1, min(n, _MOST_FOR_MEDIAN)).astype(np.int64)]
    cosines = (some @ some.T)[np.triu_indices(len(some), 1)]
    median = float(np.median(np.sqrt(np.maximum(0.0, 2.0 - 2.0 * cosines))))
    least = 1.0 - (_NEAR * median) ** 2 / 2.0
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, n, _PAIR_ROWS):
        cosine = directions[start : start + _PAIR_ROWS] @ directions.T
        for a, b in np.argwhere(cosine >= least).tolist():
            if start + a < b:
                pairs.append((start + a, b, float(cosine[a, b])))
    return sorted(pairs, key=lambda pair: (-pair[2], pair[:2]))
