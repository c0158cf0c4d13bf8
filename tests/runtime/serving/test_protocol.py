"""What one connection may do, and what it is told when it does more."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.runtime.serving.apps import App
from tests.runtime.serving.conftest import Port, Start
from tests.runtime.serving.wire import WHO, Wire


def lives(port: Port) -> bool:
    with Wire(port.address) as wire:
        wire.send(WHO)
        return wire.answer()[0] == 200


def test_headers_within_the_limit_are_read(port: Port, start: Start) -> None:
    start(App(), header_bytes=4000)
    with Wire(port.address) as wire:
        wire.send(b"GET /who HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 3900 + b"\r\n\r\n")
        assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    "bomb",
    [
        b"GET /who HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 4000 + b"\r\n\r\n",
        b"GET /who HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
        b"GET /" + b"x" * 4000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /who HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 9000,
    ],
    ids=["one large", "many", "path", "without an end"],
)
def test_larger_headers_are_refused(port: Port, start: Start, bomb: bytes) -> None:
    start(App(), header_bytes=4000)
    with Wire(port.address) as wire:
        wire.send(bomb)
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (431, "close")
        assert wire.rest() == b""
    assert lives(port)


UPGRADE = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (UPGRADE + b"cookie: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (UPGRADE + b"a: b\r\n" * 200 + b"\r\n", 431),
        (UPGRADE.replace(b"/ws", b"/ws?" + b"x" * 9000) + b"\r\n", 431),
        (UPGRADE + b"content-length: 2\r\n\r\nhi", 400),
    ],
    ids=["one large", "many", "path", "a body"],
)
def test_upgrades_that_websockets_cannot_read_are_refused(
    port: Port, start: Start, request_: bytes, refusal: int
) -> None:
    start(App())
    with Wire(port.address) as wire:
        wire.send(request_)
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (refusal, "close")
        assert wire.rest() == b""
    assert lives(port)


def test_large_headers_behind_another_request_are_refused(port: Port, start: Start) -> None:
    start(App(), header_bytes=4000)
    with Wire(port.address) as wire:
        wire.send(WHO)
        assert wire.answer()[0] == 200
        wire.send(b"GET /who HTTP/1.1\r\nhost: x\r\ncookie: " + b"x" * 4000 + b"\r\n\r\n")
        assert wire.answer()[0] == 431


def test_trailers_without_an_end_close_the_connection(port: Port, start: Start) -> None:
    start(App(), header_bytes=4000)
    with Wire(port.address) as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n")
        with contextlib.suppress(ConnectionError):
            for _ in range(10_000):
                wire.send(b"a: b\r\n" * 100)
        assert b"200 OK" not in wire.rest()
    assert lives(port)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_no_header(port: Port, start: Start, chunked: bool) -> None:
    start(App(), header_bytes=1000)
    body = b"x" * 300_000
    framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    with Wire(port.address) as wire:
        for _ in range(2):
            wire.send(b"POST /echo HTTP/1.1\r\nhost: x\r\n" + framing + b"\r\n\r\n")
            wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body)
            assert wire.answer()[2] == b'{"bytes":300000}'


def test_slow_headers_are_refused(port: Port, start: Start) -> None:
    start(App(), header_timeout_s=0.1)
    with Wire(port.address) as wire:
        wire.send(b"GET /who HTTP/1.1\r\nhost:")
        status, headers, _ = wire.answer()
        assert (status, headers["connection"]) == (408, "close")
        assert wire.rest() == b""


def test_slow_headers_of_a_later_request_are_refused(port: Port, start: Start) -> None:
    start(App(), header_timeout_s=0.1, keep_alive_s=30)
    with Wire(port.address) as wire:
        wire.send(WHO)
        assert wire.answer()[0] == 200
        wire.send(b"GET /who HTTP/1.1\r\nhost:")
        assert wire.answer()[0] == 408


def test_a_client_that_says_nothing_is_hung_up_on(port: Port, start: Start) -> None:
    start(App(), header_timeout_s=0.1)
    with Wire(port.address) as wire:
        assert wire.rest() == b""


HASTY, IMPATIENT = {"header_timeout_s": 0.1, "keep_alive_s": 30.0}, {"header_timeout_s": 30.0, "keep_alive_s": 0.1}


@pytest.mark.parametrize(("limits", "part"), [(HASTY, b""), (HASTY, b"a"), (IMPATIENT, b"a"), (IMPATIENT, b"abc")])
def test_a_body_that_ends_late_or_never_does_not_keep_an_answered_connection(
    port: Port, start: Start, limits: dict[str, float], part: bytes
) -> None:
    start(App(), **limits)
    with Wire(port.address) as wire:
        wire.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
        assert wire.answer()[0] == 404
        wire.send(part)
        assert wire.rest() == b""


def test_half_a_chunk_after_the_answer_gets_no_other_one(port: Port, start: Start) -> None:
    start(App(), header_timeout_s=0.1, keep_alive_s=30)
    with Wire(port.address) as wire:
        wire.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert wire.answer()[0] == 404
        wire.send(b"5")
        assert wire.rest() == b""


def test_a_body_that_comes_after_the_answer_leaves_the_connection_to_the_next_request(port: Port, start: Start) -> None:
    start(App())
    with Wire(port.address) as wire:
        for _ in range(2):
            wire.send(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
            assert wire.answer()[0] == 404
            wire.send(b"abc")
        wire.send(WHO)
        assert wire.answer()[0] == 200


def test_line_ends_between_requests_do_not_keep_a_connection(port: Port, start: Start) -> None:
    start(App(), header_timeout_s=0.1, keep_alive_s=30)
    with Wire(port.address) as wire:
        wire.send(WHO)
        assert wire.answer()[0] == 200
        wire.send(b"\r\n")
        assert b"408" in wire.rest()


def test_a_request_may_take_longer_than_its_headers(port: Port, start: Start, tmp_path: Path) -> None:
    start(App(tmp_path), header_timeout_s=0.05)
    with Wire(port.address) as wire, Wire(port.address) as silent:
        wire.send(b"GET /wait?name=a HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET /who HT")
        assert silent.rest() == b"", "more than the timeout has passed"
        wire.send(b"TP/1.1\r\nhost: x\r\n\r\n")
        (tmp_path / "a").touch()
        assert wire.answer()[2] == b'{"waited":"a"}'
        assert wire.answer()[0] == 200


def test_requests_that_come_together_are_answered_in_order(port: Port, start: Start) -> None:
    start(App())
    with Wire(port.address) as wire:
        wire.send(WHO + b"GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n" + WHO)
        assert [wire.answer()[0] for _ in range(3)] == [200, 404, 200]


def test_what_is_no_http_is_refused(port: Port, start: Start) -> None:
    start(App())
    with Wire(port.address) as wire:
        wire.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert wire.answer()[0] == 400
        assert wire.rest() == b""
    assert lives(port)


def test_answers_do_not_name_the_server(port: Port, start: Start) -> None:
    start(App())
    with Wire(port.address) as wire:
        wire.send(WHO)
        _, headers, _ = wire.answer()
    assert "server" not in headers
    assert "date" in headers


def test_clients_that_are_to_move_are_told_with_an_answer(port: Port, start: Start) -> None:
    replica = start(App())
    with Wire(port.address) as first, Wire(port.address) as second:
        for wire in (first, second):
            wire.send(WHO)
            assert "connection" not in wire.answer()[1]
        replica.move(1)
        for wire, told in ((first, "close"), (second, None)):
            wire.send(WHO)
            assert wire.answer()[1].get("connection") == told
        assert first.rest() == b""
