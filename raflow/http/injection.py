"""Dependencies in endpoints and collectors: FastAPI makes them for each request, with its `Depends`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Annotated, Any, cast

from fastapi import Depends
from fastapi.security.base import SecurityBase

from raflow.dependencies.making import Kept, is_generator, made
from raflow.dependencies.needs import hints_of, needs
from raflow.dependencies.scopes import Scope, scope_of
from raflow.http.threads import REQUEST, run


class Injection:
    """The dependencies of one application.

    Args:
        kept: What lives as long as the replica.
    """

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._providers: dict[int, Callable[..., Any]] = {}

    def into(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of which FastAPI sees the dependencies as such; itself if it has none."""
        if not needs(function):
            return function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call(**given: Any) -> Any:
                return await function(**given)
        else:

            @functools.wraps(function)
            def call(**given: Any) -> Any:
                return function(**given)

        call.__signature__ = self.signature(function)  # type: ignore[attr-defined]
        return call

    def into_handler(self, handle: Callable[..., Any], wants: dict[str, Any]) -> Callable[..., Any]:
        """Return a handler of requests that gets `wants` as one argument, a dict, after the request."""

        async def call(request: Any, **given: Any) -> Any:
            return await handle(request, given)

        own = list(inspect.signature(handle, eval_str=True).parameters.values())[:1]
        call.__signature__ = inspect.Signature([*own, *self._parameters(wants)])  # type: ignore[attr-defined]
        return call

    def signature(self, code: Callable[..., Any]) -> inspect.Signature:
        """Return a signature with evaluated annotations, in which dependencies are FastAPI's."""
        plain = inspect.signature(code)
        hints = hints_of(code)
        wants = needs(code)
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        others = [
            one.replace(annotation=hints.get(name, one.annotation), kind=inspect.Parameter.KEYWORD_ONLY)
            for name, one in plain.parameters.items()
            if name not in wants and one.kind not in kinds
        ]
        returns = plain.return_annotation if isinstance(code, type) else hints.get("return", plain.return_annotation)
        return inspect.Signature([*others, *self._parameters(wants)], return_annotation=returns)

    def _parameters(self, wants: dict[str, Any]) -> list[inspect.Parameter]:
        kind = inspect.Parameter.KEYWORD_ONLY
        return [
            inspect.Parameter(name, kind, annotation=Annotated[Any, self._depends(make)])
            for name, make in wants.items()
        ]

    def _depends(self, make: Any) -> Any:
        if isinstance(make, SecurityBase) and callable(make):  # as it is: FastAPI shows it as a security scheme
            return Depends(make)
        if id(make) not in self._providers:
            self._providers[id(make)] = self._provider(make)
        # "function": its teardown comes before the reply, so that what fails there fails the request.
        return Depends(self._providers[id(make)], use_cache=scope_of(make) is not Scope.NO_SCOPE, scope="function")

    def _provider(self, make: Any) -> Callable[..., Any]:
        if scope_of(make) in (Scope.REPLICA, Scope.GLOBAL):
            return self._keeper(make)
        provide: Any = _generator(make) if is_generator(make) else _function(make)
        provide.__signature__ = self.signature(make)
        return cast("Callable[..., Any]", provide)

    def _keeper(self, make: Any) -> Callable[..., Any]:
        async def provide() -> Any:
            return self._kept.values[make]

        return provide


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
