"""The tables of a run in memory, and as CSV, parquet and a data frame."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..checks import check_choice
from ..system import display
from ..system.extras import optional
from ..system.json_text import as_json
from ..system.output_files import check_can_replace, write_whole
from .curves import LearningCurve
from .rounds import METRICS, RoundRecord

__all__ = ["Columns", "Results", "as_csv", "results_of"]

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Results:
    """The tables of a run: columns by name, as NumPy arrays of equal length.

    Rows stand in the order of the strategies, seeds and rounds that were asked for.

    Attributes
    ----------
    columns : dict of ndarray
        One row for each strategy, seed and round: ``strategy``, ``seed``, ``round``, ``n_labels``; on the test rows
        ``accuracy``, ``macro_auroc``, ``macro_f1`` in [0, 1]; over the unlabelled rows ``student_set_size``,
        ``teacher_set_size`` and ``overlap`` (mean numbers of classes), ``top1_disagreement``, ``student_coverage`` and
        ``teacher_coverage`` (shares in [0, 1]), each with the ends of its 95 % interval, ``…_low`` and ``…_high``, and
        the thresholds ``q_student``, ``q_teacher`` (units of the nonconformity score); NaN where there is none.
    picks : dict of ndarray
        ``strategy``, ``seed``, ``round``, ``rank`` (from 0, in the order of choice), ``row``. Round 0 has the first
        labels, round r ≥ 1 what the r-th query chose: the student of round r has learnt the picks of rounds 0 to r.
    timings : dict of ndarray
        ``strategy``, ``seed``, ``round``, ``stage`` (select, fit, evaluate, diagnose), ``seconds`` of wall time.
    record : dict
        What was run, on what, with which versions: plain values.
    pool_map : dict of ndarray, or None
        Rows of the pool in the plane, for the map of the report: ``rows``, ``coordinates``, ``classes``; None where the
        run was not kept in a folder.
    """

    columns: Columns
    picks: Columns
    timings: Columns
    record: dict[str, Any]
    pool_map: Columns | None = None

    @property
    def strategies(self) -> tuple[str, ...]:
        """Their labels, in the order of the run."""
        return tuple(self.record["arguments"]["strategies"])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the run."""
        return tuple(self.record["arguments"]["seeds"])

    @property
    def n_rounds(self) -> int:
        """Queries of each strategy and seed."""
        return int(self.record["arguments"]["rounds"])

    def curve(self, strategy: str, metric: str = "accuracy") -> LearningCurve:
        """A column against the number of labels, one row per seed.

        Parameters
        ----------
        strategy : str
            The label under which it stands in the table.
        metric : str, default "accuracy"
            Any column of numbers.

        Raises
        ------
        ValueError
            No such strategy or metric, or rounds of it that are not there yet.
        """
        check_choice("strategy", strategy, self.strategies)
        check_choice("metric", metric, METRICS)
        own = self.columns["strategy"] == strategy
        shape = (len(self.seeds), self.n_rounds + 1)
        if np.count_nonzero(own) != math.prod(shape):
            raise ValueError(
                f"strategy {strategy!r} must have {shape[0]} × {shape[1]} finished rounds, "
                f"got {np.count_nonzero(own)}: the run has not ended"
            )
        n_labels = self.columns["n_labels"][own][: shape[1]]
        return LearningCurve(strategy, n_labels, self.columns[metric][own].reshape(shape))

    def area(self, strategy: str, metric: str = "accuracy") -> npt.NDArray[np.float64]:
        """Area under each seed's curve (trapezoids over the labels) divided by the range of labels, shape (S,).

        Raises
        ------
        ValueError
            No such strategy or metric, or rounds of it that are not there yet.
        """
        return self.curve(strategy, metric).area

    def __repr__(self) -> str:
        return display.line("Results", self._summary(), f"[{display.few(self.strategies, len(self.strategies))}]")

    def _summary(self) -> str:
        finished = self.columns["round"].size
        whole = len(self.strategies) * len(self.seeds) * (self.n_rounds + 1)
        size = f"{len(self.strategies)} strategies × {len(self.seeds)} seeds × {self.n_rounds} rounds"
        return size if finished == whole else f"{size}, {finished} of {whole} measured"

    def _repr_html_(self) -> str:
        header = ["strategy", "seeds", "labels", "accuracy", "standard error", "mean over the labels"]
        table = display.table(header, map(self._at_the_end, self.strategies), len(self.strategies), shown=30)
        record = display.details("how it was made", display.facts(self.record))
        return display.notebook_html(f"Results: {self._summary()}", table, record)

    def _at_the_end(self, strategy: str) -> tuple[Any, ...]:
        """A row of the table that a notebook shows; dashes where a run has not ended."""
        own = self.columns["strategy"] == strategy
        n_seeds = np.unique(self.columns["seed"][own]).size
        if np.count_nonzero(own) != len(self.seeds) * (self.n_rounds + 1):
            return strategy, n_seeds, None, None, None, None
        curve = self.curve(strategy)
        last = curve.mean[-1], curve.standard_error[-1], curve.area.mean()
        return strategy, n_seeds, int(curve.n_labels[-1]), *map(display.percent, last)

    def write_report(
        self, out: str | Path, *, baseline: str | None = None, targets: Sequence[float] | None = None
    ) -> str:
        """Write pictures and ``report.html``, one page with all of it, as ``ccma-fast report`` does.

        Parameters
        ----------
        out : path
            Directory for the files, such as the folder of the run; made where it is missing. Files of an earlier report
            are replaced, and no others.
        baseline : str, optional
            The strategy that every other is compared with; by default the first of the run.
        targets : sequence of float, optional
            Accuracies in (0, 1] whose price in labels is stated; by default up to three round ones that tell the
            strategies apart.

        Returns
        -------
        str
            The tables as text, to print.

        Raises
        ------
        ValueError
            No such baseline; a target out of range.
        FileExistsError
            `out` holds another file under a name of the report's.
        OSError
            `out` cannot be written into.
        ImportError
            matplotlib is not installed; the text names the extra that brings it.
        """
        report = import_module(".report.report", __package__)  # by name: it stands on this module
        return str(report.write_report_of(self, out, baseline=baseline, targets=targets))

    def to_csv(self, path: str | Path) -> None:
        """Write :attr:`columns` as CSV. Floats read back as the same float64; NaN is ``nan``.

        Raises
        ------
        FileExistsError
            There is such a file already, and it is no such table; one that this method wrote is replaced.
        """
        check_can_replace(path, (".csv",), _is_csv_of_results)
        write_whole(path, lambda file: file.write(as_csv(self.columns)))

    def to_parquet(self, path: str | Path) -> None:
        """Write :attr:`columns` as parquet, with :attr:`record` as JSON in the file's metadata under ``ccma_fast``.

        Raises
        ------
        FileExistsError
            There is such a file already, and it is no such table; one that this method wrote is replaced.
        ImportError
            pyarrow is not installed; the text names the extra that brings it.
        """
        pyarrow = optional("pyarrow", "parquet")
        parquet = optional("pyarrow.parquet", "parquet")
        check_can_replace(path, (".parquet", ".pq"), _is_parquet_of_results)
        columns = {name: _plain(column) for name, column in self.columns.items()}
        table = pyarrow.table(columns).replace_schema_metadata({"ccma_fast": as_json(self.record)})
        write_whole(path, lambda file: parquet.write_table(table, file))

    def to_pandas(self) -> Any:
        """:attr:`columns` as a ``pandas.DataFrame``.

        Raises
        ------
        ImportError
            pandas is not installed; the text names the extra that brings it.
        """
        pandas = optional("pandas", "a data frame")
        return pandas.DataFrame({name: _plain(column) for name, column in self.columns.items()})


def results_of(record: dict[str, Any], trials: Mapping[tuple[str, int], Sequence[RoundRecord]]) -> Results:
    """The tables of the finished rounds of every (label, seed), in their order."""
    measured: list[tuple[Any, ...]] = []
    picked: list[tuple[Any, ...]] = []
    timed: list[tuple[Any, ...]] = []
    for (label, seed), records in trials.items():
        n_labels = 0
        for r, done in enumerate(records):
            n_labels += len(done.picks)
            # Earlier versions measured less.
            measured.append((label, seed, r, n_labels, *(done.metrics.get(name, math.nan) for name in METRICS)))
            picked.extend((label, seed, r, rank, row) for rank, row in enumerate(done.picks))
            timed.extend((label, seed, r, stage, seconds) for stage, seconds in done.seconds.items())
    key = {"strategy": np.str_, "seed": np.int64, "round": np.int64}
    return Results(
        _columns({**key, "n_labels": np.int64, **dict.fromkeys(METRICS, np.float64)}, measured),
        _columns({**key, "rank": np.int64, "row": np.int64}, picked),
        _columns({**key, "stage": np.str_, "seconds": np.float64}, timed),
        record,
    )


def _columns(types: Mapping[str, Any], rows: Sequence[tuple[Any, ...]]) -> Columns:
    values = zip(*rows, strict=True) if rows else [()] * len(types)
    return {name: np.array(column, dtype) for (name, dtype), column in zip(types.items(), values, strict=True)}


def as_csv(columns: Columns) -> bytes:
    """Columns as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    # tolist() gives Python's own floats, whose text is the shortest that reads back as the same float64.
    writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return text.getvalue().encode()


def _is_csv_of_results(file: Path) -> bool:
    with open(file, "rb") as handle:
        return handle.readline().startswith(b"strategy,seed,round,n_labels,")


def _is_parquet_of_results(file: Path) -> bool:
    parquet = optional("pyarrow.parquet", "parquet")
    try:
        return b"ccma_fast" in (parquet.read_schema(file).metadata or {})
    except (OSError, ValueError):
        return False


def _plain(column: npt.NDArray[Any]) -> Any:
    """A column as pyarrow and pandas take it: they know no NumPy strings of fixed length."""
    return column.tolist() if column.dtype.kind == "U" else column
