"""Values that user code returns, turned into values that Arrow takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from pydantic import BaseModel

from raflow.convert.fields import ATOMS, column_name

PLAIN = frozenset({*ATOMS, type(None)})
"""Types of values that need no look inside."""


class Unfit(Exception):
    """A value has no Arrow form."""


def plain(value: Any, declared: bool = False) -> Any:
    """Return the value with only Python's own plain types, lists, dicts and flat numpy arrays in it.

    Args:
        value: Anything.
        declared: Whether a record type says that the value may be a set; elsewhere a set, which has no
            order, is taken for a mistake.

    Raises:
        Unfit: It, or something in it, has no Arrow form.
    """
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if kind in (list, tuple):
        return value if PLAIN.issuperset(map(type, value)) else [plain(each, declared) for each in value]
    if isinstance(value, Mapping):
        return {_key(key): plain(each, declared) for key, each in value.items()}
    if declared and isinstance(value, (set, frozenset)):
        return [plain(each, declared) for each in value]
    convert = _converter(kind)
    if convert is None:
        msg = f"a {kind.__qualname__} ({value!r:.60})"
        raise Unfit(msg)
    return convert(value)


def _key(key: Any) -> str:
    if not isinstance(key, str):
        msg = f"a dict with the key {key!r}, which is no str"
        raise Unfit(msg)
    return str.__str__(key)


@lru_cache(maxsize=512)
def _converter(kind: Any) -> Callable[[Any], Any] | None:
    """Return what makes an instance of a type plain; None if nothing does."""
    if issubclass(kind, Enum):
        return lambda value: plain(value.value)
    if dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel):
        return partial(_record, columns_of(kind))
    if issubclass(kind, np.ndarray):
        return lambda value: value if value.ndim == 1 and value.dtype.kind in "biuf" else plain(value.tolist())
    if issubclass(kind, np.datetime64 | np.timedelta64):
        return lambda value: value.astype(f"{kind.__name__}[us]").item()
    if issubclass(kind, np.generic):
        return lambda value: plain(value.item())
    if issubclass(kind, pa.Scalar):
        return lambda value: plain(value.as_py())
    if kind.__name__ in ("NaTType", "NAType"):
        return lambda value: None
    for atom, convert in _SUBCLASSES.items():
        if issubclass(kind, atom):
            return convert
    return None


_SUBCLASSES: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: bytes,
    bytearray: bytes,
    memoryview: bytes,
    UUID: str,
    datetime: lambda value: datetime.combine(value.date(), value.timetz()),
    date: lambda value: date(value.year, value.month, value.day),
    time: lambda value: time.fromisoformat(value.isoformat()),
    timedelta: lambda value: timedelta(value.days, value.seconds, value.microseconds),
    Decimal: Decimal,
}
"""How instances of subclasses become the type itself; numpy's float64 and pandas' Timestamp are such."""


@lru_cache(maxsize=512)
def columns_of(kind: Any) -> dict[str, str]:
    """Return a record type's columns as attribute by column name."""
    if issubclass(kind, BaseModel):
        return {column_name(name, info): name for name, info in kind.model_fields.items()}
    return {field.name: field.name for field in dataclasses.fields(kind)}


def _record(columns: dict[str, str], value: Any) -> dict[str, Any]:
    record = {column: plain(getattr(value, name), declared=True) for column, name in columns.items()}
    return {**record, **plain(getattr(value, "model_extra", None) or {})}
