"""The program `ccma-fast select`: the same picks as in Python, every output format, and every mistake in one line."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.config import PAPER_DATASETS
from ccma_fast.system import output_files

N, C, E = 240, 3, 6  # of the fixture `data`


def select(*arguments: str | int) -> int:
    return main(["select", "--features", "x.npy", *map(str, arguments)])


TEACHER = ("--teacher-images", "v.npy", "--teacher-classes", "t.npy")
TEACHER_LOGITS = ("--teacher-logits", "zt.npy")
LABELS = ("--labels", "y.npy")


def teacher(data: dict[str, np.ndarray[Any, Any]], **kwargs: float) -> cf.Teacher:
    return cf.Teacher(data["v"], data["t"], **kwargs)


# --- the same call as in Python -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ((), lambda d: {}),
        (TEACHER, lambda d: {"teacher": teacher(d)}),
        (LABELS, lambda d: {"labels": d["y"]}),
        ((*LABELS, *TEACHER), lambda d: {"labels": d["y"], "teacher": teacher(d)}),
        (
            (*LABELS, *TEACHER, "--temperature", 0.2),
            lambda d: {"labels": d["y"], "teacher": teacher(d, temperature=0.2)},
        ),
        (
            ("--student-logits", "z.npy", *LABELS, *TEACHER_LOGITS),
            lambda d: {"student_logits": d["z"], "labels": d["y"], "teacher": cf.Teacher.from_logits(d["zt"])},
        ),
        (
            ("--student-logits", "z.npy", *LABELS, *TEACHER_LOGITS, "--temperature", 3),
            lambda d: {
                "student_logits": d["z"],
                "labels": d["y"],
                "teacher": cf.Teacher.from_logits(d["zt"], temperature=3.0),
            },
        ),
        (
            ("--student-logits", "z.npy", "--config", "paper"),
            lambda d: {"student_logits": d["z"], "config": cf.CCMAConfig.paper()},
        ),
        (
            ("--student-logits", "z.npy", "--config", "paper:domainnet-real"),
            lambda d: {"student_logits": d["z"], "config": cf.CCMAConfig.paper("domainnet-real")},
        ),
        (
            ("--student-logits", "z.npy", "--subpool-size", "all"),
            lambda d: {"student_logits": d["z"], "config": cf.CCMAConfig(subpool_size=None)},
        ),
        (
            ("--student-logits", "z.npy", *LABELS, *TEACHER_LOGITS, "--subpool-size", 40, "--kappa", 3),
            lambda d: {
                "student_logits": d["z"],
                "labels": d["y"],
                "teacher": cf.Teacher.from_logits(d["zt"]),
                "config": cf.CCMAConfig(subpool_size=40, kappa=3),
            },
        ),
        (
            (*LABELS, *TEACHER, "--head", "ridge", "--kappa", 3),
            lambda d: {"labels": d["y"], "teacher": teacher(d), "config": cf.CCMAConfig(head="ridge", kappa=3)},
        ),
        (
            ("--seed", 7, "--backend", "reference"),
            lambda d: {"random_state": 7, "backend": "reference"},
        ),
    ],
)
def test_the_picks_are_those_of_select(data: Any, options: tuple[str | int, ...], call: Any) -> None:
    assert select("--budget", 6, "--out", "picks.npy", *options) == 0
    expected = cf.select(data["x"], 6, **call(data))
    np.testing.assert_array_equal(np.load("picks.npy"), expected.indices)


def test_the_options_reach_the_method(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Not one of the parity cases above passes because its option is ignored on both sides."""

    def picks(*options: str | int) -> str:
        assert select("--budget", 6, "-q", *options) == 0
        return capsys.readouterr().out

    student, judged = ("--student-logits", "z.npy"), ("--student-logits", "z.npy", *LABELS)
    led = (*judged, *TEACHER_LOGITS)
    for given, options in (
        ((), ("--seed", 7)),
        (LABELS, ("--seed", 7)),
        (student, ("--subpool-size", 40)),
        ((*led, "--config", "paper"), ("--kappa", 2)),
        ((*led, "--config", "paper"), ("--temperature", 3)),
        (student, LABELS),
        ((*judged, "--config", "paper"), TEACHER_LOGITS),
        (LABELS, TEACHER),
        ((*LABELS, *TEACHER), ("--head", "ridge")),
        (LABELS, TEACHER_LOGITS),
        ((*LABELS, *TEACHER, "--config", "paper"), ("--temperature", 0.2)),
        (("--config", "paper"), TEACHER),  # the first labels of the default cover the pool, teacher or not
        (student, ("--config", "paper")),
    ):
        assert picks(*given, *options) != picks(*given), (given, options)


def test_plan(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, and no picks."""
    assert select("--budget", 6, *LABELS, *TEACHER, "--memory-limit", "2GB", "--out", "picks.npy", "--plan") == 0
    printed = capsys.readouterr().out
    expected = cf.plan(data["x"], 6, labels=data["y"], teacher=teacher(data), memory_limit="2GB")
    for name, stage in expected.stages.items():
        assert any(
            line.startswith(name) and f"{stage.bytes_read / 1e6:,.1f} MB" in line for line in printed.split("\n")
        )
    assert "memory_limit 2,000 MB" in printed
    assert not Path("picks.npy").exists()


def test_a_plan_for_ranks(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """In one process, without any other."""
    options = ("--budget", 6, *LABELS, *TEACHER, "--plan", "--ranks", 64)
    assert select(*options, "--network-gbit-s", 25, "--network-latency-ms", 2) == 0
    assert "64 ranks, network 25 Gbit/s, 2 ms: reading " in capsys.readouterr().out
    assert select(*options, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    expected = cf.plan(data["x"], 6, labels=data["y"], teacher=teacher(data), ranks=64)
    assert (told["n_ranks"], told["total"]["messages"]) == (64, expected.messages)
    assert told["total"]["bytes_exchanged"] == expected.bytes_exchanged


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--ranks", 4), "--ranks goes with --plan; how many processes choose, torchrun decides: torchrun --nproc-"),
        (("--plan", "--network-gbit-s", 1), "goes with --plan and --ranks: it is of the network between ranks"),
        (("--plan", "--ranks", 0), "argument --ranks: must be at least 1, got 0"),
        (("--plan", "--ranks", 2, "--network-latency-ms", "x"), "argument --network-latency-ms: must be a number"),
    ],
)
def test_plans_for_ranks_that_are_none(
    data: Any, capsys: pytest.CaptureFixture[str], options: tuple[Any, ...], text: str
) -> None:
    assert select("--budget", 6, *options) == 2
    assert text in capsys.readouterr().err


def test_processes_of_torchrun_do_not_all_plan(
    data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert select("--budget", 6, "--plan") == 2
    assert "select --plan runs in one process, got 2" in capsys.readouterr().err


def test_tasks_of_slurm_that_do_not_know_of_each_other(
    data: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert select("--budget", 6, "--out", "p.npy", "--quiet") == 0
    assert "srun has started 4 tasks, and each of them does all by itself" in capsys.readouterr().err


def test_a_memory_limit_that_is_none(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--budget", 6, "--memory-limit", "1MB") == 2
    assert "argument --memory-limit: must be at least 512000000, got 1000000" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", PAPER_DATASETS)
def test_every_data_set_of_the_paper_is_a_config(data: Any, dataset: str) -> None:
    assert select("--budget", 2, "--student-logits", "z.npy", "--config", f"paper:{dataset}", "--out", "p.npy") == 0
    assert np.load("p.npy").size == 2


def test_float_labels_with_nan_are_labels(data: Any) -> None:
    np.save("y_nan.npy", np.where(data["y"] < 0, np.nan, data["y"]))
    for labels in ("y", "y_nan"):
        assert select("--budget", 5, "--labels", f"{labels}.npy", "--out", f"{labels}_picks.npy") == 0
    np.testing.assert_array_equal(np.load("y_picks.npy"), np.load("y_nan_picks.npy"))


# --- what is written ------------------------------------------------------------------------------


def test_csv(data: Any) -> None:
    assert select("--budget", 5, *LABELS, *TEACHER, "--out", "picks.csv") == 0
    expected = cf.select(data["x"], 5, labels=data["y"], teacher=teacher(data))
    with open("picks.csv", newline="") as file:
        assert file.readline() == "rank,index,score,represents\n"
        rows = list(csv.reader(file))
    assert [int(r[0]) for r in rows] == [1, 2, 3, 4, 5]
    assert [int(r[1]) for r in rows] == expected.indices.tolist()
    np.testing.assert_array_equal(np.array([r[2] for r in rows], dtype=np.float32), expected.scores)
    assert [int(r[3]) for r in rows] == expected.represents.tolist()


def test_json(data: Any) -> None:
    assert select("--budget", 5, *LABELS, *TEACHER, "--out", "picks.JSON") == 0
    expected = cf.select(data["x"], 5, labels=data["y"], teacher=teacher(data))
    whole = json.loads(Path("picks.JSON").read_text())
    assert list(whole) == ["rank", "index", "score", "represents", "report"]
    assert whole["rank"] == [1, 2, 3, 4, 5]
    assert whole["index"] == expected.indices.tolist()
    np.testing.assert_array_equal(np.array(whole["score"], dtype=np.float32), expected.scores)
    assert whole["represents"] == expected.represents.tolist()
    report = expected.report.to_dict()
    assert list(whole["report"]) == list(report)
    for name in set(report) - {"stages", "plan"}:  # files are planned otherwise than arrays
        finite = not isinstance(report[name], float) or math.isfinite(report[name])
        assert whole["report"][name] == (report[name] if finite else None), name
    assert list(whole["report"]["stages"]) == [*report["stages"], "explanation"]


def test_json_has_null_where_python_has_nan(data: Any) -> None:
    assert select("--budget", 3, "--out", "picks.json") == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    whole = json.loads(Path("picks.json").read_text(), parse_constant=refuse)
    assert whole["score"] == [None, None, None]
    assert whole["report"]["q_student"] is None
    assert whole["report"]["mode"] == "cold start"


def test_npy(data: Any) -> None:
    assert select("--budget", 5, "--out", "picks.npy") == 0
    indices = np.load("picks.npy")
    assert indices.dtype == np.int64
    np.testing.assert_array_equal(indices, cf.select(data["x"], 5).indices)


def test_without_out_csv_goes_to_stdout_and_the_report_to_stderr(
    data: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = sorted(os.listdir(tmp_path))
    assert select("--budget", 4, *LABELS) == 0
    out, err = capsys.readouterr()
    assert select("--budget", 4, *LABELS, "--out", "picks.csv", "-q") == 0
    assert out == Path("picks.csv").read_text()
    assert capsys.readouterr() == ("", "")
    assert "240 rows: 30 labelled, 210 to choose from; 3 classes\n" in err
    assert err.endswith("4 picks\n")
    os.remove("picks.csv")
    os.remove("picks.selection.json")
    assert sorted(os.listdir(tmp_path)) == before


def test_the_report_is_a_few_lines_in_words(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--budget", 4, *LABELS, *TEACHER, "--out", "picks.csv") == 0
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.partition("\npool ")[2].splitlines()
    assert len(lines) < 15
    assert not any("_" in line or re.search(r"\d\.\d{4}", line) for line in lines), lines
    starts = [line.split()[0] for line in lines if not line.startswith((" ", "warning"))]
    assert starts == ["backend", "picks", "student", "teacher", "sets", "took", "4"]


def test_json_on_stdout_is_everything(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--budget", 4, *LABELS, "--json", "-q") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["report"]["n_scored"] == 210
    assert select("--budget", 4, *LABELS, "--json", "-q", "--out", "picks.csv") == 0
    assert json.loads(capsys.readouterr().out)["index"] == json.loads(out)["index"]
    assert Path("picks.csv").read_text().startswith("rank,index,score,represents\n1,")
    assert select("--budget", 4, *LABELS, "--json", "--plan") == 0
    assert json.loads(capsys.readouterr().out)["total"]["bytes_read"] > 0


def test_a_budget_beyond_the_pool_says_so(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--budget", 500, *LABELS, "--out", "picks.npy") == 0
    np.testing.assert_array_equal(np.sort(np.load("picks.npy")), np.arange(30, N))
    assert "210 picks (budget 500, but no more rows are unlabelled) -> picks.npy" in capsys.readouterr().err


def test_an_existing_file_is_replaced_and_a_link_is_not_followed(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("real.csv").write_text("rank,index,score,represents\n")
    Path("link.csv").symlink_to("real.csv")
    assert select("--budget", 2, "--out", "link.csv") == 2
    assert f"cannot write 'link.csv': it is a symbolic link to '{Path.cwd() / 'real.csv'}'" in capsys.readouterr().err
    assert Path("real.csv").read_text() == "rank,index,score,represents\n"
    assert select("--budget", 2, "--out", "real.csv") == 0
    assert Path("real.csv").read_text().startswith("rank,index,score,represents\n1,")


def test_what_a_link_in_an_input_leads_to_is_an_input(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("shards").mkdir()
    np.save("part.npy", data["x"])
    Path("shards/p0.npy").symlink_to("../part.npy")
    before = Path("part.npy").read_bytes()
    assert main(["select", "--features", "shards", "--budget", "2", "--out", "part.npy", "--overwrite"]) == 2
    assert "--out 'part.npy' is one of the files of --features" in capsys.readouterr().err
    assert Path("part.npy").read_bytes() == before


def test_the_file_has_the_permissions_that_the_umask_gives(data: Any) -> None:
    before = os.umask(0o027)
    try:
        assert select("--budget", 2, "--out", "picks.csv") == 0
    finally:
        os.umask(before)
    assert os.stat("picks.csv").st_mode & 0o777 == 0o640


# --- mistakes -------------------------------------------------------------------------------------


def corrupt(name: str, change: Any) -> None:
    content = bytearray(Path("x.npy").read_bytes())
    Path(name).write_bytes(bytes(change(content)))


def broken_files(data: Any) -> None:
    nan = data["x"].copy()
    nan[17, 3] = np.nan
    np.save("nan.npy", nan)
    inf = data["z"].copy()
    inf[18, 1] = np.inf
    np.save("inf.npy", inf)
    zero = data["v"].copy()
    zero[19] = 0
    np.save("zero.npy", zero)
    np.save("vector.npy", np.ones(N))
    np.save("cube.npy", np.ones((N, 2, 2)))
    np.save("text.npy", np.array([["a", "b"]] * N))
    np.save("objects.npy", np.array([[1, None]] * N, dtype=object), allow_pickle=True)
    np.save("short.npy", data["y"][:-1])
    np.save("short_v.npy", data["v"][:-1])
    np.save("short_z.npy", data["z"][:-1])
    np.save("wide_t.npy", np.ones((C, E + 1)))
    np.save("four_t.npy", np.eye(4, E))
    np.save("high.npy", np.where(data["y"] == 2, 7, data["y"]))
    np.save("low.npy", np.where(data["y"] == 2, -5, data["y"]))
    np.save("half.npy", np.where(data["y"] == 2, 0.5, data["y"]))
    Path("junk.npy").write_bytes(b"this is no array" * 10)
    Path("nothing.npy").touch()
    corrupt("truncated.npy", lambda content: content[: len(content) // 2])
    corrupt("header.npy", lambda content: content[:30])
    Path("folder.npy").mkdir()
    Path("folder.csv").mkdir()
    Path("file").touch()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # files
        (("--features", "missing.npy"), "features: no file 'missing.npy'"),
        (("--features", "x.txt"), "features: expected a .npy, .h5, .hdf5, .parquet, .arrow or .safetensors"),
        (("--features", "junk.npy"), "features: cannot read 'junk.npy' as .npy"),
        (("--features", "nothing.npy"), "features: cannot read 'nothing.npy' as .npy"),
        (("--features", "truncated.npy"), "features: cannot read 'truncated.npy' as .npy"),
        (("--features", "header.npy"), "features: cannot read 'header.npy' as .npy"),
        (("--features", "folder.npy"), "features: no .npy, .parquet or .arrow file in the folder 'folder.npy'"),
        (("--features", "objects.npy"), "features: cannot read 'objects.npy' as .npy"),
        (("--labels", "missing.npy"), "labels: no file 'missing.npy'"),
        (("--teacher-images", "missing.npy", "--teacher-classes", "t.npy"), "image_features: no file 'missing.npy'"),
        (("--teacher-images", "v.npy", "--teacher-classes", "missing.npy"), "class_features: no file 'missing.npy'"),
        (("--student-logits", "missing.npy"), "student_logits: no file 'missing.npy'"),
        (("--teacher-logits", "missing.npy"), "teacher_logits: no file 'missing.npy'"),
        # shapes and types
        (("--features", "vector.npy"), "features must have two dimensions (rows, columns), got shape (240,)"),
        (("--features", "cube.npy"), "features must have two dimensions (rows, columns), got shape (240, 2, 2)"),
        (("--features", "text.npy"), "features must hold real numbers, got dtype <U1"),
        (("--labels", "x.npy"), "labels must have shape (240,), got (240, 8)"),
        (("--labels", "short.npy"), "labels has 239 rows but features has 240"),
        (("--teacher-images", "short_v.npy", "--teacher-classes", "t.npy"), "image_features has 239 rows but features"),
        (("--teacher-images", "v.npy", "--teacher-classes", "wide_t.npy"), "class_features has 7 columns but"),
        (("--student-logits", "short_z.npy"), "student_logits has 239 rows but features has 240"),
        (("--teacher-logits", "short_z.npy"), "teacher_logits has 239 rows but features has 240"),
        (
            ("--student-logits", "z.npy", "--teacher-images", "v.npy", "--teacher-classes", "four_t.npy"),
            "student_logits has 3 classes but the teacher has 4",
        ),
        # values
        (("--features", "nan.npy"), "features must be finite, got NaN or infinity at row 17"),
        (
            ("--student-logits", "inf.npy", "--subpool-size", "all"),
            "student_logits must be finite, got NaN or infinity at row 18",
        ),
        (("--teacher-images", "zero.npy", "--teacher-classes", "t.npy"), "zero-length vector at row 19"),
        (("--labels", "high.npy", *TEACHER), "labels must be -1 (not labelled) or a class from 0 to 2, got 7"),
        (("--labels", "low.npy"), "labels must be -1 (not labelled) or a class from 0, got -5"),
        (("--labels", "half.npy"), "labels must be whole numbers or NaN, got 0.5"),
        # options
        (("--budget", "0"), "argument --budget: must be at least 1, got 0"),
        (("--budget", "-3"), "argument --budget: must be at least 1, got -3"),
        (("--budget", "2.5"), "argument --budget: must be an integer, got '2.5'"),
        (("--budget", "many"), "argument --budget: must be an integer, got 'many'"),
        (("--budget", "1_0"), "argument --budget: must be an integer, got '1_0'"),
        (("--budget", "١"), "argument --budget: must be an integer, got '١'"),
        (("--budget", "9" * 5000), "argument --budget: must be an integer, got '999"),
        (("--budget", "9" * 20), "budget must be at most 9223372036854775807, got 99999999999999999999"),
        (("--kappa", "0x10"), "argument --kappa: must be an integer, got '0x10'"),
        (("--temperature", "1_0", *TEACHER), "argument --temperature: must be a number, got '1_0'"),
        (("--temperature", "٣", *TEACHER), "argument --temperature: must be a number, got '٣'"),
        (("--memory-limit", "9" * 400 + "GB"), "argument --memory-limit: must be bytes or text such as '4GB'"),
        (("--memory-limit", "٤GB"), "argument --memory-limit: must be bytes or text such as '4GB'"),
        (("--seed", "-1"), "argument --seed: must be at least 0, got -1"),
        (("--kappa", "0"), "argument --kappa: must be at least 1, got 0"),
        (("--subpool-size", "some"), "argument --subpool-size: must be an integer, got 'some'"),
        (("--temperature", "0", *TEACHER), "argument --temperature: must be finite and greater than 0, got 0"),
        (("--temperature", "nan", *TEACHER), "argument --temperature: must be finite and greater than 0, got nan"),
        (("--temperature", "warm", *TEACHER), "argument --temperature: must be a number, got 'warm'"),
        (("--temperature", "1"), "--temperature needs a teacher"),
        (("--teacher-images", "v.npy"), "--teacher-images and --teacher-classes must be given together"),
        (("--teacher-classes", "t.npy"), "--teacher-images and --teacher-classes must be given together"),
        (("--teacher-logits", "zt.npy", *TEACHER), "give either --teacher-logits or --teacher-images"),
        (("--head", "ridge", "--student-logits", "z.npy"), "give either --head or --student-logits"),
        (("--head", "linear"), "argument --head: invalid choice: 'linear'"),
        (("--config", "papre"), "argument --config: must be one of default, paper, paper:food101"),
        (("--config", "paper:"), "argument --config: must be one of default, paper, paper:food101"),
        (("--config", "paper:mnist"), "argument --config: must be one of default, paper, paper:food101"),
        (("--backend", "tpu"), "argument --backend: invalid choice: 'tpu'"),
        (("--unknown", "1"), "unrecognized arguments: --unknown 1"),
        (("--bud", "1"), "unrecognized arguments: --bud 1"),
        # output
        (("--out", "picks.txt"), "argument --out: must end in .csv, .json, .npy, got 'picks.txt'"),
        (("--out", "picks"), "argument --out: must end in .csv, .json, .npy, got 'picks'"),
        (("--out", "no/such/picks.csv"), "cannot write 'no/such/picks.csv': there is no directory"),
        (("--out", "file/picks.csv"), "cannot write 'file/picks.csv': there is no directory"),
        (("--out", "folder.csv"), "cannot write 'folder.csv': it is a directory"),
        (("--out", "x.npy"), "--out 'x.npy' is also --features"),
        (("--labels", "y.npy", "--out", "./y.npy"), "--out 'y.npy' is also --labels"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    broken_files(data)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    given = ["select"]
    for name, value in (("--features", "x.npy"), ("--budget", "3"), ("--out", "picks.csv")):
        if name not in arguments:
            given += [name, value]
    assert main([*given, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("ccma-fast select: error: ")
    assert err.endswith("\n")
    assert message in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("missing", ["--features", "--budget"])
def test_what_is_required(data: Any, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    given = {"--features": "x.npy", "--budget": "3"}
    del given[missing]
    assert main(["select", *(word for pair in given.items() for word in pair)]) == 2
    expected = f"ccma-fast select: error: the following arguments are required: {missing} (see ccma-fast select --help)"
    assert capsys.readouterr() == ("", expected + "\n")


@pytest.mark.parametrize("out", ["picks.txt", "no/such/picks.csv", "x.npy"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(
    data: Any, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    def compute(*_: Any, **__: Any) -> None:
        pytest.fail("computed although the output was known to be impossible")

    # The package's attribute `select` is the function; the module goes by its full name.
    monkeypatch.setattr(sys.modules["ccma_fast.query.select"], "select", compute)
    assert select("--budget", 3, "--out", out) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_refused(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("locked").mkdir(mode=0o555)
    assert select("--budget", 3, "--out", "locked/picks.csv") == 2
    assert "no permission to write into" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file(
    data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    Path("picks.csv").write_text(old := "rank,index,score,represents\n1,7,nan,1\n")
    before = sorted(os.listdir(tmp_path))

    def fail(*_: Any) -> None:
        assert len(os.listdir(tmp_path)) == len(before) + 1  # the new content is there, under another name
        raise error

    monkeypatch.setattr(output_files.os, "replace", fail)
    code = select("--budget", 3, "--out", "picks.csv")
    err = capsys.readouterr().err
    if isinstance(error, OSError):
        assert (code, err) == (2, "ccma-fast select: error: disk full\n")
    else:
        assert (code, err) == (130, "ccma-fast select: interrupted\n")
    assert Path("picks.csv").read_text() == old
    assert sorted(os.listdir(tmp_path)) == before


# --- the help --------------------------------------------------------------------------------------


def test_the_examples_of_the_help_run(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", "--help"]) == 0
    examples = capsys.readouterr().out.split("examples:")[1].replace("\\\n", " ").splitlines()
    commands = [line.split(">")[0].split()[1:] for line in examples if line.strip().startswith("ccma-fast ")]
    assert len(commands) == 3
    for command in commands:
        assert main(command) == 0, command


# --- which rows -----------------------------------------------------------------------------------


def test_masks_are_those_of_select(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Files of every kind; the output of one call is the input of the next."""
    assert select("--budget", 5, *LABELS, "--out", "first.csv", "-q") == 0
    first = np.genfromtxt("first.csv", delimiter=",", skip_header=1)[:, 1].astype(int)
    np.save("mask.npy", np.arange(N) % 3 == 0)
    np.save("rows.npy", np.arange(40, N))
    Path("more.csv").write_text("index\n50\n51\n", encoding="utf-8")
    named = ("--pending", "first.csv", "--exclude", "mask.npy", "more.csv", "--include", "rows.npy")
    assert select("--budget", 6, *LABELS, *named, "--out", "second.csv") == 0
    second = np.genfromtxt("second.csv", delimiter=",", skip_header=1)[:, 1].astype(int)
    exclude = np.union1d(np.arange(0, N, 3), [50, 51])
    expected = cf.select(data["x"], 6, labels=data["y"], pending=first, exclude=exclude, include=np.arange(40, N))
    assert second.tolist() == expected.indices.tolist()
    report = capsys.readouterr().err
    assert f" {expected.report.n_pending} being labelled, {expected.report.n_excluded} excluded, " in report
    assert select("--budget", 6, "--include", "more.csv") == 0
    assert "2 picks (budget 6, but no other rows may be chosen)" in capsys.readouterr().err
    assert select("--budget", 6, *LABELS, *named, "--plan") == 0
    assert capsys.readouterr().out.startswith("stage")


def test_a_mask_is_not_written_over(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert select("--budget", 5, "--out", "first.csv", "-q") == 0
    for name in ("exclude", "pending", "include"):
        assert select("--budget", 5, f"--{name}", "first.csv", "--out", "first.csv") == 2
        assert f"--out 'first.csv' is also --{name}; expected another file" in capsys.readouterr().err
        assert select("--budget", 5, f"--{name}", "none.csv") == 2
        assert f"{name}: no file 'none.csv'" in capsys.readouterr().err


def test_limits_are_those_of_select(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    Path("names.txt").write_text("cat\na=b\nowl\n", encoding="utf-8")
    Path("shares.json").write_text('{"a=b": 3, "cat": 1}', encoding="utf-8")
    np.save("shares.npy", [1.0, 3.0, 0.0])
    options = {"labels": data["y"], "class_names": ["cat", "a=b", "owl"], "min_distance": 0.4}
    expected = cf.select(data["x"], 12, **options, class_distribution={"a=b": 0.75, "cat": 0.25})
    given = ("--budget", 12, *LABELS, "--class-names", "names.txt", "--min-distance", 0.4, "--out", "picks.npy")
    for shares in (["cat=1", "a=b=3"], ["shares.json"], ["shares.npy"]):
        assert select(*given, "--overwrite", "--class-distribution", *shares) == 0
        np.testing.assert_array_equal(np.load("picks.npy"), expected.indices)
    without = cf.select(data["x"], 12, labels=data["y"])
    assert without.indices.tolist() != expected.indices.tolist()
    capsys.readouterr()
    assert select("--budget", N, "--min-distance", 1.2) == 0
    assert f"picks (budget {N}, but no other rows are far enough)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--min-distance", "2.1"), "--min-distance: must be at most 2, got 2.1"),
        (("--min-distance", "near"), "--min-distance: must be a number, got 'near'"),
        (("--class-distribution", "cat"), "must be CLASS=SHARE, or a .npy or .json file, got 'cat'"),
        (("--class-distribution", "0=much"), "must be CLASS=SHARE, or a .npy or .json file, got '0=much'"),
        (("--class-distribution", "0=1", "0=2"), "must have one share for a class, got several for '0'"),
        (("--class-distribution", "0=1"), "class_distribution needs a model that predicts classes"),
        ((*LABELS, "--class-distribution", "7=1"), "got 7"),
        ((*LABELS, "--class-distribution", "0=-1"), "must be finite and not negative, got -1 for class 0"),
        ((*LABELS, "--class-distribution", "z.npy", "--out", "z.npy"), "--out 'z.npy' is also --class-distribution"),
    ],
)
def test_limits_that_are_refused(
    data: Any, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], text: str
) -> None:
    assert select("--budget", 3, *options) == 2
    assert text in capsys.readouterr().err
