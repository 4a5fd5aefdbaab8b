"""Picks one by one, as an array, as a data frame and as CSV."""

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.query.report import Pick, Report, Selection

X = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
IDS = ["a.jpg", "b,c.jpg", None]


def selection(ids=None):
    scores = np.array([0.1, np.nan, 0.30000001], np.float32)
    return Selection(np.array([5, 2, 9]), scores, np.array([3, 1, 1]), Report(), ids)


def test_picks_are_a_sequence():
    picks = cf.select(X, 7)
    assert len(picks) == 7
    assert [pick.index for pick in picks] == picks.indices.tolist()
    assert [pick.rank for pick in picks] == list(range(1, 8))
    assert selection(IDS)[0] == next(iter(selection(IDS)))
    assert (picks[-1].index, picks[-1].rank) == (picks.indices[-1], 7)
    assert [pick.index for pick in picks[2:4]] == picks.indices[2:4].tolist()
    assert selection(IDS)[0] == Pick(1, 5, "a.jpg", pytest.approx(0.1), 3)
    for beyond in (7, -8):
        with pytest.raises(IndexError):
            picks[beyond]


def test_picks_are_their_row_numbers_to_numpy():
    picks = cf.select(X, 7)
    np.testing.assert_array_equal(X[picks], X[picks.indices])
    assert np.asarray(picks) is picks.indices
    assert np.asarray(picks, np.int32).dtype == np.int32
    assert np.array(picks) is not picks.indices
    learner = cf.ActiveLearner(X)
    learner.label(picks, [0, 1, 0, 1, 0, 1, 0])
    assert np.flatnonzero(learner.labels >= 0).tolist() == sorted(picks.indices.tolist())


@pytest.mark.parametrize("ids", [None, IDS])
def test_frame_and_csv_have_the_same_columns(ids, tmp_path):
    pandas = pytest.importorskip("pandas")
    picks, file = selection(ids), tmp_path / "picks.csv"
    picks.to_csv(file)
    frame = picks.to_pandas()
    read = pandas.read_csv(file)
    assert [*frame] == [*read] == ["rank", "index", *(["image_path"] if ids else []), "score", "represents"]
    np.testing.assert_array_equal(frame["index"], picks.indices)
    np.testing.assert_array_equal(read["score"].astype(np.float32), picks.scores)
    assert frame["score"].dtype == np.float32
    if ids:
        assert read["image_path"].tolist()[:2] == frame["image_path"].tolist()[:2] == IDS[:2]


def test_file_with_labels_is_never_replaced(tmp_path):
    file = tmp_path / "picks.csv"
    selection().to_csv(file)
    selection(IDS).to_csv(file)  # picks alone
    rows = file.read_text().splitlines()
    labelled = "\n".join([rows[0] + ",label", *(row + ",cat" for row in rows[1:])])
    file.write_text(labelled)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match=r"labels in its column 'label': labels are never overwritten"):
            selection().to_csv(file, overwrite=overwrite)
    assert file.read_text() == labelled


def test_other_file_is_replaced_where_asked(tmp_path):
    file = tmp_path / "picks.csv"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(FileExistsError, match=r"something else than picks, or more; expected a new file"):
        selection().to_csv(file)
    selection().to_csv(file, overwrite=True)
    assert file.read_text().startswith("rank,index,score,represents\n1,5,0.1,3\n")
    with pytest.raises(FileNotFoundError, match="no directory"):
        selection().to_csv(tmp_path / "none" / "picks.csv")
    with pytest.raises(TypeError, match="overwrite must be true or false"):
        selection().to_csv(file, overwrite="yes")


def test_labels_come_back(tmp_path):
    pandas = pytest.importorskip("pandas")
    picks, file = cf.select(X, 7), tmp_path / "picks.csv"
    picks.to_csv(file)
    frame = pandas.read_csv(file)
    frame["label"] = ["cat", "dog"] * 3 + ["cat"]
    frame.to_csv(file, index=False)
    following = cf.select(X, 3, labels=file, class_names=["cat", "dog"])
    assert following.report.n_labelled == 7
