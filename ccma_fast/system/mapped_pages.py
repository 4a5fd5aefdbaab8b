"""Pages of memory-mapped files: prefetched before they are needed, released when they have been read.

Otherwise the first touch of every page waits for the disk, and all that was ever read stays in the process's resident
memory, although the system could drop it.
"""

from __future__ import annotations

import mmap
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["SCATTERED_BYTES", "Pages"]

# A request for more than a device's readahead window is cut to that window, 128 KiB by default.
_READ_AHEAD = 128 << 10

# The first touch of a page maps what is cached around it, up to a huge page. Scattered rows are released after so many
# of those.
_FAULT_AROUND = 2 << 20
_MOST_PAGES = 16

SCATTERED_BYTES = _FAULT_AROUND * _MOST_PAGES
"""Most bytes of a file's pages that scattered rows keep resident."""


class Pages:
    """The pages under an array that is a view of a file mapped read-only; those of any other array are left alone.

    Releasing them loses nothing: the file holds the values. It would lose what was written to a private map.
    """

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        self._map: mmap.mmap | None = None
        base: Any = array
        is_read_only = False
        while isinstance(base, np.ndarray):
            is_read_only |= isinstance(base, np.memmap) and base.mode == "r"
            base = base.base
        if not (is_read_only and isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_WILLNEED")):
            return
        if array.flags.c_contiguous and array.size:
            self._map, self._row_bytes = base, array.nbytes // len(array)
            self._offset = _address(array) - _address(np.frombuffer(base, np.uint8))

    def __reduce__(self) -> tuple[type[Pages], tuple[npt.NDArray[Any]]]:
        return Pages, (self._array,)  # a map does not travel between processes

    @property
    def are_mapped(self) -> bool:
        return self._map is not None

    def take(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The rows at `indices`; the pages of a map are released after every few of them."""
        if self._map is None or indices.size == 0:
            return self._array[indices]
        pages = indices * self._row_bytes // _FAULT_AROUND
        piece = np.cumsum(pages[1:] != pages[:-1]) // _MOST_PAGES
        cuts = [0, *(np.flatnonzero(piece[1:] != piece[:-1]) + 2).tolist(), indices.size]
        taken = np.empty((indices.size, *self._array.shape[1:]), self._array.dtype)
        for start, stop in pairwise(cuts):
            part = indices[start:stop]
            for row in part.tolist():  # all are requested before the first is waited for
                self.expect(row, row + 1)
            taken[start:stop] = self._array[part]
            self.release(int(part.min()), int(part.max()) + 1)
        return taken

    def expect(self, start: int, stop: int) -> None:
        """Rows start to stop − 1 are read soon: the system may prefetch them."""
        if self._map is not None and start < stop:
            # From the page in which the first row begins.
            begin = self._offset + start * self._row_bytes
            end = self._offset + stop * self._row_bytes
            for piece in range(begin - begin % mmap.PAGESIZE, end, _READ_AHEAD):
                self._advise(mmap.MADV_WILLNEED, piece, min(_READ_AHEAD, end - piece))

    def release(self, start: int, stop: int) -> None:
        """Rows start to stop − 1 have been read: they leave resident memory, though not the page cache."""
        if self._map is not None and start < stop:
            # With what their first touch mapped around them: if that is still needed, it is in the cache.
            begin = max(0, self._offset + start * self._row_bytes - _FAULT_AROUND)
            end = self._offset + stop * self._row_bytes
            begin -= begin % mmap.PAGESIZE
            self._advise(mmap.MADV_DONTNEED, begin, min(end + _FAULT_AROUND, len(self._map)) - begin)

    def _advise(self, option: int, begin: int, size: int) -> None:
        assert self._map is not None, "checked by the caller"
        with suppress(OSError):  # only advice; of a truncated file some pages may not exist any more
            self._map.madvise(option, begin, size)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])
