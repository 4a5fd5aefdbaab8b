"""The state of a campaign, which follows from its events alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from ...system import display
from ...system.garbage import no_collection
from . import events as kinds
from .class_list import ClassList
from .events import Event, as_text
from .image_names import ImageNames
from .votes import REFUSAL, Outcome, outcome

__all__ = ["ANSWER_COLUMNS", "Batch", "ImageAnswers", "State", "Tally", "Vote"]


ANSWER_COLUMNS = ("number", "time", "kind", "annotator", "image", "label", "answered", "refusal", "data")
"""What :meth:`State.apply_all` needs to know of an answer."""

_NEVER = ("", 0)


Vote = tuple[str, int, "int | None"]
"""What one person last said of an image: when, by which event, and the class, by the number of the event that added it;
:data:`~.votes.REFUSAL`, or None where it was withdrawn. A plain tuple, since a campaign has a hundred thousand."""


class ImageAnswers:
    """What people said of one image.

    Attributes
    ----------
    votes : dict of str to Vote
        The last of each annotator, withdrawn ones included.
    since : (str, int)
        When all answers before were set aside, by a correction or a reopening, and by which event.
    details : str
        Of the first event about it, undone or not, as JSON: where it was in the pool, if no batch says so.
    """

    __slots__ = ("details", "since", "votes")

    def __init__(self, details: str = "") -> None:
        self.votes: dict[str, Vote] = {}
        self.since = _NEVER
        self.details = details

    def add(self, annotator: str, vote: Vote) -> None:
        """Take in a vote, where it is the annotator's last."""
        before = self.votes.get(annotator)
        if before is None or before[:2] < vote[:2]:
            self.votes[annotator] = vote

    def take_in(self, other: ImageAnswers) -> None:
        """Take in what was said of the same image under another name."""
        self.since = max(self.since, other.since)
        self.details = self.details or other.details
        for annotator, vote in other.votes.items():
            self.add(annotator, vote)

    @property
    def is_corrected(self) -> bool:
        """Whether a correction set all others aside, and whoever made it has said nothing else since."""
        if self.since is _NEVER:
            return False
        return any(event == self.since[1] and label is not None for _, event, label in self.votes.values())

    @property
    def place(self) -> tuple[int, str] | None:
        """Its row in the pool, and the digest of what that held; None where a batch has both."""
        if '"row"' not in self.details:
            return None
        found = json.loads(self.details)
        return found["row"], found["digest"]


class Tally(NamedTuple):
    """What was said of an image, and what that comes to."""

    votes: dict[str, int]
    outcome: Outcome


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
    records : str
        Digest of what the query said, see :class:`~.database.Records`.
    """

    number: int
    event: int
    issued: str
    expires: str
    images: tuple[str, ...]
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    is_audit: bool
    records: str

    def summary(self) -> list[str]:
        """What matters of it, as people read it."""
        until = f"reserved until {self.expires[:16]}Z" if self.expires else "reserved"
        drawn = "drawn at random" if self.is_audit else ""
        return [f"batch {self.number}", f"{len(self.images):,} images", *filter(None, [drawn]), until]

    def __repr__(self) -> str:
        return display.line("Batch", *self.summary(), f"[{display.few(self.images, len(self.images))}]")

    def is_open(self, now: str) -> bool:
        """Whether its images are reserved."""
        return not self.expires or now < self.expires


# long: events of every kind, and what they come to, in one place
class State:
    """What the events so far come to; :meth:`apply` takes the next ones.

    The order in which answers were written does not matter, only when they were said.

    Attributes
    ----------
    number, time, digest : int, str, str
        Of the last event.
    settings : dict
    classes : ClassList
    batches, undone_batches : list of Batch
        Those that count, and those that were undone, which still tell where their images were.
    names : ImageNames
    images : dict of str to ImageAnswers
        Every image of which somebody has said something, be it undone.
    annotators : dict of str to str
        When each joined.
    undone : frozenset of int
        Numbers of the events that count no more.
    """

    def __init__(self, undone: Iterable[int] = ()) -> None:
        self.number, self.time, self.digest = 0, "", ""
        self.settings: dict[str, Any] = {}
        self.classes = ClassList()
        self.batches: list[Batch] = []
        self.undone_batches: list[Batch] = []
        self.images: dict[str, ImageAnswers] = {}
        self.annotators: dict[str, str] = {}
        self.undone = frozenset(undone)
        self._assigned: dict[str, dict[str, str]] = {}  # of an image: until when to whom
        self.names = ImageNames()
        self._tallies: tuple[int, dict[str, Tally]] | None = None  # as of which event

    def apply(self, event: Event) -> None:
        """Take in the next event. An undone one changes nothing but the digest, and tells where images were."""
        self.number, self.time, self.digest = event.number, event.time, event.digest
        if event.kind in kinds.ANSWERS:
            self._answer(*(getattr(event, name) for name in ANSWER_COLUMNS))
        elif event.kind in kinds.BATCHES:
            self._issue(event)
        elif event.number in self.undone:
            pass
        elif event.kind == kinds.ASSIGNED:
            details = event.details
            for image, expires in zip(details["images"], details["expires"], strict=True):
                self._assigned.setdefault(self.name_now(image), {})[event.annotator] = expires
        elif event.kind == kinds.JOINED:
            self.annotators[event.annotator] = event.time
        elif event.kind in (kinds.CREATED, kinds.SETTINGS_CHANGED):
            self.settings.update(event.details)
        elif event.kind == kinds.IMAGES_RENAMED:
            self._rename(event.details["names"])
        elif event.kind != kinds.UNDONE:
            self.classes.apply(event)

    def apply_all(
        self, others: Iterable[Event], answers: Iterable[Sequence[Any]], number: int, time: str, digest: str
    ) -> None:
        """Take in a whole log at once, up to the event of a number, a time and a digest.

        Parameters
        ----------
        others : iterable of Event
            Everything but answers. These change nothing of the others, so that they come first.
        answers : iterable of sequence
            The values of :data:`ANSWER_COLUMNS` of each answer.
        """
        with no_collection():
            for event in others:
                self.apply(event)
            images, undone, are_renamed = self.images, self.undone, bool(self.names)
            for answer in answers:
                event_number, said_at, kind, annotator, image, label, answered, _, data = answer
                if kind != kinds.LABELLED or image in images or are_renamed or event_number in undone:
                    self._answer(*answer)
                else:  # most: the first label of an image, for which nothing needs to be compared
                    images[image] = ImageAnswers(data)
                    images[image].votes[annotator] = (_said(said_at, answered), event_number, label)
        self.number, self.time, self.digest = number, time, digest

    def _answer(
        self,
        number: int,
        time: str,
        kind: str,
        annotator: str,
        image: str | None,
        label: int | None,
        answered: str | None,
        refusal: str | None,
        data: str,
    ) -> None:
        assert image is not None, "an answer is about an image"
        if self.names:
            image = self.name_now(image)
        of_image = self.images.get(image)
        if of_image is None:
            of_image = self.images[image] = ImageAnswers(data)
        if number in self.undone:
            return
        said = _said(time, answered)
        if kind in (kinds.CORRECTED, kinds.REOPENED):
            of_image.since = max(of_image.since, (said, number))
        if kind != kinds.REOPENED:
            label = REFUSAL if refusal is not None else None if kind == kinds.RETRACTED else label
            of_image.add(annotator, (said, number, label))

    def _issue(self, event: Event) -> None:
        details = event.details
        batches = self.undone_batches if event.number in self.undone else self.batches
        batches.append(
            Batch(
                number=len(self.batches) + len(self.undone_batches) + 1,
                event=event.number,
                issued=event.time,
                expires=details["expires"],
                images=tuple(map(self.name_now, details["images"])),
                rows=tuple(details["rows"]),
                digests=tuple(details["digests"]),
                is_audit=event.kind == kinds.AUDIT_DRAWN,
                records=details["records"],
            )
        )

    def _rename(self, names: Mapping[str, str]) -> None:
        self.names.rename(names)
        for batches in (self.batches, self.undone_batches):
            batches[:] = [replace(batch, images=tuple(map(self.name_now, batch.images))) for batch in batches]
        for before, now in names.items():
            self._assigned.setdefault(now, {}).update(self._assigned.pop(before, {}))
            if before in self.images:
                self.images.setdefault(now, ImageAnswers()).take_in(self.images.pop(before))

    def name_now(self, image: str) -> str:
        """What an image is called since it was last found under another name."""
        return self.names.now(image)

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
        return {} if found is None else self._votes(found)

    def _votes(self, of_image: ImageAnswers) -> dict[str, int]:
        since, resolved = of_image.since, self.classes.resolved
        given = of_image.votes.items()
        if since is not _NEVER:
            given = {name: vote for name, vote in given if vote[:2] >= since}.items()
        return {name: resolved(vote[2]) for name, vote in given if vote[2] is not None}

    def outcome(self, image: str) -> Outcome:
        """What the answers about an image come to."""
        return self._outcome(self.images.get(image), self.votes(image), self.n_wanted)

    @staticmethod
    def _outcome(of_image: ImageAnswers | None, votes: Mapping[str, int], n_wanted: int) -> Outcome:
        # One person is enough where that one has overruled all others, and nothing else since.
        return outcome(votes.values(), 1 if of_image is not None and of_image.is_corrected else n_wanted)

    def tallies(self) -> dict[str, Tally]:
        """Every image of which somebody has said something that counts."""
        if self._tallies is None or self._tallies[0] != self.number:
            with no_collection():
                tallies = dict(self._counted())
            self._tallies = (self.number, tallies)
        return self._tallies[1]

    def _counted(self) -> Iterator[tuple[str, Tally]]:
        n_wanted, resolved = self.n_wanted, self.classes.resolved
        decided: dict[int, Outcome] = {}
        for image, found in self.images.items():
            if n_wanted == 1 and len(found.votes) == 1 and found.since is _NEVER:  # most: one person, and nothing else
                ((name, (_, _, label)),) = found.votes.items()
                if label is not None:
                    vote = resolved(label)
                    yield image, Tally({name: vote}, decided.get(vote) or decided.setdefault(vote, Outcome(vote, 0)))
            elif votes := self._votes(found):
                yield image, Tally(votes, self._outcome(found, votes, n_wanted))

    def pending(self, now: datetime) -> dict[str, int]:
        """How many more people have to answer about each image that is out.

        Out are images of batches that have not expired and, without end, those that somebody has answered about.
        """
        time, tallies = as_text(now), self.tallies()
        out = {image: n for image, (_, (_, n)) in tallies.items() if n}
        for batch in self.batches:
            if batch.is_open(time):
                out.update((image, self.n_wanted) for image in batch.images if image not in tallies)
        return out

    def assigned(self, image: str, now: datetime) -> set[str]:
        """The annotators who were asked about an image and may still answer."""
        time, votes = as_text(now), self.votes(image)
        to = self._assigned.get(image, {})
        return {name for name, expires in to.items() if name not in votes and (not expires or time < expires)}

    def batch_of(self) -> Mapping[str, Batch]:
        """The last batch of each image that was issued."""
        return {image: batch for batch in self.batches for image in batch.images}


def _said(time: str, answered: str | None) -> str:
    """When an answer takes effect: when it was given, but not after it was written, for other clocks may be ahead."""
    return time if answered is None else min(answered, time)
