"""Replicas as threads of this process: tests in milliseconds, notebooks without a start-up."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from raflow.engines.daemons import DaemonThreads
from raflow.errors import ReplicaLost
from raflow.options import Resources
from raflow.runtime.engine import Capacity, Handover, Listener, ReplicaHandle
from raflow.runtime.serving.address import Address, bind, unbind

_STORE_SHARE = 0.25
"""Share of the machine's memory that payloads on their way may take."""
_EXIT_S = 1.0


class LocalEngine:
    """Runs replicas in this process.

    Python functions share its one interpreter lock and do not scale here; Arrow's do.
    """

    name = "local"

    def start(self) -> None:
        """Nothing to start."""

    def capacity(self) -> Capacity:
        """Return the CPUs that this process may use."""
        cpus, memory = float(len(os.sched_getaffinity(0))), float(_memory_bytes())
        return Capacity({"CPU": cpus, "memory": memory}, shared=True, store_bytes=memory * _STORE_SHARE)

    def ask(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Nothing can grow here."""

    def available(self) -> dict[str, float]:
        """Return the capacity: threads share it."""
        return self.capacity().resources

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Return the code as it is; nothing travels."""
        return make, args

    def listen(self, address: Address) -> Listener:
        """Listen in this process."""
        return _LocalListener(address)

    def spawn(
        self, name: str, packed: Any, needs: Resources, *, anonymous: bool = False, listener: Listener | None = None
    ) -> ReplicaHandle:
        """Make the replica here."""
        del needs, anonymous, listener
        make, args = packed
        return _LocalReplica(name, make(*args, name))

    def gone(self, references: Sequence[Any]) -> list[bool]:
        """Return that nothing is lost: it is in this process."""
        return [False for _ in references]

    def close(self) -> None:
        """Nothing to release; threads of killed replicas are daemons."""


class _LocalListener:
    def __init__(self, address: Address) -> None:
        self._listening, self.address = bind(address)

    def handover(self, replica: ReplicaHandle) -> Future[Handover]:
        del replica
        answer: Future[Handover] = Future()
        answer.set_result(self)
        return answer

    def take(self) -> socket.socket:
        return self._listening.dup()

    def leaving(self, replica: ReplicaHandle) -> None:
        del replica  # there is no other node

    def close(self) -> None:
        unbind(self._listening, self.address)


class _Held:
    """A payload in this process; it comes with the answer of the call that gives it."""

    def __init__(self) -> None:
        self.payload: Any = None


class _LocalReplica:
    def __init__(self, name: str, replica: Any) -> None:
        self.name = name
        self._replica = replica
        self._calls: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._killed = False
        self._threads = DaemonThreads(f"{name} call")

    def call(self, method: str, *args: Any) -> Future[Any]:
        return self._call(lambda: getattr(self._replica, method)(*args))

    def produce(self, method: str, *args: Any, count: int) -> tuple[Future[Any], list[Any]]:
        held = [_Held() for _ in range(count)]

        def call() -> Any:
            given = [arg.payload if isinstance(arg, _Held) else arg for arg in args]
            answer, payloads = getattr(self._replica, method)(*given)
            for one, payload in zip(held, payloads, strict=False):
                one.payload = payload
            return answer

        return self._call(call), held

    def _call(self, call: Callable[[], Any]) -> Future[Any]:
        answer: Future[Any] = Future()
        with self._lock:
            if not self._killed:
                self._calls.add(answer)
        if self._killed:
            answer.set_exception(self._lost())
            return answer
        self._threads.run(lambda: self._run(answer, call))
        return answer

    def node(self) -> Future[str]:
        here: Future[str] = Future()
        here.set_result("")
        return here

    def kill(self) -> None:
        """Fail its calls and abandon its threads: a thread cannot be ended from outside."""
        with self._lock:
            self._killed = True
            calls, self._calls = self._calls, set()
        self._replica.cancel()
        self._threads.close()
        _KILLED.add(self.name)
        for answer in calls:
            answer.set_exception(self._lost())

    def release(self, *, worn: bool = False) -> None:
        del worn
        self.kill()

    def _run(self, answer: Future[Any], call: Callable[[], Any]) -> None:
        error, result = None, None
        try:
            result = call()
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


_KILLED: set[str] = set()
"""Names of replicas whose threads may still be at work."""


@atexit.register
def _let_threads_end() -> None:
    """Give threads of killed replicas a moment: one that is inside of Arrow when Python ends aborts the process."""
    deadline = time.monotonic() + _EXIT_S
    for thread in threading.enumerate():
        if thread.name.rpartition(" ")[0] in _KILLED:
            thread.join(max(0.0, deadline - time.monotonic()))


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
