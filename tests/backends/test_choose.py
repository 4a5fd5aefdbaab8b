"""Which backend is chosen, and when one that was asked for cannot run."""

from __future__ import annotations

import pytest
import torch

import ccma_fast as cf
from ccma_fast.backends import choose
from ccma_fast.backends.choose import choose_backend
from ccma_fast.backends.cuda import device
from ccma_fast.pool.open import open_rows


def test_rows_on_a_gpu_choose_the_backend(monkeypatch):
    """What "auto" takes: CUDA where the rows lie there and it can run, else the core."""
    rows = open_rows(torch.zeros(3, 2), "x")
    assert choose_backend("auto", rows).NAME == "cpu"
    monkeypatch.setattr(choose, "_is_on_gpu", lambda given: given is rows)
    assert choose_backend("auto", rows, None).NAME == "cuda"
    assert choose_backend("reference", rows).NAME == "reference"
    monkeypatch.setattr(choose, "_why_no_cuda", lambda: "PyTorch sees no CUDA device")
    assert choose_backend("auto", rows).NAME == "cpu"
    with pytest.raises(cf.BackendUnavailableError, match=r"^backend 'cuda' cannot run: PyTorch sees no CUDA device; "):
        choose_backend("cuda", rows)


def test_an_old_triton_is_refused(monkeypatch):
    assert device.why_unavailable() is None
    monkeypatch.setattr(device, "_LEAST_TRITON", (99, 0))
    assert "need Triton 99.0 or newer, got " in device.why_unavailable()


def test_without_a_gpu_cuda_cannot_run(run_forked):
    run_forked(
        "import os\n"
        "os.environ |= {'TRITON_INTERPRET': '0', 'CUDA_VISIBLE_DEVICES': ''}\n"
        "import pytest, ccma_fast as cf\n"
        "with pytest.raises(cf.BackendUnavailableError, match='PyTorch sees no CUDA device'):\n"
        "    cf.score([[1.0, 2.0]], backend='cuda')"
    )


def test_the_interpreter_runs_or_says_why_not(run_forked):
    """As a user sets it, without what the tests do to it: that of Triton 3.6 fails on NumPy 2.5."""
    printed = run_forked(
        "import os\n"
        "os.environ['TRITON_INTERPRET'] = '1'\n"
        "import numpy as np, triton, ccma_fast as cf\n"
        "z = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)\n"
        "try: cf.score(z, backend='cuda')\n"
        "except cf.BackendUnavailableError as error: print(triton.__version__, np.__version__, error)\n"
    )
    if printed:
        triton_version, numpy_version, *message = printed.split(maxsplit=2)
        assert f"the interpreter of Triton {triton_version}" in message[0]
        assert f"NumPy {numpy_version}" in message[0]
