"""Dependencies in endpoints and collectors: FastAPI makes them for each request, with its `Depends`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, cast

from fastapi import Depends
from fastapi.security.base import SecurityBase

from raflow.dependencies.making import Kept, is_generator, made
from raflow.dependencies.needs import hints_of, needs, routine_of
from raflow.dependencies.scopes import Scope, scope_of
from raflow.http.application.threads import REQUEST, run
from raflow.http.depending import depends_of, reached

Ends = Literal["function", "request"]
"""When FastAPI ends dependencies: with the function that asks for them, or once the reply is sent."""


class Injection:
    """The dependencies of one application.

    Args:
        kept: What lives as long as the replica.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._made: dict[tuple[int, Ends], tuple[Any, Callable[..., Any]]] = {}
        """What FastAPI calls, by what is called there, which is held for its id, and when that ends."""

    def into(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of which FastAPI sees the dependencies as such; itself if it has none.

        They end with the function, before the reply, so that what fails there fails the request; those of a
        generator end with its stream.
        """
        if not reached(function):
            return function
        return self._injected(function, "request" if is_generator(function) else "function")

    def _injected(self, function: Callable[..., Any], ends: Ends) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(routine_of(function)):

            @functools.wraps(function)
            async def call(**given: Any) -> Any:
                return await function(**given)
        else:

            @functools.wraps(function)
            def call(**given: Any) -> Any:
                return function(**given)

        call.__signature__ = self._signature(function, ends)  # type: ignore[attr-defined]
        return call

    def into_handler(self, handle: Callable[..., Any], wants: dict[str, Any]) -> Callable[..., Any]:
        """Return a handler of requests that gets `wants` as one argument, a dict, after the request."""

        async def call(request: Any, **given: Any) -> Any:
            return await handle(request, given)

        own = list(inspect.signature(handle, eval_str=True).parameters.values())[:1]
        call.__signature__ = inspect.Signature([*own, *self._parameters(wants, "function")])  # type: ignore[attr-defined]
        return call

    def _signature(self, code: Callable[..., Any], ends: Ends) -> inspect.Signature:
        """Return a signature with evaluated annotations, in which dependencies are FastAPI's."""
        plain = inspect.signature(code)
        hints = hints_of(code)
        wants = needs(code)
        called = {name: one for name, one in depends_of(code).items() if reached(one.dependency)}
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        others = [
            one.replace(annotation=hints.get(name, one.annotation), kind=inspect.Parameter.KEYWORD_ONLY)
            for name, one in plain.parameters.items()
            if name not in wants and name not in called and one.kind not in kinds
        ]
        returns = plain.return_annotation if isinstance(code, type) else hints.get("return", plain.return_annotation)
        ours = self._parameters(wants, ends)
        theirs = [_parameter(name, self._depends_inside(one, ends)) for name, one in called.items()]
        return inspect.Signature([*others, *ours, *theirs], return_annotation=returns)

    def _parameters(self, wants: dict[str, Any], ends: Ends) -> list[inspect.Parameter]:
        return [_parameter(name, self._depends(make, ends)) for name, make in wants.items()]

    def _depends(self, make: Any, ends: Ends) -> Any:
        if isinstance(make, SecurityBase) and callable(make):  # as it is: FastAPI shows it as a security scheme
            return Depends(make)
        provider = self._once(make, ends, self._provider)
        return Depends(provider, use_cache=scope_of(make) is not Scope.NO_SCOPE, scope=ends)

    def _depends_inside(self, depends: Any, ends: Ends) -> Any:
        """Return a user's `Depends` that calls a function with dependencies; it must not outlive them."""
        injected = self._once(depends.dependency, ends, self._injected)
        return replace(depends, dependency=injected, scope=depends.scope or ends)

    def _once(self, code: Any, ends: Ends, make: Callable[[Any, Ends], Callable[..., Any]]) -> Callable[..., Any]:
        """Return the same for the same code: FastAPI calls it once in a request."""
        if (id(code), ends) not in self._made:
            self._made[id(code), ends] = code, make(code, ends)
        return self._made[id(code), ends][1]

    def _provider(self, make: Any, ends: Ends) -> Callable[..., Any]:
        if scope_of(make) in (Scope.REPLICA, Scope.GLOBAL):
            return self._keeper(make)
        provide: Any = _generator(make) if is_generator(make) else _function(make)
        provide.__signature__ = self._signature(make, ends)
        return cast("Callable[..., Any]", provide)

    def _keeper(self, make: Any) -> Callable[..., Any]:
        async def provide() -> Any:
            return self._kept.values[make]

        return provide


def _parameter(name: str, depends: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[Any, depends])


def _generator(make: Any) -> Callable[..., Any]:
    async def provide(**given: Any) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            value = await made(make, given, stack, run)
            if getattr(make, "is_transaction", False) and (reply := REQUEST.get()):
                reply.prepares.append(partial(make.prepare, value))
            yield value

    return provide


def _function(make: Any) -> Callable[..., Any]:
    async def provide(**given: Any) -> Any:
        async with AsyncExitStack() as stack:
            return await made(make, given, stack, run)

    return provide
