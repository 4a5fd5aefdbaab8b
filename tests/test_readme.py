"""What the README promises, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def test_the_examples_run_as_one_program(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for example in code_blocks("python"):
        exec(compile(example, "README.md", "exec"), names)
    picks, labels, results = names["picks"], names["labels"], names["results"]
    assert len(set(picks.indices.tolist())) == 20
    assert (np.asarray(labels)[picks.indices] == -1).all()
    assert results.strategies == ("ccma:start=ccma", "ccma:paper", "margins", "longest")
    printed = capsys.readouterr().out
    assert "classes by the student" in printed
    assert all(f"'{name}': " in printed for name in results.strategies)


def test_the_two_commands_are_those_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace(" -q", "").replace(' --out "$work/demo"', "")
    commands = [block.strip() for block in code_blocks("sh")[:2]]
    assert commands[0].startswith("python3 -m venv .venv && ")
    for command in commands:
        assert command in ci
