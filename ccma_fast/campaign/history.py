"""The history of a campaign, as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .log import events as kinds
from .log.database import Log
from .log.events import Event
from .log.state import State

__all__ = ["Happening", "history_of"]


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
    """What happened, in the order in which it was written; of one image where it is given."""
    with log.reading() as state:
        added = {event.number: str(event.details["name"]) for event in log.events([kinds.CLASS_ADDED])}
        return [
            Happening(
                event.number,
                event.time,
                event.kind,
                event.annotator,
                _about(event, state, added),
                event.number in state.undone,
            )
            for event in log.events(image=image)
        ]


def _about(event: Event, state: State, added: Mapping[int, str]) -> str:
    def called(label: int) -> str:
        is_there = label not in state.undone
        return state.classes.name_of(label) if is_there else added[label]

    if event.kind in kinds.ANSWERS:
        said = event.refusal if event.label is None else called(event.label)
        return repr(event.image) if said is None else f"{event.image!r}: {said}"
    if event.kind == kinds.UNDONE:
        return f"event {event.target}"
    if event.kind == kinds.CLASS_ADDED:
        return added[event.number]
    if event.kind == kinds.CLASS_RENAMED:
        return f"to {event.details['name']}"
    if event.kind == kinds.CLASS_MERGED and event.label is not None:
        return f"into {called(event.label)}"
    if event.kind in (*kinds.BATCHES, kinds.ASSIGNED):
        return f"{len(event.details['images'])} images"
    return ""
