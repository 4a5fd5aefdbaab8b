"""A teacher for the classes that a campaign has now, whatever it was made for."""

from __future__ import annotations

from ..steps.teacher import Teacher, teacher_of_classes
from .log.class_list import ClassList

__all__ = ["teacher_of"]


def teacher_of(teacher: Teacher | None, classes: ClassList) -> Teacher | None:
    """A teacher for the classes of a campaign in their order, joined by their names, earlier ones included.

    Classes that were merged since it was made are one class for it: the direction of the sum of theirs. A teacher
    without names is one of the classes that the campaign began with.

    Raises
    ------
    ValueError
        A class of the campaign that the teacher does not know, or the other way round; ready-made logits of other
        classes, or in another order.
    """
    if teacher is None:
        return None
    names = [*classes.live.values()]
    groups: dict[int, list[int]] = {label: [] for label in classes.live}
    for c, label in enumerate(_labels(teacher, classes)):
        groups[label].append(c)
    unknown = [name for name, group in zip(names, groups.values(), strict=True) if not group]
    if unknown:
        raise ValueError(
            f"the teacher has no text features of {unknown[0]!r}, the first of {len(unknown)} classes that were added "
            "since it was made; expected a teacher with a row for each class (settings --teacher-classes "
            "and --class-names in the shell), or none (settings --no-teacher)"
        )
    of_each = [*groups.values()]
    if of_each == [[c] for c in range(len(names))] and names == teacher.class_names:
        return teacher
    return teacher_of_classes(teacher, of_each, names)


def _labels(teacher: Teacher, classes: ClassList) -> list[int]:
    """The class of the campaign that each of the teacher's classes is."""
    if teacher.class_names is None:
        declared = classes.declared
        if len(declared) != teacher.n_classes:
            raise ValueError(
                f"a teacher without class names must be of the {len(declared)} classes that the campaign began with, "
                f"got {teacher.n_classes}"
            )
        return [classes.resolved(label) for label in declared]
    labels = []
    for name in teacher.class_names:
        label = classes.called(name)
        if label is None:
            raise ValueError(f"the teacher knows the class {name!r}, which the campaign has not; add it there first")
        labels.append(label)
    return labels
