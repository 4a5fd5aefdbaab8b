"""The command ``ccma-fast demo``: the whole loop on real images, with nothing to download.

The pool and its teacher are those of :mod:`ccma_fast.research.digits`; the student sees the pixels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..checks import check_integer
from ..config import CCMAConfig
from ..pool.open import open_rows
from ..query.report import Selection
from ..query.select import select
from ..query.settings import random_streams
from ..research.curves import LearningCurve, accuracy_table, curves_csv, mean_percent, percent, targets_table
from ..research.digits import FONTS, N_CLASSES, Digits, class_prototypes, digits_teacher, load_digits, teacher_top1
from ..research.plots import Panel, plot_learning_curves, plot_panels
from ..steps.logistic_head import LogisticHead
from ..steps.teacher import Teacher
from ..steps.train import train
from ..system.output_files import check_can_write_into, write_whole
from .argument_types import at_least_1
from .command import Command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COMMAND", "STRATEGIES", "TARGETS", "first_query", "learning_curves", "run"]

Int64 = npt.NDArray[np.int64]

TARGETS = (0.80, 0.85, 0.90)
"""Accuracies for which the labels needed are told."""

STRATEGIES = {"ccma": "ccma:start=ccma", "ccma:paper": "ccma:paper", "margins": "margins", "random": "random"}
"""The strategies to compare, as :func:`ccma_fast.simulate` takes them: the first selects its first labels itself."""

CONFIG = CCMAConfig()

# Of the published head's constants the published run changes one for data sets of ten classes.
_PAPER, _PUBLISHED_LEARNING_RATE = CCMAConfig.paper(), CCMAConfig.paper("cifar10").learning_rate

_MOST_PANELS = 20


_DESCRIPTION = """\
Run active learning on the handwritten digits that scikit-learn ships, and compare this package's default acquisition
(ccma) with CCMA as published (ccma:paper), smallest margins and random choice. The teacher that both ask is the names
of the classes as printed in the fonts that matplotlib ships: nothing is downloaded. ccma also chooses its first labels,
which cover the pool, where the others draw theirs at random. Needs: pip install 'ccma-fast[demo]'

Prints the test accuracy against the number of labels and the labels needed for 80, 85 and 90 %, and writes
learning_curves.png, first_picks.png and accuracy.csv.
"""

_EPILOG = """\
examples:
  ccma-fast demo                                    half a minute on 2 cores
  ccma-fast demo --seeds 1 --rounds 5               a quick look
  ccma-fast demo --seeds 10 --jobs 2 --out digits   a closer one, into the directory digits
"""


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
    """Compare :data:`STRATEGIES` by :func:`ccma_fast.simulate`, all but the published query with the default student.

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
    from ..research.simulate import simulate  # which no other command is to wait for

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


def first_query(digits: Digits, teacher: Teacher, *, seed: int, budget: int) -> tuple[LogisticHead, Selection]:
    """The default acquisition twice: the first 10 labels, which cover the pool, and the first query after them.

    Returns
    -------
    student : LogisticHead
        The default one, fitted on the first labels and the teacher's soft labels.
    selection : Selection
        What was chosen then.
    """
    first = select(digits.images, N_CLASSES, teacher=teacher, config=CONFIG, random_state=seed).indices
    labels = np.full(len(digits.labels), -1, dtype=np.int64)
    labels[first] = digits.labels[first]
    selection = select(digits.images, budget, labels=labels, teacher=teacher, config=CONFIG, random_state=seed)
    labelled = np.flatnonzero(labels >= 0)
    trained = train(
        None,
        open_rows(digits.images, "features"),
        labelled,
        labels[labelled],
        N_CLASSES,
        teacher=teacher,
        teacher_source=teacher.source,
        config=CONFIG,
        rng=random_streams(seed).student,
        backend=choose_backend("auto"),
    )
    return trained.student, selection


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
    _check_n_labels(len(digits.images), rounds, budget)
    prototypes, centre = class_prototypes(), digits.images.mean(axis=0)
    teacher = digits_teacher(digits.images, prototypes, centre=centre)
    on_pool = teacher_top1(teacher)
    on_test = teacher_top1(digits_teacher(digits.test_images, prototypes, centre=centre))
    test_accuracy = _share(on_test == digits.test_labels)
    seed_numbers = [10**i for i in range(seeds)]
    student, selection = first_query(digits, teacher, seed=seed_numbers[0], budget=budget)
    accuracies = _share(on_pool == digits.labels), test_accuracy
    say(_introduction(digits, accuracies, (seeds, rounds, budget), selection.report.backend))
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
    gallery = _gallery(digits, student, selection, on_pool, seed_numbers[0])
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    _write_png(folder / "learning_curves.png", chart)
    _write_png(folder / "first_picks.png", gallery)
    write_whole(folder / "accuracy.csv", lambda file: file.write(curves_csv(curves, seed_numbers).encode()))
    say(f"Pictures and numbers: {folder}/learning_curves.png, first_picks.png, accuracy.csv")
    say(f"Took {time.perf_counter() - started:.0f} s.")


def _check_n_labels(n_images: int, rounds: int, budget: int) -> None:
    n_labels = N_CLASSES + rounds * budget
    if n_labels > n_images:
        raise ValueError(
            f"rounds × budget must leave the pool of {n_images} images enough to choose from, "
            f"got {rounds} × {budget} + {N_CLASSES} at the start = {n_labels} labels"
        )


def _introduction(digits: Digits, accuracies: tuple[float, float], counts: tuple[int, int, int], backend: str) -> str:
    """The set-up: the teacher's accuracies on pool and test, and the numbers of seeds, rounds and labels."""
    (on_pool, on_test), (n_seeds, rounds, budget) = accuracies, counts
    return (
        f"Pool: {len(digits.images)} handwritten digits (8 x 8 pixels, {N_CLASSES} classes); "
        f"test: {len(digits.test_images)} others, held out at random once.\n"
        f"Student: a linear classifier of the pixels. Teacher: the class names as printed in {len(FONTS)} fonts;\n"
        f"without a single label it is right on {100 * on_pool:.1f} % of the pool "
        f"and {100 * on_test:.1f} % of the test images.\n"
        "Compared: ccma, the package's default, ccma:paper, the published query, smallest margins and random choice.\n"
        f"ccma chooses its first {N_CLASSES} labels itself, to cover the pool; the others start from the same "
        f"{N_CLASSES} random ones,\n"
        f"as in the paper. Then each asks {rounds} time{'s' * (rounds > 1)} for {budget} more; "
        f"{n_seeds} seed{'s' * (n_seeds > 1)}.\n"
        "ccma:paper trains the published head: "
        f"dropout {_PAPER.dropout:g}, AdamW with learning rate {_PAPER.learning_rate:g} (published\nfor ten classes: "
        f"{_PUBLISHED_LEARNING_RATE:g}), weight decay {_PAPER.weight_decay:g}, at most {_PAPER.max_epochs} epochs. The "
        "others train the default student, a logistic\nregression on the labels and, as far as they confirm it, on the "
        "teacher's soft labels of other images.\n"
        f"Backend: {backend}.\n"
    )


def _verdict(curves: Sequence[LearningCurve]) -> str:
    """The best strategy over all rounds, and the best at the end."""
    over_all = max(curves, key=lambda curve: float(curve.area.mean()))
    in_the_end = max(curves, key=lambda curve: float(curve.mean[-1]))
    area = mean_percent(over_all.area)
    end = percent(float(in_the_end.mean[-1]), float(in_the_end.standard_error[-1]))
    return (
        f"Highest mean over all rounds (area under the curve): {over_all.name}, {area} %; "
        f"highest at {in_the_end.n_labels[-1]} labels: {in_the_end.name}, {end} %."
    )


def _gallery(digits: Digits, head: LogisticHead, selection: Selection, teacher_classes: Int64, seed: int) -> Figure:
    """The images of the first query, and what student and teacher took them for."""
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
    title = (
        f"The first query of ccma, after {N_CLASSES} labels (seed {seed}): the teacher's soft labels weigh as much "
        f"as {selection.report.soft_weight:g}"
    )
    return plot_panels(panels, title=title)


def _write_png(file: Path, figure: Figure) -> None:
    write_whole(file, lambda handle: figure.savefig(handle, format="png", dpi=150))


def _share(right: npt.NDArray[np.bool_]) -> float:
    return float(right.mean())


def _silent(text: str) -> None:
    pass


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=at_least_1, default=3, metavar="N", help="repetitions (default: 3)")
    parser.add_argument(
        "--rounds", type=at_least_1, default=20, metavar="N", help="queries per repetition (default: 20)"
    )
    parser.add_argument("--budget", type=at_least_1, default=10, metavar="N", help="labels per query (default: 10)")
    parser.add_argument("--jobs", type=at_least_1, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument(
        "--out", default="ccma-fast-demo", metavar="DIR", help="directory for the pictures (default: ccma-fast-demo)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print the tables only, no progress bar")


def _run(arguments: argparse.Namespace) -> None:
    run(
        arguments.out,
        seeds=arguments.seeds,
        rounds=arguments.rounds,
        budget=arguments.budget,
        jobs=arguments.jobs,
        quiet=arguments.quiet,
    )


COMMAND = Command(
    summary="run the whole loop on real images",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
