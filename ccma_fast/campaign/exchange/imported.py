"""What an importer returns, and how it collects that."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone

from ...errors import FileReadError
from .answer import CANNOT_TELL, NO_CLASS, Answer

__all__ = ["Collected", "Imported", "check_classes", "checked_text", "label_or_refusal", "parsed_time"]

# Images that a note names.
_SHOWN = 3

# ISO 8601 as programs write it: before Python 3.11 datetime.fromisoformat takes neither "Z" nor all fractions.
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9}))?\s?(Z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)


@dataclass(frozen=True)
class Imported:
    """The answers in a file.

    Attributes
    ----------
    answers : list of Answer
        In the order of the file, or of time. Images are named as the file names them; not all need be images of the
        campaign.
    notes : list of str
        What was in the file and is not among the answers, and why.
    by_row : bool
        Whether ``Answer.image`` is the image's row in the pool, in decimal digits: the file has no ids.
    campaigns : frozenset of str
        ``Assignment.campaign`` of what was answered, as far as the file says so.
    """

    answers: list[Answer]
    notes: list[str] = field(default_factory=list)
    by_row: bool = False
    campaigns: frozenset[str] = frozenset()


class Collected:
    """Answers and notes, while a file is read."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self._left_out: dict[str, list[str]] = {}
        self._campaigns: set[str] = set()

    def leave_out(self, image: str, why: str) -> None:
        """Something of an image that is no answer, and why."""
        self._left_out.setdefault(why, []).append(image)

    def add_campaign(self, campaign: str) -> None:
        """A campaign that the file names; empty where it names none."""
        if campaign:
            self._campaigns.add(campaign)

    def sort_by_time(self) -> None:
        """The earliest answer first; those of one time stay in their order. All have a time."""
        self.answers.sort(key=lambda answer: answer.answered or datetime.max.replace(tzinfo=timezone.utc))

    def imported(self, *, by_row: bool = False) -> Imported:
        """All of it."""
        return Imported(self.answers, list(self._notes()), by_row, frozenset(self._campaigns))

    def _notes(self) -> Iterator[str]:
        for why, images in self._left_out.items():
            more = ", …" if len(images) > _SHOWN else ""
            yield f"{len(images)} left out, {why}: {', '.join(map(repr, images[:_SHOWN]))}{more}"


def label_or_refusal(choice: str) -> tuple[str | None, str | None]:
    """What a choice in a labelling program is: a class, or one of the two refusals, which stand among the classes.

    Returns
    -------
    label, refusal : str or None
        One of both is given.
    """
    return (None, choice) if choice in (CANNOT_TELL, NO_CLASS) else (choice, None)


def checked_text(value: object, what: str, place: str) -> str:
    """Text that can be stored: it has no zero byte, and every character can be encoded.

    Parameters
    ----------
    value : object
    what, place : str
        What it is, and where, for the error message.

    Raises
    ------
    FileReadError
        It is something else.
    """
    if not isinstance(value, str):
        raise FileReadError(f"{what} must be text, got {value!r:.80}{place}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FileReadError(f"{what} must be text in UTF-8, got {value!r:.80}{place}") from None
    if "\0" in value:
        raise FileReadError(f"{what} must be text, got a zero byte in {value!r:.80}{place}")
    return value


def parsed_time(text: str, place: str) -> datetime:
    """A time with a time zone, of ISO 8601.

    Raises
    ------
    FileReadError
        It is none, or has no time zone.
    """
    found = _TIME.fullmatch(text.strip())
    zone = found[4] if found else None
    if found is None or zone is None:
        raise FileReadError(f"a time must be like 2030-12-31T23:59:00+00:00, with a time zone, got {text!r:.80}{place}")
    digits = zone[1:].replace(":", "").ljust(4, "0")
    zone = "+00:00" if zone == "Z" else f"{zone[0]}{digits[:2]}:{digits[2:]}"
    fraction = (found[3] or "0")[:6].ljust(6, "0")
    clock = found[2] if found[2].count(":") == 2 else f"{found[2]}:00"
    try:
        time = datetime.fromisoformat(f"{found[1]}T{clock}.{fraction}{zone}")
        time.astimezone(timezone.utc)  # the first and the last day of the calendar may lie outside it there
    except (ValueError, OverflowError) as error:
        raise FileReadError(f"a time must be one of the calendar, got {text!r:.80}{place}: {error}") from None
    return time


def check_classes(classes: Iterable[str], program: str) -> None:
    """Check that no class is called as a refusal is: in a labelling program both are choices.

    Raises
    ------
    ValueError
        One is.
    """
    for name in (CANNOT_TELL, NO_CLASS):
        if name in classes:
            raise ValueError(f"no class may be called {name!r} in {program}, where that is a refusal")
