"""The teacher's logits: cosines over a temperature, or what somebody already has."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ccma_fast as cf
from ccma_fast import reference
from ccma_fast.backends.choose import choose_backend

pytestmark = pytest.mark.processor

V = np.random.default_rng(0).standard_normal((200, 33)).astype(np.float32)
T = np.random.default_rng(1).standard_normal((19, 33)).astype(np.float32)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("temperature", [0.01, 0.03, 1.0, 100.0])
def test_logits_are_cosines_over_the_temperature(simd, backend, temperature):
    found = cf.Teacher(V, T, temperature).logits(choose_backend(backend)).float32()
    cosines = reference.unit_rows(V) @ reference.unit_rows(T).T
    np.testing.assert_allclose(found * temperature, cosines, atol=2e-7)


def test_published_temperature_is_the_default():
    assert cf.Teacher(V, T).temperature == cf.CCMAConfig().temperature == 0.03


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_storage_types(simd, dtype):
    v, t = torch.from_numpy(V).to(dtype), torch.from_numpy(T).to(dtype)
    backend = choose_backend("cpu")
    np.testing.assert_array_equal(
        cf.Teacher(v, t).logits(backend).float32(), cf.Teacher(v.float(), t.float()).logits(backend).float32()
    )


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**-60, 2.0**60, 2.0**100])
@pytest.mark.filterwarnings("ignore::ccma_fast.TeacherWarning")  # labels that have nothing to do with it
def test_only_directions_count(factor):
    labels = np.where(np.arange(200) % 4 == 0, np.arange(200) % 19, -1)
    config = cf.CCMAConfig(max_epochs=3)

    def picks(v, t):
        return cf.select(V, 9, labels=labels, teacher=cf.Teacher(v, t), config=config).indices

    np.testing.assert_array_equal(picks(V * np.float32(factor), T * np.float32(factor)), picks(V, T))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_ready_made_logits_are_divided_by_their_temperature(temperature):
    z = 3 * V[:, :5]
    teacher = cf.Teacher.from_logits(z, temperature)
    assert (teacher.n_rows, teacher.n_classes, teacher.features) == (200, 5, None)
    np.testing.assert_array_equal(teacher.logits(choose_backend("cpu")).float32(), z / np.float32(temperature))


def test_probabilities_can_be_given_as_their_logarithms():
    p = np.exp(-reference.nonconformity(3 * V[:, :5]))
    found = cf.select(V, 9, student_logits=V[:, 5:10], teacher=cf.Teacher.from_logits(np.log(p)))
    expected = cf.select(V, 9, student_logits=V[:, 5:10], teacher=cf.Teacher.from_logits(3 * V[:, :5]))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


@pytest.mark.parametrize("force", ["no", 1, None])
def test_force_is_true_or_false(force):
    x = np.eye(3, dtype=np.float32)
    for make in (lambda: cf.Teacher(x, x, force=force), lambda: cf.Teacher.from_logits(x, force=force)):
        with pytest.raises(TypeError, match="force must be true or false, got"):
            make()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("temperature", [None, 0.2])
def test_posteriors_are_the_softmax_of_the_logits(temperature, backend):
    teacher = cf.Teacher(V, T, 0.05, class_names=[f"class {c}" for c in range(19)])
    z = reference.unit_rows(V) @ reference.unit_rows(T).T / (temperature or 0.05)
    p = teacher.predict_proba(temperature, backend=backend)
    assert (p.shape, p.dtype) == ((200, 19), np.float32)
    np.testing.assert_allclose(p, np.exp(-reference.nonconformity(z)), atol=1e-5)
    assert teacher.temperature == 0.05
    rows = teacher.probabilities(temperature, backend=backend)
    np.testing.assert_array_equal(np.concatenate([chunk for _, chunk in rows.chunks(60)]), p)
    assert rows.class_names == teacher.class_names


def test_posteriors_of_ready_made_logits():
    z = 3 * V[:, :5]
    p = cf.Teacher.from_logits(z, 2.0).predict_proba()
    np.testing.assert_allclose(p, np.exp(-reference.nonconformity(z / 2)), atol=1e-6)
    audit = cf.audit_sample(cf.Teacher.from_logits(z).probabilities(), 20)
    assert audit.n_labelled == 0


def test_posteriors_of_what_is_no_teacher():
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(ValueError, match="temperature must be"):
            cf.Teacher(V, T).predict_proba(bad)
    for value in (0.0, np.nan):
        v = V.copy()
        v[7] = value
        with pytest.raises(ValueError, match="row 7"):
            cf.Teacher(v, T).predict_proba()
