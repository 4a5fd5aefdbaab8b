"""The page as a file: what stands in it, what cannot, and which pictures."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL", reason="Pillow, of the extra extract, is not installed")

from PIL import Image

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS
from ccma_fast.campaign.exchange.assignment import Assignment, Task
from ccma_fast.campaign.page.write import write_page
from ccma_fast.errors import FileReadError

Assigned = Callable[..., Assignment]
Draw = Callable[..., None]

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    "a\u2028b\u2029c",
    "&lt;b&gt; \"quoted\" 'too' \\u003c {{script}}",
    "]]>\x00\x1b\x7f",
    "\u202egnirts",
    "ΔΩ 猫 🦉",
]


class Elements(HTMLParser):
    """The elements of a page in order, each with its attributes and, for scripts and styles, its text."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.is_inside = False
        self.feed(file.read_bytes().decode("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes), ""))
        self.is_inside = True

    def handle_endtag(self, tag: str) -> None:
        self.is_inside = False

    def handle_data(self, text: str) -> None:
        if self.is_inside:
            tag, attributes, before = self.found[-1]
            self.found[-1] = (tag, attributes, before + text)

    def of(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, text)
            for name, attributes, text in self.found
            if name == tag and wanted.items() <= attributes.items()
        ]

    @property
    def assignment(self) -> Any:
        ((_, text),) = self.of("script", id="assignment")
        return json.loads(text)

    @property
    def pictures(self) -> dict[int, Image.Image]:
        uris = {int(str(at["data-picture"])): text for at, text in self.of("script", type="text/plain")}
        return {at: Image.open(io.BytesIO(base64.b64decode(uri.partition(";base64,")[2]))) for at, uri in uris.items()}


@pytest.fixture
def folder(tmp_path: Path, draw: Draw) -> Path:
    for name in ("a.png", "below/b.jpg", "c.png"):
        draw(tmp_path / "images" / name)
    return tmp_path / "images"


def test_the_page_holds_the_assignment(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    assignment = assigned({"below/b.jpg": [("owl", 0.75), ("cat", 0.25)], "a.png": []})
    assert write_page(tmp_path / "page.html", assignment, folder, order="shuffled", seed=7) == {}
    content = Elements(tmp_path / "page.html").assignment
    assert content["campaign"] == assignment.campaign
    assert (content["annotator"], content["saw"], content["order"], content["seed"]) == ("Ada", "5a17", "shuffled", 7)
    assert content["classes"] == ["cat", "dog", "owl"]
    assert content["tasks"] == [
        {"image": "below/b.jpg", "likeliest": [[2, 0.75], [0, 0.25]]},
        {"image": "a.png", "likeliest": []},
    ]
    assert content["refusals"] == {"cannotTell": CANNOT_TELL, "noClass": NO_CLASS}


def test_nothing_is_fetched_and_one_script_runs(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    write_page(tmp_path / "page.html", assigned(["a.png"]), folder)
    elements = Elements(tmp_path / "page.html")
    ((policy, _),) = elements.of("meta", **{"http-equiv": "Content-Security-Policy"})
    ((_, style),) = elements.of("style")
    ((_, script),) = [(at, text) for at, text in elements.of("script") if "type" not in at]
    source = {
        name: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for name, text in (("style-src", style), ("script-src", script))
    }
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy["content"]).split(";"))
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        **source,
    }
    for _, attributes, _ in elements.found:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src") is None
        assert attributes.get("href") in (None, "data:,")
    assert "\r" not in script + style
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:", script)


@pytest.mark.parametrize("text", HOSTILE)
def test_names_stay_text(tmp_path: Path, folder: Path, assigned: Assigned, text: str) -> None:
    """Whatever a class, an image, a person or a title is called: the same elements, and the same name inside."""
    plain = assigned({"a.png": [("owl", 0.5)]}, classes=["owl", "cat"])
    odd = dataclasses.replace(
        plain,
        annotator=text,
        saw=text,
        classes=(text, "cat"),
        tasks=(Task("a.png", 0, 1, 1, 0.5, ((text, 0.5),)), Task(text, 1, 1, 2, 0.5)),
    )
    write_page(tmp_path / "plain.html", plain, folder, title="plain")
    missing = write_page(tmp_path / "odd.html", odd, folder, title=text)
    assert [*missing] == [text]
    before, after = Elements(tmp_path / "plain.html"), Elements(tmp_path / "odd.html")
    assert [part[:2] for part in after.found] == [part[:2] for part in before.found]
    content = after.assignment
    assert (content["annotator"], content["saw"], content["classes"][0]) == (text, text, text)
    assert content["tasks"][1]["image"] == text
    (raw,) = [part for _, part in after.of("script", id="assignment")]
    assert raw.isascii()
    assert not set("<>&") & set(raw)


def test_thumbnails_are_upright_reduced_and_bare(tmp_path: Path, assigned: Assigned) -> None:
    """As people see the photo: turned by its orientation, of 512 pixels, without where it was taken."""
    photo = Image.new("RGB", (1600, 1200), "red")
    photo.paste("blue", (0, 0, 1600, 600))  # the upper half as it lies
    exif = Image.Exif()
    exif[274] = 6  # to be turned by 90 degrees clockwise
    exif[270] = "at home"
    photo.save(tmp_path / "photo.jpg", exif=exif, comment=b"of somebody")
    Image.new("RGB", (40, 30), "green").save(tmp_path / "small.png")
    write_page(tmp_path / "page.html", assigned(["photo.jpg", "small.png"]), tmp_path)
    pictures = Elements(tmp_path / "page.html").pictures
    assert (pictures[0].format, pictures[0].size) == ("JPEG", (384, 512))
    assert not pictures[0].getexif()
    assert "comment" not in pictures[0].info
    right, left = pictures[0].convert("RGB").getpixel((370, 250)), pictures[0].convert("RGB").getpixel((10, 250))
    assert right[2] > 200 > 50 > right[0]
    assert left[0] > 200 > 50 > left[2]
    assert (pictures[1].format, pictures[1].size) == ("PNG", (40, 30))
    assert pictures[1].getpixel((5, 5)) == (0, 128, 0)


def test_thumbnails_of_another_size(tmp_path: Path, draw: Draw, assigned: Assigned) -> None:
    draw(tmp_path / "a.png", size=(900, 300))
    write_page(tmp_path / "page.html", assigned(["a.png"]), tmp_path, pixels=300)
    assert Elements(tmp_path / "page.html").pictures[0].size == (300, 100)


def test_pictures_that_are_not_there(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    """Missing or damaged images are reported, and named in the page with the reason; the others are in it."""
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "text.png").write_text("no image")
    names = ["gone.png", "a.png", "damaged.png", "text.png", "below"]
    missing = write_page(tmp_path / "page.html", assigned(names), folder)
    assert [*missing] == ["gone.png", "damaged.png", "text.png", "below"]
    assert missing["gone.png"] == "no such image"
    assert missing["text.png"] == "no image of a format that is read"
    elements = Elements(tmp_path / "page.html")
    assert elements.assignment["missing"] == missing
    assert [*elements.pictures] == [1]


def test_no_picture_at_all_is_a_wrong_folder(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    with pytest.raises(FileReadError, match=r"none of the 2 images of the assignment is there, first 'x\.png'"):
        write_page(tmp_path / "page.html", assigned(["x.png", "y.png"]), folder)
    assert not (tmp_path / "page.html").exists()


def test_other_sources_of_images(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    """What ccma-fast extract takes, with the ids that it gives: several folders, tars, tables and data sets."""
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        archive.add(folder / "a.png", "7.png")
    (tmp_path / "list.csv").write_text("image_path\nimages/c.png\n")
    os.rename(folder / "below", tmp_path / "below")
    tar_folder = tmp_path / "tars"
    tar_folder.mkdir()
    os.link(tmp_path / "shard.tar", tar_folder / "shard.tar")

    class Data:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Image.Image:
            return Image.new("RGB", (9 + i, 4))

    for source, image in (
        ([folder, tmp_path / "below"], "below/b.jpg"),
        (tmp_path / "shard.tar", "shard.tar/7.png"),
        (tar_folder, "shard.tar/7.png"),
        (str(tmp_path / "list.csv"), "images/c.png"),
        (Data(), "1"),
    ):
        assert write_page(tmp_path / "page.html", assigned([image]), source) == {}
    assert Elements(tmp_path / "page.html").pictures[0].size == (10, 4)


def test_a_thousand_classes(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    classes = [f"class {i}" for i in range(1000)]
    likely = [(name, 0.001) for name in classes[::-1]]
    write_page(tmp_path / "page.html", assigned({"a.png": likely}, classes=classes), folder)
    content = Elements(tmp_path / "page.html").assignment
    assert content["classes"] == classes
    assert [index for index, _ in content["tasks"][0]["likeliest"]] == [*range(999, -1, -1)]


def test_the_digest_tells_assignments_apart(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    """Answers kept in the browser are found again by the same assignment alone, however the page is written."""
    one = assigned(["a.png", "c.png"])
    others = [
        dataclasses.replace(one, annotator="Bob"),
        dataclasses.replace(one, saw="5a18"),
        dataclasses.replace(one, tasks=one.tasks[::-1]),
        assigned(["a.png", "c.png"], classes=["dog", "cat", "owl"]),
        assigned({"a.png": [("cat", 0.5)], "c.png": []}),
    ]
    digests = []
    for assignment in [one, *others]:
        write_page(tmp_path / "page.html", assignment, folder)
        digests.append(Elements(tmp_path / "page.html").assignment["digest"])
    assert len({*digests}) == len(digests)
    write_page(tmp_path / "page.html", one, folder, order="listed", seed=3, pixels=64, title="again")
    assert Elements(tmp_path / "page.html").assignment["digest"] == digests[0]


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"tasks": ()}, {}, "at least one image to label, got none"),
        ({"classes": ()}, {}, "at least one class, got none"),
        ({"campaign": "ABC"}, {}, "32 hexadecimal digits, got 'ABC'"),
        ({"classes": ("cat", "dog", "cat")}, {}, "classes of the assignment must be distinct, got 'cat' 2 times"),
        ({"tasks": (Task("a.png", 0, 1, 1, 0.5),) * 2}, {}, "images of the assignment must be distinct, got 'a.png'"),
        ({"classes": ("dog", "owl")}, {}, "likeliest of 'a.png' must be classes of the assignment, got 'cat'"),
        ({"tasks": (Task("a.png", 0, 1, 1, 0.5, (("cat", 1.5),)),)}, {}, r"must lie in \[0, 1\], got 1.5 of 'cat'"),
        ({"tasks": (Task("a.png", 0, 1, 1, 0.5, (("cat", float("nan")),)),)}, {}, r"\[0, 1\], got nan"),
        ({}, {"order": "random"}, "order must be one of 'likeliest', 'shuffled', 'listed', got 'random'"),
        ({}, {"seed": -1}, "seed must be at least 0, got -1"),
        ({}, {"seed": 2**53}, "seed must be at most"),
        ({}, {"pixels": 8}, "pixels must be at least 16, got 8"),
    ],
)
def test_bad_input(
    tmp_path: Path, folder: Path, assigned: Assigned, changes: dict[str, Any], arguments: dict[str, Any], message: str
) -> None:
    assignment = dataclasses.replace(assigned({"a.png": [("cat", 0.5)]}), **changes)
    with pytest.raises(ValueError, match=message):
        write_page(tmp_path / "page.html", assignment, folder, **arguments)
    assert not (tmp_path / "page.html").exists()


def test_bad_types(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    with pytest.raises(TypeError, match="assignment must be an Assignment, got list"):
        write_page(tmp_path / "page.html", [], folder)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="title must be text, got int"):
        write_page(tmp_path / "page.html", assigned(["a.png"]), folder, title=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="images must be a path"):
        write_page(tmp_path / "page.html", assigned(["a.png"]), 5)


def test_only_pages_are_replaced(tmp_path: Path, folder: Path, assigned: Assigned) -> None:
    assignment = assigned(["a.png"])
    write_page(tmp_path / "page.html", assignment, folder)
    write_page(tmp_path / "page.html", assignment, folder)
    (tmp_path / "mine.html").write_text("<!DOCTYPE html>")
    with pytest.raises(FileExistsError, match="holds something else; expected a new file"):
        write_page(tmp_path / "mine.html", assignment, folder)
    assert (tmp_path / "mine.html").read_text() == "<!DOCTYPE html>"
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        write_page(tmp_path / "no" / "page.html", assignment, folder)
