"""The action ``ccma-fast campaign label``."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ...system.streams import tell
from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_annotator_option, add_file_argument, open_campaign, taken_as_text

__all__ = ["ACTION"]

_DESCRIPTION = """\
Say one thing of some images: which class they are of, that they cannot be labelled, or that what was said is withdrawn.
For the page in which people label, see ccma-fast label.
"""


_EPILOG = """\
examples:
  ccma-fast campaign label birds.campaign a.jpg b.jpg --class "great tit" --annotator ana
  ccma-fast campaign label birds.campaign c.jpg --refuse "cannot tell" --annotator ana
  ccma-fast campaign label birds.campaign a.jpg --correct "blue tit" --annotator eva
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="ids of images (row numbers where there are no ids)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--class", dest="label", metavar="NAME", help="they are of this class")
    what.add_argument("--correct", metavar="NAME", help="they are of this class, whatever others said of them so far")
    what.add_argument(
        "--refuse", metavar="REASON", help='they have no label, such as "cannot tell"; they are not offered again'
    )
    what.add_argument("--retract", action="store_true", help="what this annotator said of them counts no more")
    what.add_argument("--reopen", action="store_true", help="what anybody said of them counts no more")
    parser.add_argument("--new-classes", action="store_true", help="add a class that is not known")
    add_annotator_option(parser, "who says so")
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments) as campaign:
        images, given = arguments.images, {"annotator": arguments.annotator}
        if arguments.retract or arguments.reopen:
            (campaign.retract if arguments.retract else campaign.reopen)(images, **given)
            if arguments.json:
                print_json({"withdrawn": images})
                return
            tell(f"images without {'an answer of theirs' if arguments.retract else 'any answer'} now: {len(images)}")
            return
        if arguments.label is not None:
            classes = [arguments.label] * len(images)
            taken = campaign.label(images, classes, new_classes=arguments.new_classes, **given)
        elif arguments.correct is not None:
            taken = campaign.correct(images, [arguments.correct] * len(images), **given)
        else:
            taken = campaign.refuse(images, arguments.refuse, **given)
    if arguments.json:
        print_json(asdict(taken))
    else:
        tell(taken_as_text(taken, []))


ACTION = Command(
    summary="label, correct, refuse or withdraw by hand",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
