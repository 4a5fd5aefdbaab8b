"""The changelog's text for a release: ``python .ci/release_notes.py v0.1.0``.

An error where the tag, the version in both files that have it, and the changelog disagree, or where the changelog has
no date for the version.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

VERSIONS = {"pyproject.toml": r'^version = "(.+)"$', "ccma_fast/version.py": r'^__version__ = "(.+)"$'}
CHANGELOG = "CHANGELOG.md"


def notes(tag: str, root: Path) -> str:
    """What the changelog in ``root`` says of the release with this tag.

    Raises
    ------
    ValueError
    """
    version = tag.removeprefix("v")
    if tag != f"v{version}":
        raise ValueError(f"expected a tag like v1.2.3, got {tag!r}")
    for name, pattern in VERSIONS.items():
        found = re.findall(pattern, (root / name).read_text("utf-8"), flags=re.M)
        if found != [version]:
            raise ValueError(f"the tag is {tag}, but {name} has version {', '.join(found) or 'nowhere'}")
    # Sections by their headings: text before the first, then heading, text, heading, text.
    _, *sections = re.split(r"^## (.+)$", (root / CHANGELOG).read_text("utf-8"), flags=re.M)
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        if heading.split()[0] == version:
            if not re.fullmatch(rf"{re.escape(version)} \(\d{{4}}-\d\d-\d\d\)", heading):
                raise ValueError(f"expected '## {version} (YEAR-MONTH-DAY)' in {CHANGELOG}, got '## {heading}'")
            if not text.strip():
                raise ValueError(f"{CHANGELOG} says nothing of {version}")
            return text.strip()
    raise ValueError(f"{CHANGELOG} has no section of {version}")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: release_notes.py TAG")
    try:
        print(notes(sys.argv[1], Path()))
    except ValueError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
