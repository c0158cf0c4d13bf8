"""Makes dependencies outside of requests: what lives as long as a replica, and what a consumer's call gets.

Within requests FastAPI makes them, see `raflow/http/application/injection.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from raflow.dependencies.needs import closure, needs
from raflow.dependencies.scopes import Scope, scope_of

Threads = Callable[..., Any]
"""Runs a function with its arguments elsewhere, and is awaited for the result."""


async def here(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function at once: for replicas whose user code has a thread of its own anyway."""
    return function(*args)


async def made(make: Any, given: Mapping[str, Any], stack: AsyncExitStack, run: Threads = here) -> Any:
    """Return what a dependency makes.

    Args:
        make: The dependency.
        given: Its arguments.
        stack: Gets the teardown of a generator.
        run: Where synchronous code runs.
    """
    code = _code(make)
    if inspect.isasyncgenfunction(code):
        return await stack.enter_async_context(asynccontextmanager(code)(**given))
    if inspect.isgeneratorfunction(code):
        return await stack.enter_async_context(_elsewhere(contextmanager(code)(**given), run))
    if inspect.iscoroutinefunction(code):
        return await code(**given)
    return await run(partial(code, **given))


@asynccontextmanager
async def _elsewhere(context: Any, run: Threads) -> AsyncIterator[Any]:
    value = await run(context.__enter__)
    try:
        yield value
    except BaseException as error:
        if not await run(context.__exit__, type(error), error, error.__traceback__):
            raise
    else:
        await run(context.__exit__, None, None, None)


def is_generator(make: Any) -> bool:
    """Return whether a dependency has a teardown."""
    return inspect.isgeneratorfunction(_code(make)) or inspect.isasyncgenfunction(_code(make))


def is_awaited(make: Any) -> bool:
    """Return whether making a dependency needs an event loop."""
    return inspect.iscoroutinefunction(_code(make)) or inspect.isasyncgenfunction(_code(make))


def _code(make: Any) -> Any:
    if isinstance(make, type):
        return partial(_constructed, make) if inspect.iscoroutinefunction(make.__init__) else make  # type: ignore[misc]
    return make if inspect.isroutine(make) else type(make).__call__.__get__(make)


async def _constructed(kind: Any, /, **given: Any) -> Any:
    """Make an instance of a class whose `__init__` is awaited: calling the class would drop that."""
    made = kind.__new__(kind, **given)
    await made.__init__(**given)
    return made


def bound(function: Callable[..., Any], given: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a processor's function as one of its record alone.

    Args:
        function: It takes a record and dependencies, in any order.
        given: The dependencies, by parameter.
    """
    if not given:
        return function
    first = next(name for name in inspect.signature(function).parameters)
    if first not in given:
        return partial(function, **given)
    record = next(name for name in inspect.signature(function).parameters if name not in given)
    return lambda value: function(**{record: value}, **given)


class Kept:
    """What lives as long as a replica.

    Args:
        makes: All dependencies of its processors.
        given: What is there already, by dependency.
        run: Where synchronous code runs.
    """

    def __init__(self, makes: Iterable[Any], given: Mapping[Any, Any], run: Threads = here) -> None:
        every = closure(makes)
        self._needs = {make: needs(make) for make in every}
        self._long = [make for make in every if scope_of(make) in (Scope.REPLICA, Scope.GLOBAL)]
        self._given = given
        self._run = run
        self.values: dict[Any, Any] = dict(given)
        """By dependency, while `open`."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Make all, what is depended on first; at the end tear them down, the last one made first."""
        stack = AsyncExitStack()
        try:
            for make in self._long:
                if make not in self._given:
                    self.values[make] = await self._made(make, {}, stack)
            yield
        finally:
            self.values = dict(self._given)
            await stack.aclose()  # not with the error that ends the replica: what follows a `yield` is done

    async def for_call(self, wants: Mapping[str, Any], stack: AsyncExitStack) -> dict[str, Any]:
        """Return the arguments of one call.

        Args:
            wants: Dependencies by parameter.
            stack: Ends with the call.
        """
        shared: dict[Any, Any] = {}
        return {name: await self._one(make, shared, stack) for name, make in wants.items()}

    async def _one(self, make: Any, shared: dict[Any, Any], stack: AsyncExitStack) -> Any:
        if make in self.values:
            return self.values[make]
        if make in shared:
            return shared[make]
        value = await self._made(make, shared, stack)
        if scope_of(make) is not Scope.NO_SCOPE:
            shared[make] = value
        return value

    async def _made(self, make: Any, shared: dict[Any, Any], stack: AsyncExitStack) -> Any:
        given = {name: await self._one(one, shared, stack) for name, one in self._needs[make].items()}
        return await made(make, given, stack, self._run)
