"""The programs `ccma-fast campaign` and `ccma-fast label`: a campaign from its first batch to its labels."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.cli.campaign import ACTIONS

N, NAMES = 60, ["ant", "bee", "cow"]
Y = np.random.default_rng(0).integers(3, size=N)
IDS = [f"a/{i:03}.jpg" for i in range(N)]
FILE = "birds.campaign"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for part in ("pool/img_emb", "pool/metadata", "photos/a"):
        os.makedirs(part)
    rng = np.random.default_rng(0)
    np.save("pool/img_emb/img_emb_0.npy", (rng.standard_normal((N, 8)) + 3 * np.eye(3, 8)[Y]).astype(np.float32))
    parquet.write_table(pyarrow.table({"image_path": IDS}), "pool/metadata/metadata_0.parquet")
    for name in IDS[:-1]:
        Image.new("RGB", (32, 32)).save(f"photos/{name}")
    Path("names.txt").write_text("\n".join(NAMES))
    return tmp_path


def campaign(action: str, *arguments: str, file: str = FILE) -> int:
    return main(["campaign", action, file, *arguments])


def begin(*arguments: str) -> None:
    given = ("--features", "pool", "--class-names", "names.txt", "--images", "photos", "--head", "ridge")
    assert campaign("init", *given, *arguments) == 0


def answered(source: str, to: str, **cells: str) -> None:
    """Fill in a table that was exported: the true labels, or what else is given."""
    with open(source, newline="") as handle:
        rows = list(csv.DictReader(handle))
    for row in rows:
        row |= cells or {"label": NAMES[Y[int(row["index"])]]}
    with open(to, "w", newline="") as handle:
        writer = csv.DictWriter(handle, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def json_of(capsys: pytest.CaptureFixture[str], action: str, *arguments: str) -> Any:
    capsys.readouterr()
    assert campaign(action, *arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_a_campaign_from_its_first_batch_to_its_labels(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    for k in range(3):
        assert campaign("next", "--budget", "6", "--out", f"{k}.csv", "-q") == 0
        assert campaign("export", "--to", "csv", "--annotator", "ana", "--out", f"ana{k}.csv") == 0
        answered(f"ana{k}.csv", f"back{k}.csv")
        assert campaign("import", f"back{k}.csv") == 0
    status = json_of(capsys, "status", "--json")
    assert (status["n_labelled"], status["n_out"]) == (18, 0)
    assert [entry["n_labelled"] for entry in status["batches"]] == [6, 6, 6]
    assert campaign("export", "--to", "labels", "--out", "labels.csv") == 0
    picks = cf.select("pool", 4, labels=Path("labels.csv"), class_names=NAMES)
    assert picks.report.n_labelled == 18
    record = json.loads(Path("2.selection.json").read_text())
    with open("2.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [pick["id"] for pick in record["picks"]] == [row["image_path"] for row in rows]
    assert record["command"][:3] == ["ccma-fast", "campaign", "next"]
    with cf.Campaign.open(FILE) as opened:
        issued = [event.details["records"] for event in opened.events() if event.kind == "batch issued"]
    assert record["parent"] == issued[1]
    assert json.loads(Path("0.selection.json").read_text())["parent"] is None


def test_the_file_may_be_used_from_another_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin()
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    assert campaign("next", "--budget", "3", "-q", file="../birds.campaign") == 0


def test_labels_that_were_exported_are_no_answers(capsys: pytest.CaptureFixture[str]) -> None:
    begin("--labels", *_known(10))
    assert campaign("export", "--to", "labels", "--out", "labels.csv") == 0
    before = json_of(capsys, "log", "--json")
    assert campaign("import", "labels.csv") == 2
    assert "has labels that people agreed on" in capsys.readouterr().err
    assert json_of(capsys, "log", "--json") == before
    assert campaign("import", "labels.csv", "--annotator", "ana") == 0


def test_answers_come_twice_and_with_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert campaign("next", "--budget", "4", "-q") == 0
    assert campaign("export", "--to", "csv", "--out", "out.csv") == 0
    answered("out.csv", "back.csv", refusal="=HYPERLINK(0)", note="+1-2")
    assert json_of(capsys, "import", "back.csv", "--json")["back.csv"]["n_new"] == 4
    found = json_of(capsys, "import", "back.csv", "--json")["back.csv"]
    assert (found["n_new"], found["n_known"]) == (0, 4)
    assert campaign("log", "-n", "1") == 0
    assert "=HYPERLINK(0)" in capsys.readouterr().out


def test_what_is_bad_is_said_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    before = json_of(capsys, "log", "--json")
    for action, given, text in (
        ("label", ["a/999.jpg", "--class", "ant"], "images of the pool, got 1 others, first ['a/999.jpg']"),
        ("label", [IDS[0], "--class", "aunt"], "got 'aunt' for image 'a/000.jpg' (did you mean 'ant'?)"),
        ("label", [IDS[0], "--retract"], "must have an answer by '', got 'a/000.jpg'"),
        ("undo", ["77"], "there is no event 77"),
        ("undo", ["5-3"], "the first and the last of some events, got '5-3'"),
        ("undo", ["5-99999999999"], "at most 10000000 events, got '5-99999999999'"),
        ("classes", ["--add", "dog", "ant"], "got 'ant', which one has"),
        ("classes", ["--add", "dog", "--rename", "wasp", "x"], "got 'wasp'"),
        ("classes", ["--add", "dog", "--rename", "ant", "x", "--merge", "ant", "x"], "got 'ant'"),
        ("next", ["--budget", "0"], "at least 1"),
        ("next", ["--budget", "3", "--expires", "7"], "such as 7d or 36h, got '7'"),
        ("next", ["--budget", "3", "--out", "names.txt"], "must end in .csv"),
        ("export", ["--to", "csv", "--out", "o.csv"], "there is no image for anybody without a name"),
        ("export", ["--to", "labels", "--out", "names.txt"], "is there already"),
        ("import", ["none.csv"], "none.csv"),
        ("classes", ["--rename", "wasp", "x"], "got 'wasp'"),
        ("audit", ["-n", "61"], "could be chosen, 60, got 61"),
    ):
        assert campaign(action, *given) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert text in error
    assert json_of(capsys, "log", "--json") == before
    assert campaign("status", file="none.campaign") == 2
    assert "no campaign 'none.campaign'" in capsys.readouterr().err
    assert campaign("status", file="names.txt") == 2
    assert campaign("init", "--features", "pool") == 2
    assert "is there already" in capsys.readouterr().err


def test_a_campaign_is_begun_with_its_labels_or_not_at_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.csv").write_text(f"image_path,label\n{IDS[0]},wasp\n")
    for labels in ("none.csv", "bad.csv"):
        given = ("--features", "pool", "--class-names", "names.txt", "--labels", *_known(20), labels)
        assert campaign("init", *given) == 2
        assert not [file.name for file in folder.iterdir() if file.name.startswith(FILE)]
    begin("--labels", *_known(20))
    assert "20 labels" in capsys.readouterr().err


def test_what_people_wrote_controls_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    awkward = "a\nb\x1b[2J"
    assert campaign("classes", "--add", awkward) == 0
    assert campaign("label", IDS[0], "--class", awkward, "--annotator", awkward) == 0
    assert campaign("label", IDS[1], "--refuse", awkward) == 0
    for action, n_lines in (("log", 8), ("status", 7), ("classes", 4)):
        capsys.readouterr()
        assert campaign(action) == 0
        out = capsys.readouterr().out
        assert out.count("\n") == n_lines
        assert r"a\nb\x1b[2J" in out
        assert "\x1b" not in out


def test_every_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert json_of(capsys, "label", IDS[0], "--class", "ant", "--json")["n_new"] == 1
    assert json_of(capsys, "label", IDS[0], "--retract", "--json") == {"withdrawn": [IDS[0]]}
    assert json_of(capsys, "label", IDS[0], "--refuse", "cannot tell", "--json")["n_new"] == 1
    assert json_of(capsys, "label", IDS[0], "--reopen", "--json") == {"withdrawn": [IDS[0]]}


def test_answers_by_hand_and_their_undo(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert campaign("label", *IDS[:2], "--class", "ant", "--annotator", "ana") == 0
    assert (
        "images that nobody was asked about, taken all the same (2): 'a/000.jpg', 'a/001.jpg'"
        in capsys.readouterr().err
    )
    assert campaign("label", IDS[0], "--correct", "bee", "--annotator", "lead") == 0
    assert campaign("label", IDS[2], "--refuse", "cannot tell") == 0
    assert json_of(capsys, "classes", "--json")["classes"] == {"ant": 1, "bee": 1, "cow": 0}
    assert campaign("label", IDS[2], "--reopen") == 0
    assert campaign("undo", "--annotator", "lead") == 0
    assert "undone: event 9, correction of 'a/000.jpg' by 'lead'" in capsys.readouterr().err
    status = json_of(capsys, "status", "--json")
    assert (status["n_labelled"], status["n_refused"]) == (2, 0)
    assert campaign("log", "--verify") == 0
    out = capsys.readouterr().out
    assert "-     9" in out
    assert "'a/000.jpg': bee  lead" in out


def test_classes_and_settings(capsys: pytest.CaptureFixture[str]) -> None:
    begin("--labels-per-image", "2", "--expires", "7d")
    given = ("--add", "dog", "elk", "--rename", "cow", "cattle", "--merge", "elk", "dog", "--json")
    assert json_of(capsys, "classes", *given)["classes"] == {"ant": 0, "bee": 0, "cattle": 0, "dog": 0}
    settings = json_of(capsys, "settings")
    assert (settings["labels_per_image"], settings["expires"]) == (2, 604800)
    assert settings["inputs"] == {"features": "pool", "class_names": "names.txt", "images": "photos"}
    os.rename("pool", "moved")
    assert campaign("next", "--budget", "3") == 2
    assert json_of(capsys, "settings", "--features", "moved")["inputs"]["features"] == "moved"
    assert json_of(capsys, "next", "--budget", "3", "--json", "-q")["expires"] is not None


def test_who_has_what(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert campaign("next", "--budget", "3", "-q") == 0
    assert campaign("export", "--to", "csv", "--annotator", "ana", "--out", "ana.csv") == 0
    capsys.readouterr()
    assert campaign("status") == 0
    assert "annotator    ana: 0 labels, 0 refusals, 3 images wait for them" in capsys.readouterr().out
    with open("ana.csv", encoding="utf-8", newline="") as file:
        image = next(csv.DictReader(file))["image_path"]
    assert campaign("log", "--image", image) == 0
    given, issued = capsys.readouterr().out.splitlines()
    assert "images assigned  3 images  ana" in given
    assert "batch issued" in issued
    assert campaign("log", "--image", "nowhere.jpg") == 0
    assert "nobody was asked about 'nowhere.jpg', or said anything of it" in capsys.readouterr().err
    assert campaign("export", "--to", "csv", "--annotator", "ana", "--out", "ana.csv", "--overwrite") == 2
    assert "may hold labels: such a file is never overwritten" in capsys.readouterr().err


def test_labels_that_are_there_already(capsys: pytest.CaptureFixture[str]) -> None:
    Path("known.csv").write_text("image_path,label\n" + "".join(f"{IDS[k]},{NAMES[Y[k]]}\n" for k in range(20)))
    begin("--labels", "known.csv")
    assert "60 images, 3 classes, 20 labels" in capsys.readouterr().err
    assert campaign("next", "--budget", "3") == 0
    assert " 20 labelled, " in capsys.readouterr().err


def test_audits(capsys: pytest.CaptureFixture[str]) -> None:
    begin("--labels", *_known(20))
    assert campaign("audit", "-n", "10", "--out", "audit.csv", "-q") == 0
    assert campaign("export", "--to", "csv", "--out", "out.csv") == 0
    answered("out.csv", "back.csv")
    assert campaign("import", "back.csv") == 0
    status = json_of(capsys, "status", "--json")
    assert status["audits"]["top1"]["n"] == 10
    assert campaign("status") == 0
    text = capsys.readouterr().out
    assert "audits       likeliest class right" in text
    assert "audit 1 " in text


def _known(n: int) -> list[str]:
    Path("known.csv").write_text("image_path,label\n" + "".join(f"{IDS[k]},{NAMES[Y[k]]}\n" for k in range(n)))
    return ["known.csv"]


def test_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    begin()
    assert campaign("next", "--budget", "60", "-q") == 0
    assert main(["label", FILE, "--annotator", "ana", "-n", "5", "--out", "ana.html"]) == 0
    error = capsys.readouterr().err
    assert "5 images -> ana.html" in error
    page = Path("ana.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert main(["label", FILE, "--annotator", "ben", "--out", "ben.html", "--order", "listed"]) == 0
    error = capsys.readouterr().err
    assert "55 images -> ben.html" in error
    assert "no picture of 'a/059.jpg'" in error


def test_a_page_needs_images(capsys: pytest.CaptureFixture[str]) -> None:
    assert campaign("init", "--features", "pool", "--class-names", "names.txt") == 0
    assert campaign("next", "--budget", "3", "-q") == 0
    assert main(["label", FILE, "--out", "p.html"]) == 2
    assert "--images must say where the images are" in capsys.readouterr().err
    assert main(["label", FILE, "--out", "p.html", "--images", "photos"]) == 0


@pytest.mark.parametrize("action", [module.rstrip("_") for module in ACTIONS])
def test_every_action_has_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", action, "--help"]) == 0
    assert f"ccma-fast campaign {action}" in capsys.readouterr().out
