"""Parquet files, opened for streaming reads."""

from __future__ import annotations

from typing import Any

from ..errors import FileReadError
from ..system.extras import optional
from ..system.file_integrity import stamp_of

__all__ = ["opened"]

# Compressed pages are read in pieces of this size instead of whole row groups.
_BUFFER_BYTES = 1 << 20


def opened(file: str, name: str) -> Any:
    """A ``pyarrow.parquet.ParquetFile``."""
    parquet = optional("pyarrow.parquet", "a parquet file")
    stamp_of(file, name)
    try:
        return parquet.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, ValueError) as error:
        raise FileReadError(f"{name}: cannot read {file!r} as parquet: {error}") from error
