"""Where the file of a campaign lies, and what lies beside it: what SQLite does not look at."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from ...errors import FileReadError
from ...system.network_file_systems import network_file_system

__all__ = ["BESIDE", "check_alone", "check_place", "check_same_file", "identity_of"]

# What the names of the files that SQLite has beside one end in.
BESIDE = ("-wal", "-shm", "-journal")


def check_place(file: Path) -> None:
    """Raises OSError where several machines may use the file at once."""
    kind = network_file_system(os.path.realpath(file))
    if kind is not None:
        raise OSError(
            errno.ENOTSUP,
            f"a campaign must lie on a disk of the machine that uses it, for several machines would damage it, got "
            f"{str(file)!r} on {kind}",
        )


def check_alone(file: Path) -> None:
    """SQLite would take a log that lies beside a new file for its own, and write what it holds into it."""
    for end in () if os.path.lexists(file) else BESIDE:
        beside = file.with_name(file.name + end)
        if os.path.lexists(beside):
            raise FileExistsError(
                f"{str(beside)!r} is there, of another file that was called {file.name!r}, and may hold labels; "
                "expected both together, or neither"
            )


def identity_of(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino


def check_same_file(file: Path, identity: tuple[int, int]) -> None:
    """What is written into a file that was removed, or replaced by another one, is lost."""
    try:
        now = identity_of(file)
    except FileNotFoundError:
        now = None
    if now != identity:
        done = "removed" if now is None else "replaced by another one"
        raise FileReadError(f"the campaign {str(file)!r} was {done} while it was open; nothing was written")
