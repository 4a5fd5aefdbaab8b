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

# Without which classes may contradict each other, for later events were written while they counted, or did not.
_OF_CLASSES = (kinds.CLASS_ADDED, kinds.CLASS_RENAMED, kinds.CLASS_MERGED, kinds.UNDONE)


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
            if number in writing.state.undone:
                raise ValueError(f"event {number} ({event.kind}) was undone already")
            if event.kind == kinds.JOINED and len(numbers) > 1:
                continue  # as in the events of an import, of which nothing else may be left out
            if event.kind in _FINAL:
                raise ValueError(f"event {number} ({event.kind}) cannot be undone")
            undone.add(number)
            if event.kind == kinds.CLASS_ADDED:
                _check_unused(log, event, writing.state, undone)
            found.append(event)
        join(writing, annotator)
        for event in found:
            writing.add(NewEvent(kinds.UNDONE, annotator, target=event.number))
        if any(event.kind in _OF_CLASSES for event in found):
            _check_classes(log, writing.rebuilt(), [event.number for event in found])
        return found


def _last(log: Log, annotator: str, state: State) -> int:
    for event in reversed(log.events()):
        is_left = event.number not in state.undone and event.kind not in (*_FINAL, kinds.UNDONE)
        is_left &= event.number not in state.classes.declared  # nobody did that: the campaign began so
        if annotator in ("", event.annotator) and is_left:
            return event.number
    raise ValueError(f"there is nothing{f' of {annotator!r}' if annotator else ''} to undo")


def _check_unused(log: Log, event: Event, state: State, undone: set[int]) -> None:
    for other in log.events():
        is_about_it = event.number in (other.label, other.target) and other.kind != kinds.UNDONE
        if is_about_it and other.number not in undone and other.number not in state.undone:
            raise ValueError(
                f"event {event.number} ({event.kind}) cannot be undone while event {other.number} ({other.kind}) is "
                "about this class; undo that first, or merge the class into another"
            )


def _check_classes(log: Log, state: State, undone: Sequence[int]) -> None:
    """Check the classes of the state that an undo would lead to."""
    contradiction = state.classes.contradiction()
    if contradiction is None:
        lacking = (event for event in log.events() if event.number not in state.undone and state.classes.lacks(event))
        event = next(lacking, None)
        if event is None:
            return
        contradiction = f"event {event.number} ({event.kind}) would be about a class that there is not"
    numbers = ", ".join(map(str, undone))
    raise ValueError(f"without event {numbers} {contradiction}; expected that later events allow it, or are undone too")
