"""The action ``ccma-fast campaign log``."""

from __future__ import annotations

import argparse

from ...system.display import printable
from ...system.streams import tell
from ..argument_types import at_least_1
from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_file_argument, open_campaign

__all__ = ["ACTION"]

_DESCRIPTION = """\
Everything that happened, the last first: number, time (UTC), what, which image or class, by whom; "-" before what was
undone.
"""


_EPILOG = """\
examples:
  ccma-fast campaign log birds.campaign -n 20
  ccma-fast campaign log birds.campaign --image a.jpg --verify
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("--image", metavar="ID", help="of one image: answers, batches and whom it was assigned to")
    parser.add_argument("-n", type=at_least_1, metavar="N", help="the last N events alone")
    parser.add_argument("--verify", action="store_true", help="check first that the file is whole and was not changed")
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments, with_pool=False) as campaign:
        if arguments.verify:
            campaign.verify()
        entries = campaign.history(arguments.image)
    if not entries:
        tell(f"nobody was asked about {arguments.image!r}, or said anything of it")
    entries = entries[::-1][: arguments.n]
    if arguments.json:
        print_json({"events": [entry._asdict() for entry in entries]})
        return
    for entry in entries:
        sign = "-" if entry.is_undone else " "
        by = f"  {printable(entry.annotator)}" if entry.annotator else ""
        about = entry.about and f"  {printable(entry.about)}"
        print(f"{sign}{entry.number:6}  {entry.time[:19]}  {entry.kind}{about}{by}")


ACTION = Command(
    summary="tell what happened",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
    prints_tables=True,
)
