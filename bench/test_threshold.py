"""The target-size threshold alone: the ⌈k·M⌉-th smallest of M·C scores."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import data, peers


@pytest.mark.parametrize("contender", peers.contenders(peers.THRESHOLDS))
@pytest.mark.parametrize(("n_rows", "n_classes"), data.shapes())
def test_target_size_threshold(
    measure: Callable[..., float | None], record: Callable, contender: str, n_rows: int, n_classes: int
) -> None:
    peers.skip_slow_reference(contender, n_rows * n_classes)
    logits, _ = data.logits(n_rows, n_classes)
    q = measure(
        "Target-size threshold",
        contender,
        peers.THRESHOLDS[contender],
        logits,
        data.SIZES[0],
        shape={"M": n_rows, "C": n_classes, "k": data.SIZES[0]},
    )
    if q is not None:
        record({"error of q [nats]": abs(q - data.true_thresholds(n_rows, n_classes)[0])})
