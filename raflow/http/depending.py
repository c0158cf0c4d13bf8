"""FastAPI's `Depends` in signatures: what it calls may ask for dependencies of ours, as its callers may."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, get_args, get_origin

from raflow.dependencies.needs import check, hints_of, needs
from raflow.dependencies.scopes import is_given, name_of
from raflow.errors import InvalidDependency


def depends_of(code: Any) -> dict[str, Any]:
    """Return FastAPI's `Depends` of a function, method or class, by parameter; each says what it calls.

    Raises:
        NameError: An annotation names something that does not exist.
    """
    params = sys.modules.get("fastapi.params")
    if params is None:  # nobody can have written `Depends`
        return {}
    hints, found = hints_of(code), {}
    for name, parameter in inspect.signature(code).parameters.items():
        kind, *more = _parts(hints.get(name, parameter.annotation))
        for one in (*more, parameter.default):
            if isinstance(one, params.Depends):
                found[name] = replace(one, dependency=one.dependency or kind)
    return found


def _parts(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)


def reached(code: Any) -> list[Any]:
    """Return the dependencies for which code asks, by itself, by others, or by what FastAPI calls for it.

    Raises:
        NameError: An annotation of the code names something that does not exist.
        InvalidDependency: One of those that it asks for does so, or cannot be made.
        InvalidDependencyHierarchyOrder: One depends on something that lives shorter than itself.
    """
    found: dict[int, Any] = {}
    seen: set[int] = set()

    def visit(one: Any) -> None:
        if id(one) in seen or is_given(one):
            return
        seen.add(id(one))
        for make in needs(one).values():
            check(make)
            found[id(make)] = make
            visit(make)
        for depends in depends_of(one).values():
            _visit_called(depends.dependency, visit)

    visit(code)
    return list(found.values())


def _visit_called(called: Any, visit: Callable[[Any], None]) -> None:
    try:
        visit(called)
    except NameError as error:
        msg = f"{name_of(called)} in Depends: its annotations use {error.name!r}, which its module does not define"
        raise InvalidDependency(msg) from error
