"""uvicorn's connections, with what they lack: limits on headers, and a way to leave without cutting anybody."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidMessage

from raflow.options import ConnectionOptions


class Gate:
    """What the connections of one server share.

    Args:
        limits: Of each connection.
    """

    def __init__(self, limits: ConnectionOptions) -> None:
        self.limits = limits
        self.leaving_s: float | None = None
        """Once the server drains: how long a connection may still be idle."""
        self.moves = 0
        """Answers that will say `Connection: close`, so that their clients come back to another replica.

        Set from any thread: an answer more or less does not matter.
        """

    def is_last(self) -> bool:
        """Return whether the request that begins is to be the last one of its connection."""
        if self.leaving_s is None and not self.moves:
            return False
        self.moves = max(self.moves - 1, 0)
        return True


class WebsocketProtocol(WebSocketsSansIOProtocol):
    """One connection that has become a websocket."""

    resumed = 0
    """The same as that of `HttpProtocol`."""

    def resume_writing(self) -> None:
        """Take note that the client reads; called by the transport."""
        self.resumed += 1
        super().resume_writing()


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        args: What uvicorn gives.
        gate: Shared with the other connections.
        kwargs: What uvicorn gives.
    """

    def __init__(self, *args: Any, gate: Gate, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.access_log = False  # the application has its own
        self._gate = gate
        self._limits = gate.limits
        self._unparsed = 0
        """Bytes since the parser has last told of headers, of a piece of a body or of an end."""
        self._at_most = 0
        """Bytes that the headers can have that the parser tells of now."""
        self._in_body = False
        self._refusal = 400
        self._deadline: asyncio.TimerHandle | None = None
        self.resumed = 0
        """How often what was unsent has gone out so far that more may be sent; see `Stalled`."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection; its first request has to come in time."""
        super().connection_made(transport)
        if self._gate.leaving_s is not None:
            self.timeout_keep_alive = self._gate.leaving_s  # type: ignore[assignment]
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its deadline."""
        self._headers_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then look whether the client sends without end, or without haste."""
        self._unparsed += len(data)
        self._at_most = self._unparsed
        super().data_received(data)
        if self.transport.is_closing() or self.transport.get_protocol() is not self:  # but a websocket's
            return
        if not self._unparsed or self._in_body:
            self._bound_silence()
        if self._unparsed > self._limits.header_bytes:
            self._refuse(431)
        elif self._unparsed and self._deadline is None and not self._in_body:
            self._await_headers()

    def resume_writing(self) -> None:
        """Take note that the client reads; called by the transport."""
        self.resumed += 1
        super().resume_writing()

    def on_headers_complete(self) -> None:
        """Begin the request, unless its headers are too large."""
        self._headers_came()
        self._unparsed, self._in_body = 0, True
        if self._at_most > self._limits.header_bytes and self._header_bytes() > self._limits.header_bytes:
            self._refusal = 431
            msg = "the headers are too large"
            raise ValueError(msg)  # the parser stops, and `send_400_response` is called
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; the application bounds the whole."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the next one's headers may follow at once."""
        self._headers_came()  # the deadline was that of a body that nobody reads
        self._unparsed, self._in_body = 0, False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; called by uvicorn. If the request has not ended, the rest of its body has to come in time."""
        super().on_response_complete()
        if self._in_body and not self._is_answering() and not self.transport.is_closing():
            self._headers_came()
            self._await_headers()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed; called by uvicorn."""
        del msg
        self._refuse(self._refusal)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; called by uvicorn.

        Its websockets read the request anew, and have limits of their own. Of what they cannot read they tell
        nobody: neither would the client get an answer, nor would the connection ever end.
        """
        super().handle_websocket_upgrade()
        websocket = self.transport.get_protocol()
        if isinstance(websocket, WebsocketProtocol) and not websocket.handshake_initiated:
            self._refuse(400 if isinstance(websocket.conn.handshake_exc, InvalidMessage) else 431)

    def take_leave(self, idle_s: float) -> None:
        """Answer what still comes with `Connection: close`; end when nothing has come for so long."""
        self.timeout_keep_alive = idle_s  # type: ignore[assignment]
        if self._is_answering():
            if not self.cycle.response_started and not self.pipeline:
                self.cycle.keep_alive = False
        elif not self._unparsed:
            self._unset_keepalive_if_required()
            self._bound_silence()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not self.pipeline and self._gate.is_last():
            cycle.keep_alive = False
        super()._start_asgi_task(cycle, app)

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_reading(self) -> bool:
        """Return whether the request that is being read is the only one, and not answered yet."""
        return self._in_body and self._is_answering() and not self.cycle.response_started and not self.pipeline

    def _header_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _await_headers(self) -> None:
        self._deadline = self.loop.call_later(self._limits.header_timeout_s, self._late)

    def _bound_silence(self) -> None:
        """End the connection if nothing more comes after an answer: what came has ended uvicorn's own timer."""
        if self.timeout_keep_alive_task is None and not self._is_answering():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _headers_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self._is_answering():  # to an earlier request; uvicorn's keep-alive timeout follows
            return
        if self._unparsed and not self._in_body:  # else the request has its answer already
            self._refuse(408)
        else:
            self.transport.close()

    def _refuse(self, status: int) -> None:
        """Answer with a status alone, unless that could be taken for the answer to an earlier request; and close."""
        if not self._is_answering() or self._is_reading():
            self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        if self._is_reading():
            self.cycle.disconnected = True  # what the application may still say to it is dropped
            self.cycle.message_event.set()
        self.transport.close()
