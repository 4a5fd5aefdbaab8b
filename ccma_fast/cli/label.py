"""The command ``ccma-fast label``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..campaign.exchange.page_answers import ORDERS
from ..system.streams import tell
from .argument_types import at_least_0, at_least_1
from .campaign_actions.shared import add_annotator_option, add_file_argument, image_folder, open_campaign
from .command import Command

__all__ = ["COMMAND"]

_DESCRIPTION = """\
Write the page in which a person labels images of a campaign: one HTML file with the images inside, which needs no
server and no network, works by keyboard and on a phone, keeps answers in the browser, and exports them as a file for
ccma-fast campaign import.
"""

_EPILOG = """\
Images that are written for an annotator are assigned to them, as ccma-fast campaign export does it. Beside each image
the page lists the classes that student and teacher together find likely, the likeliest first, and all others behind a
search. So that people are not led by it, --order shuffled mixes that list, and --order listed shows all classes as they
are; what was shown is kept with each answer. The ids of the pool must be paths in the folder of the images; for a pool
without ids, Campaign.write_page in Python takes a data set in the order of the rows. An image of a class that is
missing is answered by "Another reason" and its name; once the class is there, ccma-fast campaign label --correct NAME
gives it to the image.

example:
  ccma-fast label birds.campaign --annotator ana -n 100 --out ana.html
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE.html", help="the page; an earlier one is replaced"
    )
    add_annotator_option(parser, "who labels (default: the page asks)")
    parser.add_argument("-n", type=at_least_1, metavar="N", help="at most so many images (default: all that are out)")
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help="where the images are, in which their ids are paths (default: as init was told)",
    )
    parser.add_argument("--order", choices=ORDERS, default="likeliest", help="of the classes (default: likeliest)")
    parser.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="of the order shuffled (default: 0)")
    parser.add_argument(
        "--pixels", type=at_least_1, default=512, metavar="N", help="long side of the images in the page (default: 512)"
    )
    parser.add_argument("--title", default="Images to label", metavar="TEXT", help="heading of the page")


def _run(arguments: argparse.Namespace) -> None:
    with open_campaign(arguments, with_pool=False) as campaign:
        images = image_folder(arguments, campaign)
        page = campaign.write_page(
            arguments.out,
            images,
            annotator=arguments.annotator,
            n=arguments.n,
            order=arguments.order,
            seed=arguments.seed,
            pixels=arguments.pixels,
            title=arguments.title,
        )
    for image, reason in page.without_picture.items():
        tell(f"no picture of {image!r}: {reason}")
    tell(f"{page.n_images} images -> {arguments.out}")


COMMAND = Command(
    summary="write the page in which a person labels",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
