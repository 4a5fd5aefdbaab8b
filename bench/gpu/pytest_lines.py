"""A plugin for pytest that appends a line for each test to the results as soon as it has ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from .launches import hash_in_order, record
from .results import Results


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="the file of results to append to")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get("TRITON_INTERPRET") == "1" or not torch.cuda.is_available():
        record()
    else:
        hash_in_order()
    if hasattr(config, "workerinput"):
        return  # the process that started the workers hears of all tests
    results = Results(config.getoption("--results"), "tests")
    results.add(what="begun")
    config.pluginmanager.register(_Lines(results))


class _Lines:
    def __init__(self, results: Results) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # What fails or is skipped before or after the test itself counts too.
        if report.when == "call" or report.outcome != "passed":
            crash = getattr(report.longrepr, "reprcrash", None)
            message = "" if report.passed else str(crash.message if crash else report.longreprtext)[:500]
            found = {"id": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
            self._results.add(what="test", **found, message=message)
