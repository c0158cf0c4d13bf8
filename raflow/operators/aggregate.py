"""Aggregations per group: each unit of work sends one row per group."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from raflow.errors import InvalidOption, SchemaError
from raflow.operators.contract import Hash, Route, Single, Wide
from raflow.operators.functions import FUNCTIONS, ROWS, Function
from raflow.operators.grouping import Ask, group, positions
from raflow.operators.names import check_columns
from raflow.operators.states import State
from raflow.units import did_you_mean


@dataclass(frozen=True)
class _Kept:
    """A state of a column, as a column of its own between `partial` and `finish`."""

    state: State
    column: str | None
    name: str


@dataclass(frozen=True)
class Aggregate(Wide):
    """One row per group: the keys, then the aggregations in the order given.

    Null is a group; all NaNs are one group, and -0.0 and 0.0 are one. Nulls do not count, except where said.
    The functions, of values that are not null unless said otherwise:

    - `sum`: int64 of integers and booleans, float64 of floats, decimal128(38, scale) of decimals. A sum that
      does not fit is an error. Null if there are no values.
    - `mean`: float64. `std`, `var`: float64, of a sample: null for fewer than two values.
    - `min`, `max`: of the column's type; NaN only where there is nothing else.
    - `count`: int64; without a column or of "*" all rows.
    - `first`, `last`: the value in the first or last row, in order of the units of work; it may be null.
    - `any`, `all`: of booleans; null if there are no values.
    - `count_distinct`: int64, exact. `approx_distinct`: may be wrong by a few per cent by contract; it is
      exact today.
    - `list`: all values, also nulls, in order of the rows; null in the only row of an empty input.

    Args:
        keys: Columns to group by, of any type. Without keys there is one row, also for an empty input.
        aggregations: Name of the result, column (None: no column) and function.

    Raises:
        InvalidOption: A function is unknown, has no column, or two columns of the result have one name.
    """

    keys: tuple[str, ...]
    aggregations: tuple[tuple[str, str | None, str], ...]

    def __post_init__(self) -> None:
        for name, column, function in self.aggregations:
            _function(name, column, function)
        names = [*self.keys, *(name for name, _, _ in self.aggregations)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            msg = f"{self.label} would make two columns {twice[0]!r}; give one another name"
            raise InvalidOption(msg)
        if not names:
            msg = "an aggregation needs keys or a function, e.g. count()"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """Return `group by zone`."""
        return f"group by {', '.join(self.keys)}" if self.keys else "aggregate"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return the hash of the keys; without keys all rows go to one partition."""
        return (Hash(self.keys) if self.keys else Single(),)

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the keys and the types of the results."""
        self._check(given[0])
        return self.finish(self.partial(0, given[0].empty_table())).schema

    def _check(self, given: pa.Schema) -> None:
        columns = [column for _, column, _ in self.aggregations if column not in (None, "*")]
        check_columns([*self.keys, *(column for column in columns if column)], given, self.label)
        for name, column, function in self.aggregations:
            if column in (None, "*"):
                continue
            kind, known = given.field(column).type, FUNCTIONS[function]
            if not known.fits(kind):
                msg = f"{name!r}: {function} of column {column!r} does not work: it is {kind}, not {known.works}"
                raise SchemaError(msg)

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del wanted, side, given
        return {*self.keys, *(column for _, column, _ in self.aggregations if column)}

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Return a row per group: the keys and the states."""
        del side
        self._check(table.schema)
        kept = self._kept()
        columns = [table.column(one.column) if one.column else positions(table.num_rows) for one in kept]
        asks = [one.state.asks(column) for one, column in zip(kept, columns, strict=True)]
        keys, answers = self._grouped(table, asks)
        made = [one.state.made(column, mine) for one, column, mine in zip(kept, columns, answers, strict=True)]
        return _with(keys, [one.name for one in kept], made)

    def merge(self, side: int, table: pa.Table) -> pa.Table:
        """Return a row per group of what `partial` has made."""
        del side
        kept = self._kept()
        columns = [table.column(one.name) for one in kept]
        asks = [one.state.merge_asks(column) for one, column in zip(kept, columns, strict=True)]
        keys, answers = self._grouped(table, asks)
        merged = [one.state.merged(column, mine) for one, column, mine in zip(kept, columns, answers, strict=True)]
        return _with(keys, [one.name for one in kept], merged)

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the results of a partition."""
        table = self._merged(tables[0])
        results = []
        for name, column, function in self.aggregations:
            known = _function(name, column, function)
            states = [table.column(_name(kind, column)).combine_chunks() for kind, _ in known.states]
            results.append(known.result(column, *states))
        return _with(table.select(self.keys), [name for name, _, _ in self.aggregations], results)

    def _merged(self, table: pa.Table) -> pa.Table:
        """Return a row per group; without keys exactly one, of nulls if there is no input."""
        if not table.num_columns:  # nothing is known of the input
            table = pa.table({name: pa.nulls(0) for name in [*self.keys, *(one.name for one in self._kept())]})
        if table.num_rows:
            return self.merge(0, table)
        rows = 0 if self.keys else 1
        return pa.Table.from_arrays([pa.nulls(rows, field.type) for field in table.schema], schema=table.schema)

    def _grouped(self, table: pa.Table, asks: list[list[Ask]]) -> tuple[pa.Table, list[list[pa.Array]]]:
        keys, found = group(table, self.keys, [ask for some in asks for ask in some])
        answers = iter(found)
        return keys, [[next(answers) for _ in some] for some in asks]

    def _kept(self) -> list[_Kept]:
        """Return the states, each once."""
        kept: dict[str, _Kept] = {}
        for name, column, function in self.aggregations:
            for kind, state in _function(name, column, function).states:
                kept[_name(kind, column)] = _Kept(state, None if kind == "rows" else column, _name(kind, column))
        return list(kept.values())


def _function(name: str, column: str | None, function: str) -> Function:
    if function == "count" and column in (None, "*"):
        return ROWS
    if function not in FUNCTIONS:
        hint = did_you_mean(function, FUNCTIONS)
        msg = f"{name!r}: there is no aggregation {function!r}; there are: {', '.join(FUNCTIONS)}{hint}"
        raise InvalidOption(msg)
    if column in (None, "*"):
        msg = f"{name!r}: {function} needs a column; only count does without"
        raise InvalidOption(msg)
    return FUNCTIONS[function]


def _name(kind: str, column: str | None) -> str:
    """Return the name of a state; no column of a user begins like this."""
    return "\0rows" if kind == "rows" else f"\0{kind} {column}"


def _with(keys: pa.Table, names: Iterable[str], columns: Iterable[pa.Array]) -> pa.Table:
    added = [(pa.field(name, column.type), column) for name, column in zip(names, columns, strict=True)]
    schema = pa.schema([*keys.schema, *(field for field, _ in added)])
    return pa.Table.from_arrays([*keys.columns, *(column for _, column in added)], schema=schema)
