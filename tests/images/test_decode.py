"""Which files are decoded, by what, and what a decoder that crashes, hangs or runs out of memory costs: one image."""

from __future__ import annotations

import importlib
import io
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageFile, PngImagePlugin

import ccma_fast as cf
from ccma_fast.images import decoder_processes
from ccma_fast.images.decode import PICTURES, UnreadableImageError, decoded, formats_read, read_image, to_rgb
from ccma_fast.images.decoder_processes import Decoders
from ccma_fast.images.encoders import Encoder
from ccma_fast.images.image_files import suffixes_of_images
from ccma_fast.images.preprocessing import preprocessed
from ccma_fast.images.sources import open_images
from ccma_fast.pool.open import open_rows
from ccma_fast.system.machine import MachineMemory

# What a caller may have: a plugin of Pillow, a preprocessing, a data set. None needs PyTorch, which takes seconds.
OWN = '''
import os, signal, sys, time
import numpy as np
from PIL import Image, ImageFile


class ImageOfText(ImageFile.ImageFile):
    """A shade, or the misfortune that befalls its decoder."""

    def _open(self):
        what, _, file = self.fp.read().decode().partition(" ")[2].partition(" ")
        if what == "once":
            what = "kill" if not os.path.exists(file) else "70"
            open(file, "w").close()
        if what == "abort":
            os.abort()
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            os._exit(3)
        while what == "loop":
            pass
        if what == "memory":
            np.ones(1 << 31, np.uint8)
        self._mode, self._size = "L", (8, 8)
        self.tile = []
        self.im = Image.core.fill("L", (8, 8), int(what))

    def load(self):
        return None


def accepts(head):
    return head.startswith(b"OWN ")


def register():
    Image.register_open("OWN", ImageOfText, accepts)
    Image.register_extension("OWN", ".own")


def small(image):
    return np.asarray(image.resize((3, 3)), np.float32)


def tensor(image):
    """In the caller's process, which has PyTorch."""
    return sys.modules["torch"].from_numpy(small(image)) if "torch" in sys.modules else small(image)


def limit(image):
    return np.array([Image.MAX_IMAGE_PIXELS or -1, os.getpid()])


def squares(number, left_out, watch):
    watch.begin(number)
    return np.full(1000, number**2), left_out


def dies_before_it_begins(number, left_out, watch):
    os._exit(9)


def sleeps(number, left_out, watch):
    watch.begin(number)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    time.sleep(1000)
'''


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the caller, whose plugin is registered."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "own_of_decode.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module("own_of_decode")
    Image.init()
    for name in ("ID", "OPEN", "EXTENSION"):  # what is registered there is forgotten afterwards
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())
    module.register()
    yield module
    del sys.modules["own_of_decode"]


def pictures(folder: Path, shades: list[str]) -> Any:
    for i, shade in enumerate(shades):
        (folder / f"{i:03}.own").write_text(f"OWN {shade}")
    return open_images(folder)


def made(source: Any, own: ModuleType, workers: int) -> tuple[bytes, list[int], dict[int, str]]:
    """What batches of three hold together: the bytes of their stacks, the images, and why not the others."""
    numbers = range(len(source.ids))
    batches = [([*numbers[start : start + 3]], [0]) for start in numbers[::3]]
    found = list(preprocessed(source, batches, [own.small], workers))
    for batch, (items, _) in zip(found, batches, strict=True):
        assert sorted([*batch.items, *batch.failures]) == items
    return (
        b"".join(stack.numpy().tobytes() for batch in found for stack in batch.inputs),
        [item for batch in found for item in batch.items],
        {item: why.reason for batch in found for item, why in batch.failures.items()},
    )


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind, **options)
    return handle.getvalue()


def seen(content: bytes) -> np.ndarray | str:
    """The pixels, or why there are none."""
    try:
        return np.asarray(decoded(lambda: read_image(io.BytesIO(content))))
    except UnreadableImageError as error:
        return str(error)


# --- formats --------------------------------------------------------------------------------------


def test_no_program_is_started_for_an_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for EPS, nor for what holds one, whatever the file is called."""
    trace = tmp_path / "trace"
    for name in ("gs", "djpeg", "xdg-open", "display"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {trace}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    eps = saved("EPS", Image.new("RGB", (8, 8)))
    with suppress(Exception), Image.open(io.BytesIO(eps)) as image:
        image.load()  # what Pillow does with it
    assert "gs" in trace.read_text()
    trace.unlink()
    iptc = b"\x1c\x03\x3c\x00\x02\x00\x00\x1c\x08\x0a\x00\x04" + eps
    for content in (eps, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 12, len(eps)) + eps, iptc):
        (tmp_path / "x.jpg").write_bytes(content)
        assert seen(content) == "no image of a format that is read"
        with pytest.raises(UnreadableImageError):
            open_images(tmp_path).load(0)
    assert not trace.exists()


def test_formats_are_a_closed_list(monkeypatch: pytest.MonkeyPatch, own: ModuleType) -> None:
    """A plugin that comes with a later Pillow is not let in by itself; one of the caller is."""

    class Later(ImageFile.ImageFile):
        __module__ = "PIL.LaterImagePlugin"

    Image.register_open("LATER", Later)
    Image.register_extension("LATER", ".later")
    assert set(formats_read()) == (PICTURES & set(Image.OPEN)) | {"OWN"}
    suffixes = suffixes_of_images()
    assert {".jpg", ".png", ".tif", ".webp", ".own"} <= suffixes
    assert not {".later", ".eps", ".pdf", ".psd", ".ico", ".fits"} & suffixes


# --- limits ---------------------------------------------------------------------------------------


def test_more_pixels_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing(Image.Image):
        def load(self) -> None:
            self._size = (20, 20)

    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert to_rgb(Image.new("L", (10, 10))).size == (10, 10)
    growing = Growing()
    growing._mode, growing._size = "L", (10, 10)
    for image, size in ((Image.new("L", (11, 10)), "11 x 10"), (growing, "20 x 20")):
        with pytest.raises(UnreadableImageError, match=f"^{size} pixels; expected at most 100, Pillow's MAX_IMAGE_PIX"):
            to_rgb(image)
    assert "DecompressionBombWarning" in str(seen(saved("PNG", Image.new("L", (11, 10)))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert to_rgb(Image.new("L", (11, 10))).size == (11, 10)


def test_texts_and_profiles_of_png_files_are_bounded() -> None:
    content = saved("PNG", Image.new("L", (8, 8), 50))
    packed = zlib.compress(bytes(PngImagePlugin.MAX_TEXT_CHUNK + 1))
    for kind, head in ((b"zTXt", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0"), (b"iCCP", b"key\0\0")):
        data = head + packed
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        assert "Decompressed data too large" in str(seen(content[:33] + chunk + content[33:]))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_caller_takes_for_whole(
    tmp_path: Path, own: ModuleType, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "0.png").write_bytes(saved("PNG", Image.effect_noise((60, 60), 50))[:-900])
    (tmp_path / "1.jpg").write_bytes(saved("JPEG", Image.effect_noise((60, 60), 50))[:-900])
    (tmp_path / "2.png").write_bytes(saved("PNG", Image.new("L", (8, 8))))
    assert made(open_images(tmp_path), own, workers)[1] == [2]
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("most", [1234, pytest.param(None, marks=pytest.mark.slow)])
def test_the_limit_of_the_caller_holds_in_other_processes(
    tmp_path: Path, own: ModuleType, monkeypatch: pytest.MonkeyPatch, most: int | None
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
    (batch,) = preprocessed(pictures(tmp_path, ["1"]), [([0], [0])], [own.limit], 1)
    limit, process = batch.inputs[0][0].tolist()
    assert limit == (most or -1)
    assert process != os.getpid()


# --- files that were cut off, or not filled --------------------------------------------------------


def noise(mode: str, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    slope = np.add.outer(np.arange(120), np.arange(160))[:, :, None] // 2 + np.array([0, 40, 80])
    image = Image.fromarray((slope + rng.integers(0, 60, slope.shape)).astype(np.uint8))
    return image.quantize(64) if mode == "P" else image.convert(mode)


TWO: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (160, 120))]}
COMPRESSED = [
    ("JPEG", "RGB", {}),
    ("JPEG", "L", {"progressive": True, "optimize": True}),
    ("MPO", "RGB", TWO),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGB", TWO),
    ("AVIF", "RGB", {}),
    ("AVIF", "RGB", TWO),
    ("JPEG2000", "RGB", {}),
    ("JPEG2000", "RGB", {"no_jp2": True, "irreversible": True, "quality_layers": [20]}),
    ("GIF", "P", {}),
    ("PNG", "RGB", {}),
    ("QOI", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"compression": "jpeg"}),
    ("TIFF", "1", {"compression": "group4"}),
]
PLAIN = [("BMP", "RGB", {}), ("DIB", "RGB", {}), ("PPM", "RGB", {}), ("PPM", "1", {}), ("SGI", "RGB", {})]
PLAIN += [("TGA", "RGB", {}), ("TGA", "RGB", {"compression": "tga_rle"}), ("TIFF", "RGB", {})]


def content_of(kind: str, mode: str, options: dict[str, Any]) -> bytes:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    return saved(kind, noise(mode), **options)


def cuts(n_bytes: int) -> list[int]:
    return sorted({n_bytes * i // 20 for i in range(1, 20)} | {n_bytes - n for n in (1, 2, 5, 20, 100, 600)})


@pytest.mark.parametrize(("kind", "mode", "options"), COMPRESSED + PLAIN)
def test_what_is_cut_off_is_never_taken_for_whole(kind: str, mode: str, options: dict[str, Any]) -> None:
    content = content_of(kind, mode, options)
    whole = seen(content)
    assert isinstance(whole, np.ndarray), whole
    lost = 0
    for n in cuts(len(content)):
        if isinstance(found := seen(content[:n]), str):
            lost += 1
        else:  # only what is behind the first image's pixels is missing
            np.testing.assert_array_equal(found, whole)
    assert lost >= 8


@pytest.mark.parametrize(("kind", "mode", "options"), COMPRESSED)
def test_what_was_never_filled_is_told(kind: str, mode: str, options: dict[str, Any]) -> None:
    """A copy that broke off after the file's size was reserved. Nobody can tell where pixels may be zeros."""
    content = content_of(kind, mode, options)
    whole = seen(content)
    for n in cuts(len(content) - 100):
        if isinstance(found := seen(content[:n].ljust(len(content), b"\0")), np.ndarray):
            np.testing.assert_array_equal(found, whole)
    assert isinstance(seen(content[: len(content) // 4].ljust(len(content), b"\0")), str)


def test_the_zeros_are_counted() -> None:
    content = content_of("JPEG", "RGB", {})
    assert seen(content[:-777].ljust(len(content), b"\0")) == "its last 777 bytes are zeros: half copied?"


@pytest.mark.parametrize(("kind", "mode", "options"), COMPRESSED)
def test_zeros_behind_a_whole_image_do_no_harm(kind: str, mode: str, options: dict[str, Any]) -> None:
    content = content_of(kind, mode, options)
    found = seen(content + bytes(4096))
    if kind != "AVIF":  # whose decoder takes them for a damaged box
        np.testing.assert_array_equal(found, seen(content))
    assert "half copied" not in str(found)


def test_a_thumbnail_does_not_end_its_image() -> None:
    thumbnail, exif = saved("JPEG", noise("L", 1)), Image.Exif()
    exif[0x010E] = "x"
    content = saved("JPEG", noise("RGB"), exif=exif.tobytes() + thumbnail)
    assert b"\xff\xd9" in content[:-600]
    assert "half copied" in str(seen(content[:-600].ljust(len(content), b"\0")))


# --- processes ------------------------------------------------------------------------------------

SHADES = ["10", "20", "30", "40", "50", "60", "80", "90"]


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_the_same_bytes_in_any_process(tmp_path: Path, own: ModuleType, workers: int) -> None:
    source = pictures(tmp_path, [*SHADES, "none"])
    assert made(source, own, workers) == made(source, own, 0)


def test_what_processes_cannot_read_is_listed_and_shifts_no_row(
    tmp_path: Path, own: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool that is extracted with them is that of one process."""
    description = {"library": "none", "model": "mean", "weights": "none", "weights_sha256": "0"}
    encoder = Encoder(None, own.tensor, lambda batch: batch.flatten(1), description, "cpu")
    monkeypatch.setattr(importlib.import_module("ccma_fast.images.extract"), "vision_encoder", lambda *_, **__: encoder)
    pictures(tmp_path, [*SHADES[:3], "none", *SHADES[3:]])
    given: dict[str, Any] = {"batch_size": 2, "shard_size": 3, "progress": False}
    pools = []
    for workers in (0, 2):
        found = cf.extract(tmp_path, tmp_path / f"pool{workers}", workers=workers, **given)
        assert (found.n_rows, list(found.skipped)) == (len(SHADES), ["003.own"])
        pools.append(open_rows(found.student, "x").float32())
    np.testing.assert_array_equal(pools[1], pools[0])
    np.testing.assert_array_equal(pools[0][:, 0], np.array(SHADES, np.float32))


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_crash_costs_the_image_that_it_is_of(
    tmp_path: Path, own: ModuleType, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(decoder_processes, "_SECONDS", 1)
    monkeypatch.setattr(decoder_processes, "_BYTES_BESIDES", 300_000_000)
    monkeypatch.setattr(decoder_processes, "machine_memory", lambda: MachineMemory(0, 0))
    misfortunes = ["abort", "kill", "exit", "loop", "memory", f"once {tmp_path / 'done'}"]
    folders = [tmp_path / name for name in ("whole", "with")]
    for folder in folders:
        folder.mkdir()
    shades, names = [*SHADES, "70"], [*SHADES[:4], *misfortunes[:3], *SHADES[4:6], *misfortunes[3:], *SHADES[6:]]
    stacks, items, lost = made(pictures(folders[1], names), own, workers)
    assert {names[item]: why for item, why in lost.items()} == {
        "abort": "its decoder crashed: its process was ended by signal 6 (SIGABRT)",
        "kill": "its decoder crashed: its process was ended by signal 9 (SIGKILL)",
        "exit": "its decoder crashed: its process ended with exit code 3",
        "loop": "it was not decoded after 1 s",
        "memory": "it takes more than the 0.3 GB of memory that its decoder may have",
    }
    assert [names[item] for item in items] == [name for name in names if name.isdecimal() or name.startswith("once")]
    wanted = sorted(shades, key=int)
    assert stacks == made(pictures(folders[0], wanted), own, 0)[0]


def test_results_come_in_order_and_only_so_far_ahead(own: ModuleType, tmp_path: Path) -> None:
    with Decoders(own.squares, [[i] for i in range(50)], lambda item: None, 3) as decoders:
        for number, ((squares, left_out), lost) in enumerate(decoders.results()):
            np.testing.assert_array_equal(squares, np.full(1000, number**2))
            assert (left_out, lost) == ([], {})
            assert sum(len(worker.numbers) for worker in decoders._workers) <= 6
    assert decoders._server.returncode == 0
    assert not any(os.path.exists(f"/proc/{worker.pid}") for worker in decoders._workers)


def test_processes_that_die_without_an_image(own: ModuleType) -> None:
    with (
        Decoders(own.dies_before_it_begins, [[0]], lambda item: None, 1) as decoders,
        pytest.raises(ChildProcessError, match="end before they read one: its process ended with exit code 9"),
    ):
        next(decoders.results())
    with Decoders(own.squares, [[i] for i in range(9)], lambda item: None, 1) as decoders:
        results = decoders.results()
        next(results)
        for pid in (decoders._server.pid, decoders._workers[0].pid):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"starts those that decode has died \(exit code -9\)"):
            list(results)


def test_what_another_process_cannot_load_is_decoded_here(
    tmp_path: Path, own: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = pictures(tmp_path, SHADES)
    expected = made(source, own, 0)
    small = own.small
    monkeypatch.setattr(sys.modules["__main__"], "small", small, raising=False)
    for preprocess, why in ((lambda image: small(image), "<lambda>"), (small, "__main__")):
        monkeypatch.setattr(small, "__module__", "__main__")
        monkeypatch.setattr(own, "small", preprocess)
        with pytest.warns(UserWarning, match=f"decoded in this process, which .*{why}.*; expected a data set and plug"):
            assert made(source, own, 1) == expected


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import own_of_decode
from ccma_fast.images.decoder_processes import Decoders

print("started", flush=True)
with Decoders(own_of_decode.sleeps, [[0], [1]], lambda item: None, 2) as decoders:
    results = decoders.results()
    started = decoders._started
    def told():
        worker = started()
        print(decoders._server.pid, worker.pid, flush=True)
        return worker
    decoders._started = told
    list(results)
"""


@pytest.mark.parametrize("how", ["kill", "interrupt", pytest.param("terminate", marks=pytest.mark.slow)])
def test_no_process_outlives_its_caller(own: ModuleType, tmp_path: Path, how: str) -> None:
    """A script, without the guard that multiprocessing asks for, whose decoders would sleep for minutes."""
    (tmp_path / "script.py").write_text(SCRIPT)
    folder = os.path.dirname(str(own.__file__))
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        assert script.stderr is not None
        lines = [script.stdout.readline() for _ in range(3)]
        assert lines[0] == "started\n"
        pids = {int(pid) for line in lines[1:] for pid in line.split()}
        assert len(pids) == 3
        if how == "interrupt":  # as a terminal does, to all
            os.killpg(script.pid, signal.SIGINT)
        else:
            os.kill(script.pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
        assert script.stdout.read() == ""  # all that have it open are gone
        assert script.stderr.read().count("Traceback") == (how == "interrupt")
    begin = time.monotonic()
    while any(map(is_running, pids)):
        assert time.monotonic() - begin < 30
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
