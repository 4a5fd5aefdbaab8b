"""Memory that does not grow with the pool, and the forecast: what a query takes, said before it runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.backends.choose import choose_backend
from ccma_fast.pool.open import open_rows
from ccma_fast.steps.representatives import representatives

# Runs one query in a process of its own and prints what it took beside what was expected.
SCRIPT = """
import json, resource, sys
import numpy as np, torch
import ccma_fast as cf
from ccma_fast.system import mapped_pages
folder, stored, limit, asked = sys.argv[1], sys.argv[2], sys.argv[3] or None, json.loads(sys.argv[4])
if limit:
    # Scattered rows keep up to 128 MiB of any file: a constant, and more than these pools have.
    mapped_pages._MOST_PAGES = 8
def opened(name):
    if stored == "memory":
        return np.load(f"{folder}/{name}.npy")
    return f"{folder}/{name}" if stored == "folder" else f"{folder}/{name}.npy"
x = opened("x")
teacher = cf.Teacher(opened("v"), f"{folder}/t.npy") if asked["teacher"] else None
labels = np.load(f"{folder}/y.npy") if asked["labels"] else None
if asked["labels"] == "one class":
    labels[labels != 1] = -1
given = np.load(f"{folder}/z.npy", mmap_mode="r") if asked["logits"] else None
n_rows = len(np.load(f"{folder}/y.npy"))
masks = {name: np.arange(start, n_rows, step) for name, (start, step) in asked["masks"].items()}
cf.select(np.eye(8, dtype=np.float32), 2)  # what the code takes that every query runs is no query's
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak of before, within which a query's own could only be sampled
except OSError:
    pass
picks = cf.select(
    x,
    asked["budget"],
    labels=labels,
    teacher=teacher,
    student_logits=given,
    memory_limit=limit,
    config=cf.CCMAConfig(**asked["config"]),
    **masks,
    **asked["limits"],
)
rose = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
report = picks.report
print(json.dumps({"rose": rose, "report": report.to_dict(), "read": report.bytes_read, "peak": report.peak_memory}))
"""

QUICK = {"kmeans_max_iter": 3, "kmeans_tol": 0.0, "student_kappa": 20}
TRUST = {**QUICK, "acquisition": "trust", "head": "published", "max_epochs": 10}
PUBLISHED = {**TRUST, "acquisition": "delta", "calibration": "target_size"}
C = 200

# What the allocator and the system's cache may make of any query.
SMALL = 15e6


def make_pool(
    folder, n, d_student=256, d_teacher=320, n_classes=C, n_labelled=None, dtype=np.float16, logits=True, shards=True
):
    """A pool on disk, in files and shards, with logits where asked; every 100th row labelled, or as many as given."""
    rng = np.random.default_rng(0)
    truth = rng.integers(n_classes, size=n)
    for name, d in (("x", d_student), ("v", d_teacher), ("z", None))[: 3 if logits else 2]:
        centres = 3 * np.eye(n_classes) if d is None else rng.standard_normal((n_classes, d), dtype=np.float32)
        noise = rng.standard_normal((min(n, 25_000), centres.shape[1]), dtype=np.float32)  # the same in every part
        (folder / name).mkdir()
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (n, centres.shape[1]))
        for i, start in enumerate(range(0, n, 25_000)):
            part = truth[start : start + 25_000]
            file[start : start + 25_000] = centres[part] + noise[: part.size]
            if shards:
                np.save(folder / name / f"part-{i}.npy", file[start : start + 25_000])
        if name == "v":
            np.save(folder / "t.npy", centres)
    every = 100 if n_labelled is None else n // n_labelled
    np.save(folder / "y.npy", np.where(np.arange(n) % every == 0, truth, -1))
    return folder


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """The folder of a pool."""
    return make_pool(tmp_path_factory.mktemp("pool"), 60_000)


@pytest.fixture(scope="module")
def large_pool(tmp_path_factory):
    """The folder of a pool of three times the rows."""
    return make_pool(tmp_path_factory.mktemp("large"), 180_000, logits=False, shards=False)


@pytest.fixture(scope="module")
def pool_of_few_classes(tmp_path_factory):
    """The folder of a pool of as many rows, whose default heads are soon trained."""
    return make_pool(tmp_path_factory.mktemp("few"), 60_000, n_classes=20, logits=False, shards=False)


@pytest.fixture(scope="module")
def small_pool(tmp_path_factory):
    """The folder of a pool whose heads are soon trained."""
    return make_pool(tmp_path_factory.mktemp("small"), 6_000, n_classes=20, logits=False, shards=False)


def measured(
    run_forked,
    folder,
    config,
    *,
    labels=True,
    teacher=True,
    logits=False,
    masks=None,
    limits=None,
    stored="file",
    limit="",
    budget=30,
):
    asked = {"config": config, "labels": labels, "teacher": teacher, "logits": logits, "budget": budget}
    asked |= {"masks": masks or {}, "limits": limits or {}}
    return json.loads(run_forked(SCRIPT, str(folder), stored, limit, json.dumps(asked)))


SHAPES = {
    "default": {"config": QUICK},
    "default, two folds": {"config": {**QUICK, "n_folds": 2}},
    "default, in memory": {"config": QUICK, "stored": "memory"},
    "default, a folder": {"config": QUICK, "stored": "folder"},
    "no teacher": {"config": QUICK, "teacher": False},
    "no teacher, a folder": {"config": QUICK, "teacher": False, "stored": "folder"},
    "ridge": {"config": {**QUICK, "head": "ridge"}},
    "trust": {"config": TRUST},
    "ready-made logits": {"config": QUICK, "logits": True},
    "published": {"config": PUBLISHED},
    "published, in memory": {"config": PUBLISHED, "stored": "memory"},
    "subpool": {"config": {**PUBLISHED, "subpool_size": 500, "subpool_max_iter": 2}},
    "masks": {"config": QUICK, "masks": {"pending": (3, 50), "exclude": (1, 3)}},
    "masks, trust": {"config": TRUST, "masks": {"pending": (3, 50), "exclude": (1, 3)}},
    "a tenth": {"config": QUICK, "masks": {"include": (5, 10)}},
    "a tenth, published": {"config": PUBLISHED, "masks": {"include": (5, 10)}},
    "a tenth by ready-made logits": {"config": TRUST, "logits": True, "masks": {"include": (5, 10)}},
    "a tenth first by the teacher": {"config": TRUST, "labels": False, "masks": {"include": (5, 10)}},
    "a tenth first by coverage": {
        "config": QUICK,
        "labels": False,
        "teacher": False,
        "masks": {"pending": (3, 50), "include": (5, 10)},
    },
    "apart": {"config": QUICK, "limits": {"min_distance": 0.3}},
    "apart, published": {"config": PUBLISHED, "limits": {"min_distance": 0.3}},
    "apart, first by coverage": {
        "config": QUICK,
        "labels": False,
        "teacher": False,
        "masks": {"pending": (3, 50)},
        "limits": {"min_distance": 0.3},
    },
    "distributed": {"config": QUICK, "limits": {"class_distribution": [1.0] * C}},
    "distributed, published": {"config": PUBLISHED, "limits": {"class_distribution": [1.0] * C}},
    "distributed, first": {"config": QUICK, "labels": False, "limits": {"class_distribution": [1.0] * C}},
    "first by the teacher": {"config": TRUST, "labels": False},
    "first by the teacher, a folder": {"config": TRUST, "labels": False, "stored": "folder"},
    "first by default": {"config": QUICK, "labels": False},
    "first by coverage": {"config": QUICK, "labels": False, "teacher": False},
    "first by coverage, in memory": {"config": QUICK, "labels": False, "teacher": False, "stored": "memory"},
    "one class by the teacher": {"config": TRUST, "labels": "one class"},
    "one class by default": {"config": QUICK, "labels": "one class"},
    "one class by coverage": {"config": QUICK, "labels": "one class", "teacher": False},
}

# Those whose stages are the ones of others, otherwise stored, labelled or limited; the default head takes the longest.
LIKE_OTHERS = {
    "default",
    "default, two folds",
    "distributed, published",
    "a tenth, published",
    "a tenth first by the teacher",
    "a tenth by ready-made logits",
    "apart, first by coverage",
    "one class by coverage",
    "published",
    "first by default",
    "default, in memory",
    "default, a folder",
    "masks",
    "a tenth",
    "apart",
    "distributed",
    "published, in memory",
    "first by the teacher, a folder",
    "first by coverage, in memory",
    "one class by the teacher",
    "one class by default",
}


@pytest.mark.parametrize(
    "shape", [pytest.param(shape, marks=pytest.mark.slow) if shape in LIKE_OTHERS else shape for shape in SHAPES]
)
def test_the_forecast_holds(pool, run_forked, shape):
    check_forecast(run_forked, pool, shape)


def test_the_forecast_of_the_default_head_holds(pool_of_few_classes, run_forked):
    check_forecast(run_forked, pool_of_few_classes, "default, two folds")


def check_forecast(run_forked, pool, shape):
    found = measured(run_forked, pool, **SHAPES[shape])
    expected = found["report"]["plan"]["total"]
    if expected["peak_memory"] != pytest.approx(found["peak"], rel=0.25, abs=SMALL):
        # On a busy machine threads that read ahead may not run beside those that compute, and the peak is lower.
        found = max(found, measured(run_forked, pool, **SHAPES[shape]), key=lambda run: run["peak"])
    print(f"planned {expected['peak_memory'] / 1e6:.0f} MB, measured {found['peak'] / 1e6:.0f} MB")
    assert expected["peak_memory"] == pytest.approx(found["peak"], rel=0.25, abs=SMALL)
    assert expected["bytes_read"] == pytest.approx(found["read"], rel=0.05)


# Whole queries, nothing cut short, of pools of other sizes.
PAPER = dataclasses.asdict(cf.CCMAConfig.paper())
WHOLE = {
    "default": {"config": {}},
    "default, in memory": {"config": {}, "stored": "memory"},
    "default, a folder": {"config": {}, "stored": "folder"},
    "no teacher": {"config": {}, "teacher": False},
    "ready-made logits": {"config": {}, "logits": True},
    "published": {"config": PAPER},
    "published, in memory": {"config": PAPER, "stored": "memory"},
    "first by the teacher": {"config": {"acquisition": "trust"}, "labels": False},
    "first by the teacher, in memory": {"config": {"acquisition": "trust"}, "labels": False, "stored": "memory"},
    "first by the teacher, a folder": {"config": {"acquisition": "trust"}, "labels": False, "stored": "folder"},
    "first by coverage": {"config": {}, "labels": False, "teacher": False},
    "first by coverage, in memory": {"config": {}, "labels": False, "teacher": False, "stored": "memory"},
    "first by coverage, a folder": {"config": {}, "labels": False, "teacher": False, "stored": "folder"},
    "one class by the teacher": {"config": {"acquisition": "trust"}, "labels": "one class"},
    "one class by coverage": {"config": {}, "labels": "one class", "teacher": False},
}
POOLS = {
    "64 columns": {"n": 300_000, "d_student": 64, "d_teacher": 64, "n_classes": 10, "dtype": np.float32},
    "768 columns": {"n": 300_000, "d_student": 768, "d_teacher": 768, "n_classes": 100},
    "1000 classes": {"n": 300_000, "d_student": 768, "d_teacher": 768, "n_classes": 1000},
    "few labels": {"n": 300_000, "d_student": 768, "d_teacher": 512, "n_classes": 100, "n_labelled": 200},
    "small": {"n": 30_000, "d_student": 768, "d_teacher": 768, "n_classes": 100},
    "a million": {"n": 1_000_000, "d_student": 768, "d_teacher": 768, "n_classes": 10},
}


@pytest.fixture(scope="module", params=POOLS)
def whole_pool(request, tmp_path_factory):
    folder = make_pool(tmp_path_factory.mktemp("whole"), **{"n_labelled": 2000, **POOLS[request.param]})
    yield folder
    shutil.rmtree(folder)  # up to 6 GB


@pytest.mark.slow
@pytest.mark.parametrize("shape", WHOLE)
def test_the_forecast_of_a_whole_query_holds(whole_pool, run_forked, shape):
    asked = WHOLE[shape]
    if np.load(whole_pool / "y.npy", mmap_mode="r").size > 300_000 and asked.get("labels", True):
        pytest.skip("a million rows are for the first labels alone: all shapes take too long")
    if np.load(whole_pool / "y.npy", mmap_mode="r").size < 100_000 and "published" in shape:
        pytest.xfail(
            "with thousands of clusters of ten rows the plan is a third too low: which are empty is not foreseen"
        )
    found = measured(run_forked, whole_pool, **asked, budget=100)
    expected = found["report"]["plan"]["total"]["peak_memory"]
    print(f"planned {expected / 1e6:.0f} MB, measured {found['peak'] / 1e6:.0f} MB")
    assert expected == pytest.approx(found["peak"], rel=0.25, abs=SMALL)


@pytest.mark.parametrize(
    "asked",
    [
        {"config": {**QUICK, "head": "ridge"}},
        # As of the clustering below, which measures what NumPy allocates for one.
        pytest.param({"config": QUICK, "labels": False, "teacher": False}, marks=pytest.mark.slow),
        pytest.param({"config": QUICK}, marks=pytest.mark.slow),
    ],
    ids=["ridge", "first by coverage", "default"],
)
def test_memory_does_not_grow_with_the_pool(pool, large_pool, run_forked, asked):
    """Three times the rows under a limit that keeps no logits: no more than 32 bytes for each row more."""
    small, large = (measured(run_forked, folder, limit="512MB", **asked) for folder in (pool, large_pool))
    # The allocator keeps some of what was freed, of arrays that are smaller than 32 MiB.
    assert large["rose"] - small["rose"] < 32 * 120_000 + (32 << 20)
    assert large["rose"] < 512e6


def test_a_clustering_of_all_rows_takes_at_most_32_bytes_a_row(rng):
    """What NumPy allocates, without the allocator's own ways."""
    x = open_rows(rng.standard_normal((400_000, 4), dtype=np.float32), "x")
    tracemalloc.start()
    found = choose_backend("cpu").weighted_kmeans(x, 40, unit=True, max_iter=2, random_state=rng, chunk_size=20_000)
    clustering = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    representatives(found, 40)
    choice = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert max(clustering, choice) < 33 * 400_000


def test_a_plan_tells_what_select_will_do(small_pool):
    x, labels = np.load(small_pool / "x.npy", mmap_mode="r"), np.load(small_pool / "y.npy")
    teacher = cf.Teacher(np.load(small_pool / "v.npy", mmap_mode="r"), small_pool / "t.npy")
    config = cf.CCMAConfig(**QUICK)
    expected = cf.plan(x, 10, labels=labels, teacher=teacher, config=config)
    report = cf.select(x, 10, labels=labels, teacher=teacher, config=config).report
    assert list(expected.stages) == list(report.stages)
    for name, stage in expected.stages.items():
        assert stage.seconds >= 0.0
        of_report = report.plan.stages[name]
        assert of_report.seconds is None
        assert (stage.passes, stage.bytes_read, stage.peak_memory) == (
            of_report.passes,
            of_report.bytes_read,
            of_report.peak_memory,
        )
    assert expected.passes == {"features": 1, "image_features": 1}
    assert expected.seconds == sum(stage.seconds for stage in expected.stages.values())
    assert json.loads(json.dumps(expected.to_dict()))["total"]["bytes_read"] == expected.bytes_read
    for text in ("posteriors", "total", "image_features 1", "memory_limit"):
        assert text in str(expected)
    assert "expected" in str(report)


def test_a_plan_reads_little_and_fails_as_select_does(pool):
    x = open_rows(pool / "x.npy", "features")
    cf.plan(x, 10)
    assert x.bytes_read <= 3 * (16 << 20)
    for call in (cf.plan, cf.select):
        with pytest.raises(ValueError, match=r"^budget must be at least 1, got 0$"):
            call(x, 0)
        with pytest.raises(ValueError, match=r"^a student needs labels of at least two classes"):
            call(x, 3, student=cf.LinearHead())


@pytest.mark.parametrize(
    ("limit", "n_bytes"),
    [
        (600_000_000, 600_000_000),
        ("4GB", 4 * 10**9),
        ("4 GiB", 4 << 30),
        ("1.5gb", 1_500_000_000),
        ("512mb", 512 * 10**6),
    ],
)
def test_memory_limits(limit, n_bytes):
    assert cf.plan(np.eye(4, dtype=np.float32), 2, memory_limit=limit).memory_limit == n_bytes


@pytest.mark.parametrize(
    ("limit", "error", "text"),
    [
        ("much", ValueError, "memory_limit must be bytes or text such as '4GB' or '500MiB', got 'much'"),
        ("4 bananas", ValueError, "memory_limit must be bytes or text such as '4GB' or '500MiB', got '4 bananas'"),
        ("1MB", ValueError, "memory_limit must be at least 512000000, got 1000000"),
        (1.5e9, TypeError, "memory_limit must be an integer, got float 1500000000.0"),
    ],
)
def test_memory_limits_that_are_none(limit, error, text):
    for call in (cf.plan, cf.select, lambda x, _, memory_limit: cf.ActiveLearner(x, memory_limit=memory_limit)):
        with pytest.raises(error) as raised:
            call(np.eye(4, dtype=np.float32), 2, memory_limit=limit)
        assert str(raised.value) == text


@pytest.mark.parametrize("config", [QUICK, TRUST, PUBLISHED], ids=["default", "trust", "published"])
def test_the_picks_do_not_depend_on_chunks_files_and_limits(small_pool, tmp_path, config):
    x, v = (np.load(small_pool / f"{name}.npy", mmap_mode="r") for name in "xv")
    labels, classes, n = np.load(small_pool / "y.npy"), small_pool / "t.npy", len(x)
    for name, rows in (("x", x), ("v", v)):
        (tmp_path / name).mkdir()
        bounds = [0, 1, 2048, 2049, 4500, 4500, n]  # uneven, and one of them empty
        for i, (start, stop) in enumerate(pairwise(bounds)):
            np.save(tmp_path / name / f"part-{i}.npy", rows[start:stop])

    def picks(x, v, **options):
        found = cf.select(
            x, 40, labels=labels, teacher=cf.Teacher(v, classes), config=cf.CCMAConfig(**config), **options
        )
        return found.indices.tolist(), found.scores.tolist()

    expected = picks(np.array(x), np.array(v))
    assert picks(x, v, chunk_size=2048, memory_limit="512MB") == expected
    assert picks(tmp_path / "x", tmp_path / "v") == expected
