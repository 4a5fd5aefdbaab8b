"""Classes that are added, renamed and merged while a campaign goes on."""

from __future__ import annotations

from difflib import get_close_matches

from ..checks import check_words
from ..pool.class_limits import MOST_CLASSES
from ..pool.spreadsheet_cells import damage
from .exchange.answer import CANNOT_TELL, NO_CLASS
from .log import events as kinds
from .log.database import Writing
from .log.events import NewEvent
from .log.state import State

__all__ = ["added_class", "check_is_class", "class_named", "merge_classes", "rename_class", "unknown_class"]


def added_class(writing: Writing, name: str, annotator: str) -> int:
    """Add a class, and return the number of its event.

    Raises
    ------
    TypeError, ValueError
        No name, one that a class has, or more classes than can be.
    """
    _check_new_name(writing.state, name)
    if len(writing.state.classes.live) >= MOST_CLASSES:
        raise ValueError(f"a campaign must have at most {MOST_CLASSES} classes, got one more: {name!r}")
    return writing.add(NewEvent(kinds.CLASS_ADDED, annotator, data={"name": name.strip()})).number


def rename_class(writing: Writing, before: str, name: str, annotator: str) -> None:
    """Call a class otherwise; all its labels stay."""
    label = class_named(writing.state, before)
    if writing.state.classes.called_now(name) != label:
        _check_new_name(writing.state, name)
    writing.add(NewEvent(kinds.CLASS_RENAMED, annotator, label=label, data={"name": name.strip()}))


def merge_classes(writing: Writing, merged: str, into: str, annotator: str) -> None:
    """Make the labels of one class labels of another, which stays."""
    target, label = class_named(writing.state, merged), class_named(writing.state, into)
    if target == label:
        raise ValueError(f"a class must be merged into another one, got {merged!r} twice")
    writing.add(NewEvent(kinds.CLASS_MERGED, annotator, label=label, target=target))


def class_named(state: State, name: str) -> int:
    """The class that has a name now.

    Raises
    ------
    ValueError
        There is none; the text has the nearest name.
    """
    label = state.classes.called_now(name)
    if label is None:
        raise unknown_class(state, name)
    return label


def unknown_class(state: State, name: str, where: str = "") -> ValueError:
    """The error for a name that no class has."""
    folded = {known.casefold(): known for known in state.classes.live.values()}
    nearest = [folded[found] for found in get_close_matches(name.strip().casefold(), folded, n=3)]
    hint = f" (did you mean {' or '.join(map(repr, nearest))}?)" if nearest else damage(name)
    return ValueError(
        f"a label must be one of the campaign's {len(state.classes.live)} classes, got {name!r}{where}{hint}; new "
        "classes are added one by one (add_class, classes --add) or with the answers (new_classes=True, --new-classes)"
    )


def check_is_class(name: str) -> None:
    """Check that a name of a class is none of the words by which programs know refusals."""
    if name.strip().casefold() in (CANNOT_TELL, NO_CLASS):
        raise ValueError(f"a class must not be called {name!r}, which is how images are refused")


def _check_new_name(state: State, name: str) -> None:
    check_words("the name of a class", name)
    if not name.strip():
        raise ValueError(f"the name of a class must not be empty, got {name!r}")
    check_is_class(name)
    if state.classes.called_now(name) is not None:
        raise ValueError(f"each class must have a name of its own, got {name!r}, which one has")
