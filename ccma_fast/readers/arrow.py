"""Arrow: a column of lists in an IPC stream, as ``datasets.save_to_disk`` writes it, or in an IPC file; mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from .._bounded import read_whole
from .._errors import FileReadError
from .._extras import optional
from ..pool import RowId, check_matrix
from ._blocks import BlockRows, ids_of_parts, rows_of_block
from ._lists import IDS, has_ids, ids_of, values_of_lists, vector_column

__all__ = ["ArrowRows", "files_of_dataset"]

# What stands at the end of every stream that was written whole.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_MAGIC = b"ARROW1"

# A map keeps every page that was ever read in the process's memory, until the file is opened anew.
_MAPPED_BYTES = 64 << 20


class ArrowRows(BlockRows):
    """A column of vectors in an ``.arrow`` file.

    Parameters
    ----------
    file : str
    key : str or None
        The column; without it the one that is called `name`, or the only one of lists of numbers.
    name : str
        What error messages call it.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row that is missing or of another length.
    ImportError
        pyarrow is not installed.
    """

    def __init__(self, file: str, key: str | None, name: str) -> None:
        schema, batches = _opened(file, name)
        self.column, width, dtype = vector_column(schema, key, name, file)
        self._has_ids = has_ids(schema)
        firsts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        if not width:  # lists of any length: as long as the first
            width = _first_length([batch.column(self.column) for batch in batches], file, name)
        check_matrix((int(firsts[-1]), width), dtype, name)
        step = rows_of_block(width * dtype.itemsize)
        starts = [np.arange(first, first + batch.num_rows, step) for first, batch in zip(firsts, batches, strict=False)]
        self._firsts = firsts
        self._batches: list[Any] | None = None
        self._unmapped_after = 0
        super().__init__(name, file, width, dtype, np.concatenate([*starts, firsts[-1:]]))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        if self._batches is None or self.bytes_read >= self._unmapped_after:
            self._batches = _opened(self.file, self.name)[1]
            self._unmapped_after = self.bytes_read + _MAPPED_BYTES
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        at = int(np.searchsorted(self._firsts, start, side="right")) - 1
        lists = self._batches[at].column(self.column).slice(start - int(self._firsts[at]), stop - start)
        return np.array(values_of_lists(lists, self.n_columns, start, self.file, self.name))

    def row_ids(self) -> Iterator[RowId] | None:
        if not self._has_ids or self.file is None:
            return None
        return (row_id for batch in _opened(self.file, self.name)[1] for row_id in ids_of(batch.column(IDS)))

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        if not self._has_ids or self.file is None:
            return None
        batches = _opened(self.file, self.name)[1]
        return ids_of_parts(rows, self._firsts, lambda at, here: ids_of(batches[at].column(IDS).take(here)))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_batches": None}  # each process opens the file itself


def files_of_dataset(folder: Path, name: str) -> list[Path] | None:
    """The shards of a folder that ``datasets.save_to_disk`` wrote, in their order; None where it is none.

    Raises
    ------
    FileReadError
        Its description is damaged, or names splits, rows chosen by indices, or files elsewhere.
    """
    if (folder / "dataset_dict.json").is_file() and not (folder / "state.json").is_file():
        splits = ", ".join(sorted(repr(str(path.parent)) for path in folder.glob("*/state.json")))
        raise FileReadError(f"{name}: {str(folder)!r} holds several splits; expected one of {splits or 'them'}")
    description = folder / "state.json"
    try:
        state = json.loads(read_whole(description))
        files = [str(entry["filename"]) for entry in state["_data_files"]]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(description)!r} of a data set: {error!r}") from error
    for key in ("_indices_files", "_indices_data_files"):
        if state.get(key):
            raise FileReadError(
                f"{name}: {str(description)!r} says that the rows are chosen by indices ({key}); expected a data set "
                "saved after flatten_indices()"
            )
    elsewhere = [file for file in files if file != PurePath(file).name]
    if elsewhere:
        raise FileReadError(f"{name}: {str(description)!r} must name files in its own folder, got {elsewhere[0]!r}")
    return [folder / file for file in files]


def _opened(file: str, name: str) -> tuple[Any, list[Any]]:
    """The schema and the batches of a file, which are views of its map."""
    pyarrow, ipc = optional("pyarrow", "an Arrow file"), optional("pyarrow.ipc", "an Arrow file")
    if not Path(file).exists():
        raise FileReadError(f"{name}: no file {file!r}")
    try:
        source = pyarrow.memory_map(file)
        if source.read(len(_MAGIC)) == _MAGIC:
            reader = ipc.open_file(source)
            return reader.schema, [reader.get_batch(i) for i in range(reader.num_record_batches)]
        source.seek(max(0, source.size() - len(_END_OF_STREAM)))
        if source.read() != _END_OF_STREAM:
            raise ValueError("it does not end as a stream does, and may be cut off")
        source.seek(0)
        with ipc.open_stream(source) as reader:
            return reader.schema, list(reader)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as Arrow: {error}") from error


def _first_length(columns: list[Any], file: str, name: str) -> int:
    first = next((column for column in columns if len(column)), None)
    if first is None:
        raise FileReadError(f"{name}: {file!r} has no row, and so tells no number of columns")
    if not first[0].is_valid:
        raise FileReadError(f"{name}: {file!r} must have a list of numbers in each row, got none at row 0")
    return len(first[0])
