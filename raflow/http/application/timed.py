"""How long the work on a request may take. A pure ASGI middleware."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from raflow.http.application.counts import Counts
from raflow.http.application.deadlines import Deadlines
from raflow.http.application.door import RAISED, logged
from raflow.http.reply import KEY, Reply, refuse, shown_path


class Timed:
    """Answers when time is up, 504, or 408 if the body has not come, and cancels what still works on the request.

    Args:
        app: The application inside.
        timeout_s: From the request to the begin of the reply.
        counts: Of the replica.
    """

    def __init__(self, app: ASGIApp, timeout_s: float, counts: Counts) -> None:
        self.app = app
        self.counts = counts
        self.timeout_s = timeout_s
        self.deadlines = Deadlines(timeout_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to its time; websockets may take any."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        work = _Work(self, scope, receive, send)
        self.deadlines.add(work)
        try:
            await self.app(scope, work.receive, work.send)
        except (*RAISED, asyncio.CancelledError) as error:
            if not work.is_cut:
                raise
            if not isinstance(error, asyncio.CancelledError):
                logged(f"{scope['method']} {shown_path(scope)}, which took too long", error)
        finally:
            self.deadlines.remove(work)
        if work.is_cut:
            await work.over()


class _Work:
    """The work on one request, which is called when its time is up.

    A reply that has begun goes on: what takes its time then may be a client, or a stream. Of that, when its client
    is gone, only a thread is worth giving up: coroutines have been cancelled by then, or clean up.

    A synchronous function cannot be cancelled: nobody waits for it any more, and its thread runs on. Work whose result
    is kept for a request that comes again goes on, too.
    """

    __slots__ = (
        "_cancelled", "_is_gone", "_is_whole", "_receive", "_reply", "_said", "_scope", "_send", "_started", "_task",
        "_timed", "is_cut",
    )  # fmt: skip

    def __init__(self, timed: Timed, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._timed, self._task, self._cancelled = timed, task, 0
        self._scope, self._receive, self._send = scope, receive, send
        self._started = self._is_whole = self._is_gone = False
        self._said: asyncio.Task[None] | None = None
        self._reply: Reply = scope[KEY]
        self._reply.inner_send = send
        self.is_cut = False
        """Whether it has been given up; what it says later is dropped."""

    async def receive(self) -> Message:
        """Return a part of the request."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._reply.awaits_body = message.get("more_body", False)
        elif not self._is_gone and not self._is_whole:
            self._is_gone = True
            if self._started:
                self._timed.deadlines.add(self)
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the reply on."""
        if not self.is_cut:
            self._started = True
            self._is_whole = message["type"] == "http.response.body" and not message.get("more_body", False)
            await self._send(message)

    def __call__(self) -> None:
        """Give the work up; again and again, as its teardown may hang, too."""
        if self._started and not self._is_gone:
            return
        if self._reply.goes_on:
            self._cut()
            return
        self._timed.deadlines.add(self)
        waits = self._reply.waits
        if not self.is_cut and (waits or not self._started):
            self._cut()
        elif self._task in waits.values():
            self._cancel()
        for scope in waits:
            scope.shield = False

    def _cut(self) -> None:
        self.is_cut = True
        self._timed.counts.give_up(self._reply)
        if not self._started:
            status, what = (408, "the body did not come") if self._reply.awaits_body else (504, "there was no reply")
            detail = f"{what} within {self._timed.timeout_s:g} s"
            self._said = asyncio.ensure_future(refuse(self._scope, self._receive, self._send, status, detail))
        if not self._reply.goes_on:
            self._cancel()

    def _cancel(self) -> None:
        self._cancelled += 1
        self._task.cancel()

    async def over(self) -> None:
        """Let the task, whose work has been given up, go on outside of it once its reply is sent."""
        if hasattr(self._task, "uncancel"):  # Python 3.11
            for _ in range(self._cancelled):
                self._task.uncancel()
        if self._said is not None:
            await self._said
