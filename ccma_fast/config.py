"""The constants of the method."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from .checks import check_choice, check_flag, check_fraction, check_integer, check_number

__all__ = ["HEADS", "KMEANS_METHODS", "NONEMPTY", "PAPER_DATASETS", "SCORES", "CCMAConfig"]

HEADS = ("distilled", "ridge", "published")
NONEMPTY = ("top1", "raise")
SCORES = ("lac", "aps", "raps")
KMEANS_METHODS = ("full", "sample", "two-level")

# What the authors changed for single data sets in their published configuration.
PAPER_DATASETS: dict[str, dict[str, Any]] = {
    "food101": {},
    "caltech101": {},
    "cifar10": {"learning_rate": 1e-3},
    "cifar100": {"subpool_size": 20_000},
    "caltech256": {"subpool_size": 20_000},
    "domainnet-real": {"subpool_size": 30_000, "kappa": 10},
}


# long: it tells what every constant of the method means
@dataclass(frozen=True, kw_only=True)
class CCMAConfig:
    """The constants of one Conformal Cross-Modal Acquisition query.

    The default is the package's own student and acquisition, see :func:`ccma_fast.select`: a logistic regression that
    learns from the labels and, as far as these show that it is right, from the teacher, and uncertainty coverage.
    :meth:`paper` is the published run (Nguyen et al., arXiv 2603.23159), exactly; ``acquisition="delta"`` is the
    published score on the whole pool, "trust" what this package did before its student learnt from the teacher.

    Parameters
    ----------
    acquisition : {"auto", "coverage", "trust", "delta"}, default "auto"
        Steps 4 to 6. "coverage": the student leads every pick. "trust": the teacher leads a share of them, which needs
        ``calibration="coverage"``. "delta": the published δ. "auto" is "coverage" for a student that learns from the
        teacher (``head="distilled"``) and where sets are not calibrated to a coverage, else "trust".
    pool_limit : int or None, default None
        Step 1. Keep a random share of this many unlabelled rows and ignore the rest; None ignores nothing.
    subpool_size : int or None, default None
        Step 1. Rows S of the diverse subpool, at most a third of the unlabelled rows and at least the budget;
        None scores every unlabelled row. 10,000 in the published run.
    subpool_method : {"full", "sample", "two-level"}, default "full"
        Step 1. How the subpool is clustered, see :func:`ccma_fast.weighted_kmeans`: for 10,000 clusters and more of a
        large pool the other two take a fraction of the time.
    subpool_max_iter : int, default 5
        Step 1. Lloyd iterations of the subpool's k-means.
    rows_per_cluster : int, default 1
        Steps 1 and 6. No clustering uses more than (rows to cluster) / rows_per_cluster clusters.
    max_clusters : int or None, default None
        Steps 1 and 6. Largest number of clusters of any clustering; where fewer clusters than wanted rows
        remain, each gives several rows.
    temperature : float, default 0.03
        τ of the teacher's zero-shot softmax, in units of cosine similarity.
    head : {"distilled", "ridge", "published"}, default "distilled"
        The student, where none is given: a :class:`ccma_fast.LogisticHead` trained on the labels and on soft labels of
        the teacher, on the labels alone, or a :class:`ccma_fast.LinearHead`.
    dropout, learning_rate, weight_decay, max_epochs, batch_size, patience, min_gain
        The training of the published head, see :class:`ccma_fast.LinearHead`. Strategies that need dropout passes take
        the share of inputs from here under the other heads too.
    nonconformity : {"lac", "aps", "raps"}, default "lac"
        Step 3. The score of a class, see :func:`ccma_fast.nonconformity_scores`.
    raps_penalty : float, default 0.01
    raps_k_reg : int, default 5
        Step 3, ``nonconformity="raps"``. λ and k_reg.
    calibration : {"coverage", "target_size"}, default "coverage"
        Step 3. Thresholds from labelled rows with coverage 1 − α, or from a wanted mean set size.
    reweight : bool, default False
        Step 3, ``calibration="coverage"``. Weight the labelled rows so that the teacher's most probable classes (the
        student's, without a teacher) are as frequent among them as in the pool, see
        :func:`ccma_fast.stratified_weights`: for rows that were not chosen at random.
    student_set_size, teacher_set_size : float, default 5 and 3
        Step 3. Mean |Γ_S| and |Γ_T| over the scored rows, in classes; at most C.
    alpha : float, default 0.1
        Step 3, ``calibration="coverage"``. Miscoverage, inside (0, 1).
    n_folds : int, default 3
        Folds of the student's out-of-fold probabilities, which calibrate its sets and choose its constants.
    nonempty : {"top1", "raise"}, default "top1"
        Step 3. A row whose set would be empty gets its most probable class, or the threshold of all rows is
        raised until no set is empty.
    kappa : int, default 20
        Step 5. κ: candidates per pick; with "trust", per pick that the teacher leads.
    student_kappa : int, default 100
        Step 5, "coverage" and "trust". Candidates per pick that the student leads.
    candidate_limit : int, default 10_000
        Step 5, "coverage" and "trust". Most candidates of the student's picks, whose pairs are all compared (never
        fewer than twice its picks).
    confident_share : float, default 0.25
        Cold start with a teacher, "trust". Share of each of its classes, the most confident, from which the first
        labels are chosen; inside (0, 1).
    weighted_coverage : bool, default True
        Step 6. Weight the candidates of the coverage k-means by δ.
    pick : {"nearest", "highest"}, default "nearest"
        Step 6. From each cluster the candidate nearest to the centroid, or the one of highest δ.
    kmeans_max_iter : int, default 20
        Step 6. Most Lloyd iterations.
    kmeans_tol : float, default 1e-4
        Steps 1 and 6. Lloyd stops when the objective falls by no more than this share of itself.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> config = cf.CCMAConfig(alpha=0.05, head="ridge")
    >>> config.alpha, config.kappa
    (0.05, 20)
    >>> cf.CCMAConfig.paper("cifar10").learning_rate
    0.001

    With other constants it is another configuration:

    >>> from dataclasses import replace
    >>> replace(config, alpha=0.2).alpha
    0.2
    """

    acquisition: Literal["auto", "coverage", "trust", "delta"] = "auto"

    pool_limit: int | None = None
    subpool_size: int | None = None
    subpool_method: Literal["full", "sample", "two-level"] = "full"
    subpool_max_iter: int = 5
    rows_per_cluster: int = 1
    max_clusters: int | None = None

    temperature: float = 0.03
    head: Literal["distilled", "ridge", "published"] = "distilled"
    dropout: float = 0.75
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    max_epochs: int = 400
    batch_size: int = 4096
    patience: int = 20
    min_gain: float = 1e-3

    nonconformity: Literal["lac", "aps", "raps"] = "lac"
    raps_penalty: float = 0.01
    raps_k_reg: int = 5
    calibration: Literal["coverage", "target_size"] = "coverage"
    reweight: bool = False
    student_set_size: float = 5.0
    teacher_set_size: float = 3.0
    alpha: float = 0.1
    n_folds: int = 3
    nonempty: Literal["top1", "raise"] = "top1"

    kappa: int = 20
    student_kappa: int = 100
    candidate_limit: int = 10_000
    confident_share: float = 0.25

    weighted_coverage: bool = True
    pick: Literal["nearest", "highest"] = "nearest"
    kmeans_max_iter: int = 20
    kmeans_tol: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("pool_limit", "subpool_size", "max_clusters"):
            if getattr(self, name) is not None:
                self._set(name, check_integer(name, getattr(self, name), minimum=1))
        for name in (
            "subpool_max_iter",
            "rows_per_cluster",
            "max_epochs",
            "batch_size",
            "patience",
            "kappa",
            "student_kappa",
            "candidate_limit",
            "kmeans_max_iter",
        ):
            self._set(name, check_integer(name, getattr(self, name), minimum=1))
        self._set("n_folds", check_integer("n_folds", self.n_folds, minimum=2))
        for name in ("temperature", "learning_rate", "student_set_size", "teacher_set_size"):
            self._set(name, check_number(name, getattr(self, name), above=0.0))
        self._set("raps_k_reg", check_integer("raps_k_reg", self.raps_k_reg, minimum=0))
        for name in ("weight_decay", "min_gain", "kmeans_tol", "raps_penalty"):
            self._set(name, check_number(name, getattr(self, name), minimum=0.0))
        for name in ("alpha", "confident_share"):
            self._set(name, check_fraction(name, getattr(self, name)))
        self._set("dropout", check_fraction("dropout", self.dropout) if self.dropout != 0.0 else 0.0)
        for name in ("reweight", "weighted_coverage"):
            self._set(name, check_flag(name, getattr(self, name)))
        for name, choices in (
            ("subpool_method", KMEANS_METHODS),
            ("acquisition", ("auto", "coverage", "trust", "delta")),
            ("head", HEADS),
            ("nonconformity", SCORES),
            ("calibration", ("coverage", "target_size")),
            ("nonempty", NONEMPTY),
            ("pick", ("nearest", "highest")),
        ):
            self._set(name, check_choice(name, getattr(self, name), choices))
        if self.acquisition == "trust" and self.calibration != "coverage":
            raise ValueError(
                'acquisition="trust" judges the teacher by its calibrated sets and needs calibration="coverage", '
                f'got {self.calibration!r}; expected that, or acquisition="delta"'
            )

    def _set(self, name: str, value: Any) -> None:
        """Set a checked, built-in value: equal values must be the same text in a record."""
        object.__setattr__(self, name, value)

    @classmethod
    def paper(cls, dataset: str | None = None) -> CCMAConfig:
        """The published run, caps included.

        Parameters
        ----------
        dataset : str, optional
            One of "food101", "caltech101", "caltech256", "cifar10", "cifar100", "domainnet-real": applies what
            the authors changed for it (subpool size, κ, the learning rate on 10 classes).

        Returns
        -------
        CCMAConfig
            At most 50,000 random unlabelled rows; a subpool of R = min(10,000, n/3) rows from
            min(R, n/10, 5,000) clusters; thresholds raised until no set is empty; unweighted coverage with
            min(B, m/10, 5,000) clusters for m candidates.
        """
        published = cls(
            acquisition="delta",
            head="published",
            calibration="target_size",
            subpool_size=10_000,
            pool_limit=50_000,
            rows_per_cluster=10,
            max_clusters=5_000,
            nonempty="raise",
            weighted_coverage=False,
        )
        if dataset is None:
            return published
        check_choice("dataset", dataset, tuple(PAPER_DATASETS))
        return replace(published, **PAPER_DATASETS[dataset])

    def to_dict(self) -> dict[str, Any]:
        """Every constant by its name; what a subclass adds is not among them."""
        return {constant.name: getattr(self, constant.name) for constant in fields(CCMAConfig)}

    def __repr__(self) -> str:
        changed = [(c.name, getattr(self, c.name)) for c in fields(self) if getattr(self, c.name) != c.default]
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed)})"

    @property
    def has_sizes_only(self) -> bool:
        """Whether thresholds depend on nothing but the wanted mean sizes of sets cut at a probability."""
        return self.calibration == "target_size" and self.nonconformity == "lac" and self.nonempty == "top1"

    def chosen_acquisition(self, *, learns_from_teacher: bool) -> str:
        """The acquisition; of "auto" by whether the student learns from the teacher, who need not lead picks then."""
        if self.acquisition != "auto":
            return self.acquisition
        return "coverage" if learns_from_teacher or self.calibration != "coverage" else "trust"

    def subpool_rows(self, n_unlabelled: int, budget: int) -> int:
        """Rows R of the subpool: min(S, n/3), but never fewer than the budget nor more than there are."""
        if self.subpool_size is None:
            return n_unlabelled
        return min(max(min(self.subpool_size, n_unlabelled // 3), budget), n_unlabelled)

    def cluster_count(self, n_rows: int, wanted: int) -> int:
        """Clusters for `wanted` picks among `n_rows` rows: min(wanted, n_rows / rows_per_cluster, max_clusters)."""
        limit = math.inf if self.max_clusters is None else self.max_clusters
        return int(max(1, min(wanted, n_rows // self.rows_per_cluster, limit)))
