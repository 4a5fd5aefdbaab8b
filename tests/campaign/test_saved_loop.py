"""A saved loop gives its labels to the images that they are of, or to none."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import ccma_fast as cf
from ccma_fast.pool.manifest import Manifest, Shard
from ccma_fast.pool.manifest_file import chained, digest_of_file, write_manifest

N, D, C = 20, 6, 3
QUICK = cf.CCMAConfig(max_epochs=5)
IDS = [f"{i:02}.jpg" for i in range(N)]
NAMES = ["ant", "bee", "cat"]
Y = np.arange(N) % C
# Multiples of 1/16, which float16 holds as they are.
X = np.random.default_rng(0).integers(-64, 64, (N, D)).astype(np.float32) / 16
T = np.eye(C, D, dtype=np.float32)
LABELLED = [3, 7, 8, 11, 15]


def clip_retrieval(path: Path, x: np.ndarray, ids: list[Any]) -> Path:
    """A folder that tells the ids of its rows and has no manifest."""
    for part in ("img_emb", "metadata"):
        (path / part).mkdir(parents=True)
    np.save(path / "img_emb" / "img_emb_0.npy", x)
    parquet.write_table(pyarrow.table({"image_path": ids}), path / "metadata" / "metadata_0.parquet")
    return path


def extracted(path: Path, x: np.ndarray, ids: list[str], encoder: str = "m") -> Path:
    """A folder with a manifest, in two shards."""
    clip_retrieval(path, x[:9], ids[:9])
    np.save(path / "img_emb" / "img_emb_1.npy", x[9:])
    parquet.write_table(pyarrow.table({"image_path": ids[9:]}), path / "metadata" / "metadata_1.parquet")
    shards, before = [], ""
    for i, own in enumerate((ids[:9], ids[9:])):
        file, metadata = f"img_emb/img_emb_{i}.npy", f"metadata/metadata_{i}.parquet"
        before = chained(before, own)
        shards.append(
            Shard(file, metadata, len(own), digest_of_file(path / file), digest_of_file(path / metadata), before)
        )
    model = {"library": "l", "model": encoder, "weights": "w", "weights_sha256": encoder * 64}
    write_manifest(path, Manifest(model, [], "fp32", False, "float32", x.shape[1], tuple(shards)))
    return path


FOLDERS = pytest.mark.parametrize("folder", [clip_retrieval, extracted])


def saved(path: Path, pool: Any, **given: Any) -> Path:
    """A loop with five labels and a choice that has none yet, row 17."""
    learner = cf.ActiveLearner(pool, config=QUICK, **given)
    learner.label(LABELLED, Y[LABELLED])
    learner._pool.chosen = {3, 7, 17}
    learner.save(path / "loop.npz", overwrite=True)
    return path / "loop.npz"


def labels_at(rows: list[int], y: np.ndarray, n: int = N) -> np.ndarray:
    labels = np.full(n, -1)
    labels[rows] = y
    return labels


# --- pools with ids -------------------------------------------------------------------------------


@FOLDERS
def test_images_are_found_where_they_are_now(tmp_path: Path, folder: Callable[..., Path]) -> None:
    """One image less and one more: as many rows, and other images in most of them."""
    file = saved(tmp_path, folder(tmp_path / "before", X, IDS))
    now = folder(tmp_path / "now", np.r_[X[:5], X[6:], X[:1] + 1], [*IDS[:5], *IDS[6:], "new.jpg"])
    with pytest.warns(cf.LabelWarning, match=r"^5 of the 6 images .* first '07.jpg' from row 7 to row 6 of features; "):
        learner = cf.ActiveLearner.load(file, now)
    np.testing.assert_array_equal(learner.labels, labels_at([3, 6, 7, 10, 14], Y[LABELLED]))
    assert learner._pool.chosen == {3, 6, 16}
    learner.save(tmp_path / "again.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = cf.ActiveLearner.load(tmp_path / "again.npz", now)
    np.testing.assert_array_equal(again.labels, learner.labels)


@FOLDERS
def test_any_order_and_any_encoder_of_the_same_images(tmp_path: Path, folder: Callable[..., Path]) -> None:
    file = saved(tmp_path, folder(tmp_path / "before", X, IDS))
    order = np.random.default_rng(1).permutation(N)
    other = np.random.default_rng(2).standard_normal((N, D + 3)).astype(np.float32)
    given = {"encoder": "n"} if folder is extracted else {}
    with pytest.warns(cf.LabelWarning, match="have moved"):
        learner = cf.ActiveLearner.load(file, folder(tmp_path / "now", other, [IDS[i] for i in order], **given))
    np.testing.assert_array_equal(learner.labels, np.where(np.isin(order, LABELLED), Y[order], -1))
    assert len(learner.query(3)) == 3


@FOLDERS
def test_images_that_are_gone(tmp_path: Path, folder: Callable[..., Path]) -> None:
    file = saved(tmp_path, folder(tmp_path / "before", X, IDS))
    kept = [i for i in range(N) if i not in (8, 15, 17)]
    now = folder(tmp_path / "now", X[kept], [IDS[i] for i in kept])
    lost = "3 of the 6 that were labelled or chosen: '08.jpg' first"
    with pytest.raises(cf.PoolMismatchError, match=f'got a pool without {lost}; missing="drop" forgets them'):
        cf.ActiveLearner.load(file, now)
    with pytest.warns(cf.LabelWarning) as told:
        learner = cf.ActiveLearner.load(file, now, missing="drop")
    assert [lost in str(one.message) for one in told] == [True, False]
    assert all(one.filename == __file__ for one in told)
    np.testing.assert_array_equal(learner.labels, labels_at([3, 7, 10], Y[[3, 7, 11]], len(kept)))
    assert learner._pool.chosen == {3, 7}
    with pytest.raises(ValueError, match="missing must be one of 'raise', 'drop', got 'ignore'"):
        cf.ActiveLearner.load(file, now, missing="ignore")


def test_an_id_that_several_images_have_says_nothing(tmp_path: Path) -> None:
    """Their values do, as long as they stay where they were."""
    ids = [*IDS]
    ids[7] = ids[8] = ids[16] = "same.jpg"
    file = saved(tmp_path, clip_retrieval(tmp_path / "before", X, ids))
    stayed = cf.ActiveLearner.load(
        file, clip_retrieval(tmp_path / "grown", np.r_[X, X], [*ids, *"abcdefghijklmnopqrst"])
    )
    np.testing.assert_array_equal(np.flatnonzero(stayed.labels >= 0), LABELLED)
    swapped = [*range(N)]
    swapped[7], swapped[8] = 8, 7
    with pytest.raises(cf.PoolMismatchError, match=r"at row 7 .*, the image 'same.jpg', the first of 2 such"):
        cf.ActiveLearner.load(file, clip_retrieval(tmp_path / "swapped", X[swapped], ids))
    moved = [*range(1, N), 0]
    with pytest.raises(cf.PoolMismatchError, match=r"got none of the id 'same.jpg' at row 8"):
        cf.ActiveLearner.load(file, clip_retrieval(tmp_path / "moved", X[moved], [ids[i] for i in moved]))
    unknown = [None if i == 8 else row_id for i, row_id in enumerate(IDS)]
    file = saved(tmp_path, clip_retrieval(tmp_path / "gap", X, unknown))
    assert cf.ActiveLearner.load(file, clip_retrieval(tmp_path / "gap2", X, unknown)).labels[8] == Y[8]
    with pytest.raises(cf.PoolMismatchError, match=r"other values than it had at row 8 .*, the image None"):
        cf.ActiveLearner.load(file, clip_retrieval(tmp_path / "gap3", X + 1, unknown))


@FOLDERS
def test_ids_on_one_side_only(tmp_path: Path, folder: Callable[..., Path]) -> None:
    """Then the values decide, in either direction."""
    pool = folder(tmp_path / "pool", X, IDS)
    of_pool = saved(tmp_path, pool)
    np.testing.assert_array_equal(cf.ActiveLearner.load(of_pool, X).labels, labels_at(LABELLED, Y[LABELLED]))
    with pytest.raises(cf.PoolMismatchError, match=r"at row 3, the image '03.jpg', the first of 6 such rows among 6"):
        cf.ActiveLearner.load(of_pool, X[::-1])
    of_array = saved(tmp_path, X)
    np.testing.assert_array_equal(cf.ActiveLearner.load(of_array, pool).labels, labels_at(LABELLED, Y[LABELLED]))
    shifted = folder(tmp_path / "shifted", np.roll(X, 1, axis=0), IDS)
    with pytest.raises(cf.PoolMismatchError, match=r"at row 3 .*, the first of 6 such rows among 6"):
        cf.ActiveLearner.load(of_array, shifted)


# --- pools without ids ----------------------------------------------------------------------------


def test_the_same_values_in_any_type_and_place(tmp_path: Path) -> None:
    file = saved(tmp_path, X.astype(np.float16))
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as handle:
        handle["features"] = X.astype(np.float64)
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "part-0.npy", X[:8])
    np.save(tmp_path / "shards" / "part-1.npy", X[8:])
    for pool in (X, np.asfortranarray(X), X.tolist(), tmp_path / "x.npy", tmp_path / "x.h5", tmp_path / "shards"):
        learner = cf.ActiveLearner.load(file, pool)
        np.testing.assert_array_equal(learner.labels, labels_at(LABELLED, Y[LABELLED]))


def test_rows_that_were_neither_labelled_nor_chosen_may_change(tmp_path: Path) -> None:
    file = saved(tmp_path, X)
    swapped = X.copy()
    swapped[[0, 1]] = X[[1, 0]]
    swapped[19] = 0
    for pool in (swapped, np.r_[X, X]):
        assert (cf.ActiveLearner.load(file, pool).labels >= 0).sum() == len(LABELLED)


@pytest.mark.parametrize(
    ("pool", "message"),
    [
        (np.r_[X[:5], X[6:], X[:1] + 1], "got other values than it had at row 7, the first of 5 such rows among 6"),
        (np.where(np.arange(N)[:, None] == 17, 0, X), "at row 17, the first of 1 such rows among 6"),
        (X[::-1], "at row 3, the first of 6"),
        (X[:, :5], "whose rows have 6 columns and no ids .*, got 5 columns"),
        (X[:19], "must have the 20 rows of the loop in '.*loop.npz', or more, got 19"),
        (np.r_[X[:1] + 1, X], "at row 3, the first of 6"),
    ],
    ids=["one less, one more", "a chosen row", "reversed", "narrower", "shorter", "added in front"],
)
def test_other_pools_are_refused(tmp_path: Path, pool: np.ndarray, message: str) -> None:
    with pytest.raises(cf.PoolMismatchError, match=message):
        cf.ActiveLearner.load(saved(tmp_path, X), pool)


def test_twins_may_change_places(tmp_path: Path) -> None:
    twins = X.copy()
    twins[4] = twins[3]
    assert cf.ActiveLearner.load(saved(tmp_path, twins), twins.copy()).labels[[3, 4]].tolist() == [0, -1]


def test_only_rows_that_were_labelled_or_chosen_are_read(tmp_path: Path) -> None:
    from ccma_fast.pool.open import open_rows

    rows = open_rows(X, "features")
    file = saved(tmp_path, rows)
    assert rows.bytes_read == 6 * X[0].nbytes
    cf.ActiveLearner.load(file, rows)
    assert rows.bytes_read == 12 * X[0].nbytes


def test_a_loop_without_labels(tmp_path: Path) -> None:
    learner = cf.ActiveLearner(clip_retrieval(tmp_path / "pool", X, IDS))
    learner.save(tmp_path / "loop.npz")
    loaded = cf.ActiveLearner.load(tmp_path / "loop.npz", tmp_path / "pool")
    assert loaded.n_rounds == 0
    assert (loaded.labels == -1).all()


# --- classes --------------------------------------------------------------------------------------


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, X, teacher=cf.Teacher(X, T))
    cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, (2 * T).astype(np.float16)))  # the same directions
    for classes, message in (
        (T[[1, 0, 2]], "in the same order, got as the teacher's class 0 what was class 1"),
        (np.r_[T[:2], -T[2:]], "got a teacher whose class 2 has another direction, and no names"),
        (np.eye(4, D), "which has 3, got 4"),
    ):
        with pytest.raises(ValueError, match=message):
            cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, classes))
    # The directions outlive a session without a teacher.
    cf.ActiveLearner.load(file, X).save(file)
    with pytest.raises(ValueError, match="in the same order"):
        cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, T[[1, 0, 2]]))
    cf.ActiveLearner.load(file, X, teacher=cf.Teacher.from_logits(np.zeros((N, C))))


def test_classes_have_the_names_that_they_had(tmp_path: Path) -> None:
    file = saved(tmp_path, X, teacher=cf.Teacher(X, T, class_names=NAMES))
    assert cf.ActiveLearner.load(file, X).class_names == NAMES
    # Another encoder, or other prompts: the names say that the classes are the same.
    wide = np.random.default_rng(3).standard_normal((N + C, 9))
    loaded = cf.ActiveLearner.load(file, X, teacher=cf.Teacher(wide[:N], wide[N:], class_names=NAMES))
    assert loaded.class_names == NAMES
    other = "got 2 other names: first 'bee' for class 0, which the loop calls 'ant'"
    with pytest.raises(ValueError, match=other):
        cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, T[[1, 0, 2]], class_names=["bee", "ant", "cat"]))
    with pytest.raises(ValueError, match=other):
        cf.ActiveLearner.load(file, X, class_names=["bee", "ant", "cat"])
    with pytest.raises(ValueError, match="which has 3, got 2"):
        cf.ActiveLearner.load(file, X, class_names=NAMES[:2])
    with pytest.raises(ValueError, match="got as the teacher's class 0 what was class 1"):
        cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, T[[1, 0, 2]]), class_names=NAMES)


def test_names_that_are_first_given_at_load(tmp_path: Path) -> None:
    file = saved(tmp_path, X)
    assert cf.ActiveLearner.load(file, X, teacher=cf.Teacher(X, T, class_names=NAMES)).class_names == NAMES
    learner = cf.ActiveLearner.load(file, X, class_names=NAMES)
    learner.label([0], ["cat"])
    assert learner.labels[0] == 2
    learner.save(file)
    assert cf.ActiveLearner.load(file, X).class_names == NAMES
    with pytest.raises(ValueError, match="which has 3, got 2"):
        cf.ActiveLearner.load(file, X, class_names=NAMES[:2])
    with pytest.raises(ValueError, match="which has labels up to 2, got 2 classes"):
        cf.ActiveLearner.load(saved(tmp_path, X), X, class_names=NAMES[:2])


# --- files ----------------------------------------------------------------------------------------


def rewritten(file: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Path:
    with np.load(file) as content:
        arrays = dict(content)
    settings = json.loads(str(arrays.pop("settings")))
    change(settings, arrays)
    np.savez_compressed(file, settings=json.dumps(settings), **arrays)
    return file


def test_a_loop_from_before_there_was_a_choice_of_heads_goes_on_with_the_published_one(tmp_path: Path) -> None:
    def without_head(settings: dict[str, Any], _: object) -> None:
        del settings["config"]["head"]
        settings["config"]["acquisition"] = "trust"  # the default of that version

    loop = cf.ActiveLearner.load(rewritten(saved(tmp_path, X), without_head), X)
    assert (loop._config.head, loop._config.acquisition) == ("published", "trust")


def test_a_file_says_which_version_wrote_it(tmp_path: Path) -> None:
    with np.load(saved(tmp_path, X)) as content:
        assert json.loads(str(content["settings"]))["version"] == cf.__version__


def test_the_first_format_is_taken_with_a_warning(tmp_path: Path) -> None:
    settings = {"format": "ccma_fast.ActiveLearner 1", "n_rounds": 2, "n_classes": 3, "random_state": 4}
    text = json.dumps({**settings, "config": {"max_epochs": 5, "kappa": 7}})
    labels = labels_at(LABELLED, Y[LABELLED])
    np.savez(tmp_path / "loop.npz", settings=text, labels=labels, chosen=np.array([3, 7]))
    with pytest.warns(cf.LabelWarning, match="only the number of rows can be checked") as told:
        learner = cf.ActiveLearner.load(tmp_path / "loop.npz", X)
    assert told[0].filename == __file__
    np.testing.assert_array_equal(learner.labels, labels)
    assert (learner.n_rounds, learner._config.kappa, learner._pool.chosen) == (2, 7, {3, 7})
    with (
        pytest.warns(cf.LabelWarning),
        pytest.raises(cf.PoolMismatchError, match=r"must have the 20 rows of the loop in '.*', or more, got 19"),
    ):
        cf.ActiveLearner.load(tmp_path / "loop.npz", X[:19])


def test_files_of_a_newer_version(tmp_path: Path) -> None:
    def newer(settings: dict[str, Any], _: object) -> None:
        settings.update(format="ccma_fast.ActiveLearner 3", version="9.1")

    by = r"cannot read '.*loop.npz': written by a newer version of ccma_fast \(9.1\), got "
    with pytest.raises(cf.FileReadError, match=rf"{by}format 3, which this version \({cf.__version__}\) does not"):
        cf.ActiveLearner.load(rewritten(saved(tmp_path, X), newer), X)

    def setting(settings: dict[str, Any], _: object) -> None:
        settings["version"] = "9.1"
        settings["config"]["curiosity"] = 3

    with pytest.raises(cf.FileReadError, match=f"{by}the setting 'curiosity', which this"):
        cf.ActiveLearner.load(rewritten(saved(tmp_path, X), setting), X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: s.update(format="pickle 2"), "expected the format 'ccma_fast.ActiveLearner 2', got 'pickle 2'"),
        (lambda s, a: s.update(format=2), "expected string"),
        (lambda s, a: s.pop("n_rounds"), "n_rounds"),
        (lambda s, a: s.update(n_rounds=-1), "n_rounds must be at least 0, got -1"),
        (lambda s, a: s["config"].update(kappa="many"), "kappa must be an integer"),
        (lambda s, a: a.update(labels=a["labels"].astype(float)), "labels must be integers"),
        (lambda s, a: a["labels"].put(3, 99), "labels must be integers from -1 to below 3"),
        (lambda s, a: a.update(chosen=a["chosen"] + 10), "chosen must be integers from 0 to below 20"),
        (lambda s, a: a.update(row_digests=a["row_digests"][1:]), "expected a digest, and an id or none, of each of 6"),
        (lambda s, a: a.update(class_digests=a["class_digests"][1:]), "expected a digest of each of 3 classes"),
        (lambda s, a: a.pop("row_digests"), "row_digests"),
    ],
)
def test_damaged_files(tmp_path: Path, change: Callable[[Any, Any], object], message: str) -> None:
    file = rewritten(saved(tmp_path, X, teacher=cf.Teacher(X, T)), change)
    with pytest.raises(cf.FileReadError, match=f"cannot read '.*loop.npz' as a saved loop: .*{message}"):
        cf.ActiveLearner.load(file, X)


def test_a_small_file_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    """Each array, and the text, may be what a loop on this pool has; what is declared is told before it is there."""

    def zeros(name: str, n: int) -> Callable[[Any, Any], object]:
        return lambda settings, arrays: arrays.update({name: np.zeros(n, dtype=np.int64)})

    few = labels_at(LABELLED, Y[LABELLED]).nbytes
    cases: list[tuple[Callable[[Any, Any], object], str]] = [
        (
            zeros("labels", 10_000_001),
            "labels of a pool of 10000001 rows, expected at most 10000000 where the pool has 20",
        ),
        (zeros("chosen", 21), f"chosen would have 168 bytes in shape \\(21,\\), expected at most {few}"),
        (zeros("row_digests", 41), "row_digests would have 328 bytes .* expected at most 320"),
        (zeros("class_digests", 2**21 + 1), "class_digests would have 16777224 bytes .* expected at most 16777216"),
        (lambda s, a: s.update(class_names=["a" * 2**24, "b"]), "settings would have 6.* bytes .* at most 67108864"),
    ]
    for change, message in cases:
        file = rewritten(saved(tmp_path, X), change)
        assert file.stat().st_size < 200_000
        with pytest.raises(cf.FileReadError, match=f"cannot read '.*loop.npz' as a saved loop: {message}"):
            cf.ActiveLearner.load(file, X)


def test_an_archive_that_declares_another_size_than_it_has(tmp_path: Path) -> None:
    """NumPy would take memory for what the header of an array says."""
    whole = np.load(saved(tmp_path, X))
    with zipfile.ZipFile(tmp_path / "other.npz", "w") as archive:
        for name in whole.files:
            stream = io.BytesIO()
            np.save(stream, whole[name])
            content = stream.getvalue()
            if name == "labels":
                content = content.replace(b"(20,), }", b"(99,), }")
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(cf.FileReadError, match=r"'labels.npy' has 288 bytes, and shape \(99,\) of int64 takes 920"):
        cf.ActiveLearner.load(tmp_path / "other.npz", X)


@pytest.mark.parametrize("n", [50_000, pytest.param(200_000, marks=pytest.mark.slow)])
def test_a_loop_on_a_pool_that_was_much_larger_is_taken(tmp_path: Path, n: int) -> None:
    """Sequential ids are the text that shrinks most."""
    learner = cf.ActiveLearner(clip_retrieval(tmp_path / "before", np.zeros((n, 1), "f4"), list(map(str, range(n)))))
    learner.label(np.arange(n), np.arange(n) % 3)
    learner.save(tmp_path / "loop.npz")
    kept = np.arange(20) * (n // 20)
    ids = list(map(str, kept.tolist()))
    with pytest.warns(cf.LabelWarning):
        loaded = cf.ActiveLearner.load(
            tmp_path / "loop.npz", clip_retrieval(tmp_path / "now", X[:, :1] * 0, ids), missing="drop"
        )
    np.testing.assert_array_equal(loaded.labels, kept % 3)


def test_files_that_are_no_saved_loop(tmp_path: Path) -> None:
    with pytest.raises(cf.FileReadError, match="no file"):
        cf.ActiveLearner.load(tmp_path / "loop.npz", X)
    np.savez(tmp_path / "other.npz", labels=np.arange(3))
    (tmp_path / "damaged.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:50])
    np.save(tmp_path / "array.npy", X)
    for name in ("other.npz", "damaged.npz", "array.npy"):
        with pytest.raises(cf.FileReadError, match=f"cannot read '.*{name}' as a saved loop: "):
            cf.ActiveLearner.load(tmp_path / name, X)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        cf.ActiveLearner(X).save(tmp_path / "nowhere" / "loop.npz")


def test_numbers_of_numpy_are_saved(tmp_path: Path) -> None:
    learner = cf.ActiveLearner(X, n_classes=Y.max() + 1, random_state=np.uint8(7), config=QUICK)
    learner.save(tmp_path / "loop.npz")
    loaded = cf.ActiveLearner.load(tmp_path / "loop.npz", X)
    np.testing.assert_array_equal(loaded.query(4).indices, learner.query(4).indices)


def test_a_loop_that_had_a_teacher_says_so_when_it_asks_without(tmp_path: Path) -> None:
    teacher = cf.Teacher(X, T)
    learner = cf.ActiveLearner(X, labels=np.where(np.arange(N) < 6, Y, -1), teacher=teacher, config=QUICK)
    learner.save(tmp_path / "loop")
    without = cf.ActiveLearner.load(tmp_path / "loop", X)  # labels can be told without
    without.label([10], [1])
    with pytest.warns(
        cf.TeacherWarning, match="^the loop was saved with a teacher and goes on without one; give it to"
    ):
        without.query(2)
    expected = learner.query(2).indices
    np.testing.assert_array_equal(
        cf.ActiveLearner.load(tmp_path / "loop", X, teacher=teacher).query(2).indices, expected
    )
