"""Versions of installed packages, and which modules belong to one and which are the user's own."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import sys
import sysconfig
from pathlib import Path

from .record import UNKNOWN

__all__ = ["installed_version"]

_PACKAGE = __name__.partition(".")[0]
# Their versions are those of the whole run.
_OF_EVERY_RUN = ("numpy", "torch", _PACKAGE)


def installed_version(package: str) -> str | None:
    """The version of an installed package; None of a module of the user's own.

    It is empty where the record of the run has it anyway: of Python with its standard library, NumPy, PyTorch, and this
    package.
    """
    if package in _OF_EVERY_RUN or package in sys.builtin_module_names:
        return ""
    file = _file_of(package)
    if file is None:
        return None
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return _version(package)
    in_library = any(path.is_relative_to(sysconfig.get_path(place)) for place in ("stdlib", "platstdlib"))
    return "" if in_library or file in ("built-in", "frozen") else None


def _file_of(package: str) -> str | None:
    """Where a package or module lies; None where that is nowhere, as of what is typed in."""
    module = sys.modules.get(package)
    if (file := getattr(module, "__file__", None)) is not None:
        return str(file)
    spec = getattr(module, "__spec__", None) if module else importlib.util.find_spec(package) if package else None
    return None if spec is None else spec.origin or next(iter(spec.submodule_search_locations or ()), None)


@functools.cache
def _version(package: str) -> str:
    """The version of an installed package, and what tells builds of one version apart."""
    from importlib.metadata import distribution, distributions, packages_distributions  # slow to import

    names = sorted(set(packages_distributions().get(package, ())))
    if not names:  # Python 3.10 asks no files
        names = [
            one.metadata["Name"]
            for one in distributions()
            if any(file.parts[0].partition(".")[0] == package for file in one.files or ())
        ]
    if not names:
        return f"{UNKNOWN}a package that is installed without its version"
    found = [distribution(name) for name in names]
    files = [
        f"{file} {file.hash.value}"
        for one in found
        for file in one.files or ()
        if file.hash is not None and file.suffix in (".py", ".so")
    ]
    digest = hashlib.sha256("\n".join(sorted(files)).encode()).hexdigest()
    return f"{', '.join(one.version for one in found)} ({digest[:12]})"
