"""The same seed gives the same bits: threads, chunks, storage, processes, and nobody else's generator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import _core

pytestmark = pytest.mark.processor

CONFIG = cf.CCMAConfig(subpool_size=300, subpool_max_iter=2, kmeans_max_iter=4)
TRUST = replace(CONFIG, acquisition="trust", head="published", max_epochs=8)
DELTA = replace(TRUST, acquisition="delta", calibration="target_size")
# What was chosen when student and teacher were trained.
CHOSEN = "penalty", "soft_weight", "teacher_temperature", "correction_penalty", "student_share"


@pytest.fixture(scope="module")
def data(blobs):
    x, y = blobs(700, 21, 6, seed=9, distance=1.0)
    # Values that float16 and bfloat16 hold exactly, so that every storage type holds the same numbers.
    x = torch.from_numpy(x).bfloat16().float().numpy()
    v = torch.from_numpy(x[:, :13] ** 2 - x[:, 5:18]).bfloat16().float().numpy()
    v = np.where(np.abs(v) < 2**-14, np.float32(2**-14), v)
    x = np.where(np.abs(x) < 2**-14, np.float32(2**-14), x)
    # The teacher's classes are its first image of each: better than the student, and not perfect.
    return x, np.where(np.arange(700) % 10 == 0, y, -1), v, v[[np.flatnonzero(y == c)[0] for c in range(6)]]


def query(x, labels, v, t, config=CONFIG, **options) -> cf.Selection:
    return cf.select(x, 25, labels=labels, teacher=cf.Teacher(v, t), config=config, backend="cpu", **options)


def test_both_lead_some_of_the_picks(data):
    """So that what holds of the picks of "trust" below holds of the teacher's and of the student's."""
    assert 1 <= query(*data, TRUST).report.trust * 25 <= 24


def assert_same(found: cf.Selection, expected: cf.Selection) -> None:
    for name in ("indices", "scores", "represents"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("q_student", "q_teacher", "inertia", "mean_student_set", "kmeans_iterations", "trust", *CHOSEN):
        # NaN is as good as any number: not every query has all of them.
        assert str(getattr(found.report, name)) == str(getattr(expected.report, name)), name


@pytest.fixture(scope="module")
def expected(data):
    """The picks that every form of the same rows gives."""
    return query(*data)


SIMD = ("scalar", "avx2", "avx512", "avx512_vnni")
HAS_VECTORS = _core.simd_level() != "scalar"
# Numbers of threads and rows of a chunk: many threads where chunks are few, since each chunk starts them anew.
FORMS = {
    "few": ((2, 7), (7, None)),
    "many": ((1, 1), (1, 7), (2, 7), (2, 64), (7, 64), (2, None), (7, None)),
}


@pytest.mark.usefixtures("restore_threads")
@pytest.mark.parametrize("forms", ["few", pytest.param("many", marks=pytest.mark.slow)])
def test_threads_and_chunks(simd, data, forms):
    unlabelled = (data[0], np.full(700, -1), *data[2:])
    cases = {
        "coverage": partial(query, *data, CONFIG),
        "ridge": partial(query, *data, replace(CONFIG, head="ridge")),
        "trust": partial(query, *data, TRUST),
        "delta": partial(query, *data, DELTA),
        "first by the teacher": partial(query, *unlabelled, CONFIG),
        "first of delta": partial(query, *unlabelled, DELTA),
        "first by coverage": partial(cf.select, data[0], 25, backend="cpu"),
    }
    if forms == "few" and HAS_VECTORS:  # every other one by each instruction set, and each by one
        cases = dict(list(cases.items())[SIMD.index(simd) % 2 :: 2])
    cf.set_num_threads(1)
    expected = {name: run() for name, run in cases.items()}
    for n_threads, chunk_size in FORMS[forms]:
        cf.set_num_threads(n_threads)
        for name, run in cases.items():
            assert_same(run(chunk_size=chunk_size), expected[name])


@pytest.mark.usefixtures("restore_threads")
def test_threads_of_torch(data):
    for config in (CONFIG, TRUST):
        torch.set_num_threads(1)
        expected = query(*data, config)
        for n_threads in (2, 4):
            torch.set_num_threads(n_threads)
            assert_same(query(*data, config), expected)


def strided(x: np.ndarray) -> np.ndarray:
    wide = np.full((2 * x.shape[0], 3 * x.shape[1]), np.nan, x.dtype)
    wide[::2, ::3] = x
    return wide[::2, ::3]


def memmap(x: np.ndarray, tmp_path) -> np.memmap:
    file = tmp_path / f"x{x.shape[1]}.bin"
    x.tofile(file)
    return np.memmap(file, x.dtype, "r", shape=x.shape)


def npy(x: np.ndarray, tmp_path) -> str:
    np.save(tmp_path / f"x{x.shape[1]}.npy", x)
    return str(tmp_path / f"x{x.shape[1]}.npy")


STORAGE = {
    "Fortran": lambda x, _: np.asfortranarray(x),
    "strided": lambda x, _: strided(x),
    "backwards": lambda x, _: np.ascontiguousarray(x[::-1])[::-1],
    "big-endian": lambda x, _: x.astype(">f4"),
    "float64": lambda x, _: x.astype(np.float64),
    "read-only": lambda x, _: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
    "memmap": memmap,
    "npy": npy,
    "npy, Fortran": lambda x, p: npy(np.asfortranarray(x), p),
    "path": lambda x, p: Path(npy(x, p)),
    "list": lambda x, _: x.tolist(),
    "tensor": lambda x, _: torch.from_numpy(x),
    "tensor, transposed": lambda x, _: torch.from_numpy(np.ascontiguousarray(x.T)).T,
    "tensor with a gradient": lambda x, _: torch.from_numpy(x.copy()).requires_grad_(),
    "float64 tensor": lambda x, _: torch.from_numpy(x).double(),
    "float16": lambda x, _: x.astype(np.float16),
    "float16 tensor": lambda x, _: torch.from_numpy(x).half(),
    "float16 npy": lambda x, p: npy(x.astype(np.float16), p),
    "bfloat16 tensor": lambda x, _: torch.from_numpy(x).bfloat16(),
}


@pytest.mark.parametrize("storage", STORAGE)
def test_storage(data, expected, storage, tmp_path):
    x, labels, v, t = data
    assert_same(query(STORAGE[storage](x, tmp_path), labels, STORAGE[storage](v, tmp_path), t), expected)


@pytest.mark.parametrize("storage", STORAGE)
def test_storage_of_logits(data, storage, tmp_path):
    x, labels, v, _ = data
    z = np.ascontiguousarray(v[:, :6])

    def run(student, teacher):
        return cf.select(
            x, 25, labels=labels, student_logits=student, teacher=cf.Teacher.from_logits(teacher), config=CONFIG
        )

    (tmp_path / "s").mkdir()
    (tmp_path / "t").mkdir()
    teacher = np.ascontiguousarray(z[:, ::-1])
    found = run(STORAGE[storage](z, tmp_path / "s"), STORAGE[storage](teacher, tmp_path / "t"))
    assert_same(found, run(z, teacher))


def test_the_order_of_calls_does_not_matter(data, expected):
    teacher = cf.Teacher(data[2], data[3])
    for _ in range(2):
        assert_same(cf.select(data[0], 25, labels=data[1], teacher=teacher, config=CONFIG, backend="cpu"), expected)
        cf.select(data[0], 3, random_state=8)


@pytest.mark.parametrize("config", [CONFIG, TRUST, DELTA], ids=["coverage", "trust", "delta"])
def test_seeds_differ(data, config):
    first, again, other = (query(*data, config, random_state=seed).indices for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


SCRIPT = """
import sys
import numpy as np, ccma_fast as cf
x, labels, v, t = (np.load(f"{sys.argv[1]}/{i}.npy") for i in range(4))
config = cf.CCMAConfig(subpool_size=300, subpool_max_iter=2, kmeans_max_iter=4)
picks = cf.select(x, 25, labels=labels, teacher=cf.Teacher(v, t), config=config, backend="cpu")
print(picks.indices.tobytes().hex(), picks.scores.tobytes().hex())
"""


@pytest.mark.parametrize("threads", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_new_process(data, expected, run_python, tmp_path, threads):
    for i, array in enumerate(data):
        np.save(tmp_path / f"{i}.npy", array)
    printed = run_python(
        SCRIPT,
        str(tmp_path),
        PYTHONHASHSEED=threads,
        OMP_NUM_THREADS=threads,
        MKL_NUM_THREADS=threads,
        CCMA_NUM_THREADS=threads,
    )
    assert printed.split() == [expected.indices.tobytes().hex(), expected.scores.tobytes().hex()]


def test_global_generators_are_neither_drawn_from_nor_seeded(data, expected):
    np.random.seed(5)  # noqa: NPY002 - the generator in question
    torch.manual_seed(5)
    before = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    assert_same(query(*data), expected)
    cf.weighted_kmeans(data[0], 5)
    learner = cf.ActiveLearner(data[0], labels=data[1], config=CONFIG)
    learner.query(3)
    learner.predict_proba(data[0][:3])
    after = np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    np.testing.assert_array_equal(after[0][1], before[0][1])
    assert after[0][2:] == before[0][2:]
    assert torch.equal(after[1], before[1])


def test_inputs_are_left_as_they_are(data):
    copies = [array.copy() for array in data]
    query(*data)
    cf.select(data[0], 5)
    for array, copy in zip(data, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
