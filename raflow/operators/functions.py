"""The aggregations: what each takes, what it keeps per group, and what it makes of that in the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import SchemaError
from raflow.operators.states import Count, Extreme, Listed, Moments, Picked, Rows, State, Sum, Truth, moments
from raflow.schema import decoded

Fits = Callable[[pa.DataType], bool]


@dataclass(frozen=True)
class Function:
    """An aggregation of a column."""

    states: tuple[tuple[str, State], ...]
    """What is kept, by a name that says what it is: functions of the same column share it."""
    result: Callable[..., pa.Array]
    """Makes the results from the name of the column and the states."""
    fits: Fits = lambda kind: True
    works: str = "any type"
    """The types that fit, for messages."""


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    known = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean, types.is_null)
    return any(is_known(kind) for is_known in known)


def _is_ordered(kind: pa.DataType) -> bool:
    types = pa.types
    kind = decoded(kind)
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    is_time = types.is_temporal(kind) and not types.is_interval(kind)
    return _is_number(kind) or is_time or any(is_known(kind) for is_known in texts)


def _is_truth(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _as_it_is(column: str, state: pa.Array) -> pa.Array:
    del column
    return state


def _counted(column: str, state: pa.Array) -> pa.Array:
    del column
    return pc.fill_null(state.cast(pa.int64()), 0)


def _summed(column: str, state: pa.Array) -> pa.Array:
    kind = state.type
    if not pa.types.is_decimal(kind):
        return state
    wanted = pa.int64() if kind.bit_width == 128 else pa.decimal128(38, kind.scale)
    try:
        return state.cast(wanted)
    except pa.ArrowInvalid:
        msg = f"a sum of column {column!r} does not fit into {wanted}; cast the column to float64 before"
        raise SchemaError(msg) from None


def _mean(column: str, total: pa.Array, count: pa.Array) -> pa.Array:
    del column
    return pc.divide(total.cast(pa.float64(), safe=False), count.cast(pa.float64()))


def _variance(column: str, state: pa.Array) -> pa.Array:
    del column
    if pa.types.is_null(state.type):
        return pa.nulls(len(state), pa.float64())
    count, _, squares = moments(state)
    found = pc.divide(squares, pc.subtract(count, 1).cast(pa.float64()))
    return pc.if_else(pc.greater(count, 1), found, pa.scalar(None, pa.float64()))


def _deviation(column: str, state: pa.Array) -> pa.Array:
    return pc.sqrt(_variance(column, state))


def _truth(column: str, state: pa.Array) -> pa.Array:
    del column
    return state.cast(pa.bool_())


def _number_of(column: str, state: pa.Array) -> pa.Array:
    del column
    if pa.types.is_null(state.type):
        return pa.array(np.zeros(len(state), np.int64))
    return pc.fill_null(pc.list_value_length(state), 0).cast(pa.int64())


_SUM, _COUNT, _MOMENTS = ("sum", Sum()), ("count", Count()), ("moments", Moments())
_DISTINCT = ("distinct", Listed(distinct=True))
_NUMBERS = "integers, floats, decimals and booleans"

ROWS = Function((("rows", Rows()),), _counted)
"""`count` without a column."""
FUNCTIONS: dict[str, Function] = {
    "sum": Function((_SUM,), _summed, _is_number, _NUMBERS),
    "mean": Function((_SUM, _COUNT), _mean, _is_number, _NUMBERS),
    "min": Function((("min", Extreme("min")),), _as_it_is, _is_ordered, "numbers, texts, bytes, booleans and times"),
    "max": Function((("max", Extreme("max")),), _as_it_is, _is_ordered, "numbers, texts, bytes, booleans and times"),
    "count": Function((_COUNT,), _counted),
    "std": Function((_MOMENTS,), _deviation, _is_number, _NUMBERS),
    "var": Function((_MOMENTS,), _variance, _is_number, _NUMBERS),
    "first": Function((("first", Picked("min")),), _as_it_is),
    "last": Function((("last", Picked("max")),), _as_it_is),
    "any": Function((("any", Truth("any")),), _truth, _is_truth, "booleans"),
    "all": Function((("all", Truth("all")),), _truth, _is_truth, "booleans"),
    "count_distinct": Function((_DISTINCT,), _number_of),
    "approx_distinct": Function((_DISTINCT,), _number_of),
    "list": Function((("list", Listed()),), _as_it_is),
}
