"""Files that are written: whole or not at all, in nobody's place, by several at once; and streams that are closed."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.campaign import saved_loop
from ccma_fast.system.output_files import check_can_write, locked_file, remove_leftovers, write_whole

N = 60
X = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
Y = np.arange(N) % 3


def write(path: Path, content: bytes) -> None:
    write_whole(path, lambda file: file.write(content))


# --- whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write(tmp_path / "x", b"old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if failing == "write":
        with pytest.raises(OSError, match="No space left"):
            write_whole(tmp_path / "x", full)
    else:
        monkeypatch.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "x", b"new")
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_a_file_that_may_not_grow_leaves_the_old_loop(tmp_path: Path) -> None:
    learner = cf.ActiveLearner(X)
    learner.save(tmp_path / "loop")
    before = (tmp_path / "loop").read_bytes()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
            learner.save(tmp_path / "loop")
        except OSError as error:
            code = 0 if error.errno == errno.EFBIG else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "loop").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [".loop.ccma-lock", "loop"]


def test_writers_of_one_path_with_one_process_number_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers
    contents = [bytes([i]) * 200_000 for i in range(8)]
    write(tmp_path / "x", contents[0])
    ended = threading.Event()
    broken: list[int] = []

    def read() -> None:
        while not ended.is_set():
            content = (tmp_path / "x").read_bytes()
            if content not in contents:
                broken.append(len(content))

    reader = threading.Thread(target=read)
    reader.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write(tmp_path / "x", content), contents * 3))
    ended.set()
    reader.join()
    assert not broken
    assert os.listdir(tmp_path) == ["x"]


def test_permissions_are_those_of_the_umask_or_of_the_file_that_was_there(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "new", b"")
        (tmp_path / "old").touch()
        (tmp_path / "old").chmod(0o604)
        write(tmp_path / "old", b"")
    finally:
        os.umask(before)
    assert ((tmp_path / "new").stat().st_mode & 0o777, (tmp_path / "old").stat().st_mode & 0o777) == (0o640, 0o604)


# --- other people's files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leads_to", ["file", "nowhere", "folder"])
def test_a_link_is_not_followed(tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(leads_to)
    for attempt in (lambda: write(tmp_path / "link", b"new"), lambda: check_can_write(tmp_path / "link")):
        with pytest.raises(
            FileExistsError, match=rf"link': it is a symbolic link to '.*{leads_to}'; expected the name"
        ):
            attempt()
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "link"]
    assert (tmp_path / "file").read_text() == "kept"


def test_folders_on_the_way_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    write(tmp_path / "link" / "x", b"new")
    assert (tmp_path / "folder" / "x").read_bytes() == b"new"


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileExistsError, match="pipe': it is there and no regular file"):
        write(tmp_path / "pipe", b"")
    assert (tmp_path / "pipe").is_fifo()


def test_only_leftovers_of_ours_are_removed(tmp_path: Path) -> None:
    mark = "0123456789abcdef.ccma-part"
    ours = f".a.csv.{mark}"
    theirs = [f".b.csv.{mark}", ".a.csv.part", ".a.csv.1.part", f"a.csv.{mark}", f".a.csv.{mark}.old"]
    for name in (ours, *theirs):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ours).touch()
    remove_leftovers(tmp_path, r"a\.csv")
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, "sub"])
    assert os.listdir(tmp_path / "sub") == [ours]
    remove_leftovers(tmp_path / "missing", r"a\.csv")


# --- a loop in the place of another -----------------------------------------------------------------------------------


def labelled(path: Path) -> list[int]:
    return np.flatnonzero(cf.ActiveLearner.load(path, X).labels >= 0).tolist()


def test_the_labels_of_another_loop_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    first = cf.ActiveLearner(X)
    first.save(path)
    second = cf.ActiveLearner.load(path, X)
    first.label(range(5), Y[:5])
    first.save(path)
    second.label([50], [1])
    with pytest.raises(
        FileExistsError,
        match=r"loop' holds another loop, or another version of this one, with 5 labels after 0 rounds, written 2\d{3}-"
        r".*expected to load it and tell the labels there, another path, or overwrite=True",
    ):
        second.save(path)
    assert labelled(path) == [0, 1, 2, 3, 4]
    first.label([7], [1])
    first.save(path)  # goes on
    second.save(tmp_path / "else")
    with pytest.raises(FileExistsError, match="with 6 labels"):
        cf.ActiveLearner(X).save(path)  # nor does a new loop take the place
    second.save(path, overwrite=True)
    assert labelled(path) == [50]
    with pytest.raises(FileExistsError, match="with 1 labels"):
        first.save(path)
    with pytest.raises(TypeError, match="overwrite must be true or false"):
        first.save(path, overwrite="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"index,label\n0,cat\n"])
def test_a_file_that_is_no_loop_is_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "y.csv").write_bytes(content)
    with pytest.raises(
        FileExistsError, match=r"y\.csv' is there and no loop that can be read .*; expected another path"
    ):
        cf.ActiveLearner(X).save(tmp_path / "y.csv")
    assert (tmp_path / "y.csv").read_bytes() == content
    cf.ActiveLearner(X).save(tmp_path / "y.csv", overwrite=True)
    assert labelled(tmp_path / "y.csv") == []


def test_a_loop_never_replaces_what_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "shards" / "p0.npy", X)
    np.save(tmp_path / "y.npy", Y)
    (tmp_path / "same").symlink_to(tmp_path / "shards")
    teacher = cf.Teacher(tmp_path / "x.npy", np.eye(3, 4, dtype=np.float32))
    learner = cf.ActiveLearner(tmp_path / "shards", labels=tmp_path / "y.npy", teacher=teacher)
    mapped = cf.ActiveLearner(np.load(tmp_path / "x.npy", mmap_mode="r"))
    learner.save(tmp_path / "loop")
    loaded = cf.ActiveLearner.load(tmp_path / "loop", tmp_path / "shards")
    for loop, name, argument in (
        (learner, "shards/p0.npy", "features"),
        (learner, "same/p0.npy", "features"),
        (learner, "y.npy", "labels"),
        (learner, "x.npy", "teacher"),
        (mapped, "x.npy", "features"),
        (loaded, "shards/p0.npy", "features"),
    ):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match=f"path '.*{name}' is also {argument}; expected another file"):
            loop.save(tmp_path / name, overwrite=True)
        assert (tmp_path / name).read_bytes() == before


def test_threads_of_one_loop_save_one_after_another(tmp_path: Path) -> None:
    learner = cf.ActiveLearner(X)
    learner.save(tmp_path / "loop")
    seen: list[list[int]] = []

    def work(i: int) -> None:
        learner.label([i], [i % 3])
        learner.save(tmp_path / "loop")
        seen.append(labelled(tmp_path / "loop"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(24)))
    assert labelled(tmp_path / "loop") == list(range(24))
    assert sorted(os.listdir(tmp_path)) == [".loop.ccma-lock", "loop"]


def _label_and_save(path: Path, row: int) -> None:
    while True:
        learner = cf.ActiveLearner.load(path, X)
        learner.label([row], [row % 3])
        try:
            return learner.save(path)
        except FileExistsError:
            continue  # somebody else was faster


def test_processes_that_load_again_lose_no_label(tmp_path: Path) -> None:
    cf.ActiveLearner(X).save(tmp_path / "loop")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_label_and_save, args=(tmp_path / "loop", row)) for row in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert labelled(tmp_path / "loop") == list(range(6))


def test_the_lock_of_a_loop_is_no_link_that_is_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / ".loop.ccma-lock").symlink_to("kept")
    with pytest.raises(FileExistsError, match="is a symbolic link to"):
        cf.ActiveLearner(X).save(tmp_path / "loop")
    assert (tmp_path / "kept").read_text() == "kept"
    assert not (tmp_path / "loop").exists()


# --- NumPy's scalars --------------------------------------------------------------------------------------------------


def test_a_configuration_of_numpy_scalars_is_of_plain_values() -> None:
    plain = cf.CCMAConfig()
    as_numpy = {int: np.int64, float: np.float64, bool: np.bool_, str: np.str_}
    given = {
        field.name: as_numpy[type(value)](value)
        for field in fields(plain)
        if (value := getattr(plain, field.name)) is not None
    }
    made = cf.CCMAConfig(**given)
    assert made == plain
    assert {type(value) for value in asdict(made).values()} == {int, float, bool, str, type(None)}


def test_loops_and_runs_of_numpy_scalars_are_written(tmp_path: Path) -> None:
    config = cf.CCMAConfig(kappa=np.int64(5), alpha=np.float64(0.2), max_epochs=np.int64(3), pick=np.str_("highest"))  # type: ignore[arg-type]
    learner = cf.ActiveLearner(X, n_classes=Y.max() + 1, config=config, random_state=np.int64(3))
    learner.save(tmp_path / "loop")
    assert cf.ActiveLearner.load(tmp_path / "loop", X).query(2).indices.size == 2
    kwargs: dict[str, Any] = {"test_features": X, "test_labels": Y, "out": tmp_path / "run", "progress": False}
    student = cf.LinearHead(max_epochs=np.int64(2), batch_size=np.uint8(255), n_classes=np.int64(3))  # type: ignore[arg-type]
    run = cf.simulate(
        X,
        Y,
        strategies=[np.str_("random")],
        seeds=np.array([1]),
        rounds=np.int64(1),
        budget=np.int64(4),
        n_start=np.int64(3),
        start=np.str_("random"),
        jobs=np.int64(1),
        student=student,
        config=config,
        **kwargs,
    )  # type: ignore[call-overload]
    assert run.columns["n_labels"].tolist() == [3, 7]


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    np.save("y.npy", Y)
    return tmp_path


def shell(command: str) -> subprocess.CompletedProcess[str]:
    program = f"{sys.executable} -m ccma_fast {command}"
    return subprocess.run(
        program, shell=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100, check=False
    )


SELECT = "select --features x.npy --budget 3"


@pytest.mark.parametrize(
    "closed", ["1", "012", *(pytest.param(rest, marks=pytest.mark.slow) for rest in ("0", "2", "01", "02", "12"))]
)
def test_picks_go_to_a_file_whatever_is_closed(pool: Path, closed: str) -> None:
    done = shell(f"{SELECT} --out picks.csv " + " ".join(f"{descriptor}>&-" for descriptor in closed))
    assert done.returncode == 0
    assert done.stdout == ""
    assert ("3 picks -> picks.csv" in done.stderr) == ("2" not in closed)
    lines = Path("picks.csv").read_text().splitlines()
    assert lines[0] == "rank,index,score,represents"
    assert len(lines) == 4


def test_without_stderr_the_report_is_not_among_the_picks(pool: Path) -> None:
    assert shell(f"{SELECT} 2>&- > picks.csv").returncode == 0
    assert Path("picks.csv").read_text() == shell(SELECT).stdout


CLOSED, FULL = (">&-", "stdout is closed"), ("> /dev/full", "No space left")


@pytest.mark.parametrize(
    ("redirected", "said", "more"),
    [
        (*CLOSED, "-q"),
        (*FULL, "--plan"),
        *(pytest.param(*CLOSED, rest, marks=pytest.mark.slow) for rest in ("", "--plan")),
        *(pytest.param(*FULL, rest, marks=pytest.mark.slow) for rest in ("", "-q")),
    ],
)
def test_picks_that_cannot_be_printed_are_an_error(pool: Path, redirected: str, said: str, more: str) -> None:
    done = shell(f"{SELECT} {more} {redirected}")
    assert done.returncode == 2
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ccma-fast select: error: ")
    assert said in last
    assert "Traceback" not in done.stderr


def test_picks_are_printed_where_stderr_takes_nothing(pool: Path) -> None:
    done = shell(f"{SELECT} 2> /dev/full")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 4)


SIMULATE = (
    "simulate --features x.npy --labels y.npy --test-features x.npy --test-labels y.npy --strategies random "
    "--seeds 1 --rounds 1"
)


@pytest.mark.parametrize("closed", [pytest.param("2", marks=pytest.mark.slow), "012"])
def test_a_run_is_kept_whatever_is_closed(pool: Path, closed: str) -> None:
    redirected = " ".join(f"{descriptor}>&-" for descriptor in closed)
    assert shell(f"{SIMULATE} --out run {redirected}").returncode == 0
    assert Path("run/results.csv").read_text().startswith("strategy,seed,round,n_labels,")
    assert shell(f"{SIMULATE} {redirected}").returncode == (2 if "1" in closed else 0)


def test_no_bar_is_shown_where_there_is_no_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    config = cf.CCMAConfig(max_epochs=2)
    run = cf.simulate(
        X, Y, test_features=X, test_labels=Y, strategies=["random"], seeds=[1], rounds=1, config=config, progress=True
    )
    assert run.columns["round"].tolist() == [0, 1]


# --- found by others --------------------------------------------------------------------------------------------------


def test_a_folder_above_a_link_is_what_the_system_takes_it_for(tmp_path: Path) -> None:
    """`link/..` is the folder of what the link leads to, and not that of the link."""
    (tmp_path / "other" / "sub").mkdir(parents=True)
    (tmp_path / "link").symlink_to("other/sub")
    kept = cf.ActiveLearner(X, n_classes=3)
    kept.label(np.arange(9), Y[:9])
    kept.save(tmp_path / "loop")
    np.save(tmp_path / "x.npy", X)
    cf.ActiveLearner(X, n_classes=3).save(f"{tmp_path}/link/../loop")
    assert (tmp_path / "other" / "loop").exists()
    assert (cf.ActiveLearner.load(tmp_path / "loop", X).labels >= 0).sum() == 9
    cf.ActiveLearner(tmp_path / "x.npy").save(f"{tmp_path}/link/../x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), X)
    with pytest.raises(IsADirectoryError, match="it names a directory"):
        kept.save(f"{tmp_path}/new/")


def test_a_lock_that_is_removed_is_no_longer_one(tmp_path: Path) -> None:
    path, order = tmp_path / "loop", list[str]()
    with locked_file(path):
        waiting = threading.Thread(target=lambda: (cf.ActiveLearner(X).save(path), order.append("saved")))
        waiting.start()
        waiting.join(timeout=0.2)
        (tmp_path / ".loop.ccma-lock").unlink()
        other = locked_file(path)
        other.__enter__()  # the one of that name now
    waiting.join(timeout=0.3)
    assert order == []  # who waited has seen that its lock is no longer that one
    other.__exit__(None, None, None)
    waiting.join(timeout=60)
    assert order == ["saved"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_no_lock(tmp_path: Path, make: Any) -> None:
    make(tmp_path / ".loop.ccma-lock")
    with pytest.raises(FileExistsError, match=r"must be a file, for it is what is locked"):
        cf.ActiveLearner(X).save(tmp_path / "loop")


def test_what_a_killed_save_has_left_goes_with_the_next(tmp_path: Path) -> None:
    left = [tmp_path / f".{name}.{'0' * 16}.ccma-part" for name in ("loop", "other")]
    for part in left:
        part.write_text("")
    cf.ActiveLearner(X).save(tmp_path / "loop")
    assert [part.exists() for part in left] == [False, True]


def test_a_loop_that_forgets_images_does_not_replace_the_one_that_has_them(tmp_path: Path) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for name, rows in (("all", N), ("half", N // 2)):
        columns = {"features": X[:rows].tolist(), "image_path": [f"{i}.png" for i in range(rows)]}
        parquet.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    learner = cf.ActiveLearner(tmp_path / "all.parquet", n_classes=3)
    learner.label(np.arange(N), Y)
    learner.save(tmp_path / "loop")
    with pytest.warns(cf.LabelWarning, match="forgets 30"):
        half = cf.ActiveLearner.load(tmp_path / "loop", tmp_path / "half.parquet", missing="drop")
    with pytest.raises(FileExistsError, match="with 60 labels"):
        half.save(tmp_path / "loop")


def test_ids_that_repeat_themselves_can_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_loop, "_MOST_SETTINGS", 1000)
    monkeypatch.setattr(saved_loop, "_MOST_RATIO", 5)
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"features": X.tolist(), "image_path": [f"{'a' * 200}/{i}.png" for i in range(N)]}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    learner = cf.ActiveLearner(tmp_path / "x.parquet", n_classes=3)
    learner.label(np.arange(N), Y)
    learner.save(tmp_path / "loop")
    np.testing.assert_array_equal(cf.ActiveLearner.load(tmp_path / "loop", tmp_path / "x.parquet").labels, Y)


def test_a_loop_names_no_file_for_its_classes(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("a\nb\nc\n")
    cf.ActiveLearner(X, n_classes=3).save(tmp_path / "loop.npz")
    content = dict(np.load(tmp_path / "loop.npz"))
    settings = json.loads(str(content["settings"]))
    content["settings"] = np.array(json.dumps({**settings, "class_names": str(tmp_path / "secret.txt")}))
    np.savez(tmp_path / "evil.npz", **content)
    with pytest.raises(cf.FileReadError, match="class_names must be a list"):
        cf.ActiveLearner.load(tmp_path / "evil.npz", X)


def test_labels_told_during_a_query_or_a_fit_are_kept(tmp_path: Path) -> None:
    class Slow:
        def fit(self, x: Any, y: Any) -> Slow:
            if len(y) == 2:
                learner.label([2], [2])  # as another thread would
            self.classes_ = np.unique(y)
            return self

        def predict_proba(self, x: Any) -> Any:
            return np.tile(np.eye(3)[len(self.classes_) - 1] * 0.8 + 0.1, (len(x), 1))[:, : len(self.classes_)]

    learner = cf.ActiveLearner(X, n_classes=3, student=Slow())
    learner.label([0, 1], [0, 1])
    learner.predict_proba(X[:1])
    assert learner.predict_proba(X[:1]).argmax() == 2  # of a student that knows all three
    labels = learner._pool.labels
    learner._pool.grow()
    assert learner._pool.labels is labels
