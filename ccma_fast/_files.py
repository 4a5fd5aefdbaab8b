"""Output files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["check_can_replace", "check_can_write", "check_can_write_into", "locked", "write_whole"]


def check_can_write(path: str | os.PathLike[str]) -> None:
    """Raises OSError, before anything is computed, where :func:`write_whole` could not write `path`."""
    file = Path(os.path.realpath(path))
    if file.is_dir():
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a directory")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no directory {str(file.parent)!r}")
    _check_directory(file.parent)


def check_can_replace(path: str | os.PathLike[str], suffixes: tuple[str, ...]) -> None:
    """As :func:`check_can_write`; and raises FileExistsError where `path` is there and by its name of another kind."""
    check_can_write(path)
    file = Path(path)
    if file.exists() and file.suffix.lower() not in suffixes:
        raise FileExistsError(f"{str(file)!r} is there and no {suffixes[0]} file; expected one, or a new file")


def check_can_write_into(directory: str | os.PathLike[str]) -> None:
    """Raises OSError where files cannot be written into `directory`, which may still have to be made."""
    nearest = Path(os.path.realpath(directory))
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"cannot write into {str(directory)!r}: {str(nearest)!r} is not a directory")
    _check_directory(nearest)


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file beside `path` and rename it to `path`, which nobody can then see half-written.

    Parameters
    ----------
    path : path
        An existing file is replaced; a symbolic link stays one.
    write : callable
        Gets the open file. Whatever it raises, Ctrl-C included, leaves `path` as it was.
    """
    file = Path(os.path.realpath(path))
    # Not tempfile's, whose files only their owner can read whatever the umask says.
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as handle:
            write(handle)
        os.replace(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else works in a directory meanwhile, which is made where it is missing.

    The lock dies with its process, however that ends.

    Raises
    ------
    BlockingIOError
        Another process has it.
    """
    import fcntl

    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "ab") as lock:  # never cut: the file may be somebody's
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process is working in {str(directory)!r}; expected a folder of its own for every run"
            ) from None
        yield


def _check_directory(directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write into {str(directory)!r}")
