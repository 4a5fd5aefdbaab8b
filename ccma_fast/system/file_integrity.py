"""Integrity of files in use: they are regular files, and stay what they were when they were opened.

What is read from a file is handed on once :meth:`FileInUse.check` has seen that the file is still the one that was
opened. Where a mapped file is truncated meanwhile, the C++ core keeps the process alive, as long as it is read inside
:func:`reading`.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError
from .file_maps import DELETED, ZEROS, FileMap, file_maps

__all__ = [
    "FileInUse",
    "Stamp",
    "file_under",
    "in_memory",
    "loaded",
    "open_regular",
    "reading",
    "stamp_of",
    "unchanged",
]

# Two writes within one tick of a file system's clock leave the same time: a file is opened once the tick of its last
# write has passed, which never happens while it is being written.
_TICK_NS, _MOST_TICKS = 10_000_000, 20


class Stamp(NamedTuple):
    """Identity and version of a file: a file in its place, or with other content, has another stamp."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def stamp_of(file: str | os.PathLike[str], name: str = "") -> Stamp:
    """The stamp of a regular file.

    Parameters
    ----------
    file : path
    name : str, optional
        What error messages call what is read of it.

    Raises
    ------
    FileReadError
        No such file, or not a regular one; opening a pipe would wait for ever.
    """
    try:
        return _stamp(os.stat(file), file, name)
    except OSError as error:
        if isinstance(error, FileReadError):
            raise
        reason = "no file" if isinstance(error, FileNotFoundError) else "cannot read"
        why = "" if isinstance(error, FileNotFoundError) else f": {error.strerror}"
        raise FileReadError(f"{_of(name)}{reason} {os.fspath(file)!r}{why}") from None


def _settled_stamp(file: str, name: str) -> Stamp:
    """The stamp of a regular file, taken when a further write will change it."""
    for _ in range(_MOST_TICKS):
        stamp = stamp_of(file, name)
        left = stamp.mtime_ns + _TICK_NS - time.time_ns()
        if not 0 < left <= 2 * _TICK_NS:  # the time of another machine may be far ahead
            return stamp
        time.sleep(left * 1e-9)
    raise FileReadError(f"{_of(name)}{file!r} is being written; expected a file that nobody changes")


def open_regular(file: str | os.PathLike[str], name: str = "") -> BinaryIO:
    """A regular file, opened for reading; errors as :func:`stamp_of`, and OSError as :func:`open`."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _stamp(os.fstat(descriptor), file, name)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _stamp(found: os.stat_result, file: str | os.PathLike[str], name: str) -> Stamp:
    if not stat.S_ISREG(found.st_mode):
        raise FileReadError(f"{_of(name)}{os.fspath(file)!r} is a folder, a pipe or a device; expected a regular file")
    return Stamp.of(found)


def _of(name: str) -> str:
    return f"{name}: " if name else ""


class FileInUse:
    """A file that must stay what it is while it is in use.

    Parameters
    ----------
    file : path
    name : str
        What error messages call what is read of it.

    Raises
    ------
    FileReadError
        No such file, not a regular one, or one that is being written.
    """

    def __init__(self, file: str | os.PathLike[str], name: str) -> None:
        self.name, self.file = name, os.fspath(file)
        self.stamp: Stamp | None = _settled_stamp(self.file, name)
        self._place = os.path.abspath(file)
        self._is_ours, self._is_written = True, False
        self._ranges: list[Any] = []

    @classmethod
    def under(cls, span: tuple[int, int], found: FileMap, name: str) -> FileInUse:
        """The file under memory that the caller has mapped."""
        in_use = cls.__new__(cls)
        in_use.name = name
        in_use.file = in_use._place = found.place.removesuffix(DELETED)
        in_use._is_ours, in_use._is_written = False, found.is_written
        in_use.stamp = None
        if os.path.isfile(found.place):  # else it was deleted, and no name is left to look at
            in_use.stamp = (stamp_of if found.is_written else _settled_stamp)(found.place, name)
        in_use.hold(span)
        return in_use

    def hold(self, *spans: tuple[int, int]) -> None:
        """Watch where it is mapped, as addresses and sizes, until this is deleted or other ranges are held."""
        core = _loaded_core()
        self._ranges = [] if core is None else [core.MappedRange(*span) for span in spans]

    def hold_array(self, array: npt.NDArray[Any]) -> None:
        """Watch where it is mapped: under an array."""
        self.hold(_span(array))

    def hold_maps(self) -> None:
        """Watch every place in this process at which it is mapped, also by other libraries."""
        there = [entry for entry in file_maps() if entry.place == self._place]
        self.hold(*((entry.begin, entry.end - entry.begin) for entry in there))

    def check(self) -> None:
        """Everything read so far came from the file as it was opened.

        Raises
        ------
        FileReadError
            It may not have: the file was changed, replaced, truncated or removed.
        """
        if (what := self._change()) is not None:
            raise FileReadError(f"{self.name}: {self.file!r} {what} while it was in use; expected it as it was opened")

    def _change(self) -> str | None:
        if any(part.is_broken for part in self._ranges):
            return "became shorter"
        if self.stamp is None:
            return None
        try:
            now = Stamp.of(os.stat(self._place))
        except OSError:
            return "was removed" if self._is_ours else None  # a map outlives the name of its file
        if now == self.stamp:
            return None
        if now[:2] != self.stamp[:2]:
            return "was replaced"
        if now.size < self.stamp.size:
            return "became shorter"
        return None if self._is_written else "was changed"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ranges": []}  # another process maps it elsewhere


@contextmanager
def unchanged(file: str | os.PathLike[str], name: str) -> Iterator[FileInUse]:
    """A regular file that is read as a whole inside this context, and must not change meanwhile."""
    in_use = FileInUse(file, name)
    try:
        yield in_use
    finally:
        in_use.check()  # also where reading failed: this may be why


@contextmanager
def reading() -> Iterator[None]:
    """Mapped files may be read inside this context; what was read is trusted once they have been checked."""
    core = _loaded_core()
    if core is None:
        yield
        return
    core.begin_reading()
    try:
        yield
    finally:
        core.end_reading()


@cache
def _loaded_core() -> Any:
    """The C++ core, which the reference does not need. Without it a truncated file ends the process."""
    try:
        from .. import _core
    except ImportError:
        return None
    return _core


def file_under(values: Any, name: str) -> FileInUse | None:
    """The file that backs an array or a tensor of the caller; None where it lies in memory.

    Parameters
    ----------
    values : ndarray or torch.Tensor
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        It was truncated before.
    """
    if isinstance(values, np.ndarray):
        begin, size = (0, 0) if _is_owned(values) else _span(values)
    else:
        storage = values.untyped_storage()
        is_owned = values.device.type != "cpu" or storage.resizable()  # allocated by PyTorch
        begin, size = (0, 0) if is_owned else (storage.data_ptr(), storage.nbytes())
    if not size:
        return None
    there = list(file_maps(begin, begin + size))
    if any(entry.is_cut_off(begin + size) for entry in there):
        raise FileReadError(f"{name}: {there[0].place!r} became shorter than what is mapped of it")
    if any(entry.place == ZEROS for entry in there):
        raise FileReadError(f"{name}: the file that is mapped here became shorter; expected one that is mapped anew")
    return FileInUse.under((begin, size), there[0], name) if there else None


def in_memory(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array that NumPy allocated: a copy of one that may lie in a file."""
    return values if _is_owned(values) else np.array(values)


def loaded(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """An array in memory: copied from its file where it lies in one, which must not change meanwhile."""
    in_use = file_under(values, name)
    if in_use is None:
        return values
    with reading():
        values = values.copy() if isinstance(values, np.ma.MaskedArray) else np.array(values)
        in_use.check()
    return values


def _is_owned(values: npt.NDArray[Any]) -> bool:
    base: Any = values
    while isinstance(base, np.ndarray):
        base = base.base
    return base is None


def _span(array: npt.NDArray[Any]) -> tuple[int, int]:
    """Address of the first byte of an array, whatever its strides, and the bytes up to its last."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)] if array.size else []
    begin = int(array.__array_interface__["data"][0]) + sum(step for step in reach if step < 0)
    return begin, (sum(map(abs, reach)) + array.itemsize) if array.size else 0
