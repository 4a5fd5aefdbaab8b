"""What the compiler makes of the kernels, which else only a card would tell: no GPU is needed to compile for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def count(kernel: dict[str, Any], *prefixes: str) -> int:
    """How many instructions of a kernel's code start with one of the prefixes."""
    return sum(n for name, n in kernel["instructions"].items() if name.startswith(prefixes))


def assert_good(kernels: list[dict[str, Any]]) -> None:
    """No spilled registers, no more shared memory than the chip has, wide loads, matrix instructions."""
    assert kernels
    for kernel in kernels:
        name, capability = kernel["kernel"], tuple(kernel["capability"])
        assert kernel["stack"] == 0, name
        assert count(kernel, "LDL", "STL") == 0, name
        assert kernel["shared"] <= kernel["shared_limit"], name
        if kernel["is_wide"]:
            assert count(kernel, "LDG.E.128", "LDGSTS.E.BYPASS.128") > 0, name
            # The score reads the few members of sets one by one.
            assert "conformal_score" in name or count(kernel, "LDG.E.U16") == 0, name
        if kernel["is_product"]:
            expected = {9: "HGMMA", 10: "UTCHMMA"}.get(capability[0], "HMMA")
            assert count(kernel, expected) > 0, name


def test_kernels_for_hopper(run_forked: Callable[..., str], tmp_path: Path) -> None:
    """A product of wide rows; ``pytest -m slow`` compiles all, for every generation."""
    printed = run_forked(
        "import json, os, sys\n"
        "os.environ |= {'TRITON_INTERPRET': '0', 'TRITON_CACHE_DIR': sys.argv[1]}\n"
        "from ccma_fast.kernels import aot\n"
        "for variant in [one for one in aot.variants((9, 0)) if one.is_wide and 'linear' in one.kernel.__name__][:1]:\n"
        "    print(json.dumps({'capability': (9, 0), **aot.measure(variant, (9, 0))}))\n",
        str(tmp_path),
    )
    kernels = [json.loads(line) for line in printed.splitlines()]
    assert_good(kernels)
    assert any(kernel["is_wide"] for kernel in kernels)
    assert any(kernel["is_product"] for kernel in kernels)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90", "newest"])
def test_every_configuration_of_every_kernel(capability: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ccma_fast.kernels.aot", "--capability", capability],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_good([json.loads(line) for line in done.stdout.splitlines()])
