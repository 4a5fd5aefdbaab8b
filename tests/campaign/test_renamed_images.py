"""Images that are renamed while a campaign goes on: what people say of them is found by both names."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.campaign.log import events as kinds

pytest.importorskip("pyarrow")
torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")

from ccma_fast.images.encoders import Encoder  # noqa: E402 - needs torch

NAMES = ["ant", "bee"]
QUICK = cf.CCMAConfig(head="ridge")


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that sees the brightness."""
    description = {"library": "none", "model": "light", "weights": "none", "weights_sha256": "light"}

    def brightness(image: object) -> object:
        return torch.tensor([float(np.asarray(image).mean()), 1.0])

    encoder = Encoder(None, brightness, lambda batch: batch, description, "cpu")
    module = importlib.import_module("ccma_fast.images.extract")
    monkeypatch.setattr(module, "vision_encoder", lambda *_, **__: encoder)


class Photos:
    """A folder of images, its embeddings, and a campaign of them."""

    def __init__(self, folder: Path) -> None:
        self._photos, self._out = folder / "photos", folder / "out"
        self._file = folder / "a.campaign"
        self._photos.mkdir()
        for grey in (10, 20, 30, 40, 50, 60):
            self.save(f"{grey}.png", grey)
        self.extract()
        cf.Campaign.create(self._file, self._out / "student", class_names=NAMES, config=QUICK).close()

    def save(self, name: str, grey: int) -> None:
        Image.new("L", (4, 4), grey).save(self._photos / name)

    def extract(self) -> None:
        cf.extract(self._photos, self._out, progress=False, shard_size=4, batch_size=2, workers=0)

    def rename(self, before: str, now: str) -> None:
        (self._photos / before).rename(self._photos / now)
        self.extract()

    def campaign(self) -> cf.Campaign:
        return cf.Campaign.open(self._file, self._out / "student")


@pytest.fixture
def photos(tmp_path: Path) -> Photos:
    return Photos(tmp_path)


def test_an_image_may_have_its_former_name_again(photos: Photos) -> None:
    with photos.campaign() as campaign:
        campaign.label(["10.png"], ["ant"])
    for before, now in (("10.png", "b.png"), ("b.png", "10.png"), ("10.png", "c.png"), ("c.png", "b.png")):
        photos.rename(before, now)
        with photos.campaign() as campaign:
            campaign.next(1)
            assert [entry.image for entry in campaign.labelled_images()] == [now]
    with photos.campaign() as campaign:
        campaign.label(["b.png", "20.png"], ["bee", "bee"])
        assert campaign.labels[:2].tolist() == [1, 1]
        assert len([event for event in campaign.events() if event.kind == kinds.IMAGES_RENAMED]) == 4


def test_people_may_speak_of_an_image_by_both_names(photos: Photos) -> None:
    with photos.campaign() as campaign:
        issued = campaign.next(1).images[0]
    photos.rename(issued, "new.png")
    with photos.campaign() as campaign:
        campaign.label([issued], ["ant"], annotator="ana")
        campaign.label(["new.png"], ["ant"], annotator="ben")
        assert issued not in campaign.next(2).images
        assert {entry.image: entry.annotators for entry in campaign.labelled_images()} == {"new.png": ("ana", "ben")}
        assert (campaign.labels >= 0).sum() == 1


def test_another_image_with_a_former_name_is_refused(photos: Photos) -> None:
    with photos.campaign() as campaign:
        campaign.label(["10.png"], ["ant"])
    photos.rename("10.png", "b.png")
    with photos.campaign() as campaign:
        campaign.next(1)
    photos.save("10.png", 77)
    photos.extract()
    text = r"an image '10\.png', which is what 'b\.png' of the campaign was called before it was renamed"
    with photos.campaign() as campaign:
        before = campaign.events()
        with pytest.raises(cf.PoolMismatchError, match=text):
            campaign.label(["10.png"], ["bee"])
        with pytest.raises(cf.PoolMismatchError, match=text):
            campaign.next(1)
        campaign.label(["b.png"], ["ant"])
        assert len(campaign.events()) == len(before) + 1
