"""The classes of a campaign, as events add, rename and merge them."""

from __future__ import annotations

from collections.abc import Sequence

from ...pool.class_names import same_name
from . import events as kinds
from .events import Event

__all__ = ["ClassList"]


class ClassList:
    """Classes, each known by the number of the event that added it."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}  # in the order in which they were added
        self._ever_called: dict[str, int] = {}  # every name that a class ever had; of several the last
        self._added: set[int] = set()
        self._merged: dict[int, int] = {}
        self._n_declared = 0
        self._live: dict[int, str] | None = None  # until the next event
        self._called_now: dict[str, int] = {}

    def apply(self, event: Event) -> None:
        """Take in what an event does to classes."""
        self._live = None
        if event.kind == kinds.CLASS_ADDED:
            details = event.details
            self._added.add(event.number)
            self._call(event.number, details["name"])
            self._n_declared += bool(details.get("declared"))
        elif event.kind == kinds.CLASS_RENAMED:
            assert event.label is not None, "a new name is one of a class"
            self._call(event.label, event.details["name"])
        elif event.kind == kinds.CLASS_MERGED:
            assert event.label is not None, "classes are merged into a class"
            assert event.target is not None, "a class is merged"
            self._merged[event.target] = event.label

    def _call(self, label: int, name: str) -> None:
        self._names[label] = name
        self._ever_called[_key(name)] = label

    def contradiction(self) -> str | None:
        """What classes cannot be, once events between others count no more, or count again; None for nothing."""
        for label in self._merged:
            seen = {label}
            while (label := self._merged.get(label, 0)) in self._merged:
                if label in seen:
                    return f"{self._names[label]!r} would be merged into itself"
                seen.add(label)
        called: dict[str, str] = {}
        for name in self.live.values():
            if _key(name) in called:
                return f"two classes would be called {name!r}"
            called[_key(name)] = name
        return None

    def lacks(self, event: Event) -> bool:
        """Whether an event is about a class that was never added."""
        about = (event.label, event.target if event.kind == kinds.CLASS_MERGED else None)
        return any(label is not None and label not in self._added for label in about)

    @property
    def live(self) -> dict[int, str]:
        """Those that were not merged into others: the declared ones in their order, then the added ones by name.

        The order in which people met new classes says nothing; in one of their own the same answers give the same
        models, whoever came first.
        """
        return {**self._known_live()}

    def _known_live(self) -> dict[int, str]:
        if self._live is None:
            self._live = self._found_live()
            self._called_now = {_key(name): label for label, name in reversed(self._live.items())}
        return self._live

    def _found_live(self) -> dict[int, str]:
        there = [(label, name) for label, name in self._names.items() if label not in self._merged]
        n_declared = len(set(self.declared) - self._merged.keys())
        return dict(there[:n_declared] + sorted(there[n_declared:], key=lambda pair: _key(pair[1])))

    @property
    def declared(self) -> list[int]:
        """Those that the campaign began with, merged ones included."""
        return [*self._names][: self._n_declared]

    def called(self, name: str) -> int | None:
        """The class that has a name, or had it before it was renamed or merged; None where none ever had."""
        now = self.called_now(name)
        if now is not None:
            return now
        former = self._ever_called.get(_key(name))
        return None if former is None else self.resolved(former)

    def called_now(self, name: str) -> int | None:
        """The class that has a name; None where none has."""
        self._known_live()
        return self._called_now.get(_key(name))

    def name_of(self, label: int) -> str:
        """What a class is called, or the one that it was merged into."""
        return self._names[self.resolved(label)]

    def find_name(self, label: int) -> str | None:
        """As :meth:`name_of`; None of a class whose addition was undone."""
        return self._names.get(self.resolved(label))

    def all_resolved(self, labels: Sequence[int]) -> Sequence[int]:
        """The classes that some classes are, after merges."""
        return [*map(self.resolved, labels)] if self._merged else labels

    def parts(self) -> dict[int, list[int]]:
        """Of each class itself and those that were merged into it."""
        found: dict[int, list[int]] = {}
        for label in self._names:
            found.setdefault(self.resolved(label), []).append(label)
        return found

    def resolved(self, label: int) -> int:
        """The class that a class is, after merges; a refusal stays one."""
        while label in self._merged:
            label = self._merged[label]
        return label


def _key(name: str) -> str:
    """What names that are the same have in common."""
    return same_name(name.strip())
