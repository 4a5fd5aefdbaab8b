"""The state of a campaign, which follows from its events alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from . import events as kinds
from .class_list import ClassList
from .events import Event, as_text
from .votes import REFUSAL, Outcome, outcome

__all__ = ["Batch", "ImageAnswers", "State", "Vote"]


class Vote(NamedTuple):
    """What one person last said of an image."""

    said: str
    event: int
    label: int | None
    """Number of the event that added the class; None for a refusal and for an answer that was withdrawn."""
    refusal: str | None
    """In the words of the person."""

    @property
    def is_withdrawn(self) -> bool:
        return self.label is None and self.refusal is None


@dataclass
class ImageAnswers:
    """What people said of one image.

    Attributes
    ----------
    votes : dict of str to Vote
        The last of each annotator, withdrawn ones included.
    since : (str, int)
        When all answers before were set aside, by a correction or a reopening, and by which event.
    place : (int, str) or None
        Its row in the pool and the digest of what that held, where no batch says so.
    """

    votes: dict[str, Vote] = field(default_factory=dict)
    since: tuple[str, int] = ("", 0)
    place: tuple[int, str] | None = None

    def add(self, annotator: str, vote: Vote) -> None:
        """Take in a vote, where it is the annotator's last."""
        before = self.votes.get(annotator)
        if before is None or before[:2] < vote[:2]:
            self.votes[annotator] = vote

    def take_in(self, other: ImageAnswers) -> None:
        """Take in what was said of the same image under another name."""
        self.since = max(self.since, other.since)
        self.place = self.place or other.place
        for annotator, vote in other.votes.items():
            self.add(annotator, vote)

    @property
    def valid(self) -> dict[str, Vote]:
        """The votes that count."""
        return {name: vote for name, vote in self.votes.items() if vote[:2] >= self.since and not vote.is_withdrawn}


@dataclass(frozen=True, eq=False)
class Batch:
    """Images that were issued together.

    Attributes
    ----------
    number : int
        1, 2, 3, … in the order in which they were issued, undone ones included.
    event : int
    issued : str
    expires : str
        From when on what nobody has answered is free again; empty for never.
    images : tuple of str
        Their ids, in the order of choice.
    rows : tuple of int
        Where they were in the pool.
    digests : tuple of str
        Of what these rows held.
    is_audit : bool
        They were drawn at random, and not chosen.
    """

    number: int
    event: int
    issued: str
    expires: str
    images: tuple[str, ...]
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    is_audit: bool

    def is_open(self, now: str) -> bool:
        """Whether its images are reserved."""
        return not self.expires or now < self.expires


class State:
    """What the events so far come to; :meth:`apply` takes the next ones.

    The order in which answers were written does not matter, only when they were said.

    Attributes
    ----------
    number : int
        Of the last event.
    digest : str
        Its digest.
    settings : dict
    classes : ClassList
    batches : list of Batch
        Without undone ones.
    images : dict of str to ImageAnswers
        Every image of which somebody has said something.
    annotators : dict of str to str
        When each joined.
    """

    def __init__(self, undone: Iterable[int] = ()) -> None:
        self.number, self.digest = 0, ""
        self.settings: dict[str, Any] = {}
        self.classes = ClassList()
        self.batches: list[Batch] = []
        self.images: dict[str, ImageAnswers] = {}
        self.annotators: dict[str, str] = {}
        self.n_answers = 0
        self._undone = frozenset(undone)
        self._n_issued = 0
        self._assigned: dict[str, dict[str, str]] = {}  # of an image: until when to whom
        self._renamed: dict[str, str] = {}

    def apply(self, event: Event) -> None:
        """Take in the next event. An undone one changes nothing but the digest."""
        self.number, self.digest = event.number, event.digest
        if event.number in self._undone:
            if event.kind in kinds.BATCHES:
                self._n_issued += 1
        elif event.kind in kinds.ANSWERS:
            self._answer(event)
        elif event.kind in kinds.BATCHES:
            self._issue(event)
        elif event.kind == kinds.ASSIGNED:
            details = event.details
            for image in details["images"]:
                self._assigned.setdefault(self.name_now(image), {})[event.annotator] = details["expires"]
        elif event.kind == kinds.JOINED:
            self.annotators[event.annotator] = event.time
        elif event.kind in (kinds.CREATED, kinds.SETTINGS_CHANGED):
            self.settings.update(event.details)
        elif event.kind == kinds.IMAGES_RENAMED:
            self._rename(event.details["names"])
        elif event.kind != kinds.UNDONE:
            self.classes.apply(event)

    def is_undone(self, number: int) -> bool:
        """Whether an event counts no more."""
        return number in self._undone

    def _answer(self, event: Event) -> None:
        assert event.image is not None, "an answer is about an image"
        of_image = self.images.setdefault(self.name_now(event.image), ImageAnswers())
        said = (event.said, event.number)
        details = event.details if event.data != "{}" else {}
        if "row" in details:
            of_image.place = (details["row"], details["digest"])
        self.n_answers += 1
        if event.kind in (kinds.CORRECTED, kinds.REOPENED):
            of_image.since = max(of_image.since, said)
        if event.kind == kinds.REOPENED:
            return
        refusal = details.get("refusal") if event.kind != kinds.RETRACTED else None
        of_image.add(event.annotator, Vote(*said, event.label, refusal))

    def _issue(self, event: Event) -> None:
        self._n_issued += 1
        details = event.details
        self.batches.append(
            Batch(
                number=self._n_issued,
                event=event.number,
                issued=event.time,
                expires=details["expires"],
                images=tuple(map(self.name_now, details["images"])),
                rows=tuple(details["rows"]),
                digests=tuple(details["digests"]),
                is_audit=event.kind == kinds.AUDIT_DRAWN,
            )
        )

    def _rename(self, names: Mapping[str, str]) -> None:
        self._renamed.update(names)
        self.batches = [replace(batch, images=tuple(map(self.name_now, batch.images))) for batch in self.batches]
        for before, now in names.items():
            self._assigned.setdefault(now, {}).update(self._assigned.pop(before, {}))
            if before in self.images:
                self.images.setdefault(now, ImageAnswers()).take_in(self.images.pop(before))

    def name_now(self, image: str) -> str:
        """What an image is called since it was last found under another name."""
        while image in self._renamed:
            image = self._renamed[image]
        return image

    @property
    def n_queries(self) -> int:
        """Batches that queries have chosen."""
        return sum(not batch.is_audit for batch in self.batches)

    @property
    def n_wanted(self) -> int:
        """How many people are to answer about an image."""
        wanted: int = self.settings["labels_per_image"]
        return wanted

    def votes(self, image: str) -> dict[str, int]:
        """The class that each annotator gives an image, or :data:`~.votes.REFUSAL`."""
        found = self.images.get(image)
        if found is None:
            return {}
        return {
            name: REFUSAL if vote.label is None else self.classes.resolved(vote.label)
            for name, vote in found.valid.items()
        }

    def outcome(self, image: str) -> Outcome:
        """What the answers about an image come to."""
        return outcome(self.votes(image).values(), self.n_wanted)

    def outcomes(self) -> Iterator[tuple[str, Outcome]]:
        """Every image of which somebody has said something that counts, and what that comes to."""
        for image in self.images:
            votes = self.votes(image)
            if votes:
                yield image, outcome(votes.values(), self.n_wanted)

    def pending(self, now: datetime) -> dict[str, int]:
        """How many more people have to answer about each image that is out.

        Out are images of batches that have not expired and, without end, those that somebody has answered about.
        """
        found = {image: result.n_missing for image, result in self.outcomes()}
        time = as_text(now)
        out = {image: n for image, n in found.items() if n}
        for batch in self.batches:
            if batch.is_open(time):
                out.update((image, self.n_wanted) for image in batch.images if image not in found)
        return out

    def assigned(self, image: str, now: datetime) -> set[str]:
        """The annotators who were asked about an image and may still answer."""
        time, votes = as_text(now), self.votes(image)
        to = self._assigned.get(image, {})
        return {name for name, expires in to.items() if name not in votes and (not expires or time < expires)}

    def batch_of(self) -> Mapping[str, Batch]:
        """The last batch of each image that was issued."""
        return {image: batch for batch in self.batches for image in batch.images}
