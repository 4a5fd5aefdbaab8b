"""The labelling page of an assignment, as one file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections import Counter
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from ...checks import check_choice, check_integer
from ...system.output_files import check_can_replace, write_whole
from ...version import __version__
from ..exchange.answer import CANNOT_TELL, NO_CLASS
from ..exchange.assignment import Assignment, Task
from ..exchange.page_answers import FORMAT, ORDERS
from .thumbnails import thumbnails

__all__ = ["write_page"]

_GENERATOR = "ccma_fast label"
_BEGIN_BYTES = 2048  # the generator's mark stands in them
_SCRIPTS = ("choices.js", "answers.js", "grid.js", "page.js", "view.js", "controls.js", "keys.js")
_CAMPAIGN = re.compile(r"[0-9a-f]{32}")
_LARGEST_SEED = 2**53 - 1  # of JavaScript's integers


def write_page(
    path: str | os.PathLike[str],
    assignment: Assignment,
    images: Any,
    *,
    order: str = "likeliest",
    seed: int = 0,
    pixels: int = 512,
    title: str = "Images to label",
) -> dict[str, str]:
    """Write the page in which a person labels the images of an assignment.

    One HTML file that needs nothing else, no server and no network: reduced copies of the images are inside. Answers
    are kept by the browser (localStorage) under the campaign and a digest of the assignment, so that the page may be
    closed, opened again and written anew; the person exports them as a file for
    :mod:`ccma_fast.campaign.exchange.page_answers`.

    Parameters
    ----------
    path : path
        An ``.html`` file; an earlier page there is replaced.
    assignment : Assignment
    images : path, sequence of paths, or data set
        A folder that the ids are paths in, or what :func:`ccma_fast.extract` got.
    order : {"likeliest", "shuffled", "listed"}, default "likeliest"
        How the classes beside an image are ordered, see :mod:`ccma_fast.campaign.page`; the person can choose another.
    seed : int, default 0
        Of the order "shuffled".
    pixels : int, default 512
        Long side of the reduced copies. Smaller images stay as they are.
    title : str
        Heading of the page.

    Returns
    -------
    dict of str to str
        The images of which the page has no picture, by id, and why; it says so in their place.

    Raises
    ------
    ValueError
        No images to label, one of them twice, classes that are named twice, likely ones that are no classes, or another
        argument out of range.
    FileReadError
        None of the images is in `images`.
    FileExistsError
        `path` holds something else than such a page.
    OSError
        It cannot be written.
    TypeError
        Arguments of another type.
    ImportError
        Pillow is not installed; the text names the extra that brings it.
    """
    check_choice("order", order, ORDERS)
    seed = check_integer("seed", seed, minimum=0, maximum=_LARGEST_SEED)
    pixels = check_integer("pixels", pixels, minimum=16, maximum=4096)
    if not isinstance(title, str):
        raise TypeError(f"title must be text, got {type(title).__name__}")
    _check(assignment)
    check_can_replace(path, (".html", ".htm"), _is_page)
    uris, missing = thumbnails(images, [task.image for task in assignment.tasks], pixels)
    content = {
        "format": FORMAT,
        "version": __version__,
        "campaign": assignment.campaign,
        "digest": _digest(assignment),
        "annotator": assignment.annotator,
        "saw": assignment.saw,
        "classes": list(assignment.classes),
        "tasks": _tasks(assignment),
        "missing": missing,
        "order": order,
        "seed": seed,
        "refusals": {"cannotTell": CANNOT_TELL, "noClass": NO_CLASS},
    }
    pictures = [uris.get(task.image) for task in assignment.tasks]
    page = _page(title, content, pictures).encode()
    write_whole(path, lambda file: file.write(page))
    return missing


def _check(assignment: Any) -> None:
    """Check that an assignment can be answered, and its answers be told apart."""
    if not isinstance(assignment, Assignment):
        raise TypeError(f"assignment must be an Assignment, got {type(assignment).__name__}")
    if not _CAMPAIGN.fullmatch(assignment.campaign):
        raise ValueError(f"campaign of the assignment must be 32 hexadecimal digits, got {assignment.campaign!r:.80}")
    if not assignment.tasks:
        raise ValueError("assignment must have at least one image to label, got none")
    if not assignment.classes:
        raise ValueError("a page needs at least one class, got none; expected classes to be added first")
    for what, names in (("classes", assignment.classes), ("images", [task.image for task in assignment.tasks])):
        name, n_times = Counter(names).most_common(1)[0]
        if n_times > 1:
            raise ValueError(f"{what} of the assignment must be distinct, got {name!r} {n_times} times")
    known = frozenset(assignment.classes)
    for task in assignment.tasks:
        for name, probability in task.likeliest:
            if name not in known:
                raise ValueError(f"likeliest of {task.image!r} must be classes of the assignment, got {name!r}")
            if not (math.isfinite(probability) and 0 <= probability <= 1):
                raise ValueError(f"probabilities of {task.image!r} must lie in [0, 1], got {probability} of {name!r}")


def _tasks(assignment: Assignment) -> list[dict[str, Any]]:
    """The images with their likely classes, by position."""
    positions = {name: i for i, name in enumerate(assignment.classes)}

    def likeliest(task: Task) -> list[tuple[int, float]]:
        return [(positions[name], round(float(probability), 6)) for name, probability in task.likeliest]

    return [{"image": task.image, "likeliest": likeliest(task)} for task in assignment.tasks]


def _digest(assignment: Assignment) -> str:
    """What the browser keeps the answers under: the same for the same images, classes and campaign's log."""
    known = (assignment.annotator, assignment.saw, assignment.classes, _tasks(assignment))
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]


def _is_page(file: Path) -> bool:
    with open(file, "rb") as handle:
        return _GENERATOR.encode() in handle.read(_BEGIN_BYTES)


def _page(title: str, content: dict[str, Any], pictures: list[str | None]) -> str:
    """The whole file. Nothing in it runs but the script whose digest the policy names."""
    style = _text("page.css")
    script = "\n".join(map(_text, _SCRIPTS))
    policy = (
        f"default-src 'none'; script-src '{_source_of(script)}'; style-src '{_source_of(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )
    parts = {
        "policy": policy,
        "generator": f"{_GENERATOR} {__version__}",
        "title": escape(title),
        "style": style,
        "assignment": _json(content),
        "script": script,
        # Of base64, in which nothing can end the element.
        "pictures": "\n".join(
            f'<script type="text/plain" data-picture="{i}">{uri}</script>' for i, uri in enumerate(pictures) if uri
        ),
    }
    # In one pass, so that what stands in one part is never taken for the place of another.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _text("page.html"))


def _text(name: str) -> str:
    """A file of the page beside this one, with the ends of lines that browsers take digests of."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source_of(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def _json(content: Any) -> str:
    """JSON in ASCII that cannot end or comment out the element it stands in."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
