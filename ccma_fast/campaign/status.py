"""How a campaign stands: what was answered, how good the models are, and what another batch would bring."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from ..steps.intervals import coverage_interval
from ..system import display
from ..system.garbage import no_collection
from .log.database import Log
from .log.state import Batch, State
from .log.votes import REFUSAL, krippendorff_alpha, outcome
from .pick_records import QueryRecord
from .stopping import LEAST_NEW, Agreement, agreement, is_stable

__all__ = ["AnnotatorStatus", "BatchStatus", "Share", "Status", "status_of"]


class Share(NamedTuple):
    """A share that was counted, with its 95 % confidence interval; NaN and (0, 1) of nothing."""

    n: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: Iterable[bool]) -> Share:
        counted = [*hits]
        n, n_hits = len(counted), sum(counted)
        return cls(n, n_hits / n if n else float("nan"), *coverage_interval(n_hits, n))

    def __str__(self) -> str:
        interval = f" ({display.percent(self.low)} to {display.percent(self.high)})" if self.n else ""
        return f"{display.percent(self.share)}{interval} of {self.n:,}"


class ModelChecks(NamedTuple):
    """How often what the models had said of images was right, once people had answered.

    Attributes
    ----------
    top1 : Share
        The class that student and teacher together held for the likeliest was the label.
    student_set, teacher_set : Share
        The conformal set held it.
    """

    top1: Share
    student_set: Share
    teacher_set: Share

    def named(self) -> dict[str, Share]:
        """The shares by what was right, as people read it."""
        return {"likeliest class": self.top1, "student's set": self.student_set, "teacher's set": self.teacher_set}


@dataclass(frozen=True)
class BatchStatus:
    """How a batch stands.

    Attributes
    ----------
    number : int
    issued, expires : str
    is_audit : bool
    n_images, n_labelled, n_refused, n_out : int
    agreement : Agreement or None
        Of the models of this query with the last ones before that had at least ten labels fewer: what these labels
        changed. None where there were no such models, or the pool held other rows then.
    """

    number: int
    issued: str
    expires: str
    is_audit: bool
    n_images: int
    n_labelled: int
    n_refused: int
    n_out: int
    agreement: Agreement | None


@dataclass(frozen=True)
class AnnotatorStatus:
    """How an annotator stands.

    Attributes
    ----------
    name : str
        Empty for answers without a name.
    joined : str
    n_labels, n_refusals : int
        That count now.
    n_waiting : int
        Images that are out, were assigned to them and wait for their answer.
    with_others : Share
        How often they said what most of the others said about an image; where others have no majority, it is left out.
    median_seconds : float or None
        Per answer, where that is known.
    """

    name: str
    joined: str
    n_labels: int
    n_refusals: int
    n_waiting: int
    with_others: Share
    median_seconds: float | None


@dataclass(frozen=True)
class Status:
    """How a campaign stands, see :meth:`ccma_fast.Campaign.status`.

    Attributes
    ----------
    n_rows : int
        Of the pool when the campaign began.
    n_labelled, n_refused : int
        Images on which people agree.
    n_out : int
        Images that are reserved, or that somebody has answered about and more people have to.
    n_undecided : int
        Those among them about which somebody has answered.
    by_class : dict of str to int
    annotators : tuple of AnnotatorStatus
    alpha : float
        Krippendorff's α of their answers, refusals as one class; NaN where no image has two.
    n_several : int
        Images with answers of two or more.
    audits, picks : ModelChecks
        Of random images, which are like the pool; and of those that queries chose, which are harder than it.
    batches : tuple of BatchStatus
    is_stable : bool or None
        The criterion of :mod:`ccma_fast.campaign.stopping`; None while it is too early to tell.
    """

    n_rows: int
    n_labelled: int
    n_refused: int
    n_out: int
    n_undecided: int
    by_class: dict[str, int]
    annotators: tuple[AnnotatorStatus, ...]
    alpha: float
    n_several: int
    audits: ModelChecks
    picks: ModelChecks
    batches: tuple[BatchStatus, ...]
    is_stable: bool | None

    def to_dict(self) -> dict[str, Any]:
        """The status as plain Python values, for JSON."""
        named = {"audits": self.audits, "picks": self.picks}
        checks = {
            name: {part: share._asdict() for part, share in found._asdict().items()} for name, found in named.items()
        }
        annotators = [asdict(entry) | {"with_others": entry.with_others._asdict()} for entry in self.annotators]
        batches = [
            asdict(entry) | {"agreement": None if entry.agreement is None else entry.agreement._asdict()}
            for entry in self.batches
        ]
        return asdict(self) | checks | {"annotators": annotators, "batches": batches}

    def __repr__(self) -> str:
        counts = f"{self.n_labelled:,} of {self.n_rows:,} images labelled, {self.n_refused:,} refused"
        return display.line("Status", counts, f"{self.n_out:,} out", f"{len(self.batches):,} batches")

    def __str__(self) -> str:
        """All of it, as ``ccma-fast campaign status`` tells it."""
        return "\n".join(_lines(self))

    def _repr_html_(self) -> str:
        title = f"Status: {self.n_labelled:,} of {self.n_rows:,} images labelled, {self.n_out:,} out"
        return display.notebook_html(title, *self.html_parts())

    def html_parts(self) -> list[str]:
        """What a notebook shows below the title."""
        told: dict[str, Any] = {"rows when it began": self.n_rows, "labelled": self.n_labelled}
        told |= {"refused": self.n_refused, "out": self.n_out, "of these undecided": self.n_undecided}
        if self.n_several:
            told["Krippendorff's α"] = f"{self.alpha:.3f} of {self.n_several:,} images with several answers"
        for what, checks in (("of audits", self.audits), ("of picks", self.picks)):
            told |= {f"{name} right, {what}": str(share) for name, share in checks.named().items() if share.n}
        if self.is_stable is not None:
            told["predictions"] = "are stable" if self.is_stable else "still change"
        classes = sorted(self.by_class.items(), key=lambda entry: -entry[1])
        parts = [display.facts(told), display.table(["class", "images"], classes, len(classes))]
        header = ["batch", "issued", "images", "labelled", "refused", "out", "drawn at random"]
        batches = (
            (b.number, b.issued[:16], b.n_images, b.n_labelled, b.n_refused, b.n_out, b.is_audit)
            for b in reversed(self.batches)
        )
        parts.append(_folded("batches, the last first", header, batches, len(self.batches)))
        header = ["annotator", "labels", "refusals", "waiting", "with the others", "median seconds"]
        people = (
            (a.name or "without a name", a.n_labels, a.n_refusals, a.n_waiting, str(a.with_others), a.median_seconds)
            for a in self.annotators
        )
        return [*parts, _folded("annotators", header, people, len(self.annotators))]


def _lines(status: Status) -> Iterator[str]:
    yield f"images       {status.n_rows}"
    yield f"labelled     {status.n_labelled}"
    yield f"refused      {status.n_refused}"
    undecided = f", {status.n_undecided} of them answered, but not by enough people yet" if status.n_undecided else ""
    yield f"out          {status.n_out}{undecided}"
    counts = sorted(status.by_class.items(), key=lambda pair: -pair[1])
    shown = ", ".join(f"{display.printable(name)} {n}" for name, n in counts[:8])
    yield f"classes      {len(counts)}" + (f": {shown}{', ...' if len(counts) > 8 else ''}" if counts else "")
    for entry in status.annotators:
        seconds = "" if entry.median_seconds is None else f", {entry.median_seconds:.1f} s each"
        others = "" if not entry.with_others.n else f", as most of the others {_share(entry.with_others)}"
        name = display.printable(entry.name) or "(no name)"
        waiting = f", {entry.n_waiting} images wait for them" if entry.n_waiting else ""
        counted = f"{entry.n_labels} labels, {entry.n_refusals} refusals{waiting}"
        yield f"annotator    {name}: {counted}{seconds}{others}"
    if status.n_several:
        yield f"agreement    Krippendorff's alpha {status.alpha:.3f} on {status.n_several} images"
    yield from _check_lines("audits", status.audits)
    yield from _check_lines("picks", status.picks)
    for batch in status.batches:
        what = "audit" if batch.is_audit else "batch"
        found = batch.agreement
        changed = ""
        if found is not None:
            by = _interval(found.changed, found.low, found.high)
            changed = f", chosen after {found.n_new} more labels, which changed {by} of the predictions"
        counted = f"{batch.n_labelled} labelled, {batch.n_refused} refused, {batch.n_out} out"
        yield f"{what} {batch.number:<6} {batch.issued[:16]}Z: {batch.n_images} images, {counted}{changed}"
    if status.is_stable is not None:
        yield f"predictions  {'are stable' if status.is_stable else 'still change'}"


def _check_lines(name: str, checks: ModelChecks) -> Iterator[str]:
    for what, share in checks.named().items():
        if share.n:
            yield f"{name:12} {what} right {_share(share)}"


def _share(share: Share) -> str:
    return f"{_interval(share.share, share.low, share.high)} of {share.n}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _folded(what: str, header: list[str], rows: Iterable[Sequence[Any]], n_rows: int) -> str:
    return display.details(f"{n_rows:,} {what}", display.table(header, rows, n_rows)) if n_rows else ""


def status_of(log: Log, time: datetime) -> Status:
    """How a campaign stands at a time."""
    with log.reading() as state, no_collection():
        tallies, pending = state.tallies(), state.pending(time)
        labels = {image: found.vote for image, (_, found) in tallies.items() if found.vote is not None}
        counts = Counter(labels.values())
        n_refused = counts.pop(REFUSAL, 0)
        several = [image for image, (votes, _) in tallies.items() if len(votes) > 1]
        records = {event: QueryRecord.of_json(text) for event, text in log.query_records().items()}
        agreements = _agreements(state, records)
        audits, picks = _checks(state, records, labels)
        waiting = Counter(name for image in pending for name in state.assigned(image, time))
        return Status(
            n_rows=state.settings["n_rows"],
            n_labelled=len(labels) - n_refused,
            n_refused=n_refused,
            n_out=len(pending),
            n_undecided=len(tallies) - len(labels),
            by_class={name: counts[label] for label, name in state.classes.live.items()},
            annotators=tuple(_annotators(log, state, several, waiting)),
            alpha=krippendorff_alpha(tallies[image].votes for image in several),
            n_several=len(several),
            audits=audits,
            picks=picks,
            batches=tuple(_batch(batch, labels, pending, agreements.get(batch.event)) for batch in state.batches),
            is_stable=is_stable([*agreements.values()]),
        )


def _batch(
    batch: Batch, labels: Mapping[str, int], pending: Mapping[str, int], changed: Agreement | None
) -> BatchStatus:
    found = [labels.get(image) for image in batch.images]
    n_refused = found.count(REFUSAL)
    return BatchStatus(
        number=batch.number,
        issued=batch.issued,
        expires=batch.expires,
        is_audit=batch.is_audit,
        n_images=len(found),
        n_labelled=len(found) - n_refused - found.count(None),
        n_refused=n_refused,
        n_out=sum(image in pending for image in batch.images),
        agreement=changed,
    )


def _annotators(
    log: Log, state: State, several: Iterable[str], waiting: Mapping[str, int]
) -> Iterable[AnnotatorStatus]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for number, name, taken in log.seconds():
        if number not in state.undone:
            seconds[name].append(taken)
    counts: Counter[tuple[str, bool]] = Counter()
    every = Counter(chain.from_iterable(votes.items() for votes, _ in state.tallies().values()))
    for (name, vote), n in every.items():
        counts[name, vote < 0] += n
    agreed: dict[str, list[bool]] = {}
    for image in several:
        votes = state.tallies()[image].votes
        for name, vote in votes.items():
            # Without their own: what two people agree on is what each of them said.
            most = outcome([said for other, said in votes.items() if other != name], 1).vote
            if most is not None:
                agreed.setdefault(name, []).append(vote == most)
    for name in sorted({name for name, _ in counts} | state.annotators.keys() | waiting.keys()):
        yield AnnotatorStatus(
            name=name,
            joined=state.annotators.get(name, ""),
            n_labels=counts[name, False],
            n_refusals=counts[name, True],
            n_waiting=waiting.get(name, 0),
            with_others=Share.of(agreed.get(name, ())),
            median_seconds=statistics.median(seconds[name]) if name in seconds else None,
        )


class _Hits(NamedTuple):
    """Whether each of :class:`ModelChecks` was right, image by image."""

    top1: list[bool]
    student_set: list[bool]
    teacher_set: list[bool]

    def shares(self) -> ModelChecks:
        return ModelChecks(*map(Share.of, self))


def _checks(
    state: State, records: Mapping[int, QueryRecord], labels: Mapping[str, int]
) -> tuple[ModelChecks, ModelChecks]:
    """Of audits, and of picks."""
    of_audits, of_picks = _Hits([], [], []), _Hits([], [], [])
    resolved = state.classes.resolved
    written = {
        label: (f",{label},", [f",{part}," for part in parts if part != label])
        for label, parts in state.classes.parts().items()
    }
    for batch in state.batches:
        top1, in_student, in_teacher = of_audits if batch.is_audit else of_picks
        for image, (student, teacher, likeliest) in zip(batch.images, records[batch.event].said, strict=True):
            label = labels.get(image, -1)
            if label < 0:
                continue
            if likeliest is not None:
                top1.append(resolved(likeliest) == label)
            own, merged = written[label]
            for listed, hits in ((student, in_student), (teacher, in_teacher)):
                if listed is not None:
                    hits.append(own in listed or any(part in listed for part in merged))
    return of_audits.shares(), of_picks.shares()


def _agreements(state: State, records: Mapping[int, QueryRecord]) -> dict[int, Agreement]:
    """Of the models of queries, by the numbers of their events, with the last ones that had fewer labels."""
    found: dict[int, Agreement] = {}
    before: QueryRecord | None = None
    for batch in state.batches:
        record = records[batch.event]
        if before is None or record.stop_set != before.stop_set:  # no model, or another pool: nothing to compare with
            before = record if record.stop_set else None
            continue
        n_new = record.n_labelled - before.n_labelled
        if n_new >= LEAST_NEW:
            earlier, later = (state.classes.all_resolved(entry.predicted) for entry in (before, record))
            found[batch.event] = agreement(earlier, later, n_new)
            before = record
    return found
