"""Columns on their way to Python: which types can become which, casts, and values as lists."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raflow.convert.fields import is_optional
from raflow.convert.nested import children, holds_map
from raflow.errors import SchemaError
from raflow.schema import decoded, is_number

_t = pa.types
_UUID = "extension<arrow.uuid>"
VALUE_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, ValueError, OverflowError)
"""What Arrow raises for a value that has no equal on the other side."""


def check(columns: pa.Schema, available: pa.Schema) -> pa.Schema:
    """Return the part of the wanted columns that there is; called before data moves.

    Args:
        columns: What a record type wants, from `Shape.columns`.
        available: What the source has.

    Raises:
        SchemaError: Columns are absent or of a type that cannot become the wanted one; names them all.
    """
    problems = []
    for field in columns:
        index = available.get_field_index(field.name)
        if index >= 0:
            found = available.field(index).type
            if reach(found, field.type) is None:
                problems.append(f"field {field.name!r} must be {field.type} but the column is {found}")
        elif not is_optional(field):
            problems.append(f"there is no column {field.name!r}{_suggestion(field.name, available)}")
    if problems:
        msg = f"{'; '.join(problems)}. The columns are: {', '.join(available.names) or 'none'}"
        raise SchemaError(msg)
    return pa.schema([field for field in columns if field.name in available.names])


def _suggestion(name: str, available: pa.Schema) -> str:
    close = difflib.get_close_matches(name, available.names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def reach(found: pa.DataType, wanted: pa.DataType) -> pa.DataType | None:
    """Return the type to cast a column to so that its Python values are the wanted ones.

    `pa.null()` wants anything. Time zones, decimals' digits and kinds of strings stay as found.

    Returns:
        The type, or None if the column cannot become what is wanted.
    """
    found = decoded(found)
    if _t.is_null(found):
        return found
    if _t.is_nested(found):
        return _reach_nested(found, wanted)
    if _t.is_timestamp(found) and (_t.is_null(wanted) or _t.is_timestamp(wanted)):
        return pa.timestamp("us", found.tz)
    if _t.is_null(wanted):
        return _in_microseconds(found)
    if any(alike(found) and alike(wanted) for alike in (_t.is_decimal, _is_string)):
        return found
    if str(found) == _UUID and _t.is_string(wanted):
        return found
    return wanted if any(source(found) and target(wanted) for source, target in _CASTS) else None


def _is_string(kind: pa.DataType) -> bool:
    return str(kind) in ("string", "large_string", "string_view")


def _is_text(kind: pa.DataType) -> bool:
    binary = str(kind) in ("binary", "large_binary", "binary_view") or _t.is_fixed_size_binary(kind)
    return bool(binary or _is_string(kind))


_CASTS: list[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], bool]]] = [
    (is_number, is_number),
    (_is_text, _is_text),
    (_t.is_boolean, _t.is_boolean),
    (_t.is_date, _t.is_date),
    (_t.is_date, _t.is_timestamp),
    (_t.is_time, _t.is_time),
    (_t.is_duration, _t.is_duration),
]


def _in_microseconds(found: pa.DataType) -> pa.DataType:
    """Return the type of the same values in a unit that Python's own types have."""
    if _t.is_time64(found):
        return pa.time64("us")
    return pa.duration("us") if _t.is_duration(found) else found


def _reach_nested(found: pa.DataType, wanted: pa.DataType) -> pa.DataType | None:
    if _t.is_map(found):
        return _reach_map(found, wanted)
    if _t.is_struct(found):
        return _reach_struct(found, wanted)
    if not (_t.is_null(wanted) or _t.is_list(wanted)):
        return None
    item = reach(found.value_type, _inner(wanted))
    return None if item is None else pa.list_(item)


def _inner(wanted: pa.DataType) -> pa.DataType:
    if _t.is_null(wanted):
        return wanted
    return wanted.item_type if _t.is_map(wanted) else wanted.value_type


def _reach_map(found: pa.DataType, wanted: pa.DataType) -> pa.DataType | None:
    if not (_t.is_null(wanted) or _t.is_map(wanted)):
        return None
    key = reach(found.key_type, pa.null() if _t.is_null(wanted) else wanted.key_type)
    item = reach(found.item_type, _inner(wanted))
    return None if key is None or item is None else pa.map_(key, item)


def _reach_struct(found: pa.DataType, wanted: pa.DataType) -> pa.DataType | None:
    present = {child.name: child for child in children(found)}
    if _t.is_struct(wanted):
        targets = {child.name: child for child in children(wanted)}
        if any(name not in present and not is_optional(child) for name, child in targets.items()):
            return None
        pairs = [(child, targets[name].type) for name, child in present.items() if name in targets]
    elif _t.is_null(wanted) or _t.is_map(wanted):
        pairs = [(child, _inner(wanted)) for child in present.values()]
    else:
        return None
    reached = [(child, reach(child.type, target)) for child, target in pairs]
    if any(kind is None for _, kind in reached):
        return None
    return pa.struct([child.with_type(kind) for child, kind in reached])


def cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return the column in a type that `reach` gave; sub-microseconds are cut, nothing else is lost.

    Raises:
        pa.ArrowException: A value has no equal in the other type.
    """
    if column.type == kind:
        return column
    # Integers become floats also beyond 2**53: a decision of the run's schema, where Arrow's default refuses.
    inexact = _t.is_integer(column.type) and _t.is_floating(kind)
    return column.cast(options=pc.CastOptions(kind, allow_time_truncate=True, allow_float_truncate=inexact))


def to_list(column: pa.Array) -> list[Any]:
    """Return a column's values as Python objects, None for null; numpy is several times faster where it can.

    Raises:
        Exception: A value has no Python form, such as a date after the year 9999.
    """
    kind = column.type
    if _t.is_integer(kind) or _t.is_floating(kind) or _t.is_boolean(kind):
        if not column.null_count:
            return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
        return _with_nulls(column)
    if _is_string(kind) or _t.is_binary(kind):
        return column.to_numpy(zero_copy_only=False).tolist()  # type: ignore[no-any-return]
    if _t.is_date32(kind) or (_t.is_timestamp(kind) and kind.tz is None and kind.unit == "us"):
        return _dates(column)
    values: list[Any] = column.to_pylist()
    if str(kind) == _UUID:
        return [None if value is None else str(value) for value in values]
    return [_with_dicts(value, kind) for value in values] if holds_map(kind) else values


def _with_dicts(value: Any, kind: pa.DataType) -> Any:
    """Return the value with dicts where Arrow gives a map as a list of pairs."""
    if value is None or not holds_map(kind):
        return value
    if _t.is_struct(kind):
        return {child.name: _with_dicts(value[child.name], child.type) for child in children(kind)}
    if not _t.is_map(kind):
        return [_with_dicts(item, kind.value_type) for item in value]
    entries = {key: _with_dicts(item, kind.item_type) for key, item in value}
    if len(entries) < len(value):
        msg = "the map has a key twice"
        raise ValueError(msg)
    return entries


def _with_nulls(column: pa.Array) -> list[Any]:
    nulls = pc.indices_nonzero(column.is_null()).to_pylist()
    values: list[Any] = (
        column.fill_null(False if _t.is_boolean(column.type) else 0).to_numpy(zero_copy_only=False).tolist()
    )
    for index in nulls:
        values[index] = None
    return values


def _dates(column: pa.Array) -> list[Any]:
    values: list[Any] = column.to_numpy(zero_copy_only=False).tolist()
    if int in set(map(type, values)):
        msg = "the date is outside of the years 1 to 9999"
        raise OverflowError(msg)
    return values


def python_values(column: pa.Array, kind: pa.DataType) -> tuple[list[Any], dict[int, Exception]]:
    """Return a column's values cast to a type, and by bisection the rows that cannot be, which are None."""
    try:
        return to_list(cast(column, kind)), {}
    except VALUE_ERRORS as error:
        if len(column) == 0:
            raise
        if len(column) == 1:
            return [None], {0: error}
    middle = len(column) // 2
    left, bad = python_values(column[:middle], kind)
    right, others = python_values(column[middle:], kind)
    return left + right, {**bad, **{middle + row: error for row, error in others.items()}}
