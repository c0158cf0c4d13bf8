"""Run a command on a Ray cluster of two nodes, which both are this machine.

    python cluster/two_nodes.py raflow run cluster/spread.py

The command finds the cluster, and is let in, by what the environment says: RAY_ADDRESS, for `ray job
submit` RAY_API_SERVER_ADDRESS, and a token. Each node has one CPU, its own object store and its own
processes; the disk is shared.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

START_TIMEOUT_S = 60.0
RAY = Path(sys.executable).with_name("ray")


def main(command: list[str]) -> int:
    """Start the nodes, run the command, stop the nodes; returns the command's exit code."""
    port, dashboard, client, *agents = free_ports(5)
    address = f"127.0.0.1:{port}"
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with ExitStack() as stack:
        head = [f"--port={port}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
        stack.enter_context(node("first", agents[0], "--head", *head))
        wait_until_open(port)
        stack.enter_context(node("second", agents[1], f"--address={address}"))
        wait_until_joined(address, 2)
        wait_until_open(dashboard)
        places = {"RAY_ADDRESS": address, "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}"}
        return subprocess.call(command, env={**os.environ, **places})


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def node(name: str, agent_port: int, *words: str) -> Iterator[None]:
    """Run a node of the cluster in a process of its own."""
    options = ["--num-cpus=1", f"--object-store-memory={150 << 20}", "--disable-usage-stats"]
    options += [f"--dashboard-agent-listen-port={agent_port}"]
    with tempfile.TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder:
        line: list[str | Path] = [RAY, "start", "--block", f"--temp-dir={folder}", *options, *words]
        at_once = {**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # else it waits 30 s for a replica
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=at_once)
        print(f"{name} node: process {process.pid}", flush=True)
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def wait_until_open(port: int) -> None:
    """Wait until something listens on the port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def wait_until_joined(address: str, nodes: int) -> None:
    """Wait until the cluster has so many nodes."""
    import ray  # only now: it reads the token's settings when it is imported

    deadline = time.monotonic() + START_TIMEOUT_S
    with ray.init(address=address, logging_level="ERROR", log_to_driver=False):
        while (joined := sum(node["Alive"] for node in ray.nodes())) < nodes:
            if time.monotonic() > deadline:
                sys.exit(f"{joined} of {nodes} nodes have joined the cluster in {START_TIMEOUT_S:.0f} s")
            time.sleep(0.05)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
