"""The only chooser of a source of images: folders, tables of paths, WebDataset tars, data sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import FileReadError
from ..pool.tables import SUFFIXES, is_text, read_columns
from .dataset_source import DatasetImages
from .folder_source import FolderImages, ListedImages, check_folders
from .image_files import checked_suffixes, files_below, is_hidden, is_utf8, status_of
from .image_source import Images
from .labels import typed
from .tar_source import TarImages

__all__ = ["open_images"]

_TABLES = {*SUFFIXES, ".txt"}
_PATH, _LABEL = "image_path", "label"


def open_images(source: Any, *, suffixes: Sequence[str] | None = None, labels_from_folders: bool = False) -> Images:
    """Open images in any of several forms.

    In folders and ``.tar`` files an image is what has a suffix of a format that is read, or no suffix and the first
    bytes of one. What is hidden (a name that begins with a dot, or lies below one) or a system's
    (``__MACOSX``) is none. What is left out is counted.

    Parameters
    ----------
    source : path, sequence of paths, or data set
        A folder, whose image files are taken with those of all folders below it, in the order of their paths, or
        whose ``.tar`` files are, where it holds no image; several folders, where each id begins with the name of its
        folder; a ``.tar`` file or several; a CSV or parquet file with the paths in a column ``image_path`` (or
        ``path``, ``filepath``, ``filename``, ``file``; a CSV file of one column needs no header), relative to the
        file's folder, and perhaps their labels in a column ``label``; or an object with a length and items that are PIL
        images, or tuples that begin with one, as the data sets of torchvision give them without a transform. Images of
        such a one go by their paths where it has them as ``ImageFolder`` does, and else by their positions, which then
        must stay what they are; those of a ``Subset`` go by the names that they have in the whole.
    suffixes : sequence of str, optional
        What the names of images end with, such as "jpg" or "seg.png", instead of those of the formats.
    labels_from_folders : bool, default False
        The label of an image is the name of the folder below the root in which it lies, however deep; one in the root
        itself has none.

    Raises
    ------
    FileReadError
        No image, a damaged file, an image that is named twice, or labels of which it is not clear whose they are; the
        text names the file and the rows.
    ValueError
        Labels that are no classes, or an option that the source has no use for.
    TypeError
        None of these, or a data set of something else than images.
    """
    wanted = None if suffixes is None else checked_suffixes(suffixes)
    paths = _paths_of(source)
    if paths and all(path.is_dir() for path in paths):
        return _of_folders(paths, wanted, labels_from_folders)
    if labels_from_folders:
        raise ValueError("labels_from_folders is for folders of images, got another source")
    if paths and all(path.suffix.lower() == ".tar" for path in paths):
        return TarImages(paths, wanted, Counter())
    if wanted is not None:
        raise ValueError("image_suffixes is for folders and .tar files, got another source")
    if len(paths) > 1:
        for path in paths:
            _check_exists(path)
        raise FileReadError(
            f"images: several files must all be .tar, or all be folders, got {len(paths)}, first "
            f"{[str(path) for path in paths[:3]]}; a list of images goes in a .csv or .parquet file"
        )
    if paths:
        return _of_table(paths[0])
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, (list, tuple, dict)):
        return DatasetImages(source)
    raise TypeError(f"images must be a path, paths of folders or .tar files or a data set, got {type(source).__name__}")


def _paths_of(source: Any) -> list[Path]:
    """A source as a list of paths, empty where it is something else."""
    parts = source if isinstance(source, (list, tuple)) else [source]
    return [Path(part) for part in parts] if all(isinstance(part, (str, os.PathLike)) for part in parts) else []


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileReadError(f"images: no file or folder {str(path)!r}")


def _of_table(path: Path) -> Images:
    if path.suffix.lower() not in _TABLES:
        _check_exists(path)
        raise FileReadError(
            f"images: expected a folder, or a {', '.join(SUFFIXES)}, .txt or .tar file, got {str(path)!r}"
        )
    columns = read_columns(
        str(path), "images", (_LABEL,), only=_PATH, is_value=lambda cell: status_of(path.parent / cell) is not None
    ).wanted
    labels, paths = columns.get(_LABEL), columns[_PATH]
    if is_text(str(path)):
        labels = labels and typed([cell.strip() for cell in labels])
        # Of two files the one with the spaces counts.
        paths = [cell if cell == cell.strip() or status_of(path.parent / cell) else cell.strip() for cell in paths]
    return ListedImages(path.parent, paths, labels, repr(str(path)))


def _of_folders(paths: Sequence[Path], suffixes: tuple[str, ...] | None, labels_from_folders: bool) -> Images:
    roots = [Path(os.path.abspath(path)) for path in paths]  # for "." has no name
    check_folders(roots)
    left_out: Counter[str] = Counter()
    found = [(root, files_below(root, suffixes, left_out)) for root in roots]
    tars = [file for root in roots for file in sorted(root.glob("*")) if _is_tar(file)]
    if not tars or any(files for _, files in found):
        return FolderImages(found, left_out, labels_from_folders)
    if labels_from_folders:
        raise ValueError("labels_from_folders is for folders of images, got one of .tar files")
    left_out[".tar"] -= len(tars)
    return TarImages(tars, suffixes, left_out)


def _is_tar(file: Path) -> bool:
    return file.suffix.lower() == ".tar" and file.is_file() and is_utf8(file.name) and not is_hidden(file.name)
