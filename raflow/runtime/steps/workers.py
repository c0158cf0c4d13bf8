"""What the step driver asks of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from raflow.options import Resources
from raflow.runtime.steps.messages import Post, Task
from raflow.runtime.steps.values import Packed, Value


class Call(Protocol):
    """Some tasks on their way through a worker, one after the other."""

    def close(self) -> None:
        """Begin no further task; `Left` tells which were not."""

    def kill(self) -> None:
        """End the worker, or abandon it where it cannot be ended; no report follows."""


class Workers(Protocol):
    """What the step driver asks of an engine."""

    name: str

    def start(self) -> None:
        """Connect or start what calls need."""

    def slots(self, needs: Resources) -> int:
        """Return how many calls with these needs to keep going at once."""

    def ship(self, function: Callable[..., Any], name: str) -> Any:
        """Make a function ready to travel, once for all its calls.

        Raises:
            NotSerializable: It cannot travel.
        """

    def call(self, number: int, tasks: list[Task], needs: Resources, post: Post) -> Call:
        """Start a call; reports come to `post` from any thread, `Over` as the last one."""

    def fetch(self, value: Value) -> Packed:
        """Return a value that may lie in the engine's store."""

    def is_lost(self, values: Sequence[Value]) -> bool:
        """Return whether one of these values is gone with its node."""

    def close(self) -> None:
        """End what is idle; called when no call is going on."""
