"""The page in a real Chromium: labelling, reloads, tabs, keyboards, phones, hostile names, accessibility.

These tests run where playwright and a Chromium are installed and are skipped elsewhere::

    pip install playwright axe-playwright-python   # the second for one test, of accessibility
    pytest -m browser tests/campaign/page          # Chromium by its usual name, or CCMA_CHROMIUM=/path/to/it
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("PIL", reason="Pillow, of the extra extract, is not installed")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from playwright.sync_api import sync_playwright

from ccma_fast.campaign.exchange.answer import CANNOT_TELL, NO_CLASS, Answer
from ccma_fast.campaign.exchange.assignment import Assignment
from ccma_fast.campaign.exchange.page_answers import read_page_export
from ccma_fast.campaign.page.write import write_page

pytestmark = pytest.mark.browser

Assigned = Callable[..., Assignment]
Draw = Callable[..., None]

CHROMIUM = next(
    filter(
        None, [os.environ.get("CCMA_CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))]
    ),
    None,
)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
IMAGES = [f"photos/{i}.png" for i in range(6)]
LIKELY = {
    "photos/0.png": [("owl", 0.6), ("cat", 0.3), ("dog", 0.1)],
    "photos/1.png": [("dog", 0.9), ("owl", 0.0004)],
    "photos/2.png": [("cat", 0.5), ("dog", 0.5)],
    "photos/3.png": [("owl", 0.8)],
    "photos/4.png": [("dog", 0.7), ("cat", 0.2)],
    "photos/5.png": [("cat", 0.9)],
}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, headless=True)
        yield browser
        browser.close()


class Tabs:
    """Tabs of one browser, which fail the test for whatever a page should not do: errors, dialogs, requests."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.wrong: list[str] = []
        self.asked: list[str] = []  # kinds of dialogs that the test expects
        self.dialogs: list[str] = []
        context.set_default_timeout(5000)

    def open(self, file: Path) -> Any:
        tab = self.context.new_page()
        tab.on("console", lambda message: self.wrong.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        tab.on("dialog", self._dialog)
        tab.on("request", self._request)
        tab.goto(file.as_uri())
        return tab

    def _dialog(self, dialog: Any) -> None:
        self.dialogs.append(dialog.type)
        if dialog.type not in self.asked:
            self.wrong.append(f"dialog: {dialog.type} {dialog.message}")
        dialog.accept()

    def _request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.wrong.append(f"request: {request.url}")


@pytest.fixture
def tabs(chromium: Any) -> Iterator[Callable[..., Tabs]]:
    """Makes a browser of its own storage."""
    made: list[Tabs] = []

    def make(**settings: Any) -> Tabs:
        made.append(Tabs(chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings})))
        return made[-1]

    yield make
    for each in made:
        each.context.close()
        assert each.wrong == []


@pytest.fixture
def page_of(tmp_path: Path, draw: Draw) -> Callable[..., Path]:
    """Writes the page of an assignment, and its images first."""

    def write(assignment: Assignment, **options: Any) -> Path:
        for i, task in enumerate(assignment.tasks):
            if re.fullmatch(r"photos/\w+\.png", task.image):
                draw(tmp_path / task.image, size=(60 + i, 40))
        file = tmp_path / "page.html"
        write_page(file, assignment, tmp_path, **options)
        return file

    return write


def exported(tab: Any, tmp_path: Path, name: str = "answers.json") -> list[Answer]:
    with tab.expect_download() as download:
        tab.click("#export")
    download.value.save_as(tmp_path / name)
    return read_page_export(tmp_path / name)[1]


def said(answers: list[Answer]) -> dict[str, str | None]:
    return {answer.image: answer.label or answer.refusal for answer in answers}


def press(tab: Any, keys: str) -> None:
    for key in keys.split():
        tab.keyboard.press(key)
        if key == "Escape":  # a dialog closes a little later
            tab.wait_for_function("!document.querySelector('dialog[open]')")


def count(tab: Any) -> str:
    return str(tab.inner_text("#count"))


def image(tab: Any) -> str:
    return str(tab.inner_text("#image-name"))


def choices(tab: Any) -> list[str]:
    return [*tab.locator("#choices .choice-name").all_text_contents()]


def test_a_batch_by_keyboard(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Name, labels, refusals, a note, a reload in the middle, undo, a changed answer, export, and what was exported."""
    assignment = assigned(LIKELY, annotator="")
    file = page_of(assignment)
    browser = tabs(timezone_id="Asia/Kolkata")
    tab = browser.open(file)
    tab.keyboard.type("Ada Löv")
    press(tab, "Enter")
    assert tab.inner_text("#who").endswith("Ada Löv")
    assert image(tab) == "photos/0.png"
    assert choices(tab) == ["owl", "cat", "dog"]
    press(tab, "2 c x")  # cat; refusals
    assert (image(tab), count(tab)) == ("photos/3.png", "3 of 6 answered")
    press(tab, "r")
    tab.keyboard.type("two animals")
    press(tab, "Shift+Enter Enter")  # a line break, which is trimmed, and the answer
    assert (image(tab), count(tab)) == ("photos/4.png", "4 of 6 answered")

    tab.reload()
    assert (image(tab), count(tab)) == ("photos/4.png", "4 of 6 answered")
    assert tab.inner_text("#who").endswith("Ada Löv")
    press(tab, "n")
    tab.keyboard.type("in the dark")
    press(tab, "Tab Tab Enter 1")  # over Cancel
    assert image(tab) == "photos/5.png"
    press(tab, "u")  # the answer
    assert (image(tab), count(tab)) == ("photos/4.png", "4 of 6 answered")
    assert "in the dark" in tab.inner_text("#current")
    press(tab, "1 ArrowLeft ArrowLeft ArrowLeft ArrowLeft ArrowLeft")
    assert (image(tab), tab.inner_text("#current")) == ("photos/0.png", "cat")
    assert tab.get_attribute("#choices button >> nth=1", "aria-pressed") == "true"
    press(tab, "1")  # owl after all
    assert image(tab) == "photos/5.png"
    press(tab, "/")
    tab.keyboard.type("do")
    press(tab, "Enter")
    assert tab.inner_text("#done-title") == "All images are answered"
    press(tab, "Escape")

    answers = exported(tab, tmp_path)
    assert said(answers) == {
        "photos/0.png": "owl",
        "photos/1.png": CANNOT_TELL,
        "photos/2.png": NO_CLASS,
        "photos/3.png": "two animals",
        "photos/4.png": "dog",
        "photos/5.png": "dog",
    }
    assert [answer.label is None for answer in answers] == [False, True, True, True, False, False]
    assert {(answer.annotator, answer.saw, answer.order) for answer in answers} == {("Ada Löv", "5a17", "likeliest")}
    assert [answer.shown for answer in answers] == [tuple(name for name, _ in likely) for likely in LIKELY.values()]
    assert answers[4].note == "in the dark"
    assert len({answer.key for answer in answers}) == 6
    for answer in answers:
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", answer.key)
        assert answer.answered is not None
        assert answer.answered.utcoffset() == timedelta(hours=5, minutes=30)
        assert abs(answer.answered.timestamp() - time.time()) < 120
        assert answer.seconds is not None
        assert 0 <= answer.seconds < 120
    raw = json.loads((tmp_path / "answers.json").read_text("utf-8"))
    assert raw["campaign"] == assignment.campaign


def test_exports_keep_keys(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """What did not change has its key in every export; what did has another and a later time, and is not undone."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "1 1")
    first = exported(tab, tmp_path, "1.json")
    assert tab.inner_text("#export") == "Exported 2"
    press(tab, "u")
    assert "Already exported" in tab.inner_text("#status")
    assert count(tab) == "2 of 6 answered"
    tab.reload()
    press(tab, "ArrowLeft 2")
    assert tab.inner_text("#export") == "Export 2"
    second = exported(tab, tmp_path, "2.json")
    assert [answer.label for answer in first] == ["owl", "dog"]
    assert [answer.label for answer in second] == ["owl", "owl"]
    assert first[0] == second[0]
    assert first[1].key != second[1].key
    assert first[1].answered < second[1].answered  # type: ignore[operator]


def test_undo_goes_back_step_by_step(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "u")
    assert "Nothing to undo" in tab.inner_text("#status")
    press(tab, "1 2 ArrowLeft 1")  # owl; owl, then dog for the second
    before = exported_without_click(tab)
    press(tab, "u")
    assert tab.inner_text("#current") == "owl"
    press(tab, "Control+z")
    assert (image(tab), tab.inner_text("#current")) == ("photos/1.png", "Not answered")
    tab.click("#undo")
    assert (image(tab), count(tab)) == ("photos/0.png", "0 of 6 answered")
    assert before == ["owl", "dog"]
    tab.reload()
    assert count(tab) == "0 of 6 answered"


def exported_without_click(tab: Any) -> list[str]:
    """The answers as the grid shows them, without an export."""
    press(tab, "g")
    texts = [text for text in tab.locator(".tile-answer").all_inner_texts() if text]
    press(tab, "g")
    return texts


def test_a_thousand_classes(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Search by parts of words, accents left out, letters left out; the last used first; the same again by a dot."""
    kinds = ["heron", "Löwe", "black-and-tan coonhound", "tern", "finch", "owl", "wren", "kite", "hawk", "toad"]
    shades = [f"shade{i}" for i in range(99)]
    classes = [*kinds, *(f"{shade} {kind}" for shade in shades for kind in kinds)]
    images = {name: [("tern", 0.5)] for name in IMAGES}
    tab = tabs().open(page_of(assigned(images, classes=classes)))
    assert tab.get_attribute("#search", "placeholder") == "Search all 1000 classes"
    for query, expected in (
        ("lowe", "Löwe"),
        ("coon tan", "black-and-tan coonhound"),
        ("shd42 wrn", "shade42 wren"),
        ("HAWK", "hawk"),
    ):
        press(tab, "/")
        tab.keyboard.type(query)
        assert tab.inner_text("#found .option >> nth=0") == expected
        press(tab, "Enter")
        assert expected in tab.inner_text("#status")
    press(tab, "/")
    found = tab.locator("#found .option").all_inner_texts()
    assert found[:5] == ["hawk", "shade42 wren", "black-and-tan coonhound", "Löwe", "heron"]
    assert tab.inner_text("#found-more") == "and 900 more: type to find them"
    press(tab, "ArrowDown ArrowDown ArrowUp")
    assert tab.inner_text(f"#{tab.get_attribute('#search', 'aria-activedescendant')}") == "shade42 wren"
    tab.keyboard.type("zzqx")
    assert tab.inner_text("#found-more").startswith("No class has such a name.")
    press(tab, "Enter")
    assert count(tab) == "4 of 6 answered"
    press(tab, "Escape")
    assert choices(tab) == ["tern"]
    press(tab, ".")
    answers = exported(tab, tmp_path)
    assert [answer.label for answer in answers] == ["Löwe", "black-and-tan coonhound", "shade42 wren", "hawk", "hawk"]
    assert {answer.shown for answer in answers} == {("tern",)}
    slowest = max(
        tab.evaluate("""() => ["a", "sh", "shade7 o", "qq", "wren"].map((query) => {
          const start = performance.now(); search.find(query); return performance.now() - start; })""")
    )
    assert slowest < 100  # milliseconds


def test_a_list_of_a_thousand_classes(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    classes = [f"class {i}" for i in range(1000)]
    tab = tabs().open(page_of(assigned(IMAGES, classes=classes), order="listed"))
    assert choices(tab) == classes
    assert tab.inner_text("#list-title") == "All classes"
    press(tab, "y")  # the last key
    tab.click("#choices button >> nth=999")
    assert [(answer.label, answer.order, answer.shown) for answer in exported(tab, tmp_path)] == [
        ("class 26", "listed", ()),
        ("class 999", "listed", ()),
    ]


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "<!--<script>alert(3)",
    "a\u2028b",
    "javascript:alert(4)",
    "${alert(5)} `' \" \\",
    "__proto__",
]


def test_names_run_nothing(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """HTML in classes, paths, names and texts is shown as it is, everywhere, and comes back as it was."""
    images = {f"photos/{i}.png": [(name, 0.5)] for i, name in enumerate(HOSTILE)}
    images |= {f"{name}/x.png": [(name, 0.5)] for name in HOSTILE}
    assignment = assigned(images, classes=HOSTILE, annotator="<b onclick=alert(6)>Ada</b>")
    tab = tabs().open(page_of(assignment, title="<script>alert(7)</script>"))
    assert tab.title() == "<script>alert(7)</script>"
    assert tab.inner_text("#who").endswith("<b onclick=alert(6)>Ada</b>")
    press(tab, "p")
    for _ in range(len(HOSTILE)):
        press(tab, "1")
    assert "no such image" in tab.inner_text("#no-picture")
    assert tab.inner_text("#image-name").startswith("</script>")
    press(tab, "/ Escape n")
    tab.keyboard.type("<svg onload=alert(8)>")
    press(tab, "Tab Tab Enter r")
    tab.keyboard.type("<svg onload=alert(9)>")
    press(tab, "Tab Tab Enter")
    for _ in range(len(HOSTILE) - 1):
        press(tab, "1")
    press(tab, "Escape g")
    assert tab.locator(".tile").count() == len(images)
    answers = exported(tab, tmp_path)
    assert [answer.label for answer in answers] == [*HOSTILE, None, *HOSTILE[1:]]
    assert answers[7].refusal == "<svg onload=alert(9)>"
    assert answers[7].note == "<svg onload=alert(8)>"
    assert [answer.image for answer in answers] == [*images]
    assert tab.locator("script").count() == 2  # the data and the page's own


def test_the_policy_stops_what_would_be_injected(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Even a page whose code forgot to escape could run nothing and load nothing: shown on purpose here."""
    browser = tabs()
    tab = browser.open(page_of(assigned(LIKELY)))
    blocked = tab.evaluate("""async () => {
      const kinds = [];
      document.addEventListener("securitypolicyviolation", (event) => kinds.push(event.effectiveDirective));
      const script = document.createElement("script");
      try { script.textContent = "window.ran = 1"; } catch { kinds.push("trusted types"); }
      const image = new Image();
      image.src = "https://example.invalid/x.png";
      document.body.append(image);
      try { document.body.innerHTML = "<p onclick='1'></p>"; } catch { kinds.push("trusted types"); }
      await new Promise((resolve) => setTimeout(resolve, 200));
      return [...kinds, String(window.ran)];
    }""")
    assert {"img-src", "trusted types", "undefined"} <= {*blocked}
    assert browser.wrong
    browser.wrong.clear()


def test_two_tabs_lose_nothing(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Each tab sees and keeps what the other answers; of two answers to an image the later counts, undo included."""
    file = page_of(assigned(LIKELY))
    browser = tabs()
    one, other = browser.open(file), browser.open(file)
    press(one, "1 1")
    other.wait_for_function("document.getElementById('count').textContent === '2 of 6 answered'")
    press(other, "o 1 1")
    one.wait_for_function("document.getElementById('count').textContent === '4 of 6 answered'")
    press(one, "ArrowLeft ArrowLeft c")  # changes the first
    other.wait_for_function("answers.answer(0).refusal !== null")
    press(other, "u")  # its last answer, the fourth image
    one.wait_for_function("document.getElementById('count').textContent === '3 of 6 answered'")
    one.reload()
    expected = {"photos/0.png": CANNOT_TELL, "photos/1.png": "dog", "photos/2.png": "cat"}
    assert said(exported(one, tmp_path)) == expected
    assert said(exported(other, tmp_path)) == expected


def test_tabs_that_do_not_hear_of_each_other(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """A tab that slept through the other's events overwrites nothing, and does not undo what the other changed."""
    file = page_of(assigned(LIKELY))
    browser = tabs()
    browser.context.add_init_script("window.addEventListener('storage', (e) => e.stopImmediatePropagation(), true)")
    one, other = browser.open(file), browser.open(file)
    press(one, "1 1 1")
    assert count(other) == "0 of 6 answered"
    press(other, "2 1")  # the first image too, later; then the first that nobody has answered
    press(one, "u u")
    assert said(exported(one, tmp_path)) == {"photos/0.png": "cat", "photos/3.png": "owl"}
    press(one, "u")
    assert "Changed in another tab" in one.inner_text("#status")


@pytest.mark.parametrize("refusal", ["access", "writes"])
def test_storage_that_is_refused(refusal: str, tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """The page works, says that nothing is saved, and asks before it is left, as long as answers are not exported."""
    script = {
        "access": "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } })",
        "writes": "Storage.prototype.setItem = () => { throw new DOMException('no', 'QuotaExceededError'); }",
    }[refusal]
    browser = tabs()
    browser.context.add_init_script(script)
    tab = browser.open(page_of(assigned(LIKELY)))
    assert "does not save answers here" in tab.inner_text("#unsaved")
    press(tab, "1 1")
    browser.asked.append("beforeunload")
    tab.reload()
    assert browser.dialogs == ["beforeunload"]
    assert count(tab) == "0 of 6 answered"
    press(tab, "1")
    assert len(exported(tab, tmp_path)) == 1
    tab.reload()
    assert browser.dialogs == ["beforeunload"]


def test_storage_that_is_full_for_a_while(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    browser = tabs()
    browser.context.add_init_script("""
      const real = Storage.prototype.setItem;
      Storage.prototype.setItem = function (...entry) {
        if (window.full) { throw new DOMException("full"); }
        real.apply(this, entry);
      };
    """)
    tab = browser.open(page_of(assigned(LIKELY)))
    press(tab, "1")
    assert not tab.is_visible("#unsaved")
    tab.evaluate("window.full = true")
    press(tab, "1")
    assert tab.is_visible("#unsaved")
    tab.evaluate("window.full = false")
    press(tab, "1")
    assert not tab.is_visible("#unsaved")
    tab.reload()
    assert count(tab) == "3 of 6 answered"


def test_what_is_saved_may_be_damaged(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Entries that another program has written are as if they were not there."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "1 1 1 1")
    tab.evaluate("""() => {
      const unknown = '{"stamp": 9e15, "note": "", "answer": {"key": "k", "label": 99, "shown": []}}';
      const spoiled = ["{", "null", unknown, "[]"];
      spoiled.forEach((text, i) => localStorage.setItem(answers.prefix + i, text));
      localStorage.setItem(`${answers.prefix}settings`, '{"order": 5, "annotator": {}}');
      localStorage.setItem(`${answers.prefix}exported`, "5");
    }""")
    tab.reload()
    assert count(tab) == "0 of 6 answered"
    press(tab, "1")
    assert count(tab) == "1 of 6 answered"


def fnv1a(text: str) -> int:
    value = 0x811C9DC5
    units = text.encode("utf-16-le")
    for low, high in zip(units[::2], units[1::2], strict=True):
        value = ((value ^ (low | high << 8)) * 0x01000193) % 2**32
    return value


def shuffled(names: list[str], text: str) -> list[str]:
    """The order that the page gives names, as its documentation says."""
    names, state = [*names], fnv1a(text) or 1
    for i in range(len(names) - 1, 0, -1):
        state = (state ^ state << 13) % 2**32
        state ^= state >> 17
        state = (state ^ state << 5) % 2**32
        j = state % (i + 1)
        names[i], names[j] = names[j], names[i]
    return names


def test_orders(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Each answer has the list that was seen: shuffled by seed and image, the same at every visit; or all, in order."""
    classes = [f"class {i}" for i in range(9)]
    likely = [(name, 0.9 - i / 10) for i, name in enumerate(classes[:8])]
    tab = tabs().open(page_of(assigned(dict.fromkeys(IMAGES, likely), classes=classes), order="shuffled", seed=5))
    expected = {name: shuffled(classes[:8], f"5\n{name}") for name in IMAGES}
    assert len({tuple(order) for order in expected.values()}) == 6
    assert choices(tab) == expected[IMAGES[0]]
    press(tab, "ArrowRight ArrowLeft")
    assert choices(tab) == expected[IMAGES[0]]
    press(tab, "3")
    tab.click("#to-settings")
    assert tab.is_checked("input[value=shuffled]")
    tab.check("input[value=listed]")
    press(tab, "Escape")
    assert choices(tab) == classes
    assert not tab.is_visible("#to-probabilities")
    press(tab, "9")
    tab.reload()
    assert choices(tab) == classes
    tab.click("#to-settings")
    tab.check("input[value=likeliest]")
    press(tab, "Escape p")
    assert tab.text_content(".probability >> nth=1") == "80 %"
    press(tab, "2 p 1")
    answers = exported(tab, tmp_path)
    assert [(answer.order, answer.shown, answer.label) for answer in answers] == [
        ("shuffled", tuple(expected[IMAGES[0]]), expected[IMAGES[0]][2]),
        ("listed", (), "class 8"),
        ("likeliest", tuple(classes[:8]), "class 1"),
        ("likeliest", tuple(classes[:8]), "class 0"),
    ]
    raw = json.loads((tmp_path / "answers.json").read_text("utf-8"))["answers"]
    assert [answer["probabilities"] for answer in raw] == [False, False, True, False]


def test_without_models_all_classes_are_listed(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    tab = tabs().open(page_of(assigned(IMAGES)))
    assert choices(tab) == ["cat", "dog", "owl"]
    press(tab, "2")
    (answer,) = exported(tab, tmp_path)
    assert (answer.label, answer.order, answer.shown) == ("dog", "listed", ())


def test_seconds(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Time counts from when an image came into sight, and stops in the background; a group's is divided."""
    browser = tabs()
    browser.context.clock.install(time=1_700_000_000)
    browser.context.add_init_script(
        "Object.defineProperty(document, 'hidden', { get: () => window.isHidden === true });"
    )
    tab = browser.open(page_of(assigned(LIKELY)))
    tab.clock.pause_at(1_700_000_100)
    press(tab, "ArrowRight ArrowLeft")
    tab.clock.run_for(3000)
    press(tab, "1")
    tab.clock.run_for(2000)
    hide = "(hidden) => { window.isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); }"
    tab.evaluate(hide, True)
    tab.clock.run_for(60_000)
    tab.evaluate(hide, False)
    tab.clock.run_for(1000)
    press(tab, "1 g")
    tab.clock.run_for(7000)
    press(tab, "Space")
    tab.clock.run_for(4000)
    press(tab, "ArrowRight Space 1")
    seconds = [answer.seconds for answer in exported(tab, tmp_path)]
    assert seconds == [3, 3, 2, 2]


def test_a_clock_that_is_set_back(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """A changed answer is the later one all the same, here and for whoever takes the latest of two exports."""
    browser = tabs()
    browser.context.clock.install(time=1_700_000_000)
    file = page_of(assigned(LIKELY))
    tab = browser.open(file)
    press(tab, "1")
    (first,) = exported(tab, tmp_path, "1.json")
    tab.clock.set_system_time(1_700_000_000 - 3600)
    press(tab, "ArrowLeft 2")
    assert said(exported(browser.open(file), tmp_path, "2.json")) == {"photos/0.png": "cat"}
    (second,) = exported(tab, tmp_path, "3.json")
    assert (second.label, second.answered > first.answered) == ("cat", True)  # type: ignore[operator]


def test_the_grid(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Several images are selected by keys or clicks, and answered at once from the union of their classes."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "g")
    assert tab.evaluate("document.activeElement.id") == "tile-0"
    press(tab, "Space ArrowRight ArrowRight Space")
    assert tab.inner_text("#selected") == "2 selected"
    assert choices(tab) == ["cat", "owl", "dog"]  # means 0.4, 0.3 and 0.3
    press(tab, "1")
    assert tab.locator(".tile-answer").all_inner_texts() == ["cat", "", "cat", "", "", ""]
    assert tab.evaluate("document.activeElement.id") == "tile-3"
    press(tab, "1")  # the one that the keyboard is at
    tab.select_option("#filter", "open")
    assert tab.locator(".tile:visible").count() == 3
    tab.click("#tile-1")
    tab.click("#tile-5", modifiers=["Shift"])
    assert tab.inner_text("#selected") == "3 selected"
    press(tab, "c")
    assert tab.inner_text("#done-title") == "All images are answered"
    press(tab, "Escape u")
    assert count(tab) == "3 of 6 answered"
    assert tab.locator(".tile:visible").count() == 3
    tab.select_option("#filter", "all")
    tab.dblclick("#tile-4")
    assert image(tab) == "photos/4.png"
    press(tab, "1 g Control+a Escape Home Shift+ArrowRight")
    assert tab.inner_text("#selected") == "2 selected"
    answers = {answer.image: answer for answer in exported(tab, tmp_path)}
    assert {name: answer.label for name, answer in answers.items()} == {
        "photos/0.png": "cat",
        "photos/2.png": "cat",
        "photos/3.png": "owl",
        "photos/4.png": "dog",
    }
    assert answers["photos/0.png"].shown == answers["photos/2.png"].shown == ("cat", "owl", "dog")
    assert answers["photos/0.png"].key != answers["photos/2.png"].key


def test_a_held_key_answers_once(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    tab = tabs().open(page_of(assigned(LIKELY)))
    for _ in range(5):
        tab.keyboard.down("1")
    tab.keyboard.up("1")
    assert count(tab) == "1 of 6 answered"


KEYS = [
    ({"key": "&", "code": "Digit1"}, "class 0"),  # French, where digits need Shift
    ({"key": "1", "code": "Digit1", "shiftKey": True}, "class 0"),
    ({"key": "2", "code": "Numpad2"}, "class 1"),
    ({"key": "0", "code": "Digit0"}, "class 9"),
    ({"key": "a", "code": "KeyQ"}, "class 10"),  # the letter that is printed on the key
    ({"key": "A", "code": "KeyA", "shiftKey": True}, "class 10"),
    ({"key": "ф", "code": "KeyA"}, "class 10"),  # Russian
    ({"key": "с", "code": "KeyC"}, CANNOT_TELL),
    ({"key": "1", "code": "Digit1", "altKey": True}, ""),
    ({"key": "a", "code": "KeyA", "ctrlKey": True}, ""),
    ({"key": "ArrowDown", "code": "Numpad2"}, ""),
    ({"key": "!", "code": "Digit1", "shiftKey": True}, ""),
]


def test_keyboards(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Digits and letters mean what is printed on them, whatever the layout and the script."""
    tab = tabs().open(page_of(assigned(IMAGES, classes=[f"class {i}" for i in range(30)])))
    given = tab.evaluate(
        """(events) => events.map((event) => {
          goTo(0);
          document.body.dispatchEvent(new KeyboardEvent("keydown", { ...event, bubbles: true }));
          const text = answerText(0);
          answers.undo();
          return text;
        })""",
        [event for event, _ in KEYS],
    )
    assert given == [label for _, label in KEYS]


def test_keys_can_be_turned_off(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """For who dictates to the computer, or whose hand shakes: no single key answers then, and buttons say none."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    tab.click("#to-settings")
    tab.uncheck("#single-keys")
    press(tab, "Escape 1 c x")
    assert count(tab) == "0 of 6 answered"
    assert tab.locator("#choices kbd").count() == 0
    press(tab, "ArrowRight")
    assert image(tab) == "photos/1.png"
    tab.reload()
    press(tab, "1")
    assert count(tab) == "0 of 6 answered"


def test_everything_is_reached_by_tab(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """No trap: Tab goes through all controls and around; arrows move among the classes; dialogs give the focus back."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "1 ArrowLeft")
    seen: list[str] = []
    for _ in range(40):
        press(tab, "Tab")
        seen.append(tab.evaluate("document.activeElement.id || document.activeElement.className || 'body'"))
    wanted = ["to-grid", "to-settings", "to-help", "export", "search", "to-probabilities", "choice", "chip"]
    wanted += ["cannot-tell", "other-refusal", "no-class", "back", "undo", "to-note", "to-zoom", "next-open", "forward"]
    assert [*dict.fromkeys(name for name in seen if name != "body")] == wanted
    assert seen.count("to-grid") >= 2
    assert seen.count("choice") == seen.count("chip")
    tab.focus("#choices button >> nth=0")
    press(tab, "ArrowDown ArrowDown ArrowDown Enter")
    assert tab.evaluate("answerText(0)") == "dog"
    assert tab.evaluate("document.activeElement.textContent").endswith("dog")  # the first class of the next image
    for opener, dialog in (("#to-help", "#help"), ("#to-settings", "#settings"), ("#to-note", "#note")):
        tab.focus(opener)
        press(tab, "Enter")
        assert tab.is_visible(dialog)
        press(tab, "Escape")
        assert not tab.is_visible(dialog)
        assert tab.evaluate("`#${document.activeElement.id}`") == opener


def test_zoom(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "z")
    before = tab.locator("#zoomed-image").bounding_box()["width"]
    press(tab, "+ +")
    assert tab.locator("#zoomed-image").bounding_box()["width"] == pytest.approx(before * 1.5**2, rel=0.01)
    press(tab, "- - - 1")
    assert tab.locator("#zoomed-image").bounding_box()["width"] == pytest.approx(before, rel=0.01)
    press(tab, "z")
    assert not tab.is_visible("#zoomed")
    assert count(tab) == "0 of 6 answered"


def test_help(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Every key that does something stands in the help."""
    tab = tabs().open(page_of(assigned(LIKELY)))
    press(tab, "?")
    keys = tab.locator("#help kbd").all_inner_texts()
    assert {*tab.evaluate("Object.keys(COMMANDS)")} <= {*keys}
    press(tab, "1 Escape")
    assert count(tab) == "0 of 6 answered"


def test_a_phone(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """By fingers alone, on a narrow screen: nothing is cut off, targets are large, swipes turn over, taps answer."""
    browser = tabs(**PHONE)
    tab = browser.open(page_of(assigned(LIKELY, annotator="")))
    tab.fill("#name-text", "Ada")
    tab.tap("#name-form .primary")
    tab.tap("#choices button >> nth=1")
    assert image(tab) == "photos/1.png"

    swipe = """([from, to]) => {
      const picture = document.getElementById("image");
      const touch = (x) => new Touch({ identifier: 1, target: picture, clientX: x, clientY: 200 });
      const fire = (type, touches, changed) => picture.dispatchEvent(
        new TouchEvent(type, { touches, changedTouches: changed, bubbles: true }));
      fire("touchstart", [touch(from)], [touch(from)]);
      fire("touchend", [], [touch(to)]);
    }"""
    tab.evaluate(swipe, [300, 100])
    assert image(tab) == "photos/2.png"
    tab.evaluate(swipe, [100, 300])
    tab.evaluate(swipe, [100, 130])  # too short
    assert image(tab) == "photos/1.png"
    tab.tap("#search")
    tab.fill("#search", "ow")
    tab.tap("#found .option >> nth=0")
    assert image(tab) == "photos/2.png"
    tab.tap("#cannot-tell")
    tab.tap("#undo")
    assert image(tab) == "photos/2.png"
    tab.tap("#cannot-tell")

    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    small = tab.evaluate("""() => [...document.querySelectorAll("button")].filter((button) => button.offsetParent)
      .filter((button) => button.getBoundingClientRect().height < 44 && !button.matches(".quiet, .search button"))
      .map((button) => button.id || button.textContent)""")
    assert small == []
    tab.tap("#to-grid")
    assert not tab.is_visible("#panel")
    tab.tap("#tile-3")
    tab.tap("#tile-4")
    assert tab.is_visible("#panel")
    tab.tap("#no-class")
    assert said(exported(tab, tmp_path)) == {
        "photos/0.png": "cat",
        "photos/1.png": "owl",
        "photos/2.png": CANNOT_TELL,
        "photos/3.png": NO_CLASS,
        "photos/4.png": NO_CLASS,
    }


@pytest.mark.parametrize("width", [320, 768, 1280])
def test_nothing_is_cut_off(width: int, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """320 pixels is also what 1280 are at 400 %. Long names wrap."""
    long = ["W" * 120, "many words " * 20, "dog"]
    names = {"photos/a.png": [(name, 0.3) for name in long], "photos/" + "b" * 80 + ".png": []}
    tab = tabs(viewport={"width": width, "height": 700}).open(page_of(assigned(names, classes=long)))
    for keys in ("p", "/", "Escape 2 ArrowRight", "g", "Space"):
        press(tab, keys)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
    press(tab, "?")
    assert tab.evaluate("document.getElementById('help').scrollWidth") <= width


def test_themes(assigned: Assigned, page_of: Any, tabs: Any) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    file = page_of(assigned(LIKELY))
    browser = tabs(color_scheme="dark", reduced_motion="reduce")
    tab = browser.open(file)
    dark = tab.evaluate(ground)
    tab.emulate_media(color_scheme="light")
    tab.wait_for_function(f"{ground} !== {json.dumps(dark)}")
    tab.click("#to-settings")
    tab.check("input[value=dark]")
    assert tab.evaluate(ground) == dark
    tab.reload()
    assert tab.evaluate(ground) == dark
    moving = tab.evaluate("""() => [...document.querySelectorAll("*")].filter((element) =>
      ["", "::-webkit-progress-value"].some((part) => {
        const style = getComputedStyle(element, part || null);
        return style.transitionDuration !== "0s" || style.animationName !== "none";
      })).length""")
    assert moving == 0


def test_a_picture_that_is_missing(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    tab = tabs().open(page_of(assigned(["gone.jpg", "photos/1.png"])))
    assert tab.inner_text("#no-picture") == "The picture is missing: no such image"
    assert image(tab) == "gone.jpg"
    press(tab, "z")
    assert tab.inner_text("#status") == "There is no picture to enlarge."
    press(tab, "g")
    assert tab.inner_text("#tile-0 .tile-missing") == "no picture"
    assert tab.evaluate("document.querySelector('#tile-1 img').naturalWidth") > 0
    press(tab, "g c")
    assert said(exported(tab, tmp_path)) == {"gone.jpg": CANNOT_TELL}


def test_a_name_is_asked_for_once(tmp_path: Path, assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """Where the assignment names nobody; another page suggests the name; an export asks again where none was given."""
    browser = tabs()
    tab = browser.open(page_of(assigned(LIKELY, annotator="")))
    press(tab, "Escape 1")
    tab.click("#export")
    assert tab.is_visible("#name")
    tab.fill("#name-text", "  Ada ")
    with tab.expect_download() as download:
        press(tab, "Enter")
    assert re.fullmatch(r"answers-01234567-Ada-\d{8}-\d{6}\.json", download.value.suggested_filename)
    download.value.save_as(tmp_path / "answers.json")
    assert read_page_export(tmp_path / "answers.json")[1][0].annotator == "Ada"
    tab.reload()
    assert not tab.is_visible("#name")
    other = browser.open(page_of(assigned(IMAGES[:3], annotator="")))
    assert other.input_value("#name-text") == "Ada"
    named = browser.open(page_of(assigned(IMAGES[:2], annotator="Bob")))
    assert not named.is_visible("#name")
    assert named.inner_text("#who").endswith("Bob")


@pytest.mark.parametrize(("scheme", "screen"), [("light", {}), ("dark", PHONE)], ids=["light", "dark phone"])
def test_accessibility(scheme: str, screen: dict[str, Any], assigned: Assigned, page_of: Any, tabs: Any) -> None:
    """axe-core finds nothing against WCAG 2.2 AA or its best practices, whatever is open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    browser = tabs(bypass_csp=True, color_scheme=scheme, **screen)  # the policy would stop axe-core's own styles
    tab = browser.open(page_of(assigned({**LIKELY, "gone.png": [("cat", 0.5)]}, annotator="")))
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = {"runOnly": tags, "resultTypes": ["violations"]}

    def violations(state: str) -> list[str]:
        report = axe.Axe().run(tab, options=options).response
        return [f"{state}: {found['id']} {found['nodes'][0]['html']}" for found in report["violations"]]

    found = violations("name")
    tab.fill("#name-text", "Ada")
    press(tab, "Enter 1 c p ArrowLeft")
    for keys in ("", "/", "Escape g", "Space ArrowRight Space", "?"):
        press(tab, keys)
        found += violations(keys or "answered")
    press(tab, "Escape")
    for button in ("#to-settings", "#to-zoom", "#other-refusal"):
        tab.click(button)
        found += violations(button)
        press(tab, "Escape")
    tab.click("#select-all")
    press(tab, "c")
    found += violations("done")
    press(tab, "Escape g")
    tab.evaluate("goTo(6)")
    found += violations("missing")
    assert found == []


@pytest.mark.slow
def test_two_hundred_images_open_at_once(
    tmp_path: Path, assigned: Assigned, chromium: Any, record_property: Callable[[str, object], None]
) -> None:
    """From navigation to the first image that can be answered: under two seconds, with photographs of camera noise."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    names = [f"photos/{i}.jpg" for i in range(200)]
    (tmp_path / "photos").mkdir()
    for name in names:
        coarse = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((800, 600))
        noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-20, 20, (600, 800, 3), dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    classes = [f"class {i}" for i in range(1000)]
    likely = {name: [(other, 0.1) for other in classes[i : i + 8]] for i, name in enumerate(names)}
    write_page(tmp_path / "page.html", assigned(likely, classes=classes), tmp_path)
    taken = []
    for _ in range(5):
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script("""addEventListener("DOMContentLoaded", () => setTimeout(async () => {
          await document.getElementById("image").decode();
          requestAnimationFrame(() => setTimeout(() => { window.usable = performance.now(); }));
        }));""")
        tab = context.new_page()
        tab.goto((tmp_path / "page.html").as_uri())
        tab.wait_for_function("window.usable !== undefined")
        taken.append(tab.evaluate("window.usable"))
        press(tab, "1")
        assert count(tab) == "1 of 200 answered"
        context.close()
    record_property("milliseconds", taken)
    record_property("bytes", (tmp_path / "page.html").stat().st_size)
    print(f"{statistics.median(taken):.0f} ms, {(tmp_path / 'page.html').stat().st_size / 1e6:.1f} MB")
    assert statistics.median(taken) < 2000
