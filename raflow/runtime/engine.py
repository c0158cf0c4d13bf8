"""What the driver asks of an engine. `raflow.engines` holds the two that answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

from raflow.options import Resources


@dataclass(frozen=True)
class Capacity:
    """What the engine has in all, used or not."""

    resources: dict[str, float]
    """By Ray's resource names: CPU, GPU, memory (bytes), custom ones."""
    nodes: int = 1
    """Machines that replicas may land on."""
    grows: bool = False
    """Whether more may come, so that waiting makes sense."""

    def fits(self, needs: dict[str, float]) -> int:
        """Return how many replicas with these needs fit; a very large number if they need nothing."""
        counts = [int(self.resources.get(name, 0.0) / amount + 1e-9) for name, amount in needs.items()]
        return min(counts, default=1 << 20)


class ReplicaHandle(Protocol):
    """A replica, wherever it runs."""

    name: str

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of the replica; calls run concurrently.

        The future fails with `ReplicaLost` when the process or node died, else with the method's error.
        """

    def kill(self) -> None:
        """End it now, whatever it is doing. Ending it again is harmless."""


class Engine(Protocol):
    """Starts replicas."""

    name: str
    """`ray` or `local`."""

    def start(self) -> None:
        """Connect or start what replicas need. Called once, before anything else."""

    def capacity(self) -> Capacity:
        """Return what there is in all."""

    def available(self) -> dict[str, float]:
        """Return what is free now, for messages."""

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Make user code ready to travel; shipped once, it serves all replicas of a pool.

        Raises:
            NotPicklable: It cannot travel; names the captured object.
        """

    def spawn(self, name: str, packed: Any, needs: Resources) -> ReplicaHandle:
        """Start a replica; returns at once, its calls wait until it is there.

        It is made by `make(*args, name)`, or `make(*args, name, True)` where it has a process of its own.
        """

    def close(self) -> None:
        """Release what this run holds. A Ray of our own is kept until the process ends."""
