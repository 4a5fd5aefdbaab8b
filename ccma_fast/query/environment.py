"""What computed a result, beside its inputs: this package, the libraries under it, the machine and the threads."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import platform
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.core import thread_count

__all__ = ["environment", "package_digest"]

_PACKAGE = __name__.partition(".")[0]


def environment() -> dict[str, Any]:
    """Versions of the package and of what does its arithmetic, the kind of machine, and the number of threads."""
    return {
        "package": {"version": _version("ccma-fast"), "sha256": package_digest()},
        "versions": {
            "numpy": np.__version__,
            "torch": _version("torch"),
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "threads": thread_count(),
    }


@functools.cache
def _version(package: str) -> str:
    """The version of an installed package, which is read from its files once."""
    from importlib.metadata import version  # slow to import

    return version(package)


@functools.cache
def package_digest() -> str:
    """SHA-256 of the Python sources of this package."""
    kernels = importlib.util.find_spec(f"{_PACKAGE}.kernels")
    folders = [Path(__file__).parents[1], *map(Path, (kernels and kernels.submodule_search_locations) or ())]
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{folder.name}/{file.relative_to(folder).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()
