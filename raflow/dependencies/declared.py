"""What a user declares to be handed to processors: `@dependency`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from raflow.dependencies.needs import check
from raflow.dependencies.scopes import Scope, mark
from raflow.errors import InvalidDependency, InvalidOption

Made = TypeVar("Made", bound=Callable[..., Any])


def dependency(scope: Scope | str) -> Callable[[Made], Made]:
    """Make a class or function a dependency: processors get it by the annotation of a parameter.

    A parameter whose annotation is a dependency class, or `Annotated[T, f]` with a dependency function
    `f`, gets what that makes, in endpoints, collectors, consumers and in dependencies themselves; it is
    no part of a request and does not show in OpenAPI. Functions and `__init__` may be `async def`. A generator
    that yields once is torn down at the end of its scope, the last one made first. Within a request that is when
    the processor has returned and before the reply is sent: what fails there fails the request, and a
    `StreamingResponse` that is sent later must not need it. For an endpoint that yields it is after its stream;
    what fails there can only cut that off. What the request fails with is raised at the `yield`, as in a context
    manager: tear down in `finally`. In a collector that is any reply but a success.

    A dependency may depend on others of the same or a wider scope. In HTTP, one of the scope PROCESS may
    also ask for the `Request` or `WebSocket`, and for what FastAPI finds: headers, cookies, the query.

    Args:
        scope: A `Scope` or its name.

    Raises:
        InvalidOption: There is no such scope.
        InvalidDependency: It cannot be called, or needs something that nothing can give.
        InvalidDependencyHierarchyOrder: It depends on something that lives shorter than itself.

    Example:
        >>> from raflow import Flow, Scope, dependency
        >>> @dependency(scope=Scope.REPLICA)
        ... class Prices:
        ...     def __init__(self) -> None:
        ...         self.of = {"tea": 2.5}
        >>> service = Flow().service("/prices")
        >>> @service.endpoint("/{item}")
        ... def price(item: str, prices: Prices) -> float:
        ...     return prices.of[item]
        >>> price("tea", Prices())
        2.5
    """
    chosen = _scope(scope)

    def decorate(make: Made) -> Made:
        if not callable(make):
            msg = f"{make!r} cannot be a dependency; decorate a class or a function"
            raise InvalidDependency(msg)
        mark(make, chosen)
        check(make, is_declaring=True)
        return make

    return decorate


def _scope(scope: Any) -> Scope:
    if isinstance(scope, Scope):
        return scope
    if isinstance(scope, str) and scope.upper() in Scope.__members__:
        return Scope[scope.upper()]
    msg = f"scope is {scope!r}; it can be {', '.join(Scope.__members__)}, as in @dependency(scope=Scope.REPLICA)"
    raise InvalidOption(msg)
