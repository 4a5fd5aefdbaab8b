"""An extraction by many ranks: the files of one process, byte for byte, whoever dies meanwhile; and what is refused."""

from __future__ import annotations

import builtins
import errno
import fcntl
import importlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ccma_fast as cf
from ccma_fast.errors import RankError
from ccma_fast.images.encoders import Encoder
from ccma_fast.pool.manifest import Manifest, Shard
from ccma_fast.pool.manifest_file import read_manifest
from ccma_fast.system.ranks import Ranks

parquet = pytest.importorskip("pyarrow.parquet")
extract_module = importlib.import_module("ccma_fast.images.extract")
cooperation = importlib.import_module("ccma_fast.images.cooperation")

N = 23
GIVEN: dict[str, Any] = {"shard_size": 3, "batch_size": 2, "workers": 0, "progress": False}


class Meeting:
    """Ranks as threads of this process, of which one runs at a time: until it waits for a message, or looks for one."""

    def __init__(self, size: int) -> None:
        self.hosts = ["ab"[rank % 2] for rank in range(size)]
        self.baton = threading.Condition()
        self.messages: dict[tuple[int, int], bytes] = {}
        self.failure: str | None = None
        self.waiting: dict[int, Callable[[], bool]] = {}
        self.running: int | None = None

    def hand_on(self, rank: int) -> None:
        """The next rank runs that can; the baton is held."""
        turns = [(rank + 1 + i) % len(self.hosts) for i in range(len(self.hosts))]
        ready = (r for r in turns if r in self.waiting and (self.failure is not None or self.waiting[r]()))
        self.running = next(ready, None)
        self.baton.notify_all()

    def run(self, work: Callable[[Ranks], Any]) -> list[Any]:
        """What each rank returns or raises."""
        results: list[Any] = [None] * len(self.hosts)

        def own(rank: int) -> None:
            member = MEMBERS[threading.current_thread().name] = Member(self, rank)
            member.begin()
            try:
                results[rank] = work(member)
            except BaseException as error:
                results[rank] = error
            finally:
                member.end()

        threads = [threading.Thread(target=own, args=(rank,), name=f"rank {rank}") for rank in range(len(self.hosts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        return results


class Member(Ranks):
    """A rank of a meeting."""

    def __init__(self, meeting: Meeting, rank: int) -> None:
        super().__init__(rank, meeting.hosts, None)
        self._meeting, self._number = meeting, 0

    def begin(self) -> None:
        self._wait(lambda: True)

    def end(self) -> None:
        with self._meeting.baton:
            self._meeting.hand_on(self.rank)

    def _wait(self, until: Callable[[], bool]) -> None:
        meeting = self._meeting
        with meeting.baton:
            meeting.waiting[self.rank] = until
            if meeting.running in (None, self.rank):
                meeting.hand_on(self.rank)
            assert meeting.baton.wait_for(lambda: meeting.running == self.rank, timeout=50), "nobody goes on"
            del meeting.waiting[self.rank]
        if meeting.failure is not None:
            raise RankError(meeting.failure, 0)

    def _message(self, senders: range, value: Any) -> list[Any]:
        self._number += 1
        self._meeting.messages[self.rank, self._number] = pickle.dumps(value)
        keys = [(sender, self._number) for sender in senders]
        self._wait(lambda: all(key in self._meeting.messages for key in keys))
        return [pickle.loads(self._meeting.messages[key]) for key in keys]

    def broadcast(self, value: Any = None) -> Any:
        return self._message(range(1), value)[0]

    def gather(self, value: Any) -> list[Any] | None:
        found = self._message(range(self.size if self.rank == 0 else 0), value)
        return found if self.rank == 0 else None

    def check(self) -> None:
        self._wait(lambda: True)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            if self._meeting.failure is None:
                self._meeting.failure = f"{self.names[self.rank]}: {type(error).__name__}: {error}"
            raise


def brightness(image: Image.Image) -> torch.Tensor:
    """What is known of an image."""
    return torch.tensor([float(np.asarray(image).mean()), 1.0])


# How often each image was embedded, by its grey; how many by each rank; and what comes of some.
EMBEDDED, SHARES = Counter[int](), Counter[str]()
FAILING: dict[int, Callable[[], float]] = {}
MEMBERS: dict[str, Member] = {}


def encoder(model: str, sign: float) -> Encoder:
    def encode(batch: torch.Tensor) -> torch.Tensor:
        greys = [grey for grey in batch[:, 0].int().tolist() if grey]  # 0 is what tells the number of columns
        scale = torch.ones(len(batch), 1)
        for grey in FAILING.keys() & {*greys}:
            scale[greys.index(grey)] = FAILING[grey]()
        EMBEDDED.update(greys)
        SHARES[threading.current_thread().name] += len(greys)
        return batch * torch.tensor([sign, 1.0]) * scale

    description = {"library": "none", "model": model, "weights": "none", "weights_sha256": model}
    return Encoder(None, brightness, encode, description, "cpu")


def stub_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """A student that sees the brightness, and a teacher that sees the darkness."""
    monkeypatch.setattr(extract_module, "vision_encoder", lambda *_, **__: encoder("light", 1.0))
    monkeypatch.setattr(extract_module, "open_clip_encoder", lambda *_, **__: encoder("dark", -1.0))


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    stub_encoders(monkeypatch)
    for noted in (EMBEDDED, SHARES, FAILING):
        noted.clear()


def failing(text: str) -> float:
    raise RuntimeError(text)


def picture(grey: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), grey).save(file, "png")
    return file.getvalue()


def save(folder: Path, *greys: int) -> Path:
    """Files of their own time each, for all are of one size; in two folders, the classes."""
    for grey in greys:
        file = folder / "ab"[grey % 3 == 0] / f"{grey:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture(grey))
        os.utime(file, (grey, grey))
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Images of which some cannot be read, a whole shard's among them."""
    folder = save(tmp_path / "in", *range(10, 10 + N))
    for grey in (13, 14, 16, 17, 30):
        damage(folder, grey)
    return folder


def damage(folder: Path, grey: int) -> None:
    file = folder / "ab"[grey % 3 == 0] / f"{grey:03d}.png"
    file.write_bytes(picture(grey)[:40])
    os.utime(file, (grey, grey))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def by_ranks(size: int, source: Any, out: Any, **options: Any) -> list[Any]:
    """What each rank returns or raises."""

    def work(ranks: Ranks) -> Any:
        own = source[ranks.rank] if isinstance(source, list) else source
        place = out[ranks.rank] if isinstance(out, list) else out
        return cf.extract(own, place, group=ranks, **GIVEN | options)

    return Meeting(size).run(work)


def extracted(size: int, source: Any, out: Path, **options: Any) -> Any:
    """By one process where `size` is 0."""
    if size == 0:
        return cf.extract(source, out, **GIVEN | options)
    results = by_ranks(size, source, out, **options)
    assert all(isinstance(result, cf.Extraction) for result in results), results
    assert all(repr(result) == repr(results[0]) and result.skipped == results[0].skipped for result in results)
    return results[0]


# --- the same files -------------------------------------------------------------------------------


SIZES = (1, 3, 20)  # of 8 shards


def told(found: cf.Extraction) -> dict[str, Any]:
    """All that an extraction tells, but for where its folders are."""
    folders = ("student", "teacher", "classes")
    return {name: value is None if name in folders else value for name, value in vars(found).items()}


def test_files_are_those_of_one_process(images: Path, tmp_path: Path) -> None:
    """With all that can become of a pool: another encoder later, images that are added, renamed, gone and repaired."""

    def at_all_sizes(**options: Any) -> Any:
        alone = extracted(0, images, tmp_path / "out0", **options)
        for size in SIZES:
            many = extracted(size, images, tmp_path / f"out{size}", **options)
            assert tree(tmp_path / f"out{size}") == tree(tmp_path / "out0"), size
            assert told(many) == told(alone), size
        return alone

    options: dict[str, Any] = {"labels_from_folders": True}
    at_all_sizes(**options)
    at_all_sizes(**options, teacher="dark")
    save(images, *range(50, 60), 13, 14, 17)
    (images / "a" / "011.png").rename(images / "a" / "other.png")
    (images / "b" / "012.png").unlink()
    damage(images, 61)
    at_all_sizes(**options)
    at_all_sizes(**options, teacher="dark")
    save(images, 16, 70)
    found = at_all_sizes(**options, teacher="dark", batch_size=3, shard_size=4)
    assert found.n_rows == N - 5 + 10 + 3 + 2
    assert (len(found.skipped), found.repaired, len(found.vanished)) == (2, ["a/016.png"], 1)
    manifest = read_manifest(found.student, "x")
    assert manifest is not None
    assert manifest.renamed == {"a/other.png": 1}


def test_names_of_classes_are_embedded_by_the_first_rank(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def features(teacher: Encoder, names: list[str], *_: Any) -> tuple[np.ndarray, Manifest]:
        SHARES[f"classes by {threading.current_thread().name}"] += 1
        shard = Shard("", "", len(names), "", "", "")
        manifest = Manifest(teacher.description, [], "fp32", True, "float32", 2, (shard,), class_names=names)
        return np.eye(len(names), 2, dtype=np.float32), manifest

    monkeypatch.setattr(extract_module, "class_features", features)
    monkeypatch.setattr(extract_module, "check_prompts", lambda *_: None)
    for size in (0, 3):
        found = extracted(size, images, tmp_path / f"out{size}", teacher="dark", class_names=["jay", "tit"])
        assert found.classes == tmp_path / f"out{size}" / "classes"
    assert tree(tmp_path / "out0") == tree(tmp_path / "out3")
    assert {name: n for name, n in SHARES.items() if name.startswith("classes")} == {
        "classes by MainThread": 1,
        "classes by rank 0": 1,
    }


def test_every_rank_has_its_share(images: Path, tmp_path: Path) -> None:
    extracted(3, images, tmp_path / "out")
    assert max(SHARES.values()) - min(SHARES[f"rank {rank}"] for rank in range(3)) <= 2 * GIVEN["shard_size"]


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "then"), [(3, 2), (2, 0), (3, 7)])
def test_what_is_finished_is_not_embedded_again(images: Path, tmp_path: Path, size: int, then: int) -> None:
    expected = extracted(0, images, tmp_path / "whole")
    EMBEDDED.clear()
    FAILING[28] = lambda: failing("out of memory")
    results = by_ranks(size, images, tmp_path / "out")
    (own,) = (result for result in results if not isinstance(result, RankError))
    assert isinstance(own, RuntimeError)
    text = r"rank \d on host [ab]: RuntimeError: 'light' cannot embed 2 images from 'a/028.png' on: out of memory"
    for result in results:
        if result is not own:
            assert re.fullmatch(text, str(result)), result
    FAILING.clear()
    before = EMBEDDED.copy()
    finished = [json.loads(file.read_text()) for file in (tmp_path / "out" / ".extraction").glob("*.json")]
    manifest = read_manifest(tmp_path / "out" / "student", "x")
    assert manifest is not None
    n_finished = manifest.n_rows + sum(part["shards"]["student"]["n_rows"] for part in finished)
    assert n_finished >= 4
    assert repr(extracted(then, images, tmp_path / "out")).replace("out", "whole") == repr(expected)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert EMBEDDED.total() - before.total() == expected.n_rows - n_finished


def test_finished_shards_of_changed_images_are_made_anew(images: Path, tmp_path: Path) -> None:
    def fail_last() -> float:
        while len([*(tmp_path / "out" / ".extraction").glob("*.json")]) < 4:
            MEMBERS[threading.current_thread().name].check()
        return failing("of the first shard")

    FAILING[11] = fail_last
    by_ranks(3, images, tmp_path / "out")
    FAILING.clear()
    assert not [*(tmp_path / "out" / "student" / "img_emb").iterdir()]
    for grey in (19, 20):  # of other sizes
        file = images / "ab"[grey % 3 == 0] / f"{grey:03d}.png"
        Image.new("L", (40, 40), 255 - grey).save(file)
    for name in ("out", "whole"):
        EMBEDDED.clear()
        extracted(2, images, tmp_path / name)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_number_that_does_not_fit_names_rank_and_image(images: Path, tmp_path: Path) -> None:
    FAILING[21] = lambda: float("nan")
    errors = by_ranks(2, images, tmp_path / "out")
    texts = sorted(str(error) for error in errors)
    assert texts[0].startswith("'light' must give numbers that float16 holds, got NaN or infinity for 'b/021.png'")
    assert re.match(r"rank \d on host [ab]: ValueError: 'light' must give numbers .* for 'b/021.png'", texts[1])


def test_a_file_that_one_rank_cannot_read(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.open

    def opened(file: Any, *arguments: Any, **options: Any) -> Any:
        if threading.current_thread().name == "rank 1" and str(file).endswith("019.png"):
            raise OSError(errno.EIO, "Input/output error")
        return own(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", opened)
    error, other = by_ranks(2, images, tmp_path / "out", shard_size=2)
    text = (
        "images: rank 1 on host b cannot read 'a/019.png', which rank 0 on host a can (OSError: [Errno 5] Input/output "
        "error); expected all ranks to see the same files"
    )
    assert str(error) == text
    assert str(other) == f"rank 0 on host a: FileReadError: {text}"
    monkeypatch.undo()
    stub_encoders(monkeypatch)
    extracted(2, images, tmp_path / "out", shard_size=2)
    extracted(0, images, tmp_path / "whole", shard_size=2)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


# --- what is refused ------------------------------------------------------------------------------


def refused(results: list[Any]) -> str:
    """The error of the rank that is to blame; the others have its name."""
    assert all(isinstance(result, Exception) for result in results), results
    (own,) = (result for result in results if not isinstance(result, RankError))
    assert all(str(own) in str(result) for result in results)
    assert not SHARES.total()
    return str(own)


def listed(folder: Path, names: list[str]) -> Path:
    file = folder / f"{len([*folder.glob('*.csv')])}.csv"
    file.write_text("".join(f"{name},{name[0]}\n" for name in ["image_path", *names]).replace(",i", ",label", 1))
    return file


def test_other_images_on_one_rank(images: Path, tmp_path: Path) -> None:
    names = sorted(str(file.relative_to(images)) for file in images.rglob("*.png"))
    whole = listed(images, names)
    for others, text in (
        ([*names[:5], *names[6:]], f"got {names[5]!r} on rank 0 on host a, which rank 2 on host a does not have"),
        ([*names, "c.png"], "got 'c.png' on rank 2 on host a, which rank 0 on host a does not have"),
        (
            [names[1], names[0], *names[2:]],
            f"in the same order, got {names[0]!r} at row 0 on rank 0 on host a and {names[1]!r} on rank 2 on host a",
        ),
    ):
        found = refused(by_ranks(3, [whole, whole, listed(images, others)], tmp_path / "out"))
        assert found == f"images must be the same on all ranks, {text}"
    labelled = listed(images, names)
    labelled.write_text(labelled.read_text().replace(",a", ",x"))
    found = refused(by_ranks(2, [whole, labelled], tmp_path / "out"))
    assert (
        found
        == "images must have the same labels on all ranks, got others on rank 1 on host b than on rank 0 on host a"
    )
    copied = tmp_path / "elsewhere" / "in"
    shutil.copytree(images, copied)
    found = refused(by_ranks(2, [images, copied], tmp_path / "out"))
    assert found.startswith(f"images must be in the same folders on all ranks, got [{str(images)!r}] on rank 0")
    (copied / names[7]).write_bytes(picture(99) + b"more")
    found = refused(by_ranks(2, [images, copied], tmp_path / "out"))
    assert found.startswith(f"images must have the same files on all ranks, got {names[7]!r} with ")
    assert " bytes, written " in found


def test_a_pool_that_one_rank_does_not_see(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cooperation, "_SECONDS_UNSEEN", 0.2)
    out = tmp_path / "out"
    found = refused(by_ranks(3, images, [out, out, tmp_path / "other"]))
    assert found == (
        f"out must be on a file system that all ranks share, but rank 2 on host a does not see in "
        f"{str(tmp_path / 'other')!r} what rank 0 on host a writes there"
    )
    assert [file.name for file in out.iterdir()] == [".lock"]
    with open(out / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process is working in" in refused(by_ranks(2, images, out))


def test_another_encoder_on_one_rank(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(*_: Any, **__: Any) -> Encoder:
        return encoder("light" if threading.current_thread().name == "rank 0" else "bright", 1.0)

    monkeypatch.setattr(extract_module, "vision_encoder", made)
    found = refused(by_ranks(2, images, tmp_path / "out"))
    sides = (f"student {name!r} in fp32 (SHA-256 {name})" for name in ("light", "bright"))
    text = "got {} on rank 0 on host a and {} on rank 1 on host b".format(*sides)
    assert found == f"encoders must be the same on all ranks, {text}"
    monkeypatch.setattr(extract_module, "vision_encoder", lambda *_, **__: encoder("light", 1.0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: int(threading.current_thread().name[-1]) + 1)
    found = refused(by_ranks(2, images, tmp_path / "out"))
    assert re.fullmatch(
        r"devices must be the same on all ranks, got cpu \(.*, 1 threads of PyTorch\) on rank 0 on host a and "
        r"cpu \(.*, 2 threads of PyTorch\) on rank 1 on host b",
        found,
    )


# --- processes ------------------------------------------------------------------------------------

STUB = """
import sys
import numpy as np
import torch
from ccma_fast.images import encoders, extract as _

def encode(batch):
    return batch

def made(*_, **__):
    description = {"library": "none", "model": "light", "weights": "none", "weights_sha256": "light"}
    grey = lambda image: torch.tensor([float(np.asarray(image).mean()), 1.0])
    grey.__module__, grey.__qualname__ = "stub", "grey"  # wherever it is defined
    return encoders.Encoder(None, grey, lambda batch: encode(batch), description, "cpu")

sys.modules["ccma_fast.images.extract"].vision_encoder = made
"""

SERVER = (
    STUB
    + """
import json, os, time
import torch.distributed as dist
import pyarrow.dataset, pyarrow.parquet
from PIL import Image
import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.system.ranks import Ranks

def encode(batch):
    time.sleep(0.01)
    if waits and os.fstat(log).st_size >= 90:  # some 30 images, fewer than are each rank's
        time.sleep(600)
    os.write(log, "".join(f"{grey}\\n" for grey in batch[:, 0].int().tolist() if grey).encode())
    return batch

def command(rank, size, images, out):
    of_torchrun = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    os.environ.update({name: str(value) for name, value in of_torchrun.items()})
    os.dup2(os.open(f"{out}.stdout", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    sizes = ["--shard-size", "3", "--batch-size", "2", "--workers", "0"]
    assert main(["extract", images, "--out", out, "-q", *sizes]) == 0
    sys.stdout.flush()
    sys.stderr.flush()

def work(rank, size, port, images, out, is_command):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if is_command:
        return command(rank, size, images, out)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    ranks = Ranks.of_group(silence=4) if size == 3 else None
    group = ranks or dist.group.WORLD
    cf.extract(images, out, group=group, shard_size=3, batch_size=2, workers=0, progress=False)
    if ranks is not None:
        ranks.close()

pyarrow.array([""])  # imports pandas, where it is: once, not in each process
Image.init()
for line in sys.stdin:
    size, given, log, errors, victim = json.loads(line)
    log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    errors = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    children = []
    for rank in range(size):
        pid = os.fork()
        if pid == 0:
            code, waits = 2, rank == victim
            os.dup2(errors, 2)
            try:
                work(rank, size, *given)
                code = 0
            except Exception as error:
                os.write(errors, f"{type(error).__name__}: {error}\\n".encode())
            finally:
                os._exit(code)
        children.append(pid)
    print(json.dumps(children), flush=True)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    print(json.dumps(codes), flush=True)
"""
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def jobs(start_forked: Callable[..., Any]) -> Iterator[Callable[..., tuple[list[int], Callable[[], list[int]]]]]:
    """Starts ranks as processes, and returns their ids and what waits for their exit codes.

    A victim embeds some images and then waits to be killed.
    """
    with start_forked(SERVER) as server:

        def start(
            size: int, images: Path, out: Path, *, is_command: bool = False, victim: int = -1
        ) -> tuple[list[int], Callable[[], list[int]]]:
            given = [free_port(), str(images), str(out), is_command]
            files = [str(images.parent / name) for name in ("log", "errors")]
            server.stdin.write(json.dumps([size, given, *files, victim]) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline()), lambda: json.loads(server.stdout.readline())

        yield start


@pytest.mark.parametrize(("victim", "then"), [(0, 1), (2, 2)])
def test_a_killed_rank_ends_all_and_loses_no_finished_shard(
    images: Path, tmp_path: Path, jobs: Callable[..., Any], victim: int, then: int
) -> None:
    save(images, *range(40, 100))
    log, out = tmp_path / "log", tmp_path / "out"
    _, wait = jobs(1, images, tmp_path / "whole")
    assert wait() == [0]
    log.write_text("")
    pids, wait = jobs(3, images, out, victim=victim)
    begin = time.monotonic()
    while len(log.read_text().split()) < 30 and time.monotonic() < begin + 60:
        time.sleep(0.005)
    os.kill(pids[victim], signal.SIGKILL)
    assert wait() == [-signal.SIGKILL if rank == victim else 2 for rank in range(3)]
    errors = (tmp_path / "errors").read_text()
    assert re.search(rf"RankError: rank {victim} on host .* (gave no sign of life|cannot be reached)", errors), errors
    finished = in_finished_shards(out)
    assert len(finished) >= 10
    log.write_text("")
    _, wait = jobs(then, images, out)
    assert wait() == [0] * then
    again = [int(grey) for grey in log.read_text().split()]
    assert not {*again} & finished
    assert len(again) == len({*again})
    assert tree(out) == tree(tmp_path / "whole")


def in_finished_shards(out: Path) -> set[int]:
    """The images that need not be embedded again."""
    files = [*(out / "student" / "metadata").glob("*.parquet")]
    moved = [file.with_suffix(".student.parquet") for file in (out / ".extraction").glob("*.json")]
    return {
        int(name[-7:-4])
        for file in (*files, *filter(Path.exists, moved))
        for name in parquet.read_table(file)["image_path"].to_pylist()
    }


def test_the_command_by_ranks_that_the_environment_tells(
    images: Path, tmp_path: Path, jobs: Callable[..., Any]
) -> None:
    """As torchrun does: what is told, once, and the files."""
    _, wait = jobs(2, images, tmp_path / "many", is_command=True)
    errors = tmp_path / "errors"
    assert wait() == [0, 0], errors.read_text()
    folder = tmp_path / "many" / "student"
    assert (tmp_path / "many.stdout").read_text() == f"18 images, 5 skipped\n--features         {folder}\n"
    assert errors.read_text().count("skipped a/013.png") == 1
    exec(STUB, {})
    extracted(0, images, tmp_path / "one")
    assert tree(tmp_path / "many") == tree(tmp_path / "one")


@pytest.mark.slow
def test_the_command_under_torchrun(images: Path, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(f"{STUB}\nfrom ccma_fast.cli import main\nsys.exit(main())\n")
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    command = [*torchrun, "--rdzv-endpoint", "localhost:0", "run.py", "extract", str(images), "--out", "many"]
    done = subprocess.run(
        [sys.executable, *command, "--shard-size", "3", "--batch-size", "2", "--workers", "0", "-q"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "18 images, 5 skipped\n--features         many/student\n"
    assert done.stderr.count("skipped a/013.png") == 1
    exec(STUB, {})
    extracted(0, images, tmp_path / "one")
    assert tree(tmp_path / "many") == tree(tmp_path / "one")
