"""How one replica begins, and how it leaves without cutting anybody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from raflow.errors import ReplicaLost
from raflow.options import ConnectionOptions
from raflow.runtime.failure import Failure
from raflow.runtime.serving.protocol import HttpProtocol
from raflow.runtime.serving.replica import Ended, ServingReplica
from tests.runtime.serving.apps import App
from tests.runtime.serving.conftest import READY_S, Port, Start, until
from tests.runtime.serving.wire import WHO, Wire

GATE = b"GET /wait?name=a HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def begun(wire: Wire, app: App) -> None:
    """Send a request that waits for the gate `a`, and see it begin."""
    wire.send(GATE)
    assert app.folder
    until((app.folder / "a began").exists)


def draining(
    aside: ThreadPoolExecutor, replica: ServingReplica, port: Port, grace_s: float = 0.1, timeout_s: float = READY_S
) -> Future[Ended]:
    """Let a replica drain, and see it begin: its idle connections are closed."""
    with Wire(port.address) as idle:
        idle.send(WHO)
        idle.answer()
        ended = aside.submit(replica.drain, grace_s, timeout_s)
        assert idle.rest() == b""
    return ended


def test_a_request_in_flight_is_answered(port: Port, start: Start, tmp_path: Path, aside: ThreadPoolExecutor) -> None:
    replica = start(app := App(tmp_path))
    with Wire(port.address) as wire:
        begun(wire, app)
        ended = draining(aside, replica, port)
        (tmp_path / "a").touch()
        status, headers, body = wire.answer()
        assert (status, headers["connection"], body) == (200, "close", b'{"waited":"a"}')
        assert wire.rest() == b""
    assert ended.result(READY_S).drained.cut == 0
    assert (tmp_path / "shut down").exists()


def test_an_answer_that_has_begun_is_finished(
    port: Port, start: Start, tmp_path: Path, aside: ThreadPoolExecutor
) -> None:
    replica = start(App(tmp_path))
    with Wire(port.address) as wire:
        wire.send(b"GET /stream?name=a HTTP/1.1\r\nhost: x\r\n\r\n")
        until(lambda: replica.counts().ongoing)
        ended = draining(aside, replica, port)
        (tmp_path / "a").touch()
        assert wire.answer()[2] == b"first last"
        assert wire.rest() == b""
    assert ended.result(READY_S).drained.cut == 0


def test_an_idle_client_may_still_ask_within_the_grace_period(
    port: Port, start: Start, aside: ThreadPoolExecutor
) -> None:
    replica = start(App())
    with Wire(port.address) as wire:
        wire.send(WHO)
        assert "connection" not in wire.answer()[1]
        ended = aside.submit(replica.drain, READY_S, READY_S)
        while True:
            wire.send(WHO)
            status, headers, _ = wire.answer()
            assert status == 200
            if headers.get("connection") == "close":
                break
        assert wire.rest() == b""
    assert ended.result(READY_S).drained.cut == 0


def test_what_does_not_end_is_cut_at_the_deadline(
    port: Port, start: Start, tmp_path: Path, aside: ThreadPoolExecutor
) -> None:
    replica = start(app := App(tmp_path))
    with Wire(port.address) as wire:
        begun(wire, app)
        ended = draining(aside, replica, port, timeout_s=0.3)
        assert wire.answer()[0] == 500
    drained = ended.result(READY_S).drained
    assert (drained.total, drained.cut) == (1, 1)
    assert (tmp_path / "shut down").exists()


def test_websockets_are_told_to_come_back_at_the_deadline(port: Port, start: Start) -> None:
    replica = start(App())
    with connect(f"ws://{port.address}/ws") as websocket:
        websocket.send("hello")
        assert websocket.recv() == "hello"
        assert replica.counts().websockets == 1
        assert replica.counts().ongoing == 0
        drained = replica.drain(0.1, 0.3).drained
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert (drained.websockets, drained.cut) == (1, 0)


def test_a_refused_upgrade_whose_client_stays_does_not_hold_up_the_drain(
    port: Port, start: Start, aside: ThreadPoolExecutor
) -> None:
    replica = start(App())
    with Wire(port.address) as wire:
        wire.send(b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n")
        wire.send(b"a: b\r\n" * 200 + b"\r\n")
        assert wire.answer()[0] == 431
        ended = aside.submit(replica.drain, 0.1, 2 * READY_S).result(READY_S)
    assert (ended.drained.cut, ended.drained.websockets) == (0, 0)


def test_a_connection_that_cannot_be_told_of_its_end_does_not_spoil_that_of_the_replica(
    port: Port, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shutdown(self: HttpProtocol) -> None:
        raise AssertionError

    monkeypatch.setattr(HttpProtocol, "shutdown", shutdown)
    replica = start(app := App(tmp_path))
    with Wire(port.address) as wire:
        begun(wire, app)
        ended = replica.drain(0.1, 0.3)
        assert wire.rest() == b""
    assert (ended.drained.cut, ended.failure) == (1, None)
    assert (tmp_path / "shut down").exists()


def test_a_replica_that_leaves_does_not_disturb_another_one_on_the_same_port(port: Port, start: Start) -> None:
    first, _ = start(App()), start(App())
    assert first.drain(0.1, READY_S).drained.cut == 0
    for _ in range(20):
        with Wire(port.address) as wire:
            wire.send(WHO)
            assert b"api[1]" in wire.answer()[2]


def test_connections_wait_until_there_is_a_replica(port: Port, start: Start) -> None:
    start(App()).drain(0.1, READY_S)
    with Wire(port.address) as wire:
        wire.send(WHO)
        start(App())
        assert b"api[1]" in wire.answer()[2]


def test_connections_that_wait_are_answered_by_the_last_replica(
    port: Port, start: Start, tmp_path: Path, aside: ThreadPoolExecutor
) -> None:
    replica = start(app := App(tmp_path))
    with Wire(port.address) as blocking, ExitStack() as stack:
        blocking.send(b"GET /block?name=a HTTP/1.1\r\nhost: x\r\n\r\n")  # the event loop accepts nobody meanwhile
        until((app.folder / "a began").exists if app.folder else bool)
        waiting = [stack.enter_context(Wire(port.address)) for _ in range(50)]
        for wire in waiting[1:]:
            wire.send(WHO)
        port.listening.close()  # nobody else has it
        ended = aside.submit(replica.drain, 0.3, READY_S)
        (tmp_path / "a").touch()
        for wire in waiting[1:]:
            status, headers, _ = wire.answer()
            assert (status, headers["connection"]) == (200, "close")
        assert waiting[0].rest() == b"", "it has asked for nothing"
    assert ended.result(READY_S).drained.cut == 0


def test_it_counts_what_it_does(port: Port, start: Start, tmp_path: Path) -> None:
    replica = start(app := App(tmp_path))
    with Wire(port.address) as wire:
        begun(wire, app)
        load = replica.counts()
        assert (load.ongoing, load.total, load.connections) == (1, 0, 1)
        assert replica.counts().busy_s > load.busy_s
        (tmp_path / "a").touch()
        wire.answer()
        until(lambda: replica.counts().total)
        busy_s = replica.counts().busy_s
        assert replica.counts().busy_s == busy_s
        assert replica.counts().ongoing == 0


@pytest.mark.parametrize(("fails", "user"), [("make", "LookupError"), ("start", "connect_to_database")])
def test_an_application_that_does_not_start_is_told_with_the_users_traceback(port: Port, fails: str, user: str) -> None:
    replica = ServingReplica(App(fails=fails), ConnectionOptions(), None, "api[0]")
    failure = replica.setup(port)
    assert isinstance(failure, Failure)
    assert failure.where == "setup"
    assert user in failure.traceback
    assert "starlette" not in failure.traceback
    assert "raflow/runtime" not in failure.traceback
    until(lambda: not any(one.name == "api[0] http" for one in threading.enumerate()))
    with pytest.raises(ReplicaLost, match="has ended"):
        replica.counts()


def test_a_failing_shutdown_is_told(start: Start) -> None:
    failure = start(App(fails="end")).drain(0.1, READY_S).failure
    assert failure is not None
    assert failure.where == "teardown"
    assert isinstance(failure.error, ConnectionRefusedError)
