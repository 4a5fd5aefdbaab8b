"""Progress bars on a terminal, in a notebook and nowhere."""

import importlib.util
import io
import subprocess
import sys

import pytest

from ccma_fast.system.streams import progress_bar


def test_bar_on_stderr(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(5, 2, "row", is_shown=True) as bar:
        bar.update(3)
    assert "5/5" in stream.getvalue()


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_hidden_bar(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(5, 0, "row", is_shown=stream is None) as bar:
        bar.update(5)
    assert stream is None or not stream.getvalue()


@pytest.mark.skipif(importlib.util.find_spec("ipywidgets") is not None, reason="ipywidgets is installed")
def test_notebook_without_widgets_has_text():
    code = """
import sys, types
sys.modules["ipykernel.zmqshell"] = types.ModuleType("zmqshell")  # how tqdm knows a notebook
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=object)
from ccma_fast.system.streams import progress_bar
with progress_bar(5, 0, "row", is_shown=True) as bar:
    bar.update(5)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert "5/5" in done.stderr
