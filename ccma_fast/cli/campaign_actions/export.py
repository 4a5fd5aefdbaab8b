"""The action ``ccma-fast campaign export``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...campaign.exchange.formats import FORMATS, exported_formats
from ...pool.kept_labels import check_keeps_labels, write_keeping_labels
from ...system.json_text import as_json
from ...system.output_files import check_can_write
from ...system.streams import tell
from ..argument_types import at_least_1
from ..command import Command
from .shared import add_annotator_option, add_file_argument, open_campaign

if TYPE_CHECKING:
    from ...campaign.campaign import Campaign
    from ...campaign.files import LabelledImage

__all__ = ["ACTION"]

_RESULTS = {"labels": "the labels, as CSV", "croissant": "the labels, as a Croissant record (JSON-LD)"}

_DESCRIPTION = """\
Write images for people to label, in a file for another program; or, with --to labels, the labels that people agree on.
"""

_FORMAT_LIST = "\n".join(
    f"  {name:22} {text}"
    for name, text in [*((name, FORMATS[name].title) for name in exported_formats()), *_RESULTS.items()]
)

_EPILOG = f"""\
formats:
{_FORMAT_LIST}

where the images are (--images), if their ids alone do not tell:
  label-studio           their folder below LOCAL_FILES_DOCUMENT_ROOT, or a URL
  fiftyone, fiftyone-csv the absolute path of their folder
  cvat                   their folder on this machine; the manifest then has their sizes, as cloud storages need

Images that are written for an annotator are assigned to them: nobody else gets them, as far as no more people are to
answer about them. The same annotator gets them again until they are answered. Name annotators as they are called in
what comes back, in Label Studio by e-mail address: another spelling is another person. The labels have columns
image_path (index where the pool has no ids) and label, as ccma-fast select --labels reads them, then annotators and
n_others, how many said something else.

examples:
  ccma-fast campaign export birds.campaign --to label-studio --out tasks.json --images photos
  ccma-fast campaign export birds.campaign --to csv --annotator ana -n 50 --out ana.csv
  ccma-fast campaign export birds.campaign --to labels --out labels.csv
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument(
        "--to", required=True, choices=[*exported_formats(), *_RESULTS], metavar="FORMAT", help="one of those below"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a new file")
    add_annotator_option(parser, "for whom the images are (default: for whoever does it)")
    parser.add_argument("-n", type=at_least_1, metavar="N", help="at most so many images (default: all that are out)")
    parser.add_argument(
        "--images", default="", metavar="PREFIX", help="where the other program finds the images, see below"
    )
    parser.add_argument("--name", default="labels", help="name of the set in a Croissant record (default: labels)")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace labels or a Croissant record that this action wrote; a file for people is never replaced",
    )


def _run(arguments: argparse.Namespace) -> None:
    out = arguments.out
    with open_campaign(arguments, with_pool=False) as campaign:
        if arguments.to not in _RESULTS:
            written = campaign.export_file(
                out, arguments.to, annotator=arguments.annotator, n=arguments.n, images=arguments.images
            )
            tell(f"-> {', '.join(map(str, written))}")
            return
        check_can_write(out)
        check_keeps_labels(out)
        if out.exists() and not arguments.overwrite:
            raise FileExistsError(f"--out {str(out)!r} is there already; expected a new file, or --overwrite")
        labelled = campaign.labelled_images()
        if arguments.to == "labels":
            labelled.to_csv(out, overwrite=arguments.overwrite)
        else:
            content = as_json(_croissant(campaign, labelled, arguments.name))
            write_keeping_labels(out, lambda file: file.write(content))
    tell(f"{len(labelled)} labels -> {out}")


def _croissant(campaign: Campaign, labelled: Sequence[LabelledImage], name: str) -> dict[str, Any]:
    from ...campaign.croissant import croissant_record

    images, labels = [entry.image for entry in labelled], [entry.label for entry in labelled]
    return croissant_record(name, classes=campaign.class_names, images=images, labels=labels)


ACTION = Command(
    summary="write images to label, or the labels",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
