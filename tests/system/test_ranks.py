"""Ranks as real processes on gloo, see `rank_cases.py`: messages, and how all end when one fails."""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ccma_fast.errors import RankError
from ccma_fast.system.ranks import ranks_of_environment

torch = pytest.importorskip("torch")
if not (hasattr(os, "fork") and torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("needs forks and torch.distributed with gloo", allow_module_level=True)

CASES = Path(__file__).parents[1] / "rank_cases.py"
SILENCE = 3.0
HOST = socket.gethostname()
# Seconds beyond the limit, for a busy machine.
MARGIN = 15.0


def environment(**more):
    # The package of this process, wherever it lies; and no rank of a torchrun that runs these tests.
    import ccma_fast

    paths = [str(Path(ccma_fast.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1", **more}


@functools.cache
def cases(*which):
    """What each rank of each case came to."""
    done = subprocess.run(
        [sys.executable, str(CASES), *which],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def found():
    """All cases but the slow ones."""
    return cases()


@pytest.mark.parametrize(
    ("which", "names"),
    [
        ((), ("messages 2", "messages 3", "groups 3")),
        pytest.param(("others",), ("messages 5",), marks=pytest.mark.slow),
    ],
    ids=["some", "others"],
)
def test_messages(which, names):
    found = cases(*which)
    for name in names:
        assert [rank.get("traceback", rank.get("error")) for rank in found[name]] == [None] * int(name[-1])
        assert all(rank["exit"] == 0 for rank in found[name])


def test_failures(found):
    first, second, third = (dict(rank["result"]) for rank in found["failures 3"])
    assert second.pop("raised") == "no number: row 7 of x.npy"
    assert first.pop("unpicklable") != "RankError"
    assert second.pop("unpicklable") == third.pop("unpicklable") == "RankError"
    assert third.pop("ended") == ""
    assert first.pop("ended") == second.pop("ended")
    assert first == second == third
    names = [f"rank {rank} on host {HOST}" for rank in range(3)]
    assert first["raises"] == f"{names[1]}: ValueError: no number: row 7 of x.npy"
    assert re.search(
        r"called (total|gather)\(\), but .* (total|gather)\(\) as message 1; expected", first["other call"]
    )
    assert first["other shape"].startswith(f"{names[1]} gave an array of shape (3,) to total(), but {names[0]} one of ")
    assert "gave an array of shape (13107" in first["other large shape"]
    assert first["late"] == f"{names[1]} did not come to message 1, a gather, within 1 s"
    assert first["other version"] == (
        f"{names[2]}: ccma_fast 0.2.0, but {names[0]}: 0.1.0; expected the same on all ranks"
    )
    assert first["more said"].startswith(f"{names[1]}: instruction set avx2, but {names[0]}: not given; expected")
    assert first["did not come"] == (f"rank 1 of 3 did not come within 1 s; there were {names[0]}, {names[2]}")
    assert first["unpicklable elsewhere"].startswith(f"{names[0]}: ")


def test_ranks_that_do_nothing(found):
    first, second, third = (rank["result"] for rank in found["idle 3"])
    names = [f"rank {rank} on host {HOST}" for rank in range(3)]
    for who, did, by in (
        ("one", f"{names[2]} has done nothing for 1 s", "message 2, a total, waits for it"),
        ("two", f"{names[1]}, {names[2]} have done nothing for 1 s", "message 2, a gather, waits for them"),
        ("large", f"{names[2]} has done nothing for 1 s", "message 2, a broadcast, waits for it"),
        ("first", f"{names[0]} has done nothing for 1 s", "message 2, a broadcast, waits for it"),
    ):
        assert {rank[who] for rank in (first, second, third)} == {f"{did}, but {by}"}
    assert third["end"] == f"{names[2]} has done nothing for 1 s, but the end of the ranks waits for it"


def test_ranks_that_work_are_waited_for(found):
    assert [(rank.get("traceback", rank.get("error")), rank["exit"]) for rank in found["working 3"]] == [(None, 0)] * 3


def test_ranks_that_did_not_come(found):
    here = [f"rank {rank} on host {HOST}" for rank in range(2)]
    errors = {rank["error"] for rank in found["last_missing 2"]}
    assert errors == {f"rank 2 of 3 did not come within 8 s; there were {here[0]}, {here[1]}"}
    errors = {rank["error"] for rank in found["first_missing 2"]}
    assert len(errors) == 1
    assert re.match(
        r"rank 0 of 3 did not come within 2 s: there is no key-value store at 127\.0\.0\.1:\d+$", errors.pop()
    )
    assert all(rank["exit"] == 0 for case in ("last_missing 2", "first_missing 2") for rank in found[case])
    assert found["all_there 2"][0]["result"] == [0, 1]


@pytest.mark.parametrize("which", [(), pytest.param(("others",), marks=pytest.mark.slow)], ids=["some", "others"])
def test_what_a_lost_rank_ends(which):
    faults = {name: ranks for name, ranks in cases(*which).items() if name.startswith("SIG")}
    assert len(faults) == 5
    for case, ranks in faults.items():
        victim = int(case.split()[1])
        others = [rank for number, rank in enumerate(ranks) if number != victim]
        assert all(rank["seconds"] < SILENCE + MARGIN for rank in others), (case, ranks)
        assert all(rank["exit"] == 0 for rank in others), (case, ranks)
        texts = {rank["error"] for rank in others}
        lost = f"rank {victim} on host {HOST}"
        assert {(rank["rank"], rank["host"]) for rank in others} == {(victim, HOST)}, case
        if victim == 0 and "another store" not in case:
            assert all(
                re.match(f"{lost} cannot be reached from rank [12] on host .*: the key-value", text) for text in texts
            )
        else:
            assert texts == {f"{lost} gave no sign of life for {SILENCE:g} s"}, case
        if "SIGSTOP" in case:
            # It woke up after the others had ended.
            assert "error" in ranks[victim], case
            assert ranks[victim]["exit"] == 0, case


def test_a_transfer_that_stops_ends_all(found):
    texts = {rank["error"] for rank in found["stalled 3"]}
    assert len(texts) == 1
    assert re.match(rf"rank [01] on host {HOST}: the connection to another rank broke: ", texts.pop())
    # A time limit for the transfer, and another for what could explain it.
    assert all(rank["seconds"] < 3 * SILENCE + MARGIN for rank in found["stalled 3"])


def test_ranks_of_an_agent(found):
    """With the environment and the store that torchrun gives."""
    first, last = (rank["result"] for rank in found["of_an_agent 2"])
    text = f"RankError: rank 1 on host {HOST}: ValueError: the last rank"
    assert first == ["gathered [0, 1]", text, text]
    assert last == ["ValueError: the last rank"]


@pytest.mark.slow
def test_torchrun():
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            "2",
            str(CASES),
            "torchrun",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1
    assert "gathered [0, 1]" in done.stdout
    assert f"RankError: rank 1 on host {HOST}: ValueError: the last rank" in done.stdout


def test_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with ranks_of_environment() as ranks:
        assert ranks is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    with ranks_of_environment() as ranks:
        assert ranks is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"WORLD_SIZE is 2, but of .* there is no RANK, MASTER_ADDR, MASTER_PORT"):
        ranks_of_environment().__enter__()
    for size, wanted in {"two": "a whole number", "2²": "a whole number", "0": "at least 1"}.items():
        monkeypatch.setenv("WORLD_SIZE", size)
        with pytest.raises(ValueError, match=f"WORLD_SIZE must be {wanted}, got '?{size}"):
            ranks_of_environment().__enter__()


def test_first_rank_that_cannot_serve(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    for port in ("0", "65536"):
        monkeypatch.setenv("MASTER_PORT", port)
        with pytest.raises(ValueError, match=f"MASTER_PORT must be from 1 to 65535, got {port}"):
            ranks_of_environment().__enter__()
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        with pytest.raises(RankError, match=f"rank 0 cannot serve the key-value store at localhost:{port} "):
            ranks_of_environment().__enter__()


def test_commands_one_after_the_other(found):
    """Rank 1 finds the store of the first command when it begins the second, since rank 0 is late to end the first."""
    first, second = found["one_command_after_the_other 2"]
    assert (first["result"], second["result"]) == ([2, 2], None)
    assert (first["exit"], second["exit"]) == (0, 0)


def test_error():
    error = RankError("rank 3 on host b: no", 3, "b")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is RankError
    assert (str(again), again.rank, again.host) == ("rank 3 on host b: no", 3, "b")
    assert isinstance(error, RuntimeError)


def test_import_without_torch():
    code = "import sys, ccma_fast, ccma_fast.system.ranks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
