"""What memory a process may use: of the machine, of control groups of both versions, and by resource limits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ccma_fast.system import machine, memory
from ccma_fast.system.machine import MachineMemory, machine_memory

GB = 10**9
NONE = 9223372036854771712  # what version 1 says where there is no limit

# Lines of /proc/self/mountinfo: at {0}, with group {1} of the hierarchy.
V1 = "35 31 0:32 {1} {0} rw,nosuid shared:9 - cgroup cgroup rw,memory"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
V2 = "41 31 0:38 {1} {0} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


def make_root(tmp_path, groups, mounts, files, *, total=64, available=60):
    """A tree with what the system tells: lines of cgroup and mountinfo, and the files of groups."""
    told = {
        "proc/self/cgroup": "\n".join(groups) + "\n",
        "proc/self/mountinfo": "\n".join(["22 27 0:21 / /proc rw - proc proc rw", *mounts]) + "\n",
        "proc/meminfo": f"MemTotal:       {total * GB >> 10} kB\nMemAvailable:   {available * GB >> 10} kB\n",
        **files,
    }
    for name, text in told.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(text))
    return tmp_path


def first(folder, limit, used=0, of_files=0, hierarchical=NONE):
    """The files of a group of version 1."""
    stat = f"cache 7\ninactive_file 1\ntotal_inactive_file {of_files}\nhierarchical_memory_limit {hierarchical}\n"
    return {
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{used}\n",
        f"{folder}/memory.stat": stat,
    }


def second(folder, most="max", high="max", used=0, of_files=0):
    """The files of a group of version 2."""
    return {
        f"{folder}/memory.max": f"{most}\n",
        f"{folder}/memory.high": f"{high}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\ninactive_file {of_files // 2}\nactive_file {of_files - of_files // 2}\n",
    }


# The usual mount points.
M1, M2, MU = "sys/fs/cgroup/memory", "sys/fs/cgroup", "sys/fs/cgroup/unified"

CASES = {
    "no group": ([], [], {}, (64, 60)),
    "version 1, the root": (["4:memory:/"], [V1.format(f"/{M1}", "/")], first(M1, NONE), (64, 60)),
    "version 1, the group itself": (
        ["8:cpu,cpuacct:/job", "4:memory:/job"],
        [V1_CPU, V1.format(f"/{M1}", "/")],
        first(M1, NONE) | first(f"{M1}/job", 2 * GB, used=GB, of_files=GB // 2),
        (2, 1.5),
    ),
    "version 1, a group above": (
        ["4:hugetlb,memory:/a/b/c"],
        [V1.format(f"/{M1}", "/")],
        first(M1, NONE) | first(f"{M1}/a", 3 * GB, used=2 * GB) | first(f"{M1}/a/b", NONE) | first(f"{M1}/a/b/c", NONE),
        (3, 1),
    ),
    "version 1, what a container does not see": (
        ["4:memory:/"],
        [V1.format(f"/{M1}", "/")],
        first(M1, NONE, used=GB, hierarchical=2 * GB),
        (2, 1),
    ),
    "version 1, a container without a namespace of its own": (
        ["4:memory:/docker/1234"],
        [V1.format(f"/{M1}", "/docker/1234")],
        first(M1, GB),
        (1, 1),
    ),
    "version 1, a group inside such a container": (
        ["4:memory:/docker/1234/job"],
        [V1.format(f"/{M1}", "/docker/1234")],
        first(M1, 4 * GB) | first(f"{M1}/job", 2 * GB),
        (2, 2),
    ),
    "version 1, a group that lies outside of the mount": (
        ["4:memory:/system.slice/other"],
        [V1.format(f"/{M1}", "/docker/1234")],
        first(M1, GB) | first(f"{M1}/system.slice/other", 5),
        (1, 1),
    ),
    "version 1, a group that is not there": (
        ["4:memory:/docker/1234"],
        [V1.format(f"/{M1}", "/")],
        first(M1, 3 * GB),
        (3, 3),
    ),
    "version 1, mounted elsewhere": (
        ["4:memory:/job"],
        [V1.format("/run/my\\040groups", "/")],
        first("run/my groups/job", GB),
        (1, 1),
    ),
    "version 1, no mounts told": (["4:memory:/job"], [], first(f"{M1}/job", GB), (1, 1)),
    "version 2, max": (
        ["0::/job"],
        [V2.format(f"/{M2}", "/")],
        second(f"{M2}/job", most=2 * GB, used=GB, of_files=GB // 2),
        (2, 1.5),
    ),
    "version 2, high": (["0::/job"], [V2.format(f"/{M2}", "/")], second(f"{M2}/job", 4 * GB, high=GB), (1, 1)),
    "version 2, systemd's slices": (
        ["0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"],
        [V2.format(f"/{M2}", "/")],
        second(f"{M2}/user.slice")
        | second(f"{M2}/user.slice/user-1000.slice", 8 * GB, used=6 * GB)
        | second(f"{M2}/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope", 9 * GB, used=GB),
        (8, 2),
    ),
    "version 2, the namespace of a container": (["0::/"], [V2.format(f"/{M2}", "/")], second(M2, GB), (1, 1)),
    "version 2, a process that came from outside": (
        ["0::/../other"],
        [V2.format(f"/{M2}", "/")],
        second(M2, 2 * GB),
        (2, 2),
    ),
    "version 2, no mounts told": (["0::/job"], [], second(f"{M2}/job", GB), (1, 1)),
    "hybrid, memory by version 1": (
        ["4:memory:/job", "1:name=systemd:/job", "0::/job"],
        [V1.format(f"/{M1}", "/"), V2.format(f"/{MU}", "/")],
        first(f"{M1}/job", 2 * GB) | {f"{MU}/job/cgroup.procs": "1\n"},
        (2, 2),
    ),
    "hybrid, memory by version 2": (
        ["5:cpu:/job", "0::/job"],
        [V1_CPU, V2.format(f"/{MU}", "/")],
        second(f"{MU}/job", 2 * GB),
        (2, 2),
    ),
    "a limit above what the machine has": (
        ["0::/job"],
        [V2.format(f"/{M2}", "/")],
        second(f"{M2}/job", 100 * GB, used=GB),
        (64, 60),
    ),
    "more in use than allowed": (["0::/job"], [V2.format(f"/{M2}", "/")], second(f"{M2}/job", GB, used=2 * GB), (1, 0)),
}


@pytest.mark.parametrize("case", CASES)
def test_the_tightest_limit_counts(tmp_path, monkeypatch, case):
    groups, mounts, files, (whole, left) = CASES[case]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    found = machine_memory(make_root(tmp_path, groups, mounts, files))
    assert found == pytest.approx((whole * GB, left * GB), abs=1024)


def test_without_anything_told_the_machine_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert machine_memory(tmp_path) == (whole, whole)


@pytest.mark.parametrize(("limit", "taken"), [(resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")])
def test_resource_limits_count(tmp_path, monkeypatch, limit, taken):
    of_limits = {limit: (4 * GB, resource.RLIM_INFINITY)}
    monkeypatch.setattr(resource, "getrlimit", lambda which: of_limits.get(which, (resource.RLIM_INFINITY,) * 2))
    root = make_root(tmp_path, [], [], {"proc/self/status": f"Name:\tpython\n{taken}:\t {GB >> 10} kB\n"})
    assert machine_memory(root) == pytest.approx((4 * GB, 3 * GB), abs=1024)


@pytest.mark.parametrize(
    ("whole", "left", "jobs", "limit"),
    [
        (40 * GB, 39 * GB, 1, 10 * GB),
        (40 * GB, 8 * GB, 1, 4 * GB),  # most of it is in use
        (GB, GB, 1, 512_000_000),
        (40 * GB, 39 * GB, 4, 10 * GB // 4),
        (4 * GB, 4 * GB, 4, 512_000_000),
    ],
)
def test_the_default_limit_is_a_quarter_and_at_most_half_of_what_is_left(monkeypatch, whole, left, jobs, limit):
    monkeypatch.setattr(memory, "machine_memory", lambda: MachineMemory(whole, left))
    assert memory.check_memory_limit(None, jobs).limit == limit


# Runs a query in a control group, with logits that the default limit of a whole machine would keep where they are many.
SCRIPT = """
import os, sys
folder, group, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open(f"{group}/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
import numpy as np
import ccma_fast as cf
rng = np.random.default_rng(0)
n_classes = 1000
x = np.lib.format.open_memmap(f"{folder}/x.npy", "w+", np.float16, (n, 32))
for start in range(0, n, 10_000):
    x[start : start + 10_000] = rng.standard_normal((10_000, 32), dtype=np.float32)
del x
labels = np.where(np.arange(n) % 300 == 0, rng.integers(n_classes, size=n), -1)
names = [str(i) for i in range(n_classes)]
config = cf.CCMAConfig(max_epochs=3)
print(cf.select(f"{folder}/x.npy", 20, labels=labels, class_names=names, config=config).report.plan.memory_limit)
"""


@pytest.fixture
def limited_group():
    """A control group of this machine, below that of this process, of 1.2 GB; nothing else is in it."""
    paths = dict(machine._group_paths(Path("/proc/self/cgroup").read_text()))
    mounts = {is_first: Path(folder) for folder, is_first in reversed(machine._groups(Path("/")))}
    for is_first, limit in ((True, "memory.limit_in_bytes"), (False, "memory.max")):
        folder = mounts.get(is_first)
        if is_first not in paths or folder is None or not folder.is_dir():
            continue
        group = folder / f"ccma_fast_test_{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if (group / limit).exists():
                (group / limit).write_text("1200000000")
                yield group
                return
        except OSError as error:
            pytest.skip(f"the limit of a control group cannot be set here: {error}")
        finally:
            group.rmdir()
    pytest.skip("no control group that limits memory can be made here")


@pytest.mark.parametrize("n_rows", [10_000, pytest.param(400_000, marks=pytest.mark.slow)])
def test_a_query_stays_within_its_control_group(limited_group, tmp_path, n_rows):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(limited_group), str(n_rows)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"exit code {done.returncode} in a group of 1.2 GB: {done.stderr[-2000:]}"
    assert int(done.stdout) < 600_000_000
