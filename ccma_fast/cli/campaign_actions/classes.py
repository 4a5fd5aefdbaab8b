"""The action ``ccma-fast campaign classes``."""

from __future__ import annotations

import argparse

from ...system.display import printable
from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_annotator_option, add_file_argument, open_campaign

__all__ = ["ACTION"]

_DESCRIPTION = """\
Add, rename and merge classes, in this order, all of it or nothing; then list them with their labels. Every label stays:
those of a class that is merged become labels of the other, and answers under a former name are still understood. A
teacher needs text features of each class: after one was added, give it a new file by ccma-fast campaign settings
--teacher-classes.
"""


_EPILOG = """\
examples:
  ccma-fast campaign classes birds.campaign
  ccma-fast campaign classes birds.campaign --add wren "great tit" --annotator ana
  ccma-fast campaign classes birds.campaign --merge "juvenile wren" wren --annotator ana
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("--add", nargs="+", action="extend", default=[], metavar="NAME", help="new classes")
    parser.add_argument("--rename", nargs=2, metavar=("BEFORE", "NAME"), help="call a class otherwise")
    parser.add_argument("--merge", nargs=2, metavar=("CLASS", "INTO"), help="make a class part of another")
    add_annotator_option(parser, "who decides")
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments, with_pool=False) as campaign:
        if arguments.add or arguments.rename or arguments.merge:
            campaign.change_classes(
                add=arguments.add, rename=arguments.rename, merge=arguments.merge, annotator=arguments.annotator
            )
        counts = campaign.status().by_class
    if arguments.json:
        print_json({"classes": counts})
        return
    for name, n in counts.items():
        print(f"{n:8}  {printable(name)}")


ACTION = Command(
    summary="add, rename, merge and list classes",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
