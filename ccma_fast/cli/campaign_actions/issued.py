"""What ``ccma-fast campaign next`` and ``audit`` write of a batch that was issued."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ...pool.kept_labels import check_keeps_labels, write_keeping_labels
from ...query.picks_file import SUFFIXES, as_bytes, as_csv, holds_picks_alone
from ...system.output_files import check_can_replace, check_can_write, write_whole
from ...system.streams import tell
from ..json_output import add_json_option, print_json
from ..picks_file import picks_path, record_path

if TYPE_CHECKING:
    from ...campaign.issuing import Issued

__all__ = ["add_output_options", "check_output", "tell_issued"]


def add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        type=picks_path,
        metavar="FILE",
        help=f"file for the picks as well, by its suffix {', '.join(SUFFIXES)} (default: CSV to stdout)",
    )
    add_json_option(output)
    output.add_argument("-q", "--quiet", action="store_true", help="no report on stderr")


def check_output(arguments: argparse.Namespace) -> None:
    """Check that --out can be written and replaces nothing but picks, before anything is reserved."""
    if arguments.out is None:
        return
    from ...query.provenance import is_selection

    check_can_write(arguments.out)
    check_keeps_labels(arguments.out)
    check_can_replace(arguments.out, (arguments.out.suffix.lower(),), holds_picks_alone)
    check_can_replace(record_path(arguments.out), (".json",), is_selection)


def tell_issued(issued: Issued, arguments: argparse.Namespace) -> None:
    """Write the picks and their record, or print them."""
    from ...query.provenance import selection_record
    from ...query.report_text import report_text

    batch, selection = issued.batch, issued.selection
    if arguments.out is not None:
        record = selection_record(selection, command=arguments.words, parent=issued.parent)
        write_whole(record_path(arguments.out), lambda file: file.write(record))
        content = as_bytes(selection, arguments.out.suffix.lower())
        try:
            write_keeping_labels(arguments.out, lambda file: file.write(content))
        except OSError:
            if not arguments.json:
                sys.stdout.write(as_csv(selection))  # rather than lost: they are reserved
            raise
    if arguments.json:
        print_json(
            {
                "batch": batch.number,
                "is_audit": batch.is_audit,
                "issued": batch.issued,
                "expires": batch.expires or None,
                "images": batch.images,
                "rows": batch.rows,
                "scores": selection.scores.tolist(),
                "report": selection.report.to_dict(),
            }
        )
    elif arguments.out is None:
        sys.stdout.write(as_csv(selection))
        sys.stdout.flush()
    if not arguments.quiet:
        until = f" until {batch.expires[:16]}Z" if batch.expires else ""
        where = "" if arguments.out is None else f" -> {arguments.out}"
        report = report_text(selection.report, with_stages=False)
        tell(f"{report}\nbatch {batch.number}: {len(batch.images)} images, reserved{until}{where}")
