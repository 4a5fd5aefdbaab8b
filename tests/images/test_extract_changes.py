"""What becomes of images between two extractions: repaired, deleted, renamed, changed; and what is offered then."""

from __future__ import annotations

import builtins
import errno
import importlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.images.encoders import Encoder
from ccma_fast.images.sources import open_images
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.manifest_file import MANIFEST, read_manifest, row_ids
from ccma_fast.pool.open import open_rows

parquet = pytest.importorskip("pyarrow.parquet")
extract_module = importlib.import_module("ccma_fast.images.extract")


def brightness(image: Image.Image) -> torch.Tensor:
    """What is known of an image."""
    return torch.tensor([float(np.asarray(image).mean()), 1.0])


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that sees the brightness, and a teacher that sees the darkness."""

    def encoder(model: str, sign: float) -> Encoder:
        description = {"library": "none", "model": model, "weights": "none", "weights_sha256": model}
        return Encoder(None, brightness, lambda batch: batch * torch.tensor([sign, 1.0]), description, "cpu")

    monkeypatch.setattr(extract_module, "vision_encoder", lambda *_, **__: encoder("light", 1.0))
    monkeypatch.setattr(extract_module, "open_clip_encoder", lambda *_, **__: encoder("dark", -1.0))


def extract(source: Any, out: Path, **options: Any) -> Any:
    """All in this process, whose functions tests replace."""
    return cf.extract(source, out, progress=False, **{"shard_size": 4, "batch_size": 2, "workers": 0, **options})


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "png")
    return file.getvalue()


def save(folder: Path, *greys: int) -> Path:
    """Files of their own time each, for all are of one size."""
    folder.mkdir(parents=True, exist_ok=True)
    for grey in greys:
        file = folder / f"{grey}.png"
        file.write_bytes(picture(grey))
        os.utime(file, (grey, grey))
    return folder


def shades(out: Path, part: str = "student") -> dict[str, int]:
    """The brightness of each image of a pool, by its name, in the order of the rows."""
    rows = open_rows(out / part, "features")
    ids = rows.row_ids()
    assert ids is not None
    return dict(zip(ids, np.abs(rows.float32()[:, 0]).astype(int).tolist(), strict=True))  # type: ignore[arg-type]


def named(*greys: int) -> dict[str, int]:
    return {f"{grey}.png": grey for grey in greys}


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


def noting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are opened from now on."""
    opened: list[str] = []
    own = builtins.open

    def noted(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith((".png", ".tar")):
            opened.append(Path(file).name)
        return own(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", noted)
    return opened


# --- skipped and repaired -------------------------------------------------------------------------


def test_what_is_damaged_is_read_again_once_its_file_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    half = picture(20)[:40]
    (folder / "20.png").write_bytes(half)
    first = extract(folder, out)
    assert (set(first.skipped), first.not_tried, first.repaired) == ({"20.png"}, [], [])
    opened, before = noting(monkeypatch), content(out)
    again = extract(folder, out)
    assert (again.skipped, again.not_tried, opened) == (first.skipped, ["20.png"], [])
    assert content(out) == before
    (folder / "20.png").write_bytes(picture(20))
    whole = extract(folder, out)
    assert (whole.skipped, whole.not_tried, whole.repaired) == ({}, [], ["20.png"])
    assert shades(out) == named(10, 30, 20)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: int) -> None:
    """Opening an image fails so often."""
    own, left = builtins.open, [times]

    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if str(file).endswith(name) and left[0]:
            left[0] -= 1
            raise error
        return own(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", opened)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EIO, "Input/output error"),
        MemoryError("of memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_failed_by_circumstance_is_read_again_though_its_file_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    failing(monkeypatch, "20.png", error, times=2)
    assert str(error) in extract(folder, out).skipped["20.png"]
    again = extract(folder, out)
    assert (set(again.skipped), again.not_tried) == ({"20.png"}, [])
    whole = extract(folder, out)
    assert (whole.skipped, whole.repaired) == ({}, ["20.png"])
    assert shades(out) == named(10, 30, 20)


def test_too_little_memory_to_decode_passes_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    images, load = importlib.import_module("ccma_fast.images.image_source"), []

    def starved(file: Any) -> Any:
        load.append(file)
        if len(load) == 2:
            raise MemoryError
        return read(file)

    read = images.read_image
    monkeypatch.setattr(images, "read_image", starved)
    assert "MemoryError" in extract(folder, out).skipped["20.png"]
    assert extract(folder, out).repaired == ["20.png"]


def test_what_another_decoder_or_limit_may_take_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    Image.new("L", (40, 40), 30).save(folder / "30.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert set(extract(folder, out).skipped) == {"30.png"}
    assert extract(folder, out).not_tried == ["30.png"]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    assert extract(folder, out).repaired == ["30.png"]


def test_what_the_callers_transform_refused_is_read_again(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    folder, out = save(tmp_path / "x" / "in", 10, 20).parent, tmp_path / "out"

    def wrong(image: Image.Image) -> Image.Image:
        if image.getpixel((0, 0)) == (20, 20, 20):
            raise ValueError("not this one")
        return image

    assert extract(datasets.ImageFolder(folder, wrong), out).skipped == {"in/20.png": "ValueError: not this one"}
    assert extract(datasets.ImageFolder(folder), out).repaired == ["in/20.png"]


@pytest.mark.parametrize("kind", ["list", "tar", "data set"])
def test_every_source_has_its_damaged_images_read_again(tmp_path: Path, kind: str) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    (folder / "20.png").write_bytes(picture(20)[:40])
    assert len(extract(source_of(kind, folder), out).skipped) == 1
    if kind == "list":
        assert len(extract(source_of(kind, folder), out).not_tried) == 1
    (folder / "20.png").write_bytes(picture(20))
    assert len(extract(source_of(kind, folder), out).repaired) == 1
    assert [*shades(out).values()] == [10, 30, 20]


class Pictures:
    """A data set as torchvision's are, of files that it does not name."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> Image.Image:
        return Image.open(io.BytesIO(self.files[i].read_bytes()))


def source_of(kind: str, folder: Path) -> Any:
    files = sorted(folder.glob("*.png"))
    if kind == "folder":
        return folder
    if kind == "list":
        (folder.parent / "list.csv").write_text("\n".join(["image_path", *(f"in/{file.name}" for file in files)]))
        return folder.parent / "list.csv"
    if kind == "data set":
        return Pictures(files)
    with tarfile.open(folder.parent / "x.tar", "w") as archive:
        for file in files:
            archive.add(file, file.name)
    return folder.parent / "x.tar"


def test_reasons_of_the_first_format_are_looked_at_once_more(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    (folder / "20.png").write_bytes(b"nothing")
    why = extract(folder, out).skipped["20.png"]
    assert as_first_format(out / "student")["shards"][0]["skipped"] == {"20.png": why}
    assert shades(out) == named(10, 30)
    found = extract(folder, out)
    assert (found.skipped, found.not_tried) == ({"20.png": why}, [])
    assert extract(folder, out).not_tried == ["20.png"]
    assert json.loads((out / "student" / MANIFEST).read_text())["format"] == 2
    (folder / "20.png").write_bytes(picture(20))
    assert extract(folder, out).repaired == ["20.png"]
    assert json.loads((out / "student" / MANIFEST).read_text())["format"] == 1  # an early version can read it
    assert shades(out) == named(10, 30, 20)


def as_first_format(folder: Path) -> dict[str, Any]:
    """A pool as an early version wrote it: without the times and folders of files, and with bare reasons."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    manifest["format"] = 1
    for name in ("vanished", "renamed"):
        manifest.pop(name, None)
    for shard in manifest["shards"]:
        shard["skipped"] = {image: why["reason"] for image, why in shard["skipped"].items()}
        table = parquet.read_table(folder / shard["metadata"])
        parquet.write_table(table.drop_columns(["file_mtime_ns", "file_root"]), folder / shard["metadata"])
        shard["metadata_sha256"] = importlib.import_module("ccma_fast.pool.manifest_file").digest_of_file(
            folder / shard["metadata"]
        )
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return manifest


# --- deleted --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "list", "tar", "data set", "ImageFolder"])
def test_images_that_are_gone_are_told_and_come_back(tmp_path: Path, kind: str) -> None:
    folder, out = save(tmp_path / "x" / "in", 10, 20, 30, 40, 50), tmp_path / "out"

    def source() -> Any:
        if kind == "ImageFolder":
            return pytest.importorskip("torchvision.datasets").ImageFolder(folder.parent)
        return source_of(kind, folder)

    extract(source(), out, shard_size=9)
    ids = [*shades(out)]
    (folder / "50.png").rename(tmp_path / "50.kept")  # a data set of positions can lose its last alone
    found = extract(source(), out)
    assert (found.vanished, found.n_rows, found.elsewhere, found.renamed) == ([ids[4]], 5, [], {})
    assert open_rows(out / "student", "x").vanished().tolist() == [4]
    assert [*shades(out)] == ids
    before = content(out)
    assert extract(source(), out).vanished == [ids[4]]
    assert content(out) == before
    (tmp_path / "50.kept").rename(folder / "50.png")
    assert extract(source(), out).vanished == []
    assert open_rows(out / "student", "x").vanished().size == 0


@pytest.mark.parametrize("kind", ["list", "ImageFolder"])
def test_images_that_are_named_still_and_are_gone(tmp_path: Path, kind: str) -> None:
    folder, out = save(tmp_path / "x" / "in", 10, 20, 30), tmp_path / "out"
    source = source_of("list", folder)
    if kind == "ImageFolder":
        source = pytest.importorskip("torchvision.datasets").ImageFolder(folder.parent)
    extract(source, out)
    (folder / "20.png").unlink()
    found = extract(source, out)
    assert (found.vanished, found.skipped, found.n_rows) == (["in/20.png"], {}, 3)
    assert cf.select(out / "student", 9).report.n_vanished == 1
    save(folder, 20)
    assert extract(source, out).vanished == []


def test_what_is_elsewhere_has_not_vanished(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 10, 20), save(tmp_path / "two", 30, 40)
    out = tmp_path / "out"
    extract(one, out)
    for _ in range(2):  # the second time its own rows are there already
        found = extract(two, out)
        assert (found.vanished, found.elsewhere) == ([], ["10.png", "20.png"])
    assert extract(one, out).elsewhere == ["30.png", "40.png"]
    (one / "10.png").unlink()
    assert extract(two, out).vanished == []  # nobody looked there
    found = extract(one, out)
    assert (found.vanished, found.elsewhere) == (["10.png"], ["30.png", "40.png"])
    found = extract(two, out)  # which does not bring it back
    assert (found.vanished, found.elsewhere) == (["10.png"], ["20.png"])
    # A part of a list: what it leaves out is there.
    (tmp_path / "list.csv").write_text("one/20.png\ntwo/30.png\ntwo/40.png\n")
    extract(tmp_path / "list.csv", tmp_path / "listed")
    (tmp_path / "list.csv").write_text("two/30.png\n")
    (two / "40.png").unlink()
    found = extract(tmp_path / "list.csv", tmp_path / "listed")
    assert (found.vanished, found.elsewhere) == (["two/40.png"], ["one/20.png"])


def test_a_pool_that_does_not_say_where_its_images_lay(tmp_path: Path) -> None:
    one, two, out = save(tmp_path / "one", 10, 20), save(tmp_path / "two", 30, 40), tmp_path / "out"
    extract(one, out)
    extract(two, out)
    as_first_format(out / "student")
    (one / "20.png").unlink()
    found = extract(two, out)  # a shard of which nothing is here may be of another folder
    assert (found.vanished, found.elsewhere) == ([], ["10.png", "20.png"])
    found = extract(one, out)
    assert (found.vanished, found.elsewhere) == (["20.png"], ["30.png", "40.png"])
    assert cf.select(out / "student", 9).report.n_vanished == 1


def test_a_folder_that_moved_and_one_that_cannot_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    save(folder / "below", 40)
    extract(folder, out)
    moved = folder.rename(tmp_path / "moved")
    (moved / "10.png").unlink()
    assert extract(moved, out).vanished == ["10.png"]
    below, stat, scandir = str(moved / "below"), os.stat, os.scandir

    def refusing(own: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *arguments: Any, **options: Any) -> Any:
            if (own is scandir and str(path) == below) or str(path).startswith(f"{below}/"):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return own(path, *arguments, **options)

        return call

    monkeypatch.setattr(os, "stat", refusing(stat))
    monkeypatch.setattr(os, "scandir", refusing(scandir))
    found = extract(moved, out)
    assert (found.vanished, found.elsewhere) == (["10.png"], ["below/40.png"])


def test_tars_that_are_not_given_or_are_gone(tmp_path: Path) -> None:
    for k in range(3):
        source_of("tar", save(tmp_path / f"{k}" / "in", 10 * k + 10, 10 * k + 15)).rename(tmp_path / f"{k}.tar")
    out, tars = tmp_path / "out", [tmp_path / f"{k}.tar" for k in range(3)]
    extract(tars, out)
    found = extract(tars[:2], out)
    assert (found.vanished, found.elsewhere) == ([], ["2.tar/30.png", "2.tar/35.png"])
    tars[1].unlink()
    found = extract(tars[:1], out)
    assert found.vanished == ["1.tar/20.png", "1.tar/25.png"]
    assert found.elsewhere == ["2.tar/30.png", "2.tar/35.png"]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_rows_without_an_image_are_not_offered(tmp_path: Path, backend: str) -> None:
    folder, out = save(tmp_path / "in", *range(10, 130, 10)), tmp_path / "out"
    given = {"teacher": "dark"}
    extract(folder, out, **given)
    ids, gone = [*shades(out)], [1, 4, 7]
    learner = cf.ActiveLearner(out / "student", backend=backend)
    learner.label([ids[0], ids[4], ids[8]], [0, 1, 0])
    for row in gone:
        (folder / ids[row]).unlink()
    extract(folder, out, **given)
    picks = learner.query(100)  # which takes in what is known now
    left = sorted({*range(12)} - {*gone, 0, 8})
    assert sorted(picks.indices.tolist()) == left
    assert (picks.report.n_unlabelled, picks.report.n_vanished, picks.report.n_labelled) == (7, 2, 3)
    assert "2 whose images are gone" in str(picks.report)
    assert learner.labels[4] == 1  # and still teaches
    features, labels = out / "student", [0, -1, -1, -1, 1, -1, -1, -1, 0, -1, -1, -1]
    teacher = cf.Teacher(out / "teacher", np.eye(2), temperature=0.1)
    for arguments in (
        {},
        {"teacher": teacher},
        {"labels": labels},
        {"labels": labels, "teacher": teacher},
        {"labels": labels, "teacher": teacher, "config": cf.CCMAConfig.paper()},
        {"student_logits": np.random.default_rng(0).standard_normal((12, 2)), "teacher": teacher},
    ):
        offered = sorted({*range(12)} - {*gone} - ({0, 8} if "labels" in arguments else set()))
        for budget, expected in ((3, 3), (100, len(offered))):
            found = cf.select(features, budget, backend=backend, **arguments)  # type: ignore[arg-type]
            assert len({*found.indices.tolist()}) == expected
            assert {*found.indices.tolist()} <= {*offered}
            asked = cf.plan(features, budget, backend=backend, **arguments)  # type: ignore[arg-type]
            assert found.report.plan is not None
            assert asked.bytes_read == found.report.plan.bytes_read
    # All gone: nothing to offer.
    manifest = json.loads((features / MANIFEST).read_text())
    manifest["vanished"] = [*range(12)]
    (features / MANIFEST).write_text(json.dumps(manifest))
    assert len(cf.select(features, 3, backend=backend)) == 0


def test_rows_without_an_image_do_not_change_what_is_picked(tmp_path: Path) -> None:
    """The picks are those of a pool that never had them."""
    out = tmp_path / "out"
    folder = save(tmp_path / "in", *range(10, 250, 10))
    extract(folder, out, shard_size=100)
    (folder / "90.png").unlink()
    assert extract(folder, out).vanished == ["90.png"]
    extract(folder, tmp_path / "plain", shard_size=100)
    assert cf.select(out / "student", 5).ids == cf.select(tmp_path / "plain" / "student", 5).ids


def test_a_simulation_needs_no_images(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", *range(10, 250, 10)), tmp_path / "out"
    extract(folder, out)
    for grey in range(10, 200, 10):
        (folder / f"{grey}.png").unlink()
    assert len(extract(folder, out).vanished) == 19
    x, y = out / "student", np.arange(24) % 2
    results = cf.simulate(
        x, y, test_features=x, test_labels=y, strategies=["ccma", "random"], seeds=[1], rounds=3, budget=6,
        progress=False,
    )  # fmt: skip
    assert results.curve("ccma").n_labels[-1] == results.curve("random").n_labels[-1] == 20


def test_the_command_tells_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = save(tmp_path / "in", *range(10, 80, 10)), tmp_path / "out"
    (folder / "10.png").write_bytes(picture(10)[:40])
    (folder / "20.png").write_bytes(picture(20)[:40])
    command = ["extract", str(folder), "--out", str(out), "-q", "--workers", "0"]
    assert main(command) == 0
    capsys.readouterr()
    (folder / "10.png").write_bytes(picture(10))
    (folder / "30.png").rename(folder / "three.png")
    (folder / "40.png").unlink()
    (folder / "50.png").unlink()
    assert main(command) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == "6 images, 1 skipped"
    lines = told.err.splitlines()
    assert lines[0].startswith("skipped 20.png: ")
    assert lines[0].endswith(" (not tried again, for its file is the same)")
    assert lines[1:] == [
        "renamed 30.png -> three.png",
        "1 skipped before, can be read now, first 10.png",
        "2 gone: their rows are not offered for labelling, first 40.png",
    ]
    assert main(["select", "--features", str(out / "student"), "--budget", "9"]) == 0
    told = capsys.readouterr()
    picked = {line.split(",")[2] for line in told.out.splitlines()[1:]}
    assert picked == {"three.png", "60.png", "70.png", "10.png"}
    assert "4 picks (budget 9, but no more rows are unlabelled whose images are there)" in told.err
    assert main(["select", "--features", str(out / "student"), "--budget", "9", "--plan"]) == 0
    assert main(["extract", str(save(tmp_path / "other", 80)), "--out", str(out), "-q", "--workers", "0"]) == 0
    assert "4 rows and none of these images, but may be where they were" in capsys.readouterr().err


# --- renamed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "list", "tar"])
def test_a_renamed_image_keeps_its_row(tmp_path: Path, kind: str) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    extract(source_of(kind, folder), out)
    before = [*shades(out)]
    (tmp_path / "old.csv").write_text(f"image_path,label\n{before[0]},0\n{before[2]},1\n")
    learner = cf.ActiveLearner(out / "student", labels=tmp_path / "old.csv")
    learner.save(tmp_path / "loop.npz")
    (folder / "10.png").rename(folder / "new.png")
    found = extract(source_of(kind, folder), out)
    new = before[0].replace("10", "new")
    assert (found.renamed, found.vanished, found.n_rows) == ({before[0]: new}, [], 3)
    assert [*shades(out).items()] == [(new, 10), (before[1], 20), (before[2], 30)]
    assert extract(source_of(kind, folder), out).renamed == {}
    # Labels and loops that know the old name.
    rows = open_rows(out / "student", "features")
    np.testing.assert_array_equal(read_labels(tmp_path / "old.csv", rows), [0, -1, 1])
    np.testing.assert_array_equal(cf.ActiveLearner.load(tmp_path / "loop.npz", out / "student").labels, [0, -1, 1])
    learner.query(1)
    learner.unlabel([before[0]])
    learner.label([new], [1])
    assert learner.labels[0] == 1
    picks = cf.select(out / "student", 3)
    assert set(picks.ids or []) == {new, before[1], before[2]}


def test_names_that_go_round(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    extract(folder, out)

    def rename(before: str, now: str) -> None:
        (folder / before).rename(folder / now)
        assert extract(folder, out).renamed == {before: now}

    rename("10.png", "b.png")
    rename("b.png", "c.png")
    rows = open_rows(out / "student", "x")
    assert rows.former_ids() == {"10.png": [0], "b.png": [0]}
    rename("c.png", "10.png")
    rename("10.png", "b.png")
    assert shades(out) == {"b.png": 10, "20.png": 20}
    # Another image gets the name that the first one had: it is a row of its own, and the name is its.
    (folder / "10.png").write_bytes(picture(77))
    found = extract(folder, out, teacher="dark")
    assert (found.n_rows, found.renamed, found.vanished) == (3, {}, [])
    for part in ("student", "teacher"):
        assert [*shades(out, part).items()] == [("b.png", 10), ("20.png", 20), ("10.png", 77)]
    rows = open_rows(out / "student", "x")
    (tmp_path / "y.csv").write_text("image_path,label\nb.png,0\nc.png,0\n")
    np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", rows), [0, -1, -1])
    # Who says "10.png" may mean either: the row decides where it is said.
    (tmp_path / "y.csv").write_text("image_path,label\n10.png,1\n")
    with pytest.raises(ValueError, match=r"must say by index .*, got '10\.png' at row 0 .*, which rows \[0, 2\] of x"):
        read_labels(tmp_path / "y.csv", rows)
    for row, expected in ((0, [1, -1, -1]), (2, [-1, -1, 1])):
        (tmp_path / "y.csv").write_text(f"image_path,index,label\n10.png,{row},1\n")
        np.testing.assert_array_equal(read_labels(tmp_path / "y.csv", rows), expected)
    learner = cf.ActiveLearner(out / "student")
    with pytest.raises(ValueError, match=r"'10\.png'"):
        learner.label(["10.png"], [1])
    # Vanished first, and found under another name later.
    kept = (folder / "20.png").rename(tmp_path / "kept.png")
    assert extract(folder, out).vanished == ["20.png"]
    kept.rename(folder / "z.png")
    found = extract(folder, out)
    assert (found.renamed, found.vanished) == ({"20.png": "z.png"}, [])


def test_what_is_not_one_to_one_is_no_renaming(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    (folder / "same.png").write_bytes(picture(10))
    extract(folder, out)
    (folder / "10.png").rename(folder / "a.png")
    (folder / "same.png").unlink()
    found = extract(folder, out)  # it may be either of two
    assert (found.renamed, found.vanished, found.n_rows) == ({}, ["10.png", "same.png"], 4)
    (folder / "20.png").rename(folder / "b.png")
    (folder / "c.png").write_bytes(picture(20))
    found = extract(folder, out)
    assert (found.renamed, found.vanished, found.n_rows) == ({}, ["10.png", "20.png", "same.png"], 6)
    # Moved to the folder of another class: that is no other name, but another label.
    folder = save(tmp_path / "classes" / "cat", 10, 20).parent
    save(folder / "dog", 30)
    extract(folder, tmp_path / "labelled", labels_from_folders=True)
    (folder / "cat" / "10.png").rename(folder / "dog" / "10.png")
    found = extract(folder, tmp_path / "labelled", labels_from_folders=True)
    assert (found.renamed, found.vanished) == ({}, ["cat/10.png"])


def test_a_renamed_image_and_a_second_encoder(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30, 40, 50), tmp_path / "out"
    extract(folder, out, shard_size=2)
    (folder / "10.png").rename(folder / "x.png")
    found = extract(folder, out, shard_size=2, teacher="dark")
    assert found.renamed == {"10.png": "x.png"}
    assert shades(out, "teacher") == shades(out) == {"x.png": 10, **named(20, 30, 40, 50)}
    manifests = [read_manifest(out / part, "x") for part in ("student", "teacher")]
    assert manifests[0] is not None
    assert manifests[1] is not None
    assert manifests[0].rows_sha256 == manifests[1].rows_sha256
    cf.select(out / "student", 2, teacher=cf.Teacher(out / "teacher", np.eye(2)))
    # A pool of the same images, which never had other names, is of the same images.
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "list.csv").write_text("\n".join(["x.png", *named(20, 30, 40, 50)]))
    shutil.move(tmp_path / "list.csv", tmp_path / "again" / "list.csv")
    extract(tmp_path / "again" / "list.csv", tmp_path / "fresh", teacher="dark")
    cf.select(out / "student", 2, teacher=cf.Teacher(tmp_path / "fresh" / "teacher", np.eye(2)))
    # Nor is one whose rows have the old names beside them another.
    table = parquet.read_table(tmp_path / "fresh" / "teacher" / "metadata" / "metadata_0.parquet")
    old = {"image_path": [*named(10, 20, 30, 40, 50)], "z": [[2.0, 0.0]] * 5}
    parquet.write_table(type(table).from_pydict(old), tmp_path / "z.parquet")
    cf.select(out / "student", 2, student_logits=tmp_path / "z.parquet")
    old["image_path"][1] = "y.png"
    parquet.write_table(type(table).from_pydict(old), tmp_path / "z.parquet")
    with pytest.raises(cf.PoolMismatchError, match=r"got 'y.png' at row 1 .* and '20.png' at row 1"):
        cf.select(out / "student", 2, student_logits=tmp_path / "z.parquet")
    # One that is gone cannot be seen by an encoder that comes later.
    shutil.rmtree(out / "teacher")
    (folder / "20.png").unlink()
    before = content(out)
    with pytest.raises(cf.FileReadError, match=r"no image '20.png', which is a row in .*; expected it for the other"):
        extract(folder, out, teacher="dark")
    assert {name: text for name, text in content(out).items() if not name.startswith("teacher")} == before


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_between_two_encoders_leaves_them_of_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A kill at each of the places at which something becomes valid, or at every fourth."""
    folder, out = save(tmp_path / "in", *range(10, 100, 10)), tmp_path / "out"
    (folder / "20.png").write_bytes(b"nothing")
    given = {"shard_size": 2, "teacher": "dark"}
    extract(folder, out, **given)
    (folder / "20.png").write_bytes(picture(20))
    (folder / "30.png").unlink()
    (folder / "40.png").rename(folder / "x.png")
    save(folder, 100, 110, 120)
    shutil.copytree(out, tmp_path / "whole")
    expected = extract(folder, tmp_path / "whole", **given)
    write, n_written = os.replace, 0
    while True:
        work, left = tmp_path / f"killed{n_written}", [n_written]

        def dying(*arguments: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            write(*arguments)

        shutil.copytree(out, work)
        monkeypatch.setattr(os, "replace", dying)
        try:
            extract(folder, work, **given)
        except KeyboardInterrupt:
            monkeypatch.setattr(os, "replace", write)
        else:
            break
        found = extract(folder, work, **given)
        assert (found.n_rows, found.vanished, found.skipped) == (expected.n_rows, expected.vanished, {})
        for part in ("student", "teacher"):
            assert content(work / part) == content(tmp_path / "whole" / part)
        n_written += step
    assert n_written >= 20


# --- changed --------------------------------------------------------------------------------------


def later(file: Path) -> None:
    """The time of a file is another than it was, and than that of the others."""
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))


def test_files_that_are_the_same_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    extract(folder, out)
    opened = noting(monkeypatch)
    extract(folder, out)
    assert opened == []
    later(folder / "20.png")
    extract(folder, out)
    assert opened == ["20.png"]
    opened.clear()
    assert as_first_format(out / "student")["format"] == 1
    extract(folder, out)  # there are no times: all may be others
    assert opened == ["10.png", "20.png", "30.png"]
    assert shades(out) == named(10, 20, 30)


def test_all_that_changed_is_named_and_nothing_is_done(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", *range(10, 70, 10)), tmp_path / "out"
    extract(folder, out, teacher="dark")
    n_bytes = (folder / "20.png").stat().st_size
    for grey in (10, 20, 30, 40):
        (folder / f"{grey}.png").write_bytes(picture(grey + 1).ljust(n_bytes + (grey == 10), b"\0")[: n_bytes + 1])
    for grey in (20, 30, 40):
        file = folder / f"{grey}.png"
        file.write_bytes(bytes(reversed(file.read_bytes()[:n_bytes])))
        later(file)
    save(folder, 70)
    (folder / "50.png").unlink()
    before = content(out)
    with pytest.raises(cf.PoolMismatchError) as raised:
        extract(folder, out, teacher="dark")
    text = str(raised.value)
    assert f"got 4 that changed since, first '10.png' has {n_bytes} bytes, got {n_bytes + 1}; '20.png' has" in text
    assert "'40.png'" not in text
    assert "expected the same file under the same name, another name for another image, or another out" in text
    assert content(out) == before


def test_of_very_many_that_were_touched_some_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = save(tmp_path / "in", *range(10, 210, 10)), tmp_path / "out"
    extract(folder, out)
    for file in folder.iterdir():
        later(file)
    changes = importlib.import_module("ccma_fast.images.changes")
    monkeypatch.setattr(changes, "_MOST_READ_AGAIN", 5)
    opened = noting(monkeypatch)
    extract(folder, out)
    assert len(opened) == 5
    assert len({*opened} & {*[*shades(out)][:10]}) in (2, 3)  # spread over all


def test_files_of_one_size_and_time_that_were_numbered_anew(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", *range(10, 110, 10)), tmp_path / "out"
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().ljust(200, b"\0"))
        os.utime(file, (1, 1))
    extract(folder, out)
    (folder / "20.png").unlink()
    (folder / "30.png").rename(folder / "20.png")
    with pytest.raises(cf.PoolMismatchError, match=r"got 1 that changed since, first '20.png' has the CRC-32"):
        extract(folder, out)


# --- while it is read -----------------------------------------------------------------------------


def test_what_is_known_of_a_file_is_of_what_was_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    images = importlib.import_module("ccma_fast.images.image_source")
    read = images.read_image

    def replaced(file: Any) -> Any:
        """Somebody puts another file in its place, and the one that is open stays what it is."""
        if isinstance(file, io.BytesIO) and file.getvalue() == picture(10):
            (folder / "new").write_bytes(picture(90))
            os.replace(folder / "new", folder / "10.png")
        return read(file)

    monkeypatch.setattr(images, "read_image", replaced)
    extract(folder, out)
    assert shades(out) == named(10, 20)
    with pytest.raises(cf.PoolMismatchError, match=r"got 1 that changed since, first '10.png' has"):
        extract(folder, out)


@pytest.mark.parametrize("most", [None, 10])
def test_what_is_written_to_while_it_is_read_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int | None
) -> None:
    folder, out = save(tmp_path / "in", 10, 20), tmp_path / "out"
    images = importlib.import_module("ccma_fast.images.image_source")
    if most is not None:  # as for files that are too large for memory
        monkeypatch.setattr(images, "_MOST_BYTES", most)
    read, grown = images.read_image, []

    def growing(file: Any) -> Any:
        if not grown:
            grown.append(True)
            with open(folder / "10.png", "ab") as handle:
                handle.write(b"more")
        return read(file)

    monkeypatch.setattr(images, "read_image", growing)
    assert extract(folder, out).skipped == {"10.png": "it was written to while it was read"}
    assert extract(folder, out).repaired == ["10.png"]
    assert shades(out) == named(20, 10)
    listed = open_images(folder)
    for i in range(2):
        assert listed.read(i)[1] == listed.fingerprint(i)


# --- manifests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vanished": [9]}, "vanished must be rows from 0 to 2, got 9"),
        ({"vanished": [1, 0]}, "vanished must be ascending rows"),
        ({"vanished": [True]}, "vanished must be rows from 0 to 2, got True"),
        ({"renamed": {"x": -1}}, "renamed must be rows from 0 to 2, got -1"),
        ({"renamed": []}, "renamed must be dict"),
    ],
)
def test_damaged_manifests(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder, out = save(tmp_path / "in", 10, 20, 30), tmp_path / "out"
    extract(folder, out)
    (folder / "20.png").unlink()
    extract(folder, out)
    file = out / "student" / MANIFEST
    manifest = json.loads(file.read_text())
    assert (manifest["format"], manifest["vanished"], manifest["renamed"]) == (2, [1], {})
    file.write_text(json.dumps({**manifest, **change}))
    with pytest.raises(cf.FileReadError, match=message):
        open_rows(out / "student", "features")


def test_ids_as_they_are_now(tmp_path: Path) -> None:
    folder, out = save(tmp_path / "in", *range(10, 80, 10)), tmp_path / "out"
    extract(folder, out, shard_size=3)
    (folder / "60.png").rename(folder / "x.png")
    extract(folder, out)
    rows = open_rows(out / "student", "features")
    assert rows.manifest is not None
    assert list(row_ids(rows.manifest)) == [*named(10, 20, 30, 40, 50), "x.png", "70.png"]
    assert rows.ids_at(np.array([5, 0, 6, 5])) == ["x.png", "10.png", "70.png", "x.png"]
