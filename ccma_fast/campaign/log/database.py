"""The file of a campaign: events in an SQLite database, each of which is written once and never changed.

======================  ========================================================================================
``events``              one row an event, see :class:`~.events.Event`; triggers refuse every change and removal
``picks``               one row a pick: by the number of its batch's event and its rank, what the query said of it
``queries``             one row a batch: what the query said of itself
``application_id``      tells that the file is a campaign; ``user_version`` is the number of the format
======================  ========================================================================================

Each event has a digest of itself and of the digest before it, so that none can be changed, removed or put in between
without every later digest being wrong; :meth:`Log.verify` looks.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from ...errors import FileReadError
from ...system.output_files import check_can_write, sync_directory
from ...version import __version__, newer_error
from . import events as kinds
from .events import Event, NewEvent, as_text, now
from .file_place import BESIDE, check_alone, check_place, check_same_file, identity_of
from .state import ANSWER_COLUMNS, State

__all__ = ["Log", "Records", "Writing", "create_log"]

_FORMAT = 1
_APPLICATION = 0x63636D61  # "ccma"

# Seconds that a writer waits for others; each holds the file for milliseconds.
_PATIENCE = 60.0

_SCHEMA = """
CREATE TABLE events (
  number INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  kind TEXT NOT NULL,
  annotator TEXT NOT NULL,
  image TEXT,
  label INTEGER REFERENCES events (number),
  target INTEGER REFERENCES events (number),
  answered TEXT,
  refusal TEXT,
  seconds REAL,
  key TEXT UNIQUE,
  data TEXT NOT NULL,
  version TEXT NOT NULL,
  saw TEXT NOT NULL,
  digest TEXT NOT NULL UNIQUE
);
CREATE TABLE picks (
  event INTEGER NOT NULL REFERENCES events (number),
  rank INTEGER NOT NULL,
  record TEXT NOT NULL,
  PRIMARY KEY (event, rank)
) WITHOUT ROWID;
CREATE TABLE queries (
  event INTEGER PRIMARY KEY REFERENCES events (number),
  record TEXT NOT NULL
);
CREATE INDEX events_of_image ON events (image) WHERE image IS NOT NULL;
CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT RAISE(ABORT, 'events are never changed'); END;
CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT RAISE(ABORT, 'events are never removed'); END;
CREATE TRIGGER picks_stay BEFORE UPDATE ON picks BEGIN SELECT RAISE(ABORT, 'picks are never changed'); END;
CREATE TRIGGER picks_remain BEFORE DELETE ON picks BEGIN SELECT RAISE(ABORT, 'picks are never removed'); END;
CREATE TRIGGER queries_stay BEFORE UPDATE ON queries BEGIN SELECT RAISE(ABORT, 'queries are never changed'); END;
CREATE TRIGGER queries_remain BEFORE DELETE ON queries BEGIN SELECT RAISE(ABORT, 'queries are never removed'); END;
"""

_COLUMNS = ", ".join(Event._fields)
_PLACES = ", ".join("?" * len(Event._fields))


class Records(NamedTuple):
    """What the query of a batch said, as JSON.

    Attributes
    ----------
    query : str
        Of itself.
    picks : list of str
        Of each pick, in the order of choice.
    """

    query: str
    picks: list[str]

    @property
    def digest(self) -> str:
        """Of all of it, 32 hexadecimal digits."""
        content = json.dumps([self.query, *self.picks]).encode("ascii")
        return hashlib.blake2b(content, digest_size=16).hexdigest()


# long: every statement on the file, those of `Writing` aside
class Log:
    """The events of a campaign.

    Threads and processes of one machine may share the file: SQLite's write-ahead log lets them read while one writes.
    What :meth:`writing` has written survives whatever happens to the process or the machine afterwards.

    Parameters
    ----------
    path : path

    Raises
    ------
    FileReadError
        No such file, one that is no campaign, a damaged one, or one of a newer version.
    OSError
        The file lies where several machines may use it at once, for which SQLite's log is not made, or it or its
        folder cannot be written.

    Attributes
    ----------
    file : Path
    is_closed : bool
    state : State
        As of the last event that was read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = Path(path)
        self.is_closed = False
        self._lock = threading.RLock()
        self._of_parents: list[sqlite3.Connection] = []
        if not self.file.is_file():
            raise FileReadError(f"no campaign {str(self.file)!r}")
        check_place(self.file)
        self._open()
        try:
            with _errors(self.file):
                self.state = self._whole_state()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file. What was written is written."""
        with self._lock:
            self._connection.close()
            self.is_closed = True

    def refresh(self) -> State:
        """The state with what others have written meanwhile."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            return self._refreshed()

    @contextmanager
    def reading(self) -> Iterator[State]:
        """The newest state, which no other thread of this process changes meanwhile."""
        with self._lock:
            yield self.refresh()

    @contextmanager
    def writing(self) -> Iterator[Writing]:
        """Add events, all of them or, on an error, none. Nobody else writes meanwhile; the state is the newest."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                check_same_file(self.file, self._identity)
                writing = Writing(self._connection, str(self.file), self._refreshed())
                yield writing
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self.state = self._whole_state()  # without what was added to it
                raise
            if writing.has_undone:
                self.state = self._whole_state()

    def events(self, kinds_wanted: Iterable[str] | None = None, image: str | None = None) -> list[Event]:
        """Events in their order: all, or those of some kinds, or about one image."""
        conditions: list[str] = []
        values: list[str] = []
        if kinds_wanted is not None:
            values += kinds_wanted
            conditions.append(f"kind IN ({', '.join('?' * len(values))})")
        if image is not None:
            conditions.append("image = ?")
            values.append(image)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            found = self._connection.execute(f"SELECT {_COLUMNS} FROM events {where} ORDER BY number", values)
            return [Event(*row) for row in found]

    def event(self, number: int) -> Event | None:
        """One event by its number."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            row = self._connection.execute(f"SELECT {_COLUMNS} FROM events WHERE number = ?", [number]).fetchone()
            return None if row is None else Event(*row)

    def records(self, event: int) -> Records:
        """What the query of a batch said."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            picks = self._connection.execute("SELECT record FROM picks WHERE event = ? ORDER BY rank", [event])
            of_query = self._connection.execute("SELECT record FROM queries WHERE event = ?", [event])
            query = of_query.fetchone()
            if query is None:
                raise FileReadError(f"{str(self.file)!r} is damaged: it has no record of the batch of event {event}")
            return Records(query[0], [record for (record,) in picks])

    def query_records(self) -> dict[int, str]:
        """What the query of every batch said of itself, by the number of the batch's event."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            return dict(self._connection.execute("SELECT event, record FROM queries").fetchall())

    def seconds(self) -> list[tuple[int, str, float]]:
        """The time that each answer took, where it is known, with the number of its event and the annotator."""
        with self._lock, _errors(self.file):
            self._use_own_connection()
            found = self._connection.execute("SELECT number, annotator, seconds FROM events WHERE seconds IS NOT NULL")
            return found.fetchall()

    def verify(self) -> None:
        """Check every page of the file and the chain of digests.

        Raises
        ------
        FileReadError
            Something was changed or is damaged.
        """
        with self._lock, _errors(self.file):
            self._use_own_connection()
            (found,) = self._connection.execute("PRAGMA integrity_check").fetchone()
            broken = self._connection.execute("PRAGMA foreign_key_check").fetchone()
            if found != "ok" or broken is not None:
                raise FileReadError(f"{str(self.file)!r} is damaged: {found if found != 'ok' else broken}")
            digest, number = "", 0
            for row in self._connection.execute(f"SELECT {_COLUMNS} FROM events ORDER BY number").fetchall():
                event, number = Event(*row), number + 1
                is_whole = event.number == number and event.chained(digest) == event.digest
                if is_whole and event.kind in kinds.BATCHES:
                    is_whole = _has_records(self, event)
                if not is_whole:
                    raise FileReadError(f"{str(self.file)!r} was changed: event {number} is not as it was written")
                digest = event.digest

    def _open(self) -> None:
        with _errors(self.file):
            self._process = os.getpid()
            self._identity = identity_of(self.file)
            uri = f"{self.file.absolute().as_uri()}?mode=rw"
            self._connection = sqlite3.connect(
                uri, uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
            )
            try:
                _check_format(self._connection, str(self.file))
                self._connection.execute("PRAGMA journal_mode = WAL")
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA foreign_keys = ON")
            except BaseException:
                self._connection.close()
                raise

    def _use_own_connection(self) -> None:
        """A forked process must neither use nor close the connection of its parent; a closed campaign is not used."""
        if self.is_closed:
            raise ValueError(f"the campaign {str(self.file)!r} is closed; open it anew by Campaign.open")
        if self._process != os.getpid():
            self._of_parents.append(self._connection)
            self._open()

    def _refreshed(self) -> State:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM events WHERE number > ? ORDER BY number", [self.state.number]
        ).fetchall()
        if any(row[2] == kinds.UNDONE for row in rows):
            self.state = self._whole_state()
        else:
            for row in rows:
                self.state.apply(Event(*row))
        return self.state

    def _whole_state(self) -> State:
        """The state by all events, as of one moment."""
        begins = not self._connection.in_transaction
        if begins:
            self._connection.execute("BEGIN")
        try:
            return _state_of(self._connection, str(self.file))
        finally:
            if begins and self._connection.in_transaction:  # which an error, such as of a full disk, may have ended
                self._connection.execute("COMMIT")


def _state_of(connection: sqlite3.Connection, file: str) -> State:
    undoing = connection.execute(
        "SELECT number, target FROM events WHERE kind = ? ORDER BY number DESC", [kinds.UNDONE]
    ).fetchall()
    undone: set[int] = set()
    for number, target in undoing:  # the last first: what undid something may be undone itself
        if number not in undone:
            undone.add(target)
    state = State(undone)
    last = connection.execute("SELECT number, time, digest FROM events ORDER BY number DESC LIMIT 1").fetchone()
    if last is None:
        raise FileReadError(f"{file!r} is damaged: it has no events")
    of_answers = f"({', '.join('?' * len(kinds.ANSWERS))})"
    others = connection.execute(
        f"SELECT {_COLUMNS} FROM events WHERE kind NOT IN {of_answers} ORDER BY number", kinds.ANSWERS
    )
    answers = connection.execute(
        f"SELECT {', '.join(ANSWER_COLUMNS)} FROM events WHERE kind IN {of_answers} ORDER BY number", kinds.ANSWERS
    )
    try:
        state.apply_all(map(Event._make, others), answers, *last)
    except (LookupError, ValueError, TypeError, AssertionError) as error:
        raise FileReadError(f"{file!r} is damaged: after event {state.number} comes {error!r}") from error
    return state


class Writing:
    """A transaction: events to be added.

    Attributes
    ----------
    state : State
        With what has been added so far.
    has_undone : bool
        Whether an event was undone, so that the state has to be put together anew.
    """

    def __init__(self, connection: sqlite3.Connection, file: str, state: State) -> None:
        self.state = state
        self._file = file
        self.has_undone = False
        self._connection = connection

    def add(self, new: NewEvent, records: Records | None = None) -> Event:
        """Add one event, for a batch with what its query said."""
        if records is not None:
            new = new._replace(data={**new.data, "records": records.digest})
        before = self.state
        (event,) = _insert(self._connection, [new], number=before.number, time=before.time, digest=before.digest)
        if records is not None:
            picks = ((event.number, rank, record) for rank, record in enumerate(records.picks, start=1))
            self._connection.executemany("INSERT INTO picks (event, rank, record) VALUES (?, ?, ?)", picks)
            self._connection.execute("INSERT INTO queries VALUES (?, ?)", [event.number, records.query])
        self.state.apply(event)
        self.has_undone |= event.kind == kinds.UNDONE
        return event

    def rebuilt(self) -> State:
        """The state by all events that count, once some were undone."""
        return _state_of(self._connection, self._file)

    def known_keys(self, keys: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Those of some keys of answers that are known already, each with the image and the annotator."""
        asked = "SELECT key, image, annotator FROM events WHERE key = ?"
        found = (self._connection.execute(asked, [key]).fetchone() for key in keys)
        return {row[0]: (row[1], row[2]) for row in found if row is not None}


def create_log(path: str | os.PathLike[str], new: Sequence[NewEvent]) -> Log:
    """A new file with its first events; there or not at all.

    Raises
    ------
    FileExistsError
        Something is there.
    OSError
        As for :class:`Log`.
    """
    file = Path(path)
    check_place(file)
    check_can_write(file)
    if os.path.lexists(file):
        raise _is_there(file)
    check_alone(file)
    part = file.with_name(f".{file.name}.{secrets.token_hex(8)}.ccma-part")
    try:
        with _errors(part, what="written"):
            connection = sqlite3.connect(part, isolation_level=None)
            try:
                connection.executescript(
                    f"PRAGMA synchronous = OFF; BEGIN; PRAGMA application_id = {_APPLICATION}; "
                    f"PRAGMA user_version = {_FORMAT}; {_SCHEMA}"
                )
                _insert(connection, new)
                connection.execute("COMMIT")
            finally:
                connection.close()
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        try:
            os.link(part, file)  # never replaces what is there
        except FileExistsError:
            raise _is_there(file) from None
        sync_directory(file.parent)
    finally:
        part.unlink(missing_ok=True)
    try:
        return Log(file)
    except BaseException:  # such as for a full disk: there or not at all
        for end in ("", *BESIDE):
            file.with_name(file.name + end).unlink(missing_ok=True)
        raise


def _insert(
    connection: sqlite3.Connection, new: Iterable[NewEvent], *, number: int = 0, time: str = "", digest: str = ""
) -> list[Event]:
    """Add events behind the one with a number, a time and a digest."""
    added = []
    for entry in new:
        number += 1
        # A clock that was set back makes nothing earlier than what is there: what was said last counts.
        time = max(time, as_text(now()))
        event = Event.of(entry, number, time, digest)
        connection.execute(f"INSERT INTO events ({_COLUMNS}) VALUES ({_PLACES})", event)
        digest = event.digest
        added.append(event)
    return added


def _has_records(log: Log, event: Event) -> bool:
    """Whether what the query of a batch said is there, as it was written."""
    try:
        return bool(log.records(event.number).digest == event.details["records"])
    except (FileReadError, UnicodeError):
        return False


def _is_there(file: Path) -> FileExistsError:
    return FileExistsError(f"{str(file)!r} is there already; expected a new file")


def _check_format(connection: sqlite3.Connection, file: str) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION:
        raise FileReadError(f"{file!r} is no campaign of ccma_fast {__version__}")
    if version > _FORMAT:
        raise newer_error(file, f"format {version}")


@contextmanager
def _errors(file: Path, *, what: str = "used") -> Iterator[None]:
    """SQLite's errors as those of the operating system, with the name of the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        text = f"the campaign {str(file)!r} cannot be {what}: {error}"
        if "disk is full" in str(error):  # Python 3.10 does not tell the code
            raise OSError(errno.ENOSPC, f"{text}; nothing of this call was written") from error
        raise (OSError(text) if isinstance(error, sqlite3.OperationalError) else FileReadError(text)) from error
