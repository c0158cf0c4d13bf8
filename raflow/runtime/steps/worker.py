"""What a worker does with the steps that it is given; runs in threads, child processes and Ray workers."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import cloudpickle

from raflow.errors import NotSerializable, StepExited, StepTimedOut
from raflow.runtime.failure import explain, portable
from raflow.runtime.steps import values
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import heartbeat
from raflow.runtime.steps.messages import Begun, Ended, Left, Over, Report, Task
from raflow.runtime.steps.values import Earlier, Packed, Slot, Value, pack, unpack

SLICE_S = 0.05
"""Steps that share a call do so for this long; what was not begun by then goes back."""


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


def run_slice(
    number: int, tasks: Slice, known: Inputs, call: Callable[[Task, list[Packed]], Attempt]
) -> Iterator[Report]:
    """Do the tasks of a call, one after the other; yields what there is to tell of them.

    Args:
        number: Of the call.
        tasks: Its tasks.
        known: Values that they need.
        call: Makes one attempt.
    """
    while (task := tasks.take()) is not None:
        inputs = known.of(task)
        if inputs is None:
            yield Left(number, (task.id,))
            continue
        yield Begun(number, task.id)
        done = call(task, inputs)
        known.keep(task, done)
        yield Ended(number, task.id, done)
        if done.failure and (left := tasks.close()):  # the driver decides whether the others still begin
            yield Left(number, left)
    yield Over(number)


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
