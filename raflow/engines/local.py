"""Replicas as threads of this process: tests in milliseconds, notebooks without a start-up."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from raflow.errors import ReplicaLost
from raflow.options import Resources
from raflow.runtime.engine import Capacity, ReplicaHandle


class LocalEngine:
    """Runs replicas in this process.

    Python functions share its one interpreter lock and do not scale here; Arrow's do.
    """

    name = "local"

    def start(self) -> None:
        """Nothing to start."""

    def capacity(self) -> Capacity:
        """Return the CPUs that this process may use."""
        return Capacity({"CPU": float(len(os.sched_getaffinity(0))), "memory": float(_memory_bytes())})

    def available(self) -> dict[str, float]:
        """Return the capacity: threads share it."""
        return self.capacity().resources

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Return the code as it is; nothing travels."""
        return make, args

    def spawn(self, name: str, packed: Any, needs: Resources) -> ReplicaHandle:
        """Make the replica here."""
        del needs
        make, args = packed
        return _LocalReplica(name, make(*args, name))

    def close(self) -> None:
        """Nothing to release; threads of killed replicas are daemons."""


class _LocalReplica:
    def __init__(self, name: str, replica: Any) -> None:
        self.name = name
        self._replica = replica
        self._calls: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._killed = False

    def call(self, method: str, *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            if not self._killed:
                self._calls.add(answer)
        if self._killed:
            answer.set_exception(self._lost())
            return answer
        threading.Thread(
            target=self._run, args=(answer, method, args), name=f"{self.name} {method}", daemon=True
        ).start()
        return answer

    def kill(self) -> None:
        """Fail its calls and abandon its threads: a thread cannot be ended from outside."""
        with self._lock:
            self._killed = True
            calls, self._calls = self._calls, set()
        self._replica.cancel()
        for answer in calls:
            answer.set_exception(self._lost())

    def _run(self, answer: Future[Any], method: str, args: tuple[Any, ...]) -> None:
        error, result = None, None
        try:
            result = getattr(self._replica, method)(*args)
        except BaseException as raised:
            error = raised
        with self._lock:
            if answer not in self._calls:
                return
            self._calls.remove(answer)
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def _lost(self) -> ReplicaLost:
        return ReplicaLost(f"replica {self.name} was killed")


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
