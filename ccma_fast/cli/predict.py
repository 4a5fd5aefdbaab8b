"""The command ``ccma-fast predict``."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..system.output_files import check_can_write, check_no_input, write_whole
from ..system.streams import tell
from .argument_types import at_least_0
from .command import Command
from .csv_output import write_csv
from .shared_options import add_backend_option, add_config_option, add_teacher_options, teacher_from

if TYPE_CHECKING:
    from ..campaign.prediction import LabelErrors
    from ..pool.rows import Rows

__all__ = ["COMMAND"]

_SUFFIXES = (".csv", ".npy")

# Options that name files.
_INPUTS = ("features", "labels", "class_names", "teacher_images", "teacher_classes", "teacher_logits")

_DESCRIPTION = """\
Predict the class of every row of a pool by what its labels teach: a classifier, and with a teacher both combined, with
the weights that are likeliest on labelled rows that neither saw; the teacher alone until there are labels of two
classes. Labelled rows are predicted as well. The pool is read in place, a chunk at a time.
"""

_EPILOG = """\
output, by the suffix of --out:
  .csv                    index (row of the features, from 0), image_path (where the features have ids), label (a
                          number), name (where classes have names), confidence (its probability) and margin (to the
                          second)
  .npy                    all probabilities, N x C float32, as ccma-fast autolabel --probabilities takes them

--label-errors lists the labelled rows, those first whose labels the models, trained without them, doubt most: index,
image_path, label, suggested, and margin, the natural logarithm of p(label) / p(suggested). It is a ranking.

example:
  ccma-fast predict --features x.npy --labels y.npy --teacher-images v.npy --teacher-classes t.npy --out p.npy

The same in Python: ccma_fast.ActiveLearner(features, labels=..., teacher=...).predict_proba().
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--features", required=True, metavar="X.npy", help="embeddings, N x D numbers")
    parser.add_argument(
        "--labels", required=True, metavar="Y.npy", nargs="+", action="extend", help="as of ccma-fast select"
    )
    parser.add_argument("--class-names", metavar="FILE", help="as of ccma-fast select")
    add_teacher_options(parser)
    method = parser.add_argument_group("the method")
    add_config_option(method)
    method.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="draws folds and sample (default: 0)")
    add_backend_option(method)
    method.add_argument(
        "--student-only", action="store_true", help="predict by the classifier alone, though the teacher trains it too"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=f"ends in {' or '.join(_SUFFIXES)}")
    parser.add_argument("--label-errors", type=Path, metavar="FILE.csv", help="where to list likely label errors")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.add_argument("-q", "--quiet", action="store_true", help="no summary on stderr")


def _run(arguments: argparse.Namespace) -> None:
    from ..backends.choose import choose_backend
    from ..campaign.classes import check_implied_count, declared_classes
    from ..campaign.prediction import label_errors, train_on_labels
    from ..pool.checked import check_rows
    from ..pool.labels import read_labels
    from ..pool.open import open_rows
    from ..steps.student import class_count, has_two_classes

    _check_outputs(arguments)
    backend = choose_backend(arguments.backend)
    rows = open_rows(arguments.features, "features")
    teacher = teacher_from(arguments, arguments.class_names)
    if teacher is not None:
        teacher.check_rows(rows)
        check_rows(teacher.source, backend.row_lengths, directions=teacher.class_directions is not None)
    check_rows(rows, backend.row_lengths)
    classes = declared_classes(None, arguments.class_names, teacher, None)
    files = [Path(file) for file in arguments.labels]
    labels = read_labels(files, rows, n_classes=classes.n_classes, class_names=classes.names)
    check_implied_count(labels, "labels", classes, None, rows)
    n_classes = classes.n_classes or class_count(None, labels, rows.n_rows)
    training = (None, rows, labels, n_classes, teacher, arguments.config, arguments.seed, backend)
    predicting = None if arguments.student_only else teacher
    if predicting is None or has_two_classes(labels[labels >= 0]):
        models = "the student" if predicting is None else "student and teacher"
        logits = train_on_labels(*training).combined_logits(rows, predicting, n_classes, backend)
    else:
        models, logits = "the teacher", predicting.logits(backend)
    errors: LabelErrors | None = None
    if arguments.label_errors is not None:
        labelled = np.flatnonzero(labels >= 0)
        errors = label_errors(train_on_labels(*training, hold_all_out=True), labelled, labels[labelled])
    if arguments.out.suffix.lower() == ".npy":
        write_whole(arguments.out, lambda file: _write_npy(file, logits))
    else:
        _write_csv(arguments.out, _table(logits, rows, classes.names))
    if errors is not None:  # last, since the pool may fail while all its rows are predicted
        _write_csv(arguments.label_errors, _error_table(errors, rows))
    if not arguments.quiet:
        tell(f"{rows.n_rows} rows predicted by {models}, {int((labels >= 0).sum())} labels -> {arguments.out}")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Outputs can be written, are no inputs and not each other, and replace nothing unasked."""
    if arguments.out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out must end in {' or '.join(_SUFFIXES)}, got {str(arguments.out)!r}")
    if arguments.label_errors is not None and arguments.label_errors.suffix.lower() != ".csv":
        raise ValueError(f"--label-errors must end in .csv, got {str(arguments.label_errors)!r}")
    given = [(name, getattr(arguments, name)) for name in _INPUTS]
    inputs = [
        (f"--{name.replace('_', '-')}", Path(str(file).partition("::")[0]))
        for name, value in given
        for file in (value if isinstance(value, list) else [value])
        if file is not None
    ]
    for option, file in (("--out", arguments.out), ("--label-errors", arguments.label_errors)):
        if file is None:
            continue
        check_can_write(file)
        check_no_input(file, inputs, what=option)
        if file.exists() and not arguments.overwrite:
            raise FileExistsError(f"{option} {str(file)!r} is there already; expected another file, or --overwrite")
    if arguments.label_errors is not None and arguments.label_errors.resolve() == arguments.out.resolve():
        raise ValueError(f"--label-errors must be another file than --out, got {str(arguments.out)!r} for both")


def _probabilities(logits: Rows) -> Iterator[tuple[int, Any]]:
    from ..pool.rows import to_float32
    from ..steps.student import softmax

    for start, chunk in logits.chunks():
        yield start, softmax(to_float32(chunk))


def _write_npy(file: BinaryIO, logits: Rows) -> None:
    shape = (logits.n_rows, logits.n_columns)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for _, p in _probabilities(logits):
        file.write(np.ascontiguousarray(p, "<f4").data)


def _write_csv(path: Path, table: Iterator[list[Any]]) -> None:
    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        write_csv(text, table)
        text.detach()  # flushes; the file is closed by whoever opened it

    write_whole(path, write)


def _table(logits: Rows, rows: Rows, names: list[str] | None) -> Iterator[list[Any]]:
    """The header, and a line for every row."""
    ids = rows.row_ids()
    at_id, at_name = [] if ids is None else ["image_path"], [] if names is None else ["name"]
    yield ["index", *at_id, "label", *at_name, "confidence", "margin"]
    of_row = repeat(None) if ids is None else iter(ids)
    for start, p in _probabilities(logits):
        labels = p.argmax(axis=1).tolist()
        second, largest = np.partition(p, -2, axis=1)[:, -2:].T
        # str() of a float32 is the shortest text that reads back as the same float32.
        for i, (label, a, b) in enumerate(zip(labels, largest, largest - second, strict=True)):
            image = next(of_row)
            yield [
                start + i,
                *([image] * len(at_id)),
                label,
                *([] if names is None else [names[label]]),
                str(a),
                str(b),
            ]


def _error_table(found: LabelErrors, rows: Rows) -> Iterator[list[Any]]:
    ids = rows.ids_at(found.indices)
    columns = [found.indices, *([] if ids is None else [ids]), found.labels, found.suggested, map(str, found.margins)]
    yield ["index", *([] if ids is None else ["image_path"]), "label", "suggested", "margin"]
    yield from map(list, zip(*columns, strict=True))


COMMAND = Command(
    summary="predict the class of every row of a pool, and list likely label errors",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
