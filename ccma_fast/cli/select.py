"""The command ``ccma-fast select``."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import CCMAConfig
from ..errors import LabelWarning, TeacherWarning
from ..pool.kept_labels import check_keeps_labels, write_keeping_labels
from ..query.picks_file import SUFFIXES, as_bytes, as_csv, holds_picks_alone
from ..system.output_files import check_can_write, check_no_input, write_whole
from ..system.streams import tell
from .argument_types import above_0, at_least_0, at_least_1, rows_or_all
from .command import Command
from .json_output import add_json_option, print_json
from .picks_file import picks_path, record_path
from .ranks import check_runs_alone, ranks_of_command
from .row_options import add_row_options, row_options
from .shared_options import (
    add_backend_option,
    add_config_options,
    add_memory_option,
    add_teacher_options,
    config_from,
    teacher_from,
)

if TYPE_CHECKING:
    from ..pool.rows import Rows
    from ..query.report import Report, Selection
    from ..steps.teacher import Teacher
    from ..system.ranks import Ranks

__all__ = ["COMMAND"]

# Options that name files.
_INPUTS = (
    *("features", "labels", "class_names", "student_logits", "teacher_images", "teacher_classes", "teacher_logits"),
    *("exclude", "pending", "include", "class_distribution"),
)

_NETWORK = ("network_gbit_s", "network_latency_ms")

_MASKS = ("exclude", "pending", "include")

_DESCRIPTION = """\
Choose the rows of a pool of N images whose labels teach a classifier the most. A matrix has one row per image, in the
same order everywhere, and is read in place, however large: a .npy, .h5, .parquet, .arrow or .safetensors file, as in
x.h5::key where that holds several, or a folder of shards, such as those of ccma-fast extract.

  no labels               rows that cover the pool
  labels                  rows on which a classifier trained on the labels is uncertain, spread over the pool
  labels and a teacher    the same, by a classifier that is also trained on what a zero-shot vision-language teacher
                          says of other rows, as far as the labels show that it helps
"""

_EPILOG = """\
labels are joined to rows by image_path, the ids of the images, where the features have ids (a folder of ccma-fast
extract or clip-retrieval, or a file with a column image_path) and the labels are a .csv or .parquet file that has this
column (as the output of this command then has it) or a folder of ccma-fast extract; else by index; else they stand in
the order of the rows, and no other column may name these.

output, one entry per pick, in the order of choice (the first ones matter most):
  rank                    1, 2, 3, ...
  index                   row of the features, counted from 0; never a row that has a label, is pending or excluded
  image_path              the image's id, where the features have ids
  score                   delta: disagreement and uncertainty; nan (in JSON null) where there were no labels
  represents              candidate rows that the pick stands for, itself included
  .csv has these columns; .json has them as lists, and the report; .npy has the indices alone (int64).

beside picks.csv (or .json, .npy) goes picks.selection.json, the record of where the picks come from: version, command,
seed, configuration, backend, digests of the inputs, and of each pick the models' conformal sets, the classes that it
probably is of, who led it, and the rows that it stands for.

Under torchrun all its processes work together, on one machine or on several: each reads its share of the rows, and the
picks are those of one process. All must see the files.

examples:
  ccma-fast select --features x.npy --budget 100 --out picks.csv
  ccma-fast select --features x.npy --labels y.npy --teacher-images v.npy --teacher-classes t.npy \\
                   --budget 100 --out picks.csv
  ccma-fast select --features x.npy --student-logits z.npy --teacher-logits zt.npy --budget 100 > picks.csv
  torchrun --nproc-per-node 4 -m ccma_fast select --features x.npy --budget 100 --out picks.csv

The same call in Python: ccma_fast.select(features, budget, labels=..., teacher=ccma_fast.Teacher(...)).
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    pool = parser.add_argument_group("the pool")
    pool.add_argument(
        "--features",
        required=True,
        metavar="X.npy",
        help="embeddings that the classifier is trained on, e.g. of DINOv2: N x D numbers",
    )
    pool.add_argument("--budget", required=True, type=at_least_1, metavar="B", help="how many rows to choose")
    pool.add_argument(
        "--labels",
        metavar="Y.npy",
        nargs="+",
        action="extend",
        help="N classes from 0 to C-1, -1 (or NaN) where a row has no label; or a .csv or .parquet file with columns "
        "index (a row) or image_path, and label, such as the output of this command with a column added, also as a "
        "spreadsheet saves it; several files are joined, after one --labels or several",
    )
    pool.add_argument(
        "--class-names",
        metavar="FILE",
        help="what classes are called: one name per line, a .csv with a column name, or .json; labels may then be "
        "names (default: as --teacher-classes knows them)",
    )
    pool.add_argument(
        "--student-logits", metavar="Z.npy", help="N x C logits of a classifier of your own, instead of training one"
    )

    add_teacher_options(parser)
    add_row_options(parser, _MASKS)

    method = parser.add_argument_group("the method")
    add_config_options(method)
    method.add_argument(
        "--subpool-size",
        type=rows_or_all,
        metavar="S",
        help="rows of a diverse subpool to score instead of all, never more than a third of the unlabelled ones "
        f"(default: that of --config: all, or {CCMAConfig.paper().subpool_size} as published)",
    )
    method.add_argument(
        "--kappa",
        type=at_least_1,
        metavar="K",
        help=f"candidates per pick of the published query (default: that of --config, {CCMAConfig.kappa})",
    )
    method.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="same seed, same picks (default: 0)")
    add_backend_option(method)
    add_memory_option(method, "what it may add to the process's memory")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=picks_path,
        metavar="FILE",
        help=f"file for the picks, by its suffix {', '.join(SUFFIXES)}; an existing .csv or .json file is replaced "
        "where it has the columns below and no others (default: CSV to stdout)",
    )
    output.add_argument("--overwrite", action="store_true", help="replace whatever --out is, unless it holds labels")
    output.add_argument(
        "--parent",
        metavar="FILE",
        type=Path,
        help="the record (.selection.json) of the selection before, whose digest goes into the record of this one",
    )
    add_json_option(output, "print picks, report and stages, or the plan, as JSON to stdout")
    output.add_argument("-q", "--quiet", action="store_true", help="no report on stderr")
    _add_plan_options(parser)


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    plan = parser.add_argument_group("a plan")
    plan.add_argument(
        "--plan",
        action="store_true",
        help="choose nothing: print what it would read, the memory and the time that it would take, stage by stage",
    )
    plan.add_argument(
        "--ranks",
        type=at_least_1,
        metavar="R",
        help="with --plan: plan for R processes that share the rows, each on a machine like this one, and say what "
        "they exchange; to choose, torchrun starts them",
    )
    plan.add_argument(
        "--network-gbit-s",
        type=above_0,
        metavar="RATE",
        help="with --ranks: rate of a process's network link (default: 10 Gbit/s)",
    )
    plan.add_argument(
        "--network-latency-ms",
        type=above_0,
        metavar="MS",
        help="with --ranks: latency of a message (default: 0.1 ms)",
    )


def _run(arguments: argparse.Namespace) -> None:
    if arguments.parent is not None and arguments.out is None:
        raise ValueError("--parent goes into the record beside --out, which is missing")
    _check_plan_options(arguments)
    if arguments.plan:
        check_runs_alone("select --plan", "--ranks plans for several processes from one")
        _check_output(arguments)
        _print_plan(arguments)
        return
    with ranks_of_command(arguments.backend) as ranks:
        _select(arguments, ranks)


def _check_plan_options(arguments: argparse.Namespace) -> None:
    """Check that what plans alone depend on is given for a plan."""
    if arguments.ranks is not None and not arguments.plan:
        raise ValueError(
            "--ranks goes with --plan; how many processes choose, torchrun decides: torchrun --nproc-per-node "
            f"{arguments.ranks} -m ccma_fast select ..."
        )
    for option in _NETWORK:
        if getattr(arguments, option) is not None and arguments.ranks is None:
            of = f"--{option.replace('_', '-')}"
            raise ValueError(f"{of} goes with --plan and --ranks: it is of the network between ranks")


def _query(arguments: argparse.Namespace) -> dict[str, Any]:
    """The arguments that a query and its plan share."""
    from ..pool.open import open_rows

    return {
        "features": open_rows(arguments.features, "features"),
        "budget": arguments.budget,
        "labels": None if arguments.labels is None else [Path(file) for file in arguments.labels],
        **row_options(arguments, _MASKS),
        "class_names": arguments.class_names,
        "teacher": teacher_from(arguments, arguments.class_names),
        "student_logits": arguments.student_logits,
        "config": _config(arguments),
        "backend": arguments.backend,
        "memory_limit": arguments.memory_limit,
    }


def _print_plan(arguments: argparse.Namespace) -> None:
    from ..query.planning import plan

    of_ranks = {name: getattr(arguments, name) for name in ("ranks", *_NETWORK)}
    with _one_line_warnings():
        planned = plan(**_query(arguments), **of_ranks)
    if arguments.json:
        print_json(planned.to_dict())
    else:
        print(planned)


def _select(arguments: argparse.Namespace, ranks: Ranks | None) -> None:
    """The query; on several ranks the first one writes and prints."""
    from ..query.provenance import read_selection
    from ..query.select import select

    if ranks is None or ranks.rank == 0:
        _check_output(arguments)
    parent = None if arguments.parent is None else read_selection(arguments.parent).sha256
    query = _query(arguments)
    with _one_line_warnings(of_teacher=arguments.quiet):  # else the report below has them
        picks = select(random_state=arguments.seed, explain=arguments.out is not None, group=ranks, **query)
    if ranks is not None and ranks.rank:
        return
    teacher, labels = query["teacher"], query["labels"]
    _write_picks(picks, arguments, parent)
    if not arguments.quiet:
        if teacher is not None and labels is not None and picks.report.n_labelled:
            tell(_diagnosis(teacher, labels, query["features"], picks.report.warnings))
        tell(_summary(picks, arguments))


def _config(arguments: argparse.Namespace) -> CCMAConfig:
    """The constants of --config, with those that have options of their own."""
    if arguments.head is not None and arguments.student_logits is not None:
        raise ValueError("give either --head or --student-logits, whose classifier is trained already, not both")
    config = config_from(arguments)
    if arguments.subpool_size is not None:
        config = replace(config, subpool_size=None if arguments.subpool_size == "all" else arguments.subpool_size)
    if arguments.kappa is not None:
        config = replace(config, kappa=arguments.kappa)
    return config


def _write_picks(picks: Selection, arguments: argparse.Namespace, parent: str | None) -> None:
    """Write the record, and then the picks: the record has them too, should this be killed in between."""
    from ..query.provenance import selection_record

    if arguments.json or arguments.out is None:
        sys.stdout.write(as_bytes(picks, ".json").decode() if arguments.json else as_csv(picks))
        sys.stdout.flush()
    if arguments.out is None:
        return
    content = as_bytes(picks, arguments.out.suffix.lower())
    record = selection_record(picks, command=arguments.words, parent=parent)
    try:
        _check_output(arguments)  # again: the files may have been written to meanwhile
    except (OSError, ValueError):
        if not arguments.json:
            sys.stdout.write(as_csv(picks))  # rather than lost
        raise
    write_whole(record_path(arguments.out), lambda file: file.write(record))
    write_keeping_labels(arguments.out, lambda file: file.write(content))


def _check_output(arguments: argparse.Namespace) -> None:
    """Check that --out can be written, is none of the inputs, and replaces nothing but picks."""
    if arguments.out is None:
        return
    from ..query.provenance import is_selection

    out, record = arguments.out, record_path(arguments.out)
    for path, what in ((out, "--out"), (record, "the record beside --out,")):
        check_can_write(path)
        for name, source in _input_paths(arguments):
            check_no_input(path, [(f"--{name}", source)], what=what)
    for name, source in _input_paths(arguments):
        below = out.suffix.lower() != ".csv" and source.is_dir()
        if below and out.resolve().is_relative_to(source.resolve()):
            raise ValueError(
                f"--out {str(out)!r} would be among the files of --{name} {str(source)!r}; expected another folder"
            )
    check_keeps_labels(out)
    if record.exists() and not is_selection(record):
        check_keeps_labels(record, "the record beside --out,")
    if arguments.overwrite:
        return
    if out.exists() and not holds_picks_alone(out):
        raise ValueError(
            f"--out {str(out)!r} is there already and holds something else than picks, or more; expected another file, "
            "or --overwrite"
        )
    if record.exists() and not is_selection(record):
        raise ValueError(
            f"{str(record)!r}, where the record beside --out goes, is there already and holds something else; expected "
            "another --out, or --overwrite"
        )


def _input_paths(arguments: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """The inputs that are existing files or folders, each with the name of its option."""
    for name in _INPUTS:
        given = getattr(arguments, name)
        for source in given if isinstance(given, list) else [given]:
            if source is not None:
                path = Path(source if os.path.exists(source) else source.partition("::")[0])
                if path.exists():
                    yield name.replace("_", "-"), path


def _diagnosis(teacher: Teacher, labels: list[Path], features: Rows, reported: list[str]) -> str:
    """How good the teacher is on the labelled rows, without the warnings that the report has (`reported`)."""
    from ..pool.labels import ReadLabels, read_labels

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LabelWarning)  # the query has warned
        warnings.simplefilter("ignore", TeacherWarning)  # in what is returned
        # The features may know ids where the teacher's rows do not.
        known = read_labels(labels, features, n_classes=teacher.n_classes, class_names=teacher.class_names)
        found = teacher.diagnose(ReadLabels(known))
    found = replace(found, warnings=[text for text in found.warnings if text not in reported])
    return f"the teacher on the labelled rows:\n{found}"


@contextmanager
def _one_line_warnings(*, of_teacher: bool = False) -> Iterator[None]:
    """Print LabelWarning and, if wanted, TeacherWarning as errors are printed: without file, line and source."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", LabelWarning)
        warnings.simplefilter("always" if of_teacher else "ignore", TeacherWarning)
        others = warnings.showwarning

        def show(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
            if issubclass(category, (LabelWarning, TeacherWarning)):
                for text in str(message).splitlines():
                    tell(f"ccma-fast select: warning: {text}")
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _summary(picks: Selection, arguments: argparse.Namespace) -> str:
    from ..query.report_text import report_text

    report: Report = picks.report
    where = "" if arguments.out is None else f" -> {arguments.out}"
    there = " whose images are there" if report.n_vanished else ""
    more = f"but no more rows are unlabelled{there}"
    if report.n_pending or report.n_excluded:
        more = "but no other rows may be chosen"
    if report.n_too_near:
        more = "but no other rows are far enough"
    short = "" if len(picks) == arguments.budget else f" (budget {arguments.budget}, {more})"
    return f"{report_text(report, with_stages=False)}\n{len(picks)} picks{short}{where}"


COMMAND = Command(
    summary="choose which rows of a pool to label",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    runs_on_ranks=True,
    results_only_on_stdout=lambda arguments: arguments.out is None or arguments.plan or arguments.json,
)
