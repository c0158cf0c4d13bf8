"""Annotations that are texts, turned into what they mean before code travels."""

from __future__ import annotations

import copyreg
import dataclasses
import typing
from collections.abc import Callable
from typing import Any

copyreg.pickle(type(dataclasses.MISSING), lambda _: "MISSING")
"""Its identity says that a field has no default: in a dataclass that travels by value, it must be the same one."""


def resolve(code: Callable[..., Any]) -> None:
    """Turn the annotations of user code, and of the dataclasses in them, into what they mean, in place.

    A function that travels takes along the names that its code uses, but not those that only texts of
    annotations name (`from __future__ import annotations`). What cannot be resolved here stays a text:
    FastAPI says of it, where it is needed, what is wrong.
    """
    function: Any = getattr(code, "process", code) if isinstance(code, type) else code
    _resolve(function, set())


def _resolve(owner: Any, seen: set[Any]) -> None:
    if owner in seen or not hasattr(owner, "__annotations__"):
        return
    seen.add(owner)
    try:
        hints = typing.get_type_hints(owner, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return
    own = {name: hints[name] for name in owner.__annotations__}
    owner.__annotations__ = own
    if isinstance(owner, type):
        for field in dataclasses.fields(owner):
            field.type = own.get(field.name, field.type)
    for hint in own.values():
        for part in _parts(hint):
            if isinstance(part, type) and dataclasses.is_dataclass(part):
                _resolve(part, seen)


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for one in typing.get_args(hint) for part in _parts(one))]
