"""A recording of what the package computes, by its public names alone: what a restructuring must leave as it is.

``python tests/recorded.py FILE`` writes it, ``python tests/recorded.py --against FILE`` computes it again and prints
every difference. The same bits are promised on one machine alone, and so is the recording. `promised` is the part that
every machine has to repeat, up to rounding; ``tests/recorded.json`` holds it and ``--promised`` writes it.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

# Where no GPU is, its kernels run on the processor, which has to be said before Triton is first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

import ccma_fast as cf
from ccma_fast import reference

Recording = dict[str, Any]

SEEDS = (*range(30),)
"""Those of the random queries, from 20 on of the default head and its acquisition, whatever the student is. None of
them is decided by rounding: see ``tests/test_recorded.py``."""

UNSTEADY = ("seconds", "peak_memory", "memory_limit")
"""Fields that differ from one run to the next."""


# --- what is kept of a result ---------------------------------------------------------------------


def flat(name: str, value: Any) -> Recording:
    """Every number, text and array in `value` under a name of its own; an array as a digest and its first numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        parts = (flat(f"{name}.{key}", part) for key, part in value.items() if key not in UNSTEADY)
        return {key: part for each in parts for key, part in each.items()}
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return {name: f"{digest} {value.dtype} {value.shape} {value.ravel()[:8].tolist()}"}
    if isinstance(value, (list, tuple)):
        return {name: [str(part) for part in value]}
    return {name: value if isinstance(value, (str, int, bool, type(None))) else repr(value)}


@contextlib.contextmanager
def caught() -> Iterator[list[str]]:
    """The texts of the warnings inside, but for those of NumPy's arithmetic, in which Triton's interpreter computes."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        yield texts
    texts += [f"{each.category.__name__}: {each.message}" for each in given if each.category is not RuntimeWarning]


def selected(name: str, features: Any, budget: int, **given: Any) -> Recording:
    with caught() as texts:
        picks = cf.select(features, budget, **given)
    return flat(name, picks) | {f"{name}.warned": texts}


def command(name: str, folder: Path, *arguments: str) -> Recording:
    """What the command line prints, without folders and seconds."""
    done = subprocess.run(
        [sys.executable, "-m", "ccma_fast", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    # Where in the code a warning is from is not recorded, nor the line of code that Python shows under it.
    error = re.sub(r"^\S+\.py:\d+: (\w+: .*)\n  .*$", r"\1", done.stderr, flags=re.M)
    return {
        f"{name}.stdout": plain(done.stdout, folder).splitlines(),
        f"{name}.stderr": plain(error, folder).splitlines(),
    }


def plain(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER")
    return re.sub(r"\b\d+(\.\d+)?(e-?\d+)? ?(s|ms|min|[KMG]B|[KMG]iB)\b", "SOME", text)


def table(path: Path) -> list[str]:
    """The lines of a CSV file without its columns of seconds."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    kept = [at for at, title in enumerate(rows[0]) if "second" not in title]
    return [",".join(row[at] for at in kept) for row in rows]


def digest(lines: list[str]) -> list[str]:
    """A digest of a long table and its last line."""
    return [hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16], str(len(lines)), lines[-1]]


# --- thirty random queries ------------------------------------------------------------------------


class Query(NamedTuple):
    """A query drawn from a seed: arguments of `select`, and what its pool is made of."""

    features: Any
    budget: int
    given: dict[str, Any]
    student_logits: np.ndarray
    teacher_logits: np.ndarray | None
    truth: np.ndarray


def random_query(seed: int, folder: Path, *, small: bool = False) -> Query:
    """The query of a seed. Its features lie in memory, in a file or in a folder of shards, which go into `folder`."""
    rng = np.random.default_rng([2603, seed])
    n, d = int(rng.integers(70, 110 if small else 400)), int(rng.integers(5, 40))
    n_classes = int(rng.integers(2, 12))
    truth = rng.integers(n_classes, size=n)
    x = 1.5 * rng.standard_normal((n_classes, d))[truth] + rng.standard_normal((n, d))
    v = 1.2 * rng.standard_normal((n_classes, 2 * d))[truth] + rng.standard_normal((n, 2 * d))
    dtype = np.dtype(("float32", "float16", "float64")[seed % 3])
    logits_of = [scale * np.eye(n_classes)[truth] + rng.standard_normal((n, n_classes)) for scale in (1.5, 2.5)]
    student_logits, teacher_logits = (z.astype(np.float32) for z in logits_of)

    cold = seed % 5 == 4
    labels = np.full(n, -1)
    known = rng.permutation(n)[: max(3 * n_classes, n // 6)]
    labels[known] = truth[known]
    given: dict[str, Any] = {"random_state": seed, "config": random_config(rng, seed, n)}
    given["labels"] = None if cold else labels
    if not cold:
        given["student_logits"] = student_logits
    with_teacher = seed % 4 != 3
    if with_teacher and seed % 2:
        given["teacher"] = cf.Teacher.from_logits(teacher_logits, temperature=1.0 + 0.5 * (seed % 3))
    elif with_teacher:
        class_features = np.stack(
            [v[truth == c].mean(axis=0) if (truth == c).any() else v[0] for c in range(n_classes)]
        )
        given["teacher"] = cf.Teacher(v.astype(dtype), class_features.astype(np.float32), temperature=0.1)
    if seed % 7 == 1:
        given["chunk_size"] = 16
    budget = int(rng.integers(1, 20))
    features = laid(x.astype(dtype), folder / f"{seed}", ("array", "npy", "shards", "tensor")[(seed // 2) % 4])
    return Query(features, budget, given, student_logits, teacher_logits if with_teacher else None, truth)


def random_config(rng: np.random.Generator, seed: int, n: int) -> cf.CCMAConfig:
    chosen: dict[str, Any] = {
        "nonconformity": ("lac", "lac", "aps", "raps")[int(rng.integers(4))],
        "nonempty": ("top1", "raise")[int(rng.integers(2))],
        "alpha": (0.1, 0.05, 0.3)[int(rng.integers(3))],
        "kappa": int(rng.integers(2, 21)),
        "pick": ("nearest", "highest")[int(rng.integers(2))],
        "weighted_coverage": bool(rng.integers(2)),
        "reweight": bool(rng.integers(4) == 0),
    }
    if seed < 20:
        chosen |= {"acquisition": "delta" if seed % 2 else "trust", "head": "published"}
    else:
        chosen["acquisition"] = "coverage"
    if seed % 2 and rng.integers(2):
        chosen |= {
            "calibration": "target_size",
            "reweight": False,
            "student_set_size": 2.0,
            "teacher_set_size": 1.5,
        }
    if rng.integers(3) == 0:
        chosen["pool_limit"] = n // 2
    if rng.integers(3) == 0:
        chosen |= {"subpool_size": n // 3, "rows_per_cluster": int(rng.integers(1, 4))}
    return cf.CCMAConfig(**chosen)


def laid(x: np.ndarray, path: Path, kind: str) -> Any:
    """The same rows in memory, in one file, or in a folder of three shards."""
    if kind == "tensor":
        return torch.from_numpy(x)
    if kind == "npy":
        np.save(path.with_suffix(".npy"), x)
        return path.with_suffix(".npy")
    if kind == "shards":
        path.mkdir()
        for at, part in enumerate(np.array_split(x, 3)):
            np.save(path / f"part_{at}.npy", part)
        return path
    return x


def record_random(folder: Path) -> Recording:
    found: Recording = {}
    for seed in SEEDS:
        query = random_query(seed, folder)
        for backend in ("cpu", "reference"):
            found |= selected(f"random.{seed}.{backend}", query.features, query.budget, backend=backend, **query.given)
        if query.given["labels"] is not None and seed % 3 == 0:
            trained = {key: value for key, value in query.given.items() if key != "student_logits"}
            found |= selected(f"random.{seed}.trained", query.features, query.budget, backend="cpu", **trained)
    return found


def record_cuda(folder: Path) -> Recording:
    found: Recording = {}
    for seed in (0, 1, 4):
        query = random_query(seed, folder, small=True)
        found |= selected(f"cuda.{seed}", query.features, min(query.budget, 4), backend="cuda", **query.given)
    return found


# --- the steps by themselves, and the README ------------------------------------------------------


def record_steps(folder: Path) -> Recording:
    """Thresholds, sets, scores and k-means, on every backend that has them and by the reference."""
    found: Recording = {}
    query = random_query(2, folder)
    student, teacher, truth = query.student_logits, query.teacher_logits, query.truth
    assert teacher is not None
    n_classes = student.shape[1]
    x = np.random.default_rng(5).standard_normal((300, 12)).astype(np.float32)
    weights = np.random.default_rng(6).random(300)
    for kind in ("lac", "aps", "raps"):
        scores = cf.nonconformity_scores(student, truth, score=kind)
        q = cf.coverage_threshold(scores, 0.1)
        found |= flat(f"steps.{kind}.scores", scores) | flat(f"steps.{kind}.q", q)
        found |= flat(f"steps.{kind}.all_scores", cf.nonconformity_scores(student, score=kind))
        for backend in ("cpu", "reference"):
            for nonempty in ("top1", "raise"):
                name = f"steps.{kind}.{backend}.{nonempty}"
                options: dict[str, Any] = {"score": kind, "nonempty": nonempty, "backend": backend}
                found |= flat(f"{name}.sets", cf.prediction_sets(student, q, **options))
                found |= flat(f"{name}.size_q", cf.target_size_threshold(student, 1.5, **options))
    for backend in ("cpu", "reference"):
        name = f"steps.{backend}"
        found |= flat(f"{name}.score", cf.score(student, teacher, q_student=1.2, q_teacher=0.9, backend=backend))
        found |= flat(f"{name}.score_alone", cf.score(student, q_student=1.2, nonempty="raise", backend=backend))
        sized = cf.score_at_sizes(student, teacher, student_size=2.0, teacher_size=1.4, backend=backend)
        found |= flat(f"{name}.sized", sized)
        for method in ("full", "sample", "two-level"):
            for init in ("k-means||", "k-means++"):
                means = cf.weighted_kmeans(
                    x, 9, weights=weights, init=init, method=method, random_state=3, backend=backend
                )
                found |= flat(f"{name}.kmeans.{method}.{init}", means)
    found |= flat("steps.reference.row_scores", reference.score(student, teacher, 1.2, 0.9))
    found |= flat("steps.reference.top_m", reference.top_m(weights, 20))
    result = reference.query(
        np.asarray(x, np.float64),
        6,
        labels=np.where(np.arange(300) < 40, np.arange(300) % n_classes, -1),
        student_logits=np.random.default_rng(7).standard_normal((300, n_classes)),
        teacher_logits=np.random.default_rng(8).standard_normal((300, n_classes)),
        random_state=4,
    )
    found |= flat("steps.reference.query", result)
    cells = np.random.default_rng(9).integers(4, size=200)
    for at, part in enumerate(cf.stratified_weights(cells[:30], cells)):
        found |= flat(f"steps.stratified.{at}", part)
    weighted = cf.weighted_coverage_threshold(weights[:50], 0.1, weights[50:100], weights[100:200])
    found |= flat("steps.weighted_q", weighted) | flat("steps.interval", cf.coverage_interval(47, 50))

    labels = query.given["labels"]
    known = np.flatnonzero(labels >= 0)
    rows = np.random.default_rng(10).standard_normal((truth.size, 16)).astype(np.float32) + np.eye(n_classes, 16)[truth]
    head = cf.LinearHead(n_classes, max_epochs=60, random_state=3).fit(rows[known], labels[known])
    found |= flat("steps.head.logits", head.decision_function(rows)) | flat("steps.head.p", head.predict_proba(rows))
    found |= flat("steps.head.predict", head.predict(rows)) | flat("steps.head.state", head.state_dict())
    found |= flat("steps.head.params", head.get_params())
    found |= flat("steps.diagnose", query.given["teacher"].diagnose(labels))
    found |= {"steps.diagnose.text": str(query.given["teacher"].diagnose(labels)).splitlines()}
    planned = cf.plan(
        query.features, 5, labels=labels, teacher=query.given["teacher"], backend="cpu", memory_limit="1 GB"
    )
    return found | flat("steps.plan", planned)


def record_readme() -> Recording:
    """The README's examples as one program: what its names hold afterwards, and what it prints."""
    root = next(parent for parent in Path(__file__).resolve().parents if (parent / "README.md").exists())
    examples = re.findall(r"^```python\n(.*?)^```", (root / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with caught() as texts, contextlib.redirect_stdout(printed):
        for example in examples:
            exec(compile(example, "README.md", "exec"), names)
    results = names["results"]
    found = flat("readme.first", names["first"]) | flat("readme.picks", names["picks"]) | {"readme.warned": texts}
    found |= {"readme.areas": [repr(results.area(name).tolist()) for name in results.strategies]}
    kept = [line for line in plain(printed.getvalue(), Path("/nowhere")).splitlines() if "SOME" not in line]
    return found | {"readme.printed": kept}


def record_learner(folder: Path) -> Recording:
    rng = np.random.default_rng(12)
    truth = rng.integers(4, size=240)
    x = (2 * np.eye(4, 16)[truth] + rng.standard_normal((240, 16))).astype(np.float32)
    teacher = cf.Teacher((np.eye(4, 20)[truth] + rng.random((240, 20))).astype(np.float32), np.eye(4, 20))
    names = ["ant", "bee", "cat", "dog"]
    learner = cf.ActiveLearner(x, teacher=teacher, class_names=names, random_state=5, backend="cpu")
    found: Recording = {}
    for at in range(3):
        with caught() as texts:
            picks = learner.query(8)
        found |= flat(f"learner.{at}", picks) | {f"learner.{at}.warned": texts}
        learner.label(picks.indices, [names[c] for c in truth[picks.indices]])
        learner.save(folder / "loop")
        learner = cf.ActiveLearner.load(folder / "loop", x, teacher=teacher, backend="cpu")
    learner.unlabel(picks.indices[:2])
    found |= flat("learner.labels", learner.labels) | flat("learner.names", learner.class_names)
    return found | flat("learner.p", learner.predict_proba(x)) | flat("learner.rounds", learner.n_rounds)


# --- real posteriors ------------------------------------------------------------------------------


def record_posteriors(path: Path) -> Recording:
    with np.load(path) as file:
        part = slice(0, 3000)
        truth, x = file["labels"][part], file["student_features_mobilenet"][part]
        good, weak = file["teacher_logits_clip"][part], file["teacher_logits_clip_weak"][part]
    labels = np.full(truth.size, -1)
    known = np.random.default_rng(1).permutation(truth.size)[:120]
    labels[known] = truth[known]
    head = cf.LinearHead(10).fit(x[known].astype(np.float32), truth[known])
    student_logits = head.decision_function(x.astype(np.float32))
    found = flat("posteriors.student", student_logits)
    trust: dict[str, Any] = {"acquisition": "trust"}
    delta: dict[str, Any] = {"acquisition": "delta"}
    sizes = {**delta, "calibration": "target_size"}
    kinds: dict[str, dict[str, Any]] = {
        "coverage": {},
        "trust": trust,
        "reweight": {**trust, "reweight": True},
        "aps": {**trust, "nonconformity": "aps"},
        "raps": {**trust, "nonconformity": "raps"},
        "delta": delta,
        "delta_raps": {**delta, "nonconformity": "raps", "nonempty": "raise"},
        "sizes": {**sizes, "student_set_size": 3.0, "teacher_set_size": 2.0},
        "sizes_aps": {**sizes, "nonconformity": "aps"},
        "subpool": {**delta, "pool_limit": 2000, "subpool_size": 300},
        "two_level": {**trust, "subpool_size": 400, "subpool_method": "two-level"},
    }
    for kind, options in kinds.items():
        for teacher_name, z in (("good", good), ("weak", weak)):
            for budget in (10, 50):
                name = f"posteriors.{kind}.{teacher_name}.{budget}"
                given: dict[str, Any] = {"teacher": cf.Teacher.from_logits(z), "config": cf.CCMAConfig(**options)}
                found |= selected(name, x, budget, labels=labels, student_logits=student_logits, backend="cpu", **given)
    teacher = cf.Teacher.from_logits(good)
    found |= selected("posteriors.trained", x, 20, labels=labels, teacher=teacher, backend="cpu")
    found |= selected("posteriors.paper", x, 20, labels=labels, teacher=teacher, config=cf.CCMAConfig.paper("cifar10"))
    found |= selected("posteriors.alone", x, 20, labels=labels, backend="cpu")
    found |= selected("posteriors.cold", x, 20, teacher=teacher, backend="cpu")
    found |= selected("posteriors.cold_alone", x, 20, backend="cpu")
    found |= flat("posteriors.diagnose", teacher.diagnose(labels))
    return found | flat("posteriors.diagnose_weak", cf.Teacher.from_logits(weak).diagnose(labels))


# --- commands and the research loop ---------------------------------------------------------------


def record_commands(folder: Path) -> Recording:
    """The demo, `select`, `simulate` with every strategy, and its report."""
    found = command("demo", folder, "demo", "--seeds", "1", "--rounds", "4", "--out", "demo", "-q")
    found["demo.table"] = (folder / "demo" / "accuracy.csv").read_text(encoding="utf-8").splitlines()

    rng = np.random.default_rng(20)
    truth = rng.integers(3, size=200)
    x = (2 * np.eye(3, 10)[truth] + rng.standard_normal((200, 10))).astype(np.float32)
    v = (2 * np.eye(3, 12)[truth] + rng.standard_normal((200, 12))).astype(np.float32)
    labels = np.where(np.arange(200) < 20, truth, -1)
    files = {"x": x[:150], "y": truth[:150], "tx": x[150:], "ty": truth[150:], "v": v[:150], "t": np.eye(3, 12)}
    for name, values in {**files, "some": labels[:150]}.items():
        np.save(folder / f"{name}.npy", values)
    teacher = ("--teacher-images", "v.npy", "--teacher-classes", "t.npy")
    pool = ("--features", "x.npy", *teacher, "--budget", "7", "--labels", "some.npy")
    found |= command("select", folder, "select", *pool, "--out", "picks.csv", "--memory-limit", "1GB")
    found["select.table"] = (folder / "picks.csv").read_text(encoding="utf-8").splitlines()
    test = ("--test-features", "tx.npy", "--test-labels", "ty.npy")
    compared = ("--strategies", *cf.strategies.names(), "ccma:start=ccma", "ccma:paper", "--rounds", "2")
    arguments = ("--features", "x.npy", "--labels", "y.npy", *test, *teacher, *compared, "--seeds", "1", "10")
    found |= command("simulate", folder, "simulate", *arguments, "--out", "run", "-q")
    for name in ("results", "picks"):
        found[f"simulate.{name}"] = digest(table(folder / "run" / f"{name}.csv"))
        for line in table(folder / "run" / f"{name}.csv")[1:]:
            strategy, seed, at, *rest = line.split(",")
            key = f"simulate.{name}.{strategy}.{seed}.{at}"
            found.setdefault(key, []).append(",".join(rest))
    found["simulate.arguments"] = sorted(steady_record(folder / "run" / "results.json"))
    found |= command("report", folder, "report", "run", "--targets", "70", "80")
    found["report.stdout"] = without_seconds(found["report.stdout"])
    for picture in sorted((folder / "run").glob("*.png")):
        if "second" not in picture.name:
            found[f"report.{picture.name}"] = hashlib.sha256(picture.read_bytes()).hexdigest()[:16]
    page = re.sub(r"data:image/png;base64,[^\"']*", "PICTURE", (folder / "run" / "report.html").read_text())
    return found | {"report.page": steady_page(plain(page, folder))}


def steady_record(path: Path) -> list[str]:
    """What the record of a run says, without versions, times and digests of the code."""
    unsteady = re.compile(r"seconds|time|versions?|code|package|python|machine|date|memory_limit|started|finished")

    def lines(name: str, value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for key, part in value.items():
                if not unsteady.fullmatch(key):
                    yield from lines(f"{name}.{key}", part)
        else:
            yield f"{name} = {json.dumps(value)}"

    return list(lines("", json.loads(path.read_text(encoding="utf-8"))))


def without_seconds(lines: list[str]) -> list[str]:
    """The tables of a report but for that of seconds, which is the last before the closing line."""
    return [*lines[: lines.index("Seconds per round")], lines[-1]]


def steady_page(page: str) -> list[str]:
    """The lines of a report without its section of seconds and the record of where and when it ran."""
    page = re.sub(r'<section id="(seconds|record)".*?</section>', "", page, flags=re.S)
    return page.splitlines()


# --- errors ---------------------------------------------------------------------------------------


def bad_calls() -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(30)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    z = rng.standard_normal((40, 3)).astype(np.float32)
    labels = np.where(np.arange(40) < 9, np.arange(40) % 3, -1)
    holed = x.copy()
    holed[7, 2] = np.nan
    teacher = cf.Teacher.from_logits(z)
    fitted = cf.LinearHead(3, max_epochs=2)
    loop: dict[str, Any] = {"test_features": x, "test_labels": labels % 3, "progress": False}
    return {
        "budget_zero": lambda: cf.select(x, 0),
        "budget_large": lambda: cf.select(x, 41),
        "budget_float": lambda: cf.select(x, 2.5),  # type: ignore[arg-type]
        "flat_features": lambda: cf.select(x[0], 2),
        "text_features": lambda: cf.select(np.array([["a", "b"]]), 1),
        "no_file": lambda: cf.select("nowhere.npy", 2),
        "nan": lambda: cf.select(holed, 2, backend="cpu"),
        "nan_reference": lambda: cf.select(holed, 2, backend="reference"),
        "labels_length": lambda: cf.select(x, 2, labels=labels[:30]),
        "labels_float": lambda: cf.select(x, 2, labels=labels + 0.5),
        "labels_low": lambda: cf.select(x, 2, labels=labels - 1),
        "labels_beyond": lambda: cf.select(x, 2, labels=labels * 4, teacher=teacher),
        "all_labelled": lambda: cf.select(x, 2, labels=np.abs(labels)),
        "teacher_type": lambda: cf.select(x, 2, teacher=z),  # type: ignore[arg-type]
        "teacher_rows": lambda: cf.select(x[:30], 2, teacher=teacher),
        "teacher_dimensions": lambda: cf.Teacher(x, np.eye(3, 5)),
        "teacher_temperature": lambda: cf.Teacher.from_logits(z, temperature=0.0),
        "logits_rows": lambda: cf.select(x, 2, labels=labels, student_logits=z[:9]),
        "student_and_logits": lambda: cf.select(x, 2, labels=labels, student_logits=z, student=fitted),
        "student_type": lambda: cf.select(x, 2, labels=labels, student=object()),
        "backend": lambda: cf.select(x, 2, backend="gpu"),
        "chunk_size": lambda: cf.select(x, 2, chunk_size=0),
        "memory_limit": lambda: cf.select(x, 2, memory_limit="many"),
        "memory_small": lambda: cf.select(x, 2, memory_limit=5),
        "config_type": lambda: cf.select(x, 2, config={"kappa": 5}),  # type: ignore[arg-type]
        "config_kappa": lambda: cf.CCMAConfig(kappa=0),
        "config_alpha": lambda: cf.CCMAConfig(alpha=1.0),
        "config_choice": lambda: cf.CCMAConfig(acquisition="best"),  # type: ignore[arg-type]
        "config_trust": lambda: cf.CCMAConfig(acquisition="trust", calibration="target_size"),
        "config_paper": lambda: cf.CCMAConfig.paper("mnist"),
        "random_state": lambda: cf.select(x, 2, random_state=-1),
        "score_shapes": lambda: cf.score(z, z[:, :2]),
        "score_nonempty": lambda: cf.score(z, z, nonempty="never"),
        "set_size": lambda: cf.target_size_threshold(z, 0.0),
        "alpha": lambda: cf.coverage_threshold(z[:, 0], 0.0),
        "no_scores": lambda: cf.coverage_threshold([], 0.1),
        "kmeans_clusters": lambda: cf.weighted_kmeans(x, 41),
        "kmeans_weights": lambda: cf.weighted_kmeans(x, 3, weights=-np.ones(40)),
        "kmeans_init": lambda: cf.weighted_kmeans(x, 3, init="best"),
        "kmeans_method": lambda: cf.weighted_kmeans(x, 3, method="half"),
        "head_unfitted": lambda: fitted.predict_proba(x),
        "head_labels": lambda: cf.LinearHead(2).fit(x, np.arange(40)),
        "learner_relabel": lambda: cf.ActiveLearner(x, labels=labels).label([0], [1]),
        "learner_row": lambda: cf.ActiveLearner(x, n_classes=3).label([40], [1]),
        "strategy_name": lambda: cf.strategies.find("best"),
        "simulate_strategy": lambda: cf.simulate(x, labels % 3, strategies=["ccma:kappa=none"], **loop),
        "simulate_unlabelled": lambda: cf.simulate(x, labels, strategies=["random"], **loop),
        "simulate_rounds": lambda: cf.simulate(x, labels % 3, rounds=0, **loop),
    }


def record_errors() -> Recording:
    found: Recording = {}
    for name, call in bad_calls().items():
        with caught() as texts:
            try:
                found[f"errors.{name}"] = [f"no error, but {type(call()).__name__}"]
            except Exception as error:
                found[f"errors.{name}"] = [f"{type(error).__name__}: {error}"]
        found[f"errors.{name}"] += texts
    return found


# --- what every machine repeats -------------------------------------------------------------------


def promised(folder: Path) -> Recording:
    """Of the random queries what no processor's rounding decides, and numbers to be compared with a tolerance."""
    found = record_errors()
    del found["errors.strategy_name"]  # lists what else the process has registered
    for seed in SEEDS:
        query = random_query(seed, folder)
        for backend in ("cpu", "reference"):
            with caught() as texts:
                picks = cf.select(query.features, query.budget, backend=backend, **query.given)
            report = picks.report
            found[f"random.{seed}.{backend}"] = {
                "indices": picks.indices.tolist(),
                "represents": picks.represents.tolist(),
                "warned": texts,
                "counts": {
                    field.name: getattr(report, field.name)
                    for field in dataclasses.fields(report)
                    if isinstance(getattr(report, field.name), (int, str))
                    and field.name not in ("backend", "version", "n_ranks")
                },
                "numbers": {
                    field.name: number(getattr(report, field.name))
                    for field in dataclasses.fields(report)
                    if isinstance(getattr(report, field.name), float)
                },
                "scores": [number(score) for score in picks.scores.tolist()],
                "bytes_read": {name: stage.bytes_read for name, stage in report.stages.items()},
            }
    return found


def number(value: float) -> float | str:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else repr(value)


def record(posteriors: Path | None = None) -> Recording:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in ("random", "cuda", "steps", "commands"):
            (folder / name).mkdir()
        found = record_random(folder / "random") | record_cuda(folder / "cuda") | record_steps(folder / "steps")
        found |= record_learner(folder) | record_commands(folder / "commands") | record_errors()
        if posteriors is not None:
            found |= record_posteriors(posteriors)
        found |= record_readme()  # last, for it registers a strategy, which others would list
        # A recording holds what a JSON file can hold, and no name of a folder that is gone.
        return json.loads(json.dumps(found).replace(str(folder), "FOLDER"))


def differences(before: Recording, after: Recording) -> list[str]:
    lines = []
    for name in sorted({*before, *after}):
        if name not in after:
            lines.append(f"{name}: no longer there")
        elif name not in before:
            lines.append(f"{name}: not there before")
        elif before[name] != after[name]:
            old, new = before[name], after[name]
            if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
                old, new = zip(*((a, b) for a, b in zip(old, new, strict=True) if a != b), strict=True)
            lines.append(f"{name}:\n  before: {old}\n  after:  {new}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Record what the package computes, or compare it with a recording.")
    parser.add_argument("file", type=Path, help="where the recording is written, or lies")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--against", action="store_true", help="compute again and print every difference to FILE")
    kind.add_argument("--promised", action="store_true", help="write only what every machine has to repeat")
    parser.add_argument("--posteriors", type=Path, metavar="FILE.npz", help="real posteriors, as bench.compare takes")
    asked = parser.parse_args()
    if asked.promised:
        with tempfile.TemporaryDirectory() as folder:
            lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in promised(Path(folder)).items())
            asked.file.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        return 0
    if not asked.against:
        found = record(asked.posteriors)
        asked.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{len(found)} values in {asked.file}")
        return 0
    before = json.loads(asked.file.read_text(encoding="utf-8"))
    if asked.posteriors is None:
        before = {name: value for name, value in before.items() if not name.startswith("posteriors.")}
    after = record(asked.posteriors)
    found_differences = differences(before, after)
    print(*found_differences, f"{len(found_differences)} of {len(after)} values differ", sep="\n")
    return 1 if found_differences else 0


if __name__ == "__main__":
    sys.exit(main())
