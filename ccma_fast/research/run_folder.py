"""The folder of a run of :func:`ccma_fast.simulate`.

It holds

=======================  ==========================================================================================
``run.json``             what is run: arguments, configuration and code of every contender, versions, data fingerprint
``rounds/<name>.jsonl``  the finished rounds of one trial, a line each with its own checksum
``results.csv``          the table, ``picks.csv`` and ``timings.csv`` beside it; written when everything is there
``map.npz``              rows of the pool in two dimensions
``results.json``         ``run.json`` and the table in one; written last
``.lock``                held by the process that works in the folder
=======================  ==========================================================================================

Every file is replaced whole. Floats are written as the shortest text that reads back as the same float64.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileReadError
from ..system.bounded_read import Arrays
from ..system.file_integrity import open_regular
from ..system.json_text import as_json
from ..system.output_files import check_can_write_into, locked, remove_leftovers, write_whole
from .record import read_record
from .results import Columns, Results, as_csv, results_of
from .resume import resumed, unknown_parts
from .rounds import RoundRecord, read_rounds, rounds_as_bytes

__all__ = ["RunFolder", "read_map", "read_results"]

_FINAL = ("results.csv", "picks.csv", "timings.csv", "map.npz", "results.json")
_MAP = ("rows", "coordinates", "classes")
_LONGEST_SLUG = 60


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
        """Hold the lock of the folder, see :func:`ccma_fast.system.output_files.locked`.

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
        """Begin a run in a new folder, or resume the one that is in it.

        Files that a killed process left half-written are removed. What must be the same to resume a run is decided by
        :func:`ccma_fast.research.resume.resumed`.

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
            Versions differ; or the run is a new one that cannot be resumed later, for a part of it cannot be compared.
        """
        file = self.path / "run.json"
        if file.exists():
            record = resumed(str(self.path), read_record(file), json.loads(as_json(record)))
        elif unknown := unknown_parts(record):
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
        write_whole(file, lambda handle: handle.write(as_json(record)))
        (self.path / "rounds").mkdir(exist_ok=True)
        return record

    def read_rounds(self, label: str, seed: int) -> list[RoundRecord]:
        """The finished rounds of a trial, up to the first damaged line."""
        file = self._rounds_file(label, seed)
        records, whole = read_rounds(file, label, seed)
        if not whole:
            warnings.warn(
                f"{str(file)!r} is damaged after {len(records)} good rounds; the rest is computed again",
                RuntimeWarning,
                stacklevel=3,
            )
        return records

    def write_rounds(self, label: str, seed: int, records: Sequence[RoundRecord]) -> None:
        """Replace the finished rounds of a trial."""
        content = rounds_as_bytes(label, seed, records)
        write_whole(self._rounds_file(label, seed), lambda handle: handle.write(content))

    def is_complete(self, record: dict[str, Any]) -> bool:
        """Whether every file of a finished run is there, and the one that is written last has this record."""
        if not all((self.path / name).is_file() for name in _FINAL):
            return False
        try:
            whole = read_record(self.path / _FINAL[-1])
        except FileReadError:  # damaged; it is written again from the rounds
            return False
        del whole["results"]
        return bool(whole == json.loads(as_json(record)))

    def write_results(self, results: Results, pool_map: Columns) -> None:
        """Write the files of a finished run."""
        for name, columns in (("results", results.columns), ("picks", results.picks), ("timings", results.timings)):
            content = as_csv(columns)
            write_whole(self.path / f"{name}.csv", lambda file, content=content: file.write(content))  # type: ignore[misc]
        rows, coordinates, classes = (pool_map[name] for name in _MAP)
        write_whole(
            self.path / "map.npz", lambda file: np.savez(file, rows=rows, coordinates=coordinates, classes=classes)
        )
        whole = {**results.record, "results": {name: column.tolist() for name, column in results.columns.items()}}
        write_whole(self.path / "results.json", lambda file: file.write(as_json(whole)))

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
    record = read_record(folder.path / "run.json")
    arguments = record["arguments"]
    trials = {
        (label, seed): folder.read_rounds(label, seed)
        for label in arguments["strategies"]
        for seed in arguments["seeds"]
    }
    return results_of(record, trials)


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
            arrays, size = Arrays(handle), file.stat().st_size  # np.savez compresses nothing
            return {name: arrays.read(name, size) for name in _MAP}
    except Exception as error:  # zipfile and NumPy raise many types where an archive is damaged
        raise FileReadError(f"cannot read {str(file)!r}: {error}") from error
