"""Labels come from people: late, partly, wrongly, two at a time; none is lost, and nobody is asked twice."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import ccma_fast as cf
from ccma_fast.campaign.exchange.answer import NO_CLASS, Answer
from ccma_fast.campaign.issuing import snapshot
from ccma_fast.campaign.log import events as kinds
from ccma_fast.pool.labels import ReadLabels

N, D, C = 90, 6, 3
NAMES = ["ant", "bee", "cat"]
RNG = np.random.default_rng(0)
Y = RNG.integers(C, size=N)
X = (RNG.standard_normal((N, D)) + 3 * np.eye(C, D)[Y]).astype(np.float32)
T = np.eye(C, D, dtype=np.float32)
IDS = [f"photos/{i:03}.jpg" for i in range(N)]
QUICK = cf.CCMAConfig(head="ridge")


def folder(path: Path, x: np.ndarray = X, ids: Any = IDS) -> Path:
    """A pool with ids."""
    for part in ("img_emb", "metadata"):
        (path / part).mkdir(parents=True)
    np.save(path / "img_emb" / "img_emb_0.npy", x)
    parquet.write_table(pyarrow.table({"image_path": list(ids)}), path / "metadata" / "metadata_0.parquet")
    return path


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    return folder(tmp_path / "pool")


@pytest.fixture
def campaign(tmp_path: Path, pool: Path) -> Iterator[cf.Campaign]:
    with cf.Campaign.create(tmp_path / "a.campaign", pool, class_names=NAMES, config=QUICK) as made:
        yield made


def truth(images: Any) -> list[str]:
    """The classes of images, by their ids or the numbers of their rows."""
    return [NAMES[Y[IDS.index(image) if image in IDS else int(image)]] for image in images]


def answer(campaign: cf.Campaign, images: Any, annotator: str = "ana", **more: Any) -> Any:
    return campaign.label(images, truth(images), annotator=annotator, **more)


def rounds(campaign: cf.Campaign, n: int, budget: int = 4) -> list[tuple[str, ...]]:
    """Some batches that an oracle answers."""
    issued = []
    for _ in range(n):
        images = campaign.next(budget).batch.images
        answer(campaign, images)
        issued.append(images)
    return issued


class TestQueries:
    @pytest.mark.parametrize("teacher", [False, True])
    def test_with_nothing_out_the_picks_are_those_of_select(self, tmp_path: Path, pool: Path, teacher: bool) -> None:
        given = {"teacher": cf.Teacher(X, T, class_names=NAMES) if teacher else None}
        campaign = cf.Campaign.create(tmp_path / "a", pool, class_names=NAMES, config=QUICK, random_state=3, **given)
        learner = cf.ActiveLearner(pool, class_names=NAMES, config=QUICK, random_state=3, **given)
        for _ in range(3):
            issued, picks = campaign.next(5), learner.query(5)
            assert issued.selection.indices.tolist() == picks.indices.tolist()
            assert [*issued.batch.images] == picks.ids
            answer(campaign, issued.batch.images)
            learner.label(picks.indices, Y[picks.indices])
        np.testing.assert_array_equal(campaign.labels, learner.labels)

    def test_no_image_is_out_twice(self, campaign: cf.Campaign) -> None:
        batches = [campaign.next(20).batch.images for _ in range(4)]
        assert len({*itertools.chain(*batches)}) == 80
        assert len(campaign.next(20)) == 10
        with pytest.raises(ValueError, match=r"no image is left.* 0 have a label, 0 were refused and 90 are out"):
            campaign.next(1)

    def test_pending_images_count_as_covered(self, campaign: cf.Campaign, pool: Path) -> None:
        rounds(campaign, 2)
        out = campaign.next(4)
        following = campaign.next(4)
        assert not {*out.batch.rows} & {*following.batch.rows}
        alone = cf.select(
            pool,
            4,
            labels=ReadLabels(campaign.labels),
            class_names=NAMES,
            pending=np.sort(out.selection.indices),
            config=QUICK,
            random_state=following.selection.report.random_state,
        )
        assert alone.indices.tolist() == [*following.batch.rows]

    def test_refused_images_are_never_offered_again_unless_reopened(self, campaign: cf.Campaign) -> None:
        images = campaign.next(4).batch.images
        campaign.refuse(images, NO_CLASS, annotator="ana")
        assert len(campaign.next(N).batch.images) == N - 4
        campaign.reopen(images[:1])
        assert campaign.pending()[images[0]] == 1

    def test_what_expired_is_free_again_and_a_late_answer_is_taken(self, campaign: cf.Campaign) -> None:
        images = campaign.next(4, expires=timedelta(microseconds=1)).batch.images
        assert campaign.pending() == {}
        assert len(campaign.next(N)) == N, "nothing is reserved any more"
        taken = answer(campaign, images)
        assert (taken.n_new, taken.never_issued) == (4, [])
        assert len(campaign.pending()) == N - 4

    def test_labels_of_one_class_go_on_covering_the_pool(self, campaign: cf.Campaign) -> None:
        for _ in range(3):
            images = campaign.next(3).batch.images
            campaign.label(images, ["ant"] * 3)
        assert campaign.next(3).selection.report.mode == "cold start"

    def test_a_campaign_may_begin_without_classes(self, tmp_path: Path) -> None:
        campaign = cf.Campaign.create(tmp_path / "a", X, config=QUICK)
        images = campaign.next(30).batch.images
        with pytest.raises(ValueError, match=r"one of the campaign's 0 classes, got '.*'; new classes"):
            answer(campaign, images)
        taken = answer(campaign, images, new_classes=True)
        assert sorted(taken.added_classes) == NAMES == campaign.class_names
        assert campaign.next(3).selection.report.mode == "query"
        np.testing.assert_array_equal(campaign.labels[[int(i) for i in images]], Y[[int(i) for i in images]])

    def test_the_same_answers_in_another_order_give_the_same_picks(self, tmp_path: Path, pool: Path) -> None:
        found = []
        for seed in range(3):
            campaign = cf.Campaign.create(tmp_path / f"{seed}", pool, config=QUICK)
            images = [*campaign.next(20).batch.images]
            np.random.default_rng(seed).shuffle(images)
            for image in images:
                answer(campaign, [image], new_classes=True)
            found.append(campaign.next(10).batch.images)
            assert campaign.class_names == NAMES
        assert found[0] == found[1] == found[2]

    def test_options_of_select(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 2)
        assert {*campaign.next(5, include=np.arange(40, 60)).batch.rows} <= {*range(40, 60)}

    def test_queries_of_several_threads_share_nothing(self, campaign: cf.Campaign) -> None:
        found: list[tuple[str, ...]] = []
        threads = [threading.Thread(target=lambda: found.append(campaign.next(9).batch.images)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({*itertools.chain(*found)}) == 45

    def test_an_answer_during_a_query_is_not_overlooked(
        self, campaign: cf.Campaign, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rounds(campaign, 2)
        calls, select = [], cf.select

        def slow(*given: Any, **more: Any) -> Any:
            picks = select(*given, **more)
            if not calls:
                answer(campaign, picks.ids[:1], "ben")
            calls.append(picks.ids)
            return picks

        monkeypatch.setattr("ccma_fast.campaign.queries.select", slow)
        images = campaign.next(4).batch.images
        assert len(calls) == 2
        assert calls[0][0] not in images
        assert [*images] == calls[1]

    @pytest.mark.parametrize("change", [("rename_class", "ant", "zebra"), ("merge_classes", "cat", "ant")])
    def test_classes_may_change_during_a_query(
        self, tmp_path: Path, pool: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, ...]
    ) -> None:
        teacher, found = cf.Teacher(X, T, class_names=NAMES), []
        action, *given = change
        for is_changed in (False, True):
            campaign = cf.Campaign.create(tmp_path / f"{is_changed}", pool, teacher=teacher, config=QUICK)
            rounds(campaign, 2)

            def changed(*asked: Any, of: cf.Campaign = campaign) -> Any:
                known = snapshot(*asked)
                getattr(of, action)(*given)
                return known

            with monkeypatch.context() as patch:
                if is_changed:
                    patch.setattr("ccma_fast.campaign.issuing.snapshot", changed)
                found.append(campaign.next(4).images)
        assert found[0] == found[1]

    def test_a_query_that_fails_issues_nothing(self, campaign: cf.Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*given: Any, **more: Any) -> Any:
            raise MemoryError

        before = campaign.events()
        with monkeypatch.context() as patch:
            patch.setattr("ccma_fast.campaign.queries.select", broken)
            with pytest.raises(MemoryError):
                campaign.next(4)
        assert campaign.events() == before
        assert len(campaign.next(4)) == 4

    def test_an_undone_batch_is_chosen_again(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 2)
        images = campaign.next(4).batch.images
        (event,) = campaign.undo()
        assert event.kind == kinds.BATCH_ISSUED
        issued = campaign.next(4)
        assert issued.batch.images == images
        assert issued.batch.number == 4


class TestAnswers:
    def test_images_by_id_or_row(self, campaign: cf.Campaign) -> None:
        campaign.label([5, 7], ["ant", "bee"])
        campaign.label([IDS[9]], ["cat"])
        assert np.flatnonzero(campaign.labels >= 0).tolist() == [5, 7, 9]

    def test_labels_of_images_that_were_never_issued_are_said(self, campaign: cf.Campaign) -> None:
        issued = campaign.next(3).batch.images
        others = [image for image in IDS if image not in issued][:2]
        taken = answer(campaign, [*issued, *others])
        assert taken.never_issued == others
        assert int((campaign.labels >= 0).sum()) == 5

    @pytest.mark.parametrize(
        ("images", "classes", "text"),
        [
            (["photos/999.jpg"], ["ant"], r"images of the pool, got 1 others, first \['photos/999.jpg'\]"),
            ([IDS[0], IDS[0]], ["ant", "ant"], "distinct, got 'photos/000.jpg' more than once"),
            ([IDS[0]], ["aunt"], "3 classes, got 'aunt' for image 'photos/000.jpg' .did you mean 'ant'"),
            ([IDS[0], IDS[1]], ["ant"], "classes has 1 rows but images has 2"),
            ([IDS[0]], [""], "names of classes, got ''"),
            ([N], ["ant"], "rows from 0 to 89, got 90"),
            ([[0, 1]], ["ant"], "one dimension"),
        ],
    )
    def test_bad_answers_are_refused_whole(self, campaign: cf.Campaign, images: Any, classes: Any, text: str) -> None:
        before = campaign.events()
        with pytest.raises(ValueError, match=text):
            campaign.label(images, classes)
        assert campaign.events() == before

    def test_a_closed_campaign_says_that_it_is(self, campaign: cf.Campaign) -> None:
        campaign.close()
        campaign.close()
        for use in (campaign.status, campaign.history, campaign.pending, lambda: campaign.label(IDS[:1], ["ant"])):
            with pytest.raises(ValueError, match=r"campaign '.*' is closed; open it anew by Campaign.open"):
                use()
        assert "Campaign(" in repr(campaign)

    def test_bad_types(self, campaign: cf.Campaign) -> None:
        with pytest.raises(
            TypeError, match=r"names of classes, got int 0; give \[campaign.class_names\[c\] for c in classes\]"
        ):
            campaign.label([0], [0])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="annotator must be text"):
            campaign.label([0], ["ant"], annotator=3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="reason must be text"):
            campaign.refuse([0], 3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"datetime.timedelta, got int 7"):
            campaign.next(1, expires=7)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("more", "error", "text"),
        [
            ({"image": 5}, TypeError, "image must be text, got int 5"),
            ({"label": 3}, TypeError, "label must be text, got int 3"),
            ({"annotator": None}, TypeError, "annotator must be text, got NoneType"),
            ({"annotator": "\ud800"}, ValueError, r"annotator must be text in UTF-8, got '\\ud800'"),
            ({"label": None, "refusal": "\udcff"}, ValueError, "refusal must be text in UTF-8"),
            ({"shown": ("a", 1)}, TypeError, "shown must be text, got int 1"),
            ({"seconds": float("nan")}, ValueError, "seconds must be finite, got nan"),
            ({"seconds": float("inf")}, ValueError, "seconds must be finite, got inf"),
            ({"seconds": -1}, ValueError, "seconds must be at least 0, got -1"),
            ({"seconds": "3"}, TypeError, "seconds must be a number, got str '3'"),
            ({"answered": "2026-01-01"}, TypeError, "answered must be a datetime, got str"),
            ({"answered": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=9)))}, ValueError, "of the calendar"),
        ],
    )
    def test_answers_that_cannot_be(self, more: dict[str, Any], error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            Answer(**{"image": IDS[0], "label": "ant", **more})

    def test_what_is_no_answer(self, campaign: cf.Campaign) -> None:
        with pytest.raises(TypeError, match="of the type Answer, got str 'x'"):
            campaign.take(["x"])  # type: ignore[list-item]

    def test_seconds_are_stored_as_they_were_given(self, campaign: cf.Campaign) -> None:
        campaign.take([Answer(IDS[0], "ant", seconds=3), Answer(IDS[1], "ant", seconds=np.float32(0.1))])  # type: ignore[arg-type]
        campaign.verify()
        assert campaign.status().annotators[0].median_seconds == pytest.approx(1.55)

    def test_an_annotator_is_one_however_the_name_is_written(self, campaign: cf.Campaign) -> None:
        campaign.change_settings(labels_per_image=2)
        for name in ("Zoë", " Zoe\u0308\t"):
            campaign.take([Answer(IDS[0], "ant", annotator=name)])
        campaign.add_class("dog", annotator=" Zoë")
        assert [entry.name for entry in campaign.status().annotators] == ["Zoë"]
        assert campaign.pending() == {IDS[0]: 1}, "one person has answered"
        assert campaign.undo(annotator="Zoë ")[0].kind == kinds.CLASS_ADDED

    def test_a_file_of_rows_may_have_several_answers_about_one(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        file = tmp_path / "rows.csv"
        file.write_text("index,label,annotator\n5,ant,ana\n5,ant,ben\n7,bee,ana\n")
        assert campaign.import_file(file).taken.n_new == 3
        assert (campaign.labels[5], campaign.labels[7]) == (0, 1)

    def test_unknown_images_may_be_left_out(self, campaign: cf.Campaign) -> None:
        answers = [Answer(image, "ant") for image in (IDS[0], "gone.jpg", IDS[1])]
        taken = campaign.take(answers, skip_unknown=True)
        assert (taken.n_new, taken.unknown) == (2, ["gone.jpg"])

    def test_answers_that_come_twice_count_once(self, campaign: cf.Campaign) -> None:
        answers = [Answer(image, "ant", annotator="ana", key=f"k{k}") for k, image in enumerate(IDS[:3])]
        assert campaign.take(answers).n_new == 3
        events = campaign.events()
        taken = campaign.take([*answers, Answer(IDS[3], "bee", annotator="ana", key="k3")])
        assert (taken.n_new, taken.n_known, taken.superseded) == (1, 3, [])
        assert campaign.events()[:-1] == events

    @pytest.mark.parametrize(("image", "annotator"), [(IDS[1], "ana"), (IDS[0], "ben")])
    def test_a_key_is_of_one_answer(self, campaign: cf.Campaign, image: str, annotator: str) -> None:
        campaign.take([Answer(IDS[0], "ant", annotator="ana", key="k")])
        before = campaign.events()
        with pytest.raises(ValueError, match=r"got 'k' of .*, which was taken before of 'photos/000.jpg' by 'ana'"):
            campaign.take([Answer(IDS[2], "ant"), Answer(image, "ant", annotator=annotator, key="k")])
        assert campaign.events() == before

    def test_an_old_answer_does_not_come_back(self, campaign: cf.Campaign) -> None:
        answers = [Answer(IDS[0], "ant", annotator="ana")]
        campaign.take(answers)
        campaign.label(IDS[:1], ["bee"], annotator="ana")
        taken = campaign.take(answers)
        assert (taken.n_new, taken.n_known, taken.superseded) == (0, 1, IDS[:1])
        assert campaign.labels[0] == 1

    def test_the_later_answer_counts_whichever_comes_first(self, campaign: cf.Campaign) -> None:
        when = [datetime(2026, 1, day, tzinfo=timezone.utc) for day in (2, 1)]
        campaign.take([Answer(IDS[0], "bee", annotator="ana", answered=when[0])])
        campaign.take([Answer(IDS[0], "ant", annotator="ana", answered=when[1])])
        assert campaign.labels[0] == 1

    def test_corrections_retractions_and_undo(self, campaign: cf.Campaign) -> None:
        image = IDS[:1]
        campaign.label(image, ["ant"], annotator="ana")
        campaign.correct(image, ["bee"], annotator="lead")
        assert campaign.labels[0] == 1
        campaign.undo(annotator="lead")
        assert campaign.labels[0] == 0
        campaign.retract(image, annotator="ana")
        assert campaign.labels[0] == -1
        with pytest.raises(ValueError, match=r"an answer by 'ana', got 'photos/000.jpg'"):
            campaign.retract(image, annotator="ana")
        campaign.undo(annotator="ana")
        assert campaign.labels[0] == 0
        with pytest.raises(ValueError, match="undone already"):
            campaign.undo(campaign.events()[-1].target)
        with pytest.raises(ValueError, match="no event 999"):
            campaign.undo(999)
        with pytest.raises(ValueError, match=r"event 1 \(campaign created\) cannot be undone"):
            campaign.undo(1)

    def test_answers_outlive_the_batch_that_was_undone(self, campaign: cf.Campaign) -> None:
        images = campaign.next(4).images
        answer(campaign, images[:2])
        (issued,) = (event.number for event in campaign.events() if event.kind == kinds.BATCH_ISSUED)
        campaign.undo(issued)
        assert {IDS[row] for row in np.flatnonzero(campaign.labels >= 0)} == {*images[:2]}
        assert not {*images[:2]} & {*campaign.next(N - 2).images}

    def test_answers_outlive_the_first_one_of_their_image(self, campaign: cf.Campaign) -> None:
        campaign.label(IDS[:1], ["ant"], annotator="ana")
        campaign.label(IDS[:1], ["bee"], annotator="ben")
        campaign.undo(annotator="ana")
        assert campaign.labels[0] == 1
        campaign.undo(annotator="ben")
        assert (campaign.labels < 0).all()
        assert len(campaign.next(N)) == N

    def test_several_undone_at_once_or_none(self, campaign: cf.Campaign) -> None:
        for k in range(4):
            answer(campaign, [IDS[k]])
        numbers = [event.number for event in campaign.events() if event.kind == kinds.LABELLED]
        with pytest.raises(ValueError, match="no event"):
            campaign.undo(*numbers, 500)
        assert int((campaign.labels >= 0).sum()) == 4
        campaign.undo(*numbers)
        assert int((campaign.labels >= 0).sum()) == 0

    def test_every_event_says_who_when_and_what_they_saw(self, campaign: cf.Campaign) -> None:
        images = campaign.next(3, annotator="lead").batch.images
        answer(campaign, images)
        events = campaign.events()
        digests = {event.digest for event in events}
        assert all(event.version == cf.__version__ and event.time.endswith("+00:00") for event in events)
        assert all(event.saw in digests for event in events[1:])
        assert {event.annotator for event in events if event.kind in kinds.ANSWERS} == {"ana"}
        assert [event.annotator for event in events if event.kind == kinds.JOINED] == ["ana"]
        campaign.verify()


class TestAnnotators:
    @pytest.fixture
    def two(self, tmp_path: Path, pool: Path) -> Iterator[cf.Campaign]:
        given: dict[str, Any] = {"class_names": NAMES, "config": QUICK, "labels_per_image": 2}
        with cf.Campaign.create(tmp_path / "a", pool, **given) as made:
            yield made

    def test_each_image_is_given_once(self, campaign: cf.Campaign, tmp_path: Path) -> None:
        images = campaign.next(9).batch.images
        ana, ben = campaign.assign("ana", 4), campaign.assign("ben")
        assert [task.image for task in ana.tasks] == [*images[:4]]
        assert [task.image for task in ben.tasks] == [*images[4:]]
        assert campaign.assign("ana").tasks == ana.tasks
        before = campaign.events()
        nothing = campaign.assign("cem")
        assert (nothing.tasks, nothing.images, len(nothing), bool(nothing)) == ((), (), 0, False)
        assert campaign.events() == before
        with pytest.raises(ValueError, match="no image for 'cem' to label: of 9 that are out 9 were given to others"):
            campaign.export_file(tmp_path / "cem.csv", "csv", annotator="cem")
        assert not (tmp_path / "cem.csv").exists()
        answer(campaign, images[:2])
        assert [task.image for task in campaign.assign("ana").tasks] == [*images[2:4]]

    def test_an_assignment_ends_with_the_batch_of_each_image(self, campaign: cf.Campaign) -> None:
        expiring = campaign.next(3, expires=timedelta(seconds=2)).images
        lasting = campaign.next(2).images
        assert len(campaign.assign("ana").tasks) == 5
        time.sleep(2.1)
        again = campaign.next(N - 2).images
        assert {*expiring} <= {*again}
        assert {task.image for task in campaign.assign("ben").tasks} == {*again}
        assert [task.image for task in campaign.assign("ana").tasks] == [*lasting]

    def test_an_undone_assignment_frees_its_images(self, campaign: cf.Campaign) -> None:
        campaign.next(4)
        campaign.assign("ana")
        campaign.undo(annotator="ana")
        assert len(campaign.assign("ben").tasks) == 4

    def test_images_whose_file_was_not_written_are_assigned_to_nobody(
        self, campaign: cf.Campaign, tmp_path: Path
    ) -> None:
        campaign.next(4)
        campaign.assign("ana", 1)
        with pytest.raises(OSError, match="photos"):
            campaign.write_page(tmp_path / "ana.html", tmp_path / "photos", annotator="ana")
        with pytest.raises(ValueError, match="absolute path"):
            campaign.export_file(tmp_path / "a.json", "fiftyone", annotator="ana", images="relative")
        assert len(campaign.assign("ben").tasks) == 3

    def test_what_several_people_said_at_once_is_undone_at_once(self, campaign: cf.Campaign) -> None:
        answers = [Answer(IDS[k], label="ant", annotator=name) for k, name in enumerate(("ana", "ben", "cem"))]
        first, last = campaign.take(answers).events or (0, 0)
        assert campaign.take(answers[:1]).n_known == 1
        assert campaign.take(answers[:1]).events is None
        campaign.undo(*range(first, last + 1))
        assert (campaign.labels < 0).all()
        with pytest.raises(ValueError, match="cannot be undone"):
            campaign.undo(first)  # that ana takes part

    def test_the_last_event_is_anybodys(self, campaign: cf.Campaign) -> None:
        campaign.next(3)
        campaign.label([IDS[0]], ["ant"], annotator="ana")
        (event,) = campaign.undo()
        assert (event.kind, event.annotator) == (kinds.LABELLED, "ana")

    def test_two_people_a_row_and_a_third_for_a_tie(self, two: cf.Campaign) -> None:
        first, second, third = two.next(3).batch.images
        assert len(two.assign("ana").tasks) == len(two.assign("ben").tasks) == 3
        assert not two.assign("cem")
        two.label([first, second, third], ["ant", "ant", "ant"], annotator="ana")
        assert (two.labels < 0).all(), "one is not two"
        taken = two.label([first, second], ["ant", "bee"], annotator="ben")
        assert taken.n_undecided == 1
        assert two.pending() == {second: 1, third: 1}
        assert [task.image for task in two.assign("cem").tasks] == [second]
        two.label([second], ["bee"], annotator="cem")
        assert [two.labels[IDS.index(image)] for image in (first, second, third)] == [0, 1, -1]
        status = two.status()
        assert (status.n_labelled, status.n_undecided, status.n_several) == (2, 1, 2)
        by_name = {entry.name: entry for entry in status.annotators}
        assert by_name["ana"].with_others[:2] == (2, 0.5)
        assert by_name["ben"].with_others[:2] == (1, 1.0), "of the second image his others do not agree"
        assert not np.isnan(status.alpha)

    def test_an_assignment_tells_the_shortlist(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 3, budget=6)
        campaign.next(5)
        tasks = campaign.assign("ana").tasks
        assert [task.rank for task in tasks] == [1, 2, 3, 4, 5]
        assert {task.batch for task in tasks} == {4}
        for task in tasks:
            p = [probability for _, probability in task.likeliest]
            assert p == sorted(p, reverse=True)
            assert p
            assert all(0 <= value <= 1 for value in p)
            assert {name for name, _ in task.likeliest} <= {*NAMES}
        campaign.rename_class("ant", "hyena")
        renamed = [{name for name, _ in task.likeliest} for task in campaign.assign("ana").tasks]
        assert not any("ant" in names for names in renamed)
        assert any("hyena" in names for names in renamed)


class TestClasses:
    def test_an_added_class_keeps_every_label(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 3)
        before = campaign.labels
        campaign.add_class("aardvark")
        assert campaign.class_names == [*NAMES, "aardvark"]
        np.testing.assert_array_equal(campaign.labels, before)
        assert len(campaign.next(3)) == 3

    def test_merged_and_renamed_classes(self, campaign: cf.Campaign) -> None:
        campaign.label(IDS[:3], NAMES)
        campaign.merge_classes("bee", "ant")
        assert campaign.labels[:3].tolist() == [0, 0, 1]
        campaign.rename_class("ant", "insect")
        assert campaign.class_names == ["insect", "cat"]
        campaign.label([IDS[4]], ["bee"])
        assert campaign.labels[4] == 0, "a page of yesterday says bee"
        with pytest.raises(ValueError, match="got 'bee'"):
            campaign.rename_class("bee", "wasp")

    @pytest.mark.parametrize("name", ["", " ", "ant", " ant ", "Cannot tell"])
    def test_names_that_cannot_be(self, campaign: cf.Campaign, name: str) -> None:
        with pytest.raises(ValueError, match=r"name|must not be called"):
            campaign.add_class(name)
        with pytest.raises(ValueError, match=r"name|must not be called"):
            campaign.rename_class("bee", name)

    def test_a_class_that_is_used_is_not_undone(self, campaign: cf.Campaign) -> None:
        campaign.add_class("dog", annotator="lead")
        campaign.label([0], ["dog"], annotator="ana")
        with pytest.raises(ValueError, match=r"cannot be undone while event \d+ \(label\) is about this class"):
            campaign.undo(annotator="lead")
        campaign.undo(annotator="ana")
        campaign.undo(annotator="lead")
        assert campaign.class_names == NAMES

    @pytest.mark.parametrize(
        ("changes", "text"),
        [
            (["rename ant x", "add ant", "undo 5"], "two classes would be called 'ant'"),
            (["merge ant bee", "add ant", "undo 5"], "two classes would be called 'ant'"),
            (["add dog", "undo 5", "add dog", "undo 6"], "two classes would be called 'dog'"),
            (["rename ant x", "undo 5", "rename bee x", "undo 6"], "two classes would be called 'x'"),
            (["merge ant bee", "undo 5", "merge bee ant", "undo 6"], "'(ant|bee)' would be merged into itself"),
            (
                ["merge ant bee", "undo 5", "merge bee cat", "merge cat ant", "undo 6"],
                "'(ant|bee|cat)' would be merged into itself",
            ),
            (["add dog", "label dog", "undo 6", "undo 5", "undo 7"], r"event 6 \(label\) would be about a class"),
            (["add dog", "rename dog elk", "undo 6", "undo 5", "undo 7"], r"event 6 \(class renamed\) would be about"),
            (["add dog", "merge dog ant", "undo 6", "undo 5", "undo 7"], r"event 6 \(class merged\) would be about"),
            (["add dog", "merge ant dog", "undo 6", "undo 5", "undo 7"], r"event 6 \(class merged\) would be about"),
        ],
    )
    def test_an_undo_that_classes_contradict_is_refused(
        self, campaign: cf.Campaign, changes: list[str], text: str
    ) -> None:
        do: dict[str, Any] = {
            "add": campaign.add_class,
            "rename": campaign.rename_class,
            "merge": campaign.merge_classes,
            "undo": lambda number: campaign.undo(int(number)),
            "label": lambda name: campaign.label([0], [name]),
        }
        *before, last = [change.split() for change in changes]
        for action, *given in before:
            do[action](*given)
        names, events, labels = campaign.class_names, campaign.events(), campaign.labels
        with pytest.raises(ValueError, match=text):
            do[last[0]](*last[1:])
        assert campaign.class_names == names
        assert campaign.events() == events
        assert len(campaign.history()) == len(events)
        np.testing.assert_array_equal(campaign.labels, labels)
        assert len(campaign.next(2)) == 2

    def test_the_last_thing_that_was_done_is_not_the_first_classes(self, campaign: cf.Campaign) -> None:
        with pytest.raises(ValueError, match="nothing to undo"):
            campaign.undo()

    def test_a_teacher_is_asked_for_features_of_new_classes(self, tmp_path: Path, pool: Path) -> None:
        teacher = cf.Teacher(X, T, class_names=NAMES)
        campaign = cf.Campaign.create(tmp_path / "a", pool, teacher=teacher, config=QUICK)
        rounds(campaign, 2)
        campaign.add_class("dog")
        with pytest.raises(
            ValueError, match=r"no text features of 'dog'.* expected a teacher with a row for each class"
        ):
            campaign.next(3)
        wider = cf.Teacher(X, np.eye(4, D, dtype=np.float32), class_names=["dog", *NAMES])
        with cf.Campaign.open(tmp_path / "a", pool, teacher=wider) as again:
            assert len(again.next(3)) == 3
        stranger = cf.Teacher(X, T, class_names=["ant", "bee", "elk"])
        again = cf.Campaign.open(tmp_path / "a", pool, teacher=stranger)
        with pytest.raises(ValueError, match="knows the class 'elk', which the campaign has not"):
            again.next(3)

    def test_merged_classes_are_one_for_the_teacher(self, tmp_path: Path, pool: Path) -> None:
        teacher = cf.Teacher(X, T, class_names=NAMES)
        campaign = cf.Campaign.create(tmp_path / "a", pool, teacher=teacher, config=QUICK)
        rounds(campaign, 2)
        campaign.merge_classes("cat", "ant")
        campaign.rename_class("ant", "animal")
        picks = campaign.next(4).batch.images
        merged = cf.Teacher(X, np.stack([T[0] + T[2], T[1]]), class_names=["animal", "bee"])
        again = cf.Campaign.open(tmp_path / "a", pool, teacher=merged)
        again.undo()
        assert again.next(4).batch.images == picks


class TestPools:
    def test_images_keep_their_labels_wherever_they_are(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        rounds(campaign, 2)
        out = campaign.next(4).batch.images
        labelled = {IDS[row]: code for row, code in enumerate(campaign.labels.tolist()) if code >= 0}
        order = np.random.default_rng(1).permutation(N)
        ids = [IDS[k] for k in order]
        other = folder(tmp_path / "other", np.concatenate([X[:5] + 9, X[order]]), [*map(str, range(5)), *ids])
        with cf.Campaign.open(tmp_path / "a.campaign", other) as again:
            found = again.labels
            assert {ids[row - 5]: code for row, code in enumerate(found.tolist()) if code >= 0} == labelled
            assert not {*again.next(10).batch.images} & {*out, *labelled}

    def test_vanished_images_are_said(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        (images,) = rounds(campaign, 1)
        kept = [k for k in range(N) if IDS[k] != images[0]]
        other = folder(tmp_path / "other", X[kept], [IDS[k] for k in kept])
        with cf.Campaign.open(tmp_path / "a.campaign", other) as again:
            with pytest.warns(cf.LabelWarning, match=f"1 of 4 images .* no longer in features, first '{images[0]}'"):
                labels = again.labels
            assert int((labels >= 0).sum()) == 3
            assert again.status().n_labelled == 4

    def test_another_image_of_the_same_name_is_said(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        (images,) = rounds(campaign, 1)
        x = X.copy()
        x[IDS.index(images[2])] += 1
        with (
            cf.Campaign.open(tmp_path / "a.campaign", folder(tmp_path / "other", x)) as again,
            pytest.warns(cf.LabelWarning, match=f"1 of 4 images .*'{images[2]}'.* another image may have its name"),
        ):
            again.next(2)

    def test_another_encoder_is_no_reason_to_warn(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        rounds(campaign, 1)
        other = folder(tmp_path / "other", np.hstack([X, X]))
        with cf.Campaign.open(tmp_path / "a.campaign", other) as again, warnings.catch_warnings():
            warnings.simplefilter("error")
            assert len(again.next(2)) == 2

    def test_a_pool_without_ids_must_hold_what_it_held(self, tmp_path: Path) -> None:
        with cf.Campaign.create(tmp_path / "a", X, class_names=NAMES, config=QUICK) as campaign:
            images = campaign.next(4).batch.images
            answer(campaign, images)
            assert [int(image) for image in images] == np.flatnonzero(campaign.labels >= 0).tolist() or images
        with cf.Campaign.open(tmp_path / "a", np.vstack([X, X[:3]])) as longer:
            assert int((longer.labels >= 0).sum()) == 4
        with cf.Campaign.open(tmp_path / "a", X[::-1]) as turned, pytest.raises(cf.PoolMismatchError, match="no ids"):
            turned.next(2)
        first = min(int(image) for image in images)
        with (
            cf.Campaign.open(tmp_path / "a", X[:first]) as short,
            pytest.raises(cf.PoolMismatchError, match="more rows"),
        ):
            short.next(2)

    @pytest.mark.parametrize(("bad", "text"), [(None, "none at row 7"), (IDS[3], "'photos/003.jpg' at rows 3 and 7")])
    def test_ids_must_be_distinct(self, tmp_path: Path, bad: Any, text: str) -> None:
        ids: list[Any] = [*IDS]
        ids[7] = bad
        with pytest.raises(ValueError, match=text):
            cf.Campaign.create(tmp_path / "a", folder(tmp_path / "pool", X, ids), class_names=NAMES)
        assert not (tmp_path / "a").exists()

    def test_a_pool_must_have_ids_where_the_campaign_has(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        rounds(campaign, 1)
        with pytest.raises(cf.PoolMismatchError, match=r"must be a pool with ids.* got one without"):
            cf.Campaign.open(tmp_path / "a.campaign", X)
        cf.Campaign.create(tmp_path / "b", X).close()
        with pytest.raises(cf.PoolMismatchError, match=r"called by their rows.* got one with ids"):
            cf.Campaign.open(tmp_path / "b", tmp_path / "pool")

    @pytest.mark.parametrize(("bad", "text"), [(None, "none at row 95"), ("z", "own, got 'z' at rows 9[0-9] and 9")])
    def test_another_pool_has_distinct_ids_as_well(
        self, tmp_path: Path, campaign: cf.Campaign, bad: Any, text: str
    ) -> None:
        ids: list[Any] = [*IDS, *"abcdefgh"]
        ids[95] = bad
        ids[96] = "z"
        other = folder(tmp_path / "other", np.vstack([X, X[:8] + 1]), ids)
        with cf.Campaign.open(tmp_path / "a.campaign", other) as again, pytest.raises(ValueError, match=text):
            again.next(98)
        assert campaign.pending() == {}

    def test_answers_need_no_pool(self, tmp_path: Path, campaign: cf.Campaign) -> None:
        images = campaign.next(4).batch.images
        with cf.Campaign.open(tmp_path / "a.campaign") as without:
            answer(without, images)
            assert without.status().n_labelled == 4
            with pytest.raises(ValueError, match="opened without its pool"):
                without.next(2)
        assert int((campaign.labels >= 0).sum()) == 4


class TestStatus:
    def test_audits_tell_how_good_the_models_are(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 3, budget=6)
        issued = campaign.draw_audit(30)
        assert issued.batch.is_audit
        assert campaign.status().audits.top1.n == 0
        answer(campaign, issued.batch.images)
        audits = campaign.status().audits
        shortlists = [pick.shortlist.classes[0] for pick in issued.selection.explanation.picks]  # type: ignore[union-attr]
        expected = float(np.mean(shortlists == Y[[*issued.batch.rows]]))
        assert audits.top1[:2] == (30, expected)
        assert audits.top1.low < expected < audits.top1.high or expected == 1.0
        assert audits.student_set.n == 30

    def test_an_audit_is_a_uniform_draw_in_its_order(self, tmp_path: Path, pool: Path) -> None:
        counts = np.zeros(N, int)
        for seed in range(20):
            with cf.Campaign.create(tmp_path / f"{seed}", pool, class_names=NAMES, random_state=seed) as campaign:
                counts[[*campaign.draw_audit(9).batch.rows]] += 1
        assert counts.sum() == 180
        assert counts.max() < 10, "of 20 draws with probability 0.1 each"

    def test_audits_and_queries_do_not_disturb_each_other(self, tmp_path: Path, pool: Path) -> None:
        with cf.Campaign.create(tmp_path / "a", pool, class_names=NAMES, config=QUICK) as campaign:
            first = campaign.draw_audit(5).batch.images
            campaign.undo()
            campaign.next(5)
            campaign.undo()
            assert campaign.draw_audit(5).batch.images == first

    def test_what_models_said_is_of_classes_whatever_they_are_called_now(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 3, budget=6)
        answer(campaign, campaign.draw_audit(30).images)
        rounds(campaign, 2, budget=6)
        before = campaign.status()
        for given in (("ant", "x"), ("bee", "ant"), ("x", "bee")):  # the names of both are exchanged
            campaign.rename_class(*given)
        status = campaign.status()
        assert repr((status.audits, status.picks)) == repr((before.audits, before.picks))  # NaN is equal there
        assert [entry.agreement for entry in status.batches] == [entry.agreement for entry in before.batches]
        campaign.next(5)
        shortlists = [task.likeliest for task in campaign.assign("ana").tasks]
        for given in (("ant", "y"), ("bee", "ant"), ("y", "bee")):
            campaign.rename_class(*given)
        other = {"ant": "bee", "bee": "ant", "cat": "cat"}
        exchanged = [tuple((other[name], p) for name, p in found) for found in shortlists]
        assert [task.likeliest for task in campaign.assign("ana").tasks] == exchanged

    def test_predictions_become_stable(self, campaign: cf.Campaign) -> None:
        assert campaign.status().is_stable is None
        rounds(campaign, 12, budget=6)
        status = campaign.status()
        known = [entry.agreement for entry in status.batches if entry.agreement is not None]
        assert len(known) == 5, "every second batch of those with models"
        for found in known:
            assert (found.n, found.n_new) == (N, 12)
            assert found.low <= found.changed <= found.high
        assert status.is_stable == (np.mean([found.kappa for found in known[-3:]]) >= 0.99)
        assert status.to_dict()["batches"][3]["n_labelled"] == 6

    def test_queries_without_new_labels_show_no_stability(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 2, budget=6)
        for _ in range(6):
            campaign.next(2)
        status = campaign.status()
        assert [entry.agreement for entry in status.batches] == [None] * 8
        assert status.is_stable is None

    def test_models_learn_nothing_from_refused_images(self, tmp_path: Path) -> None:
        # Images of nothing, which a teacher is sure of: as many as there are others.
        x = np.vstack([X, 50 * X[:, ::-1]])
        teacher = cf.Teacher(x, T, class_names=NAMES)
        with cf.Campaign.create(tmp_path / "a", x, teacher=teacher) as campaign:
            campaign.label(np.arange(30), truth(np.arange(30)))
            before = campaign.learner().predict_proba()
            campaign.refuse(np.arange(N, 2 * N), NO_CLASS)
            learner = campaign.learner()
            np.testing.assert_array_equal(learner._pool.refused, np.arange(N, 2 * N))
            assert (learner.predict_proba() != before).any()

    def test_the_learner_has_the_labels(self, campaign: cf.Campaign) -> None:
        rounds(campaign, 3, budget=6)
        learner = campaign.learner()
        np.testing.assert_array_equal(learner.labels, campaign.labels)
        assert (learner.predict_proba().argmax(axis=1) == Y).mean() > 0.8


class TestTables:
    def test_labels_as_a_table(self, campaign: cf.Campaign, tmp_path: Path) -> None:
        pandas = pytest.importorskip("pandas")
        campaign.label(IDS[2:4], ["ant", "bee"], annotator="ana")
        campaign.label(IDS[2:3], ["ant"], annotator="ben")
        labelled = campaign.labelled_images()
        assert next(iter(labelled)) == (IDS[2], "ant", ("ana", "ben"), 0)
        frame = labelled.to_pandas()
        assert frame.to_dict("list") == {
            "image_path": IDS[2:4],
            "label": ["ant", "bee"],
            "annotators": ["ana; ben", "ana"],
            "n_others": [0, 0],
        }
        file = tmp_path / "labels.csv"
        labelled.to_csv(file)
        pandas.testing.assert_frame_equal(pandas.read_csv(file), frame)
        with pytest.raises(FileExistsError, match=r"is there already; expected a new file, or overwrite=True"):
            labelled.to_csv(file)
        labelled.to_csv(file, overwrite=True)
        by_people = tmp_path / "mine.csv"
        by_people.write_text("image_path,label\na.jpg,ant\n")
        with pytest.raises(FileExistsError, match="labels are never overwritten"):
            labelled.to_csv(by_people, overwrite=True)

    def test_labels_of_a_pool_without_ids(self, tmp_path: Path) -> None:
        pytest.importorskip("pandas")
        with cf.Campaign.create(tmp_path / "a", X, class_names=NAMES, config=QUICK) as campaign:
            assert campaign.labelled_images().to_pandas().columns.tolist()[0] == "index"
            campaign.label([7, 3], ["ant", "bee"])
            assert campaign.labelled_images().to_pandas()["index"].tolist() == [3, 7]
            picks = cf.select(X, 2, labels=campaign.labelled_images().to_pandas(), class_names=NAMES)
            assert picks.report.n_labelled == 2

    def test_status_in_words(self, campaign: cf.Campaign) -> None:
        campaign.label(IDS[2:4], ["ant", "bee"], annotator="a\x1bna")
        lines = str(campaign.status()).splitlines()
        assert lines[:4] == [f"images       {N}", "labelled     2", "refused      0", "out          0"]
        assert any(line.startswith("annotator    a\\x1bna: 2 labels, 0 refusals") for line in lines)
        assert "\n" not in repr(campaign.status())
