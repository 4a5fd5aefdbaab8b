"""Every constant of the method, in one frozen place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from ._validate import check_choice, check_fraction, check_integer, check_number

__all__ = ["NONEMPTY", "PAPER_DATASETS", "CCMAConfig"]

NONEMPTY = ("top1", "raise")

# What the authors changed for single data sets in their published configuration.
PAPER_DATASETS: dict[str, dict[str, Any]] = {
    "food101": {},
    "caltech101": {},
    "cifar10": {"learning_rate": 1e-3},
    "cifar100": {"subpool_size": 20_000},
    "caltech256": {"subpool_size": 20_000},
    "domainnet-real": {"subpool_size": 30_000, "kappa": 10},
}


@dataclass(frozen=True, kw_only=True)
class CCMAConfig:
    """The constants of one Conformal Cross-Modal Acquisition query.

    The defaults follow the published run (Nguyen et al., arXiv 2603.23159) except that nothing of the pool is
    thrown away, every cluster gives one row, the coverage step is weighted by δ and rows whose conformal set
    would be empty get their most probable class. :meth:`paper` is the published run itself.

    Parameters
    ----------
    pool_limit : int or None, default None
        Step 1. Keep a random share of this many unlabelled rows and ignore the rest; None ignores nothing.
    subpool_size : int or None, default 10_000
        Step 1. Rows S of the diverse subpool, at most a third of the unlabelled rows and at least the budget;
        None scores every unlabelled row.
    subpool_max_iter : int, default 5
        Step 1. Lloyd iterations of the subpool's k-means.
    rows_per_cluster : int, default 1
        Steps 1 and 6. No clustering uses more than (rows to cluster) / rows_per_cluster clusters.
    max_clusters : int or None, default None
        Steps 1 and 6. Largest number of clusters of any clustering; where fewer clusters than wanted rows
        remain, each gives several rows.
    temperature : float, default 0.03
        τ of the teacher's zero-shot softmax, in units of cosine similarity.
    dropout, learning_rate, weight_decay, max_epochs, batch_size, patience, min_gain
        The student's training, see :class:`ccma_fast.LinearHead`.
    calibration : {"target_size", "coverage"}, default "target_size"
        Step 3. Thresholds from a wanted mean set size, or from labelled rows with coverage 1 − α.
    student_set_size, teacher_set_size : float, default 5 and 3
        Step 3. Mean |Γ_S| and |Γ_T| over the scored rows, in classes; at most C.
    alpha : float, default 0.1
        Step 3, ``calibration="coverage"``. Miscoverage, inside (0, 1).
    n_folds : int, default 5
        Step 3, ``calibration="coverage"``. Folds of the student's out-of-fold probabilities.
    nonempty : {"top1", "raise"}, default "top1"
        Step 3. A row whose set would be empty gets its most probable class, or the threshold of all rows is
        raised until no set is empty.
    kappa : int, default 20
        Step 5. κ: candidates per pick.
    weighted_coverage : bool, default True
        Step 6. Weight the candidates of the coverage k-means by δ.
    pick : {"nearest", "highest"}, default "nearest"
        Step 6. From each cluster the candidate nearest to the centroid, or the one of highest δ.
    kmeans_max_iter : int, default 20
        Step 6. Most Lloyd iterations.
    kmeans_tol : float, default 1e-4
        Steps 1 and 6. Lloyd stops when the objective falls by no more than this share of itself.
    """

    pool_limit: int | None = None
    subpool_size: int | None = 10_000
    subpool_max_iter: int = 5
    rows_per_cluster: int = 1
    max_clusters: int | None = None

    temperature: float = 0.03
    dropout: float = 0.75
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    max_epochs: int = 400
    batch_size: int = 4096
    patience: int = 20
    min_gain: float = 1e-3

    calibration: Literal["target_size", "coverage"] = "target_size"
    student_set_size: float = 5.0
    teacher_set_size: float = 3.0
    alpha: float = 0.1
    n_folds: int = 5
    nonempty: Literal["top1", "raise"] = "top1"

    kappa: int = 20

    weighted_coverage: bool = True
    pick: Literal["nearest", "highest"] = "nearest"
    kmeans_max_iter: int = 20
    kmeans_tol: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("pool_limit", "subpool_size", "max_clusters"):
            if getattr(self, name) is not None:
                check_integer(name, getattr(self, name), minimum=1)
        for name in (
            "subpool_max_iter",
            "rows_per_cluster",
            "max_epochs",
            "batch_size",
            "patience",
            "kappa",
            "kmeans_max_iter",
        ):
            check_integer(name, getattr(self, name), minimum=1)
        check_integer("n_folds", self.n_folds, minimum=2)
        for name in ("temperature", "learning_rate", "student_set_size", "teacher_set_size"):
            check_number(name, getattr(self, name), above=0.0)
        for name in ("weight_decay", "min_gain", "kmeans_tol"):
            check_number(name, getattr(self, name), minimum=0.0)
        check_fraction("alpha", self.alpha)
        if self.dropout != 0.0:
            check_fraction("dropout", self.dropout)
        check_choice("calibration", self.calibration, ("target_size", "coverage"))
        check_choice("nonempty", self.nonempty, NONEMPTY)
        check_choice("pick", self.pick, ("nearest", "highest"))

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

    def subpool_rows(self, n_unlabelled: int, budget: int) -> int:
        """Rows R of the subpool: min(S, n/3), but never fewer than the budget nor more than there are."""
        if self.subpool_size is None:
            return n_unlabelled
        return min(max(min(self.subpool_size, n_unlabelled // 3), budget), n_unlabelled)

    def cluster_count(self, n_rows: int, wanted: int) -> int:
        """Clusters for `wanted` picks among `n_rows` rows: min(wanted, n_rows / rows_per_cluster, max_clusters)."""
        limit = math.inf if self.max_clusters is None else self.max_clusters
        return int(max(1, min(wanted, n_rows // self.rows_per_cluster, limit)))
