"""The action ``ccma-fast campaign init``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...system.streams import tell
from ..argument_types import at_least_0, at_least_1, duration
from ..command import Command
from ..shared_options import add_config_options, add_teacher_options, config_from, teacher_from
from .shared import add_file_argument, kept_inputs

__all__ = ["ACTION"]

_DESCRIPTION = """\
Begin a campaign in a new file. It keeps where pool and teacher lie, as seen from its folder, for the other actions.
"""

_EPILOG = """\
example:
  ccma-fast campaign init birds.campaign --features pool --teacher-images clip --teacher-classes clip-classes \\
                     --images photos --expires 7d
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    pool = parser.add_argument_group("the pool")
    pool.add_argument(
        "--features", required=True, metavar="X", help="embeddings of the images, as for ccma-fast select"
    )
    pool.add_argument(
        "--images", metavar="FOLDER", help="where the images are, in which their ids are paths: for ccma-fast label"
    )
    pool.add_argument(
        "--class-names",
        metavar="FILE",
        help="classes that are known: one name per line, or .json (default: as --teacher-classes knows them, or none)",
    )
    pool.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="labels that are there already: .csv files with columns image_path (or index) and label",
    )
    add_teacher_options(parser)
    method = parser.add_argument_group("the method")
    add_config_options(method)
    method.add_argument("--seed", type=at_least_0, default=0, metavar="N", help="same seed and answers, same batches")
    people = parser.add_argument_group("people")
    people.add_argument(
        "--labels-per-image",
        type=at_least_1,
        default=1,
        metavar="K",
        help="people who answer about each image: the majority decides, a tie asks one more (default: 1)",
    )
    people.add_argument(
        "--expires",
        type=duration,
        metavar="TIME",
        help="how long images without an answer stay reserved, such as 7d or 36h (default: for ever)",
    )


def _run(arguments: argparse.Namespace) -> None:
    from ...campaign.campaign import Campaign

    campaign = Campaign.create(
        arguments.campaign,
        arguments.features,
        teacher=teacher_from(arguments, arguments.class_names),
        class_names=arguments.class_names,
        config=config_from(arguments),
        random_state=arguments.seed,
        labels_per_image=arguments.labels_per_image,
        expires=arguments.expires,
        inputs=kept_inputs(arguments),
    )
    try:
        with campaign:
            for file in arguments.labels or ():
                campaign.import_file(file, file_format="csv", new_classes=not campaign.class_names)
            status = campaign.status()
    except BaseException:  # all of it or nothing; it held nothing but what those files hold
        arguments.campaign.unlink(missing_ok=True)
        raise
    tell(f"{arguments.campaign}: {status.n_rows} images, {len(status.by_class)} classes, {status.n_labelled} labels")


ACTION = Command(
    summary="begin a campaign",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
