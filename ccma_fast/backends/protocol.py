"""The interface of compute backends. A backend is a module that has the members of :class:`Backend` as functions.

Their results are defined by the functions of the same names in :mod:`ccma_fast.reference`. M is a number of rows of
logits, C one of classes, N one of rows of embeddings and D their dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from ..pool.derived import Runs
from ..pool.rows import Rows
from ..reference import Cumulative, KMeans, RowScores
from .device_training import DeviceTraining
from .host_training import HostTraining, Normalization
from .parts import Parts
from .unit_rows import UnitRows

__all__ = [
    "Backend",
    "BracketingBackend",
    "Clustered",
    "DeviceBackend",
    "HostBackend",
    "PartedBackend",
    "PutScores",
    "SpreadBackend",
    "by_brackets",
    "on_device",
    "on_host",
    "on_ranks",
    "over_parts",
]


PutScores = Callable[[slice | npt.NDArray[np.int64], RowScores], None]
"""Takes the scores of some rows. What is put last for a row holds; all that was put before is zero."""


class Backend(Protocol):
    """The interface of every backend.

    Rows are read chunk by chunk; `chunk_size` is the number of rows in one, by default what suits their storage. No
    result depends on it. Every pass raises ``ValueError`` for the first row that holds NaN or infinity.
    """

    NAME: str
    """Value of the argument `backend` that selects it."""
    ON_HOST: bool
    """Whether chunks of rows are read on the host, where they can be validated before anything is computed."""

    def describe(self) -> str:
        """The backend and what it runs on, for reports."""
        ...

    def arithmetic(self) -> str:
        """The arithmetic that rounding depends on: :meth:`describe` without the threads."""
        ...

    def score(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None = None,
        q_student: float | npt.NDArray[np.float64] = ...,
        q_teacher: float | npt.NDArray[np.float64] = ...,
        *,
        chunk_size: int | None = None,
    ) -> RowScores:
        """δ, set sizes and what else one pass says of each row, see :func:`ccma_fast.reference.score`.

        Parameters
        ----------
        student_logits, teacher_logits : Rows, shape (M, C)
        q_student, q_teacher : float or ndarray, shape (M,), float64
            Thresholds on −ln p, of all rows or of each; +∞ by default.
        """
        ...

    def score_at_sizes(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        student_size: float,
        teacher_size: float,
        put: PutScores,
        *,
        chunk_size: int | None = None,
    ) -> tuple[float, float] | None:
        """Both target-size thresholds, and to `put` the scores of all rows under them, in one pass.

        None where the backend cannot or where it did not pay: then what was put does not count, and thresholds must be
        computed first and scores after them. Without a teacher its threshold is +∞.
        """
        ...

    def target_size_threshold(
        self, logits: Rows, size: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
    ) -> float:
        """The ⌈size · M⌉-th smallest of all M · C scores, see :func:`ccma_fast.reference.target_size_threshold`."""
        ...

    def raised_threshold(
        self, logits: Rows, q: float, cumulative: Cumulative | None = None, *, chunk_size: int | None = None
    ) -> float:
        """The least threshold from q up that leaves no set empty, see :func:`ccma_fast.reference.raised_threshold`."""
        ...

    def row_thresholds(
        self,
        logits: Rows,
        q: float | npt.NDArray[np.float64],
        cumulative: Cumulative,
        *,
        chunk_size: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Thresholds on −ln p, shape (M,), that give the sets of a cumulative score at `q`, of all rows or of each."""
        ...

    def prediction_sets(
        self, logits: Rows, q: float | npt.NDArray[np.float64], *, chunk_size: int | None = None
    ) -> npt.NDArray[np.bool_]:
        """Γ of every row, shape (M, C), at thresholds on −ln p, of all rows or of each."""
        ...

    def row_lengths(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Euclidean length of each row of a chunk, shape (n,); not finite exactly where the row is not."""
        ...

    def check_rows(self, rows: Rows, *, directions: bool = False, chunk_size: int | None = None) -> None:
        """Raises where a row is not finite or, where `directions` are needed, too short to have one."""
        ...

    def kept(self, rows: Rows, limit: int, chunk_size: int | None = None) -> Rows:
        """Rows that are read several times: kept where they fit into `limit` bytes, else read or computed anew."""
        ...

    def linear(
        self,
        x: npt.NDArray[Any],
        weight: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32] | None = None,
        *,
        scale: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """(scale · x) Wᵀ + b, shape (n, C).

        Each product depends on its row and column alone: no bit of it depends on the chunk.

        Parameters
        ----------
        x : ndarray, shape (n, D)
            A chunk of rows, in the dtype of their storage.
        weight : ndarray, shape (C, D), float32
        bias : ndarray, shape (C,), float32, optional
        scale : ndarray, shape (n,), float32, optional
            A factor for each row.
        """
        ...

    def top_m(self, scores: npt.NDArray[np.float32], m: int) -> npt.NDArray[np.int64]:
        """Positions of the m largest scores, largest first; ties go to the lower index."""
        ...

    def weighted_kmeans(
        self,
        x: Rows,
        n_clusters: int,
        *,
        weights: npt.NDArray[np.float32] | None = None,
        init: str | npt.NDArray[np.float32] = ...,
        max_iter: int = ...,
        tol: float = ...,
        random_state: np.random.Generator,
        unit: bool = False,
        chunk_size: int | None = None,
        kept_bytes: int = ...,
    ) -> KMeans:
        """Weighted k-means, see :func:`ccma_fast.reference.weighted_kmeans`.

        Parameters
        ----------
        x : Rows, shape (N, D)
        weights : ndarray, shape (N,), float32, optional
            Unit weights where missing.
        init : {"k-means||", "k-means++", "random"} or ndarray, shape (n_clusters, D), float32
        unit : bool
            Whether rows are divided by their lengths.
        kept_bytes : int
            What the host may keep of the rows between passes. No result depends on it.
        """
        ...


class HostBackend(Backend, Protocol):
    """A backend on the host, with what students are trained by there."""

    def multiplier(self, weight: npt.NDArray[np.float32]) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]:
        """x ↦ x Wᵀ as :meth:`linear` has it, for many x: W, (C, D) and not empty, is packed once."""
        ...

    def softmax_gradient(
        self,
        x: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        soft: npt.NDArray[np.float32],
        offset: npt.NDArray[np.float32] | None = None,
    ) -> Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32]], tuple[float, npt.NDArray[np.float32]]]:
        """(W, w) ↦ Σ w CE(t, softmax(W x + o)), in nats, and its gradient (C, D).

        For many W, (C, D), and weights w, (M,), both C-contiguous; see :func:`ccma_fast.reference.softmax_gradient`.

        Parameters
        ----------
        x : ndarray, shape (M, D), float32
            C-contiguous and not empty.
        labels : ndarray, shape (n,), int64
            Classes of the first n ≤ M rows.
        soft : ndarray, shape (M − n, C), float32
            Probabilities of the other rows' classes; C-contiguous, C > 0.
        offset : ndarray, shape (M, C), float32, optional
            o; C-contiguous.
        """
        ...

    def inverse_factor(self, matrix: npt.NDArray[np.float32], least: float) -> npt.NDArray[np.float32]:
        """L⁻¹ of the symmetric matrix L Lᵀ, (D, D), whose eigenvalues are no lower than `least` but for rounding."""
        ...

    def dots(self, stack: npt.NDArray[np.float32], vector: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The product of each matrix of a stack (k, C, D) with one (C, D), the sum of those of their entries."""
        ...

    def combination(self, stack: npt.NDArray[np.float32], factors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Σ factor · matrix over a stack (k, C, D), (C, D)."""
        ...

    def head_training(
        self,
        x: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        start: npt.NDArray[np.float32],
        normalization: Normalization,
    ) -> HostTraining:
        """State of one training of a linear head, on rows (n, D), C-contiguous, and their classes, n ≥ 2.

        `start`, (C · D + C,), has the first weights (C, D), then intercepts. Every step reads `x` and `labels`.
        """
        ...


class Clustered(NamedTuple):
    """A clustering, whose labels and squared distances lie in parts."""

    centroids: npt.NDArray[np.float32]
    inertia: float
    n_iter: int


class PartedBackend(Backend, Protocol):
    """A backend whose passes over rows can be made in several places, with the same result."""

    def kmeans_part(
        self,
        rows: Rows,
        numbers: Runs,
        weights: npt.NDArray[np.float32],
        *,
        unit: bool,
        chunk_size: int | None = None,
        kept_bytes: int = ...,
    ) -> Any:
        """The rows of one place, a :class:`ccma_fast.backends.lloyd_part.LloydPart`.

        Of the rows at most `kept_bytes` are kept on the host, in the form in which it searches them.
        """
        ...

    def kmeans_of_parts(
        self,
        parts: Parts,
        n_clusters: int,
        *,
        init: str | npt.NDArray[np.float32] = ...,
        max_iter: int = ...,
        tol: float = ...,
        random_state: np.random.Generator,
    ) -> Clustered:
        """:meth:`Backend.weighted_kmeans` of such parts, which have `labels` and `squared` distances then."""
        ...

    def scores_between(
        self,
        logits: Rows,
        cumulative: Cumulative | None,
        low: float,
        high: float,
        chunk_size: int | None = None,
        share: float = ...,
    ) -> Any:
        """Counts and scores of a bracket, a :class:`~.order_statistic.ScoresBetween`.

        The rows are a `share` of all that are kept of.
        """
        ...


class BracketingBackend(HostBackend, PartedBackend, Protocol):
    """A backend on the host that scores most rows before the thresholds of target sizes are known."""

    def likely_brackets(
        self, student_logits: Rows, teacher_logits: Rows | None, student_size: float, teacher_size: float
    ) -> list[tuple[float, float]] | None:
        """Two numbers for each matrix between which its threshold is likely to lie; None where rows are few."""
        ...

    def scores_in_brackets(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        brackets: list[tuple[float, float]],
        put: PutScores,
        *,
        chunk_size: int | None = None,
    ) -> Any:
        """One pass: scores of most rows, and what those of others need, once thresholds are known."""
        ...

    def thresholds_in_brackets(
        self,
        logits: Rows,
        sizes: tuple[float, float],
        brackets: list[tuple[float, float]],
        counted: Sequence[Any],
    ) -> tuple[float, float] | None:
        """The thresholds of target sizes, of what the passes of all ranks have counted; None where a bracket missed."""
        ...


class DeviceBackend(PartedBackend, Protocol):
    """A backend on a device, with additional methods. Its `top_m` takes tensors as well."""

    def why_unavailable(self) -> str | None:
        """The reason why the backend cannot run on this machine, or None."""
        ...

    def score_here(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None = None,
        q_student: float | npt.NDArray[np.float64] = ...,
        q_teacher: float | npt.NDArray[np.float64] = ...,
        *,
        chunk_size: int | None = None,
    ) -> Any:
        """:meth:`Backend.score`, its columns tensors on the device."""
        ...

    def true_class_scores(
        self, logits: Rows, labels: npt.NDArray[np.int64], cumulative: Cumulative | None = None
    ) -> npt.NDArray[np.float64]:
        """The nonconformity of each row's true class, shape (M,), where sets are cut: −ln p or a cumulative score."""
        ...

    def class_sizes(self, classes: Any, n_classes: int) -> npt.NDArray[np.int64]:
        """How many rows each class has, shape (C,), from the class of each row, a tensor."""
        ...

    def best_of_classes(
        self, scores: Any, classes: Any, sizes: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """The rows of largest score of each class, ascending within it, one class after the other.

        Parameters
        ----------
        scores, classes : tensor, shape (M,)
        sizes, wanted : ndarray, shape (C,), int64
            Rows of each class, and how many of them are wanted, no more than there are. Ties go to the lower row.
        """
        ...

    def unit_rows(self, rows: Rows) -> UnitRows:
        """Rows divided by their lengths, for greedy coverage on the device."""
        ...

    def training(self) -> DeviceTraining:
        """State of one training of a student; not shared between trainings."""
        ...


class SpreadBackend(Backend, Protocol):
    """A backend for rows that lie on several ranks, where what is kept of them stays.

    Its columns are neither arrays nor tensors, but take operators in place, positions and :func:`on_host`. Rows that
    have been brought to this process it leaves to this process's own backend.
    """

    n_ranks: int

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the ranks so far."""
        ...

    def score_columns(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        q_student: Any,
        q_teacher: Any,
        columns: Mapping[str, npt.DTypeLike],
        *,
        chunk_size: int | None = None,
    ) -> tuple[dict[str, Any], dict[str, int]]:
        """Columns of the scores of all rows, and the totals of set sizes, overlaps and differing classes."""
        ...

    def score_columns_at_sizes(
        self,
        student_logits: Rows,
        teacher_logits: Rows | None,
        student_size: float,
        teacher_size: float,
        columns: Mapping[str, npt.DTypeLike],
    ) -> tuple[tuple[float, float], dict[str, Any], dict[str, int]] | None:
        """:meth:`score_columns` with the thresholds of target sizes, which are found in the same pass.

        None as for :meth:`Backend.score_at_sizes`.
        """
        ...

    def cluster(self, x: Rows, n_clusters: int, *, method: str, **settings: Any) -> KMeans:
        """As :func:`ccma_fast.steps.clustering.cluster`."""
        ...

    def class_sizes(self, classes: Any, n_classes: int) -> npt.NDArray[np.int64]:
        """As :meth:`DeviceBackend.class_sizes`."""
        ...

    def best_of_classes(
        self, scores: Any, classes: Any, sizes: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """As :meth:`DeviceBackend.best_of_classes`."""
        ...

    def representatives(
        self, found: KMeans, n_picks: int, weights: Any, preference: Any
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """As :func:`ccma_fast.steps.representatives.representatives`, of columns too."""
        ...

    def squared_distances(self, rows: Rows, others: Rows) -> Any:
        """‖x − x_j‖² of each row to the nearest of `others`, of unit rows both, a column."""
        ...

    def nearest_to_centroids(
        self, groups: Any, pick_of_group: npt.NDArray[np.int64], cost: Any
    ) -> npt.NDArray[np.int64]:
        """The rows of least cost of each group that has a pick, ascending."""
        ...


def on_device(backend: Backend) -> DeviceBackend | None:
    """The backend where it is not on the host."""
    return None if backend.ON_HOST else cast(DeviceBackend, backend)


def on_ranks(backend: Backend) -> SpreadBackend | None:
    """The backend where rows lie on several ranks."""
    return cast(SpreadBackend, backend) if getattr(backend, "n_ranks", 0) else None


def over_parts(backend: Backend) -> PartedBackend | None:
    """The backend where its passes can be made in several places."""
    return cast(PartedBackend, backend) if hasattr(backend, "kmeans_of_parts") else None


def by_brackets(backend: Backend) -> BracketingBackend | None:
    """The backend where it scores rows before the thresholds of target sizes are known."""
    return cast(BracketingBackend, backend) if hasattr(backend, "likely_brackets") else None


def on_host(values: Any) -> npt.NDArray[Any]:
    """The result of a backend, an array, a tensor on its device or a column on several ranks, as an array."""
    array: npt.NDArray[Any] = values if isinstance(values, np.ndarray) else values.cpu().numpy()
    return array
