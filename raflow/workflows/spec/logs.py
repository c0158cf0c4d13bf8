"""Messages of steps on stderr, each with the node that says it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from raflow.observe.terminal import Stderr

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
        _logger.addHandler(Stderr())
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
