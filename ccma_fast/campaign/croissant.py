"""A labelled set in Croissant 1.0, the metadata format of MLCommons: JSON-LD for data set search engines and loaders.

The images stay where they are: a record names each by its id. Classes and labels stand in the record itself, so that
``mlcroissant.Dataset(jsonld=...)`` reads them without another file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

__all__ = ["croissant_record"]

_CONFORMS_TO = "http://mlcommons.org/croissant/1.0"

# The context that the specification asks for: which vocabulary each key is of.
_OF_CROISSANT = (
    "citeAs",
    "column",
    "equivalentProperty",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "separator",
    "source",
    "subField",
    "transform",
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{key: f"cr:{key}" for key in _OF_CROISSANT},
}


def croissant_record(
    name: str,
    *,
    classes: Sequence[str],
    images: Sequence[str],
    labels: Sequence[str],
    annotators: Sequence[Sequence[str]] | None = None,
    description: str = "",
    license: str | None = None,
    url: str | None = None,
    version: str = "1.0.0",
    published: date | None = None,
) -> dict[str, Any]:
    """The Croissant record of images that people labelled.

    Parameters
    ----------
    name : str
        Of the set; not empty.
    classes : sequence of str
        Names of all classes, in their order; distinct.
    images : sequence of str, length n
        Ids of the labelled images; distinct.
    labels : sequence of str, length n
        The class of each.
    annotators : sequence of sequence of str, length n, optional
        Who labelled each; left out by default, since names of people are personal data.
    description : str, optional
        By default a sentence with the numbers of images and classes.
    license, url : str, optional
        Under what the set may be used, and where it is told of. Croissant asks for both: without them validators warn.
    version : str, default "1.0.0"
        Of the set, as major.minor.patch.
    published : date, optional

    Returns
    -------
    dict
        JSON-LD, for :func:`ccma_fast.system.json_text.as_json`.

    Raises
    ------
    ValueError
        No name, lengths that differ, names or ids that are repeated, or a label that is no class.
    """
    _check(name, classes, images, labels, annotators)
    fields = [
        _field("labels/image", "Id of the image: its path in the folder of the images, or its name.", "sc:Text"),
        _field("labels/label", "Its class.", "sc:Text", references={"field": {"@id": "classes/name"}}),
    ]
    columns: dict[str, Sequence[Any]] = {"labels/image": images, "labels/label": labels}
    if annotators is not None:
        fields.append(_field("labels/annotators", "Who labelled it.", "sc:Text", repeated=True))
        columns["labels/annotators"] = [list(names) for names in annotators]
    given = {"license": license, "url": url, "datePublished": None if published is None else published.isoformat()}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description or f"{len(images)} images of {len(classes)} classes, labelled by people.",
        "conformsTo": _CONFORMS_TO,
        "version": version,
        **{key: value for key, value in given.items() if value is not None},
        "recordSet": [
            _records(
                "classes",
                "The classes, in their order.",
                "classes/name",
                [_field("classes/name", "What the class is called.", ["sc:Text", "sc:name"])],
                {"classes/name": classes},
                dataType="sc:Enumeration",
            ),
            _records("labels", "The labelled images.", "labels/image", fields, columns),
        ],
    }


def _records(
    name: str,
    description: str,
    key: str,
    fields: Sequence[dict[str, Any]],
    columns: Mapping[str, Sequence[Any]],
    **more: Any,
) -> dict[str, Any]:
    """A record set, with its records inside."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        **more,
        "key": {"@id": key},
        "field": list(fields),
        "data": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }


def _field(identity: str, description: str, kind: str | list[str], **more: Any) -> dict[str, Any]:
    """A column of a record set."""
    return {
        "@type": "cr:Field",
        "@id": identity,
        "name": identity.rpartition("/")[2],
        "description": description,
        "dataType": kind,
        **more,
    }


def _check(
    name: str,
    classes: Sequence[str],
    images: Sequence[str],
    labels: Sequence[str],
    annotators: Sequence[Sequence[str]] | None,
) -> None:
    if not name:
        raise ValueError("name must not be empty")
    for what, given in (("labels", labels), ("annotators", annotators)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"{what} must be as many as images, {len(images)}, got {len(given)}")
    for what, texts in (("classes", classes), ("images", images)):
        seen: set[str] = set()
        for text in texts:
            if text in seen:
                raise ValueError(f"{what} must be distinct, got {text!r} twice")
            seen.add(text)
    known = set(classes)
    for image, label in zip(images, labels, strict=True):
        if label not in known:
            raise ValueError(f"the label of {image!r} must be one of the classes, got {label!r}")
