"""From images to a pool, by small models with random weights: rows as of a direct forward pass, and no others."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.manifest_file import MANIFEST, read_manifest, row_ids
from ccma_fast.pool.open import open_rows

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
# Not imported here: they take seconds, and every worker of a run imports every module of tests.
for _library in ("open_clip", "timm"):
    if importlib.util.find_spec(_library) is None:
        pytest.skip(f"{_library} is not installed", allow_module_level=True)

pytestmark = pytest.mark.usefixtures("decoded_here")

NAMES = ["cat", "dog", "great tit"]
STUDENT = {"student": "test_vit", "student_weights": "random", "image_size": 32}
N = 23

CLIP = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}

HUB = """
import torch
dependencies = ["torch"]
def tiny(pretrained=True):
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 16, 16), torch.nn.Flatten(2), torch.nn.AdaptiveAvgPool1d(1),
                               torch.nn.Flatten())
def maps(pretrained=True):
    return torch.nn.Conv2d(3, 8, 16, 16)
def huge(pretrained=True):
    return torch.nn.Sequential(tiny(), torch.nn.Hardtanh(1e6, 2e6))
"""


def labels_of(folder: Any) -> Any:
    return read_labels(folder, open_rows(folder, "features"))


def write_image(file: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    pixels = rng.integers(0, 255, (*size, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert("L") if seed % 5 == 0 else image).save(file)  # some are grey


def paths(n: int = N) -> list[str]:
    return sorted(f"{'ab'[i % 2]}/{i:04d}{('.png', '.jpg')[i % 3 == 0]}" for i in range(n))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PNG and JPEG files, and things that are none."""
    folder = tmp_path_factory.mktemp("images")
    for path in paths():
        write_image(folder / path, int(Path(path).stem))
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small model of open_clip with random weights in a file, by the name that open_clip has for such a folder."""
    return make_clip(tmp_path_factory.mktemp("clip"), seed=1)


def make_clip(folder: Path, seed: int) -> str:
    import open_clip

    (folder / "open_clip_config.json").write_text(json.dumps(CLIP))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A repository of torch.hub on this machine."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "hubconf.py").write_text(HUB)
    return f"torch.hub:{folder}"


@pytest.fixture(scope="module")
def pool(images: Path, clip: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed extraction makes: shards of ten images, batches of four."""
    out = tmp_path_factory.mktemp("pool") / "pool"
    found = cf.extract(images, out, **arguments(clip))
    assert (found.student, found.teacher, found.classes) == (out / "student", out / "teacher", out / "classes")
    assert (found.n_rows, found.skipped) == (N, {})
    return out


def arguments(clip: str, **changes: Any) -> dict[str, Any]:
    given = {**STUDENT, "teacher": clip, "class_names": NAMES, "batch_size": 4, "shard_size": 10, "progress": False}
    given["workers"] = 0
    return {**given, **changes}


def direct(
    encode: Callable[[Any], Any], preprocess: Callable[[Any], Any], folder: Path, names: list[str]
) -> np.ndarray:
    """The embeddings of images, one by one."""
    rows = []
    with torch.inference_mode():
        for name in names:
            with Image.open(folder / name) as image:
                rows.append(encode(preprocess(image.convert("RGB"))[None])[0].float().numpy())
    return np.stack(rows)


def teacher_rows(clip: str, folder: Path, names: list[str]) -> np.ndarray:
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(clip)
    return direct(model.eval().encode_image, preprocess, folder, names)


def student_rows(folder: Path, names: list[str]) -> np.ndarray:
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_vit", num_classes=0).eval()
    model.set_input_size(img_size=32)
    config = {**timm.data.resolve_model_data_config(model), "input_size": (3, 32, 32)}
    return direct(model, timm.data.create_transform(**config), folder, names)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


# --- what comes out -------------------------------------------------------------------------------


def test_rows_are_those_of_a_direct_forward_pass(pool: Path, images: Path, clip: str) -> None:
    for name, expected in (
        ("student", student_rows(images, paths())),
        ("teacher", teacher_rows(clip, images, paths())),
    ):
        rows = open_rows(pool / name, "features")
        assert rows.slice(0, 0).dtype == np.float16
        np.testing.assert_allclose(rows.float32(), expected, rtol=2e-3, atol=2e-3)
        assert rows.manifest is not None
        assert list(row_ids(rows.manifest)) == paths()
        assert [shard.n_rows for shard in rows.manifest.shards] == [10, 10, 3]


def test_class_features_are_averaged_as_open_clip_does(pool: Path, images: Path, clip: str, tmp_path: Path) -> None:
    import open_clip

    model = open_clip.create_model(clip).eval()
    tokenizer = open_clip.get_tokenizer(clip)

    def unit(rows: Any) -> Any:
        return rows / rows.norm(dim=-1, keepdim=True)

    def expected(templates: list[str]) -> np.ndarray:
        with torch.no_grad():
            prompts = [model.encode_text(tokenizer([text.format(name) for text in templates])) for name in NAMES]
            return torch.stack([unit(unit(of_class).mean(dim=0)) for of_class in prompts]).numpy()

    found = open_rows(pool / "classes", "class_features")
    np.testing.assert_allclose(found.float32(), expected(["a photo of a {}"]), atol=1e-6)
    assert found.manifest is not None
    assert found.manifest.class_names == NAMES
    assert parquet.read_table(pool / "classes" / "metadata" / "metadata_0.parquet")["caption"].to_pylist() == NAMES

    cf.extract(images, tmp_path, **arguments(clip, student=None, templates="openai"))
    openai = open_rows(tmp_path / "classes", "class_features")
    texts = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    np.testing.assert_allclose(openai.float32(), expected(texts), atol=1e-6)
    assert openai.manifest is not None
    assert openai.manifest.templates == texts
    # Other prompts for the same images: only the classes are made anew.
    before = files(tmp_path / "teacher")
    cf.extract(images, tmp_path, **arguments(clip, student=None, templates=["a {}", "the {}"]))
    again = open_rows(tmp_path / "classes", "class_features")
    np.testing.assert_allclose(again.float32(), expected(["a {}", "the {}"]), atol=1e-6)
    assert files(tmp_path / "teacher") == before


def test_the_folders_are_a_pool(pool: Path) -> None:
    x, v, t = (open_rows(pool / name, name).float32() for name in ("student", "teacher", "classes"))
    found = cf.select(pool / "student", 5, teacher=cf.Teacher(pool / "teacher", pool / "classes"))
    np.testing.assert_array_equal(found.indices, cf.select(x, 5, teacher=cf.Teacher(v, t)).indices)
    assert found.report.forced == []
    assert found.ids == [paths()[i] for i in found.indices]


def test_unit_rows_and_lower_precision(images: Path, clip: str, pool: Path, tmp_path: Path) -> None:
    cf.extract(images, tmp_path / "unit", **arguments(clip, normalize=True))
    cf.extract(images, tmp_path / "bf16", **arguments(clip, precision="bf16"))
    for name in ("student", "teacher"):
        whole = open_rows(pool / name, name).float32()
        lengths = np.linalg.norm(whole, axis=1, keepdims=True)
        unit = open_rows(tmp_path / "unit" / name, name)
        np.testing.assert_allclose(unit.float32(), whole / lengths, atol=2e-3)
        rounded = open_rows(tmp_path / "bf16" / name, name)
        np.testing.assert_allclose(rounded.float32() / lengths, whole / lengths, atol=3e-2)
        assert (rounded.float32() != whole).any()
        assert unit.manifest is not None
        assert unit.manifest.normalized


def test_torch_hub_and_built_in_names_with_random_weights(images: Path, hub: str, tmp_path: Path) -> None:
    import open_clip

    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny-clip.json").write_text(json.dumps(CLIP["model_cfg"]))
    open_clip.add_model_config(tmp_path / "configs")
    out = tmp_path / "pool"
    state = torch.random.get_rng_state()
    cf.extract(
        images, out, student=f"{hub}:tiny", teacher="tiny-clip", pretrained="random", shard_size=50, progress=False
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    model = torch.hub.load(hub.partition(":")[2], "tiny", source="local")
    from torchvision import transforms

    preprocess = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    found = open_rows(out / "student", "x").float32()
    np.testing.assert_allclose(found, direct(model, preprocess, images, paths()), atol=2e-3)
    manifest = read_manifest(out / "teacher", "v")
    assert manifest is not None
    assert (manifest.encoder["model"], manifest.encoder["weights"]) == ("tiny-clip", "random")


@pytest.mark.parametrize("kind", ["csv", "one column", "parquet", "tar", "tars", "folder of tars", "dataset", "folder"])
def test_every_source_gives_the_same_rows(images: Path, hub: str, tmp_path: Path, kind: str) -> None:
    order = paths()[::-1]
    classes = [i % 3 for i in range(N)]
    source, ids = make_source(kind, images, tmp_path, order, classes)
    cf.extract(source, tmp_path / "pool", student=f"{hub}:tiny", shard_size=9, progress=False)
    cf.extract(images, tmp_path / "plain", student=f"{hub}:tiny", progress=False)
    found, plain = (open_rows(tmp_path / name / "student", "x") for name in ("pool", "plain"))
    assert found.manifest is not None
    assert list(row_ids(found.manifest)) == ids
    expected = plain.float32() if kind in ("folder", "dataset") else plain.float32()[::-1]
    np.testing.assert_array_equal(found.float32(), expected)
    if kind in ("csv", "parquet", "tar", "tars", "dataset"):
        np.testing.assert_array_equal(labels_of(tmp_path / "pool" / "student"), classes)


def make_source(kind: str, images: Path, work: Path, order: list[str], classes: list[int]) -> tuple[Any, list[str]]:
    if kind == "folder":
        return str(images), paths()
    if kind == "csv":
        lines = ["image_path,label", *(f"{images / path},{c}" for path, c in zip(order, classes, strict=True))]
        (work / "list.csv").write_text("\n".join(lines))
        return work / "list.csv", [str(images / path) for path in order]
    if kind == "one column":
        (work / "list.csv").write_text("\n".join(str(images / path) for path in order))
        return work / "list.csv", [str(images / path) for path in order]
    if kind == "parquet":
        shutil.copytree(images, work / "copy")
        parquet.write_table(pyarrow.table({"path": order, "label": classes}), work / "copy" / "list.parquet")
        return work / "copy" / "list.parquet", order
    if kind == "dataset":
        return Pictures(images, paths(), classes), [str(i) for i in range(N)]
    cuts = [0, N] if kind == "tar" else [0, 5, 11, N]
    (work / "tars").mkdir()
    ids = []
    for k, (start, stop) in enumerate(itertools.pairwise(cuts)):
        with tarfile.open(work / "tars" / f"{k:05d}.tar", "w") as archive:
            for i in range(start, stop):
                add(archive, f"{i:06d}{Path(order[i]).suffix}", (images / order[i]).read_bytes())
                add(archive, f"{i:06d}.cls", str(classes[i]).encode())
                add(archive, f"{i:06d}.json", b"{}")
                ids.append(f"{k:05d}.tar/{i:06d}{Path(order[i]).suffix}")
    tars = sorted((work / "tars").glob("*.tar"))
    return {"tar": tars[0], "tars": tars, "folder of tars": work / "tars"}[kind], ids


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


class Pictures:
    """A data set as torchvision's are."""

    def __init__(self, root: Path, names: list[str], targets: list[int]) -> None:
        self.root, self.names, self.targets = root, names, targets

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        with Image.open(self.root / self.names[i]) as image:
            return image.convert("RGB"), self.targets[i]


def test_tars_of_the_webdataset_library_and_folders_of_torchvision(images: Path, hub: str, tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    found = cf.extract(ImageFolder(images), tmp_path / "folder", student=f"{hub}:tiny", progress=False)
    assert found.student is not None
    manifest = read_manifest(found.student, "x")
    assert manifest is not None
    assert list(row_ids(manifest)) == paths()
    np.testing.assert_array_equal(labels_of(found.student), [path.startswith("b") for path in paths()])
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "w.tar")) as writer:
        for path in paths():
            writer.write({"__key__": path[:-4], path[-3:]: (images / path).read_bytes(), "cls": 2})
    again = cf.extract(tmp_path / "w.tar", tmp_path / "tar", student=f"{hub}:tiny", progress=False)
    np.testing.assert_array_equal(open_rows(again.student, "x").float32(), open_rows(found.student, "x").float32())
    np.testing.assert_array_equal(labels_of(again.student), np.full(N, 2))


# --- images that cannot be read -------------------------------------------------------------------


def broken(images: Path, work: Path) -> Path:
    """The images and five that cannot be read, among them a whole shard's."""
    folder = work / "broken"
    shutil.copytree(images, folder)
    (folder / "a" / "0000a.png").write_bytes(b"no image")
    (folder / "a" / "0007a.jpg").write_bytes((images / paths()[0]).read_bytes()[:-200])
    (folder / "b" / "empty.png").touch()
    (folder / "a" / "0002a.png").write_bytes((images / "a" / "0002.png").read_bytes()[:300])
    return folder


BROKEN = {"a/0000a.png", "a/0007a.jpg", "b/empty.png", "a/0002a.png"}


# Other processes import torchvision for seconds, unless they have a preprocessing without it as in `test_decode.py`.
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_unreadable_images_are_listed_and_shift_no_row(
    images: Path,
    hub: str,
    tmp_path: Path,
    workers: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["extract", str(broken(images, tmp_path)), "--student", f"{hub}:tiny", "--shard-size", "5"]
    given += ["--batch-size", "3", "--out", str(tmp_path / "pool"), "--workers", str(workers)]
    if workers:
        monkeypatch.undo()  # of `decoded_here`
    assert main(given) == 0
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == f"{N} images, 4 skipped"
    assert "image/s" in err
    for image in BROKEN:
        assert f"skipped {image}: " in err
    manifest = read_manifest(tmp_path / "pool" / "student", "x")
    assert manifest is not None
    assert {image for shard in manifest.shards for image in shard.skipped} == BROKEN
    assert list(row_ids(manifest)) == paths()
    cf.extract(images, tmp_path / "plain", student=f"{hub}:tiny", workers=0, progress=False)
    np.testing.assert_array_equal(
        open_rows(tmp_path / "pool" / "student", "x").float32(),
        open_rows(tmp_path / "plain" / "student", "x").float32(),
    )


def test_a_shard_without_any_image_that_can_be_read(images: Path, hub: str, tmp_path: Path) -> None:
    folder = broken(images, tmp_path)
    found = cf.extract(folder, tmp_path / "pool", student=f"{hub}:tiny", shard_size=1, progress=False)
    assert (found.n_rows, set(found.skipped)) == (N, BROKEN)
    rows = open_rows(tmp_path / "pool" / "student", "x")
    assert rows.float32().shape == (N, 8)
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "x.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"none of 1 images can be read, got no image of a format .* for 'x.png'"):
        cf.extract(tmp_path / "none", tmp_path / "empty", student=f"{hub}:tiny", progress=False)


# --- going on -------------------------------------------------------------------------------------


def test_the_same_call_again_does_nothing(images: Path, pool: Path, clip: str, tmp_path: Path) -> None:
    out = tmp_path / "pool"
    shutil.copytree(pool, out)
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("img_emb*.npy")}
    assert cf.extract(images, out, **arguments(clip)).n_rows == N
    assert {path: path.stat().st_mtime_ns for path in out.rglob("img_emb*.npy")} == stamps
    assert files(out) == files(pool)


def test_a_teacher_that_is_added_later_sees_the_same_images(
    images: Path, pool: Path, clip: str, tmp_path: Path
) -> None:
    cf.extract(images, tmp_path, **arguments(clip, teacher=None, class_names=None))
    assert not (tmp_path / "teacher").exists()
    cf.extract(images, tmp_path, **arguments(clip))
    assert files(tmp_path) == files(pool)


def test_a_teacher_that_is_added_later_from_a_list_in_another_order(
    images: Path, hub: str, clip: str, tmp_path: Path
) -> None:
    folder = broken(images, tmp_path)
    given = [str(folder / path) for path in sorted({*paths(), *BROKEN})]
    out = tmp_path / "pool"
    for order, encoders in ((given, {}), (given[::-1], {"teacher": clip})):
        (tmp_path / "list.csv").write_text("\n".join(order))
        cf.extract(
            tmp_path / "list.csv", out, student=f"{hub}:tiny", shard_size=8, batch_size=3, progress=False, **encoders
        )
    expected = teacher_rows(clip, folder, paths())
    np.testing.assert_allclose(open_rows(out / "teacher", "v").float32(), expected, rtol=2e-3, atol=2e-3)
    cf.select(out / "student", 3, teacher=cf.Teacher(out / "teacher", np.eye(3, 16)))  # of the same images
    # An image that went bad in between, which neither its size nor its time tells.
    shutil.rmtree(out / "teacher")
    file, status = folder / paths()[4], (folder / paths()[4]).stat()
    file.write_bytes(bytes(status.st_size))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(cf.FileReadError, match=r"images: '.*' can be read now or could be when '.*student' was made"):
        cf.extract(tmp_path / "list.csv", out, student=f"{hub}:tiny", teacher=clip, shard_size=8, progress=False)
    (tmp_path / "list.csv").write_text("\n".join(given[1:]))
    with pytest.raises(cf.FileReadError, match=r"images: no image '.*0000.jpg', which is a row in '.*student'"):
        cf.extract(tmp_path / "list.csv", out, student=f"{hub}:tiny", teacher=clip, shard_size=8, progress=False)


def test_images_that_are_added_join_behind(images: Path, hub: str, tmp_path: Path) -> None:
    folder, out = tmp_path / "growing", tmp_path / "pool"
    shutil.copytree(images, folder)
    given = {"student": f"{hub}:tiny", "shard_size": 10, "progress": False}
    cf.extract(folder, out, **given)
    before, shards = open_rows(out / "student", "x"), files(out / "student")
    learner = cf.ActiveLearner(out / "student")
    first = learner.query(4).indices
    learner.label(first, [0, 1, 0, 1])
    for seed in range(100, 105):
        write_image(folder / f"a/0000-{seed}.png", seed)  # between the old ones
    assert cf.extract(folder, out, **given).n_rows == N + 5
    now = before.grown()
    assert (before.n_rows, now.n_rows) == (N, N + 5)
    np.testing.assert_array_equal(now.slice(0, N), before.slice(0, N))
    assert now.manifest is not None
    assert list(row_ids(now.manifest))[N:] == [f"a/0000-{seed}.png" for seed in range(100, 105)]
    assert {name: files(out / "student")[name] for name in shards if name != MANIFEST} == {
        name: content for name, content in shards.items() if name != MANIFEST
    }
    assert learner.query(4).report.n_rows == N + 5
    np.testing.assert_array_equal(np.flatnonzero(learner.labels >= 0), np.sort(first))


class Forked:
    """A process that a server forked: importing the libraries takes longer than the work."""

    def __init__(self, server: Any, out: Path) -> None:
        self._ended = out.with_suffix(".ended")
        self._ended.unlink(missing_ok=True)
        server.stdin.write(f"{out}\n")
        server.stdin.flush()
        self.pid = int(server.stdout.readline())

    def poll(self) -> int | None:
        return int(self._ended.read_text()) if self._ended.exists() else None

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        return code


def test_somebody_elses_files_in_a_pool_are_kept(images: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {**STUDENT, "progress": False}
    out = tmp_path / "pool"
    cf.extract(images, out, **given)
    mark = "0123456789abcdef.ccma-part"
    ours = [out / "student" / name for name in (f".manifest.json.{mark}", f"img_emb/.img_emb_7.npy.{mark}")]
    (out / "photos").mkdir()
    theirs = [
        "photos/.film.mkv.part",
        "student/.film.mkv.part",
        f"photos/.manifest.json.{mark}",
        "student/img_emb/.a.part",
    ]
    for file in (*ours, *(out / name for name in theirs)):
        file.write_text("half")
    cf.extract(images, out, **given)
    assert not any(file.exists() for file in ours)
    assert all((out / name).read_text() == "half" for name in theirs)


def test_a_lock_that_is_a_link_is_not_followed(images: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / ".lock").symlink_to(tmp_path / "kept")
    with pytest.raises(FileExistsError, match=r"\.lock': it is a symbolic link to '.*kept'"):
        cf.extract(images, tmp_path / "pool", **STUDENT, progress=False)  # type: ignore[arg-type]
    assert (tmp_path / "kept").read_text() == "kept"


def survive(start: Callable[[Path], Any], out: Callable[[int], Path], kills: int, n_shards: int) -> None:
    """Kill a process at random moments, start it again, and compare what it ends with."""
    undisturbed = out(-1)
    begin = time.monotonic()
    assert start(undisturbed).wait(timeout=600) == 0
    seconds = time.monotonic() - begin
    rng = np.random.default_rng(5)
    died_at: list[int] = []  # finished shards
    number = 0

    def n_done() -> int:
        return len(list(out(number).glob("student/img_emb/*.npy")))

    while len(died_at) < kills:
        child = start(out(number))
        # One in four dies while it starts or checks what is there, the others at any time after that.
        begin, wanted = time.monotonic(), n_done() + int(rng.integers(1, max(2, n_shards // 3)))
        at_work = rng.random() > 0.25
        while at_work and child.poll() is None and n_done() < wanted:
            assert time.monotonic() - begin < 300
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.05 * seconds))
        # The process and its workers, as when a machine goes down.
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        if child.wait(timeout=60) == -signal.SIGKILL:
            died_at.append(n_done())
        else:  # it was faster
            assert files(out(number)) == files(undisturbed)
            number += 1
    assert start(out(number)).wait(timeout=600) == 0
    assert files(out(number)) == files(undisturbed)
    assert set(died_at) - {0, n_shards}, died_at
    print(f"killed after {died_at} of {n_shards} shards, in {number + 1} folders")


KILL_SERVER = """
import importlib, os, pathlib, sys, time
encoders, extract = map(importlib.import_module, ("ccma_fast.images.encoders", "ccma_fast.images.extract"))
for name in ("torch.utils.data", "torchvision.transforms", "pyarrow.dataset", "pyarrow.parquet", "tqdm", "torch.hub"):
    importlib.import_module(name)
importlib.import_module("pyarrow").array([""])  # imports pandas, where it is: once, not in each process
importlib.import_module("PIL.Image").init()
embed = encoders.Encoder.embed
def slow(self, *args, **kwargs):
    time.sleep(0.03)
    return embed(self, *args, **kwargs)
encoders.Encoder.embed = slow
for line in sys.stdin:
    out = pathlib.Path(line.strip())
    pid = os.fork()
    if pid == 0:
        os.setsid()
        code = 1
        try:
            sizes = {"shard_size": 2, "batch_size": 2, "workers": 0}
            extract.extract(sys.argv[1], out, student=sys.argv[2], progress=False, **sizes)
            code = 0
        finally:
            os._exit(code)
    print(pid, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    part = out.with_suffix(".code")
    part.write_text(str(code))
    part.rename(out.with_suffix(".ended"))
"""


def test_three_kills(start_forked: Callable[..., Any], images: Path, hub: str, tmp_path: Path) -> None:
    with start_forked(KILL_SERVER, str(broken(images, tmp_path)), f"{hub}:tiny") as server:
        survive(lambda out: Forked(server, out), lambda i: tmp_path / f"pool{i}", kills=3, n_shards=(N + 4 + 1) // 2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_twenty_kills_of_the_command(images: Path, clip: str, tmp_path: Path, workers: int) -> None:
    folder = broken(images, tmp_path)
    for seed in range(200, 500):
        write_image(folder / f"c/{seed}.png", seed)
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    command = [sys.executable, "-m", "ccma_fast", "extract", str(folder), "--student", "test_vit", "-q"]
    command += ["--student-weights", "random", "--teacher", clip, "--class-names", str(tmp_path / "names.txt")]
    command += ["--batch-size", "8", "--shard-size", "12", "--workers", str(workers), "--out"]

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, start_new_session=True)

    survive(start, lambda i: tmp_path / f"pool {i}", kills=20, n_shards=-(-(300 + N + 4) // 12))


def test_nobody_else_works_in_the_folder(images: Path, hub: str, tmp_path: Path) -> None:
    import fcntl

    with open(tmp_path / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="another process is working in"):
            cf.extract(images, tmp_path, student=f"{hub}:tiny", progress=False)


# --- what does not belong together ----------------------------------------------------------------


def test_another_encoder_or_preprocessing_is_refused(images: Path, pool: Path, clip: str, tmp_path: Path) -> None:
    out = tmp_path / "pool"
    shutil.copytree(pool, out)
    before = files(out)
    (tmp_path / "other").mkdir()
    other = make_clip(tmp_path / "other", seed=2)
    for changes, here, there in (
        ({"teacher": other}, f"open_clip {clip} (its own, SHA-256 ", f"open_clip {other} (its own, SHA-256 "),
        ({"student": "test_vit2", "image_size": None}, "timm test_vit (random", "timm test_vit2 (random"),
        ({"image_size": 48}, "CenterCrop(size=(32, 32))", "CenterCrop(size=(48, 48))"),
        ({"normalize": True}, "normalized False in", "True in memory"),
        ({"precision": "bf16"}, "'fp32' in", "'bf16' in this call"),
    ):
        with pytest.raises(cf.PoolMismatchError) as raised:
            cf.extract(images, out, **arguments(clip, **changes))
        assert here in str(raised.value), str(raised.value)
        assert there in str(raised.value), str(raised.value)
        assert files(out) == before


def changed_order(images: Path, hub: str, out: Path) -> Path:
    (out.parent / "list.csv").write_text("\n".join(str(images / path) for path in [*paths()[1:], paths()[0]]))
    cf.extract(out.parent / "list.csv", out, student=f"{hub}:tiny", progress=False)
    return out / "student"


def test_other_images_or_another_order_are_refused(images: Path, pool: Path, hub: str, tmp_path: Path) -> None:
    other = changed_order(images, hub, tmp_path / "other")
    expected = (
        f"image_features and features must be the same images in the same order, got at row 0 'a/0000.jpg' in "
        f"{str(pool / 'teacher')!r} and {str(images / paths()[1])!r} in {str(other)!r}; force (--force) takes them all "
        "the same"
    )
    teacher = cf.Teacher(pool / "teacher", pool / "classes")
    for call in (
        lambda: cf.select(other, 3, teacher=teacher),
        lambda: cf.ActiveLearner(other, teacher=teacher),
        lambda: cf.simulate(
            other, np.arange(N) % 3, test_features=other, test_labels=np.arange(N) % 3, teacher=teacher, rounds=1
        ),
    ):
        with pytest.raises(cf.PoolMismatchError) as raised:
            call()
        assert str(raised.value) == expected
    forced = cf.Teacher(pool / "teacher", pool / "classes", force=True)
    report = cf.select(other, 3, teacher=forced).report
    assert report.forced == [expected.partition(";")[0]]
    assert "got at row 0" in str(report)
    assert cf.select(pool / "student", 3, teacher=forced).report.forced == []


def test_fewer_images_are_refused(images: Path, pool: Path, hub: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("\n".join(str(images / path) for path in paths()[:9]))
    (tmp_path / "more.csv").write_text("\n".join(str(images / path) for path in paths()[:12]))
    for name in ("list", "more"):
        cf.extract(tmp_path / f"{name}.csv", tmp_path / name, student=f"{hub}:tiny", progress=False)
    teacher = cf.Teacher(tmp_path / "list" / "student", np.eye(3, 8))
    with pytest.raises(cf.PoolMismatchError, match=r"got 9 rows in '.*list/student' and 12 in '.*more/student'"):
        cf.select(tmp_path / "more" / "student", 3, teacher=teacher)


def test_classes_of_another_model_are_refused(images: Path, pool: Path, clip: str, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    other = make_clip(tmp_path / "clip", seed=2)
    cf.extract(images, tmp_path / "pool", **arguments(other, student=None))
    classes = tmp_path / "pool" / "classes"
    with pytest.raises(
        cf.PoolMismatchError, match="class_features and image_features must come from the same"
    ) as raised:
        cf.Teacher(pool / "teacher", classes)
    for side in (f"{other} (its own", f"in {str(classes)!r}", f"{clip} (its own", f"in {str(pool / 'teacher')!r}"):
        assert side in str(raised.value)
    forced = cf.Teacher(pool / "teacher", classes, force=True)
    assert len(cf.select(pool / "student", 3, teacher=forced).report.forced) == 1
    assert len(cf.ActiveLearner(pool / "student", teacher=forced).query(2).report.forced) == 1


def test_test_rows_of_another_preprocessing_are_refused(images: Path, pool: Path, tmp_path: Path) -> None:
    cf.extract(images, tmp_path, **STUDENT | {"image_size": 48}, progress=False)
    y = np.arange(N) % 2
    given: dict[str, Any] = {"strategies": ["random"], "seeds": [1], "rounds": 1, "progress": False}
    given |= {"test_features": tmp_path / "student", "test_labels": y, "config": cf.CCMAConfig(max_epochs=2)}
    with pytest.raises(cf.PoolMismatchError, match=r"size=\(48, 48\).*in '.*' and .*size=\(32, 32\)") as raised:
        cf.simulate(pool / "student", y, **given)
    assert str(raised.value).startswith("test_features and features must come from the same encoder and preprocessing")
    (mismatch,) = cf.simulate(pool / "student", y, force=True, **given).record["forced"]
    assert mismatch == str(raised.value).partition("; force")[0]
    learner = cf.ActiveLearner(pool / "student", labels=y, config=cf.CCMAConfig(max_epochs=2))
    assert learner.predict_proba(pool / "student").shape == (N, 2)
    with pytest.raises(cf.PoolMismatchError, match=r"X and features must come from the same encoder .*[^e]$"):
        learner.predict_proba(tmp_path / "student")


def test_force_on_the_command_line(images: Path, pool: Path, hub: str, tmp_path: Path, capsys: Any) -> None:
    other = changed_order(images, hub, tmp_path / "other")
    command = ["select", "--features", str(other), "--budget", "3", "--teacher-images", str(pool / "teacher")]
    command += ["--teacher-classes", str(pool / "classes"), "--out", str(tmp_path / "picks.json")]
    assert main(command) == 2
    assert "must be the same images in the same order" in capsys.readouterr().err
    assert not (tmp_path / "picks.json").exists()
    assert main([*command, "--force"]) == 0
    assert "must be the same images in the same order" in capsys.readouterr().err
    report = json.loads((tmp_path / "picks.json").read_text())["report"]
    assert "must be the same images in the same order" in report["forced"][0]


# --- damage ---------------------------------------------------------------------------------------


def swap(a: Path, b: Path) -> None:
    content = a.read_bytes()
    shutil.copy(b, a)
    b.write_bytes(content)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    change(content)
    (folder / MANIFEST).write_text(json.dumps(content))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated shard": (
        lambda f: (f / "img_emb/img_emb_1.npy").write_bytes((f / "img_emb/img_emb_1.npy").read_bytes()[:-3]),
        r"img_emb_1.npy' must hold rows 10 to 19 as written, got something else \(SHA-256 ",
    ),
    "wrong magic": (
        lambda f: (f / "img_emb/img_emb_0.npy").write_bytes(b"x" * 500),
        "img_emb_0.npy' must hold rows 0 to 9 as written, got something else",
    ),
    "one bit": (
        lambda f: (f / "img_emb/img_emb_2.npy").write_bytes((f / "img_emb/img_emb_2.npy").read_bytes()[:-1] + b"\x01"),
        "img_emb_2.npy' must hold rows 20 to 22 as written",
    ),
    "missing shard": (
        lambda f: (f / "img_emb/img_emb_1.npy").unlink(),
        "no file '.*img_emb_1.npy', which should hold rows 10 to 19",
    ),
    "swapped shards": (
        lambda f: swap(f / "img_emb/img_emb_0.npy", f / "img_emb/img_emb_1.npy"),
        "img_emb_0.npy' must hold rows 0 to 9 as written, got what belongs to 'img_emb/img_emb_1.npy'",
    ),
    "swapped metadata": (
        lambda f: swap(f / "metadata/metadata_1.parquet", f / "metadata/metadata_2.parquet"),
        "metadata_1.parquet' must hold rows 10 to 19 as written, got what belongs to 'metadata/metadata_2.parquet'",
    ),
    "manifest cut off": (
        lambda f: (f / MANIFEST).write_text((f / MANIFEST).read_text()[:100]),
        "cannot read '.*manifest.json': ",
    ),
    "manifest of another format": (
        lambda f: edit(f, lambda content: content.update(format="9")),
        "manifest.json' must be a manifest of format 2, got format '9'",
    ),
    "manifest of a newer version": (
        lambda f: edit(f, lambda content: content.update(format=9)),
        "cannot read '.*manifest.json': written by a newer version of ccma_fast, got format 9, which this version",
    ),
    "manifest without shards": (
        lambda f: edit(f, lambda content: content.pop("shards")),
        "manifest.json' is no manifest: 'shards'",
    ),
    "manifest with text for a number": (
        lambda f: edit(f, lambda content: content["shards"][0].update(n_rows="10")),
        "manifest.json' is no manifest: n_rows must be int, got '10'",
    ),
    "manifest without the model": (
        lambda f: edit(f, lambda content: content["encoder"].pop("model")),
        "manifest.json' is no manifest: it does not describe its encoder",
    ),
    "manifest that names a shard twice": (
        lambda f: edit(f, lambda content: content["shards"].append(content["shards"][0])),
        "manifest.json' must name each file once, got 'img_emb/img_emb_0.npy' twice",
    ),
    "manifest that leaves its folder": (
        lambda f: edit(f, lambda content: content["shards"][0].update(file="../x.npy")),
        "manifest.json' must name files in its own folder, got '../x.npy'",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pools(images: Path, pool: Path, clip: str, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "pool"
    shutil.copytree(pool, out)
    change, message = DAMAGES[damage]
    change(out / "student")
    with pytest.raises(cf.FileReadError, match=f"^features: .*{message}"):
        cf.select(out / "student", 3)
    before = files(out / "student")
    with pytest.raises(cf.FileReadError, match=f"^out: .*{message}"):
        cf.extract(images, out, **arguments(clip, teacher=None, class_names=None))
    assert files(out / "student") == before


def test_an_embedding_that_does_not_fit_names_its_image(images: Path, hub: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r":huge' must give numbers that float16 holds, got NaN .* for 'a/0000.jpg'"):
        cf.extract(images, tmp_path, student=f"{hub}:huge", progress=False)


def test_images_that_are_named_twice(images: Path, hub: str, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,x\na.png,1\nb.png,2\na.png,3\n")
    with pytest.raises(cf.FileReadError, match=r"list.csv' must name each image once, got 'a.png' at rows 0 and 2"):
        cf.extract(tmp_path / "list.csv", tmp_path / "pool", student=f"{hub}:tiny")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with tarfile.open(tmp_path / name / "0.tar", "w") as archive:
            add(archive, "1.png", (images / "b/0001.png").read_bytes())
    with pytest.raises(cf.FileReadError, match=r"must name each image once, got '0.tar/1.png' at rows 0 and 1"):
        cf.extract([tmp_path / "one/0.tar", tmp_path / "two/0.tar"], tmp_path / "pool", student=f"{hub}:tiny")
    assert not (tmp_path / "pool").exists()


def test_sources_that_cannot_be_opened(images: Path, hub: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_source("tar", images, tmp_path, paths(), [0] * N)
    content = (tmp_path / "tars" / "00000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) // 2])
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    (tmp_path / "x.zip").touch()
    for source, kind, message in (
        (tmp_path / "empty", cf.FileReadError, "images: no image in '.*empty'"),
        (tmp_path / "cut.tar", cf.FileReadError, r"cannot read '.*cut.tar' as an uncompressed .tar after \d+ images"),
        (tmp_path / "missing.tar", cf.FileReadError, "images: no file '.*missing.tar'"),
        (tmp_path / "missing.csv", cf.FileReadError, "images: no file '.*missing.csv'"),
        (tmp_path / "none.csv", cf.FileReadError, "no column 'image_path' or 'path' .*none.csv', got 'a', 'b'"),
        (
            tmp_path / "x.zip",
            cf.FileReadError,
            "expected a folder, or a .csv, .tsv, .parquet, .txt or .tar file, got '.*x.zip'",
        ),
        (tmp_path / "nowhere", cf.FileReadError, "images: no file or folder '.*nowhere'"),
        ([images, tmp_path / "nowhere"], cf.FileReadError, "images: no file or folder '.*nowhere'"),
        ([images / paths()[0], images], cf.FileReadError, "several files must all be .tar"),
        (3, TypeError, "images must be a path, paths of folders or .tar files or a data set, got int"),
    ):
        with pytest.raises(kind, match=message):
            cf.extract(source, tmp_path / "pool", student=f"{hub}:tiny")
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"student": None, "teacher": None, "class_names": None}, "give student or teacher, got neither"),
        ({"teacher": None}, "class_names need a teacher, got none"),
        ({"student": "no_such_vit"}, "cannot make the vision encoder 'no_such_vit'"),
        ({"student": "torch.hub:nothing"}, r"cannot make the vision encoder .*expected torch.hub:REPOSITORY:ENTRY"),
        ({"student_weights": "some"}, "weights must be one of 'pretrained', 'random', got 'some'"),
        ({"teacher": "ViT-B-32"}, "pretrained must be the tag of the weights of 'ViT-B-32', got None; .*laion2b"),
        ({"teacher": "ViT-B-32", "pretrained": "no-tag"}, "open_clip cannot make 'ViT-B-32' with pretrained='no-tag'"),
        ({"teacher": "No-Model", "pretrained": "random"}, "open_clip cannot make 'No-Model'"),
        ({"templates": "a photo of {c}"}, r"templates must have one \{\}, .*, got 'a photo of \{c\}' at row 0"),
        ({"templates": ["a {}", "none"]}, "templates must have one .* got 'none' at row 1"),
        ({"templates": "imagenet"}, "templates must be one of 'openai', 'simple', got 'imagenet'"),
        ({"precision": "int8"}, "precision must be one of 'fp32', 'fp16', 'bf16', got 'int8'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"class_names": ["cat", ""]}, "class_names must not be empty, got '' at row 1"),
    ],
)
def test_arguments(images: Path, clip: str, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cf.extract(images, tmp_path / "pool", **arguments(clip, **changes))
    assert not (tmp_path / "pool").exists()


def test_a_model_that_gives_no_vectors_and_a_folder_of_something_else(images: Path, hub: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r":maps' must give one vector for each image, got shape \(1, 8, 14, 14\)"):
        cf.extract(images, tmp_path / "pool", student=f"{hub}:maps")
    (tmp_path / "pool" / "student").mkdir(parents=True)
    (tmp_path / "pool" / "student" / "mine.txt").touch()
    with pytest.raises(ValueError, match=r"student' holds files but no manifest; expected a new or empty folder"):
        cf.extract(images, tmp_path / "pool", student=f"{hub}:tiny")


@pytest.mark.parametrize("library", ["open_clip", "timm", "pyarrow"])
def test_a_missing_library_is_named(run_forked: Callable[..., str], images: Path, library: str, tmp_path: Path) -> None:
    printed = run_forked(
        f"import sys; sys.modules[{library!r}] = None\n"
        "import ccma_fast as cf\n"
        f"try: cf.extract({str(images)!r}, {str(tmp_path / 'p')!r}, student_weights='random',"
        f" student={'test_vit' if library == 'timm' else None!r}, teacher='ViT-B-32', pretrained='random')\n"
        "except ImportError as error: print(error)"
    )
    assert f"needs {library} (" in printed
    assert "pip install 'ccma-fast[extract]'" in printed


# --- the program ----------------------------------------------------------------------------------


def test_the_program_extracts_and_selects(
    images: Path, pool: Path, clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("names.json").write_text(json.dumps(NAMES))
    command = ["extract", str(images), "--out", "pool", "--student", "test_vit", "--student-weights", "random"]
    command += ["--image-size", "32", "--teacher", clip, "--class-names", "names.json", "--batch-size", "4"]
    assert main([*command, "--shard-size", "10", "-q"]) == 0
    assert files(Path("pool")) == files(pool)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"{N} images, 0 skipped"
    options = [word for line in printed[1:] for word in line.split()]
    assert options == [
        *("--features", "pool/student", "--teacher-images", "pool/teacher", "--teacher-classes", "pool/classes")
    ]
    assert main(["select", *options, "--budget", "6", "--out", "picks.csv"]) == 0
    header, *rows = Path("picks.csv").read_text().splitlines()
    labelled = [f"{header},label", *(f"{row},{NAMES[i % 3]}" for i, row in enumerate(rows))]
    Path("picks.csv").write_text("\n".join(labelled))  # as a person would, by names
    capsys.readouterr()
    assert main(["select", *options, "--budget", "4", "--labels", "picks.csv", "--out", "more.npy"]) == 0
    err = capsys.readouterr().err
    for expected in ("the teacher on the labelled rows:", "of 6 labelled rows", "6 labelled, "):
        assert expected in err
    assert "Warning" not in err
    taken = {int(row.split(",")[1]) for row in rows}
    assert len(taken | set(np.load("more.npy").tolist())) == 10


def test_help_of_extract(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", "--help"]) == 0
    text = capsys.readouterr().out
    options = "--student --student-weights --image-size --teacher --pretrained --class-names --templates --normalize "
    options += "--precision --device --batch-size --workers --shard-size --out --quiet --image-suffixes "
    options += "--labels-from-folders"
    for expected in (*options.split(), "hf-hub:", "local-dir:", "torch.hub:", "dinov2", "openai", "ccma-fast[extract]"):
        assert expected in text, expected
    assert main(["extract", "x"]) == 2
    assert "the following arguments are required: --out" in capsys.readouterr().err
