"""The scripts of the gallery: each runs as a plain script, without a warning, the network or files left behind."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

GALLERY = Path(__file__).resolve().parent.parent / "docs" / "gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))  # none where the tests are unpacked without the documentation

# Runs a script as `python SCRIPT` would, where a name that is looked up or an address that is connected to is an error.
_WITHOUT_NETWORK = """\
import runpy, socket, sys

def refuse(event, arguments):
    if event == "socket.getaddrinfo":
        raise AssertionError(f"the network was asked for {arguments[0]!r}")
    if event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
        raise AssertionError(f"the network was asked for {arguments[1]!r}")

sys.addaudithook(refuse)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

scripts = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


@scripts
def test_a_script_says_what_it_teaches_and_where_to_go_next(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    introduction = ast.get_docstring(ast.parse(text))
    assert introduction is not None
    assert "**What you will learn:**" in introduction
    assert "**When to use it:**" in introduction
    last_cell = text.rpartition("# Where to go next\n")[2]
    assert all(line.startswith("#") for line in last_cell.splitlines())
    assert ":doc:`/" in last_cell
    assert ":func:`" in last_cell or ":class:`" in last_cell
    assert "plt.show()" in text


@pytest.mark.slow
@scripts
def test_a_script_runs_without_a_warning_or_the_network(script: Path, tmp_path: Path) -> None:
    for library in ("matplotlib", "pandas", "PIL", "pyarrow", "sklearn"):
        pytest.importorskip(library)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, "MPLBACKEND": "Agg", "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-W", "error", "-c", _WITHOUT_NETWORK, str(script)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert [file.name for file in tmp_path.iterdir()] == ["tmp"], "files in the working folder"
    assert not list((tmp_path / "tmp").iterdir()), "files in the folder of temporary files"
