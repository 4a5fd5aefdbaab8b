"""What is on disk of a run of :func:`ccma_fast.simulate`, and its tables in memory.

A run folder holds

=======================  ==========================================================================================
``run.json``             what is run: arguments, configuration and code of every contender, versions, data fingerprint
``rounds/<name>.jsonl``  the finished rounds of one contender and seed, a line each with its own checksum
``results.csv``          the table, ``picks.csv`` and ``timings.csv`` beside it; written when everything is there
``map.npz``              rows of the pool in the plane
``results.json``         ``run.json`` and the table in one; written last
``.lock``                held by the process that works in the folder
=======================  ==========================================================================================

Every file is replaced whole. Floats are written as the shortest text that reads back as the same float64.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..checks import check_choice
from ..errors import FileReadError
from ..system.bounded_read import Arrays, read_whole
from ..system.extras import optional
from ..system.file_integrity import open_regular
from ..system.output_files import check_can_replace, check_can_write_into, locked, remove_leftovers, write_whole
from .record import check_format, going_on, what_is_unknown

if TYPE_CHECKING:
    from .report.report import LearningCurve

__all__ = ["METRICS", "Results", "RoundRecord", "RunFolder", "read_map", "read_results", "tables"]

Columns = dict[str, npt.NDArray[Any]]

METRICS = (
    "accuracy",
    "macro_auroc",
    "macro_f1",
    "student_set_size",
    "teacher_set_size",
    "overlap",
    "top1_disagreement",
    "student_coverage",
    "student_coverage_low",
    "student_coverage_high",
    "teacher_coverage",
    "teacher_coverage_low",
    "teacher_coverage_high",
    "q_student",
    "q_teacher",
)
"""What a round measures, in the order of the table's columns."""

_FINAL = ("results.csv", "picks.csv", "timings.csv", "map.npz", "results.json")
_MAP = ("rows", "coordinates", "classes")
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class RoundRecord:
    """One finished round of one contender and seed.

    Attributes
    ----------
    picks : list of int
        Rows that got their label at the beginning of this round, in the order of choice; in round 0 the first labels.
    metrics : dict
        A float64 for each of :data:`METRICS`; NaN where there is none.
    seconds : dict
        Wall time of each stage.
    """

    picks: list[int]
    metrics: dict[str, float]
    seconds: dict[str, float]


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
    """

    columns: Columns
    picks: Columns
    timings: Columns
    record: dict[str, Any]

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
        from .report.report import LearningCurve

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

    def to_csv(self, path: str | Path) -> None:
        """Write :attr:`columns` as CSV. Floats read back as the same float64; NaN is ``nan``.

        Raises
        ------
        FileExistsError
            There is such a file already, and it is no such table; one that this method wrote is replaced.
        """
        check_can_replace(path, (".csv",), _is_csv_of_results)
        write_whole(path, lambda file: file.write(_csv(self.columns)))

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
        table = pyarrow.table(columns).replace_schema_metadata({"ccma_fast": _json(self.record)})
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


class RunFolder:
    """The folder of one run, while this process alone works in it.

    Parameters
    ----------
    path : path
        Made where it is missing.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def locked(self) -> AbstractContextManager[None]:
        """Nobody else works in the folder meanwhile, see :func:`ccma_fast.system.output_files.locked`.

        Raises
        ------
        ValueError
            The folder holds other files than those of a run.
        """
        if not (self.path / "run.json").exists() and self.path.is_dir():
            for entry in self.path.iterdir():
                if not entry.name.startswith("."):
                    raise ValueError(
                        f"{str(self.path)!r} holds files but no run.json, such as {entry.name!r}; expected a new or "
                        "empty folder, or one of a run"
                    )
        return locked(self.path)

    def begin(self, record: dict[str, Any]) -> dict[str, Any]:
        """Take a new folder, or take up the run that is in it.

        What a killed process left half-written is removed. What must agree with the run in the folder, and what may be
        more, says :func:`ccma_fast.research.record.going_on`.

        Parameters
        ----------
        record : dict
            What is to be run, as plain values.

        Returns
        -------
        dict
            The record of the run: `record`, with the versions that began it.

        Raises
        ------
        ValueError
            The folder holds another run (the text says what differs).

        Warns
        -----
        RuntimeWarning
            Versions differ; or the run is a new one of which could not be said later whether another is the same.
        """
        file = self.path / "run.json"
        if file.exists():
            record = going_on(str(self.path), _read_json(file), json.loads(_json(record)))
        elif unknown := what_is_unknown(record):
            warnings.warn(
                f"the run in {str(self.path)!r} cannot be gone on with once it has stopped: {', '.join(unknown)} "
                "cannot be compared with what another call is given",
                RuntimeWarning,
                stacklevel=3,
            )
        own = ("run.json", *_FINAL)
        check_can_write_into(self.path, own)  # before anything is computed
        remove_leftovers(self.path, "|".join(map(re.escape, own)))  # a report may be writing files of its own
        remove_leftovers(self.path / "rounds", r".+\.jsonl")
        write_whole(file, lambda handle: handle.write(_json(record)))
        (self.path / "rounds").mkdir(exist_ok=True)
        return record

    def read_rounds(self, label: str, seed: int) -> list[RoundRecord]:
        """The finished rounds of a contender and seed, up to the first line that is damaged."""
        file = self._rounds_file(label, seed)
        records, whole = _read_rounds(file, label, seed)
        if not whole:
            warnings.warn(
                f"{str(file)!r} is damaged after {len(records)} good rounds; the rest is computed again",
                RuntimeWarning,
                stacklevel=3,
            )
        return records

    def write_rounds(self, label: str, seed: int, records: Sequence[RoundRecord]) -> None:
        """Replace the finished rounds of a contender and seed."""
        lines = b"".join(_line(label, seed, r, record) for r, record in enumerate(records))
        write_whole(self._rounds_file(label, seed), lambda handle: handle.write(lines))

    def is_complete(self, record: dict[str, Any]) -> bool:
        """Every file of a finished run is there, and the last that is written is of this record."""
        if not all((self.path / name).is_file() for name in _FINAL):
            return False
        try:
            whole = _read_json(self.path / _FINAL[-1])
        except FileReadError:  # damaged; all that is in it is there to write it again
            return False
        del whole["results"]
        return bool(whole == json.loads(_json(record)))

    def write_results(self, results: Results, pool_map: Columns) -> None:
        """Write the files of a finished run."""
        for name, columns in (("results", results.columns), ("picks", results.picks), ("timings", results.timings)):
            content = _csv(columns)
            write_whole(self.path / f"{name}.csv", lambda file, content=content: file.write(content))  # type: ignore[misc]
        rows, coordinates, classes = (pool_map[name] for name in _MAP)
        write_whole(
            self.path / "map.npz", lambda file: np.savez(file, rows=rows, coordinates=coordinates, classes=classes)
        )
        whole = {**results.record, "results": {name: column.tolist() for name, column in results.columns.items()}}
        write_whole(self.path / "results.json", lambda file: file.write(_json(whole)))

    def _rounds_file(self, label: str, seed: int) -> Path:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "_", label)[:_LONGEST_SLUG]
        if slug != label:  # two labels may have one slug
            slug += f"-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        return self.path / "rounds" / f"{slug}-{seed}.jsonl"


def read_results(path: str | Path) -> Results:
    """The tables of a run folder; of an unfinished run the rounds that are finished.

    May be called while the run goes on.

    Raises
    ------
    FileReadError
        There is no run.
    """
    folder = RunFolder(path)
    record = _read_json(folder.path / "run.json")
    arguments = record["arguments"]
    runs = {
        (label, seed): folder.read_rounds(label, seed)
        for label in arguments["strategies"]
        for seed in arguments["seeds"]
    }
    return tables(record, runs)


def read_map(path: str | Path) -> Columns | None:
    """``map.npz`` of a run folder: ``rows`` (M,) int64, ``coordinates`` (M, 2) float64, ``classes`` (M,) int64.

    None where it is not there yet.

    Raises
    ------
    FileReadError
        The file is damaged.
    """
    file = Path(path) / "map.npz"
    if not file.exists():
        return None
    try:
        with open_regular(file) as handle:
            arrays, size = Arrays(handle), file.stat().st_size  # nothing in it is packed
            return {name: arrays.read(name, size) for name in _MAP}
    except Exception as error:  # a damaged archive raises whatever its parser meets
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error


def tables(record: dict[str, Any], runs: Mapping[tuple[str, int], Sequence[RoundRecord]]) -> Results:
    """The tables of the finished rounds of every (label, seed), in their order."""
    measured: list[tuple[Any, ...]] = []
    picked: list[tuple[Any, ...]] = []
    timed: list[tuple[Any, ...]] = []
    for (label, seed), records in runs.items():
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


def _csv(columns: Columns) -> bytes:
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


def _line(label: str, seed: int, number: int, record: RoundRecord) -> bytes:
    content = {
        "strategy": label,
        "seed": seed,
        "round": number,
        "picks": record.picks,
        "metrics": {name: repr(value) for name, value in record.metrics.items()},
        "seconds": record.seconds,
    }
    return _sealed(content)


def _sealed(content: dict[str, Any]) -> bytes:
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}).encode() + b"\n"


def _read_rounds(file: Path, label: str, seed: int) -> tuple[list[RoundRecord], bool]:
    """The good rounds at the beginning of a file, and whether they are all that it holds."""
    try:
        lines = read_whole(file).splitlines(keepends=True)
    except FileNotFoundError:
        return [], True
    except (OSError, ValueError) as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
    records: list[RoundRecord] = []
    for line in lines:
        record = _unsealed(line, {"strategy": label, "seed": seed, "round": len(records)})
        if record is None:
            break
        records.append(record)
    return records, len(records) == len(lines)


def _unsealed(line: bytes, expected: dict[str, Any]) -> RoundRecord | None:
    """The record in a line, None where it is not what was written for this round."""
    try:
        content = json.loads(line)
        del content["sha256"]
        if _sealed(content) != line or any(content[key] != value for key, value in expected.items()):
            return None
        metrics = {name: float(text) for name, text in content["metrics"].items()}
        return RoundRecord(content["picks"], metrics, content["seconds"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_whole(file))
    except FileNotFoundError:
        raise FileReadError(f"no run in {str(file.parent)!r}: there is no file {str(file)!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
    if not isinstance(content, dict) or "format" not in content:
        raise FileReadError(f"cannot read {str(file)!r}: it is not the record of a run")
    check_format(content, file)
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{_text(content, 0)}\n".encode()


def _text(value: Any, depth: int) -> str:
    """JSON with a line for each entry of a mapping, but one line for a list: columns have thousands of entries.

    NaN becomes null and the infinities the texts "inf" and "-inf", for JSON knows none of them.
    """
    if isinstance(value, Mapping) and value:
        indent = "  " * depth
        entries = [f"{indent}  {json.dumps(key)}: {_text(item, depth + 1)}" for key, item in value.items()]
        return "{\n" + ",\n".join(entries) + f"\n{indent}}}"
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def _plain(column: npt.NDArray[Any]) -> Any:
    """A column as pyarrow and pandas take it: they know no NumPy strings of fixed length."""
    return column.tolist() if column.dtype.kind == "U" else column
