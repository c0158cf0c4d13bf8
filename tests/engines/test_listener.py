"""What both engines promise of a listening socket that replicas share."""

from __future__ import annotations

import errno
import os
import secrets
import socket
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from raflow import engines
from raflow.engines.ray.listener import Meeting, _SocketHolder
from raflow.errors import CannotListen, ReplicaLost
from raflow.options import Resources
from raflow.runtime.engine import Engine, Handover
from raflow.runtime.serving.address import Address

WAIT_S = 60


class Greeter:
    """Accepts one connection at a time and says its name."""

    def __init__(self, name: str, own_process: bool = False) -> None:
        self.name = name

    def setup(self, handover: Handover) -> None:
        self.listening = handover.take()
        self.listening.setblocking(True)

    def greet(self) -> None:
        peer, _ = self.listening.accept()
        with peer:
            peer.sendall(self.name.encode())

    def leave(self) -> None:
        self.listening.close()

    def die(self) -> None:
        os._exit(1)

    def cancel(self) -> None:
        """Nothing is under way."""


@pytest.fixture
def started(engine: str) -> Iterator[Engine]:
    made = engines.make(engine)
    made.start()
    yield made
    made.close()


def greeted(address: Address) -> str:
    with socket.create_connection((address.host, address.port), timeout=WAIT_S) as peer, peer.makefile() as said:
        return said.read()


def test_what_connects_while_there_is_no_replica_waits_for_the_next_one(started: Engine) -> None:
    listener = started.listen(Address())
    address, packed = listener.address, started.pack(Greeter)
    replicas = [started.spawn(f"g[{n}]", packed, Resources(num_cpus=0), listener=listener) for n in range(2)]
    ways = [listener.handover(one).result(WAIT_S) for one in replicas]
    for one, way in zip(replicas, ways, strict=True):
        one.call("setup", way).result(WAIT_S)
    replicas[0].call("leave").result(WAIT_S)
    replicas[0].kill()
    with socket.create_connection((address.host, address.port), timeout=WAIT_S) as waiting, waiting.makefile() as said:
        replicas[1].call("greet").result(WAIT_S)
        assert said.read() == "g[1]"
    replicas[1].call("leave").result(WAIT_S)
    replicas[1].kill()
    listener.close()
    listener.close()
    with pytest.raises(ConnectionRefusedError):
        greeted(address)
    with pytest.raises(OSError):  # noqa: PT011 - a closed socket, or nobody there
        ways[0].take()


def test_an_address_in_use_is_refused(started: Engine) -> None:
    listener = started.listen(Address())
    with pytest.raises(CannotListen, match=f"cannot listen on {listener.address}: it is in use"):
        started.listen(listener.address)
    listener.close()


@pytest.mark.ray
def test_a_holder_that_dies_costs_nothing_but_itself(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.engines.ray.listener.is_own", lambda: False)
    engine = engines.make("ray")
    engine.start()
    listener = engine.listen(Address())
    packed = engine.pack(Greeter)
    replicas = [engine.spawn(f"g[{n}]", packed, Resources(num_cpus=0), listener=listener) for n in range(2)]
    replicas[0].call("setup", listener.handover(replicas[0]).result(WAIT_S)).result(WAIT_S)
    (holder,) = [one for one in psutil.Process().children(recursive=True) if "_SocketHolder" in one.name()]
    holder.kill()
    with socket.create_connection((listener.address.host, listener.address.port), timeout=WAIT_S) as peer:
        replicas[0].call("greet").result(WAIT_S)
        assert peer.recv(10) == b"g[0]"
    with pytest.raises(ReplicaLost, match=f"the holder of {listener.address}"):
        listener.handover(replicas[1]).result(WAIT_S)
    with pytest.raises(CannotListen, match=f"what held {listener.address} there has died"):
        listener.handover(replicas[1]).result(WAIT_S)
    replicas[0].kill()
    replicas[1].call("setup", listener.handover(replicas[1]).result(WAIT_S)).result(WAIT_S)
    with socket.create_connection((listener.address.host, listener.address.port), timeout=WAIT_S) as peer:
        replicas[1].call("greet").result(WAIT_S)
        assert peer.recv(10) == b"g[1]"
    replicas[1].kill()
    listener.close()
    engine.close()


@pytest.mark.ray
def test_a_replica_that_dies_before_it_has_the_socket_is_told(ray_session: None) -> None:
    engine = engines.make("ray")
    engine.start()
    listener = engine.listen(Address())
    replica = engine.spawn("g[0]", engine.pack(Greeter), Resources(num_cpus=0), listener=listener)
    replica.kill()
    with pytest.raises(ReplicaLost):
        listener.handover(replica).result(WAIT_S)
    listener.close()
    engine.close()


@pytest.mark.ray
def test_a_replica_that_leaves_before_it_has_the_socket_gets_none(ray_session: None) -> None:
    engine = engines.make("ray")
    engine.start()
    listener = engine.listen(Address())
    replica = engine.spawn("g[0]", engine.pack(Greeter), Resources(num_cpus=0), listener=listener)
    listener.leaving(replica)
    with pytest.raises(ReplicaLost, match="has left before it had the socket"):
        listener.handover(replica).result(WAIT_S)
    replica.kill()
    listener.close()
    engine.close()


def test_copies_are_given_again_once_files_may_be_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    errors, accept = [OSError(errno.EMFILE, "Too many open files") for _ in range(2)], socket.socket.accept

    def scarce(listening: socket.socket) -> Any:
        if listening.family == socket.AF_UNIX and errors:
            raise errors.pop()
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    holder = _SocketHolder("it")
    address, meeting = holder.open(Address())
    with meeting.take() as copy:
        assert copy.getsockname() == (address.host, address.port)
    assert errors == []
    holder.close()


def test_a_holder_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.engines.ray.listener._TAKE_TIMEOUT_S", 0.05)
    meeting = Meeting(f"raflow-{secrets.token_hex(8)}")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(f"\0{meeting.name}")
        deaf.listen(0)
        for _ in range(2):  # the second one does not even get through
            with pytest.raises(TimeoutError, match=r"has not handed it over in 0\.05 s"):
                meeting.take()
