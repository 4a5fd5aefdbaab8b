"""What the README promises, run as it stands. The pages of the documentation have tests of their own."""

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
    picks, labels = names["picks"], names["labels"]
    assert len(set(picks.indices.tolist())) == 20
    assert (np.asarray(labels)[picks.indices] == -1).all()
    assert "mean_student_set" in capsys.readouterr().out


def test_the_two_commands_are_those_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").replace(" -q", "").replace(' --out "$work/demo"', "")
    commands = [block.strip() for block in code_blocks("sh")[:2]]
    assert commands[0].startswith("python3 -m venv .venv && ")
    for command in commands:
        assert command in ci


def test_it_is_a_front_page() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="tests without the documentation")
def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"", README):
        path = "".join(target).replace("\n", " ").strip()
        if "://" not in path:
            assert (ROOT / path).exists(), f"README.md links to {path}, which is not there"
