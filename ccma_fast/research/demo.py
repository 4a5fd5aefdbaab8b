"""The whole loop on real images, with nothing to download.

The pool is the handwritten digits that scikit-learn ships. The student sees their pixels. The teacher knows how the
names of the classes look in print: as a vision-language model compares an image with the names of the classes, it
compares an image with the glyphs "0" to "9" of the fonts that matplotlib ships. No label takes part in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_integer
from ..config import CCMAConfig
from ..query.report import Selection
from ..query.select import select
from ..steps.linear_head import LinearHead
from ..steps.teacher import Teacher
from ..system.files import check_can_write_into, write_whole
from .curves import LearningCurve, accuracy_table, curves_csv, mean_percent, percent, targets_table
from .plots import Panel, plot_learning_curves, plot_panels
from .simulate import simulate

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = [
    "STRATEGIES",
    "TARGETS",
    "Digits",
    "class_prototypes",
    "digits_teacher",
    "first_query",
    "learning_curves",
    "load_digits",
    "run",
    "teacher_top1",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

N_CLASSES = 10
N_TEST = 500
TARGETS = (0.80, 0.85, 0.90)
"""Accuracies for which the labels needed are told."""

STRATEGIES = {"ccma": "ccma:start=ccma", "ccma:paper": "ccma:paper", "margins": "margins", "random": "random"}
"""What is compared, as :func:`ccma_fast.simulate` takes it: the first chooses its first labels itself."""

# Of the student's constants, which all contenders share, the published run changes one for data sets of ten classes.
CONFIG = CCMAConfig()
_PUBLISHED_LEARNING_RATE = CCMAConfig.paper("cifar10").learning_rate

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

_MOST_PANELS = 20


@dataclass(frozen=True, eq=False)
class Digits:
    """Handwritten digits, 8 × 8 pixels of 0 (paper) to 16 (ink), as a pool and a test set.

    Attributes
    ----------
    images : ndarray, shape (N, 64), float32
        The pool.
    labels : ndarray, shape (N,), int64
        Its classes, which only the person who labels knows.
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
    return Teacher(images - centre, prototypes - prototypes.mean(axis=0), CONFIG.temperature)


def teacher_top1(teacher: Teacher) -> Int64:
    """The teacher's most probable class of each of its rows (ties: the lowest)."""
    classes: Int64 = teacher.logits(choose_backend("auto")).float32().argmax(axis=1)
    return classes


def learning_curves(
    digits: Digits,
    teacher: Teacher,
    *,
    seeds: Sequence[int],
    rounds: int,
    budget: int,
    jobs: int = 1,
    progress: bool = False,
) -> list[LearningCurve]:
    """Compare :data:`STRATEGIES` by :func:`ccma_fast.simulate`, all with the package's default head.

    Parameters
    ----------
    digits : Digits
    teacher : Teacher
        Of the pool.
    seeds : sequence of int
    rounds : int
        Queries after the 10 labels at the start.
    budget : int
        Labels per query.
    jobs : int, default 1
        Processes.
    progress : bool, default False
        Show a progress bar on stderr.

    Returns
    -------
    list of LearningCurve
        One for each of :data:`STRATEGIES`, in that order, measured on the test set at 10, 10 + budget, … labels.
    """
    results = simulate(
        digits.images,
        digits.labels,
        test_features=digits.test_images,
        test_labels=digits.test_labels,
        strategies=STRATEGIES,
        seeds=seeds,
        rounds=rounds,
        budget=budget,
        n_start=N_CLASSES,
        teacher=teacher,
        config=CONFIG,
        jobs=jobs,
        progress=progress,
    )
    return [results.curve(name) for name in results.strategies]


def first_query(digits: Digits, teacher: Teacher, *, seed: int, budget: int) -> tuple[LinearHead, Selection]:
    """The default acquisition twice: the first 10 labels, chosen by the teacher alone, and the first query after them.

    Returns
    -------
    student : LinearHead
        Fitted on the first labels.
    selection : Selection
        What was chosen then.
    """
    first = select(digits.images, N_CLASSES, teacher=teacher, config=CONFIG, random_state=seed).indices
    labels = np.full(len(digits.labels), -1, dtype=np.int64)
    labels[first] = digits.labels[first]
    student = LinearHead.from_config(CONFIG, N_CLASSES, seed)
    selection = select(
        digits.images, budget, labels=labels, teacher=teacher, student=student, config=CONFIG, random_state=seed
    )
    return student.fit(digits.images[first], digits.labels[first]), selection


def run(
    out: str | Path = "ccma-fast-demo",
    *,
    seeds: int = 3,
    rounds: int = 20,
    budget: int = 10,
    jobs: int = 1,
    quiet: bool = False,
) -> None:
    """Run the demo, print its tables and write its pictures.

    Parameters
    ----------
    out : path
        Directory for learning_curves.png, first_picks.png and accuracy.csv; made at the end where it is missing.
    seeds : int, default 3
        Repetitions; the seeds are 1, 10, 100, … as in the paper.
    rounds : int, default 20
        Queries after the 10 labels at the start.
    budget : int, default 10
        Labels per query.
    jobs : int, default 1
        Processes, as in :func:`ccma_fast.simulate`.
    quiet : bool, default False
        Print the two tables only.

    Raises
    ------
    ValueError
        A count below 1, or more labels than the pool has.
    TypeError
        A count that is not an integer.
    OSError
        `out` cannot be written into; found out before anything is computed.
    ImportError
        The extra ``demo`` is not installed.
    """
    started = time.perf_counter()
    seeds = check_integer("seeds", seeds, minimum=1)
    rounds = check_integer("rounds", rounds, minimum=1)
    budget = check_integer("budget", budget, minimum=1)
    jobs = check_integer("jobs", jobs, minimum=1)
    check_can_write_into(out, ("learning_curves.png", "first_picks.png", "accuracy.csv"))
    say = _silent if quiet else partial(print, flush=True)

    digits = load_digits()
    n_labels = N_CLASSES + rounds * budget
    if n_labels > len(digits.images):
        raise ValueError(
            f"rounds × budget must leave the pool of {len(digits.images)} images enough to choose from, "
            f"got {rounds} × {budget} + {N_CLASSES} at the start = {n_labels} labels"
        )
    prototypes, centre = class_prototypes(), digits.images.mean(axis=0)
    teacher = digits_teacher(digits.images, prototypes, centre=centre)
    on_pool = teacher_top1(teacher)
    on_test = teacher_top1(digits_teacher(digits.test_images, prototypes, centre=centre))
    pool_accuracy, test_accuracy = _share(on_pool == digits.labels), _share(on_test == digits.test_labels)
    seed_numbers = [10**i for i in range(seeds)]
    student, selection = first_query(digits, teacher, seed=seed_numbers[0], budget=budget)
    say(
        f"Pool: {len(digits.images)} handwritten digits (8 x 8 pixels, {N_CLASSES} classes); "
        f"test: {len(digits.test_images)} others, held out at random once.\n"
        f"Student: a linear head on the pixels. Teacher: the class names as printed in {len(FONTS)} fonts;\n"
        f"without a single label it is right on {100 * pool_accuracy:.1f} % of the pool "
        f"and {100 * test_accuracy:.1f} % of the test images.\n"
        "Compared: ccma, the package's default, ccma:paper, the published query, smallest margins and random choice.\n"
        f"ccma chooses its first {N_CLASSES} labels itself, by the teacher; the others start from the same {N_CLASSES} "
        f"random ones,\nas in the paper. Then each asks {rounds} time{'s' * (rounds > 1)} for {budget} more; "
        f"{seeds} seed{'s' * (seeds > 1)}.\n"
        f"All train the same head: dropout {CONFIG.dropout:g}, AdamW with learning rate {CONFIG.learning_rate:g} "
        f"(published for ten classes: {_PUBLISHED_LEARNING_RATE:g}),\nweight decay {CONFIG.weight_decay:g}, "
        f"at most {CONFIG.max_epochs} epochs.\n"
        f"Backend: {selection.report.backend}.\n"
    )
    curves = learning_curves(
        digits, teacher, seeds=seed_numbers, rounds=rounds, budget=budget, jobs=jobs, progress=not quiet
    )

    spread = f"mean ± standard error over {seeds} seeds" if seeds > 1 else "one seed"
    print(f"Test accuracy in %, {spread}\n\n{accuracy_table(curves)}\n")
    print(f"Labels at which the mean test accuracy first reaches\n\n{targets_table(curves, TARGETS)}\n")
    say(f"{_verdict(curves)}\n")

    chart = plot_learning_curves(
        curves,
        title=f"Handwritten digits: accuracy against labels ({spread})",
        targets=TARGETS,
        level=("teacher alone, no labels", test_accuracy),
    )
    gallery = plot_panels(
        _panels(digits, student, selection, on_pool),
        title=f"The first query of ccma, after {N_CLASSES} labels (seed {seed_numbers[0]}): "
        f"trust in the teacher {selection.report.trust:.2f}",
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "learning_curves.png", lambda file: chart.savefig(file, format="png", dpi=150))
    write_whole(folder / "first_picks.png", lambda file: gallery.savefig(file, format="png", dpi=150))
    write_whole(folder / "accuracy.csv", lambda file: file.write(curves_csv(curves, seed_numbers).encode()))
    say(f"Pictures and numbers: {folder}/learning_curves.png, first_picks.png, accuracy.csv")
    say(f"Took {time.perf_counter() - started:.0f} s.")


def _verdict(curves: Sequence[LearningCurve]) -> str:
    """Who is ahead over all rounds and who in the end, whoever it is."""
    over_all = max(curves, key=lambda curve: float(curve.area.mean()))
    in_the_end = max(curves, key=lambda curve: float(curve.mean[-1]))
    area = mean_percent(over_all.area)
    end = percent(float(in_the_end.mean[-1]), float(in_the_end.standard_error[-1]))
    return (
        f"Highest mean over all rounds (area under the curve): {over_all.name}, {area} %; "
        f"highest at {in_the_end.n_labels[-1]} labels: {in_the_end.name}, {end} %."
    )


def _panels(digits: Digits, head: LinearHead, selection: Selection, teacher_classes: Int64) -> list[Panel]:
    student_classes = head.predict(digits.images)
    panels = []
    for i, delta in list(zip(selection.indices, selection.scores, strict=True))[:_MOST_PANELS]:
        truth, student, teacher = int(digits.labels[i]), int(student_classes[i]), int(teacher_classes[i])
        lines = (
            (f"image {digits.rows[i]}: a {truth}", None),
            (f"student says {student}", student == truth),
            (f"teacher says {teacher}", teacher == truth),
        )
        panels.append(Panel(digits.images[i].reshape(8, 8), f"δ = {delta:.2f}", lines))
    return panels


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


def _share(right: npt.NDArray[np.bool_]) -> float:
    return float(right.mean())


def _silent(text: str) -> None:
    pass


def _missing_extra(error: ImportError) -> ImportError:
    return ImportError(
        f"the demo needs matplotlib and scikit-learn ({error}); expected an installation by "
        "`pip install 'ccma-fast[demo]'`"
    )
