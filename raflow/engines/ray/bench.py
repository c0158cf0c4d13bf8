"""The worker's half of a slice of steps on Ray: a thread that runs them and one that tells of them."""

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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, NamedTuple

import ray

from raflow.engines.ray.cluster import settle_in
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import heard, paced, patience
from raflow.runtime.steps.messages import Beat, Begun, Ended, Left, Over, Task
from raflow.runtime.steps.values import INLINE_BYTES, Packed, Stored, Value, pack
from raflow.runtime.steps.worker import SLICE_S, Inputs, Slice, attempt_shipped, now, run_slice, timed_out

_GRACE_S = 1.0


class Report(NamedTuple):
    """What has happened to the tasks of a slice."""

    ended: list[tuple[str, Attempt]]
    left: list[str]
    """Those that go back."""
    beats: list[tuple[str, str]]
    """Signs of life: the task, and what it said."""
    begun: str | None = None
    """The one that has; only told of those that take their time."""


def work(versions: tuple[str, str], folder: str, tasks: list[Task], *stored: Packed) -> Iterator[Report | Packed]:
    """Run tasks; yields reports, each followed by the large values that it tells of."""
    _settled(versions, folder)
    bench = Bench(tasks, stored)
    for report in bench.reports():
        large: list[Packed] = []
        yield report._replace(ended=[(task, _outlined(done, large)) for task, done in report.ended])
        for value in large:  # noqa: UP028 - Ray sends to the generator, which a list's iterator does not take
            yield value


@functools.cache
def _settled(versions: tuple[str, str], folder: str) -> None:
    settle_in(versions, folder)


@functools.lru_cache(maxsize=256)
def _loaded(shipped: Any) -> Any:
    return pickle.loads(shipped if isinstance(shipped, bytes) else ray.get(shipped))


def _outlined(done: Attempt, large: list[Packed]) -> Attempt:
    """Return an attempt without its large values, which are put into the list."""
    if done.failure is not None:
        error: Any = pack(done.failure.error, "an error")  # by Ray's own pickling its type would become another one
        return replace(done, failure=replace(done.failure, error=error))
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


_NUMBER = 0
"""Of the call; only the driver knows it."""

_WAKE: Any = object()
"""News that something has become due."""


@dataclass
class _Current:
    task: Task
    began: Any
    deadline: float


class Bench:
    """The two threads of a slice of work."""

    def __init__(self, tasks: list[Task], stored: tuple[Packed, ...]) -> None:
        self._known = Inputs(stored)
        self._slice = Slice(tasks)
        self._closes: float | None = time.monotonic() + SLICE_S
        # Code that lets no other thread run would keep this from being told later.
        self._first = tasks[0].id if len(tasks) == 1 and (tasks[0].timeout or tasks[0].heartbeat) else None
        self._news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._current: _Current | None = None

    def reports(self) -> Iterator[Report]:
        """Yield what ends, as soon as it does; what ends faster than it is yielded comes together."""
        if self._first:
            yield Report([], [], [], self._first)
        threading.Thread(target=self._run, name="raflow step", daemon=True).start()
        over = False
        while not over:
            report, over = self._wait()
            late = () if over else self._late()
            report.ended.extend(late)
            if late or (self._closes is not None and time.monotonic() >= self._closes):
                self._closes = None
                report.left.extend(self._slice.close())
                report = report._replace(begun=self._running() if not late else None)
            if any(report):
                yield report
            if late:
                _die()

    def _wait(self) -> tuple[Report, bool]:
        """Wait for news, or until something is due; returns the news, and whether all is over."""
        report = Report([], [], [])
        try:
            news = self._news.get(timeout=self._patience())
            while not isinstance(news, Over):
                if isinstance(news, Left):
                    report.left.extend(news.tasks)
                elif isinstance(news, Ended):
                    report.ended.append((news.task, news.attempt))
                elif isinstance(news, Beat):
                    report.beats.append((news.task, news.said))
                news = self._news.get_nowait()
            return report, True
        except queue.Empty:
            return report, False

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
        for report in run_slice(_NUMBER, self._slice, self._known, self._attempt):
            if not isinstance(report, Begun):  # told of those that take their time only, see `_running`
                self._news.put(report)

    def _attempt(self, task: Task, inputs: list[Packed]) -> Attempt:
        with self._watched(task):
            return attempt_shipped(task, inputs, _loaded)

    @contextlib.contextmanager
    def _watched(self, task: Task) -> Iterator[None]:
        """Let the first thread or the driver, and behind them a watchdog, see to the task's limits."""
        self._current = _Current(task, now(), time.monotonic() + (task.timeout or math.inf))
        if not (task.timeout or task.heartbeat):
            yield
            self._current = None
            return
        self._news.put(_WAKE)
        if task.timeout:
            _watch(self._current.deadline - time.monotonic())
        try:
            with heard(paced(functools.partial(self._heard, self._current), task.heartbeat)):
                yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._current = None

    def _heard(self, current: _Current, said: str) -> None:
        _watch(min(current.deadline - time.monotonic(), patience(current.task.heartbeat)))
        self._news.put(Beat(_NUMBER, current.task.id, said))


def _watch(limit: float) -> None:
    """Set the watchdog, which fires also inside code that lets no other thread run."""
    faulthandler.dump_traceback_later(max(0, limit) + _GRACE_S, exit=True, file=_nowhere())


@functools.cache
def _nowhere() -> IO[str]:
    return open(os.devnull, "w")


def _die() -> None:
    """Wait to be killed by the driver, which has been told; a thread of this process is still at the late step."""
    time.sleep(_GRACE_S)
    os._exit(1)
