"""Images wherever they lie, each with an id of its own: folders, tables of paths, WebDataset tars, data sets."""

from __future__ import annotations

import io
import itertools
import os
import sys
import unicodedata
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from ..errors import FileReadError
from ..pool.tables import read_columns
from .decode import UnreadableImageError, decoded, read_image, reason_of, to_rgb
from .image_files import FileStatus, checked_suffixes, files_below, is_gone, is_hidden, is_utf8, status_of
from .labels import checked_labels, targets_of, typed
from .webdataset import Member, apart, members_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ImageFile", "Images", "open_images"]

_TABLES = {".csv", ".parquet"}
_PATH, _LABEL = "image_path", "label"
_READ_BYTES = 1 << 20

# A larger file is not taken into memory beside its pixels, and so is read twice.
_MOST_BYTES = 256 << 20


class ImageFile(NamedTuple):
    """The file of an image as it was read: size in bytes, CRC-32 and time of its content; None where it is in none."""

    n_bytes: int | None = None
    checksum: int | None = None
    mtime_ns: int | None = None


class _Place(NamedTuple):
    """Some bytes of a file, all of them by default."""

    file: Path
    offset: int = 0
    size: int | None = None
    listed: FileStatus | None = None
    """What the file was when they lay there, None where that does not matter."""

    def is_moved(self, now: os.stat_result) -> bool:
        """Whether other bytes may lie there now."""
        return self.listed is not None and (now.st_size, now.st_mtime_ns) != self.listed[:2]


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
    roots : frozenset of str
        The folders in which their ids begin; none where these are no paths.
    """

    roots: frozenset[str] = frozenset()

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
        self.ids, self.labels = ids, None if labels is None else checked_labels(labels, len(ids), source)

    def read(self, i: int) -> tuple[Image.Image, ImageFile]:
        """The i-th image, decoded, upright, in RGB, and of which bytes it was decoded.

        Raises
        ------
        ccma_fast.images.decode.UnreadableImageError
            Also where the file was written to meanwhile.
        OSError, MemoryError
            It cannot be opened or read.
        """
        place = self._place(i)
        if place is None:
            return decoded(lambda: self._item(i)), ImageFile()
        if place.file.exists() and not place.file.is_file():  # a pipe would never end
            raise UnreadableImageError("a folder, a pipe or a device; expected a regular file")
        with open(place.file, "rb") as handle:
            before = os.fstat(handle.fileno())
            if place.is_moved(before):
                raise UnreadableImageError("its archive was written to since its images were listed", passing=True)
            size = before.st_size if place.size is None else place.size
            if place.size is None and size > _MOST_BYTES:
                found = ImageFile(*_checksum(handle, place), before.st_mtime_ns)
                handle.seek(0)
                image = decoded(lambda: self._seen(handle))
            else:
                handle.seek(place.offset)
                content = handle.read(size)
                found = ImageFile(len(content), zlib.crc32(content), before.st_mtime_ns)
                image = decoded(lambda: self._seen(io.BytesIO(content)))
            after = os.fstat(handle.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise UnreadableImageError("it was written to while it was read", passing=True)
        return image, found

    def load(self, i: int) -> Image.Image:
        """The i-th image alone, as :meth:`read` gives it."""
        return self.read(i)[0]

    def status(self, i: int) -> FileStatus | None:
        """Size and times of the i-th image's file now; None where there is none. In an archive the times are its."""
        place = self._place(i)
        found = None if place is None else status_of(place.file)
        return found if found is None or place is None or place.size is None else found._replace(n_bytes=place.size)

    def listed(self, i: int) -> FileStatus | None:
        """As :meth:`status`, perhaps as it was when the images were listed."""
        return self.status(i)

    def n_bytes(self, i: int) -> int | None:
        """The size of the i-th image's file as it was listed; None where there is none."""
        found = self.listed(i)
        return None if found is None else found.n_bytes

    def fingerprint(self, i: int) -> ImageFile:
        """The i-th image's file as it is now, which is not decoded; of nothing where none can be read."""
        place = self._place(i)
        try:
            if place is None or not place.file.is_file():
                return ImageFile()
            with open(place.file, "rb") as handle:
                if place.is_moved(os.fstat(handle.fileno())):
                    return ImageFile()
                return ImageFile(*_checksum(handle, place), os.fstat(handle.fileno()).st_mtime_ns)
        except OSError:
            return ImageFile()

    def is_gone(self, i: int) -> bool:
        """Whether the i-th image is named by the source alone, and nothing lies where it should."""
        return False

    def root(self, i: int) -> str | None:
        """The folder in which the i-th image's id begins, None where that is no path; one of :attr:`roots`."""
        return next(iter(self.roots), None)

    def is_there(self, image_id: str, root: str | None) -> bool:
        """Whether an image that is none of these lies where it would be one, or in the folder where it once began."""
        places = self.roots if root is None else {*self.roots, root}
        return any(not is_gone(os.path.join(place, image_id)) for place in places)

    def other_id(self, image_id: str) -> str | None:
        """What an image is called where its folder is given alone, or among several; None where it has one name."""
        return None

    @abstractmethod
    def _place(self, i: int) -> _Place | None:
        """Where the i-th image lies, None where it is in no file."""

    def _seen(self, file: BinaryIO) -> Image.Image:
        """The image in an open file."""
        return read_image(file)

    def _item(self, i: int) -> Image.Image:
        """The i-th image, which is in no file."""
        raise NotImplementedError


class _Listed(Images):
    """Image files that a table names, by their paths below its folder."""

    def __init__(self, root: Path, ids: list[str], labels: list[Any] | None, source: str) -> None:
        super().__init__(ids, labels, source)
        self._root, self.roots = root, frozenset([os.path.abspath(root)])

    def is_gone(self, i: int) -> bool:
        return is_gone(self._root / self.ids[i])

    def _place(self, i: int) -> _Place:
        return _Place(self._root / self.ids[i])


class _Folders(Images):
    """The image files below folders: by their paths below the only one, or behind the name of each of several."""

    def __init__(
        self, found: Sequence[tuple[Path, dict[str, FileStatus]]], left_out: Counter[str], labels: bool
    ) -> None:
        self._several = len(found) > 1
        self._roots = [root for root, files in found for _ in files]
        self._listed = [status for _, files in found for status in files.values()]
        self.roots = frozenset(str(self._begin(root)) for root, _ in found)
        ids = [f"{root.name}/{path}" if self._several else path for root, files in found for path in files]
        source = ", ".join(repr(str(root)) for root, _ in found)
        super().__init__(ids, _folders_of(found) if labels else None, source, left_out)

    def listed(self, i: int) -> FileStatus:
        return self._listed[i]

    def root(self, i: int) -> str:
        return str(self._begin(self._roots[i]))

    def other_id(self, image_id: str) -> str:
        return image_id.partition("/")[2] if self._several else f"{self._roots[0].name}/{image_id}"

    def _place(self, i: int) -> _Place:
        return _Place(self._begin(self._roots[i]) / self.ids[i])

    def _begin(self, root: Path) -> Path:
        return root.parent if self._several else root


class _Tars(Images):
    """The images in uncompressed tar files of the WebDataset layout: ``key.jpg``, and its label in ``key.cls``.

    A key is the whole name without the suffix, so that ``22.05.jpg`` and ``22.06.jpg`` are two; WebDataset would end it
    at the first dot. Where that makes a difference to which image a label belongs to, the file is refused.
    """

    def __init__(self, files: Sequence[Path], suffixes: tuple[str, ...] | None, left_out: Counter[str]) -> None:
        self._members: list[tuple[Path, Member]] = []
        self._folders = {file.name: os.path.abspath(file.parent) for file in files}
        self.roots = frozenset(self._folders.values())
        self._listed = {file: status_of(file) for file in files}
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

    def listed(self, i: int) -> FileStatus | None:
        file, member = self._members[i]
        found = self._listed[file]
        return None if found is None else found._replace(n_bytes=member.size)

    def root(self, i: int) -> str:
        return self._folders[self._members[i][0].name]

    def is_there(self, image_id: str, root: str | None) -> bool:
        archive = image_id.partition("/")[0]  # of what lies in those that were not given nothing is known
        return archive not in self._folders and super().is_there(archive, root)

    def _place(self, i: int) -> _Place:
        file, member = self._members[i]
        return _Place(file, member.offset, member.size, self._listed[file])


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
            self.roots = frozenset([os.path.abspath(root)])
            ids = [os.path.relpath(sample[0], root) for sample in samples]  # ImageFolder and what is made like it
            if len(ids) != len(whole):
                raise FileReadError(f"images: {name} has {len(whole)} items but {len(ids)} samples")
        else:
            ids = [str(i) for i in range(len(whole))]
        self._all = frozenset(ids)
        labels = targets_of(whole, len(ids), name)
        # torchvision's own loader gives white for 16 bits, and what is hidden for what is transparent.
        reads_files = is_plain and _loads_by_torchvision(whole)
        self._files = [Path(samples[row][0]) for row in rows] if reads_files else None
        self._transform = getattr(whole, "transform", None)
        if rows and not reads_files:
            self._check_items()
        super().__init__([ids[row] for row in rows], None if labels is None else [labels[row] for row in rows], name)

    def is_there(self, image_id: str, root: str | None) -> bool:
        return (self._files is None and image_id in self._all) or super().is_there(image_id, root)

    def is_gone(self, i: int) -> bool:
        return self._files is not None and is_gone(self._files[i])

    def _place(self, i: int) -> _Place | None:
        return None if self._files is None else _Place(self._files[i])

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

    def _seen(self, file: BinaryIO) -> Image.Image:
        image = read_image(file)
        if self._transform is None:
            return image
        try:
            return to_rgb(self._transform(image))
        except Exception as error:  # the caller's function may be another next time
            raise UnreadableImageError(reason_of(error), passing=True) from error

    def _item(self, i: int) -> Image.Image:
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
    columns = read_columns(
        str(path), "images", (_LABEL,), only=_PATH, is_value=lambda cell: status_of(path.parent / cell) is not None
    ).wanted
    labels = columns.get(_LABEL)
    if labels is not None and path.suffix.lower() == ".csv":
        labels = typed(labels)
    return _Listed(path.parent, columns[_PATH], labels, repr(str(path)))


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


def _folders_of(found: Sequence[tuple[Path, dict[str, FileStatus]]]) -> list[str | None]:
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


def _checksum(handle: BinaryIO, place: _Place) -> tuple[int, int]:
    """Size and CRC-32 of what stands at a place in an open file."""
    handle.seek(place.offset)
    size = checksum = 0
    while part := handle.read(_READ_BYTES if place.size is None else min(place.size - size, _READ_BYTES)):
        size, checksum = size + len(part), zlib.crc32(part, checksum)
    return size, checksum


def _image_of(item: Any) -> Any:
    return item[0] if isinstance(item, (tuple, list)) and item else item


def _loads_by_torchvision(dataset: Any) -> bool:
    """It is an ``ImageFolder``, or made like it, whose files are read by torchvision's own function."""
    folder: Any = sys.modules.get("torchvision.datasets.folder")
    if folder is None or getattr(type(dataset), "__getitem__", None) is not folder.DatasetFolder.__getitem__:
        return False
    return dataset.loader in (folder.default_loader, folder.pil_loader)
