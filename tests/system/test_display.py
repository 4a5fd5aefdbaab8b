"""What a notebook shows: escaped, without scripts, shortened."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.system import display

NAMES = ["<b>jay", 'ti"t', "owl & co", "cat", "<script>alert(1)</script>"]


class Checked(HTMLParser):
    """HTML whose tags are all closed, none of which runs or loads anything."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe", "b") or (tag == "b" and not attributes)
        assert not {name for name, _ in attributes} - {"class"}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def shown(result):
    """The text that a notebook shows of a result."""
    found = result._repr_html_()
    assert "url(" not in found
    assert "http" not in found
    return " ".join(Checked(found).text)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=800)
    x = (3 * np.eye(5, 16)[truth] + rng.standard_normal((800, 16))).astype(np.float32)
    v = (2 * np.eye(5, 24)[truth] + rng.standard_normal((800, 24))).astype(np.float32)
    labels = np.where(np.arange(800) < 60, truth, -1)
    return x, truth, labels, cf.Teacher(v, np.eye(5, 24), class_names=NAMES)


def one_line(result):
    text = repr(result)
    assert "\n" not in text
    assert len(text) <= 240
    assert text.startswith(f"{type(result).__name__}(")
    return text


def test_selection_report_plan_and_explanation(pool):
    x, _, labels, teacher = pool
    picks = cf.select(x, 50, labels=labels, teacher=teacher, explain=True)
    assert f"[{picks.indices[0]}, {picks.indices[1]}, {picks.indices[2]}, ... 47 more]" in one_line(picks)
    text = shown(picks)
    assert "50 picks of 740 unlabelled rows" in text
    assert text.count("… 40 more") == 2  # of the picks, and of their explanation
    explained = shown(picks.explanation)
    assert any(name in explained for name in NAMES)  # names, and not numbers, of classes
    for result, word in (
        (picks.report, "n_labelled"),
        (cf.plan(x, 5, labels=labels, teacher=teacher), "memory_limit"),
        (picks.explanation, "stands for"),
        (teacher, NAMES[0]),
    ):
        one_line(result)
        assert word in shown(result)


def test_cold_start_has_no_score(pool):
    picks = cf.select(pool[0], 3)
    assert "–" in shown(picks)
    assert "cold start" in one_line(picks)


def test_warnings_are_shown(pool):
    x, _, labels, _ = pool
    other = cf.Teacher(np.roll(x, 1, axis=1), np.eye(5, 16), class_names=NAMES)
    with pytest.warns(cf.TeacherWarning):
        picks = cf.select(x, 3, labels=labels, teacher=other)
    assert shown(picks).count("Warning:") == 2 * len(picks.report.warnings)  # again in the folded report
    with pytest.warns(cf.TeacherWarning):
        found = other.diagnose(labels)
    one_line(found)
    assert "Warning:" in shown(found)


def test_labels_by_a_model(pool):
    x, truth, labels, teacher = pool
    learner = cf.ActiveLearner(x, labels=labels, teacher=teacher)
    assert "60 labelled" in one_line(learner)
    assert NAMES[4] in shown(learner)
    p = learner.probabilities()
    audit = cf.audit_sample(p, 100)
    for result in (audit, cf.audit_forecast(p, [50, 100]), learner.label_errors()):
        one_line(result)
        shown(result)
    for per_class in (False, True):
        found = cf.auto_label(p, audit, truth[audit.rows], per_class=per_class, max_error=0.3)
        one_line(found)
        assert str(found).splitlines()[-1] in shown(found)
        assert (NAMES[0] in shown(found)) == per_class


def test_campaign(pool, tmp_path):
    x, truth, _, teacher = pool
    campaign = cf.Campaign.create(tmp_path / "<i>birds.campaign", x, teacher=teacher)
    batch = campaign.next(12)
    taken = campaign.label(batch.images[:5], [NAMES[truth[row]] for row in batch.rows[:5]], annotator="<b>ana")
    for result in (batch, batch.batch, campaign, campaign.status(), campaign.assign("ben"), taken):
        one_line(result)
    text = shown(campaign)
    assert "<i>birds.campaign" in text
    assert "<b>ana" in text
    assert "… 2 more" in shown(batch)
    campaign.close()
    assert campaign._repr_html_() is None  # so that the line is shown
    one_line(campaign)


def test_results_of_a_study(pool):
    x, truth, _, _ = pool
    test = {"test_features": x[:50], "test_labels": truth[:50]}
    results = cf.simulate(x, truth, strategies=["random"], seeds=[0, 1], rounds=1, budget=5, progress=False, **test)
    assert "1 strategies × 2 seeds × 1 rounds" in one_line(results)
    assert "random" in shown(results)
    one_line(results.curve("random"))
    shown(results.curve("random"))


def test_arrays_are_not_printed(pool):
    one_line(cf.weighted_kmeans(pool[0], 4, random_state=0))
    one_line(cf.score_at_sizes(pool[0], pool[0], student_size=2, teacher_size=2))


def test_tables_are_cut_and_cells_are_text():
    found = display.table(["a", "<b>"], ((k, "x" * 500) for k in range(1000)), 1000)
    text = " ".join(Checked(found).text)
    assert "… 990 more" in text
    assert max(map(len, text.split())) <= 101
    assert len(found) < 5000
    assert "&lt;b&gt;" in found
    assert "more" not in display.table(["a"], [[1]], 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (float("nan"), "–"), (float("inf"), "inf"), (True, "yes"), (1 / 3, "0.3333"), (1797, "1797")],
)
def test_cells(value, text):
    assert f">{text}</td>" in display.facts({"name": value})


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (999, "999 B"), (5_260_000, "5.26 MB"), (3.2e13, "32 TB")])
def test_sizes(n, text):
    assert display.size(n) == text


def test_colours_are_those_of_the_page():
    style = re.search("<style>(.*?)</style>", display.notebook_html("x"), re.DOTALL).group(1)
    assert "color:inherit" in style
    assert not re.search(r"[{;](color|background):(?!inherit|none)", style)


def test_log_of_a_campaign_as_a_frame(pool, tmp_path):
    pandas = pytest.importorskip("pandas")
    with cf.Campaign.create(tmp_path / "birds.campaign", pool[0], class_names=NAMES) as campaign:
        batch = campaign.next(3)
        campaign.label(batch.images[:1], NAMES[:1])
        assert pandas.DataFrame(campaign.history())["kind"].iloc[-1] == campaign.history()[-1].kind
        assert pandas.DataFrame(campaign.labelled_images())["label"].tolist() == NAMES[:1]
        assert pandas.DataFrame(campaign.status().batches)["n_images"].tolist() == [3]


def test_configuration_has_what_differs_from_the_default():
    assert repr(cf.CCMAConfig()) == "CCMAConfig()"
    assert repr(cf.CCMAConfig(kappa=7, head="ridge")) == "CCMAConfig(head='ridge', kappa=7)"
