"""What Arrow arrays stand for beyond their buffers: some kinds repeat values, and values of others take no bytes."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa

_t = pa.types
_NO_BYTES = 4
"""Bytes that a value counts for which takes none itself, as many as `null` takes in JSON: nulls, and structs and
lists of a fixed size, which are but their values."""
_LEAST = 1
"""Bytes that any other value counts for, at least, where it is repeated."""


class WrittenOut:
    """Measures arrays as if each value stood written out in its place.

    Nothing of an array is believed but that its buffers are long enough, which `validate()` checks: to check all
    of it would take as long as it stands for.

    Args:
        most: Bytes beyond which nobody wants to know.
    """

    def __init__(self, most: int) -> None:
        self._most = most

    def size(self, array: pa.Array) -> int:
        """Return the bytes of the values that its buffers do not have, or not as often."""
        kind = array.type
        if _repeats(kind):
            return int(self._each(array).sum())
        own = _NO_BYTES * len(array) if _takes_no_bytes(kind) else 0
        return own + sum(map(self.size, _children(array)))

    def _each(self, array: pa.Array) -> Any:
        """Return the bytes of each value, as floats: products of what a stream says may be very large."""
        kind, count = array.type, len(array)
        if not count:
            return np.zeros(0)
        if isinstance(kind, pa.BaseExtensionType):
            return self._each(array.storage)
        if _t.is_dictionary(kind):
            return _at(self._each(array.dictionary), array.indices)
        if _t.is_run_end_encoded(kind):
            return self._runs(array)
        if _t.is_union(kind):
            return self._union(array)
        if _is_view(kind):
            return _where_valid(array, _numbers(array, 1, np.int32, 4)[::4])
        return self._list(array) if _is_list(kind) else self._others(array)

    def _others(self, array: pa.Array) -> Any:
        kind, count = array.type, len(array)
        if _takes_no_bytes(kind):
            return sum(map(self._each, _children(array)), start=np.broadcast_to(float(_NO_BYTES), count))
        if _is_text(kind):
            return np.maximum(np.diff(_offsets(array)).astype(float), _LEAST)
        return np.broadcast_to(float(max(kind.bit_width // 8, _LEAST)), count)

    def _list(self, array: pa.Array) -> Any:
        kind, count = array.type, len(array)
        if _t.is_fixed_size_list(kind):
            starts = np.arange(count) * kind.list_size
            ends = starts + kind.list_size
        elif _is_list_view(kind):
            number = np.int64 if _t.is_large_list_view(kind) else np.int32
            starts = _numbers(array, 1, number)
            ends = starts.astype(float) + _numbers(array, 2, number)
        else:
            starts, ends = (offsets := _offsets(array))[:-1], offsets[1:]
        inner = reduce(np.add, map(self._each, _children(array)))  # one child stays as it is, if all are alike
        sizes = _up_to(inner, ends) - _up_to(inner, starts)
        return np.clip(sizes, 0, self._most + 1) + _NO_BYTES  # bounded, so that sums of them stay exact

    def _runs(self, array: pa.Array) -> Any:
        ends = array.run_ends
        places = np.clip(_numbers(ends, 1, ends.type.to_pandas_dtype()), 0, len(array))
        lengths = np.diff(np.maximum.accumulate(places), prepend=0)
        return np.repeat(self._each(array.values), lengths)

    def _union(self, array: pa.Array) -> Any:
        codes, sizes = np.asarray(array.type_codes), np.zeros(len(array))
        for index, code in enumerate(array.type.type_codes):
            chosen, inner = np.flatnonzero(codes == code), self._each(array.field(index))
            places = np.asarray(array.offsets)[chosen] if array.type.mode == "dense" else chosen
            sizes[chosen] = _places(inner, places)
        return sizes


def _repeats(kind: pa.DataType) -> bool:
    is_dense = _t.is_union(kind) and kind.mode == "dense"
    is_view = _is_view(kind) or _is_list_view(kind)
    return bool(_t.is_dictionary(kind) or _t.is_run_end_encoded(kind) or is_dense or is_view)


def _takes_no_bytes(kind: pa.DataType) -> bool:
    return bool(_t.is_null(kind) or _t.is_struct(kind) or _t.is_fixed_size_list(kind))


def _is_view(kind: pa.DataType) -> bool:
    return bool(_t.is_string_view(kind) or _t.is_binary_view(kind))


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(_t.is_list_view(kind) or _t.is_large_list_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    others = _t.is_list(kind) or _t.is_large_list(kind) or _t.is_fixed_size_list(kind) or _t.is_map(kind)
    return bool(others) or _is_list_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(_t.is_string(kind) or _t.is_binary(kind) or _t.is_large_string(kind) or _t.is_large_binary(kind))


def _children(array: pa.Array) -> list[pa.Array]:
    """Return what an array is made of: all of it, also what the array leaves out."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return [array.storage]
    if _t.is_map(kind):
        return [array.keys, array.items]
    if _t.is_struct(kind) or _t.is_union(kind):
        return [array.field(index) for index in range(kind.num_fields)]
    return [array.values] if _is_list(kind) else []


def _numbers(array: pa.Array, buffer: int, kind: Any, each: int = 1) -> Any:
    """Return the numbers in a buffer, so many for each value, whatever the array says of nulls."""
    found = np.frombuffer(array.buffers()[buffer], kind)
    return found[array.offset * each : (array.offset + len(array)) * each]


def _offsets(array: pa.Array) -> Any:
    is_large = any(is_one(array.type) for is_one in (_t.is_large_list, _t.is_large_string, _t.is_large_binary))
    found = np.frombuffer(array.buffers()[1], np.int64 if is_large else np.int32)
    return found[array.offset : array.offset + len(array) + 1]


def _where_valid(array: pa.Array, sizes: Any) -> Any:
    """Return the sizes of values; in the place of a null there may be anything."""
    bits = array.buffers()[0]
    found = np.maximum(sizes.astype(float), _LEAST)
    if bits is None:
        return found
    valid = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")[array.offset : array.offset + len(array)]
    return np.where(valid, found, _LEAST)


def _at(inner: Any, indices: pa.Array) -> Any:
    places = _numbers(indices, 1, indices.type.to_pandas_dtype())
    return _where_valid(indices, _places(inner, places))


def _places(inner: Any, places: Any) -> Any:
    """Return what is at some places; those that are none are refused later."""
    return inner[np.clip(places, 0, len(inner) - 1).astype(np.int64)] if len(inner) else np.zeros(len(places))


def _up_to(inner: Any, places: Any) -> Any:
    """Return the sums of all values before each of some places."""
    found = np.clip(places, 0, len(inner)).astype(np.int64)
    if len(inner) and not inner.strides[0]:
        return found * inner[0]  # all are alike: a sum of each would take 8 bytes a value
    return np.concatenate([[0.0], np.cumsum(inner)])[found]
