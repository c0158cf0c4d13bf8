"""One step of a workflow: the call, its options, and what has become of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from raflow.metrics import Status
from raflow.options import StepOptions
from raflow.runtime.failure import Failure, restore
from raflow.runtime.steps.values import Earlier, Packed, Slot, Value, pack, replace

PLAIN = StepOptions()


@dataclass(eq=False)
class Step:
    """A call, in a graph of calls. The driver alone changes it, after it was added.

    Args:
        name: What is called, for people.
        function: Called in a worker; travels by import path, or by value from scripts and notebooks.
        args: May hold other steps and `Part`s of them, also within lists, tuples, sets and dicts: the step
            then waits for them and gets their results in these places.
        after: Steps to wait for without using their results.
        expands: Whether the result is an iterable whose items are values of their own, see `Part`.
        id: Unique in the run; the name with a number.
        heartbeat: Seconds within which each attempt must call `heartbeat()` again, or it has timed out; 0: no bound.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    options: StepOptions = PLAIN
    after: tuple[Step, ...] = ()
    expands: bool = False
    id: str = ""
    heartbeat: float = 0.0
    is_forgotten: bool = False
    """Whether its arguments were let go after its end, so that it could not be done again."""
    host: Callable[[Step], None] | None = None
    """Called in place of a worker when it is ready, on the driver's thread; hands its end to `StepDriver.finish`."""
    status: Status = Status.PENDING
    attempts: int = 0
    """Attempts that were begun."""
    failures: list[Failure] = field(default_factory=list)
    """Of the attempts that failed, in order."""
    started_at: datetime | None = None
    """Of the first attempt, UTC."""
    finished_at: datetime | None = None
    """Of the last attempt, UTC."""
    values: tuple[Value, ...] | None = None
    """The result as values that travel; see `Attempt.values`. None until it has succeeded."""
    order: int = -1
    """How many steps had ended before it; -1 until it has."""
    note: Any = None
    """Whatever the front-end wants to find again."""

    def __post_init__(self) -> None:
        self.id = self.id or self.name

    def __reduce__(self) -> Any:
        msg = f"step {self.id} is in a container that is not looked into; use a list, tuple, set or dict"
        raise TypeError(msg)

    @property
    def parts(self) -> list[Part]:
        """The items of an expanded result, as arguments for other steps."""
        return [Part(self, index) for index in range(len(self.values or ()))]

    @property
    def error(self) -> BaseException | None:
        """Why it failed, with the user's traceback as its cause; None if it did not."""
        return restore(self.failures[-1]) if self.failures and self.status is not Status.SUCCEEDED else None

    def needs(self) -> Iterator[Step]:
        """Yield the steps that must end before it."""
        yield from self.after
        found: list[Step] = []

        def note(each: Any) -> Any:
            owner = _owner(each)
            if owner is not None:
                found.append(owner)
            return each if owner is None else None

        replace((self.args, self.kwargs), note)
        yield from found


@dataclass(frozen=True, eq=False)
class Part:
    """One item of an expanded step's result, as an argument."""

    step: Step
    index: int


def _owner(value: Any) -> Step | None:
    return value.step if isinstance(value, Part) else value if isinstance(value, Step) else None


def arguments(step: Step) -> tuple[Packed, list[Value | Earlier]]:
    """Return the packed arguments with slots in them, and the values for the slots.

    A step that has not ended yet must be one that comes earlier in the same call.

    Raises:
        NotSerializable: An argument cannot travel.
    """
    values: list[Value | Earlier] = []

    def swap(each: Any) -> Any:
        owner = _owner(each)
        if owner is None:
            return each
        if owner.values is None:
            values.append(Earlier(owner.id))
            return Slot(len(values) - 1)
        if isinstance(each, Part) or not owner.expands:
            values.append(owner.values[each.index if isinstance(each, Part) else 0])
            return Slot(len(values) - 1)
        values.extend(owner.values)
        return [Slot(len(values) - len(owner.values) + index) for index in range(len(owner.values))]

    filled = replace((step.args, step.kwargs), swap)
    return pack(filled, f"an argument of step {step.id}"), values
