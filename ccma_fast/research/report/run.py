"""A run as its report sees it: which rounds are there, and which of them may be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..curves import LearningCurve
from ..results import Results

__all__ = ["Run"]


@dataclass(frozen=True, eq=False)
class Run:
    """The tables of a run, finished or not.

    A contender (strategy, seed) is *complete* when it has every planned round. A strategy is shown by its complete
    contenders; one that has none, by all that it has started, as far as each of them has come. So that no mean changes
    what it is the mean of along a curve, and no area is compared with one over other numbers of labels, tables compare
    the strategies over the rounds up to :attr:`horizon` alone.

    Attributes
    ----------
    results : Results
    pool_map : mapping of str to ndarray, or None
        Rows of the pool in the plane: ``rows`` (M,), ``coordinates`` (M, 2), ``classes`` (M,).
    """

    results: Results
    pool_map: Mapping[str, npt.NDArray[Any]] | None

    @property
    def strategies(self) -> tuple[str, ...]:
        """Every planned one, in the order of the run."""
        return self.results.strategies

    @property
    def n_rounds(self) -> int:
        """Planned queries: round 0 measures the labels at the start, round `n_rounds` the last."""
        return self.results.n_rounds

    @property
    def class_names(self) -> Sequence[str] | None:
        """None where the run was given none."""
        names: Sequence[str] | None = self.results.record["data"].get("class_names")
        return names

    def config(self, strategy: str) -> Mapping[str, Any]:
        """Every constant of a strategy's configuration, as plain values."""
        config: Mapping[str, Any] = self.results.record["contenders"][strategy]["config"]
        return config

    @cached_property
    def _rows(self) -> dict[str, dict[int, npt.NDArray[np.intp]]]:
        """Rows of `results` by strategy and seed, in the order of the rounds."""
        rows: dict[str, dict[int, npt.NDArray[np.intp]]] = {}
        strategies, seeds, rounds = (self.results.columns[name] for name in ("strategy", "seed", "round"))
        for strategy in self.results.strategies:
            for seed in self.results.seeds:
                found = np.flatnonzero((strategies == strategy) & (seeds == seed))
                if found.size:
                    rows.setdefault(strategy, {})[seed] = found[np.argsort(rounds[found], kind="stable")]
        return rows

    @cached_property
    def started(self) -> tuple[str, ...]:
        """Strategies with at least one finished round, in the order of the run."""
        return tuple(self._rows)

    @property
    def n_finished(self) -> int:
        """Finished rounds, of all contenders together."""
        return sum(rows.size for seeds in self._rows.values() for rows in seeds.values())

    @property
    def n_planned(self) -> int:
        """Rounds of the whole grid."""
        return len(self.strategies) * len(self.results.seeds) * (self.n_rounds + 1)

    def last_round(self, strategy: str) -> int:
        """The last round at which a started strategy is shown."""
        sizes = [rows.size for rows in self._rows[strategy].values()]
        return self.n_rounds if self.n_rounds + 1 in sizes else min(sizes) - 1

    def shown_seeds(self, strategy: str) -> tuple[int, ...]:
        """The seeds that take part where a started strategy is shown."""
        last = self.last_round(strategy)
        return tuple(seed for seed, rows in self._rows[strategy].items() if rows.size > last)

    @cached_property
    def horizon(self) -> int:
        """The last round of every comparison: the planned one, or else the last that all started ones have."""
        lasts = [self.last_round(strategy) for strategy in self.started]
        return self.n_rounds if self.n_rounds in lasts else min(lasts)

    @cached_property
    def compared(self) -> tuple[str, ...]:
        """Strategies that have come as far as the horizon, by falling mean area under the accuracy curve.

        Ties stay in the order of the run.
        """
        far = [strategy for strategy in self.started if self.last_round(strategy) >= self.horizon]
        return tuple(sorted(far, key=lambda strategy: -float(self.compared_curve(strategy).area.mean())))

    def curve(self, strategy: str, metric: str = "accuracy") -> LearningCurve:
        """A column of the results, over all shown seeds and rounds of a started strategy."""
        return self._curve(strategy, metric, self.last_round(strategy))

    def compared_curve(self, strategy: str, metric: str = "accuracy") -> LearningCurve:
        """:meth:`curve` up to the horizon."""
        return self._curve(strategy, metric, self.horizon)

    def _curve(self, strategy: str, metric: str, last: int) -> LearningCurve:
        rows = [self._rows[strategy][seed][: last + 1] for seed in self.shown_seeds(strategy)]
        values = np.array([self.results.columns[metric][of_seed] for of_seed in rows], dtype=np.float64)
        n_labels = self.results.columns["n_labels"][rows[0]].astype(np.int64)
        return LearningCurve(strategy, n_labels, values)

    @property
    def has_errors(self) -> bool:
        """Whether means have standard errors: some shown strategy has more than one seed."""
        return any(len(self.shown_seeds(strategy)) > 1 for strategy in self.started)

    def has(self, metric: str, strategies: Sequence[str]) -> bool:
        """Whether a column holds a number for any of the strategies."""
        rows = np.isin(self.results.columns["strategy"], strategies)
        return bool(np.isfinite(self.results.columns[metric][rows]).any())
