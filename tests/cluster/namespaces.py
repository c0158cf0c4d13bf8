"""Hosts with addresses of their own, on this machine: network namespaces on a bridge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    name: str
    """Of the namespace."""
    address: str

    def command(self, *words: str) -> list[str]:
        """A command that runs on this host; it needs the privilege to enter namespaces."""
        return ["ip", "netns", "exec", self.name, *words]

    def kill(self) -> None:
        """End all of its processes at once."""
        for pid in ip("netns", "pids", self.name).split():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


@contextmanager
def hosts(number: int) -> Iterator[list[Host]]:
    """So many hosts, which this machine reaches by their addresses. At the end their processes are killed.

    Raises:
        FileNotFoundError: iproute2 is not installed.
        PermissionError: Namespaces cannot be made here.
    """
    if shutil.which("ip") is None:
        msg = "ip is not installed: apt-get install iproute2"
        raise FileNotFoundError(msg)
    own = os.getpid() % 10_000
    bridge, network = f"raflow{own}", f"198.18.{own % 250}"  # a range for tests of networks, nobody's
    made = [Host(f"raflow{own}-{n}", f"{network}.{n}") for n in range(1, number + 1)]
    with ExitStack() as stack:
        ip("link", "add", bridge, "type", "bridge")
        stack.callback(ip, "link", "del", bridge)
        ip("address", "add", f"{network}.254/24", "dev", bridge)
        ip("link", "set", bridge, "up")
        for host in made:
            ip("netns", "add", host.name)
            stack.callback(ip, "netns", "del", host.name)
            stack.callback(host.kill)
            _connect(host, bridge, f"{network}.254")
        yield made


def _connect(host: Host, bridge: str, gateway: str) -> None:
    here = f"{bridge}-{host.address.rpartition('.')[2]}"
    ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", host.name)  # goes with the namespace
    ip("link", "set", here, "master", bridge, "up")
    for words in ("link set lo up", f"address add {host.address}/24 dev eth0", "link set eth0 up"):
        ip("-n", host.name, *words.split())
    ip("-n", host.name, "route", "add", "default", "via", gateway)  # by it programs find their own address


def ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"ip {' '.join(words)}: {done.stderr.strip()}"
        raise PermissionError(msg)
    return done.stdout
