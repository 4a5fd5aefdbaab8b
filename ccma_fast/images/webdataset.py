"""WebDataset tars: the images in them, and which label is whose."""

from __future__ import annotations

import io
import re
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import FileReadError
from ..system.file_integrity import stamp_of
from .decode import HEAD_BYTES
from .image_files import ending_of, is_hidden, suffixes_of_images, why_no_image

if TYPE_CHECKING:
    import tarfile

__all__ = ["Member", "apart", "members_of"]

_CLASS = ".cls"

# The number of a class, and trailing ends of lines.
_MOST_CLASS_BYTES = 100
_READ_BYTES = 1 << 20
_BLOCK = 512
_MOST_HEADER_BYTES = 1 << 20  # of one member; names and times take some hundreds
_PAX_RECORD = re.compile(rb"([0-9]{1,9}) ([^=]+)=")
_PAX, _LONG = (b"x", b"g", b"X"), (b"L", b"K")  # types of headers in front of a member's


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
    stamp_of(file, "images")  # a pipe would never end
    try:
        with _Headers(io.FileIO(file)) as headers, tarfile.open(fileobj=headers, mode="r:") as archive:
            end = 0
            for entry in archive:
                _check_entry(archive, entry, end)
                end = archive.offset
                headers.next_member()
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
    except (OSError, ValueError, IndexError, RecursionError, tarfile.TarError) as error:  # a damaged sparse map
        raise FileReadError(
            f"images: cannot read {str(file)!r} as an uncompressed .tar after {len(members)} images: {error}"
        ) from error
    return members, classes


class _Headers(io.BufferedReader):
    """A tar file with a limit on the bytes read for one member's headers, whose length they claim themselves."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self._left = _MOST_HEADER_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= self._left:
            raise ValueError(f"the headers of a member must have at most {_MOST_HEADER_BYTES} bytes")
        self._left -= size
        return super().read(size)

    def seek(self, target: int, whence: int = io.SEEK_SET, /) -> int:
        if not 0 <= target < 1 << 63:
            raise ValueError(f"a member must lie in the file, got byte {target}")
        return super().seek(target, whence)

    def next_member(self) -> None:
        self._left = _MOST_HEADER_BYTES


def _check_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, start: int) -> None:
    """Check that a member's headers are complete, and its content lies between them and the next member."""
    if entry.offset_data - start > _BLOCK:
        _check_extensions(archive, start)
    blocks = -(-entry.size // _BLOCK) * _BLOCK if entry.isreg() else 0
    if (
        entry.size < 0
        or archive.offset < entry.offset_data
        or (not entry.issparse() and entry.isreg() and archive.offset != entry.offset_data + blocks)
    ):
        raise ValueError(f"{entry.name!r} must end where the next member begins, got {entry.size} bytes")


def _check_extensions(archive: tarfile.TarFile, start: int) -> None:
    """Check the records of PAX headers: some releases of Python skip the rest after a damaged one."""
    handle: Any = archive.fileobj
    while True:
        handle.seek(start)
        header = archive.tarinfo.frombuf(handle.read(_BLOCK), "utf-8", "surrogateescape")
        if header.type not in _PAX + _LONG:
            return
        if header.size < 0:
            raise ValueError(f"a header must tell a size of 0 or more at byte {start}, got {header.size}")
        body = handle.read(header.size) if header.type in _PAX else b""
        at = 0
        while at < len(body):
            found = _PAX_RECORD.match(body, at)
            stop = at + int(found[1]) if found else 0
            if found is None or not found.end() < stop <= len(body) or body[stop - 1 : stop] != b"\n":
                raise ValueError(f"a PAX header is damaged at byte {start + _BLOCK + at}")
            if found[2] == b"size" and not body[found.end() : stop - 1].isdigit():
                raise ValueError(f"a PAX header must tell a size in digits at byte {start + _BLOCK + at}")
            at = stop
        start += _BLOCK + -(-header.size // _BLOCK) * _BLOCK


def _check_end(archive: tarfile.TarFile) -> None:
    """Check that a block of zeros follows the members, and nothing else.

    Reading also stops at a damaged header, at another archive, or where the writer was stopped.
    """
    handle: Any = archive.fileobj
    handle.seek(archive.offset)
    length = 0
    while part := handle.read1(_READ_BYTES):
        if part.strip(b"\0"):
            raise ValueError(
                f"more stands behind the end at byte {archive.offset}; expected one archive, and no damaged header"
            )
        length += len(part)
    if length < _BLOCK:
        raise ValueError(
            f"no block of {_BLOCK} zeros stands at its end, byte {archive.offset}: the file is half-written; write it "
            "again, or add the zeros (head -c 1024 /dev/zero >> FILE) if no member is missing"
        )


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo, most: int) -> bytes:
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
    """The images in a tar file that have a key of their own, for WebDataset too.

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
    """The key as WebDataset takes it, up to the first dot of the name, and the rest."""
    path = PurePosixPath(key)
    name, _, rest = path.name.partition(".")
    return str(path.parent / name), rest
