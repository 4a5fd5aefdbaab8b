"""What a release is refused for. The scripts are not part of an sdist."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / ".ci" / "release_notes.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="not a checkout of the repository")

CHANGELOG = """# Changelog

## 1.3.0 (unreleased)

- Later.

## 1.2.0 (2026-11-29)

- What is new.

### Fixed

- What was wrong.

## 1.1.0 (2026-10-01)

- The first.
"""


@pytest.fixture
def notes(tmp_path: Path) -> Callable[..., str]:
    """The notes of a tag, in a repository of this version and changelog."""

    def of(tag: str, version: str, *, in_package: str | None = None, changelog: str = CHANGELOG) -> str:
        (tmp_path / "ccma_fast").mkdir(exist_ok=True)
        (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\nversion = "{version}"\n')
        (tmp_path / "ccma_fast" / "version.py").write_text(f'__version__ = "{in_package or version}"\n')
        (tmp_path / "CHANGELOG.md").write_text(changelog)
        return runpy.run_path(str(SCRIPT))["notes"](tag, tmp_path)

    return of


def test_the_section_of_the_version(notes: Callable[..., str]) -> None:
    assert notes("v1.2.0", "1.2.0") == "- What is new.\n\n### Fixed\n\n- What was wrong."
    assert notes("v1.1.0", "1.1.0") == "- The first."


@pytest.mark.parametrize(
    ("tag", "arguments", "message"),
    [
        ("1.2.0", {"version": "1.2.0"}, "expected a tag like v1.2.3, got '1.2.0'"),
        ("v1.2.1", {"version": "1.2.0"}, "the tag is v1.2.1, but pyproject.toml has version 1.2.0"),
        ("v1.2.0", {"version": "1.2.0", "in_package": "1.1.0"}, "version.py has version 1.1.0"),
        ("v1.3.0", {"version": "1.3.0"}, r"expected '## 1.3.0 \(YEAR-MONTH-DAY\)' in CHANGELOG.md, got '## 1.3.0 \(un"),
        ("v1.4.0", {"version": "1.4.0"}, "CHANGELOG.md has no section of 1.4.0"),
        ("v1.2.0", {"version": "1.2.0", "changelog": "# C\n\n## 1.2.0 (2026-11-29)\n"}, "says nothing of 1.2.0"),
    ],
)
def test_what_disagrees_is_refused(
    notes: Callable[..., str], tag: str, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        notes(tag, **arguments)
