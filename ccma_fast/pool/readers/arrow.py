"""Arrow: a column of lists in an IPC stream, as ``datasets.save_to_disk`` writes it, or in an IPC file; mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FileReadError
from ...system.bounded_read import read_whole
from ...system.extras import optional
from ...system.file_integrity import FileInUse, reading
from ..arrow_columns import id_column_of, ids_of, values_of_lists, vector_column
from ..blocks import BlockRows, ids_of_parts, rows_of_block
from ..rows import RowId, check_matrix

__all__ = ["ArrowRows", "files_of_dataset"]

# The end of every complete stream.
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"

_MAGIC = b"ARROW1"

# A map keeps every page that was read resident until the file is opened anew.
_MAPPED_BYTES = 64 << 20


class ArrowRows(BlockRows):
    """A column of vectors in an ``.arrow`` file.

    Parameters
    ----------
    file : str
    key : str or None
        The column; without it the one that is called `name`, or the only one of lists of numbers.
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        No such file or column, a damaged file, or a row that is missing or of another length.
    ImportError
        pyarrow is not installed.
    """

    def __init__(self, file: str, key: str | None, name: str) -> None:
        in_use = FileInUse(file, name)
        with reading():
            schema, batches = _opened(in_use)
            in_use.check()
        self.column, width, dtype = vector_column(schema, key, name, file)
        self._id_column = id_column_of(schema, name)
        firsts = np.cumsum([0, *(batch.num_rows for batch in batches)])
        if not width:  # lists of any length: as long as the first
            with reading():
                width = _first_length([batch.column(self.column) for batch in batches], file, name)
                in_use.check()
        check_matrix((int(firsts[-1]), width), dtype, name)
        step = rows_of_block(width * dtype.itemsize)
        starts = [np.arange(first, first + batch.num_rows, step) for first, batch in zip(firsts, batches, strict=False)]
        self._firsts = firsts
        self._batches: list[Any] | None = None
        self._unmapped_after = 0
        super().__init__(name, file, [in_use], width, dtype, np.concatenate([*starts, firsts[-1:]]))

    def _read(self, block: int) -> npt.NDArray[Any]:
        assert self.file is not None, "it was opened by its name"
        if self._batches is None or self.bytes_read >= self._unmapped_after:
            self._batches = _opened(self.in_use[0])[1]
            self._unmapped_after = self.bytes_read + _MAPPED_BYTES
        start, stop = int(self._starts[block]), int(self._starts[block + 1])
        at = int(np.searchsorted(self._firsts, start, side="right")) - 1
        lists = self._batches[at].column(self.column).slice(start - int(self._firsts[at]), stop - start)
        return np.array(values_of_lists(lists, self.n_columns, start, repr(self.file), self.name))

    def row_ids(self) -> Iterator[RowId] | None:
        if self._id_column is None:
            return None
        return (row_id for at in range(len(self._firsts) - 1) for row_id in self._ids(at))

    def ids_at(self, rows: npt.NDArray[np.int64]) -> list[RowId] | None:
        return None if self._id_column is None else ids_of_parts(rows, self._firsts, self._ids)

    def _ids(self, at: int, here: npt.NDArray[np.int64] | None = None) -> list[RowId]:
        """The ids of some rows of a batch, by default of all."""
        with reading():
            if self._batches is None:
                self._batches = _opened(self.in_use[0])[1]
            column = self._batches[at].column(self._id_column)
            ids = ids_of(column if here is None else column.take(here))
            self.check()
        return ids

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_batches": None}  # each process opens the file itself


def files_of_dataset(folder: Path, name: str) -> list[Path] | None:
    """The shards of a folder that ``datasets.save_to_disk`` wrote, in order; None for another folder.

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


def _opened(in_use: FileInUse) -> tuple[Any, list[Any]]:
    """The schema and the batches of a file, which are views of its map."""
    pyarrow, ipc = optional("pyarrow", "an Arrow file"), optional("pyarrow.ipc", "an Arrow file")
    try:
        with pyarrow.memory_map(in_use.file) as source:
            whole = source.read_buffer()
        in_use.hold((whole.address, whole.size))
        if whole[: len(_MAGIC)].to_pybytes() == _MAGIC:
            reader = ipc.open_file(whole)
            return reader.schema, [reader.get_batch(i) for i in range(reader.num_record_batches)]
        if whole[max(0, whole.size - len(_END_OF_STREAM)) :].to_pybytes() != _END_OF_STREAM:
            raise ValueError("it does not end as a stream does, and may be cut off")
        with ipc.open_stream(whole) as reader:
            return reader.schema, list(reader)
    except (OSError, ValueError) as error:
        in_use.check()
        raise FileReadError(f"{in_use.name}: cannot read {in_use.file!r} as Arrow: {error}") from error


def _first_length(columns: list[Any], file: str, name: str) -> int:
    first = next((column for column in columns if len(column)), None)
    if first is None:
        raise FileReadError(f"{name}: {file!r} has no row, and so tells no number of columns")
    if not first[0].is_valid:
        raise FileReadError(f"{name}: {file!r} must have a list of numbers in each row, got none at row 0")
    return len(first[0])
