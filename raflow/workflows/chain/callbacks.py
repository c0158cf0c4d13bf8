"""Functions of the user's that are told how it went; they cannot harm the workflow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raflow.errors import NotCallableObject
from raflow.workflows.chain.importing import load


def checked(callback: Any, name: str) -> Callable[..., Any] | None:
    """Return a callback, imported if it was given as an import string.

    Raises:
        NotCallableObject: It cannot be called.
        ImportModuleError: The string leads nowhere.
    """
    found = load(callback) if isinstance(callback, str) else callback
    if found is not None and not callable(found):
        msg = f"{name} is {found!r}, which cannot be called; give a function or an import string"
        raise NotCallableObject(msg)
    return found  # type: ignore[no-any-return]


def tell(callback: Callable[..., Any], name: str, value: Any) -> Any:
    """Call with `name=value`; or with the value alone, or with nothing, if that is all its parameters take."""
    try:
        bind = inspect.signature(callback).bind
    except (TypeError, ValueError):
        return callback(**{name: value})
    if _fits(bind, **{name: value}):
        return callback(**{name: value})
    if _fits(bind, value):
        return callback(value)
    return callback() if _fits(bind) else callback(**{name: value})


def _fits(bind: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    try:
        bind(*args, **kwargs)
    except TypeError:
        return False
    return True
