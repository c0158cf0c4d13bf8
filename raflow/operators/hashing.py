"""A hash of keys that is the same in every process, on every machine and for every type of number.

Numbers are hashed as floats, so that 1, 1.0 and Decimal("1") meet; integers too large for that still meet
themselves. Texts are hashed once per distinct value. What has no simple bytes is hashed by its text.
"""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

_NULL = np.uint64(0x9E3779B97F4A7C15)
_NAN = np.uint64(0x7FF8000000000000)


def hashes(table: pa.Table, keys: tuple[str, ...]) -> Hashes:
    """Return a hash per row over the key columns. Null is a value of its own; all NaNs are one, and -0.0 is 0.0."""
    found: Hashes = np.zeros(table.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            found = _mixed(found * np.uint64(31) + _column(table.column(key)))
    return found


def row_hashes(table: pa.Table) -> Hashes:
    """Return a hash per row over all columns, whatever their order; one that is null counts as one that is absent."""
    found: Hashes = np.zeros(table.num_rows, np.uint64)
    with np.errstate(over="ignore"):
        for name in table.column_names:
            of_column = _column(table.column(name))
            found += np.where(of_column == _NULL, np.uint64(0), _mixed(of_column + np.uint64(_digest(name))))
    return found


def _column(column: pa.ChunkedArray) -> Hashes:
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # no chunks at all, or more than fit into one
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return _column(array.storage)
    if pa.types.is_dictionary(kind):
        return _by_value(array)
    if pa.types.is_decimal(kind):
        return _numbers(array.cast(pa.string()).cast(pa.float64()))  # by its text: 0.3 and 0.30 are one float
    if pa.types.is_boolean(kind):
        return _numbers(array.cast(pa.uint8()))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _numbers(array)
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        return _numbers(_ticks(array))
    if pa.types.is_null(kind):
        return np.full(len(array), _NULL)
    if pa.types.is_nested(kind) or pa.types.is_interval(kind):
        texts = [None if value is None else repr(_as_floats(value)) for value in array.to_pylist()]
        return _by_value(pa.array(texts, pa.string()).dictionary_encode())
    return _by_value(array.dictionary_encode())


def _as_floats(value: Any) -> Any:
    """Return a nested value with all its numbers as floats, so that [1] and [1.0] meet."""
    if isinstance(value, list | tuple):
        return [_as_floats(one) for one in value]
    if isinstance(value, dict):
        return [_as_floats(one) for one in value.values()]
    return float(value) + 0.0 if isinstance(value, int | float | Decimal) else value


def _ticks(array: pa.Array) -> pa.Array:
    """Return times as one unit, so that the same moment in seconds and in nanoseconds meets."""
    kind = array.type
    if pa.types.is_date(kind):
        array, kind = array.cast(pa.timestamp("s")), pa.timestamp("s")
    wide = pa.int64() if kind.bit_width == 64 else pa.int32()
    ticks = array.view(wide)
    if kind.unit == "ns":
        return pc.divide(ticks, 1000).cast(pa.float64(), safe=False)  # as floats they would not be exact
    scale = {"s": 1e6, "ms": 1e3, "us": 1.0}[kind.unit]
    return pc.multiply(ticks.cast(pa.float64(), safe=False), scale)


def _numbers(array: pa.Array) -> Hashes:
    values = pc.fill_null(array, pa.scalar(0, array.type)).to_numpy(zero_copy_only=False)
    floats = values.astype(np.float64) + 0.0  # -0.0 becomes 0.0
    bits: Hashes = floats.view(np.uint64).copy()
    bits[np.isnan(floats)] = _NAN
    spread = _mixed(bits)
    if array.null_count:
        spread[np.asarray(array.is_null())] = _NULL
    return spread


def _by_value(array: pa.DictionaryArray) -> Hashes:
    """Hash each distinct value once."""
    values = array.dictionary
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        if pa.types.is_primitive(values.type):
            of_values = _column(values)
            return _taken(array, of_values)
        values = [value if value is None or isinstance(value, bytes) else str(value) for value in values.to_pylist()]
    else:
        values = values.to_pylist()
    return _taken(array, np.fromiter(map(_digest, values), np.uint64, len(values)))


def _taken(array: pa.DictionaryArray, of_values: Hashes) -> Hashes:
    indices = pc.fill_null(array.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    found: Hashes = np.append(of_values, _NULL)[indices]
    return found


def _digest(value: str | bytes | None) -> int:
    if value is None:
        return int(_NULL)
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _mixed(bits: Hashes) -> Hashes:
    """Spread the bits (splitmix64), so that neighbours go to different partitions."""
    with np.errstate(over="ignore"):
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        spread: Hashes = bits ^ (bits >> np.uint64(31))
    return spread
