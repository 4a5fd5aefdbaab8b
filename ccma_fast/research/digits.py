"""Handwritten digits as a pool, with a teacher of printed class names.

The digits are those that scikit-learn ships. As a vision-language model compares an image with the names of the
classes, the teacher compares an image with the glyphs "0" to "9" of the fonts that matplotlib ships. It sees no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..config import CCMAConfig
from ..steps.teacher import Teacher

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = ["FONTS", "N_CLASSES", "Digits", "class_prototypes", "digits_teacher", "load_digits", "teacher_top1"]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

N_CLASSES = 10
N_TEST = 500

# Every text font that matplotlib has had from 3.8 on and that draws the ten digits. Left out are STIX's and Computer
# Modern's symbol fonts and DejaVu's display fonts, which have no digits or other signs in their places, and LastResort,
# which draws one and the same box for all of them.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
    "cmb10",
    "cmmi10",
    "cmr10",
    "cmss10",
    "cmtt10",
)
ROTATIONS = (-10, 0, 10)
"""Degrees by which every glyph is turned: people slant their digits."""


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits, 8 × 8 pixels of 0 (paper) to 16 (ink), as a pool and a test set.

    Attributes
    ----------
    images : ndarray, shape (N, 64), float32
        The pool.
    labels : ndarray, shape (N,), int64
        True classes of the pool, for the oracle that answers queries.
    rows : ndarray, shape (N,), int64
        Its row numbers in scikit-learn's ``load_digits``, ascending.
    test_images, test_labels : ndarray
        The held-out rest.
    """

    images: Float32
    labels: Int64
    rows: Int64
    test_images: Float32
    test_labels: Int64


def load_digits() -> Digits:
    """The 1,797 digits of scikit-learn, of which a fixed random 500 are the test set.

    Raises
    ------
    ImportError
        scikit-learn is not installed; the text names the extra that brings it.
    """
    try:
        from sklearn import datasets  # type: ignore[import-untyped]
    except ImportError as error:
        raise _missing_extra(error) from error

    images, labels = datasets.load_digits(return_X_y=True)
    images, labels = images.astype(np.float32), labels.astype(np.int64)
    shuffled = np.random.default_rng(0).permutation(len(images))
    test, pool = np.sort(shuffled[:N_TEST]), np.sort(shuffled[N_TEST:])
    return Digits(images[pool], labels[pool], pool, images[test], labels[test])


def class_prototypes() -> Float32:
    """How the names of the classes look in print: the mean of their glyphs over all fonts and rotations.

    Returns
    -------
    ndarray, shape (10, 64), float32
        In the pixels of the digits, 0 to 16.

    Raises
    ------
    ImportError
        matplotlib is not installed; the text names the extra that brings it.
    """
    try:
        import matplotlib
        from PIL import ImageFont
    except ImportError as error:
        raise _missing_extra(error) from error

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    prototypes = np.zeros((N_CLASSES, 64))
    for name in FONTS:
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), 64)
        for c in range(N_CLASSES):
            for degrees in ROTATIONS:
                prototypes[c] += _as_digit(_glyph(str(c), font, degrees))
    return (prototypes / (len(FONTS) * len(ROTATIONS))).astype(np.float32)


def digits_teacher(images: Float32, prototypes: Float32, *, centre: Float32) -> Teacher:
    """A zero-shot teacher: the cosine between an image and the prototype of each class.

    Both are centred, images on the pool's mean image, prototypes on their own mean: what all images share (ink in the
    middle) and what all glyphs share (the stroke of a printer) says nothing about the class.

    Parameters
    ----------
    images : ndarray, shape (N, 64), float32
    prototypes : ndarray, shape (10, 64), float32
    centre : ndarray, shape (64,), float32
        The pool's mean image.
    """
    return Teacher(images - centre, prototypes - prototypes.mean(axis=0), CCMAConfig().temperature)


def teacher_top1(teacher: Teacher) -> Int64:
    """The teacher's most probable class of each of its rows (ties: the lowest)."""
    classes: Int64 = teacher.logits(choose_backend("auto")).float32().argmax(axis=1)
    return classes


def _glyph(text: str, font: ImageFont.FreeTypeFont, degrees: float) -> Image.Image:
    """White ink on black, turned, cut to where the ink is."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (128, 128), 0)
    ImageDraw.Draw(canvas).text((64, 64), text, fill=255, font=font, anchor="mm")
    turned = canvas.rotate(degrees, resample=Image.Resampling.BICUBIC)
    return turned.crop(turned.point(lambda value: 255 * (value >= 128)).getbbox())


def _as_digit(glyph: Image.Image) -> npt.NDArray[np.float64]:
    """A glyph made into 8 × 8 pixels as the handwritten digits were: fitted to 20 × 32, centred in 32 × 32, and the ink
    of each block of 4 × 4 counted.
    """
    from PIL import Image

    page = Image.new("L", (32, 32), 0)
    page.paste(glyph.resize((20, 32), Image.Resampling.BOX), (6, 0))
    ink: npt.NDArray[np.float64] = np.asarray(page, dtype=np.float64).reshape(8, 4, 8, 4).sum(axis=(1, 3)) / 255.0
    return ink.ravel()


def _missing_extra(error: ImportError) -> ImportError:
    return ImportError(
        f"the demo needs matplotlib and scikit-learn ({error}); expected an installation by "
        "`pip install 'ccma-fast[demo]'`"
    )
