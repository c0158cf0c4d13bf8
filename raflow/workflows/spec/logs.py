"""Messages of steps on stderr, each with the node that says it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_node: ContextVar[str] = ContextVar("raflow node", default="main")
_logger = logging.getLogger("raflow.steps")


def log(message: Any, step_name: str | None = None) -> None:
    """Log a message as `[<node id>] message` from within a step, as `[main] message` elsewhere.

    It goes to stderr, unless the program has arranged its own handlers; stdout stays untouched.

    Args:
        message: What to say.
        step_name: In place of the node id.
    """
    if not _logger.hasHandlers():
        _logger.addHandler(_Stderr())
        _logger.setLevel(logging.INFO)
    _logger.info("[%s] %s", step_name or _node.get(), message)


@contextmanager
def within(node: str) -> Iterator[None]:
    """Let messages name a node."""
    token = _node.set(node)
    try:
        yield
    finally:
        _node.reset(token)


class _Stderr(logging.StreamHandler[Any]):
    """Writes to what is `sys.stderr` now, as captures and progress views put themselves in its place."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Stay with `sys.stderr`."""
