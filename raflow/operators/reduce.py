"""Python functions on groups: two values into one, or a whole group into whatever it makes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raflow.code import Code
from raflow.convert import Encoded, Shape, check, concat, encode, encode_batch, returned_schema, shape_of
from raflow.convert.shape import frame_name
from raflow.decorated import name_of
from raflow.errors import InvalidOption, InvalidProcessor, SchemaError
from raflow.operators.calling import Groups, check_function, groups_of
from raflow.operators.contract import Hash, Route, Wide
from raflow.operators.names import check_columns
from raflow.schema import completed, decoded

_BATCH_KINDS = "pa.Table, pa.RecordBatch, pd.DataFrame, pl.DataFrame or list[T]"


@dataclass(frozen=True)
class ReduceByKey(Wide):
    """One row per key: its values, two at a time, made one by a function.

    The function must be associative, for it is called in each unit of work first, and then with what came
    of the units, in their order. A key with one value keeps that. Null is a value: the function gets None.
    Null keys are one key.

    Raises:
        InvalidOption: There is no key, or the value is one.
        InvalidProcessor: The function is none that can be called with two values.
    """

    function: Callable[[Any, Any], Any]
    key: tuple[str, ...]
    value: str

    runs_python = True

    def __post_init__(self) -> None:
        check_function(self.function, self.key, "reduce_by_key")
        if self.value in self.key:
            msg = f"reduce_by_key: the value {self.value!r} is a key as well; choose another column"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """The function and the keys."""
        return f"reduce {self.value} by {', '.join(self.key)} with {name_of(self.function)}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Rows with equal keys come together."""
        return (Hash(self.key),)

    def schema(self, *given: pa.Schema) -> None:
        """Check the columns; the type of the values is up to the function."""
        check_columns((*self.key, self.value), given[0], self.label)

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del wanted, side, given
        return {*self.key, self.value}

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Return one row per key."""
        del side
        return self.finish(table)

    def merge(self, side: int, table: pa.Table) -> pa.Table:
        """Return one row per key."""
        del side
        return self.finish(table)

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return one row per key, in order of first sight: the keys, then the value.

        Raises:
            SchemaError: A column is not there.
            RecordError: The function returned what is no value of one type with the others.
        """
        (table,) = tables
        if not table.num_columns:
            return table
        self.schema(table.schema)
        table = table.select([*self.key, self.value])
        if not table.num_rows:
            return table
        groups = groups_of(table, self.key, self.label)
        values = [record[self.value] for record in _decoded(shape_of(list), groups.rows.select([self.value]))]
        reduced = groups.call(lambda part: {self.value: functools.reduce(self.function, values[part])})
        batch = groups.fitting(encode(reduced, _plain(table.schema.field(self.value))))
        assert batch is not None, "there is a value per key"
        return groups.keys.append_column(batch.schema.field(0), batch.column(0))


@dataclass(frozen=True)
class MapGroups(Wide):
    """What a function makes of each group of rows with equal keys.

    The function gets one group, of all columns and with its rows in order, as the annotation of its first
    parameter says: a table, a frame or `list[T]`; a list of dicts where there is none. It returns what a
    processor may: None, a record, a list, a generator, a table or a frame. Null keys are one group.

    Raises:
        InvalidOption: There is no key.
        InvalidProcessor: The function cannot take a group.
    """

    function: Callable[[Any], Any]
    by: tuple[str, ...]

    runs_python = True

    def __post_init__(self) -> None:
        check_function(self.function, self.by, "map_groups")
        self._shape  # noqa: B018 - known before it travels: a replica may lack the modules that annotations name

    @property
    def label(self) -> str:
        """The function and the keys."""
        return f"map groups by {', '.join(self.by)} with {name_of(self.function)}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Rows with equal keys come together."""
        return (Hash(self.by),)

    def schema(self, *given: pa.Schema) -> None:
        """Check the columns; what comes out is up to the function.

        Raises:
            SchemaError: A key, or a column that the function's record type wants, is not there.
            InvalidProcessor: The annotations do not fit a group.
        """
        check_columns(self.by, given[0], self.label)
        shape, _ = self._shape
        if shape.columns is not None:
            check(shape.columns, given[0])

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return what the function made of the groups, in order of first sight.

        Raises:
            SchemaError: A column is not there, or results have types that do not merge.
            RecordError: A row does not fit the function's record type, or a result is nothing that has columns.
        """
        (table,) = tables
        shape, hint = self._shape
        none = pa.schema([] if hint is None else hint).empty_table()
        if not table.num_rows:
            return none
        self.schema(table.schema)
        groups = groups_of(table, self.by, self.label)
        results = groups.call(lambda part: _listed(self.function(_decoded(shape, groups.rows[part]))))
        batch = _encoded(results, hint, groups)
        return none if batch is None else pa.Table.from_batches([completed(batch, none.schema)])

    @functools.cached_property
    def _shape(self) -> tuple[Shape, pa.Schema | None]:
        """Return what the function gets, and the columns that it returns if its annotation says so."""
        takes, returns = Code(self.function, takes=list).annotations(self.label)
        shape = shape_of(list if takes is Any else takes)
        if shape.per_record:
            msg = f"{self.label}: the function gets a whole group; annotate its first parameter with {_BATCH_KINDS}"
            raise InvalidProcessor(msg)
        return shape, returned_schema(returns)


def _decoded(shape: Shape, batch: pa.RecordBatch) -> Any:
    decoded = shape.decode(batch)
    for _, error in decoded.rejected:
        raise error
    return decoded.values


def _listed(result: Any) -> Any:
    """Run a generator, whose code is the user's too."""
    return list(result) if isinstance(result, (tuple, Iterator)) else result


def _encoded(results: list[Any], hint: pa.Schema | None, groups: Groups) -> pa.RecordBatch | None:
    """Return all results as one batch: records all at once, frames one by one."""
    if not any(_has_frame(result) for result in results):
        return groups.fitting(encode(results, hint))
    batches = [groups.fitting(_frame(result, hint, number)) for number, result in enumerate(results)]
    return concat([batch for batch in batches if batch is not None])


def _frame(result: Any, hint: pa.Schema | None, number: int) -> Encoded:
    """Return a group's result as a batch; what does not fit is counted by group, not by record."""
    try:
        encoded = encode_batch(result, hint)
    except SchemaError as error:
        return Encoded(None, [(number, error)])
    return Encoded(encoded.batch, [(number, error) for _, error in encoded.rejected])


def _has_frame(result: Any) -> bool:
    return any(frame_name(type(each)) for each in (result if isinstance(result, list) else (result,)))


def _plain(field: pa.Field) -> pa.Schema:
    """Return a field as a hint for results: they may be wider than what came in."""
    return pa.schema([pa.field(field.name, decoded(field.type))])
