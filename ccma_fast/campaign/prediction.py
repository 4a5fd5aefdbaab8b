"""Predictions, and likely label errors, by the models that are trained on the labels of a pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..config import CCMAConfig
from ..pool.agreement import accepted, differing_encoders
from ..pool.derived import AllBut
from ..pool.id_columns import ID
from ..pool.open import open_rows
from ..pool.rows import RowId, Rows
from ..steps.combination import log_softmax
from ..steps.student import check_two_classes
from ..steps.teacher import Teacher
from ..steps.train import train
from ..steps.trained import Trained
from ..steps.validated_rows import validated_rows
from ..system import display
from ..system.extras import optional

__all__ = [
    "LabelErrors",
    "TrainedOn",
    "check_same_teacher",
    "label_errors",
    "predicted_logits",
    "rows_to_predict",
    "train_on_labels",
]

Int64 = npt.NDArray[np.int64]


def rows_to_predict(X: Any, features: Rows) -> Rows:
    """The rows of `X`, of the same encoder as the pool's `features`.

    Raises
    ------
    PoolMismatchError
        By their manifests they come from another encoder.
    ValueError
        Another number of columns.
    """
    rows = open_rows(X, "X")
    accepted([differing_encoders("X", rows.manifest, "features", features.manifest)], force=None)
    if rows.n_columns != features.n_columns:
        raise ValueError(f"X must have {features.n_columns} columns as the pool, got {rows.n_columns}")
    return rows


def train_on_labels(
    student: Any,
    features: Rows,
    labels: Int64,
    n_classes: int,
    teacher: Teacher | None,
    config: CCMAConfig,
    random_state: int,
    backend: Backend,
    *,
    population: AllBut | Int64 | None = None,
    hold_all_out: bool = False,
) -> Trained:
    """A copy of `student`, or where that is None the configured head, and the teacher, trained on the labelled rows.

    Raises
    ------
    ValueError
        Fewer than two labelled classes, or a row that is not finite among those that are read.
    """
    labelled = np.flatnonzero(labels >= 0)
    check_two_classes(labels[labelled])
    return train(
        student,
        validated_rows(features, backend),
        labelled,
        labels[labelled],
        n_classes,
        teacher=teacher,
        teacher_source=None if teacher is None else teacher.validated_source(backend),
        config=config,
        rng=np.random.default_rng(random_state),
        backend=backend,
        population=population,
        hold_all_out=hold_all_out,
    )


class TrainedOn(NamedTuple):
    """Models, and what they are trained on."""

    features: Rows
    labelled: Int64
    labels: Int64
    models: Trained

    @classmethod
    def of(cls, features: Rows, labels: Int64, models: Trained) -> TrainedOn:
        labelled = np.flatnonzero(labels >= 0)
        return cls(features, labelled, labels[labelled], models)

    def is_on(self, features: Rows, labels: Int64) -> bool:
        """Whether another pool and its labels, shape (N,), are these."""
        labelled = np.flatnonzero(labels >= 0)
        return (
            features is self.features
            and np.array_equal(labelled, self.labelled)
            and np.array_equal(labels[labelled], self.labels)
        )


def predicted_logits(
    models: Trained | None, rows: Rows, teacher: Teacher | None, n_classes: int, backend: Backend
) -> Rows:
    """Logits by trained models, or where these are None by the teacher alone; rows are validated as they are read."""
    reading = None if teacher is None else teacher.reading(teacher.validated_source(backend))
    if models is not None:
        return models.combined_logits(validated_rows(rows, backend), reading, n_classes, backend)
    assert reading is not None, "there is a model"
    return reading.logits(backend)


def check_same_teacher(teacher: Any, rows: Rows, of_pool: Teacher | None) -> None:
    """`teacher` is of the rows `rows`, and what the pool's teacher is of the pool.

    Its correction is an affine map of that teacher's unit image features, or logits: their model, the class directions
    and the temperature must be the same.

    Raises
    ------
    PoolMismatchError
        By their manifests its features come from another encoder, or its rows are other images.
    ValueError
        The pool has no teacher, or one of another kind, or with other classes, directions or temperature; or another
        number of rows.
    TypeError
        Not a Teacher.
    """
    if not isinstance(teacher, Teacher):
        raise TypeError(f"teacher must be a Teacher of the rows of X, got {type(teacher).__name__}")
    if of_pool is None:
        raise ValueError("teacher needs a loop with a teacher, whose weight the labels tell; this loop has none")
    teacher.check_rows(rows)
    accepted(
        [differing_encoders(teacher.source.name, teacher.source.manifest, "the pool's", of_pool.source.manifest)],
        force=None,
    )
    kinds = ["logits" if t.class_directions is None else "image features" for t in (teacher, of_pool)]
    if kinds[0] != kinds[1]:
        raise ValueError(f"teacher must have {kinds[1]} as the pool's, got {kinds[0]}")
    if teacher.n_classes != of_pool.n_classes:
        raise ValueError(f"teacher must have {of_pool.n_classes} classes as the pool's, got {teacher.n_classes}")
    if None not in (names := (teacher.class_names, of_pool.class_names)) and names[0] != names[1]:
        raise ValueError(f"teacher must have the class names of the pool's, got {names[0]!r:.200}")
    if teacher.temperature != of_pool.temperature:
        raise ValueError(
            f"teacher must have the temperature {of_pool.temperature:g} as the pool's, got {teacher.temperature:g}"
        )
    if teacher.source.n_columns != of_pool.source.n_columns:
        raise ValueError(
            f"teacher must have {of_pool.source.n_columns} columns as the pool's, got {teacher.source.n_columns}"
        )
    if teacher.class_directions is not None and not np.array_equal(
        teacher.class_directions, np.asarray(of_pool.class_directions)
    ):
        raise ValueError("teacher must have the class features of the pool's, got others")


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Labelled rows, those first whose labels the models doubt most. A ranking, not a test of any label.

    Attributes
    ----------
    indices : ndarray, shape (n,), int64
        Rows of the pool.
    labels : ndarray, shape (n,), int64
        Their labels.
    suggested : ndarray, shape (n,), int64
        The most probable other class, the lower of equal ones.
    margins : ndarray, shape (n,), float32
        ln p of the label − ln p of the suggested class, out of fold, in nats, ascending; ties by the row. Below 0 the
        suggested class is the more probable one.
    ids : list of str or None, or None
        Ids of the images; None where the pool has none.
    class_names : list of str or None
    """

    indices: Int64
    labels: Int64
    suggested: Int64
    margins: npt.NDArray[np.float32]
    ids: list[RowId] | None = None
    class_names: list[str] | None = None

    def __len__(self) -> int:
        return int(self.indices.size)

    def to_pandas(self) -> Any:
        """The ranking as a ``pandas.DataFrame``, the most doubtful label first.

        With the columns ``index``, ``image_path`` where the pool has ids, ``label``, ``suggested`` and ``margin``;
        classes are names where these are known.

        Raises
        ------
        ImportError
            pandas is not installed; the text names the extra that brings it.
        """
        return optional("pandas", "a data frame").DataFrame(self._columns(len(self)))

    def _columns(self, n: int) -> dict[str, list[Any]]:
        """The first entries as people read them."""
        names = self.class_names

        def called(classes: Int64) -> list[Any]:
            return classes[:n].tolist() if names is None else [names[c] for c in classes[:n].tolist()]

        return {
            "index": self.indices[:n].tolist(),
            **({} if self.ids is None else {ID: self.ids[:n]}),
            "label": called(self.labels),
            "suggested": called(self.suggested),
            "margin": self.margins[:n].tolist(),
        }

    def __repr__(self) -> str:
        doubted = f"{int((self.margins < 0).sum()):,} where another class is more probable"
        columns = self._columns(display.SHOWN)
        images = columns.get(ID, columns["index"])
        changes = zip(images, columns["label"], columns["suggested"], strict=True)
        first = display.few((f"{image}: {label} → {other}" for image, label, other in changes), len(self))
        return display.line("LabelErrors", f"{len(self):,} labelled rows", doubted, f"[{first}]")

    def _repr_html_(self) -> str:
        columns = self._columns(display.SHOWN)
        title = f"Label errors: {len(self):,} labelled rows, the most doubtful first"
        return display.notebook_html(title, display.table([*columns], zip(*columns.values(), strict=True), len(self)))


def label_errors(
    trained: Trained, labelled: Int64, labels: Int64, pool: Rows, class_names: list[str] | None
) -> LabelErrors:
    """Rank the labelled rows by the normalised margin of Northcutt et al., arXiv 1911.00068, in logarithms."""
    held_out, combined = trained.out_of_fold
    z = held_out.student
    if combined is not None and held_out.teacher is not None:
        z = combined(z, held_out.teacher)
    z = log_softmax(z)
    rows, given = labelled[held_out.rows], labels[held_out.rows]
    at = np.arange(rows.size), given
    own = z[at]
    z[at] = -np.inf
    suggested = z.argmax(axis=1)
    margins = own - z.max(axis=1)
    order = np.argsort(margins, kind="stable")
    rows = rows[order]
    return LabelErrors(rows, given[order], suggested[order], margins[order], pool.ids_at(rows), class_names)
