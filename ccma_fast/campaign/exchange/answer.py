"""What people answer, wherever they did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from ...checks import check_number, check_words

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

    Raises
    ------
    TypeError, ValueError
        Values of other types, text that UTF-8 cannot hold, a time without a zone or outside the calendar, or seconds
        that are negative or not finite.

    Examples
    --------
    Answers that another program collected, taken into a campaign:

    >>> import datetime, tempfile, numpy as np, ccma_fast as cf
    >>> time = datetime.datetime(2026, 5, 4, 9, 30, tzinfo=datetime.timezone.utc)
    >>> answers = [
    ...     cf.Answer("7", label="jay", annotator="ana", answered=time, key="42"),
    ...     cf.Answer("8", refusal="cannot tell", annotator="ana", answered=time, key="43"),
    ... ]
    >>> x = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with cf.Campaign.create(f"{folder}/birds.campaign", x, class_names=["jay", "tit"]) as campaign:
    ...         taken, again = campaign.take(answers), campaign.take(answers)
    >>> taken.n_new, again.n_new, again.n_known
    (2, 0, 2)
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
        for name in ("image", "label", "refusal", "annotator", "key", "order", "saw", "note"):
            value = getattr(self, name)
            if value is not None or name not in ("label", "refusal"):
                check_words(name, value)
        for name in self.shown or ():
            check_words("shown", name)
        if self.answered is not None:
            _check_time(self.answered)
        if self.seconds is not None:  # as a float, which it is once it was stored
            object.__setattr__(self, "seconds", check_number("seconds", self.seconds, minimum=0.0))


def _check_time(time: Any) -> None:
    if not isinstance(time, datetime):
        raise TypeError(f"answered must be a datetime, got {type(time).__name__} {time!r}")
    if time.tzinfo is None:
        raise ValueError(f"answered must have a time zone, got {time!r}")
    try:
        time.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError(f"answered must be a time of the calendar in UTC too, got {time!r}") from None
