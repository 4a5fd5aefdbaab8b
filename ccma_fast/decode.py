"""From an image as a file holds it to what encoders take: upright, opaque, 8-bit RGB; or why not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DECODING", "NO_PICTURES", "UnreadableImageError", "decoded", "read_image", "to_rgb"]

DECODING = ["first frame", "upright by EXIF orientation", "16-bit grey / 257", "transparency over white", "RGB"]
"""What is done to an image before an encoder's own preprocessing, as manifests say it."""

NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IM", "IMT", "IPTC", "MCIDAS", "MPEG", "PDF", "SPIDER", "WMF"}
"""What Pillow registers beside pictures: documents, scientific data, and what it can name but not decode."""

# An encoder fits the short side to its input; the long one of a thinner image would take gigabytes.
_LARGEST_ASPECT = 100

# Tags of EXIF and TIFF.
_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 274, 258, 262
_MINIMUM_IS_WHITE = 0


class UnreadableImageError(Exception):
    """An image cannot be decoded, or not without guessing; the text says why."""


def decoded(make: Callable[[], Image.Image]) -> Image.Image:
    """What `make` gives, whatever filters for warnings are set.

    Raises
    ------
    UnreadableImageError
        It failed; the text says how.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return make()
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:  # whose text has an address in it
        raise UnreadableImageError("no image of a format that Pillow knows") from error
    except Exception as error:  # a damaged image raises whatever its decoder meets, MemoryError included
        raise UnreadableImageError(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def read_image(file: Any) -> Image.Image:
    """The image in a file, a path or an open one, as :func:`to_rgb` gives it."""
    from PIL import Image

    Image.init()
    with Image.open(file, formats=[kind for kind in Image.ID if kind not in NO_PICTURES]) as image:
        return to_rgb(image)


def to_rgb(image: Any) -> Image.Image:
    """An image as a person sees it.

    The first frame of several; turned as its EXIF orientation says; transparency over white, as on a page. Of 16 bits
    without sign it is the value / 257, of TIFF's 12 bits the value / 4095 · 255, rounded.

    Raises
    ------
    UnreadableImageError
        No image, sides of more than 100 : 1, numbers without a known range (signed, 32-bit, floating-point), 16-bit
        ones that fill less than a sixteenth of their range though not all are equal, or nothing but transparent pixels.
    """
    from PIL import Image

    if not isinstance(image, Image.Image):
        raise UnreadableImageError(f"expected an image of PIL, got {type(image).__name__}")
    short, long = sorted(image.size)
    if short == 0 or long > _LARGEST_ASPECT * short:
        raise UnreadableImageError(
            f"{image.width} x {image.height} pixels; expected sides of at most {_LARGEST_ASPECT} : 1"
        )
    of_16_bits = any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    image.load()  # a TIFF file is turned by this, and then has no orientation any more
    turn = _turn(image)
    rgb = _opaque(image)
    extrema: Any = rgb.getextrema()
    if of_16_bits and image.mode.startswith("RGB") and max(high for _, high in extrema) < 16:  # of which Pillow takes 8
        raise UnreadableImageError("its 16-bit colours fill less than a sixteenth of the range; expected them scaled")
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What puts an image upright; ImageOps.exif_transpose also writes EXIF back, and fails where some of it is odd."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata tell nothing, and cost no image
        return None
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
    low, high = int(values.min()), int(values.max())
    if 0 < high - low < top // 16:  # such as 12 bits in a file of 16, which would be black
        raise UnreadableImageError(
            f"its 16-bit values lie between {low} and {high} of {top}, too close for 8 bits; expected them scaled"
        )
    grey = ((values * 255 + top // 2) // top).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _MINIMUM_IS_WHITE:  # which Pillow minds in 8 bits only
        grey = 255 - grey
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
