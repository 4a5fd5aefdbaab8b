"""``.npy``: one array, memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FileReadError
from ...system.file_integrity import FileInUse, in_memory, reading
from ..arrays import rows_of_array
from ..rows import Rows

__all__ = ["load_npy", "open_npy"]


def open_npy(file: str, key: str | None, name: str) -> Rows:
    """The matrix in a ``.npy`` file, mapped.

    Parameters
    ----------
    file : str
    key : str or None
        None: such a file holds one array, which has no name.
    name : str
        Its name in error messages.

    Raises
    ------
    FileReadError
        No such file, a damaged one, or a key.
    ValueError, TypeError
        The array is no matrix of real numbers.
    """
    if key is not None:
        raise FileReadError(f"{name}: {file!r} holds one matrix, and none called {key!r}")
    array, in_use = _mapped(file, name)
    return rows_of_array(array, name, file, in_use)


def load_npy(path: str | os.PathLike[str], name: str) -> npt.NDArray[Any]:
    """The array of one ``.npy`` file, in memory."""
    array, in_use = _mapped(path, name)
    with reading():
        values = in_memory(array)
        in_use.check()
    return values


def _mapped(path: str | os.PathLike[str], name: str) -> tuple[npt.NDArray[Any], FileInUse]:
    """The array of one ``.npy`` file, mapped."""
    file = Path(path)
    in_use = FileInUse(file, name)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser meets, from SyntaxError to BadZipFile
        is_cut_off = "mmap length" in str(error)  # NumPy tells by a ValueError of mmap
        damage = "it is shorter than its header says, as where a copy was cut off" if is_cut_off else error
        raise FileReadError(f"{name}: cannot read {str(file)!r} as .npy: {damage}") from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise FileReadError(f"{name}: cannot read {str(file)!r} as .npy: it is an .npz archive")
    if isinstance(array, np.memmap) and array.size and (end := array.offset + array.nbytes) != file.stat().st_size:
        raise FileReadError(
            f"{name}: {str(file)!r} must hold one array and nothing else, got {file.stat().st_size} bytes of which "
            f"the array takes {end}"
        )
    array = np.asarray(array)
    in_use.hold_array(array)
    return array, in_use
