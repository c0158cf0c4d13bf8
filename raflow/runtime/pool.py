"""The replicas of one stage: starts them, counts what they have in flight, ends them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from raflow.metrics import Counts
from raflow.options import Resources
from raflow.runtime.engine import Engine, ReplicaHandle
from raflow.runtime.scheduler import Slot

Tell = Callable[..., None]
"""Puts an event into the driver's inbox: `tell(kind, *values)`."""


@dataclass
class Member:
    """One replica of the pool."""

    index: int
    handle: ReplicaHandle
    ready: bool = False
    units: list[int] = field(default_factory=list)
    """In the order in which it does them."""
    counts: Counts = field(default_factory=Counts)
    """What its units in flight have done so far."""
    asked: bool = False
    """Whether it is being asked for its counts."""


class Pool:
    """The replicas of one stage. Its methods are called by the driver's thread only.

    Args:
        stage: Name of the stage.
        engine: Starts the replicas.
        packed: The code, as `Engine.pack` returned it.
        needs: What one replica needs.
        tell: Takes what happens to replicas, from any thread.
    """

    def __init__(self, stage: str, engine: Engine, packed: Any, needs: Resources, tell: Tell) -> None:
        self.stage = stage
        self.members: dict[int, Member] = {}
        self._engine = engine
        self._packed = packed
        self._needs = needs
        self._tell = tell
        self._next = 0

    @property
    def ready(self) -> list[Member]:
        """The replicas that can take work."""
        return [member for member in self.members.values() if member.ready]

    @property
    def in_flight(self) -> int:
        """Units of work in all replicas."""
        return sum(len(member.units) for member in self.members.values())

    def grow(self, size: int) -> None:
        """Start replicas until there are so many."""
        while len(self.members) < size:
            index, self._next = self._next, self._next + 1
            handle = self._engine.spawn(f"{self.stage}[{index}]", self._packed, self._needs)
            self.members[index] = Member(index, handle)
            self._call(index, "setup", "replica_ready")

    def slots(self) -> list[Slot]:
        """Return the replicas that can take work, with what they have."""
        return [Slot(member.index, len(member.units)) for member in self.ready]

    def send(self, index: int, unit: int, order: Any) -> None:
        """Give a unit of work to a replica."""
        self.members[index].units.append(unit)
        self._call(index, "run_unit", "unit_done", order, extra=(unit,))

    def ask_counts(self) -> None:
        """Ask busy replicas how far they are; at most one question is under way at a time."""
        for member in self.ready:
            if member.units and not member.asked:
                member.asked = True
                self._call(member.index, "counts", "counts")

    def remove(self, index: int) -> list[int]:
        """Forget a replica that is lost; returns the units it had, the one it was at first."""
        member = self.members.pop(index)
        member.handle.kill()
        return member.units

    def teardown(self) -> list[Future[Any]]:
        """Ask all replicas to end; returns their answers."""
        return [member.handle.call("teardown") for member in self.ready]

    def kill(self) -> None:
        """End all replicas now."""
        for member in self.members.values():
            member.handle.kill()
        self.members.clear()

    def _call(self, index: int, method: str, kind: str, *args: Any, extra: tuple[Any, ...] = ()) -> None:
        future = self.members[index].handle.call(method, *args)
        future.add_done_callback(lambda done: self._tell(kind, self.stage, index, *extra, done))
