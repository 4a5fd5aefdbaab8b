"""A command on several hosts, which are network namespaces of this machine: latency, bytes, a link that is cut.

    sudo python bench/network.py --hosts 3 --latency 50 -- -m ccma_fast select --features pool/student ...
    sudo python bench/network.py --hosts 3 --cut 2 --when holding -- -m bench.rank_messages --hold 600 --silence 10

The command is what `torchrun` takes: a script or `-m` and a module, with arguments (a leading `python` is left out).
Every host starts `torchrun` with the c10d rendezvous on the first one. Hosts have names (`host0`, ...), addresses and
network cards (`eth0`) of their own. What they print comes with the host in front. At the end: the exit code and seconds
of each host and of its ranks, after the cut where there was one, and the bytes that its card sent and received.

It needs Linux, root and iproute2. Packets go through a bridge, or where there is latency through a switch of Python
that holds each back; the kernel's own `netem` is not in every kernel. Cards do not bundle packets (TSO), so that
bytes are those of a real wire. The switch passes on some 50 MB/s.
"""

from __future__ import annotations

import argparse
import array
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

PORT = 29400
NETWORK = "10.77.0"
# Of ioctl: what a network card bundles or leaves to the hardware.
SIOCETHTOOL = 0x8946
CHECKSUMS, SEGMENTS_TCP, SEGMENTS, MERGES = 0x17, 0x1F, 0x24, 0x2C
PACKET_OUTGOING = 4
MOST_FRAMES = 64
RECEIVE_BUFFER = 1 << 26
SO_RCVBUFFORCE = 33


class Host:
    """A network namespace, what runs in it and what became of that."""

    def __init__(self, number: int, prefix: str) -> None:
        self.number = number
        self.name = f"host{number}"
        self.namespace = f"{prefix}-{self.name}"
        self.address = f"{NETWORK}.{number + 1}"
        self.launcher: subprocess.Popen[str] | None = None
        self.ranks: set[int] = set()
        # By process: when it ended.
        self.ended: dict[int, float] = {}

    def counts(self) -> tuple[int, int]:
        """Bytes that the card has sent and received."""
        (card,) = json.loads(output("ip", "-n", self.namespace, "-s", "-j", "link", "show", "eth0"))
        return card["stats64"]["tx"]["bytes"], card["stats64"]["rx"]["bytes"]


def main() -> None:
    arguments = parsed()
    if arguments.switch:
        switch(arguments.switch, arguments.latency / 1000)
        return
    if os.geteuid() != 0:
        sys.exit("network namespaces need root: sudo python bench/network.py ...")
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        sys.exit("needs ip (iproute2) and unshare (util-linux)")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ended)
    prefix = f"ranks{os.getpid()}"
    hosts = [Host(number, prefix) for number in range(arguments.hosts)]
    with network(hosts, prefix, arguments.latency):
        run(hosts, arguments)
    sys.exit(any(host.launcher is None or host.launcher.returncode for host in hosts))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=3, help="number of hosts (3)")
    parser.add_argument("--per-host", type=int, default=1, help="ranks of each (1)")
    parser.add_argument("--latency", type=float, default=0, metavar="MS", help="of each way between two hosts (0)")
    parser.add_argument("--cut", type=int, metavar="HOST", help="number of the host whose link is cut")
    parser.add_argument("--when", metavar="TEXT", help="cut when a line with this has been printed")
    parser.add_argument("--after", type=float, default=0, metavar="S", help="seconds until the cut, from then on (0)")
    parser.add_argument("--limit", type=float, default=600, metavar="S", help="what still runs then is killed (600)")
    parser.add_argument("--switch", nargs="*", metavar="CARD", help=argparse.SUPPRESS)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what torchrun starts, after --")
    arguments = parser.parse_args()
    arguments.command = arguments.command[arguments.command[:1] == ["--"] :]
    if arguments.command and Path(arguments.command[0]).name.startswith("python"):
        arguments.command = arguments.command[1:]
    if not arguments.switch and not arguments.command:
        parser.error("no command; it comes after --")
    if arguments.cut is not None and not 0 <= arguments.cut < arguments.hosts:
        parser.error(f"--cut must be a host from 0 to {arguments.hosts - 1}, got {arguments.cut}")
    return arguments


# The network.


@contextmanager
def network(hosts: list[Host], prefix: str, latency: float) -> Iterator[None]:
    """Makes the namespaces and what is between them; all of it goes at the end."""
    between = f"{prefix}-switch"
    folders = [Path("/etc/netns") / host.namespace for host in hosts]
    forwarder: subprocess.Popen[bytes] | None = None
    try:
        call("ip", "netns", "add", between)
        call("ip", "-n", between, "link", "set", "lo", "up")
        if not latency:
            call("ip", "-n", between, "link", "add", "bridge", "type", "bridge")
            call("ip", "-n", between, "link", "set", "bridge", "up")
        for host, folder in zip(hosts, folders, strict=True):
            card = f"card{host.number}"
            call("ip", "netns", "add", host.namespace)
            call("ip", "-n", between, "link", "add", card, "type", "veth", "peer", "eth0", "netns", host.namespace)
            call("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
            for space, name in ((host.namespace, "eth0"), (between, card)):
                call("ip", "netns", "exec", space, sys.executable, __file__, "--switch", f"plain:{name}")
                call("ip", "-n", space, "link", "set", name, "up")
            call("ip", "-n", host.namespace, "link", "set", "lo", "up")
            if not latency:
                call("ip", "-n", between, "link", "set", card, "master", "bridge")
            folder.mkdir(parents=True)
            names = "".join(f"{other.address} {other.name}\n" for other in hosts)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        if latency:
            cards = [f"card{host.number}" for host in hosts]
            program = [sys.executable, __file__, "--latency", str(latency), "--switch", *cards]
            forwarder = subprocess.Popen(["ip", "netns", "exec", between, *program])
        yield
    finally:
        if forwarder is not None:
            forwarder.terminate()
            forwarder.wait()
        for namespace in (between, *(host.namespace for host in hosts)):
            subprocess.run(["ip", "netns", "delete", namespace], stderr=subprocess.DEVNULL, check=False)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def switch(cards: list[str], delay: float) -> None:
    """Passes Ethernet frames between cards, each after a delay; `plain:` only makes cards of one wire of them."""
    for card in cards:
        name = card.removeprefix("plain:")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            for feature in (SEGMENTS_TCP, SEGMENTS, MERGES, CHECKSUMS):
                value = array.array("B", struct.pack("II", feature, 0))
                request = struct.pack("16sP", name.encode(), value.buffer_info()[0])
                fcntl.ioctl(any_socket, SIOCETHTOOL, request)
    if cards[0].startswith("plain:"):
        return
    sockets = []
    for card in cards:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        opened.bind((card, 0))
        opened.setblocking(False)
        sockets.append(opened)
    port_of: dict[bytes, socket.socket] = {}
    held: deque[tuple[float, bytes, socket.socket]] = deque()
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        for source in select.select(sockets, [], [], wait)[0]:
            for _ in range(MOST_FRAMES):
                try:
                    frame, about = source.recvfrom(1 << 16)
                except BlockingIOError:
                    break
                except OSError:  # the card is down
                    break
                if about[2] != PACKET_OUTGOING:
                    port_of[frame[6:12]] = source
                    held.append((time.monotonic() + delay, frame, source))
        now = time.monotonic()
        while held and held[0][0] <= now:
            _, frame, source = held.popleft()
            known = port_of.get(frame[:6])
            for target in sockets if known is None else [known]:
                if target is not source:
                    try:
                        target.send(frame)
                    except OSError:  # a card that is down, or whose queue is full, loses it, as wires do
                        continue


# What runs in it.


def run(hosts: list[Host], arguments: argparse.Namespace) -> None:
    cut = threading.Event()
    start = time.monotonic()
    end = start + arguments.limit
    before = {host.name: host.counts() for host in hosts}
    for host in hosts:
        begin(host, hosts, arguments)
        threading.Thread(target=show, args=(host, arguments.when, cut), daemon=True).start()
    cut_at: float | None = None
    try:
        if arguments.when is None:
            cut.set()
        while any(host.launcher is None or host.launcher.poll() is None for host in hosts):
            look(hosts)
            if arguments.cut is not None and cut_at is None and cut.is_set():
                time.sleep(arguments.after)
                call("ip", "-n", hosts[arguments.cut].namespace, "link", "set", "eth0", "down")
                cut_at = time.monotonic()
                print(f"-- cut the link of host{arguments.cut}", flush=True)
            if time.monotonic() > end:
                print(f"-- killed what still ran after {arguments.limit:g} s", flush=True)
                break
            time.sleep(0.05)
    finally:
        for host in hosts:
            stop(host)
        look(hosts)
    for host in hosts:
        since = start if cut_at is None else cut_at
        what = "" if cut_at is None else " after the cut"
        assert host.launcher is not None
        for process, ended in sorted(host.ended.items(), key=lambda item: item[1]):
            is_launcher = process == host.launcher.pid
            name = f"torchrun (exit code {host.launcher.returncode})" if is_launcher else f"rank (process {process})"
            print(f"-- {host.name}: {name} ended {ended - since:.1f} s{what}")
        sent, received = (now - was for now, was in zip(host.counts(), before[host.name], strict=True))
        print(f"-- {host.name}: {sent:,} bytes sent, {received:,} received")


def begin(host: Host, hosts: list[Host], arguments: argparse.Namespace) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(hosts)), "--rdzv-backend", "c10d"]
    launch += ["--nproc-per-node", str(arguments.per_host), "--rdzv-endpoint", f"{hosts[0].address}:{PORT}"]
    launch += ["--rdzv-id", "bench", "--rdzv-conf", f"is_host={int(host.number == 0)}", "--local-addr", host.address]
    inside = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host.name]
    host.launcher = subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, *inside, *launch, *arguments.command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"OMP_NUM_THREADS": "1", **os.environ, "GLOO_SOCKET_IFNAME": "eth0"},
        start_new_session=True,
    )


def show(host: Host, when: str | None, cut: threading.Event) -> None:
    assert host.launcher is not None
    assert host.launcher.stdout is not None
    for line in host.launcher.stdout:
        print(f"{host.name}: {line}", end="", flush=True)
        if when is not None and when in line:
            cut.set()


def look(hosts: list[Host]) -> None:
    """Notes which ranks and launchers have ended."""
    now = time.monotonic()
    parents = {int(name): parent(name) for name in os.listdir("/proc") if name.isdigit()}
    for host in hosts:
        assert host.launcher is not None
        running = {child for child, of in parents.items() if of == host.launcher.pid and is_python(child)}
        host.ranks |= running
        gone = host.ranks - running
        if host.launcher.poll() is not None:
            gone.add(host.launcher.pid)
        for process in gone:
            host.ended.setdefault(process, now)


def parent(process: str) -> int:
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return 0
    return int(text.rpartition(")")[2].split()[1])


def is_python(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/exe").resolve() == Path(sys.executable).resolve()
    except OSError:
        return False


def stop(host: Host) -> None:
    """Ends what a host still runs: its launcher, and its ranks, to which torchrun gives sessions of their own."""
    assert host.launcher is not None
    for process in host.ranks - host.ended.keys():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(host.launcher.pid, signal.SIGKILL)
    host.launcher.wait()


def call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _ended(number: int, frame: FrameType | None) -> Any:
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
