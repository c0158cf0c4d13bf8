"""The typed forms: how a value of each type is taken apart and made again.

Only exact types have forms: a subclass of a builtin, or an instance with state that its form would
lose, is pickled. Classes are named by their import path and found again by it.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import pickle
import sys
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from itertools import chain
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import cloudpickle

from raflow.checkpoints.arrays import COLUMNAR, columnar
from raflow.checkpoints.form import Form, Make, Raw, TornDown
from raflow.errors import ResumeError

MAKE: dict[str, Make] = {}
"""What makes a value of its parts, by tag."""

_EXACT: dict[type, Form] = {}
_LARGEST = 2**63


def is_plain(value: Any) -> bool:
    """Whether JSON has the value as it is."""
    kind = type(value)
    if kind is int:
        return bool(-_LARGEST < value < _LARGEST)
    if kind is float:
        return math.isfinite(value)
    return kind is str or kind is bool or value is None


def form_of(value: Any) -> Form:
    """Return how a value is stored."""
    form = _EXACT.get(type(value))
    if form is None:
        form = next((found for rule in RULES if (found := rule(value)) is not None), PICKLED)
    return form


def path_of(kind: type) -> str | None:
    """Return the import path of a class; None if the path does not lead to it.

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


def text_key(value: Any, number: int) -> str:
    """Label of a dictionary's n-th value."""
    return f"[{list(value)[number]!r}]"


def _index(value: Any, number: int) -> str:
    return f"[{number}]"


def _key(value: Any, number: int) -> str:
    key = list(value)[number // 2]
    return f"[{key!r}]" if number % 2 else f".keys()[{number // 2}]"


def _member(value: Any, number: int) -> str:
    return f"{{{number}}}"


def _exact(kind: type, take: Callable[[Any], Iterable[Any]], make: Make, label: Any = None) -> None:
    tag = kind.__name__
    _EXACT[kind] = Form(tag, take, label) if label else Form(tag, take)
    MAKE[tag] = make


_exact(int, lambda value: [hex(value)], lambda parts: int(parts[0], 16))
_exact(float, lambda value: [repr(value)], lambda parts: float(parts[0]))
_exact(complex, lambda value: [value.real, value.imag], lambda parts: complex(*parts))
_exact(bytes, lambda value: [Raw(value)], lambda parts: bytes(parts[0]))
_exact(bytearray, lambda value: [Raw(bytes(value))], lambda parts: bytearray(parts[0]))
_exact(list, lambda value: value, lambda parts: parts, _index)
_exact(tuple, lambda value: value, tuple, _index)
_exact(set, lambda value: value, set, _member)
_exact(frozenset, lambda value: value, frozenset, _member)
_exact(range, lambda value: [value.start, value.stop, value.step], lambda parts: range(*parts))
_exact(
    dict,
    lambda value: chain.from_iterable(value.items()),
    lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
    _key,
)
_exact(
    datetime,
    lambda value: [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo],
    lambda parts: datetime.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=parts[2]),
)
_exact(
    time,
    lambda value: [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, value.tzinfo],
    lambda parts: time.fromisoformat(parts[0]).replace(fold=parts[1], tzinfo=parts[2]),
)
_exact(date, lambda value: [value.isoformat()], lambda parts: date.fromisoformat(parts[0]))
_exact(timedelta, lambda value: [value.days, value.seconds, value.microseconds], lambda parts: timedelta(*parts))
_exact(timezone, lambda value: value.__getinitargs__(), lambda parts: timezone(*parts))
_exact(Decimal, lambda value: [str(value)], lambda parts: Decimal(parts[0]))
_exact(Fraction, lambda value: [value.numerator, value.denominator], lambda parts: Fraction(*parts))
_exact(UUID, lambda value: [str(value)], lambda parts: UUID(parts[0]))
for _kind in (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath):
    _exact(_kind, lambda value: [str(value)], lambda parts, kind=_kind: kind(parts[0]))  # type: ignore[misc]


def _zone(value: Any) -> Form | None:
    return Form("zone", lambda zone: [zone.key]) if type(value) is ZoneInfo and value.key else None


MAKE["zone"] = lambda parts: ZoneInfo(parts[0])


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


MAKE["enum"] = _make_enum


def _namedtuple(value: Any) -> Form | None:
    kind = type(value)
    if not isinstance(value, tuple) or kind.__bases__ != (tuple,) or not hasattr(kind, "_fields"):
        return None
    path = None if {"__reduce__", "__reduce_ex__"} & vars(kind).keys() else path_of(kind)
    return _fielded("namedtuple", path, list(zip(kind._fields, value, strict=True))) if path else None


def _make_namedtuple(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    return tuple.__new__(kind, _fields_of(parts, getattr(kind, "_fields", ())).values())


MAKE["namedtuple"] = _make_namedtuple

_BUILTINS = (dict, list, tuple, set, frozenset, str, bytes, int, float, BaseException)


def _dataclass(value: Any) -> Form | None:
    kind = type(value)
    if not dataclasses.is_dataclass(kind) or isinstance(value, _BUILTINS) or _pickles_itself(kind):
        return None
    names = [field.name for field in dataclasses.fields(kind)]
    whole = all(hasattr(value, name) for name in names) and getattr(value, "__dict__", {}).keys() <= set(names)
    path = path_of(kind) if whole else None
    return _fielded("dataclass", path, [(name, getattr(value, name)) for name in names]) if path else None


def _pickles_itself(kind: type) -> bool:
    hooks = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")
    return any(getattr(kind, hook, None) is not getattr(object, hook, None) for hook in hooks)


def _make_dataclass(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    made = object.__new__(kind)
    for name, part in _fields_of(parts, getattr(kind, "__dataclass_fields__", ())).items():
        object.__setattr__(made, name, part)
    return made


MAKE["dataclass"] = _make_dataclass


def _pydantic(value: Any) -> Form | None:
    pydantic = sys.modules.get("pydantic")
    path = path_of(type(value)) if pydantic and isinstance(value, pydantic.BaseModel) else None
    if path is None:
        return None
    state = value.__getstate__()
    fields = state.pop("__dict__")
    return _fielded("pydantic", path, [*fields.items(), ("__state__", state)])


def _make_pydantic(parts: list[Any]) -> Any:
    kind = class_at(parts[0])
    *fields, _, state = parts
    made = kind.__new__(kind)
    made.__setstate__({"__dict__": _fields_of(fields, getattr(kind, "model_fields", ())), **state})
    return made


MAKE["pydantic"] = _make_pydantic


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


def _pickled(value: Any) -> list[Any]:
    return [Raw(pickled(value))]


def pickled(value: Any) -> bytes:
    """Return a value as a pickle that has been read back once; by reference if its class can be imported.

    Raises:
        TornDown: It cannot be pickled, or its pickle cannot be read.
    """
    try:
        try:
            data = pickle.dumps(value, protocol=5)
        except Exception:
            data = cloudpickle.dumps(value, protocol=5)
        kind = type(pickle.loads(data))
    except RecursionError:
        raise
    except Exception as error:
        reason = f"is a {type(value).__qualname__}, which cannot be stored: {error}"
        raise TornDown(reason) from error
    if kind is not type(value):
        reason = f"is a {type(value).__qualname__}, which comes back from its pickle as a {kind.__qualname__}"
        raise TornDown(reason)
    return data


def _unpickled(parts: list[Any]) -> Any:
    try:
        return pickle.loads(parts[0])
    except Exception as error:
        msg = f"it holds a pickle that cannot be read here: {error}; run the program that wrote it"
        raise ResumeError(msg) from error


PICKLED = Form("pickle", _pickled)
MAKE["pickle"] = _unpickled

RULES: list[Callable[[Any], Form | None]] = [_zone, _enum, _namedtuple, _pydantic, _dataclass, columnar]
MAKE |= COLUMNAR
