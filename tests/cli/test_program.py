"""The program `ccma-fast`: its commands, its help, its exit codes, and what it takes to start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.cli import main
from ccma_fast.cli.program import COMMANDS
from ccma_fast.config import PAPER_DATASETS


def program(*arguments: str | int, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccma_fast", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **kwargs)


def test_ctrl_c_while_it_computes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.standard_normal((100_000, 64), dtype=np.float32))
    # Half a second in, and many seconds before the end.
    script = (
        "import os, signal, sys, threading; from ccma_fast.cli import main;"
        "signal.signal(signal.SIGINT, signal.default_int_handler);"  # whatever the shell that runs the tests ignores
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start();"
        "sys.exit(main(['select', '--features', 'x.npy', '--budget', '5000', '--out', 'picks.csv']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ccma-fast select: interrupted\n")
    assert os.listdir(tmp_path) == ["x.npy"]


def test_python_m_is_the_program(data: Any) -> None:
    done = program("select", "--features", "x.npy", "--budget", 4)
    assert done.returncode == 0
    assert [int(line.split(",")[1]) for line in done.stdout.splitlines()[1:]] == cf.select(
        data["x"], 4
    ).indices.tolist()
    assert done.stderr.startswith("pool ")
    wrong = program("select", "--features", "missing.npy", "--budget", 4)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "ccma-fast select: error: features: no file 'missing.npy'\n"


def test_a_reader_that_leaves_is_no_error(data: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "ccma_fast", "select", "--features", "x.npy", "--budget", "4"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"ccma-fast {cf.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["conquer"], ["--frob"]])
def test_a_command_is_required(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ccma-fast: error: ")
    assert err.endswith(" (see ccma-fast --help)\n")
    assert err.count("\n") == 1


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    def text(*arguments: str) -> str:
        assert main([*arguments, "--help"]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    assert "demo" in text()
    assert "ccma-fast select --features x.npy --budget 100" in text()
    of_select = text("select")
    options = "--features --budget --labels --student-logits --teacher-images --teacher-classes --teacher-logits "
    options += "--temperature --config --subpool-size --kappa --seed --backend --out --quiet --class-names --overwrite"
    for expected in (*options.split(), *PAPER_DATASETS, "N x D", "C x E", "0.03", "delta", "rank", "represents"):
        assert expected in of_select, expected
    of_demo = text("demo")
    for expected in ("--seeds", "--rounds", "--budget", "--out", "--quiet", "ccma-fast[demo]"):
        assert expected in of_demo, expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_line_in_the_help_and_a_help_of_its_own(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    assert f"\n    {command} " in capsys.readouterr().out
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: ccma-fast {command} ")


def test_the_program_starts_light() -> None:
    ours = "ccma_fast.images.extract", "ccma_fast.research.simulate", "ccma_fast.campaign.learner"
    heavy = "torch", "triton", "matplotlib", "sklearn", "PIL", "tqdm", *ours
    script = (
        "import sys; from ccma_fast.cli import main; main(['--help']);"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"
