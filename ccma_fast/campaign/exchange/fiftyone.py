"""FiftyOne: ``labels.json`` of a ``FiftyOneImageClassificationDataset``, out and in.

Out, ``classes`` and, in ``labels``, the shortlist of each image as ``Classifications``: the likeliest class first,
each with its probability as its confidence; null where there is no shortlist. With `images`, the absolute path of the
images' folder, an image is named by its absolute path, as FiftyOne does with ``abs_paths=True``, and ``data.json`` is
written beside the file, to be named when it is imported: ``fo.Dataset.from_dir(FOLDER,
fo.types.FiftyOneImageClassificationDataset, data_path="data.json")``. Without, an image is named by its id without the
suffix, as FiftyOne finds it in the folder ``data/`` beside the file. FiftyOne sorts the images by these names, so that
the order of choice is lost there: ``fiftyone-csv`` carries it as the field ``rank``.

In, a class by its name, or by its number where the file has ``classes``; a class called as a refusal is that refusal.
A class with a confidence is a model's prediction and no answer, and so are several for one image: both are noted, as
are images without one. Names of images are resolved by ``data.json`` beside the file, where FiftyOne wrote one, and by
`ids`.

Keys: none. The format has no annotators, times, notes, nor which assignment was answered; what is exported as a
CSVDataset may have all of them.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ...errors import FileReadError
from .answer import Answer
from .assignment import Assignment
from .imported import Collected, Imported, check_classes, checked_text, label_or_refusal
from .outline import Outline
from .outside_files import as_json, read_json, write_new
from .places import Lookup, check_text_ids, id_at, place_of, without_suffix

__all__ = ["check_root", "export", "manifest", "read", "recognises"]


def export(assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write the shortlists as predictions.

    Parameters
    ----------
    assignment : Assignment
    file : Path
        A new file.
    images : str, optional
        The absolute path of the images' folder.

    Returns
    -------
    list of Path
        The file, and with `images` ``data.json`` beside it.

    Raises
    ------
    FileExistsError
        One of them is there.
    ValueError
        `images` is relative, two ids differ in their suffix alone where it is empty, a class is called as a refusal is,
        or an id is no text.
    OSError
        They cannot be written.
    """
    check_root(images)
    check_classes(assignment.classes, "FiftyOne")
    check_text_ids(assignment)
    numbers = {name: number for number, name in enumerate(assignment.classes)}
    labels: dict[str, Any] = {}
    for task in assignment.tasks:
        name = place_of(task.image, images) if images else without_suffix(task.image)
        if name in labels:
            raise ValueError(
                f"ids must differ in more than their suffix, got {name!r} twice; expected `images`, the folder that "
                "they are in"
            )
        shortlist = [{"label": numbers[c], "confidence": probability} for c, probability in task.likeliest]
        labels[name] = shortlist or None
    content = {"classes": list(assignment.classes), "labels": labels}
    return write_new({file: as_json(content), **manifest(assignment, file, images)})


def manifest(assignment: Assignment, file: Path, images: str) -> dict[Path, bytes]:
    """``data.json``, which says where each image is: without it or a folder ``data/`` FiftyOne reads nothing.

    Returns
    -------
    dict
        The file beside `file`, and its content; empty where `images` is.
    """
    paths = {task.image: place_of(task.image, images) for task in assignment.tasks}
    return {file.with_name("data.json"): as_json(paths)} if images else {}


def check_root(images: str) -> None:
    """Check that the folder of the images, if there is one, is an absolute path, by which FiftyOne knows it."""
    if images and not os.path.isabs(images):
        raise ValueError(f"the folder of the images must be an absolute path for FiftyOne, got {images!r}")


def recognises(outline: Outline) -> bool:
    """Whether a file or a folder is of this format."""
    if outline.kind == "folder":
        return "labels.json" in outline.names
    return outline.kind == "json" and "labels" in outline.names


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read the labels of images.

    Parameters
    ----------
    file : Path
        ``labels.json``, or the folder that it is in.
    images : str, optional
        The folder of the images, which is taken off absolute paths.
    ids : collection of str, optional
        The campaign's images, which names without a suffix are resolved by.

    Returns
    -------
    Imported

    Raises
    ------
    FileReadError
        No such file, another one, or the number of a class that it does not have.
    """
    file = file / "labels.json" if file.is_dir() else file
    content = read_json(file)
    labels, classes = (content.get(key) if isinstance(content, dict) else None for key in ("labels", "classes"))
    if not isinstance(labels, dict) or not isinstance(classes, (list, type(None))):
        raise FileReadError(f"{str(file)!r} must have an object 'labels', and a list 'classes' or none")
    collected, names = Collected(), _Names(file.with_name("data.json"), images, ids)
    for name, target in labels.items():
        place = f" for {name!r:.80} in {str(file)!r}"
        image = names.image_of(checked_text(name, "the name of an image", place))
        if image is None:
            collected.leave_out(name, "the name of several images")
            continue
        targets = [entry for entry in (target if isinstance(target, list) else [target]) if entry is not None]
        if any(isinstance(entry, dict) and entry.get("confidence") is not None for entry in targets):
            collected.leave_out(image, "a prediction, for it has a confidence")
        elif len(targets) != 1:
            collected.leave_out(image, "with several labels" if targets else "without a label")
        else:
            collected.answers.append(Answer(image, *label_or_refusal(_class_of(targets[0], classes, place))))
    return collected.imported()


def _class_of(target: Any, classes: list[Any] | None, place: str) -> str:
    """The name of a class that is named or numbered."""
    found = target.get("label") if isinstance(target, dict) else target
    if classes is not None and isinstance(found, int) and not isinstance(found, bool):
        if not 0 <= found < len(classes):
            raise FileReadError(f"a class must be one of {len(classes)}, from 0, got {found}{place}")
        found = classes[found]
    return checked_text(found, "a class", place)


class _Names:
    """Images by the names that ``labels.json`` has for them.

    Parameters
    ----------
    manifest : Path
        ``data.json``, if there is one: the path of each name.
    images : str
    ids : collection of str
    """

    def __init__(self, manifest: Path, images: str, ids: Collection[str]) -> None:
        paths = read_json(manifest) if manifest.is_file() else {}
        if not isinstance(paths, dict):
            raise FileReadError(f"{str(manifest)!r} must be an object of names and paths, got {paths!r:.80}")
        self._paths, self._images, self._ids = paths, images, frozenset(ids)
        self._stems = Lookup(ids, without_suffix)

    def image_of(self, name: str) -> str | None:
        """The id of an image; the name itself where none is known, None where several are."""
        path = self._paths.get(name, name)
        image = id_at(path if isinstance(path, str) else name, self._images)
        found = [image] if image in self._ids else self._stems.found(image)
        return image if not found else found[0] if len(found) == 1 else None
