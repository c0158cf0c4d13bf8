"""What the driver asks of an engine. `raflow.engines` holds the two that answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # Ray's workers start sooner without the options and what these import
    import socket

    from raflow.options import Resources
    from raflow.runtime.serving.address import Address


@dataclass(frozen=True)
class Capacity:
    """What the engine has in all, used or not."""

    resources: dict[str, float]
    """By Ray's resource names: CPU, GPU, memory (bytes), custom ones."""
    others: Mapping[str, float] = field(default_factory=dict)
    """What of it is held by others than this engine's replicas, as far as it is known."""
    nodes: int = 1
    """Machines that replicas may land on."""
    grows: bool = False
    """Whether more may come, so that waiting makes sense."""
    shared: bool = False
    """Whether replicas share what there is, so that more than fit may run."""
    store_bytes: float = 1 << 30
    """What payloads on their way may take in all."""


class ReplicaHandle(Protocol):
    """A replica, wherever it runs."""

    name: str

    def call(self, method: str, *args: Any) -> Future[Any]:
        """Call a method of the replica; calls run concurrently.

        The future fails with `ReplicaLost` when the process or node died, else with the method's error.
        """

    def produce(self, method: str, *args: Any, count: int) -> tuple[Future[Any], list[Any]]:
        """Call a method that returns `(answer, payloads)`.

        The last ones of `args` may be references; the replica gets what they stand for.

        Args:
            method: Its name.
            args: Its arguments.
            count: The most payloads that it may return.

        Returns:
            A future of the answer alone, as of `call` (it fails with `InputLost` if an argument is gone);
            and references of the payloads, which stay where they are. Those it did not return are None.
        """

    def node(self) -> Future[str]:
        """Return the node that it is on; "" where there is but one."""

    def kill(self) -> None:
        """End it now, whatever it is doing. Ending it again is harmless."""

    def release(self, *, worn: bool = False) -> None:
        """End it after its `teardown`.

        Args:
            worn: Whether something of it may still be under way. If not, its process may serve another replica.
        """


class Handover(Protocol):
    """The way to a listening socket; it travels to the replica that is to answer on it."""

    def take(self) -> socket.socket:
        """Return a copy of the socket, for the caller to close. Called in the replica."""


class Listener(Protocol):
    """An address that replicas share, on each node that has such replicas.

    It outlives them: what connects while there is none waits for the next one.
    """

    address: Address
    """With the real port."""

    def handover(self, replica: ReplicaHandle) -> Future[Handover]:
        """Return the way to the socket on the node of a replica that was spawned for this listener.

        The future fails with `ReplicaLost` when the replica died, with `CannotListen` if the address
        cannot be had on its node.
        """

    def leaving(self, replica: ReplicaHandle) -> None:
        """Take note that a replica is about to leave, and that none takes its place; called before it is told so.

        If it is the last one on its node, and other nodes have the address, then what is held for it there is
        closed: its own copy of the socket is the only one left, and it answers what waits there when it drains.
        After that the node refuses connections, so that a load balancer goes elsewhere at once.
        """

    def close(self) -> None:
        """Take no more part in the address; replicas that have the socket still answer. May be called again."""


class Engine(Protocol):
    """Starts replicas."""

    name: str
    """`ray` or `local`."""

    def start(self) -> None:
        """Connect or start what replicas need. Called once, before anything else."""

    def capacity(self) -> Capacity:
        """Return what there is in all."""

    def ask(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Ask a cluster that can grow for room for all of these together; the next call replaces it."""

    def available(self) -> dict[str, float]:
        """Return what is free now, for messages."""

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Make user code ready to travel; shipped once, it serves all replicas of a pool.

        Raises:
            NotPicklable: It cannot travel; names the captured object.
        """

    def listen(self, address: Address) -> Listener:
        """Begin to take connections.

        Raises:
            CannotListen: The address is in use, or cannot be had.
        """

    def spawn(
        self, name: str, packed: Any, needs: Resources, *, anonymous: bool = False, listener: Listener | None = None
    ) -> ReplicaHandle:
        """Start a replica; returns at once, its calls wait until it is there.

        It is made by `make(*args, name)`, or `make(*args, name, True)` where it has a process of its own.

        Args:
            name: For logs and errors.
            packed: What `pack` returned.
            needs: Of the replica.
            anonymous: Whether it runs no user code. A process may serve like replicas one after the other.
            listener: Of this engine; the replica is to answer what connects there.
        """

    def gone(self, references: Sequence[Any]) -> list[bool]:
        """Return which payloads are lost, e.g. with their node."""

    def close(self) -> None:
        """Release what this run holds. A Ray of our own is kept until the process ends, its free processes for 3 s."""
