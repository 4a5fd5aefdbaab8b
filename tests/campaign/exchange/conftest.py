"""An assignment whose names are as awkward as names may be."""

from __future__ import annotations

import pytest

from ccma_fast.campaign.exchange.assignment import Assignment, Task

CLASSES = ("cat", "dog & <b>fox</b>", 'a "quoted", name', "$5 note", "=1+1", "größe 猫", "a/b")
IDS = (
    "plain.png",
    "a folder/with space.png",
    "per%20cent.png",
    "hash#1.png",
    "what?.png",
    "größe/猫.png",
    "a+b&c=d.png",
    "<script>alert(1)</script>.png",
)


@pytest.fixture
def assignment() -> Assignment:
    tasks = tuple(
        Task(
            image,
            3 * i,
            1 + i // 4,
            1 + i % 4,
            -0.5,
            () if i == 7 else ((CLASSES[i % 7], 0.6), (CLASSES[(i + 1) % 7], 0.3)),
        )
        for i, image in enumerate(IDS)
    )
    return Assignment("ab" * 16, "", CLASSES, tasks, "cd" * 16)
