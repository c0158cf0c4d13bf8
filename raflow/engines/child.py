"""The child process in which steps run: `python -m raflow.engines.child FD`.

The main thread runs user code; another one reads what the parent sends, and ends the process when the
parent is gone.
"""

from __future__ import annotations

import functools
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from raflow.runtime.failure import explain, portable
from raflow.runtime.steps.step import Attempt
from raflow.runtime.steps.unpickle import loads
from raflow.runtime.steps.worker import Begun, Ended, Inputs, Left, Over, Slice, Task, attempt, now


class Child:
    """One end of the line to the parent.

    Args:
        line: Messages from the parent: `sys.path` first, then calls `(number, tasks)`, or None to close the slice.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._sending = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[int, Slice]] = queue.SimpleQueue()
        self._number, self._slice = -1, Slice(())

    def serve(self) -> None:
        """Run calls until the parent hangs up."""
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C goes to all, and the parent decides what ends
        sys.path[:] = pickle.loads(self._line.recv_bytes())
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            self._work(*self._calls.get())

    def _listen(self) -> None:
        try:
            while True:
                message = loads(self._line.recv_bytes())
                if message is None:
                    self._left(self._slice.close())
                else:
                    self._number, self._slice = message[0], Slice(message[1])
                    self._calls.put((self._number, self._slice))
        except (EOFError, OSError):
            os._exit(0)
        except BaseException:  # without this thread the call would never end
            traceback.print_exc()
            os._exit(1)

    def _work(self, number: int, work: Slice) -> None:
        known = Inputs()
        while (task := work.take()) is not None:
            inputs = known.of(task)
            if inputs is None:
                self._left((task.id,))
                continue
            self._send(Begun(number, task.id))
            done = _attempt(task, inputs)
            known.keep(task, done)
            self._send(Ended(number, task.id, done))
            if done.failure:  # the driver decides whether the others still begin
                self._left(work.close())
        self._send(Over(number))

    def _left(self, tasks: tuple[str, ...]) -> None:
        if tasks:
            self._send(Left(self._number, tasks))

    def _send(self, message: Any) -> None:
        with self._sending:
            self._line.send_bytes(cloudpickle.dumps(message, protocol=5))


def _attempt(task: Task, inputs: list[Any]) -> Attempt:
    began = now()
    try:
        function = _function(task.code)
    except BaseException as error:
        return Attempt(began, now(), failure=portable(explain(error, task.id), cloudpickle), retryable=False)
    done = attempt(function, task, inputs)
    if done.failure is None:
        return done
    return Attempt(
        done.started_at, done.finished_at, failure=portable(done.failure, cloudpickle), retryable=done.retryable
    )


@functools.lru_cache(maxsize=256)
def _function(code: bytes) -> Callable[..., Any]:
    return pickle.loads(code)  # type: ignore[no-any-return]


if __name__ == "__main__":
    Child(Connection(int(sys.argv[1]))).serve()
