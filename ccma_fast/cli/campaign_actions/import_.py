"""The action ``ccma-fast campaign import``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ...campaign.exchange.formats import FORMATS
from ...campaign.exchange.labels_file import is_labels_file
from ...system.streams import tell
from ..command import Command
from ..json_output import add_json_option, print_json
from .shared import add_annotator_option, add_file_argument, open_campaign, taken_as_text

__all__ = ["ACTION"]

_DESCRIPTION = """\
Take in answers from files: from the page of ccma-fast label, from labelling programs, or CSV. All of a file is taken
or, on an error, nothing of it. What was taken before is known and changes nothing, so that a file may come twice, or
again with more in it. Of two answers by one person about one image the later one counts, whichever comes first.
"""

_FORMAT_LIST = "\n".join(f"  {name:22} {entry.title}" for name, entry in FORMATS.items())

_EPILOG = f"""\
formats, which a file's content tells in most cases:
{_FORMAT_LIST}

examples:
  ccma-fast campaign import birds.campaign answers-*.json
  ccma-fast campaign import birds.campaign annotations.xml --format cvat --annotator ana
"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file_argument(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files, or folders of classes")
    parser.add_argument("--format", choices=[*FORMATS], metavar="NAME", default="", help="one of those below")
    parser.add_argument(
        "--images", default="", metavar="PREFIX", help="where the other program found the images, as for export"
    )
    parser.add_argument(
        "--new-classes", action="store_true", help="add classes that are not known, instead of refusing"
    )
    parser.add_argument(
        "--skip-unknown", action="store_true", help="leave out images that the pool does not have, instead of refusing"
    )
    add_annotator_option(parser, "of answers that name nobody")
    add_json_option(parser)


def _run(arguments: argparse.Namespace) -> None:
    for file in arguments.files:
        if not arguments.annotator and is_labels_file(file):
            raise ValueError(
                f"{str(file)!r} has labels that people agreed on, as export --to labels writes them, and no answers; "
                "expected --annotator NAME for somebody who is to have given them all"
            )
    found = {}
    with open_campaign(arguments) as campaign:
        for file in arguments.files:
            imported = campaign.import_file(
                file,
                file_format=arguments.format,
                images=arguments.images,
                annotator=arguments.annotator,
                new_classes=arguments.new_classes,
                skip_unknown=arguments.skip_unknown,
            )
            found[str(file)] = imported
            if not arguments.json:  # at once: what was taken is taken, whatever the next file holds
                tell(f"{file}: {taken_as_text(imported.taken, imported.notes)}")
    if arguments.json:
        print_json({file: asdict(imported.taken) | {"notes": imported.notes} for file, imported in found.items()})


ACTION = Command(
    summary="take in answers from files",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    add_arguments=_add_arguments,
    run=_run,
)
