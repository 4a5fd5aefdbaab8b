"""The target-size threshold alone: the ⌈k·M⌉-th smallest of M·C scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ccma_fast import reference

from . import data, peers

SIZE = 5.0


@pytest.mark.parametrize("contender", peers.contenders(peers.THRESHOLDS))
@pytest.mark.parametrize(("n_rows", "n_classes"), [(200_000, 10), (100_000, 100), (50_000, 1_000), (2_000, 21_000)])
def test_target_size_threshold(
    measure: Callable[..., float | None], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    logits, _ = data.logits(n_rows, n_classes)
    q = measure(
        "Target-size threshold",
        contender,
        peers.THRESHOLDS[contender],
        logits,
        SIZE,
        shape={"M": n_rows, "C": n_classes, "k": SIZE},
    )
    if q is not None:
        record({"error of q [nats]": abs(q - reference.target_size_threshold(logits, SIZE))})
