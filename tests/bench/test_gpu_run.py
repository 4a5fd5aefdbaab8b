"""What runs the parts of a GPU benchmark: one that fails or hangs takes only itself along, and is named."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Each writes a line of results at once, given the file. The pause is longer than any part may take.
BEGIN = """
import json, os, signal, subprocess, sys, time
file = open(sys.argv[1], "a")
def add(**line): print(json.dumps(line), file=file, flush=True)
add(part=sys.argv[2], what="ceiling", ceiling=sys.argv[2], rate=1.0, ms=2.0)
print("what it printed")
"""
PARTS = {
    "good": "",
    "raises": "raise RuntimeError('wrong')",
    "hangs": """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
add(part="hangs", what="child", pid=child.pid)
time.sleep(60)
""",
    "dies": "sys.stdout.flush(); os.kill(os.getpid(), signal.SIGSEGV)",
    "breaks off": 'file.write(\'{"part": "breaks off", \'); file.flush(); os._exit(3)',
    "last": "",
}

# The parts as the runner takes them; in a process of its own, which must need neither PyTorch nor Triton.
RUN = """
import json, sys, time
from pathlib import Path
from bench.gpu import runner
from bench.gpu.runner import Part, run
runner._GRACE = 0.3
out = Path(sys.argv[1])
command = lambda name, script: [sys.executable, "-c", script, str(out / "gpu.jsonl"), name]
parts = [Part(name, 1.2, command(name, sys.argv[3] + script)) for name, script in json.loads(sys.argv[2]).items()]
parts += [Part("missing", 3.0, ["no such program"]), Part("long", 1e4, ["true"])]
run(parts, out, deadline=time.monotonic() + 60)
import bench.gpu.__main__
assert not {"torch", "triton", "ccma_fast"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of all parts."""
    out = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-c", RUN, str(out), json.dumps(PARTS), BEGIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return out


def is_gone(pid: object) -> bool:
    """Whether a process has ended; what nobody has waited for yet has, too."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


def lines(folder: Path) -> list[dict[str, object]]:
    """The results, and what of them is no line of JSON."""
    file = folder / "gpu.jsonl"
    return [_line(text) for text in file.read_text("utf-8").splitlines()] if file.exists() else []


def _line(text: str) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(text)
    except ValueError:
        return {"broken": text}
    return found


def test_each_part_ends_as_it_does(folder):
    statuses = {line["name"]: line["status"] for line in lines(folder) if line.get("what") == "outcome"}
    assert statuses.pop("hangs").startswith("timed out after")  # its seconds and what the two before it left
    assert statuses.pop("missing").startswith("did not start")
    assert statuses.pop("long").startswith("skipped")
    assert statuses == {
        "good": "ok",
        "raises": "failed with 1",
        "dies": "killed by SIGSEGV",
        "breaks off": "failed with 3",
        "last": "ok",
    }


def test_what_a_part_wrote_stays(folder):
    found = lines(folder)
    assert [line["part"] for line in found if line.get("what") == "ceiling"] == list(PARTS)
    assert [line for line in found if "broken" in line] == [{"broken": '{"part": "breaks off", '}]


def test_nothing_of_a_killed_part_is_left(folder):
    (child,) = (line["pid"] for line in lines(folder) if line.get("what") == "child")
    assert is_gone(child)


def test_the_table_and_the_log_say_what_happened(folder):
    table, log = ((folder / f"gpu.{suffix}").read_text("utf-8") for suffix in ("md", "log"))
    for name in (*PARTS, "missing", "long"):
        assert f"| {name} | " in table
    assert "1 broken lines" in table
    assert "## ceiling" in table
    assert "RuntimeError: wrong" in log
    assert log.count("what it printed") == len(PARTS)
    assert sorted(path.name for path in folder.iterdir()) == ["gpu.jsonl", "gpu.log", "gpu.md"]


def test_who_ends_the_run_ends_its_part(tmp_path):
    command = [sys.executable, "-c", RUN, str(tmp_path), json.dumps({"hangs": PARTS["hangs"]}), BEGIN]
    with subprocess.Popen(command, cwd=ROOT) as process:
        until = time.monotonic() + 30.0
        while not (pids := [line["pid"] for line in lines(tmp_path) if line.get("what") == "child"]):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 1
    assert is_gone(pids[0])


def test_what_cannot_be_written_is_said_and_the_next_part_runs(tmp_path):
    """A folder in the place of a file fails as a full disk does."""
    (tmp_path / "gpu.log").mkdir()
    command = [sys.executable, "-c", RUN, str(tmp_path), json.dumps({"good": "", "last": ""}), BEGIN]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    status = {line["name"]: str(line["status"]) for line in lines(tmp_path) if line.get("what") == "outcome"}
    assert status["good"].startswith("ok; not written: ")
    assert status["last"].startswith("ok; not written: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.jsonl", "gpu.log", "gpu.md"]


@pytest.mark.parametrize(
    ("variant", "rounds", "said"),
    [
        ("NOT_THERE=1", "1", "there is no NOT_THERE in kernels/_configs.py"),
        ("bench", "1", "there is no ccma_fast in the folder bench"),
        ("no such commit", "1", "no such commit is neither a folder, nor NAME=VALUE, nor a commit"),
        ("bench", "0", "at least 1, got 0"),
    ],
)
def test_a_comparison_says_what_it_cannot_compare(variant, rounds, said):
    """A setting of what does not exist would compare a variant with itself."""
    command = [sys.executable, "-m", "bench.gpu", "ab", "score", variant, variant, "--small", "--rounds", rounds]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert said in done.stderr
