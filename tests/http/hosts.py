"""A real uvicorn on a free port around an ASGI application, in a thread of the test's process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from raflow import Flow


@contextmanager
def serving(app: Flow | Any) -> Iterator[httpx.Client]:
    """A client of a Flow or application that has started; at the end it has shut down."""
    asgi = app.asgi() if isinstance(app, Flow) else app
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(asgi, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            # Connections queue in the kernel until the server has started. Loading certificates takes 20 ms.
            with httpx.Client(base_url=url, timeout=30, verify=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def address(client: httpx.Client) -> tuple[str, int]:
    """Where the client's server listens."""
    return client.base_url.host, client.base_url.port or 0


def raw(client: httpx.Client, text: bytes) -> bytes:
    """What the server answers to a request as bytes, until it closes or has answered."""
    with socket.create_connection(address(client), timeout=30) as connection:
        connection.sendall(text)
        reply = b""
        while b"\r\n\r\n" not in reply:
            got = connection.recv(65536)
            if not got:
                break
            reply += got
        return reply


class Gate:
    """What an endpoint waits at, and what tells that it does."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.open = threading.Event()

    def wait(self) -> None:
        self.reached.release()
        assert self.open.wait(30)

    def is_reached(self) -> bool:
        """Whether one more waits there; on a busy machine a request may be late before its thread has begun."""
        return self.reached.acquire(timeout=1)
