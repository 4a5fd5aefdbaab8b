"""The file mappings of this process's memory, whichever library made them, as Linux lists them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["DELETED", "ZEROS", "FileMap", "file_maps"]

_MAPS = "/proc/self/maps"

ZEROS = "/dev/zero"
"""The file that the C++ core maps in place of a truncated one."""

DELETED = " (deleted)"
"""Suffix of the name of a deleted file."""

# linux/fs.h: asks for the file that is mapped at an address or next, and for its first address.
_QUERY_MAPS, _NEXT_FILE = 0xC0686611, 0x30
_QUERY = struct.Struct("=4Q72x")


class FileMap(NamedTuple):
    """A range of this process's memory in which a file is mapped."""

    begin: int
    end: int
    is_written: bool
    """Shared and writable: its owner may write through it. What is written to a private map is in no file."""
    offset: int
    """Offset of the first byte in the file."""
    place: str

    def is_cut_off(self, end: int) -> bool:
        """Whether the file ends before an address: what lies behind reads as zeros, or not at all."""
        try:
            size = os.stat(self.place).st_size
        except OSError:  # it has no name any more
            return False
        return self.place != ZEROS and self.offset + min(end, self.end) - self.begin > size


def file_maps(begin: int = 0, end: int | None = None) -> Iterator[FileMap]:
    """The file-backed ranges of this process's memory between two addresses."""
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
            yield FileMap(first, last, is_written, int(offset, 16), os.fsdecode(place[0].replace(b"\\012", b"\n")))


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
