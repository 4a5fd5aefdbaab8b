"""The history of a campaign, as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from .log import events as kinds
from .log.database import Log
from .log.events import Event
from .log.state import State

__all__ = ["Happening", "history_of"]

_WITH_IMAGES = (*kinds.BATCHES, kinds.ASSIGNED)


class Happening(NamedTuple):
    """Something that happened.

    Attributes
    ----------
    number : int
        Of the event.
    time, kind, annotator : str
    about : str
        The image, the class, what was undone, or how many images.
    is_undone : bool
        Whether it counts no more.
    """

    number: int
    time: str
    kind: str
    annotator: str
    about: str
    is_undone: bool


def history_of(log: Log, image: str | None = None) -> list[Happening]:
    """What happened, in the order in which it was written.

    Of one image where it is given: what was said of it, the batches that it was in, and whom it was assigned to.
    """
    with log.reading() as state:
        return [
            Happening(event.number, event.time, event.kind, event.annotator, about, event.number in state.undone)
            for event, about in _told(_events(log, image), state)
            if image is None or _concerns(event, image, state)
        ]


def _events(log: Log, image: str | None) -> list[Event]:
    """All events; or those about one image, about many of them, and about classes."""
    if image is None:
        return log.events()
    of_many = log.events([*_WITH_IMAGES, kinds.CLASS_ADDED, kinds.CLASS_RENAMED])
    return sorted(of_many + log.events(image=image), key=lambda event: event.number)


def _told(events: Iterable[Event], state: State) -> Iterator[tuple[Event, str]]:
    """Each event with what it is about."""
    names: dict[int | None, str] = {}  # of classes, as they were called then
    for event in events:
        yield event, _about(event, state, names)
        if event.kind == kinds.CLASS_ADDED:
            names[event.number] = str(event.details["name"])
        elif event.kind == kinds.CLASS_RENAMED and event.number not in state.undone:
            names[event.label] = str(event.details["name"])


def _concerns(event: Event, image: str, state: State) -> bool:
    if event.kind in _WITH_IMAGES:
        now = state.name_now(image)
        return any(state.name_now(name) == now for name in event.details["images"])
    return event.image == image


def _about(event: Event, state: State, names: Mapping[int | None, str]) -> str:
    def called(label: int) -> str:
        is_there = label not in state.undone
        return state.classes.name_of(label) if is_there else names[label]

    if event.kind in kinds.ANSWERS:
        said = event.refusal if event.label is None else called(event.label)
        return repr(event.image) if said is None else f"{event.image!r}: {said}"
    if event.kind == kinds.UNDONE:
        return f"event {event.target}"
    if event.kind == kinds.CLASS_ADDED:
        return str(event.details["name"])
    if event.kind == kinds.CLASS_RENAMED:
        return f"{names[event.label]!r} to {event.details['name']!r}"
    if event.kind == kinds.CLASS_MERGED and event.label is not None:
        return f"{names[event.target]!r} into {names[event.label]!r}"
    if event.kind in _WITH_IMAGES:
        return f"{len(event.details['images'])} images"
    return ""
