"""Clients that do what none should, against a replica as runs have it: each gets an answer or is hung up on."""

from __future__ import annotations

import base64
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySink
from raflow.http import WebSocket
from raflow.options import ConnectionOptions
from raflow.runtime.serving.address import Address, bind, unbind
from raflow.runtime.serving.replica import ServingReplica
from tests.runtime.serving.wire import Wire

sink = MemorySink()
app = Flow("abused")


@app.collector("/records", sink=sink, request_timeout_s=0.3)
def take(record: dict[str, Any]) -> dict[str, Any]:
    return record


@app.service().endpoint("/hello/{name}")
def hello(name: str, q: str = "") -> str:
    return name + q


@app.services[0].endpoint("/echo", "WEBSOCKET")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(str(len(await websocket.receive_text())))


class Port:
    """A listening socket, which a replica takes a copy of."""

    def __init__(self) -> None:
        self.listening, self.address = bind(Address())

    def take(self) -> socket.socket:
        return self.listening.dup()


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    port = Port()
    replica = ServingReplica(app.asgi, ConnectionOptions(header_timeout_s=0.3), None, "abused[0]")
    assert replica.setup(port) is None
    yield port
    replica.drain(0.0, 5.0)
    unbind(port.listening, port.address)


@pytest.fixture
def wire(port: Port) -> Iterator[Wire]:
    """A connection; after the test the replica still answers others."""
    with Wire(port.address) as wire:
        yield wire
    with Wire(port.address) as other:
        other.send(b"GET /hello/you HTTP/1.1\r\nhost: x\r\n\r\n")
        assert other.answer()[2] == b'"you"'


def post(body: bytes, *headers: bytes, kind: bytes = b"application/json") -> bytes:
    lines = [b"POST /records HTTP/1.1", b"host: x", b"content-type: " + kind, *headers]
    return b"\r\n".join([*lines, b"", body])


CHUNKED = b"transfer-encoding: chunked"


@pytest.mark.parametrize(
    "body",
    [b"zz\r\n{}\r\n", b"-1\r\n{}\r\n0\r\n\r\n", b"2\r\n{}XX0\r\n\r\n", b"FFFFFFFFFFFFFFFFF\r\n{}\r\n"],
    ids=["no number", "negative", "no line end", "beyond 64 bits"],
)
def test_broken_chunks_are_refused_and_nothing_is_written(wire: Wire, body: bytes) -> None:
    wire.send(post(body, CHUNKED))
    assert wire.answer()[0] == 400
    assert wire.rest() == b""
    assert sink.records() == []


@pytest.mark.parametrize(
    "headers",
    [
        [b"content-length: 2", CHUNKED],
        [b"content-length: 2", b"content-length: 3"],
        [b"content-length: +2"],
        [b"content-length: 99999999999999999999"],
        [b"transfer-encoding: gzip, chunked, gzip"],
        [b"x: a\x00b"],
        [b" folded"],
    ],
    ids=["both", "two lengths", "signed", "too long", "unknown coding", "zero byte", "folded"],
)
def test_what_two_servers_could_read_differently_is_refused(wire: Wire, headers: list[bytes]) -> None:
    wire.send(post(b"{}", *headers))
    assert wire.answer()[0] in (400, 413)
    assert sink.records() == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b'{"name": "\xff\xfe"}'),
        (b"application/json", b'{"name": "\\ud800"}'),
        (b"application/json", b"[" * 20_000),
        (b"application/x-ndjson", b'{"name": "\xc3\x28"}\n'),
    ],
    ids=["bytes", "half a pair", "nested", "lines"],
)
def test_text_that_is_no_text_is_refused(wire: Wire, kind: bytes, body: bytes) -> None:
    wire.send(post(body, b"content-length: %d" % len(body), kind=kind))
    assert wire.answer()[0] in (400, 422)
    assert sink.records() == []


@pytest.mark.parametrize(
    "line", [b"GET /hello/%ff%fe?q=%ff HTTP/1.1", b"GET /hello/\xff HTTP/1.1", b"GET /hello/%00?q=%00 HTTP/1.1"]
)
def test_paths_and_queries_that_are_no_text_are_answered(wire: Wire, line: bytes) -> None:
    wire.send(line + b"\r\nhost: x\r\nx-request-id: \xff\xfe\r\ncookie: \xff=\xff\r\n\r\n")
    assert wire.answer()[0] in (200, 400, 404, 422)


def test_headers_that_are_too_many_or_too_slow_are_refused(port: Port, wire: Wire) -> None:
    wire.send(b"GET /hello/you HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 20_000)
    assert wire.answer()[0] == 431
    with Wire(port.address) as slow:
        slow.send(b"GET /hello/you HTTP/1.1\r\nhost:")
        assert slow.answer()[0] == 408


def test_a_body_that_does_not_come_is_told_so(wire: Wire) -> None:
    wire.send(post(b'{"n"', b"content-length: 100"))
    status, _, body = wire.answer()
    assert (status, body) == (408, b'{"detail":"the body did not come within 0.3 s"}')
    assert sink.records() == []


def test_clients_that_leave_at_any_moment_harm_nobody(port: Port, wire: Wire) -> None:
    whole = post(b'{"n": 1}', b"content-length: 9")
    for length in range(1, len(whole), 7):
        with Wire(port.address) as leaving:
            leaving.send(whole[:length])
    assert sink.records() == []


# -- websockets -----------------------------------------------------------------------------------

TEXT, CLOSE, PING, RESERVED = 0x1, 0x8, 0x9, 0x3
FIN, COMPRESSED, MASKED = 0x80, 0x40, 0x80
PROTOCOL_ERROR, NO_TEXT, TOO_LARGE = 1002, 1007, 1009


def frame(first: int, payload: bytes, *, length: int | None = None, mask: bool = True) -> bytes:
    """One frame, masked with zeros; it may lie about its length."""
    told = len(payload) if length is None else length
    size, more = (told, b"") if told < 126 else (127, struct.pack("!Q", told))
    head = bytes([first, size | (MASKED if mask else 0)]) + more
    return head + (b"\0" * 4 if mask else b"") + payload


def opened(wire: Wire, extension: bytes = b"") -> None:
    key = base64.b64encode(os.urandom(16))
    lines = [b"GET /echo HTTP/1.1", b"host: x", b"connection: upgrade", b"upgrade: websocket"]
    lines += [b"sec-websocket-version: 13", b"sec-websocket-key: " + key, extension]
    wire.send(b"\r\n".join([line for line in lines if line] + [b"", b""]))
    assert wire.answer()[0] == 101


def closed_with(wire: Wire) -> int:
    """The code with which the server closes."""
    said = wire.rest()
    assert said[0] == FIN | CLOSE
    return int.from_bytes(said[2:4], "big")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(FIN | RESERVED, b"?"), PROTOCOL_ERROR),
        (frame(FIN | 0x0, b"goes on"), PROTOCOL_ERROR),
        (frame(FIN | TEXT, b"open", mask=False), PROTOCOL_ERROR),
        (frame(FIN | 0x10 | TEXT, b"reserved bit"), PROTOCOL_ERROR),
        (frame(PING, b"in parts"), PROTOCOL_ERROR),
        (frame(FIN | PING, b"x" * 126), PROTOCOL_ERROR),
        (frame(FIN | CLOSE, b"\x03"), PROTOCOL_ERROR),
        (frame(FIN | TEXT, b"\xff\xfe"), NO_TEXT),
        (frame(FIN | TEXT, b"x", length=1 << 40), TOO_LARGE),
        (frame(TEXT, b"x") + frame(FIN | 0x0, b"x", length=1 << 24), TOO_LARGE),
    ],
    ids=["opcode", "goes on", "no mask", "bit", "ping in parts", "long ping", "half a code", "UTF-8", "huge", "sum"],
)
def test_frames_that_are_none_close_the_websocket(wire: Wire, sent: bytes, code: int) -> None:
    opened(wire)
    wire.send(sent)
    assert closed_with(wire) == code


def test_a_small_frame_that_unpacks_to_a_huge_one_closes_the_websocket(wire: Wire) -> None:
    opened(wire, b"sec-websocket-extensions: permessage-deflate")
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = packer.compress(b"x" * (20 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    wire.send(frame(FIN | COMPRESSED | TEXT, bomb[:-4]))
    assert closed_with(wire) == TOO_LARGE


def test_a_good_message_is_answered(wire: Wire) -> None:
    opened(wire)
    wire.send(frame(FIN | TEXT, b"hello"))
    assert wire.read(3) == frame(FIN | TEXT, b"5", mask=False)
    wire.send(frame(FIN | CLOSE, (1000).to_bytes(2, "big")))
    assert closed_with(wire) == 1000
