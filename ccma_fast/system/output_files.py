"""Output files: written atomically, under locks, and never over anything that is not the package's own."""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "check_can_replace",
    "check_can_write",
    "check_can_write_into",
    "check_no_input",
    "locked",
    "locked_file",
    "remove_leftovers",
    "sync_directory",
    "write_whole",
]

_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{16}\.ccma-part")


def check_can_write(path: str | os.PathLike[str]) -> None:
    """Raises OSError, before anything is computed, where :func:`write_whole` could not write `path`."""
    file = _place(path)
    if not file.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no directory {str(file.parent)!r}")
    _mode_there(file, path)
    _check_directory(file.parent)


def check_can_replace(path: str | os.PathLike[str], suffixes: tuple[str, ...], is_own: Callable[[Path], bool]) -> None:
    """As :func:`check_can_write`; and raises FileExistsError where `path` is there and of another kind."""
    check_can_write(path)
    file = Path(path)
    if file.exists() and file.suffix.lower() not in suffixes:
        raise FileExistsError(f"{str(file)!r} is there and no {suffixes[0]} file; expected one, or a new file")
    if file.exists() and file.stat().st_size and not is_own(file):
        raise FileExistsError(f"{str(file)!r} is there and holds something else; expected a new file")


def check_can_write_into(directory: str | os.PathLike[str], names: Iterable[str] = ()) -> None:
    """Raises OSError where files cannot be written into `directory`, which may still have to be made."""
    nearest = Path(os.path.realpath(directory))
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"cannot write into {str(directory)!r}: {str(nearest)!r} is not a directory")
    _check_directory(nearest)
    for name in names:
        file = Path(directory) / name
        _mode_there(_place(file), file)


def check_no_input(path: str | os.PathLike[str], given: Iterable[tuple[str, Path]], *, what: str) -> None:
    """Raises ValueError where `path` is an input, or what a link in an input that is a folder leads to.

    Parameters
    ----------
    path : path
    given : iterable of (str, Path)
        What each input is called, and where it is.
    what : str
        What the path is called.
    """
    out = Path(path)
    if not out.exists():
        return
    for name, source in given:
        if source.is_dir():
            # The folder's own files are left to the caller, who knows which are read; a link may lead anywhere.
            links = (Path(at) / file for at, _, files in os.walk(source) for file in files)
            if any(link.is_symlink() and link.exists() and os.path.samefile(link, out) for link in links):
                raise ValueError(f"{what} {str(path)!r} is one of the files of {name}; expected another file")
        elif source.exists() and os.path.samefile(source, out):
            raise ValueError(f"{what} {str(path)!r} is also {name}; expected another file")


def write_whole(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically: beside `path`, and renamed to `path` once it is complete.

    Concurrent writers of one path each have a file of their own; the last to finish wins. Once this has returned, the
    file survives a loss of power.

    Parameters
    ----------
    path : path
        An existing file is replaced, and the new one has its permissions.
    write : callable
        Gets the open file. Whatever it raises, Ctrl-C included, leaves `path` as it was.

    Raises
    ------
    FileExistsError
        `path` is a symbolic link, or something else than a file.
    OSError
        The file cannot be written.
    """
    file = _place(path)
    mode = _mode_there(file, path)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.ccma-part")
    try:
        # Not tempfile's, whose files only their owner can read whatever the umask says.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(descriptor, "wb") as handle:
            if mode is not None:
                os.fchmod(descriptor, mode)
            write(handle)
            handle.flush()
            os.fsync(descriptor)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    sync_directory(file.parent)


def remove_leftovers(directory: Path, names: str) -> None:
    """Remove what killed processes left half-written in a directory, but not below it; its lock is held.

    Parameters
    ----------
    directory : Path
        Need not be there.
    names : str
        A regular expression for the whole names of the files that are written there; others stay.
    """
    for entry in directory.iterdir() if directory.is_dir() else ():
        found = _LEFTOVER.fullmatch(entry.name)
        if found and re.fullmatch(names, found[1]) and not entry.is_symlink() and entry.is_file():
            entry.unlink()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the exclusive lock of a directory, which is made where it is missing.

    The lock ends with its process, however that ends.

    Raises
    ------
    BlockingIOError
        Another process has it.
    FileExistsError
        ``.lock`` in it is a symbolic link.
    """
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with _lock(directory / ".lock", wait=False):
            yield
    except _LockedError:
        raise BlockingIOError(
            f"another process is working in {str(directory)!r}; expected a folder of its own for every run"
        ) from None


@contextmanager
def locked_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the exclusive lock of a file, among threads and processes that ask for it; waits for the others.

    The lock is an empty hidden file beside it, which stays. What killed processes left half-written of it is removed.

    Raises
    ------
    FileExistsError
        Something else than a file stands in the place of the lock.
    """
    file = _place(path)
    with _lock(file.with_name(f".{file.name}.ccma-lock"), wait=True):
        remove_leftovers(file.parent, re.escape(file.name))
        yield


class _LockedError(Exception):
    """Another holder has the lock."""


@contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a file as a lock. It is never written to nor truncated: it may be another program's."""
    import fcntl

    while True:
        descriptor = _opened_lock(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise _LockedError from None
            if not _is_at(descriptor, path):  # removed meanwhile: others lock another file
                continue
            yield
            return
        finally:
            os.close(descriptor)


def _opened_lock(path: Path) -> int:
    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait for a writer
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | flags, 0o666)
        except PermissionError:  # of another user; only network file systems lock no file that is open to read
            descriptor = os.open(path, os.O_RDONLY | flags, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _link_error(path, path) from None
        if error.errno not in (errno.EISDIR, errno.ENXIO):
            raise
        raise _no_lock(path) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _no_lock(path)
    return descriptor


def _no_lock(path: Path) -> FileExistsError:
    return FileExistsError(f"{str(path)!r} must be a file, for it is what is locked, got something else there")


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _place(path: str | os.PathLike[str]) -> Path:
    """Where a file is: folders on the way may be links, the file itself may not."""
    folder, name = os.path.split(os.fspath(path))
    if name in ("", os.curdir, os.pardir):
        raise IsADirectoryError(f"cannot write {os.fspath(path)!r}: it names a directory")
    # Not abspath, which takes `link/..` for the folder of the link; the system means that of what it leads to.
    return Path(os.path.realpath(folder or os.curdir), name)


def _mode_there(file: Path, path: str | os.PathLike[str]) -> int | None:
    """The permissions of a file that can be replaced; None where there is none."""
    try:
        there = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(there.st_mode):
        raise _link_error(file, path)
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a directory")
    if not stat.S_ISREG(there.st_mode):
        raise FileExistsError(f"cannot write {str(path)!r}: it is there and no regular file")
    return stat.S_IMODE(there.st_mode) & 0o777


def _link_error(file: Path, path: str | os.PathLike[str]) -> FileExistsError:
    return FileExistsError(
        f"cannot write {str(path)!r}: it is a symbolic link to {os.path.realpath(file)!r}; expected the name of the "
        "file itself, or another file"
    )


def sync_directory(directory: Path) -> None:
    """A rename in a directory survives a loss of power, where the file system can promise that."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it can be written into, but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _check_directory(directory: Path) -> None:
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"no permission to write into {str(directory)!r}")
