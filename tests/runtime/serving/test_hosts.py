"""Replicas on two hosts, each with a listening socket of its own: one host is left, and come back to."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from raflow.engines.local import LocalEngine, _LocalReplica
from raflow.engines.ray import listener as listeners
from raflow.engines.ray.listener import Meeting, RayListener, _SocketHolder
from raflow.options import Resources
from raflow.runtime.engine import Listener, ReplicaHandle
from raflow.runtime.serving.address import Address
from raflow.runtime.serving.serving import Serving
from tests.runtime.serving.apps import App
from tests.runtime.serving.conftest import READY_S, scaling, serving_options, until
from tests.runtime.serving.wire import WHO, Wire

FIRST, SECOND = "1" * 56, "2" * 56
NODES = {FIRST: "127.0.0.1", SECOND: "127.0.0.2"}


class Holder(_SocketHolder):
    """Holds the address on one host alone."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host

    def open(self, address: Address) -> tuple[Address, Meeting]:
        return super().open(replace(address, host=self.host))


class Placed(_LocalReplica):
    """A replica that is on one of the hosts."""

    def __init__(self, name: str, replica: Any, node: str, listener: RayListener) -> None:
        super().__init__(name, replica)
        self.actor = object()
        self._node = node
        self._listener = listener

    def node(self) -> Future[str]:
        there: Future[str] = Future()
        there.set_result(self._node)
        return there

    def kill(self) -> None:
        self._listener.left(self.actor)
        super().kill()


class TwoHosts(LocalEngine):
    """A cluster's hosts as two addresses of this machine; each replica goes to one that has none."""

    def listen(self, address: Address) -> Listener:
        return RayListener(address)

    def spawn(
        self, name: str, packed: Any, needs: Resources, *, anonymous: bool = False, listener: Listener | None = None
    ) -> ReplicaHandle:
        assert isinstance(listener, RayListener)
        make, args = packed
        taken = listener._hosts.values()
        node = next(node for node, host in NODES.items() if host not in taken)
        replica = Placed(name, make(*args, name), node, listener)
        listener.joined(replica.actor, listener.place())
        return replica


@pytest.fixture
def serving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """Two replicas, one on each host."""
    monkeypatch.setattr(listeners, "_nodes", lambda: NODES)
    monkeypatch.setattr(listeners, "_first_node", lambda: FIRST)
    monkeypatch.setattr(listeners, "_holder", lambda _, node: Holder(NODES[node]))
    options = serving_options(scaling=scaling(1, 2, target_ongoing_requests=1000))
    made = Serving("api", TwoHosts(), App(tmp_path), Address(), options)
    made.start()
    made.wait_ready(READY_S)
    made.scale(2)
    until(lambda: made.stats().replicas == 2)
    yield made
    made.stop()


def both(serving: Serving) -> tuple[Address, Address]:
    first, second = (replace(serving.address, host=host) for host in NODES.values())
    return first, second


def keep_busy(stack: ExitStack, serving: Serving, address: Address) -> None:
    """Have connections there that stay, so that the other replica is the one to leave."""
    for _ in range(3):
        wire = stack.enter_context(Wire(address))
        wire.send(WHO)
        wire.answer()
    until(lambda: serving.stats().connections == 4)


def refuses(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), READY_S).close()
    except ConnectionRefusedError:
        return True
    return False


def answers(address: Address) -> bool:
    try:
        return httpx.get(f"http://{address}/who").status_code == 200
    except httpx.ConnectError:
        return False


def answered(connected: socket.socket) -> bytes:
    """What comes on a connection that has waited."""
    connected.settimeout(READY_S)
    with connected as peer:
        peer.sendall(WHO)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def test_a_host_refuses_connections_while_its_last_replica_drains_and_takes_them_when_one_comes_back(
    serving: Serving, tmp_path: Path
) -> None:
    first, second = both(serving)
    with ThreadPoolExecutor(1) as pool, ExitStack() as stack:
        asked = pool.submit(httpx.get, f"http://{second}/wait?name=a", timeout=READY_S)
        until((tmp_path / "a began").exists)
        keep_busy(stack, serving, first)
        serving.scale(1)
        until(lambda: refuses(second))
        assert answers(first)
        assert (asked.done(), serving.stats().leaving) == (False, 1)
        (tmp_path / "a").touch()
        assert asked.result().status_code == 200
    until(lambda: not serving.stats().leaving)
    assert refuses(second)
    serving.scale(2)
    until(lambda: answers(second))
    assert answers(first)


def test_what_waits_at_a_host_when_its_last_replica_leaves_is_answered(serving: Serving, tmp_path: Path) -> None:
    first, second = both(serving)
    with ThreadPoolExecutor(11) as pool, ExitStack() as stack:
        pool.submit(httpx.get, f"http://{second}/block?name=a", timeout=READY_S)
        until((tmp_path / "a began").exists)  # from now on nothing is accepted there
        keep_busy(stack, serving, first)
        waiting = [socket.create_connection((second.host, second.port)) for _ in range(10)]
        found = [pool.submit(answered, one) for one in waiting]
        serving.scale(1)
        until(lambda: serving.stats().leaving)
        (tmp_path / "a").touch()
        assert [one.result()[:15] for one in found] == [b"HTTP/1.1 200 OK"] * 10
    assert refuses(second)


def test_the_last_host_goes_on_listening_whoever_leaves(serving: Serving) -> None:
    _, second = both(serving)
    for member in list(serving._pool.members.values()):
        serving._listener.leaving(member.handle)
        member.handle.call("cancel").result(READY_S)
    assert not refuses(second)
