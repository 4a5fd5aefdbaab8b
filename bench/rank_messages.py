"""What messages between ranks cost: time and bytes on the wire; under `torchrun`, on any number of hosts.

    torchrun --nproc-per-node 2 -m bench.rank_messages
    sudo python bench/network.py --hosts 3 --latency 50 -- -m bench.rank_messages --megabytes 8
    sudo python bench/network.py --cut 2 --when holding -- -m bench.rank_messages --hold 600 --silence 5

A *command* is what a query of many ranks is made of: a broadcast, then a gather or a total.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ccma_fast.system.ranks import Ranks, ranks_of_environment

MB = 10**6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=100, help="of large messages (100)")
    parser.add_argument("--commands", type=int, default=500, help="small commands that are timed (500)")
    parser.add_argument("--silence", type=float, default=60, help="seconds after which a silent rank ends all (60)")
    parser.add_argument("--hold", type=float, default=0, help="seconds of small commands and pauses at the end (0)")
    parser.add_argument("--interface", default="eth0", help="the network card whose bytes are counted (eth0)")
    arguments = parser.parse_args()
    with ranks_of_environment(silence=arguments.silence) as ranks:
        if ranks is None:
            parser.error("start it with torchrun")
        measure(ranks, arguments)


def measure(ranks: Ranks, arguments: argparse.Namespace) -> None:
    n = arguments.commands
    small, megabytes = np.arange(16), arguments.megabytes
    large = np.ones(megabytes * MB // 8, dtype=np.int64)

    def command() -> None:
        ranks.broadcast(small)
        ranks.gather(small)

    def broadcast() -> None:
        ranks.broadcast(large)
        ranks.gather(0)

    def gather() -> None:
        ranks.gather(large)
        ranks.broadcast(0)

    def total() -> None:
        ranks.total(large)
        ranks.broadcast(0)

    report(ranks, "| what | seconds: median (least) | rate | payload of rank 0 | its bytes on the wire |")
    report(ranks, "|---|---|---|---|---|")
    timed(ranks, arguments.interface, f"{n} small commands", lambda: [command() for _ in range(n)], n, "commands/s")
    for name, step, n_ranks in (("broadcast", broadcast, 1), ("gather", gather, ranks.size - 1), ("total", total, 1)):
        timed(ranks, arguments.interface, f"{name} of {megabytes} MB", step, megabytes * n_ranks, "MB/s")
    before = wire(arguments.interface)
    time.sleep(5)
    report(ranks, f"heartbeats: {(wire(arguments.interface) - before) / 5:,.0f} bytes/s on the wire of rank 0")
    end = time.monotonic() + arguments.hold
    if arguments.hold:
        report(ranks, "holding")
    while ranks.broadcast(time.monotonic() < end):
        ranks.gather(0)
        time.sleep(0.1)


def timed(ranks: Ranks, interface: str, name: str, step: Callable[[], Any], amount: float, unit: str) -> None:
    step()
    seconds, traffic, counted = [], ranks.traffic, wire(interface)
    for _ in range(3):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    used = ranks.traffic - traffic
    on_wire = (wire(interface) - counted) / 3
    middle = statistics.median(seconds)
    payload = (used.sent + used.received) / 3
    rate = f"{amount / middle:,.0f} {unit}"
    report(ranks, f"| {name} | {middle:.3f} ({min(seconds):.3f}) | {rate} | {payload:,.0f} | {on_wire:,.0f} |")


def wire(interface: str) -> int:
    """Bytes that a network card has sent and received."""
    counts = Path("/proc/net/dev").read_text().partition(f"{interface}:")[2].split()
    return int(counts[0]) + int(counts[8]) if counts else 0


def report(ranks: Ranks, line: str) -> None:
    if ranks.rank == 0:
        print(line, flush=True)


if __name__ == "__main__":
    main()
