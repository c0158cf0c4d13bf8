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

from raflow.runtime.steps.heartbeat import heard, paced
from raflow.runtime.steps.unpickle import loads
from raflow.runtime.steps.worker import Beat, Begun, Ended, Inputs, Left, Over, Slice, attempt_shipped


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
            with heard(paced(functools.partial(self._heard, number, task.id), task.heartbeat)):
                done = attempt_shipped(task, inputs, _loaded)
            known.keep(task, done)
            self._send(Ended(number, task.id, done))
            if done.failure:  # the driver decides whether the others still begin
                self._left(work.close())
        self._send(Over(number))

    def _heard(self, number: int, task: str, said: str) -> None:
        self._send(Beat(number, task, said))

    def _left(self, tasks: tuple[str, ...]) -> None:
        if tasks:
            self._send(Left(self._number, tasks))

    def _send(self, message: Any) -> None:
        with self._sending:
            self._line.send_bytes(cloudpickle.dumps(message, protocol=5))


@functools.lru_cache(maxsize=256)
def _loaded(shipped: Any) -> Any:
    return pickle.loads(shipped) if isinstance(shipped, bytes) else shipped


if __name__ == "__main__":
    Child(Connection(int(sys.argv[1]))).serve()
