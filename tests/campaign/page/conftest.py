"""What the tests of the labelling page share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ccma_fast.campaign.exchange.assignment import Assignment, Task

CAMPAIGN = "0123456789abcdef0123456789abcdef"

Likely = Sequence[tuple[str, float]]


@pytest.fixture(scope="session")
def assigned() -> Callable[..., Assignment]:
    """Makes an assignment of images, each with its likely classes, or of names alone."""

    def make(
        images: dict[str, Likely] | Sequence[str],
        classes: Sequence[str] = ("cat", "dog", "owl"),
        annotator: str = "Ada",
        campaign: str = CAMPAIGN,
    ) -> Assignment:
        likely = images if isinstance(images, dict) else dict.fromkeys(images, ())
        tasks = [
            Task(image, row=10 * i, batch=1, rank=i + 1, score=0.5, likeliest=tuple(likely[image]))
            for i, image in enumerate(likely)
        ]
        return Assignment(campaign, annotator, tuple(classes), tuple(tasks), saw="5a17")

    return make


@pytest.fixture(scope="session")
def draw() -> Callable[..., None]:
    """Writes an image of a shade that differs from name to name, by its suffix."""
    pytest.importorskip("PIL", reason="Pillow, of the extra extract, is not installed")
    from PIL import Image

    def write(file: Path, size: tuple[int, int] = (40, 30)) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        shade = sum(file.name.encode()) % 200
        Image.new("RGB", size, (shade, 255 - shade, 90)).save(file)

    return write
