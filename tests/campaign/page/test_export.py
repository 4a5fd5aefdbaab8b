"""The file that a page exports: what is read, and what is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, Answer
from ccma_fast.campaign.exchange.page_answers import read_page_export
from ccma_fast.errors import FileReadError

CAMPAIGN = "0123456789abcdef0123456789abcdef"
LABEL = {
    "key": "k1",
    "image": "a.png",
    "label": "owl",
    "refusal": None,
    "time": "2026-03-01T10:00:00.250+05:30",
    "seconds": 2.5,
    "order": "likeliest",
    "shown": ["owl", "cat"],
    "probabilities": True,
    "note": "blurred",
}
REFUSAL = {**LABEL, "key": "k2", "image": "b.png", "label": None, "refusal": CANNOT_TELL, "seconds": 1, "note": ""}
CONTENT = {
    "format": "ccma_fast page answers 1",
    "version": "0.1.0",
    "campaign": CAMPAIGN,
    "assignment": "d1",
    "annotator": "Ada",
    "saw": "5a17",
    "answers": [LABEL, REFUSAL],
}


def written(tmp_path: Path, content: Any) -> Path:
    file = tmp_path / "answers.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return file


def test_answers_are_read(tmp_path: Path) -> None:
    campaign, answers = read_page_export(written(tmp_path, CONTENT))
    assert campaign == CAMPAIGN
    label = Answer(
        image="a.png",
        label="owl",
        annotator="Ada",
        answered=datetime(2026, 3, 1, 10, 0, 0, 250_000, timezone(timedelta(hours=5, minutes=30))),
        key="k1",
        seconds=2.5,
        shown=("owl", "cat"),
        order="likeliest",
        probabilities=True,
        saw="5a17",
        note="blurred",
    )
    assert answers[0] == label
    assert (answers[1].label, answers[1].refusal, answers[1].key) == (None, CANNOT_TELL, "k2")


def test_no_answers_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = written(tmp_path, "\ufeff" + json.dumps({**CONTENT, "answers": []}))
    assert read_page_export(str(file)) == (CAMPAIGN, [])


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {"format": "ccma_fast page answers 2", "version": "9.1"})
    with pytest.raises(FileReadError, match=r"written by a newer version of ccma_fast \(9\.1\), got format 2"):
        read_page_export(file)


def changed(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update(fields)


def answer(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["answers"][1].update(fields)


def without(name: str, *, of_answer: bool = False) -> Callable[[dict[str, Any]], None]:
    def remove(content: dict[str, Any]) -> None:
        del (content["answers"][0] if of_answer else content)[name]

    return remove


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("format"), "it has no field 'format'"),
        (changed(format=1), "format must be text, got int"),
        (changed(format="ccma_fast page answers 0"), "expected the format 'ccma_fast page answers 1', got"),
        (changed(format="ccma_fast audit 1"), "expected the format"),
        (without("campaign"), "it has no field 'campaign'"),
        (changed(campaign="abc"), "campaign must be 32 hexadecimal digits, got 'abc'"),
        (changed(annotator=None), "annotator must be text, got NoneType"),
        (changed(answers={}), "answers must be a list, got dict"),
        (changed(answers=[5]), "answer 0: expected an object, got int"),
        (without("key", of_answer=True), "answer 0: it has no field 'key'"),
        (without("shown", of_answer=True), "answer 0: it has no field 'shown'"),
        (answer(key=""), "answer 1: key must not be empty"),
        (answer(image=""), "answer 1: image must not be empty"),
        (answer(key="k1"), "each key must stand there once, got 'k1' again"),
        (answer(image="a.png"), "each image must stand there once, got 'a.png' again"),
        (answer(label="cat"), "answer 1: an answer must be a label or a refusal"),
        (answer(refusal=None), "answer 1: an answer must be a label or a refusal"),
        (answer(refusal=" "), "answer 1: refusal must not be empty"),
        (answer(refusal=True), "answer 1: refusal must be text, got bool"),
        (answer(time="yesterday"), "answer 1: Invalid isoformat string: 'yesterday'"),
        (answer(time="2026-03-01T10:00:00"), "answer 1: answered must have a time zone"),
        (answer(seconds=-1), "answer 1: seconds must be finite and at least 0, got -1"),
        (answer(seconds=float("nan")), "answer 1: seconds must be finite"),
        (answer(seconds=True), "answer 1: seconds must be a number, got bool"),
        (answer(seconds="2"), "answer 1: seconds must be a number, got str"),
        (answer(order="random"), "answer 1: order must be one of likeliest, shuffled, listed, got 'random'"),
        (answer(shown=["owl", 5]), "answer 1: shown must be names of classes"),
    ],
)
def test_what_is_no_export(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = copy.deepcopy(CONTENT)
    change(content)
    with pytest.raises(FileReadError, match=f"as the answers of a page: {message}"):
        read_page_export(written(tmp_path, content))


@pytest.mark.parametrize("text", ["", "[]", "5", "{", json.dumps(CONTENT)[:-30], "[" * 100_000])
def test_damaged_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileReadError, match=r"cannot read '.*answers\.json' as the answers of a page"):
        read_page_export(written(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match=r"no file '.*none\.json'"):
        read_page_export(tmp_path / "none.json")
    with pytest.raises(FileReadError, match="as the answers of a page"):
        read_page_export(tmp_path)
