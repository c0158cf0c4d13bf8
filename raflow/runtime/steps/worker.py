"""What a worker does with the steps that it is given; runs in threads, child processes and Ray workers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle

from raflow.errors import NotSerializable, StepExited, StepTimedOut
from raflow.runtime.failure import explain, portable
from raflow.runtime.steps import values
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import heartbeat
from raflow.runtime.steps.values import Earlier, Packed, Slot, Value, pack, unpack

if TYPE_CHECKING:  # child processes start in half the time without the options and what these import
    from raflow.options import Resources

SLICE_S = 0.05
"""Steps that share a call do so for this long; what was not begun by then goes back."""


@dataclass(frozen=True)
class Task:
    """One attempt of a step, ready to travel."""

    id: str
    code: Any
    """The function, as `Workers.ship` returned it."""
    arguments: Packed
    inputs: tuple[Any, ...]
    """What the slots of the arguments stand for: values, `Earlier` ones, or slots of what came beside."""
    timeout: float
    retry_on: Any
    expands: bool
    heartbeat: float = 0.0
    """Seconds within which it must give a sign of life; 0: no bound."""


# -- what a call tells the driver ------------------------------------------------------------------------


@dataclass(frozen=True)
class Begun:
    """A task has really started."""

    call: int
    task: str


@dataclass(frozen=True)
class Beat:
    """A task has given a sign of life."""

    call: int
    task: str
    said: str


@dataclass(frozen=True)
class Ended:
    """A task has ended, well or not."""

    call: int
    task: str
    attempt: Attempt


@dataclass(frozen=True)
class Left:
    """These tasks were not begun and go back; the call goes on without them."""

    call: int
    tasks: tuple[str, ...]


class InputsLost(Exception):
    """Values that a call needs are gone with the node on which they were."""


@dataclass(frozen=True)
class Over:
    """The call has ended."""

    call: int
    error: BaseException | None = None
    """Why its worker was lost; tasks without an end have perhaps begun. After `InputsLost` they have not."""


Post = Callable[["Begun | Beat | Ended | Left | Over"], None]


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


# -- the work ---------------------------------------------------------------------------------------------


class Slice:
    """The tasks of a call, taken one by one until it is closed. Both ends may be on different threads."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = deque(tasks)
        self._lock = threading.Lock()

    def take(self) -> Task | None:
        """Return the next task, or None at the end."""
        with self._lock:
            return self._tasks.popleft() if self._tasks else None

    def close(self) -> tuple[str, ...]:
        """Return the tasks that were not taken; nobody will get them any more."""
        with self._lock:
            left = tuple(task.id for task in self._tasks)
            self._tasks.clear()
        return left


class Inputs:
    """Finds what the slots of a task stand for.

    Args:
        stored: Values that came beside the tasks of the call.
    """

    def __init__(self, stored: Sequence[Packed] = ()) -> None:
        self._stored = stored
        self._made: dict[str, tuple[Value, ...]] = {}

    def of(self, task: Task) -> list[Packed] | None:
        """Return the values, or None if an earlier task has not made one of them."""
        found = [self._find(each) for each in task.inputs]
        return None if None in found else found

    def keep(self, task: Task, done: Attempt) -> None:
        """Remember what a task has made, for later ones of the call."""
        self._made[task.id] = done.values

    def _find(self, each: Any) -> Any:
        if isinstance(each, Slot):
            return self._stored[each.index]
        if not isinstance(each, Earlier):
            return each
        made = self._made.get(each.task)
        return made[0] if made else None


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(timezone.utc)


def attempt(function: Callable[..., Any], task: Task, inputs: Sequence[Packed]) -> Attempt:
    """Call a step's function once. Never raises; `sys.exit` is a failure like any other."""
    began = now()
    try:
        args, kwargs = filled(task.arguments, inputs)
        heartbeat()  # what was to be imported until here may have taken long
        result = settled(function(*args, **kwargs))
        packed = _packed(result, task)
    except NotSerializable as error:
        return Attempt(began, now(), failure=explain(error, task.id), retryable=False)
    except SystemExit as error:
        stop = StepExited(f"step {task.id} called sys.exit({error.code!r}); return or raise instead")
        return Attempt(began, now(), failure=explain(stop, task.id), retryable=issubclass(SystemExit, task.retry_on))
    except BaseException as error:
        return Attempt(began, now(), failure=explain(error, task.id), retryable=isinstance(error, task.retry_on))
    return Attempt(began, now(), packed)


def attempt_shipped(task: Task, inputs: Sequence[Packed], load: Callable[[Any], Any]) -> Attempt:
    """Call a step's function once, in another process than the driver's. Never raises.

    Args:
        task: Its `code` and `retry_on` are as they were shipped.
        inputs: Values of its slots.
        load: Returns what was shipped.
    """
    began = now()
    try:
        function, task = load(task.code), replace(task, retry_on=load(task.retry_on))
    except BaseException as error:
        done = Attempt(began, now(), failure=explain(error, task.id), retryable=False)
    else:
        done = attempt(function, task, inputs)
    return replace(done, failure=portable(done.failure, cloudpickle)) if done.failure else done


def filled(arguments: Packed, inputs: Sequence[Packed]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return arguments with values in the place of their slots."""
    given = unpack(arguments)
    if inputs:
        given = values.replace(given, lambda each: unpack(inputs[each.index]) if type(each) is Slot else each)
    return given  # type: ignore[no-any-return]


def settled(result: Any) -> Any:
    """Return the result, awaited where it must be."""
    if not inspect.isawaitable(result):
        return result
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_awaited(result))
    with ThreadPoolExecutor(1) as aside:  # the caller's loop, a notebook's for example, cannot run this too
        return aside.submit(asyncio.run, _awaited(result)).result()


async def _awaited(result: Any) -> Any:
    return await result


def _packed(result: Any, task: Task) -> tuple[Value, ...]:
    if not task.expands:
        return (pack(result, f"the result of step {task.id}"),)
    return tuple(pack(item, f"item {index} of step {task.id}") for index, item in enumerate(result))


def timed_out(task: Task, began: datetime) -> Attempt:
    """Return the attempt that a task has used up."""
    error = StepTimedOut(f"step {task.id} took longer than its timeout of {task.timeout:g} s")
    return Attempt(began, now(), failure=explain(error, task.id), timed_out=True)


def fell_silent(task: Task, began: datetime, last: str) -> Attempt:
    """Return the attempt of a task that has given no sign of life for too long; `last` is what it said last."""
    told = f"; it said last: {last}" if last else ""
    error = StepTimedOut(f"step {task.id} gave no heartbeat for {task.heartbeat:g} s{told}")
    return Attempt(began, now(), failure=explain(error, task.id), timed_out=True)
