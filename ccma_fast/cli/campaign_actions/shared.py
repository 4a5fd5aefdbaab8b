"""What several actions of ``ccma-fast campaign`` have in common."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..shared_options import teacher_from

if TYPE_CHECKING:
    from ...campaign.answering import Taken
    from ...campaign.campaign import Campaign

__all__ = [
    "add_annotator_option",
    "add_file_argument",
    "image_folder",
    "kept_inputs",
    "open_campaign",
    "open_with",
    "taken_as_text",
]

# Options of the pool and the teacher that a campaign keeps, those first that name files.
_FILES = ("features", "teacher_images", "teacher_classes", "teacher_logits", "class_names", "images")
# Images named in a summary.
_SHOWN = 3

_INPUTS = (*_FILES, "temperature", "force")


def add_file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("campaign", type=Path, metavar="CAMPAIGN", help="the file of the campaign")


def add_annotator_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup, help_text: str) -> None:
    parser.add_argument("--annotator", default="", metavar="NAME", help=help_text)


def kept_inputs(arguments: argparse.Namespace, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of pool and teacher as a campaign keeps them: paths as seen from its folder, unless absolute."""
    kept: dict[str, Any] = dict(before or {})
    folder = Path(os.path.abspath(arguments.campaign)).parent
    for name in _INPUTS:
        given = getattr(arguments, name, None)
        if given is None or given is False:
            continue
        if name in _FILES and not os.path.isabs(given):
            given = os.path.relpath(os.path.abspath(given), folder)
        kept[name] = given
    return kept


def open_campaign(arguments: argparse.Namespace, *, with_pool: bool = True) -> Campaign:
    """The campaign, with the pool and the teacher that it was begun with where they are needed."""
    from ...campaign.campaign import Campaign

    if not with_pool:
        return Campaign.open(arguments.campaign)
    with Campaign.open(arguments.campaign) as campaign:
        kept = campaign.settings["inputs"]
    return open_with(arguments, kept)


def open_with(arguments: argparse.Namespace, kept: Mapping[str, Any]) -> Campaign:
    """The campaign, with the pool and the teacher of these inputs."""
    from ...campaign.campaign import Campaign

    inputs = found_inputs(arguments.campaign, kept)
    if inputs.features is None:
        return Campaign.open(arguments.campaign)
    return Campaign.open(
        arguments.campaign,
        inputs.features,
        teacher=teacher_from(inputs, inputs.class_names),
        backend=getattr(arguments, "backend", "auto"),
        memory_limit=getattr(arguments, "memory_limit", None),
    )


def found_inputs(campaign: Path, kept: Mapping[str, Any]) -> argparse.Namespace:
    """The options that :func:`kept_inputs` kept, with paths as seen from here."""
    folder = Path(os.path.abspath(campaign)).parent
    inputs: dict[str, Any] = {name: kept.get(name) for name in _INPUTS} | {"force": bool(kept.get("force"))}
    for name in _FILES:
        if inputs[name] is not None:
            inputs[name] = os.path.normpath(folder / str(inputs[name]))
    return argparse.Namespace(**inputs)


def image_folder(arguments: argparse.Namespace, campaign: Campaign) -> str:
    """Where the images are, by the option or as the campaign keeps it."""
    if arguments.images is not None:
        return str(arguments.images)
    kept = found_inputs(arguments.campaign, campaign.settings["inputs"]).images
    if kept is None:
        raise ValueError("--images must say where the images are, which ccma-fast campaign init was not told")
    return str(kept)


def taken_as_text(taken: Taken, notes: list[str]) -> str:
    """What became of answers, for people."""
    numbers = ""
    if taken.events is not None:
        first, last = taken.events
        numbers = f" (event {first})" if first == last else f" (events {first}-{last})"
    lines = [f"{taken.n_new} new answers{numbers}, {taken.n_known} known before"]
    for images, what in (
        (taken.superseded, "known answers that count no more: something else was said later, or they were undone"),
        (taken.never_issued, "images that nobody was asked about, taken all the same"),
        (taken.unknown, "images that the pool does not have, left out"),
        (taken.added_classes, "classes added"),
    ):
        if images:
            more = ", ..." if len(images) > _SHOWN else ""
            lines.append(f"{what} ({len(images)}): {', '.join(map(repr, images[:_SHOWN]))}{more}")
    if taken.n_undecided:
        lines.append(f"images that more people are to answer about: {taken.n_undecided}")
    return "\n".join(lines + notes)
