"""The action ``ccma-fast campaign settings``."""

from __future__ import annotations

import argparse

from ..argument_types import at_least_1, duration
from ..command import Command
from ..json_output import print_json
from ..shared_options import add_teacher_options
from .shared import add_annotator_option, add_file_argument, kept_inputs, open_campaign, open_with

__all__ = ["ACTION"]

_DESCRIPTION = """\
Change what init was told, from now on: where pool, teacher and images lie, how many people answer about an image, and
when images of the next batches expire. With more people an image, those that too few have labelled so far are out
again. Without options, print what holds, as JSON.
"""


_EPILOG = """\
examples:
  ccma-fast campaign settings birds.campaign
  ccma-fast campaign settings birds.campaign --features pool2 --labels-per-image 3 --annotator ana
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("--features", metavar="X", help="the pool, which may have grown, or come from another encoder")
    parser.add_argument("--images", metavar="FOLDER", help="where the images are")
    parser.add_argument("--class-names", metavar="FILE", help="what --teacher-classes are called")
    add_teacher_options(parser)
    parser.add_argument("--no-teacher", action="store_true", help="go on without a teacher")
    parser.add_argument("--labels-per-image", type=at_least_1, metavar="K", help="people who answer about each image")
    parser.add_argument("--expires", type=duration, metavar="TIME", help="how long images stay reserved")
    add_annotator_option(parser, "who decides")


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments, with_pool=False) as campaign:
        before = campaign.settings["inputs"]
        if arguments.no_teacher:
            before = {name: value for name, value in before.items() if not name.startswith(("teacher", "temperature"))}
        inputs = kept_inputs(arguments, before)
        changed = {
            "expires": arguments.expires,
            "labels_per_image": arguments.labels_per_image,
            "inputs": None if inputs == campaign.settings["inputs"] else inputs,
        }
        if changed["inputs"] is not None:
            open_with(arguments, inputs).close()  # what cannot be opened is refused here, not by the next action
        if any(value is not None for value in changed.values()):
            campaign.change_settings(**changed, annotator=arguments.annotator)
        print_json(campaign.settings)


ACTION = Command(
    summary="change where things lie, and how people work",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
