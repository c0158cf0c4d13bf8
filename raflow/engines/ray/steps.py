"""Steps as Ray tasks. A task runs a slice of steps and yields what becomes of them as it goes.

Small results travel with the report; each large one is an object of its own, of which the driver keeps the
reference only. User code runs on a second thread of the worker, so that the first one can report, keep
timeouts and send back what would have to wait.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import math
import os
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import IO, Any, TypeAlias

import cloudpickle
import ray

from raflow.engines.ray.cluster import capacity, connect, folder_of, foreign, own_versions, settle_in
from raflow.engines.threads import DaemonThreads
from raflow.errors import NoCapacity, NotSerializable
from raflow.options import Resources
from raflow.runtime.engine import Capacity
from raflow.runtime.failure import explain, portable
from raflow.runtime.steps.step import Attempt
from raflow.runtime.steps.values import INLINE_BYTES, Packed, Slot, Stored, Value, by_value, pack, unpack
from raflow.runtime.steps.worker import (
    SLICE_S,
    Begun,
    Ended,
    Inputs,
    Left,
    Over,
    Post,
    Slice,
    Task,
    attempt,
    now,
    timed_out,
)

_LOOK_S = 1.0
_GRACE_S = 1.0
_DEPTH = 2
START_TIMEOUT_S = 60.0
"""How long a step that fits nowhere waits for the cluster to grow."""
_FREE_CALLS = 64
"""Calls at once of steps that need nothing of the cluster."""

Report: TypeAlias = "tuple[list[tuple[str, Attempt]], tuple[str, ...], str | None]"
"""Attempts that have ended, tasks that go back, and the task that has begun: of those only that take their time."""


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

    def slots(self, needs: Resources) -> int:
        """Return two calls for each one that fits, so that workers need not wait for the driver."""
        if time.monotonic() - self._looked > _LOOK_S:
            self._capacity, self._looked = capacity(), time.monotonic()
        wanted = needs.needs()
        return max(1, self._capacity.fits(wanted)) * _DEPTH if wanted else _FREE_CALLS

    def ship(self, function: Callable[..., Any], name: str) -> Any:
        """Pickle a function; a large one goes into the object store once."""
        try:
            with by_value(self._module):
                code = cloudpickle.dumps(function)
        except Exception as error:
            msg = f"the function of step {name} cannot travel: {error}"
            raise NotSerializable(msg) from error
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
        if self._capacity.fits(wanted):
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
        given: dict[str, Any] = {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus}
        if needs.memory_bytes:
            given["memory"] = needs.memory_bytes
        if needs.resources:
            given["resources"] = needs.resources
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
                ended, left, begun = ray.get(reference)
                for task, done in ended:
                    self._post(Ended(self._number, task, self._arrived(done)))
                if begun:
                    self._post(Begun(self._number, begun))
                if left:
                    self._post(Left(self._number, left))
            self._post(Over(self._number))
        except BaseException as error:
            self._post(Over(self._number, foreign(error, "its worker")))

    def _arrived(self, done: Attempt) -> Attempt:
        if done.failure is not None:
            error: Any = done.failure.error
            return replace(done, failure=replace(done.failure, error=unpack(error)))
        values = tuple(
            replace(each, name=next(self._generator)) if isinstance(each, Stored) else each for each in done.values
        )
        return replace(done, values=values)


def _lacking(wanted: dict[str, float]) -> str:
    found = capacity()
    if found.fits(wanted):
        return ""
    has = {name: found.resources.get(name, 0.0) for name in wanted}
    return f"it needs {wanted} and the cluster has {has}, also after {START_TIMEOUT_S:g} s; ask for less or add nodes"


# -- in the worker --------------------------------------------------------------------------------------


def _work(versions: tuple[str, str], folder: str, tasks: list[Task], *stored: Packed) -> Iterator[Report | Packed]:
    """Run tasks; yields reports, each followed by the large values that it tells of."""
    _settled(versions, folder)
    bench = _Bench(tasks, stored)
    for ended, left, begun in bench.reports():
        large: list[Packed] = []
        yield [(task, _outlined(done, large)) for task, done in ended], left, begun
        for value in large:  # noqa: UP028 - Ray sends to the generator, which a list's iterator does not take
            yield value


@functools.cache
def _settled(versions: tuple[str, str], folder: str) -> None:
    settle_in(versions, folder)


@functools.lru_cache(maxsize=256)
def _function(code: Any) -> Callable[..., Any]:
    return pickle.loads(code if isinstance(code, bytes) else ray.get(code))  # type: ignore[no-any-return]


def _outlined(done: Attempt, large: list[Packed]) -> Attempt:
    """Return an attempt without its large values, which are put into the list."""
    if done.failure is not None:
        failure = portable(done.failure, cloudpickle)
        error: Any = pack(failure.error, "an error")  # by Ray's own pickling its type would become another one
        return replace(done, failure=replace(failure, error=error))
    if not any(isinstance(value, Packed) and value.size_bytes > INLINE_BYTES for value in done.values):
        return done
    values: list[Value] = []
    for value in done.values:
        assert isinstance(value, Packed)
        if value.size_bytes > INLINE_BYTES:
            large.append(value)
            values.append(Stored(None, value.size_bytes))
        else:
            values.append(value)
    return replace(done, values=tuple(values))


_WAKE: Any = object()
"""News that something has become due."""


@dataclass
class _Current:
    task: Task
    began: Any
    deadline: float


class _Bench:
    """The two threads of a slice of work."""

    def __init__(self, tasks: list[Task], stored: tuple[Packed, ...]) -> None:
        self._known = Inputs(stored)
        self._slice = Slice(tasks)
        self._closes: float | None = time.monotonic() + SLICE_S
        # Code that lets no other thread run would keep this from being told later.
        self._first = tasks[0].id if len(tasks) == 1 and tasks[0].timeout else None
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._current: _Current | None = None

    def reports(self) -> Iterator[Report]:
        """Yield what ends, as soon as it does; what ends faster than it is yielded comes together."""
        if self._first:
            yield [], (), self._first
        threading.Thread(target=self._run, name="raflow step", daemon=True).start()
        over = False
        while not over:
            ended, left, over = self._wait()
            late = () if over else self._late()
            begun: str | None = None
            if late or (self._closes is not None and time.monotonic() >= self._closes):
                self._closes = None
                left += self._slice.close()
                begun = self._running() if not late else None
            if ended or late or left or begun:
                yield [*ended, *late], tuple(left), begun
            if late:
                _die()

    def _wait(self) -> tuple[list[tuple[str, Attempt]], list[str], bool]:
        """Wait for news, or until something is due; returns what has ended, what goes back, whether all is over."""
        ended: list[tuple[str, Attempt]] = []
        left: list[str] = []
        try:
            news = self._news.get(timeout=self._patience())
            while news is not None:
                if isinstance(news, str):
                    left.append(news)
                elif news is not _WAKE:
                    ended.append(news)
                news = self._news.get_nowait()
            return ended, left, True
        except queue.Empty:
            return ended, left, False

    def _patience(self) -> float | None:
        current = self._current
        due = [at for at in (self._closes, current.deadline if current else None) if at is not None and at < math.inf]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _late(self) -> tuple[tuple[str, Attempt], ...]:
        current = self._current
        if current and time.monotonic() >= current.deadline:
            return ((current.task.id, timed_out(current.task, current.began)),)
        return ()

    def _running(self) -> str | None:
        current = self._current
        return current.task.id if current and current.task.id != self._first else None

    def _run(self) -> None:
        while (task := self._slice.take()) is not None:
            inputs = self._known.of(task)
            if inputs is None:
                self._news.put(task.id)
                continue
            with self._watched(task):
                done = _attempt(task, inputs)
            self._known.keep(task, done)
            self._news.put((task.id, done))
            for left in self._slice.close() if done.failure else ():  # the driver decides whether they still begin
                self._news.put(left)
        self._news.put(None)

    @contextlib.contextmanager
    def _watched(self, task: Task) -> Iterator[None]:
        """Let the first thread, and behind it a watchdog, see to the task's timeout."""
        self._current = _Current(task, now(), time.monotonic() + (task.timeout or math.inf))
        if not task.timeout:
            yield
            self._current = None
            return
        self._news.put(_WAKE)
        # Fires also inside code that lets no other thread run.
        faulthandler.dump_traceback_later(task.timeout + _GRACE_S, exit=True, file=_nowhere())
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._current = None


@functools.cache
def _nowhere() -> IO[str]:
    return open(os.devnull, "w")


def _die() -> None:
    """Wait to be killed by the driver, which has been told; a thread of this process is still at the late step."""
    time.sleep(_GRACE_S)
    os._exit(1)


def _attempt(task: Task, inputs: list[Packed]) -> Attempt:
    began = now()
    try:
        function = _function(task.code)
        task = replace(task, retry_on=_function(task.retry_on))
    except BaseException as error:
        return Attempt(began, now(), failure=explain(error, task.id), retryable=False)
    return attempt(function, task, inputs)


_run: Any = ray.remote(max_retries=0, num_returns="streaming")(_work)


@functools.cache
def _configured(options: tuple[tuple[str, Any], ...]) -> Any:
    return _run.options(**dict(options))
