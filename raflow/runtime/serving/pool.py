"""The replicas of one address: starts them, asks what they do, lets them leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any

from raflow.runtime.engine import Engine, Listener, ReplicaHandle
from raflow.runtime.pool import Tell
from raflow.runtime.serving.counting import Application, Load
from raflow.runtime.serving.options import ServingOptions
from raflow.runtime.serving.replica import ServingReplica
from raflow.runtime.serving.scaling import moves

_CUT_S = 2.0


@dataclass(eq=False)
class Member:
    """One replica of the pool; times are on the monotonic clock."""

    index: int
    handle: ReplicaHandle
    began: float = field(default_factory=time.monotonic)
    ready: float = 0.0
    """Since when it takes connections; 0: not yet."""
    leaving: float = 0.0
    """When it must have left; 0: it stays."""
    asked: float = 0.0
    """Since when it owes its counts; 0: it does not."""
    load: Load = field(default_factory=Load)
    looked: float = 0.0
    """When it had that load."""
    ongoing: float = 0.0
    """Requests, on average between the last two looks."""
    worn: bool = False
    """Whether calls that do not return were told of; on a cluster another replica takes its place then."""

    @property
    def serves(self) -> bool:
        """Whether it takes connections, and will."""
        return bool(self.ready) and not self.leaving

    def look(self, load: Load) -> None:
        """Take note of what it does."""
        now = time.monotonic()
        self.ongoing = (load.busy_s - self.load.busy_s) / max(now - self.looked, 1e-3)
        self.load, self.looked, self.asked = load, now, 0.0


class HttpPool:
    """The replicas of one address. Its methods are called by one thread only.

    Args:
        name: Of the pool; replicas are `name[0]`, `name[1]`…
        engine: Starts the replicas.
        make: Returns the application; it travels to the replicas.
        options: Of the pool.
        tell: Takes what happens to replicas, from any thread.

    Raises:
        NotPicklable: The application cannot travel.
    """

    def __init__(
        self, name: str, engine: Engine, make: Callable[[], Application], options: ServingOptions, tell: Tell
    ) -> None:
        self.name = name
        self.members: dict[int, Member] = {}
        self._engine = engine
        self._options = options
        self._packed = engine.pack(ServingReplica, make, options.connections, options.tls)
        self._tell = tell
        self._next = 0

    @property
    def serving(self) -> list[Member]:
        """The replicas that take connections, and will."""
        return [member for member in self.members.values() if member.serves]

    @property
    def size(self) -> int:
        """Replicas that are there or coming, without those that leave."""
        return sum(not member.leaving for member in self.members.values())

    def start(self, listener: Listener) -> None:
        """Start one more replica; it tells `handed`, see `setup`."""
        index, self._next = self._next, self._next + 1
        handle = self._engine.spawn(f"{self.name}[{index}]", self._packed, self._options.needs, listener=listener)
        self.members[index] = Member(index, handle)
        listener.handover(handle).add_done_callback(lambda done: self._tell("handed", index, done))

    def setup(self, index: int, handover: Any) -> None:
        """Let a replica begin; it tells `set_up`."""
        self._call(index, "set_up", "setup", handover)

    def ask(self) -> None:
        """Ask each replica what it does; it tells `counted`. One question at a time."""
        for member in self.members.values():
            if member.ready and not member.asked:
                member.asked = time.monotonic()
                self._call(member.index, "counted", "counts")

    def spread(self) -> None:
        """Let replicas that have more connections than others send some away; these come back anywhere."""
        for index, count in moves({one.index: one.load.connections for one in self.serving}).items():
            self.members[index].handle.call("move", count)

    def shrink(self, size: int, listener: Listener, drain_timeout_s: float) -> None:
        """Let replicas leave for good until there are so many: first those not ready, then the least busy."""
        staying = [member for member in self.members.values() if not member.leaving]
        staying.sort(key=lambda member: (bool(member.ready), member.load.connections))
        for member in staying[: max(len(staying) - size, 0)]:
            listener.leaving(member.handle)  # first: what then waits there is answered by the replica, as it drains
            self.leave(member, drain_timeout_s)

    def leave(self, member: Member, timeout_s: float) -> None:
        """Let a replica drain; it tells `drained`. One that is not ready ends now."""
        if member.ready:
            member.leaving = time.monotonic() + timeout_s
            self._call(member.index, "drained", "drain", min(self._options.connections.leave_s, timeout_s), timeout_s)
        else:
            self.remove(member.index)

    def remove(self, index: int) -> Member:
        """Forget a replica that is lost, has failed or takes too long, and end it; returns it."""
        member = self.members.pop(index)
        member.handle.kill()
        return member

    def release(self, index: int, *, worn: bool) -> None:
        """Forget a replica that has drained; see `ReplicaHandle.release`."""
        self.members.pop(index).handle.release(worn=worn)

    def kill(self) -> None:
        """End all replicas now; first their sockets, so that the port is free at once."""
        wait([one.handle.call("cancel") for one in self.members.values() if one.ready], timeout=_CUT_S)
        for index in list(self.members):
            self.remove(index)

    def _call(self, index: int, kind: str, method: str, *args: Any) -> None:
        future: Future[Any] = self.members[index].handle.call(method, *args)
        future.add_done_callback(lambda done: self._tell(kind, index, done))
