"""Which files and folders the arguments of a learner lie in, so that no saved loop replaces one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..pool.rows import Rows

__all__ = ["input_files"]


def input_files(name: str, given: Any) -> Iterator[tuple[str, Path]]:
    """The files and folders that an argument names, or in which its rows lie, each with the argument's name."""
    if isinstance(given, (list, tuple)) and any(isinstance(part, os.PathLike) for part in given):
        for part in given:
            yield from input_files(name, part)
    elif isinstance(given, (str, os.PathLike)):
        yield name, Path(given)
        yield name, Path(str(given).partition("::")[0])
    elif isinstance(given, Rows):
        files = [getattr(given, "file", None), *(shard.file for shard in given.shard_files)]
        yield from ((name, Path(file)) for file in files if file is not None)
    elif isinstance(given, np.memmap) and given.filename is not None:
        yield name, Path(given.filename)
