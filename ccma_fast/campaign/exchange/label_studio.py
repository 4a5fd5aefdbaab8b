"""Label Studio: tasks with predictions and a labelling interface out; exports as JSON, JSON-MIN or CSV in.

Out, ``NAME.json`` with a task for each image, the most important first, which is the order of Label Studio's default
task sampling, and ``NAME.xml``, the labelling interface: a search over the classes, the classes with both refusals,
and a line for a note. In ``data`` stand ``image`` (the URL that is shown), ``image_path`` (the id), ``index`` (its
row), ``rank``, ``batch``, ``campaign``, ``saw`` and ``likeliest``, the shortlist with its probabilities, which is
shown as a line of text. The prediction of a task is the likeliest class, its ``score`` the probability: by it the Data
Manager sorts, and with it selected an annotation begins, for such is a new project. Who does not want to lead
annotators turns that off in the project's settings ("Use predictions to prelabel tasks").

An image's URL is ``/data/local-files/?d=`` and its path below ``LOCAL_FILES_DOCUMENT_ROOT``: the path of the images'
folder below that root is the argument `images`, alone or with what the URL begins with. A local storage that covers the
folder must be connected to the project, else Label Studio shows none of its files. An `images` with ``://`` stands
before ids as it is; in ``http(s)`` URLs ids are quoted.

In, each annotation is an answer: a cancelled (skipped) one is the refusal "cannot tell", and one whose choice is a
refusal is that. Annotations that are marked as ground truth are answers like others. Drafts, predictions, tasks
without an annotation, and annotations with no class or several are noted and left out. The annotator is the person's
e-mail address, or the number where the export has no more. JSON-MIN and CSV leave out cancelled annotations: Label
Studio writes them to JSON alone. None of the three says which predictions a person saw, or how classes were ordered
then.

Keys: ``label-studio``, the annotation's number and the time of its last change. The same annotation has the same key
in all three, whenever it is exported, and another once it is changed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_plus
from xml.etree import ElementTree

from ...errors import FileReadError
from ...pool.tables import read_columns
from .answer import CANNOT_TELL, NO_CLASS, Answer
from .assignment import Assignment, Task
from .imported import Collected, Imported, check_classes, checked_text, label_or_refusal, parsed_time
from .outline import Outline
from .outside_files import as_json, check_size, is_json, read_json, write_new
from .places import check_text_ids, id_at, place_of

__all__ = ["export", "labelling_interface", "read", "recognises"]

_LOCAL_FILES = "/data/local-files/?d="
_MODEL = "ccma-fast"

# Names of the tags in the interface, which are names of columns in JSON-MIN and CSV; "choice" is that of Label Studio's
# own template.
_LABEL, _NOTE, _IMAGE = "label", "note", "image"
_CHOICES = (_LABEL, "choice")

# Keys of JSON-MIN and CSV beside those of the task's data.
_ANNOTATION = ("annotation_id", "annotator", "updated_at", "lead_time")

# Characters that XML cannot hold.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def export(assignment: Assignment, file: Path, *, images: str = "") -> list[Path]:
    """Write the tasks, and beside them the labelling interface.

    Parameters
    ----------
    assignment : Assignment
    file : Path
        A new file, ``.json``.
    images : str, optional
        The folder of the images below Label Studio's document root, or a URL.

    Returns
    -------
    list of Path
        ``NAME.json`` and ``NAME.xml``.

    Raises
    ------
    FileExistsError
        One of them is there.
    ValueError
        Another suffix, a class that is called as a refusal is or that XML cannot hold, or an id that is no text.
    OSError
        They cannot be written.
    """
    if file.suffix.lower() != ".json":
        raise ValueError(f"tasks of Label Studio must be a .json file, got {str(file)!r}")
    check_text_ids(assignment)
    interface = labelling_interface(assignment.classes)
    tasks = [_task(task, assignment, images) for task in assignment.tasks]
    return write_new({file: as_json(tasks), file.with_suffix(".xml"): interface.encode()})


def _task(task: Task, assignment: Assignment, images: str) -> dict[str, Any]:
    shortlist = ", ".join(f"{name} {probability:.0%}" for name, probability in task.likeliest)
    data = {
        _IMAGE: _url(task.image, images),
        "image_path": task.image,
        "index": task.row,
        "rank": task.rank,
        "batch": task.batch,
        "campaign": assignment.campaign,
        "saw": assignment.saw,
        "likeliest": shortlist,
    }
    predictions = [
        {
            "model_version": _MODEL,
            "score": min(max(float(probability), 0.0), 1.0),
            "result": [{"from_name": _LABEL, "to_name": _IMAGE, "type": "choices", "value": {"choices": [name]}}],
        }
        # Of several, Label Studio would take the one that it imported last for the project's.
        for name, probability in task.likeliest[:1]
    ]
    return {"data": data, "predictions": predictions}


def labelling_interface(classes: Sequence[str]) -> str:
    """The labelling interface for some classes, as XML.

    Parameters
    ----------
    classes : sequence of str

    Raises
    ------
    ValueError
        A class is called as a refusal is, or XML cannot hold it.
    """
    check_classes(classes, "Label Studio")
    view = ElementTree.Element("View", style="display: flex; gap: 1em")
    shown = ElementTree.SubElement(view, "View", style="flex: 3")
    ElementTree.SubElement(shown, "Image", name=_IMAGE, value=f"${_IMAGE}", zoom="true")
    # Beside the image, so that thousands of classes and a tall image leave each other in sight.
    asked = ElementTree.SubElement(view, "View", style="flex: 2; max-height: 80vh; overflow-y: auto")
    ElementTree.SubElement(asked, "Text", name="shortlist", value="$likeliest")
    ElementTree.SubElement(asked, "Filter", name="search", toName=_LABEL, minlength="0", placeholder="Search a class")
    choices = ElementTree.SubElement(
        asked, "Choices", name=_LABEL, toName=_IMAGE, choice="single", required="true", showInline="false"
    )
    for name in (*classes, CANNOT_TELL, NO_CLASS):
        if _NOT_XML.search(name):
            raise ValueError(f"names of classes must be text that XML can hold, got {name!r}")
        # "$5" would be looked up in the task's data: what is shown has a joiner of no width in it, and an alias.
        shown_name = name.replace("$", "$\N{WORD JOINER}")
        ElementTree.SubElement(choices, "Choice", {"value": shown_name} | ({"alias": name} if "$" in name else {}))
    ElementTree.SubElement(
        asked, "TextArea", name=_NOTE, toName=_IMAGE, placeholder="Note", maxSubmissions="1", editable="true"
    )
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _url(image: str, images: str) -> str:
    """What Label Studio finds an image by."""
    if "://" not in images:
        return _LOCAL_FILES + quote(place_of(image, images.removeprefix(_LOCAL_FILES)))
    return place_of(quote(image) if _is_web(images) else image, images)


def _is_web(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _image_at(url: str, images: str) -> str:
    """The id of the image that a URL leads to; the URL itself where it is of another kind."""
    _, local, path = url.partition(_LOCAL_FILES)
    if local:
        return id_at(unquote_plus(path), images.removeprefix(_LOCAL_FILES))  # as Label Studio reads it
    found = id_at(url, images)
    return unquote(found) if found != url and _is_web(images) else found


def recognises(outline: Outline) -> bool:
    """Whether a file is of this format."""
    if outline.kind == "json":
        return "data" in outline.names or {"annotation_id", "lead_time"} <= outline.names
    return outline.kind == "csv" and {"annotation_id", "lead_time"} <= outline.names


def read(file: Path, *, images: str = "", ids: Collection[str] = ()) -> Imported:
    """Read an export: JSON, JSON-MIN or CSV.

    Parameters
    ----------
    file : Path
    images : str, optional
        As for :func:`export`; of tasks that were not made there, ids are what follows it in URLs.
    ids : collection of str, optional
        Not used.

    Returns
    -------
    Imported
        The earliest answer first: JSON-MIN and CSV begin with the latest of a task.

    Raises
    ------
    FileReadError
        No such file, or another one.
    """
    collected = Collected()
    if not is_json(file):
        for row, record in enumerate(_records_of_csv(file)):
            _collect_record(record, collected, images, f" at row {row} of {str(file)!r}")
    else:
        _collect_json(file, collected, images)
    collected.sort_by_time()
    return collected.imported()


def _collect_json(file: Path, collected: Collected, images: str) -> None:
    tasks = read_json(file)
    if not isinstance(tasks, list):
        raise FileReadError(f"an export of Label Studio must be a list of tasks, got {tasks!r:.80} in {str(file)!r}")
    for number, task in enumerate(tasks):
        place = f" in task {number} of {str(file)!r}"
        if not isinstance(task, dict):
            raise FileReadError(f"a task must be an object, got {task!r:.80}{place}")
        if isinstance(task.get("data"), dict):
            _collect_task(task, collected, images, place)
        else:
            _collect_record(task, collected, images, place)


def _collect_task(task: Mapping[str, Any], collected: Collected, images: str, place: str) -> None:
    """The annotations of a task in JSON."""
    data = task["data"]
    image = _image_of(data, images, place)
    annotations, drafts = task.get("annotations", []), task.get("drafts") or []
    if not isinstance(annotations, list) or not isinstance(drafts, list):
        raise FileReadError(f"annotations must be a list, got {annotations!r:.80}{place}")
    for _ in drafts:
        collected.leave_out(image, "a draft")
    if not annotations and not drafts:
        collected.leave_out(image, "without an annotation")
    for annotation in annotations:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("result") or [], list):
            raise FileReadError(f"an annotation must be an object with a result, got {annotation!r:.80}{place}")
        results = [entry for entry in annotation.get("result") or [] if isinstance(entry, dict)]
        texts = list(_values(results, "textarea", "text"))
        note = "\n".join(checked_text(text, "a note", place) for text in texts)
        choices = list(_values(results, "choices", "choices"))
        is_cancelled = annotation.get("was_cancelled") is True
        said = {
            "annotation_id": annotation.get("id"),
            "annotator": annotation.get("completed_by"),
            "updated_at": annotation.get("updated_at"),
            "lead_time": annotation.get("lead_time"),
        }
        _collect(image, [CANNOT_TELL] if is_cancelled else choices, note, said, data, collected, place)


def _values(results: Sequence[Mapping[str, Any]], kind: str, key: str) -> Iterator[Any]:
    """What the results of one kind hold."""
    for result in results:
        value = result.get("value")
        if result.get("type") == kind and isinstance(value, dict):
            found = value.get(key)
            yield from found if isinstance(found, list) else [found]


def _records_of_csv(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV export as records of JSON-MIN; an empty cell is nothing."""
    check_size(file)
    columns = read_columns(str(file), "answers", ("image_path", *_CHOICES, *_ANNOTATION), only="annotation_id")
    cells = columns.others | columns.wanted
    for row in zip(*cells.values(), strict=True):
        yield {name: cell for name, cell in zip(cells, row, strict=True) if cell != ""}


def _collect_record(record: Mapping[str, Any], collected: Collected, images: str, place: str) -> None:
    """An annotation in JSON-MIN or CSV, where the task's data and the annotation are one object."""
    image = _image_of(record, images, place)
    if record.get("annotation_id") is None:
        collected.leave_out(image, "without an annotation")
        return
    choice = next((record[name] for name in _CHOICES if name in record), None)
    note = record.get(_NOTE) or []
    notes = [note] if isinstance(note, str) else note.get("text", []) if isinstance(note, dict) else note
    if isinstance(choice, str) and choice.startswith('{"choices":'):  # several in one cell
        choice = _several(choice)
    _collect(
        image,
        choice.get("choices", []) if isinstance(choice, dict) else [] if choice in (None, []) else [choice],
        "\n".join(checked_text(text, "a note", place) for text in notes),
        {name: record.get(name) for name in _ANNOTATION},
        record,
        collected,
        place,
    )


def _several(cell: str) -> Any:
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        return cell  # the name of a class


def _collect(
    image: str,
    choices: Sequence[Any],
    note: str,
    said: Mapping[str, Any],
    data: Mapping[str, Any],
    collected: Collected,
    place: str,
) -> None:
    """One annotation.

    Parameters
    ----------
    image : str
    choices : sequence
        The classes that it chooses.
    note : str
    said : mapping
        :data:`_ANNOTATION`.
    data : mapping
        The task's.
    collected : Collected
    place : str
        Suffix of error messages.
    """
    if len(choices) != 1:
        collected.leave_out(image, "an annotation with several classes" if choices else "an annotation without a class")
        return
    choice = checked_text(choices[0], "a choice", place)
    number, updated = said["annotation_id"], said["updated_at"]
    if not isinstance(number, (int, str)) or not isinstance(updated, str):
        raise FileReadError(f"an annotation must have a number and a time, got {number!r} and {updated!r}{place}")
    collected.add_campaign(_text_in(data, "campaign", place))
    collected.answers.append(
        Answer(
            image,
            *label_or_refusal(choice),
            annotator=_annotator(said["annotator"], place),
            answered=parsed_time(updated, place),
            key=f"label-studio {number} {updated}",
            seconds=_seconds(said["lead_time"]),
            saw=_text_in(data, "saw", place),
            note=note,
        )
    )


def _image_of(data: Mapping[str, Any], images: str, place: str) -> str:
    """The id of a task's image."""
    own = _text_in(data, "image_path", place)
    if own:
        return own
    url = _text_in(data, _IMAGE, place)
    if not url:
        raise FileReadError(f"a task must have 'image_path' or {_IMAGE!r}, got {', '.join(map(repr, data))}{place}")
    return _image_at(url, images)


def _text_in(data: Mapping[str, Any], name: str, place: str) -> str:
    found = data.get(name)
    return "" if found is None else checked_text(found, name, place)


def _annotator(person: Any, place: str) -> str:
    """The e-mail address of a person, or the number."""
    if isinstance(person, dict):
        person = person.get("email") or person.get("id")
    return "" if person is None else checked_text(str(person) if isinstance(person, int) else person, "a person", place)


def _seconds(time: Any) -> float | None:
    """The time that an annotation took, where that is known: another program may write what it likes there."""
    try:
        seconds = float(time)
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < math.inf else None
