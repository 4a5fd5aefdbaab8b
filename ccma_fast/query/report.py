"""The result of a query: the selected rows and a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ..checks import check_flag
from ..pool.kept_labels import check_keeps_labels, write_keeping_labels
from ..pool.rows import RowId
from ..system import display
from ..system.extras import optional
from ..system.output_files import check_can_write
from .explanation import Explanation
from .picks_file import as_csv, columns_of, holds_picks_alone
from .plan import Plan
from .report_text import report_text
from .stage_totals import StageTotals

__all__ = ["Pick", "Report", "Selection", "Stage"]


@dataclass(frozen=True)
class Stage:
    """Measured cost of one stage of a query."""

    seconds: float
    """Wall time."""
    bytes_read: int
    """Bytes read from features, logits and teacher, in files or in memory."""
    peak_memory: int
    """Most bytes by which the process's resident memory, mapped files included, exceeded that at the query's start.

    On several ranks that of the first.
    """
    bytes_exchanged: int = 0
    """Payload between the ranks, each byte once for each rank that gets it; 0 in a single process."""


@dataclass
class Report(StageTotals):
    """What a query did, in order.

    Counts are rows. Thresholds are in units of the nonconformity score, for "lac" −ln p in nats: the median over the
    scored rows where calibration is weighted, NaN where there is none. Set sizes and the overlap are mean numbers of
    classes over the scored rows; where the picks depend on no sets, as by default, over a random sample of them (4,096
    up to 1,024 classes), like the disagreement and by the sample's thresholds.
    """

    backend: str = ""
    n_ranks: int = 1
    """Processes that have shared the work, see `group` of :func:`ccma_fast.select`."""
    mode: str = ""
    """"cold start" (labels of fewer than two classes and no student logits, so that no student can be fitted) or
    "query".
    """
    version: str = ""
    """Of this package."""
    random_state: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    """Every constant, see :class:`ccma_fast.CCMAConfig`."""
    n_rows: int = 0
    n_labelled: int = 0
    n_unlabelled: int = 0
    """Unlabelled rows that can be selected."""
    n_pending: int = 0
    """Rows that `pending` names, neither labelled nor excluded: they cannot be selected, and count as covered."""
    n_excluded: int = 0
    """Other unlabelled rows that cannot be selected, since `exclude` names them or `include` does not."""
    n_vanished: int = 0
    """Other unlabelled rows that cannot be selected, since :func:`ccma_fast.extract` found their images gone."""
    n_classes: int = 0
    """0 at cold start without a teacher and names of classes."""
    n_subpool_clusters: int = 0
    """0 where every row was scored."""
    n_scored: int = 0
    calibration: str = ""
    """"coverage" or "target_size"; empty where no sets were formed."""
    penalty: float = float("nan")
    """Of the logistic regression's ‖W‖² / 2; NaN for students of another kind, as the next four."""
    soft_weight: float = float("nan")
    """What the teacher's soft labels together weighed in its training, in labels: 0 where they did not help."""
    teacher_temperature: float = float("nan")
    """By which the teacher's logits were divided once more; infinite where they were of no use as they are."""
    correction_penalty: float = float("nan")
    """Of the teacher's correction by the labelled rows; infinite where there is none."""
    student_share: float = float("nan")
    """Of the student in its combination with the teacher, in [0, 1]."""
    q_student: float = float("nan")
    q_teacher: float = float("nan")
    mean_student_set: float = float("nan")
    mean_teacher_set: float = float("nan")
    mean_overlap: float = float("nan")
    top1_disagreement: float = float("nan")
    """Share of the scored rows whose most probable classes differ, in [0, 1]."""
    trust: float = float("nan")
    """t, the fraction of the picks made by the teacher's criterion (before rounding), see :func:`select`; NaN at cold
    start and unless ``acquisition="trust"``.
    """
    likeliest_temperature: float = float("nan")
    """The teacher's τ under which the labels are the likeliest: infinite where no τ is likelier than guessing, at most
    1e-6 where the teacher is right on every labelled row, NaN without a teacher or labels. Of many labelled rows a
    random share is used, see :attr:`warnings`.
    """
    warnings: list[str] = field(default_factory=list)
    """Failed sanity checks of the teacher or `student_logits`, a sentence each, see :func:`select`."""
    n_candidates: int = 0
    n_too_near: int = 0
    """Rows that were passed over, nearer than `min_distance` to one that is labelled, pending or picked."""
    n_clusters: int = 0
    """Clusters of the coverage step's k-means, summed over the classes."""
    kmeans_iterations: int = 0
    """Maximum over its clusterings."""
    inertia: float = 0.0
    """Its objective Σ δ ‖v − μ‖² on unit rows."""
    forced: list[str] = field(default_factory=list)
    """Manifest mismatches between the parts of the pool that were overridden by `force`."""
    stages: dict[str, Stage] = field(default_factory=dict)
    plan: Plan | None = None
    """The expected cost; without seconds, since no rates were measured, see :func:`ccma_fast.plan`."""

    def to_dict(self) -> dict[str, Any]:
        """The report as plain Python values, for JSON."""
        return asdict(self) | {"plan": None if self.plan is None else self.plan.to_dict()}

    def __str__(self) -> str:
        return report_text(self)

    @property
    def seconds(self) -> float:
        """Wall time, summed over the stages."""
        return float(sum(stage.seconds for stage in self.stages.values()))

    @property
    def bytes_exchanged(self) -> int:
        """Payload between the ranks, summed over the stages."""
        return sum(stage.bytes_exchanged for stage in self.stages.values())

    def __repr__(self) -> str:
        return display.line("Report", self._summary(), "print it for all")

    def _repr_html_(self) -> str:
        return display.notebook_html(f"Report: {self._summary()}", *self.html_parts())

    def _summary(self) -> str:
        what = self.mode or "nothing yet"
        return f"{what}, {self.n_rows:,} rows, {self.n_labelled:,} labelled, {self.backend}, {self.seconds:.2f} s"

    def html_parts(self) -> list[str]:
        """What a notebook shows below the title: attributes by their names, where there is something to say."""
        shown = {
            name: value
            for name, value in vars(self).items()
            if isinstance(value, (str, int, float)) and value and value == value
        }
        header = ["stage", "seconds", "read", "peak memory", "exchanged"]
        stages = [
            (
                name,
                round(stage.seconds, 4),
                *map(display.size, (stage.bytes_read, stage.peak_memory, stage.bytes_exchanged)),
            )
            for name, stage in self.stages.items()
        ]
        if self.n_ranks == 1:  # nothing is exchanged
            header, stages = header[:-1], [stage[:-1] for stage in stages]
        parts = [
            display.warnings_list([*self.warnings, *self.forced]),
            display.facts(shown),
        ]
        if stages:
            whole = display.table(header, stages, len(stages), shown=len(stages))
            parts.append(display.details(f"{len(stages)} stages, {display.size(self.bytes_read)} read", whole))
        return [*parts, display.details("configuration", display.facts(self.config))]


@dataclass(frozen=True)
class Pick:
    """One pick of a :class:`Selection`.

    Attributes
    ----------
    rank : int
        Its place in the order of choice, from 1.
    index : int
        Its position in `features`.
    id : str or None
        Of its image, where the pool has ids.
    score : float
        δ; NaN at cold start.
    represents : int
        How many candidates it represents, itself included.
    """

    rank: int
    index: int
    id: RowId
    score: float
    represents: int


@dataclass(frozen=True, eq=False)
class Selection:
    """The rows to label.

    It is a sequence of :class:`Pick`, in the order of choice, and for NumPy the array of their row numbers:
    ``features[picks]`` are the rows themselves.

    Attributes
    ----------
    indices : ndarray, shape (B,), int64
        Positions in `features`, distinct, never a labelled, pending or excluded row or one whose image has vanished, in
        the order of choice:
        with ``acquisition="trust"`` those that the teacher leads, largest δ first, before the others; with "delta" and
        without labels the first pick of every cluster, heaviest cluster first, then second picks.
    scores : ndarray, shape (B,), float32
        δ of each pick, see :func:`select`; NaN at cold start.
    represents : ndarray, shape (B,), int64
        Number of candidates that each pick represents, itself included: its cluster's size, or those nearest to it.
    report : Report
    ids : list of str or None
        The ids of the picked images, where the pool has them: in the metadata of a folder that
        :func:`ccma_fast.extract` or clip-retrieval wrote, or in a column ``image_path`` beside the vectors. None for
        an image without one.
    explanation : Explanation or None
        Where each pick comes from, see :class:`ccma_fast.query.explanation.Explanation`; None unless asked for.

    Examples
    --------
    >>> import numpy as np, ccma_fast as cf
    >>> x = np.random.default_rng(0).standard_normal((1000, 16), dtype=np.float32)
    >>> picks = cf.select(x, 3)
    >>> [pick.index for pick in picks] == picks.indices.tolist()
    True
    >>> x[picks].shape
    (3, 16)
    """

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    represents: npt.NDArray[np.int64]
    report: Report
    ids: list[RowId] | None = None
    explanation: Explanation | None = None

    def __len__(self) -> int:
        return int(self.indices.size)

    @overload
    def __getitem__(self, k: int) -> Pick: ...

    @overload
    def __getitem__(self, k: slice) -> list[Pick]: ...

    def __getitem__(self, k: int | slice) -> Pick | list[Pick]:
        """The k-th pick, from 0; of a slice, the list of its picks."""
        if isinstance(k, slice):
            return [self._pick(i) for i in range(len(self))[k]]
        return self._pick(range(len(self))[k])

    def __iter__(self) -> Iterator[Pick]:
        return map(self._pick, range(len(self)))

    def _pick(self, k: int) -> Pick:
        row_id = None if self.ids is None else self.ids[k]
        return Pick(k + 1, int(self.indices[k]), row_id, float(self.scores[k]), int(self.represents[k]))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """:attr:`indices`."""
        return np.array(self.indices, dtype) if copy else np.asarray(self.indices, dtype)

    def to_pandas(self) -> Any:
        """The picks as a ``pandas.DataFrame``, in the order of choice.

        With the columns of :meth:`to_csv`: ``rank`` (from 1), ``index``, ``image_path`` where the pool has ids,
        ``score`` and ``represents``. With a column ``label`` added it can be given as `labels`.

        Raises
        ------
        ImportError
            pandas is not installed; the text names the extra that brings it.
        """
        return optional("pandas", "a data frame").DataFrame(columns_of(self))

    def to_csv(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the picks as ``ccma-fast select --out`` does, for somebody to add a column ``label``.

        Parameters
        ----------
        path : path
            A CSV file. One that holds picks and nothing else is replaced.
        overwrite : bool, default False
            Replace whatever else is there, but never a file that holds labels.

        Raises
        ------
        FileExistsError
            A file is there that holds labels, or without `overwrite` anything else than picks; or `path` is a symbolic
            link.
        OSError
            The file cannot be written.
        """
        overwrite = check_flag("overwrite", overwrite)
        check_can_write(path)
        file = Path(path)
        check_keeps_labels(file, "path")
        if file.exists() and not overwrite and not holds_picks_alone(file):
            raise FileExistsError(
                f"{str(file)!r} is there and holds something else than picks, or more; expected a new file, or "
                "overwrite=True"
            )
        write_keeping_labels(file, lambda handle: handle.write(as_csv(self).encode()), "path")

    def __repr__(self) -> str:
        names = self.indices if self.ids is None else self.ids
        return display.line("Selection", f"{len(self):,} picks", f"[{display.few(names, len(self))}]", self.report.mode)

    def _repr_html_(self) -> str:
        report = self.report
        of = f"{len(self):,} picks of {report.n_unlabelled:,} unlabelled rows"
        how = f"{report.mode}, {report.backend}, {report.seconds:.2f} s"
        return display.notebook_html(f"Selection: {of} ({how})", *self.html_parts())

    def html_parts(self) -> list[str]:
        """What a notebook shows below the title."""
        report, columns = self.report, columns_of(self)
        rows = list(zip(*(cells[: display.SHOWN] for cells in columns.values()), strict=True))
        parts = [display.warnings_list(report.warnings), display.table([*columns], rows, len(self))]
        if self.explanation is not None:
            parts.append(display.details("where they come from", *self.explanation.html_parts()))
        return [*parts, display.details("report", *report.html_parts())]
