"""The files of an audit: a CSV file for people to fill in, and beside it the record of the draw.

A spreadsheet may reorder the rows and write numbers its own way; the column ``draw`` has the order of the draw. What
was drawn stands in the record, and rows that were added, left out or exchanged are noticed.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..campaign.audit import AuditSample
from ..checks import check_integer
from ..errors import FileReadError
from ..pool.kept_labels import write_keeping_labels
from ..pool.label_table import ID, INDEX
from ..pool.rows import RowId
from ..pool.spreadsheet_cells import whole_number
from ..pool.tables import read_columns
from ..system.bounded_read import read_whole
from ..system.csv_text import write_csv
from ..system.output_files import write_whole
from ..version import __version__, newer_error

__all__ = ["read_audit", "record_of", "write_audit"]

_FORMAT, _NAME = 1, "ccma_fast.AuditSample"
_DRAW, _LABEL = "draw", "label"


def record_of(path: Path) -> Path:
    """Where the record of an audit file is."""
    return path.with_name(f"{path.stem}.record.json")


def write_audit(path: Path, audit: AuditSample, ids: Sequence[RowId] | None) -> None:
    """Write the record of an audit, then the CSV file with an empty column for the labels."""
    record = {
        "format": f"{_NAME} {_FORMAT}",
        "version": __version__,
        "n_rows": audit.n_rows,
        "n_labelled": audit.n_labelled,
        "random_state": audit.random_state,
        "labelled": audit.labelled,
        "predictions": audit.predictions,
        "rows": audit.rows.tolist(),
        "ids": None if ids is None else list(ids),
    }
    content = f"{json.dumps(record)}\n".encode()
    numbered = enumerate(audit.rows.tolist(), start=1)
    table: list[tuple[Any, ...]] = (
        [(_DRAW, INDEX, _LABEL), *((number, row, "") for number, row in numbered)]
        if ids is None
        else [
            (_DRAW, INDEX, ID, _LABEL),
            *((number, row, row_id, "") for (number, row), row_id in zip(numbered, ids, strict=True)),
        ]
    )
    text = io.StringIO(newline="")
    write_csv(text, table)
    write_whole(record_of(path), lambda file: file.write(content))
    write_keeping_labels(path, lambda file: file.write(text.getvalue().encode()))


def read_audit(path: Path) -> tuple[AuditSample, list[Any]]:
    """An audit, and the labels that people gave it, in the order of the draw; empty text where there is none.

    Raises
    ------
    FileReadError
        No such file or record, or a damaged one; rows that are not those of the record.
    """
    audit, ids = _read_record(record_of(path))
    file = str(path)
    columns = read_columns(file, "--audit", (_DRAW, INDEX, ID, _LABEL), only=_LABEL).wanted
    for column in (_DRAW, INDEX):
        if column not in columns:
            raise FileReadError(f"--audit: no column {column!r} in {file!r}; expected it as it was written")
    labels: dict[int, Any] = {}
    for line, cell in enumerate(columns[_DRAW]):
        number = _integer(cell, _DRAW, line, file)
        if not 1 <= number <= len(audit):
            raise FileReadError(f"--audit: draw must be from 1 to {len(audit)}, got {number} at row {line} of {file!r}")
        if number in labels:
            raise FileReadError(
                f"--audit: draw must be different in each row, got {number} again at row {line} of {file!r}"
            )
        row = _integer(columns[INDEX][line], INDEX, line, file)
        if row != audit.rows[number - 1]:
            raise FileReadError(
                f"--audit: number {number} of the draw was row {audit.rows[number - 1]}, got {row} at row {line} of "
                f"{file!r}"
            )
        if ids is not None and ID in columns and not _is_id(columns[ID][line], ids[number - 1]):
            raise FileReadError(
                f"--audit: number {number} of the draw was {ids[number - 1]!r}, got {columns[ID][line]!r} at row "
                f"{line} of {file!r}"
            )
        labels[number] = columns[_LABEL][line]
    missing = [number for number in range(1, len(audit) + 1) if number not in labels]
    if missing:
        raise FileReadError(
            f"--audit: {len(missing)} of the {len(audit)} rows that were drawn are not in {file!r}, first number "
            f"{missing[0]} of the draw, row {audit.rows[missing[0] - 1]}; expected all, without a label where there is "
            "none"
        )
    given = [labels[number] for number in range(1, len(audit) + 1)]
    if not any(str(cell).strip() for cell in given):
        raise FileReadError(f"--audit: {file!r} has no label yet; expected its column {_LABEL!r} filled in by people")
    return audit, given


def _is_id(cell: str, row_id: RowId) -> bool:
    """Whether a cell has an id, with spaces around it or not."""
    return row_id in (cell or None, cell.strip() or None)


def _integer(cell: Any, column: str, line: int, file: str) -> int:
    found = whole_number(str(cell))
    if found is None:
        raise FileReadError(f"--audit: {column} must be an integer, got {cell!r} at row {line} of {file!r}")
    return found


def _read_record(path: Path) -> tuple[AuditSample, list[RowId] | None]:
    file = str(path)
    try:
        record = json.loads(read_whole(path))
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, got {type(record).__name__}")
        known = re.fullmatch(rf"{re.escape(_NAME)} (\d{{1,9}})", record["format"])
        if known is None:
            raise ValueError(f"expected the format '{_NAME} {_FORMAT}', got {record['format']!r:.80}")
        if int(known[1]) <= _FORMAT:
            ids = record["ids"]
            audit = AuditSample(
                rows=np.array([check_integer("rows", row, minimum=0) for row in record["rows"]], np.int64),
                n_rows=check_integer("n_rows", record["n_rows"], minimum=1),
                n_labelled=check_integer("n_labelled", record["n_labelled"], minimum=0),
                random_state=check_integer("random_state", record["random_state"], minimum=0, maximum=math.inf),
                labelled=str(record["labelled"]),
                predictions=str(record["predictions"]),
            )
            if ids is not None and len(ids) != len(audit):
                raise ValueError(f"expected an id of each of {len(audit)} rows, got {len(ids)}")
            return audit, ids
    except FileNotFoundError:
        raise FileReadError(
            f"--audit: no file {file!r}, the record of the draw; expected it beside the audit file, as it was written"
        ) from None
    except KeyError as error:
        raise FileReadError(
            f"--audit: cannot read {file!r} as the record of an audit: it has no field {error}"
        ) from error
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FileReadError(f"--audit: cannot read {file!r} as the record of an audit: {error}") from error
    raise newer_error(file, f"format {known[1]}", version=record.get("version"), name="--audit")
