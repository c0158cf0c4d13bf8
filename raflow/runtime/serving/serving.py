"""The control loop of the HTTP side of a run: keeps replicas answering, as many as the load needs."""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from raflow.errors import EngineError, RaflowError, RunFailed
from raflow.metrics import HttpStats, Resized, Status
from raflow.runtime.engine import Engine, Handover, Listener
from raflow.runtime.failure import Failure, run_failed
from raflow.runtime.serving.address import Address
from raflow.runtime.serving.backoff import Backoff
from raflow.runtime.serving.counting import Application, Load
from raflow.runtime.serving.options import ServingOptions
from raflow.runtime.serving.pool import HttpPool, Member
from raflow.runtime.serving.replica import Ended
from raflow.runtime.serving.scaling import Look, Past, decide
from raflow.runtime.serving.tally import Tally

_TICK_S = 0.25
_SPREAD_S = 10.0
"""After a replica has come, connections move to it."""
_LATE_S = 60.0
"""Beyond the deadline of a drain: for the application's own shutdown, and for the answer to come."""
_MAX_FAILURES = 3
_DECISIONS = 1000

log = logging.getLogger("raflow")


class Serving:
    """Answers at one address, from `start` to `drain` or `stop`.

    Args:
        name: Of the pool, for logs and errors.
        engine: Started.
        make: Returns the ASGI application; called in each replica.
        address: Where to answer.
        options: Of the pool.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        make: Callable[[], Application],
        address: Address,
        options: ServingOptions,
    ) -> None:
        self.name = name
        self.status = Status.PENDING
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self._engine = engine
        self._make = make
        self._asked = address
        self._options = options
        self._inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()  # signal handlers may put
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"raflow serving {name}", daemon=True)
        self._listener: Listener
        self._pool: HttpPool
        self._size = self._options.scaling.min_replicas
        self._past = Past()
        self._resized: deque[Resized] = deque(maxlen=_DECISIONS)
        self._began = 0.0
        self._ticked = 0.0
        self._spread_until = 0.0
        self._backoff = Backoff()
        self._gone = Tally()
        self._draining = self._stopped = False
        self._stats: HttpStats

    # -- called from any thread -------------------------------------------------------------------

    @property
    def address(self) -> Address:
        """Where it answers, with the real port; there is one after `start`."""
        return self._listener.address

    def start(self) -> None:
        """Begin to listen, and to start replicas; returns at once.

        Raises:
            CannotListen: The address is in use, or cannot be had.
            NotPicklable: The application cannot travel.
        """
        self._pool = HttpPool(self.name, self._engine, self._make, self._options, self.tell)
        self._listener = self._engine.listen(self._asked)
        atexit.register(self.stop)  # the engine's own end comes later
        self._stats = self._snapshot()
        self._thread.start()

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Wait until `min_replicas` answer.

        Raises:
            TimeoutError: They do not yet.
            RaflowError: Why they never will.
        """
        if not self._ready.wait(timeout_s):
            msg = f"{self.name} does not answer at {self.address} after {timeout_s} s"
            raise TimeoutError(msg)
        if self.error is not None:
            raise self.error

    def drain(self, timeout_s: float | None = None) -> None:
        """Stop accepting, answer what has come, and end; waits for it.

        Args:
            timeout_s: For requests to end; None: the pool's `drain_timeout_s`.

        Raises:
            RaflowError: Why it has failed.
        """
        self.tell("drain", timeout_s)
        self.wait()

    def scale(self, size: int) -> None:
        """Have so many replicas, within the pool's bounds; the autoscaler goes on from there."""
        self.tell("scale", size)

    def stop(self) -> None:
        """End now: requests are cut, the application's shutdown is not run. Ending it again is harmless."""
        if self._thread.is_alive():
            self.tell("stop")
            self.ended.wait()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the end.

        Raises:
            TimeoutError: It has not come yet.
            RaflowError: Why it has failed.
        """
        if not self.ended.wait(timeout_s):
            msg = f"{self.name} still answers at {self.address}"
            raise TimeoutError(msg)
        if self.error is not None:
            raise self.error

    def stats(self) -> HttpStats:
        """Return what was known at the last event; replicas tell of their requests four times in a second."""
        return self._stats

    def tell(self, *event: Any) -> None:
        """Put an event into the inbox: `("drain", timeout_s)`, `("stop",)`, `("scale", size)`."""
        self._inbox.put(event)

    # -- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        self.status, self._began = Status.RUNNING, time.monotonic()
        try:
            while not (self._stopped or (self._draining and not self._pool.members)):
                self._fill()
                self._take(self._next_event())
        except BaseException as error:  # it reaches the user through `wait`
            self.error = error
        self._pool.kill()
        self._listener.close()
        self.status = Status.FAILED if self.error else Status.CANCELLED if self._stopped else Status.SUCCEEDED
        self._stats = self._snapshot()
        self.ended.set()
        self._ready.set()
        atexit.unregister(self.stop)

    def _next_event(self) -> tuple[Any, ...]:
        try:
            return self._inbox.get(timeout=_TICK_S)
        except queue.Empty:
            return ("tick",)

    def _take(self, event: tuple[Any, ...]) -> None:
        kind, *values = event
        getattr(self, f"_on_{kind}")(*values)
        if time.monotonic() - self._ticked > _TICK_S:
            self._on_tick()
        self._stats = self._snapshot()

    def _fill(self) -> None:
        """Start what is missing, unless replicas have just died one after the other."""
        while not self._draining and self._pool.size < self._size and self._backoff.is_over:
            self._pool.start(self._listener)

    # -- events -----------------------------------------------------------------------------------

    def _on_handed(self, index: int, done: Future[Handover]) -> None:
        if index not in self._pool.members:
            return
        if done.exception() is None:
            self._pool.setup(index, done.result())
        else:
            self._fail(index, done.exception())

    def _on_set_up(self, index: int, done: Future[Failure | None]) -> None:
        member = self._pool.members.get(index)
        if member is None:
            return
        if done.exception() is not None:
            self._fail(index, done.exception())
            return
        failure = done.result()
        if failure is not None:
            self._fail(index, run_failed(failure, self.name, index))
            return
        member.ready = member.looked = time.monotonic()
        self._backoff.came_up()
        self._spread_until = member.ready + _SPREAD_S
        if len(self._pool.serving) >= self._options.scaling.min_replicas and not self._ready.is_set():
            log.info("%s answers at %s", self.name, self.address)
            self._ready.set()

    def _on_counted(self, index: int, done: Future[Load]) -> None:
        member = self._pool.members.get(index)
        if member is None:
            return
        error = done.exception()
        if error is None:
            member.look(done.result())
        elif not member.leaving:
            self._lose(member, str(error))

    def _on_drained(self, index: int, done: Future[Ended]) -> None:
        member = self._pool.members.get(index)
        if member is None:
            return
        if done.exception() is not None:
            self._lose(member, str(done.exception()))
            return
        ended = done.result()
        if member.worn:
            self._pool.remove(index)  # another one is to come to its host
        else:
            self._pool.release(index, worn=ended.worn)
        self._gone.drained(ended)
        if ended.drained.cut:
            log.warning("%s[%d] left %d requests unanswered at its deadline", self.name, index, ended.drained.cut)
        if ended.failure:
            error = run_failed(ended.failure, self.name, index)
            if self._draining:
                self.error = self.error or error
            else:
                log.warning("%s", error)  # the others answer on

    def _on_drain(self, timeout_s: float | None) -> None:
        if not self._draining:
            log.info("%s drains: it takes no more connections", self.name)
            self._draining, self._size = True, 0
            self._listener.close()
            self._pool.shrink(0, self._listener, self._options.drain_timeout_s if timeout_s is None else timeout_s)

    def _on_scale(self, size: int) -> None:
        scaling = self._options.scaling
        if not self._draining:
            self._resize(min(max(size, scaling.min_replicas), scaling.max_replicas), "asked for")

    def _on_stop(self) -> None:
        self._stopped = True

    def _on_tick(self) -> None:
        now = self._ticked = time.monotonic()
        for member in list(self._pool.members.values()):
            self._check(member, now)
        self._autoscale(now)
        if now < self._spread_until and not self._draining:
            self._pool.spread()
        self._pool.ask()

    # -- what follows from them -------------------------------------------------------------------

    def _check(self, member: Member, now: float) -> None:
        """Replace a replica that takes too long for anything."""
        options = self._options
        if not member.ready and now - member.began > options.start_timeout_s:
            waited = f"{member.handle.name} has not started in {options.start_timeout_s:.0f} s"
            free = ", ".join(f"{key} {amount:g}" for key, amount in self._engine.available().items())
            self._fail(member.index, EngineError(f"{waited}; it needs {options.needs.needs()}, available: {free}"))
        elif member.leaving and now > member.leaving + _LATE_S:
            self._lose(member, f"{member.handle.name} has not drained in time")
        elif member.serves and max(member.load.lag_s, now - (member.asked or now)) > options.hung_after_s:
            self._lose(member, f"{member.handle.name}: something blocks its event loop")
        elif member.serves and not member.worn and member.load.abandoned >= options.max_abandoned_calls:
            self._recycle(member)

    def _fail(self, index: int, error: BaseException | None) -> None:
        """Take note that a replica has not come up.

        Raises:
            RaflowError: The application has failed before it has ever answered, or nothing answers any more.
        """
        assert error is not None
        self._pool.remove(index)
        self._backoff.failed()
        failures = self._backoff.failures
        if not isinstance(error, RaflowError) or (isinstance(error, RunFailed) and not self._ready.is_set()):
            raise error
        if not self._pool.serving and failures >= _MAX_FAILURES:
            msg = f"{failures} replicas of {self.name!r} did not come up, one after the other; the last: {error}"
            raise RunFailed(msg, processor=self.name, replica=f"{self.name}[{index}]") from error
        log.warning("%s; another replica is tried", error)

    def _lose(self, member: Member, why: str) -> None:
        """Forget a replica that has died; `_fill` starts another one, unless it was to leave anyway.

        One that dies while it leaves has not written what its collectors have accepted. When all leave, nobody looks
        at the log any more, and no other replica answers on: then the run has failed.
        """
        self._pool.remove(member.index)
        self._gone.died(member.load)
        self._backoff.died(is_missed=not member.leaving)
        if not member.leaving:
            log.warning("%s; another replica takes its place", why)
            return
        msg = f"{why}; it was about to leave, and may have lost records that it had accepted and not written"
        log.warning("%s", msg)
        if self._draining:
            self.error = self.error or RunFailed(msg, processor=self.name, replica=member.handle.name)

    def _recycle(self, member: Member) -> None:
        """Let a replica leave whose threads are held by calls that do not return; `_fill` starts another one.

        One at a time: what makes calls hang tends to do so in all replicas.
        """
        said = f"{member.handle.name}: {member.load.abandoned} synchronous calls that were given up have not returned"
        if self._engine.capacity().shared:
            member.worn = True
            log.warning(
                "%s; on the local engine they hold their threads until this process ends, "
                "on engine='ray' the replica would be replaced", said
            )  # fmt: skip
        elif len(self._pool.serving) == len(self._pool.members) == self._size:
            member.worn = True
            log.warning("%s; it drains, and another replica takes its place", said)
            self._pool.leave(member, self._options.drain_timeout_s)

    def _autoscale(self, now: float) -> None:
        if self._draining:
            return
        ongoing = tuple(one.ongoing for one in self._pool.serving if one.looked > one.ready)
        look = Look(now, self._size, ongoing, stuck=self._backoff.failures >= _MAX_FAILURES)
        decision, self._past = decide(look, self._options.scaling, self._past)
        if decision is not None:
            self._resize(decision.target, decision.reason)

    def _resize(self, size: int, reason: str) -> None:
        if size != self._size:
            log.info("%s %d → %d: %s", self.name, self._size, size, reason)
            self._resized.append(Resized(time.monotonic() - self._began, self.name, self._size, size, reason))
            self._size = size
            self._pool.shrink(size, self._listener, self._options.drain_timeout_s)

    def _snapshot(self) -> HttpStats:
        scaling = self._options.scaling
        return self._gone.stats(
            self._pool.members.values(),
            url=self._listener.address.url(secure=self._options.tls is not None),
            status=self.status,
            min_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            resized=tuple(self._resized),
        )
