"""The one control loop of a run.

Theory. Everything that happens (a replica is ready, a unit is done, a commit is through, the user wants
to stop) is an event in one inbox; the loop takes one at a time, updates the state, which no other thread
touches, and then gives out work. Who gets it is decided by `scheduler`. Rules:

1. A unit is done when its parts are committed, and not before.
2. A lost replica's units go back to the front of the line, with a new attempt number.
3. The first error ends the run: nothing new starts, what is not committed is discarded.
4. Draining starts nothing new and waits for what is under way; stopping waits for nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import Any

from raflow import units
from raflow.errors import NoCapacity, RaflowError, ReplicaLost, RunFailed
from raflow.metrics import Counts, RunStats, Status
from raflow.plan import Plan
from raflow.runtime.delivery import Delivering
from raflow.runtime.engine import Engine
from raflow.runtime.failure import Failure, restore
from raflow.runtime.ledger import Ledger
from raflow.runtime.pool import Pool
from raflow.runtime.rejects import TooManyErrors
from raflow.runtime.replica import Replica
from raflow.runtime.scheduler import Demand, allocate
from raflow.runtime.stage import StageRun
from raflow.runtime.work import Job, Outcome
from raflow.sinks import SinkContext

_TICK_S = 0.5
_TEARDOWN_S = 30.0
_MANY_FILES = 1000

log = logging.getLogger("raflow")


class Driver(threading.Thread):
    """Runs the stages of one run to their end.

    Args:
        plan: What is run.
        stages: The work, one for each stage of the plan.
        engine: Started.
        ledger: Open.
        context: For sinks.
        launched: When the user asked for the run, on the monotonic clock.
    """

    def __init__(
        self,
        plan: Plan,
        stages: list[StageRun],
        engine: Engine,
        ledger: Ledger,
        context: SinkContext,
        launched: float,
    ) -> None:
        super().__init__(name=f"raflow driver {context.run_id}", daemon=True)
        self.plan = plan
        self.stages = {stage.stage.name: stage for stage in stages}
        self.engine = engine
        self.ledger = ledger
        self.context = context
        self.launched = launched
        self.status = Status.PENDING
        self.error: BaseException | None = None
        self.ended = threading.Event()
        self.inbox: queue.Queue[tuple[Any, ...]] = queue.Queue()
        self.delivering = Delivering(ledger, self.tell)
        for stage in stages:
            stage.delivering = self.delivering
        self.began = time.monotonic()
        self._ticked = 0.0
        self._drain_until: float | None = None
        self._stopped = False
        self._working: float | None = None
        self._over: float | None = None
        self._notes: list[str] = []
        self._stats: RunStats = self._snapshot()

    # -- called from any thread -------------------------------------------------------------------

    def tell(self, *event: Any) -> None:
        """Put an event into the inbox."""
        self.inbox.put(event)

    def stats(self) -> RunStats:
        """Return what was known at the last tick."""
        stats = self._stats
        end = self._over or time.monotonic()
        working = self._working or end
        return replace(stats, elapsed_s=end - working, start_up_s=working - self.launched)

    # -- the loop ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until all is committed, or the run has failed, drained or been stopped."""
        self.status = Status.RUNNING
        self.began = time.monotonic()
        self.delivering.start()
        try:
            self._start_pools()
            while not self._is_over():
                self._take(self._next_event())
                self._dispatch()
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

    def _next_event(self) -> tuple[Any, ...]:
        try:
            return self.inbox.get(timeout=_TICK_S)
        except queue.Empty:
            return ("tick",)

    def _take(self, event: tuple[Any, ...]) -> None:
        getattr(self, f"_on_{event[0]}")(*event[1:])
        if time.monotonic() - self._ticked > _TICK_S:
            self._on_tick()

    def _is_over(self) -> bool:
        if self.error is not None or self._stopped:
            return True
        if self._drain_until is not None:
            return all(stage.is_idle for stage in self.stages.values()) or time.monotonic() > self._drain_until
        return all(stage.is_done for stage in self.stages.values())

    # -- events -----------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        self._ticked = time.monotonic()
        for stage in self.stages.values():
            if stage.pool:
                stage.pool.ask_counts()
            self._check_errors(stage)
        self._check_started()
        self._stats = self._snapshot()

    def _on_counts(self, name: str, index: int, done: Future[Any]) -> None:
        member = self._pool(name).members.get(index)
        if member:
            member.asked = False
            if done.exception() is None:
                member.counts = done.result()

    def _on_replica_ready(self, name: str, index: int, done: Future[Failure | None]) -> None:
        pool = self._pool(name)
        if index not in pool.members:
            return
        error = done.exception()
        if isinstance(error, ReplicaLost):
            self.stages[name].lose(index, error)
        elif error is not None:
            raise error
        elif failure := done.result():
            self._fail_by(failure, name, index)
        else:
            pool.members[index].ready = True
            self.stages[name].ready()
            self._working = self._working or time.monotonic()
            self._stats = self._snapshot()

    def _on_unit_done(self, name: str, index: int, unit: int, done: Future[Outcome]) -> None:
        stage, member = self.stages[name], self._pool(name).members.get(index)
        if member is None:
            return
        error = done.exception()
        if isinstance(error, ReplicaLost):
            self.stages[name].lose(index, error)
            return
        member.units.remove(unit)
        member.counts = Counts()
        if error is not None:
            raise error
        outcome = done.result()
        if outcome.failure:
            self._fail_by(outcome.failure, name, index, unit)
            return
        self._note_many_files(stage, outcome)
        stage.take(unit, outcome)

    def _on_committed(self, name: str, unit: int, error: Exception | None) -> None:
        stage = self.stages[name]
        if error is not None:
            stage.committing.discard(unit)
            raise error
        stage.committed(unit)
        self._check_errors(stage)
        if stage.is_done:
            self._finish_stage(stage)

    def _on_broken(self, error: Exception) -> None:
        raise error

    def _on_drain(self, timeout_s: float | None) -> None:
        if self._drain_until is None:
            log.info("run %s drains: no new work is started", self.context.run_id)
            self._drain_until = time.monotonic() + (
                self.plan.options.drain_timeout_s if timeout_s is None else timeout_s
            )

    def _on_stop(self) -> None:
        self._stopped = True

    # -- what follows from them -------------------------------------------------------------------

    def _start_pools(self) -> None:
        capacity = self.engine.capacity()
        for stage in self.stages.values():
            if stage.is_done:
                self._finish_stage(stage)
                continue
            fits, needs = capacity.fits(stage.stage.options.needs()), stage.stage.options.needs()
            if fits == 0 and not capacity.grows:
                raise NoCapacity(_no_capacity(stage.stage.name, needs, self.engine.available()))
            job = Job(
                stage.stage,
                stage.columns,
                SinkContext(self.context.run_id),
                self.plan.options.log_level,
                stage.limit,
            )
            packed = self.engine.pack(Replica, job)
            stage.pool = Pool(stage.stage.name, self.engine, packed, stage.stage.options, self.tell)
        self._grow()

    def _grow(self) -> None:
        """Give each stage its share of the engine; again when a stage has ended."""
        capacity = self.engine.capacity()
        stages = [stage for stage in self.stages.values() if stage.pool and not stage.is_done]
        demands = [
            Demand(
                max(capacity.fits(stage.stage.options.needs()), 1),
                stage.stage.options.num_replicas,
                len(stage.splits) - len(stage.done),
            )
            for stage in stages
        ]
        for stage, size in zip(stages, allocate(demands), strict=True):
            if stage.pool:
                stage.pool.grow(size)

    def _dispatch(self) -> None:
        if self._drain_until is not None or self.error is not None:
            return
        for stage in self.stages.values():
            while given := stage.next():
                index, unit = given
                self._pool(stage.stage.name).send(index, unit, stage.order(unit))

    def _check_errors(self, stage: StageRun) -> None:
        bound, counts = stage.stage.options.max_errors, stage.counts()
        failed = counts.skipped + counts.dead_letters
        if bound is not None and failed > bound:
            msg = f"{failed} records of {stage.stage.name!r} failed, max_errors is {bound}"
            raise TooManyErrors(msg)

    def _check_started(self) -> None:
        """End the run if not even one replica could be placed."""
        waited = time.monotonic() - self.began
        for name, stage in self.stages.items():
            pool = stage.pool
            if (
                pool
                and pool.members
                and not pool.ready
                and not stage.replicas_lost
                and waited > stage.stage.options.start_timeout_s
            ):
                free = self.engine.available()
                needs = stage.stage.options.needs()
                if any(free.get(key, 0.0) < amount for key, amount in needs.items()):
                    raise NoCapacity(_no_capacity(name, needs, free, waited))

    def _finish_stage(self, stage: StageRun) -> None:
        stage.status = Status.SUCCEEDED
        self._teardown(stage)
        self._grow()

    def _teardown(self, stage: StageRun) -> None:
        pool, stage.pool = stage.pool, None
        stage.ended = time.monotonic()
        if pool is None:
            return
        stage.most_replicas = max(stage.most_replicas, len(pool.ready))
        answers = pool.teardown()
        wait(answers, timeout=_TEARDOWN_S)
        failures = [one.result() for one in answers if one.done() and one.exception() is None]
        late = sum(not one.done() for one in answers)
        pool.kill()
        for failure in filter(None, failures):
            self._fail_by(failure, stage.stage.name, None)
        if late:
            self._notes.append(f"teardown of {late} replicas of {stage.stage.name} did not end in {_TEARDOWN_S:.0f} s")

    # -- the end ----------------------------------------------------------------------------------

    def _end(self) -> None:
        """Leave nothing behind: no replica, no staged file; then write the last line of the ledger."""
        for stage in self.stages.values():
            if self.error is None and not self._stopped and stage.is_idle:
                self._teardown(stage)
            elif stage.pool:
                stage.pool.kill()
        self.delivering.finish()
        self._take_last_commits()
        if self.error is None and all(stage.is_done for stage in self.stages.values()):
            self._finish_sinks()
        else:
            self._sweep()
        done = all(stage.is_done for stage in self.stages.values())
        self.status = Status.FAILED if self.error else Status.SUCCEEDED if done else Status.CANCELLED
        for stage in self.stages.values():
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
                    self.stages[name].committed(unit)
                else:
                    self._fail(error)

    def _finish_sinks(self) -> None:
        for stage in self.stages.values():
            for sink, started in zip(stage.stage.all_sinks, stage.started, strict=True):
                try:
                    sink.finish(self.context, started)
                except RaflowError as error:
                    self._fail(error)

    def _sweep(self) -> None:
        """Remove what units that did not get done have staged."""
        for stage in self.stages.values():
            for sink in stage.stage.all_sinks:
                try:
                    sink.resume(self.context)
                except RaflowError as error:
                    self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error

    def _fail_by(self, failure: Failure, name: str, index: int | None, unit: int | None = None) -> None:
        """End the run with a failure that a replica has told."""
        error = restore(failure)
        replica = None if index is None else f"{name}[{index}]"
        split = None if unit is None else self.stages[name].splits[unit].name
        text = f"{type(error).__name__}: {error}" if not isinstance(error, RaflowError) else str(error)
        failed = RunFailed(
            f"processor {name!r} failed in {failure.where}: {text}",
            processor=name, replica=replica, split=split, traceback=failure.traceback,
        )  # fmt: skip
        failed.__cause__ = error
        self._fail(failed)

    def _note_many_files(self, stage: StageRun, outcome: Outcome) -> None:
        files = sum(len(group) for group in outcome.parts)
        total = files * len(stage.splits)
        text = f"{stage.stage.name} writes about {total:,} files: {files} per split; partition by fewer values"
        if (
            files > 1
            and total > _MANY_FILES
            and not any(note.startswith(f"{stage.stage.name} writes") for note in self._notes)
        ):
            log.warning(text)
            self._notes.append(text)

    def _pool(self, name: str) -> Pool:
        pool = self.stages[name].pool
        return pool if pool is not None else Pool(name, self.engine, None, self.stages[name].stage.options, self.tell)

    def _snapshot(self) -> RunStats:
        stages = list(self.stages.values())
        dry = any(stage.limit for stage in stages)
        return RunStats(
            run_id=self.context.run_id,
            flow_id=self.plan.flow_id,
            engine=self.engine.name,
            status=self.status,
            elapsed_s=0.0,
            start_up_s=0.0,
            stages=tuple(stage.stats() for stage in stages),
            outputs=() if dry else tuple(str(sink) for stage in stages for sink in stage.stage.all_sinks),
            notes=(*self._notes, *(["dry run: nothing was written"] if dry else _local_note(self.engine.name, stages))),
        )


def _local_note(engine: str, stages: Iterable[StageRun]) -> list[str]:
    slow = [stage.stage.name for stage in stages if stage.stage.shape.per_record and stage.most_replicas > 1]
    if engine != "local" or not slow:
        return []
    return [f"replicas of {', '.join(slow)} share one interpreter: Python record functions run faster on engine='ray'"]


def _no_capacity(name: str, needs: dict[str, float], free: dict[str, float], waited_s: float = 0.0) -> str:
    def shown(amounts: dict[str, float]) -> str:
        told = {key: units.size(amount) if key == "memory" else f"{amount:g}" for key, amount in amounts.items()}
        return ", ".join(f"{key} {text}" for key, text in sorted(told.items())) or "nothing"

    after = f" after {waited_s:.0f} s" if waited_s else ""
    return (
        f"no replica of {name!r} could be placed{after}: one needs {shown(needs)}; available: {shown(free)}. "
        "Ask for less (num_cpus, num_gpus, resources), or grow the cluster"
    )
