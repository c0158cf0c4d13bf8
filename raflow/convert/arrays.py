"""One column of returned values as an Arrow array, or the values that keep it from becoming one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from raflow.convert.columns import VALUE_ERRORS
from raflow.convert.decided import decided
from raflow.convert.fields import ATOMS
from raflow.convert.nested import children, holds_map
from raflow.convert.plain import PLAIN, Unfit, plain
from raflow.errors import SchemaError
from raflow.schema import is_fixed, merge, same_but_digits

_t = pa.types
_ZONED = pa.timestamp("us", "UTC")
_NESTED = (list, tuple, dict, np.ndarray)

Unfits = dict[int, str]
"""What was found instead, for each value that does not fit."""

_KINDS: list[tuple[Callable[[pa.DataType], bool], frozenset[type]]] = [
    (_t.is_boolean, frozenset({bool})),
    (lambda kind: _t.is_integer(kind) or _t.is_floating(kind), frozenset({int, float})),
    (_t.is_decimal, frozenset({Decimal, int})),
    (lambda kind: str(kind) in ("string", "large_string", "string_view"), frozenset({str})),
    (lambda kind: str(kind) in ("binary", "large_binary", "binary_view"), frozenset({bytes})),
    (_t.is_timestamp, frozenset({datetime})),
    (_t.is_date, frozenset({date})),
    (_t.is_time, frozenset({time})),
    (_t.is_duration, frozenset({timedelta})),
    (_t.is_list, frozenset({list, tuple, np.ndarray})),
    (lambda kind: _t.is_struct(kind) or _t.is_map(kind), frozenset({dict})),
]


def array_of(values: list[Any], hint: pa.Field | None, declared: bool = False) -> tuple[pa.Array, Unfits]:
    """Return values as an array, or else those that do not fit.

    A value of another kind than the hint, or without one than the first value, does not fit. Unless the
    hint is fixed, the array has a wider type where the values need one. Arrow itself would turn floats
    into integers, bytes into text or datetimes into dates without a word, so kinds are compared here.

    Args:
        values: Of one field, one per record; None where a record does not have it.
        hint: The field as agreed so far.
        declared: Whether a record type has declared the field.
    """
    kinds = types_of(values)
    if not kinds <= PLAIN:
        values, unfits = _plain(values, declared)
        if unfits:
            return None, unfits
        kinds = types_of(values)
    kinds.discard(type(None))
    wanted = pa.null() if hint is None else hint.type
    if not kinds:
        return pa.nulls(len(values), wanted), {}
    if hint is not None and is_fixed(hint):
        unfits = _unfits(values, kinds, wanted)
        return (None, unfits) if unfits else _with_digits(values, kinds, wanted)
    return _nested(values, kinds, wanted) if kinds.intersection(_NESTED) else _flat(values, kinds, wanted)


def types_of(values: Iterable[Any]) -> set[type]:
    """Return the types of values. Most lists have one: counting it takes half the time of making a set."""
    found = list(map(type, values))
    return {found[0]} if found and found.count(found[0]) == len(found) else set(found)


def _plain(values: list[Any], declared: bool) -> tuple[list[Any], Unfits]:
    result: list[Any] = []
    unfits: Unfits = {}
    for index, value in enumerate(values):
        try:
            result.append(plain(value, declared))
        except Unfit as reason:
            unfits[index] = str(reason)
    return result, unfits


def _flat(values: list[Any], kinds: set[type], wanted: pa.DataType) -> tuple[pa.Array, Unfits]:
    first = next(value for value in values if value is not None)
    kind = _natural(first) if _t.is_null(wanted) else wanted
    unfits = _unfits(values, kinds, ATOMS[float] if _t.is_integer(kind) else kind)
    if unfits:
        return None, unfits
    if Decimal in kinds and _t.is_decimal(kind):
        return _with_digits(values, kinds, kind)
    own = ATOMS[float] if float in kinds else _natural(first)
    return _typed(values, kinds, kind if widen(kind, own) == kind else own)


def _natural(value: Any) -> pa.DataType:
    if type(value) is datetime:
        return ATOMS[datetime] if value.tzinfo is None else _ZONED
    return ATOMS[type(value)]


def _nested(values: list[Any], kinds: set[type], wanted: pa.DataType) -> tuple[pa.Array, Unfits]:
    if not _unfits(values, kinds, wanted):
        return _with_digits(values, kinds, wanted)
    try:
        array = pa.array(values)
    except VALUE_ERRORS:
        return _one_by_one(values, wanted)
    own = _with_maps(array.type, wanted)
    if _unfits(values, kinds, own) or not widen(wanted, own):
        return _one_by_one(values, wanted)
    return (array, {}) if own == array.type else _with_digits(values, kinds, own)


def _with_maps(own: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return the type of values with the maps that a record type wants: a dict alone does not tell that it is one."""
    return decided(own, wanted) if holds_map(wanted) else own


def _one_by_one(values: list[Any], wanted: pa.DataType) -> tuple[pa.Array, Unfits]:
    """Find the type that lists or structs agree on, and the values that do not agree."""
    unfits: Unfits = {}
    for index, value in enumerate(values):
        try:
            own = _with_maps(pa.array([value]).type, wanted)
        except VALUE_ERRORS as error:
            unfits[index] = str(error)
            continue
        wider = widen(wanted, own) if fits(value, own) else None
        if wider is None:
            unfits[index] = f"{own} {value!r:.60}"
        else:
            wanted = wider
    return (None, unfits) if unfits else _typed(values, types_of(values), wanted)


def widen(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the type that holds values of both, by the rules of a run's schema; None if there is none."""
    if left == right or _t.is_null(right):
        return left
    if not _t.is_null(left) and (_t.is_nested(left) or _t.is_nested(right)) and left.id != right.id:
        return None
    try:
        return merge([pa.schema([("it", left)]), pa.schema([("it", right)])]).field(0).type
    except SchemaError:
        return None


def _typed(values: list[Any], kinds: set[type], kind: pa.DataType) -> tuple[pa.Array, Unfits]:
    attempt = _floats if _t.is_floating(kind) and int in kinds else pa.array
    try:
        return attempt(values, kind), {}
    except VALUE_ERRORS as error:
        if len(values) == 1:
            return None, {0: f"{values[0]!r:.60} ({error})"}
    middle = len(values) // 2
    (_, unfits), (_, others) = _typed(values[:middle], kinds, kind), _typed(values[middle:], kinds, kind)
    return None, {**unfits, **{middle + index: found for index, found in others.items()}}


def _with_digits(values: list[Any], kinds: set[type], wanted: pa.DataType) -> tuple[pa.Array, Unfits]:
    """Return values in a type, or in one with more digits where decimals in them need it."""
    array, unfits = _typed(values, kinds, wanted)
    if not unfits or "decimal" not in str(wanted):
        return array, unfits
    wider = _more_digits(values, wanted)
    return (array, unfits) if wider is None else _typed(values, kinds, wider)


def _more_digits(values: list[Any], wanted: pa.DataType) -> pa.DataType | None:
    """Return the type with the digits that values need; None if they differ from it in more than digits."""
    try:
        own = pa.array([value for value in values if type(value) is not Decimal or value.is_finite()]).type
    except VALUE_ERRORS:
        return None
    if _t.is_nested(wanted):
        own = widen(wanted, own)
    elif _t.is_decimal(own):
        places = max(own.scale, ATOMS[Decimal].scale)
        own = pa.decimal128(38, places) if own.precision - own.scale + places <= 38 else own
    return own if own is not None and same_but_digits(own, wanted) else None


def _floats(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Return integers as floats also beyond 2**53, where Arrow refuses them."""
    return pa.array([None if value is None else float(value) for value in values], kind)


def _unfits(values: list[Any], kinds: set[type], wanted: pa.DataType) -> Unfits:
    if kinds <= _accepted(wanted) and not _depends_on_value(kinds, wanted):
        return {}
    return {index: _described(value) for index, value in enumerate(values) if not fits(value, wanted)}


def _described(value: Any) -> str:
    return f"{_natural(value)} {value!r:.60}" if type(value) in ATOMS else f"{value!r:.60}"


def _accepted(wanted: pa.DataType) -> frozenset[type]:
    return next((kinds for matches, kinds in _KINDS if matches(wanted)), frozenset())


def _depends_on_value(kinds: set[type], wanted: pa.DataType) -> bool:
    """Return whether the type of a value does not tell yet that it fits."""
    return datetime in kinds or (float in kinds and _t.is_integer(wanted)) or not kinds.isdisjoint(_NESTED)


def fits(value: Any, wanted: pa.DataType) -> bool:
    """Return whether a plain value is of the kind that a type holds, all the way down."""
    if value is None:
        return True
    if type(value) not in _accepted(wanted):
        return False
    if _t.is_timestamp(wanted):
        return (value.tzinfo is None) == (wanted.tz is None)
    if type(value) is float and _t.is_integer(wanted):
        return value.is_integer()
    if type(value) is np.ndarray:
        return bool(widen(wanted.value_type, pa.from_numpy_dtype(value.dtype)) == wanted.value_type)
    if _t.is_struct(wanted):
        types = {child.name: child.type for child in children(wanted)}
        return value.keys() <= types.keys() and all(fits(each, types[key]) for key, each in value.items())
    if _t.is_nested(wanted):
        items, item = (value.values(), wanted.item_type) if _t.is_map(wanted) else (value, wanted.value_type)
        return not _unfits(list(items), types_of(items) - {type(None)}, item)
    return True
