"""Decode an image file into what encoders take, upright, opaque, 8-bit RGB; or say why not."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .zero_filled import zeros_for_pixels

if TYPE_CHECKING:
    from PIL import Image

from ..version import __version__

__all__ = [
    "DECODING",
    "HEAD_BYTES",
    "PICTURES",
    "PillowSettings",
    "UnreadableImageError",
    "decoded",
    "decoder",
    "formats_read",
    "is_passing",
    "kind_of",
    "read_image",
    "reason_of",
    "to_rgb",
]

DECODING = ["first frame", "upright by EXIF orientation", "16-bit grey / 257", "transparency over white", "RGB"]
"""The operations on an image before an encoder's own preprocessing, as manifests record them."""

PICTURES = frozenset(
    ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP")
)
"""Pillow's own formats that are read: pictures that it decodes itself, from one file, and whose truncation it notices.
Others start programs (EPS), contain files of any format (IPTC), are not pictures, or are truncated unnoticed (PCX)."""

HEAD_BYTES = 16
"""First bytes of a file, by which Pillow identifies its format."""

# Formats that the first bytes of a file identify for certain.
_TOLD_BY_CONTENT = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
_UNKNOWN = "no image of a format that is read"

# Encoders scale the short side to their input; the long one of a thinner image would take gigabytes.
_LARGEST_ASPECT = 100

# Tags of EXIF and TIFF.
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262
_PLANES, _COLOUR_MAP, _SAMPLE_FORMAT = 284, 320, 339
_MINIMUM_IS_WHITE, _LAB = 0, 8
_SIGNED = 2
_SEPARATE = 2

# 16-bit images of which so many pixels are of few shades, whatever a hot pixel or a frame adds.
_MOST = 0.98
_NARROW = 16


class UnreadableImageError(Exception):
    """An image cannot be decoded, or not without guessing; the text says why.

    Attributes
    ----------
    passing : bool
        The cause is transient and not the content of the file: the same file may be read another time.
    """

    def __init__(self, reason: str, *, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class PillowSettings:
    """The part of Pillow's state that decides which images are read, to be sent to another process.

    Attributes
    ----------
    plugins : dict of str
        For each format that is not Pillow's own: what opens it, and what identifies it by its first bytes.
    most_pixels : int or None
    most_text, most_texts : int
        Bytes of one text of a PNG file, or its colour profile, and of all its texts.
    """

    plugins: dict[str, Any]
    most_pixels: int | None
    most_text: int
    most_texts: int

    @classmethod
    def here(cls) -> PillowSettings:
        from PIL import Image, PngImagePlugin

        plugins = {kind: Image.OPEN[kind] for kind in formats_read() if _is_foreign(kind)}
        return cls(plugins, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY)

    def set(self) -> None:
        """Apply them to this process."""
        from PIL import Image, PngImagePlugin

        Image.init()
        for kind, (factory, accepts) in self.plugins.items():
            Image.register_open(kind, factory, accepts)
        Image.MAX_IMAGE_PIXELS = self.most_pixels
        PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY = self.most_text, self.most_texts


def formats_read() -> list[str]:
    """The formats that are read, in Pillow's order: :data:`PICTURES`, and those of the caller's plugins."""
    from PIL import Image

    Image.init()
    return [kind for kind in Image.ID if kind in PICTURES or _is_foreign(kind)]


def _is_foreign(kind: str) -> bool:
    from PIL import Image

    return kind in Image.OPEN and not getattr(Image.OPEN[kind][0], "__module__", "").startswith("PIL.")


def decoded(make: Callable[[], Image.Image]) -> Image.Image:
    """The result of `make`, whatever warning filters are set, and whether or not Pillow is to load truncated images.

    Raises
    ------
    UnreadableImageError
        It failed; the text says how.
    """
    from PIL import Image, ImageFile

    takes_cut_off, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return make()
    except UnreadableImageError:
        raise
    except Exception as error:  # a damaged image raises whatever its decoder meets, MemoryError included
        raise UnreadableImageError(reason_of(error), passing=is_passing(error)) from error
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = takes_cut_off


def decoder() -> str:
    """A digest of what decides which images can be decoded: versions, formats and Pillow's limits."""
    import PIL

    here = PillowSettings.here()
    limits = (here.most_pixels, here.most_text, here.most_texts)
    known = (__version__, PIL.__version__, sorted(formats_read()), limits)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:12]


def is_passing(error: Exception) -> bool:
    """Whether an error is transient, of permissions, a disk or memory, and not of the content of a file."""
    if isinstance(error, OSError):
        return error.errno is not None  # the system's; Pillow gives none to those that it raises of a damaged image
    no_memory = isinstance(error, RuntimeError) and "memory" in str(error)  # as PyTorch says it
    return no_memory or getattr(error, "passing", isinstance(error, MemoryError))


def reason_of(error: Exception) -> str:
    """An error in one line of valid UTF-8; paths in it may hold other bytes."""
    line = ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split()))))
    return line.encode(errors="backslashreplace").decode()


def read_image(file: BinaryIO) -> Image.Image:
    """The image in an open file, as :func:`to_rgb` gives it.

    Raises
    ------
    UnreadableImageError
        As :func:`to_rgb`; a format that is not read; or zeros where the data of pixels should end. Pillow raises other
        errors, which :func:`decoded` converts to this one.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(file, formats=formats_read())
    except UnidentifiedImageError as error:  # whose text has an address in it
        file.seek(0)
        kind = kind_of(file.read(HEAD_BYTES))
        what = f"a {kind} image of a kind that Pillow does not decode, or a damaged one" if kind else _UNKNOWN
        raise UnreadableImageError(what) from error
    if image.format == "PNG":
        with image:
            image.verify()  # decoding skips the checksums of pixels, and leaves what follows a gap black
        file.seek(0)
        image = Image.open(file, formats=["PNG"])
    with image:
        if n_zeros := zeros_for_pixels(file, image):
            raise UnreadableImageError(f"its last {n_zeros} bytes are zeros: half copied?")
        return to_rgb(image)


def kind_of(head: bytes) -> str | None:
    """The format that the first bytes of a file identify for certain; None where they do not."""
    from PIL import Image

    Image.init()
    for kind in _TOLD_BY_CONTENT:
        accepts = Image.OPEN[kind][1] if kind in Image.OPEN else None
        if accepts is not None and accepts(head[:HEAD_BYTES]):
            return kind
    return None


def to_rgb(image: Any) -> Image.Image:
    """An image as a person sees it, in 8-bit RGB.

    The first frame of several, turned by its EXIF orientation, transparency over white. Unsigned 16-bit values are
    divided by 257, TIFF's 12-bit values by 4095 / 255, and rounded. Colour profiles are ignored, as by open_clip, timm
    and torchvision.

    Raises
    ------
    UnreadableImageError
        No image, sides of more than 100 : 1, more pixels than Pillow's ``MAX_IMAGE_PIXELS``, numbers without a known
        range (signed, 32-bit, floating-point), 16-bit ones of which 98 % fill less than a sixteenth of their range
        though not all are equal, nothing but transparent pixels, or planes of a TIFF file that Pillow takes for
        something else.
    """
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise UnreadableImageError(f"expected an image of PIL, got {type(image).__name__}")
    _check_size(image)
    _check_tiff(image)
    of_16_bits = _is_of_16_bits(image)
    image.load()  # a TIFF file is turned by this, and then has no orientation any more
    _check_size(image)  # of some formats it is known only now
    turn = _turn(image)
    if of_16_bits and not image.mode.startswith("I") and _is_dark(image):  # of each colour Pillow took 8 bits
        raise UnreadableImageError("its 16-bit colours fill less than a sixteenth of the range; expected them scaled")
    rgb = _opaque(image)
    return rgb if turn is None else rgb.transpose(turn)


def _check_size(image: Image.Image) -> None:
    from PIL import Image

    short, long = sorted(image.size)
    what = f"{image.width} x {image.height} pixels"
    if short == 0 or long > _LARGEST_ASPECT * short:
        raise UnreadableImageError(f"{what}; expected sides of at most {_LARGEST_ASPECT} : 1")
    if Image.MAX_IMAGE_PIXELS is not None and short * long > Image.MAX_IMAGE_PIXELS:
        raise UnreadableImageError(f"{what}; expected at most {Image.MAX_IMAGE_PIXELS}, Pillow's MAX_IMAGE_PIXELS")


def _check_tiff(image: Image.Image) -> None:
    """Refuse or repair TIFF files that Pillow silently misreads."""
    tags: Any = getattr(image, "tag_v2", {})
    if image.mode == "L" and _SIGNED in tags.get(_SAMPLE_FORMAT, ()):
        raise UnreadableImageError("pixels are 8 bits with a sign, whose range is not known; expected them without")
    odd = tags.get(_PHOTOMETRIC) == _LAB or max(tags.get(_BITS_PER_SAMPLE, (8,))) > 8
    if odd and tags.get(_PLANES) == _SEPARATE and any(tile[0] == "raw" for tile in image.tile):  # type: ignore[attr-defined]
        raise UnreadableImageError("uncompressed planes of 16 bits or of Lab, which Pillow misreads; expected 8 bits")
    colours = tags.get(_COLOUR_MAP, ())
    if image.mode == "P" and colours and max(colours) < 256:  # of 8 bits, as libtiff takes it; Pillow makes it black
        image.putpalette(bytes(np.reshape(colours, (3, -1)).T.astype(np.uint8)))


def _is_of_16_bits(image: Image.Image) -> bool:
    """Whether the file has 16 bits a channel; to be asked before the image is loaded."""
    tiles: Any = getattr(image, "tile", ())
    if image.format == "PPM":  # with the largest value, where that is not 255
        arguments = [part for tile in tiles for part in (tile[3] if isinstance(tile[3], tuple) else ())]
        return any(isinstance(part, int) and part > 255 for part in arguments)
    return any(tile[0] == "SGI16" or ";16" in str(tile) for tile in tiles)


def _is_dark(image: Image.Image) -> bool:
    """Whether nearly all pixels are nearly black, or have nearly no ink."""
    bands = [image.getchannel(band) for band in image.getbands() if band not in ("A", "a", "X")]
    least = _MOST * image.width * image.height
    return all(sum(band.histogram()[:_NARROW]) >= least for band in bands)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What turns an image upright; ImageOps.exif_transpose also writes EXIF back, and fails where some of it is odd."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata cost no image
        return None
    if isinstance(orientation, bytes) and len(orientation) == 1:  # of type BYTE, where SHORT is the rule
        (orientation,) = orientation
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return next((turn for number, turn in turns.items() if number == orientation), None)


def _opaque(image: Image.Image) -> Image.Image:
    from PIL import Image

    # Pillow before 11 opened 16-bit PNG and PPM files as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bits(image)
    if image.mode in ("I", "F"):
        raise UnreadableImageError(
            f"pixels are numbers of mode {image.mode!r}, whose range is not known; expected 8 bits, or 16 without sign"
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    least, most = rgba.getchannel("A").getextrema()
    if most == 0:
        raise UnreadableImageError("every pixel is transparent")
    if least == 255:
        return rgba.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _from_16_bits(image: Image.Image) -> Image.Image:
    from PIL import Image

    tags: Any = getattr(image, "tag_v2", {})
    top = 4095 if tags.get(_BITS_PER_SAMPLE) == (12,) else 65535
    values = np.asarray(image).astype(np.uint32)
    counts = np.cumsum(np.bincount(values.ravel(), minlength=top + 1))
    for share in (1.0, _MOST):  # such as 12 bits in a file of 16, which would be black
        low, high = np.searchsorted(counts, [(1 - share) / 2 * counts[-1] + 0.5, (1 + share) / 2 * counts[-1] - 0.5])
        if 0 < high - low < top // 16:
            most = "" if share == 1 else f"{share:.0%} of "
            raise UnreadableImageError(
                f"{most}its 16-bit values lie between {low} and {high} of {top}, too close for 8 bits; expected them "
                "scaled"
            )
    grey = ((values * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _MINIMUM_IS_WHITE:  # which Pillow minds in 8 bits only
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
