"""The report of a run: its statistics by hand, its pictures, its page, and the program `ccma-fast report`."""

from __future__ import annotations

import base64
import copy
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from html.parser import HTMLParser
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.research.curves import LearningCurve
from ccma_fast.research.report import curve_figures, figures, report, statistics, tables
from ccma_fast.research.report.comparison_figures import kappa_groups
from ccma_fast.research.report.drawing import NARROW, WIDE, Layout, Picture, shown_names
from ccma_fast.research.report.run import Run
from ccma_fast.research.results import results_of
from ccma_fast.research.rounds import METRICS, RoundRecord
from ccma_fast.research.run_folder import RunFolder

# Where each strategy's curve ends up and how fast it gets there: (share of the gap to 97 % closed after 20 rounds).
STRATEGIES = (
    "ccma",
    "ccma:kappa=5",
    "ccma:kappa=50",
    "random",
    "uncertainty",
    "entropy",
    "margins",
    "coreset",
    "bald",
    "powerbald",
    "badge",
    "alfamix",
    "typiclust",
    "probcover",
    "dropout",
    "max-herding",
    "uncertainty-herding",
)
STAGES = ("fit", "evaluate", "diagnose", "select")


Rounds = dict[tuple[str, int], list[RoundRecord]]


def made_up_rounds(
    strategies: tuple[str, ...], seeds: tuple[int, ...], rounds: int, *, budget: int, teacher: bool, n_pool: int
) -> Rounds:
    """Saturating curves, each strategy with a speed of its own, and noise by seed and round."""
    rng = np.random.default_rng(0)
    made: Rounds = {}
    for number, strategy in enumerate(strategies):
        speed = 0.75 + 0.5 * ((7 * number) % len(strategies)) / len(strategies)
        for seed in seeds:
            start = 0.45 + 0.03 * np.random.default_rng(seed).standard_normal()
            chosen = rng.permutation(n_pool).tolist()
            made[strategy, seed] = []
            for r in range(rounds + 1):
                accuracy = 0.97 - (0.97 - start) * math.exp(-speed * r / 7) + 0.006 * rng.standard_normal()
                metrics = {
                    "accuracy": accuracy,
                    "macro_auroc": 1 - (1 - accuracy) / 4,
                    "macro_f1": accuracy - 0.01,
                    "student_set_size": 5 - 0.05 * r,
                    "teacher_set_size": 3.0,
                    "overlap": 2 + 0.02 * r,
                    "top1_disagreement": 0.4 - 0.01 * r,
                    "student_coverage": min(0.85 + 0.008 * r + 0.01 * rng.standard_normal(), 1.0),
                    "teacher_coverage": 0.9,
                    "q_student": 2 - 0.03 * r,
                    "q_teacher": 1.5,
                }
                for model in ("student", "teacher"):
                    share = metrics[f"{model}_coverage"]
                    metrics |= {f"{model}_coverage_low": share - 0.02, f"{model}_coverage_high": min(share + 0.02, 1.0)}
                if not teacher:
                    metrics |= dict.fromkeys([*(m for m in metrics if "teacher" in m), *SHARED], math.nan)
                seconds = {"select": 0.02 * (number + 1), "fit": 0.2, "evaluate": 0.01, "diagnose": 0.05}
                if r == 0:
                    del seconds["select"]
                picks = chosen[:10] if r == 0 else chosen[10 + (r - 1) * budget : 10 + r * budget]
                made[strategy, seed].append(RoundRecord(picks, metrics, seconds))
    return made


SHARED = ("overlap", "top1_disagreement")


def made_up_run(
    strategies: tuple[str, ...] = STRATEGIES,
    seeds: tuple[int, ...] = (1, 10, 100, 1000, 10000),
    rounds: int = 20,
    *,
    budget: int = 10,
    teacher: bool = True,
    n_pool: int = 1500,
    keep: Callable[[str, int, int], bool] = lambda strategy, seed, r: True,
) -> Run:
    """A run with the rounds for which `keep(strategy, seed, round)` holds."""
    made = made_up_rounds(strategies, seeds, rounds, budget=budget, teacher=teacher, n_pool=n_pool)
    kept = {run: [record for r, record in enumerate(records) if keep(*run, r)] for run, records in made.items()}
    kappas = [strategy.partition("kappa=")[2].partition(",")[0] or 20 for strategy in strategies]
    configs = [cf.CCMAConfig(kappa=int(kappa)) for kappa in kappas]
    record = {
        "format": 1,
        "arguments": {
            "strategies": list(strategies),
            "seeds": list(seeds),
            "rounds": rounds,
            "config": asdict(cf.CCMAConfig()),
        },
        "contenders": {
            label: {"strategy": label.partition(":")[0], "start": "random", "config": asdict(config)}
            for label, config in zip(strategies, configs, strict=True)
        },
        "student": "LinearHead",
        "data": {"sha256": "0" * 64},
        "versions": {"numpy": np.__version__},
    }
    rng = np.random.default_rng(0)
    classes = rng.integers(10, size=n_pool)
    coordinates = 3 * rng.standard_normal((10, 2))[classes] + rng.standard_normal((n_pool, 2))
    pool_map = {"rows": np.arange(n_pool), "coordinates": coordinates, "classes": classes}
    return Run(results_of(record, kept), pool_map)


@pytest.fixture
def without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws what is on the page alone, which is faster."""
    monkeypatch.setattr(report, "_png", lambda figure, title: b"a picture")


# Drawn as that of the accuracy is.
ALIKE = ("curves_macro_auroc", "curves_macro_f1")


def draw_only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Has a report draw these of its pictures alone, or all that are not alike: each takes a second."""

    def some(*given: Any, pictures: Callable[..., list[Picture]] = figures.pictures) -> list[Picture]:
        return [one for one in pictures(*given) if one.name not in ALIKE and (not names or one.name in names)]

    monkeypatch.setattr(figures, "pictures", some)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes the report of a run that is in memory into `out` of the test's own directory."""

    def of_run(run: Run, **options: Any) -> str:
        monkeypatch.setattr(report, "open_run", lambda folder: run)
        return report.write_report("run", tmp_path / "out", **options)

    return of_run


class Page(HTMLParser):
    """What a page holds; fails where a tag is not closed in its order."""

    VOID = frozenset({"meta", "link", "img", "br", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# --- the numbers ----------------------------------------------------------------------------------


def test_the_area_is_the_mean_height_of_the_trapezoids() -> None:
    curve = LearningCurve("a", np.array([10, 20, 50]), np.array([[0.2, 0.6, 0.8], [0.5, 0.5, 0.5]]))
    # (10 · 0.4 + 30 · 0.7) / 40
    np.testing.assert_allclose(curve.area, [0.625, 0.5])
    np.testing.assert_allclose(LearningCurve("b", np.array([10]), np.array([[0.3]])).area, [0.3])


def test_crossings_lie_on_straight_lines_between_rounds() -> None:
    curve = LearningCurve(
        "a",
        np.array([10, 20, 30]),
        np.array([[0.6, 0.7, 0.9], [0.85, 0.2, 0.9], [0.1, 0.2, 0.3], [0.7, 0.8, 0.8], [0.9, 0.1, 0.2]]),
    )
    np.testing.assert_allclose(curve.crossings(0.8), [25, 10, np.nan, 20, 10])
    np.testing.assert_allclose(curve.crossings(0.9), [30, 30, np.nan, np.nan, 10])


def test_labels_to_reach_say_how_many_seeds_did() -> None:
    curve = LearningCurve("a", np.array([10, 20, 30]), np.array([[0.6, 0.7, 0.9], [0.1, 0.2, 0.3]]))
    partly = statistics.labels_to_reach(curve, 0.8)
    assert (partly.mean, partly.n_reached, partly.n_seeds) == (pytest.approx(27.5), 1, 2)  # (25 + 30) / 2, at least
    assert math.isnan(partly.error)
    assert str(partly) == "> 28 (1 of 2)"
    assert str(statistics.labels_to_reach(curve, 0.95)) == "not reached"
    both = statistics.labels_to_reach(curve, 0.15)
    assert (both.mean, both.error) == (pytest.approx(12.5), pytest.approx(2.5))  # 10 and 15
    alone = LearningCurve("a", np.array([10, 20]), np.array([[0.6, 0.8]]))
    assert str(statistics.labels_to_reach(alone, 0.7)) == "15"


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30, 99, 1000])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_t_quantiles_are_those_of_scipy(freedom: int, confidence: float) -> None:
    from scipy import stats

    expected = stats.t.ppf((1 + confidence) / 2, freedom)
    assert statistics.t_quantile(confidence, freedom) == pytest.approx(expected, rel=1e-10)


def test_paired_differences_are_those_of_a_paired_t_test() -> None:
    from scipy import stats

    ours, theirs = np.array([0.80, 0.82, 0.79, 0.85, 0.81]), np.array([0.78, 0.83, 0.75, 0.80, 0.80])
    found = statistics.paired_difference(ours, theirs)
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.mean == pytest.approx(0.022)
    assert found.error == pytest.approx(np.std(ours - theirs, ddof=1) / math.sqrt(5))
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert (found.n_better, found.n_seeds) == (4, 5)
    one = statistics.paired_difference(ours[:1], theirs[:1])
    assert one.mean == pytest.approx(0.02)
    assert all(map(math.isnan, (one.error, one.low, one.high)))


def test_the_tables_hold_these_numbers() -> None:
    run = made_up_run(("slow", "fast", "middle"), seeds=(1, 10), rounds=2)
    accuracy = {
        "slow": [[0.5, 0.5, 0.7], [0.6, 0.6, 0.6]],
        "fast": [[0.5, 0.8, 0.9], [0.6, 0.8, 0.8]],
        "middle": [[0.5, 0.7, 0.8], [0.6, 0.7, 0.7]],
    }
    run.results.columns["accuracy"][:] = np.array([accuracy[name] for name in run.strategies]).ravel()
    assert run.compared == ("fast", "middle", "slow")
    areas = tables.areas_table(run, "slow")
    assert [row[0] for row in areas.rows] == ["fast", "middle", "slow"]
    # fast: (0.65 + 0.85) / 2 and (0.7 + 0.8) / 2; slow: 0.55 and 0.6
    assert [row[1] for row in areas.rows] == ["75.0 ± 0.0", "67.5 ± 0.0", "57.5 ± 2.5"]
    assert [row[4] for row in areas.rows] == ["85.0 ± 5.0", "75.0 ± 5.0", "65.0 ± 5.0"]
    assert areas.marked == "slow"
    differences = tables.differences_table(run, "slow")
    # 0.20 and 0.15 over slow: 17.5 ± 2.5, and t(0.95, 1) = 12.706
    assert differences.rows[0] == ("fast", "+17.50 ± 2.50", "-14.27 to +49.27", "2 of 2", "+20.00 ± 0.00")
    assert tables.labels_table(run, "slow", (0.7, 0.86)).rows == [
        ("fast", "16 ± 1", "> 28 (1 of 2)"),  # 16.67 and 15; 26 and never
        ("middle", "20 ± 0", "not reached"),
        ("slow", "> 30 (1 of 2)", "not reached"),
    ]
    assert tables.rounds_table(run, "slow").rows[0] == ("fast", "55.0", "80.0", "85.0")
    # select ran in two rounds of three: 0.02, 0.04 and 0.06 s
    seconds = tables.seconds_table(run, "slow")
    assert seconds.rows[0] == ("slow", "0.200", "0.010", "0.050", "0.020", "0.280")
    assert str(seconds).splitlines()[-1].split() == ["middle", "0.200", "0.010", "0.050", "0.060", "0.320"]


# --- unfinished runs ------------------------------------------------------------------------------


def test_complete_contenders_are_compared_and_the_others_named() -> None:
    last = {("a", 1): 4, ("a", 10): 4, ("a", 100): 1, ("b", 1): 4, ("b", 10): 4, ("b", 100): 4, ("c", 1): 2}
    grid: Any = (("a", "b", "c", "d"), (1, 10, 100), 4)
    whole = made_up_run(*grid, n_pool=60)
    run = made_up_run(*grid, n_pool=60, keep=lambda strategy, seed, r: r <= last.get((strategy, seed), -1))
    assert run.started == ("a", "b", "c")
    assert run.shown_seeds("a") == (1, 10)
    assert run.shown_seeds("c") == (1,)
    assert run.curve("c").n_labels.tolist() == [10, 20, 30]
    assert run.horizon == 4
    assert sorted(run.compared) == ["a", "b"]
    pair = statistics.difference_to(run, "b", "a")
    assert pair is not None
    assert pair.n_seeds == 2
    expected = whole.curve("b").area[:2] - whole.curve("a").area[:2]
    assert pair.mean == pytest.approx(expected.mean())
    _, unfinished = report._facts(run)
    assert "The run is not finished: 30 of 60 rounds are there." in unfinished
    assert "Not far enough to be compared: c. Not begun: d." in unfinished
    assert len(report._facts(whole)) == 1


def test_before_anything_is_complete_all_are_compared_as_far_as_they_have_come() -> None:
    last = {("a", 1): 3, ("b", 1): 2, ("b", 10): 1}
    run = made_up_run(
        ("a", "b"), (1, 10), 4, n_pool=60, keep=lambda strategy, seed, r: r <= last.get((strategy, seed), -1)
    )
    assert run.horizon == 1
    assert sorted(run.compared) == ["a", "b"]
    assert run.curve("a").n_labels.size == 4
    assert run.compared_curve("a").n_labels.tolist() == [10, 20]
    assert run.shown_seeds("b") == (1, 10)
    assert "9 of 20 rounds are there. Comparisons are over the rounds 0 to 1" in report._facts(run)[1]


# --- the targets ----------------------------------------------------------------------------------


def run_of(curves: dict[str, list[float]]) -> Run:
    """A run of one seed with these accuracies."""
    run = made_up_run(tuple(curves), seeds=(1,), rounds=len(next(iter(curves.values()))) - 1, n_pool=60)
    run.results.columns["accuracy"][:] = np.concatenate(list(curves.values()))
    return run


@pytest.mark.parametrize(
    ("curves", "expected"),
    [
        ({"a": [0.45, 0.8, 0.95], "b": [0.42, 0.7, 0.91]}, [0.7, 0.8, 0.9]),
        ({"a": [0.78, 0.9, 0.96]}, [0.85, 0.9, 0.95]),
        ({"a": [0.1, 0.4, 0.62], "b": [0.1, 0.3, 0.5], "c": [0.1, 0.2, 0.2]}, [0.3, 0.4, 0.5]),  # two of three reach
        ({"a": [0.9, 0.905, 0.9132]}, [0.908, 0.91, 0.912]),
        ({"a": [0.5, 0.5004]}, []),
        ({"a": [0.9, 0.8]}, []),
        ({"a": [0.5]}, []),
        ({"a": [math.nan, math.nan]}, []),
        ({"a": [math.nan, 0.35]}, [0.1, 0.2, 0.3]),
        ({"a": [0.95, 0.98, 1.0]}, [0.96, 0.98, 1.0]),
    ],
)
def test_targets_are_round_and_lie_where_the_curves_rise(curves: dict[str, list[float]], expected: list[float]) -> None:
    assert statistics.chosen_targets(run_of(curves)) == pytest.approx(expected)


def test_of_a_long_enumeration_the_first_and_the_last_are_told() -> None:
    assert statistics.told(["a", "b"]) == "a; b"
    assert statistics.told(list("abcdefgh"), 4) == "a; b; 5 others between; h"


def test_strategies_without_a_seed_in_common_are_not_subtracted() -> None:
    run = made_up_run(
        ("a", "b"), (1, 10), 1, n_pool=60, keep=lambda strategy, seed, r: (strategy, seed) in {("a", 1), ("b", 10)}
    )
    assert statistics.difference_to(run, "b", "a") is None
    assert tables.differences_table(run, "a").rows == [("b", "no seed in common", "", "", "")]
    picture(figures.pictures(run, "a", (0.8,)), "paired_differences")


# --- the pictures ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole() -> Run:
    return made_up_run()


def picture(found: list[Picture], name: str) -> Picture:
    return next(one for one in found if one.name == name)


@pytest.fixture(scope="module")
def drawn(whole: Run) -> list[Picture]:
    return figures.pictures(whole, "random", (0.8, 0.96))


def test_every_strategy_has_a_look_of_its_own_and_the_baseline_is_black(whole: Run, drawn: Any) -> None:
    (axes,) = picture(drawn, "curves_accuracy").draw(WIDE).axes
    lines = axes.get_lines()
    assert len(lines) == 17
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == 17
    black = [line for line in lines if line.get_color() == "#000000"]
    assert len(black) == 1
    np.testing.assert_allclose(black[0].get_ydata(), 100 * whole.curve("random").mean)
    assert black[0].get_linewidth() == max(line.get_linewidth() for line in lines)
    assert sorted(text.get_text() for text in axes.texts) == sorted(STRATEGIES)
    assert len(axes.collections) == 2  # bands of the baseline and the best alone


def test_names_beside_the_curves_do_not_cover_each_other(drawn: Any) -> None:
    figure = picture(drawn, "curves_accuracy").draw(WIDE)
    FigureCanvasAgg(figure).draw()
    # Without the lines that lead to them, which an annotation's own extent counts in.
    boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(upper.y0 > lower.y0 + 0.8 * lower.height for lower, upper in pairwise(boxes))
    assert boxes[0].y0 >= 0
    assert boxes[-1].y1 <= figure.bbox.y1


def test_spread_keeps_the_order_and_moves_as_little_as_it_can() -> None:
    np.testing.assert_allclose(curve_figures._spread(np.array([0.9, 0.1, 0.5]), 0.1), [0.9, 0.1, 0.5])
    np.testing.assert_allclose(curve_figures._spread(np.array([0.5, 0.5, 0.5]), 0.1), [0.4, 0.5, 0.6])
    np.testing.assert_allclose(curve_figures._spread(np.array([1.0, 0.99, 0.2]), 0.1), [1.0, 0.9, 0.2])


def test_bars_are_the_labels_of_the_table(whole: Run, drawn: Any) -> None:
    at_80, at_96 = picture(drawn, "labels_to_reach").draw(WIDE).axes
    curves = [whole.compared_curve(strategy) for strategy in whole.compared]
    np.testing.assert_allclose(
        [bar.get_width() for bar in at_80.patches], [statistics.labels_to_reach(c, 0.8).mean for c in curves]
    )
    reached = [statistics.labels_to_reach(c, 0.96) for c in curves]
    assert [bool(bar.get_hatch()) for bar in at_96.patches] == [r.n_reached < 5 for r in reached if r.n_reached]
    assert [text.get_text() for text in at_96.texts].count("not reached") == sum(r.n_reached == 0 for r in reached)
    assert any(r.n_reached == 0 for r in reached)


def test_diagnostics_are_those_of_ccma_with_a_t_interval_around_the_coverage(whole: Run, drawn: Any) -> None:
    panels = {axes.get_title(loc="left"): axes for axes in picture(drawn, "diagnostics").draw(WIDE).axes}
    coverage = panels["empirical coverage (%)"]
    curve = whole.curve("ccma", "student_coverage")
    np.testing.assert_allclose(coverage.get_lines()[0].get_ydata(), 100 * curve.mean)
    band = coverage.collections[0].get_paths()[0].vertices[:, 1]
    reach = 2.776445105 * curve.standard_error
    assert (curve.mean + reach).max() > 1
    assert band.max() == pytest.approx(100)  # no share exceeds 1
    assert band.min() == pytest.approx(100 * (curve.mean - reach).min())
    assert len(panels["mean set size (classes)"].get_lines()) == 2


def test_kappa_is_drawn_where_strategies_differ_in_nothing_else(whole: Run, drawn: Any) -> None:
    assert kappa_groups(whole) == [["ccma:kappa=5", "ccma", "ccma:kappa=50"]]
    line = picture(drawn, "kappa").draw(WIDE).axes[0].get_lines()[0]
    np.testing.assert_allclose(line.get_xdata().astype(float), [5, 20, 50])
    means = [100 * whole.curve(name).area.mean() for name in ("ccma:kappa=5", "ccma", "ccma:kappa=50")]
    np.testing.assert_allclose(line.get_ydata(), means)
    record = copy.deepcopy(whole.results.record)
    record["contenders"]["ccma:kappa=50"]["config"]["alpha"] = 0.2
    changed = replace(whole, results=replace(whole.results, record=record))
    assert kappa_groups(changed) == [["ccma:kappa=5", "ccma"]]
    assert kappa_groups(made_up_run(("ccma", "random"), (1,), 1)) == []


def test_seconds_are_stacked(whole: Run, drawn: Any) -> None:
    (axes,) = picture(drawn, "seconds").draw(WIDE).axes
    assert len(axes.patches) == 17 * 4
    longest = max(bar.get_x() + bar.get_width() for bar in axes.patches)
    assert longest == pytest.approx(sum(statistics.seconds_per_round(whole, "uncertainty-herding").values()))


def test_the_map_shows_the_picks_of_two_strategies(whole: Run, drawn: Any) -> None:
    axes = picture(drawn, "map").draw(WIDE).axes
    assert [one.get_title(loc="left") for one in axes[1:3]] == ["picks of random", f"picks of {whole.compared[0]}"]
    picks = whole.results.picks
    own = (picks["strategy"] == "random") & (picks["seed"] == 1)
    points = axes[1].collections[1]
    np.testing.assert_array_equal(points.get_array(), picks["round"][own])
    assert whole.pool_map is not None
    np.testing.assert_allclose(points.get_offsets(), whole.pool_map["coordinates"][picks["row"][own]])


def test_the_map_calls_classes_by_their_names(tmp_path: Path) -> None:
    run = made_up_run(("ccma", "random"), seeds=(1,), rounds=1, n_pool=400)
    assert run.pool_map is not None
    n_classes = np.unique(run.pool_map["classes"]).size
    names = ["_hidden", "$x$", "a name that is as long as a sentence", *map("class {}".format, range(3, n_classes))]
    run.results.record["data"]["class_names"] = names
    for layout in (WIDE, NARROW):
        legend = picture(figures.pictures(run, "ccma", (0.8,)), "map").draw(layout).axes[0].get_legend()
        texts = [text.get_text().strip() for text in legend.get_texts()]
        assert len(texts) == n_classes
        assert texts[0] == "_hidden"
        assert texts[3:] == names[3:]
        assert all(len(text) <= 15 for text in texts)


def test_bands_end_at_0_and_100_percent() -> None:
    run = made_up_run(("a",), seeds=(1, 2, 3), rounds=1, n_pool=60)
    for metric in ("accuracy", "macro_f1"):  # means less and plus a standard error: -0.03 and 1.01
        run.results.columns[metric][:] = [0.0, 1.0, 0.0, 1.0, 0.1, 0.9]
    assert (run.curve("a").mean + run.curve("a").standard_error).max() > 0.99
    found = figures.pictures(run, "a", ())
    for one in (picture(found, "curves_accuracy"), picture(found, "curves_macro_f1")):
        (band,) = one.draw(NARROW).axes[0].collections
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() >= 0
        assert heights.max() <= 100
    assert "labels_to_reach" not in [one.name for one in found]


def test_long_names_stay_apart_and_short() -> None:
    names = [f"uncertainty-herding:kappa={kappa},start=typiclust" for kappa in (5, 50, 200)]
    assert shown_names(names)[names[0]] == "uncertainty-herding:kappa=5,\nstart=typiclust"
    for columns, lines in ((28, 2), (48, 1), (18, 3), (12, 1)):
        shown = shown_names(names, columns, lines)
        assert len(set(shown.values())) == 3
        for text in shown.values():
            assert text.count("\n") < lines
            assert max(len(line.partition(" #")[0]) for line in text.split("\n")) <= columns
    assert shown_names(["a$b", "x\ny"]) == {"a$b": r"a\$b", "x\ny": "x y"}


@pytest.mark.parametrize("layout", [pytest.param(WIDE, marks=pytest.mark.slow), NARROW], ids=["wide", "narrow"])
def test_nothing_is_drawn_outside_a_figure(layout: Layout) -> None:
    names = tuple(f"uncertainty-herding:kappa={k},start={s}" for k in (5, 50, 200) for s in ("typiclust", "random"))
    run = made_up_run(names[:3], seeds=(1, 10), rounds=2, n_pool=100)
    for one in figures.pictures(run, names[0], (0.5, 0.6)):
        if one.name in ALIKE:
            continue
        figure = one.draw(layout)
        assert figure.get_size_inches()[0] == layout.width
        FigureCanvasAgg(figure).draw()
        for text in figure.findobj(Text):
            box = Text.get_window_extent(text)
            if text.get_visible() and text.get_text() and text.axes is not None and text.axes.get_visible():
                assert box.x0 >= figure.bbox.x0 - 1, (one.name, text.get_text())
                assert box.x1 <= figure.bbox.x1 + 1, (one.name, text.get_text())


# --- the page -------------------------------------------------------------------------------------


class Drawing(HTMLParser):
    """The ``svg`` elements of a page: their layouts, titles, descriptions, texts and ids, and all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[dict[str, Any]] = []
        self.layout, self.tag = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.tag = tag
        if tag == "div" and given.get("class") in ("wide", "narrow"):
            self.layout = given["class"]
        if tag == "svg":
            self.found.append({"layout": self.layout, "title": "", "desc": "", "text": [], "attributes": [], **given})
        if self.found:
            self.found[-1]["attributes"] += list(given.items())

    def handle_endtag(self, tag: str) -> None:
        self.tag = ""

    def handle_data(self, data: str) -> None:
        if self.found and self.tag in ("title", "desc"):
            self.found[-1][self.tag] += data
        elif self.found and self.tag == "text":
            self.found[-1]["text"].append(data)


@dataclass(frozen=True)
class Written:
    """A report with every picture: its run, its directory, the text that was returned, and its page."""

    run: Run
    directory: Path
    text: str

    @property
    def html(self) -> str:
        return (self.directory / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    run = made_up_run(("ccma", "ccma:kappa=5", "random", "margins"), seeds=(1, 10), rounds=3, n_pool=200)
    directory = tmp_path_factory.mktemp("written") / "out"
    settings = dict(matplotlib.rcParams)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(report, "open_run", lambda folder: run)
        text = report.write_report("run", directory)
    assert dict(matplotlib.rcParams) == settings
    return Written(run, directory, text)


def test_charts_are_text_in_two_layouts_and_say_what_they_show(written: Written) -> None:
    run, html = written.run, written.html
    drawings = Drawing(html).found
    assert [one["layout"] for one in drawings] == ["wide", "narrow"] * (len(drawings) // 2)
    for one in drawings:
        assert one["role"] == "img"
        assert int(one["width"]) <= (912 if one["layout"] == "wide" else 346)
        assert one["title"]
        assert re.search(r"\d", one["desc"])
    assert {"ccma", "random", "margins", "labels"} <= set(drawings[0]["text"])
    assert {"ccma", "random", "margins", "labels"} <= set(drawings[1]["text"])
    curve = run.curve("margins")
    told = f"margins from {100 * curve.mean[0]:.1f} % to {100 * curve.mean[-1]:.1f} %"
    assert told in drawings[0]["desc"]
    assert drawings[0]["desc"] == drawings[1]["desc"]
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    for one in drawings:
        for name, value in one["attributes"]:
            assert name not in ("style", "fill", "stroke"), "colours are the page's, by class"
            assert not name.startswith("on")
            if name in ("aria-labelledby", "aria-describedby"):
                assert value in ids
            if name == "href":
                assert value.startswith("data:image/png;base64,") or value[1:] in ids
            if "url(" in value:
                assert re.fullmatch(r"url\(#(.+)\)", value)[1] in ids  # type: ignore[index]


def test_the_page_has_a_policy_that_its_own_style_meets_and_a_dark_mode(written: Written) -> None:
    html = written.html
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}';" in policy
    assert "script-src" not in policy
    assert not re.search(r"\sstyle=", html)
    assert "@media screen and (prefers-color-scheme: dark)" in style
    used = set(re.findall(r"var\(--([a-z]+)\)", style))
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for name in used:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark
    for table in re.findall(r"<table>.*?</table>", html, re.DOTALL):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert 'scope="row"' in table


@pytest.mark.usefixtures("without_files")
def test_many_picks_are_pixels_and_many_classes_have_no_legend(
    write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "map")
    run = made_up_run(("ccma", "random"), seeds=(1,), rounds=2, budget=1500, n_pool=4000, teacher=False)
    assert run.pool_map is not None
    write(replace(run, pool_map={**run.pool_map, "classes": np.arange(4000) % 1000}))
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert len(html) < 2_000_000
    on_map = next(one for one in Drawing(html).found if one["aria-labelledby"] == "map-wide-title")
    assert len(on_map["attributes"]) < 1000
    assert "1000 classes, looks repeat" in on_map["text"]
    assert "3010 picks of random" in on_map["desc"]


def test_a_whole_report(written: Written) -> None:
    whole, text, html = written.run, written.text, written.html
    names = {path.stem for path in written.directory.glob("*.png")}
    assert names == {
        "curves_accuracy",
        "curves_macro_auroc",
        "curves_macro_f1",
        "curves_side_by_side",
        "paired_differences",
        "labels_to_reach",
        "diagnostics",
        "kappa",
        "seconds",
        "map",
    }
    for name in names:
        with Image.open(written.directory / f"{name}.png") as image:
            assert image.format == "PNG"
            assert image.width == 9.5 * 130  # inches, dots
            assert image.height > 250
            assert len(np.unique(np.asarray(image.convert("L")))) > 50  # not blank
    assert sorted(os.listdir(written.directory)) == sorted([*(f"{name}.png" for name in names), "report.html"])

    page = Page(html)
    assert page.tags.count("svg") == 2 * len(names)  # wide and narrow
    assert not {"img", "script"} & set(page.tags)
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"url\((?!#)|@import|https?://", html)
    anchors = {link[1:] for link in page.links if link.startswith("#")}
    assert all(f'id="{anchor}"' in html for anchor in anchors)
    targets = " ".join(f"{100 * target:g}" for target in statistics.chosen_targets(whole))
    for fact in ("0" * 64, f"ccma-fast report run --baseline ccma --targets {targets} --out", np.__version__):
        assert fact in page.text
    # Constants once, and what the contenders change of them.
    assert "ccma:kappa=5.config.kappa5" in page.text
    assert "random.configas in the arguments" in page.text
    assert page.text.count("kmeans_tol") == 1
    # The same numbers on the page and on the terminal.
    for table in (tables.areas_table(whole, "ccma"), tables.differences_table(whole, "ccma")):
        assert str(table) in text
        assert all(cell in page.text for row in table.rows for cell in row)
    assert "not finished" not in text


HOSTILE = ('<script>alert("x")</script>', "_hidden a&amp;b {curly}'\"", "$\\frac{1}$", "x" * 300, "é漢\n\t\x00字")


def test_hostile_names_are_text(write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)
    png, numbers = report._png, count()
    monkeypatch.setattr(report, "_png", lambda *given: png(*given) if next(numbers) == 0 else b"a picture")  # in a file
    run = made_up_run(HOSTILE, seeds=(1, 10), rounds=1, n_pool=60)
    run.results.record["<b>"] = {"<i>": "</pre><script>"}
    write(replace(run, pool_map=None), baseline=HOSTILE[0])
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not {"script", "b", "i"} & set(page.tags)
    for name in HOSTILE:
        if "\x00" not in name:
            assert name in page.text
    assert "</pre><script>" in page.text


def test_one_seed_has_no_errors_and_no_teacher_no_panel() -> None:
    run = made_up_run(("ccma", "random"), seeds=(1,), rounds=2, teacher=False, n_pool=60)
    assert "One seed only" in report._facts(run)[1]
    for table in (tables.areas_table(run, "ccma"), tables.differences_table(run, "ccma")):
        cells = " ".join(cell for row in table.rows for cell in row)
        assert "±" not in cells
        assert "nan" not in cells
    found = figures.pictures(run, "ccma", (0.8,))
    panels = picture(found, "diagnostics").draw(WIDE).axes
    titles = [axes.get_title(loc="left") for axes in panels if axes.get_visible()]
    assert titles == ["mean set size (classes)", "empirical coverage (%)", "threshold q (nats)"]
    assert "teacher" not in picture(found, "diagnostics").caption
    lines = [len(axes.get_lines()) for axes in panels if axes.get_visible()]
    assert lines == [1, 2, 1], "the coverage asked for is a line of its own"
    for one in found:
        assert "standard error" not in one.caption
        assert "interval" not in one.caption


def test_the_least_run_there_can_be(write: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch)
    run = made_up_run(("random",), seeds=(1,), rounds=0, teacher=False, n_pool=30)
    empty = {name: column[:0] for name, column in run.results.timings.items()}
    text = write(Run(replace(run.results, timings=empty), None))
    assert "Paired differences" not in text
    assert "Seconds per round" not in text
    assert not (tmp_path / "out" / "map.png").exists()
    assert not (tmp_path / "out" / "labels_to_reach.png").exists()  # no curve rises


# --- the program ----------------------------------------------------------------------------------


def write_folder(path: Path, run: Run, *, finished: bool) -> None:
    """The folder that simulate leaves of a run."""
    folder = RunFolder(path)
    results, columns = run.results, run.results.columns
    with folder.locked():
        folder.begin(results.record)
        for strategy in results.strategies:
            for seed in results.seeds:
                records = []
                for at in np.flatnonzero((columns["strategy"] == strategy) & (columns["seed"] == seed)):
                    r = columns["round"][at]

                    def own(table: Any, r: int = r, strategy: str = strategy, seed: int = seed) -> Any:
                        return (table["strategy"] == strategy) & (table["seed"] == seed) & (table["round"] == r)

                    timings = results.timings
                    seconds = zip(timings["stage"][own(timings)], timings["seconds"][own(timings)], strict=True)
                    records.append(
                        RoundRecord(
                            results.picks["row"][own(results.picks)].tolist(),
                            {name: float(columns[name][at]) for name in METRICS},
                            {str(stage): float(value) for stage, value in seconds},
                        )
                    )
                if records:
                    folder.write_rounds(strategy, seed, records)
        if finished:
            assert run.pool_map is not None
            folder.write_results(results, run.pool_map)


def test_the_program_reports_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_only(monkeypatch, "curves_accuracy", "map")
    monkeypatch.chdir(tmp_path)
    run = made_up_run(("ccma", "random"), (1, 10), 2, teacher=False, n_pool=60)
    write_folder(Path("run"), run, finished=True)
    before = sorted(os.listdir("run"))
    assert main(["report", "run", "--baseline", "random", "--targets", "50", "97.5"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Everything on one page: run/report.html" in out
    assert str(tables.differences_table(run, "random")) in out
    assert str(tables.labels_table(run, "random", (0.5, 0.975))) in out
    new = set(os.listdir("run")) - set(before)
    assert {"report.html", "map.png", "curves_accuracy.png"} <= new
    assert not [name for name in new if name.startswith(".")]
    page = Page(Path("run/report.html").read_text(encoding="utf-8"))
    assert "ccma-fast report run --baseline random --targets 50 97.5" in page.text
    assert "nan" not in page.text.lower()


def test_an_unfinished_folder_is_read_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_only(monkeypatch, "map")
    monkeypatch.chdir(tmp_path)
    run = made_up_run(("ccma", "random"), (1,), 2, n_pool=60, keep=lambda strategy, seed, r: strategy == "ccma")
    write_folder(Path("run"), run, finished=False)
    before = sorted(os.listdir("run"))
    with RunFolder("run").locked():
        assert main(["report", "run", "--out", "pictures"]) == 0
    assert "The run is not finished: 3 of 6 rounds are there." in " ".join(capsys.readouterr().out.split())
    assert sorted(os.listdir("run")) == before
    assert "map.png" not in os.listdir("pictures")
    assert "Not begun: random." in Page(Path("pictures/report.html").read_text(encoding="utf-8")).text


# --- files of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("leads_to", ["kept", "nowhere"])
def test_a_link_in_the_place_of_a_report_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, leads_to: str
) -> None:
    monkeypatch.setattr(report, "_drawings", lambda picture, styles: (b"a picture", {}))
    write_folder(tmp_path / "run", made_up_run(("ccma", "random"), (1, 10), 1, n_pool=60), finished=True)
    (tmp_path / "kept").write_bytes(report.GENERATOR.encode())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").symlink_to(tmp_path / leads_to)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    assert "report.html': it is a symbolic link to " in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["report.html"]
    assert sorted(os.listdir(tmp_path)) == ["kept", "out", "run"]


@pytest.mark.parametrize(
    ("name", "content"), [("report.html", b"somebody's"), ("map.png", b"\x89PNG\r\n\x1a\n of somebody")]
)
def test_a_file_of_somebody_is_not_replaced(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes,
) -> None:
    monkeypatch.setattr(report, "_drawings", lambda picture, styles: (b"a picture", {}))  # drawing takes seconds
    write_folder(tmp_path / "run", made_up_run(("ccma", "random"), (1, 10), 1, n_pool=60), finished=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_bytes(content)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{name}' is there and no report of ccma_fast wrote it; expected another directory" in err
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {name: content}


def test_a_report_replaces_its_own_files_and_leaves_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_only(monkeypatch, "curves_accuracy")
    run = made_up_run(("ccma", "random"), (1, 10), 1, n_pool=60)
    write_folder(tmp_path / "run", run, finished=True)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    report.write_report(tmp_path / "run")
    first = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    report.write_report(tmp_path / "run", baseline="random")
    again = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir() if file.is_file()}
    assert first.keys() == again.keys()
    assert first["notes.txt"] == again["notes.txt"] == b"mine"
    assert first["report.html"] != again["report.html"]
    assert first["curves_accuracy.png"] != again["curves_accuracy.png"]
    with Image.open(tmp_path / "run" / "curves_accuracy.png") as picture:
        assert picture.info["Software"] == "ccma_fast report"


def test_a_directory_in_the_place_of_a_picture_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "_drawings", lambda picture, styles: (b"a picture", {}))
    write_folder(tmp_path / "run", made_up_run(("ccma", "random"), (1, 10), 1, n_pool=60), finished=True)
    (tmp_path / "out" / "map.png").mkdir(parents=True)
    with pytest.raises(IsADirectoryError, match=r"map\.png': it is a directory"):
        report.write_report(tmp_path / "run", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["map.png"]


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"baseline": "rnd"}, ValueError, "baseline must be one of 'ccma', 'random', got 'rnd'"),
        ({"targets": ()}, ValueError, "targets must be at least one accuracy"),
        ({"targets": (0.8, 1.1)}, ValueError, r"targets must be at least one accuracy in \(0, 1\]"),
        ({"targets": (0.0,)}, ValueError, "targets must be greater than 0"),
        ({"targets": ("80",)}, TypeError, "targets must be a number, got str"),
    ],
)
def test_mistakes_write_nothing(
    write: Callable[..., str], tmp_path: Path, options: Any, error: type[Exception], message: str
) -> None:
    run = made_up_run(("ccma", "random"), seeds=(1,), rounds=1, n_pool=60)
    with pytest.raises(error, match=message):
        write(run, **options)
    assert os.listdir(tmp_path) == []


def test_a_run_without_a_finished_round_is_refused(write: Callable[..., str], tmp_path: Path) -> None:
    run = made_up_run(("ccma",), (1,), 1, n_pool=60, keep=lambda strategy, seed, r: False)
    with pytest.raises(ValueError, match="without a finished round"):
        write(run)
    assert os.listdir(tmp_path) == []


def test_without_matplotlib_the_report_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("ccma-fast report: error: the report needs matplotlib (")
    assert "pip install 'ccma-fast[plot]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no run in 'nothing'"),
        (("empty",), "no run in 'empty'"),
        (("file",), "'file'"),
        (("broken",), "cannot read 'broken/run.json'"),
        (("run", "--baseline", "margins"), "baseline must be one of 'ccma', 'random', got 'margins'"),
        (("run", "--targets", "0"), "argument --targets: must be finite and greater than 0, got 0"),
        (("run", "--targets", "80", "101"), "argument --targets: must be at most 100, got 101"),
        (("run", "--targets", "high"), "argument --targets: must be a number, got 'high'"),
        (("run", "--out", "file"), "cannot write into 'file'"),
        ((), "the following arguments are required: RUN"),
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
    Path("empty").mkdir()
    Path("broken").mkdir()
    Path("broken/run.json").write_text("{")
    write_folder(Path("run"), made_up_run(("ccma", "random"), (1,), 1, n_pool=60), finished=True)
    before = sorted(str(path) for path in Path().rglob("*"))
    assert main(["report", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ccma-fast report: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert sorted(str(path) for path in Path().rglob("*")) == before


def test_ctrl_c_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> Any:
        raise KeyboardInterrupt

    write_folder(tmp_path / "run", made_up_run(("ccma",), (1,), 1, n_pool=60), finished=True)
    monkeypatch.setattr(report, "_drawings", interrupted)
    assert main(["report", str(tmp_path / "run"), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "ccma-fast report: interrupted\n"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("without_files")
def test_a_report_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_only(monkeypatch, "map")
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = (2 * np.eye(3, 8)[y] + rng.standard_normal((120, 8))).astype(np.float32)
    given = {"test_features": x[80:], "test_labels": y[80:], "strategies": ["random", "margins"], "seeds": [1, 2]}
    results = cf.simulate(x[:80], y[:80], rounds=2, progress=False, out=tmp_path / "run", **given)
    tables = results.write_report(tmp_path / "report", baseline="random", targets=[0.7])
    assert tables == report.write_report(tmp_path / "run", tmp_path / "other", baseline="random", targets=[0.7])
    names = {file.name for file in (tmp_path / "report").iterdir()}
    assert names == {file.name for file in (tmp_path / "other").iterdir()} >= {"report.html", "map.png"}
    assert "Results.write_report" in (tmp_path / "report" / "report.html").read_text()
    again = cf.simulate(x[:80], y[:80], rounds=2, progress=False, out=tmp_path / "run", **given)
    np.testing.assert_array_equal(again.pool_map["rows"], results.pool_map["rows"])
    kept_nowhere = cf.simulate(x[:80], y[:80], rounds=2, progress=False, **given)
    assert kept_nowhere.pool_map is None
    kept_nowhere.write_report(tmp_path / "without")
    assert not (tmp_path / "without" / "map.png").exists()
    with pytest.raises(ValueError, match="baseline must be one of"):
        results.write_report(tmp_path / "report", baseline="entropy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("mine")
    with pytest.raises(FileExistsError, match="no report of ccma_fast wrote it"):
        results.write_report(tmp_path / "mine")
