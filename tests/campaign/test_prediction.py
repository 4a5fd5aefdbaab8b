"""Predictions by student and teacher combined, and likely label errors."""

from __future__ import annotations

import numpy as np
import pytest

import ccma_fast as cf

pytestmark = pytest.mark.processor

N, C = 600, 4


@pytest.fixture(scope="module")
def pool():
    """Features in which classes overlap, the classes, and logits that know them."""
    rng = np.random.default_rng(0)
    y = rng.integers(C, size=N)
    x = rng.standard_normal((N, 12), dtype=np.float32) + 1.2 * np.eye(C, 12, dtype=np.float32)[y]
    good = (4 * np.eye(C)[y] + rng.standard_normal((N, C))).astype(np.float32)
    return x, y, good


def learner(x, y, n, teacher=None, **kwargs):
    labels = np.where(np.arange(len(x)) < n, y, -1)
    return cf.ActiveLearner(x, labels=labels, teacher=teacher, n_classes=C, **kwargs)


def log_softmax(z):
    z = z.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def accuracy(p, y):
    return (p.argmax(axis=1) == y).mean()


@pytest.mark.parametrize("head", ["distilled", "ridge", "published"])
@pytest.mark.parametrize("kind", ["logits", "features"])
def test_the_combination_is_a_weighted_geometric_mean(pool, head, kind):
    x, y, good = pool

    def teacher(rows):
        if kind == "logits":
            return cf.Teacher.from_logits(good[rows])
        return cf.Teacher(good[rows], np.eye(C, dtype=np.float32), 0.1)

    loop = learner(x, y, 60, teacher(slice(None)), config=cf.CCMAConfig(head=head, max_epochs=20))
    new = slice(300, None)
    p = loop.predict_proba(x[new], teacher(new))
    trained = loop._trained.models
    _, (share, scale) = trained.out_of_fold
    z = teacher(new).source.float32()
    if kind == "features":
        z = z / np.linalg.norm(z, axis=1, keepdims=True) / 0.1
    if trained.teacher is not None:
        beta, coef, _ = trained.teacher.correction
        phi = z - z.mean(axis=1, keepdims=True) if kind == "logits" else z * 0.1
        z = beta * z
        if coef is not None:
            weight, bias = trained.teacher.scaling.of_raw(coef)
            z = z + phi @ np.asarray(weight, np.float64).T + bias
    student = log_softmax(np.log(loop.predict_proba(x[new]).astype(np.float64)))
    expected = log_softmax(scale * (share * student + (1 - share) * log_softmax(z)))
    np.testing.assert_allclose(p, np.exp(expected), atol=2e-5)
    np.testing.assert_array_equal(p, loop.predict_proba()[new])  # the pool's own rows, in other chunks


@pytest.mark.parametrize("head", ["distilled", "published"])
def test_the_combination_follows_the_better_model(pool, head):
    x, y, good = pool
    config = cf.CCMAConfig(head=head, max_epochs=60)
    perfect = learner(x, y, 40, cf.Teacher.from_logits(good), config=config)
    assert accuracy(perfect.predict_proba(), y) > accuracy(good, y) - 0.02
    assert accuracy(good, y) > accuracy(learner(x, y, 40, config=config).predict_proba(), y) + 0.1

    noise = np.random.default_rng(1).standard_normal((N, C)).astype(np.float32)
    useless = learner(x, y, 200, cf.Teacher.from_logits(noise), config=config)
    alone = accuracy(learner(x, y, 200, config=config).predict_proba(), y)
    assert accuracy(useless.predict_proba(), y) > alone - 0.03


def test_a_student_of_another_kind_is_combined_with_the_teacher_as_it_is(pool):
    neighbors = pytest.importorskip("sklearn.neighbors")
    x, y, good = pool
    student = neighbors.KNeighborsClassifier(5)
    loop = learner(x, y, 60, cf.Teacher.from_logits(good), student=student)
    assert accuracy(loop.predict_proba(), y) > accuracy(good, y) - 0.02
    assert loop.label_errors().indices.size == 60


def test_without_labels_of_two_classes_the_teacher_predicts(pool):
    x, y, good = pool
    loop = learner(x, y, 0, cf.Teacher.from_logits(good))
    np.testing.assert_allclose(loop.predict_proba(), np.exp(log_softmax(good)), rtol=1e-5)
    np.testing.assert_allclose(
        loop.predict_proba(x[:9], cf.Teacher.from_logits(good[:9])), np.exp(log_softmax(good[:9])), rtol=1e-5
    )
    with pytest.raises(ValueError, match="at least two classes"):
        loop.predict_proba(x)


def test_teachers_that_differ_are_refused(pool):
    x, y, good = pool
    axes = np.eye(C, dtype=np.float32)
    loop = learner(x, y, 60, cf.Teacher(good, axes, 0.1, class_names=list("abcd")))
    for teacher, error, text in [
        (good, TypeError, "must be a Teacher"),
        (cf.Teacher(good[:9], axes, 0.1), ValueError, "rows"),
        (cf.Teacher.from_logits(good), ValueError, "must have image features as the pool's, got logits"),
        (cf.Teacher(good, axes[:3], 0.1), ValueError, "must have 4 classes as the pool's, got 3"),
        (cf.Teacher(good, axes, 0.1, class_names=list("abdc")), ValueError, "must have the class names"),
        (cf.Teacher(good, axes, 0.2), ValueError, "must have the temperature 0.1 as the pool's, got 0.2"),
        (cf.Teacher(good[:, :3], axes[:, :3] + 1, 0.1), ValueError, "must have 4 columns as the pool's, got 3"),
        (cf.Teacher(good, axes[::-1].copy(), 0.1), ValueError, "must have the class features"),
        (cf.Teacher(np.where(np.arange(N)[:, None] == 7, 0, good), axes, 0.1), ValueError, "7"),
    ]:
        with pytest.raises(error, match=text):
            loop.predict_proba(x, teacher)
    with pytest.raises(ValueError, match="this loop has none"):
        learner(x, y, 60).predict_proba(x, cf.Teacher.from_logits(good))
    with pytest.raises(ValueError, match="must come with the rows X"):
        loop.predict_proba(teacher=cf.Teacher(good, axes, 0.1))


@pytest.mark.parametrize("head", ["distilled", "published"])
def test_planted_label_errors_come_first(blobs, head):
    x, y = blobs(700, 10, 5, seed=3)
    rng = np.random.default_rng(4)
    planted = rng.choice(700, 35, replace=False)
    labels = y.copy()
    labels[planted] = (labels[planted] + rng.integers(1, 5, 35)) % 5
    found = cf.ActiveLearner(x, labels=labels, config=cf.CCMAConfig(head=head, max_epochs=60)).label_errors()
    np.testing.assert_array_equal(np.sort(found.indices), np.arange(700))  # all, where some would do to calibrate
    np.testing.assert_array_equal(found.labels, labels[found.indices])
    assert (np.diff(found.margins) >= 0).all()
    assert (found.suggested != found.labels).all()
    first = found.indices[:35]
    assert np.isin(first, planted).mean() >= 0.8
    assert (found.suggested[:35] == y[first]).mean() >= 0.8


def test_label_errors_have_names_and_ids(blobs):
    pandas = pytest.importorskip("pandas")
    x, y = blobs(60, 6, 3, seed=3)
    labels = y.copy()
    labels[7] = (labels[7] + 1) % 3
    names, ids = ["cat", "dog", "owl"], [f"{row:02}.png" for row in range(60)]
    found = cf.ActiveLearner(pandas.DataFrame(x, index=ids), labels=labels, class_names=names).label_errors()
    plain = cf.ActiveLearner(x, labels=labels).label_errors()
    np.testing.assert_array_equal(found.indices, plain.indices)
    assert len(found) == 60
    assert found.indices[0] == 7
    assert f"[07.png: {names[labels[7]]} → {names[y[7]]}, " in repr(found)
    assert f"[7: {labels[7]} → {y[7]}, " in repr(plain)
    assert names[labels[7]] in found._repr_html_()
    frame = found.to_pandas()
    assert [*frame.columns] == ["index", "image_path", "label", "suggested", "margin"]
    assert frame["label"].tolist() == [names[c] for c in found.labels]
    assert frame["image_path"].tolist() == [ids[row] for row in found.indices]
    assert [*plain.to_pandas().columns] == ["index", "label", "suggested", "margin"]
