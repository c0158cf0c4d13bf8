"""How a command ends: what it prints of an error, and its exit code."""

from __future__ import annotations

import sys
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
