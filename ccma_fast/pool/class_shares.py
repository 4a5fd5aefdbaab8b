"""The wanted shares of classes among labels, as callers and files give them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import FileReadError
from ..system.bounded_read import read_whole
from ..system.text_files import decoded
from .array_like import real_vector
from .class_codes import class_codes
from .class_names import without_repetition
from .frames import is_series
from .readers.npy import load_npy

__all__ = ["read_class_shares"]


def read_class_shares(
    source: Any, n_classes: int, class_names: Sequence[str] | None = None, name: str = "class_distribution"
) -> npt.NDArray[np.float64]:
    """The share of each class, shape (C,), of a sum of 1.

    Parameters
    ----------
    source : array_like, shape (C,), mapping or path
        Non-negative numbers, of any positive sum: one for each class, or a mapping from classes, by their names or
        numbers, to theirs, 0 for those that it leaves out; a pandas Series is a mapping. Or the path of a ``.npy`` file
        with an array or a ``.json`` file with a list or such a mapping.
    n_classes : int
    class_names : sequence of str, optional
    name : str
        Their name in error messages.

    Raises
    ------
    FileReadError
        No such file, a damaged one, or one with other content.
    ValueError, TypeError
        Shares that are negative, not finite or all 0, not one for each class, or of a class that is not known or named
        twice.
    """
    if isinstance(source, (str, os.PathLike)):
        source = _content(Path(source), name)
    if isinstance(source, Mapping) or is_series(source):
        shares = _by_class([*source.items()], n_classes, class_names, name)
    else:
        shares = real_vector(name, source)
        if shares.shape != (n_classes,):
            raise ValueError(f"{name} must have a share for each of the {n_classes} classes, got {shares.size}")
    bad = np.flatnonzero(~np.isfinite(shares) | (shares < 0.0))
    if bad.size:
        raise ValueError(f"{name} must be finite and not negative, got {shares[bad[0]]:g} for class {bad[0]}")
    if not shares.any():
        raise ValueError(f"{name} must have a share above 0, got 0 for every class")
    shares = shares / shares.max()  # whose sum is finite
    return np.asarray(shares / shares.sum(), np.float64)


def _by_class(
    pairs: list[tuple[Any, Any]],
    n_classes: int,
    class_names: Sequence[str] | None,
    name: str,
) -> npt.NDArray[np.float64]:
    classes = [key for key, _ in pairs]
    codes = class_codes(classes, class_names=class_names, n_classes=n_classes, name=f"the classes of {name}")
    unique, counts = np.unique(codes, return_counts=True)
    if unique.size and unique[0] < 0:
        raise ValueError(f"{name} must be of classes, got {classes[int(codes.argmin())]!r}")
    if (counts > 1).any():
        raise ValueError(f"{name} must have one share for a class, got several for class {unique[counts > 1][0]}")
    shares = np.zeros(n_classes)
    shares[codes] = real_vector(name, [value for _, value in pairs])
    return shares


def _content(file: Path, name: str) -> Any:
    """What a file holds: an array, a list or a mapping."""
    suffix = file.suffix.lower()
    if suffix == ".npy":
        return load_npy(file, name)
    if suffix != ".json":
        raise FileReadError(f"{name}: expected a .npy or .json file, got {str(file)!r}")
    try:
        content = json.loads(decoded(read_whole(file)), object_pairs_hook=without_repetition)
    except FileNotFoundError:
        raise FileReadError(f"{name}: no file {str(file)!r}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise FileReadError(f"{name}: cannot read {str(file)!r} as JSON: {error}") from error
    if not isinstance(content, (list, dict)):
        raise FileReadError(f"{name}: {str(file)!r} must hold a list of shares or a mapping from classes to theirs")
    return content
