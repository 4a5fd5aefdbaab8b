"""What the compiler makes of the kernels, which else only a card would tell: no GPU is needed to compile for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def compiled(capability: str, every: int, cache: Path) -> list[dict[str, Any]]:
    """What ``ccma_fast.kernels.aot`` prints, from an interpreter in which kernels are compiled."""
    done = subprocess.run(
        [sys.executable, "-m", "ccma_fast.kernels.aot", "--capability", capability, "--every", str(every)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)},
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


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


def test_kernels_for_hopper(tmp_path: Path) -> None:
    """A few of the configurations; ``pytest -m slow`` compiles all, for every generation."""
    assert_good(compiled("90", 20, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90", "newest"])
def test_every_configuration_of_every_kernel(capability: str, tmp_path: Path) -> None:
    assert_good(compiled(capability, 1, tmp_path))
