"""What depends on what, read from annotations, and whether it can be.

A dependency may outlive nothing that it holds. One without a scope lives as long as its user, so it may hold
anything; what holds it holds the same.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce
from typing import Any

from raflow.dependencies.scopes import Scope, is_given, name_of, scope_of, wanted
from raflow.errors import InvalidDependency, InvalidDependencyHierarchyOrder

_OF_REQUESTS = ("fastapi.", "starlette.")
"""Modules whose types are found in a request."""


def needs(code: Callable[..., Any]) -> dict[str, Any]:
    """Return the dependencies of a function, method or class, by parameter.

    Raises:
        NameError: An annotation names something that does not exist, or not yet.
    """
    if is_given(code):
        return {}
    hints = hints_of(code)
    bound = code.keywords if isinstance(code, partial) else {}
    names = [name for name in inspect.signature(code).parameters if name not in bound]
    return {name: make for name in names if (make := wanted(hints.get(name))) is not None}


def hints_of(code: Any) -> dict[str, Any]:
    """Return the annotations of what is called, and keep them in place of their texts.

    A function of `__main__` travels without the names that its annotations alone use; the types themselves
    travel with it.

    Raises:
        NameError: One names something that does not exist, or not yet.
    """
    annotated = annotated_of(code)
    hints = typing.get_type_hints(annotated, include_extras=True)
    getattr(annotated, "__annotations__", {}).update(hints)
    return hints


def closure(makes: Iterable[Any]) -> list[Any]:
    """Return dependencies and all that they depend on, each once, what is depended on first."""
    found: dict[int, Any] = {}

    def visit(make: Any) -> None:
        if id(make) not in found:
            for one in needs(make).values():
                visit(one)
            found[id(make)] = make

    for make in makes:
        visit(make)
    return list(found.values())


def check(make: Any, *, is_declaring: bool = False) -> None:
    """Check a dependency and all that it depends on.

    Args:
        make: The dependency.
        is_declaring: Whether names of its module may still be undefined; what uses them is checked later.

    Raises:
        InvalidDependency: They depend on each other in a circle, or need something that nothing can give.
        InvalidDependencyHierarchyOrder: One depends on something that lives shorter than itself.
    """
    try:
        _check(make, ())
    except NameError as error:
        if not is_declaring:
            msg = f"dependency {name_of(make)}: its annotations use {error.name!r}, which its module does not define"
            raise InvalidDependency(msg) from error


def _check(make: Any, above: tuple[Any, ...]) -> None:
    if any(one is make for one in above):
        chain = " → ".join(name_of(one) for one in (*above, make))
        msg = f"dependencies need each other in a circle: {chain}; let one of them do without the other"
        raise InvalidDependency(msg)
    if is_given(make):
        return
    inner = needs(make)
    for one in inner.values():
        _check(one, (*above, make))
    mine = scope_of(make)
    if mine is Scope.NO_SCOPE:
        return
    for one in [*inner.values(), *_of_request(make, inner)]:
        if mine is not None and (its := reach(one)) < mine:
            msg = (
                f"dependency {name_of(make)} has the scope {mine.name} and depends on {name_of(one)}, which lives "
                f"only as {its.name}; give {name_of(make)} the scope {its.name}, or {name_of(one)} a wider one"
            )
            raise InvalidDependencyHierarchyOrder(msg)
    if mine is not Scope.PROCESS:
        _refuse_unknown(make, inner)


def reach(make: Any) -> Scope:
    """Return how long something lives at most: PROCESS for a request, and for NO_SCOPE what its parts allow."""
    scope = scope_of(make) or Scope.PROCESS
    if scope is not Scope.NO_SCOPE:
        return scope
    inner = needs(make)
    parts: Iterator[Any] = iter([*inner.values(), *_of_request(make, inner)])
    return reduce(min, map(reach, parts), Scope.NO_SCOPE)


def _of_request(make: Any, inner: dict[str, Any]) -> list[Any]:
    """Return the types among its annotations that only a request can give."""
    hints = hints_of(make)
    return [
        hint
        for name, hint in hints.items()
        if name not in inner and name != "return" and getattr(hint, "__module__", "").startswith(_OF_REQUESTS)
    ]


def _refuse_unknown(make: Any, inner: dict[str, Any]) -> None:
    for name, one in inspect.signature(make).parameters.items():
        if name not in inner and one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            msg = (
                f"dependency {name_of(make)}: nothing gives its parameter {name!r}; annotate it with a dependency, "
                "or give it a default"
            )
            raise InvalidDependency(msg)


def annotated_of(code: Any) -> Any:
    """Return what holds the annotations of something that is called.

    Those of an instance are of its fields, those of a `partial` of its own arguments.
    """
    while isinstance(code, partial) or (hasattr(code, "__wrapped__") and not inspect.isroutine(code)):
        code = code.func if isinstance(code, partial) else code.__wrapped__
    if isinstance(code, type):
        return code.__init__  # type: ignore[misc]
    return code if inspect.isroutine(code) else type(code).__call__


def routine_of(code: Any) -> Any:
    """Return what runs in a call, of which can be told whether it awaits or yields: of an instance, its method."""
    if isinstance(code, partial):
        return partial(routine_of(code.func), *code.args, **code.keywords)
    return code if isinstance(code, type) or inspect.isroutine(code) or not callable(code) else code.__call__
