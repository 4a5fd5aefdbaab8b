"""Images wherever they lie, each with an id of its own: folders, tables of paths, WebDataset tars, data sets."""

from __future__ import annotations

import io
import itertools
import numbers
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._errors import FileReadError
from .decode import decoded, read_image, to_rgb
from .image_files import HEAD_BYTES, checked_suffixes, is_hidden, is_utf8, suffixes_of_images, why_no_image
from .readers.class_names import is_missing
from .readers.tables import read_columns
from .webdataset import Member, apart, members_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Images", "open_images"]

_TABLES = {".csv", ".parquet"}
_PATH, _LABEL = "image_path", "label"

# Also no label; 007 is a name.
_INTEGER = re.compile(r"(-1|0|[1-9]\d{0,17})?", re.ASCII)


class Images(ABC):
    """Images in a fixed order.

    Attributes
    ----------
    ids : list of str
        What each is called, all different.
    labels : list or None
        The label of each, all numbers or all text, None where an image has none; None where the source knows of no
        labels.
    left_out : dict of str to int
        What else lies where the images lie, by kind, such as ".txt" or "hidden".
    """

    def __init__(
        self, ids: list[str], labels: Iterable[Any] | None, source: str, left_out: dict[str, int] | None = None
    ) -> None:
        self.left_out = {kind: n for kind, n in sorted((left_out or {}).items()) if n}
        seen: dict[str, int] = {}
        for row, image_id in enumerate(ids):
            if image_id in seen:
                raise FileReadError(
                    f"images: {source} must name each image once, got {image_id!r} at rows {seen[image_id]} and {row}"
                )
            if not isinstance(image_id, str) or not is_utf8(image_id):
                raise FileReadError(f"images: {source} must have names in UTF-8, got {image_id!r} at row {row}")
            seen[image_id] = row
        if not ids:
            beside = ", ".join(f"{n} {kind}" for kind, n in self.left_out.items())
            raise FileReadError(f"images: no image in {source}{beside and f', but {beside}'}")
        self.ids, self.labels = ids, None if labels is None else _checked_labels(labels, len(ids), source)

    def load(self, i: int) -> Image.Image:
        """The i-th image, decoded, upright, in RGB.

        Raises
        ------
        ccma_fast.decode.UnreadableImageError
        """
        return decoded(lambda: self._decode(i))

    def other_id(self, image_id: str) -> str | None:
        """What an image is called where its folder is given alone, or among several; None where it has one name."""
        return None

    @abstractmethod
    def _decode(self, i: int) -> Image.Image: ...


class _Listed(Images):
    """Image files that a table names, by their paths below its folder."""

    def __init__(self, root: Path, ids: list[str], labels: list[Any] | None, source: str) -> None:
        super().__init__(ids, labels, source)
        self._root = root

    def _decode(self, i: int) -> Image.Image:
        return read_image(self._root / self.ids[i])


class _Folders(Images):
    """The image files below folders: by their paths below the only one, or behind the name of each of several."""

    def __init__(self, found: Sequence[tuple[Path, list[str]]], left_out: Counter[str], labels: bool) -> None:
        self._several = len(found) > 1
        self._roots = [root for root, paths in found for _ in paths]
        ids = [f"{root.name}/{path}" if self._several else path for root, paths in found for path in paths]
        folders = [path.partition("/")[0] if "/" in path else None for _, paths in found for path in paths]
        source = ", ".join(repr(str(root)) for root, _ in found)
        super().__init__(ids, folders if labels else None, source, left_out)
        if labels and not any(folders):
            raise FileReadError(f"images: labels_from_folders needs images in folders below {source}, got none")

    def other_id(self, image_id: str) -> str:
        return image_id.partition("/")[2] if self._several else f"{self._roots[0].name}/{image_id}"

    def _decode(self, i: int) -> Image.Image:
        root = self._roots[i].parent if self._several else self._roots[i]
        return read_image(root / self.ids[i])


class _Tars(Images):
    """The images in uncompressed tar files of the WebDataset layout: ``key.jpg``, and its label in ``key.cls``.

    A key is the whole name without the suffix, so that ``22.05.jpg`` and ``22.06.jpg`` are two; WebDataset would end it
    at the first dot. Where that makes a difference to which image a label belongs to, the file is refused.
    """

    def __init__(self, files: Sequence[Path], suffixes: tuple[str, ...] | None, left_out: Counter[str]) -> None:
        self._members: list[tuple[Path, Member]] = []
        labels: list[int | None] = []
        for file in files:
            members, classes = members_of(file, suffixes, left_out)
            members = apart(file, members, classes, suffixes is not None, left_out)
            self._members += [(file, member) for member in members]
            labels += [classes.get(member.key) for member in members]
        ids = [f"{file.name}/{member.name}" for file, member in self._members]
        known = any(label is not None for label in labels)
        source = ", ".join(repr(str(file)) for file in files[:3])
        super().__init__(ids, labels if known else None, source, left_out)

    def _decode(self, i: int) -> Image.Image:
        file, member = self._members[i]
        with open(file, "rb") as archive:
            archive.seek(member.offset)
            content = io.BytesIO(archive.read(member.size))
        return read_image(content)


class _Dataset(Images):
    """A data set of torchvision's kind: its items are images, or tuples that begin with one."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        samples, targets = getattr(dataset, "samples", None), getattr(dataset, "targets", None)
        root, name = getattr(dataset, "root", None), type(dataset).__name__
        if root is not None and samples and all(isinstance(sample, (tuple, list)) for sample in samples):
            ids = [os.path.relpath(sample[0], root) for sample in samples]  # ImageFolder and what is made like it
            if len(ids) != len(dataset):
                raise FileReadError(f"images: {name} has {len(dataset)} items but {len(ids)} samples")
        else:
            ids = [str(i) for i in range(len(dataset))]
        transform = getattr(dataset, "target_transform", None)
        labels = None if targets is None else getattr(targets, "tolist", lambda: list(targets))()
        if labels is not None and transform is not None:
            labels = [transform(label) for label in labels]
        super().__init__(ids, labels, name)

    def _decode(self, i: int) -> Image.Image:
        item = self._dataset[i]
        return to_rgb(item[0] if isinstance(item, (tuple, list)) and item else item)


def open_images(source: Any, *, suffixes: Sequence[str] | None = None, labels_from_folders: bool = False) -> Images:
    """Images in whatever the caller has them.

    In folders and ``.tar`` files an image is what has one of Pillow's suffixes for pictures, or no suffix and the first
    bytes of a picture. What is hidden (a name that begins with a dot, or lies below one) or a system's
    (``__MACOSX``) is none. What is left out is counted.

    Parameters
    ----------
    source : path, sequence of paths, or data set
        A folder, whose image files are taken with those of all folders below it, in the order of their paths, or
        whose ``.tar`` files are, where it holds no image; several folders, where each id begins with the name of its
        folder; a ``.tar`` file or several; a CSV or parquet file with the paths in a column ``image_path`` (or
        ``path``, ``filepath``, ``filename``, ``file``; a CSV file of one column needs no header), relative to the
        file's folder, and perhaps their labels in a column ``label``; or an object with a length and items that are PIL
        images, or tuples that begin with one, as the data sets of torchvision give them without a transform.
    suffixes : sequence of str, optional
        What the names of images end with, such as "jpg" or "seg.png", instead of Pillow's suffixes.
    labels_from_folders : bool, default False
        The label of an image is the name of the folder below the root in which it lies, however deep.

    Raises
    ------
    FileReadError
        No image, a damaged file, an image that is named twice, or labels of which it is not clear whose they are; the
        text names the file and the rows.
    ValueError
        Labels that are no classes, or an option that the source has no use for.
    TypeError
        None of these.
    """
    wanted = None if suffixes is None else checked_suffixes(suffixes)
    paths = _paths_of(source)
    if paths and all(path.is_dir() for path in paths):
        return _of_folders(paths, wanted, labels_from_folders)
    if labels_from_folders:
        raise ValueError("labels_from_folders is for folders of images, got another source")
    if paths and all(path.suffix.lower() == ".tar" for path in paths):
        return _Tars(paths, wanted, Counter())
    if wanted is not None:
        raise ValueError("image_suffixes is for folders and .tar files, got another source")
    if len(paths) > 1:
        raise FileReadError(
            f"images: several files must all be .tar, or all be folders, got {[str(path) for path in paths]}"
        )
    if paths:
        return _of_table(paths[0])
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, (list, tuple, dict)):
        return _Dataset(source)
    raise TypeError(f"images must be a path, paths of folders or .tar files or a data set, got {type(source).__name__}")


def _paths_of(source: Any) -> list[Path]:
    """The paths that a source is, none where it is something else."""
    parts = source if isinstance(source, (list, tuple)) else [source]
    return [Path(part) for part in parts] if all(isinstance(part, (str, os.PathLike)) for part in parts) else []


def _of_table(path: Path) -> Images:
    if path.suffix.lower() not in _TABLES:
        raise FileReadError(f"images: expected a folder, or a .csv, .parquet or .tar file, got {str(path)!r}")
    columns = read_columns(str(path), "images", (_LABEL,), only=_PATH).wanted
    labels = columns.get(_LABEL)
    if labels is not None and path.suffix.lower() == ".csv":
        labels = _typed(labels)
    return _Listed(path.parent, columns[_PATH], labels, repr(str(path)))


def _typed(cells: list[str]) -> list[int | None] | list[str]:
    """Labels of a CSV file as numbers where all are: its cells are text, whether they were names or numbers."""
    if not all(_INTEGER.fullmatch(cell) for cell in cells):
        return cells
    return [int(cell) if cell else None for cell in cells]


def _of_folders(paths: Sequence[Path], suffixes: tuple[str, ...] | None, labels_from_folders: bool) -> Images:
    roots = [Path(os.path.abspath(path)) for path in paths]  # for "." has no name
    _check_folders(roots)
    left_out: Counter[str] = Counter()
    found = [(root, _files_below(root, suffixes, left_out)) for root in roots]
    tars = [tar for root in roots for tar in sorted(root.glob("*.tar"))]
    if not tars or any(files for _, files in found):
        return _Folders(found, left_out, labels_from_folders)
    if labels_from_folders:
        raise ValueError("labels_from_folders is for folders of images, got one of .tar files")
    left_out[".tar"] -= len(tars)
    return _Tars(tars, suffixes, left_out)


def _check_folders(roots: Sequence[Path]) -> None:
    """Several folders have different names, and none lies in another."""
    for one, other in itertools.permutations(roots, 2):
        if one.name == other.name or not one.name:
            raise FileReadError(
                f"images: folders must have different names, which their images' ids begin with, got {str(one)!r} and "
                f"{str(other)!r}"
            )
        if one.resolve().is_relative_to(other.resolve()):
            raise FileReadError(f"images: folders must lie apart, got {str(one)!r} in {str(other)!r}")


def _files_below(root: Path, suffixes: tuple[str, ...] | None, left_out: Counter[str]) -> list[str]:
    """The paths of the images below a folder, sorted; the others are counted.

    Folders that are links are entered, each folder once: last, so that it goes by its own path where it has one.
    """
    found: list[str] = []
    known = suffixes_of_images()
    entered: set[str] = set()
    waiting = [str(root)]

    def refused(error: OSError) -> None:
        left_out["folders that cannot be read"] += 1

    while waiting:
        start = waiting.pop(0)
        for at, folders, files in os.walk(start, onerror=refused):
            if (real := os.path.realpath(at)) in entered:
                folders.clear()
                continue
            entered.add(real)
            left_out["hidden"] += sum(map(is_hidden, folders))
            folders[:] = sorted(name for name in folders if not is_hidden(name))
            waiting += [path for name in folders if os.path.islink(path := os.path.join(at, name))]
            below = os.path.relpath(at, root)
            for name in files:
                file = os.path.join(at, name)
                if not os.path.isfile(file):  # a link that leads nowhere, a pipe
                    left_out["no regular files"] += 1
                    continue
                why = why_no_image(name, suffixes, known, partial(_head_of, file))
                if why is None:
                    found.append(name if below == "." else f"{below}/{name}")
                else:
                    left_out[why] += 1
    return sorted(found)


def _head_of(file: str) -> bytes:
    try:
        with open(file, "rb") as handle:
            return handle.read(HEAD_BYTES)
    except OSError:
        return b""


def _checked_labels(labels: Iterable[Any], n_images: int, source: str) -> list[Any]:
    """Labels as integers or text, None where there is none."""
    checked = [_label(label, row, source) for row, label in enumerate(labels)]
    if len(checked) != n_images:
        raise ValueError(f"labels of {source} must be one for each image, got {len(checked)} for {n_images} images")
    kinds = {type(label).__name__ for label in checked if label is not None}
    if len(kinds) > 1:
        raise ValueError(f"labels of {source} must be all numbers or all text, got both")
    return checked


def _label(label: Any, row: int, source: str) -> int | str | None:
    if getattr(label, "shape", None) == ():
        label = label.item()
    if is_missing(label) or (isinstance(label, str) and not label):
        return None
    if isinstance(label, str) and is_utf8(label):
        return str.__str__(label)  # of an enumeration str() gives another text
    is_whole = isinstance(label, numbers.Integral) or (isinstance(label, float) and label.is_integer())
    if isinstance(label, bool) or not is_whole or not -1 <= label < 2**63:
        raise ValueError(
            f"labels of {source} must be one class for each image, a number or a name, or -1 for none, got "
            f"{label!r:.80} at row {row}"
        )
    return int(label)
