"""How a command ends: what it prints of an error, its exit code, and where what user code prints goes."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from rich.console import Console

from raflow.errors import FlowError, RaflowError

FAILED, USAGE, INTERRUPTED = 1, 2, 130


class errors:
    """Prints an error as the user should see it and exits with its code."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RaflowError):
            from raflow.observe.summary import failure, show

            show(Console(stderr=True), failure(error))
            sys.exit(USAGE if isinstance(error, FlowError) else FAILED)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(INTERRUPTED)


@contextmanager
def stdout_for_the_result() -> Iterator[None]:
    """Let what user code prints, here and in child processes, go to stderr."""
    before = sys.stdout
    before.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        before.flush()
        os.dup2(kept, 1)
        os.close(kept)
        atexit.register(_stdout_to_stderr)


def _stdout_to_stderr() -> None:
    """Ray prints what came late from its workers while the interpreter ends."""
    sys.stdout = sys.stderr
