"""Images wherever they lie, each with an id of its own: folders, tables of paths, WebDataset tars, data sets."""

from __future__ import annotations

import csv
import io
import itertools
import numbers
import os
import re
import sys
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import FileReadError
from .decode import decoded, read_image, to_rgb
from .image_files import checked_suffixes, files_below, is_hidden, is_utf8, size_of
from .readers.class_names import is_missing
from .readers.tables import read_columns
from .webdataset import Member, apart, members_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Images", "open_images"]

_TABLES = {".csv", ".parquet"}
_PATH, _LABEL = "image_path", "label"
_READ_BYTES = 1 << 20


class _Place(NamedTuple):
    """Some bytes of a file."""

    file: Path
    offset: int
    size: int


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

    def n_bytes(self, i: int) -> int | None:
        """The size of the i-th image's file, perhaps as it was when it was listed; None where there is none."""
        place = self._place(i)
        return None if place is None else place.size

    def fingerprint(self, i: int) -> tuple[int | None, int | None]:
        """Size and CRC-32 of the i-th image's file as it is now, which tell it from others; None where none is read."""
        place, checksum = self._place(i), 0
        if place is None:
            return None, None
        try:
            with open(place.file, "rb") as handle:
                handle.seek(place.offset)
                left = place.size
                while part := handle.read(min(left, _READ_BYTES)):
                    left, checksum = left - len(part), zlib.crc32(part, checksum)
        except OSError:
            return None, None
        return place.size - left, checksum

    def other_id(self, image_id: str) -> str | None:
        """What an image is called where its folder is given alone, or among several; None where it has one name."""
        return None

    @abstractmethod
    def _decode(self, i: int) -> Image.Image: ...

    def _place(self, i: int) -> _Place | None:
        """Where the i-th image lies, None where it is in no file."""
        return None


class _Listed(Images):
    """Image files that a table names, by their paths below its folder."""

    def __init__(self, root: Path, ids: list[str], labels: list[Any] | None, source: str) -> None:
        super().__init__(ids, labels, source)
        self._root = root

    def _place(self, i: int) -> _Place | None:
        return _whole(self._root / self.ids[i])

    def _decode(self, i: int) -> Image.Image:
        return read_image(self._root / self.ids[i])


class _Folders(Images):
    """The image files below folders: by their paths below the only one, or behind the name of each of several."""

    def __init__(self, found: Sequence[tuple[Path, dict[str, int]]], left_out: Counter[str], labels: bool) -> None:
        self._several = len(found) > 1
        self._roots = [root for root, files in found for _ in files]
        self._sizes = [size for _, files in found for size in files.values()]
        ids = [f"{root.name}/{path}" if self._several else path for root, files in found for path in files]
        source = ", ".join(repr(str(root)) for root, _ in found)
        super().__init__(ids, _folders_of(found) if labels else None, source, left_out)

    def n_bytes(self, i: int) -> int:
        return self._sizes[i]

    def other_id(self, image_id: str) -> str:
        return image_id.partition("/")[2] if self._several else f"{self._roots[0].name}/{image_id}"

    def _decode(self, i: int) -> Image.Image:
        return read_image(self._file(i))

    def _place(self, i: int) -> _Place | None:
        return _whole(self._file(i))

    def _file(self, i: int) -> Path:
        return (self._roots[i].parent if self._several else self._roots[i]) / self.ids[i]


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

    def _place(self, i: int) -> _Place:
        file, member = self._members[i]
        return _Place(file, member.offset, member.size)

    def _decode(self, i: int) -> Image.Image:
        file, member = self._members[i]
        with open(file, "rb") as archive:
            archive.seek(member.offset)
            content = io.BytesIO(archive.read(member.size))
        return read_image(content)


class _Dataset(Images):
    """A data set of torchvision's kind: its items are images, or tuples that begin with one.

    A ``torch.utils.data.Subset`` calls its images as the whole does.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset, rows, name = dataset, list(range(len(dataset))), type(dataset).__name__
        whole, is_plain = dataset, True
        subset = getattr(sys.modules.get("torch.utils.data"), "Subset", ())
        while isinstance(whole, subset):
            rows = [int(whole.indices[row]) for row in rows]
            is_plain, whole = is_plain and type(whole) is subset, whole.dataset
        samples: Any = getattr(whole, "samples", None)
        root = getattr(whole, "root", None)
        if root is not None and samples and all(isinstance(sample, (tuple, list)) for sample in samples):
            ids = [os.path.relpath(sample[0], root) for sample in samples]  # ImageFolder and what is made like it
            if len(ids) != len(whole):
                raise FileReadError(f"images: {name} has {len(whole)} items but {len(ids)} samples")
        else:
            ids = [str(i) for i in range(len(whole))]
        labels = _targets_of(whole, len(ids), name)
        # torchvision's own loader gives white for 16 bits, and what is hidden for what is transparent.
        reads_files = is_plain and _loads_by_torchvision(whole)
        self._files = [Path(samples[row][0]) for row in rows] if reads_files else None
        self._transform = getattr(whole, "transform", None)
        if rows and not reads_files:
            self._check_items()
        super().__init__([ids[row] for row in rows], None if labels is None else [labels[row] for row in rows], name)

    def _place(self, i: int) -> _Place | None:
        return None if self._files is None else _whole(self._files[i])

    def _check_items(self) -> None:
        """Where the first is a dictionary or a tensor, all are, and none can be read."""
        from PIL import Image

        try:
            item = _image_of(self._dataset[0])
        except Exception:  # which costs that image alone
            return
        if item is not None and not isinstance(item, Image.Image):
            raise TypeError(
                f"images: items of {type(self._dataset).__name__} must be images of PIL, or tuples that begin with "
                f"one, got {type(item).__name__}; expected a data set without a transform to something else"
            )

    def _decode(self, i: int) -> Image.Image:
        if self._files is not None:
            image = read_image(self._files[i])
            return image if self._transform is None else to_rgb(self._transform(image))
        return to_rgb(_image_of(self._dataset[i]))


def open_images(source: Any, *, suffixes: Sequence[str] | None = None, labels_from_folders: bool = False) -> Images:
    """Images in whatever the caller has them.

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
        return _Tars(paths, wanted, Counter())
    if wanted is not None:
        raise ValueError("image_suffixes is for folders and .tar files, got another source")
    if len(paths) > 1:
        for path in paths:
            _check_exists(path)
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


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise FileReadError(f"images: no file or folder {str(path)!r}")


def _of_table(path: Path) -> Images:
    if path.suffix.lower() not in _TABLES:
        _check_exists(path)
        raise FileReadError(f"images: expected a folder, or a .csv, .parquet or .tar file, got {str(path)!r}")
    columns = read_columns(str(path), "images", (_LABEL,), only=_PATH).wanted
    if path.suffix.lower() == ".csv" and path.is_file():
        with open(path, newline="", encoding="utf-8-sig") as handle:
            header = next(csv.reader(handle))
        if (
            len(header) == 1
            and header[0] != _PATH
            and (path.parent / header[0]).is_file()
            and columns[_PATH][:1] != header
        ):
            raise FileReadError(
                f"images: the first line of {str(path)!r} would be a header, but {header[0]!r} is a file; expected a "
                f"header such as {_PATH!r}"
            )
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
    found = [(root, files_below(root, suffixes, left_out)) for root in roots]
    tars = [file for root in roots for file in sorted(root.glob("*")) if _is_tar(file)]
    if not tars or any(files for _, files in found):
        return _Folders(found, left_out, labels_from_folders)
    if labels_from_folders:
        raise ValueError("labels_from_folders is for folders of images, got one of .tar files")
    left_out[".tar"] -= len(tars)
    return _Tars(tars, suffixes, left_out)


def _is_tar(file: Path) -> bool:
    return file.suffix.lower() == ".tar" and file.is_file() and is_utf8(file.name) and not is_hidden(file.name)


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


def _folders_of(found: Sequence[tuple[Path, dict[str, int]]]) -> list[str | None]:
    """The name of the folder in which each image lies, None for those in a root itself."""
    folders: list[str | None] = []
    for root, files in found:
        own = [path.partition("/")[0] if "/" in path else None for path in files]
        if own and not any(own):
            raise FileReadError(f"images: labels_from_folders needs images in folders below {str(root)!r}, got none")
        folders += own
    seen: dict[str, str] = {}
    for folder in filter(None, folders):
        if (other := seen.setdefault(unicodedata.normalize("NFC", folder), folder)) != folder:
            raise FileReadError(
                f"images: labels_from_folders needs folders whose names do not look the same, got {other!a} and "
                f"{folder!a}"
            )
    return folders


def _whole(file: Path) -> _Place | None:
    size = size_of(file)
    return None if size is None else _Place(file, 0, size)


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _loads_by_torchvision(dataset: Any) -> bool:
    """It is an ``ImageFolder``, or made like it, whose files are read by torchvision's own function."""
    folder: Any = sys.modules.get("torchvision.datasets.folder")
    if folder is None or getattr(type(dataset), "__getitem__", None) is not folder.DatasetFolder.__getitem__:
        return False
    return dataset.loader in (folder.default_loader, folder.pil_loader)


def _targets_of(dataset: Any, n_images: int, name: str) -> list[Any] | None:
    targets, transform = getattr(dataset, "targets", None), getattr(dataset, "target_transform", None)
    if targets is None:
        return None
    if isinstance(targets, (Mapping, str)):  # of which list() would take the keys, or the letters
        raise ValueError(f"labels of {name} must be in the order of its images, got a {type(targets).__name__}")
    labels: list[Any] = getattr(targets, "tolist", lambda: list(targets))()
    if len(labels) != n_images:
        raise ValueError(f"labels of {name} must be one for each image, got {len(labels)} for {n_images} images")
    return labels if transform is None else [transform(label) for label in labels]


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
