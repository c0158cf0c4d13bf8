"""Steps in child processes of this one.

Our own, because a step that is timed out or killed must cost its own process only: a pool of the standard
library or of loky fails every call when one worker dies. A child imports no script of the user's again, so
that scripts need no main guard; it ends when this process does.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

import cloudpickle

from raflow.engines.here import LocalWorkers
from raflow.errors import StepLost
from raflow.options import Resources
from raflow.runtime.steps.messages import Over, Post, Task
from raflow.runtime.steps.unpickle import loads
from raflow.runtime.steps.values import shipped


class ProcessWorkers(LocalWorkers):
    """Runs steps in child processes, which are used again, and killed with a step that is timed out or cancelled.

    Args:
        processes: Steps that run at once; None: one per CPU.
        module: Module whose functions and classes travel as they are.
    """

    def __init__(self, processes: int | None = None, module: ModuleType | None = None) -> None:
        super().__init__(processes or len(os.sched_getaffinity(0)), "raflow child")
        self._module = module
        self._idle: list[_Child] = []
        self._closed = False
        self._lock = threading.Lock()

    def ship(self, function: Callable[..., Any], name: str) -> Any:
        """Pickle a function."""
        return shipped(function, name, self._module)

    def call(self, number: int, tasks: list[Task], needs: Resources, post: Post) -> _ProcessCall:
        """Run tasks in an idle child, or in a new one."""
        del needs
        with self._lock:
            child = self._idle.pop() if self._idle else None
        call = _ProcessCall(number, child or _Child(), post, self._free)
        self._threads.run(lambda: call.follow(tasks))
        return call

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for child in idle:
            child.kill()
            child.ended()
        super().close()

    def _free(self, child: _Child) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(child)
                return
        child.kill()
        child.ended()


class _Child:
    """A child process and the line to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "raflow.engines.child", str(theirs.fileno())]
        home = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
        path = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}
        )
        theirs.close()
        self._line = Connection(ours.detach())
        self._sending = threading.Lock()
        self.send([os.path.abspath(each) for each in sys.path])

    def send(self, message: Any) -> None:
        with self._sending:
            self._line.send_bytes(cloudpickle.dumps(message, protocol=5))

    def receive(self) -> Any:
        return loads(self._line.recv_bytes())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ended(self) -> int:
        """Hang up, too, and return the exit code of a child that has ended."""
        code = self._process.wait()
        self._line.close()
        return code


class _ProcessCall:
    def __init__(self, number: int, child: _Child, post: Post, free: Callable[[_Child], None]) -> None:
        self._number = number
        self._child = child
        self._post = post
        self._free = free
        self._lock = threading.Lock()
        self._has_child = True

    def follow(self, tasks: list[Task]) -> None:
        """Send the tasks and hand reports on until the call has ended."""
        try:
            self._child.send((self._number, tasks))
            while not isinstance(message := self._child.receive(), Over):
                self._post(message)
        except (EOFError, OSError):
            code = self._child.ended()
            how = f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"
            message = Over(self._number, StepLost(f"its process {how}"))
        except Exception as error:  # what was sent cannot travel, and nobody knows where the line stands
            self._child.kill()
            self._child.ended()
            message = Over(self._number, StepLost(f"{type(error).__name__} on the line to its process: {error}"))
        else:
            if self._let_go():
                self._free(self._child)
            else:
                self._child.ended()
        self._post(message)

    def close(self) -> None:
        try:
            self._child.send(None)
        except OSError:
            return  # it has died: the thread that follows it tells

    def kill(self) -> None:
        if self._let_go():
            self._child.kill()

    def _let_go(self) -> bool:
        """Give the child up; False if that was done before, and the child may be at work for another call."""
        with self._lock:
            had, self._has_child = self._has_child, False
        return had
