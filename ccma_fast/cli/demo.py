"""The command ``ccma-fast demo``."""

from __future__ import annotations

import argparse

from .argument_types import at_least_1
from .command import Command

__all__ = ["COMMAND"]

_DESCRIPTION = """\
Run active learning on the handwritten digits that scikit-learn ships, and compare this package's default acquisition
(ccma) with CCMA as published (ccma:paper), smallest margins and random choice. The teacher that both ask is the names
of the classes as printed in the fonts that matplotlib ships: nothing is downloaded. ccma also chooses its first labels
by the teacher, where the others draw theirs at random. Needs: pip install 'ccma-fast[demo]'

Prints the test accuracy against the number of labels and the labels needed for 80, 85 and 90 %, and writes
learning_curves.png, first_picks.png and accuracy.csv.
"""

_EPILOG = """\
examples:
  ccma-fast demo                                    half a minute on 2 cores
  ccma-fast demo --seeds 1 --rounds 5               a quick look
  ccma-fast demo --seeds 10 --jobs 2 --out digits   a closer one, into the directory digits
"""


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
    from ..research.demo import run

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
