"""Record batches into records: the part of conversion that runs before user code."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, TypeAdapter, ValidationError

from raflow.convert import build
from raflow.convert.columns import check, python_values, reach
from raflow.convert.fields import ATOMS, Field, Value, fields_of, is_record
from raflow.errors import RecordError, SchemaError

_SHOWN = 200


@dataclass(frozen=True)
class Decoded:
    """What a function gets of one record batch."""

    values: Any
    """One value per record, or the one batch object that the function takes. If asked for while they are
    taken: an iterable, to be taken once."""
    rows: Sequence[int]
    """For each record the row that it came from."""
    rejected: list[tuple[int, Exception]]
    """Rows that do not fit the record type, each with a `RecordError`."""


def shown(value: Any) -> str:
    """Return a value for an error message, at most 200 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def decode_records(kind: Any, batch: pa.RecordBatch, while_taken: bool = False) -> Decoded:
    """Return the records of a batch.

    Args:
        kind: `dict`, `str`, `bytes`, a dataclass or a pydantic model.
        batch: May have more columns than the record type.
        while_taken: Make each record only when it is taken, if its type can refuse none: a record that
            is gone before the next one comes never leaves the processor's caches.

    Raises:
        SchemaError: A column is absent or of a type that cannot become the wanted one.
    """
    fields = _present(kind, batch.schema)
    lists, bad = _python_columns(kind, fields, batch)
    rows: Sequence[int] = range(batch.num_rows)
    if bad:
        rows = [row for row in rows if row not in bad]
        lists = [[values[row] for row in rows] for values in lists]
    try:
        values = _make(kind, fields, lists, len(rows))
        if not (while_taken and _takes_anything(kind)):
            values = list(values)
        return Decoded(values, rows, sorted(bad.items(), key=_row))
    except Exception:
        return _one_by_one(kind, fields, lists, rows, bad)


def _row(reject: tuple[int, Exception]) -> int:
    return reject[0]


def _present(kind: Any, schema: pa.Schema) -> list[Field]:
    """Return the fields that there are columns for."""
    if is_record(kind):
        wanted = _initial(kind)
        check(pa.schema([field.wanted() for field in wanted]), schema)
        return [field for field in wanted if field.column in schema.names]
    if kind is dict:
        return [Field(name, name, Value(pa.null(), nullable=True)) for name in schema.names]
    if len(schema) != 1:
        found = ", ".join(schema.names) or "none"
        msg = f"a {kind.__name__} record needs exactly one column; there are {found}; take a dict instead"
        raise SchemaError(msg)
    field = Field("value", schema.names[0], Value(ATOMS[kind]))
    check(pa.schema([field.wanted()]), schema)
    return [field]


def _initial(kind: type) -> tuple[Field, ...]:
    return tuple(field for field in fields_of(kind) if field.initial)


def _python_columns(
    kind: Any, fields: list[Field], batch: pa.RecordBatch
) -> tuple[list[list[Any]], dict[int, Exception]]:
    """Return the fields' columns as lists, and the rows that do not fit."""
    lists: list[list[Any]] = []
    bad: dict[int, Exception] = {}
    for field in fields:
        column = batch.column(field.column)
        target = reach(column.type, field.value.type)
        assert target is not None, "check() has passed"
        values, failed = python_values(column, target)
        lists.append(values)
        for row, error in failed.items():
            bad[row] = _unfit(kind, field, column.slice(row, 1), error)
        if column.null_count and field.required and not field.value.nullable:
            for row in pc.indices_nonzero(column.is_null()).to_pylist():
                bad[row] = _unfit(kind, field, column.slice(row, 1), None)
    return lists, bad


def _unfit(kind: Any, field: Field, found: pa.Array, cause: Exception | None) -> RecordError:
    name = f"field {field.column!r} of {kind.__name__}"
    if cause is None:
        return RecordError(f"{name} must be {field.value.type} but is null; make it Optional or give it a default")
    value = shown(found.to_string(indent=0).strip("[]\n"))
    return RecordError(f"{name} must be {field.value.type}, found {found.type} {value}: {cause}")


def _make(kind: Any, fields: list[Field], lists: list[list[Any]], rows: int) -> Iterable[Any]:
    if kind in (str, bytes):
        return lists[0]
    if kind is dict:
        return _mappings(fields, lists, rows)
    if issubclass(kind, BaseModel):
        return _models(kind).validate_python(_inputs(fields, lists, rows))
    if any(field.null_is_default and None in values for field, values in zip(fields, lists, strict=True)):
        every = _initial(kind)
        return [build.record(kind, every, row) for row in _mappings(fields, lists, rows)]
    built = [build.column(field.value.build, values) for field, values in zip(fields, lists, strict=True)]
    if fields and all(field.positional for field in fields) and fields == list(_initial(kind)[: len(fields)]):
        return map(kind, *built)
    names = [field.name for field in fields]
    return [kind(**dict(zip(names, row, strict=True))) for row in _rows(built, rows)]


@lru_cache(maxsize=128)
def _takes_anything(kind: type) -> bool:
    """Return whether no code of the user's runs where such a record is made."""
    if not dataclasses.is_dataclass(kind):
        return kind in (dict, str, bytes)
    own = getattr(kind.__init__, "__code__", None)
    is_generated = own is not None and own.co_filename == "<string>"  # as `dataclasses` compiles it
    has_factory = any(field.default_factory is not dataclasses.MISSING for field in dataclasses.fields(kind))
    return is_generated and not has_factory and not hasattr(kind, "__post_init__")


def _rows(lists: list[list[Any]], rows: int) -> Iterable[tuple[Any, ...]]:
    return zip(*lists, strict=True) if lists else [()] * rows


def _mappings(fields: list[Field], lists: list[list[Any]], rows: int) -> Iterable[dict[str, Any]]:
    columns = [field.column for field in fields]
    return (dict(zip(columns, row, strict=True)) for row in _rows(lists, rows))


@lru_cache(maxsize=128)
def _models(kind: type[BaseModel]) -> TypeAdapter[list[Any]]:
    return TypeAdapter(list[kind])  # type: ignore[valid-type]


def _inputs(fields: list[Field], lists: list[list[Any]], rows: int) -> list[dict[str, Any]]:
    """Return pydantic's input: a null that stands for a default is left out, also in what a record holds."""
    trimmed = [build.column(field.value.trim, values) for field, values in zip(fields, lists, strict=True)]
    found = list(_mappings(fields, trimmed, rows))
    for field, values in zip(fields, lists, strict=True):
        if field.null_is_default and None in values:
            for row in found:
                if row[field.column] is None:
                    del row[field.column]
    return found


def _one_by_one(
    kind: Any, fields: list[Field], lists: list[list[Any]], rows: Sequence[int], bad: dict[int, Exception]
) -> Decoded:
    """Return the records of a batch in which the record type itself refuses at least one."""
    every, rejects = _initial(kind), dict(bad)
    values: list[Any] = []
    kept: list[int] = []
    is_model = issubclass(kind, BaseModel)
    found = _inputs(fields, lists, len(rows)) if is_model else _mappings(fields, lists, len(rows))
    for row, record in zip(rows, found, strict=True):
        try:
            values.append(kind.model_validate(record) if is_model else build.record(kind, every, record))
            kept.append(row)
        except Exception as error:
            rejects[row] = RecordError(f"{_reason(kind, error)}; the record: {shown(record)}")
            rejects[row].__cause__ = error
    return Decoded(values, kept, sorted(rejects.items(), key=_row))


def _reason(kind: type, error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return f"{kind.__name__} does not take the record: {type(error).__name__}: {error}"
    issues = [
        f"field {'.'.join(map(str, issue['loc'])) or 'all'!r}: {issue['msg']}, found {shown(issue['input'])}"
        for issue in error.errors(include_url=False)
    ]
    return f"{kind.__name__} does not take the record: {'; '.join(issues)}"
