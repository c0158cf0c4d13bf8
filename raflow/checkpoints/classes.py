"""The forms of instances of users' classes, which are named by their import path and found again by it."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Iterable
from enum import Enum
from itertools import chain
from typing import Any

from raflow.checkpoints.form import Form, Make
from raflow.errors import ResumeError


def classed(value: Any) -> Form | None:
    """Return the form of an instance; None for others, and where the form would lose some of its state."""
    return _enum(value) or _namedtuple(value) or _pydantic(value) or _dataclass(value)


def path_of(kind: Any) -> str | None:
    """Return the import path of a class or function; None if the path does not lead to it.

    A worker's `__main__` is not the user's: a class of the user's program is found there by its name
    when the program reads what the worker wrote.
    """
    path = f"{kind.__module__}:{kind.__qualname__}"
    if "<locals>" in path:
        return None
    missing = object()
    found: Any = sys.modules.get(kind.__module__, missing)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, missing)
    away = kind.__module__ == "__main__" and found is missing
    return path if found is kind or away else None


def class_at(path: str) -> Any:
    """Return the class of an import path.

    Raises:
        ResumeError: It is not there any more.
    """
    module, _, names = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for name in names.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError) as error:
        msg = (
            f"it holds a {path.replace(':', '.')}, which is not there any more ({error}); run the program that wrote it"
        )
        raise ResumeError(msg) from error
    return found


def _enum(value: Any) -> Form | None:
    if not isinstance(value, Enum) or type(value).__members__.get(value.name) is not value:
        return None
    path = path_of(type(value))
    return Form("enum", lambda member: [path, member.name]) if path else None


def _make_enum(parts: list[Any]) -> Any:
    path, name = parts
    members = class_at(path).__members__
    if name not in members:
        msg = f"it holds {path.replace(':', '.')}.{name}; that member is not there any more"
        raise ResumeError(msg)
    return members[name]


def _namedtuple(value: Any) -> Form | None:
    kind = type(value)
    if not isinstance(value, tuple) or kind.__bases__ != (tuple,) or not hasattr(kind, "_fields"):
        return None
    path = None if {"__reduce__", "__reduce_ex__"} & vars(kind).keys() else path_of(kind)
    return _fielded("namedtuple", path, list(zip(kind._fields, value, strict=True))) if path else None


def _make_namedtuple(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    return tuple.__new__(kind, _fields_of(parts, getattr(kind, "_fields", ())).values())


_BUILTINS = (dict, list, tuple, set, frozenset, str, bytes, int, float, BaseException)


def _dataclass(value: Any) -> Form | None:
    kind = type(value)
    if not dataclasses.is_dataclass(kind) or isinstance(value, _BUILTINS) or _pickles_itself(kind):
        return None
    names = _names(kind)
    whole = all(hasattr(value, name) for name in names) and getattr(value, "__dict__", {}).keys() <= set(names)
    path = path_of(kind) if whole else None
    return _fielded("dataclass", path, [(name, getattr(value, name)) for name in names]) if path else None


def _pickles_itself(kind: type) -> bool:
    hooks = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
    return any(getattr(kind, hook, None) is not getattr(object, hook, None) for hook in hooks)


def _make_dataclass(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    made = object.__new__(kind)
    for name, part in _fields_of(parts, _names(kind) if dataclasses.is_dataclass(kind) else ()).items():
        object.__setattr__(made, name, part)
    return made


def _names(kind: Any) -> list[str]:
    """Return the fields that instances have: class variables and what only the constructor takes are none."""
    return [field.name for field in dataclasses.fields(kind)]


def _pydantic(value: Any) -> Form | None:
    pydantic = sys.modules.get("pydantic")
    path = path_of(type(value)) if pydantic and isinstance(value, pydantic.BaseModel) else None
    if path is None:
        return None
    state = value.__getstate__()
    fields = state.pop("__dict__")
    if fields.keys() != type(value).model_fields.keys():  # such as the values of cached properties
        return None
    return _fielded("pydantic", path, [*fields.items(), ("__state__", state)])


def _make_pydantic(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    *fields, _, state = parts
    made = kind.__new__(kind)
    made.__setstate__({"__dict__": _fields_of(fields, getattr(kind, "model_fields", ())), **state})
    return made


def _fielded(tag: str, path: str, fields: list[tuple[str, Any]]) -> Form:
    """Return the form of a value whose parts are the path of its class, then names and values in turn."""

    def label(value: Any, number: int) -> str:
        return f".{fields[(number - 1) // 2][0]}"

    return Form(tag, lambda value: [path, *chain.from_iterable(fields)], label)


def _fields_of(parts: list[Any], now: Iterable[str]) -> dict[str, Any]:
    fields = dict(zip(parts[1::2], parts[2::2], strict=True))
    if fields.keys() != set(now):
        changed = ", ".join(sorted(fields.keys() ^ set(now)))
        what = parts[0].replace(":", ".")
        msg = f"it holds a {what} whose fields have changed since: {changed}; start again, or restore them"
        raise ResumeError(msg)
    return fields


CLASSES: dict[str, Make] = {
    "enum": _make_enum,
    "namedtuple": _make_namedtuple,
    "dataclass": _make_dataclass,
    "pydantic": _make_pydantic,
}
"""What makes these values of their parts."""
