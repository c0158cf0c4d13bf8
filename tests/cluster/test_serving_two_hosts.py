"""HTTP on two hosts with addresses of their own: each answers on the port, and one goes on when the other dies."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import BIN, start
from tests.cluster.namespaces import Host, hosts
from tests.runtime.serving.clients import Clients
from tests.runtime.serving.conftest import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]

PORT, RAY_PORT = 8000, 6379
END_S = 60
LET_IN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
PROGRAM = f"""
import time
import ray
from raflow import Flow, FlowOptions

ray.init(logging_level="ERROR", log_to_driver=False)
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.05)
flow = Flow("api", FlowOptions(num_replicas=2, num_cpus=1))

@flow.service().endpoint("/who")
def who() -> dict[str, str]:
    return {{"who": ray.util.get_node_ip_address()}}

flow.run(engine="ray", host="0.0.0.0", port={PORT})
"""
SCALED = PROGRAM.replace("num_replicas=2", "min_replicas=1, max_replicas=2").replace("flow.run(", "run = flow.start(")
SCALED += """
import sys

for line in sys.stdin:
    run.scale(int(line))
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Host]]:
    """Two hosts, each a node of one Ray cluster."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(hosts(2))
        except (FileNotFoundError, PermissionError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"network namespaces cannot be made: {error}")
        first, second = made
        node(stack, first, "--head", f"--port={RAY_PORT}", "--include-dashboard=false")
        until(lambda: is_open(first, RAY_PORT))
        node(stack, second, f"--address={first.address}:{RAY_PORT}")
        yield made


def node(stack: ExitStack, host: Host, *words: str) -> None:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))
    options = ["--num-cpus=1", f"--object-store-memory={150 << 20}", "--disable-usage-stats"]
    options += [f"--node-ip-address={host.address}", f"--temp-dir={folder}"]
    line = host.command(str(BIN / "ray"), "start", "--block", *options, *words)
    env = {**os.environ, **LET_IN}
    process = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(host.kill)


def is_open(host: Host, port: int) -> bool:
    try:
        socket.create_connection((host.address, port)).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def serving(two: list[Host], tmp_path: Path) -> Iterator[list[Host]]:
    """The hosts, answering; the driver is on the first one."""
    line, env = program_at(two[0], PROGRAM, tmp_path)
    with start(*line, env=env) as program:
        try:
            assert program.stdout
            said: list[str] = []
            while not (said and "answers at" in said[-1]):
                said.append(program.stdout.readline())
                assert said[-1], "".join(said)
            yield two
        finally:
            program.kill()


@pytest.fixture
def scale(two: list[Host], tmp_path: Path) -> Iterator[Callable[[int], None]]:
    """Has so many replicas answer; there is room for one on each host."""
    line, env = program_at(two[0], SCALED, tmp_path)
    with subprocess.Popen(line, env=env, stdin=-1, stdout=subprocess.DEVNULL, text=True) as program:
        assert program.stdin
        try:
            yield lambda size: print(size, file=program.stdin, flush=True)
        finally:
            program.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                program.wait(END_S)
            program.kill()


def program_at(host: Host, text: str, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The line and environment of a driver on a host."""
    places = {"RAY_ADDRESS": f"{host.address}:{RAY_PORT}", "RAFLOW_LEDGER": str(folder)}
    (folder / "program.py").write_text(text)
    return host.command(sys.executable, str(folder / "program.py")), {**os.environ, **LET_IN, **places}


def url(host: Host) -> str:
    return f"http://{host.address}:{PORT}/who"


def is_answered(host: Host) -> bool:
    try:
        return httpx.get(url(host), timeout=30).status_code == 200
    except httpx.ConnectError:
        return False


def test_clients_of_a_host_that_is_left_are_answered_or_refused(two: list[Host], scale: Callable[[int], None]) -> None:
    first, second = two
    until(lambda: is_answered(first))
    scale(2)
    until(lambda: is_answered(second))
    with Clients(url(first), 2) as here, Clients(url(second), 2) as there:
        until(lambda: min(here.answered_by.total(), there.answered_by.total()) > 100)
        scale(1)
        until(lambda: any(all(client.lost for client in one.all) for one in (here, there)))
    left, kept = (here, there) if here.lost else (there, here)
    assert ({one.split("(")[0] for one in left.lost}, left.raced) == ({"ConnectError"}, 0)
    assert (kept.lost, kept.raced) == ([], 0)
    scale(2)
    until(lambda: is_answered(first) and is_answered(second))


def test_both_hosts_answer_on_the_port_and_one_goes_on_alone(serving: list[Host]) -> None:
    first, second = serving
    with Clients(url(first)) as here:
        with Clients(url(second), 2) as there:
            until(lambda: min(here.answered_by.total(), there.answered_by.total()) > 100)
            assert (set(here.answered_by), set(there.answered_by)) == ({first.address}, {second.address})
            second.kill()
            until(lambda: all(client.lost for client in there.all))
        before = here.answered_by.total()
        until(lambda: here.answered_by.total() > before + 100)
    assert (here.lost, here.raced) == ([], 0)
    with pytest.raises(httpx.TransportError):
        httpx.get(url(second), timeout=5)
