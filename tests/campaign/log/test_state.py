"""What the events of a campaign come to."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccma_fast.campaign.log import events as kinds
from ccma_fast.campaign.log.events import Event, NewEvent, as_text
from ccma_fast.campaign.log.state import State
from ccma_fast.campaign.log.votes import REFUSAL, Outcome, krippendorff_alpha, outcome

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
NOW = START + timedelta(days=1)


def at(minutes: float) -> str:
    return as_text(START + timedelta(minutes=minutes))


def state_of(*new: NewEvent, n_wanted: int = 1) -> State:
    """The state after a campaign of the classes 2, "ant", and 3, "bee", and some events, one a minute."""
    first = [
        NewEvent(kinds.CREATED, data={"labels_per_image": n_wanted, "random_state": 0}),
        NewEvent(kinds.CLASS_ADDED, data={"name": "ant", "declared": True}),
        NewEvent(kinds.CLASS_ADDED, data={"name": "bee", "declared": True}),
    ]
    events: list[Event] = []
    for number, entry in enumerate([*first, *new], start=1):
        events.append(Event.of(entry, number, at(100 + number), events[-1].digest if events else ""))
    undone: set[int | None] = set()
    for event in reversed(events):
        if event.kind == kinds.UNDONE and event.number not in undone:
            undone.add(event.target)
    state = State(number for number in undone if number is not None)
    for event in events:
        state.apply(event)
    return state


def said(
    kind: str,
    annotator: str,
    image: str,
    label: int | None = None,
    minute: float | None = None,
    refusal: str | None = None,
) -> NewEvent:
    answered = None if minute is None else at(minute)
    return NewEvent(kind, annotator, image, label, answered=answered, refusal=refusal)


def batch(*images: str, expires: str = "", kind: str = kinds.BATCH_ISSUED) -> NewEvent:
    rows = [*range(len(images))]
    return NewEvent(
        kind,
        data={"images": images, "rows": rows, "digests": ["0" * 32] * len(rows), "expires": expires, "records": ""},
    )


def test_the_last_answer_of_an_annotator_counts() -> None:
    state = state_of(said(kinds.LABELLED, "ana", "x", 2), said(kinds.LABELLED, "ana", "x", 3))
    assert state.outcome("x") == Outcome(3, 0)
    state = state_of(said(kinds.LABELLED, "ana", "x", 2, minute=20), said(kinds.LABELLED, "ana", "x", 3, minute=10))
    assert state.outcome("x") == Outcome(2, 0), "what was said last, not what came in last"


def test_a_clock_that_is_ahead_does_not_win_for_ever() -> None:
    ahead = said(kinds.LABELLED, "ana", "x", 2, minute=10_000_000)
    assert state_of(ahead, said(kinds.LABELLED, "ana", "x", 3)).outcome("x") == Outcome(3, 0)


def test_the_majority_decides_and_a_tie_asks_one_more() -> None:
    votes = [said(kinds.LABELLED, name, "x", label) for name, label in (("a", 2), ("b", 3), ("c", 3))]
    assert state_of(votes[0], n_wanted=2).outcome("x") == Outcome(None, 1)
    assert state_of(*votes[:2], n_wanted=2).outcome("x") == Outcome(None, 1)
    assert state_of(*votes, n_wanted=2).outcome("x") == Outcome(3, 0)
    assert state_of(*votes[1:], n_wanted=2).outcome("x") == Outcome(3, 0)


def test_refusals_are_votes_whatever_their_words() -> None:
    events = [
        said(kinds.REFUSED, "a", "x", refusal="cannot tell"),
        said(kinds.REFUSED, "b", "x", refusal="blurred"),
        said(kinds.LABELLED, "c", "x", 2),
    ]
    assert state_of(*events, n_wanted=3).outcome("x").is_refused
    assert state_of(*events[1:], n_wanted=2).outcome("x") == Outcome(None, 1)


def test_a_correction_sets_aside_what_all_said_before() -> None:
    before = [said(kinds.LABELLED, name, "x", 2) for name in "abc"]
    state = state_of(*before, said(kinds.CORRECTED, "lead", "x", 3))
    assert state.outcome("x") == Outcome(3, 0)
    assert state.votes("x") == {"lead": 3}
    later = said(kinds.LABELLED, "a", "x", 2)
    assert state_of(*before, said(kinds.CORRECTED, "lead", "x", 3), later).outcome("x") == Outcome(None, 1)


def test_a_correction_needs_no_second_person() -> None:
    before = [said(kinds.LABELLED, name, "x", label) for name, label in (("a", 2), ("b", 3))]
    corrected = [*before, said(kinds.CORRECTED, "lead", "x", 3)]
    assert state_of(*corrected, n_wanted=3).outcome("x") == Outcome(3, 0)
    assert state_of(*corrected, n_wanted=3).pending(NOW) == {}
    assert state_of(*corrected, said(kinds.LABELLED, "a", "x", 3), n_wanted=3).outcome("x") == Outcome(3, 0)
    assert state_of(*corrected, said(kinds.LABELLED, "a", "x", 2), n_wanted=3).outcome("x") == Outcome(None, 1)
    # What is withdrawn, reopened or replaced by a label like any other decides no more alone.
    for last in (
        said(kinds.RETRACTED, "lead", "x"),
        said(kinds.REOPENED, "lead", "x"),
        said(kinds.LABELLED, "lead", "x", 3),
    ):
        assert state_of(*corrected, last, n_wanted=3).outcome("x").vote is None


def test_reopening_and_retraction() -> None:
    refused = said(kinds.REFUSED, "a", "x", refusal="cannot tell")
    assert state_of(batch("x"), refused).pending(NOW) == {}
    assert state_of(batch("x"), refused, said(kinds.REOPENED, "lead", "x")).pending(NOW) == {"x": 1}
    assert state_of(batch("x"), refused, said(kinds.RETRACTED, "a", "x")).pending(NOW) == {"x": 1}
    assert state_of(refused, said(kinds.RETRACTED, "a", "x")).outcome("x") == Outcome(None, 1)


def test_what_is_out_is_pending_until_it_expires() -> None:
    state = state_of(batch("x", "y", "z", expires=at(200)), said(kinds.LABELLED, "a", "x", 2), n_wanted=2)
    assert state.pending(START + timedelta(minutes=199)) == {"x": 1, "y": 2, "z": 2}
    # What somebody has answered about stays out until enough have.
    assert state.pending(START + timedelta(minutes=200)) == {"x": 1}


def test_undo_and_redo() -> None:
    label = said(kinds.LABELLED, "a", "x", 2)
    undo = NewEvent(kinds.UNDONE, target=4)
    assert state_of(label, undo).votes("x") == {}
    assert state_of(label, undo, NewEvent(kinds.UNDONE, target=5)).votes("x") == {"a": 2}
    assert state_of(batch("x"), undo).pending(NOW) == {}
    state = state_of(batch("x"), undo, batch("y"))
    assert [(found.number, found.images) for found in state.batches] == [(2, ("y",))]
    assert state.n_queries == 1


def test_classes_keep_their_labels() -> None:
    label = said(kinds.LABELLED, "a", "x", 3)
    renamed = NewEvent(kinds.CLASS_RENAMED, label=3, data={"name": "wasp"})
    state = state_of(label, renamed)
    assert state.classes.live == {2: "ant", 3: "wasp"}
    assert state.classes.called("bee") == state.classes.called(" wasp ") == 3
    assert state.classes.called_now("bee") is None
    merged = NewEvent(kinds.CLASS_MERGED, label=2, target=3)
    state = state_of(label, renamed, merged)
    assert state.votes("x") == {"a": 2}
    assert state.classes.live == {2: "ant"}
    assert state.classes.called("wasp") == state.classes.called("bee") == 2
    state = state_of(label, merged, NewEvent(kinds.UNDONE, target=5))
    assert state.votes("x") == {"a": 3}


def test_added_classes_are_in_an_order_of_their_own() -> None:
    added = [NewEvent(kinds.CLASS_ADDED, data={"name": name}) for name in ("wasp", "cat")]
    assert [*state_of(*added).classes.live.values()] == ["ant", "bee", "cat", "wasp"]
    assert [*state_of(*added[::-1]).classes.live.values()] == ["ant", "bee", "cat", "wasp"]
    merged = NewEvent(kinds.CLASS_MERGED, label=4, target=2)
    assert [*state_of(*added, merged).classes.live.values()] == ["bee", "cat", "wasp"]


def test_a_renamed_image_keeps_what_was_said_of_it() -> None:
    renamed = NewEvent(kinds.IMAGES_RENAMED, data={"names": {"x": "z"}})
    label, late = said(kinds.LABELLED, "a", "x", 2), said(kinds.LABELLED, "b", "x", 3)
    state = state_of(batch("x", "y"), label, renamed, late, n_wanted=2)
    assert state.votes("z") == {"a": 2, "b": 3}
    assert state.votes("x") == {}
    assert [*state.pending(NOW)] == ["z", "y"]


def test_who_was_asked() -> None:
    asked = NewEvent(kinds.ASSIGNED, "ana", data={"images": ["x", "y"], "expires": [at(500)] * 2})
    state = state_of(batch("x", "y"), asked, said(kinds.LABELLED, "ana", "x", 2))
    assert state.assigned("x", START) == set()
    assert state.assigned("y", START) == {"ana"}
    assert state.assigned("y", NOW) == set()


@given(st.data())
def test_the_order_in_which_answers_come_in_does_not_matter(data: st.DataObject) -> None:
    answer = st.tuples(
        st.sampled_from(kinds.ANSWERS), st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from([2, 3])
    )
    answers = [
        said(
            kind,
            name,
            image,
            label if kind in (kinds.LABELLED, kinds.CORRECTED) else None,
            minute,
            "?" if kind == kinds.REFUSED else None,
        )
        for minute, (kind, name, image, label) in enumerate(data.draw(st.lists(answer, max_size=12)))
    ]
    n_wanted = data.draw(st.integers(1, 3))
    shuffled = data.draw(st.permutations(answers))
    one, other = (state_of(batch("x", "y"), *given, n_wanted=n_wanted) for given in (answers, shuffled))
    for image in "xy":
        assert one.votes(image) == other.votes(image)
        assert one.outcome(image) == other.outcome(image)
    assert one.pending(NOW) == other.pending(NOW)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=6), st.integers(1, 5))
def test_an_outcome_is_the_only_most_frequent_vote(votes: list[int], n_wanted: int) -> None:
    found, counts = outcome(votes, n_wanted), Counter(votes)
    if found.vote is None:
        tied = sorted(counts.values())[-2:] == [max(counts.values())] * 2
        assert found.n_missing == (1 if len(votes) >= n_wanted else n_wanted - len(votes))
        assert tied or len(votes) < n_wanted
    else:
        assert all(counts[found.vote] > n for vote, n in counts.items() if vote != found.vote)
        assert len(votes) >= n_wanted
    assert found.is_refused == (found.vote == REFUSAL)


def test_alpha_is_that_of_the_text_book() -> None:
    # Krippendorff, "Computing Krippendorff's alpha-reliability" (2011), C: nominal data of four observers, 0.743.
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    votes = [{str(k): vote for k, vote in enumerate(unit) if vote is not None} for unit in zip(*observers, strict=True)]
    assert krippendorff_alpha(votes) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    assert krippendorff_alpha([{"a": 1, "b": 1}, {"a": 2, "b": 2}]) == 1.0
    assert math.isnan(krippendorff_alpha([{"a": 1, "b": 1}, {"a": 1}]))
    assert math.isnan(krippendorff_alpha([]))
    chance = [{"a": x, "b": y} for x, y in itertools.product((1, 2), repeat=2)] * 500
    assert krippendorff_alpha(chance) == pytest.approx(0.0, abs=1e-3)
