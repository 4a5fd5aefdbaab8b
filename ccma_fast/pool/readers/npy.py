"""Arrays in ``.npy`` files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import FileReadError
from ...system.in_use import FileInUse, in_memory, reading

__all__ = ["load_npy", "mapped_npy"]


def load_npy(path: str | os.PathLike[str], name: str) -> npt.NDArray[Any]:
    """The array of one ``.npy`` file, in memory."""
    array, in_use = mapped_npy(path, name)
    with reading():
        values = in_memory(array)
        in_use.check()
    return values


def mapped_npy(path: str | os.PathLike[str], name: str) -> tuple[npt.NDArray[Any], FileInUse]:
    """The array of one ``.npy`` file, mapped."""
    file = Path(path)
    if file.suffix.lower() != ".npy":
        raise FileReadError(
            f"{name}: expected a .npy, .h5, .hdf5, .parquet, .arrow or .safetensors file or a folder, got {str(file)!r}"
        )
    in_use = FileInUse(file, name)
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header raises whatever its parser meets, from SyntaxError to BadZipFile
        raise FileReadError(f"{name}: cannot read {str(file)!r} as .npy: {error}") from error
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
