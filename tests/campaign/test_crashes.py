"""Whatever is killed at whatever moment: no acknowledged label is lost, and the campaign goes on as if nothing was.

Two annotators and a process that queries share a file; each is killed by SIGKILL at random moments and begins anew.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ccma_fast as cf
from ccma_fast.campaign.log import events as kinds

N, C, BUDGET = 120, 3, 6
NAMES = ["ant", "bee", "cat"]
RNG = np.random.default_rng(0)
Y = RNG.integers(C, size=N)
X = (RNG.standard_normal((N, 6)) + 2 * np.eye(C, 6)[Y]).astype(np.float32)
QUICK = cf.CCMAConfig(head="ridge")

FORK = multiprocessing.get_context("fork")


def new_campaign(file: Path, seed: int) -> None:
    cf.Campaign.create(file, X, class_names=NAMES, config=QUICK, random_state=seed).close()


def acknowledge(file: Path, what: Any) -> None:
    """Note what a call has returned. The kernel keeps it when the process is killed."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, (json.dumps(what) + "\n").encode())
    os.close(descriptor)


def annotate(file: Path, name: str) -> None:
    """Label whatever is there, a few images at a time, for ever."""
    campaign = cf.Campaign.open(file)
    while True:
        try:
            tasks = campaign.assign(name, 3).tasks
        except ValueError:  # nothing to do
            time.sleep(0.002)
            continue
        for task in tasks:
            campaign.label([task.image], [NAMES[Y[int(task.image)]]], annotator=name)
            acknowledge(file.with_suffix(f".{name}"), task.image)


def query(file: Path) -> None:
    """Ask for the next batch once the last one is answered, until the pool is."""
    campaign = cf.Campaign.open(file, X)
    while True:
        if campaign.pending():
            time.sleep(0.002)
            continue
        try:
            images = campaign.next(BUDGET).batch.images
        except ValueError:
            return
        acknowledge(file.with_suffix(".query"), images)


class Workers:
    """The three processes, each of which begins anew when it was killed."""

    def __init__(self, file: Path) -> None:
        self._work: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            (annotate, (file, "ana")),
            (annotate, (file, "ben")),
            (query, (file,)),
        ]
        self._running = [self._begin(k) for k in range(3)]

    def _begin(self, k: int) -> Any:
        work, given = self._work[k]
        process = FORK.Process(target=work, args=given)
        process.start()
        return process

    def kill(self, k: int) -> None:
        os.kill(self._running[k].pid, signal.SIGKILL)
        self._running[k].join()
        self._running[k] = self._begin(k)

    @property
    def is_done(self) -> bool:
        return self._running[2].exitcode == 0

    def stop(self) -> None:
        for process in self._running:
            process.kill()
            process.join()


def acknowledged(file: Path, who: str) -> list[Any]:
    found = file.with_suffix(f".{who}")
    return [json.loads(line) for line in found.read_text().splitlines()] if found.exists() else []


def undisturbed(file: Path, seed: int) -> list[tuple[str, ...]]:
    """The batches of a campaign in which nothing is killed."""
    new_campaign(file, seed)
    found = []
    with cf.Campaign.open(file, X) as campaign:
        while (campaign.labels < 0).any():
            found.append(campaign.next(BUDGET).batch.images)
            campaign.label(found[-1], [NAMES[Y[int(image)]] for image in found[-1]])
    return found


def killed(folder: Path, n_kills: int, seed: int) -> int:
    """Campaigns in which so many processes are killed; what holds after each. Returns how many campaigns there were."""
    moments = random.Random(seed)
    n_left = n_kills
    for campaign_seed in itertools.count():
        file = folder / f"{campaign_seed}.campaign"
        new_campaign(file, campaign_seed)
        workers = Workers(file)
        try:
            while not workers.is_done:
                time.sleep(moments.uniform(0.0, 0.08))
                if n_left:
                    workers.kill(moments.randrange(3))
                    n_left -= 1
        finally:
            workers.stop()
        check(file, undisturbed(folder / f"{campaign_seed}.undisturbed", campaign_seed))
        if not n_left:
            return campaign_seed + 1
    raise AssertionError("unreachable")


def check(file: Path, expected: list[tuple[str, ...]]) -> None:
    campaign = cf.Campaign.open(file, X)
    campaign.verify()
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    events = campaign.events()
    labelled = [(event.annotator, event.image) for event in events if event.kind == kinds.LABELLED]
    for name in ("ana", "ben"):
        assert {(name, image) for image in acknowledged(file, name)} <= {*labelled}
    batches = [event.details["images"] for event in events if event.kind == kinds.BATCH_ISSUED]
    assert all(images in batches for images in acknowledged(file, "query"))
    issued = [*itertools.chain(*batches)]
    assert len(issued) == len({*issued}), "an image was offered twice"
    assert [tuple(images) for images in batches] == expected
    np.testing.assert_array_equal(campaign.labels, Y)


pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def test_nothing_is_lost_when_processes_are_killed(tmp_path: Path) -> None:
    assert killed(tmp_path, 8, seed=0) >= 1


@pytest.mark.slow
def test_nothing_is_lost_in_a_thousand_kills(tmp_path: Path) -> None:
    n_campaigns = killed(tmp_path, 1000, seed=1)
    print(f"1000 kills in {n_campaigns} campaigns")
