"""The action ``ccma-fast campaign audit``."""

from __future__ import annotations

import argparse

from ..argument_types import at_least_1, duration
from ..command import Command
from ..shared_options import add_backend_option, add_memory_option
from .issued import add_output_options, check_output, tell_issued
from .shared import add_annotator_option, add_file_argument, open_campaign

__all__ = ["ACTION"]

_DESCRIPTION = """\
Draw images at random from all that could be chosen, and reserve them as a batch. What the models say of them now is
kept; once they are labelled, ccma-fast campaign status tells how often that was right on the pool, with a confidence
interval. Chosen images cannot tell it: they are harder than the pool.
"""


_EPILOG = """\
example:
  ccma-fast campaign audit birds.campaign -n 200
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("-n", required=True, type=at_least_1, metavar="N", help="how many images to draw")
    parser.add_argument("--expires", type=duration, metavar="TIME", help="as for next")
    add_annotator_option(parser, "who asks, for the log")
    method = parser.add_argument_group("the method")
    add_backend_option(method)
    add_memory_option(method, "what it may add to the process's memory")
    add_output_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    check_output(arguments)
    with open_campaign(arguments) as campaign:
        issued = campaign.draw_audit(arguments.n, expires=arguments.expires, annotator=arguments.annotator)
    tell_issued(issued, arguments)


ACTION = Command(
    summary="draw random images, to find out how good the models are",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
