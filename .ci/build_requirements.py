"""Prints what pyproject.toml says that the package is built with, one requirement a line."""

from __future__ import annotations

from pathlib import Path

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest needs this
    import tomli as tomllib

print(*tomllib.loads(Path("pyproject.toml").read_text("utf-8"))["build-system"]["requires"], sep="\n")
