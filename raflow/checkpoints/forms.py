"""The typed forms: how a value of each type is taken apart and made again.

Only exact types have forms: a subclass of a builtin, or an instance with state that its form would
lose, is pickled. `classes.py` has the forms of users' classes, `arrays.py` those of columnar data.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import chain
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import cloudpickle

from raflow.checkpoints.arrays import COLUMNAR, columnar
from raflow.checkpoints.classes import CLASSES, classed
from raflow.checkpoints.form import Form, Make, Raw, TornDown

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


PICKLED = Form("pickle", _pickled)
"""How everything else is stored."""

RULES: list[Callable[[Any], Form | None]] = [_zone, classed, columnar]
MAKE |= {**CLASSES, **COLUMNAR}
MAKE |= {"zone": lambda parts: ZoneInfo(parts[0]), "pickle": lambda parts: pickle.loads(parts[0])}
