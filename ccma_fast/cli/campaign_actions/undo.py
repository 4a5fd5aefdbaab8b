"""The action ``ccma-fast campaign undo``."""

from __future__ import annotations

import argparse

from ...system.streams import tell
from ..argument_types import event_numbers
from ..command import Command
from .shared import add_annotator_option, add_file_argument, open_campaign

__all__ = ["ACTION"]

_DESCRIPTION = """\
Undo events, all of them or none: labels, whole imports, batches, changes of classes, and undoes themselves. Nothing is
removed: an undo is an event that makes another one count no more.
"""

_EPILOG = """\
examples:
  ccma-fast campaign undo birds.campaign --annotator ana      the last thing that ana did
  ccma-fast campaign undo birds.campaign 120 130-179          by the numbers that import and log tell
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument(
        "events",
        nargs="*",
        type=event_numbers,
        metavar="N",
        help="numbers of events, or first-last (default: the last)",
    )
    add_annotator_option(parser, "who undoes; without numbers, whose last event (default: anybody's)")


def _run(arguments: argparse.Namespace) -> None:
    numbers = [number for found in arguments.events for number in found]
    with open_campaign(arguments, with_pool=False) as campaign:
        undone = campaign.undo(*numbers, annotator=arguments.annotator)
    for event in undone:
        about = "" if event.image is None else f" of {event.image!r}"
        by = f" by {event.annotator!r}" if event.annotator else ""
        tell(f"undone: event {event.number}, {event.kind}{about}{by}")


ACTION = Command(
    summary="undo what was done",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
