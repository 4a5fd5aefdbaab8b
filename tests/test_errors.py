"""Bad input: the same type and the same text from every backend, saying what came and what was expected."""

from __future__ import annotations

import os
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends import choose

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 4)).astype(np.float32)
V = RNG.standard_normal((60, 3)).astype(np.float32)
T = RNG.standard_normal((5, 3)).astype(np.float32)
Z = RNG.standard_normal((60, 5)).astype(np.float32)
TRUTH = np.arange(60) % 5
Y = np.where(np.arange(60) % 3 == 0, TRUTH, -1)
WHOLE = cf.CCMAConfig(acquisition="delta", calibration="target_size", max_epochs=3)
COVERAGE = cf.CCMAConfig(max_epochs=3)


def bad(array: np.ndarray, row: int, value: float) -> np.ndarray:
    """A copy with one bad number in one row."""
    copy = array.copy()
    copy[row, -1] = value
    return copy


def zero(array: np.ndarray, row: int) -> np.ndarray:
    """A copy with one row of zeros."""
    copy = array.copy()
    copy[row] = 0.0
    return copy


class Constant:
    """A student that returns what it is told to."""

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.tile(np.asarray(self.probabilities), (len(X), 1))


# what, call(backend), exception, pattern of the whole text
CASES = [
    # Not finite: the row of the pool is named, also where only some rows are read.
    *(
        (f"features with {value}", lambda b, v=value: cf.select(bad(X, 41, v), 3, backend=b), ValueError,
         "features must be finite, got NaN or infinity at row 41")
        for value in (np.nan, np.inf, -np.inf)
    ),
    ("features, labels", lambda b: cf.select(bad(X, 41, np.nan), 3, labels=Y, backend=b), ValueError,
     "features must be finite, got NaN or infinity at row 41"),
    ("the first of two rows", lambda b: cf.select(bad(bad(X, 50, np.nan), 8, np.inf), 3, backend=b, chunk_size=7),
     ValueError, "features must be finite, got NaN or infinity at row 8"),
    ("features as float16", lambda b: cf.select(bad(X, 41, np.inf).astype(np.float16), 3, backend=b), ValueError,
     "features must be finite, got NaN or infinity at row 41"),
    ("features as bfloat16", lambda b: cf.select(torch.from_numpy(bad(X, 41, np.nan)).bfloat16(), 3, backend=b),
     ValueError, "features must be finite, got NaN or infinity at row 41"),
    ("float64 beyond float32", lambda b: cf.select(bad(X.astype(np.float64), 7, 1e300), 3, backend=b), ValueError,
     "features must be finite, got NaN or infinity at row 7"),
    ("tensor beyond float32", lambda b: cf.select(torch.from_numpy(bad(X.astype(np.float64), 7, 1e300)), 3, backend=b),
     ValueError, "features must be finite, got NaN or infinity at row 7"),
    ("image features", lambda b: cf.select(X, 3, teacher=cf.Teacher(bad(V, 58, np.nan), T), backend=b), ValueError,
     "image_features must be finite, got NaN or infinity at row 58"),
    ("class features", lambda b: cf.Teacher(V, bad(T, 2, np.nan)), ValueError,
     "class_features must be finite, got NaN or infinity at row 2"),
    ("student logits", lambda b: cf.select(X, 3, labels=Y, student_logits=bad(Z, 43, np.nan), config=WHOLE, backend=b),
     ValueError, "student_logits must be finite, got NaN or infinity at row 43"),
    ("teacher logits",
     lambda b: cf.select(
         X, 3, labels=Y, student_logits=Z, teacher=cf.Teacher.from_logits(bad(Z, 44, np.inf)), config=WHOLE, backend=b
     ), ValueError, "teacher_logits must be finite, got NaN or infinity at row 44"),
    ("teacher logits with a temperature",
     lambda b: cf.select(
         X, 3, labels=Y, student_logits=Z, teacher=cf.Teacher.from_logits(bad(Z, 44, np.inf), 0.5), config=WHOLE,
         backend=b,
     ), ValueError, "teacher_logits must be finite, got NaN or infinity at row 44"),
    ("calibration rows of student logits",
     lambda b: cf.select(X, 3, labels=Y, student_logits=bad(Z, 36, np.nan), config=COVERAGE, backend=b), ValueError,
     "student_logits must be finite, got NaN or infinity at row 36"),
    ("calibration rows of teacher logits",
     lambda b: cf.select(
         X, 3, labels=Y, student_logits=Z, teacher=cf.Teacher.from_logits(bad(Z, 36, np.nan)), config=COVERAGE,
         backend=b,
     ), ValueError, "teacher_logits must be finite, got NaN or infinity at row 36"),
    ("student's probabilities",
     lambda b: cf.select(X, 3, labels=Y, student=Constant([np.nan, 0, 0, 0, 1]), config=WHOLE, backend=b), ValueError,
     "student.predict_proba must be finite, got NaN or infinity at row 1"),
    ("score", lambda b: cf.score(bad(Z, 12, np.nan), backend=b), ValueError,
     "student_logits must be finite, got NaN or infinity at row 12"),
    ("score, teacher", lambda b: cf.score(Z, bad(Z, 13, -np.inf), q_student=1, q_teacher=1, backend=b), ValueError,
     "teacher_logits must be finite, got NaN or infinity at row 13"),
    ("score, both", lambda b: cf.score(bad(Z, 20, np.nan), bad(Z, 13, np.nan), q_student=1, q_teacher=1, backend=b),
     ValueError, ".*_logits must be finite, got NaN or infinity at row .*"),
    ("score, raised", lambda b: cf.score(Z, bad(Z, 13, np.nan), q_student=1, q_teacher=1, nonempty="raise", backend=b),
     ValueError, "teacher_logits must be finite, got NaN or infinity at row 13"),
    ("threshold", lambda b: cf.target_size_threshold(bad(Z, 14, np.nan), 2, backend=b), ValueError,
     "logits must be finite, got NaN or infinity at row 14"),
    ("sets", lambda b: cf.prediction_sets(bad(Z, 15, np.inf), 2, backend=b), ValueError,
     "logits must be finite, got NaN or infinity at row 15"),
    ("sets, raised", lambda b: cf.prediction_sets(bad(Z, 15, np.inf), 2, nonempty="raise", backend=b), ValueError,
     "logits must be finite, got NaN or infinity at row 15"),
    ("k-means", lambda b: cf.weighted_kmeans(bad(X, 16, np.nan), 2, backend=b), ValueError,
     "X must be finite, got NaN or infinity at row 16"),
    ("k-means, init", lambda b: cf.weighted_kmeans(X, 2, init=bad(X[:2], 1, np.nan), backend=b), ValueError,
     "init must be finite, got NaN or infinity.*"),
    # Directions.
    ("zero features", lambda b: cf.select(zero(X, 9), 3, backend=b), ValueError,
     r"features must have a direction \(coverage uses L2-normalised rows\), got a zero-length vector at row 9"),
    ("features too short for float32", lambda b: cf.select(np.sign(X) * np.float32(1e-42), 3, backend=b), ValueError,
     r"features must have a direction .*, got a zero-length vector at row 0"),
    ("zero features and a teacher",
     lambda b: cf.select(zero(X, 9), 3, labels=Y, teacher=cf.Teacher(V, T), config=COVERAGE, backend=b), ValueError,
     "features must have a direction .*, got a zero-length vector at row 9"),
    ("zero image features", lambda b: cf.select(X, 3, teacher=cf.Teacher(zero(V, 9), T), backend=b), ValueError,
     "image_features must have a direction .*, got a zero-length vector at row 9"),
    ("zero class features", lambda b: cf.Teacher(V, zero(T, 4)), ValueError,
     "class_features must have a direction .*, got a zero-length vector at row 4"),
    # Shapes.
    *(
        (f"features of shape {np.shape(x)}", lambda b, x=x: cf.select(x, 3, backend=b), ValueError, text)
        for x, text in [
            (np.zeros(5), r"features must have two dimensions \(rows, columns\), got shape \(5,\)"),
            (np.zeros((5, 2, 2)), r"features must have two dimensions \(rows, columns\), got shape \(5, 2, 2\)"),
            (torch.zeros(5), r"features must have two dimensions \(rows, columns\), got shape \(5,\)"),
            (np.zeros((5, 0)), r"features must have at least one column, got shape \(5, 0\)"),
            (torch.zeros(5, 0), r"features must have at least one column, got shape \(5, 0\)"),
        ]
    ),
    ("one class", lambda b: cf.score(Z[:, :1], backend=b), ValueError,
     r"student_logits must have at least two columns \(classes\), got shape \(60, 1\)"),
    ("one class of the teacher", lambda b: cf.Teacher(V, T[:1]), ValueError,
     r"class_features must have at least two rows \(classes\), got 1"),
    ("teacher's columns", lambda b: cf.Teacher(V, T[:, :2]), ValueError,
     "class_features has 2 columns but image_features has 3; both must come from the same teacher"),
    ("rows of the teacher", lambda b: cf.select(X, 3, teacher=cf.Teacher(V[:59], T), backend=b), ValueError,
     "image_features has 59 rows but features has 60; both must describe the same rows"),
    ("rows of teacher logits", lambda b: cf.select(X, 3, teacher=cf.Teacher.from_logits(Z[:59]), backend=b), ValueError,
     "teacher_logits has 59 rows but features has 60; both must describe the same rows"),
    ("rows of student logits", lambda b: cf.select(X, 3, student_logits=Z[:59], backend=b), ValueError,
     "student_logits has 59 rows but features has 60; both must describe the same rows"),
    ("rows of labels", lambda b: cf.select(X, 3, labels=Y[:59], backend=b), ValueError,
     "labels has 59 rows but features has 60; both must describe the same rows"),
    ("shape of labels", lambda b: cf.select(X, 3, labels=Y[:, None], backend=b), ValueError,
     r"labels must have shape \(60,\), got \(60, 1\)"),
    ("classes", lambda b: cf.select(X, 3, student_logits=Z[:, :4], teacher=cf.Teacher(V, T), backend=b), ValueError,
     "student_logits has 4 classes but the teacher has 5; both must describe the same classes"),
    ("classes of the head",
     lambda b: cf.select(X, 3, labels=Y, student=cf.LinearHead(9, max_epochs=2), teacher=cf.Teacher(V, T), backend=b),
     ValueError, ".*9.*5.*"),
    ("score, rows", lambda b: cf.score(Z, Z[:3], q_student=1, q_teacher=1, backend=b), ValueError,
     "teacher_logits has 3 rows but student_logits has 60; both must describe the same rows"),
    ("score, classes", lambda b: cf.score(Z, Z[:, :3], q_student=1, q_teacher=1, backend=b), ValueError,
     "teacher_logits has 3 classes but student_logits has 5; both must describe the same classes"),
    ("no rows", lambda b: cf.target_size_threshold(Z[:0], 2, backend=b), ValueError,
     "logits must have at least one row to take a threshold from, got none"),
    ("init's shape", lambda b: cf.weighted_kmeans(X, 3, init=X[:2], backend=b), ValueError,
     r"init must have shape \(3, 4\), got \(2, 4\)"),
    ("weights' shape", lambda b: cf.weighted_kmeans(X, 3, weights=np.ones(59), backend=b), ValueError,
     r"weights must have shape \(60,\), got \(59,\)"),
    ("student's shape", lambda b: cf.select(X, 3, labels=Y, student=Constant([0.5, 0.5]), backend=b), ValueError,
     r"student.predict_proba must return shape \(\d+, 5\), got \(\d+, 2\); an attribute classes_ may say of .*"),
    ("student as a class", lambda b: cf.select(X, 3, labels=Y, student=Constant, backend=b), TypeError,
     r"student must be an object, got the class Constant; give Constant\(\)"),
    # Labels.
    ("label too large", lambda b: cf.select(X, 3, labels=np.r_[Y[:59], 5], teacher=cf.Teacher(V, T), backend=b),
     ValueError, r"labels must be -1 \(not labelled\) or a class from 0 to 4, got 5 at row 59"),
    ("label too small", lambda b: cf.select(X, 3, labels=np.r_[-2, Y[1:]], backend=b), ValueError,
     r"labels must be -1 \(not labelled\) or a class from 0, got -2 at row 0"),
    ("label between", lambda b: cf.select(X, 3, labels=np.r_[0.5, Y[1:]], backend=b), ValueError,
     "labels must be whole numbers or NaN, got 0.5 at row 0"),
    *(
        (f"label {value}", lambda b, v=value: cf.select(X, 3, labels=np.r_[v, Y[1:]], backend=b), ValueError,
         f"labels must be .*, got {value} at row 0")
        for value in (np.inf, -np.inf)
    ),
    ("label of another kind", lambda b: cf.select(X, 3, labels=["cat"] * 60, backend=b), TypeError,
     r"labels must be integers \(-1 = not labelled\) where there are no class_names, got 'cat' at row 0; give .*"),
    ("labels that are bool", lambda b: cf.select(X, 3, labels=Y > 0, backend=b), TypeError,
     r"labels must be integers \(-1 = not labelled\) or class names, got dtype bool; give integers where true is .*"),
    ("a student and no labels", lambda b: cf.select(X, 3, student=cf.LinearHead(), backend=b), ValueError,
     "a student needs labels of at least two classes, got no labelled row"),
    # Numbers.
    *(
        (f"budget {value!r}", lambda b, v=value: cf.select(X, v, backend=b), error, text)
        for value, error, text in [
            (0, ValueError, "budget must be at least 1, got 0"),
            (-3, ValueError, "budget must be at least 1, got -3"),
            (2.0, TypeError, "budget must be an integer, got float 2.0"),
            (True, TypeError, "budget must be an integer, got bool True"),
            ("3", TypeError, "budget must be an integer, got str '3'"),
            (None, TypeError, "budget must be an integer, got NoneType None"),
        ]
    ),
    ("more clusters than rows", lambda b: cf.weighted_kmeans(X, 61, backend=b), ValueError,
     "n_clusters must be at most the number of rows, 60, got 61"),
    ("no clusters", lambda b: cf.weighted_kmeans(X, 0, backend=b), ValueError, "n_clusters must be at least 1, got 0"),
    ("part of a cluster", lambda b: cf.weighted_kmeans(X, 2.5, backend=b), TypeError,
     "n_clusters must be an integer, got float 2.5"),
    ("max_iter", lambda b: cf.weighted_kmeans(X, 2, max_iter=0, backend=b), ValueError,
     "max_iter must be at least 1, got 0"),
    ("tol", lambda b: cf.weighted_kmeans(X, 2, tol=-1e-3, backend=b), ValueError, "tol must be at least 0, got -0.001"),
    ("init", lambda b: cf.weighted_kmeans(X, 2, init="kmeans", backend=b), ValueError,
     r"init must be one of 'k-means\|\|', 'k-means\+\+', 'random', got 'kmeans'"),
    ("a negative weight", lambda b: cf.weighted_kmeans(X, 2, weights=np.r_[np.ones(59), -1], backend=b), ValueError,
     "weights must be finite and not negative, got -1.0 at row 59"),
    ("a weight that is NaN", lambda b: cf.weighted_kmeans(X, 2, weights=np.r_[np.nan, np.ones(59)], backend=b),
     ValueError, "weights must be finite and not negative, got nan at row 0"),
    ("a weight beyond float32", lambda b: cf.weighted_kmeans(X, 2, weights=np.r_[1e300, np.ones(59)], backend=b),
     ValueError, "weights must be .*, got 1e.300 at row 0"),
    ("weights that are text", lambda b: cf.weighted_kmeans(X, 2, weights=["a"] * 60, backend=b), TypeError,
     "weights must be real numbers, got dtype <U1"),
    ("size 0", lambda b: cf.target_size_threshold(Z, 0, backend=b), ValueError, "size must be greater than 0, got 0"),
    ("size 0 of scores", lambda b: cf.score_at_sizes(Z, Z, student_size=2, teacher_size=0, backend=b), ValueError,
     "teacher_size must be greater than 0, got 0"),
    ("scores at sizes of a teacher of other classes",
     lambda b: cf.score_at_sizes(Z, Z[:, :3], student_size=2, teacher_size=2, backend=b), ValueError,
     r"teacher_logits has 3 classes but student_logits has \d+; both must describe the same classes"),
    ("size NaN", lambda b: cf.target_size_threshold(Z, np.nan, backend=b), ValueError, "size must be finite, got nan"),
    ("size of another kind", lambda b: cf.target_size_threshold(Z, "2", backend=b), TypeError,
     "size must be a number, got str '2'"),
    ("q NaN", lambda b: cf.prediction_sets(Z, np.nan, backend=b), ValueError, "q must be a number .*, got nan"),
    ("q of another kind", lambda b: cf.prediction_sets(Z, None, backend=b), TypeError,
     "q must be a number .*, got NoneType None"),
    ("no q", lambda b: cf.score(Z, Z, q_student=1, backend=b), ValueError, "q_teacher must be given .*, got None"),
    ("nonempty", lambda b: cf.score(Z, nonempty="top", backend=b), ValueError,
     "nonempty must be one of 'top1', 'raise', got 'top'"),
    ("chunk_size", lambda b: cf.select(X, 3, chunk_size=0, backend=b), ValueError,
     "chunk_size must be at least 1, got 0"),
    ("random_state", lambda b: cf.select(X, 3, random_state=-1, backend=b), ValueError,
     "random_state must be at least 0, got -1"),
    ("random_state of another kind", lambda b: cf.weighted_kmeans(X, 3, random_state=0.5, backend=b), TypeError,
     "random_state must be an integer, got float 0.5"),
    *(
        (f"alpha {value!r}", lambda b, v=value: cf.coverage_threshold([0.1, 0.2], v), error, text)
        for value, error, text in [
            (0.0, ValueError, r"alpha must lie inside \(0, 1\), got 0.0"),
            (1.0, ValueError, r"alpha must lie inside \(0, 1\), got 1.0"),
            (-0.1, ValueError, r"alpha must lie inside \(0, 1\), got -0.1"),
            (np.nan, ValueError, r"alpha must lie inside \(0, 1\), got nan"),
            ("0.1", TypeError, "alpha must be a number, got str '0.1'"),
        ]
    ),
    ("calibration scores NaN", lambda b: cf.coverage_threshold([0.1, np.nan], 0.1), ValueError,
     "calibration_scores must be numbers, got NaN at row 1"),
    ("calibration scores' shape", lambda b: cf.coverage_threshold([[0.1]], 0.1), ValueError,
     r"calibration_scores must have one dimension, got shape \(1, 1\)"),
    ("calibration scores of another kind", lambda b: cf.coverage_threshold(["a"], 0.1), TypeError,
     "calibration_scores must be real numbers, got dtype <U1"),
    *(
        (f"temperature {value!r}", lambda b, v=value: cf.Teacher(V, T, v), error, text)
        for value, error, text in [
            (0.0, ValueError, "temperature must be greater than 0, got 0.0"),
            (-1, ValueError, "temperature must be greater than 0, got -1"),
            (np.inf, ValueError, "temperature must be finite, got inf"),
            ("hot", TypeError, "temperature must be a number, got str 'hot'"),
        ]
    ),
    *(
        (f"temperature {value} of {name}", lambda b, v=value, make=make: cf.select(
            X, 3, labels=Y, student_logits=Z, teacher=make(v), config=WHOLE, backend=b
        ), ValueError, ".*temperature.*|.*finite.*")
        for value in (1e-40, 1e-300)
        for name, make in [
            ("logits", lambda t: cf.Teacher.from_logits(Z, t)),
            ("features", lambda t: cf.Teacher(V, T, t)),
        ]
    ),
    ("trust, sets of a size", lambda b: cf.CCMAConfig(acquisition="trust", calibration="target_size"), ValueError,
     'acquisition="trust" .* needs calibration="coverage", got \'target_size\'; expected that, or acquisition="delta"'),
    ("acquisition", lambda b: cf.CCMAConfig(acquisition="margin"), ValueError,
     "acquisition must be one of 'auto', 'coverage', 'trust', 'delta', got 'margin'"),
    *(
        (f"confident_share {value}", lambda b, v=value: cf.CCMAConfig(confident_share=v), ValueError,
         rf"confident_share must lie inside \(0, 1\), got {value}")
        for value in (0.0, 1.0)
    ),
    *(
        (f"{name} 0", lambda b, n=name: cf.CCMAConfig(**{n: 0}), ValueError, f"{name} must be at least 1, got 0")
        for name in ("kappa", "student_kappa", "candidate_limit")
    ),
    # Types.
    *(
        (f"features: {name}", lambda b, x=x: cf.select(x, 3, backend=b), TypeError, text)
        for name, x, text in [
            ("complex", X + 1j, "features must hold real numbers, got dtype complex64"),
            ("bool", X > 0, "features must hold real numbers, got dtype bool"),
            ("text", np.array([["a", "b"]]), "features must hold real numbers, got dtype <U1"),
            ("objects", np.array([[None, 1.0]]), "features must hold real numbers, got dtype object"),
            ("ragged", [[1.0, 2.0], [1.0]], "features must be a matrix of real numbers, got list (.+)"),
            ("complex tensor", torch.zeros(3, 3, dtype=torch.complex64),
             "features must hold real numbers, got dtype torch.complex64"),
            ("bool tensor", torch.zeros(3, 3, dtype=torch.bool),
             "features must hold real numbers, got dtype torch.bool"),
            ("sparse tensor", torch.eye(3).to_sparse(), "features must .*"),
            ("dates", np.zeros((3, 3), "datetime64[s]"), r"features must hold real numbers, got dtype datetime64\[s\]"),
        ]
    ),
    ("teacher", lambda b: cf.select(X, 3, teacher=T, backend=b), TypeError,
     "teacher must be a ccma_fast.Teacher, got ndarray"),
    ("teacher's class", lambda b: cf.ActiveLearner(X, teacher=T, backend=b), TypeError,
     "teacher must be a ccma_fast.Teacher, got ndarray"),
    ("config", lambda b: cf.select(X, 3, config={"kappa": 3}, backend=b), TypeError,
     "config must be a CCMAConfig, got dict"),
    ("student", lambda b: cf.select(X, 3, labels=Y, student=object(), backend=b), TypeError,
     "student must have the methods fit and predict_proba, got object without fit"),
    ("student that cannot predict probabilities",
     lambda b: cf.select(X, 3, labels=Y, student=type("S", (), {"fit": lambda *_: None})(), backend=b), TypeError,
     "student must have the methods fit and predict_proba, got S without predict_proba"),
    ("student and logits", lambda b: cf.select(X, 3, labels=Y, student=cf.LinearHead(), student_logits=Z, backend=b),
     ValueError, "give student or student_logits, not both"),
]  # fmt: skip


def outcome(call, backend: str) -> tuple[type, str]:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is what the tests compare
        call(backend)
    return raised.type, str(raised.value)


@pytest.mark.parametrize(("call", "error", "text"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_type_and_text(call, error, text):
    kind, message = outcome(call, "cpu")
    assert kind is error, message
    assert re.fullmatch(text, message), message
    assert outcome(call, "reference") == (kind, message)
    with np.errstate(all="ignore"):  # Triton's interpreter computes with NumPy
        assert outcome(call, "cuda") == (kind, message)


@pytest.mark.parametrize("field", ["kappa", "n_folds", "batch_size", "subpool_size", "pool_limit", "max_clusters"])
def test_whole_numbers_of_a_configuration(field):
    for value, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("1", TypeError)):
        with pytest.raises(error, match=f"^{field} must be .*, got"):
            cf.CCMAConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("temperature", 0.0, ValueError),
        ("learning_rate", -1.0, ValueError),
        ("student_set_size", 0, ValueError),
        ("teacher_set_size", np.inf, ValueError),
        ("weight_decay", -1e-9, ValueError),
        ("kmeans_tol", np.nan, ValueError),
        ("alpha", 0.0, ValueError),
        ("alpha", 1, ValueError),
        ("dropout", 1.0, ValueError),
        ("dropout", -0.5, ValueError),
        ("dropout", "half", TypeError),
        ("calibration", "conformal", ValueError),
        ("nonempty", "top", ValueError),
        ("pick", "first", ValueError),
    ],
)
def test_other_values_of_a_configuration(field, value, error):
    with pytest.raises(error, match=f"^{field} must .*, got"):
        cf.CCMAConfig(**{field: value})


# Numbers that no float64 or int64 holds, one that Python cannot even write down, and one that rounds to 1.
BEYOND = [10**400, -(10**400), Fraction(10**400), 10**5000]


@pytest.mark.parametrize("value", BEYOND, ids=["large", "small", "fraction", "no text"])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("q_student", lambda b: cf.score(Z, q_student=b, q_teacher=1.0)),
        ("size", lambda b: cf.target_size_threshold(Z, b)),
        ("alpha", lambda b: cf.coverage_threshold([1.0, 2.0], b)),
        ("q", lambda b: cf.prediction_sets(Z, b)),
        ("max_iter", lambda b: cf.weighted_kmeans(X, 3, max_iter=b)),
        ("tol", lambda b: cf.weighted_kmeans(X, 3, tol=b)),
        ("temperature", lambda b: cf.Teacher(V, T, b)),
        ("budget", lambda b: cf.select(X, b)),
        ("memory_limit", lambda b: cf.select(X, 3, memory_limit=b)),
        ("kappa", lambda b: cf.CCMAConfig(kappa=b)),
        ("confident_share", lambda b: cf.CCMAConfig(confident_share=b)),
        ("learning_rate", lambda b: cf.LinearHead(learning_rate=b).fit(X, TRUTH)),
        ("n_classes", lambda b: cf.LinearHead(b).fit(X, TRUTH)),
        ("n_classes", lambda b: cf.ActiveLearner(X, n_classes=b)),
        ("seeds", lambda b: cf.simulate(X, TRUTH, test_features=X, test_labels=TRUTH, strategies="random", seeds=[b])),
    ],
)
def test_numbers_beyond_every_type(name, call, value):
    """They are told as any other number out of range, not as an OverflowError hours later."""
    with pytest.raises((ValueError, TypeError), match=f"^{name} must be "):
        call(value)


def test_seeds_may_have_more_than_64_bits():
    seed = 2**100 + 1
    np.testing.assert_array_equal(
        cf.select(X, 3, random_state=seed).indices, cf.select(X, 3, random_state=seed).indices
    )


def test_configuration_is_closed():
    with pytest.raises(ValueError, match=r"dataset must be one of 'food101', .*, got 'mnist'"):
        cf.CCMAConfig.paper("mnist")
    with pytest.raises(AttributeError):
        cf.CCMAConfig().kappa = 3
    with pytest.raises(TypeError):
        cf.CCMAConfig(50_000)


# ---------------------------------------------------------------------------------------------------------------------
# Files


@pytest.fixture
def files(tmp_path):
    """One file for every way in which a file can be bad."""
    whole = tmp_path / "whole.npy"
    np.save(whole, X)
    content = whole.read_bytes()
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "short.npy").write_bytes(content[:-1])
    (tmp_path / "header.npy").write_bytes(content[:20])
    (tmp_path / "broken header.npy").write_bytes(content[:10] + b"{{{'" + content[14:])
    (tmp_path / "text.npy").write_text("1,2\n3,4\n")
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(X))
    np.save(tmp_path / "objects.npy", np.array([[None]]), allow_pickle=True)
    np.savez(tmp_path / "archive.npz", X)
    os.rename(tmp_path / "archive.npz", tmp_path / "archive.npy")
    (tmp_path / "folder.npy").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["empty", "short", "header", "broken header", "text", "pickle", "objects", "archive", "folder", "missing"],
)
def test_unreadable_files(files, name):
    path = files / f"{name}.npy"
    for source in (path, str(path)):
        with pytest.raises(cf.FileReadError, match=r"^features: ") as raised:
            cf.select(source, 3)
        assert path.name in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(cf.FileReadError, match=r"^image_features: "):
        cf.Teacher(path, T)


def test_files_of_other_formats_and_errors_of_their_own_kind(files):
    with pytest.raises(cf.FileReadError, match=r"features: expected a \.npy, .* file or a folder, got '.*x\.csv'"):
        cf.select(files / "x.csv", 3)
    # Caught by whoever expects either.
    assert issubclass(cf.FileReadError, ValueError)
    assert issubclass(cf.FileReadError, OSError)
    assert issubclass(cf.BackendUnavailableError, ValueError)
    np.save(files / "text array.npy", np.array([["a"]]))
    with pytest.raises(TypeError, match="features must hold real numbers, got dtype <U1"):
        cf.select(files / "text array.npy", 3)


# ---------------------------------------------------------------------------------------------------------------------
# Backends


@pytest.mark.parametrize(
    "call",
    [
        lambda b: cf.select(X, 3, backend=b),
        lambda b: cf.score(Z, backend=b),
        lambda b: cf.target_size_threshold(Z, 2, backend=b),
        lambda b: cf.prediction_sets(Z, 2, backend=b),
        lambda b: cf.weighted_kmeans(X, 3, backend=b),
        lambda b: cf.ActiveLearner(X, backend=b).query(3),
    ],
    ids=["select", "score", "target_size_threshold", "prediction_sets", "weighted_kmeans", "ActiveLearner"],
)
def test_backends_by_name(call, monkeypatch):
    monkeypatch.setattr(choose, "_why_no_cuda", lambda: "PyTorch sees no CUDA device")
    with pytest.raises(cf.BackendUnavailableError, match=r"backend 'cuda' cannot run: .*or backend='cpu' or"):
        call("cuda")
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'cuda', 'cpu', 'reference', got 'gpu'"):
        call("gpu")
    monkeypatch.setenv("CCMA_BACKEND", "cuda")
    with pytest.raises(cf.BackendUnavailableError):
        call("auto")
    monkeypatch.setenv("CCMA_BACKEND", "gpu")
    with pytest.raises(ValueError, match=r"CCMA_BACKEND must be one of .*, got 'gpu'"):
        call("auto")


def test_environment_chooses_only_where_the_call_does_not(monkeypatch):
    monkeypatch.setenv("CCMA_BACKEND", "reference")
    assert cf.weighted_kmeans(X, 3).backend == "reference"
    assert cf.weighted_kmeans(X, 3, backend="cpu").backend == "cpu"


WITHOUT_CORE = """
import sys, warnings
sys.modules["ccma_fast._core"] = None  # what the import finds where the extension was not built
import numpy as np, ccma_fast as cf
x = np.random.default_rng(0).standard_normal((50, 3), dtype=np.float32)
for call in (
    lambda: cf.select(x, 3, backend="cpu"),
    lambda: cf.score(x, backend="cpu"),
    lambda: cf.weighted_kmeans(x, 3, backend="cpu"),
    lambda: cf.get_num_threads(),
    lambda: cf.set_num_threads(2),
):
    try:
        call()
    except cf.BackendUnavailableError as error:
        assert "the C++ extension ccma_fast._core was not built" in str(error), error
    else:
        raise AssertionError("expected an error")
warnings.simplefilter("ignore")
picks = cf.select(x, 3)
assert picks.report.backend.startswith("reference"), picks.report.backend
assert picks.indices.tolist() == cf.select(x, 3, backend="reference").indices.tolist()
assert cf.weighted_kmeans(x, 3).backend == "reference"
assert cf.LinearHead(max_epochs=2).fit(x, np.arange(50) % 2).predict_proba(x).shape == (50, 2)
"""


def test_without_the_extension(run_forked):
    run_forked(WITHOUT_CORE)


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        pytest.param(
            "CCMA_NUM_THREADS",
            "0",
            "CCMA_NUM_THREADS must be an integer from 1 to 1024, got '0'",
            marks=pytest.mark.slow,
        ),
        ("CCMA_NUM_THREADS", "two", "CCMA_NUM_THREADS must be an integer from 1 to 1024, got 'two'"),
        ("CCMA_SIMD", "sse", "CCMA_SIMD must be one of 'scalar', 'avx2', 'avx512', 'avx512_vnni', got 'sse'"),
    ],
)
def test_environment_variables(run_python, variable, value, text):
    script = "import sys, ccma_fast\ntry: ccma_fast.get_num_threads()\nexcept ValueError as e: print(e)"
    assert run_python(script, **{variable: value}).strip() == text


def test_environment_variables_take_effect(run_python):
    script = "import ccma_fast as cf; print(cf.get_num_threads(), cf.select([[1.0]], 1, backend='cpu').report.backend)"
    printed = run_python(script, CCMA_NUM_THREADS="3", CCMA_SIMD="scalar")
    assert printed.strip() == "3 cpu (scalar, 3 threads)"


@pytest.mark.usefixtures("restore_threads")
def test_thread_counts():
    cf.set_num_threads(3)
    assert cf.get_num_threads() == 3
    for value, error in ((0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^n must be"):
            cf.set_num_threads(value)
    with pytest.raises(ValueError, match=r"^n must be"):
        cf.set_num_threads(2**40)
    assert cf.get_num_threads() == 3
