"""The format that CVAT calls "ImageNet 1.0": images in folders by class, in a folder or a ZIP archive. In only.

With its images, an export has ``CLASS/IMAGE`` for each, and those without a class below ``no_label``. Without, it has
``synsets.txt``, a class in each line, and beside it text files with an image and the numbers of its classes in each
line. A class called as a refusal is that refusal. Images without a class, and those with several, are noted and left
out.

An image is what follows the class, where CVAT may have put the class and ``_`` before the name, or changed the suffix:
the campaign's images, `ids`, say which it is. They also say where the name of a class has a slash. No image is opened.

Keys: none. The format has no annotators, times, notes, nor an order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

from ...checks import integer_in
from ...errors import FileReadError
from ...images.image_files import is_hidden
from ...system.text_files import decoded
from .answer import Answer
from .imported import Collected, Imported, checked_text, label_or_refusal
from .outline import Outline
from .outside_files import is_zip, member_names, opened_zip, read_member, read_text
from .places import Lookup, without_suffix

__all__ = ["read", "recognises"]

_CLASSES = "synsets.txt"
_NO_CLASS = "no_label"

# Files that a folder is looked through for: more than a campaign has images.
_MOST_FILES = 10_000_000

# A line of an annotation file: the image, in quotes before its suffix where it has white space, and numbers of classes.
_LINE = re.compile(r'(?:"(?P<stem>[^"]*)"(?P<suffix>\S*)|(?P<image>\S+))(?P<classes>(?: +\d+)*) *', re.ASCII)


def recognises(outline: Outline) -> bool:
    """Whether a file or a folder is of this format."""
    others = {"annotations.xml", "labels.json"}
    return outline.kind in ("zip", "folder") and not others & outline.names


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the classes of images.

    Parameters
    ----------
    file : Path
        A folder, or a ZIP archive.
    images : str, optional
        Not used.
    ids : collection of str, optional
        The campaign's images.

    Returns
    -------
    Imported

    Raises
    ------
    FileReadError
        No such folder or archive, or an annotation file that is none.
    """
    known = _Images(ids)
    if file.is_dir():
        names = _files_below(file)
        texts = {name: read_text(file / name) for name in _annotation_files(names)}
    else:
        if not is_zip(file):
            raise FileReadError(f"'ImageNet 1.0' must be a folder or a ZIP archive, got {str(file)!r}")
        with opened_zip(file) as archive:
            names = member_names(archive)
            texts = {name: _text(read_member(archive, name, file), name, file) for name in _annotation_files(names)}
    for name in names:
        checked_text(name, "the name of a file", f" in {str(file)!r}")
    found = _in_lines(texts, known, file) if texts else _in_folders(names, known)
    collected, classes = Collected(), dict[str, list[str]]()
    for image, label, why in found:
        if why:
            collected.leave_out(image, why)
        else:
            classes.setdefault(image, []).append(label)
    for image, labels in classes.items():
        if len(set(labels)) > 1:
            collected.leave_out(image, "of several classes")
        else:
            collected.answers.append(Answer(image, *label_or_refusal(labels[0])))
    return collected.imported()


def _files_below(folder: Path) -> list[str]:
    """The files below a folder, by their paths from there, sorted; links to folders are not followed."""
    paths = (Path(at, name) for at, _, names in os.walk(folder) for name in names)
    found = [path.relative_to(folder).as_posix() for path in islice(paths, _MOST_FILES + 1)]
    if len(found) > _MOST_FILES:
        raise FileReadError(f"{str(folder)!r} has more than {_MOST_FILES} files")
    return sorted(found)


def _annotation_files(names: list[str]) -> list[str]:
    """The text files of an export without images; none of one with them."""
    return [name for name in names if name.endswith(".txt") and "/" not in name] if _CLASSES in names else []


def _text(content: bytes, name: str, file: Path) -> str:
    try:
        return decoded(content)
    except ValueError as error:
        raise FileReadError(f"cannot read {name!r:.80} in {str(file)!r} as text: {error}") from error


def _in_lines(texts: dict[str, str], known: _Images, file: Path) -> Iterator[tuple[str, str, str]]:
    """Images, their classes, and why there is none, of an export without images."""
    classes = [line.strip() for line in texts[_CLASSES].split("\n")]
    for name, text in texts.items():
        for number, line in enumerate(text.split("\n")):
            if name == _CLASSES or not line.strip():
                continue
            place = f" at line {number} of {name!r} in {str(file)!r}"
            found = _LINE.fullmatch(line.rstrip("\r"))
            if found is None:
                raise FileReadError(f"a line must be an image and numbers of classes, got {line!r:.80}{place}")
            image, why = known.image_of(found["image"] or f"{found['stem']}{found['suffix']}", "")
            numbers = found["classes"].split()
            if why or not numbers:
                yield image, "", why or "without a class"
                continue
            for digits in numbers:
                label = integer_in(digits)
                if label is None or label >= len(classes) or not classes[label]:
                    raise FileReadError(f"{_CLASSES} must have the class of every number, got {digits:.80}{place}")
                yield image, classes[label], ""


def _in_folders(names: list[str], known: _Images) -> Iterator[tuple[str, str, str]]:
    """Images, their classes, and why there is none, of an export with images."""
    for name in names:
        parts = PurePosixPath(name).parts
        if is_hidden(name):
            continue
        if len(parts) == 1 or parts[0] == _NO_CLASS:
            yield known.image_of("/".join(parts[1:] or parts), "")[0], "", "without a class"
            continue
        splits = {"/".join(parts[:k]): "/".join(parts[k:]) for k in range(1, len(parts))}
        matches = {label: known.matches(rest, label) for label, rest in splits.items()}
        likely = {label: found for label, found in matches.items() if found} or {parts[0]: [splits[parts[0]]]}
        if len(likely) == 1 and len(next(iter(likely.values()))) == 1:
            ((label, (image,)),) = likely.items()
            yield image, label, ""
        else:
            yield name, "", "which may be one of several images"


class _Images:
    """The campaign's images.

    Parameters
    ----------
    ids : collection of str
    """

    def __init__(self, ids: Collection[str]) -> None:
        self._ids = frozenset(ids)
        self._stems = Lookup(ids, without_suffix)

    def matches(self, path: str, label: str) -> list[str]:
        """The images that a file below the folder of a class may be."""
        for name in (path, path.removeprefix(f"{label}_")):
            if name in self._ids:
                return [name]
        for name in (path, path.removeprefix(f"{label}_")):
            if found := self._stems.found(without_suffix(name)):
                return found
        return []

    def image_of(self, path: str, label: str) -> tuple[str, str]:
        """The image that a file is, or the path as it stands; and why it may be none."""
        found = self.matches(path, label)
        return (found[0], "") if len(found) == 1 else (path, "which may be one of several images" if found else "")
