"""Answers of people, on their way into the log: whose, of which image, which class, and whether they are new."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ..system import display
from .class_changes import added_class, unknown_class
from .exchange.answer import Answer
from .given import check_annotator
from .log import events as kinds
from .log.database import Log, Writing
from .log.events import NewEvent, as_text
from .log.state import State
from .log.votes import REFUSAL
from .places import Place

__all__ = ["Taken", "join", "take_answers", "withdraw"]

FindPlaces = Callable[[Sequence[str]], "dict[str, Place]"]
"""From ids to where the images are in the pool, without those that it has not."""

# Images named in an error message.
_SHOWN = 3


@dataclass(frozen=True)
class Taken:
    """What became of answers that came in.

    Attributes
    ----------
    n_new : int
        Answers that are in the log now.
    n_known : int
        Answers that were there before.
    superseded : list of str
        Images of those among the known answers that count no more, since something else was said later, or they were
        undone.
    never_issued : list of str
        Images that no batch had asked about; their answers are taken.
    unknown : list of str
        Images that the pool does not have, whose answers were left out.
    added_classes : list of str
    n_undecided : int
        Images among those answered about about which more people are to answer.
    events : tuple of int, or None
        Numbers of the first and the last event of these answers, by which all of them can be undone; None without one.
    """

    n_new: int = 0
    n_known: int = 0
    superseded: list[str] = field(default_factory=list)
    never_issued: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    added_classes: list[str] = field(default_factory=list)
    n_undecided: int = 0
    events: tuple[int, int] | None = None

    def __repr__(self) -> str:
        images = {
            "superseded": self.superseded,
            "never issued": self.never_issued,
            "unknown": self.unknown,
            "added classes": self.added_classes,
        }
        listed = [f"{what} [{display.few(names, len(names))}]" for what, names in images.items() if names]
        undecided = f"{self.n_undecided:,} undecided" if self.n_undecided else ""
        events = "" if self.events is None else f"events {self.events[0]} to {self.events[1]}"
        return display.line("Taken", f"{self.n_new:,} new", f"{self.n_known:,} known", *listed, undecided, events)


class _Located(NamedTuple):
    """Where images that were never issued are, and those that are nowhere."""

    places: dict[str, Place]
    unknown: list[str]


def take_answers(
    log: Log,
    answers: Sequence[Answer],
    find_places: FindPlaces,
    *,
    kind: str | None = None,
    new_classes: bool = False,
    skip_unknown: bool = False,
) -> Taken:
    """Add answers to a log; all of them or, on an error, none.

    Parameters
    ----------
    log : Log
    answers : sequence of Answer
        Those without a key of their own get one of image, annotator, answer and time where `kind` is None.
    find_places : callable
        Is asked only about images that the log does not know.
    kind : str, optional
        What all of them are, :data:`~.log.events.CORRECTED` for one; by default labels and refusals.
    new_classes : bool
        Add classes that are not known, instead of refusing their names.
    skip_unknown : bool
        Leave out answers about images that the pool does not have, instead of refusing all.

    Raises
    ------
    ValueError
        Unknown classes or images; a key that is known of another image or annotator.
    """
    answers = [_by_known_annotator(answer) for answer in answers]
    located = _located(log.refresh(), answers, find_places)
    if located.unknown and not skip_unknown:
        raise ValueError(
            f"answers must be about images of the pool, got {len(located.unknown)} others, first "
            f"{located.unknown[:_SHOWN]!r}"
        )
    unknown = set(located.unknown)
    known_answers = [answer for answer in answers if answer.image not in unknown]
    with log.writing() as writing:
        before = writing.state.number
        labels, added = _labels(writing, known_answers, new_classes=new_classes)
        keys = [answer.key or (_key(answer) if kind is None else None) for answer in known_answers]
        there = writing.known_keys(key for key in keys if key is not None)
        state, batch_of = writing.state, writing.state.batch_of()
        superseded: dict[str, None] = {}
        never_issued: dict[str, None] = {}
        n_known = 0
        for answer, key in zip(known_answers, keys, strict=True):
            image = state.name_now(answer.image)
            label = None if answer.label is None else labels[answer.label]
            if key is not None and key in there:
                _check_same(key, there[key], image, answer.annotator, state)
                n_known += 1
                if state.votes(image).get(answer.annotator) != (REFUSAL if label is None else label):
                    superseded[image] = None
                continue
            if key is not None:
                there[key] = image, answer.annotator
            join(writing, answer.annotator)
            place = located.places.get(answer.image)
            if image not in batch_of:
                never_issued[image] = None
            writing.add(_event(answer, kind, label, key, None if image in state.images else place))
        images = {state.name_now(answer.image) for answer in known_answers}
        return Taken(
            n_new=len(known_answers) - n_known,
            n_known=n_known,
            superseded=[*superseded],
            never_issued=[*never_issued],
            unknown=located.unknown,
            added_classes=added,
            n_undecided=sum(bool(state.votes(image)) and state.outcome(image).vote is None for image in images),
            events=None if state.number == before else (before + 1, state.number),
        )


def withdraw(log: Log, images: Sequence[str], kind: str, annotator: str) -> None:
    """Withdraw what an annotator said of images, or set aside all that was said of them.

    Parameters
    ----------
    log : Log
    images : sequence of str
    kind : str
        :data:`~.log.events.RETRACTED` or :data:`~.log.events.REOPENED`.
    annotator : str

    Raises
    ------
    ValueError
        Nothing counts that they, or anybody, said of one of the images.
    """
    with log.writing() as writing:
        state = writing.state
        join(writing, annotator)
        for given in images:
            image = state.name_now(given)
            votes = state.votes(image)
            if not votes if kind == kinds.REOPENED else annotator not in votes:
                whose = "anybody" if kind == kinds.REOPENED else repr(annotator)
                raise ValueError(f"images must have an answer by {whose}, got {given!r}, which has none")
            writing.add(NewEvent(kind, annotator, image))


def join(writing: Writing, annotator: str) -> None:
    """Note that an annotator takes part, where that is new."""
    if annotator and annotator not in writing.state.annotators:
        writing.add(NewEvent(kinds.JOINED, annotator))


def _by_known_annotator(answer: Answer) -> Answer:
    """An answer of somebody who is called as :func:`.given.check_annotator` says, wherever it comes from."""
    if not isinstance(answer, Answer):
        raise TypeError(f"answers must be of the type Answer, got {type(answer).__name__} {answer!r:.80}")
    name = check_annotator(answer.annotator)
    return answer if name == answer.annotator else replace(answer, annotator=name)


def _check_same(key: str, known: tuple[str, str], image: str, annotator: str, state: State) -> None:
    """Check that an answer whose key is known is about the same image, by the same annotator."""
    before, by = known
    if (state.name_now(before), by) != (image, annotator):
        raise ValueError(
            f"each key must be of one answer, got {key!r} of {image!r} by {annotator!r}, which was taken before of "
            f"{before!r} by {by!r}"
        )


def _located(state: State, answers: Iterable[Answer], find_places: FindPlaces) -> _Located:
    batch_of = state.batch_of()
    missing = {
        answer.image: None
        for answer in answers
        if (name := state.name_now(answer.image)) not in batch_of and name not in state.images
    }
    if not missing:
        return _Located({}, [])
    places = find_places([*missing])
    return _Located(places, [image for image in missing if image not in places])


def _labels(writing: Writing, answers: Iterable[Answer], *, new_classes: bool) -> tuple[dict[str, int], list[str]]:
    """The class that each name means, and the names of classes that were added for it."""
    labels: dict[str, int] = {}
    added = []
    for answer in answers:
        name = answer.label
        if name is None or name in labels:
            continue
        label = writing.state.classes.called(name)
        if label is None:
            if not new_classes:
                raise unknown_class(writing.state, name, f" for image {answer.image!r}")
            join(writing, answer.annotator)
            label = added_class(writing, name, answer.annotator)
            added.append(name.strip())
        labels[name] = label
    return labels, added


def _event(answer: Answer, kind: str | None, label: int | None, key: str | None, place: Place | None) -> NewEvent:
    data: dict[str, Any] = {} if place is None else {"row": place.row, "digest": place.digest}
    data |= {name: value for name in ("order", "note") if (value := getattr(answer, name))}
    if answer.shown is not None:
        data["shown"] = [*answer.shown]
    if answer.probabilities is not None:
        data["probabilities"] = answer.probabilities
    return NewEvent(
        kind or (kinds.REFUSED if label is None else kinds.LABELLED),
        answer.annotator,
        answer.image,
        label,
        answered=None if answer.answered is None else as_text(answer.answered),
        refusal=answer.refusal,
        seconds=answer.seconds,
        key=key,
        data=data,
        saw=answer.saw,
    )


def _key(answer: Answer) -> str:
    time = "" if answer.answered is None else as_text(answer.answered)
    content = json.dumps([answer.image, answer.annotator, answer.label, answer.refusal, time])
    return hashlib.blake2b(content.encode("ascii"), digest_size=16).hexdigest()
