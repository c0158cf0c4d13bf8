"""What a user's function gets and returns, read from its annotations."""

from __future__ import annotations

import inspect
import types
from collections import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.compute as pc

from raflow.convert.decode import Decoded, decode_records
from raflow.convert.fields import fields_of, is_record
from raflow.errors import InvalidProcessor, SchemaError
from raflow.schema import expanded, without_records

_ALLOWED = (
    "dict, a dataclass, a pydantic model, bytes, str or nothing for one record at a time; "
    "pa.RecordBatch, pa.Table, pd.DataFrame, pl.DataFrame or list[T] for a batch"
)
_FLOAT_INTEGERS = 2**53
"""Up to here a float holds every integer."""
_STREAMS = (
    list,
    abc.Iterable,
    abc.Iterator,
    abc.Sequence,
    abc.Generator,
    abc.AsyncIterable,
    abc.AsyncIterator,
    abc.AsyncGenerator,
)


@dataclass(frozen=True)
class Shape:
    """What a function gets."""

    per_record: bool
    """True: one record a call; False: one batch a call."""
    columns: pa.Schema | None
    """Columns that the record type wants; None: all. A field without the mark of `schema.fix` takes
    any type of its kind, and `check` says which columns may be absent."""
    record: Any = None
    """The record type, for single records and `list[T]`; None for tables and data frames."""
    frame: str = ""
    """The batch object, e.g. `pandas.DataFrame`; empty for records."""

    def decode(self, batch: pa.RecordBatch, while_taken: bool = False) -> Decoded:
        """Return what the function gets of one record batch.

        Args:
            batch: May have more columns than are wanted.
            while_taken: Whether records may be made when they are taken.

        Raises:
            SchemaError: A column is absent or of a type that cannot become the wanted one.
        """
        if not self.takes_arrow:
            batch = self._readable(batch)
        if self.record is not None:
            return decode_records(self.record, batch, while_taken)
        return Decoded(_FRAMES[self.frame](batch), range(batch.num_rows), [])

    @property
    def takes_arrow(self) -> bool:
        """Whether the function gets columns as they are, of whatever type."""
        return self.frame.startswith("pyarrow.")

    def _readable(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the batch with plain values in the columns that are wanted."""
        names = None if self.columns is None else self.columns.names
        wanted = [field for field in batch.schema if names is None or field.name in names]
        if unknown := without_records(pa.schema(wanted)):
            msg = f"no records can be made of these columns: {unknown}; a function on a pa.Table gets them as they are"
            raise SchemaError(msg)
        return expanded(batch)


def _pandas(batch: pa.RecordBatch) -> Any:
    # Integers with nulls become floats, as pandas users expect; but no float holds all those beyond 2**53.
    return batch.to_pandas(integer_object_nulls=any(map(_needs_integers, batch.columns)))


def _needs_integers(column: pa.Array) -> bool:
    """Return whether a column has nulls and integers that floats change."""
    if not (pa.types.is_integer(column.type) and column.null_count):
        return False
    found = pc.min_max(column).as_py()
    return any(abs(value or 0) > _FLOAT_INTEGERS for value in found.values())


def _polars(batch: pa.RecordBatch) -> Any:
    import polars

    return polars.from_arrow(pa.Table.from_batches([batch]))


_FRAMES: dict[str, Callable[[pa.RecordBatch], Any]] = {
    "pyarrow.RecordBatch": lambda batch: batch,
    "pyarrow.Table": lambda batch: pa.Table.from_batches([batch]),
    "pandas.DataFrame": _pandas,
    "polars.DataFrame": _polars,
}


def frame_name(kind: Any) -> str:
    """Return e.g. `pandas.DataFrame` for a class of that name, without importing its library."""
    package = getattr(kind, "__module__", "").partition(".")[0]
    name = f"{package}.{getattr(kind, '__qualname__', '')}"
    return name if name in _FRAMES else ""


def shape_of(annotation: Any) -> Shape:
    """Return what a function gets whose first parameter has the annotation.

    Args:
        annotation: As `typing.get_type_hints` gives it; `Any`, None and `inspect.Parameter.empty` mean none.

    Raises:
        InvalidProcessor: The annotation cannot be served; names it and what is allowed.
    """
    annotation = _bare(annotation)
    if frame := frame_name(annotation):
        return Shape(per_record=False, columns=None, frame=frame)
    if annotation is list or get_origin(annotation) is list:
        (item,) = get_args(annotation) or (dict,)
        return Shape(per_record=False, columns=_columns(item, annotation), record=_record(item, annotation))
    return Shape(per_record=True, columns=_columns(annotation, annotation), record=_record(annotation, annotation))


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _record(annotation: Any, whole: Any) -> Any:
    annotation = _bare(annotation)
    if annotation in (None, Any, inspect.Parameter.empty) or get_origin(annotation) is dict:
        return dict
    if annotation in (dict, str, bytes) or is_record(annotation):
        return annotation
    shown = whole.__qualname__ if isinstance(whole, type) else str(whole)
    msg = f"a function cannot get {shown}; annotate its first parameter with {_ALLOWED}"
    raise InvalidProcessor(msg)


def _columns(annotation: Any, whole: Any) -> pa.Schema | None:
    record = _record(annotation, whole)
    if not is_record(record):
        return None
    return pa.schema([field.wanted() for field in fields_of(record) if field.initial])


def returned_schema(annotation: Any) -> pa.Schema | None:
    """Return the columns of what a function returns, if its return annotation is a type with fields.

    The type may stand inside of `Optional`, `list`, an iterator or a generator. Fields that may hold
    anything have the type `pa.null()` and are not fixed.

    Raises:
        InvalidProcessor: A field has an annotation without Arrow type.
    """
    annotation = _bare(annotation)
    if is_record(annotation):
        return pa.schema([field.returned() for field in fields_of(annotation)])
    arguments = [each for each in get_args(annotation) if each is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType):
        return returned_schema(arguments[0]) if len(arguments) == 1 else None
    return returned_schema(arguments[0]) if get_origin(annotation) in _STREAMS and arguments else None
