"""`raflow run --reload`: the command runs in a child process, and again when a source file has changed.

The child has a session of its own, so that Ctrl-C reaches the parent alone, which decides what ends and how.
Should the parent be killed, the system tells the child (`PR_SET_PDEATHSIG`), and it drains.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from raflow.errors import MissingExtra

_QUIET_MS = 300
"""So long nothing more must have changed: editors write in several steps, and a checkout many files."""
_BUSY_MS = 10_000
"""Changes that never rest are taken after this time."""
_LOOK_MS = 500
_DRAIN_S = 3.0
"""For a run to drain before it is stopped."""
_STOP_S = 10.0
"""For a run to stop before it is killed."""
_PR_SET_PDEATHSIG = 1


def reload(folder: Path) -> None:
    """Run this process's command without `--reload`, and again when a Python file below a folder has changed.

    Returns when it is interrupted or terminated; the run has ended then.

    Raises:
        MissingExtra: The library that watches files is not installed.
    """
    watchfiles = _watchfiles()
    words = [word for word in sys.argv[1:] if word != "--reload"]
    child = _Child(words, folder)
    changes = watchfiles.watch(
        folder,
        watch_filter=watchfiles.PythonFilter(),
        step=_QUIET_MS,
        debounce=_BUSY_MS,
        rust_timeout=_LOOK_MS,
        yield_on_timeout=True,
    )
    try:
        with _interrupted_by(signal.SIGINT, signal.SIGTERM):  # a shell's job may have been told to ignore Ctrl-C
            for changed in changes:
                if not changed:
                    child.look()
                    continue
                names = sorted({os.path.relpath(path, folder) for _, path in changed})
                click.echo(f"changed: {', '.join(names)}; it is started again", err=True)
                child.end(_DRAIN_S)
                child = _Child(words, folder)
    except KeyboardInterrupt:
        pass
    finally:
        child.end(0.0)


class _Child:
    """The command in a process of its own."""

    def __init__(self, words: list[str], folder: Path) -> None:
        self._folder = folder
        self._told = False
        command = [sys.executable, "-m", "raflow.cli.reload", str(os.getpid()), *words]
        self._process = subprocess.Popen(command, start_new_session=True)

    def look(self) -> None:
        """Say it, once, if it has ended by itself."""
        code = self._process.poll()
        if code is not None and not self._told:
            self._told = True
            again = f"it is started again when a Python file in {self._folder} changes"
            click.echo(f"ended with exit code {code}; {again}, Ctrl-C ends", err=True)

    def end(self, drain_s: float) -> None:
        """Let it drain for so long, then stop it, and kill it if that does not help."""
        if drain_s:
            self._process.send_signal(signal.SIGTERM)
            if self._is_over(drain_s):
                return
        for number in (signal.SIGTERM, signal.SIGINT):  # the second one stops; two of a kind could count as one
            self._process.send_signal(number)
        if not self._is_over(_STOP_S):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _is_over(self, timeout_s: float) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        return self._process.returncode is not None


@contextmanager
def _interrupted_by(*numbers: int) -> Iterator[None]:
    """Have signals raise KeyboardInterrupt."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watchfiles() -> Any:
    try:
        import watchfiles
    except ImportError as error:
        msg = "--reload needs watchfiles, which is not installed: pip install 'raflow[reload]'"
        raise MissingExtra(msg) from error
    return watchfiles


def _end_with(parent: int) -> None:
    """Have this process told to drain when its parent dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has died before
        sys.exit(1)


if __name__ == "__main__":
    from raflow.cli import main

    _end_with(int(sys.argv.pop(1)))
    main(prog_name="raflow")
