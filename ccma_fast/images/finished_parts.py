"""Finished parts of an extraction on their way into a pool: what a rank leaves for the first one to take in.

Below the pool lies a directory that is gone once an extraction has ended:

==========================================  =======================================================================
``.extraction/KEY.student.npy, .parquet``   a shard of a folder, here of ``student``
``.extraction/KEY.json``                    a :class:`FinishedPart`, written last: with it the part is finished
``.extraction/KEY.npz``                     a :class:`Checkpoint`: the first images of a part that is not finished yet
==========================================  =======================================================================

A key is a digest of the images, their labels and the encoders. Whoever wants the same part again finds it, after a kill
too, whatever the number of ranks.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..pool.manifest import Shard, Skipped
from ..system.output_files import remove_leftovers, write_whole

__all__ = ["Checkpoint", "FinishedPart", "FinishedParts", "key_of"]

_NAME = r"[0-9a-f]{32}\.(json|npz|(student|teacher)\.(npy|parquet))"


class FinishedPart(NamedTuple):
    """What the first rank needs to know of a part that is on disk.

    Attributes
    ----------
    key : str
    number : int or None
        The number of its shards in their folders; None where that depends on how many images of earlier parts can be
        read.
    again : bool
        All of its images were skipped before.
    rank : int
        Who embedded it.
    shards : dict of str to Shard
        By the names of their folders.
    encoders : dict of str
        Digests of the folders' encoders.
    skipped : dict of str to Skipped
        Why images could not be read.
    unreadable : list of str
        Those of them whose files that rank could not even read.
    """

    key: str
    number: int | None
    again: bool
    rank: int
    shards: dict[str, Shard]
    encoders: dict[str, str]
    skipped: dict[str, Skipped]
    unreadable: list[str]


class Checkpoint(NamedTuple):
    """The first images of a part.

    Attributes
    ----------
    n_tried : int
    rows : list of ndarray, float16
        The embeddings of those that could be read, for each of the part's folders.
    state : dict
        What is known of the images, as JSON takes it.
    """

    n_tried: int
    rows: list[npt.NDArray[np.float16]]
    state: dict[str, Any]


class FinishedParts:
    """The finished parts of a pool, and the checkpoints of others.

    Parameters
    ----------
    pool : Path
    """

    def __init__(self, pool: Path) -> None:
        self.directory = pool / ".extraction"

    def prepare(self) -> None:
        """Make the directory where it is missing, and remove what a killed call left half-written."""
        self.directory.mkdir(exist_ok=True)
        remove_leftovers(self.directory, _NAME)

    def clear(self, finished: Collection[str] = (), wanted: Collection[str] = ()) -> None:
        """Remove all but the finished parts of some keys, and the checkpoints of some."""
        for file in sorted(self.directory.iterdir(), key=lambda file: file.suffix != ".json"):  # its shards after it
            keys = wanted if file.suffix == ".npz" else finished
            if re.fullmatch(_NAME, file.name) and file.name.partition(".")[0] not in keys and not file.is_symlink():
                file.unlink()

    def remove(self) -> None:
        """Remove the directory, which is needed no longer."""
        self.clear()
        with suppress(OSError):  # somebody else's files are in it
            self.directory.rmdir()

    def file(self, key: str) -> Path:
        """What is there once a part is finished."""
        return self.directory / f"{key}.json"

    def read(self, key: str) -> FinishedPart | None:
        """A finished part; None where it is not finished, or the record is damaged."""
        try:
            content = json.loads(self.file(key).read_bytes())
            content["shards"] = {name: Shard(**shard) for name, shard in content["shards"].items()}
            content["skipped"] = {image: Skipped(**why) for image, why in content["skipped"].items()}
            return FinishedPart(**content)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def all(self) -> list[FinishedPart]:
        """Every finished part, in the order of their numbers, those without one last."""
        keys = sorted(file.stem for file in self.directory.glob("*.json") if re.fullmatch(_NAME, file.name))
        found = [part for key in keys if (part := self.read(key)) is not None]
        return sorted(found, key=lambda part: (part.number is None, part.number or 0))

    def write(self, part: FinishedPart) -> None:
        """Record that a part, whose shards are here, is finished."""
        content = part._asdict()
        content["shards"] = {name: asdict(shard) for name, shard in part.shards.items()}
        content["skipped"] = {image: asdict(why) for image, why in part.skipped.items()}
        text = json.dumps(content, ensure_ascii=False)
        write_whole(self.file(part.key), lambda file: file.write(text.encode()))
        self._checkpoint(part.key).unlink(missing_ok=True)

    def drop(self, part: FinishedPart) -> None:
        """Forget a part: it is in the pool, or is to be embedded again."""
        files = [name for shard in part.shards.values() for name in (shard.file, shard.metadata)]
        for file in (self.file(part.key), *(self.directory / name for name in files)):
            file.unlink(missing_ok=True)

    def save(self, key: str, checkpoint: Checkpoint) -> None:
        """Write or replace the checkpoint of a part."""
        state = {"n_tried": checkpoint.n_tried, **checkpoint.state}
        arrays: dict[str, Any] = {f"rows_{i}": rows for i, rows in enumerate(checkpoint.rows)}
        arrays["text"] = np.frombuffer(json.dumps(state).encode(), np.uint8)
        write_whole(self._checkpoint(key), lambda file: np.savez(file, **arrays))

    def saved(self, key: str) -> Checkpoint | None:
        """The checkpoint of a part; None where there is none, or it is damaged."""
        import zipfile

        try:
            # Opened here: NumPy leaves a file open that is no archive.
            with open(self._checkpoint(key), "rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = json.loads(arrays["text"].tobytes())
                rows = [arrays[f"rows_{i}"] for i in range(len(arrays.files) - 1)]
            return Checkpoint(state.pop("n_tried"), rows, state)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return None

    def _checkpoint(self, key: str) -> Path:
        return self.directory / f"{key}.npz"


def key_of(
    encoders: dict[str, str], number: int | None, ids: Iterable[str], labels: Iterable[Any] | None, *, again: bool
) -> str:
    """The key of a part.

    Parameters
    ----------
    encoders : dict of str
        Digests of the encoders, by the names of their folders.
    number : int or None
    ids : iterable of str
    labels : iterable or None
    again : bool
    """
    digest = hashlib.sha256(repr((encoders, number, again)).encode())
    digest.update("\n".join(ids).encode())
    digest.update(repr(None if labels is None else list(labels)).encode())
    return digest.hexdigest()[:32]
