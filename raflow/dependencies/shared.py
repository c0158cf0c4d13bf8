"""What dependencies of the scope GLOBAL make: once per run, by its driver, for all its replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from raflow.credentials import Credentials
from raflow.dependencies.credentials import FlowCredentials
from raflow.dependencies.making import Kept
from raflow.dependencies.needs import closure
from raflow.dependencies.scopes import Scope, scope_of


class Shared:
    """The GLOBAL dependencies of one run, from `open` to `close`.

    Args:
        makes: The dependencies of all processors; those of other scopes are left out.
        credentials: Of the Flow.
    """

    def __init__(self, makes: Iterable[Any], credentials: Credentials) -> None:
        self._making = _made_once(makes, credentials)
        self._stack = ExitStack()
        self._made: dict[Any, Any] | None = None

    def open(self) -> dict[Any, Any]:
        """Make them, if that is not done yet; returns what was made, by dependency."""
        if self._made is None:
            self._made = self._stack.enter_context(self._making)
        return self._made

    def close(self) -> None:
        """Tear them down, once; no replica has them any more."""
        self._stack.close()


@contextmanager
def _made_once(makes: Iterable[Any], credentials: Credentials) -> Iterator[dict[Any, Any]]:
    """Make them on a thread with an event loop of its own, since that of the caller may run: a notebook's does."""
    wanted = [make for make in closure(makes) if scope_of(make) is Scope.GLOBAL]
    if not wanted:
        yield {}
        return
    kept = Kept(wanted, {FlowCredentials: FlowCredentials.of(credentials)})
    loop, opened = asyncio.new_event_loop(), kept.open()
    with closing(loop), ThreadPoolExecutor(1, thread_name_prefix="raflow globals") as thread:
        thread.submit(loop.run_until_complete, opened.__aenter__()).result()
        try:
            yield {make: kept.values[make] for make in wanted}
        finally:
            thread.submit(loop.run_until_complete, opened.__aexit__(None, None, None)).result()
