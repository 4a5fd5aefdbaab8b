"""The input of a strategy, and the registry of strategies by name."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..backends.protocol import Backend
from ..checks import check_choice
from ..config import CCMAConfig
from ..errors import StrategyReplacedWarning
from ..pool.array_like import as_array, uncoerced
from ..pool.derived import RowSubset
from ..pool.rows import Rows
from ..steps.student import student_logits
from ..steps.teacher import Teacher
from ..steps.trained import Trained
from ..system.memory import LEAST_LIMIT, Memory
from ..system.qualified_names import qualified_name

__all__ = ["Round", "Strategy", "built_in", "find", "names", "pick", "register"]

# The package's own strategies, a module each.
_MODULES = (
    "alfamix",
    "badge",
    "bald",
    "ccma",
    "centroid",
    "coreset",
    "dcom",
    "dropout",
    "entropy",
    "margins",
    "max_herding",
    "pcb",
    "pcoreset",
    "powerbald",
    "probcover",
    "random",
    "tcm",
    "tfs",
    "typiclust",
    "uncertainty",
    "uncertainty_herding",
)

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Round:
    """The input of a strategy: one round of active learning.

    Attributes
    ----------
    features : Rows, shape (N, D_S)
        The student's embeddings x of the whole pool, labelled rows included. ``numpy.asarray(round.features)`` reads
        all of them as float32; ``round.features.chunks()`` and ``.take(indices)`` read parts.
    labels : ndarray, shape (N,), int64
        −1 where there is no label yet.
    n_classes : int
        C.
    budget : int
        Rows to choose: at least 1, at most as many as are unlabelled.
    trained : Trained or None
        Student and teacher, trained on the labelled rows; None where there is no label yet.
    teacher : Teacher or None
    config : CCMAConfig
    rng : numpy.random.Generator
        The only source of randomness.
    backend : Backend
        Computes products, k-means, thresholds and scores.
    memory_limit : int
        Bytes that the selection may add to resident memory, beside some for each row of the pool. No result depends on
        it.
    """

    features: Rows
    labels: Int64
    n_classes: int
    budget: int
    trained: Trained | None
    teacher: Teacher | None
    config: CCMAConfig
    rng: np.random.Generator
    backend: Backend
    memory_limit: int = LEAST_LIMIT

    @property
    def student(self) -> Any:
        """The student, an object with `predict_proba` that is fitted on the labelled rows, or None without labels."""
        return None if self.trained is None else self.trained.student

    @property
    def sketch_bytes(self) -> int:
        """Bytes that a k-means may keep of its rows."""
        return Memory(self.memory_limit).sketch

    @cached_property
    def labelled(self) -> Int64:
        """Rows with a label, ascending."""
        return np.flatnonzero(self.labels >= 0)

    @cached_property
    def unlabelled(self) -> Int64:
        """Rows without a label, ascending."""
        return np.flatnonzero(self.labels < 0)

    @cached_property
    def unlabelled_features(self) -> Rows:
        """x of the unlabelled rows, in their order."""
        return RowSubset(self.features, self.unlabelled)

    @cached_property
    def unlabelled_logits(self) -> Rows:
        """z^S of the unlabelled rows, in their order, computed as they are read: shape (U, C)."""
        return student_logits(self.student, self.unlabelled_features, self.n_classes, self.backend)


Strategy = Callable[[Round], npt.ArrayLike]
"""Chooses `round.budget` distinct rows of `round.unlabelled`, and returns their numbers in the pool, best first."""

_AnyStrategy = TypeVar("_AnyStrategy", bound=Strategy)

_strategies: dict[str, Strategy] = {}
built_in: dict[str, Strategy] = {}
"""The package's own strategies, also where a name was registered again."""
_without_labels: set[str] = set()


def register(name: str, *, needs_labels: bool = True) -> Callable[[_AnyStrategy], _AnyStrategy]:
    """Make a strategy known by name: ``register("mine")(choose)``, or as a decorator.

    Parameters
    ----------
    name : str
        Not empty, without ``:`` and white space. An existing name then means the new strategy.
    needs_labels : bool, default True
        False where the strategy also works without any label and without a student, to choose the first labels.

    Warns
    -----
    StrategyReplacedWarning
        The name is that of one of the package's own strategies.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> @cf.strategies.register("first")
    ... def first(round):
    ...     return round.unlabelled[: round.budget]
    >>> cf.strategies.find("first") is first
    True
    """
    if not isinstance(name, str):
        raise TypeError(f"a strategy's name must be a string, got {type(name).__name__}")
    if not name or ":" in name or any(c.isspace() for c in name):
        raise ValueError(f"a strategy's name must not be empty nor hold ':' or white space, got {name!r}")

    def remember(strategy: _AnyStrategy) -> _AnyStrategy:
        if not callable(strategy):
            raise TypeError(f"a strategy must be callable with a Round, got {type(strategy).__name__}")
        if built_in.get(name, strategy) is not strategy:
            warnings.warn(
                f"{name!r} is the name of ccma_fast's own strategy {qualified_name(built_in[name])} and now means "
                f"{qualified_name(strategy)}; expected another name where both are wanted",
                StrategyReplacedWarning,
                stacklevel=2,
            )
        _strategies[name] = strategy
        _without_labels.discard(name)
        if not needs_labels:
            _without_labels.add(name)
        return strategy

    return remember


def names(*, needs_labels: bool = True) -> tuple[str, ...]:
    """Every registered name, sorted; with ``needs_labels=False`` those that can also choose the first labels.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> {"ccma", "margins", "random"} <= set(cf.strategies.names())
    True
    >>> "margins" in cf.strategies.names(needs_labels=False)
    False
    """
    return tuple(sorted(_strategies if needs_labels else _without_labels))


def find(name: str) -> Strategy:
    """The strategy of that name.

    Raises
    ------
    ValueError
        No strategy has it; the text lists those that there are.

    Examples
    --------
    >>> import ccma_fast as cf
    >>> cf.strategies.find("margins").__name__
    'margins'
    """
    check_choice("strategy", name, names())
    return _strategies[name]


def pick(strategy: Strategy, state: Round) -> Int64:
    """Ask a strategy and check its answer.

    Returns
    -------
    ndarray, shape (budget,), int64
        Distinct unlabelled rows, in the order of choice.

    Raises
    ------
    ValueError, TypeError
        The strategy returned anything else; the text says what.
    """
    name = getattr(strategy, "__name__", type(strategy).__name__)
    picks = as_array(f"picks of strategy {name}", uncoerced(strategy(state)))
    if picks.dtype.kind not in "iu":
        raise TypeError(f"strategy {name} must return row numbers, got dtype {picks.dtype}")
    if picks.shape != (state.budget,):
        raise ValueError(f"strategy {name} must return shape ({state.budget},), got {picks.shape}")
    if picks.min() < 0 or picks.max() >= state.labels.size:
        raise ValueError(f"strategy {name} must return rows from 0 to {state.labels.size - 1}, got {picks.tolist()}")
    if np.unique(picks).size < picks.size:
        raise ValueError(f"strategy {name} must return distinct rows, got {picks.tolist()}")
    if (state.labels[picks] >= 0).any():
        row = int(picks[state.labels[picks] >= 0][0])
        raise ValueError(f"strategy {name} must return unlabelled rows, got row {row}, which has a label")
    return picks.astype(np.int64)


# Last: the modules import what is defined above, and each registers its strategy.
for _module in _MODULES:
    import_module(f"{__package__}.{_module}")
built_in.update(_strategies)
