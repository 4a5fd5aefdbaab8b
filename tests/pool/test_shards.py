"""Rows of the same images: shards that are missing, ids that differ, and texts among images are refused by name."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.shard_names import natural_order

parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")

N, D = 60, 4
X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
V = X[:, ::-1] + np.float32(1)
CLASSES = np.eye(3, D, dtype=np.float32)
PARTS = np.split(np.arange(N), 6)


def folder(
    path: Path, x: np.ndarray, names: str | list[str] = "part-{}", parts: Any = PARTS, without: Any = ()
) -> Path:
    """Shards of the rows `parts`, but those numbered in `without`."""
    path.mkdir(parents=True, exist_ok=True)
    for i, rows in enumerate(parts):
        if i not in without:
            np.save(path / f"{names.format(i) if isinstance(names, str) else names[i]}.npy", x[rows])
    return path


def clip_retrieval(path: Path, x: np.ndarray, ids: list[str], column: str = "image_path") -> Path:
    folder(path / "img_emb", x, "img_emb_{}")
    (path / "metadata").mkdir()
    for i, rows in enumerate(PARTS):
        parquet.write_table(
            pyarrow.table({column: [ids[row] for row in rows]}), path / "metadata" / f"metadata_{i}.parquet"
        )
    return path


# --- shards that are missing ----------------------------------------------------------------------

# (names, parts and missing shards) of the one and of the other: the same rows in the same order.
PAIRS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "clip-retrieval and parts": ({"names": "img_emb_{}"}, {"names": "part-{}"}),
    "padded and not": ({"names": "part-{:05d}"}, {"names": "{}"}),
    "of so many": ({"names": "train-{:05d}-of-00006"}, {"names": "x_{}"}),
    "models with numbers": ({"names": "vit14-{}"}, {"names": "dinov2-b16_{}_fp16"}),
    "words": ({"names": ["xa", "xb", "xc", "xd", "xe", "xf"]}, {"names": ["va", "vb", "vc", "vd", "ve", "vf"]}),
    "offsets": ({"names": "rows{}0"}, {"names": "emb-{}0"}),
    "other sizes": ({"parts": np.split(np.arange(N), 3)}, {}),
    "one shard": ({"parts": [np.arange(N)]}, {}),
    "both from 1": (
        {"names": [f"a{i}" for i in range(1, 7)]},
        {"names": [f"b{i:03d}" for i in range(1, 7)]},
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_layouts_that_belong_together(tmp_path: Path, pair: str) -> None:
    here, there = PAIRS[pair]
    x, v = folder(tmp_path / "x", X, **here), folder(tmp_path / "v", V, **there)
    found = cf.select(x, 5, teacher=cf.Teacher(v, CLASSES))
    np.testing.assert_array_equal(found.indices, cf.select(X, 5, teacher=cf.Teacher(V, CLASSES)).indices)
    assert found.report.forced == []


UNLIKE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "first and last": ({"without": [0]}, {"without": [5]}, r"got '.*x/part-1.npy' as shard 0 .*'.*v/part-0.npy'"),
    "numbered from 0 and from 1": (
        {},
        {"names": [f"part-{i}" for i in range(1, 7)]},
        r"got '.*x/part-0.npy' as shard 0 .*'.*v/part-1.npy'",
    ),
    "words": (
        {"names": ["a", "b", "c", "d", "e", "f"]},
        {"names": ["a", "b", "c", "d", "e", "g"]},
        r"got '.*x/f.npy' as shard 5 .*'.*v/g.npy'",
    ),
    "rows of a shard": (
        {"parts": np.split(np.arange(N), [10, 20, 30])},
        {"parts": np.split(np.arange(N), [10, 21, 30])},
        r"got 10 rows in '.*x/part-1.npy' and 11 in '.*v/part-1.npy'",
    ),
    "beyond what both begin with": (
        {"names": [f"p{i}" for i in range(10, 16)]},
        {"names": [f"p{i}" for i in range(20, 26)]},
        r"got '.*x/p10.npy' as shard 0 .*'.*v/p20.npy'",
    ),
}


def places(message: str) -> str:
    """The message for the two matrices named the other way round."""
    return re.sub(r"\b([xv])/", lambda found: {"x": "v/", "v": "x/"}[found[1]], message)


@pytest.mark.parametrize("pair", UNLIKE)
def test_shards_that_differ_are_refused(tmp_path: Path, pair: str) -> None:
    here, there, message = UNLIKE[pair]
    x, v = folder(tmp_path / "x", X, **here), folder(tmp_path / "v", V, **there)
    expected = rf"^image_features and features must be the same images in the same order, {message}.*force"
    teacher = cf.Teacher(x, CLASSES)
    for call in (cf.select, cf.plan):
        with pytest.raises(cf.PoolMismatchError, match=expected):
            call(v, 5, teacher=teacher)
    with pytest.raises(cf.PoolMismatchError, match=expected):
        cf.ActiveLearner(v, teacher=teacher)
    with pytest.raises(cf.PoolMismatchError, match=expected):
        cf.simulate(
            v, np.arange(len(open_rows(v, "v").float32())) % 3, test_features=X, test_labels=np.arange(N) % 3,
            strategies=["margins"], teacher=teacher, progress=False,
        )  # fmt: skip
    # Logits are paired in the same way: with the pool, with each other, and with both.
    with pytest.raises(cf.PoolMismatchError, match=rf"^teacher_logits and features must be .*{message}.*force"):
        cf.select(v, 5, teacher=cf.Teacher.from_logits(x))
    with pytest.raises(cf.PoolMismatchError, match=rf"^student_logits and features must be .*{message}"):
        cf.select(v, 5, student_logits=x)
    with pytest.raises(cf.PoolMismatchError, match=rf"^teacher_logits and student_logits must be .*{message}"):
        cf.select(open_rows(v, "v").float32(), 5, student_logits=v, teacher=cf.Teacher.from_logits(x))
    with pytest.raises(cf.PoolMismatchError, match=rf"^teacher_logits and student_logits must be .*{message}"):
        cf.score(v, x, q_student=1.0, q_teacher=1.0)
    with pytest.raises(cf.PoolMismatchError, match=rf"^teacher_logits and student_logits must be .*{message}"):
        cf.score_at_sizes(v, x, student_size=1.5, teacher_size=1.5)
    # Forced, they are taken, and the report says so, once for each pair.
    forced = cf.select(v, 5, teacher=cf.Teacher(x, CLASSES, force=True)).report.forced
    assert len(forced) == 1
    assert re.search(message, forced[0])
    report = cf.select(v, 5, student_logits=v, teacher=cf.Teacher.from_logits(x, force=True)).report
    assert [reason.split(" must ")[0] for reason in report.forced] == [
        "teacher_logits and features",
        "teacher_logits and student_logits",
    ]


def test_force_of_the_command_line_takes_logits_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x, v = folder(tmp_path / "x", X, without=[0]), folder(tmp_path / "v", V, without=[5])
    command = ["select", "--features", str(x), "--teacher-logits", str(v), "--budget", "3"]
    from ccma_fast.cli import main

    assert main(command) == 2
    assert "force (--force) takes them all the same" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


GAPS = {
    "a gap": (["p0", "p1", "p3"], "no shard 2 in the folder '.*', whose 3 shards are numbered 0 to 3"),
    "two of three": (["p-00000", "p-00002"], "no shard 1 in the folder"),
    "every second": (["1", "3", "5"], "no shard 2 in the folder"),
    "fewer than they say": (["t-00000-of-00004", "t-00001-of-00004"], "must be 4 by their names, got 2"),
    "the last alone": (["t-00003-of-00004"], "must be 4 by their names, got 1, such as 't-00003-of-00004.npy'"),
    "two splits": (["train-0-of-1", "val-0-of-1"], "must be 1 by their names, got 2"),
    "two of one number": (["p1", "p01", "p2"], "'p01.npy' and 'p1.npy' are the same shard of the folder"),
    "two of one number but for case": (["P1", "p1", "p2"], "are the same shard of the folder"),
    "a copy by its name": (["p1", "p1 (copy)", "p2"], r"'p1 \(copy\).npy' may be a copy of 'p1.npy'"),
    "an older one": (["features", "features_old"], "'features_old.npy' may be a copy of 'features.npy'"),
    "fewer than they say, and a hash": (["t-0-of-3-9fe", "t-1-of-3-77a"], "must be 3 by their names, got 2"),
    "fewer than they say, with underscores": (["t_0_of_3", "t_1_of_3"], "must be 3 by their names, got 2"),
}


@pytest.mark.parametrize("kind", GAPS)
def test_names_that_show_that_a_shard_is_missing(tmp_path: Path, kind: str) -> None:
    names, message = GAPS[kind]
    with pytest.raises(cf.FileReadError, match=f"^features: .*{message}"):
        open_rows(folder(tmp_path / "x", X, names, PARTS[: len(names)]), "features")


@pytest.mark.parametrize(
    "names",
    [
        ["0", "10000", "20000"],
        ["20240131", "20240201"],
        ["2012", "2015"],
        ["1", "2", "3"],
        ["a1-b2", "a1-b4"][:1],
        ["p-1-1", "p-1-2", "p-2-1"],
        ["deadbeef01", "feed77", "beef4242"],
        ["cats", "dogs"],
    ],
)
def test_numbers_that_leave_room_are_no_gap(tmp_path: Path, names: list[str]) -> None:
    rows = open_rows(folder(tmp_path / "x", X, names, PARTS[: len(names)]), "features")
    assert rows.n_rows == 10 * len(names)


def test_a_shard_that_arrives_before_the_one_in_front_of_it(tmp_path: Path) -> None:
    rows = open_rows(folder(tmp_path / "x", X, without=[4, 5]), "features")
    folder(tmp_path / "x", X, without={*range(len(PARTS))} - {5})
    with pytest.raises(cf.FileReadError, match="no shard 4 in the folder"):
        rows.grown()
    folder(tmp_path / "x", X, without={*range(len(PARTS))} - {4})
    assert rows.grown().n_rows == N


@pytest.mark.parametrize(
    "names", [["a1²3", "a1²4"], ["a²", "a³"], ["a٣", "a٤"], ["①", "②"], ["½", "1½"], ["9" * 200, "1"]]
)
def test_digits_that_are_no_numbers(tmp_path: Path, names: list[str]) -> None:
    rows = open_rows(folder(tmp_path / "x", X, names, PARTS[:2]), "features")
    np.testing.assert_array_equal(np.sort(rows.float32(), axis=None), np.sort(X[:20], axis=None))


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    names = ["x10", "x9", "x11", "x8"]
    found = open_rows(folder(tmp_path / "x", X, names, PARTS[:4]), "x").float32()
    np.testing.assert_array_equal(found, X[np.concatenate([PARTS[3], PARTS[1], PARTS[0], PARTS[2]])])


# --- ids beside the rows --------------------------------------------------------------------------

IDS = [f"{i}.png" for i in range(N)]


def test_ids_of_clip_retrieval_are_compared(tmp_path: Path) -> None:
    others = [*IDS[:37], IDS[38], IDS[37], *IDS[39:]]
    x = clip_retrieval(tmp_path / "x", X, IDS)
    same, other = clip_retrieval(tmp_path / "same", V, IDS), clip_retrieval(tmp_path / "other", V, others)
    for pool in (x, x / "img_emb"):
        picks = cf.select(pool, 5, teacher=cf.Teacher(same, CLASSES))
        np.testing.assert_array_equal(picks.indices, cf.select(X, 5, teacher=cf.Teacher(V, CLASSES)).indices)
        with pytest.raises(
            cf.PoolMismatchError,
            match=r"got '38.png' at row 37 \(row 7 of '.*other/.*_3.npy'\) and '37.png' at row 37 \(row 7 of '",
        ):
            cf.select(pool, 5, teacher=cf.Teacher(other, CLASSES))
    assert len(cf.select(x, 5, teacher=cf.Teacher(other, CLASSES, force=True)).report.forced) == 1


def test_ids_decide_where_shards_are_cut_in_other_places(tmp_path: Path) -> None:
    x = clip_retrieval(tmp_path / "x", X, IDS)
    for ids in (IDS, IDS[::-1]):
        table = pyarrow.table({"image_path": ids, "vector": V.tolist()})
        parquet.write_table(table, tmp_path / "v.parquet")
        (tmp_path / "v").mkdir(exist_ok=True)
        parquet.write_table(table.slice(0, 7), tmp_path / "v" / "b-1.parquet")
        parquet.write_table(table.slice(7), tmp_path / "v" / "b-2.parquet")
        for teacher in (tmp_path / "v.parquet", tmp_path / "v"):
            if ids is IDS:
                assert cf.select(x, 5, teacher=cf.Teacher(teacher, CLASSES)).report.forced == []
                continue
            with pytest.raises(cf.PoolMismatchError, match=r"got '59.png' at row 0 .* and '0.png' at row 0 "):
                cf.select(x, 5, teacher=cf.Teacher(teacher, CLASSES))


def test_metadata_that_tells_no_ids(tmp_path: Path) -> None:
    x, v = clip_retrieval(tmp_path / "x", X, IDS, "caption"), clip_retrieval(tmp_path / "v", V, IDS[::-1])
    assert cf.select(x, 5, teacher=cf.Teacher(v, CLASSES)).report.forced == []
    other = clip_retrieval(tmp_path / "w", V, IDS[::-1])
    (other / "metadata" / "metadata_3.parquet").unlink()
    assert open_rows(other, "w").row_ids() is None
    parquet.write_table(pyarrow.table({"image_path": IDS[:9]}), other / "metadata" / "metadata_3.parquet")
    with pytest.raises(cf.FileReadError, match=r"metadata_3.parquet' must have the 10 rows of '.*_3.npy', got 9"):
        list(open_rows(other, "w").row_ids() or ())


# --- images and texts -----------------------------------------------------------------------------

BOTH = r"holds several matrices, in '.*img_emb' and '.*text_emb'"


def test_class_features_are_texts_and_others_are_images(tmp_path: Path) -> None:
    both, images, texts = (tmp_path / name for name in ("both", "images", "texts"))
    for root in (both, images):
        folder(root / "img_emb", X, "img_emb_{}")
    for root in (both, texts):
        folder(root / "text_emb", CLASSES, "text_emb_{}", [np.arange(3)])
    for name in ("features", "image_features", "test_features", "X"):
        np.testing.assert_array_equal(open_rows(both, name).float32(), X)
        with pytest.raises(cf.FileReadError, match=rf"^{name}: '.*texts' holds rows of another kind, in '.*text_emb'"):
            open_rows(texts, name)
    np.testing.assert_array_equal(open_rows(both, "class_features").float32(), CLASSES)
    with pytest.raises(
        cf.FileReadError, match=r"^class_features: '.*images' holds rows of another kind, in '.*img_emb'"
    ):
        open_rows(images, "class_features")
    for name in ("student_logits", "x"):
        with pytest.raises(
            cf.FileReadError, match=rf"^{name}: '.*both' {BOTH}; expected the folder of one by its name"
        ):
            open_rows(both, name)
    # By their names all are taken.
    assert open_rows(both / "text_emb", "features").n_rows == 3
    assert open_rows(both / "img_emb", "class_features").n_rows == N
    np.testing.assert_array_equal(
        cf.select(both, 5, teacher=cf.Teacher(both, both)).indices,
        cf.select(X, 5, teacher=cf.Teacher(X, CLASSES)).indices,
    )


@pytest.mark.parametrize(
    ("names", "argument"),
    [
        (["image_features", "text_features"], "features"),
        (["image_features", "text_features"], "class_features"),
        (["train-0", "test-0"], "features"),
        (["train", "test"], "test_features"),
        (["img", "text"], "X"),
    ],
)
def test_files_of_different_kinds_are_not_joined(tmp_path: Path, names: list[str], argument: str) -> None:
    path = folder(tmp_path / "x", X, names, PARTS[:2])
    with pytest.raises(
        cf.FileReadError, match=rf"^{argument}: '.*x' holds several matrices, in '({names[0]}|{names[1]}).npy' and '"
    ):
        open_rows(path, argument)


def test_shards_beside_a_folder_of_shards(tmp_path: Path) -> None:
    folder(tmp_path / "x", X)
    folder(tmp_path / "x" / "img_emb", V, "img_emb_{}")
    with pytest.raises(cf.FileReadError, match=r"holds several matrices, in '.*x' and '.*img_emb'"):
        open_rows(tmp_path / "x", "features")


def test_a_link_to_another_shard_is_no_shard(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", X, ["p0", "p1"], PARTS[:2])
    (place / "p2.npy").symlink_to(place / "p0.npy")
    with pytest.raises(cf.FileReadError, match=r"'p2.npy' may be a copy of 'p0.npy' .* a link to it"):
        open_rows(place, "features")


def test_case_does_not_change_the_order(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", X, ["part-1", "PART-2", "part-3"], PARTS[:3])
    np.testing.assert_array_equal(open_rows(place, "features").float32(), X[np.concatenate(PARTS[:3])])


def test_names_with_hashes_behind_their_number(tmp_path: Path) -> None:
    x = folder(tmp_path / "x", X, [f"t-{i}-of-6-a{i}b" for i in range(6)])
    v = folder(tmp_path / "v", V, [f"t-{i}-of-6-7{5 - i}c" for i in range(6)])
    assert cf.select(x, 5, teacher=cf.Teacher(v, CLASSES)).report.forced == []


@pytest.mark.parametrize("last", ["p2.parquet", "p2.arrow"])
def test_shards_of_two_kinds(tmp_path: Path, last: str) -> None:
    place = folder(tmp_path / "x", X, ["p0", "p1"], PARTS[:2])
    (place / last).write_bytes(b"")
    with pytest.raises(cf.FileReadError, match=f"shards of two kinds by their names, 'p0.npy' and '{last}'"):
        open_rows(place, "features")
    (place / last).rename(place / f"labels{last[2:]}")  # what else is there is left alone
    (place / ".p2.npy").write_bytes(b"")
    assert open_rows(place, "features").n_rows == 20


def test_a_suffix_in_capitals(tmp_path: Path) -> None:
    place = folder(tmp_path / "x", X, ["p0", "p1"], PARTS[:2])
    (place / "p1.npy").rename(place / "p1.NPY")
    assert open_rows(place, "features").n_rows == 20


# --- the order of shards --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["p1.npy", "p01.npy", "p001.npy", "p2.npy"],
        ["part-1.npy", "PART-1.npy", "Part-01.npy"],
        ["p1.npy", "p١.npy", "p²1.npy"],
        ["ss1.npy", "ß1.npy"],
        ["part-2.npy", "part-10.npy", "part.npy", "2.npy"],
    ],
)
def test_the_order_of_names_does_not_depend_on_how_a_file_system_lists_them(names: list[str]) -> None:
    """Two names are never equal, so that a copy of a folder has its rows in the same order."""
    files = [Path(name) for name in names]
    assert len({str(natural_order(file)) for file in files}) == len(files)
    orders = {tuple(sorted(order, key=natural_order)) for order in itertools.permutations(files)}
    assert len(orders) == 1
