"""The file of a campaign: what was written stays, in its order, whoever else writes."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import stat
from datetime import datetime, timezone, tzinfo
from pathlib import Path

import pytest

import ccma_fast as cf
from ccma_fast.campaign.log import events as kinds
from ccma_fast.campaign.log.database import Log, Records, create_log
from ccma_fast.campaign.log.events import NewEvent
from ccma_fast.system.network_file_systems import network_file_system

FIRST = [
    NewEvent(kinds.CREATED, data={"labels_per_image": 1, "random_state": 0, "campaign": "0" * 32}),
    NewEvent(kinds.CLASS_ADDED, data={"name": "ant", "declared": True}),
    NewEvent(kinds.CLASS_ADDED, data={"name": "bee", "declared": True}),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    create_log(tmp_path / "a.campaign", FIRST).close()
    return tmp_path / "a.campaign"


def label(image: str, number: int = 2, **more: object) -> NewEvent:
    return NewEvent(kinds.LABELLED, "ana", image, number, **more)  # type: ignore[arg-type]


def test_events_come_back_as_they_were_written(file: Path) -> None:
    log = Log(file)
    with log.writing() as writing:
        written = [writing.add(label("ä\n<b>.jpg", data={"note": "\x00 '\"; DROP TABLE events; --"})) for _ in range(2)]
    log.close()
    again = Log(file)
    assert again.events()[3:] == written
    assert [event.number for event in again.events()] == [1, 2, 3, 4, 5]
    assert again.events(image="ä\n<b>.jpg") == written
    assert again.state.digest == written[-1].digest
    again.verify()


def test_a_transaction_is_written_whole_or_not_at_all(file: Path) -> None:
    log = Log(file)
    with pytest.raises(TypeError, match="JSON"), log.writing() as writing:
        writing.add(label("a.jpg")) and writing.add(label("b.jpg", data={"note": object()}))
    assert len(log.events()) == 3
    assert log.state.images == {}
    with log.writing() as writing:
        writing.add(label("b.jpg"))
    assert [*Log(file).state.images] == ["b.jpg"] == [*log.state.images]


def test_two_connections_see_what_the_other_wrote(file: Path) -> None:
    first, second = Log(file), Log(file)
    for k in range(6):
        with (first, second)[k % 2].writing() as writing:
            assert len(writing.state.images) == k
            writing.add(label(f"{k}.jpg"))
    assert first.refresh().digest == second.refresh().digest
    with second.writing() as writing:
        writing.add(NewEvent(kinds.UNDONE, target=4))
    assert [*first.refresh().tallies()] == [f"{k}.jpg" for k in range(1, 6)] == [*second.state.tallies()]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET label = 3 WHERE number = 4",
        "DELETE FROM events WHERE number = 4",
        "UPDATE picks SET record = ''",
        "DELETE FROM picks",
        "UPDATE queries SET record = ''",
        "DELETE FROM queries",
    ],
)
def test_nothing_is_changed_through_sql(file: Path, change: str) -> None:
    log = Log(file)
    with log.writing() as writing:
        writing.add(label("a.jpg"), Records("{}", ["{}"]))
    log.close()
    connection = sqlite3.connect(file)
    with pytest.raises(sqlite3.DatabaseError, match="never"):
        connection.execute(change)
    connection.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET label = 3 WHERE number = 4",
        "DELETE FROM events WHERE number = 4",
        "UPDATE events SET kind = 'batch issued' WHERE number = 4",
        "UPDATE picks SET record = '{}' WHERE rank = 2",
        "DELETE FROM picks WHERE rank = 2",
        "DELETE FROM queries",
    ],
)
def test_a_change_behind_its_back_is_found(file: Path, change: str) -> None:
    log = Log(file)
    with log.writing() as writing:
        if "events" in change:
            writing.add(label("a.jpg"))
        else:
            data = {"images": ["a.jpg", "c.jpg"], "rows": [0, 1], "digests": ["", ""], "expires": ""}
            writing.add(NewEvent(kinds.BATCH_ISSUED, data=data), Records("{}", ["{}", "[]"]))
        writing.add(label("b.jpg"))
    log.verify()
    connection = sqlite3.connect(file)
    for table in ("events", "picks", "queries"):
        connection.execute(f"DROP TRIGGER {table}_stay")
        connection.execute(f"DROP TRIGGER {table}_remain")
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(cf.FileReadError, match="was changed: event 4"):
        log.verify()


def test_a_new_file_that_cannot_be_opened_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("ccma_fast.campaign.log.database._state_of", full)
        with pytest.raises(OSError, match="disk is full"):
            create_log(tmp_path / "a.campaign", FIRST)
    assert os.listdir(tmp_path) == []
    create_log(tmp_path / "a.campaign", FIRST).close()


@pytest.mark.parametrize("is_replaced", [False, True])
def test_nothing_is_written_to_a_file_that_is_gone(file: Path, is_replaced: bool) -> None:
    log = Log(file)
    copy = file.with_name("copy")
    copy.write_bytes(file.read_bytes())
    copy.replace(file) if is_replaced else file.unlink()
    with (
        pytest.raises(cf.FileReadError, match=r"a.campaign' was (removed|replaced by another one) while it was open"),
        log.writing() as writing,
    ):
        writing.add(label("a.jpg"))


def test_a_clock_that_is_set_back_makes_nothing_earlier(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        time = datetime(2030, 1, 2, tzinfo=timezone.utc)

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Clock:
            return cls.time  # type: ignore[return-value]

    monkeypatch.setattr("ccma_fast.campaign.log.events.datetime", Clock)
    log = Log(file)
    for day, number in ((2, 2), (1, 3)):
        Clock.time = datetime(2030, 1, day, tzinfo=timezone.utc)
        with log.writing() as writing:
            writing.add(label("a.jpg", number))
    assert log.refresh().votes("a.jpg") == {"ana": 3} == Log(file).state.votes("a.jpg")


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_a_log_that_another_file_left_is_not_taken_in(file: Path, end: str) -> None:
    """SQLite replays a write-ahead log that lies beside a file, whichever file it was of."""
    log = Log(file)
    with log.writing() as writing:
        writing.add(label("a.jpg"))
    left = file.with_name(file.name + end)
    if end == "-journal":
        left.write_bytes(b"x")
    for other in {"", "-wal", "-shm", "-journal"} - {end}:
        file.with_name(file.name + other).unlink(missing_ok=True)
    with pytest.raises(FileExistsError, match=rf"a.campaign{end}' is there, of another file .* may hold labels"):
        create_log(file, FIRST)
    assert not file.exists()


def test_what_is_there_is_never_replaced(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    with pytest.raises(FileExistsError, match="is there already"):
        create_log(file, FIRST)
    assert file.read_bytes() == content
    assert os.listdir(tmp_path) == [file.name]
    with Log(file).writing() as writing:  # its own -wal lies beside it now
        writing.add(label("a.jpg"))
    with pytest.raises(FileExistsError, match=r"a\.campaign' is there already"):
        create_log(file, FIRST)


def test_other_files_are_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(cf.FileReadError, match="no campaign"):
        Log(tmp_path / "none.campaign")
    (tmp_path / "text").write_text("index,label\n" * 1000)
    with pytest.raises(cf.FileReadError, match=r"text.*not a database"):
        Log(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE events (number)")
    other.close()
    with pytest.raises(cf.FileReadError, match=r"other.sqlite' is no campaign"):
        Log(tmp_path / "other.sqlite")


def test_a_newer_version_is_refused(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(cf.FileReadError, match=r"newer version.*format 2"):
        Log(file)


def test_a_damaged_file_is_said_so(file: Path) -> None:
    log = Log(file)
    with log.writing() as writing:
        for k in range(300):
            writing.add(label(f"{k}.jpg"))
    log.close()
    content = bytearray(file.read_bytes())
    content[8192:40000] = os.urandom(40000 - 8192)
    file.write_bytes(content)
    with pytest.raises(cf.FileReadError, match=r"a.campaign"):
        Log(file).verify()


def test_an_event_that_no_version_writes_is_said_so(file: Path) -> None:
    log = Log(file)
    with log.writing() as writing:
        writing.add(NewEvent(kinds.ASSIGNED, "ana", data={"images": [], "expires": []}))
    log.close()
    connection = sqlite3.connect(file)
    connection.execute("DROP TRIGGER events_stay")
    connection.execute("UPDATE events SET data = '[' WHERE number = 4")
    connection.commit()
    connection.close()
    with pytest.raises(cf.FileReadError, match="damaged: after event 4"):
        Log(file)


def test_a_full_disk_loses_only_the_call(file: Path) -> None:
    log = Log(file)
    with log.writing() as writing:
        writing.add(label("a.jpg"))
    pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
    log._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="disk is full; nothing of this call was written"):
        _write_by(log, "x", 1, n_together=1000)
    log._connection.execute("PRAGMA max_page_count = 1000000")
    with log.writing() as writing:
        writing.add(label("b.jpg"))
    assert [*Log(file).state.images] == ["a.jpg", "b.jpg"]
    log.verify()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_said_so(file: Path) -> None:
    file.parent.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(OSError, match=r"a.campaign"), Log(file).writing() as writing:
            writing.add(label("a.jpg"))
    finally:
        file.parent.chmod(stat.S_IRWXU)


def _write(file: Path, name: str, n: int) -> None:
    _write_by(Log(file), name, n)


def _write_by(log: Log, name: str, n: int, n_together: int = 1) -> None:
    for k in range(n):
        with log.writing() as writing:
            for j in range(n_together):
                writing.add(label(f"{name}{k * n_together + j}"))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_share_a_file(file: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write, args=(file, name, 40)) for name in "xyz"]
    for writer in writers:
        writer.start()
    _write(file, "w", 40)
    for writer in writers:
        writer.join()
    log = Log(file)
    assert {*log.state.images} == {f"{name}{k}" for name in "wxyz" for k in range(40)}
    log.verify()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(file: Path) -> None:
    log = Log(file)
    child = multiprocessing.get_context("fork").Process(target=_write_by, args=(log, "child", 20))
    child.start()
    _write_by(log, "parent", 20)
    child.join()
    assert child.exitcode == 0
    assert len(log.refresh().images) == 40
    log.verify()


def test_network_file_systems_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "23 22 0:40 / /home rw - nfs4 server:/home rw\n"
        "24 23 8:2 / /home/me/local\\040disk rw - xfs /dev/sdb1 rw\n"
        "25 22 0:41 / /mnt/s rw - fuse.sshfs me@host: rw\n"
    )
    found = {
        place: network_file_system(place, mounts)
        for place in ("/home/me/a", "/home/me/local disk/a", "/var/a", "/mnt/s", "/homes", "/mnt/s/b/c")
    }
    assert found == {
        "/home/me/a": "nfs4",
        "/home/me/local disk/a": None,
        "/var/a": None,
        "/mnt/s": "fuse.sshfs",
        "/homes": None,
        "/mnt/s/b/c": "fuse.sshfs",
    }
    assert network_file_system("/", tmp_path / "none") is None


def test_two_machines_on_one_file_are_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ccma_fast.campaign.log.file_place.network_file_system", lambda path: "nfs4")
    with pytest.raises(OSError, match=r"on a disk of the machine that uses it.* on nfs4"):
        Log(file)
    with pytest.raises(OSError, match="on nfs4"):
        create_log(file.with_name("b"), FIRST)
    assert not file.with_name("b").exists()
