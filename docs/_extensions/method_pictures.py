"""Pictures of the method, drawn by the package itself on the handwritten digits that scikit-learn ships.

The directive ``picture`` shows one, in a light and a dark variant of which the theme shows that of the page::

    ```{picture} conformal-sets
    :alt: What the picture shows.

    Caption.
    ```

Pictures are drawn before pages are read, where they are missing or older than the package or this module. The learning
curves of the README are in the repository: ``python docs/_extensions/method_pictures.py`` draws them anew.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

import ccma_fast as cf
from ccma_fast.query.explanation import PickOrigin
from ccma_fast.research.digits import Digits, class_prototypes, digits_teacher, load_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent.parent
FOLDER = "method/pictures"
CURVES = DOCS.parent / "bench" / "results" / "2026-11-29-demo.csv"

WIDTH = 4.6
"""Inches: about what a phone shows without shrinking it much."""


@dataclass(frozen=True)
class Palette:
    """Colours on a transparent ground; the four of data are told apart by people who see few colours, too."""

    text: str
    faint: str
    box: str
    blue: str
    orange: str
    green: str
    grey: str
    paper: str
    ink: str


PALETTES = {
    "light": Palette("#1f2328", "#d0d7de", "#eef3fb", "#1f5fbf", "#c2570c", "#18794e", "#6e7781", "#ffffff", "#1f2328"),
    "dark": Palette("#e6edf3", "#3d444d", "#1b2636", "#79b0ff", "#ffa657", "#56d39b", "#9198a1", "#161b22", "#e6edf3"),
}


# What is computed, once for both palettes.


class Round(NamedTuple):
    """What the models of some labels are like."""

    n_labels: int
    soft_weight: float
    teacher_set: float
    accuracy: float
    """On the test images, of student and teacher together."""


@cache
def digits() -> Digits:
    return load_digits()


def teacher_of(prototypes: npt.NDArray[np.float32], *, test: bool = False) -> cf.Teacher:
    images = digits().test_images if test else digits().images
    return digits_teacher(images, prototypes, centre=digits().images.mean(axis=0))


@cache
def directions(kind: str) -> npt.NDArray[np.float32]:
    """Of the classes: as they look in print, or drawn at random, right on about one image in ten."""
    if kind == "good":
        return class_prototypes()
    return np.random.default_rng(7).standard_normal((10, 64)).astype(np.float32)


@cache
def good_teacher() -> cf.Teacher:
    return teacher_of(directions("good"))


@cache
def labels_at_first() -> npt.NDArray[np.int64]:
    """30 labels, of three queries."""
    learner = cf.ActiveLearner(digits().images, teacher=good_teacher())
    for _ in range(3):
        rows = learner.query(10).indices
        learner.label(rows, digits().labels[rows])
    return np.array(learner.labels)


@cache
def picks() -> Sequence[PickOrigin]:
    """Of the query after them, with where each comes from."""
    return _explained(10)


@cache
def drawn() -> Sequence[PickOrigin]:
    """What the same models say of four images that were drawn at random."""
    others = np.setdiff1d(np.flatnonzero(labels_at_first() < 0), [pick.row for pick in picks()])
    return _explained(4, include=np.random.default_rng(3).choice(others, 4, replace=False))


def _explained(budget: int, **rows: Any) -> Sequence[PickOrigin]:
    labels = labels_at_first()
    told = cf.select(digits().images, budget, labels=labels, teacher=good_teacher(), explain=True, **rows).explanation
    assert told is not None, "it was asked for"
    return told.picks


@cache
def over_the_rounds(kind: str, seed: int, n_rounds: int = 9) -> list[Round]:
    """Rounds of ten labels with a good, a bad or no teacher."""
    teacher = None if kind == "none" else teacher_of(directions(kind))
    of_test = None if kind == "none" else teacher_of(directions(kind), test=True)
    learner, rounds = cf.ActiveLearner(digits().images, teacher=teacher, random_state=seed), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cf.TeacherWarning)  # of a teacher that is to be bad
        for n_labels in range(0, 10 * n_rounds, 10):
            told = learner.query(10)
            if n_labels > 10:
                p = learner.predict_proba(digits().test_images, of_test)
                accuracy = float((p.argmax(axis=1) == digits().test_labels).mean())
                rounds.append(Round(n_labels, told.report.soft_weight, told.report.mean_teacher_set, accuracy))
            learner.label(told.indices, digits().labels[told.indices])
    return rounds


# What is drawn.


def loop(colours: Palette) -> Figure:
    """The steps of one round, from top to bottom, and the way back."""
    from matplotlib.figure import Figure

    steps = [
        ("pool", "embeddings x of all images;\nthe teacher's v, t"),
        ("student and teacher", "the labels correct the teacher;\nthe student learns from both"),
        ("scores", "how unsure is the student\nof each unlabelled image?"),
        ("candidates", "the images of largest score"),
        ("coverage", "those that cover best what\nno label and no pick is near to"),
        ("people", "label the picks, or refuse"),
    ]
    figure = Figure(figsize=(WIDTH, 4.9))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 10), ylim=(0, 6 * len(steps) / 3.55), xticks=[], yticks=[], frame_on=False)
    top = 6 * len(steps) / 3.55 - 0.15
    height, gap = 1.22, 0.44
    centres = []
    for i, (name, text) in enumerate(steps):
        y = top - i * (height + gap) - height
        axes.add_patch(_box(0.2, y, 8.2, height, colours))
        axes.text(0.5, y + height / 2, name, va="center", weight="bold", color=colours.blue, size=9.5)
        axes.text(4.05, y + height / 2, text, va="center", color=colours.text, size=8.6, linespacing=1.25)
        centres.append(y + height / 2)
        if i + 1 < len(steps):
            _arrow(axes, (4.3, y), (4.3, y - gap), colours)
    last, second = centres[-1], centres[1]
    axes.plot([8.4, 9.3, 9.3], [last, last, second], color=colours.orange, lw=1.6, solid_joinstyle="round")
    _arrow(axes, (9.3, second), (8.4, second), colours, colours.orange)
    axes.text(
        9.42, (last + second) / 2, "labels: the next round", rotation=270, va="center", color=colours.orange, size=9
    )
    return figure


def conformal_sets(colours: Palette) -> Figure:
    """Images with the sets of both models: four picks, and four images drawn at random."""
    figure, grid = _grid(2, 4, 3.7)
    for axes, pick in zip(grid, [*drawn(), *picks()[:4]], strict=True):
        _digit(axes, pick.row, colours)
        truth = int(digits().labels[pick.row])
        for i, (who, found, colour) in enumerate(
            [("student", pick.student_set, colours.blue), ("teacher", pick.teacher_set, colours.orange)]
        ):
            assert found is not None, "a query with labels and a teacher forms both sets"
            names = ", ".join(map(str, sorted(found.classes)))
            missing = "" if truth in found.classes else " ✗"
            axes.text(3.5, 8.5 + 1.35 * i, f"{{{names}}}{missing}", color=colour, size=8, ha="center", va="center")
    for axes, title in ((grid[0], "drawn at random"), (grid[4], "picks of the query")):
        axes.set_title(title, loc="left", color=colours.text, size=9.5)
    figure.text(0.03, 0.97, "student's set", color=colours.blue, size=9.5, weight="bold", va="center")
    figure.text(0.30, 0.97, "teacher's set", color=colours.orange, size=9.5, weight="bold", va="center")
    figure.subplots_adjust(left=0.03, right=0.97, top=0.87, bottom=0.1, wspace=0.12, hspace=0.62)
    return figure


def represented(colours: Palette) -> Figure:
    """Picks, each with the nearest of the images that it stands for."""
    figure, grid = _grid(6, 7, 4.3)
    for i, pick in enumerate(picks()[:6]):
        for axes, row in zip(grid[7 * i : 7 * i + 7], [pick.row, *pick.nearest[:6]], strict=False):
            _digit(axes, row, colours)
            if row == pick.row:
                for side in axes.spines.values():
                    side.set(visible=True, color=colours.orange, lw=2)
                axes.set_ylabel(f"{pick.represents}", color=colours.text, size=9, rotation=0, ha="right", va="center")
        for axes in grid[7 * i + 1 + len(pick.nearest[:6]) : 7 * i + 7]:
            axes.set_visible(False)
    figure.text(0.1, 0.97, "pick", color=colours.orange, size=9.5, weight="bold", va="center")
    figure.text(0.235, 0.97, "nearest of the images that it stands for", color=colours.text, size=9.5, va="center")
    figure.subplots_adjust(left=0.1, right=0.99, top=0.94, bottom=0.01, wspace=0.1, hspace=0.1)
    return figure


def teacher(colours: Palette) -> Figure:
    """What a good and a bad teacher do to the models, over the labels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 5.2))
    weight, sets, accuracy = axes = figure.subplots(3, 1, sharex=True)
    kinds = {
        "good": ("good teacher", colours.blue, "-"),
        "bad": ("bad teacher", colours.orange, "-"),
        "none": ("no teacher", colours.grey, "--"),
    }
    for kind, (name, colour, style) in kinds.items():
        seeds = [over_the_rounds(kind, seed) for seed in (0, 1)]
        n = [told.n_labels for told in seeds[0]]
        values = [(accuracy, [[100 * told.accuracy for told in seed] for seed in seeds])]
        if kind != "none":
            values.append((weight, [[_level(told.soft_weight) for told in seed] for seed in seeds]))
            values.append((sets, [[told.teacher_set for told in seed] for seed in seeds]))
        for panel, of_seeds in values:
            panel.plot(n, np.mean(of_seeds, axis=0), style, color=colour, lw=2, label=name)
            panel.plot(n, np.transpose(of_seeds), style, color=colour, lw=0.6, alpha=0.4)
    titles = ("weight of the soft labels, in labels", "classes in the teacher's sets", "test accuracy in %")
    for panel, title in zip(axes, titles, strict=True):
        _plain(panel, colours)
        panel.set_title(title, loc="left", color=colours.text, size=9.5)
    weight.set_yticks(range(4), ["0", "10", "100", "1000"])
    weight.set_ylim(-0.15, 3.15)
    sets.set(ylim=(0, 10.5), yticks=[1, 5, 10])
    accuracy.set_xlabel("labels", color=colours.text, size=9)
    accuracy.legend(frameon=False, fontsize=8.5, labelcolor=colours.text, loc="lower right", borderaxespad=0)
    figure.subplots_adjust(left=0.11, right=0.98, top=0.95, bottom=0.085, hspace=0.36)
    return figure


def learning_curves(colours: Palette) -> Figure:
    """Test accuracy on the digits over the labels, of the demo."""
    from matplotlib.figure import Figure

    of_method: dict[str, dict[int, list[float]]] = {}
    with open(CURVES, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            of_method.setdefault(row["method"], {}).setdefault(int(row["labels"]), []).append(float(row["accuracy"]))
    names = {"ccma": "default", "margins": "margins", "random": "random", "ccma:paper": "published"}
    figure = Figure(figsize=(WIDTH, 3.1))
    axes = figure.add_axes((0.085, 0.135, 0.73, 0.78))
    ends: list[tuple[float, str, str]] = []
    shades = (colours.blue, colours.orange, colours.grey, colours.green)
    for (method, name), colour in zip(names.items(), shades, strict=True):
        curve = of_method[method]
        n = np.array(sorted(curve))
        mean = np.array([np.mean(curve[k]) for k in n]) * 100
        error = np.array([np.std(curve[k], ddof=1) / np.sqrt(len(curve[k])) for k in n]) * 100
        axes.fill_between(n, mean - error, mean + error, color=colour, alpha=0.22, lw=0)
        axes.plot(n, mean, color=colour, lw=2.4 if method == "ccma" else 1.5)
        ends.append((float(mean[-1]), name, colour))
    _plain(axes, colours)
    axes.set(xlim=(10, 210), ylim=(60, 98), xticks=[10, 50, 100, 150, 200])
    axes.set_xlabel("labels", color=colours.text, size=9, labelpad=1)
    axes.set_title("test accuracy in %", loc="left", color=colours.text, size=9.5)
    below = np.inf
    for at, name, colour in sorted(ends, reverse=True):
        below = min(at, below - 2.3)
        axes.text(213, below, name, color=colour, size=9, va="center", weight="bold" if name == "default" else None)
    return figure


def _box(x: float, y: float, width: float, height: float, colours: Palette) -> Any:
    from matplotlib.patches import FancyBboxPatch

    style = "round,pad=0,rounding_size=0.18"
    return FancyBboxPatch((x, y), width, height, boxstyle=style, fc=colours.box, ec=colours.faint, lw=1)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colours: Palette, colour: str | None = None
) -> None:
    axes.annotate(
        "", end, start, arrowprops={"arrowstyle": "-|>", "color": colour or colours.grey, "lw": 1.4, "shrinkA": 0}
    )


def _grid(n_rows: int, n_columns: int, height: float) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height))
    grid = figure.subplots(n_rows, n_columns, squeeze=False)
    return figure, [axes for row in grid for axes in row]


def _digit(axes: Axes, row: int, colours: Palette) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("ink", [colours.paper, colours.ink])
    axes.imshow(digits().images[row].reshape(8, 8), cmap=shades, vmin=0, vmax=16, interpolation="none")
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(colours.faint)


def _plain(axes: Axes, colours: Palette) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(colours.grey)
    axes.tick_params(colors=colours.text, labelsize=8.5, color=colours.grey)
    axes.grid(axis="y", color=colours.faint, lw=0.6)
    axes.set_axisbelow(True)


def _level(weight: float) -> float:
    return 0.0 if weight == 0 else float(np.log10(weight))


DRAWINGS: dict[str, Callable[[Palette], Figure]] = {
    "loop": loop,
    "conformal-sets": conformal_sets,
    "represented": represented,
    "teacher": teacher,
}


def draw(name: str, drawing: Callable[[Palette], Figure], folder: Path) -> None:
    """Write both variants of a picture."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    for variant, palette in PALETTES.items():
        with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "path", "font.family": "DejaVu Sans"}):
            figure = drawing(palette)
            figure.savefig(
                folder / f"{name}-{variant}.svg",
                format="svg",
                transparent=True,
                metadata={"Date": None, "Creator": None},
            )


def draw_outdated(app: Sphinx) -> None:
    folder = Path(app.srcdir) / FOLDER
    code = [Path(__file__), *Path(cf.__file__).parent.rglob("*.py")]
    newest = max(file.stat().st_mtime for file in code)
    for name, drawing in DRAWINGS.items():
        files = [folder / f"{name}-{variant}.svg" for variant in PALETTES]
        if not all(file.exists() and file.stat().st_mtime > newest for file in files):
            draw(name, drawing, folder)


def setup(app: Sphinx) -> dict[str, bool]:
    from docutils import nodes
    from docutils.parsers.rst import directives
    from sphinx.util.docutils import SphinxDirective

    class Picture(SphinxDirective):
        """A picture of the method, with its caption."""

        required_arguments = 1
        has_content = True
        option_spec = {"alt": directives.unchanged_required}

        def run(self) -> list[nodes.Node]:
            (name,) = self.arguments
            if name not in DRAWINGS or "alt" not in self.options:
                raise self.error(f"picture must be one of {', '.join(DRAWINGS)}, with :alt:, got {name!r}")
            figure = nodes.figure(align="left")
            for variant in PALETTES:
                uri = f"/{FOLDER}/{name}-{variant}.svg"
                figure += nodes.image(uri=uri, alt=self.options["alt"], classes=[f"only-{variant}"])
            if self.content:
                caption = nodes.caption()
                (paragraph, *_) = self.parse_content_to_nodes()
                caption += paragraph.children
                figure += caption
            return [figure]

    app.add_directive("picture", Picture)
    app.connect("builder-inited", draw_outdated)
    return {"parallel_read_safe": True}


if __name__ == "__main__":
    draw("learning-curves", learning_curves, DOCS / "_static")
