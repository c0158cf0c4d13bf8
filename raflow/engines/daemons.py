"""Threads that wait for work and end with the process."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class DaemonThreads:
    """Threads that are made as they are needed, used again, and never keep the process alive.

    Args:
        name: Of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = 0
        self._closed = False
        self._lock = threading.Lock()

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise, in an idle thread or in a new one."""
        with self._lock:
            self._idle -= 1
            grow = self._idle < 0
        self._jobs.put(job)
        if grow:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def close(self) -> None:
        """End the idle threads, and the others after their job."""
        with self._lock:
            self._closed = True
            for _ in range(self._idle):
                self._jobs.put(None)
            self._idle = 0

    def _serve(self) -> None:
        with self._lock:
            self._idle += 1
        while (job := self._jobs.get()) is not None:
            job()
            with self._lock:
                if self._closed:
                    return
                self._idle += 1
