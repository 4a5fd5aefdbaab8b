"""What tests of the backends share: a card that counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import pytest

# Tests are no package, whose modules could be imported by name.
_SPEC = util.spec_from_file_location("counts", Path(__file__).with_name("counts.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
_COUNTS = sys.modules["counts"] = util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_COUNTS)


@pytest.fixture
def card(has_gpu: bool) -> Iterator[Any]:
    """A card that is not there and counts what it would do, see ``counts.py``."""
    if has_gpu:
        pytest.skip("Triton compiles its kernels here, and does not interpret them")
    with _COUNTS.Card() as card:
        yield card
