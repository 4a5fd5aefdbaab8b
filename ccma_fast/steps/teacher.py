"""The teacher: zero-shot posteriors from image and class-text embeddings, or from anywhere else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from ..backends.choose import choose_backend
from ..backends.protocol import Backend
from ..checks import check_flag, check_number
from ..config import CCMAConfig
from ..errors import TeacherWarning
from ..images.encoders import DEFAULT_TEMPLATE, open_clip_encoder, prompt_templates
from ..images.encoders import class_features as made_class_features
from ..pool.agreement import accepted, differing_encoders
from ..pool.array_like import read_only
from ..pool.arrays import ArrayRows
from ..pool.checked import check_lengths
from ..pool.class_limits import check_class_count
from ..pool.class_names import agreed_class_names, read_class_names
from ..pool.derived import RowSubset
from ..pool.labels import read_labels
from ..pool.logits import open_logits
from ..pool.open import open_rows
from ..pool.rows import Rows
from .predicted_rows import PredictedRows
from .teacher_rows import TeacherRows, teacher_suspicions
from .validated_rows import validated_rows
from .zero_shot import ZeroShot, measured

__all__ = ["Teacher", "teacher_of_classes"]


# long: half of it tells what a caller needs to know of each method
class Teacher(TeacherRows):
    """Zero-shot knowledge of the classes: z^T_ic = cos(v_i, t_c) / τ.

    Parameters
    ----------
    image_features : array_like, torch.Tensor or path, shape (N, D_T)
        v, one row per pool row, any length (normalised here; none may be zero).
    class_features : array_like, torch.Tensor or path, shape (C, D_T)
        t, one row per class, C ≥ 2, any length (normalised here; none may be zero).
    temperature : float, default 0.03
        τ, greater than 0, in units of cosine similarity.
    class_names : sequence of str, mapping or path, optional
        What the classes are called, in the order of `class_features`, see
        :func:`ccma_fast.pool.class_names.read_class_names`; a folder that was extracted knows it.
    force : bool, default False
        Take features that do not belong together: class features of another encoder, or image features of other
        images than the pool's, by their manifests, ids or shards. The query's report says so.

    Attributes
    ----------
    n_rows, n_classes : int
        N and C.
    source : Rows
        What is read: the image features, or the logits of :meth:`from_logits`.
    features : Rows or None
        The space in which coverage runs; None for :meth:`from_logits`.
    class_directions : ndarray, shape (C, D_T), float32, or None
        t, normalised; None for :meth:`from_logits`.
    class_names : list of str or None
        The names of the classes, where they are known.

    Temperature, names and directions cannot be changed: with others it is another teacher.

    Raises
    ------
    PoolMismatchError
        The class features come from another encoder than the image features.
    ValueError
        Shapes that do not fit each other, NaN, infinity or a zero vector among the class features, τ ≤ 0, names that
        are not those of the classes.
    TypeError
        Inputs that are not real numbers.

    Examples
    --------
    Embeddings of 300 images and of three class names, here made up. A few labels tell how good the teacher is:

    >>> import numpy as np, ccma_fast as cf
    >>> rng = np.random.default_rng(0)
    >>> y = np.arange(300) % 3
    >>> texts = np.eye(3, 16)
    >>> images = (2 * texts[y] + 0.3 * rng.standard_normal((300, 16))).astype(np.float32)
    >>> teacher = cf.Teacher(images, texts, temperature=0.1, class_names=["cat", "dog", "owl"])
    >>> (teacher.n_rows, teacher.n_classes), teacher.class_names
    ((300, 3), ['cat', 'dog', 'owl'])
    >>> found = teacher.diagnose(np.where(np.arange(300) < 60, y, -1))
    >>> found.n_rows, bool(found.top1 > 0.9)
    (60, True)
    >>> p = teacher.predict_proba()
    >>> p.shape, teacher.class_names[p[2].argmax()]
    ((300, 3), 'owl')

    From logits that somebody has computed already:

    >>> cf.Teacher.from_logits(rng.standard_normal((300, 3))).features is None
    True
    """

    def __init__(
        self,
        image_features: Any,
        class_features: Any,
        temperature: float = CCMAConfig.temperature,
        *,
        class_names: Any = None,
        force: bool = False,
    ) -> None:
        tau = _check_temperature(temperature)
        images, classes = _open_pair(image_features, class_features)
        differing = differing_encoders(
            "class_features", classes.manifest, "image_features", images.manifest, images=False
        )
        is_forced = check_flag("force", force)
        forced = accepted([differing], is_forced)
        known_names = None if classes.manifest is None else classes.manifest.class_names or None
        super().__init__(images, classes.n_rows, tau, known_names, force=is_forced, forced=forced)
        self._class_names = agreed_class_names(class_names, self)
        self.features, self._class_directions = images, _unit(classes)

    @classmethod
    def from_logits(
        cls, logits: Any, temperature: float = 1.0, *, class_names: Any = None, force: bool = False
    ) -> Teacher:
        """A teacher from ready-made logits.

        Parameters
        ----------
        logits : array_like, torch.Tensor or path, shape (N, C)
            Logits, or logarithms of probabilities; C ≥ 2.
        temperature : float, default 1.0
            The logits are divided by it.
        class_names : sequence of str, mapping or path, optional
            What the classes are called, in the order of the columns.
        force : bool, default False
            Take logits that by their ids or shards are of other images than the pool's.

        Returns
        -------
        Teacher
            Without image features: coverage then runs in the student's space.
        """
        is_forced, tau = check_flag("force", force), _check_temperature(temperature)
        rows = open_logits(logits, "teacher_logits")
        teacher = cls.__new__(cls)
        TeacherRows.__init__(teacher, rows, rows.n_columns, tau, force=is_forced, forced=[])
        teacher._class_names = agreed_class_names(class_names, teacher)
        return teacher

    @classmethod
    def from_open_clip(
        cls,
        model: str,
        pretrained: str | None,
        class_names: Any,
        image_features: Any,
        *,
        templates: str | Sequence[str] = DEFAULT_TEMPLATE,
        temperature: float = CCMAConfig.temperature,
        device: str | None = None,
        force: bool = False,
    ) -> Teacher:
        """A teacher whose class features are made here, by the text encoder of a model of open_clip.

        Parameters
        ----------
        model : str
            A name of open_clip, ``hf-hub:`` and ``local-dir:`` included.
        pretrained : str or None
            The tag of the weights; None for ``hf-hub:`` and ``local-dir:``.
        class_names : sequence of str, mapping or path
            C ≥ 2 names, see :func:`ccma_fast.pool.class_names.read_class_names`.
        image_features : array_like, torch.Tensor or path, shape (N, D_T)
            v, by the image encoder of the same model; the folder that :func:`ccma_fast.extract` wrote knows which that
            was.
        templates : str or sequence of str, default "a photo of a {}"
            "openai" or "simple", open_clip's sets for ImageNet, or prompts with ``{}``; several are averaged.
        temperature : float, default 0.03
        device : str, optional
            As PyTorch spells it; a CUDA device by default where there is one.
        force : bool, default False
            Take image features that by their manifest are of another model.

        Raises
        ------
        PoolMismatchError
            The image features come from another model.
        ValueError
            A model, tag, name or template that cannot be, or image features of another number of columns.
        ImportError
            open_clip is not installed.
        """
        names, prompts = read_class_names(class_names), prompt_templates(templates)
        images = open_rows(image_features, "image_features")
        features, manifest = made_class_features(open_clip_encoder(model, pretrained, device=device), names, prompts)
        classes = open_rows(features, "class_features")
        classes.manifest = manifest
        return cls(images, classes, temperature, force=force)

    def predict_proba(self, temperature: float | None = None, *, backend: str = "auto") -> npt.NDArray[np.float32]:
        """The teacher's posteriors p^T = softmax(z^T) of all its rows, uncorrected by any label.

        Parameters
        ----------
        temperature : float, optional
            Instead of its own τ, such as the ``best_temperature`` that :meth:`diagnose` finds.
        backend : {"auto", "cuda", "cpu", "reference"}

        Returns
        -------
        ndarray, shape (N, C), float32

        Raises
        ------
        ValueError
            A row that is not finite, or without a direction where image features need one (it is named); τ ≤ 0.
        """
        return self.probabilities(temperature, backend=backend).float32()

    def probabilities(self, temperature: float | None = None, *, backend: str = "auto") -> PredictedRows:
        """What :meth:`predict_proba` returns, computed a chunk at a time whenever it is read.

        For large pools, and for :func:`ccma_fast.audit_sample` and :func:`ccma_fast.auto_label`, which tell how far the
        teacher alone can be trusted.

        Parameters
        ----------
        temperature, backend
            As for :meth:`predict_proba`.

        Returns
        -------
        PredictedRows, shape (N, C), float32
            ``chunks()`` goes through all rows in order, as pairs of the first row's number and an array.

        Raises
        ------
        ValueError
            τ ≤ 0; as :meth:`predict_proba` when rows are read.
        """
        asked = self
        if temperature is not None:
            asked = copy.copy(self)
            asked._temperature = _check_temperature(temperature)
        chosen = choose_backend(backend)
        logits = asked.reading(self.validated_source(chosen)).logits(chosen)
        return PredictedRows(logits, self.source, None, self.class_names)

    def validated_source(self, backend: Backend) -> Rows:
        """`source`, each row validated when it is read."""
        return validated_rows(self.source, backend, directions=self.class_directions is not None)

    def diagnose(self, labels: Any, *, backend: str = "auto") -> ZeroShot:
        """Evaluate the teacher on the labelled rows.

        Parameters
        ----------
        labels : array_like or path, shape (N,)
            Class of each row or its name; −1, NaN or None where there is none. Files as in
            :func:`ccma_fast.pool.labels.read_labels`.
        backend : {"auto", "cuda", "cpu", "reference"}

        Returns
        -------
        ZeroShot

        Raises
        ------
        ValueError
            No label, labels out of range, or NaN in a labelled row.

        Warns
        -----
        TeacherWarning
            It is no better than chance, or its temperature, numbers or order of classes seem wrong, see
            :attr:`ccma_fast.steps.zero_shot.ZeroShot.warnings`.
        """
        y = read_labels(labels, self.source, n_classes=self.n_classes, class_names=self.class_names)
        labelled = np.flatnonzero(y >= 0)
        if labelled.size == 0:
            raise ValueError("labels must be known for at least one row, got none")
        logits = RowSubset(self.logits(choose_backend(backend)), labelled)
        log_p = -reference.nonconformity(logits)
        read = ArrayRows(logits.float32(), logits.name)
        found = teacher_suspicions(
            self, read, y[labelled], self.class_names, whole_order=self.n_classes > 2, unproven=True
        ).texts
        if found:
            warnings.warn("\n".join(found), TeacherWarning, stacklevel=2)
        return measured(
            read.float32(),
            log_p,
            y[labelled],
            temperature=self.temperature,
            class_directions=self.class_directions,
            class_names=self.class_names,
            warnings=found,
        )


def teacher_of_classes(teacher: Teacher, groups: Sequence[Sequence[int]], class_names: Sequence[str]) -> Teacher:
    """A teacher for other classes, each of which is one of its own or several of them together.

    Parameters
    ----------
    teacher : Teacher
    groups : sequence of sequence of int
        Its classes that each of the others is; the direction of several is that of the sum of theirs.
    class_names : sequence of str
        What the others are called.

    Raises
    ------
    ValueError
        Ready-made logits of other classes, or in another order; fewer than two classes.
    """
    names, other = read_class_names(class_names), copy.copy(teacher)
    if teacher._class_directions is not None:
        sums = np.stack([teacher._class_directions[[*group]].sum(axis=0) for group in groups])
        other._class_directions = _unit(open_rows(sums, "class_features"))
    elif [[*group] for group in groups] != [[c] for c in range(teacher.n_classes)]:
        raise ValueError(
            f"ready-made teacher logits must be of the classes {names!r:.200} in their order, got those of "
            f"{teacher.class_names or teacher.n_classes!r:.200}"
        )
    other.n_classes, other._class_names = len(names), names
    return other


def _check_temperature(temperature: Any) -> float:
    return check_number("temperature", temperature, above=0.0, minimum=float(np.finfo(np.float32).tiny))


def _open_pair(image_features: Any, class_features: Any) -> tuple[Rows, Rows]:
    """Image features and class features, of the same columns."""
    images = open_rows(image_features, "image_features")
    classes = open_rows(class_features, "class_features")
    if classes.n_columns != images.n_columns:
        raise ValueError(
            f"class_features has {classes.n_columns} columns but image_features has {images.n_columns}; "
            "both must come from the same teacher"
        )
    if classes.n_rows < 2:
        raise ValueError(f"class_features must have at least two rows (classes), got {classes.n_rows}")
    check_class_count("the rows (classes) of class_features", classes.n_rows)
    return images, classes


def _unit(vectors: Rows) -> npt.NDArray[np.float32]:
    """The rows divided by their lengths."""
    values = vectors.float32()
    lengths = reference.row_lengths(values)
    check_lengths(vectors, 0, lengths, directions=True)
    return read_only((values / lengths[:, None]).astype(np.float32))
