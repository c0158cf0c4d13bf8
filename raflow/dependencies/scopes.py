"""How long dependencies live, and how one is told from any other class or function."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, get_args, get_origin

_MARK, _GIVEN = "__raflow_scope__", "__raflow_given__"


class Scope(IntEnum):
    """How long one lives and who shares it; a larger number is wider."""

    PROCESS = 1
    """For one request, or one call of a consumer's function; everything in it shares one."""
    REPLICA = 2
    """From the start of a replica to its end."""
    GLOBAL = 3
    """Made once, where the Flow is run; every replica has a pickled copy."""
    NO_SCOPE = 4
    """A new one for each use; it lives as long as what uses it."""


def mark(make: Any, scope: Scope, *, is_given: bool = False) -> None:
    """Make a class, function or other object with `__call__` a dependency.

    Args:
        make: It.
        scope: Its scope.
        is_given: Whether raflow itself makes it.
    """
    setattr(make, _MARK, scope)
    setattr(make, _GIVEN, is_given)


def is_given(make: Any) -> bool:
    """Return whether raflow itself makes a dependency, so that nobody asks what that needs."""
    return bool(getattr(make, "__dict__", {}).get(_GIVEN))


def scope_of(make: Any) -> Scope | None:
    """Return the scope of a dependency; None if it is not one. A subclass of one is none of its own accord."""
    found: Scope | None = getattr(make, "__dict__", {}).get(_MARK)
    return found


def name_of(make: Any) -> str:
    """Return how errors call a dependency."""
    return str(getattr(make, "__qualname__", None) or repr(make)).rpartition("<locals>.")[2]


def wanted(annotation: Any) -> Any:
    """Return the dependency for which an annotation asks; None if it asks for none."""
    if get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        for one in more:
            if scope_of(one) is not None:
                return one
    return annotation if scope_of(annotation) is not None else None
