"""Types of which a record type decides a part; the rest is as it was found in the values."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from raflow.convert.columns import reach
from raflow.convert.nested import children, is_untyped
from raflow.errors import SchemaError
from raflow.schema import merge

_t = pa.types


def decided(found: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return the wanted type, with what was found for the parts that it leaves open.

    Args:
        found: What the values seem to be; null where there are none yet.
        wanted: By a record type: null stands for anything, a timestamp for one with a time zone or without.
    """
    if _t.is_null(wanted):
        return found
    if _t.is_timestamp(wanted):
        return _moment(found)
    if _t.is_struct(wanted):
        present = {field.name: field.type for field in children(found)} if _t.is_struct(found) else {}
        return pa.struct([field.with_type(decided(present.get(field.name, pa.null()), field.type)) for field in wanted])
    if _t.is_list(wanted):
        return pa.list_(decided(found.value_type if _t.is_list(found) else pa.null(), wanted.value_type))
    return _map(found, wanted) if _t.is_map(wanted) else wanted


def _moment(found: pa.DataType) -> pa.DataType:
    """Return a timestamp in microseconds, which also later values with fractions fit; what is none stays."""
    if _t.is_timestamp(found) and found.unit != "ns":
        return pa.timestamp("us", found.tz)
    return pa.timestamp("us") if _t.is_date(found) else found


def _map(found: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return a map; what was found if anything may be in it and is of several types, for which there is no map."""
    items = [field.type for field in children(found)] if _t.is_struct(found) else []
    items = [found.item_type] if _t.is_map(found) else items
    item = _one([decided(item, wanted.item_type) for item in items or [pa.null()]], wanted.item_type)
    return found if item is None else pa.map_(wanted.key_type, item)


def _one(kinds: Sequence[pa.DataType], wanted: pa.DataType) -> pa.DataType | None:
    """Return the type that holds all, or else the first of those that a record type takes."""
    try:
        return merge([pa.schema([("item", kind)]) for kind in kinds]).field(0).type
    except SchemaError:
        fitting = [kind for kind in kinds if reach(kind, wanted) is not None]
        return fitting[0] if fitting and not is_untyped(wanted) else None
