"""Active learning in rounds: query, have the picks labelled, add the labels, query again."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_choice, check_flag, check_integer
from ..config import CCMAConfig
from ..errors import TeacherWarning
from ..pool.array_like import read_only
from ..pool.derived import AllBut
from ..pool.labels import ReadLabels, read_labels
from ..pool.open import open_rows
from ..query.arguments import check_arguments
from ..query.report import Selection
from ..query.select import select
from ..steps.classes import check_implied_count, declared_classes
from ..steps.covariate_shift import warn_not_exchangeable
from ..steps.predicted_rows import PredictedRows
from ..steps.student import check_head, class_count, has_two_classes
from ..steps.teacher import Teacher
from ..steps.trained import Trained
from ..system import display
from ..system.memory import check_memory_limit
from ..system.output_files import check_can_write, check_no_input, locked_file
from .identity import class_digests
from .input_files import input_files
from .labelled_pool import LabelledPool
from .labelling import rows_to_label, rows_to_unlabel
from .prediction import (
    LabelErrors,
    TrainedOn,
    check_same_teacher,
    label_errors,
    predicted_logits,
    rows_to_predict,
    train_on_labels,
)
from .relocation import relocated
from .saved_classes import agreed_names
from .saved_loop import SavedLoop, check_may_replace, read_loop, write_loop

__all__ = ["ActiveLearner"]

Int64 = npt.NDArray[np.int64]


# long: half of it tells what a caller needs to know of each method
class ActiveLearner:
    """Pool-based active learning: a pool, its labels so far, and a query in every round.

    Parameters
    ----------
    features : array_like, np.memmap, torch.Tensor, data frame, datasets.Dataset or path, shape (N, D_S)
        The student's embeddings x, in anything that :func:`ccma_fast.pool.open.open_rows` opens. Where that is a folder
        of shards, and the teacher's too, those that were added join the pool at the next query, unlabelled; the rows
        that were there keep their numbers.
    labels : array_like or path, shape (N,), optional
        Labels that are already there, classes or their names; −1 or NaN where there is none. Files as in
        :func:`ccma_fast.pool.labels.read_labels`.
    teacher : Teacher, optional
    student : object with `fit` and `predict_proba`, optional
        By default what ``CCMAConfig(head=)`` names; it is never changed, copies of it are fitted.
    n_classes : int, optional
        C, at most 2²⁰; by default that of the names, the teacher's, the student's, or the largest label + 1, which then
        may be no more than the pool has rows, or 10,000.
    class_names : sequence of str, mapping or path, optional
        What the classes are called, in their order, see :func:`ccma_fast.pool.class_names.read_class_names`; a
        teacher may know it.
    config : CCMAConfig, optional
    random_state : int, default 0
        The same seed and the same labels give the same picks in every round, on one machine.
    backend : {"auto", "cuda", "cpu", "reference"}
    memory_limit : int or str, optional
        What a query may add to the process's resident memory, see :func:`ccma_fast.select`.

    Attributes
    ----------
    labels : ndarray, shape (N,), int64
        −1 where there is no label. It can only be read: :meth:`label` and :meth:`unlabel` change it.
    class_names : list of str or None
    n_rounds : int
        Queries so far.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=600)
    >>> x = rng.standard_normal((600, 8), dtype=np.float32) + 3 * np.eye(3, 8, dtype=np.float32)[y]
    >>> learner = cf.ActiveLearner(x)
    >>> for _ in range(3):
    ...     picks = learner.query(10)
    ...     learner.label(picks.indices, y[picks.indices])
    >>> int((learner.labels >= 0).sum())
    30
    >>> learner.predict_proba(x[:2]).shape
    (2, 3)
    """

    def __init__(
        self,
        features: Any,
        *,
        labels: Any = None,
        teacher: Teacher | None = None,
        student: Any = None,
        n_classes: int | None = None,
        class_names: Any = None,
        config: CCMAConfig | None = None,
        random_state: int = 0,
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> None:
        rows = open_rows(features, "features")
        check_arguments(teacher, student, config)
        choose_backend(backend)
        if teacher is not None:
            teacher.check_rows(rows)
        self._classes = declared_classes(n_classes, class_names, teacher, student)
        if self._classes.n_classes is not None:
            check_head(student, self._classes.n_classes, rows.n_columns)
        self._student = student
        self._config = config or CCMAConfig()
        self._random_state = check_integer("random_state", random_state, minimum=0, maximum=math.inf)
        self._backend = backend
        check_memory_limit(memory_limit)
        self._memory_limit = memory_limit
        codes = read_labels(labels, rows, n_classes=self._classes.n_classes, class_names=self._classes.names)
        check_implied_count(codes, "labels", self._classes, student, rows)
        self._pool = LabelledPool(rows, teacher, codes.copy())  # the caller keeps an array of its own
        self._trained: TrainedOn | None = None  # when it was last needed
        self._class_digests = class_digests(teacher)
        self._own_files: set[str] = set()  # SHA-256 of the saved files that this loop may replace
        self._inputs = [
            *input_files("features", features),
            *input_files("features", rows),
            *input_files("labels", labels),
            *input_files("class_names", class_names),
            *input_files("teacher", teacher and teacher.source),
        ]

    def __repr__(self) -> str:
        return display.line("ActiveLearner", self._pool.summary())

    def _repr_html_(self) -> str:
        return self._pool.notebook_html(self.class_names)

    @property
    def labels(self) -> Int64:
        return read_only(self._pool.labels)

    @property
    def class_names(self) -> list[str] | None:
        names = self._classes.names
        return None if names is None else [*names]

    @property
    def n_rounds(self) -> int:
        return self._pool.n_rounds

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Save the loop so far: labels and the images they are of, rounds, choices, classes, seed and configuration.

        A file that this loop was loaded from or saved to is replaced atomically, unless another one has been
        saved there since. Several threads and processes may save to one path: each waits for the others, by
        a hidden empty file ``.NAME.ccma-lock`` beside it.

        Parameters
        ----------
        path : path
            A file in NumPy's ``.npz`` format, whatever its name.
        overwrite : bool, default False
            Replace whatever file is there, and lose its labels.

        Raises
        ------
        FileExistsError
            Another loop is there, a later state of this one, or another file; or `path` is a symbolic
            link.
        ValueError
            `path` is the pool, the teacher, or the labels that the loop was given.
        OSError
            The file cannot be written.

        Warns
        -----
        LabelWarning
            The pool cannot be read any more, and the values of some labelled rows are unknown. Their labels are saved,
            but :meth:`load` cannot check whether a pool still has their images.
        """
        overwrite = check_flag("overwrite", overwrite)
        check_can_write(path)
        check_no_input(path, self._inputs, what="path")
        with locked_file(path):
            if not overwrite:
                check_may_replace(path, self._own_files, self._pool.features.n_rows)
            # Copied while the file is locked, so that of two threads that save, the last one has the newest labels.
            self._own_files.add(write_loop(path, self._snapshot()))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        features: Any,
        *,
        teacher: Teacher | None = None,
        student: Any = None,
        class_names: Any = None,
        missing: Literal["raise", "drop"] = "raise",
        backend: str = "auto",
        memory_limit: int | str | None = None,
    ) -> ActiveLearner:
        """Go on with a saved loop: its next query is the one that it would have been.

        The labels go to their images. Where the pool has ids, now and when the loop was saved, an image is found at
        any row, and the pool may come from another encoder. Where it has none, the rows that were labelled or chosen
        must have the same values, in any type that holds them. Rows may have been added.

        Parameters
        ----------
        path : path
            What :meth:`save` wrote.
        features, teacher, student, class_names, backend, memory_limit
            As for a new loop; the classes must be those of the loop in their order.
        missing : {"raise", "drop"}
            What to do about images that were labelled or chosen and are no longer there by their ids.

        Raises
        ------
        FileReadError
            No such file, or not one that :meth:`save` wrote, or one of a newer version.
        PoolMismatchError
            The pool is not that of the loop: images are gone, or rows have other values, columns or places.
        ValueError
            Other classes, or another order of them.

        Warns
        -----
        LabelWarning
            Images have moved or were dropped, or the file is of an early version and cannot be checked.
        """
        check_choice("missing", missing, ("raise", "drop"))
        rows = open_rows(features, "features")
        loop, sha256 = read_loop(path, rows.n_rows)
        names = agreed_names(loop, class_names, teacher, path)
        labels, chosen = relocated(loop, rows, path, missing)
        learner = cls(
            rows,
            labels=ReadLabels(labels),
            teacher=teacher,
            student=student,
            n_classes=loop.n_classes,
            class_names=names,
            config=loop.config,
            random_state=loop.random_state,
            backend=backend,
            memory_limit=memory_limit,
        )
        learner._pool.n_rounds = loop.n_rounds
        learner._pool.chosen = set(chosen.tolist())
        if int((labels >= 0).sum()) == int((loop.labels >= 0).sum()) and chosen.size == loop.chosen.size:
            learner._own_files = {sha256}  # else the file holds more, and is replaced only if asked for
        learner._inputs += [*input_files("features", features), *input_files("class_names", class_names)]
        if learner._class_digests is None:
            learner._class_digests = loop.class_digests
        return learner

    def query(self, budget: int) -> Selection:
        """Choose `budget` rows to label, see :func:`ccma_fast.select`.

        Until there are labels of two classes no student can be fitted: the picks cover the pool, or with
        ``acquisition="trust"`` the teacher chooses them.

        Picks that never get a label can be chosen again.

        Warns
        -----
        ExchangeabilityWarning
            The configuration asks for the published score on sets of coverage 1 − α, and rows that an earlier query
            chose would calibrate them. The default acquisition uses its sets to compare the models, and promises no
            coverage.
        TeacherWarning
            The labels so far speak against the teacher, see :func:`ccma_fast.select`; or the loop was saved with one
            and goes on without.
        """
        pool = self._pool
        pool.grow()
        seed = int(np.random.SeedSequence([self._random_state, pool.n_rounds]).generate_state(1, np.uint64)[0])
        if pool.teacher is None and self._class_digests is not None:
            warnings.warn(
                "the loop was saved with a teacher and goes on without one; give it to load for the query that would "
                "have been",
                TeacherWarning,
                stacklevel=2,
            )
        promises_coverage = self._config.acquisition == "delta" and self._config.calibration == "coverage"
        n_not_exchangeable = pool.n_chosen_labelled if promises_coverage else 0
        if n_not_exchangeable:
            warn_not_exchangeable(n_not_exchangeable)
        picks = select(
            pool.features,
            budget,
            labels=ReadLabels(pool.labels),
            teacher=pool.teacher,
            student=self._student if (pool.labels >= 0).any() else None,
            config=self._config,
            random_state=seed,
            backend=self._backend,
            memory_limit=self._memory_limit,
        )
        pool.record_query(picks.indices)
        return picks

    def label(self, indices: npt.ArrayLike, y: npt.ArrayLike, *, overwrite: bool = False) -> None:
        """Add the labels of some rows. Either all are taken or, on an error, none.

        Parameters
        ----------
        indices : array_like, shape (n,), int or str
            Rows of the pool, distinct, or the ids of their images where the pool has ids.
        y : array_like, shape (n,), int or str
            Their classes or the names of these; a pandas Series whose index says that they are of other rows, or of
            these in another order, is refused.
        overwrite : bool, default False
            Allow rows that already have a label.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or already labelled; ids of no image or of several; labels out of range, or
            none; lengths that differ.
        TypeError
            Indices that are neither integers nor ids, or labels that are neither integers nor names.
        """
        check_flag("overwrite", overwrite)
        rows, codes = rows_to_label(self._pool, indices, y, self._classes, self._student, overwrite=overwrite)
        self._pool.label(rows, codes)

    def unlabel(self, indices: npt.ArrayLike) -> None:
        """Withdraw the labels of some rows, which can then be chosen again. On an error none is withdrawn.

        Parameters
        ----------
        indices : array_like, shape (n,), int or str
            As in :meth:`label`.

        Raises
        ------
        ValueError
            Rows out of range, repeated, or without a label; ids of no image or of several.
        TypeError
            Indices that are neither integers nor ids.
        """
        self._pool.unlabel(rows_to_unlabel(self._pool, indices))

    def predict_proba(self, X: Any = None, teacher: Teacher | None = None) -> npt.NDArray[np.float32]:
        """Class probabilities of any rows, by the models that the labels so far train.

        With a teacher they are of student and teacher combined, a weighted geometric mean of their posteriors. Its
        weights follow from labelled rows that the models did not see, from the student alone to the teacher alone: a
        bad teacher, or a weak student, costs no more than the noise of that comparison. Until there are labels of two
        classes they are of the teacher alone, uncorrected.

        Parameters
        ----------
        X : array_like, torch.Tensor or path, shape (M, D_S), optional
            The pool's own rows by default, with the loop's own teacher where it has one.
        teacher : Teacher, optional
            Of the rows of `X`, of the model, class features and temperature of the loop's teacher. Without it
            the probabilities of `X` are p^S, the student's alone.

        Returns
        -------
        ndarray, shape (M, C), float32

        Raises
        ------
        PoolMismatchError
            By their manifests the rows come from another encoder than the pool, or the teacher's from another than
            those of the loop's teacher; or the teacher is of other images than `X`.
        ValueError
            Fewer than two labelled classes and no teacher, columns that differ from the pool's, a teacher without `X`,
            or one that differs from the loop's; rows that are not finite.
        TypeError
            `teacher` is no Teacher.
        """
        return self.probabilities(X, teacher).float32()

    def probabilities(self, X: Any = None, teacher: Teacher | None = None) -> PredictedRows:
        """What :meth:`predict_proba` returns, computed a chunk at a time whenever it is read.

        The models are those of the labels that there are now, whatever is labelled later. For
        :func:`ccma_fast.audit_sample`, :func:`ccma_fast.audit_forecast` and :func:`ccma_fast.auto_label`, which know by
        it which rows have labels: together they compute the pool's probabilities once, and keep of each row the
        largest and its class.

        Parameters
        ----------
        X, teacher : optional
            As for :meth:`predict_proba`.

        Returns
        -------
        PredictedRows, shape (M, C), float32
            ``chunks()`` goes through all rows in order, as pairs of the first row's number and an array.

        Raises
        ------
        PoolMismatchError, ValueError, TypeError
            As :meth:`predict_proba`; for rows that are not finite when they are read.
        """
        pool = self._pool
        labels = pool.labels.copy()
        if X is None:
            if teacher is not None:
                raise ValueError("teacher must come with the rows X that it is of; the pool's own has its teacher")
            rows, teacher, is_labelled = pool.features, pool.teacher, labels >= 0
        else:
            rows, is_labelled = rows_to_predict(X, pool.features), None
            if teacher is not None:
                check_same_teacher(teacher, rows, pool.teacher)
        backend, n_classes = choose_backend(self._backend), self._n_classes()
        models = None
        if teacher is None or has_two_classes(labels[labels >= 0]):
            trained = self._trained
            if trained is None or not trained.is_on(pool.features, labels):
                trained = TrainedOn.of(pool.features, labels, self._train(labels, n_classes, backend))
                self._trained = trained
            models = trained.models
        logits = predicted_logits(models, rows, teacher, n_classes, backend)
        return PredictedRows(logits, rows, is_labelled, self.class_names)

    def label_errors(self) -> LabelErrors:
        """Rank the labelled rows by how much the models, trained without them, doubt their labels.

        By the margin ln p(label) − ln p(the best other class) of student and teacher combined, or of the student alone
        without a teacher, out of fold: the normalised margin of Northcutt et al., arXiv 1911.00068. It is a
        ranking: it tells where to look first, not how many labels are wrong.

        Returns
        -------
        LabelErrors
            Rows, labels, suggested classes and margins, the most doubtful first; printed, and as a data frame, with
            the names of the classes and the ids of the images where they are known. For a student of another kind,
            rows are missing whose fold leaves labels of fewer than two classes.

        Raises
        ------
        ValueError
            Fewer than two labelled classes.
        """
        labels = self._pool.labels.copy()
        trained = self._train(labels, self._n_classes(), choose_backend(self._backend), hold_all_out=True)
        labelled = np.flatnonzero(labels >= 0)
        return label_errors(trained, labelled, labels[labelled], self._pool.features, self.class_names)

    def _n_classes(self) -> int:
        pool = self._pool
        return self._classes.n_classes or class_count(self._student, pool.labels, pool.features.n_rows)

    def _train(self, labels: Int64, n_classes: int, backend: Backend, *, hold_all_out: bool = False) -> Trained:
        return train_on_labels(
            self._student,
            self._pool.features,
            labels,
            n_classes,
            self._pool.teacher,
            self._config,
            self._random_state,
            backend,
            population=AllBut(self._pool.features.n_rows, self._pool.refused),
            hold_all_out=hold_all_out,
        )

    def _snapshot(self) -> SavedLoop:
        """The state to save, with copies of what other threads may change."""
        pool = self._pool
        labels, chosen = pool.labels.copy(), np.array(sorted(pool.chosen), dtype=np.int64)
        return SavedLoop(
            labels=labels,
            chosen=chosen,
            n_rounds=pool.n_rounds,
            random_state=self._random_state,
            n_classes=self._classes.n_classes,
            class_names=self._classes.names,
            config=self._config,
            identity=pool.row_digests.identity(pool.features, labels, chosen),
            class_digests=self._class_digests,
        )
