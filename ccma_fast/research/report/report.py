"""The report of a run of :func:`ccma_fast.simulate`: figures, and one page that holds them and the tables."""

from __future__ import annotations

import io
import platform
import shlex
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...checks import check_choice, check_number
from ...system.extras import optional
from ...system.file_integrity import open_regular
from ...system.output_files import check_can_write_into, write_whole
from ..results import Results
from ..run_folder import read_map, read_results
from .drawing import NARROW, WIDE, Picture, shown_name
from .page import GENERATOR
from .run import Run
from .statistics import chosen_targets
from .svg import StyleSheet, inline_svg
from .tables import areas_table, differences_table, labels_table, rounds_table, seconds_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["open_run", "write_report", "write_report_of"]

_DOTS_PER_INCH = 130

# In which each of its files says that a report wrote it.
_MARKED_BYTES = 2048


def write_report(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    baseline: str | None = None,
    targets: Sequence[float] | None = None,
) -> str:
    """Write the pictures of a run and ``report.html``, which holds them and the tables and needs no other file.

    Parameters
    ----------
    folder : path
        Of a run of :func:`ccma_fast.simulate`; of an unfinished one the finished rounds are reported.
    out : path, optional
        Directory for the files, made where it is missing; `folder` by default. Files of an earlier report are
        replaced, and no others.
    baseline : str, optional
        The strategy that every other is compared with; by default the first of the run.
    targets : sequence of float, optional
        Accuracies in (0, 1] whose price in labels is stated; by default up to three round ones that tell the strategies
        of the run apart (:func:`ccma_fast.research.report.statistics.chosen_targets`).

    Returns
    -------
    str
        The tables as text.

    Raises
    ------
    ValueError
        `folder` holds no run, or one without a finished round; the run has no such baseline; a target out of range.
    FileExistsError
        `out` holds another file under a name of the report's; checked before anything is written.
    OSError
        A file cannot be read, or `out` cannot be written into; found out before anything is drawn.
    ImportError
        matplotlib is not installed; the text names the extra that brings it.
    """
    optional("matplotlib", "the report", "plot")
    shares = None if targets is None else _check_targets(targets)
    directory = Path(folder if out is None else out)
    check_can_write_into(directory)
    run = open_run(folder)
    if not run.started:
        raise ValueError(f"{str(folder)!r} holds a run without a finished round; nothing to report yet")
    return _write_report(run, directory, ["ccma-fast", "report", str(folder)], out, baseline, shares)


def write_report_of(
    results: Results, out: str | Path, *, baseline: str | None = None, targets: Sequence[float] | None = None
) -> str:
    """:func:`write_report` of results in memory; parameters, what is returned and errors as there."""
    optional("matplotlib", "the report", "plot")
    shares = None if targets is None else _check_targets(targets)
    check_can_write_into(out)
    return _write_report(Run(results, results.pool_map), Path(out), None, None, baseline, shares)


def _write_report(
    run: Run,
    directory: Path,
    command: list[str] | None,
    out: str | Path | None,
    baseline: str | None,
    shares: list[float] | None,
) -> str:
    """The report of a run with a finished round, and the tables; `command` makes it again, where one does."""
    from .figures import pictures
    from .page import page

    if baseline is None:
        baseline = next(strategy for strategy in run.strategies if strategy in run.compared)
    check_choice("baseline", baseline, [strategy for strategy in run.strategies if strategy in run.compared])

    if shares is None:
        shares = chosen_targets(run)
    facts = _facts(run)
    tables = [areas_table(run, baseline)]
    if shares:
        tables.append(labels_table(run, baseline, shares))
    if len(run.compared) > 1:
        tables.insert(1, differences_table(run, baseline))
    if run.results.timings["seconds"].size:
        tables.append(seconds_table(run, baseline))
    styles = StyleSheet()
    drawn = [(picture, _drawings(picture, styles)) for picture in pictures(run, baseline, shares)]
    if command is not None:
        command = [*command, "--baseline", baseline]
        command += ["--targets", *(f"{100 * share:g}" for share in shares)] if shares else []
        command += [] if out is None else ["--out", str(out)]
    record = {**_without_repetition(run.results.record), "this report": _made_by(command)}
    elements = [(picture, svgs) for picture, (_, svgs) in drawn]
    html = page(record, [*tables, rounds_table(run, baseline)], elements, styles, facts)
    _write(directory, {f"{picture.name}.png": png for picture, (png, _) in drawn} | {"report.html": html.encode()})
    return "\n\n".join([*(textwrap.fill(fact, 100) for fact in facts), *map(str, tables)])


def open_run(folder: str | Path) -> Run:
    """The run in a folder of :func:`ccma_fast.simulate`, as far as it has come.

    Raises
    ------
    FileReadError
        There is none, or a file of it is damaged.
    """
    return Run(read_results(folder), read_map(folder))


def _made_by(command: Sequence[str] | None) -> dict[str, str]:
    """The command, machine and versions that make a report."""
    return {
        "command": "Results.write_report" if command is None else shlex.join(command),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "ccma_fast": version("ccma-fast"),
        "matplotlib": version("matplotlib"),
    }


def _write(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of a report, or none where one of them would replace a file that is not a report's."""
    for name in contents:
        _check_own(directory / name)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_whole(directory / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def _check_own(file: Path) -> None:
    """A file is not there, or a report has written it."""
    check_can_write_into(file.parent, [file.name])
    if not file.exists():
        return
    with open_regular(file) as handle:
        begin = handle.read(_MARKED_BYTES)
    if GENERATOR.encode() not in begin:
        raise FileExistsError(
            f"{str(file)!r} is there and no report of ccma_fast wrote it; expected another directory, or that the file "
            "is moved away"
        )


def _check_targets(targets: Sequence[float]) -> list[float]:
    shares = [check_number("targets", target, above=0.0) for target in targets]
    if not shares or max(shares) > 1.0:
        raise ValueError(f"targets must be at least one accuracy in (0, 1], got {list(targets)}")
    return shares


def _facts(run: Run) -> list[str]:
    """What was run in one sentence, then what is missing from it."""
    facts = [
        f"{_count(len(run.started), 'strategy', 'strategies')}, {_count(len(run.results.seeds), 'seed')}, "
        f"{_count(run.n_rounds, 'query', 'queries')} each, "
        f"from {run.results.columns['n_labels'].min()} to {run.results.columns['n_labels'].max()} labels."
    ]
    if run.n_finished < run.n_planned:
        text = f"The run is not finished: {run.n_finished} of {run.n_planned} rounds are there."
        partial = [strategy for strategy in run.started if strategy not in run.compared]
        text += f" Comparisons are over the rounds 0 to {run.horizon} and the seeds that have all of them."
        if partial:
            text += f" Not far enough to be compared: {', '.join(partial)}."
        waiting = [strategy for strategy in run.strategies if strategy not in run.started]
        if waiting:
            text += f" Not begun: {', '.join(waiting)}."
        facts.append(text)
    if len(run.results.seeds) == 1:
        facts.append("One seed only: there are no standard errors, and a difference may be chance.")
    return facts


def _without_repetition(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record with what the contenders have changed of the common configuration, not all of it again."""
    common = record["arguments"]["config"]
    contenders = {}
    for label, contender in record["contenders"].items():
        changed = {name: value for name, value in contender["config"].items() if value != common[name]}
        contenders[label] = {**contender, "config": changed or "as in the arguments"}
    return {**record, "contenders": contenders}


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _drawings(picture: Picture, styles: StyleSheet) -> tuple[bytes, dict[str, str]]:
    """A picture as the PNG of a file, and as SVG in every layout."""
    figures = {layout.name: picture.draw(layout) for layout in (WIDE, NARROW)}
    svgs = {
        name: inline_svg(
            figure, styles, name=f"{picture.name}-{name}", title=picture.title, description=picture.description
        )
        for name, figure in figures.items()
    }
    return _png(figures[WIDE.name], picture.title), svgs


def _png(figure: Figure, title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imsave

    figure.suptitle(shown_name(title, 200), x=0.01, ha="left", fontsize=13, fontweight="bold")
    # savefig draws everything twice, to lay it out and to print it.
    figure.set_dpi(_DOTS_PER_INCH)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A strategy may be named in letters that matplotlib's font lacks; it draws a box for each.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        canvas.draw()  # type: ignore[no-untyped-call]
    buffer = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    imsave(buffer, pixels, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": GENERATOR})
    return buffer.getvalue()
