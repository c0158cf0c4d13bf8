"""Clients that do not read are cut; those that read slowly are not."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass

import pytest

from raflow.runtime.serving.stalled import Stalled
from tests.runtime.serving.apps import App
from tests.runtime.serving.conftest import Port, Start, until
from tests.runtime.serving.wire import Wire

TIMEOUT_S = 10


@dataclass(eq=False)
class Connection:
    """One whose transport it is itself."""

    unsent: int = 100
    resumed: int = 0
    is_cut: bool = False

    @property
    def transport(self) -> Connection:
        return self

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.is_cut = True


class Watched:
    """A connection that is looked at; `passes` lets time pass."""

    def __init__(self) -> None:
        self.one = Connection()
        self._time = 0.0
        self._stalled = Stalled(TIMEOUT_S, lambda: self._time)

    def passes(self, seconds: float) -> None:
        self._time += seconds
        self._stalled.end([self.one])


def test_a_connection_of_which_nothing_is_sent_is_cut_when_the_time_is_up() -> None:
    watched = Watched()
    for _ in range(TIMEOUT_S):
        watched.passes(1)
        assert not watched.one.is_cut
    watched.passes(1)
    assert watched.one.is_cut


def test_more_to_be_sent_gives_no_more_time() -> None:
    watched = Watched()
    for _ in range(TIMEOUT_S + 1):
        watched.passes(1)
        watched.one.unsent += 10
    assert watched.one.is_cut


@pytest.mark.parametrize("how", ["less is left", "nothing is left", "as much was sent as came"])
def test_a_client_that_reads_slowly_is_not_cut(how: str) -> None:
    watched = Watched()
    for second in range(5 * TIMEOUT_S):
        watched.passes(1)
        if second % (TIMEOUT_S - 1) == 0:
            watched.one.unsent = {"less is left": watched.one.unsent - 1, "nothing is left": 0}.get(how, 100)
            watched.one.resumed += how == "as much was sent as came"
        elif how == "nothing is left":
            watched.one.unsent = 100
    assert not watched.one.is_cut


def test_time_in_which_the_event_loop_is_blocked_does_not_count() -> None:
    watched = Watched()
    watched.passes(1)
    watched.passes(5 * TIMEOUT_S)
    assert not watched.one.is_cut


@pytest.mark.parametrize("path", ["endless", "large"])
def test_a_reply_that_nobody_reads_is_given_up(port: Port, start: Start, path: str) -> None:
    replica = start(App(), send_timeout_s=0.4, keep_alive_s=60)
    with Wire(port.address) as wire:
        wire.send(f"GET /{path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert wire.read(12) == b"HTTP/1.1 200"
        until(lambda: (load := replica.counts()).total == 1 and (load.ongoing, load.connections) == (0, 0))


def test_what_is_left_of_a_reply_does_not_keep_a_closed_connection(port: Port, start: Start) -> None:
    replica = start(App(), send_timeout_s=0.4)
    with Wire(port.address) as wire:
        wire.send(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert wire.read(12) == b"HTTP/1.1 200"
        until(lambda: replica.counts().connections == 0)


def test_a_websocket_that_nobody_reads_is_cut(port: Port, start: Start) -> None:
    replica = start(App(), send_timeout_s=0.4)
    lines = [b"GET /pour HTTP/1.1", b"host: x", b"connection: upgrade", b"upgrade: websocket"]
    lines += [b"sec-websocket-version: 13", b"sec-websocket-key: " + base64.b64encode(os.urandom(16)), b"", b""]
    with Wire(port.address) as wire:
        wire.send(b"\r\n".join(lines))
        assert wire.answer()[0] == 101
        until(lambda: (load := replica.counts()).connections == load.websockets == 0)


def test_a_large_reply_that_is_read_comes_whole(port: Port, start: Start) -> None:
    start(App(), send_timeout_s=0.4)
    with Wire(port.address) as wire:
        wire.send(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        assert len(wire.answer()[2]) == 32 << 20
