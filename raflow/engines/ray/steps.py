"""Steps as Ray tasks. A task runs a slice of steps and yields what becomes of them as it goes.

Small results travel with the report; each large one is an object of its own, of which the driver keeps the
reference only. User code runs on a second thread of the worker, so that the first one can report, keep
timeouts and send back what would have to wait.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import cloudpickle
import ray

from raflow.engines.daemons import DaemonThreads
from raflow.engines.ray.bench import Report, work
from raflow.engines.ray.cluster import capacity, connect, folder_of, foreign, options_of, own_versions
from raflow.engines.ray.spare import spare
from raflow.errors import NoCapacity
from raflow.options import Resources
from raflow.runtime.engine import Capacity
from raflow.runtime.scaling.allocation import fits, most
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.messages import Beat, Begun, Ended, InputsLost, Left, Over, Post, Task
from raflow.runtime.steps.values import INLINE_BYTES, Packed, Slot, Stored, Value, by_value, shipped, unpack

_LOOK_S = 1.0
_DEPTH = 2
START_TIMEOUT_S = 60.0
"""How long a step that fits nowhere waits for the cluster to grow."""
_FETCH_S = 300.0
"""How long a value may take to come from another node."""
_FREE_CALLS = 64
"""Calls at once of steps that need nothing of the cluster."""


class RayWorkers:
    """Runs steps as tasks of a Ray cluster.

    Args:
        address: As of `RayEngine`.
        working_dir: Folder of the user's code.
        module: Module whose functions and classes travel as they are, because workers cannot import it.
    """

    name = "ray"

    def __init__(
        self, address: str | None = None, working_dir: str | None = None, module: ModuleType | None = None
    ) -> None:
        self._address = address
        self._folder = folder_of(working_dir)
        self._module = module
        self._threads = DaemonThreads("raflow ray call")
        self._capacity = Capacity({})
        self._looked = 0.0
        self._kinds: dict[Any, bytes] = {}

    def start(self) -> None:
        """Connect, or start a Ray of our own."""
        connect(self._address, self._folder)
        spare.end()  # they hold what steps need

    def slots(self, needs: Resources) -> int:
        """Return two calls for each one that fits, so that workers need not wait for the driver."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._capacity, self._looked = capacity(), time.monotonic()
        wanted = needs.needs()
        return max(1, most(wanted, self._capacity.resources)) * _DEPTH if wanted else _FREE_CALLS

    def ship(self, function: Callable[..., Any], name: str) -> Any:
        """Pickle a function; a large one goes into the object store once."""
        code = shipped(function, name, self._module)
        return code if len(code) < INLINE_BYTES else ray.put(code)

    def call(self, number: int, tasks: list[Task], needs: Resources, post: Post) -> _RayCall:
        """Start a task."""
        stored: list[Any] = []
        light = [
            replace(
                task,
                inputs=tuple(_by_reference(each, stored) for each in task.inputs),
                retry_on=self._errors(task.retry_on),
            )
            for task in tasks
        ]
        generator = self._remote(needs).remote(own_versions(), self._folder, light, *stored)
        call = _RayCall(number, tasks, generator, post)
        wanted = needs.needs()
        if fits(wanted, self._capacity.resources):
            self._threads.run(call.follow)
        else:
            self._threads.run(lambda: call.follow_if(lambda: _lacking(wanted)))
        return call

    def _errors(self, kinds: Any) -> bytes:
        """Pickle types of errors as functions are: Ray's own pickling would make other types of them."""
        if kinds not in self._kinds:
            with by_value(self._module):
                self._kinds[kinds] = cloudpickle.dumps(kinds)
        return self._kinds[kinds]

    def _remote(self, needs: Resources) -> Any:
        given = options_of(needs)
        if self._capacity.nodes > 1:
            given["scheduling_strategy"] = "SPREAD"
        return _configured(tuple(sorted(given.items(), key=str))) if not needs.resources else _run.options(**given)

    def fetch(self, value: Value) -> Packed:
        """Return a value from the object store."""
        if isinstance(value, Packed):
            return value
        try:
            return ray.get(value.name)  # type: ignore[no-any-return]
        except ray.exceptions.RayError as error:
            raise foreign(error, "a result of a step") from error

    def is_lost(self, values: Sequence[Value]) -> bool:
        """Return whether one of these values is gone; looks at it, because Ray keeps a mark in its place."""
        return any(_is_gone(value.name) for value in values if isinstance(value, Stored))

    def close(self) -> None:
        """End the idle threads; Ray is kept."""
        self._threads.close()


def _by_reference(value: Any, stored: list[Any]) -> Any:
    """Return a slot for a stored value, whose reference becomes an argument of the Ray task itself."""
    if not isinstance(value, Stored):
        return value
    stored.append(value.name)
    return Slot(len(stored) - 1)


class _RayCall:
    def __init__(self, number: int, tasks: list[Task], generator: Any, post: Post) -> None:
        self._number = number
        self._tasks = {task.id: task for task in tasks}
        self._generator = generator
        self._post = post

    def close(self) -> None:
        """The worker closes its slice itself."""

    def kill(self) -> None:
        with contextlib.suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(self._generator, force=True)

    def follow_if(self, lacking: Callable[[], str]) -> None:
        """Give the cluster time to grow; then follow, or say what is lacking."""
        ray.wait([self._generator], timeout=START_TIMEOUT_S)
        reason = lacking()
        if not reason:
            self.follow()
            return
        self.kill()
        self._post(Over(self._number, NoCapacity(reason)))

    def follow(self) -> None:
        """Hand reports on until the task has ended."""
        try:
            for reference in self._generator:
                report: Report = ray.get(reference)
                for task, done in report.ended:
                    self._post(Ended(self._number, task, self._arrived(done)))
                if report.begun:
                    self._post(Begun(self._number, report.begun))
                for task, said in report.beats:
                    self._post(Beat(self._number, task, said))
                if report.left:
                    self._post(Left(self._number, tuple(report.left)))
            self._post(Over(self._number))
        except BaseException as error:
            lost = foreign(error, "its worker")
            self._post(Over(self._number, InputsLost(str(lost)) if _is_of_inputs(error) else lost))

    def _arrived(self, done: Attempt) -> Attempt:
        if done.failure is not None:
            error: Any = done.failure.error
            return replace(done, failure=replace(done.failure, error=unpack(error)))
        values = tuple(
            replace(each, name=next(self._generator)) if isinstance(each, Stored) else each for each in done.values
        )
        return replace(done, values=values)


def _is_gone(name: Any) -> bool:
    try:
        ray.get(name, timeout=_FETCH_S)  # its buffers are mapped, not copied
    except ray.exceptions.ObjectLostError:
        return True
    return False


def _is_of_inputs(error: BaseException) -> bool:
    """Return whether the task did not begin because an argument of it is lost."""
    cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
    return isinstance(cause, ray.exceptions.ObjectLostError)


def _lacking(wanted: dict[str, float]) -> str:
    found = capacity()
    if fits(wanted, found.resources):
        return ""
    has = {name: found.resources.get(name, 0.0) for name in wanted}
    return f"it needs {wanted} and the cluster has {has}, also after {START_TIMEOUT_S:g} s; ask for less or add nodes"


_run: Any = ray.remote(max_retries=0, num_returns="streaming")(work)


@functools.cache
def _configured(options: tuple[tuple[str, Any], ...]) -> Any:
    return _run.options(**dict(options))
