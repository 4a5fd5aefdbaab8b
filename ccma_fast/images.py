"""Images wherever they lie, each with an id of its own: folders, tables of paths, WebDataset tars, data sets."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ._errors import FileReadError
from .readers.tables import read_columns

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Images", "UnreadableImageError", "open_images"]

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_TABLES = {".csv", ".parquet"}
_PATH, _OTHER_NAMES, _LABEL = "image_path", ("path", "filepath", "filename", "file"), "label"


class UnreadableImageError(Exception):
    """An image cannot be decoded; the text says why."""


class Images(ABC):
    """Images in a fixed order.

    Attributes
    ----------
    ids : list of str
        What each is called, all different.
    labels : list or None
        The label of each, numbers or text, None where an image has none; None where the source knows of no labels.
    """

    def __init__(self, ids: list[str], labels: list[Any] | None, source: str) -> None:
        seen: dict[str, int] = {}
        for row, image_id in enumerate(ids):
            if image_id in seen:
                raise FileReadError(
                    f"images: {source} must name each image once, got {image_id!r} at rows {seen[image_id]} and {row}"
                )
            seen[image_id] = row
        if not ids:
            raise FileReadError(f"images: no image in {source}")
        self.ids, self.labels = ids, labels

    def load(self, i: int) -> Image.Image:
        """The i-th image, decoded, in RGB.

        Raises
        ------
        UnreadableImageError
        """
        from PIL import UnidentifiedImageError

        try:
            return self._decode(i)
        except UnidentifiedImageError as error:  # whose text has an address in it
            raise UnreadableImageError("no image of a format that Pillow knows") from error
        except Exception as error:  # a damaged image raises whatever its decoder meets
            raise UnreadableImageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error

    @abstractmethod
    def _decode(self, i: int) -> Image.Image: ...


class _Files(Images):
    """Image files, by their paths below a folder."""

    def __init__(self, root: Path, ids: list[str], labels: list[Any] | None, source: str) -> None:
        super().__init__(ids, labels, source)
        self._root = root

    def _decode(self, i: int) -> Image.Image:
        from PIL import Image

        with Image.open(self._root / self.ids[i]) as image:
            rgb: Image.Image = image.convert("RGB")
        return rgb


class _Tars(Images):
    """The images in uncompressed tar files of the WebDataset layout: ``key.jpg``, and its label in ``key.cls``."""

    def __init__(self, files: Sequence[Path]) -> None:
        import tarfile  # slow to import

        self._members: list[tuple[Path, int, int]] = []
        ids: list[str] = []
        labels: list[Any] = []
        for file in files:
            classes: dict[str, int] = {}
            keys: list[str] = []
            try:
                with tarfile.open(file, "r:") as archive:
                    for member in archive:
                        path = PurePosixPath(member.name)
                        key = str(path.parent / path.name.partition(".")[0])
                        if path.suffix.lower() in _SUFFIXES:
                            self._members.append((file, member.offset_data, member.size))
                            ids.append(f"{file.name}/{member.name}")
                            keys.append(key)
                        elif path.suffix == ".cls" and (content := archive.extractfile(member)) is not None:
                            classes[key] = int(content.read())
            except FileNotFoundError:
                raise FileReadError(f"images: no file {str(file)!r}") from None
            except (OSError, ValueError, tarfile.TarError) as error:
                raise FileReadError(
                    f"images: cannot read {str(file)!r} as an uncompressed .tar after {len(keys)} images: {error}"
                ) from error
            labels += [classes.get(key) for key in keys]
        known = any(label is not None for label in labels)
        super().__init__(ids, labels if known else None, ", ".join(repr(str(file)) for file in files[:3]))

    def _decode(self, i: int) -> Image.Image:
        from PIL import Image

        file, offset, size = self._members[i]
        with open(file, "rb") as archive:
            archive.seek(offset)
            content = io.BytesIO(archive.read(size))
        with Image.open(content) as image:
            rgb: Image.Image = image.convert("RGB")
        return rgb


class _Dataset(Images):
    """A data set of torchvision's kind: its items are images, or tuples that begin with one."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        samples, targets = getattr(dataset, "samples", None), getattr(dataset, "targets", None)
        if samples is not None:  # ImageFolder and what is made like it
            ids = [os.path.relpath(path, dataset.root) for path, *_ in samples]
        else:
            ids = [str(i) for i in range(len(dataset))]
        labels = None if targets is None else [getattr(target, "item", lambda t=target: t)() for target in targets]
        super().__init__(ids, labels, type(dataset).__name__)

    def _decode(self, i: int) -> Image.Image:
        item = self._dataset[i]
        image: Image.Image = item[0] if isinstance(item, tuple) else item
        return image.convert("RGB")


def open_images(source: Any) -> Images:
    """Images in whatever the caller has them.

    Parameters
    ----------
    source : path, sequence of paths, or data set
        A folder, whose image files are taken with those of all folders below it, in the order of their paths, or
        whose ``.tar`` files are, where it holds no image; a ``.tar`` file or several; a CSV or parquet file with the
        paths in a column ``image_path`` (or ``path``, ``filepath``, ``filename``, ``file``; a CSV file of one column
        needs no header), relative to the file's folder, and perhaps their labels in a column ``label``; or an object
        with a length and items that are PIL images, or tuples that begin with one, as the data sets of torchvision
        give them without a transform.

    Raises
    ------
    FileReadError
        No image, a damaged file, or an image that is named twice; the text names the file and the rows.
    TypeError
        None of these.
    """
    if isinstance(source, (str, os.PathLike)):
        return _of_path(Path(source))
    if isinstance(source, (list, tuple)) and source and all(isinstance(part, (str, os.PathLike)) for part in source):
        paths = [Path(part) for part in source]
        if len(paths) == 1:
            return _of_path(paths[0])
        if any(path.suffix.lower() != ".tar" for path in paths):
            raise FileReadError(f"images: several files must all be .tar, got {[str(path) for path in paths]}")
        return _Tars(paths)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not isinstance(source, (list, tuple, dict)):
        return _Dataset(source)
    raise TypeError(f"images must be a path, paths of .tar files or a data set, got {type(source).__name__}")


def _of_path(path: Path) -> Images:
    suffix = path.suffix.lower()
    if path.is_dir():
        found = [file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()]
        tars = sorted(path.glob("*.tar"))
        if tars and not found:
            return _Tars(tars)
        return _Files(path, sorted(file.relative_to(path).as_posix() for file in found), None, repr(str(path)))
    if suffix == ".tar":
        return _Tars([path])
    if suffix not in _TABLES:
        raise FileReadError(f"images: expected a folder, or a .csv, .parquet or .tar file, got {str(path)!r}")
    columns = read_columns(str(path), "images", (_LABEL,), only=_PATH, others=_OTHER_NAMES)
    labels = [_number(label) for label in columns[_LABEL]] if _LABEL in columns else None
    return _Files(path.parent, columns[_PATH], labels, repr(str(path)))


def _number(label: Any) -> Any:
    """A label of a CSV file: a number where it is one, None where the cell is empty."""
    if label == "":
        return None
    try:
        return int(label)
    except (TypeError, ValueError):
        return label
