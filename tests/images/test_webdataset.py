"""Tars that are damaged, cut, hostile or of other writers: refused, or read as what they are."""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import ccma_fast as cf
from ccma_fast.images.sources import open_images
from ccma_fast.images.webdataset import members_of

PNG = b"\x89PNG\r\n\x1a\n"
BLOCK = 512
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "folder" * 15 + "/" + "long" * 20
END = bytes(2 * BLOCK)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    for field, value in fields.items():
        setattr(entry, field, value)
    entry.size = size
    return entry.tobuf(tarfile.GNU_FORMAT)


def with_size(block: bytes, field: bytes) -> bytes:
    """A header whose size is another, and whose checksum is right."""
    changed = block[:124] + field.ljust(12, b"\0") + block[136:148] + b" " * 8 + block[156:]
    return changed[:148] + f"{sum(changed):06o}\0 ".encode() + changed[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def pax(*records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    body = b"".join(records)
    return header("pax", len(body), kind) + padded(body)


def record(keyword: str, value: str) -> bytes:
    text = f" {keyword}={value}\n".encode()
    length = next(n for n in range(len(text), len(text) + 9) if n == len(text) + len(str(n)))
    return str(length).encode() + text


def image(name: str, n_bytes: int = 20) -> bytes:
    return header(name, n_bytes) + padded(PNG + bytes(1 + i % 255 for i in range(n_bytes - len(PNG))))


def written(kind: str, names: tuple[str, ...] = ("0.png", "0.cls", "1.png", LONG + ".png")) -> bytes:
    """What Python's tarfile writes, as WebDataset's writer does, without the padding to 10,240 bytes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=FORMATS[kind]) as archive:
        for i, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            content = b"7" if name.endswith(".cls") else PNG + bytes([1 + i]) * 600
            entry.size, entry.mtime = len(content), 1.5 if kind == "pax" else 1
            archive.addfile(entry, io.BytesIO(content))
        end = archive.offset
    return buffer.getvalue()[: end + 2 * BLOCK]


def found_in(file: Path, content: bytes) -> tuple[list[tuple[str, bytes]], dict[str, int]]:
    file.write_bytes(content)
    members, classes = members_of(file, None, Counter())
    return [(of.name, content[of.offset : of.offset + of.size]) for of in members], classes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.tar"


@pytest.mark.parametrize("kind", FORMATS)
def test_ends_of_whole_tars(file: Path, kind: str) -> None:
    content = written(kind)
    expected = found_in(file, content)
    assert [name for name, _ in expected[0]] == ["0.png", "1.png", LONG + ".png"]
    assert expected[1] == {"0": 7}
    for end in (BLOCK, 3 * BLOCK, 10_240, BLOCK + 7):
        assert found_in(file, content[: -len(END)] + bytes(end)) == expected
    for behind in (content, b"x", bytes(5 * BLOCK) + b"x", bytes(3 << 20) + content):
        with pytest.raises(cf.FileReadError, match="more stands behind the end"):
            found_in(file, content + behind)
    # Appended to as tarfile does, which writes over the end.
    with tarfile.open(file.with_name("a.tar"), "w", format=FORMATS[kind]) as archive:
        archive.addfile(tarfile.TarInfo("2.txt"))
    with tarfile.open(file.with_name("a.tar"), "a", format=FORMATS[kind]) as archive:
        entry = tarfile.TarInfo("3.png")
        entry.size = len(PNG)
        archive.addfile(entry, io.BytesIO(PNG))
    assert found_in(file, file.with_name("a.tar").read_bytes())[0] == [("3.png", PNG)]


def cuts(content: bytes, every: int) -> Iterator[int]:
    yield from range(0, len(content) - len(END) + BLOCK, every)
    for block in range(0, len(content) - len(END), BLOCK):
        yield from (block + 1, block + 511)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_cut_is_told(file: Path, kind: str) -> None:
    content = written(kind)
    for cut in cuts(content, BLOCK):
        with pytest.raises(cf.FileReadError, match="cannot read"):
            found_in(file, content[:cut])
    with pytest.raises(cf.FileReadError, match=r"no block of 512 zeros .* half-written; .* if no member is missing"):
        found_in(file, content[: -len(END)])


def headers_of(content: bytes) -> list[int]:
    """Where headers begin, those of long names and of PAX records with their bodies."""
    at, places = 0, []
    while content[at : at + BLOCK].strip(b"\0"):
        entry = tarfile.TarInfo.frombuf(content[at : at + BLOCK], "utf-8", "surrogateescape")
        places.append(at)
        at += BLOCK + len(padded(bytes(entry.size)))
    return places


def refused_flips(file: Path, content: bytes, step: int) -> int:
    """Each flipped bit of a header is refused, or changes nothing; how many were refused."""
    expected, refused = found_in(file, content), 0
    for place in headers_of(content):
        for at in range(place, place + BLOCK, step):
            for bit in range(8):
                damaged = content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]
                try:
                    assert found_in(file, damaged) == expected, (at, bit)
                except cf.FileReadError:
                    refused += 1
    return refused


def test_one_flipped_bit_of_a_header_never_ends_a_tar(file: Path) -> None:
    content = written("pax", ("0.png", "1.png"))
    places = headers_of(content)
    assert len(places) == 4  # of times and of images
    assert refused_flips(file, content, 37) > 0.98 * 8 * len(range(0, BLOCK, 37)) * len(places)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_every_flipped_bit_of_every_header(file: Path, kind: str) -> None:
    content = written(kind)
    refused = refused_flips(file, content, 1)
    n_bits = 8 * BLOCK * len(headers_of(content))
    print(f"{kind}: {refused} of {n_bits} flips refused, the others without effect")
    assert refused > 0.98 * n_bits


def test_a_size_that_points_elsewhere(file: Path) -> None:
    """Its checksum is right, so that only what stands where it points can tell: here no header and no end."""
    first, rest = image("0.png", 600), image("1.png", 700) + END[:BLOCK]
    expected = found_in(file, first + rest)
    for bit in range(34):
        size = 600 ^ 1 << bit
        changed = with_size(first[:BLOCK], f"{size:011o}".encode()) + first[BLOCK:] + rest
        if len(padded(bytes(size if size < 9999 else 0))) == 1024:  # of as many blocks: the content differs, no more
            assert [name for name, _ in found_in(file, changed)[0]] == ["0.png", "1.png"]
        else:
            with pytest.raises(cf.FileReadError, match="cannot read"):
                found_in(file, changed)
    assert found_in(file, first + rest) == expected


@pytest.mark.parametrize(
    "content",
    [
        with_size(image("0.png")[:BLOCK], b"\xff" * 10 + b"\xfe\0"),  # -512: the header again and again
        with_size(image("0.png")[:BLOCK], b"\xff" * 12),
        with_size(image("0.png")[:BLOCK], b"\x80" + b"\x7f" * 11),
        with_size(image("0.png")[:BLOCK], b"\x80\0\0\0\x7f" + b"\xff" * 7),
        with_size(image("0.png")[:BLOCK], b"77777777777"),
        with_size(image("0.png")[:BLOCK], b"-1000"),
        pax(record("size", "-1536")),
        pax(record("size", "-1")),
        pax(record("size", "9" * 30)),
        pax(record("size", "abc")),
        pax(record("size", "2000"), kind=tarfile.XGLTYPE),
        pax(b"9 a=b\n"),
        pax(record("comment", "x") + b"nothing"),
        pax(b"0 a=b\n"),
        pax(b"999999999 path=b\n"),
        pax(record("hdrcharset", "no such")[:-3] + b"\xff\xff\n"),
        pax(record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0")),
        pax(record("GNU.sparse.map", "1,x")),
        with_size(header("x", 0, tarfile.XHDTYPE), b"77777777777"),
        with_size(header("x", 0, tarfile.GNUTYPE_LONGNAME), b"77777777777"),
        with_size(header("x", 0, tarfile.GNUTYPE_LONGNAME), b"\xff" * 12),
        header("x", 0, tarfile.GNUTYPE_LONGNAME) * 5000,
        header("x", 0, tarfile.XGLTYPE) * 5000,
        pax(record("comment", "x" * (1 << 20))),
    ],
    ids=range(24),
)
@pytest.mark.usefixtures("time_limit")
def test_hostile_headers_are_refused(file: Path, content: bytes) -> None:
    with pytest.raises(cf.FileReadError, match="cannot read"):
        found_in(file, content + image("1.png") + END)


def test_headers_of_gigabytes_take_no_memory(file: Path) -> None:
    """A file with a hole, where all that the header tells of is there."""
    for kind in (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE):
        file.write_bytes(header("x", 7 << 30, kind))
        os.truncate(file, 8 << 30)
        with pytest.raises(cf.FileReadError, match="must have at most 1048576 bytes"):
            members_of(file, None, Counter())
    file.write_bytes(image("0.png") + header("0.cls", 7 << 30))
    os.truncate(file, 8 << 30)
    with pytest.raises(cf.FileReadError, match=r"'0.cls' must hold the number of a class"):
        members_of(file, None, Counter())


def test_sparse_maps_without_an_end(file: Path) -> None:
    block = bytearray(header("0.png", 0, tarfile.GNUTYPE_SPARSE))
    block[482] = 1
    sparse = with_size(bytes(block), b"00000000000")
    entries = (b"00000000001\0" * 42 + b"\1").ljust(BLOCK, b"\0")
    for content in (sparse, sparse + entries * 3000):
        with pytest.raises(cf.FileReadError, match="cannot read"):
            found_in(file, content)
    whole = header("0.png", 0, tarfile.GNUTYPE_SPARSE) + image("1.png") + END
    file.write_bytes(whole)
    left_out: Counter[str] = Counter()
    assert [of.name for of in members_of(file, None, left_out)[0]] == ["1.png"]
    assert left_out == {"no regular files": 1}


def test_names_are_only_names(file: Path) -> None:
    names = ["../../up.png", "/etc/absolute.png", "new\nline.png", "a b.png"]
    assert [name for name, _ in found_in(file, b"".join(map(image, names)) + END)[0]] == names
    file.write_bytes(image("0.png") * 2 + END)
    with pytest.raises(cf.FileReadError, match=r"must name each image once, got 'x.tar/0.png' at rows 0 and 1"):
        open_images(file)
    assert sorted(path.name for path in file.parent.iterdir()) == ["x.tar"]
