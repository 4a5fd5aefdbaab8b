"""The files of predictions: tables with a line for every row, as CSV or parquet, or all probabilities as ``.npy``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.csv_files import write_csv_file
from ..pool.kept_labels import write_keeping_labels
from ..pool.label_table import ID, INDEX
from ..system.extras import optional
from ..system.streams import progress_bar

if TYPE_CHECKING:
    from ..pool.rows import RowId
    from ..steps.predicted_rows import PredictedRows

__all__ = ["SUFFIXES", "check_writable", "write_predictions"]

SUFFIXES = (".csv", ".parquet", ".npy")

# The only parquet column of lists, and so what ccma-fast autolabel --probabilities reads.
_PROBABILITIES = "probabilities"

# Seconds after which a progress bar is worth showing.
_PATIENCE = 2.0

Float32 = npt.NDArray[np.float32]


class _Part(NamedTuple):
    """The predictions of consecutive rows."""

    rows: range
    ids: list[RowId] | None
    labels: npt.NDArray[np.int64]
    confidence: Float32
    margins: Float32
    probabilities: Float32


def check_writable(path: Path, *, has_all: bool) -> None:
    """What :func:`write_predictions` would refuse, before anything is computed.

    Raises
    ------
    ValueError
        A suffix that is none of :data:`SUFFIXES`, or `has_all` where the format leaves no choice.
    ImportError
        pyarrow is needed and not installed.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        *others, last = SUFFIXES
        raise ValueError(f"--out must end in {', '.join(others)} or {last}, got {str(path)!r}")
    if suffix == ".npy" and has_all:
        raise ValueError(
            f"--probabilities is for .csv and .parquet, a .npy file has all of them, got --out {str(path)!r}"
        )
    if suffix == ".parquet":
        optional("pyarrow.parquet", "a parquet file")


def write_predictions(path: Path, p: PredictedRows, *, has_all: bool, is_shown: bool) -> None:
    """Write what is predicted for every row, a chunk at a time; whole or not at all, and never over labels.

    Parameters
    ----------
    path : Path
        Its suffix says the format.
    p : PredictedRows
        Class probabilities.
    has_all : bool
        Whether a table has all probabilities of each row.
    is_shown : bool
        Whether a progress bar is shown on stderr where it takes long.
    """
    with progress_bar(p.n_rows, 0, "row", is_shown=is_shown, delay=_PATIENCE) as bar:
        chunks = _counted(p, bar)
        if path.suffix.lower() == ".csv":
            write_csv_file(path, _lines(p, chunks, has_all))
        elif path.suffix.lower() == ".parquet":
            write_keeping_labels(path, lambda file: _write_parquet(file, p, chunks, has_all))
        else:
            write_keeping_labels(path, lambda file: _write_npy(file, p, chunks))


def _counted(p: PredictedRows, bar: Any) -> Iterator[tuple[int, Float32]]:
    for start, chunk in p.chunks():
        n_rows = len(chunk)
        yield start, chunk
        del chunk  # before the next is computed
        bar.update(n_rows)


def _parts(p: PredictedRows, chunks: Iterable[tuple[int, Float32]]) -> Iterator[_Part]:
    ids = p.row_ids()
    for start, chunk in chunks:
        second, largest = np.partition(chunk, -2, axis=1)[:, -2:].T
        yield _Part(
            range(start, start + len(chunk)),
            None if ids is None else list(islice(ids, len(chunk))),
            chunk.argmax(axis=1),
            largest,
            largest - second,
            chunk,
        )


def _write_npy(file: BinaryIO, p: PredictedRows, chunks: Iterable[tuple[int, Float32]]) -> None:
    shape = (p.n_rows, p.n_columns)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for _, chunk in chunks:
        file.write(np.ascontiguousarray(chunk, "<f4").data)


def _lines(p: PredictedRows, chunks: Iterable[tuple[int, Float32]], has_all: bool) -> Iterator[Sequence[Any]]:
    """The header, and a line for every row."""
    names = p.class_names
    at_id, at_name = [] if p.row_ids() is None else [ID], [] if names is None else ["name"]
    of_classes = [f"p_{name}" for name in (names or range(p.n_columns))] if has_all else []
    yield [INDEX, *at_id, "label", *at_name, "confidence", "margin", *of_classes]
    for part in _parts(p, chunks):
        labels = part.labels.tolist()
        # str() of a float32 is the shortest text that reads back as the same float32.
        cells = zip(
            part.rows,
            *([] if part.ids is None else [part.ids]),
            labels,
            *([] if names is None else [[names[label] for label in labels]]),
            map(str, part.confidence),
            map(str, part.margins),
            strict=True,
        )
        if has_all:
            yield from ((*of_row, *map(str, own)) for of_row, own in zip(cells, part.probabilities, strict=True))
        else:
            yield from cells


def _write_parquet(file: BinaryIO, p: PredictedRows, chunks: Iterable[tuple[int, Float32]], has_all: bool) -> None:
    """A row group for every chunk."""
    pyarrow, parquet = optional("pyarrow", "a parquet file"), optional("pyarrow.parquet", "a parquet file")
    names = None if p.class_names is None else pyarrow.array(p.class_names, pyarrow.string())
    schema = pyarrow.schema(
        [
            (INDEX, pyarrow.int64()),
            *([] if p.row_ids() is None else [(ID, pyarrow.string())]),
            ("label", pyarrow.int64()),
            *([] if names is None else [("name", pyarrow.string())]),
            ("confidence", pyarrow.float32()),
            ("margin", pyarrow.float32()),
            *([(_PROBABILITIES, pyarrow.list_(pyarrow.float32(), p.n_columns))] if has_all else []),
        ]
    )
    # A dictionary of probabilities, which hardly repeat, would only cost time.
    repeating = [name for name in schema.names if name != _PROBABILITIES]
    with parquet.ParquetWriter(file, schema, use_dictionary=repeating) as writer:
        for part in _parts(p, chunks):
            labels = pyarrow.array(part.labels)
            columns = [
                np.arange(part.rows.start, part.rows.stop),
                *([] if part.ids is None else [part.ids]),
                labels,
                *([] if names is None else [names.take(labels)]),
                part.confidence,
                part.margins,
            ]
            if has_all:
                values = pyarrow.array(part.probabilities.reshape(-1))
                columns.append(pyarrow.FixedSizeListArray.from_arrays(values, p.n_columns))
            writer.write_table(pyarrow.table(columns, schema=schema))
