"""The one control loop of a run.

Theory. Everything that happens (a replica is ready, a unit is done, a commit is through, the user wants
to stop) is an event in one inbox; the loop takes one at a time, updates the state, which no other thread
touches, and then gives out work. Who gets it is decided by `dispatch` and `scheduler`. Rules:

1. A unit passes through stages; it is done when its parts are committed, and not before.
2. What a lost replica held goes back to the front of the line, with a new attempt number.
3. The first error ends the run: nothing new starts, what is not committed is discarded.
4. Draining starts nothing new and waits for what is under way; stopping waits for nothing.
5. Only references and numbers come here; records stay with the replicas.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from raflow.errors import RaflowError, RunFailed
from raflow.metrics import RunStats, Status
from raflow.runtime.course import Course
from raflow.runtime.delivery import Delivering
from raflow.runtime.engine import Engine
from raflow.runtime.exchanges import Exchanges
from raflow.runtime.intake import Intake
from raflow.runtime.ledger import Ledger
from raflow.runtime.owner import BEAT_S
from raflow.runtime.pools import Pools
from raflow.runtime.reports import Reports
from raflow.runtime.stage import StageRun
from raflow.runtime.state import RunState
from raflow.sinks import SinkContext

_TICK_S = 0.5

log = logging.getLogger("raflow")


class Driver(threading.Thread):
    """Runs the stages of one run to their end.

    Args:
        work: What there is to do.
        engine: Started.
        ledger: Open.
        context: For sinks.
        launched: When the user asked for the run, on the monotonic clock.
        at_end: Called once, when no replica is left.
    """

    def __init__(
        self,
        work: Intake,
        engine: Engine,
        ledger: Ledger,
        context: SinkContext,
        launched: float,
        at_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(name=f"raflow driver {context.run_id}", daemon=True)
        self.work = work
        self.plan = work.plan
        self.engine = engine
        self.ledger = ledger
        self.context = context
        self.launched = launched
        self.at_end = at_end
        self.status = Status.PENDING
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.inbox: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()  # signal handlers may put
        self.delivering = Delivering(ledger, self.tell)
        work.agreed.delivering = self.delivering
        for entry in work.entries.values():
            entry.delivering = self.delivering
        self.state = RunState(work, engine, context.run_id, self.tell)
        self.pools = Pools(self.state)
        self.exchanges = Exchanges(self.state, self.pools, self.delivering)
        self.course = Course(self.state, self.pools, self.exchanges)
        self.reports = Reports(self.state, self.pools, self.course, self.exchanges)
        self._ticked = 0.0
        self._drain_until: float | None = None
        self._stopped = False
        self._held = False
        self._over: float | None = None
        self._stats = self._snapshot()

    # -- called from any thread -------------------------------------------------------------------

    def tell(self, *event: Any) -> None:
        """Put an event into the inbox."""
        self.inbox.put(event)

    def stats(self) -> RunStats:
        """Return what was known at the last tick."""
        stats = self._stats
        end = self._over or time.monotonic()
        working = self.reports.working or end
        resized = tuple(replace(one, at_s=max(one.at_s - working, 0.0)) for one in stats.resized)
        return replace(stats, elapsed_s=end - working, start_up_s=working - self.launched, resized=resized)

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until all is committed, or the run has failed, drained or been stopped."""
        self.status = Status.RUNNING
        self.pools.began = time.monotonic()
        self.delivering.start()
        threading.Thread(target=self._stay_alive, name="raflow alive", daemon=True).start()
        try:
            self._start()
            while not self._is_over():
                self._take(self._next_event())
                if self.error is None:
                    self.state.dispatch.all(new=self._drain_until is None and not self._held)
        except BaseException as error:  # it reaches the user through `Run`
            self._fail(error)
        try:
            self._end()
        except BaseException as error:  # so does this one
            self._fail(error)
            self.status = Status.FAILED
        finally:
            self._over = time.monotonic()
            self._stats = self._snapshot()
            self.ended.set()

    def _start(self) -> None:
        self.pools.start()
        self.exchanges.open()
        self.pools.resize()

    def _stay_alive(self) -> None:
        # Not from a tick: the ledger may be slow, and there are no ticks while a run ends.
        while not self.ended.wait(BEAT_S):
            self.ledger.beat()

    def _next_event(self) -> tuple[Any, ...]:
        try:
            return self.inbox.get(timeout=_TICK_S)
        except queue.Empty:
            return ("tick",)

    def _take(self, event: tuple[Any, ...]) -> None:
        kind, *values = event
        if hasattr(self.reports, kind):
            getattr(self.reports, kind)(*values)
        else:
            getattr(self, f"_on_{kind}")(*values)
        if kind == "replica_ready":
            self._stats = self._snapshot()
        if time.monotonic() - self._ticked > _TICK_S:
            self._on_tick()

    def _is_over(self) -> bool:
        if self.error is not None or self._stopped:
            return True
        if self._drain_until is not None:
            return all(entry.is_idle for entry in self.state.entries.values()) or time.monotonic() > self._drain_until
        return all(entry.is_done for entry in self.state.entries.values())

    # -- events that no replica reports -----------------------------------------------------------

    def _on_tick(self) -> None:
        self._ticked = time.monotonic()
        for stage in self.state.stages.values():
            stage.pool.ask_counts()
            stage.aim()
            self.pools.check_errors(stage)
        self.pools.check_started()
        self.pools.resize()
        self._stats = self._snapshot()

    def _on_committed(self, name: str, unit: int, error: Exception | None) -> None:
        entry = self.state.entries[name]
        if error is not None:
            entry.committing.discard(unit)
            raise error
        entry.committed(unit)
        if unit in entry.done:
            self.state.count(entry, unit)
        self.course.unit_done(entry)

    def _on_broken(self, error: Exception) -> None:
        raise error

    def _on_drain(self, timeout_s: float | None) -> None:
        if self._drain_until is None:
            log.info("run %s drains: no new work is started", self.context.run_id)
            self.pools.draining = True
            for entry in self.state.entries.values():
                for passage in [one for one in entry.running.values() if one.only_waits]:
                    self.state.again(passage)
            self._drain_until = time.monotonic() + (
                self.plan.options.drain_timeout_s if timeout_s is None else timeout_s
            )

    def _on_hold(self, held: bool) -> None:
        self._held = held

    def _on_stop(self) -> None:
        self._stopped = True

    # -- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Leave nothing behind: no replica, no staged file; then write the last line of the ledger."""
        for stage in self.state.stages.values():
            idle = all(entry.is_idle for entry in stage.through)
            try:
                if self.error is None and not self._stopped and idle:
                    self.pools.teardown(stage)
            except RunFailed as error:
                self._fail(error)
        if self.error is not None:
            self.pools.give_up()
        for stage in self.state.stages.values():
            stage.pool.kill()
        self.delivering.finish()
        self._take_last_commits()
        try:
            if self.at_end:
                self.at_end()
        except Exception as error:  # it reaches the user through `Run`
            self._fail(error)
        done = all(entry.is_done for entry in self.state.entries.values())
        if self.error is None and done:
            self._finish_sinks()
        else:
            self._sweep()
        self.status = Status.FAILED if self.error else Status.SUCCEEDED if done else Status.CANCELLED
        for stage in self.state.stages.values():
            stage.status = Status.SUCCEEDED if stage.is_done else self.status
        self.ledger.end(self.status)
        self.engine.close()

    def _take_last_commits(self) -> None:
        """Count what was published while the run was ending."""
        while not self.inbox.empty():
            kind, *values = self.inbox.get()
            if kind == "committed":
                name, unit, error = values
                if error is None:
                    self.state.entries[name].committed(unit)
                    self.state.count(self.state.entries[name], unit)
                else:
                    self._fail(error)

    def _finish_sinks(self) -> None:
        for op in self.plan.ops():
            for sink, started in zip(op.all_sinks, self.work.records[op.name].started, strict=True):
                try:
                    sink.finish(self.context, started)
                except RaflowError as error:
                    self._fail(error)

    def _sweep(self) -> None:
        """Remove what units that did not get done have staged."""
        for op in self.plan.ops():
            for sink in op.all_sinks:
                try:
                    sink.give_up(self.context)
                except RaflowError as error:
                    self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error

    def _snapshot(self) -> RunStats:
        stages = list(self.state.stages.values())
        dry = self.work.limit is not None
        return RunStats(
            run_id=self.context.run_id,
            flow_id=self.plan.flow_id,
            engine=self.engine.name,
            status=self.status,
            elapsed_s=0.0,
            start_up_s=0.0,
            stages=tuple(stage.stats() for stage in stages),
            outputs=() if dry else tuple(str(sink) for stage in stages for sink in stage.stage.all_sinks),
            resized=tuple(self.pools.resized),
            resumable=not dry,
            notes=(
                *self.state.notes,
                *(["dry run: nothing was written"] if dry else _local_note(self.engine.name, stages)),
            ),
        )


def _local_note(engine: str, stages: Iterable[StageRun]) -> list[str]:
    slow = [stage.stage.name for stage in stages if stage.stage.runs_python and stage.most_replicas > 1]
    if engine != "local" or not slow:
        return []
    return [f"replicas of {', '.join(slow)} share one interpreter: Python record functions run faster on engine='ray'"]
