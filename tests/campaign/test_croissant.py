"""The Croissant record of a labelled set: what it holds, what is refused, and that mlcroissant reads it."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest

from ccma_fast.campaign.croissant import croissant_record
from ccma_fast.system.json_text import as_json

SET: dict[str, Any] = {
    "classes": ["cat", "dog & <b>co</b>", "never"],
    "images": ["a/1.jpg", "ü/2.jpg", "<script>.png"],
    "labels": ["cat", "dog & <b>co</b>", "cat"],
}


def test_what_it_holds() -> None:
    record = croissant_record("pets", **SET, license="CC BY 4.0", published=date(2026, 4, 1))
    assert record["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert record["description"] == "3 images of 3 classes, labelled by people."
    assert (record["license"], record["datePublished"]) == ("CC BY 4.0", "2026-04-01")
    assert "url" not in record
    classes, labels = record["recordSet"]
    assert [each["classes/name"] for each in classes["data"]] == SET["classes"]
    assert [each["labels/image"] for each in labels["data"]] == SET["images"]
    assert [each["labels/label"] for each in labels["data"]] == SET["labels"]
    assert "annotators" not in json.dumps(record)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"labels": ["cat"]}, "labels must be as many as images, 3, got 1"),
        ({"annotators": [["a"]]}, "annotators must be as many as images, 3, got 1"),
        ({"images": ["a", "b", "a"]}, "images must be distinct, got 'a' twice"),
        ({"classes": ["cat", "cat"]}, "classes must be distinct, got 'cat' twice"),
        ({"labels": ["cat", "cow", "cat"]}, "the label of 'ü/2.jpg' must be one of the classes, got 'cow'"),
    ],
)
def test_what_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        croissant_record(**{"name": "pets", **SET, **given})


def test_an_id_that_is_no_unicode_is_escaped() -> None:
    record = croissant_record("pets", classes=["cat"], images=["\udcff.jpg"], labels=["cat"])
    assert json.loads(as_json(record).decode("ascii"))["recordSet"][1]["data"][0]["labels/image"] == "\udcff.jpg"


@pytest.mark.filterwarnings("ignore")  # of libraries below mlcroissant
def test_mlcroissant_reads_it() -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    whole = croissant_record(
        "pets",
        **SET,
        annotators=[["anna"], ["anna", "bob"], []],
        license="CC BY 4.0",
        url="https://example.org/pets",
        published=date(2026, 4, 1),
    )
    dataset = mlcroissant.Dataset(jsonld=json.loads(as_json(whole)))
    assert not dataset.metadata.ctx.issues.errors
    assert [each["classes/name"] for each in dataset.records("classes")] == SET["classes"]
    assert [(each["labels/image"], each["labels/label"]) for each in dataset.records("labels")] == [
        *zip(SET["images"], SET["labels"], strict=True)
    ]
    assert [each["labels/annotators"] for each in dataset.records("labels")] == [["anna"], ["anna", "bob"], []]

    broken = copy.deepcopy(whole)
    broken["recordSet"][1]["field"][1]["references"]["field"]["@id"] = "classes/other"
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(jsonld=broken)
