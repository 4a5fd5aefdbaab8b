"""Exceptions and warnings of the package. Each exception is also a built-in one."""

from __future__ import annotations

__all__ = [
    "BackendUnavailableError",
    "ExchangeabilityWarning",
    "FileReadError",
    "LabelWarning",
    "PoolMismatchError",
    "RankError",
    "StrategyReplacedWarning",
    "TeacherWarning",
    "UnreadIdsWarning",
]


class BackendUnavailableError(ValueError):
    """A backend that was asked for by name cannot run here; the text says why and what would run."""


class ExchangeabilityWarning(UserWarning):
    """Conformal sets were calibrated on rows that are not exchangeable with those they are for.

    Rows that active learning chose are such: the sets may hold the true class more or less often than 1 − α.
    """


class FileReadError(ValueError, OSError):
    """A file is missing, unreadable or not of the format that its name promises."""


class LabelWarning(UserWarning):
    """Labels were read, but some were moved, overridden or dropped, or their images are not known.

    A label goes to the row of its image, the last of several files decides, and images may be gone.
    """


class PoolMismatchError(ValueError):
    """Two matrices, or a pool and a saved loop, do not belong together.

    By their manifests, ids, shards or values they hold other images or another order, or by their manifests they come
    from different encoders.
    """


class RankError(RuntimeError):
    """A query on several ranks (processes) has ended, because of what happened on one of them.

    Every rank raises it with the same text, but for one that is cut off from the others, which says so.

    Attributes
    ----------
    rank : int
        The rank that it is about.
    host : str
        The host of that rank; "" where it is not known.
    """

    def __init__(self, text: str, rank: int, host: str = "") -> None:
        super().__init__(text)
        self.rank = rank
        self.host = host

    def __reduce__(self) -> tuple[type[RankError], tuple[str, int, str]]:
        return type(self), (str(self), self.rank, self.host)


class StrategyReplacedWarning(UserWarning):
    """A strategy was registered under the name of a built-in one, and replaces it."""


class TeacherWarning(UserWarning):
    """The labelled rows contradict a teacher, or precomputed logits.

    It is no better than chance, or its temperature, the order of its classes or the kind of its numbers seems wrong.
    Or a loop that had a teacher continues without one.
    """


class UnreadIdsWarning(UserWarning):
    """A pool has no ids, though a column of text beside its vectors may have them by its name.

    Its images are then known by their row numbers, and labels cannot be joined to them by id.
    """
