"""uvicorn's server with an end of our own: its own one closes idle connections at once, which loses requests."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from raflow.errors import InvalidOption
from raflow.options import ConnectionOptions
from raflow.runtime.serving.counting import Counted, Load
from raflow.runtime.serving.protocol import Gate, HttpProtocol, WebsocketProtocol
from raflow.runtime.serving.stalled import Stalled

_LOOK_S = 0.02
_LAST_WORDS_S = 1.0
"""For what was cut at the deadline to end: a websocket's answer to its close, an application's `finally`."""

log = logging.getLogger("raflow")


@dataclass(frozen=True)
class Tls:
    """How connections are encrypted; the files must be on each node that has replicas."""

    certificate: str
    """Path of the certificate chain, PEM."""
    key: str
    """Path of its private key, PEM."""
    password: str | None = None
    """Of the key."""

    def __repr__(self) -> str:
        return f"Tls({self.certificate!r}, {self.key!r})"


@dataclass(frozen=True)
class Drained:
    """How a server has ended."""

    total: int
    """Requests that it has answered in all."""
    cut: int
    """Requests that had not ended at the deadline."""
    websockets: int
    """Websockets that were closed at the deadline, with code 1012."""


class Server(uvicorn.Server):
    """Answers on one listening socket with one application.

    All methods are called in its event loop; those of uvicorn that are replaced here are called by it.

    Args:
        application: Answers.
        limits: Of each connection.
        tls: How connections are encrypted; None: they are not.
        on_started: Called in the event loop, with it, when connections are taken.
    """

    def __init__(
        self,
        application: Counted,
        limits: ConnectionOptions,
        tls: Tls | None,
        on_started: Callable[[asyncio.AbstractEventLoop], None],
    ) -> None:
        self.gate = Gate(limits)
        self._stalled = Stalled(limits.send_timeout_s)
        self.ticked = time.monotonic()
        self._application = application
        self._on_started = on_started
        super().__init__(
            uvicorn.Config(
                application,
                interface="asgi3",
                loop="uvloop",
                http=functools.partial(HttpProtocol, gate=self.gate),  # type: ignore[arg-type]
                ws=WebsocketProtocol,
                lifespan="on",
                log_config=None,
                log_level="warning",
                timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type]
                server_header=False,
                proxy_headers=False,
                ssl_certfile=tls.certificate if tls else None,
                ssl_keyfile=tls.key if tls else None,
                ssl_keyfile_password=tls.password if tls else None,
            )
        )
        try:
            self.config.load()
        except (OSError, ssl.SSLError) as error:
            msg = f"connections cannot be encrypted with {tls}: {error}; both files must be PEM, readable on each node"
            raise InvalidOption(msg) from error

    def load(self) -> Load:
        """Return what it is doing; called from any thread."""
        return self._application.load(len(self.server_state.connections), time.monotonic() - self.ticked)

    async def on_tick(self, counter: int) -> bool:
        """Take note that the loop comes round; from time to time look for clients that do not read."""
        self.ticked = time.monotonic()
        self._stalled.end(self.server_state.connections)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the application's start-up and begin to accept."""
        assert sockets
        self._listening = sockets[0]
        await super().startup(sockets)
        self._on_started(asyncio.get_running_loop())

    async def drain(self, grace_s: float, timeout_s: float) -> Drained:
        """Stop accepting, and end when all that has come is answered; then the main loop ends, too.

        Other holders of the listening socket are not disturbed. Connections that wait in its queue are taken
        along: the system would reset them if nobody else holds it. Each answer from now on says
        `Connection: close`; a connection that stays idle for the grace period is closed.

        Args:
            grace_s: For clients to send what is on its way, and to learn that they shall leave.
            timeout_s: In all; what has not ended by then is cut.
        """
        self.gate.leaving_s = grace_s
        with self._listening.dup() as queue:
            self._stop_accepting()
            waiting = _accepted(queue)
        for connection in self.server_state.connections:
            if isinstance(connection, HttpProtocol):
                connection.take_leave(grace_s)
        await asyncio.gather(*(self._take(one, grace_s) for one in waiting))
        ended = await self._ends_within(timeout_s)
        websockets = self.load().websockets
        cut = 0 if ended else await self._cut()
        self._hang_up()
        self.should_exit = True
        return Drained(self.load().total - cut, cut, websockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Run the application's shutdown; called when the main loop has ended, after `drain` or `abort`."""
        del sockets
        if not self.force_exit:
            await self.lifespan.shutdown()

    def abort(self) -> None:
        """End now, as if the process had died."""
        self._stop_accepting()
        self._hang_up()
        for task in list(self.server_state.tasks):
            task.cancel()
        self.force_exit = self.should_exit = True

    async def _take(self, accepted: socket.socket, grace_s: float) -> None:
        """Answer on a connection as if it had been taken in time."""
        loop: Any = asyncio.get_running_loop()
        config, state = self.config, {"server_state": self.server_state, "app_state": self.lifespan.state}
        connection = cast("Any", config.http_protocol_class)(config=config, **state)
        secure = {"ssl": config.ssl, "ssl_handshake_timeout": grace_s + _LOOK_S} if config.ssl else {}
        with contextlib.suppress(OSError):  # the client is gone
            await loop.connect_accepted_socket(lambda: connection, accepted, **secure)  # it returns that of TLS
            connection.take_leave(grace_s)

    def _stop_accepting(self) -> None:
        for server in self.servers:
            server.close()

    async def _ends_within(self, timeout_s: float) -> bool:
        """Wait until there is no connection, and no task that goes on after its answer; returns whether that is so."""
        until = time.monotonic() + timeout_s
        while self._is_open() or self.server_state.tasks:
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    def _hang_up(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _is_open(self) -> bool:
        """Return whether something is still to be sent or read; TLS keeps what is closed until the peer agrees."""
        transports = [connection.transport for connection in self.server_state.connections]
        return any(not one.is_closing() or one.get_write_buffer_size() for one in transports)

    async def _cut(self) -> int:
        """Close websockets and end requests, each with a little time to take note; returns the number of requests."""
        for connection in list(self.server_state.connections):
            try:
                connection.shutdown()
            except Exception:  # of one connection: the others, and what the application has still to write, go on
                log.warning("a connection that is cut could not be told so", exc_info=True)
                connection.transport.abort()
        await self._ends_within(_LAST_WORDS_S)
        cut = self.load().ongoing
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._ends_within(_LAST_WORDS_S)
        return cut


def _accepted(queue: socket.socket) -> list[socket.socket]:
    """Return all connections that wait at a listening socket that does not block."""
    found: list[socket.socket] = []
    with contextlib.suppress(OSError):  # none is left, or no more files may be opened
        while True:
            found.append(queue.accept()[0])
    return found
