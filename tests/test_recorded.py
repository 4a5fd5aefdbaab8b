"""Thirty random queries and the texts of some errors are what they were: ``recorded.py`` says how they are made."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.processor

HERE = Path(__file__).resolve().parent
RECORDED = json.loads((HERE / "recorded.json").read_text(encoding="utf-8"))
TOLERANCE = {"rel": 1e-5, "abs": 1e-7}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("recorded", HERE / "recorded.py")
    assert spec is not None
    assert spec.loader is not None
    recorded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recorded)
    return recorded.promised(tmp_path_factory.mktemp("recorded"))


def test_nothing_is_missing(found: dict[str, Any]) -> None:
    assert list(found) == list(RECORDED)


@pytest.mark.parametrize("name", [name for name in RECORDED if name.startswith("random.")])
def test_a_query_is_what_it_was(found: dict[str, Any], name: str) -> None:
    before, after = RECORDED[name], found[name]
    for exact in ("indices", "represents", "counts", "bytes_read", "warned"):
        assert after[exact] == before[exact], exact
    assert after["numbers"].keys() == before["numbers"].keys()
    for field, value in before["numbers"].items():
        assert float(after["numbers"][field]) == pytest.approx(float(value), nan_ok=True, **TOLERANCE), field
    scores = [[float(score) for score in each["scores"]] for each in (before, after)]
    assert scores[1] == pytest.approx(scores[0], nan_ok=True, **TOLERANCE)


def test_an_error_says_what_it_said(found: dict[str, Any]) -> None:
    errors = [name for name in RECORDED if name.startswith("errors.")]
    assert {name: found[name] for name in errors} == {name: RECORDED[name] for name in errors}
