"""The command ``ccma-fast report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .argument_types import percentage
from .command import Command

__all__ = ["COMMAND"]

_DESCRIPTION = """\
Tables and pictures of a run of ccma-fast simulate, finished or not: area under the learning curves, paired differences
to a reference strategy, labels to reach an accuracy, the conformal sets over the rounds, the effect of kappa, time per
stage, and a map of pool and picks. Needs: pip install 'ccma-fast[plot]'

Prints the tables, and writes the pictures as PNG and report.html, one file that holds everything, needs no network, and
follows dark mode and the width of the screen.
"""

_EPILOG = """\
examples:
  ccma-fast report run                              into the folder of the run itself
  ccma-fast report run --baseline random --targets 70 75 --out pictures
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", help="folder that ccma-fast simulate wrote")
    parser.add_argument("--out", metavar="DIR", help="directory for the files (default: RUN)")
    parser.add_argument(
        "--baseline", metavar="NAME", help="the strategy that the others are compared with (default: the first)"
    )
    parser.add_argument(
        "--targets",
        type=percentage,
        nargs="+",
        metavar="P",
        help="accuracies in %% whose price in labels is stated (default: up to three that tell the strategies apart)",
    )


def _run(arguments: argparse.Namespace) -> None:
    from ..research.report.report import write_report

    tables = write_report(arguments.folder, arguments.out, baseline=arguments.baseline, targets=arguments.targets)
    print(f"{tables}\n\nEverything on one page: {Path(arguments.out or arguments.folder) / 'report.html'}")


COMMAND = Command(
    summary="tables and pictures of a run",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
