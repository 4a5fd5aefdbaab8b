"""What a campaign tells of one image, of its classes, and of who has what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf

X = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)


@pytest.fixture
def campaign(tmp_path: Path) -> Iterator[cf.Campaign]:
    with cf.Campaign.create(tmp_path / "a.campaign", X, class_names=["ant", "bee", "wasp"], labels_per_image=2) as made:
        yield made


def test_the_history_of_an_image_has_its_batches_and_whom_it_was_given_to(campaign: cf.Campaign) -> None:
    batch = campaign.next(6)
    campaign.assign("ana")
    campaign.assign("ben", 1)
    campaign.label(batch.images[:1], ["ant"], annotator="ana")
    first, last = batch.images[0], batch.images[-1]
    told = [(entry.kind, entry.annotator) for entry in campaign.history(first)]
    assert told == [("batch issued", ""), ("images assigned", "ana"), ("images assigned", "ben"), ("label", "ana")]
    assert [entry.annotator for entry in campaign.history(last)] == ["", "ana"]
    assert campaign.history("no such image") == []


def test_a_change_of_classes_names_both(campaign: cf.Campaign) -> None:
    campaign.rename_class("wasp", "hornet")
    campaign.merge_classes("hornet", "bee")
    campaign.rename_class("bee", "bees")
    about = [entry.about for entry in campaign.history() if entry.kind in ("class renamed", "class merged")]
    assert about == ["'wasp' to 'hornet'", "'hornet' into 'bee'", "'bee' to 'bees'"]
    campaign.undo()
    campaign.undo()
    about = [entry.about for entry in campaign.history() if entry.kind in ("class renamed", "class merged")]
    assert about == ["'wasp' to 'hornet'", "'hornet' into 'bee'", "'bee' to 'bees'"]


def test_the_status_tells_how_many_images_wait_for_whom(campaign: cf.Campaign) -> None:
    batch = campaign.next(6)
    campaign.assign("ana")
    campaign.assign("ben", 2)
    campaign.refuse(batch.images[:1], annotator="ana")
    waiting = {entry.name: entry.n_waiting for entry in campaign.status().annotators}
    assert waiting == {"ana": 5, "ben": 2}
    campaign.undo(annotator="ben")  # his assignment
    assert [entry.n_waiting for entry in campaign.status().annotators] == [5, 0]
