"""Files that go out to people and come back, and the labels that a campaign ends with."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..checks import check_flag
from ..errors import FileReadError
from ..pool.csv_files import write_csv_file
from ..pool.kept_labels import check_keeps_labels
from ..pool.label_table import ID, INDEX
from ..system.extras import optional
from ..system.output_files import check_can_write
from .answering import Taken
from .campaign_pool import CampaignPool
from .exchange.answer import Answer
from .exchange.formats import read_answers
from .exchange.labels_file import LABEL_COLUMNS
from .log.state import State
from .places import names_of

__all__ = ["FileAnswers", "ImportedFile", "LabelledImage", "LabelledImages", "answers_in_file", "labelled_images"]


@dataclass(frozen=True)
class ImportedFile:
    """What became of a file of answers.

    Attributes
    ----------
    taken : Taken
    notes : list of str
        What was in the file and is no answer, and why.
    """

    taken: Taken
    notes: list[str]


class FileAnswers(NamedTuple):
    """The answers in a file, by the ids of the campaign."""

    answers: list[Answer]
    notes: list[str]


class LabelledImage(NamedTuple):
    """An image on whose class people agree.

    Attributes
    ----------
    image : str
        Its id.
    label : str
        Name of the class.
    annotators : tuple of str
        Who said so, by name.
    n_others : int
        How many said something else.
    """

    image: str
    label: str
    annotators: tuple[str, ...]
    n_others: int


class LabelledImages(list[LabelledImage]):
    """Every image on whose class people agree, by id.

    As a table it has the columns ``image_path`` (``index`` where the pool has no ids), ``label`` (the name of the
    class), ``annotators`` (who said so, between semicolons) and ``n_others``: what ``labels`` of
    :func:`ccma_fast.select` takes.

    Parameters
    ----------
    images : iterable of LabelledImage
    has_ids : bool
        Whether images are called by ids, and not by the numbers of their rows.
    """

    def __init__(self, images: Iterable[LabelledImage] = (), *, has_ids: bool) -> None:
        super().__init__(images)
        self.has_ids = has_ids

    def _rows(self) -> Iterator[Sequence[Any]]:
        """The header of the table, and its rows."""
        yield ID if self.has_ids else INDEX, *LABEL_COLUMNS
        for image, label, annotators, n_others in self:
            yield image if self.has_ids else int(image), label, "; ".join(annotators), n_others

    def to_pandas(self) -> Any:
        """The table as a ``pandas.DataFrame``.

        Raises
        ------
        ImportError
            pandas is not installed; the text names the extra that brings it.
        """
        header, *rows = self._rows()
        return optional("pandas", "a data frame").DataFrame(rows, columns=[*header])

    def to_csv(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the table as ``ccma-fast campaign export --to labels`` does.

        Parameters
        ----------
        path : path
        overwrite : bool, default False
            Replace a file that is there, but never one that holds labels by people.

        Raises
        ------
        FileExistsError
            A file is there, or one that holds labels by people; or `path` is a symbolic link.
        OSError
            The file cannot be written.
        """
        overwrite, file = check_flag("overwrite", overwrite), Path(path)
        check_can_write(path)
        check_keeps_labels(file, "path")
        if file.exists() and not overwrite:
            raise FileExistsError(f"{str(file)!r} is there already; expected a new file, or overwrite=True")
        write_csv_file(file, self._rows())


def answers_in_file(
    file: Path, file_format: str, images: str, annotator: str, state: State, pool: CampaignPool
) -> FileAnswers:
    """The answers in a file, for a campaign.

    Parameters
    ----------
    file : Path
    file_format, images : str
        As for :func:`ccma_fast.campaign.exchange.formats.read_answers`.
    annotator : str
        Of answers that name nobody.
    state : State
    pool : CampaignPool
        Is asked where the file has rows and no ids.

    Raises
    ------
    FileReadError
        No such file, a damaged one, one of another format, or of another campaign.
    ValueError
        Rows that the pool does not have.
    """
    ids = {*state.images, *(image for batch in state.batches for image in batch.images)}
    found = read_answers(file, file_format, images=images, ids=ids)
    others = found.campaigns - {state.settings["campaign"]}
    if others:
        raise FileReadError(f"the answers in {str(file)!r} are of another campaign, {min(others)!r}")
    answers = found.answers
    if found.by_row:
        answers = _by_ids(answers, file, pool)
    named = [answer if answer.annotator.strip() else replace(answer, annotator=annotator) for answer in answers]
    return FileAnswers(named, found.notes)


def _by_ids(answers: Iterable[Answer], file: Path, pool: CampaignPool) -> list[Answer]:
    given = [*answers]
    rows = np.array([int(answer.image) for answer in given], dtype=np.int64)
    outside = rows[(rows < 0) | (rows >= pool.rows.n_rows)]
    if outside.size:
        raise ValueError(
            f"{str(file)!r} must have rows from 0 to {pool.rows.n_rows - 1}, got {outside[0]} as the row of an image"
        )
    names = names_of(pool.rows, rows)
    return [replace(answer, image=name) for answer, name in zip(given, names, strict=True)]


def labelled_images(state: State) -> LabelledImages:
    """Every image on whose class people agree, by id."""
    found = LabelledImages(has_ids=bool(state.settings["has_ids"]))
    for image, (votes, outcome) in sorted(state.tallies().items()):
        if outcome.vote is not None and not outcome.is_refused:
            agreeing = sorted(name for name, vote in votes.items() if vote == outcome.vote)
            found.append(
                LabelledImage(image, state.classes.name_of(outcome.vote), tuple(agreeing), len(votes) - len(agreeing))
            )
    return found
