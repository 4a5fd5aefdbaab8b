"""What can happen in a campaign."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

from ...version import __version__

__all__ = [
    "ANSWERS",
    "ASSIGNED",
    "AUDIT_DRAWN",
    "BATCHES",
    "BATCH_ISSUED",
    "CLASS_ADDED",
    "CLASS_MERGED",
    "CLASS_RENAMED",
    "CORRECTED",
    "CREATED",
    "IMAGES_RENAMED",
    "JOINED",
    "KINDS",
    "LABELLED",
    "REFUSED",
    "REOPENED",
    "RETRACTED",
    "SETTINGS_CHANGED",
    "UNDONE",
    "Event",
    "NewEvent",
    "as_text",
    "now",
]

CREATED = "campaign created"
SETTINGS_CHANGED = "settings changed"
CLASS_ADDED = "class added"
CLASS_RENAMED = "class renamed"
CLASS_MERGED = "class merged"
IMAGES_RENAMED = "images renamed"
JOINED = "annotator joined"
BATCH_ISSUED = "batch issued"
AUDIT_DRAWN = "audit sample drawn"
ASSIGNED = "images assigned"
LABELLED = "label"
REFUSED = "refusal"
CORRECTED = "correction"
RETRACTED = "retraction"
REOPENED = "reopening"
UNDONE = "undo"

BATCHES = (BATCH_ISSUED, AUDIT_DRAWN)
"""What issues images."""

ANSWERS = (LABELLED, REFUSED, CORRECTED, RETRACTED, REOPENED)
"""What is said of one image; each takes effect at the time at which it was said."""

KINDS = (
    CREATED,
    SETTINGS_CHANGED,
    CLASS_ADDED,
    CLASS_RENAMED,
    CLASS_MERGED,
    IMAGES_RENAMED,
    JOINED,
    *BATCHES,
    ASSIGNED,
    *ANSWERS,
    UNDONE,
)


class NewEvent(NamedTuple):
    """An event before it is in the log.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    annotator : str
        By whom; empty where nobody is named.
    image : str or None
        Id of the image that it is about.
    label : int or None
        Number of the event that added the class that it is about.
    target : int or None
        Number of the event that it undoes; the class that it renames or merges into `label`.
    answered : str or None
        When it was said, where that is known to be earlier than when it was written.
    refusal : str or None
        In the words of whoever refused.
    seconds : float or None
        That an answer took.
    key : str or None
        Unique among events: an answer that comes in again has the key that it had.
    data : mapping
        What else there is to it, as JSON can hold it.
    saw : str
        Digest of the last event that whoever did this knew of.
    """

    kind: str
    annotator: str = ""
    image: str | None = None
    label: int | None = None
    target: int | None = None
    answered: str | None = None
    refusal: str | None = None
    seconds: float | None = None
    key: str | None = None
    data: Mapping[str, Any] = {}
    saw: str = ""


class Event(NamedTuple):
    """An event in the log: a :class:`~ccma_fast.campaign.log.events.NewEvent` with its number, its time and its digest.

    Attributes
    ----------
    number : int
        1, 2, 3, … in the order in which events were written.
    time : str
        When it was written: UTC, such as "2026-01-31T12:00:00.000000+00:00"; as text they sort by time. Never before
        the event before it, even where the clock was set back.
    version : str
        Of the package that wrote it.
    digest : str
        Of it and of all before it, 32 hexadecimal digits.
    """

    number: int
    time: str
    kind: str
    annotator: str
    image: str | None
    label: int | None
    target: int | None
    answered: str | None
    refusal: str | None
    seconds: float | None
    key: str | None
    data: str
    version: str
    saw: str
    digest: str

    @property
    def details(self) -> dict[str, Any]:
        """What :attr:`data` holds."""
        found: dict[str, Any] = json.loads(self.data)
        return found

    @classmethod
    def of(cls, new: NewEvent, number: int, time: str, digest_before: str) -> Event:
        """A new event, behind the one with a given digest."""
        data = json.dumps(new.data, sort_keys=True, separators=(",", ":"), allow_nan=False)
        event = cls(
            number,
            time,
            new.kind,
            new.annotator,
            new.image,
            new.label,
            new.target,
            new.answered,
            new.refusal,
            new.seconds,
            new.key,
            data,
            __version__,
            new.saw or digest_before,
            "",
        )
        return event._replace(digest=event.chained(digest_before))

    def chained(self, digest_before: str) -> str:
        """The digest that it should have, behind an event with a given one."""
        content = json.dumps([digest_before, *self[:-1]], ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(content.encode("ascii"), digest_size=16).hexdigest()


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(timezone.utc)


def as_text(time: datetime) -> str:
    """A time as events hold it."""
    return time.astimezone(timezone.utc).isoformat(timespec="microseconds")
