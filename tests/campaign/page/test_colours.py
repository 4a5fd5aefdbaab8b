"""The colours of the page: what is read can be read, in the light and in the dark."""

from __future__ import annotations

import re
from importlib import resources

import pytest

STYLE = resources.files("ccma_fast.campaign.page").joinpath("page.css").read_text("utf-8")

# Texts on their grounds, as the style sheet uses them.
TEXTS = [
    ("ink", "paper"),
    ("ink", "panel"),
    ("ink", "stage"),
    ("soft", "paper"),
    ("soft", "panel"),
    ("soft", "stage"),
    ("on-accent", "accent"),
    ("on-accent", "accent-hover"),
    ("on-tint", "tint"),
    ("on-warn", "warn"),
]
# What is no text, but shows where the focus is, what is selected and where a field ends.
MARKS = [("accent", "paper"), ("accent", "panel"), ("accent", "stage"), ("accent", "tint"), ("edge", "panel")]


def colours(theme: str) -> dict[str, str]:
    selector = {"light": r":root", "dark": r':root\[data-theme="dark"\]'}[theme]
    found = re.search(rf"^{selector} \{{(.*?)^\}}", STYLE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", found[1]))


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_it_is_defined() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast(theme: str) -> None:
    known = colours(theme)
    assert {*known} >= {name for pair in TEXTS + MARKS for name in pair}
    low = {pair: round(contrast(*map(known.__getitem__, pair)), 2) for pair in TEXTS}
    assert {pair: value for pair, value in low.items() if value < 4.5} == {}
    marks = {pair: round(contrast(*map(known.__getitem__, pair)), 2) for pair in MARKS}
    assert {pair: value for pair, value in marks.items() if value < 3} == {}


def test_both_themes_have_the_same_colours() -> None:
    assert colours("light").keys() == colours("dark").keys()


def test_every_colour_is_of_the_theme() -> None:
    """No colour stands in a rule itself, where the dark theme could not change it."""
    rules = re.sub(r"^:root.*?^\}", "", STYLE, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"#[0-9a-f]{3,8}\b(?=[^{]*;)|rgb\(|hsl\(", rules) == []
