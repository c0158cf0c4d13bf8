"""Results into record batches: the part of conversion that runs after user code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any

import pyarrow as pa

from raflow.batch import one_batch
from raflow.convert.arrays import array_of, types_of
from raflow.convert.decode import shown
from raflow.convert.fields import ATOMS, is_record
from raflow.convert.plain import Unfit, columns_of, plain
from raflow.convert.shape import frame_name
from raflow.errors import RecordError, SchemaError
from raflow.schema import conform, decoded, merge

_t = pa.types
_RETURNS = "return a dict, a dataclass, a pydantic model, a str, bytes, number, a list of these, or None"

Rejects = dict[int, Exception]
"""Why records do not fit, by their position."""


@dataclass(frozen=True)
class Encoded:
    """What results are as a record batch."""

    batch: pa.RecordBatch | None
    """None if nothing is left."""
    rejected: list[tuple[int, Exception]]
    """Positions in the results that do not fit, each with a `RecordError`."""


def encode(results: Sequence[Any], hint: pa.Schema | None) -> Encoded:
    """Return what a record function returned, as one batch.

    None is dropped, a list counts as many records. Columns are the union of all keys in the order of
    first sight; what a record does not have is null.

    Args:
        results: One per call.
        hint: Output schema agreed so far. Where values do not fit it but it can widen to them, the
            batch has the wider type.
    """
    kinds = types_of(results)
    records, origins = _flat(results, kinds)
    batch, rejects = _batch(records, hint, kinds if records is results else None)
    return Encoded(batch, [(origins[index], rejects[index]) for index in sorted(rejects)])


def _flat(results: Sequence[Any], kinds: set[type]) -> tuple[Sequence[Any], Sequence[int]]:
    """Return the records, and for each the position of its result."""
    if kinds.isdisjoint((list, type(None))):
        return results, range(len(results))
    records, origins = [], []
    for index, result in enumerate(results):
        for record in result if type(result) is list else (result,):
            if record is not None:
                records.append(record)
                origins.append(index)
    return records, origins


def _batch(
    records: Sequence[Any], hint: pa.Schema | None, kinds: set[type] | None = None
) -> tuple[pa.RecordBatch | None, Rejects]:
    if not records:
        return None, {}
    columns = _same_fields(records, kinds or types_of(records))
    declared = columns is not None and type(records[0]) is not dict
    rejects: Rejects = {}
    if columns is None:
        columns, rejects = _any_fields(records)
    if not rejects:
        arrays, rejects = _arrays(columns, declared, hint, records)
    if not rejects:
        return _from_arrays(arrays, len(records)), {}
    good = [index for index in range(len(records)) if index not in rejects]
    batch, rest = _batch([records[index] for index in good], hint)
    return batch, {**rejects, **{good[index]: error for index, error in rest.items()}}


def _same_fields(records: Sequence[Any], kinds: set[type]) -> dict[str, list[Any]] | None:
    """Return columns of dicts with the same keys or of one record type; None for anything else."""
    kind, *others = kinds
    if others:
        return None
    if is_record(kind) and getattr(kind, "model_config", {}).get("extra") != "allow":
        return {column: list(map(attrgetter(name), records)) for column, name in columns_of(kind).items()}
    if kind is not dict or types_of(records[0]) != {str}:
        return None
    try:
        columns = {key: list(map(itemgetter(key), records)) for key in records[0]}
    except KeyError:
        return None
    return columns if sum(map(len, records)) == len(columns) * len(records) else None  # no other keys


def _any_fields(records: Sequence[Any]) -> tuple[dict[str, list[Any]], Rejects]:
    """Return columns of records of several kinds; they are of use only if no record is rejected."""
    dicts: list[dict[str, Any]] = []
    rejects: Rejects = {}
    for index, record in enumerate(records):
        try:
            dicts.append(_as_dict(record))
        except Unfit as reason:
            rejects[index] = RecordError(f"the function returned {reason}; {_RETURNS}")
    keys = {key: None for record in dicts for key in record}
    return {key: [record.get(key) for record in dicts] for key in keys}, rejects


def _as_dict(record: Any) -> dict[str, Any]:
    if type(record) is dict and all(type(key) is str for key in record):
        return record
    value = plain(record)
    if type(value) is dict:
        return value
    if type(value) in ATOMS:
        return {"value": value}
    msg = f"a {type(record).__qualname__} ({record!r:.60})"
    raise Unfit(msg)


def _arrays(
    columns: dict[str, list[Any]], declared: bool, hint: pa.Schema | None, records: Sequence[Any]
) -> tuple[dict[str, pa.Array], Rejects]:
    arrays: dict[str, pa.Array] = {}
    rejects: Rejects = {}
    for name, values in columns.items():
        index = -1 if hint is None else hint.get_field_index(name)
        field = None if hint is None or index < 0 else hint.field(index)
        arrays[name], unfits = array_of(values, field, declared)
        for row, found in unfits.items():
            rejects.setdefault(row, _unfit(name, field, found, records[row]))
    return arrays, rejects


def _unfit(name: str, field: pa.Field | None, found: str, record: Any) -> RecordError:
    expected = ""
    if field is not None and not _t.is_null(field.type):
        expected = f" where {field.type} is expected"
    return RecordError(f"field {name!r} is {found}{expected}; the record: {shown(record)}")


def _from_arrays(arrays: dict[str, pa.Array], rows: int) -> pa.RecordBatch:
    if arrays:
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["nothing"]).select([])


def encode_batch(result: Any, hint: pa.Schema | None) -> Encoded:
    """Return what a batch function returned, as one batch.

    Takes a record batch, a table, a pandas or polars frame, records, or an iterable of any of these.
    The index of a pandas frame is dropped: `reset_index()` makes it a column. NaN of pandas is null.

    Args:
        result: What was returned; None stands for no rows.
        hint: Output schema agreed so far; used for records only.

    Raises:
        SchemaError: A frame has no Arrow form, or parts of the result have types that do not merge.
    """
    if result is None:
        return Encoded(None, [])
    if frame := frame_name(type(result)):
        return Encoded(_from_frame(frame, result), [])
    if not isinstance(result, (list, tuple, Iterator)):
        return encode([result], hint)
    pieces = list(result)
    if not any(frame_name(type(piece)) for piece in pieces):
        return encode(pieces, hint)
    encoded = [encode_batch(piece, hint) for piece in pieces]
    rejected = [reject for each in encoded for reject in each.rejected]
    return Encoded(concat([each.batch for each in encoded if each.batch is not None]), rejected)


def concat(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch | None:
    """Return batches as one, in the schema that holds them all; None if there are none.

    Raises:
        SchemaError: A field has types that do not merge.
    """
    if not batches:
        return None
    schema = merge([batch.schema for batch in batches], what="another batch of the same result")
    return _one([conform(batch, schema) for batch in batches])


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    filled = [batch for batch in batches if batch.num_rows]
    return one_batch(filled) if filled else batches[0]


def _from_frame(name: str, frame: Any) -> pa.RecordBatch:
    try:
        batch = _TO_ARROW[name](frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        msg = f"the returned {name} cannot become Arrow columns: {error}"
        raise SchemaError(msg) from error
    if len(set(batch.schema.names)) < batch.num_columns:
        msg = f"the returned {name} has several columns of one name: {', '.join(batch.schema.names)}"
        raise SchemaError(msg)
    return batch


def _from_table(table: pa.Table) -> pa.RecordBatch:
    batches = table.to_batches()
    return _one(batches) if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _simple(table: pa.Table) -> pa.RecordBatch:
    """Return a table in the types that records have, without a library's own large and category types."""
    schema = pa.schema([pa.field(field.name, _simple_type(field.type)) for field in table.schema])
    return _from_table(table.cast(schema) if table.schema != schema else table.replace_schema_metadata(None))


def _simple_type(kind: pa.DataType) -> pa.DataType:
    kind = decoded(kind)
    if _t.is_large_list(kind):
        return pa.list_(_simple_type(kind.value_type))
    return {"large_string": pa.string(), "string_view": pa.string(), "large_binary": pa.binary()}.get(str(kind), kind)


_TO_ARROW: dict[str, Callable[[Any], pa.RecordBatch]] = {
    "pyarrow.RecordBatch": lambda batch: batch,
    "pyarrow.Table": _from_table,
    "pandas.DataFrame": lambda frame: _simple(pa.Table.from_pandas(frame, preserve_index=False)),
    "polars.DataFrame": lambda frame: _simple(frame.to_arrow()),
}
