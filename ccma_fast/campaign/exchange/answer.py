"""What people answer, wherever they did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

__all__ = ["CANNOT_TELL", "NO_CLASS", "Answer"]

CANNOT_TELL = "cannot tell"
NO_CLASS = "not an image of any class"


@dataclass(frozen=True)
class Answer:
    """What one person said of one image: a label, or a refusal.

    Attributes
    ----------
    image : str
        The image's id.
    label : str or None
        Name of a class; None for a refusal.
    refusal : str or None
        :data:`CANNOT_TELL`, :data:`NO_CLASS` or free text; None for a label. Exactly one of both is given.
    annotator : str
        Empty where nobody is named.
    answered : datetime or None
        When, with a time zone; None where the source does not say.
    key : str
        What makes the answer this one in its source, such as the program's number of it: an answer whose key is known
        already is not taken again. Empty where the source has nothing of the kind; the campaign then makes one of
        image, annotator, answer and time.
    seconds : float or None
        Time that the person took.
    shown : tuple of str, or None
        The shortlist of classes that the person saw, in its order; None where that is not known.
    order : str
        How that list was ordered: "likeliest", "shuffled" or "listed" (the order of the classes); empty where unknown.
    probabilities : bool or None
        Whether their probabilities were seen; None where that is not known.
    saw : str
        ``Assignment.saw`` of what was answered; empty where unknown.
    note : str
        Whatever else the person wrote.
    """

    image: str
    label: str | None = None
    refusal: str | None = None
    annotator: str = ""
    answered: datetime | None = None
    key: str = ""
    seconds: float | None = None
    shown: tuple[str, ...] | None = None
    order: str = ""
    probabilities: bool | None = None
    saw: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if (self.label is None) == (self.refusal is None):
            raise ValueError(
                f"an answer must be a label or a refusal, got label {self.label!r} and refusal {self.refusal!r}"
            )
        if self.answered is not None and self.answered.tzinfo is None:
            raise ValueError(f"answered must have a time zone, got {self.answered!r}")
