"""WebDataset tars: the images in them, and which label is whose."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ._errors import FileReadError
from .decode import HEAD_BYTES
from .image_files import ending_of, is_hidden, suffixes_of_images, why_no_image

if TYPE_CHECKING:
    import tarfile

__all__ = ["Member", "apart", "members_of"]

_CLASS = ".cls"

# A number of a class, and the ends of lines behind it.
_MOST_CLASS_BYTES = 100
_READ_BYTES = 1 << 20


class Member(NamedTuple):
    """An image in a tar file, and the key that it shares with its label."""

    name: str
    key: str
    offset: int
    size: int


def members_of(
    file: Path, suffixes: tuple[str, ...] | None, left_out: Counter[str]
) -> tuple[list[Member], dict[str, int]]:
    """The images in a tar file, and the labels by their keys."""
    import tarfile  # slow to import

    members: list[Member] = []
    classes: dict[str, int] = {}
    known = suffixes_of_images()
    if file.exists() and not file.is_file():  # a pipe would never end
        raise FileReadError(f"images: {str(file)!r} is a folder, a pipe or a device; expected a regular file")
    try:
        with tarfile.open(file, "r:") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.issparse():  # links have no content, sparse files not in one piece
                    left_out["no regular files"] += 1
                    continue
                path = PurePosixPath(entry.name)
                if path.suffix.lower() == _CLASS and not is_hidden(entry.name):
                    content = _content(archive, entry, _MOST_CLASS_BYTES + 1)
                    _add_class(classes, str(path.with_suffix("")), entry.name, content)
                    continue
                why = why_no_image(entry.name, suffixes, known, partial(_content, archive, entry, HEAD_BYTES))
                if why is not None:
                    left_out[why] += 1
                    continue
                ending = ending_of(entry.name, suffixes) if suffixes else path.suffix
                key = str(path)[: len(str(path)) - len(ending)]
                members.append(Member(entry.name, key, entry.offset_data, entry.size))
            _check_end(archive)
    except FileNotFoundError:
        raise FileReadError(f"images: no file {str(file)!r}") from None
    except (OSError, ValueError, tarfile.TarError) as error:
        raise FileReadError(
            f"images: cannot read {str(file)!r} as an uncompressed .tar after {len(members)} images: {error}"
        ) from error
    return members, classes


def _check_end(archive: tarfile.TarFile) -> None:
    """Nothing but zeros stands where the members end, which is also where one is damaged or another archive begins."""
    handle: Any = archive.fileobj
    handle.seek(archive.offset)
    while part := handle.read(_READ_BYTES):
        if part.strip(b"\0"):
            raise ValueError(
                f"more stands behind the end at byte {archive.offset}; expected one archive, and no damaged header"
            )


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, most: int = -1) -> bytes:
    handle = archive.extractfile(entry)
    return b"" if handle is None else handle.read(most)


def _add_class(classes: dict[str, int], key: str, name: str, content: bytes) -> None:
    if len(content) > _MOST_CLASS_BYTES or re.fullmatch(rb"\s*-?[0-9]+\s*", content) is None:
        raise ValueError(f"{name!r} must hold the number of a class, got {content[:40]!r}")
    label = int(content)
    if classes.setdefault(key, label) != label:
        raise ValueError(f"{name!r} must stand there once, got classes {classes[key]} and {label}")


def apart(
    file: Path, members: list[Member], classes: dict[str, int], chosen: bool, left_out: Counter[str]
) -> list[Member]:
    """The images in a tar file of which each has a key of its own, for WebDataset too.

    ``0.seg.png`` beside ``0.jpg`` belongs to the sample ``0``: it is no image where the suffixes of images were
    `chosen`, and refused where they were not.
    """
    names: dict[str, str] = {}
    for member in members:
        if (other := names.setdefault(member.key, member.name)) != member.name:
            raise _ambiguous(file, other, member.name)
    kept: list[Member] = []
    for member in members:
        sample, rest = _at_first_dot(member.key)
        if sample not in names or not rest.strip(".0123456789"):
            kept.append(member)
        elif chosen:
            left_out["beside another image of the sample"] += 1
        else:
            raise _ambiguous(file, names[sample], member.name)
    samples = {_at_first_dot(member.key)[0]: member.name for member in kept}
    for key in sorted(classes.keys() - names.keys()):
        if key in samples:
            raise FileReadError(
                f"images: {samples[key]!r} in {str(file)!r} must have its label in a file of its whole name, got "
                f"{key + _CLASS!r}; image_suffixes (--image-suffixes) says where names end"
            )
        left_out[f"{_CLASS} without an image"] += 1
    return kept


def _ambiguous(file: Path, one: str, other: str) -> FileReadError:
    return FileReadError(
        f"images: {one!r} and {other!r} in {str(file)!r} are of one sample, with one label; expected one image, "
        "image_suffixes (--image-suffixes) says which"
    )


def _at_first_dot(key: str) -> tuple[str, str]:
    """What WebDataset takes for the key, and the rest."""
    path = PurePosixPath(key)
    name, _, rest = path.name.partition(".")
    return str(path.parent / name), rest
