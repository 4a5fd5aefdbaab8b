"""The action ``ccma-fast campaign next``."""

from __future__ import annotations

import argparse

from ..argument_types import at_least_1, duration
from ..command import Command
from ..row_options import add_row_options, row_options
from ..shared_options import add_backend_option, add_memory_option
from .issued import add_output_options, check_output, tell_issued
from .shared import add_annotator_option, add_file_argument, open_campaign

__all__ = ["ACTION"]

# A campaign knows itself what is out and what was refused.
_MASKS = ("include",)

_DESCRIPTION = """\
Choose the next images to label, and reserve them: no other batch offers them until they are answered or expire. Earlier
batches may still be out; their images count as covered.
"""

_EPILOG = """\
The batch is for everybody: ccma-fast label and ccma-fast campaign export give its images to annotators, each to as many
as are to answer about it. The picks are written as ccma-fast select writes them, with the record of where they come
from beside them; the campaign keeps all of it too.

examples:
  ccma-fast campaign next birds.campaign --budget 100
  ccma-fast campaign next birds.campaign --budget 100 --expires 7d --out picks.csv
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("--budget", required=True, type=at_least_1, metavar="B", help="how many images to choose")
    parser.add_argument(
        "--expires", type=duration, metavar="TIME", help="as for init, for this batch (default: as init was told)"
    )
    add_annotator_option(parser, "who asks, for the log")
    add_row_options(parser, _MASKS)
    method = parser.add_argument_group("the method")
    add_backend_option(method)
    add_memory_option(method, "what it may add to the process's memory")
    add_output_options(parser)


def _run(arguments: argparse.Namespace) -> None:
    check_output(arguments)
    with open_campaign(arguments) as campaign:
        issued = campaign.next(
            arguments.budget,
            expires=arguments.expires,
            **row_options(arguments, _MASKS),
            annotator=arguments.annotator,
        )
    tell_issued(issued, arguments)


ACTION = Command(
    summary="choose and reserve the next images",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
