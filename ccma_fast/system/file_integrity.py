"""Files in use: regular ones only, and such that stay what they were when they were opened.

Whatever is read of a file is looked at before anybody gets it: :meth:`FileInUse.check` says whether the file is still
the one that was opened. Where it is mapped and has become shorter, the core keeps the process alive meanwhile, as long
as that happens while :func:`reading`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError

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

# What the core leaves in place of memory whose file was cut off, where mapped memory is listed.
_MAPS, _ZEROS, _DELETED = "/proc/self/maps", "/dev/zero", " (deleted)"

# linux/fs.h: what asks for the file that is mapped at an address or next, and for its first address.
_QUERY_MAPS, _NEXT_FILE = 0xC0686611, 0x30
_QUERY = struct.Struct("=4Q72x")

# What is written within one tick of the clock of a file system leaves one time: a file is opened once that of its last
# writing has passed, which one that is being written never lets it.
_TICK_NS, _MOST_TICKS = 10_000_000, 20


class Stamp(NamedTuple):
    """What tells a file from one that replaced it, and from itself with other content."""

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
        There is none, or it is none; opening a pipe would wait for ever.
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
    """The stamp of a regular file, which another writing will change."""
    for _ in range(_MOST_TICKS):
        stamp = stamp_of(file, name)
        left = stamp.mtime_ns + _TICK_NS - time.time_ns()
        if not 0 < left <= 2 * _TICK_NS:  # the time of another machine may be far ahead
            return stamp
        time.sleep(left * 1e-9)
    raise FileReadError(f"{_of(name)}{file!r} is being written; expected a file that nobody changes")


def open_regular(file: str | os.PathLike[str], name: str = "") -> BinaryIO:
    """A regular file, open for reading; errors of :func:`stamp_of`, and OSError as :func:`open`."""
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
        No such file, or none that is regular, or one that is being written.
    """

    def __init__(self, file: str | os.PathLike[str], name: str) -> None:
        self.name, self.file = name, os.fspath(file)
        self.stamp: Stamp | None = _settled_stamp(self.file, name)
        self._place = os.path.abspath(file)
        self._is_ours, self._is_written = True, False
        self._ranges: list[Any] = []

    @classmethod
    def under(cls, span: tuple[int, int], found: _FileMap, name: str) -> FileInUse:
        """The file that somebody else has mapped."""
        in_use = cls.__new__(cls)
        in_use.name = name
        in_use.file = in_use._place = found.place.removesuffix(_DELETED)
        in_use._is_ours, in_use._is_written = False, found.is_written
        in_use.stamp = None
        if os.path.isfile(found.place):  # else it has no name any more by which to look at it
            in_use.stamp = (stamp_of if found.is_written else _settled_stamp)(found.place, name)
        in_use.hold(span)
        return in_use

    def hold(self, *spans: tuple[int, int]) -> None:
        """Where it is mapped, as addresses and sizes, for as long as this lives or until others are named."""
        core = _loaded_core()
        self._ranges = [] if core is None else [core.MappedRange(*span) for span in spans]

    def hold_array(self, array: npt.NDArray[Any]) -> None:
        """Where it is mapped: under an array."""
        self.hold(_span(array))

    def hold_maps(self) -> None:
        """Where it is mapped: everywhere in this process, by whoever did it."""
        there = [entry for entry in _file_maps() if entry.place == self._place]
        self.hold(*((entry.begin, entry.end - entry.begin) for entry in there))

    def check(self) -> None:
        """What has been read was in the file as it was opened.

        Raises
        ------
        FileReadError
            It may not have been.
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
    """A regular file that is read as a whole within, and that nobody may change meanwhile."""
    in_use = FileInUse(file, name)
    try:
        yield in_use
    finally:
        in_use.check()  # also where it could not be read: this is why


@contextmanager
def reading() -> Iterator[None]:
    """Mapped files may be read within; what was read counts once they have been checked."""
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
    """The C++ core; without it, which the reference does not need, a file that is cut off still ends the process."""
    try:
        from .. import _core
    except ImportError:
        return None
    return _core


def file_under(values: Any, name: str) -> FileInUse | None:
    """The file that lies under an array or a tensor of somebody else's; None where it lies in memory.

    Parameters
    ----------
    values : ndarray or torch.Tensor
    name : str
        What error messages call it.

    Raises
    ------
    FileReadError
        It was cut off before, while it was read.
    """
    if isinstance(values, np.ndarray):
        begin, size = (0, 0) if _is_owned(values) else _span(values)
    else:
        storage = values.untyped_storage()
        is_owned = values.device.type != "cpu" or storage.resizable()  # what PyTorch has allocated itself
        begin, size = (0, 0) if is_owned else (storage.data_ptr(), storage.nbytes())
    if not size:
        return None
    there = list(_file_maps(begin, begin + size))
    if any(entry.is_cut_off(begin + size) for entry in there):
        raise FileReadError(f"{name}: {there[0].place!r} became shorter than what is mapped of it")
    if any(entry.place == _ZEROS for entry in there):
        raise FileReadError(f"{name}: the file that is mapped here became shorter; expected one that is mapped anew")
    return FileInUse.under((begin, size), there[0], name) if there else None


class _FileMap(NamedTuple):
    """A part of this process's memory in which a file is mapped."""

    begin: int
    end: int
    is_written: bool
    """Written through the map: by its owner, who may. What is written to a private copy is in no file."""
    offset: int
    """Of the first byte in the file."""
    place: str

    def is_cut_off(self, end: int) -> bool:
        """Whether the file ends before an address, so that what lies behind reads as zeros, or not at all."""
        try:
            size = os.stat(self.place).st_size
        except OSError:  # it has no name any more
            return False
        return self.place != _ZEROS and self.offset + min(end, self.end) - self.begin > size


def _file_maps(begin: int = 0, end: int | None = None) -> Iterator[_FileMap]:
    """Where files are mapped between two addresses."""
    try:
        with open(_MAPS, "rb") as handle:
            if end is not None and _is_free(handle.fileno(), begin, end):
                return
            lines = handle.read().splitlines()  # in the order of their addresses
    except OSError:  # no Linux
        return
    for line in lines[bisect_right(lines, begin, key=_end_of_map) :]:
        bounds, permissions, offset, _, _, *place = line.split(maxsplit=5)
        first, last = (int(bound, 16) for bound in bounds.split(b"-"))
        if end is not None and first >= end:
            return
        if place and place[0].startswith(b"/"):
            is_written = b"w" in permissions and b"s" in permissions
            yield _FileMap(first, last, is_written, int(offset, 16), os.fsdecode(place[0].replace(b"\\012", b"\n")))


def _is_free(maps: int, begin: int, end: int) -> bool:
    """Whether for certain no file is mapped between two addresses; Linux from 6.11 on tells without the whole list."""
    query = bytearray(_QUERY.pack(_QUERY.size, _NEXT_FILE, begin, 0))
    try:
        fcntl.ioctl(maps, _QUERY_MAPS, query)
    except OSError as error:
        return error.errno == errno.ENOENT  # none from there on; or an older Linux
    first: int = _QUERY.unpack(query)[-1]
    return first >= end


def _end_of_map(line: bytes) -> int:
    return int(line[line.index(b"-") + 1 : line.index(b" ")], 16)


def in_memory(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array in memory of its own or NumPy's: a copy where it lies in what may be a file."""
    return values if _is_owned(values) else np.array(values)


def loaded(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """An array, copied where it lies in a file, which nobody changed meanwhile."""
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
    """Address of the first byte of an array, whatever its strides, and how many there are up to its last."""
    reach = [(n - 1) * step for n, step in zip(array.shape, array.strides, strict=True)] if array.size else []
    begin = int(array.__array_interface__["data"][0]) + sum(step for step in reach if step < 0)
    return begin, (sum(map(abs, reach)) + array.itemsize) if array.size else 0
