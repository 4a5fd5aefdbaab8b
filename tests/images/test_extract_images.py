"""What is seen of an image: modes, orientation, sizes; which files are images, and which label is whose."""

from __future__ import annotations

import enum
import importlib
import io
import json
import os
import struct
import sys
import tarfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from PIL import Image, features

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.images.decode import DECODING, UnreadableImageError, decoded, to_rgb
from ccma_fast.images.encoders import Encoder
from ccma_fast.images.sources import open_images
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.manifest_file import MANIFEST, read_manifest, row_ids
from ccma_fast.pool.open import open_rows

pytest.importorskip("pyarrow")
extract_module = importlib.import_module("ccma_fast.images.extract")
pytestmark = pytest.mark.usefixtures("decoded_here")

# Neither symmetric nor of one shade; 16 x 16 blocks of JPEG and chroma hold one value each.
GREY = np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40 + 20, np.ones((16, 16), np.uint8))
COLOUR = np.stack([GREY, 255 - GREY, GREY[:, ::-1]], axis=2)
FINE: dict[str, Any] = {"quality": 95, "subsampling": 0}  # of JPEG
GREY_RGB = np.repeat(GREY[:, :, None], 3, axis=2)


def thumbnail(image: Image.Image) -> torch.Tensor:
    """4 x 4 mean colours, of which an image is known."""
    small = np.asarray(image.resize((4, 4), Image.Resampling.BOX), np.float32)
    return torch.from_numpy(small.transpose(2, 0, 1) / 255)


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student is a thumbnail."""
    description = {"library": "none", "model": "thumbnail", "weights": "none", "weights_sha256": "0"}

    def made(name: str, **_: Any) -> Encoder:
        return Encoder(None, thumbnail, lambda batch: batch.flatten(1), description, "cpu")

    monkeypatch.setattr(extract_module, "vision_encoder", made)


def extract(source: Any, out: Path, **options: Any) -> Any:
    return cf.extract(source, out, progress=False, **options)


def rows(out: Path) -> np.ndarray:
    return open_rows(out / "student", "x").float32()


def ids(out: Path) -> list[str]:
    manifest = read_manifest(out / "student", "x")
    assert manifest is not None
    return list(row_ids(manifest))


def seen(file: Path) -> np.ndarray:
    """What is seen of an image file, by its way through a table."""
    (file.parent / "list.csv").write_text(f"image_path,x\n{file},1\n")
    return np.asarray(open_images(file.parent / "list.csv").load(0))


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, shade, shade))


def save(file: Path, shade: int = 50) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(shade).save(file, "png" if file.suffix in ("", ".05") else None)
    return file


# --- modes ----------------------------------------------------------------------------------------


def tiff(
    values: bytes | list[bytes],
    bits: int,
    *,
    photometric: int = 1,
    sample_format: int = 1,
    order: str = "<",
    samples: int = 1,
    colours: Sequence[int] = (),
) -> bytes:
    """A TIFF file of 48 x 32 pixels in one strip, or in one for each of several planes; with a map of 256 colours."""
    strips = [values] if isinstance(values, bytes) else values
    content = bytes(2048)  # the tags and what does not fit into them
    starts = []
    for strip in strips:
        starts.append(len(content))
        content += strip
    tags: dict[int, Sequence[int]] = {256: [48], 257: [32], 258: [bits] * samples, 259: [1], 262: [photometric]}
    tags |= {273: starts, 277: [samples], 278: [32], 279: [*map(len, strips)], 284: [min(len(strips), 2)]}
    tags |= {320: colours} if colours else {}
    tags[339] = [sample_format] * samples
    head, more = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags)), b""
    for tag, numbers in tags.items():
        kind, letter = (3, "H") if tag == 320 else (4, "I")
        packed_numbers = struct.pack(f"{order}{len(numbers)}{letter}", *numbers)
        if len(packed_numbers) > 4:
            more, packed_numbers = more + packed_numbers, struct.pack(order + "I", 256 + len(more))
        head += struct.pack(order + "HHI", tag, kind, len(numbers)) + packed_numbers
    return (head.ljust(256, b"\0") + more).ljust(2048, b"\0") + content[2048:]


def packed(values: np.ndarray) -> bytes:
    """Pairs of 12 bits in three bytes."""
    a, b = values.reshape(-1, 2).astype(np.uint32).T
    return np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=1).astype(np.uint8).tobytes()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind, **options)
    return handle.getvalue()


def grey16(factor: int = 257) -> np.ndarray:
    return GREY.astype(np.uint16) * factor


def png16(*bands: np.ndarray) -> bytes:
    """A PNG file of one to four times 16 bits, which Pillow does not write but for one."""
    pixels = np.dstack(bands).astype(">u2")
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    height, width = bands[0].shape
    header = struct.pack(">IIBBBBB", width, height, 16, [0, 4, 2, 6][len(bands) - 1], 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def sgi16(values: np.ndarray) -> bytes:
    """An SGI file of 16 bits, which stands on its head."""
    head = struct.pack(">HBBHHHHll84xl404x", 474, 0, 2, 2, values.shape[1], values.shape[0], 1, 0, 65535, 0)
    return head + values[::-1].astype(">u2").tobytes()


def hot(values: np.ndarray) -> np.ndarray:
    """With one pixel that is white."""
    values = values.copy()
    values[3, 5] = 65535
    return values


def with_alpha(mode: str, alpha: int) -> Image.Image:
    image = Image.fromarray(GREY).convert(mode)
    image.putalpha(alpha)
    return image


def ycck() -> bytes:
    """A JPEG file of luminance, colour differences and black, as Adobe's programs write inks."""
    planes = np.dstack([GREY, np.full((*GREY.shape, 2), 127, np.uint8), np.zeros_like(GREY)])
    content = saved(Image.fromarray(planes, "CMYK"), "JPEG", **FINE)
    transform = content.index(b"Adobe") + 11
    return content[:transform] + b"\x02" + content[transform + 1 :]


def palette(**options: Any) -> bytes:
    return saved(Image.fromarray(GREY).convert("P"), "PNG", **options)


HALF = (GREY.astype(int) * 128 + 255 * 127 + 127) // 255

MODES: dict[str, tuple[Callable[[], bytes], np.ndarray]] = {
    "16-bit png": (lambda: saved(Image.fromarray(grey16()), "PNG"), GREY),
    "16-bit tiff": (lambda: saved(Image.fromarray(grey16()), "TIFF"), GREY),
    "16-bit tiff, compressed": (lambda: saved(Image.fromarray(grey16()), "TIFF", compression="tiff_lzw"), GREY),
    "16-bit tiff, big-endian": (lambda: tiff(grey16().astype(">u2").tobytes(), 16, order=">"), GREY),
    "16-bit tiff, white is zero": (lambda: tiff((65535 - grey16()).tobytes(), 16, photometric=0), GREY),
    "8-bit tiff, white is zero": (lambda: tiff((255 - GREY).tobytes(), 8, photometric=0), GREY),
    "12-bit tiff": (lambda: tiff(packed(GREY.astype(int) * 4095 // 255), 12), GREY),
    "16-bit pgm": (lambda: b"P5 48 32 65535\n" + grey16().astype(">u2").tobytes(), GREY),
    "pgm up to 1000": (
        lambda: b"P5 48 32 1000\n" + (GREY.astype(int) * 1000 // 255).astype(">u2").tobytes(),
        GREY,
    ),
    "16-bit png, one value transparent": (
        lambda: saved(Image.fromarray(grey16()), "PNG", transparency=20 * 257),
        np.where(GREY == 20, 255, GREY),
    ),
    "48-bit png": (lambda: png16(grey16(), grey16(), grey16()), GREY),
    "16-bit png, half of it transparent": (lambda: png16(grey16(), np.full_like(grey16(), 128 * 257)), HALF),
    "48-bit tiff": (lambda: tiff(np.dstack([grey16()] * 3).tobytes(), 16, photometric=2, samples=3), GREY),
    "tiff of three planes": (lambda: tiff([GREY.tobytes()] * 3, 8, photometric=2, samples=3), GREY),
    "tiff with colours of 8 bits": (
        lambda: tiff(GREY.tobytes(), 8, photometric=3, colours=[*range(256)] * 3),
        GREY,
    ),
    "tiff with colours of 16 bits": (
        lambda: tiff(GREY.tobytes(), 8, photometric=3, colours=[*range(0, 65536, 257)] * 3, order=">"),
        GREY,
    ),
    "16-bit sgi": (lambda: sgi16(grey16()), GREY),
    "48-bit ppm": (lambda: b"P6 48 32 65535\n" + np.dstack([grey16()] * 3).astype(">u2").tobytes(), GREY),
    "ycck jpeg": (ycck, GREY),
    "black and white": (lambda: saved(Image.fromarray(GREY).convert("1", dither=0), "PNG"), (GREY > 127) * 255),
    "palette": (palette, GREY),
    "palette, one transparent": (lambda: palette(transparency=20), np.where(GREY == 20, 255, GREY)),
    "palette, alpha in bytes": (lambda: palette(transparency=bytes([128] * 256)), HALF),
    "grey, one transparent": (
        lambda: saved(Image.fromarray(GREY), "PNG", transparency=20),
        np.where(GREY == 20, 255, GREY),
    ),
    "grey and alpha": (lambda: saved(with_alpha("L", 128), "PNG"), HALF),
    "rgba": (lambda: saved(with_alpha("RGB", 128), "PNG"), HALF),
    "rgba, opaque": (lambda: saved(with_alpha("RGB", 255), "PNG"), GREY),
    "cmyk jpeg": (lambda: saved(Image.fromarray(GREY).convert("CMYK"), "JPEG", quality=95), GREY),
    "cmyk tiff": (lambda: saved(Image.fromarray(GREY).convert("CMYK"), "TIFF"), GREY),
    "lab tiff": (lambda: saved(Image.fromarray(GREY).convert("RGB").convert("LAB"), "TIFF"), GREY),
    "gif of two": (
        lambda: saved(
            Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)], duration=9
        ),
        GREY,
    ),
    "tiff of two": (
        lambda: saved(Image.fromarray(GREY), "TIFF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        GREY,
    ),
    "animated png": (
        lambda: saved(Image.fromarray(GREY), "PNG", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
        GREY,
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_seen_as_a_person_sees_it(tmp_path: Path, mode: str) -> None:
    content, expected = MODES[mode]
    (tmp_path / "x.png").write_bytes(content())
    np.testing.assert_allclose(seen(tmp_path / "x.png"), np.repeat(expected[:, :, None], 3, axis=2), atol=2)


def test_what_looks_the_same_is_seen_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "8.png")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "16.png")
    hidden = np.dstack([pixels, 255 - pixels, pixels, np.zeros_like(pixels)])
    hidden[0, 0, 3] = 255
    Image.fromarray(hidden, "RGBA").save(tmp_path / "hidden.png")
    np.testing.assert_array_equal(seen(tmp_path / "16.png"), seen(tmp_path / "8.png"))
    np.testing.assert_array_equal(seen(tmp_path / "hidden.png")[1:], 255)


DARK = "16-bit colours fill less than a sixteenth of the range"


def hole(content: bytes) -> bytes:
    """As a copy that broke off leaves a file whose size was reserved."""
    return content[: len(content) // 2].ljust(len(content), b"\0")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (lambda: saved(Image.fromarray(GREY.astype(np.int32)), "TIFF"), "mode 'I', whose range is not known"),
        (lambda: saved(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "mode 'F', whose range is not known"),
        (lambda: tiff(GREY.astype(np.int16).tobytes(), 16, sample_format=2), "mode 'I', whose range is not known"),
        (lambda: b"Pf 48 32 -1\n" + GREY.astype("<f4").tobytes(), "mode 'F', whose range is not known"),
        (lambda: saved(Image.fromarray(grey16(16)), "PNG"), "values lie between 320 and 3520 of 65535, too close"),
        (lambda: saved(Image.fromarray(grey16(9) + 32768), "TIFF"), "between 32948 and 34748 of 65535, too close"),
        (lambda: png16(hot(grey16(16))), "98% of its 16-bit values lie between 320 and 3520 of 65535, too close"),
        (lambda: png16(grey16(16), grey16(16), grey16(16)), DARK),
        (lambda: png16(hot(grey16(16)), grey16(16), grey16(9)), DARK),
        (lambda: png16(grey16(16), np.full_like(grey16(), 30_000)), DARK),
        (lambda: b"P6 48 32 65535\n" + np.dstack([grey16(16)] * 3).astype(">u2").tobytes(), DARK),
        (lambda: sgi16(grey16(16)), DARK),
        (lambda: tiff(np.dstack([grey16(16)] * 4).tobytes(), 16, photometric=5, samples=4), DARK),
        (lambda: tiff([grey16().tobytes()] * 3, 16, photometric=2, samples=3), "planes of 16 bits or of Lab, which"),
        (lambda: tiff([GREY.tobytes()] * 3, 8, photometric=8, samples=3), "planes of 16 bits or of Lab, which"),
        (lambda: tiff(GREY.tobytes(), 8, sample_format=2), "pixels are 8 bits with a sign"),
        (lambda: tiff(GREY.astype(np.float64).tobytes(), 64, sample_format=3), "a TIFF image of a kind that Pillow"),
        (lambda: hole(saved(Image.fromarray(COLOUR), "PNG")), "SyntaxError: broken PNG file"),
        (lambda: saved(with_alpha("RGB", 0), "PNG"), "every pixel is transparent"),
        (lambda: palette(transparency=bytes(256)), "every pixel is transparent"),
        (lambda: saved(Image.new("L", (1, 65_000)), "PNG"), "1 x 65000 pixels; expected sides of at most 100 : 1"),
        (lambda: saved(Image.new("L", (505, 5)), "PNG"), "505 x 5 pixels; expected sides of at most 100 : 1"),
        (lambda: b"P5 20000 10000 255\n", "DecompressionBombError: .*exceeds limit of"),
        (lambda: b"P5 10000 10000 255\n", "DecompressionBombWarning: .*exceeds limit of"),
        (lambda: saved(Image.fromarray(COLOUR), "PNG")[:-40], "(OSError|SyntaxError): "),
        (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a format that is read"),
        (lambda: b"", "no image of a format that is read"),
    ],
)
def test_what_is_not_seen_has_its_reason(tmp_path: Path, content: Callable[[], bytes], why: str) -> None:
    (tmp_path / "x.png").write_bytes(content())
    with pytest.raises(UnreadableImageError, match=why):
        seen(tmp_path / "x.png")


def test_images_of_memory() -> None:
    for image, expected in (
        (Image.fromarray(grey16()), GREY_RGB),
        (Image.fromarray(COLOUR).convert("HSV"), COLOUR),
        (Image.fromarray(COLOUR).convert("YCbCr"), COLOUR),
        (with_alpha("L", 128).convert("La"), np.repeat(HALF[:, :, None], 3, axis=2)),
        (with_alpha("RGB", 128).convert("RGBa"), np.repeat(HALF[:, :, None], 3, axis=2)),
        (with_alpha("P", 128), np.repeat(HALF[:, :, None], 3, axis=2)),
        (Image.fromarray(COLOUR).convert("RGBX"), COLOUR),
        (Image.fromarray(np.full((4, 4), 9000, np.uint16)), np.full((4, 4, 3), 35)),  # one shade is one shade
    ):
        np.testing.assert_allclose(np.asarray(to_rgb(image)), expected, atol=8, err_msg=image.mode)
    for image, why in (
        (Image.fromarray(GREY.astype(np.int32)), "mode 'I'"),
        (Image.new("RGB", (0, 0)), "0 x 0 pixels"),
        (GREY, "expected an image of PIL, got ndarray"),
        (None, "expected an image of PIL, got NoneType"),
    ):
        with pytest.raises(UnreadableImageError, match=why):
            to_rgb(image)


# --- orientation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(10))
def test_images_are_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    upright = Image.fromarray(COLOUR)
    stored = {  # what a camera stores of it: the inverse of what the number tells viewers to do
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    exif = Image.Exif()
    exif[274] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "webp" else FINE if kind == "jpeg" else {}
    image.save(tmp_path / f"x.{kind}", exif=exif, **options)
    found = seen(tmp_path / f"x.{kind}")
    assert found.shape == COLOUR.shape
    np.testing.assert_allclose(found, COLOUR, atol=3 if kind == "jpeg" else 0)


@pytest.mark.parametrize(("kind", "packed_number"), [(1, b"\x06"), (3, b"\0\x06"), (4, b"\0\0\0\x06")])
def test_orientation_of_any_type(tmp_path: Path, kind: int, packed_number: bytes) -> None:
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHI", 8, 1, 274, kind, 1) + packed_number.ljust(8, b"\0")
    Image.fromarray(COLOUR).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "x.jpg", exif=exif, **FINE)
    np.testing.assert_allclose(seen(tmp_path / "x.jpg"), COLOUR, atol=3)


def test_damaged_metadata_cost_no_image(tmp_path: Path) -> None:
    content = saved(Image.fromarray(COLOUR), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(30), **FINE)
    (tmp_path / "x.jpg").write_bytes(content)
    np.testing.assert_allclose(seen(tmp_path / "x.jpg"), COLOUR, atol=3)


def test_a_pool_of_another_decoding_is_not_gone_on_with(tmp_path: Path) -> None:
    save(tmp_path / "in" / "a.png")
    extract(tmp_path / "in", tmp_path / "out")
    file = tmp_path / "out" / "student" / MANIFEST
    content = json.loads(file.read_text())
    assert content["preprocessing"][: len(DECODING)] == DECODING
    content["preprocessing"] = content["preprocessing"][len(DECODING) :]  # as it was before images were turned
    file.write_text(json.dumps(content))
    save(tmp_path / "in" / "b.png")
    with pytest.raises(cf.PoolMismatchError, match=r"same encoder and preprocessing, got .* 'upright by EXIF"):
        extract(tmp_path / "in", tmp_path / "out")
    assert rows(tmp_path / "out").shape == (1, 48)  # it can still be read


# --- one image is never the end of a run ----------------------------------------------------------


def test_extreme_images_are_skipped_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    Image.new("L", (1, 65_000)).save(tmp_path / "in" / "thin.png")
    Image.new("L", (10_001, 100)).save(tmp_path / "in" / "wide.png")
    Image.new("L", (300, 300)).save(tmp_path / "in" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)

    whole = thumbnail

    def small_memory(image: Image.Image) -> torch.Tensor:
        if image.size == (33, 33):
            raise MemoryError("no 3 GB")
        return whole(image)

    Image.new("L", (33, 33)).save(tmp_path / "in" / "hungry.png")
    monkeypatch.setattr(sys.modules[__name__], "thumbnail", small_memory)
    found = extract(tmp_path / "in", tmp_path / "out", batch_size=2)
    assert (found.n_rows, ids(tmp_path / "out")) == (3, ["a.png", "b.png", "c.png"])
    assert set(found.skipped) == {"thin.png", "wide.png", "bomb.png", "hungry.png"}
    assert found.skipped["hungry.png"] == "MemoryError: no 3 GB"
    assert "DecompressionBombError" in found.skipped["bomb.png"]


def test_filters_for_warnings_change_nothing() -> None:
    """Here every warning is an error."""

    def make() -> Image.Image:
        warnings.warn("Corrupt EXIF data", UserWarning, stacklevel=1)
        return picture(1)

    assert decoded(make).size == (8, 8)


# --- what was skipped is tried again --------------------------------------------------------------


def test_a_repaired_image_becomes_a_row_behind_the_others(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in range(7):
        save(folder / f"{i}.png", 10 * i)
    whole = (folder / "3.png").read_bytes()
    (folder / "3.png").write_bytes(whole[: len(whole) // 2])
    (folder / "5.png").write_bytes(b"nothing")
    first = extract(folder, out, batch_size=2, shard_size=3)
    assert set(first.skipped) == {"3.png", "5.png"}
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    second = extract(folder, out, batch_size=2, shard_size=3)
    assert (second.skipped, second.not_tried) == (first.skipped, ["3.png", "5.png"])  # and nothing is written
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before

    (folder / "3.png").write_bytes(whole)
    save(folder / "7.png", 70)
    third = extract(folder, out, batch_size=2, shard_size=3)
    assert (third.n_rows, set(third.skipped), third.repaired) == (7, {"5.png"}, ["3.png"])
    assert ids(out) == [f"{i}.png" for i in (0, 1, 2, 4, 6, 7, 3)]
    shades = [i * 10 / 255 for i in (0, 1, 2, 4, 6, 7, 3)]
    np.testing.assert_allclose(rows(out)[:, 0], shades, atol=1e-3)
    for path, content in before.items():
        assert path.name == MANIFEST or path.read_bytes() == content
    # Broken otherwise: the reason is the one of now.
    (folder / "5.png").write_bytes(whole[:45])
    assert extract(folder, out).skipped["5.png"] != first.skipped["5.png"]
    # And gone: it is no row and no error.
    (folder / "5.png").unlink()
    assert extract(folder, out).n_rows == 7


def test_a_repaired_image_and_a_second_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def teacher(*_: Any, **__: Any) -> Encoder:
        description = {"library": "none", "model": "darkness", "weights": "none", "weights_sha256": "1"}
        return Encoder(None, thumbnail, lambda batch: 1 - batch.flatten(1), description, "cpu")

    monkeypatch.setattr(extract_module, "open_clip_encoder", teacher)
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in range(5):
        save(folder / f"{i}.png", 10 * i)
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:30])
    extract(folder, out, shard_size=2, batch_size=2)
    (folder / "1.png").write_bytes(whole)
    found = extract(folder, out, shard_size=2, batch_size=2, teacher="darkness")
    assert (found.n_rows, found.skipped) == (5, {})
    assert ids(out) == [f"{i}.png" for i in (0, 2, 3, 4, 1)]
    teacher_rows = open_rows(out / "teacher", "v")
    np.testing.assert_allclose(teacher_rows.float32(), 1 - rows(out), atol=1e-3)
    assert teacher_rows.manifest is not None
    assert all(not shard.skipped for shard in teacher_rows.manifest.shards)
    teacher_of_rows = cf.Teacher(out / "teacher", np.eye(2, 48))
    cf.select(out / "student", 2, teacher=teacher_of_rows, config=cf.CCMAConfig(acquisition="trust"))


# --- work is saved within a shard -----------------------------------------------------------------


def test_a_shard_goes_on_where_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(11):
        save(tmp_path / "in" / f"{i:02d}.png", 20 * i)
    (tmp_path / "in" / "04.png").write_bytes(b"nothing")
    given = {"shard_size": 7, "batch_size": 2}
    extract(tmp_path / "in", tmp_path / "plain", **given)
    monkeypatch.setattr("ccma_fast.images.embedding._SAVE_SECONDS", 0.0)
    sizes: list[list[int]] = []
    embed = Encoder.embed

    def noting(self: Encoder, batch: Any, **options: Any) -> Any:
        sizes[-1].append(len(batch))
        if len(sizes) == 2 and len(sizes[-1]) == 4:
            raise KeyboardInterrupt
        return embed(self, batch, **options)

    monkeypatch.setattr(Encoder, "embed", noting)
    sizes.append([])
    extract(tmp_path / "in", tmp_path / "slow", **given)
    sizes.append([])
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "in", tmp_path / "killed", **given)
    sizes.append([])
    extract(tmp_path / "in", tmp_path / "killed", **given)
    blank = 1  # what tells the number of columns
    assert sizes[0] == [blank, 2, 2, 1, 1, 2, 2]  # batches end where shards of seven do
    assert [*sizes[1][:-1], *sizes[2][1:]] == sizes[0]  # and a kill makes no others
    assert tree(tmp_path / "slow") == tree(tmp_path / "killed") == tree(tmp_path / "plain")


@pytest.mark.parametrize("change", ["batch size", "image", "damage"])
def test_what_was_saved_of_other_work_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    for i in range(6):
        save(tmp_path / "in" / f"{i:02d}.png", 20 * i)
    given = {"shard_size": 6, "batch_size": 2}
    monkeypatch.setattr("ccma_fast.images.embedding._SAVE_SECONDS", 0.0)
    embed, n_batches = Encoder.embed, [0]

    def dying(self: Encoder, batch: Any, **options: Any) -> Any:
        n_batches[0] += 1
        if n_batches[0] == 4:
            raise KeyboardInterrupt
        return embed(self, batch, **options)

    monkeypatch.setattr(Encoder, "embed", dying)
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "in", tmp_path / "out", **given)
    (saved,) = (tmp_path / "out" / ".extraction").iterdir()
    if change == "batch size":
        given["batch_size"] = 3
    elif change == "image":
        save(tmp_path / "in" / "01.png", 200)
        os.utime(tmp_path / "in" / "01.png", (9, 9))
    else:
        saved.write_bytes(saved.read_bytes()[:-100])
    extract(tmp_path / "in", tmp_path / "out", **given)
    extract(tmp_path / "in", tmp_path / "plain", **given)
    assert tree(tmp_path / "out") == tree(tmp_path / "plain")


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- which files are images -----------------------------------------------------------------------


def test_files_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    wanted = ["a.jfif", "b/c.JPE", "b/deep/er/d.png", "e.jpeg", "f.bmp", "g.webp", "no_suffix", "22.05", "h.tga"]
    if features.check("jpg_2000"):
        wanted.append("i.jp2")
    for path in wanted:
        save(folder / path)
    for path in (".hidden.png", ".cache/x.png", "__MACOSX/a.png", "b/._c.png", "@eaDir/a.png"):
        save(folder / path)
    for path, content in {
        "notes.txt": b"no image",
        "more.TXT": b"no image",
        "README": b"no image",
        "empty": b"",
        "photo.heic": b"\0\0\0\x18ftypheic",
        "x.h5": b"\x89HDF\r\n\x1a\n",
        "x.pdf": b"%PDF-1.4",
        "x.mpg": bytes(9),
        "x.eps": b"%!PS-Adobe",
    }.items():
        (folder / path).write_bytes(content)
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / os.fsdecode(b"b\xfcro.png")).write_bytes(saved(picture(1), "PNG"))
    found = extract(folder, tmp_path / "out")
    assert ids(tmp_path / "out") == sorted(wanted)
    assert found.skipped == {}
    expected = {".txt": 2, ".heic": 1, ".h5": 1, ".pdf": 1, ".mpg": 1, ".eps": 1, "without a suffix": 2, "hidden": 5}
    assert found.left_out == {**expected, "no regular files": 2, "with names that are not UTF-8": 1}
    assert main(["extract", str(folder), "--out", str(tmp_path / "out"), "-q"]) == 0
    assert "left out: 1 .eps, 1 .h5, 1 .heic, 1 .mpg, 1 .pdf, 2 .txt, 5 hidden, 2 no regular" in capsys.readouterr().err


def test_the_user_says_which_suffixes_are_images(tmp_path: Path) -> None:
    for path in ("a.png", "b.PNG", "c.bmp", "d.thumb.png", "e", "f.xyz"):
        save(tmp_path / "in" / path) if path != "f.xyz" else picture(1).save(tmp_path / "in" / path, "png")
    for suffixes, expected in (
        (["png"], ["a.png", "b.PNG", "d.thumb.png"]),
        ([".PNG", "xyz"], ["a.png", "b.PNG", "d.thumb.png", "f.xyz"]),
        ("thumb.png", ["d.thumb.png"]),
    ):
        assert open_images(tmp_path / "in", suffixes=suffixes).ids == expected
    out = tmp_path / "out"
    assert main(["extract", str(tmp_path / "in"), "--image-suffixes", "bmp", "xyz", "--out", str(out), "-q"]) == 0
    assert ids(out) == ["c.bmp", "f.xyz"]
    (tmp_path / "list.csv").write_text("a.png\n")
    for source, suffixes, message in (
        (tmp_path / "in", [], "image_suffixes must be at least one, got none"),
        (tmp_path / "in", [""], "image_suffixes must be such as 'jpg' or 'seg.png', got ''"),
        (tmp_path / "in", ["gif"], r"no image in '.*in', but 1 .bmp, 3 .png, 1 .xyz, 1 without a suffix"),
        (tmp_path / "list.csv", ["png"], "image_suffixes is for folders and .tar files, got another source"),
    ):
        with pytest.raises(ValueError, match=message):
            extract(source, tmp_path / "none", image_suffixes=suffixes)
    with pytest.raises(TypeError, match="image_suffixes must be strings, got int"):
        extract(tmp_path / "in", tmp_path / "none", image_suffixes=[3])


def test_folders_that_are_links_are_entered_once(tmp_path: Path) -> None:
    save(tmp_path / "in" / "z" / "1.png")
    save(tmp_path / "elsewhere" / "2.png")
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in" / "z")
    (tmp_path / "in" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "in")
    assert open_images(tmp_path / "in").ids == ["b/2.png", "z/1.png"]


def test_several_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, path in enumerate(["one/1.png", "one/x/2.png", "two/1.png"]):
        save(tmp_path / path, 50 * i)
    out = tmp_path / "out"
    extract([tmp_path / "one", tmp_path / "two"], out)
    assert ids(out) == ["one/1.png", "one/x/2.png", "two/1.png"]
    np.testing.assert_allclose(rows(out)[:, 0], [0, 50 / 255, 100 / 255], atol=1e-3)
    save(tmp_path / "three" / "1.png", 150)
    monkeypatch.chdir(tmp_path / "one")  # what they are called is theirs, not the way to them
    assert main(["extract", "../three", "../two/", ".", "--out", str(out), "-q"]) == 0
    assert ids(out) == ["one/1.png", "one/x/2.png", "two/1.png", "three/1.png"]
    with pytest.raises(cf.PoolMismatchError, match=r"ids, got '1.png' for 'one/1.png' in .*the same folders as before"):
        extract(tmp_path / "one", out)
    extract(tmp_path / "two", tmp_path / "alone")
    with pytest.raises(cf.PoolMismatchError, match=r"ids, got '.../1.png' for '1.png' in .*the same folders as before"):
        extract([tmp_path / "one", tmp_path / "two"], tmp_path / "alone")
    save(tmp_path / "else" / "two" / "1.png")
    for folders, message in (
        (["two", "else/two"], "folders must have different names, .*got '.*/two' and '.*/else/two'"),
        (["two", "two"], "folders must have different names"),
        (["one", "one/x"], "folders must lie apart, got '.*one/x' in '.*one'"),
    ):
        with pytest.raises(cf.FileReadError, match=message):
            extract([tmp_path / folder for folder in folders], tmp_path / "none")


def test_labels_from_folders(tmp_path: Path) -> None:
    for path in ("cat/1.png", "cat/2024/deep/2.png", "great tit/1.png", "7/1.png", "top.png"):
        save(tmp_path / "in" / path)
    out = tmp_path / "out"
    assert main(["extract", str(tmp_path / "in"), "--labels-from-folders", "--out", str(out), "-q"]) == 0
    assert ids(out) == ["7/1.png", "cat/1.png", "cat/2024/deep/2.png", "great tit/1.png", "top.png"]
    names = ["great tit", "7", "cat"]
    np.testing.assert_array_equal(
        read_labels(out / "student", open_rows(out / "student", "features"), class_names=names), [1, 2, 2, 0, -1]
    )
    extract(tmp_path / "in", tmp_path / "unlabelled")
    with pytest.raises(cf.PoolMismatchError, match=r"labels must be those of .*'7/1.png' has None, got '7'"):
        extract(tmp_path / "in", tmp_path / "unlabelled", labels_from_folders=True)
    for folder in ("a", "b"):
        save(tmp_path / folder / "dog" / "1.png")
    assert open_images([tmp_path / "a", tmp_path / "b"], labels_from_folders=True).labels == ["dog", "dog"]
    with pytest.raises(cf.FileReadError, match=r"labels_from_folders needs images in folders below '.*cat/2024/deep'"):
        extract(tmp_path / "in" / "cat" / "2024" / "deep", tmp_path / "none", labels_from_folders=True)
    (tmp_path / "list.csv").write_text("a.png\n")
    with pytest.raises(ValueError, match="labels_from_folders is for folders of images, got another source"):
        extract(tmp_path / "list.csv", tmp_path / "none", labels_from_folders=True)


# --- WebDataset -----------------------------------------------------------------------------------


def tar(file: Path, names: dict[str, bytes | None]) -> Path:
    """A tar file; None stands for a picture."""
    with tarfile.open(file, "w") as archive:
        for i, (name, content) in enumerate(names.items()):
            if content is None:
                content = saved(picture(10 * i), "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


def labels_in(file: Path, **options: Any) -> dict[str, Any]:
    images = open_images(file, **options)
    labels = images.labels or [None] * len(images.ids)
    return {image.partition("/")[2]: label for image, label in zip(images.ids, labels, strict=True)}


def test_keys_of_a_tar(tmp_path: Path) -> None:
    dates = tar(tmp_path / "d.tar", {"22.05.png": None, "22.05.cls": b"1", "22.06.png": None, "22.06.cls": b" 2\n"})
    assert labels_in(dates) == {"22.05.png": 1, "22.06.png": 2}
    plain = {"0.jpg": None, "0.cls": b"4", "0.txt": b"a cat", "0.json": b"{}", "a/0.jpg": None, "a/0.cls": b"5"}
    assert labels_in(tar(tmp_path / "p.tar", plain)) == {"0.jpg": 4, "a/0.jpg": 5}
    views = tar(tmp_path / "v.tar", {"1.png": None, "1.1.png": None, "1.cls": b"3", "1.1.cls": b"6"})
    assert labels_in(views) == {"1.png": 3, "1.1.png": 6}
    dotted = tar(tmp_path / "o.tar", {"./0.png": None, "./0.cls": b"1", "0.x/1.png": None, "0.x/1.cls": b"2"})
    assert labels_in(dotted) == {"./0.png": 1, "0.x/1.png": 2}
    mac = {"0.png": None, "0.cls": b"1", "._0.cls": b"\0\5\x16\7", "._0.png": b"\0\5\x16\7", "__MACOSX/0.png": None}
    assert labels_in(tar(tmp_path / "m.tar", mac)) == {"0.png": 1}
    bare = tar(tmp_path / "b.tar", {"0": None, "0.cls": b"1", "notes": b"none"})
    assert labels_in(bare) == {"0": 1}
    assert open_images(bare).left_out == {"without a suffix": 1}


MASKS = {"0.jpg": None, "0.seg.png": None, "0.cls": b"1", "1.jpg": None, "1.seg.png": None, "1.cls": b"2"}


def test_two_images_of_one_sample_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hint = r"expected one image, image_suffixes \(--image-suffixes\) says which"
    for name, content, message in (
        ("masks", MASKS, "'0.jpg' and '0.seg.png' in '.*masks.tar' are of one sample"),
        ("kinds", {"0.jpg": None, "0.png": None}, "'0.jpg' and '0.png' in '.*kinds.tar' are of one sample"),
        ("same", {"0.png": None, "0.seg.png": None}, "'0.png' and '0.seg.png' in '.*same.tar' are of one sample"),
        ("last", {"0.seg.png": None, "0.jpg": None}, "'0.jpg' and '0.seg.png' in '.*last.tar' are of one sample"),
    ):
        with pytest.raises(cf.FileReadError, match=f"{message}, with one label; {hint}"):
            open_images(tar(tmp_path / f"{name}.tar", content))
    masks = tmp_path / "masks.tar"
    assert labels_in(masks, suffixes=["jpg"]) == {"0.jpg": 1, "1.jpg": 2}
    assert labels_in(masks, suffixes=["seg.png"]) == {"0.seg.png": 1, "1.seg.png": 2}
    assert labels_in(tmp_path / "same.tar", suffixes=["png"]) == {"0.png": None}
    assert open_images(tmp_path / "same.tar", suffixes=["png"]).left_out == {"beside another image of the sample": 1}
    with pytest.raises(cf.FileReadError, match=r"'0.jpg' and '0.seg.png' in .* are of one sample"):
        open_images(masks, suffixes=["jpg", "seg.png"])
    out = str(tmp_path / "out")
    assert main(["extract", str(masks), "--out", out, "-q"]) == 2
    assert "'0.jpg' and '0.seg.png'" in capsys.readouterr().err
    assert main(["extract", str(masks), "--out", out, "--image-suffixes", "jpg", "-q"]) == 0
    np.testing.assert_array_equal(
        read_labels(tmp_path / "out" / "student", open_rows(tmp_path / "out" / "student", "features")), [1, 2]
    )


def test_labels_of_a_tar_that_are_nobodys(tmp_path: Path) -> None:
    for name, content, message in (
        ("dates", {"22.05.png": None, "22.cls": b"1"}, "'22.05.png' in .* whole name, got '22.cls'"),
        ("field", {"0.image.png": None, "0.cls": b"1"}, "'0.image.png' in .* whole name, got '0.cls'; image_suffixes"),
        ("text", {"0.png": None, "0.cls": b"cat"}, "'0.cls' must hold the number of a class, got b'cat'"),
        ("odd", {"0.png": None, "0.cls": b"1_0"}, "'0.cls' must hold the number of a class, got b'1_0'"),
        ("twice", {"0.png": None, "0.cls": b"1", "./0.cls": b"2"}, "'./0.cls' must stand there once, got .* 1 and 2"),
    ):
        with pytest.raises(cf.FileReadError, match=message):
            open_images(tar(tmp_path / f"{name}.tar", content))
    assert labels_in(tmp_path / "field.tar", suffixes=["image.png"]) == {"0.image.png": 1}
    absent = open_images(tar(tmp_path / "absent.tar", {"0.png": None, "1.cls": b"1"}))
    assert (absent.labels, absent.left_out) == (None, {".cls without an image": 1})


def test_links_and_folders_in_a_tar_are_no_images(tmp_path: Path) -> None:
    file = tar(tmp_path / "x.tar", {"0.png": None})
    with tarfile.open(file, "a") as archive:
        for name, kind in (("d.png", tarfile.DIRTYPE), ("l.png", tarfile.LNKTYPE), ("s.png", tarfile.SYMTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "0.png"
            archive.addfile(entry)
    images = open_images(file)
    assert (images.ids, images.left_out) == (["x.tar/0.png"], {"no regular files": 2})


# --- labels of data sets and tables ---------------------------------------------------------------


class Pictures:
    """A data set as torchvision's are."""

    def __init__(self, targets: Any, **attributes: Any) -> None:
        self.targets = targets
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return picture(50 * i), 0


class Name(str, enum.Enum):
    A = "a"


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([2, 0, 1], [2, 0, 1]),
        (torch.tensor([2, -1, 1]), [2, -1, 1]),
        (np.array([2.0, np.nan, 1.0]), [2, -1, 1]),
        ([np.int64(2), None, torch.tensor(1)], [2, -1, 1]),
        (["b", "a", ""], [1, 0, -1]),
        (["b", Name.A, pandas.NA], [1, 0, -1]),
        (np.array(["b", "a", "b"]), [1, 0, 1]),
    ],
)
def test_targets_of_a_data_set(tmp_path: Path, targets: Any, expected: list[int]) -> None:
    extract(Pictures(targets), tmp_path)
    names = ["a", "b"] if isinstance(targets[0], str) else None
    found = read_labels(tmp_path / "student", open_rows(tmp_path / "student", "features"), class_names=names)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([True, False, True], "a number or a name, or -1 for none, got True at row 0"),
        (torch.tensor([False, True, True]), "got False at row 0"),
        ([0, 1.5, 2], "got 1.5 at row 1"),
        ([0, float("inf"), 2], "got inf at row 1"),
        ([0, -2, 2], "got -2 at row 1"),
        ([0, 2**63, 2], "got 9223372036854775808 at row 1"),
        (np.eye(3, dtype=int), r"got \[1, 0, 0\] at row 0"),
        ([[0], [1], [2]], r"got \[0\] at row 0"),
        ([torch.tensor([0, 1])] * 3, r"got tensor\(\[0, 1\]\) at row 0"),
        ([{"label": 1}] * 3, "got {'label': 1} at row 0"),
        ([b"a"] * 3, "got b'a' at row 0"),
        ([0, "a", 1], "must be all numbers or all text, got both"),
        ([0, 1], "must be one for each image, got 2 for 3 images"),
    ],
)
def test_targets_that_are_no_classes_fail_before_anything_is_embedded(
    tmp_path: Path, targets: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=f"labels of Pictures must be .*{message}|labels of Pictures {message}"):
        extract(Pictures(targets), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_data_sets_that_change_their_targets_or_name_their_files(tmp_path: Path) -> None:
    assert open_images(Pictures([0, 1, 2], target_transform=lambda target: target + 5)).labels == [5, 6, 7]
    samples = [(f"/data/{i}.png", 0) for i in range(3)]
    assert open_images(Pictures(None, samples=samples, root="/data")).ids == ["0.png", "1.png", "2.png"]
    assert open_images(Pictures(None, samples=samples)).ids == ["0", "1", "2"]
    with pytest.raises(cf.FileReadError, match="Pictures has 3 items but 2 samples"):
        open_images(Pictures(None, samples=samples[:2], root="/data"))


def test_labels_of_tables(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    paths = [save(tmp_path / f"{i}.png").name for i in range(3)]
    (tmp_path / "list.csv").write_text("image_path,label\n0.png,007\n1.png,1\n2.png,\n")
    extract(tmp_path / "list.csv", tmp_path / "csv")  # text stays what it is: the name of a class, or its number
    given = read_labels(
        tmp_path / "csv" / "student", open_rows(tmp_path / "csv" / "student", "features"), class_names=["1", "007"]
    )
    np.testing.assert_array_equal(given, [1, 0, -1])
    for labels, message in (([1.0, None, 2.0], None), ([0.5, 1.0, 1.0], "got 0.5 at row 0"), ([True] * 3, "got True")):
        parquet.write_table(pyarrow.table({"path": paths, "label": labels}), tmp_path / "x.parquet")
        if message is None:
            assert open_images(tmp_path / "x.parquet").labels == [1, None, 2]
        else:
            with pytest.raises(ValueError, match=message):
                open_images(tmp_path / "x.parquet")
    parquet.write_table(pyarrow.table({"path": ["0.png", None]}), tmp_path / "x.parquet")
    with pytest.raises(cf.FileReadError, match="must have names in UTF-8, got None at row 1"):
        open_images(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("cells", "known"),
    [
        (["1", "", "0", "-1"], [1, None, 0, -1]),
        (["01", "", "00", "02"], ["01", None, "00", "02"]),
        (["1", "dog", "0", ""], ["1", "dog", "0", None]),
        (["1.0", "0.0", "", "2.0"], ["1.0", "0.0", None, "2.0"]),
    ],
)
def test_numbers_in_a_csv_file_are_numbers(tmp_path: Path, cells: list[str], known: list[Any]) -> None:
    """So that nobody takes them for names where classes are called as other ones are numbered."""
    lines = [f"{save(tmp_path / f'{i}.png').name},{cell}" for i, cell in enumerate(cells)]
    (tmp_path / "list.csv").write_text("\n".join(["image_path,label", *lines]))
    assert open_images(tmp_path / "list.csv").labels == known
    if known[0] == 1:
        extract(tmp_path / "list.csv", tmp_path / "out")
        pool = open_rows(tmp_path / "out" / "student", "features")
        np.testing.assert_array_equal(read_labels(tmp_path / "out" / "student", pool), [1, -1, 0, -1])
        for source in (tmp_path / "out" / "student", tmp_path / "list.csv"):
            with pytest.raises(ValueError, match="labels must say whether they are names or numbers of classes, got"):
                read_labels(source, pool, class_names=["1", "0"])


def test_labels_that_changed_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    for label, fits in (("1", True), ("1", True), ("2", False), ("", False)):
        (tmp_path / "list.csv").write_text(f"image_path,label\n0.png,{label}\n")
        if fits:
            extract(tmp_path / "list.csv", tmp_path / "out")
        else:
            with pytest.raises(cf.PoolMismatchError, match=r"labels must be those of .*'0.png' has 1, got"):
                extract(tmp_path / "list.csv", tmp_path / "out")
