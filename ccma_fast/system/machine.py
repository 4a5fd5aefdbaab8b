"""Memory available to this process: the machine's, its control groups' and its resource limits'."""

from __future__ import annotations

import functools
import os
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["MachineMemory", "machine_memory", "read_at_once"]

# The line of /proc/self/status that counts against each resource limit.
_TAKEN = {resource.RLIMIT_AS: "VmSize", resource.RLIMIT_DATA: "VmData"}

# Where control groups are mounted by convention: version 1, version 2, version 2 beside version 1.
_USUAL = {True: ("sys/fs/cgroup/memory",), False: ("sys/fs/cgroup", "sys/fs/cgroup/unified")}

# Page cache of a group, which the system reclaims before it kills a process. The first names are
# version 1's, which count the groups below; version 2's always do.
_RECLAIMABLE = (("total_inactive_file", "inactive_file"), ("total_active_file", "active_file"))
_OF_STAT = ("hierarchical_memory_limit", *_RECLAIMABLE[0], *_RECLAIMABLE[1])


class MachineMemory(NamedTuple):
    """Memory that this process may use, in bytes, without swap."""

    whole: int
    """The machine's memory, or the least of what limits allow."""
    left: int
    """Free memory of it; the page cache counts as free, since the system can reclaim it."""


def machine_memory(root: Path = Path("/")) -> MachineMemory:
    """The memory of the machine, or what the tightest of the limits on this process leaves.

    Asked are the control groups of both versions, each with all groups above it that are visible, and the resource
    limits on address space and data.

    Parameters
    ----------
    root : Path
        Where ``proc`` and ``sys`` are.
    """
    whole, left = _of_machine(root)
    for limit, taken in _TAKEN.items():
        most = resource.getrlimit(limit)[0]
        if most != resource.RLIM_INFINITY:
            status = _numbers(os.path.join(root, "proc/self/status"), (taken,), unit=1024)
            whole, left = min(whole, most), min(left, most - status.get(taken, 0))
    for most, used in _of_groups(root):
        whole, left = min(whole, most), min(left, most - used)
    return MachineMemory(whole, max(0, left))


def _of_machine(root: Path) -> tuple[int, int]:
    told = _numbers(os.path.join(root, "proc/meminfo"), ("MemTotal", "MemAvailable"), unit=1024)
    whole = told.get("MemTotal", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return whole, told.get("MemAvailable", whole)


def _of_groups(root: Path) -> Iterator[tuple[int, int]]:
    """The limit of every group that this process is in, and what is used there and cannot be taken back."""
    for folder, is_first in _groups(root):
        names = ("memory.limit_in_bytes",) if is_first else ("memory.max", "memory.high")
        limits = [limit for name in names if (limit := _number(f"{folder}/{name}")) is not None]
        # Version 2's tells of no limit, and takes the system long to make.
        stat = _numbers(f"{folder}/memory.stat", _OF_STAT) if is_first or limits else {}
        # What groups above allow that a container does not see.
        limits += [stat[name] for name in ("hierarchical_memory_limit",) if name in stat]
        if limits:
            used = _number(f"{folder}/memory.{'usage_in_bytes' if is_first else 'current'}") or 0
            of_files = sum(next((stat[name] for name in names if name in stat), 0) for names in _RECLAIMABLE)
            yield min(limits), max(0, used - of_files)


def _groups(root: Path) -> tuple[tuple[str, bool], ...]:
    """The folders of this process's groups and of all above them, and whether they are of version 1."""
    told = (_text(os.path.join(root, "proc/self", name)) for name in ("cgroup", "mountinfo"))
    return _groups_told(root, *told)


@functools.lru_cache(maxsize=1)  # they change hardly ever, and are asked for in every query
def _groups_told(root: Path, of_groups: str, of_mounts: str) -> tuple[tuple[str, bool], ...]:
    folders = _folders(root, dict(_group_paths(of_groups)), list(_mounts(root, of_mounts)))
    return tuple((str(folder), is_first) for folder, is_first in folders)


def _folders(root: Path, paths: dict[bool, str], mounts: list[tuple[Path, str, bool]]) -> Iterator[tuple[Path, bool]]:
    mounts = [(point, inside, first) for point, inside, first in mounts if first in paths]
    told = {first for *_, first in mounts}
    mounts += [(root / point, "/", first) for first in set(paths) - told for point in _USUAL[first]]
    for point, inside, first in mounts:
        path = os.path.relpath(paths[first], inside)
        # Outside of what is mounted, as in a container that sees its own group alone: that is the group.
        here = point if path.startswith("..") else point / path
        for folder in (here, *here.parents):
            if folder.is_relative_to(point):
                yield folder, first


def _group_paths(told: str) -> Iterator[tuple[bool, str]]:
    """Whether of version 1, and the path of this process's group in the hierarchy that counts memory."""
    for number, controllers, path in (line.split(":", 2) for line in told.splitlines() if line.count(":") > 1):
        if "memory" in controllers.split(","):
            yield True, path
        elif number == "0" and not controllers:
            yield False, path


def _mounts(root: Path, told: str) -> Iterator[tuple[Path, str, bool]]:
    """Where hierarchies that may count memory are mounted, which of their groups is, and whether of version 1."""
    for line in told.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        is_first = kind == "cgroup" and "memory" in options.split(" ")[-1].split(",")
        if is_first or kind == "cgroup2":
            inside, point = (_unescaped(text) for text in before.split(" ")[3:5])
            yield root / point.lstrip("/"), inside, is_first


def _unescaped(text: str) -> str:
    """A path of mountinfo, where white space is written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def read_at_once(file: str) -> bytes:
    """What a small file of the system holds: several are read in every stage of a query, so without a buffer."""
    with open(file, "rb", buffering=0) as opened:
        return opened.read()


def _text(file: str) -> str:
    """What a file holds; nothing where there is none."""
    try:
        return read_at_once(file).decode(errors="replace")
    except OSError:
        return ""


def _number(file: str) -> int | None:
    """The number in a file; None where there is no file or no limit."""
    text = _text(file).strip()
    return int(text) if text.isdecimal() else None


def _numbers(file: str, names: tuple[str, ...], unit: int = 1) -> dict[str, int]:
    """Those numbers of a file that has a name and a number in each line."""
    found = re.findall(rf"^({'|'.join(names)})(?::|[ \t])[ \t]*([0-9]+)\b", _text(file), re.MULTILINE)
    return {name: int(number) * unit for name, number in found}
