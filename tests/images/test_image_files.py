"""Files beside, instead of and in place of images: pipes, damaged archives, odd names, and images that changed."""

from __future__ import annotations

import csv
import importlib
import io
import os
import sys
import tarfile
import unicodedata
import zlib
from collections.abc import Sequence
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
from ccma_fast.pool.manifest_file import read_manifest, row_ids
from ccma_fast.pool.open import open_rows

pytest.importorskip("pyarrow")
extract_module = importlib.import_module("ccma_fast.images.extract")
pytestmark = pytest.mark.usefixtures("decoded_here")


def shade(image: Image.Image) -> torch.Tensor:
    """The mean colour, of which an image is known; it takes none that is three times as long as high."""
    if image.width >= 3 * image.height:
        raise ValueError("height and width must be > 0")
    return torch.from_numpy(np.asarray(image.resize((1, 1), Image.Resampling.BOX), np.float32).transpose(2, 0, 1))


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The student sees the shade of an image, the teacher its opposite."""

    def made(sign: int) -> Encoder:
        description = {"library": "none", "model": "shade", "weights": "none", "weights_sha256": str(sign)}
        return Encoder(None, shade, lambda batch: sign * batch.flatten(1), description, "cpu")

    monkeypatch.setattr(extract_module, "vision_encoder", lambda *_, **__: made(1))
    monkeypatch.setattr(extract_module, "open_clip_encoder", lambda *_, **__: made(-1))


def extract(source: Any, out: Path, **options: Any) -> Any:
    return cf.extract(source, out, progress=False, **options)


def shades(out: Path, part: str = "student") -> dict[str, float]:
    """The shade of each row, by the id that it goes by."""
    manifest = read_manifest(out / part, "x")
    assert manifest is not None
    return dict(zip(row_ids(manifest), open_rows(out / part, "x").float32()[:, 0].tolist(), strict=True))


def picture(grey: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A PNG file whose size is another for every shade."""
    handle = io.BytesIO()
    Image.new("L", size, grey).save(handle, "png")
    return handle.getvalue() + bytes(grey)


def save(file: Path, grey: int = 50) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(picture(grey))
    return file


def tar(file: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file


# --- what is no file ------------------------------------------------------------------------------


def test_nothing_waits_for_a_pipe_or_reads_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.png").touch()
    save(tmp_path / "0.png")
    names = ["pipe.jpg", "zero.png", "folder.png", "loop.png", "gone.png", "text.jpg", "empty.png"]
    (tmp_path / "list.csv").write_text("\n".join(["image_path", "0.png", *names]))
    found = extract(tmp_path / "list.csv", tmp_path / "out")
    assert (found.n_rows, list(found.skipped)) == (1, names)
    for name in names[:3]:
        assert found.skipped[name] == "a folder, a pipe or a device; expected a regular file"
    assert found.skipped["loop.png"].startswith("OSError: ")
    assert found.skipped["gone.png"].startswith("FileNotFoundError: ")


def test_tars_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(cf.FileReadError, match=r"pipe.tar' is a folder, a pipe or a device; expected a regular file"):
        open_images(tmp_path / "pipe.tar")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "._0.tar").write_bytes(b"\0\5\x16\7")
    tar(tmp_path / "0.tar", [("a.png", picture(1))])
    tar(tmp_path / "1.TAR", [("b.png", picture(2))])
    images = open_images(tmp_path)
    assert images.ids == ["0.tar/a.png", "1.TAR/b.png"]
    assert images.left_out == {"hidden": 1, "no regular files": 1}


def test_nothing_is_lost_behind_the_end_of_a_tar(tmp_path: Path) -> None:
    one, two = (tar(tmp_path / f"{name}.tar", [(f"{name}.png", picture(1))]) for name in ("one", "two"))
    both = tmp_path / "both.tar"
    both.write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(cf.FileReadError, match=r"both.tar' .* after 1 images: more stands behind the end at byte"):
        open_images(both)
    content = tar(tmp_path / "x.tar", [(f"{i}.png", picture(1)) for i in range(3)]).read_bytes()
    (tmp_path / "x.tar").write_bytes(content.replace(b"1.png\0", b"1.pnh\0"))
    with pytest.raises(cf.FileReadError, match=r"after 1 images: more stands behind .* and no damaged header"):
        open_images(tmp_path / "x.tar")


def test_labels_and_names_of_tars(tmp_path: Path) -> None:
    members = [("1.CLS", b"7"), ("0.JPG", picture(1)), ("../2.png", picture(2)), ("/3.png", picture(3))]
    members += [("1.Png", picture(4)), ("3.png", picture(5)), ("../2.cls", b"8"), ("0.Cls", b"6"), ("/3.cls", b"9")]
    images = open_images(tar(tmp_path / "x.tar", members))
    assert images.labels is not None
    assert dict(zip([name[6:] for name in images.ids], images.labels, strict=True)) == {
        **{"0.JPG": 6, "1.Png": 7, "../2.png": 8, "/3.png": 9, "3.png": None}
    }
    assert images.left_out == {}


@pytest.mark.parametrize("suffix", ["*.png", "jpg,png", "a/png"])
def test_suffixes_that_no_name_ends_with(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"image_suffixes must be such as 'jpg' or 'seg.png', got"):
        open_images(tmp_path, suffixes=["png", suffix])


# --- names ----------------------------------------------------------------------------------------


def test_names_of_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    names = [
        "a\nb.png",
        "c\rd.png",
        "e\r\nf.png",
        'g"h,i.png',
        " j.png",
        "=k.png",
        "\ufeffl.png",
        "-m.png",
        "n\x1b.png",
    ]
    names += [unicodedata.normalize(form, "ü.png") for form in ("NFC", "NFD")]
    for i, name in enumerate(names):
        save(folder / name, 10 * i + 10)
    (folder / "broken\n.png").touch()
    odd = os.fsdecode(b"b\xfcro")
    save(folder / odd / "0.png")
    save(folder / odd / "1.png")
    assert main(["extract", str(folder), "--out", str(out), "-q"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert err == [
        "skipped 'broken\\n.png': no image of a format that is read",
        "left out: 2 with names that are not UTF-8",
    ]
    assert shades(out) == {name: 10 * names.index(name) + 10 for name in sorted(names)}
    picks = tmp_path / "picks.csv"
    assert main(["select", "--features", str(out / "student"), "--budget", "20", "--out", str(picks)]) == 0
    with open(picks, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted(row["image_path"] for row in rows) == sorted(names)
    for row in rows:
        assert list(shades(out)).index(row["image_path"]) == int(row["index"])


def test_rows_stand_in_one_order_whatever_the_file_system_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a-b/0.png", "a/1.png", "a/B.png", "a.png", "b/0.png"]
    for name in names:
        save(tmp_path / "in" / name)
    (tmp_path / "in" / "link").symlink_to(save(tmp_path / "else" / "0.png").parent)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "else")
    walk = os.walk

    def backwards(*arguments: Any, **options: Any) -> Any:
        for at, folders, files in walk(*arguments, **options):
            folders.reverse()
            yield at, folders, files[::-1]

    expected = open_images(tmp_path / "in").ids
    assert expected == sorted([*names, "again/0.png"])
    monkeypatch.setattr(os, "walk", backwards)
    assert open_images(tmp_path / "in").ids == expected


def test_a_list_whose_header_would_be_an_image(tmp_path: Path) -> None:
    for name in ("photo1", "photo2"):
        save(tmp_path / name)
    (tmp_path / "list.csv").write_text("photo1\nphoto2\n")
    assert open_images(tmp_path / "list.csv").ids == ["photo1", "photo2"]
    for header in ("image_path", "path"):  # a file of that name is only meant where the header is not
        save(tmp_path / header)
        (tmp_path / "list.csv").write_text(f"{header}\nphoto1\nphoto2\n")
        expected = ["photo1", "photo2"] if header == "image_path" else ["path", "photo1", "photo2"]
        assert open_images(tmp_path / "list.csv").ids == expected
        (tmp_path / header).unlink()
    (tmp_path / "list.csv").write_text("photo0\nphoto1\nphoto2\n")  # the first is gone, and will be told as skipped
    assert open_images(tmp_path / "list.csv").ids == ["photo0", "photo1", "photo2"]
    (tmp_path / "list.csv").write_text("picture\nphoto1\nphoto2\n")
    assert open_images(tmp_path / "list.csv").ids == ["photo1", "photo2"]


@pytest.mark.parametrize("header", ["label", "index", "score", "class_name", "id"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_of_something_else_is_no_list_of_images(tmp_path: Path, header: str, suffix: str) -> None:
    cells = [save(tmp_path / f"{i}.png").name for i in range(2)]
    if suffix == ".csv":
        (tmp_path / "list.csv").write_text("\n".join([header, *cells]))
    else:
        parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        parquet.write_table(pyarrow.table({header: cells}), tmp_path / "list.parquet")
    with pytest.raises(cf.FileReadError, match=f"images: no column 'image_path' or .*, got '{header}'"):
        open_images(tmp_path / f"list{suffix}")


def test_labels_of_images_that_cannot_be_used_afterwards(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    paths = [save(tmp_path / f"{i}.png").name for i in range(2)]
    for labels, message in (
        ([1, 2**20], "a number or a name, or -1 for none, got 1048576 at row 1; numbers are below 1048576"),
        ([1, 10**12], "got 1000000000000 at row 1"),
        (np.array([1, 4000], np.float16), "got 4000.0 at row 1, which its type may have rounded"),
        ([[1], [2]], "the column 'label' of '.*x.parquet' must have one value in each row, got list"),
    ):
        parquet.write_table(pyarrow.table({"path": paths, "label": labels}), tmp_path / "x.parquet")
        with pytest.raises(ValueError, match=message):
            open_images(tmp_path / "x.parquet")
    with pytest.raises(cf.FileReadError, match=r"'0.cls' must hold the number of a class, got b'0000"):
        open_images(tar(tmp_path / "x.tar", [("0.png", picture(1)), ("0.cls", b"0" * 10**6)]))


def test_labels_from_folders_that_mean_two_things(tmp_path: Path) -> None:
    for name in ("cat/0.png", "dogs/small/0.png"):
        save(tmp_path / name)
    with pytest.raises(cf.FileReadError, match=r"needs images in folders below '.*/cat', got none"):
        open_images([tmp_path / "cat", tmp_path / "dogs"], labels_from_folders=True)
    for form in ("NFC", "NFD"):
        save(tmp_path / "in" / unicodedata.normalize(form, "é") / "0.png")
    with pytest.raises(cf.FileReadError, match=r"do not look the same, got 'e\\u0301' and '\\xe9'"):
        open_images(tmp_path / "in", labels_from_folders=True)
    assert len(open_images(tmp_path / "in").ids) == 2


# --- a row is of the image that it is called by -----------------------------------------------------


def numbered_anew(folder: Path) -> None:
    """A new image comes first, as photographs of another camera may."""
    for i in reversed(range(4)):
        (folder / f"{i}.png").rename(folder / f"{i + 1}.png")
    save(folder / "0.png", 200)


@pytest.mark.parametrize("kind", ["folder", "list", "tar", "ImageFolder"])
@pytest.mark.parametrize("options", [{}, {"teacher": "later"}])
@pytest.mark.parametrize("n_bytes", [0, 400])
def test_images_that_were_numbered_anew_are_refused(
    tmp_path: Path, kind: str, options: dict[str, Any], n_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = picture
    monkeypatch.setattr(sys.modules[__name__], "picture", lambda grey: whole(grey).ljust(n_bytes, b"\0"))
    folder, out = tmp_path / "in" / "a", tmp_path / "out"

    def source() -> Any:
        if kind == "ImageFolder":
            return pytest.importorskip("torchvision.datasets").ImageFolder(tmp_path / "in")
        if kind == "folder":
            return folder
        if kind == "list":
            (tmp_path / "list.csv").write_text("\n".join(sorted(str(file) for file in folder.glob("*.png"))))
            return tmp_path / "list.csv"
        return tar(tmp_path / "x.tar", [(file.name, file.read_bytes()) for file in sorted(folder.glob("*.png"))])

    for i in range(4):
        save(folder / f"{i}.png", 10 * i)
    extract(source(), out)
    before = shades(out)
    assert extract(source(), out).n_rows == 4
    numbered_anew(folder)
    had = "the CRC-32 " if n_bytes else ""
    with pytest.raises(
        cf.PoolMismatchError, match=rf"0.png' has {had}\d+.*, got \d+; expected the same file under the"
    ):
        extract(source(), out, **options)
    assert shades(out) == before
    # An image that is gone is no other one.
    (folder / "4.png").unlink()
    for i in range(3):
        (folder / f"{i}.png").write_bytes(picture(10 * i))
    (folder / "3.png").unlink()
    assert extract(source(), out).n_rows == 4


def test_a_file_that_grows_after_it_was_listed_is_the_one_that_was_read(tmp_path: Path) -> None:
    file, content = tmp_path / "in" / "0.png", picture(10)
    file.parent.mkdir()
    file.write_bytes(content[:40])
    listed = open_images(tmp_path / "in")
    file.write_bytes(content)
    assert listed.fingerprint(0)[:2] == (len(content), zlib.crc32(content))


def test_a_second_encoder_sees_what_the_first_saw(tmp_path: Path) -> None:
    for i in range(5):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{i}.png").write_bytes(picture(10 * i).ljust(400, b"\0"))
    extract(tmp_path / "in", tmp_path / "out", shard_size=2)
    first, second = (tmp_path / "in" / f"{i}.png" for i in (2, 3))
    content = first.read_bytes()
    times = [(file.stat().st_atime_ns, file.stat().st_mtime_ns) for file in (first, second)]
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for file, time in zip((first, second), times, strict=True):  # which tell nothing then
        os.utime(file, ns=time)
    with pytest.raises(cf.PoolMismatchError, match=r"'2.png' has the CRC-32 \d+, got \d+"):
        extract(tmp_path / "in", tmp_path / "out", shard_size=2, teacher="later")
    second.write_bytes(first.read_bytes())
    first.write_bytes(content)
    extract(tmp_path / "in", tmp_path / "out", shard_size=2, teacher="later")
    assert shades(tmp_path / "out", "teacher") == {f"{i}.png": -10 * i for i in range(5)}


def test_an_image_of_the_same_size_and_time_is_tried_again(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "in" / f"{i}.png", 10 * i)
    file = tmp_path / "in" / "1.png"
    content, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(content[:60].ljust(len(content), b"\0"))
    os.utime(file, ns=times)
    assert set(extract(tmp_path / "in", tmp_path / "out").skipped) == {"1.png"}
    file.write_bytes(content)
    os.utime(file, ns=times)
    assert extract(tmp_path / "in", tmp_path / "out").skipped == {}
    assert shades(tmp_path / "out") == {"0.png": 0, "1.png": 10}


def test_an_image_that_a_preprocessing_cannot_take_is_skipped(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "in" / f"{i}.png", 10 * i)
    (tmp_path / "in" / "1.png").write_bytes(picture(10, (90, 3)))
    found = extract(tmp_path / "in", tmp_path / "out", batch_size=2)
    assert found.skipped == {"1.png": "ValueError: height and width must be > 0"}
    assert shades(tmp_path / "out") == {"0.png": 0, "2.png": 20}


# --- data sets ------------------------------------------------------------------------------------


class Greys:
    """A data set as torchvision's are."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> Image.Image:
        return Image.new("L", (4, 4), 10 * i)


def test_a_part_of_a_data_set_has_the_names_of_the_whole(tmp_path: Path) -> None:
    from torch.utils.data import Subset

    whole = Greys(targets=[0, 1, 2, 3, 4, 5])
    part = Subset(Subset(whole, [5, 3, 1, 0]), torch.tensor([0, 1]))  # type: ignore[arg-type, var-annotated]
    images = open_images(part)
    assert (images.ids, images.labels) == (["5", "3"], [5, 3])
    extract(part, tmp_path)
    extract(Subset(whole, [1, 3, 4]), tmp_path)  # type: ignore[arg-type]
    assert shades(tmp_path) == {"5": 50, "3": 30, "1": 10, "4": 40}


def test_files_of_an_image_folder_are_seen_as_in_a_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("torchvision.datasets")
    from torch.utils.data import Subset

    folder = tmp_path / "a"
    folder.mkdir()
    Image.fromarray(np.full((4, 4), 100 * 257, np.uint16)).save(folder / "0.png")
    hidden = np.zeros((4, 4, 4), np.uint8)
    hidden[0, 0] = 255
    Image.fromarray(hidden, "RGBA").save(folder / "1.png")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(folder / "2.tiff")
    plain = open_images(tmp_path)
    for images in (
        open_images(datasets.ImageFolder(tmp_path)),
        open_images(Subset(datasets.ImageFolder(tmp_path), [0, 1, 2])),
    ):
        assert images.ids == plain.ids
        for i in range(2):
            np.testing.assert_array_equal(np.asarray(images.load(i)), np.asarray(plain.load(i)))
        with pytest.raises(Exception, match="mode 'F', whose range is not known"):
            images.load(2)
    turned = open_images(datasets.ImageFolder(tmp_path, transform=lambda image: image.resize((2, 3))))
    assert turned.load(0).size == (2, 3)
    assert turned.load(0).getpixel((0, 0)) == (100, 100, 100)
    own = open_images(datasets.ImageFolder(tmp_path, loader=lambda path: Image.new("RGB", (1, 1), "red")))
    assert own.load(0).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({0: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 0}, "must be in the order of its images, got a dict"),
        ("abcabc", "must be in the order of its images, got a str"),
        ([[0], [1, 2], [], [3], [4], [5]], r"got \[0\] at row 0"),
        (np.array([True] * 6), "got True at row 0"),
        ([np.array([0, 1])] * 6, r"got array\(\[0, 1\]\) at row 0"),
    ],
)
def test_targets_that_are_no_classes(tmp_path: Path, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"labels of Greys must be .*{message}|labels of Greys {message}"):
        extract(Greys(targets=targets), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("item", [{"image": Image.new("L", (4, 4))}, (np.zeros((4, 4, 3)), 1), torch.zeros(3, 4, 4)])
def test_data_sets_of_something_else_are_refused_at_once(tmp_path: Path, item: Any) -> None:
    class Others(Greys):
        def __getitem__(self, i: int) -> Any:
            return item

    with pytest.raises(TypeError, match=r"items of Others must be images of PIL, .*, got (dict|ndarray|Tensor);"):
        extract(Others(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_item_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    class Failing(Greys):
        def __getitem__(self, i: int) -> Any:
            if i == 0:
                raise ValueError("no file " + os.fsdecode(b"/b\xfcro") + "\nhere")
            return None if i == 1 else super().__getitem__(i)

    found = extract(Failing(), tmp_path / "out")
    reasons = {"0": r"ValueError: no file /b\udcfcro here", "1": "expected an image of PIL, got NoneType"}
    assert (found.n_rows, found.skipped) == (4, reasons)
    assert extract(Failing(), tmp_path / "out") == found


def test_missing_labels_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    images = open_images(Greys(targets=pandas.Series([0, None, 2, 3, 4, 5], dtype="Int64")))
    assert images.labels == [0, None, 2, 3, 4, 5]
