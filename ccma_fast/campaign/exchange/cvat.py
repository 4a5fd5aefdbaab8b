"""CVAT: the order of images out, as a manifest; "CVAT for images 1.1" in, as XML or the ZIP archive it comes in.

Out, ``NAME.jsonl``, a dataset manifest: a task that is made of exactly these images and this file with the sorting
method "predefined" has them in the order of choice. With `images`, their folder on this machine, the manifest has
their sizes too, without which CVAT takes no images from a cloud storage by it; Pillow reads them. Beside it
``NAME.labels.json``, the labels of the task, to be pasted under "Raw" in its constructor: a tag for each class and for
both refusals.

In, an image with one tag is an answer; the tag of a refusal is that refusal. Images without a tag, with several, or
with shapes alone are noted and left out, as are tags that a model made (``source="auto"``). The annotator is the user
to whom the task or job is assigned; CVAT does not say who set a tag, nor when. ``answered`` is the time of the last
change to the task, where the file has it. The names of images are their ids.

Keys: none, so that the campaign makes one of image, annotator, answer and that time: the same state of a task is taken
once, however often it is exported. Shortlists, notes and which assignment was answered do not go through CVAT.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import FileReadError
from ...system.extras import optional
from .answer import CANNOT_TELL, NO_CLASS, Answer
from .assignment import Assignment
from .imported import Collected, Imported, check_classes, checked_text, label_or_refusal, parsed_time
from .outline import Outline
from .outside_files import as_json, is_zip, member_names, opened_zip, parse_xml, read_bytes, read_member, write_new
from .places import check_text_ids, without_suffix

__all__ = ["export", "read", "recognises"]

_ANNOTATIONS = "annotations.xml"

# Orientations of EXIF that lay an image on its side.
_ORIENTATION, _FIRST_ON_SIDE = 274, 5

_MOST_TEXT = 1000

_SHAPES = {"box", "polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton"}

# Where a file says who worked and when the task was last changed, below <meta>.
_OWNERS = ("task", "job")


def export(assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write the order of choice, and beside it the labels of the task.

    Parameters
    ----------
    assignment : Assignment
    file : Path
        A new file, ``.jsonl``.
    images : str, optional
        The folder of the images on this machine.

    Returns
    -------
    list of Path
        ``NAME.jsonl`` and ``NAME.labels.json``.

    Raises
    ------
    FileExistsError
        One of them is there.
    ValueError
        Another suffix, a class that is called as a refusal is, an id that is no text, or an image twice.
    FileReadError
        With `images`, one of them cannot be read.
    ImportError
        With `images`, Pillow is not installed.
    OSError
        They cannot be written.
    """
    if file.suffix.lower() != ".jsonl":
        raise ValueError(f"a manifest of CVAT must be a .jsonl file, got {str(file)!r}")
    check_classes(assignment.classes, "CVAT")
    check_text_ids(assignment)
    lines: list[dict[str, Any]] = [{"version": "1.1"}, {"type": "images"}]
    names = [task.image for task in assignment.tasks]
    if len(set(names)) < len(names):
        ((twice, _),) = Counter(names).most_common(1)
        raise ValueError(f"a manifest of CVAT must have each image once, got {twice!r} twice")
    for name in names:
        stem = without_suffix(name)
        size = _size(Path(images, name)) if images else {}
        lines.append({"name": stem, "extension": name[len(stem) :], **size})
    labels = [{"name": name, "type": "tag", "attributes": []} for name in (*assignment.classes, CANNOT_TELL, NO_CLASS)]
    manifest = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    return write_new({file: manifest.encode(), file.with_suffix(".labels.json"): as_json(labels)})


def _size(file: Path) -> dict[str, int]:
    """Width and height of an image as it is shown."""
    image_module = optional("PIL.Image", "the sizes of images", "extract")
    try:
        with image_module.open(file) as image:
            width, height = image.size
            on_side = image.getexif().get(_ORIENTATION, 1) >= _FIRST_ON_SIDE
    except (OSError, ValueError, image_module.DecompressionBombError) as error:
        raise FileReadError(f"cannot read the size of {str(file)!r}: {error}") from error
    return {"width": height, "height": width} if on_side else {"width": width, "height": height}


def recognises(outline: Outline) -> bool:
    """Whether a file or a folder is of this format."""
    return outline.kind == "xml" or (outline.kind in ("zip", "folder") and _ANNOTATIONS in outline.names)


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the tags of images.

    Parameters
    ----------
    file : Path
        ``annotations.xml``, the ZIP archive or the folder that it is in.
    images : str, optional
        Not used.
    ids : collection of str, optional
        Not used.

    Returns
    -------
    Imported

    Raises
    ------
    FileReadError
        No such file, another one, "CVAT for video", or XML with a document type.
    """
    document = _Document(file)
    parse_xml(_content(file), file, document)
    return document.imported()


def _content(file: Path) -> bytes:
    if file.is_dir():
        return read_bytes(file / _ANNOTATIONS, "XML")
    if not is_zip(file):
        return read_bytes(file, "XML")
    with opened_zip(file) as archive:
        if _ANNOTATIONS not in member_names(archive):
            raise FileReadError(f"{str(file)!r} must have {_ANNOTATIONS!r} in it, as 'CVAT for images 1.1' has")
        return read_member(archive, _ANNOTATIONS, file)


class _Document:
    """The elements of a file, in their order.

    Parameters
    ----------
    file : Path
        For error messages.
    """

    def __init__(self, file: Path) -> None:
        self._place = f" in {str(file)!r}"
        self._collected = Collected()
        self._path: list[str] = []
        self._text = ""
        self._facts: dict[str, str] = {}
        self._tasks: dict[str, dict[str, str]] = {}
        self._image: dict[str, str] | None = None
        self._tags: list[str] = []
        self._n_automatic = self._n_shapes = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """The beginning of an element."""
        self._path.append(tag)
        self._text = ""
        if self._path[0] != "annotations":
            raise FileReadError(f"expected 'CVAT for images 1.1', got <{tag}>{self._place}")
        if tag == "track":
            raise FileReadError(f"expected 'CVAT for images 1.1', got 'CVAT for video 1.1'{self._place}")
        if self._path == ["annotations", "image"]:
            if "name" not in attributes:
                raise FileReadError(f"an image must have a name, got {attributes!r:.80}{self._place}")
            self._image, self._tags, self._n_automatic, self._n_shapes = attributes, [], 0, 0
        elif self._path[:-1] == ["annotations", "image"]:
            self._n_shapes += tag in _SHAPES
            if tag == "tag" and attributes.get("source") == "auto":
                self._n_automatic += 1
            elif tag == "tag":
                self._tags.append(checked_text(attributes.get("label"), "the label of a tag", self._place))

    def text(self, data: str) -> None:
        """Text in the current element, as much of it as a name or a time may have."""
        if len(self._text) < _MOST_TEXT:
            self._text += data

    def end(self, tag: str) -> None:
        """The end of an element."""
        if self._path == ["annotations", "image"]:
            self._collect()
        elif self._path[1:2] == ["meta"]:
            if self._path[-3:-1] in (["task", "assignee"], ["job", "assignee"]) and tag == "username":
                self._facts["assignee"] = self._text.strip()
            elif self._path[-2] in _OWNERS and tag in ("id", "updated"):
                self._facts[tag] = self._text.strip()
            elif tag in _OWNERS:
                self._tasks[self._facts.get("id", "")] = self._facts
                self._facts = {}
        self._path.pop()
        self._text = ""

    def _collect(self) -> None:
        """An image, once all of it is known."""
        assert self._image is not None, "set at its beginning"
        image, collected = self._image["name"], self._collected
        if self._n_automatic:
            collected.leave_out(image, "a tag by a model")
        if len(set(self._tags)) == 1:
            label, refusal = label_or_refusal(self._tags[0])
            facts = self._facts_of(self._image.get("task_id"))
            annotator = facts.get("assignee", "")
            # Without the time, which is the task's: another export of it would be all new answers.
            said = json.dumps([image, annotator, label, refusal])
            key = f"cvat {hashlib.blake2b(said.encode('ascii'), digest_size=16).hexdigest()}"
            answered = _time(facts.get("updated"))
            collected.answers.append(Answer(image, label, refusal, annotator=annotator, answered=answered, key=key))
        elif self._tags:
            collected.leave_out(image, "with several tags")
        elif not self._n_automatic:
            collected.leave_out(image, "with shapes but no tag" if self._n_shapes else "without a tag")

    def _facts_of(self, task: str | None) -> dict[str, str]:
        """Assignee and time of an image's task: its own, which a project's export names, or the only one."""
        if task is not None:
            return self._tasks.get(task, {})
        return next(iter(self._tasks.values())) if len(self._tasks) == 1 else {}

    def imported(self) -> Imported:
        """The answers."""
        return self._collected.imported()


def _time(text: str | None) -> datetime | None:
    """The time of the last change to a task; None where it has no time zone: of no answer it is the time itself."""
    try:
        return parsed_time(text or "", "")
    except FileReadError:
        return None
