"""The version of the package, and what a file of a newer one is refused with."""

from __future__ import annotations

from .errors import FileReadError

__all__ = ["__version__", "check_format", "newer_error"]

__version__ = "0.1.0"


def newer_error(file: str, what: str, *, version: object = None, name: str = "") -> FileReadError:
    """The error for a file that holds what only a later version of this package knows.

    Parameters
    ----------
    file : str
    what : str
        What this version does not know, such as "format 3".
    version : str, optional
        That of the package that wrote it, where the file says so.
    name : str, optional
        What error messages call the argument that it is.
    """
    by = f" ({version})" if isinstance(version, str) and version else ""
    argument = f"{name}: " if name else ""
    return FileReadError(
        f"{argument}cannot read {file!r}: written by a newer version of ccma_fast{by}, got {what}, which this "
        f"version ({__version__}) does not know"
    )


def check_format(file: str, found: object, newest: int, version: object = None) -> int:
    """The number of a file's format, which is none of a newer version.

    Parameters
    ----------
    file : str
    found : object
        What the file has as its format.
    newest : int
        The newest format that this version knows; the first is 1.
    version : str, optional
        That of the package that wrote it, where the file says so.

    Raises
    ------
    FileReadError
    """
    if isinstance(found, bool) or not isinstance(found, int) or found < 1:
        raise FileReadError(f"cannot read {file!r}: its format must be a number from 1 to {newest}, got {found!r:.80}")
    if found > newest:
        raise newer_error(file, f"format {found}", version=version)
    return found
