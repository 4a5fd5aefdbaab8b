"""The scripts of `ccma-fast completion`, run by the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ccma_fast import strategies
from ccma_fast.cli import main
from ccma_fast.cli.campaign import ACTIONS
from ccma_fast.cli.completion import _FILES, _NO_FILES, SHELLS, _actions
from ccma_fast.cli.program import COMMANDS, whole_parser

pytest.importorskip("shtab")

# What Tab offers behind the words of a line, of which the last may be a part.
_BASH = """
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
command=$(complete -p ccma-fast | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$command ccma-fast "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

# In a terminal of its own, since zsh completes nowhere else. No dump: a shell that is killed may leave half of one.
_ZSH = (
    "PS1=; stty -echo cols 200; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D;"
    "zstyle ':completion:*' insert-tab false; bindkey '^I' list-choices; LISTMAX=0; echo READ''Y\n"
)

# Seconds that a loaded machine may take.
_PATIENCE = 30.0


def _bash(*words: str) -> set[str]:
    done = subprocess.run(["bash", "--norc", "-c", _BASH, "bash", *words], capture_output=True, text=True, check=False)
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def _fish(*words: str) -> set[str]:
    script = f"source ./script; complete -C '{' '.join(words)}'"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=False)
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


def _zsh(*words: str) -> set[str]:
    Path("_ccma-fast").write_bytes(Path("script").read_bytes())
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("zsh", ["zsh", "-f", "-i"])
    try:
        os.write(terminal, _ZSH.encode())
        _printed(terminal, "READY", _PATIENCE)
        _printed(terminal, None, 1.0)
        for typed in (" ".join(words), "\t"):  # apart: a Tab that is pasted completes nothing
            os.write(terminal, typed.encode())
            found = _printed(terminal, None, 2.0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return set(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", " ", found).split())


def _printed(terminal: int, mark: str | None, seconds: float) -> str:
    """What is printed until a mark comes, or until nothing comes for so long."""
    found = ""
    while select.select([terminal], [], [], seconds)[0]:
        found += os.read(terminal, 65536).decode(errors="replace")
        if mark is not None and mark in found:
            break
    return found


OFFERS = {"bash": _bash, "fish": _fish, "zsh": _zsh}


@pytest.fixture(params=[pytest.param(shell, marks=pytest.mark.slow) if shell == "zsh" else shell for shell in OFFERS])
def offers(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., set[str]]:
    """What a shell offers for a line of words, in a folder with some files."""
    if shutil.which(request.param) is None:
        pytest.skip(f"no {request.param}")
    monkeypatch.chdir(tmp_path)
    assert main(["completion", request.param]) == 0
    Path("script").write_text(capsys.readouterr().out)
    for name in ("x.npy", "y.csv", "z.png", "page.html", "names.json"):
        Path(name).touch()
    for folder in ("pool", "run"):
        Path(folder).mkdir()  # two, for a shell lists no single one
    return OFFERS[request.param]


def test_commands_actions_and_options(offers: Callable[..., set[str]]) -> None:
    assert set(COMMANDS) <= offers("ccma-fast", "")
    assert {"select", "simulate"} <= offers("ccma-fast", "s")
    assert {name.rstrip("_") for name in ACTIONS} <= offers("ccma-fast", "campaign", "")
    assert {"--teacher-images", "--temperature"} <= offers("ccma-fast", "select", "--te")
    assert "--labels-per-image" in offers("ccma-fast", "campaign", "init", "--lab")


def test_choices(offers: Callable[..., set[str]]) -> None:
    assert {"auto", "cuda", "cpu", "reference"} <= offers("ccma-fast", "select", "--backend", "")
    assert {*strategies.names(), "all"} <= offers("ccma-fast", "simulate", "--strategies", "")
    assert set(SHELLS) <= offers("ccma-fast", "completion", "")


def test_files_of_the_right_kind(offers: Callable[..., set[str]]) -> None:
    def named(*words: str) -> set[str]:
        everything = {name.rstrip("/") for name in offers("ccma-fast", *words, "")}
        return everything & {"x.npy", "y.csv", "z.png", "page.html", "names.json", "pool"}

    assert named("select", "--features") == {"x.npy", "pool"}
    assert named("select", "--labels") == {"x.npy", "y.csv", "pool"}
    assert named("select", "--class-names") == {"y.csv", "names.json", "pool"}
    assert named("demo", "--out") == {"pool"}


def test_tcsh_takes_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("tcsh") is None:
        pytest.skip("no tcsh")
    assert main(["completion", "tcsh"]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["tcsh", "-f", "-c", "source ./script; complete ccma-fast"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "autolabel" in done.stdout


def test_every_argument_that_is_a_file_is_completed_as_one() -> None:
    """By their metavars: `FILE`, `DIR`, `X.npy` and so on."""
    known, used = set(_FILES), set()
    for words, action in _actions(whole_parser(), ()):
        name = " ".join((*words, action.dest))
        is_file = any(part in str(action.metavar) for part in ("FILE", "DIR", "FOLDER", ".npy", "CAMPAIGN", "RUN"))
        found = {name, action.dest} & known
        used |= found | ({name} & _NO_FILES)
        assert not is_file or found, name
    assert used == known | _NO_FILES
