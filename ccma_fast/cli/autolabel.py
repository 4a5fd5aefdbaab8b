"""The command ``ccma-fast autolabel``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pool.csv_files import write_csv_file
from ..pool.kept_labels import check_keeps_labels
from ..system.output_files import check_can_write, check_no_input
from ..system.streams import tell
from .argument_types import at_least_0, at_least_1, fraction
from .command import Command

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..pool.rows import Rows

__all__ = ["COMMAND"]

# Rows that are written at a time.
_BLOCK = 65536

_DESCRIPTION = """\
Label the rest of a pool by a model, with an error that an audit bounds: people label a random sample of the rows that
have no label, and as many others get the label that the model predicts as the bound allows.

  neither --draw nor --audit   forecast what share of the pool could be labelled, by the size of the audit
  --draw N --out audit.csv     draw the audit: fill in the column label, from the top or in any order, but all of it, or
                               all up to some number in the column draw
  --audit audit.csv --out auto.csv
                               label the rows whose labels are right often enough; the others are listed for people
"""

_EPILOG = """\
With probability --confidence over the draw, at most a share --max-error of the labels given is wrong, whatever the
model. That takes for granted that the audit is labelled rightly, that the model was not trained on it, and that one
audit is for one model and one limit, chosen before its labels are seen. So --audit takes the probabilities and --labels
that --draw had, and no others. An error of 5 % takes 59 audit rows at least, and one of 1 % takes 299.

files:
  audit.csv                draw, index, image_path (where the probabilities have ids), label: to be filled in
  audit.record.json        what was drawn; keep it beside audit.csv
  auto.csv                 index, image_path, label, score of the rows labelled by the model; --labels of other commands
                           take it
  auto-people.csv          index, image_path, score of the other rows, the least sure first; a column label makes it
                           labels too

examples:
  ccma-fast autolabel --probabilities p.npy --labels y.npy
  ccma-fast autolabel --probabilities p.npy --labels y.npy --draw 500 --out audit.csv
  ccma-fast autolabel --probabilities p.npy --labels y.npy --audit audit.csv --max-error 0.05 --out auto.csv

The same calls in Python: ccma_fast.audit_forecast, ccma_fast.audit_sample, ccma_fast.auto_label.
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    pool = parser.add_argument_group("the pool")
    pool.add_argument(
        "--probabilities",
        required=True,
        metavar="P.npy",
        help="N x C probabilities of the classes, by the model: a file that ccma-fast predict wrote (.npy, or .parquet "
        "with --probabilities, which has the ids), or any file or folder that ccma-fast select takes as features",
    )
    pool.add_argument(
        "--labels",
        nargs="+",
        action="extend",
        metavar="Y",
        help="the labels that there are, those that the model was trained on among them, as for ccma-fast select",
    )
    pool.add_argument(
        "--class-names", metavar="FILE", help="what the classes are called: one name per line in their order, or .json"
    )

    audit = parser.add_argument_group("the audit")
    either = audit.add_mutually_exclusive_group()
    either.add_argument("--draw", type=at_least_1, metavar="N", help="draw N rows for people to label")
    either.add_argument("--audit", type=Path, metavar="FILE", help="the file that --draw wrote, with labels")
    audit.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="of the draw (default: 0)")
    audit.add_argument(
        "--max-error", type=fraction, default=0.05, metavar="SHARE", help="of the labels given (default: 0.05)"
    )
    audit.add_argument(
        "--confidence", type=fraction, default=0.95, metavar="P", help="that the error is no larger (default: 0.95)"
    )
    audit.add_argument(
        "--per-class", action="store_true", help="bound the error among the labels given of each class, not of all"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--out", type=_csv_path, metavar="FILE.csv", help="with --draw or --audit: the file to write")
    output.add_argument(
        "--people", type=_csv_path, metavar="FILE.csv", help="rows for people (default: beside --out, *-people.csv)"
    )
    output.add_argument(
        "--overwrite",
        action="store_true",
        help="replace output files that are there, unless they hold labels by people",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="no report on stderr")


def _csv_path(text: str) -> Path:
    """An argument type."""
    if not text.lower().endswith(".csv"):
        raise argparse.ArgumentTypeError(f"must end in .csv, got {text!r}")
    return Path(text)


def _run(arguments: argparse.Namespace) -> None:
    is_forecast = arguments.draw is None and arguments.audit is None
    if is_forecast != (arguments.out is None):
        raise ValueError("--out must be given with --draw or --audit, and not without")
    if arguments.people is not None and arguments.audit is None:
        raise ValueError("--people is for --audit")
    pool: dict[str, Any] = {
        "labels": None if arguments.labels is None else [Path(file) for file in arguments.labels],
        "class_names": arguments.class_names,
    }
    limits = {name: getattr(arguments, name) for name in ("max_error", "confidence", "per_class")}
    if is_forecast:
        from ..campaign.audit_forecast import audit_forecast

        print(audit_forecast(arguments.probabilities, **pool, **limits))
    elif arguments.draw is not None:
        _draw(arguments, pool, limits)
    else:
        _label(arguments, pool, limits)


def _draw(arguments: argparse.Namespace, pool: dict[str, Any], limits: dict[str, Any]) -> None:
    from ..campaign.audit import audit_sample
    from ..campaign.audit_forecast import audit_forecast
    from ..pool.open import open_rows
    from .audit_file import record_of, write_audit

    _check_outputs(arguments, arguments.out, record_of(arguments.out))
    rows = open_rows(arguments.probabilities, "probabilities")
    audit = audit_sample(rows, arguments.draw, random_state=arguments.seed, **pool)
    write_audit(arguments.out, audit, rows.ids_at(audit.rows))
    if not arguments.quiet:
        tell(str(audit_forecast(rows, [arguments.draw], **pool, **limits)))
        tell(f"{len(audit)} rows to label -> {arguments.out}; their draw -> {record_of(arguments.out)}")


def _label(arguments: argparse.Namespace, pool: dict[str, Any], limits: dict[str, Any]) -> None:
    from ..campaign.auto_label import auto_label
    from ..pool.class_codes import class_codes
    from ..pool.class_names import agreed_class_names
    from ..pool.open import open_rows
    from .audit_file import read_audit

    people = arguments.people or arguments.out.with_name(f"{arguments.out.stem}-people.csv")
    _check_outputs(arguments, arguments.out, people)
    rows = open_rows(arguments.probabilities, "probabilities")
    audit, cells = read_audit(arguments.audit)
    pool["class_names"] = agreed_class_names(pool["class_names"], None)
    given = class_codes(
        cells, class_names=pool["class_names"], n_classes=rows.n_columns, name="the labels of --audit", typed=False
    )
    found = auto_label(rows, audit, given, **pool, **limits)
    labelled: dict[str, npt.NDArray[Any]] = {"index": found.rows, "label": found.labels, "score": found.scores}
    _write(arguments.out, rows, labelled, found.class_names)
    _write(people, rows, {"index": found.for_people, "score": found.people_scores}, found.class_names)
    if not arguments.quiet:
        tell(f"{found}\n{found.rows.size} labels -> {arguments.out}\n{found.for_people.size} rows -> {people}")


def _check_outputs(arguments: argparse.Namespace, *files: Path) -> None:
    """Check that the outputs can be written, differ, are none of the inputs, and replace nothing unasked."""
    if len({file.resolve() for file in files}) < len(files):
        raise ValueError(f"--out and --people must be two files, got {str(files[0])!r} for both")
    given = [("--probabilities", arguments.probabilities), ("--class-names", arguments.class_names)]
    given += [("--audit", arguments.audit), *(("--labels", file) for file in arguments.labels or ())]
    inputs = [(name, Path(source)) for name, source in given if source is not None]
    for file in files:
        check_can_write(file)
        check_no_input(file, inputs, what="the output")
        check_keeps_labels(file, "the output")
        if file.exists() and not arguments.overwrite:
            raise ValueError(f"{str(file)!r} is there already; expected another file, or --overwrite")


def _write(path: Path, rows: Rows, columns: Mapping[str, npt.NDArray[Any]], names: Sequence[str] | None) -> None:
    """Write columns, with the ids of the rows beside their numbers, block by block."""

    def table() -> Iterator[Sequence[Any]]:
        n_rows = columns["index"].size
        has_ids = rows.ids_at(columns["index"][:0]) is not None
        yield ["index", *(["image_path"] if has_ids else []), *(name for name in columns if name != "index")]
        for start in range(0, n_rows, _BLOCK):
            block = {name: column[start : start + _BLOCK] for name, column in columns.items()}
            ids = rows.ids_at(block["index"])
            # str() of a float32 is the shortest text that reads back as the same float32.
            cells = [
                [names[c] for c in part] if name == "label" and names is not None else list(map(str, part))
                for name, part in block.items()
            ]
            yield from zip(*(cells if ids is None else [cells[0], ids, *cells[1:]]), strict=True)

    write_csv_file(path, table())


COMMAND = Command(
    summary="label the rest of a pool by a model, with an error that an audit bounds",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
    results_only_on_stdout=lambda arguments: arguments.out is None,
)
