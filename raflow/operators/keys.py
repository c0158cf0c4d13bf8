"""The type in which keys of two types are compared, so that equal values meet.

What is one type here has one hash as well, see `hashing`: rows that belong together come to one partition.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from raflow.errors import SchemaError
from raflow.schema import decoded, is_number, merge

_t = pa.types
_INTEGER = pa.decimal128(20, 0)
"""Holds every integer."""


def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Return the type that holds the values of both; None if they are not of one kind.

    Numbers are of one kind, as are texts, bytes, dates, times of day, durations, and moments with the same
    time zone. Nested types must be the same.
    """
    if left == right:
        return left
    left, right = decoded(left), decoded(right)
    if left == right or _t.is_null(right):
        return left
    if _t.is_null(left):
        return right
    if is_number(left) and is_number(right):
        return _number(left, right)
    for same, wide in ((_is_text, pa.large_string()), (_is_bytes, pa.large_binary())):
        if same(left) and same(right):
            return wide
    if any(same(left) and same(right) for same in _TIMES):
        return _wider(left, right)
    return None


def _number(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    if _t.is_floating(left) or _t.is_floating(right):
        return pa.float64()
    signs = {_t.is_signed_integer(left), _t.is_signed_integer(right)}
    if _t.is_integer(left) and _t.is_integer(right) and (len(signs) == 1 or pa.uint64() not in (left, right)):
        return _wider(left, right)
    one, other = (_INTEGER if _t.is_integer(kind) else kind for kind in (left, right))
    scale = max(one.scale, other.scale)
    digits = max(one.precision - one.scale, other.precision - other.scale) + scale
    if digits > 76:
        return None
    return pa.decimal128(digits, scale) if digits <= 38 else pa.decimal256(digits, scale)


def _wider(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    try:
        return merge([pa.schema([("key", left)]), pa.schema([("key", right)])]).field(0).type
    except SchemaError:
        return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(_t.is_string(kind) or _t.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(_t.is_binary(kind) or _t.is_large_binary(kind) or _t.is_fixed_size_binary(kind))


_TIMES: tuple[Callable[[pa.DataType], bool], ...] = (_t.is_date, _t.is_time, _t.is_duration, _t.is_timestamp)
