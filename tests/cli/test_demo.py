"""The demo: an honest teacher, a fair loop, and the tables and pictures that it ends with."""

from __future__ import annotations

import csv
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ccma_fast as cf
from ccma_fast.cli import demo, main
from ccma_fast.research.curves import LearningCurve, accuracy_table, curves_csv, targets_table
from ccma_fast.research.digits import (
    FONTS,
    Digits,
    _as_digit,
    _glyph,
    class_prototypes,
    digits_teacher,
    load_digits,
    teacher_top1,
)
from ccma_fast.research.plots import Panel, plot_learning_curves, plot_panels

OUTPUTS = ["accuracy.csv", "first_picks.png", "learning_curves.png"]


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


@pytest.fixture(scope="module")
def prototypes() -> Any:
    return class_prototypes()


@pytest.fixture
def made_once(prototypes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo takes the prototypes that are there, which take a second to make."""
    monkeypatch.setattr(demo, "class_prototypes", lambda: prototypes.copy())


@pytest.fixture(scope="module")
def teacher(digits: Digits, prototypes: Any) -> cf.Teacher:
    return digits_teacher(digits.images, prototypes, centre=digits.images.mean(axis=0))


# --- the data and the teacher ---------------------------------------------------------------------


def test_pool_and_test_set_are_the_digits_of_scikit_learn(digits: Digits) -> None:
    from sklearn import datasets

    images, labels = datasets.load_digits(return_X_y=True)
    assert (len(digits.images), len(digits.test_images)) == (1297, 500)
    np.testing.assert_array_equal(digits.images, images[digits.rows])
    np.testing.assert_array_equal(digits.labels, labels[digits.rows])
    assert (np.diff(digits.rows) > 0).all()
    rest = np.setdiff1d(np.arange(1797), digits.rows)
    np.testing.assert_array_equal(digits.test_images, images[rest])
    np.testing.assert_array_equal(digits.test_labels, labels[rest])


def test_prototypes_lie_in_the_pixels_of_the_digits(digits: Digits, prototypes: Any) -> None:
    assert prototypes.shape == (10, 64)
    assert prototypes.dtype == np.float32
    assert prototypes.min() >= 0
    assert prototypes.max() <= 16
    # Fitted to 20 of 32 columns, as most of the handwritten ones are.
    columns = prototypes.reshape(10, 8, 8).sum(axis=1)
    assert (columns[:, [0, 7]] == 0).all()
    assert (columns[:, 1:7] > 0).all()
    # As much ink as people use, within a factor of two.
    assert 0.5 < prototypes.mean() / digits.images.mean() < 2


def test_every_font_draws_ten_digits_of_its_own() -> None:
    """A font without digits draws the same box ten times, or nothing."""
    import matplotlib
    from matplotlib.ft2font import FT2Font
    from PIL import ImageFont

    assert len(set(FONTS)) == 21
    for name in FONTS:
        path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
        assert all(ord(digit) in FT2Font(str(path)).get_charmap() for digit in "0123456789"), name
        font = ImageFont.truetype(str(path), 64)
        drawn = [_as_digit(_glyph(digit, font, 0)) for digit in "0123456789"]
        assert min(np.abs(a - b).sum() for i, a in enumerate(drawn) for b in drawn[:i]) > 20, name


def test_a_glyph_becomes_a_digit_by_fitting_centring_and_counting() -> None:
    full = _as_digit(Image.new("L", (50, 70), 255)).reshape(8, 8)
    np.testing.assert_array_equal(full, np.tile([0, 8, 16, 16, 16, 16, 8, 0], (8, 1)))
    half = Image.new("L", (40, 64), 0)
    half.paste(255, (0, 0, 40, 32))
    expected = np.outer([1, 1, 1, 1, 0, 0, 0, 0], [0, 8, 16, 16, 16, 16, 8, 0])
    np.testing.assert_array_equal(_as_digit(half).reshape(8, 8), expected)


def test_the_teacher_is_useful_and_imperfect(digits: Digits, teacher: cf.Teacher, prototypes: Any) -> None:
    on_pool = (teacher_top1(teacher) == digits.labels).mean()
    centre = digits.images.mean(axis=0)
    on_test = teacher_top1(digits_teacher(digits.test_images, prototypes, centre=centre)) == digits.test_labels
    assert 0.5 < on_pool < 0.75
    assert 0.5 < on_test.mean() < 0.75


# --- the comparison -------------------------------------------------------------------------------


def test_the_comparison_is_that_of_simulate(
    digits: Digits, teacher: cf.Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only ccma chooses its own first labels, which cover the pool; the head and its constants are everyone's."""
    kept: list[cf.Results] = []
    simulate = cf.simulate

    def watched(*args: Any, **kwargs: Any) -> cf.Results:
        kept.append(simulate(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr("ccma_fast.research.simulate.simulate", watched)
    curves = demo.learning_curves(digits, teacher, seeds=[1, 10], rounds=1, budget=4)
    assert [curve.name for curve in curves] == ["ccma", "ccma:paper", "margins", "random"]
    (results,) = kept
    for curve in curves:
        assert curve.n_labels.tolist() == [10, 14]
        np.testing.assert_array_equal(curve.accuracy, results.curve(curve.name).accuracy)

    of_head = ("dropout", "learning_rate", "weight_decay", "max_epochs", "batch_size", "patience", "min_gain")
    default, paper = asdict(cf.CCMAConfig()), asdict(cf.CCMAConfig.paper())
    for name, contender in results.record["contenders"].items():
        assert contender["config"] == (paper if name == "ccma:paper" else default)
        assert contender["start"] == ("ccma" if name == "ccma" else "random")
        assert {key: contender["config"][key] for key in of_head} == {key: default[key] for key in of_head}

    first = {}
    for name in results.strategies:
        own = (results.picks["strategy"] == name) & (results.picks["round"] == 0) & (results.picks["seed"] == 1)
        first[name] = results.picks["row"][own].tolist()
    assert first["ccma:paper"] == first["margins"] == first["random"] != first["ccma"]


def test_the_first_query_is_what_select_answers(digits: Digits, teacher: cf.Teacher) -> None:
    student, selection = demo.first_query(digits, teacher, seed=1, budget=7)
    first = cf.select(digits.images, 10, teacher=teacher, random_state=1).indices
    labels = np.full(len(digits.labels), -1)
    labels[first] = digits.labels[first]
    again = cf.select(digits.images, 7, labels=labels, teacher=teacher, random_state=1)
    np.testing.assert_array_equal(selection.indices, again.indices)
    np.testing.assert_array_equal(selection.scores, again.scores)
    assert np.isfinite(selection.scores).all()
    assert (labels[selection.indices] < 0).all()
    # The student in the picture is the one that was asked.
    p = np.sort(student.predict_proba(digits.images[selection.indices]), axis=1)
    np.testing.assert_allclose(selection.scores, 1.0 - (p[:, -1] - p[:, -2]), atol=1e-5)


@pytest.mark.parametrize("winner", [0, 1])
def test_the_verdict_names_whoever_is_ahead(winner: int) -> None:
    n_labels = np.array([10, 20, 30])
    steady, late = np.array([[0.8, 0.8, 0.8], [0.6, 0.8, 0.8]]), np.array([[0.1, 0.1, 0.9], [0.1, 0.1, 0.9]])
    accuracies = [steady, late][:: 1 - 2 * winner]
    verdict = demo._verdict([LearningCurve(f"c{i}", n_labels, a) for i, a in enumerate(accuracies)])
    assert f"area under the curve): c{winner}, 77.5 ± 2.5 %;" in verdict
    assert f"highest at 30 labels: c{1 - winner}, 90.0 ± 0.0 %." in verdict


# --- the program ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("made_once")
def test_the_demo_prints_its_tables_and_writes_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import matplotlib

    settings = dict(matplotlib.rcParams)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--seeds", "2", "--rounds", "1", "--budget", "6"]) == 0
    out, err = capsys.readouterr()
    assert dict(matplotlib.rcParams) == settings

    assert sorted(os.listdir("ccma-fast-demo")) == OUTPUTS
    for name in OUTPUTS[1:]:
        with Image.open(Path("ccma-fast-demo") / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 400
            assert len(np.unique(np.asarray(picture.convert("L")))) > 50  # not blank
    assert "Pool: 1297 handwritten digits" in out
    assert "test: 500 others" in out
    assert "for ten classes: 0.001" in out
    assert "ccma, seed 1" in err
    assert "16/16" in err
    assert re.search(r"area under the curve\): (ccma|ccma:paper|margins|random), \d+\.\d ± \d+\.\d %", out)

    with open("ccma-fast-demo/accuracy.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["method"], r["seed"], r["labels"]) for r in rows} == {
        (method, seed, n) for method in demo.STRATEGIES for seed in ("1", "10") for n in ("10", "16")
    }
    mean = np.mean([float(r["accuracy"]) for r in rows if r["method"] == "random" and r["labels"] == "16"])
    line = next(line for line in out.splitlines() if line.strip().startswith("16 "))
    assert line.split("   ")[-1].strip().startswith(f"{100 * mean:.1f} ± ")
    for target in (80, 85, 90):
        line = next(line for line in out.splitlines() if line.strip().startswith(f"{target} %"))
        expected = []
        for method in demo.STRATEGIES:
            of_method = [r for r in rows if r["method"] == method]
            means = {n: np.mean([float(r["accuracy"]) for r in of_method if r["labels"] == n]) for n in ("10", "16")}
            expected.append(next((n for n in ("10", "16") if means[n] >= target / 100), "not reached"))
        assert re.split(r" {2,}", line.strip())[1:] == expected


@pytest.mark.usefixtures("made_once")
def test_quiet_prints_the_tables_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "er"
    assert main(["demo", "--seeds", "1", "--rounds", "1", "--budget", "25", "--out", str(out), "-q"]) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert printed.startswith("Test accuracy in %, one seed\n")
    assert "Pool:" not in printed
    assert "area under the curve" not in printed
    assert "±" not in printed
    assert sorted(os.listdir(out)) == OUTPUTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "argument --seeds: must be at least 1, got 0"),
        (("--rounds", "-2"), "argument --rounds: must be at least 1, got -2"),
        (("--budget", "ten"), "argument --budget: must be an integer, got 'ten'"),
        (("--jobs", "0"), "argument --jobs: must be at least 1, got 0"),
        (("--rounds", "129"), "= 1300 labels"),
        (("--out", "file"), "cannot write into 'file'"),
        (("--out", "file/below"), "cannot write into 'file/below'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert main(["demo", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ccma-fast demo: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir() == ["file"]


@pytest.mark.parametrize("arguments", [{"seeds": 0}, {"rounds": -1}, {"budget": 0}, {"jobs": 0}])
def test_run_refuses_counts_below_1(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        demo.run(tmp_path / "out", **arguments)
    with pytest.raises(TypeError, match="must be an integer, got float"):
        demo.run(tmp_path / "out", **dict.fromkeys(arguments, 2.0))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("module", ["sklearn", "matplotlib"])
def test_without_its_extra_the_demo_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ccma-fast demo: error: the demo needs matplotlib and scikit-learn (")
    assert "pip install 'ccma-fast[demo]'" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("made_once")
def test_ctrl_c_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, Any] = {}

    def interrupted(*args: Any, **kwargs: Any) -> cf.Results:
        asked.update(kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr("ccma_fast.research.simulate.simulate", interrupted)
    arguments = ["--seeds", "2", "--rounds", "3", "--budget", "4", "--jobs", "2", "-q", "--out", str(tmp_path / "out")]
    assert main(["demo", *arguments]) == 130
    assert capsys.readouterr().err == "ccma-fast demo: interrupted\n"
    assert not (tmp_path / "out").exists()
    assert (asked["seeds"], asked["rounds"], asked["budget"], asked["jobs"]) == ([1, 10], 3, 4, 2)
    assert asked["progress"] is False


# --- tables and plots -----------------------------------------------------------------------------


def curves() -> list[LearningCurve]:
    n_labels = np.array([10, 20, 30])
    return [
        LearningCurve("up", n_labels, np.array([[0.5, 0.8, 0.9], [0.7, 0.8, 0.95]])),
        LearningCurve("wavy", n_labels, np.array([[0.85, 0.2, 0.9], [0.75, 0.4, 0.8]])),
    ]


def test_mean_and_standard_error() -> None:
    up = curves()[0]
    np.testing.assert_allclose(up.mean, [0.6, 0.8, 0.925])
    np.testing.assert_allclose(up.standard_error, [0.1, 0.0, 0.025])  # |a − b| / 2 for two seeds
    one = LearningCurve("one", np.array([10]), np.array([[0.5]]))
    assert np.isnan(one.standard_error).all()


def test_labels_to_reach_is_the_first_count_at_which_the_mean_does() -> None:
    up, wavy = curves()
    assert [up.labels_to_reach(a) for a in (0.6, 0.61, 0.92, 0.93)] == [10, 20, 30, None]
    assert wavy.labels_to_reach(0.8) == 10


@pytest.mark.parametrize("shape", [(3,), (2, 2), (0, 3), (1, 2, 3)])
def test_a_curve_needs_one_accuracy_per_seed_and_count(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"accuracy must have shape \(seeds, 3\)"):
        LearningCurve("bad", np.array([10, 20, 30]), np.zeros(shape))


def test_tables() -> None:
    assert accuracy_table(curves()).splitlines() == [
        "labels            up          wavy",
        "    10   60.0 ± 10.0    80.0 ± 5.0",
        "    20    80.0 ± 0.0   30.0 ± 10.0",
        "    30    92.5 ± 2.5    85.0 ± 5.0",
    ]
    assert targets_table(curves(), (0.8, 0.925, 0.99)).splitlines() == [
        "accuracy            up          wavy",
        "    80 %            20            10",
        "  92.5 %            30   not reached",
        "    99 %   not reached   not reached",
    ]
    assert curves_csv(curves()[:1], [1, 10]).splitlines()[:4] == [
        "method,seed,labels,accuracy",
        "up,1,10,0.5",
        "up,1,20,0.8",
        "up,1,30,0.9",
    ]
    one = LearningCurve("one", np.array([10]), np.array([[0.5]]))
    assert accuracy_table([one]).splitlines() == ["labels    one", "    10   50.0"]
    with pytest.raises(ValueError, match="curves must share their numbers of labels, got others for 'one'"):
        accuracy_table([*curves(), one])


def test_the_curves_are_drawn_with_their_bands() -> None:
    figure = plot_learning_curves(curves(), title="T", targets=(0.8,), level=("teacher", 0.6))
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    np.testing.assert_allclose(lines["up"].get_ydata(), [60, 80, 92.5])
    np.testing.assert_allclose(lines["teacher"].get_ydata(), [60, 60])
    assert lines["up"].get_color() != lines["wavy"].get_color()
    assert lines["up"].get_marker() != lines["wavy"].get_marker()
    assert len(axes.collections) == 2
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (pytest.approx(50), pytest.approx(95))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("labels", "test accuracy (%)")
    one = plot_learning_curves([LearningCurve("one", np.array([1, 2]), np.array([[0.5, 0.6]]))], title="T")
    assert len(one.axes[0].collections) == 0


@pytest.mark.parametrize("n", [1, 5, 6])
def test_panels_show_their_image_and_what_is_right(n: int) -> None:
    image = np.arange(64, dtype=np.float32).reshape(8, 8)
    figure = plot_panels([Panel(image, f"p{i}", (("yes", True), ("no", False))) for i in range(n)], title="T")
    assert [axes.get_title() for axes in figure.axes] == [f"p{i}" for i in range(n)]
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), image)
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["yes ✓", "no ✗"]
    assert texts[0].get_color() != texts[1].get_color()


def test_a_link_in_the_place_of_a_picture_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "load_digits", lambda: pytest.fail("computed"))
    (tmp_path / "accuracy.csv").symlink_to(tmp_path / "kept")
    with pytest.raises(FileExistsError, match=r"accuracy\.csv': it is a symbolic link to '.*kept'"):
        demo.run(out=tmp_path)
    assert os.listdir(tmp_path) == ["accuracy.csv"]
