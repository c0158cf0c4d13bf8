"""JSON values of types that Arrow's parser does not have, or of which it loses something.

It forgets the zones of timestamps, and knows no dates, times, durations, bytes and maps. So these are read as what
they are in JSON: text, numbers and pairs.
"""

from __future__ import annotations

import re
from base64 import b64decode

import pyarrow as pa
import pyarrow.compute as pc

_t = pa.types
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MOMENTS = [pa.timestamp(unit, zone) for unit in ("s", "us", "ns") for zone in (None, "UTC")]
_LIKE_MOMENT = re.compile(r"\d{4}-\d\d-\d\d")


def readable(kind: pa.DataType) -> pa.DataType:
    """Return the type as which Arrow's parser can read values."""
    if _t.is_struct(kind):
        return pa.struct([field.with_type(readable(field.type)) for field in kind])
    if _t.is_list(kind):
        return pa.list_(kind.value_field.with_type(readable(kind.value_type)))
    if _t.is_map(kind):
        return pa.list_(pa.struct({"key": pa.string(), "value": readable(kind.item_type)}))
    if _t.is_duration(kind):
        return pa.float64()
    is_text = _t.is_timestamp(kind) or _t.is_date(kind) or _t.is_time(kind)
    return pa.string() if is_text or _t.is_binary(kind) or _t.is_dictionary(kind) else kind


def converted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return an array of the type from values that were read as its `readable` one.

    Raises:
        pyarrow.ArrowInvalid: A value is not of the type.
    """
    if array.type == kind:
        return array
    if _t.is_struct(kind) or _t.is_list(kind) or _t.is_map(kind):
        return _nested(array, kind)
    if _t.is_binary(kind):
        return _bytes(array)
    if _t.is_time(kind):  # which Arrow parses in its CSV reader only
        return pc.binary_join_element_wise("1970-01-01T", array, "").cast(pa.timestamp(kind.unit)).cast(kind)
    if _t.is_duration(kind):
        return pc.round(pc.multiply(array, float(_PER_SECOND[kind.unit]))).cast(pa.int64()).cast(kind)
    return array.cast(kind)


def _nested(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return what holds converted values, in the array's own buffers; a map has those of a list of pairs."""
    if _t.is_struct(kind):
        own, children = 1, [converted(array.field(index), field.type) for index, field in enumerate(kind)]
    elif _t.is_map(kind):
        pairs = [converted(array.values.field(0), kind.key_type), converted(array.values.field(1), kind.item_type)]
        own, children = 2, [pa.StructArray.from_arrays(pairs, fields=[kind.key_field, kind.item_field])]
    else:
        own, children = 2, [converted(array.values, kind.value_type)]
    return pa.Array.from_buffers(kind, len(array), array.buffers()[:own], children=children)


def _bytes(texts: pa.Array) -> pa.Array:
    try:
        values = [None if text is None else b64decode(text, validate=True) for text in texts.to_pylist()]
    except ValueError as exc:
        msg = f"not base64, which is how JSON holds bytes: {exc}"
        raise pa.ArrowInvalid(msg) from exc
    return pa.array(values, pa.binary())


def seen(array: pa.Array) -> pa.DataType:
    """Return the type that values seem to have: texts that are all timestamps are such, if all or none has a zone."""
    kind = array.type
    if _t.is_struct(kind):
        return pa.struct([field.with_type(seen(array.field(index))) for index, field in enumerate(kind)])
    if _t.is_list(kind):
        return pa.list_(kind.value_field.with_type(seen(array.values)))
    return _moment(array) if _t.is_string(kind) and _LIKE_MOMENT.match(pc.first(array).as_py() or "") else kind


def _moment(texts: pa.Array) -> pa.DataType:
    for kind in _MOMENTS:
        try:
            texts.cast(kind)
        except pa.ArrowInvalid:
            continue
        return kind
    return texts.type
