"""What can be undone, and what stands against it."""

from __future__ import annotations

from collections.abc import Sequence

from .answering import join
from .log import events as kinds
from .log.database import Log
from .log.events import Event, NewEvent
from .log.state import State

__all__ = ["undo"]

_FINAL = (kinds.CREATED, kinds.JOINED, kinds.IMAGES_RENAMED)


def undo(log: Log, numbers: Sequence[int], annotator: str) -> list[Event]:
    """Undo events, all of them or, on an error, none; without numbers the last one of an annotator that counts.

    Undoing an undo makes what it undid count again.

    Returns
    -------
    list of Event
        What was undone, the last first.

    Raises
    ------
    ValueError
        No such event, one that was undone already or that others build on.
    """
    with log.writing() as writing:
        undone = set()
        found = []
        for number in sorted(set(numbers), reverse=True) or [_last(log, annotator, writing.state)]:
            event = log.event(number)
            if event is None:
                raise ValueError(f"there is no event {number}, the last one is {writing.state.number}")
            if writing.state.is_undone(number):
                raise ValueError(f"event {number} ({event.kind}) was undone already")
            if event.kind in _FINAL:
                raise ValueError(f"event {number} ({event.kind}) cannot be undone")
            undone.add(number)
            if event.kind == kinds.CLASS_ADDED:
                _check_unused(log, event, writing.state, undone)
            found.append(event)
        join(writing, annotator)
        for event in found:
            writing.add(NewEvent(kinds.UNDONE, annotator, target=event.number))
        return found


def _last(log: Log, annotator: str, state: State) -> int:
    for event in reversed(log.events()):
        is_left = not state.is_undone(event.number) and event.kind not in (*_FINAL, kinds.UNDONE)
        if event.annotator == annotator and is_left:
            return event.number
    raise ValueError(f"there is nothing of {annotator!r} to undo")


def _check_unused(log: Log, event: Event, state: State, undone: set[int]) -> None:
    for other in log.events():
        is_about_it = event.number in (other.label, other.target) and other.kind != kinds.UNDONE
        if is_about_it and other.number not in undone and not state.is_undone(other.number):
            raise ValueError(
                f"event {event.number} ({event.kind}) cannot be undone while event {other.number} ({other.kind}) is "
                "about this class; undo that first, or merge the class into another"
            )
