"""Features, labels and masks from pandas, polars and pyarrow objects."""

import datetime
import pickle

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.pool.labels import read_labels
from ccma_fast.pool.open import open_rows
from ccma_fast.pool.row_masks import read_row_mask

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")

X = np.arange(1, 13, dtype=np.float32).reshape(4, 3)
LISTS = X.tolist()
NAMES = ["dog", "great tit", "cat"]
TEXT = ["cat", None, "great tit", "dog"]
NUMBERS = [2, None, 1, 0]
CODES = [2, -1, 1, 0]
IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
LIST, FIXED = pyarrow.list_(pyarrow.float32()), pyarrow.list_(pyarrow.float32(), 3)


@pytest.fixture
def pl():
    return pytest.importorskip("polars")


def arrow(values, kind):
    return pandas.Series(values, dtype=pandas.ArrowDtype(kind))


MATRICES = {
    "frame": lambda: pandas.DataFrame(X),
    "frame of nullable numbers": lambda: pandas.DataFrame(X).astype("Float32"),
    "frame of Arrow's numbers": lambda: pandas.DataFrame(X).astype(pandas.ArrowDtype(pyarrow.float32())),
    "lists": lambda: pandas.Series(LISTS),
    "tuples": lambda: pandas.Series([*map(tuple, LISTS)]),
    "arrays": lambda: pandas.Series([*X]),
    "arrays of half precision": lambda: pandas.Series([*X.astype(np.float16)]),
    "arrays of two types": lambda: pandas.Series([X[0].astype(int), *X[1:]]),
    "an array of arrays": lambda: pandas.Series([*X]).to_numpy(),
    "Arrow lists": lambda: arrow(LISTS, LIST),
    "Arrow lists of fixed size": lambda: arrow(LISTS, FIXED),
    "the only column": lambda: pandas.DataFrame({"label": TEXT, "x": [*X], "width": 640}),
    "the only column of Arrow lists": lambda: pandas.DataFrame({"label": TEXT, "x": arrow(LISTS, LIST)}),
    "pyarrow lists": lambda: pyarrow.array(LISTS),
    "pyarrow lists of fixed size": lambda: pyarrow.array(LISTS, FIXED),
    "pyarrow chunks": lambda: pyarrow.chunked_array([pyarrow.array(LISTS[:1]), pyarrow.array(LISTS[1:])]),
    "pyarrow table": lambda: pyarrow.table({"label": TEXT, "x": LISTS}),
}


@pytest.mark.parametrize("given", MATRICES.values(), ids=MATRICES.keys())
def test_matrices(given):
    rows = open_rows(given(), "features")
    np.testing.assert_array_equal(rows.float32(), X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(rows)).take(np.array([3, 1])), X[[3, 1]])


def test_matrices_of_polars(pl):
    fixed = pl.Series(LISTS, dtype=pl.Array(pl.Float32, 3))
    for given in (
        pl.DataFrame(X),
        pl.Series(LISTS),
        fixed,
        pl.concat([fixed, fixed])[4:],
        pl.DataFrame({"x": fixed, "label": TEXT}),
        pl.DataFrame({"a": [1, 4, 7, 10], "b": X[:, 1], "c": X[:, 2].astype(float)}),
    ):
        np.testing.assert_array_equal(open_rows(given, "features").float32(), X)


def test_nothing_is_copied(pl):
    whole = np.ascontiguousarray(X)
    for rows in (
        open_rows(pandas.DataFrame(whole, copy=False), "features"),
        open_rows(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(whole.ravel()), 3), "features"),
        open_rows(pl.from_arrow(pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(whole.ravel()), 3)), "features"),
    ):
        assert np.shares_memory(rows.slice(0, 4), whole)
    half = open_rows(pandas.Series([*X.astype(np.float16)]), "features")
    assert half.slice(0, 4).dtype == np.float16


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (
            [[1, 2], [1, 2, 3]],
            ValueError,
            "features must have as many numbers in each row, got 2 at row 0 and 3 at row 1",
        ),
        ([[1, 2], None], ValueError, "features must have a vector in each row, got None at row 1"),
        ([[1, 2], [None, 2]], TypeError, r"features must be vectors of real numbers, got list \[None, 2\] at row 1"),
        ([["a"], ["b"]], TypeError, "features must be vectors of real numbers, got list"),
        ([[[1, 2]]], TypeError, "features must be vectors of real numbers, got list"),
        ([np.array([True])], TypeError, "features must be vectors of real numbers, got ndarray"),
        ([np.ma.masked_array([1.0, 2.0], [True, False])], ValueError, "row 0 of features must have no masked entries"),
        ([X[0], "ab"], TypeError, "features must be vectors of real numbers, got str 'ab' at row 1"),
        (arrow([[1.0], [1.0, 2.0]], LIST), ValueError, "the column must have 1 numbers in each row, got 2 at row 1"),
        (arrow([[1.0], None], LIST), ValueError, "the column must have 1 numbers in each row, got none at row 1"),
        (arrow([[1.0, None]], LIST), ValueError, "got one that is missing at row 0"),
        (arrow([[]], LIST), ValueError, "features must have a vector in each row, got 1 rows without a number"),
        ([], ValueError, "features has no row"),
        ([1.0, 2.0], TypeError, "a column of lists of numbers, got a Series of float64"),
        (["[1, 2]"], TypeError, "a column of lists of numbers, got a Series of|vectors of real numbers, got str"),
        (pandas.DataFrame({"x": [*X], "y": [*X]}), TypeError, "got 2 columns, 2 of lists: 'x'"),
        (pandas.DataFrame({"x": ["a"], "y": [1.0]}), TypeError, "got 2 columns, 0 of lists: 'x'"),
        (pandas.DataFrame({"x": pandas.date_range("2020", periods=2)}), TypeError, "0 of lists: 'x' .datetime64"),
        (pandas.DataFrame({"x": [True]}), TypeError, "0 of lists: 'x' .bool"),
        (pandas.DataFrame(index=range(3)), ValueError, "features must have at least one column"),
    ],
)
def test_refused_matrices(given, error, text):
    if isinstance(given, list):
        kind = object if not given or not isinstance(given[0], (float, str)) else None
        cells = np.empty(len(given), object)
        cells[:] = given
        given = pandas.Series(cells if kind else given, dtype=kind)
    with pytest.raises(error, match=text):
        open_rows(given, "features")


def test_refused_matrices_of_polars(pl):
    for given, text in (
        (pl.Series([[1, 2], [1, 2, 3]]), "the column must have 2 numbers in each row, got 3 at row 1"),
        (pl.Series([[1, 2], None]), "got none at row 1"),
        (pl.Series([[1.0, 2.0], [None, 2.0]], dtype=pl.Array(pl.Float32, 2)), "one that is missing at row 1"),
        (pl.Series([[True]]), r"got a Series of List\(Boolean\)"),
        (pl.Series([1, 2]), "got a Series of Int64"),
        (pl.DataFrame({"x": ["a"]}), r"got 1 columns, 0 of lists: 'x' \(String\)"),
        (pl.LazyFrame({"x": [1.0]}), r"features must be one that holds its rows, got a LazyFrame; give \.collect"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            open_rows(given, "features")


def test_missing_numbers_are_refused_with_their_row():
    frame = pandas.DataFrame({"a": pandas.array([1, None, 3], dtype="Int64"), "b": [1.0, 2.0, 3.0]})
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity at row 1"):
        cf.select(frame, 1)


LABELS = {
    "text": lambda: pandas.Series(TEXT),
    "objects": lambda: pandas.Series(TEXT, dtype=object),
    "string": lambda: pandas.Series(TEXT, dtype="string"),
    "Arrow's text": lambda: arrow(TEXT, pyarrow.string()),
    "categories": lambda: pandas.Series(TEXT, dtype="category"),
    "categories in another order": lambda: pandas.Series(
        pandas.Categorical(TEXT, categories=["great tit", "cat", "dog"])
    ),
    "Int64": lambda: pandas.Series(NUMBERS, dtype="Int64"),
    "UInt8": lambda: pandas.Series(NUMBERS, dtype="UInt8"),
    "Float32": lambda: pandas.Series(NUMBERS, dtype="Float32"),
    "Arrow's numbers": lambda: arrow(NUMBERS, pyarrow.int16()),
    "categories of numbers": lambda: pandas.Series(pandas.Categorical(NUMBERS, categories=[1, 0, 2])),
    "a frame": lambda: pandas.DataFrame({"label": TEXT, "seconds": [1.5, 2.5, 0.5, 9.5]}),
    "a frame with row numbers": lambda: pandas.DataFrame({"index": [3, 0, 2], "label": ["dog", "cat", "great tit"]}),
    "the only column of a frame": lambda: pandas.DataFrame({"answer": TEXT}),
}


@pytest.mark.parametrize("given", LABELS.values(), ids=LABELS.keys())
def test_labels(given):
    pool = open_rows(X, "features")
    assert read_labels(given(), pool, class_names=NAMES).tolist() == CODES


def test_labels_of_polars(pl):
    pool = open_rows(X, "features")
    for given in (
        pl.Series(TEXT),
        pl.Series(TEXT, dtype=pl.Categorical),
        pl.Series(TEXT, dtype=pl.Enum(sorted(NAMES))),
        pl.Series(NUMBERS, dtype=pl.Int8),
        pl.Series(NUMBERS, dtype=pl.UInt64),
        pl.Series(NUMBERS, dtype=pl.Float32),
        pl.DataFrame({"label": TEXT}),
        pl.DataFrame({"index": [3, 0, 2], "label": ["dog", "cat", "great tit"]}),
    ):
        assert read_labels(given, pool, class_names=NAMES).tolist() == CODES
    for given, text in (
        (pl.Series([True, None, False, True]), "got bool True at row 0; give integers where true is class 1"),
        (pl.Series([datetime.date(2026, 1, 1)] * 4), "got dtype datetime64"),
        (pl.Series([[1], [2], [0], [1]]), "must be integers"),
        (pl.LazyFrame({"label": TEXT}), "got a LazyFrame"),
    ):
        with pytest.raises(TypeError, match=text):
            read_labels(given, pool, class_names=NAMES)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (pandas.Series([True, None, False, True], dtype="boolean"), TypeError, "got bool True .*; give integers"),
        (pandas.Series(pandas.date_range("2020", periods=4)), TypeError, "got dtype datetime64"),
        (pandas.Series(["cat", 1.5, None, "dog"], dtype=object), ValueError, "whole numbers or NaN, got 1.5 at row 1"),
        (pandas.Series([[1], [2], [0], [1]]), TypeError, r"got list \[1\] at row 0"),
        (pandas.DataFrame({"score": [1, 0, 1, 0]}), ValueError, "got 'score' alone, which is something else"),
        (pandas.DataFrame({"a": TEXT, "b": TEXT}), ValueError, "no column 'label' in a data frame, got 'a', 'b'"),
        (
            pandas.DataFrame({"label": TEXT, "name": IDS[::-1]}),
            ValueError,
            "must be in the order of the rows, or have a column 'index' or 'image_path', got 'd.jpg' at row 0",
        ),
        (pandas.DataFrame({"label": TEXT, "image_path": IDS}), ValueError, "have the ids .* where features has none"),
    ],
)
def test_refused_labels(given, error, text):
    with pytest.raises(error, match=text):
        read_labels(given, open_rows(X, "features"), class_names=NAMES)


def test_headers_have_any_case():
    rows = open_rows(X, "features")
    frame = pandas.DataFrame({"Label": TEXT, "Index": [3, 2, 1, 0]})
    assert read_labels(frame, rows, class_names=NAMES).tolist() == CODES[::-1]
    assert read_labels(frame[["Label"]], rows, class_names=NAMES).tolist() == CODES


def test_text_without_names_is_refused_with_a_suggestion():
    with pytest.raises(
        TypeError, match=r"give class_names in the order of the classes, such as \['cat', 'dog', 'great"
    ):
        cf.select(X, 1, labels=pandas.Series(TEXT))


def test_ids_of_a_frame():
    frame = pandas.DataFrame({"image_path": [*IDS[:3], None], "x": [*X]})
    assert open_rows(frame, "features").ids_at(np.arange(4)) == [*IDS[:3], None]
    assert open_rows(pyarrow.Table.from_pandas(frame), "features").ids_at(np.arange(4)) == [*IDS[:3], None]
    for given in (frame.assign(image_path=IDS).set_index("image_path"), pandas.DataFrame(X, index=IDS)):
        rows = open_rows(given, "features")
        assert [*rows.row_ids()] == IDS
        labels = pandas.Series(["dog", "cat"], index=["d.jpg", "a.jpg"])
        assert read_labels(labels, rows, class_names=NAMES).tolist() == [2, -1, -1, 0]
        table = pandas.DataFrame({"image_path": ["d.jpg", "a.jpg"], "label": ["dog", "cat"]})
        assert read_labels(table, rows, class_names=NAMES).tolist() == [2, -1, -1, 0]
    assert open_rows(pandas.DataFrame(X), "features").row_ids() is None


def test_ids_of_a_polars_frame(pl):
    frame = pl.DataFrame({"image_path": IDS, "x": LISTS, "label": TEXT})
    rows = open_rows(frame, "features")
    assert [*rows.row_ids()] == IDS
    assert read_labels(frame.reverse(), rows, class_names=NAMES).tolist() == CODES


def test_series_are_joined_by_the_index_of_a_frame():
    frame = pandas.DataFrame(X, index=[7, 3, 9, 5])
    rows = open_rows(frame, "features")
    labels = pandas.Series(TEXT, index=frame.index)
    for given in (labels, labels[::-1], labels.dropna(), labels.to_numpy(), labels.reset_index(drop=True).to_numpy()):
        assert read_labels(given, rows, class_names=NAMES).tolist() == CODES
    is_out = pandas.Series([False, True, False, True], index=frame.index)
    mask = np.zeros(4, bool)
    mask[read_row_mask(is_out[::-1], rows, "exclude")] = True
    assert mask.tolist() == is_out.tolist()
    for other in ([0, 1, 2, 3], [7, 3, 9, 6], [7, 7, 9, 5]):
        with pytest.raises(ValueError, match=r"labels must be a Series with the index of features, .* or a part of it"):
            read_labels(labels.set_axis(other), rows, class_names=NAMES)


def test_default_index_of_a_shuffled_frame_is_refused():
    """Labels of the frame before it was shuffled, or of its rows as they stand now: both have 0, 1, 2, …"""
    rows = open_rows(pandas.DataFrame(X).iloc[[2, 0, 3, 1]], "features")
    with pytest.raises(ValueError, match=r"give \.to_numpy\(\) where its order is that of the rows"):
        read_labels(pandas.Series(NUMBERS, dtype="Int64"), rows)
    part = pandas.Series(NUMBERS, dtype="Int64").iloc[[3, 2]]
    assert read_labels(part, rows).tolist() == [1, -1, 0, -1]


def test_series_in_another_order_than_an_array_is_refused():
    with pytest.raises(ValueError, match=r"or \.reindex\(range\(4\)\) where its index has their numbers"):
        read_labels(pandas.Series(TEXT, index=[3, 1, 0, 2]), open_rows(X, "features"), class_names=NAMES)


def test_teacher_of_a_frame_in_another_order_is_refused():
    frame = pandas.DataFrame(X)
    for index in (range(4), IDS):
        pool, teacher = frame.set_axis(index), cf.Teacher(frame.set_axis(index).iloc[::-1], np.eye(3))
        with pytest.raises(cf.PoolMismatchError, match="image_features and features must be the same images"):
            cf.select(pool, 1, teacher=teacher)
        assert len(cf.select(pool, 1, teacher=cf.Teacher(frame.set_axis(index), np.eye(3)))) == 1


def test_a_whole_query_from_one_frame():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=120)
    x = (3 * np.eye(3, 8)[y] + rng.standard_normal((120, 8))).astype(np.float32)
    text = np.array(NAMES)[y]
    labels = np.where(np.arange(120) % 5 == 0, y, -1)
    expected = cf.select(x, 4, labels=labels).indices
    frame = pandas.DataFrame({"image_path": [f"{k}.jpg" for k in range(120)], "x": [*x]})
    frame["label"] = pandas.Series(text, dtype="category").where(labels >= 0)
    picks = cf.select(frame, 4, labels=frame, class_names=NAMES)
    np.testing.assert_array_equal(picks.indices, expected)
    assert picks.ids == [f"{row}.jpg" for row in expected]
    answered = picks.to_pandas().assign(label=text[picks.indices])
    assert cf.select(frame, 1, labels=answered, class_names=NAMES).report.n_labelled == 4


@pytest.mark.parametrize("values", [X.astype(complex), [[1, 2j], [3, 4]]])
def test_complex_numbers_are_refused(values):
    with pytest.raises(TypeError, match="complex128"):
        open_rows(pandas.DataFrame(values), "features")


@pytest.mark.parametrize("column", ["label", "index", "Unnamed: 0"])
def test_numbers_that_are_no_features_are_refused(column, pl):
    frame = pandas.DataFrame(X, columns=list("abc")).assign(**{column: NUMBERS[2]})
    for given in (frame, frame.convert_dtypes(), pl.DataFrame(frame.to_dict("list")), pyarrow.table(frame)):
        with pytest.raises(ValueError, match=column):
            open_rows(given, "features")


@pytest.mark.parametrize("make", [pyarrow.table, pyarrow.RecordBatch.from_pydict])
def test_pyarrow_tables_of_numbers(make):
    table = make({"a": X[:, 0], "b": X[:, 1].astype(np.int64), "c": X[:, 2]})
    np.testing.assert_array_equal(open_rows(table, "features").float32(), X)


@pytest.mark.parametrize("make", [pyarrow.table, pyarrow.RecordBatch.from_pydict])
def test_pyarrow_tables_of_labels(make):
    rows = open_rows(X, "features")
    assert read_labels(make({"label": TEXT}), rows, class_names=NAMES).tolist() == CODES
    table = make({"label": TEXT[::-1], "index": [3, 2, 1, 0], "of no interest": [[1]] * 4})
    assert read_labels(table, rows, class_names=NAMES).tolist() == CODES


def test_columns_of_lists_beside_the_labels_may_lack_the_first():
    frame = pandas.DataFrame({"label": TEXT, "boxes": [None, [1, 2], {}, [3]]})
    assert read_labels(frame, open_rows(X, "features"), class_names=NAMES).tolist() == CODES


def test_a_frame_with_names_of_its_own_beside_the_ids():
    """What a Series of its own index is of does not depend on the ids, which may be the same texts."""
    frame = pandas.DataFrame({"image_path": IDS, "x": LISTS, "label": TEXT}, index=IDS[::-1])
    rows = open_rows(frame, "features")
    assert read_labels(frame["label"], rows, class_names=NAMES).tolist() == CODES
    assert read_labels(frame["label"].iloc[[2, 0]], rows, class_names=NAMES).tolist() == [2, -1, 1, -1]
    assert read_row_mask(frame["label"] == "cat", rows, "exclude").tolist() == [True, False, False, False]
    by_ids = open_rows(frame.set_axis(["k0", "k1", "k2", "k3"]), "features")
    assert read_labels(pandas.Series(["cat"], index=["b.jpg"]), by_ids, class_names=NAMES).tolist() == [-1, 2, -1, -1]


def test_an_index_with_duplicates_names_all_rows_in_order():
    frame = pandas.DataFrame(X, index=["a", "a", "b", "b"])
    labels = pandas.Series(TEXT, index=frame.index)
    rows = open_rows(frame, "features")
    assert read_labels(labels, rows, class_names=NAMES).tolist() == CODES
    assert read_row_mask(labels == "cat", rows, "exclude").tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="has each entry once"):
        read_row_mask(pandas.Index([0]), open_rows(frame.set_axis([0, 0, 1, 2]), "features"), "exclude")


def test_an_index_means_the_rows_of_the_frame():
    frame = pandas.DataFrame(X, index=[2, 3, 1, 0])
    rows = open_rows(frame, "features")
    assert read_row_mask(frame.index[[0, 2]], rows, "exclude").tolist() == [0, 2]
    assert read_row_mask([2, 1], rows, "exclude").tolist() == [2, 1]
    with pytest.raises(ValueError, match="index of features"):
        read_row_mask(pandas.Index([7]), rows, "exclude")
    assert cf.select(frame, 1, exclude=frame.index[[0, 1, 2]]).indices.tolist() == [3]


def test_a_column_of_a_reset_index_is_no_column_of_row_numbers(pl):
    frame = pandas.DataFrame(X, index=[2, 3, 1, 0])
    rows = open_rows(frame, "features")
    labels = pandas.Series(TEXT, index=frame.index, name="label").reset_index()
    columns = {"index": [2, 3, 1, 0], "label": NUMBERS}
    for given in (labels, labels[:2], pl.DataFrame(columns), pyarrow.table(columns)):
        with pytest.raises(ValueError, match="may have row numbers, or be of the index of features"):
            read_labels(given, rows, class_names=NAMES)
    picks = labels.assign(rank=[1, 2, 3, 4], score=0.5, represents=1)  # whose index is of row numbers
    assert read_labels(picks, rows, class_names=NAMES).tolist() == [0, 1, 2, -1]
    other = open_rows(frame.set_axis([0, 1, 5, 6]), "features")
    assert read_labels(labels.assign(index=[0, 1, 2, 3]), other, class_names=NAMES).tolist() == CODES


def test_class_names_in_a_frame_are_refused(pl):
    """Their iteration would give the names of the columns."""
    columns = {"index": [0, 1, 2], "name": NAMES}
    for frame in (pandas.DataFrame(columns), pl.DataFrame(columns), pyarrow.table(columns)):
        with pytest.raises(TypeError, match="give a column"):
            cf.select(X, 1, class_names=frame)
