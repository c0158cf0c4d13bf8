"""The replicas of one stage: starts them, counts what they have in flight, ends them."""

from __future__ import annotations

import time
from collections import Counter
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

_COMING_S = 3.0
"""A replica that leaves before it is ready gets a moment: a process that has come up serves another one at once."""


@dataclass(eq=False)
class Member:
    """One replica of the pool."""

    index: int
    handle: ReplicaHandle
    since: float = field(default_factory=time.monotonic)
    """When it was asked for, on the monotonic clock."""
    ready: bool = False
    node: str = ""
    """Where it is, once it is known."""
    units: list[Any] = field(default_factory=list)
    """What it has in flight, in the order in which it does it."""
    holds: dict[Any, float] = field(default_factory=dict)
    """Attempts of which it holds a part that is not told yet, and since when."""
    pulls: int = 0
    """Questions for its next block that are not answered."""
    counts: Counts = field(default_factory=Counts)
    """What its units in flight have done so far."""
    asked: bool = False
    """Whether it is being asked for its counts."""
    due: Counter[Any] = field(default_factory=Counter)
    """By attempt: blocks that it has told of and that are not taken yet; negative before it has told."""
    leaving: float = 0.0
    """Since when it gets no new work, on the monotonic clock; it ends when it is done with what it has."""
    torn: bool = False
    """Whether its `teardown` is under way."""

    def owes(self, key: Any, blocks: int) -> None:
        """Take note that it has told of blocks, or that one was taken."""
        self.due[key] += blocks
        if not self.due[key]:
            del self.due[key]

    @property
    def gives(self) -> bool:
        """Whether blocks will come from it."""
        return bool(self.units) or any(count > 0 for count in self.due.values())

    @property
    def is_empty(self) -> bool:
        """Whether it holds nothing that is needed."""
        return not self.units and not self.holds and not self.due

    def is_late(self, now: float, drain_s: float) -> bool:
        """Return whether one that leaves takes too long, so that it is ended with what it holds.

        One that only waits for the end of its units does not: they are long, and would be begun again, and again.
        """
        only_holds = self.ready and not self.units and not self.due
        patience_s = drain_s if self.ready else min(_COMING_S, drain_s)
        return now > self.leaving + patience_s and not only_holds


class Pool:
    """The replicas of one stage. Its methods are called by the driver's thread only.

    Args:
        stage: Name of the stage.
        engine: Starts the replicas.
        pack: Returns the code, as `Engine.pack` does; called before the first replica.
        needs: What one replica needs.
        tell: Takes what happens to replicas, from any thread.
        anonymous: Whether they run no user code.
    """

    def __init__(
        self,
        stage: str,
        engine: Engine,
        pack: Callable[[], Any],
        needs: Resources,
        tell: Tell,
        *,
        anonymous: bool = False,
    ) -> None:
        self.stage = stage
        self.members: dict[int, Member] = {}
        self.setup_s: float | None = None
        """Seconds that the set-up of the last replica took that is or was ready."""
        self.held_s = 0.0
        """Seconds that a replica held its part of the unit that was last told of."""
        self._engine = engine
        self._pack = pack
        self._packed: Any = None
        self._needs = needs
        self._tell = tell
        self._anonymous = anonymous
        self._next = 0

    @property
    def ready(self) -> list[Member]:
        """The replicas that can take work."""
        return [member for member in self.members.values() if member.ready and not member.leaving]

    @property
    def size(self) -> int:
        """Replicas that are there or coming, without those that leave."""
        return sum(not member.leaving for member in self.members.values())

    @property
    def in_flight(self) -> int:
        """Calls with work in all replicas."""
        return sum(len(member.units) for member in self.members.values())

    def pack(self) -> None:
        """Make the user's code ready to travel, once.

        Raises:
            NotPicklable: It cannot travel.
        """
        if self._packed is None:
            self._packed = self._pack()

    def grow(self, size: int) -> None:
        """Start replicas until there are so many."""
        while self.size < size:
            self.pack()
            index, self._next = self._next, self._next + 1
            name = f"{self.stage}[{index}]"
            handle = self._engine.spawn(name, self._packed, self._needs, anonymous=self._anonymous)
            self.members[index] = Member(index, handle)
            self.call(index, "setup", "replica_ready")
            self._then("placed", index, handle.node())

    def shrink(self, size: int) -> None:
        """Let replicas leave until there are so many: first those that are not ready, then the idle ones."""
        staying = [member for member in self.members.values() if not member.leaving]
        staying.sort(key=lambda member: (member.ready, len(member.holds), len(member.units), -member.index))
        for member in staying[: max(len(staying) - size, 0)]:
            member.leaving = time.monotonic()

    def slots(self) -> list[Slot]:
        """Return the replicas that can take work, with what they have."""
        return [Slot(member.index, len(member.units)) for member in self.ready]

    def ask_counts(self) -> None:
        """Ask busy replicas how far they are; at most one question is under way at a time."""
        for member in self.members.values():
            if member.ready and (member.units or member.holds) and not member.asked:
                member.asked = True
                self.call(member.index, "counts", "counts")

    def remove(self, index: int) -> Member:
        """Forget a replica that is lost or takes too long, and end it; returns it."""
        member = self.members.pop(index)
        member.handle.kill()
        return member

    def release(self, index: int) -> None:
        """Forget a replica after its `teardown`."""
        self.members.pop(index).handle.release()

    def teardown(self, method: str = "teardown") -> dict[int, Future[Any]]:
        """Ask all replicas to end, by `teardown` or `give_up`; returns their answers."""
        return {one.index: one.handle.call(method) for one in self.members.values() if one.ready}

    def kill(self) -> None:
        """End all replicas now."""
        for member in self.members.values():
            member.handle.kill()
        self.members.clear()

    def call(self, index: int, method: str, kind: str, *args: Any) -> None:
        """Call a method of a replica; what it returns is told as `(kind, stage, index, future)`."""
        self._then(kind, index, self.members[index].handle.call(method, *args))

    def _then(self, kind: str, index: int, future: Future[Any]) -> None:
        future.add_done_callback(lambda done: self._tell(kind, self.stage, index, done))

    def produce(self, index: int, method: str, kind: str, *args: Any, count: int, about: Any = None) -> None:
        """Call a method that returns payloads; told as `(kind, stage, index, about, future, references)`."""
        future, references = self.members[index].handle.produce(method, *args, count=count)
        future.add_done_callback(lambda done: self._tell(kind, self.stage, index, about, done, references))
