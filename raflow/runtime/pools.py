"""The pools of all stages: how large they are, what happens when a replica is lost, and how they end."""

from __future__ import annotations

import logging
import time
from collections import deque
from concurrent.futures import wait

from raflow import units
from raflow.errors import NoCapacity, ReplicaLost, RunFailed, TooManyErrors
from raflow.metrics import Resized, Status
from raflow.runtime.failure import run_failed
from raflow.runtime.passage import Passage
from raflow.runtime.pool import Member
from raflow.runtime.scaling.allocation import fits, used
from raflow.runtime.scaling.autoscaler import decide
from raflow.runtime.scaling.look import Snapshots, room
from raflow.runtime.scaling.values import Decision, Memory, Shortage, Snapshot
from raflow.runtime.shuffle import Given
from raflow.runtime.stage import StageRun
from raflow.runtime.state import RunState

SETUP = "set-up"
"""Stands for a unit where a replica was lost before it had one."""
CUT = "the cut of a sort"
"""Stands for a unit where a replica was lost while it cut results."""
_TEARDOWN_S = 30.0
_GIVE_UP_S = 5.0
"""So long the user may have to wait for the error of a run."""
_MAX_LOSSES = 3
_DECISIONS = 1000
_SLOW_START = 5

log = logging.getLogger("raflow")


class Pools:
    """Starts, replaces and ends replicas. Used by the driver's thread only."""

    def __init__(self, state: RunState) -> None:
        self._state = state
        self._snapshots = Snapshots(state.stages.values(), state.dispatch, state.shuffles)
        self._memory = Memory()
        self.resized: deque[Resized] = deque(maxlen=_DECISIONS)
        """What the autoscaler has decided, the last ones; times are on the monotonic clock."""
        self._without: dict[str, float] = {}
        """By stage that waits for its first replica: since when."""
        self.began = time.monotonic()
        self.draining = False
        """Whether nothing new is started."""

    def start(self) -> None:
        """Make user code ready to travel; replicas start with `resize`.

        Raises:
            NoCapacity: A stage can never be placed.
            NotPicklable: User code cannot travel.
        """
        capacity = self._state.engine.capacity()
        self._state.dispatch.allow(capacity.store_bytes)
        for name, stage in self._state.stages.items():
            needs = stage.stage.options.needs()
            if not stage.is_done and not capacity.grows and not fits(needs, capacity.resources):
                raise NoCapacity(_no_capacity(name, needs, self._state.engine.available()))
        for stage in self._state.stages.values():
            if not stage.is_done:
                stage.pool.pack()
        self.finish()

    def resize(self) -> None:
        """Let the autoscaler decide on the sizes of all pools, and do what it says.

        Raises:
            NoCapacity: A stage whose results others wait for can never be placed.
        """
        if self.draining:
            self._let_end()
            return
        capacity = self._state.engine.capacity()
        snapshot = self._snapshots.take(time.monotonic(), capacity.resources, can_grow=capacity.grows)
        decisions, self._memory = decide(room(snapshot, capacity), self._memory)
        for shortage in decisions.shortages:
            self._check_shortage(shortage, snapshot)
        for change in decisions.changes:
            pool = self._state.stages[change.pool].pool
            (pool.grow if change.target > change.size else pool.shrink)(change.target)
            self._note(change)
        if decisions.demand is not None:
            self._state.engine.ask([needs for needs, size in decisions.demand.bundles for _ in range(size)])
        self.release()

    def _let_end(self) -> None:
        """Have what is under way come to its end: blocks in line before a stage need a replica of it."""
        for stage in self._state.stages.values():
            if stage.line and not stage.pool.members:
                stage.pool.grow(1)
        self.release()

    def release(self) -> None:
        """End replicas that leave and are done; one that takes too long is ended with what it holds."""
        drain_s = self._state.plan.options.drain_timeout_s
        for stage in self._state.stages.values():
            for member in [one for one in stage.pool.members.values() if one.leaving]:
                if member.is_late(time.monotonic(), drain_s):
                    self._drop(stage, member)
                elif member.ready and member.is_empty and not member.torn:
                    member.torn = True
                    stage.pool.call(member.index, "teardown", "torn")

    def _drop(self, stage: StageRun, member: Member) -> None:
        stage.pool.remove(member.index)
        for one in self._held(member):
            self._state.again(one)

    def _held(self, member: Member) -> list[Passage]:
        """Return the attempts of which a replica holds a part."""
        passages = [one if isinstance(one, Passage) else getattr(one, "passage", None) for one in member.units]
        holds = [
            one
            for entry in self._state.entries.values()
            for one in entry.running.values()
            if one.key in member.holds or one.key in member.due
        ]
        return list(dict.fromkeys(one for one in [*passages, *holds] if one is not None and not one.stale))

    def _check_shortage(self, shortage: Shortage, snapshot: Snapshot) -> None:
        """End the run if a stage cannot have even one replica and others wait for it; else it waits its turn."""
        joined = {name for pool in snapshot.pools if pool.consumers for name in (pool.name, *pool.consumers)}
        if not shortage.fits and shortage.pool in joined:
            raise NoCapacity(shortage.message)

    def _note(self, change: Decision) -> None:
        log.log(logging.INFO if change.size and change.target else logging.DEBUG, "%s", change)
        self.resized.append(Resized(time.monotonic(), change.pool, change.size, change.target, change.reason))

    def lose(self, stage: StageRun, index: int, error: ReplicaLost) -> None:
        """Replace a lost replica; what it held goes back to the front of the line.

        Raises:
            RunFailed: The same unit, or set-up, has cost several replicas.
        """
        size = stage.pool.size
        member = stage.pool.remove(index)
        stage.replicas_lost += 1
        held = self._held(member)
        suspects = [one for one in held if any(one in (unit, getattr(unit, "passage", None)) for unit in member.units)]
        for one in reversed(held):
            self._state.again(one)
        is_cutting = any(isinstance(unit, Given) for unit in member.units)
        self._count_loss(stage, index, suspects, error, is_cutting=is_cutting)
        log.warning("%s; a new one does its work again", error)
        if not member.leaving:
            stage.pool.grow(size)

    def _count_loss(
        self, stage: StageRun, index: int, suspects: list[Passage], error: ReplicaLost, *, is_cutting: bool
    ) -> None:
        name = stage.stage.name
        for one in suspects:
            losses = self._state.entries[one.order.entry].losses
            losses[one.order.unit] = losses.get(one.order.unit, 0) + 1
        if suspects:
            worst = max(suspects, key=lambda one: self._state.entries[one.order.entry].losses[one.order.unit])
            what, count = worst.order.split.name, self._state.entries[worst.order.entry].losses[worst.order.unit]
        else:
            during = CUT if is_cutting else SETUP
            stage.losses[during] += 1
            what, count = during, stage.losses[during]
        # Of several suspects each may be innocent, but not again and again.
        if count >= _MAX_LOSSES * (1 if len(suspects) <= 1 else 2):
            msg = f"{count} replicas of {name!r} died in {what}; the last: {error}"
            raise RunFailed(msg, processor=name, replica=f"{name}[{index}]", split=what) from error

    def check_errors(self, stage: StageRun) -> None:
        """End the run when more records of a processor have failed than `max_errors` allows.

        Raises:
            TooManyErrors: They have.
        """
        code = [op for op in stage.stage.ops if op.shape]
        counts = stage.counts()
        for op in code:
            bound = op.options.max_errors
            failed = counts.skipped + counts.dead_letters if len(code) == 1 else stage.failed[op.name]
            if bound is not None and failed > bound:
                msg = f"{failed} records of {op.name!r} failed, max_errors is {bound}"
                raise TooManyErrors(msg)

    def check_started(self) -> None:
        """End the run if not even one replica of a stage could be placed.

        Raises:
            NoCapacity: It could not, for `start_timeout_s`; longer where there seems to be room for it.
        """
        for name, stage in self._state.stages.items():
            since = self._waits_since(stage)
            waited = 0.0 if since is None else time.monotonic() - since
            if waited > stage.stage.options.start_timeout_s and not stage.replicas_lost:
                free, needs = self._state.engine.available(), stage.stage.options.needs()
                patience = _SLOW_START if self._all_fit() else 1
                lacking = any(free.get(key, 0.0) < amount for key, amount in needs.items())
                if lacking and waited > patience * stage.stage.options.start_timeout_s:
                    raise NoCapacity(_no_capacity(name, needs, free, waited))

    def _waits_since(self, stage: StageRun) -> float | None:
        """Return since when a stage has had work and no replica that is ready; None if it has not, or waits its turn.

        It may begin long after the run. Without a replica that starts, it waits its turn as long as its work does not
        hold up the stages before it.
        """
        if stage.is_done or stage.pool.ready or not (stage.pool.members or self._presses(stage)):
            self._without.pop(stage.stage.name, None)
            return None
        began = min((member.since for member in stage.pool.members.values()), default=time.monotonic())
        return self._without.setdefault(stage.stage.name, began)

    def _presses(self, stage: StageRun) -> bool:
        """Return whether work of a stage holds up stages before it, or is such as no node can do."""
        fit = fits(stage.stage.options.needs(), self._state.engine.capacity().resources)
        before = [one for one in self._state.stages.values() if set(one.stage.emits) & set(stage.stage.takes)]
        return any(map(self._state.dispatch.is_full, before)) or (bool(stage.work) and not fit)

    def _all_fit(self) -> bool:
        """Return whether there is room for all replicas of this run, so that a late one is only slow to start."""
        stages = self._state.stages.values()
        sizes = {stage.stage.name: max(len(stage.pool.members), bool(stage.work)) for stage in stages}
        needs = {stage.stage.name: stage.stage.options.needs() for stage in stages}
        return fits(used(needs, sizes), self._state.engine.capacity().resources)

    def finish(self) -> None:
        """Tear down the pools to which nothing will come any more."""
        ended = False
        for name, stage in self._state.stages.items():
            cuts = any(
                one.stage == name for shuffle in self._state.shuffles.values() for one in shuffle.all() if one.whole
            )
            if stage.is_done and not cuts and not stage.status.is_final:
                stage.status = Status.SUCCEEDED
                self.teardown(stage)
                ended = True
        if ended:
            self.resize()

    def teardown(self, stage: StageRun) -> None:
        """End all replicas of a stage: first the user's `teardown`, then their processes.

        Raises:
            RunFailed: A `teardown` has failed.
        """
        stage.ended = time.monotonic()
        stage.most_replicas = max(stage.most_replicas, len(stage.pool.ready))
        answers = stage.pool.teardown()
        wait(answers.values(), timeout=_TEARDOWN_S)
        ended = {index: one for index, one in answers.items() if one.done() and one.exception() is None}
        failures = [one.result() for one in ended.values()]
        late = sum(not one.done() for one in answers.values())
        for index in ended:
            stage.pool.release(index)
        stage.pool.kill()
        if late:
            self._state.notes.append(
                f"teardown of {late} replicas of {stage.stage.name} did not end in {_TEARDOWN_S:.0f} s"
            )
        for failure in filter(None, failures):
            raise run_failed(failure, stage.stage.name)

    def give_up(self) -> None:
        """Let the replicas of a run that has failed call the user's `teardown`; all have the same moment for it."""
        pools = [stage.pool for stage in self._state.stages.values()]
        wait([answer for pool in pools for answer in pool.teardown("give_up").values()], timeout=_GIVE_UP_S)


def _no_capacity(name: str, needs: dict[str, float], free: dict[str, float], waited_s: float = 0.0) -> str:
    def shown(amounts: dict[str, float]) -> str:
        told = {key: units.size(amount) if key == "memory" else f"{amount:g}" for key, amount in amounts.items()}
        return ", ".join(f"{key} {text}" for key, text in sorted(told.items())) or "nothing"

    after = f" after {waited_s:.0f} s" if waited_s else ""
    return (
        f"no replica of {name!r} could be placed{after}: one needs {shown(needs)}; available: {shown(free)}. "
        "Ask for less (num_cpus, num_gpus, resources), or grow the cluster"
    )
