"""Dependencies in consumers: a processor whose replicas make what its function asks for.

It runs on the one thread that a replica has for user code, and on its event loop where there is something
to await. There is no request. What is GLOBAL the driver of the run has made, see `shared.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import Any

from raflow.credentials import Credentials
from raflow.dependencies.credentials import FlowCredentials
from raflow.dependencies.making import Kept, bound, is_awaited
from raflow.dependencies.needs import check, closure, hints_of, needs, routine_of
from raflow.dependencies.scopes import Scope, is_given, name_of, scope_of
from raflow.dependencies.side_output import Outlets, Pushed, numbered
from raflow.errors import InvalidDependency
from raflow.sinks import Sink


def with_dependencies(code: Any, name: str, credentials: Credentials) -> Any:
    """Return a consumer's code as one that takes its record alone; itself if it has no dependencies.

    Args:
        code: A function, or a class with `process`.
        name: Of the consumer.
        credentials: Of the Flow.

    Raises:
        InvalidDependency: A dependency cannot be made, or not in a consumer.
    """
    function = getattr(code, "process", code) if isinstance(code, type) else routine_of(code)
    wants = needs(function)
    if not wants:
        return code
    for make in wants.values():
        check(make)
    for make in closure(wants.values()):
        _check_here(make, name, is_awaiting=_awaits(function))
    given = {FlowCredentials: FlowCredentials.of(credentials)}
    makes, numbers = numbered(wants)
    members: dict[str, Any] = {"code": staticmethod(code), "wants": wants, "given": given, "numbers": numbers}
    members["sides"] = tuple(make.sink for make in makes)
    members["process"] = _process(function, wants)
    return type(str(getattr(code, "__name__", name)), (_Consumer,), members)


def asked(code: Any) -> list[Any]:
    """Return the dependencies for which a consumer's code asks; none if `with_dependencies` left it as it was."""
    return list(code.wants.values()) if _has_dependencies(code) else []


def sides(code: Any) -> tuple[Sink, ...]:
    """Return where the side outputs of a consumer's code go, as often as it has them."""
    return code.sides if _has_dependencies(code) else ()


def ship(code: Any, made: Mapping[Any, Any]) -> None:
    """Give a consumer's code what GLOBAL dependencies have made, before it travels.

    Args:
        code: As `with_dependencies` has returned it.
        made: By dependency.
    """
    if _has_dependencies(code):
        code.given.update({make: made[make] for make in closure(code.wants.values()) if make in made})


def _has_dependencies(code: Any) -> bool:
    return isinstance(code, type) and issubclass(code, _Consumer)


def _awaits(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _check_here(make: Any, name: str, *, is_awaiting: bool) -> None:
    scope = scope_of(make)
    if make in (FlowCredentials, Outlets):
        return
    if is_given(make):
        msg = f"consumer {name!r} asks for {name_of(make)}, which only HTTP has"
        raise InvalidDependency(msg)
    unknown = [one for one in inspect.signature(make).parameters.values() if one.default is one.empty]
    if len(unknown) > len(needs(make)):
        msg = f"consumer {name!r}: {name_of(make)} needs something of a request, and a consumer has none"
        raise InvalidDependency(msg)
    if scope in (Scope.PROCESS, Scope.NO_SCOPE) and is_awaited(make) and not is_awaiting:
        msg = f"consumer {name!r} gets {name_of(make)}, which is awaited for each call; make it an async function, too"
        raise InvalidDependency(msg)


class _Consumer:
    """One instance per replica."""

    code: Any
    wants: dict[str, Any]
    given: dict[Any, Any]
    numbers: list[int]
    sides: tuple[Sink, ...]

    def __init__(self) -> None:
        self.pushed = Pushed(self.wants, self.numbers) if self.numbers else None
        outlets = {Outlets: Outlets(self.pushed.opened)} if self.pushed else {}
        self.kept = Kept(self.wants.values(), {**self.given, **outlets})
        self.stack = AsyncExitStack()
        self.function: Callable[..., Any] = self.code
        self.fixed: Callable[..., Any] | None = None

    async def setup(self) -> None:
        await self.stack.enter_async_context(self.kept.open())
        if isinstance(self.code, type):
            instance: Any = self.code()
            self.function = instance.process
            self.stack.push_async_callback(_call, instance, "teardown")
            await _call(instance, "setup")
        if all(scope_of(make) in (Scope.REPLICA, Scope.GLOBAL) for make in self.wants.values()):
            self.fixed = bound(self.function, await self.kept.for_call(self.wants, self.stack))

    async def teardown(self) -> None:
        await self.stack.aclose()

    def pushing(self) -> AbstractContextManager[None]:
        return self.pushed.call() if self.pushed else nullcontext()

    @asynccontextmanager
    async def awaited(self) -> AsyncIterator[Callable[..., Any]]:
        """Yield the function of a record alone; what it shares with no other call ends with it."""
        if self.fixed is not None:
            with self.pushing():
                yield self.fixed
            return
        async with AsyncExitStack() as stack:
            stack.enter_context(self.pushing())
            yield bound(self.function, await self.kept.for_call(self.wants, stack))

    @contextmanager
    def at_once(self) -> Iterator[Callable[..., Any]]:
        """Do the same where nothing is awaited."""
        if self.fixed is not None:
            with self.pushing():
                yield self.fixed
            return
        call = self.awaited()
        yielded = _finished(call.__aenter__())
        try:
            yield yielded
        except BaseException as error:
            if not _finished(call.__aexit__(type(error), error, error.__traceback__)):
                raise
        else:
            _finished(call.__aexit__(None, None, None))


async def _call(instance: Any, name: str) -> None:
    method = getattr(instance, name, None)
    result = method() if method is not None else None
    if inspect.isawaitable(result):
        await result


def _finished(work: Any) -> Any:
    """Return the result of a coroutine that awaits nothing, without an event loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    msg = "a dependency awaits something in a synchronous consumer"
    raise InvalidDependency(msg)


def _process(function: Any, wants: dict[str, Any]) -> Callable[..., Any]:
    """Return a method of the same kind as the function, with the annotations of its record and result."""
    process = _asynchronous(function) if _awaits(function) else _synchronous(function)
    hints = hints_of(function)
    names = [name for name in inspect.signature(function).parameters if name not in wants and name != "self"]
    found = {"record": hints.get(names[0]), "return": hints.get("return")}
    process.__annotations__ = {name: hint for name, hint in found.items() if hint is not None}
    return process


def _asynchronous(function: Any) -> Callable[..., Any]:
    if inspect.isasyncgenfunction(function):

        async def several(self: _Consumer, record: Any) -> AsyncIterator[Any]:
            async with self.awaited() as call:
                async for item in call(record):
                    yield item

        return several

    async def one(self: _Consumer, record: Any) -> Any:
        async with self.awaited() as call:
            return _ran(await call(record))

    return one


def _synchronous(function: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function):

        def several(self: _Consumer, record: Any) -> Iterator[Any]:
            with self.at_once() as call:
                yield from call(record)

        return several

    def one(self: _Consumer, record: Any) -> Any:
        with self.at_once() as call:
            return _ran(call(record))

    return one


def _ran(result: Any) -> Any:
    """Return a list in place of a generator that was returned, which may need what ends with the call."""
    return list(result) if isinstance(result, Iterator) else result
