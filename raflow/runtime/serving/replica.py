"""A replica that answers HTTP: uvicorn, in a thread of its own, on the listening socket of its node."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError  # not the built-in one before Python 3.11
from dataclasses import dataclass
from importlib.util import find_spec

from raflow.errors import EngineError, ReplicaLost
from raflow.options import ConnectionOptions
from raflow.runtime.engine import Handover
from raflow.runtime.failure import Failure, explain
from raflow.runtime.serving.counting import Application, Counted, Load
from raflow.runtime.serving.server import Drained, Server, Tls

_SHUTDOWN_S = 30.0
"""For the application's own shutdown; above the time for which collectors try to write what they accepted."""
_CUT_S = 1.0
"""For the event loop to end when it is cut; a blocked one does not."""
_LATE_S = 10.0
"""Beyond all deadlines: the event loop itself does not come round."""


@dataclass(frozen=True)
class Ended:
    """How a replica has ended."""

    drained: Drained
    failure: Failure | None = None
    """Why the application's shutdown has failed."""
    written: tuple[int, ...] = ()
    """Rows in all, by sink."""
    abandoned: int = 0
    """Calls that were given up and still hold their threads."""

    @property
    def worn(self) -> bool:
        """Whether something of it may still be under way in its process."""
        return bool(self.failure or self.abandoned or self.drained.cut or self.drained.websockets)


class ServingReplica:
    """Answers with one application from `setup` to `drain`.

    Args:
        make: Returns the application; called once, in the thread that runs it.
        limits: Of each connection.
        tls: How connections are encrypted; None: they are not.
        name: For logs and errors.
        own_process: Whether it has a process of its own, whose collector it may arrange.
    """

    def __init__(
        self,
        make: Callable[[], Application],
        limits: ConnectionOptions,
        tls: Tls | None,
        name: str,
        own_process: bool = False,
    ) -> None:
        self.name = name
        self._make = make
        self._limits = limits
        self._tls = tls
        self._own_process = own_process
        self._started: Future[Failure | None] = Future()
        self._failure: Failure | None = None
        self._thread = threading.Thread(target=self._serve, name=f"{name} http", daemon=True)
        self._listening: socket.socket
        self._server: Server
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def setup(self, handover: Handover) -> Failure | None:
        """Make the application, run its start-up and take connections; returns why that failed, or None.

        Raises:
            EngineError: Who holds the listening socket is gone.
        """
        try:
            self._listening = handover.take()
        except OSError as error:
            msg = f"replica {self.name} does not get the listening socket of its node: {error}"
            raise EngineError(msg) from error
        self._thread.start()
        failure = self._started.result()
        if self._own_process:
            gc.collect()
            gc.freeze()  # what is here now stays; the collector need not look at it with each request
        return failure

    def counts(self) -> Load:
        """Return what it is doing.

        Raises:
            ReplicaLost: Its server has ended by itself.
        """
        if not self._thread.is_alive():
            why = f": {self._failure.error}" if self._failure else ""
            msg = f"replica {self.name}: its server has ended{why}"
            raise ReplicaLost(msg)
        return self._server.load()

    def move(self, requests: int) -> None:
        """Answer so many of the next requests with `Connection: close`, so that clients go to other replicas."""
        self._server.gate.moves = requests

    def drain(self, grace_s: float, timeout_s: float) -> Ended:
        """Stop accepting, answer what has come, shut the application down; see `Server.drain`.

        Raises:
            EngineError: Its event loop is blocked.
        """
        assert self._loop is not None
        draining = asyncio.run_coroutine_threadsafe(self._server.drain(grace_s, timeout_s), self._loop)
        try:
            drained = draining.result(timeout_s + _LATE_S)
        except LateError as error:
            msg = f"replica {self.name} cannot drain: something blocks its event loop"
            raise EngineError(msg) from error
        self._thread.join(_SHUTDOWN_S)
        failure, load = self._failure, self._server.load()
        if self._thread.is_alive():
            late = EngineError(f"the application's shutdown has not ended in {_SHUTDOWN_S:.0f} s")
            failure = explain(late, "teardown")
        return Ended(drained, failure, load.written, load.abandoned)

    def cancel(self) -> None:
        """End now: connections are cut, the application's shutdown is not run. The socket is closed soon after."""
        self._cancelled = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._server.abort)
            self._thread.join(_CUT_S)

    def _serve(self) -> None:
        phase, application = "setup", None
        try:
            application = Counted(self._make())
            self._server = Server(application, self._limits, self._tls, self._on_started)
            self._server.run(sockets=[self._listening])
            phase = "teardown"
            if application.error:
                raise _raised(application.error)
        except BaseException as error:
            if isinstance(error, SystemExit) and application and application.error:
                error = _raised(application.error)  # uvicorn's way to say that start-up has failed
            self._failure = explain(error, phase, _libraries())
        finally:
            self._listening.close()
            if not self._started.done():
                self._started.set_result(self._failure)

    def _on_started(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        if self._cancelled:
            self._server.abort()
        self._started.set_result(None)


def _raised(error: BaseException | str) -> BaseException:
    return EngineError(f"the application has failed: {error}") if isinstance(error, str) else error


def _libraries() -> tuple[str, ...]:
    """Return the folders whose frames are between ours and the user's."""
    found = [find_spec(name) for name in ("uvicorn", "fastapi", "starlette")]
    folders = [place for one in found if one for place in one.submodule_search_locations or ()]
    return (*folders, contextlib.__file__, threading.__file__)
