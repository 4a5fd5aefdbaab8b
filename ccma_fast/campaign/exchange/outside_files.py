"""Files that other programs read and write: new ones whole, theirs of bounded size and only as data."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from xml.parsers import expat

from ...errors import FileReadError
from ...system.bounded_read import MOST_BYTES, read_whole
from ...system.csv_text import write_csv
from ...system.file_integrity import open_regular, stamp_of
from ...system.output_files import write_whole
from ...system.text_files import decoded

__all__ = [
    "as_csv",
    "as_json",
    "check_new",
    "check_size",
    "first_bytes",
    "is_json",
    "is_zip",
    "member_names",
    "opened_zip",
    "parse_xml",
    "read_bytes",
    "read_json",
    "read_member",
    "read_text",
    "write_new",
]

# Most entries of an archive: more than a campaign has images.
_MOST_MEMBERS = 10_000_000

# Elements inside each other in XML: more than any format has.
_MOST_DEPTH = 100


def check_new(files: Iterable[Path]) -> None:
    """Check that none of some files is there: it may hold labels that somebody entered.

    Raises
    ------
    FileExistsError
    """
    for file in files:
        if os.path.lexists(file):
            raise FileExistsError(
                f"{str(file)!r} is there and may hold labels: such a file is never overwritten; expected a new one"
            )


def write_new(contents: dict[Path, bytes]) -> list[Path]:
    """Write files that are not there yet, each whole or not at all.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FileExistsError
        One is there; none is written.
    OSError
        One cannot be written.
    """
    check_new(contents)
    for file, content in contents.items():
        _write(file, content)
    return list(contents)


def _write(file: Path, content: bytes) -> None:
    write_whole(file, lambda handle: handle.write(content))


def as_json(content: Any) -> bytes:
    """Indented JSON in UTF-8; raises ValueError for NaN or infinity."""
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False).encode()


def as_csv(rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows of cells as CSV in UTF-8."""
    text = io.StringIO(newline="")
    write_csv(text, rows)
    return text.getvalue().encode()


@contextmanager
def _readable(file: Path, what: str) -> Iterator[None]:
    """Errors inside as those of a file that cannot be read as `what`."""
    try:
        yield
    except FileNotFoundError:
        raise FileReadError(f"no file {str(file)!r}") from None
    except FileReadError:
        raise
    except RecursionError:
        raise FileReadError(f"cannot read {str(file)!r} as {what}: too many levels inside each other") from None
    except (OSError, ValueError, expat.ExpatError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise FileReadError(f"cannot read {str(file)!r} as {what}: {error}") from error


def read_text(file: Path, what: str = "text") -> str:
    """The content of a text file of at most :data:`MOST_BYTES` bytes, as :func:`ccma_fast.system.text_files.decoded`.

    Raises
    ------
    FileReadError
        No such file, or another one.
    """
    with _readable(file, what):
        return decoded(read_whole(file))


def read_bytes(file: Path, what: str) -> bytes:
    """The content of a file of at most :data:`MOST_BYTES` bytes; errors as :func:`read_text`."""
    with _readable(file, what):
        return read_whole(file)


def is_json(file: Path) -> bool:
    """Whether a file begins as a JSON object or list does; raises FileReadError where it cannot be read."""
    return first_bytes(file).removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"{", b"["))


def is_zip(file: Path) -> bool:
    """Whether a file begins as a ZIP archive does; raises FileReadError where it cannot be read."""
    return first_bytes(file).startswith((b"PK\x03\x04", b"PK\x05\x06"))  # the second where it is empty


def check_size(file: Path) -> None:
    """Check that a file is there, and has at most :data:`MOST_BYTES` bytes.

    Raises
    ------
    FileReadError
    """
    with _readable(file, "text"):
        size = stamp_of(file).size
        if size > MOST_BYTES:
            raise ValueError(f"it has {size} bytes, expected at most {MOST_BYTES}")


def first_bytes(file: Path) -> bytes:
    """The beginning of a file; raises FileReadError where it cannot be read."""
    with _readable(file, "text"), open_regular(file) as handle:
        return handle.read(4096)


def read_json(file: Path) -> Any:
    """The content of a JSON file of at most :data:`MOST_BYTES` bytes.

    Raises
    ------
    FileReadError
        No such file, or another one; an object with one key twice; NaN or infinity, which are not JSON.
    """
    text = read_text(file, "JSON")
    with _readable(file, "JSON"):
        return json.loads(text, object_pairs_hook=_without_repetition, parse_constant=_no_number)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key!r:.80} stands twice in one object")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def parse_xml(content: bytes, file: Path, handler: Any) -> None:
    """Hand the elements of XML on.

    A document type is refused, and with it every entity, external or not, and every expansion of entities.

    Parameters
    ----------
    content : bytes
    file : Path
        For error messages.
    handler : object
        Has ``start(tag, attributes)``, ``text(data)`` and ``end(tag)``.

    Raises
    ------
    FileReadError
        No well-formed XML, a document type, or more than 100 elements inside each other.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError(f"more than {_MOST_DEPTH} elements inside each other")
        handler.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(tag)

    def no_document_type(*_: object) -> None:
        raise ValueError("it has a document type, which may define entities; expected XML without one")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = no_document_type
    with _readable(file, "XML"):
        parser.Parse(content, True)


@contextmanager
def opened_zip(file: Path) -> Iterator[zipfile.ZipFile]:
    """A ZIP archive, nothing of which is ever unpacked to a disk.

    Raises
    ------
    FileReadError
        No such file or another one, too many members, one twice, or one whose name leads out of the archive.
    """
    with _readable(file, "ZIP"), open_regular(file) as handle, zipfile.ZipFile(handle) as archive:
        members = archive.namelist()
        if len(members) > _MOST_MEMBERS:
            raise ValueError(f"it has {len(members)} members, expected at most {_MOST_MEMBERS}")
        if len(set(members)) < len(members):
            raise ValueError("a member stands there twice")
        for name in members:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
                raise ValueError(f"its member {name!r:.80} leads out of the archive")
        yield archive


def member_names(archive: zipfile.ZipFile) -> list[str]:
    """Names of the files in an archive, without its folders and what macOS adds."""
    return [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]


def read_member(archive: zipfile.ZipFile, name: str, file: Path) -> bytes:
    """A file in an archive, of at most :data:`MOST_BYTES` bytes.

    Raises
    ------
    FileReadError
        A larger one, a damaged or an encrypted one.
    """
    with _readable(file, "ZIP"):
        size = archive.getinfo(name).file_size
        if size > MOST_BYTES:
            raise ValueError(f"its member {name!r:.80} has {size} bytes, expected at most {MOST_BYTES}")
        with archive.open(name) as member:
            return _at_most(member, size, name)


def _at_most(member: Any, size: int, name: str) -> bytes:
    content: bytes = member.read(size)
    if member.read(1):
        raise ValueError(f"its member {name!r:.80} has more bytes than it says, {size}")
    return content
