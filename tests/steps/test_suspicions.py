"""What labelled rows say against logits: every fault is told, and honest teachers are not accused."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.cli import main
from ccma_fast.pool.arrays import ArrayRows
from ccma_fast.steps import suspicions as suspicions_module
from ccma_fast.steps.suspicions import suspicions

N, C, E = 600, 12, 24
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(C, size=N)
T = RNG.standard_normal((C, E)).astype(np.float32)
V = (T[TRUTH] + 1.2 * RNG.standard_normal((N, E))).astype(np.float32)
X = (RNG.standard_normal((C, 8))[TRUTH] + 0.3 * RNG.standard_normal((N, 8))).astype(np.float32)
LABELS = np.where(np.arange(N) % 2 == 0, TRUTH, -1)
COSINES = reference.unit_rows(V) @ reference.unit_rows(T).T
NAMES = ["owl", "ape", "cat", "dog", "eel", "fox", "gnu", "bat", "hen", "ibis", "jay", "koi"]
BY_NAME, AS_TEXT = (np.array(sorted(range(C), key=keys.__getitem__)) for keys in (NAMES, [str(c) for c in range(C)]))
QUICK = cf.CCMAConfig(max_epochs=20)


def swapped(a: int, b: int) -> np.ndarray:
    order = np.arange(C)
    order[[a, b]] = b, a
    return order


def probabilities(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


# What somebody passes by mistake, and what is said of it.
FAULTS = {
    "logit_scale for the temperature": (
        lambda: cf.Teacher(V, T, 100.0),
        r"the teacher's temperature 100 is far from the likeliest on the 300 labelled rows, 0\.\d+ \(log loss 0",
    ),
    "cosines without a temperature": (
        lambda: cf.Teacher.from_logits(COSINES),
        r"the teacher's temperature 1 is far from the likeliest .*; it is 1 / logit_scale, 0\.01 for CLIP",
    ),
    "scaled twice": (
        lambda: cf.Teacher.from_logits(100 * COSINES, 0.03),
        r"the teacher's temperature 0\.03 is far from the likeliest .* need none, which is temperature 1",
    ),
    "scaled twice, without a temperature": (
        lambda: cf.Teacher.from_logits(10_000 * COSINES),
        r"the teacher's temperature 1 is far from the likeliest on the 300 labelled rows, (\d+) .* such logits are too "
        r"large: divide them by it, as temperature=\1 does$",
    ),
    "cosines with too small a temperature": (
        lambda: cf.Teacher(V, T, 0.0005),
        r"the teacher's temperature 0\.0005 is far from .* it is what cosines are divided by, 0\.01 for CLIP$",
    ),
    "probabilities": (
        lambda: cf.Teacher.from_logits(probabilities(COSINES / 0.05)),
        "the teacher's logits lie in .0, 1. and add up to 1 in each of the 300 labelled rows, as probabilities do",
    ),
    "shifted": (
        lambda: cf.Teacher(V, np.roll(T, 1, axis=0)),
        r"another order than the labels': rows of class c are called c \+ 1, which would make 2\d\d of the 300 "
        r"labelled rows right instead of \d\d?$",
    ),
    "shifted back": (lambda: cf.Teacher(V, np.roll(T, -2, axis=0)), "rows of class c are called c - 2, which"),
    "reversed": (lambda: cf.Teacher(V, T[::-1]), "rows of class c are called 11 - c, which would make"),
    "sorted by number as text": (lambda: cf.Teacher(V, T[AS_TEXT]), "they are sorted by their numbers as text, which"),
    "sorted by name": (
        lambda: cf.Teacher(V, T[BY_NAME], class_names=NAMES),
        "they are sorted by their names, which would make",
    ),
    "labels of sorted names": (
        lambda: cf.Teacher(V, T[np.argsort(BY_NAME)], class_names=NAMES),
        "the labels count them sorted by their names, which would make",
    ),
    "two exchanged": (
        lambda: cf.Teacher(V, T[swapped(2, 7)], class_names=NAMES),
        r"two classes seem exchanged: \d+ of \d+ rows of 'cat' are called 'bat'; \d+ of \d+ rows of 'bat' are called "
        "'cat'$",
    ),
    "three in a ring": (
        lambda: cf.Teacher(V, T[[0, 4, 2, 3, 9, 5, 6, 7, 8, 1, 10, 11]]),
        "another order than the labels': .* of '1' are called '9'; .* of '9' are called '4'; .* of '4' are called '1'$",
    ),
    "scrambled": (
        lambda: cf.Teacher(V, T[[5, 3, 8, 11, 0, 2, 10, 1, 4, 6, 7, 9]]),
        "stand in another order than the labels': .* rows of '0' are called '4'.*; and 7 classes more$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_told(fault: str) -> None:
    make, text = FAULTS[fault]
    with pytest.warns(cf.TeacherWarning, match=text) as caught:
        report = cf.select(X, 10, labels=LABELS, teacher=make(), config=QUICK).report
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert report.warnings == [str(caught[0].message)]
    assert report.to_dict()["warnings"] == report.warnings
    assert f"warning: {report.warnings[0]}" in str(report).splitlines()
    with pytest.warns(cf.TeacherWarning) as caught:
        found = make().diagnose(LABELS)
    assert len(caught) == 1
    assert report.warnings[0] in found.warnings
    assert f"warning: {report.warnings[0]}" in str(found).splitlines()
    assert report.likeliest_temperature == pytest.approx(found.best_temperature, rel=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, in Triton's interpreter
@pytest.mark.parametrize(
    ("options", "backend"),
    [
        # All of the one with the first of the other; each with each is slow.
        pytest.param(options, backend, marks=pytest.mark.slow if options and backend != "cpu" else ())
        for options in ({}, {"acquisition": "delta"}, {"acquisition": "delta", "calibration": "target_size"})
        for backend in ("cpu", "reference", "cuda")
    ],
    ids=str,
)
def test_on_every_backend_and_by_every_acquisition(backend: str, options: dict[str, str]) -> None:
    x, v, z, labels = (of_all[:160] for of_all in (X, V, COSINES, LABELS))
    config = cf.CCMAConfig(kmeans_max_iter=2, kappa=2, student_kappa=2, **options)
    with pytest.warns(cf.TeacherWarning) as caught:
        report = cf.select(
            x,
            3,
            labels=labels,
            student_logits=np.roll(10 * z, 1, axis=1),
            teacher=cf.Teacher(v, T, 100.0),
            config=config,
            backend=backend,
        ).report
    (told,) = (warning for warning in caught if issubclass(warning.category, cf.TeacherWarning))
    assert str(told.message) == "\n".join(report.warnings)
    of_student, of_teacher = report.warnings
    assert "the student's classes seem to stand in another order than the labels': rows of class c are" in of_student
    assert "the teacher's temperature 100 is far from the likeliest on the 80 labelled rows" in of_teacher


def test_probabilities_of_a_student_are_told_without_a_teacher() -> None:
    with pytest.warns(
        cf.TeacherWarning, match=r"^the student's logits lie in .0, 1. and add up to 1 in each of the 300"
    ):
        report = cf.select(X, 3, labels=LABELS, student_logits=probabilities(10 * COSINES)).report
    assert math.isnan(report.likeliest_temperature)
    assert cf.select(X, 3, labels=LABELS, student_logits=np.log(probabilities(10 * COSINES))).report.warnings == []


def test_the_right_teacher_is_not_accused() -> None:
    teacher = cf.Teacher(V, T, 0.1)
    report = cf.select(X, 10, labels=LABELS, teacher=teacher, config=QUICK).report
    found = teacher.diagnose(LABELS)
    assert report.warnings == found.warnings == []
    assert report.likeliest_temperature == pytest.approx(found.best_temperature, rel=1e-4)
    assert "warning" not in str(report) + str(found)


def test_a_teacher_of_other_images_is_told() -> None:
    """Rows that are off by one: nothing that it says has to do with the labels."""
    teacher = cf.Teacher(np.roll(V, 1, axis=0), T)
    with pytest.warns(cf.TeacherWarning, match=r"right on \d.* of the 300 labelled rows .*, no better than chance"):
        report = cf.select(X, 3, labels=LABELS, teacher=teacher, config=replace(QUICK, acquisition="trust")).report
    assert report.trust == 0.0
    with pytest.warns(cf.TeacherWarning):
        assert teacher.diagnose(LABELS).warnings == report.warnings


@pytest.mark.parametrize(("n_classes", "n_labelled"), [(5, 4), (6, 4), (6, 5), (10, 3), (10, 9)])
def test_labels_that_count_from_one_are_told_before_the_last_class_has_any(n_classes: int, n_labelled: int) -> None:
    rng = np.random.default_rng(0)
    z, y = made_up(60 * n_classes, n_classes, 3.0, rng)
    some = np.flatnonzero(y < n_labelled)
    found = suspicions("the teacher", ArrayRows(z[some].astype(np.float32), "z"), y[some] + 1, None, temperature=1.0)
    assert "rows of class c are called c - 1, which would make" in found.texts[0]
    assert suspicions("the teacher", ArrayRows(z[some].astype(np.float32), "z"), y[some], None).texts == []


def test_probabilities_need_no_labels_to_be_told() -> None:
    text = r"logits lie in .0, 1. and add up to 1 in each of the first 256 rows, as probabilities do"
    p = probabilities(10 * COSINES)
    with pytest.warns(cf.TeacherWarning, match="^the teacher's " + text):
        report = cf.select(X, 3, teacher=cf.Teacher.from_logits(p)).report
    assert report.mode == "cold start"
    with pytest.warns(cf.TeacherWarning, match="^the student's " + text):
        cf.select(X, 3, student_logits=p)
    assert cf.select(X, 3, teacher=cf.Teacher.from_logits(np.log(p))).report.warnings == []
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.warns(cf.TeacherWarning, match="^the teacher's " + text):
            cf.select(X, 3, teacher=cf.Teacher.from_logits(torch.from_numpy(p).to(dtype)))


def test_without_labels_nothing_is_said() -> None:
    for labels in (None, np.full(N, -1)):
        report = cf.select(X, 3, labels=labels, teacher=cf.Teacher(V, T, 100.0)).report
        assert report.warnings == []
        assert math.isnan(report.likeliest_temperature)


def test_a_query_of_one_labelled_class_says_nothing_of_the_temperature() -> None:
    of_one = np.where(TRUTH == 4, LABELS, -1)
    with pytest.warns(cf.TeacherWarning, match=r"^the teacher is right on 100.0 % .* no better than chance .*\?$"):
        assert len(cf.Teacher(V, T, 1.0).diagnose(of_one).warnings) == 1


def test_two_exchanged_classes_of_two() -> None:
    """Told where the student, which learnt from the labels, contradicts the teacher on most of the pool."""
    x, y, v, t = two_classes(seed=3, spread=1.0)
    labels = np.where(np.arange(y.size) % 10 == 0, y, -1)
    assert cf.select(x, 10, labels=labels, teacher=cf.Teacher(v, t), config=QUICK).report.warnings == []
    with pytest.warns(cf.TeacherWarning, match=r"rows of class c are called c \+ 1, which would make"):
        cf.select(x, 10, labels=labels, teacher=cf.Teacher(v, t[::-1]), config=QUICK)


def two_classes(seed: int, spread: float) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=1000)
    t = rng.standard_normal((2, 32)).astype(np.float32)
    v = (t[y] + spread * rng.standard_normal((y.size, 32))).astype(np.float32)
    x = (rng.standard_normal((2, 32))[y] + 0.5 * rng.standard_normal((y.size, 32))).astype(np.float32)
    return x, y, v, t


def test_rows_where_the_models_disagree_do_not_look_like_two_exchanged_classes() -> None:
    """The published query seeks rows on which the teacher is wrong: most labels then speak against a good one."""
    published = {"acquisition": "delta", "head": "published", "calibration": "target_size"}
    config = cf.CCMAConfig(**published, max_epochs=25, kmeans_max_iter=5)
    accused = 0
    for seed in range(2):
        x, y, v, t = two_classes(seed, spread=4.0)
        teacher = cf.Teacher(v, t)
        learner = cf.ActiveLearner(x, teacher=teacher, config=config, random_state=seed)
        for budget in (10, 10, 20, 20, 40):
            picks = learner.query(budget)
            assert picks.report.warnings == []
            learner.label(picks.indices, y[picks.indices])
        known = learner.labels >= 0
        z = ArrayRows((reference.unit_rows(v[known]) @ reference.unit_rows(t).T / 0.03).astype(np.float32), "z")
        accused += bool(suspicions("the teacher", z, y[known], None, temperature=0.03).texts)
    assert accused == 2  # by the labelled rows alone


def made_up(n: int, n_classes: int, quality: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is exactly the chance of each label."""
    y = rng.integers(n_classes, size=n)
    z = quality * rng.standard_normal((n, n_classes))
    z[np.arange(n), y] += quality**2
    return z, y


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 60), marks=pytest.mark.slow)])
@pytest.mark.parametrize("n_classes", [2, 3, 10, 100])
@pytest.mark.parametrize("n", [5, 20, 50, 200])
def test_honest_teachers_are_not_accused(n: int, n_classes: int, seeds: range) -> None:
    """Good ones and poor ones, three times too sure or too shy, useless ones, on random rows, on rows of some classes,
    and where most rows are those on which the teacher is wrong.
    """
    for seed in seeds:
        rng = np.random.default_rng(seed)
        z, y = made_up(4 * n, n_classes, (1.5, 3.0, 6.0)[seed % 3], rng)
        wrong = z.argmax(axis=1) != y
        chosen = np.concatenate([np.flatnonzero(wrong)[: n // 2], np.flatnonzero(~wrong)[: n // 2]])
        some = np.flatnonzero(y <= max(1, n_classes // 3))[:n]
        useless = rng.integers(n_classes, size=4 * n)
        for rows, labels in ((np.arange(n), y), (chosen, y), (some, y), (np.arange(n), useless)):
            for scale in (1.0, 3.0, 1 / 3):
                logits = ArrayRows((scale * z[rows]).astype(np.float32), "logits")
                found = suspicions("the teacher", logits, labels[rows], None, temperature=0.5)
                told = [text for text in found.texts if "no better than chance" not in text]
                assert told == [], (seed, scale)
                assert labels is useless or found.texts == [], (seed, scale)


@pytest.mark.parametrize(
    ("n", "n_classes", "quality"), [(50, 10, 2.9), (30, 100, 3.9), (50, 100, 3.0), (30, 1000, 4.6)]
)
def test_few_labels_tell_of_a_shift(n: int, n_classes: int, quality: float) -> None:
    """Teachers that are right on 90 % of the rows, and one that is on 60 %."""
    found = 0
    for seed in range(20):
        z, y = made_up(n, n_classes, quality, np.random.default_rng(seed))
        found += bool(
            suspicions("the teacher", ArrayRows(z.astype(np.float32), "logits"), (y + 1) % n_classes, None).texts
        )
    assert found >= 18


def test_confused_classes_are_not_exchanged_ones() -> None:
    """A teacher that calls two classes by one name, or gives either name to both, says nothing of an order."""
    rng = np.random.default_rng(0)
    for seed in range(100):
        y = np.random.default_rng(seed).integers(10, size=400)
        called = y.copy()
        pair = y < 2
        called[pair] = 1 if seed % 2 else rng.integers(2, size=pair.sum())
        z = 5.0 * np.eye(10, dtype=np.float32)[called]
        assert suspicions("the teacher", ArrayRows(z, "logits"), y, None).texts == []


def test_of_many_labelled_rows_some_are_judged_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspicions_module, "_MOST_ROWS", 100)
    teacher = cf.Teacher(V, T, 100.0)
    with pytest.warns(cf.TeacherWarning, match="on the 100 labelled rows") as caught:
        report = cf.select(X, 10, labels=LABELS, teacher=teacher, config=QUICK).report
    assert report.stages["disagreement"].bytes_read == 100 * V[0].nbytes
    assert report.plan is not None
    assert report.plan.stages["disagreement"].bytes_read == 100 * V[0].nbytes
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        assert teacher.diagnose(LABELS).warnings == report.warnings
    assert str(again[0].message) == str(caught[0].message)


@pytest.mark.filterwarnings("error")
def test_the_program_says_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, array in {"x": X, "v": V, "t": T, "y": LABELS}.items():
        np.save(f"{name}.npy", array)
    command = ["select", "--features", "x.npy", "--teacher-images", "v.npy", "--teacher-classes", "t.npy"]
    command += ["--labels", "y.npy", "--budget", "3", "--out", "picks.csv", "--temperature", "100"]
    assert main(command) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: the teacher's temperature 100 is far from the likeliest on the 300 labelled rows"
    )
    assert main([*command, "-q"]) == 0
    assert capsys.readouterr().err == f"ccma-fast select: {lines[0]}\n"


def test_a_simulation_says_it_once() -> None:
    with pytest.warns(
        cf.TeacherWarning, match=r"^the teacher's temperature 100 is far from the likeliest on the 500 "
    ) as caught:
        cf.simulate(
            X[:500],
            TRUTH[:500],
            test_features=X[500:],
            test_labels=TRUTH[500:],
            strategies=["ccma"],
            seeds=[0, 1],
            rounds=2,
            teacher=cf.Teacher(V[:500], T, 100.0),
            config=QUICK,
            progress=False,
        )
    assert len(caught) == 1
    assert caught[0].filename == __file__
