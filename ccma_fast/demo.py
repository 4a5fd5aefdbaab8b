"""The whole loop on real images, with nothing to download.

The pool is the handwritten digits that scikit-learn ships. The student sees their pixels. The teacher knows how the
names of the classes look in print: as a vision-language model compares an image with the names of the classes, it
compares an image with the glyphs "0" to "9" of the fonts that matplotlib ships. No label takes part in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from . import _dispatch
from ._files import check_can_write_into, write_whole
from ._validate import check_integer
from .config import CCMAConfig
from .report import (
    LearningCurve,
    Panel,
    accuracy_table,
    curves_csv,
    plot_learning_curves,
    plot_panels,
    targets_table,
)
from .select import Selection, select
from .student import LinearHead
from .teacher import Teacher

if TYPE_CHECKING:
    from PIL import Image, ImageFont

__all__ = [
    "METHODS",
    "TARGETS",
    "Digits",
    "Round",
    "ccma_picks",
    "ccma_selection",
    "class_prototypes",
    "digits_teacher",
    "first_query",
    "learning_curves",
    "load_digits",
    "margin_picks",
    "random_picks",
    "run",
    "teacher_top1",
]

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

N_CLASSES = 10
N_TEST = 500
TARGETS = (0.80, 0.85, 0.90)
"""Accuracies for which the labels needed are told."""

# The published configuration; of its data sets this one has ten classes, for which only the learning rate differs.
CONFIG = CCMAConfig.paper("cifar10")

# Every text font in matplotlib's font folder that draws the ten digits. Left out are STIX's and Computer Modern's
# symbol fonts and DejaVu's display fonts, which have no digits or other signs in their places, and LastResort, which
# draws one and the same box for all of them.
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
    "cmti10",
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


@dataclass(frozen=True, eq=False)
class Round:
    """What a method may look at when it chooses.

    Attributes
    ----------
    images : ndarray, shape (N, 64), float32
        The pool.
    labels : ndarray, shape (N,), int64
        −1 where there is no label yet.
    teacher : Teacher
    student : LinearHead
        Fitted on the labels so far.
    budget : int
        Rows to choose.
    random_state : int
    """

    images: Float32
    labels: Int64
    teacher: Teacher
    student: LinearHead
    budget: int
    random_state: int

    @property
    def unlabelled(self) -> Int64:
        """Rows without a label, ascending."""
        return np.flatnonzero(self.labels < 0)


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
    classes: Int64 = teacher.logits(_dispatch.choose("auto")).float32().argmax(axis=1)
    return classes


def ccma_selection(state: Round) -> Selection:
    """The published query, on the logits of the student that the round has already fitted."""
    return select(
        state.images,
        state.budget,
        labels=state.labels,
        teacher=state.teacher,
        student_logits=state.student.decision_function(state.images),
        config=CONFIG,
        random_state=state.random_state,
    )


def ccma_picks(state: Round) -> Int64:
    """Conformal Cross-Modal Acquisition as published."""
    return ccma_selection(state).indices


def random_picks(state: Round) -> Int64:
    """Any unlabelled rows."""
    return np.random.default_rng(state.random_state).choice(state.unlabelled, state.budget, replace=False)


def margin_picks(state: Round) -> Int64:
    """The unlabelled rows with the smallest difference between the student's two most probable classes.

    Ties go to the lower index.
    """
    rows = state.unlabelled
    ascending = np.sort(state.student.predict_proba(state.images[rows]), axis=1)
    order = np.argsort(ascending[:, -1] - ascending[:, -2], kind="stable")
    picks: Int64 = rows[order[: state.budget]]
    return picks


METHODS: dict[str, Callable[[Round], Int64]] = {"CCMA": ccma_picks, "random": random_picks, "margin": margin_picks}


def learning_curves(
    digits: Digits, teacher: Teacher, *, seeds: Sequence[int], rounds: int, budget: int, progress: bool = False
) -> list[LearningCurve]:
    """Run the loop for every method and seed.

    A seed fixes the 10 random labels at the start and, round by round, how the student is initialised: both are the
    same for every method.

    Parameters
    ----------
    digits : Digits
    teacher : Teacher
        Of the pool.
    seeds : sequence of int
    rounds : int
        Queries after the labels at the start.
    budget : int
        Labels per query.
    progress : bool, default False
        Show a progress bar on stderr.

    Returns
    -------
    list of LearningCurve
        One for each of :data:`METHODS`, in that order, measured on the test set at 10, 10 + budget, … labels.
    """
    from tqdm import tqdm  # type: ignore[import-untyped]

    accuracy = {name: np.zeros((len(seeds), rounds + 1)) for name in METHODS}
    with tqdm(total=len(METHODS) * len(seeds) * (rounds + 1), unit="fit", disable=not progress) as bar:
        for i, seed in enumerate(seeds):
            for name, pick in METHODS.items():
                bar.set_description(f"{name}, seed {i + 1} of {len(seeds)}")
                labels = _labels_at_start(digits, seed)
                for r in range(rounds + 1):
                    state = _round(digits, labels, teacher, budget, seed, r)
                    accuracy[name][i, r] = _share(state.student.predict(digits.test_images) == digits.test_labels)
                    if r < rounds:
                        picks = pick(state)
                        labels[picks] = digits.labels[picks]
                    bar.update()
    n_labels = N_CLASSES + budget * np.arange(rounds + 1)
    return [LearningCurve(name, n_labels, values) for name, values in accuracy.items()]


def first_query(digits: Digits, teacher: Teacher, *, seed: int, budget: int) -> tuple[Round, Selection]:
    """The first query of CCMA in :func:`learning_curves`: what it saw, and what it chose."""
    state = _round(digits, _labels_at_start(digits, seed), teacher, budget, seed, 0)
    return state, ccma_selection(state)


def run(
    out: str | Path = "ccma-fast-demo", *, seeds: int = 3, rounds: int = 20, budget: int = 10, quiet: bool = False
) -> None:
    """Run the demo, print its tables and write its pictures.

    Parameters
    ----------
    out : path
        Directory for learning_curves.png, first_picks.png and accuracy.csv; made at the end where it is missing.
    seeds : int, default 3
        Repetitions; the seeds are 1, 10, 100, … as in the paper.
    rounds : int, default 20
        Queries after the 10 random labels at the start.
    budget : int, default 10
        Labels per query.
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
    for name, value in (("seeds", seeds), ("rounds", rounds), ("budget", budget)):
        check_integer(name, value, minimum=1)
    check_can_write_into(out)
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
    state, selection = first_query(digits, teacher, seed=seed_numbers[0], budget=budget)
    say(
        f"Pool: {len(digits.images)} handwritten digits (8 x 8 pixels, {N_CLASSES} classes); "
        f"test: {len(digits.test_images)} others, held out at random once.\n"
        f"Student: a linear head on the pixels. Teacher: the class names as printed in {len(FONTS)} fonts;\n"
        f"without a single label it is right on {100 * pool_accuracy:.1f} % of the pool "
        f"and {100 * test_accuracy:.1f} % of the test images.\n"
        f"Every method starts from the same {N_CLASSES} random labels and asks {rounds} times for {budget} more; "
        f"{seeds} seed{'s' * (seeds > 1)}.\n"
        f"Backend: {selection.report.backend}.\n"
    )
    curves = learning_curves(digits, teacher, seeds=seed_numbers, rounds=rounds, budget=budget, progress=not quiet)

    spread = f"mean ± standard error over {seeds} seeds" if seeds > 1 else "one seed"
    print(f"Test accuracy in %, {spread}\n\n{accuracy_table(curves)}\n")
    print(f"Labels at which the mean test accuracy first reaches\n\n{targets_table(curves, TARGETS)}\n")

    chart = plot_learning_curves(
        curves,
        title=f"Handwritten digits: accuracy against labels ({spread})",
        targets=TARGETS,
        level=("teacher alone, no labels", test_accuracy),
    )
    gallery = plot_panels(
        _panels(digits, state, selection, on_pool),
        title=f"The first picks of CCMA, after {N_CLASSES} random labels (seed {seed_numbers[0]})",
    )
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "learning_curves.png", lambda file: chart.savefig(file, format="png", dpi=150))
    write_whole(folder / "first_picks.png", lambda file: gallery.savefig(file, format="png", dpi=150))
    write_whole(folder / "accuracy.csv", lambda file: file.write(curves_csv(curves, seed_numbers).encode()))
    say(f"Pictures and numbers: {folder}/learning_curves.png, first_picks.png, accuracy.csv")
    say(f"Took {time.perf_counter() - started:.0f} s.")


def _round(digits: Digits, labels: Int64, teacher: Teacher, budget: int, seed: int, number: int) -> Round:
    """Round `number` of a seed, with the student fitted on `labels`."""
    student_seed, pick_seed = (int(s) for s in np.random.SeedSequence([seed, number]).generate_state(2, np.uint64))
    labelled = np.flatnonzero(labels >= 0)
    student = LinearHead.from_config(CONFIG, N_CLASSES, student_seed).fit(digits.images[labelled], labels[labelled])
    return Round(digits.images, labels, teacher, student, budget, pick_seed)


def _labels_at_start(digits: Digits, seed: int) -> Int64:
    """As many random labels as there are classes."""
    labels = np.full(len(digits.labels), -1, dtype=np.int64)
    chosen = np.random.default_rng(seed).choice(labels.size, N_CLASSES, replace=False)
    labels[chosen] = digits.labels[chosen]
    return labels


def _panels(digits: Digits, state: Round, selection: Selection, teacher_classes: Int64) -> list[Panel]:
    student_top1 = state.student.predict(state.images)
    panels = []
    for i, delta in list(zip(selection.indices, selection.scores, strict=True))[:_MOST_PANELS]:
        truth, student, teacher = int(digits.labels[i]), int(student_top1[i]), int(teacher_classes[i])
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
