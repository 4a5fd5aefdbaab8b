"""Several hosts on one machine: network namespaces, joined by a switch, whose latency and links can be changed.

Runs a command under torchrun on every host, counts the bytes that cross each host's link, and can cut a link while it
runs. The switch is the kernel's bridge or, with a latency, a thread of this program, since not every kernel can delay
packets. Needs Linux, root, and the programs ip (iproute2) and ethtool:

    sudo python bench/network.py --hosts 3 --latency 50 -- -m ccma_fast select --features x --budget 100 --out picks.csv
    sudo python bench/network.py --hosts 3 --cut 2 --after 20 -- -m ccma_fast select ...

What it prints is a line of JSON: seconds and exit code of each host, bytes sent and received by each, and after a cut
the seconds until each host had ended.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

_PREFIX, _PORT = "ccma", 29_517

_ALL_FRAMES, _RCVBUFFORCE = 0x0003, 33

# What ip-netns puts over the files of /etc in a namespace.
_HOSTS = Path("/etc/netns")


def _run(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def _address(host: int) -> str:
    return f"10.77.13.{host + 1}"


class _Switch:
    """Forwards frames between interfaces, each after a delay in seconds. Use it as a context."""

    def __init__(self, ports: list[str], delay: float) -> None:
        self._delay = delay
        self._sockets = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_FRAMES)) for _ in ports]
        for port, name in zip(self._sockets, ports, strict=True):
            port.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 27)
            port.bind((name, 0))
            port.setblocking(False)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        for port in self._sockets:
            port.close()

    def _forward(self) -> None:
        port_of: dict[bytes, socket.socket] = {}
        waiting: deque[tuple[float, bytes, socket.socket]] = deque()
        while not self._done.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, frame, source = waiting.popleft()
                known = port_of.get(frame[:6])
                for port in [known] if known is not None else self._sockets:
                    if port is not source:
                        with suppress(OSError):  # a link that was cut
                            port.send(frame)
            left = waiting[0][0] - now if waiting else 0.1
            for source in select.select(self._sockets, [], [], max(0.0, min(left, 0.1)))[0]:
                with suppress(OSError):
                    for _ in range(64):
                        frame, address = source.recvfrom(1 << 16)
                        if address[2] != socket.PACKET_OUTGOING:
                            port_of[frame[6:12]] = source
                            waiting.append((time.monotonic() + self._delay, frame, source))


@contextmanager
def network(n_hosts: int, latency: float) -> Iterator[list[str]]:
    """Namespaces of so many hosts, each with a link to all others; what a host sends takes `latency` milliseconds."""
    bridge, names = f"{_PREFIX}br", [f"{_PREFIX}{host}" for host in range(n_hosts)]
    try:
        if not latency:
            _run("ip", "link", "add", bridge, "type", "bridge")
            _run("ip", "link", "set", bridge, "up")
        for host, name in enumerate(names):
            _run("ip", "netns", "add", name)
            _run("ip", "link", "add", f"{name}out", "type", "veth", "peer", "name", "eth0", "netns", name)
            _run("ip", "link", "set", f"{name}out", *([] if latency else ["master", bridge]), "up")
            inside = ("ip", "-n", name)
            _run(*inside, "addr", "add", f"{_address(host)}/24", "dev", "eth0")
            _run(*inside, "link", "set", "eth0", "up")
            _run(*inside, "link", "set", "lo", "up")
            if latency:  # frames as they go over a wire: whole, and with their checksums
                whole = ("tx", "off", "tso", "off", "gso", "off", "gro", "off")
                _run("ip", "netns", "exec", name, "ethtool", "-K", "eth0", *whole)
            known = _HOSTS / name / "hosts"  # which takes the place of /etc/hosts there
            known.parent.mkdir(parents=True)
            addresses = [f"{_address(other)} host{other}" for other in range(n_hosts)]
            known.write_text("\n".join(["127.0.0.1 localhost", *addresses, ""]))
        with _Switch([f"{name}out" for name in names], latency / 1e3) if latency else nullcontext():
            yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            subprocess.run(["ip", "link", "delete", f"{name}out"], capture_output=True, check=False)
            shutil.rmtree(_HOSTS / name, ignore_errors=True)
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True, check=False)


def _traffic(name: str) -> dict[str, int]:
    (link,) = json.loads(_run("ip", "-n", name, "-s", "-j", "link", "show", "dev", "eth0"))
    return {"sent": link["stats64"]["tx"]["bytes"], "received": link["stats64"]["rx"]["bytes"]}


def _started(name: str, host: int, given: argparse.Namespace, log: Path) -> subprocess.Popen[bytes]:
    # Each host has a name of its own, by which errors call it.
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(given.hosts), "--nproc-per-node"]
    torchrun += [str(given.per_host), "--rdzv-backend", "c10d", "--rdzv-id", "bench"]
    torchrun += ["--rdzv-endpoint", f"{_address(0)}:{_PORT}", "--local-addr", _address(host)]
    torchrun += ["--max-restarts", str(given.max_restarts), *given.command]
    named = ["unshare", "--uts", "sh", "-c", f'hostname host{host}; exec "$@"', "sh", *torchrun]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "TP_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as output:
        return subprocess.Popen(
            ["ip", "netns", "exec", name, *named], stdout=output, stderr=subprocess.STDOUT, env=environment
        )


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Runs the command; what it took."""
    with network(given.hosts, given.latency) as names:
        logs = [Path(given.logs) / f"host{host}.log" for host in range(given.hosts)]
        logs[0].parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        jobs = [_started(name, host, given, log) for host, (name, log) in enumerate(zip(names, logs, strict=True))]
        ended: list[float | None] = [None] * len(jobs)
        cut: float | None = None
        while None in ended:
            now = time.monotonic() - begin
            if given.cut is not None and cut is None and now >= given.after:
                _run("ip", "link", "set", f"{names[given.cut]}out", "down")
                cut = now
            for host, job in enumerate(jobs):
                if ended[host] is None and job.poll() is not None:
                    ended[host] = now
            if now > given.limit:
                for job in jobs:
                    job.kill()
                raise SystemExit(f"not ended after {given.limit} s, see {logs[0].parent}")
            time.sleep(0.05)
        found: dict[str, Any] = {
            "seconds": [round(at, 2) for at in ended if at is not None],
            "exit_codes": [job.returncode for job in jobs],
            "traffic": [_traffic(name) for name in names],
        }
        if cut is not None:
            found["seconds_after_cut"] = [round(at - cut, 2) for at in ended if at is not None]
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=3)
    parser.add_argument("--per-host", type=int, default=1, help="ranks of a host")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds that what a host sends takes")
    parser.add_argument("--cut", type=int, help="the host whose link is cut")
    parser.add_argument("--after", type=float, default=20.0, help="seconds until then")
    parser.add_argument("--limit", type=float, default=1200.0, help="seconds at most")
    parser.add_argument("--max-restarts", type=int, default=0)
    parser.add_argument("--logs", default="network-logs", help="folder for what each host prints")
    parser.add_argument("command", nargs="+", help="what torchrun runs, after --")
    print(json.dumps(measured(parser.parse_args())))


if __name__ == "__main__":
    main()
