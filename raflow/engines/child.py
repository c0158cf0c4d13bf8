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
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.heartbeat import heard, paced
from raflow.runtime.steps.messages import Beat, Left, Report, Task
from raflow.runtime.steps.unpickle import loads
from raflow.runtime.steps.values import Packed
from raflow.runtime.steps.worker import Inputs, Slice, attempt_shipped, run_slice


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
                    self._close()
                else:
                    self._number, self._slice = message[0], Slice(message[1])
                    self._calls.put((self._number, self._slice))
        except (EOFError, OSError):
            os._exit(0)
        except BaseException:  # without this thread the call would never end
            traceback.print_exc()
            os._exit(1)

    def _work(self, number: int, work: Slice) -> None:
        for report in run_slice(number, work, Inputs(), functools.partial(self._attempt, number)):
            self._send(report)

    def _attempt(self, number: int, task: Task, inputs: list[Packed]) -> Attempt:
        with heard(paced(functools.partial(self._heard, number, task.id), task.heartbeat)):
            return attempt_shipped(task, inputs, _loaded)

    def _heard(self, number: int, task: str, said: str) -> None:
        self._send(Beat(number, task, said))

    def _close(self) -> None:
        left = self._slice.close()
        if left:
            self._send(Left(self._number, left))

    def _send(self, message: Report) -> None:
        with self._sending:
            self._line.send_bytes(cloudpickle.dumps(message, protocol=5))


@functools.lru_cache(maxsize=256)
def _loaded(shipped: Any) -> Any:
    return pickle.loads(shipped) if isinstance(shipped, bytes) else shipped


if __name__ == "__main__":
    Child(Connection(int(sys.argv[1]))).serve()
