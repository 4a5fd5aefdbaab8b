"""The command ``ccma-fast predict``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..pool.csv_files import write_csv_file
from ..pool.kept_labels import check_keeps_labels
from ..system.output_files import check_can_write, check_no_input
from ..system.streams import tell
from .argument_types import at_least_0
from .command import Command
from .predictions_file import SUFFIXES, check_writable, write_predictions
from .shared_options import (
    add_backend_option,
    add_config_options,
    add_teacher_options,
    config_from,
    teacher_from,
)

if TYPE_CHECKING:
    from ..campaign.prediction import LabelErrors

__all__ = ["COMMAND"]

# Options that name files.
_INPUTS = ("features", "labels", "class_names", "teacher_images", "teacher_classes", "teacher_logits")

_DESCRIPTION = """\
Predict the class of every row of a pool by what its labels teach: a classifier, and with a teacher both combined, with
the weights that are likeliest on labelled rows that neither saw; the teacher alone until there are labels of two
classes. Labelled rows are predicted as well. The pool is read in place, a chunk at a time.
"""

_EPILOG = """\
output, by the suffix of --out:
  .csv, .parquet          index (row of the features, from 0), image_path (where the features have ids), label (a
                          number), name (where classes have names), confidence (its probability) and margin (to the
                          second); with --probabilities those of all classes too: in a .csv a column p_NAME for each
                          class, p_0, p_1, ... where classes have no names; in a .parquet one column, probabilities, of
                          lists of C float32
  .npy                    all probabilities, N x C float32

A .npy, or a .parquet with --probabilities, is what ccma-fast autolabel --probabilities takes; a .parquet tells it ids.

--label-errors lists the labelled rows, those first whose labels the models, trained without them, doubt most: index,
image_path, label, suggested, and margin, the natural logarithm of p(label) / p(suggested). It is a ranking.

example:
  ccma-fast predict --features x.npy --labels y.npy --teacher-images v.npy --teacher-classes t.npy --out p.npy

The same in Python: ccma_fast.ActiveLearner(features, labels=..., teacher=...).predict_proba(), or .probabilities(),
computed as they are read.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--features", required=True, metavar="X.npy", help="embeddings, N x D numbers")
    parser.add_argument(
        "--labels", required=True, metavar="Y.npy", nargs="+", action="extend", help="as of ccma-fast select"
    )
    parser.add_argument("--class-names", metavar="FILE", help="as of ccma-fast select")
    add_teacher_options(parser)
    method = parser.add_argument_group("the method")
    add_config_options(method)
    method.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="draws folds and sample (default: 0)")
    add_backend_option(method)
    method.add_argument(
        "--student-only", action="store_true", help="predict by the classifier alone, though the teacher trains it too"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help=f"by its suffix {', '.join(SUFFIXES)}")
    parser.add_argument(
        "--probabilities", action="store_true", help="of all classes, beside the predicted one (.csv, .parquet)"
    )
    parser.add_argument("--label-errors", type=Path, metavar="FILE.csv", help="where to list likely label errors")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace files that are there, unless they hold labels by people"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar and no summary on stderr")


def _run(arguments: argparse.Namespace) -> None:
    from ..backends.choose import choose_backend
    from ..campaign.prediction import label_errors, predicted_logits, train_on_labels
    from ..pool.labels import read_labels
    from ..pool.open import open_rows
    from ..steps.classes import check_implied_count, declared_classes
    from ..steps.predicted_rows import PredictedRows
    from ..steps.student import class_count, has_two_classes

    _check_outputs(arguments)
    backend = choose_backend(arguments.backend)
    rows = open_rows(arguments.features, "features")
    teacher = teacher_from(arguments, arguments.class_names)
    if teacher is not None:
        teacher.check_rows(rows)
    classes = declared_classes(None, arguments.class_names, teacher, None)
    files = [Path(file) for file in arguments.labels]
    labels = read_labels(files, rows, n_classes=classes.n_classes, class_names=classes.names)
    check_implied_count(labels, "labels", classes, None, rows)
    n_classes = classes.n_classes or class_count(None, labels, rows.n_rows)
    training = (None, rows, labels, n_classes, teacher, config_from(arguments), arguments.seed, backend)
    predicting = None if arguments.student_only else teacher
    if predicting is None or has_two_classes(labels[labels >= 0]):
        who, models = "the student" if predicting is None else "student and teacher", train_on_labels(*training)
    else:
        who, models = "the teacher", None
    logits = predicted_logits(models, rows, predicting, n_classes, backend)
    errors: LabelErrors | None = None
    if arguments.label_errors is not None:
        labelled = np.flatnonzero(labels >= 0)
        trained = train_on_labels(*training, hold_all_out=True)
        errors = label_errors(trained, labelled, labels[labelled], rows, classes.names)
    write_predictions(
        arguments.out,
        PredictedRows(logits, rows, labels >= 0, classes.names),
        has_all=arguments.probabilities,
        is_shown=not arguments.quiet,
    )
    if errors is not None:  # last, since the pool may fail while all its rows are predicted
        write_csv_file(arguments.label_errors, _error_table(errors))
    if not arguments.quiet:
        tell(f"{rows.n_rows} rows predicted by {who}, {int((labels >= 0).sum())} labels -> {arguments.out}")


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Outputs can be written, are no inputs and not each other, and replace nothing unasked."""
    check_writable(arguments.out, has_all=arguments.probabilities)
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
        check_keeps_labels(file, option)
        if file.exists() and not arguments.overwrite:
            raise FileExistsError(f"{option} {str(file)!r} is there already; expected another file, or --overwrite")
    if arguments.label_errors is not None and arguments.label_errors.resolve() == arguments.out.resolve():
        raise ValueError(f"--label-errors must be another file than --out, got {str(arguments.out)!r} for both")


def _error_table(found: LabelErrors) -> Iterator[list[Any]]:
    ids = found.ids
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
