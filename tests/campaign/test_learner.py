"""The loop for people."""

from __future__ import annotations

import numpy as np
import pandas
import pyarrow
import pytest
from pyarrow import parquet

import ccma_fast as cf

pytestmark = pytest.mark.processor

QUICK = cf.CCMAConfig(max_epochs=20)


@pytest.fixture(scope="module")
def data(blobs):
    return blobs(400, 10, 5, seed=3)


def loop(learner: cf.ActiveLearner, y: np.ndarray, n_rounds: int, budget: int) -> list[np.ndarray]:
    rounds = []
    for _ in range(n_rounds):
        picks = learner.query(budget)
        learner.label(picks.indices, y[picks.indices])
        rounds.append(picks.indices)
    return rounds


@pytest.mark.parametrize("teacher", ["none", "features", "logits"])
def test_rounds_never_pick_a_row_twice_and_exhaust_the_pool(data, teacher):
    x, y = data
    x, y = x[:60], y[:60]
    given = {
        "none": None,
        "features": cf.Teacher(x, x[:5]),
        "logits": cf.Teacher.from_logits(np.random.default_rng(0).standard_normal((60, 5))),
    }[teacher]
    learner = cf.ActiveLearner(x, teacher=given, config=QUICK)
    picked = np.concatenate(loop(learner, y, 5, 13))
    assert picked.size == 60
    assert np.unique(picked).size == 60
    assert learner.n_rounds == 5
    np.testing.assert_array_equal(learner.labels, y)
    assert len(learner.query(3)) == 0


def test_learns(data):
    x, y = data
    learner = cf.ActiveLearner(x, config=cf.CCMAConfig(max_epochs=100))
    loop(learner, y, 3, 15)
    probabilities = learner.predict_proba(x)
    assert probabilities.shape == (400, 5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert (probabilities.argmax(axis=1) == y).mean() > 0.95


def test_the_same_seed_and_labels_give_the_same_rounds(data):
    x, y = data
    first, second, other = (
        np.concatenate(loop(cf.ActiveLearner(x, config=QUICK, random_state=seed), y, 3, 10)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("teacher", [None, "logits"])
@pytest.mark.parametrize("student", [None, "classifier"])
def test_first_labels_of_one_class_do_not_end_the_loop(data, student, teacher):
    from sklearn.linear_model import LogisticRegression

    x, y = data
    of_teacher = None if teacher is None else cf.Teacher.from_logits(8 * np.eye(5, dtype=np.float32)[y])
    of_student = None if student is None else LogisticRegression()
    learner = cf.ActiveLearner(x, student=of_student, teacher=of_teacher, n_classes=5, config=QUICK)
    rows = np.flatnonzero(y == 3)[:5]
    learner.label(rows, y[rows])
    picks = learner.query(5)
    assert picks.report.mode == "cold start"
    assert not np.isin(picks.indices, rows).any()
    assert np.unique(y[picks.indices]).size >= 3
    learner.label(picks.indices, y[picks.indices])
    assert learner.query(5).report.mode == "query"


def test_unlabelled_picks_can_come_again_and_every_round_has_a_seed_of_its_own(data):
    learner = cf.ActiveLearner(data[0])
    assert not np.array_equal(learner.query(10).indices, learner.query(10).indices)
    assert (learner.labels == -1).all()


def test_starts_from_labels_that_are_there(data, partly_labelled):
    x, y = data
    labels = partly_labelled(y, 50)
    learner = cf.ActiveLearner(x, labels=np.where(labels < 0, np.nan, labels), config=QUICK)
    picks = learner.query(10)
    assert picks.report.mode == "query"
    assert (labels[picks.indices] == -1).all()
    # The learner keeps a copy.
    learner.label(picks.indices, y[picks.indices])
    assert (labels >= 0).sum() == 50


def test_students(data, partly_labelled):
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    x, y = data
    for student in (LogisticRegression(), RandomForestClassifier(5, random_state=0), cf.LinearHead(max_epochs=5)):
        learner = cf.ActiveLearner(x, labels=partly_labelled(y, 50), student=student, config=QUICK)
        assert len(learner.query(4)) == 4
        assert learner.predict_proba(x[:3]).shape == (3, 5)
        assert not hasattr(student, "classes_")


def test_probabilities_have_a_column_for_every_class(data, partly_labelled):
    """Also for classes that nobody has labelled yet."""
    from sklearn.linear_model import LogisticRegression

    x, y = data
    labels = np.where(y < 2, partly_labelled(y, 100), -1)
    for student in (None, LogisticRegression(), cf.LinearHead(max_epochs=5)):
        learner = cf.ActiveLearner(x, labels=labels, n_classes=5, student=student, config=QUICK)
        assert learner.predict_proba(x[:3]).shape == (3, 5)


def test_predictions_follow_the_labels(data, partly_labelled):
    x, y = data
    learner = cf.ActiveLearner(x, labels=partly_labelled(y, 30), n_classes=5, config=QUICK)
    before = learner.predict_proba(x[:20])
    np.testing.assert_array_equal(learner.predict_proba(x[:20]), before)
    rows = np.flatnonzero(learner.labels < 0)[:40]
    learner.label(rows, y[rows])
    assert not np.array_equal(learner.predict_proba(x[:20]), before)


def test_models_are_trained_anew_where_labels_or_rows_are_others(data, partly_labelled, tmp_path):
    x, y = data
    (tmp_path / "x").mkdir()
    np.save(tmp_path / "x" / "0.npy", x[:300])
    learner = cf.ActiveLearner(tmp_path / "x", labels=partly_labelled(y[:300], 30), n_classes=5)
    before, models = learner.predict_proba(), learner._trained
    rows = np.flatnonzero(learner.labels < 0)[:40]
    learner.label(rows, y[rows])
    learner.unlabel(rows)
    np.testing.assert_array_equal(learner.predict_proba(), before)
    assert learner._trained is models
    np.save(tmp_path / "x" / "1.npy", x[300:])
    learner.query(5)  # takes in the second shard
    expected = cf.ActiveLearner(x, labels=learner.labels, n_classes=5).predict_proba()
    np.testing.assert_array_equal(learner.predict_proba(), expected)
    assert not np.array_equal(expected[:300], before)


def test_probabilities_are_computed_as_they_are_read(data, partly_labelled):
    x, y = data
    learner = cf.ActiveLearner(x, labels=partly_labelled(y, 30), n_classes=5, config=QUICK)
    whole, p = learner.predict_proba(), learner.probabilities()
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in p.chunks(70)]), whole)
    np.testing.assert_array_equal(p.take(np.array([7, 3, 7])), whole[[7, 3, 7]])
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
    new = x[:9].copy()
    new[5] = np.nan
    bad = learner.probabilities(new)
    np.testing.assert_array_equal(bad.read(0, 5), whole[:5])
    for read in (lambda: bad.read(4, 9), lambda: bad.take(np.array([8, 5])), lambda: learner.predict_proba(new)):
        with pytest.raises(ValueError, match="X must be finite, got NaN or infinity at row 5"):
            read()
    huge = cf.ActiveLearner(x, teacher=cf.Teacher.from_logits(np.full((len(x), 2), 3e38), temperature=1e-3))
    with pytest.raises(ValueError, match="teacher_logits must be finite, got NaN or infinity at row 8"):
        huge.probabilities().take(np.array([8]))


def test_labels_are_taken_whole_or_not_at_all(data):
    learner = cf.ActiveLearner(data[0], n_classes=5)
    learner.label([3, 4], [1, 2])
    for indices, y, error, text in [
        ([1, 400], [0, 0], ValueError, "indices must be rows from 0 to 399, got 400"),
        ([1, -1], [0, 0], ValueError, "indices must be rows from 0 to 399, got -1"),
        ([1, 1], [0, 0], ValueError, "indices must be distinct, got row 1 more than once"),
        ([1, 2], [0, 5], ValueError, r"y must be -1 \(not labelled\) or a class from 0 to 4, got 5 at row 1 of y"),
        ([1, 2], [0, -1], ValueError, "y must have a class for each row, got none for row 2; unlabel withdraws labels"),
        ([1, 3], [0, 0], ValueError, "row 3 already has the label 1; pass overwrite=True to change it"),
        ([1, 2], [0], ValueError, "y has 1 rows but indices has 2; both must describe the same rows"),
        ([1.0, 2.0], [0, 0], TypeError, "indices must be all integers, or all ids of images, got dtype float64"),
        (
            [1, 2],
            ["a", "b"],
            TypeError,
            r"y must be integers .* where there are no class_names, got 'a' at row 0 of y; .*",
        ),
        ([[1]], [[0]], ValueError, r"indices must have one dimension, got shape \(1, 1\)"),
    ]:
        with pytest.raises(error, match=f"^{text}$"):
            learner.label(indices, y)
        assert np.flatnonzero(learner.labels >= 0).tolist() == [3, 4]
    learner.label([3, 5], [0, 0], overwrite=True)
    assert learner.labels[[3, 4, 5]].tolist() == [0, 2, 0]
    learner.label([], [])
    learner.label(np.array([7], np.uint8), np.array([4], np.int8))
    assert learner.labels[7] == 4


def test_labels_by_name(data):
    x, _ = data
    names = ["ant", "bee", "cat", "dog", "3"]
    learner = cf.ActiveLearner(x, class_names=names)
    learner.label([0, 1, 2], ["cat", "ant", "3"])
    assert learner.labels[:3].tolist() == [2, 0, 4]
    learner.label([3], np.array(["dog"], dtype=object))
    assert learner.class_names == names
    assert learner.predict_proba(x[:2]).shape == (2, 5)
    for y, error, text in [
        (["Cat"], ValueError, "got 'Cat' at row 0 of y; did you mean 'cat'?"),
        ([""], ValueError, "y must have a class for each row, got none for row 9"),
        ([None], ValueError, "got none for row 9"),
        ([np.nan], ValueError, "got none for row 9"),
        ([3], ValueError, "y must say whether they are names or numbers of classes"),
        ([True], TypeError, "got bool True"),
        (np.ma.masked_array([3], [True]), ValueError, "y must have no masked entries"),
    ]:
        with pytest.raises(error, match=text.replace("?", r"\?")):
            learner.label([9], y)
    assert (learner.labels >= 0).sum() == 4
    started = cf.ActiveLearner(x[:3], labels=["bee", "", "ant"], class_names={"ant": 0, "bee": 1})
    assert started.labels.tolist() == [1, -1, 0]


def test_names_are_those_of_the_teacher(data):
    x, _ = data
    names = ["ant", "bee", "cat", "dog", "emu"]
    teacher = cf.Teacher(x, x[:5], class_names=names)
    learner = cf.ActiveLearner(x, teacher=teacher)
    learner.label([0], ["dog"])
    assert (learner.labels[0], learner.class_names) == (3, names)
    assert cf.ActiveLearner(x, teacher=cf.Teacher(x, x[:5]), class_names=names).class_names == names
    for given, text in [
        ({"class_names": names[::-1]}, "must be those of the teacher in the same order, got 'emu' for class 0"),
        ({"class_names": names[:4]}, "must be one for each of the teacher's 5 classes, got 4"),
    ]:
        with pytest.raises(ValueError, match=text):
            cf.ActiveLearner(x, teacher=teacher, **given)
    with pytest.raises(ValueError, match="class_names must be one for each of the 4 classes, got 5"):
        cf.ActiveLearner(x, n_classes=4, class_names=names)


def test_labels_by_id(data, tmp_path):
    x, _ = data
    ids = [f"{i}.jpg" for i in range(6)] + ["twice.jpg"] * 2
    for part in ("img_emb", "metadata"):
        (tmp_path / part).mkdir()
    np.save(tmp_path / "img_emb" / "img_emb_0.npy", x[:8])
    parquet.write_table(pyarrow.table({"image_path": ids}), tmp_path / "metadata" / "metadata_0.parquet")
    learner = cf.ActiveLearner(tmp_path)
    learner.label(["4.jpg", "0.jpg"], [1, 0])
    learner.label(np.array(["2.jpg"], dtype=object), [1])
    assert learner.labels.tolist() == [0, -1, 1, -1, 1, -1, -1, -1]
    learner.unlabel(["2.jpg"])
    learner.label([6], [0])
    for indices, error, text in [
        (["3.jpg", "9.jpg"], ValueError, r"must be ids of images of features, such as \['0.jpg', .*\], got '9.jpg'"),
        (["3.jpg", "3.jpg"], ValueError, "indices must be distinct, got row 3 more than once"),
        (["twice.jpg", "3.jpg"], ValueError, r"ids of one image each, got 'twice.jpg', which rows \[6, 7\] have"),
        (["4.jpg", "3.jpg"], ValueError, "row 4 already has the label 1"),
        (np.array(["3.jpg", 1], dtype=object), TypeError, "must be all integers, or all ids of images, got int 1"),
        (["3.jpg", 1], TypeError, "must be all integers, or all ids of images, got int 1"),
        ([True, 3], TypeError, "must be all integers, or all ids of images, got bool True"),
        ([b"3.jpg", b"1.jpg"], TypeError, "must be all integers, or all ids of images, got bytes b'3.jpg'"),
    ]:
        with pytest.raises(error, match=text):
            learner.label(indices, [0, 1])
    assert np.flatnonzero(learner.labels >= 0).tolist() == [0, 4, 6]
    with pytest.raises(TypeError, match="indices must be integers where features has no ids, got '3'"):
        cf.ActiveLearner(x).label(["3"], [0])


def test_labels_that_say_whose_they_are(data, tmp_path):
    """The index of a Series is not ignored: sorted or grouped answers stand in another order than the picks."""
    x, _ = data
    ids = [f"{i}.jpg" for i in range(8)]
    parquet.write_table(pyarrow.table({"image_path": ids, "vector": list(x[:8])}), tmp_path / "x.parquet")
    frame = pandas.DataFrame({"index": [5, 3, 6], "answer": [0, 1, 2]}, index=[7, 2, 4])
    for indices, y in [
        (["5.jpg", "3.jpg", "6.jpg"], pandas.Series([0, 1, 2])),
        (["5.jpg", "3.jpg", "6.jpg"], pandas.Series([0, 1, 2], index=["5.jpg", "3.jpg", "6.jpg"])),
        (np.array([5, 3, 6]), pandas.Series([0, 1, 2], index=[5, 3, 6])),
        (frame["index"], frame["answer"]),
        (frame["index"], [0, 1, 2]),
        (np.array([5, 3, 6], dtype=object), pandas.array([0, 1, 2], dtype="Int64")),
    ]:
        learner = cf.ActiveLearner(tmp_path / "x.parquet")
        learner.label(indices, y)
        assert learner.labels.tolist() == [-1, -1, -1, 1, -1, 0, 2, -1]
        for other in (pandas.Series([1, 0, 2], index=["3.jpg", "5.jpg", "6.jpg"]), frame["answer"].sort_index()):
            with pytest.raises(ValueError, match="y must be a Series whose index is 0, 1, 2, … or that of indices"):
                learner.label(indices, other, overwrite=True)
    named = cf.ActiveLearner(x, class_names=["cat", "dog", "owl"])
    named.label([1], ["dog"])
    with pytest.raises(ValueError, match=r"^row 1 already has the label 'dog'; pass overwrite=True to change it$"):
        named.label([1], ["owl"])
    whole = cf.ActiveLearner(x[:3], n_classes=3)
    with pytest.raises(ValueError, match=r"^y is a Series whose index is 0, 1, 2, …, and indices are the same rows in"):
        whole.label([2, 0, 1], pandas.Series([0, 1, 2]))
    whole.label(pandas.Series([2, 0, 1]), pandas.Series([0, 1, 2]))
    assert whole.labels.tolist() == [1, 2, 0]
    for wrong in ("no", 1, None):
        with pytest.raises(TypeError, match="overwrite must be true or false, got"):
            learner.label([5], [1], overwrite=wrong)


def test_labels_that_are_withdrawn(data):
    x, y = data
    learner = cf.ActiveLearner(x, labels=np.where(np.arange(400) < 30, y, -1), config=QUICK)
    before = learner.predict_proba(x[:20])
    for indices, error, text in [
        ([3, 30], ValueError, "indices must be rows that have a label, got row 30, which has none"),
        ([3, 3], ValueError, "indices must be distinct, got row 3 more than once"),
        ([400], ValueError, "indices must be rows from 0 to 399, got 400"),
        ([3.0], TypeError, "indices must be all integers, or all ids of images, got dtype float64"),
        ([True], TypeError, "indices must be all integers, or all ids of images, got bool True"),
    ]:
        with pytest.raises(error, match=text):
            learner.unlabel(indices)
    assert (learner.labels >= 0).sum() == 30
    learner.unlabel(np.arange(15))
    learner.unlabel([])
    assert np.flatnonzero(learner.labels >= 0).tolist() == [*range(15, 30)]
    assert not np.array_equal(learner.predict_proba(x[:20]), before)
    other = cf.ActiveLearner(x, labels=learner.labels, config=QUICK)
    np.testing.assert_array_equal(learner.query(5).indices, other.query(5).indices)
    learner.unlabel(np.arange(15, 30))
    assert learner.query(5).report.mode == cf.ActiveLearner(x).query(5).report.mode == "cold start"
    learner.label([3], [0])  # without overwrite


def test_state_that_can_only_be_read(data):
    """Writing to it would leave what depends on it stale, or make a file that no loop can be."""
    x, y = data
    labels = y.astype(np.int64)
    learner = cf.ActiveLearner(x, labels=labels, class_names=list("abcde"))
    labels[:] = 0
    np.testing.assert_array_equal(learner.labels, y)
    with pytest.raises(ValueError, match="read-only"):
        learner.labels[0] = 99
    for view in (learner.labels, np.asarray(learner.labels), learner.labels[3:], cf.Teacher(x, x[:5]).class_directions):
        with pytest.raises(ValueError, match="cannot set WRITEABLE flag"):
            view.setflags(write=True)
    held = learner.labels
    with pytest.raises(TypeError, match="read-only"):
        held.base[0] = 99
    learner.unlabel([0])
    assert held[0] == -1
    for name, value in (("labels", y), ("n_rounds", 3), ("class_names", list("abcde"))):
        with pytest.raises(AttributeError):
            setattr(learner, name, value)
    learner.class_names.reverse()
    assert learner.class_names == list("abcde")
    teacher = cf.Teacher(x, x[:5], class_names=list("abcde"))
    teacher.class_names.reverse()
    assert teacher.class_names == list("abcde")
    with pytest.raises(ValueError, match="read-only"):
        teacher.class_directions[0] = 0
    for name, value in (("temperature", 0), ("class_names", ["a"]), ("class_directions", x[:4])):
        with pytest.raises(AttributeError):
            setattr(teacher, name, value)


def test_errors(data):
    x, _ = data
    with pytest.raises(ValueError, match="a student needs labels of at least two classes, got 0"):
        cf.ActiveLearner(x).predict_proba(x)
    with pytest.raises(ValueError, match="X must have 10 columns as the pool, got 9"):
        cf.ActiveLearner(x).predict_proba(x[:, :9])
    with pytest.raises(ValueError, match="n_classes must be the teacher's 5, got 4"):
        cf.ActiveLearner(x, teacher=cf.Teacher(x, x[:5]), n_classes=4)
    with pytest.raises(ValueError, match="image_features has 399 rows but features has 400"):
        cf.ActiveLearner(x, teacher=cf.Teacher(x[:399], x[:5]))
    with pytest.raises(ValueError, match="n_classes must be at least 2, got 1"):
        cf.ActiveLearner(x, n_classes=1)
    with pytest.raises(TypeError, match="config must be a CCMAConfig, got dict"):
        cf.ActiveLearner(x, config={"kappa": 3})
    with pytest.raises(TypeError, match="student must have the methods fit and predict_proba, got str without fit"):
        cf.ActiveLearner(x, student="logistic")
    with pytest.raises(ValueError, match="backend must be one of"):
        cf.ActiveLearner(x, backend="gpu")
    learner = cf.ActiveLearner(x)
    with pytest.raises(ValueError, match="budget must be at least 1, got 0"):
        learner.query(0)
    assert learner.n_rounds == 0


def test_coverage_calibrated_on_chosen_rows_warns(blobs):
    """Rows that a query chose are not exchangeable with the pool; the first labels, which nobody chose, are."""
    x, y = blobs(200, 6, 3, seed=8)
    labels = np.where(np.arange(200) < 30, y, -1)
    asked = cf.CCMAConfig(acquisition="delta", calibration="coverage", max_epochs=5)
    learner = cf.ActiveLearner(x, labels=labels, config=asked)
    picks = learner.query(5)  # warnings are errors here
    learner.query(5)  # chosen, but not labelled
    learner.label(picks.indices, y[picks.indices])
    with pytest.warns(cf.ExchangeabilityWarning, match="the 5 calibration rows were chosen by active learning"):
        learner.query(5)
    default = cf.ActiveLearner(x, labels=labels, config=cf.CCMAConfig(max_epochs=5))
    for _ in range(2):
        picks = default.query(5)
        default.label(picks.indices, y[picks.indices])


@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_saved_loop_goes_on_as_it_would_have(data, tmp_path, with_teacher):
    x, y = data
    given = {"teacher": cf.Teacher(x, x[:5])} if with_teacher else {}
    learner = cf.ActiveLearner(x, config=QUICK, random_state=4, **given)
    loop(learner, y, 2, 12)
    learner.save(tmp_path / "loop")
    loaded = cf.ActiveLearner.load(tmp_path / "loop", x, **given)
    assert loaded.n_rounds == 2
    np.testing.assert_array_equal(loaded.labels, learner.labels)
    for ours, theirs in zip(loop(loaded, y, 2, 12), loop(learner, y, 2, 12), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_loaded_loop_warns_of_its_own_earlier_choices(data, tmp_path):
    x, y = data
    config = cf.CCMAConfig(max_epochs=20, acquisition="delta")
    learner = cf.ActiveLearner(x, teacher=cf.Teacher(x, x[:5]), config=config)
    loop(learner, y, 1, 30)
    learner.save(tmp_path / "loop.npz")
    with pytest.warns(cf.ExchangeabilityWarning):
        cf.ActiveLearner.load(tmp_path / "loop.npz", x, teacher=cf.Teacher(x, x[:5])).query(5)


def test_a_saved_loop_of_a_pool_that_has_grown_or_shrunk(data, tmp_path):
    x, y = data
    learner = cf.ActiveLearner(x[:300], config=QUICK)
    loop(learner, y, 1, 12)
    learner.save(tmp_path / "loop.npz")
    grown = cf.ActiveLearner.load(tmp_path / "loop.npz", x)
    np.testing.assert_array_equal(grown.labels, [*learner.labels, *[-1] * 100])
    with pytest.raises(ValueError, match=r"features must have the 300 rows of the loop in '.*', or more, got 200"):
        cf.ActiveLearner.load(tmp_path / "loop.npz", x[:200])
