"""The application that the tests of serving answer with; it travels by its import path."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import Response, StreamingResponse


class App:
    """Makes the application.

    Args:
        folder: Where it leaves traces; None: nowhere.
        fails: Whether its start-up fails.
    """

    def __init__(self, folder: Path | None = None, fails: str = "") -> None:
        self.folder = folder
        self.fails = fails

    def __call__(self) -> FastAPI:
        if self.fails == "die":
            os._exit(1)
        if self.fails == "make":
            msg = "no such setting"
            raise LookupError(msg)
        app = FastAPI(lifespan=self.lifespan)
        app.get("/who")(who)
        app.post("/echo")(echo)
        app.get("/die")(die)
        app.get("/wait")(self.wait)
        app.get("/block")(self.block)
        app.get("/stream")(self.stream)
        app.get("/endless")(endless)
        app.get("/large")(large)
        app.websocket("/ws")(talk)
        app.websocket("/pour")(pour)
        return app

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        if self.fails == "start":
            connect_to_database()
        yield
        self.trace("shut down")
        if self.fails == "end":
            connect_to_database()

    async def wait(self, name: str) -> dict[str, str]:
        """Answer once the test has opened the gate of this name."""
        self.trace(f"{name} began")
        await self.gate(name)
        return {"waited": name}

    async def block(self, name: str) -> None:
        assert self.folder
        self.trace(f"{name} began")
        while not (self.folder / name).exists():
            time.sleep(0.01)

    async def stream(self, name: str) -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            yield "first "
            await self.gate(name)
            yield "last"

        return StreamingResponse(pieces())

    async def gate(self, name: str) -> None:
        assert self.folder
        while not (self.folder / name).exists():
            await asyncio.sleep(0.01)

    def trace(self, what: str) -> None:
        if self.folder:
            (self.folder / what).write_text(str(os.getpid()))


def connect_to_database() -> None:
    msg = "the database is not there"
    raise ConnectionRefusedError(msg)


async def who() -> dict[str, str]:
    return {"who": f"{os.getpid()} {threading.current_thread().name}"}


async def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def echo(request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_text(await websocket.receive_text())


async def endless() -> StreamingResponse:
    async def pieces() -> AsyncIterator[bytes]:
        while True:
            yield bytes(64 << 10)
            await asyncio.sleep(0)  # sending to who is gone does not wait

    return StreamingResponse(pieces())


async def large() -> Response:
    """Answer with more than the system takes for a connection whose client does not read."""
    return Response(bytes(32 << 20))


async def pour(websocket: WebSocket) -> None:
    await websocket.accept()
    while True:
        await websocket.send_bytes(bytes(64 << 10))
        await asyncio.sleep(0)
