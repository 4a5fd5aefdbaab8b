"""Files that are cut off, rewritten or replaced while they are in use: an error that names the file, never a result."""

from __future__ import annotations

import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.rows import Rows, in_step
from ccma_fast.research.workers import dumped
from ccma_fast.system.file_integrity import file_under, reading

h5py = pytest.importorskip("h5py")
pyarrow = pytest.importorskip("pyarrow")
pytest.importorskip("pyarrow.ipc")
parquet = pytest.importorskip("pyarrow.parquet")
safetensors_numpy = pytest.importorskip("safetensors.numpy")
safetensors_torch = pytest.importorskip("safetensors.torch")

N, D = 4096, 8  # 32 pages
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
IN_USE = "while it was in use; expected it as it was opened"


def write(file: Path, x: np.ndarray) -> Path:
    """A file of rows, written a while ago."""
    suffix = file.suffix
    if suffix == ".npy":
        np.save(file, x)
    elif suffix == ".h5":
        with h5py.File(file, "w") as handle:
            handle["features"] = x
    elif suffix == ".hdf5":
        with h5py.File(file, "w") as handle:
            handle.create_dataset("features", data=x, chunks=(100, D))
    elif suffix == ".safetensors":
        safetensors_numpy.save_file({"features": x}, file)
    else:
        table = pyarrow.table({"features": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), D)})
        if suffix == ".parquet":
            parquet.write_table(table, file, row_group_size=1000)
        else:
            with pyarrow.OSFile(str(file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=1000)
    os.utime(file, ns=(10**18, 10**18))  # clocks of file systems are coarse
    return file


def raw(file: Path, mode: Any) -> np.memmap:
    return np.memmap(file.parent / "x.npy", np.float32, mode, 128, (N, D))


SOURCES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "path": ("x.npy", str),
    "folder": ("x.npy", lambda file: file.parent),
    "hdf5 in one piece": ("x.h5", str),
    "hdf5 in chunks": ("x.hdf5", str),
    "parquet": ("x.parquet", str),
    "arrow": ("x.arrow", str),
    "safetensors": ("x.safetensors", str),
    "memmap": ("x.npy", lambda file: np.load(file, mmap_mode="r")),
    "memmap, every other column": ("x.npy", lambda file: np.load(file, mmap_mode="r")[::-1, ::2]),
    "memmap that copies": ("x.npy", lambda file: raw(file, "c")),
    "array of a map": ("x.npy", lambda file: np.asarray(raw(file, "r"))),
    "tensor of a memmap": ("x.npy", lambda file: torch.from_numpy(np.load(file, mmap_mode="c"))),
    "tensor of safetensors": ("x.safetensors", lambda file: safetensors_torch.load_file(file)["features"]),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    name, make = SOURCES[request.param]
    file = write(tmp_path / name, X)
    return file, make(file)


def halve(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def rewrite(file: Path) -> None:
    """The same size and other values, in place."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 400] = bytes(400)
    with open(file, "r+b") as handle:
        handle.write(content)


def replace(file: Path) -> None:
    new = file.with_name("new")
    new.write_bytes(file.read_bytes())
    new.replace(file)


CHANGES = {"became shorter": halve, "was changed": rewrite, "was replaced": replace}


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> tuple[str, Callable[[Path], None]]:
    return request.param, CHANGES[request.param]


def test_what_was_changed_since_it_was_opened_is_not_read(source: tuple[Path, Any], change: Any) -> None:
    file, given = source
    rows, (what, changed) = open_rows(given, "features"), change
    rows.take(np.array([1, 2]))
    changed(file)
    reads: list[Callable[[], Any]] = [
        lambda: list(rows.chunks(100)),
        lambda: rows.take(np.array([N - 1, 3])),
        lambda: rows.read(N - 10, N),
        rows.float32,
        lambda: cf.select(rows, 3),
    ]
    for read in reads:
        with pytest.raises(cf.FileReadError, match=f"^features: '{file}' {what} {IN_USE}"):
            read()


def test_what_is_changed_while_a_chunk_is_worked_on_is_not_read(source: tuple[Path, Any], change: Any) -> None:
    file, given = source
    rows, (what, changed) = open_rows(given, "features"), change
    steps = in_step(rows, chunk_size=N)
    _, (chunk,) = next(steps)
    changed(file)
    chunk.sum()  # to its end, whatever is there now
    with pytest.raises(cf.FileReadError, match=f"^features: '{file}' {what} {IN_USE}"):
        next(steps)


def test_a_pool_that_is_saved_over(tmp_path: Path) -> None:
    """A learner of a user's map, over which the user writes a smaller one."""
    x = np.load(write(tmp_path / "x.npy", X), mmap_mode="r")
    learner = cf.ActiveLearner(x)
    first = learner.query(4).indices
    np.save(tmp_path / "x.npy", X[:100])
    for _ in range(2):
        with pytest.raises(cf.FileReadError, match=r"x.npy' became shorter"):
            learner.query(4)
    learner.label(first, [0, 1, 0, 1])
    assert (learner.labels[first] == [0, 1, 0, 1]).all()
    np.save(tmp_path / "x.npy", X)  # whole again, but zeros were put into that map
    with pytest.raises(cf.FileReadError, match="features: the file that is mapped here became shorter"):
        cf.select(x, 4)
    assert cf.select(np.load(tmp_path / "x.npy", mmap_mode="r"), 4).indices.size == 4


def write_ids(file: Path, x: np.ndarray) -> Path:
    vectors = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(x.ravel()), D)
    ids = [f"{i}.png" for i in range(len(x))]
    parquet.write_table(pyarrow.table({"image_path": ids, "features": vectors}), file)
    return file


@pytest.mark.parametrize("make", [write, write_ids])
@pytest.mark.parametrize("again", [True, False])
def test_labels_outlive_their_pool(tmp_path: Path, make: Callable[[Path, np.ndarray], Path], again: bool) -> None:
    """What a loop wrote of a pool that is gone finds the same pool and refuses another one."""
    file = tmp_path / ("x.npy" if make is write else "x.parquet")
    learner = cf.ActiveLearner(make(file, X))
    first = learner.query(4).indices
    second = (first + 1)[~np.isin(first + 1, first)]
    if again:
        learner.label(second, np.ones(second.size, int))
    make(file, X[:100])
    with pytest.raises(cf.FileReadError, match="while it was in use"):
        learner.query(4)
    learner.label(first, [0, 1, 0, 1])
    saved = tmp_path / "loop"
    if again:
        learner.save(saved)
    else:
        learner.label(second, np.ones(second.size, int))
        with pytest.warns(cf.LabelWarning, match=rf"of {second.size} of {4 + second.size} rows .* nobody can say"):
            learner.save(saved)
    make(file, X)
    if again:
        loaded = cf.ActiveLearner.load(saved, file)
    else:
        with pytest.warns(cf.LabelWarning, match=rf"{second.size} of {4 + second.size} rows .* could not be read when"):
            loaded = cf.ActiveLearner.load(saved, file)
    np.testing.assert_array_equal(loaded.labels, learner.labels)
    loaded.query(4)
    if make is write:
        make(file, X[::-1])
        with pytest.raises(cf.PoolMismatchError, match="got other values than it had at row"):
            cf.ActiveLearner.load(saved, file)


def test_every_reading_of_a_file_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    """Not only that which found out."""
    file = write(tmp_path / "x.npy", X)
    x = np.load(file, mmap_mode="r")
    rows = [open_rows(x, "features"), open_rows(x, "features")]
    halve(file)
    stamp = file.stat()
    for matrix in rows:
        (in_use,) = matrix.in_use
        in_use.stamp = None  # the zeros alone tell
    for matrix in rows:
        with pytest.raises(cf.FileReadError, match="became shorter"):
            matrix.float32()
    assert file.stat() == stamp


def test_the_owner_of_a_map_may_write(tmp_path: Path) -> None:
    write(tmp_path / "x.npy", X)
    x = raw(tmp_path / "x.npy", "r+")
    rows = open_rows(x, "features")
    x[7] = 1.0
    x.flush()
    np.testing.assert_array_equal(rows.float32(), x)
    halve(tmp_path / "x.npy")
    with pytest.raises(cf.FileReadError, match="became shorter"):
        rows.float32()


def test_a_map_outlives_the_name_of_its_file(tmp_path: Path) -> None:
    x = np.load(write(tmp_path / "x.npy", X), mmap_mode="r")
    rows = open_rows(x, "features")
    (tmp_path / "x.npy").unlink()
    np.testing.assert_array_equal(rows.float32(), X)
    np.testing.assert_array_equal(open_rows(x, "features").float32(), X)


def test_vectors_in_maps(tmp_path: Path) -> None:
    y = np.load(write(tmp_path / "y.npy", np.arange(N * D) % 3), mmap_mode="r")
    assert file_under(y, "scores") is not None
    assert file_under(y.copy(), "scores") is None
    halve(tmp_path / "y.npy")
    with pytest.raises(cf.FileReadError, match=r"scores: '.*y.npy' became shorter"):
        cf.coverage_threshold(y, 0.1)
    with pytest.raises(cf.FileReadError, match=r"labels: .* became shorter"):
        cf.select(np.zeros((N * D, 2)), 3, labels=y)


def test_masks_stay_on_labels_in_maps(tmp_path: Path) -> None:
    y = np.load(write(tmp_path / "y.npy", np.arange(30) % 3), mmap_mode="r")
    hidden = np.ma.MaskedArray(y, mask=np.arange(30) < 20)
    learner = cf.ActiveLearner(X[:30], labels=hidden)
    np.testing.assert_array_equal(learner.labels, np.where(np.arange(30) < 20, -1, y))


def test_another_process_has_the_file_that_was_opened(source: tuple[Path, Any]) -> None:
    file, given = source
    rows = open_rows(given, "features")
    payload = dumped(rows)
    there: Rows = pickle.loads(payload)
    np.testing.assert_array_equal(there.float32(), rows.float32())
    if not isinstance(given, torch.Tensor):  # whose values travel
        rewrite(file)
        with pytest.raises(cf.FileReadError, match="was changed"):
            pickle.loads(payload).float32()


def test_no_process_is_sent_what_was_cut_off(source: tuple[Path, Any]) -> None:
    """Values go along where they are in no file that can be named, such as those of a tensor."""
    file, given = source
    rows = open_rows(given, "features")
    halve(file)
    with pytest.raises(cf.FileReadError, match="became shorter"):
        dumped(rows)


# --- the signal -----------------------------------------------------------------------------------

CUT = """
import faulthandler, os, sys
import numpy as np, ccma_fast as cf
{before}
from ccma_fast.pool.open import open_rows
x = np.load({file!r}, mmap_mode="r")
rows = open_rows(x, "features")
{after}
os.truncate({file!r}, 4096)
{body}
"""


def run(file: Path, body: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    code = CUT.format(file=str(write(file, X)), body=body, before=before, after=after)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


READ = "try: rows.float32()\nexcept cf.FileReadError as error: print(error)"


ENABLED = "faulthandler.enable()"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("", f"rows.float32(); {ENABLED}"),
        *(
            pytest.param(*rest, marks=pytest.mark.slow)
            for rest in ((ENABLED, ENABLED), (ENABLED, ""), ("", ENABLED), (ENABLED, f"rows.float32(); {ENABLED}"))
        ),
    ],
)
def test_faulthandler_may_be_enabled_at_any_time(tmp_path: Path, before: str, after: str) -> None:
    done = run(tmp_path / "x.npy", READ, before, after)
    assert done.returncode == 0, done.stderr
    assert "x.npy' became shorter" in done.stdout
    assert not done.stderr


@pytest.mark.parametrize(
    "after",
    [
        "",
        pytest.param("faulthandler.enable()", marks=pytest.mark.slow),
        "rows.float32(); faulthandler.enable(); rows.float32()",
    ],
)
def test_faults_of_others_end_the_process_as_ever(tmp_path: Path, after: str) -> None:
    """Also in the same map, where the user reads it."""
    done = run(tmp_path / "x.npy", "print(x.sum())", after=after)
    assert done.returncode == -signal.SIGBUS
    assert ("Fatal Python error: Bus error" in done.stderr) == bool(after)
    assert not done.stdout


def test_a_file_that_is_cut_off_again_and_again_while_threads_read(tmp_path: Path) -> None:
    assert faulthandler.is_enabled()  # as pytest has it
    file, wrong = write(tmp_path / "x.npy", X), []

    def read() -> None:
        for _ in range(60):
            try:
                found = open_rows(str(file), "features").float32()
            except cf.FileReadError:
                continue
            if not np.array_equal(found, X):
                wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    content = file.read_bytes()
    while any(thread.is_alive() for thread in threads):
        os.truncate(file, 5000)
        with open(file, "r+b") as handle:
            handle.write(content)
        time.sleep(0.02)
    assert not wrong


def test_a_file_that_is_being_written_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, waits = write(tmp_path / "x.npy", X), []
    os.utime(file)
    monkeypatch.setattr(
        "ccma_fast.system.file_integrity.time.sleep", lambda seconds: (waits.append(seconds), os.utime(file))
    )
    with pytest.raises(cf.FileReadError, match=r"x.npy' is being written; expected a file that nobody changes"):
        open_rows(file, "features")
    assert 0.0 < sum(waits) < 1.0
    monkeypatch.undo()
    assert open_rows(file, "features").n_rows == N


def test_what_is_written_right_after_it_was_opened_is_seen(tmp_path: Path) -> None:
    """Though the clocks of file systems have coarse ticks."""
    for _ in range(20):
        np.save(tmp_path / "x.npy", X)
        rows = open_rows(tmp_path / "x.npy", "features")
        with open(tmp_path / "x.npy", "r+b") as handle:
            handle.seek(-4, os.SEEK_END)
            handle.write(bytes(4))
        with pytest.raises(cf.FileReadError, match="was changed"):
            rows.float32()


def test_a_map_that_was_cut_off_before_is_refused(tmp_path: Path) -> None:
    """Also within its last page, where what is missing would read as zeros."""
    file = write(tmp_path / "x.npy", X)
    x = np.load(file, mmap_mode="r")
    whole = file.stat().st_size
    for size in (whole - 8, whole // 2):
        os.truncate(file, size)
        with pytest.raises(cf.FileReadError, match=r"x\.npy' became shorter than what is mapped of it"):
            open_rows(x, "features")
    open_rows(x[: len(x) // 4], "features")


def test_a_child_process_is_safe_too(tmp_path: Path) -> None:
    rows = open_rows(np.load(write(tmp_path / "x.npy", X), mmap_mode="r"), "features")
    halve(tmp_path / "x.npy")
    child = os.fork()
    if child == 0:
        try:
            with reading():
                rows.float32()
        except cf.FileReadError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
