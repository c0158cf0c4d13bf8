"""Choose, rename, drop and compute columns of each batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raflow.errors import SchemaError
from raflow.operators.contract import Narrow, Place
from raflow.operators.expressions import columns_of, evaluate, type_of
from raflow.operators.names import check_columns

_SHOWN = 4


@dataclass(frozen=True)
class Select(Narrow):
    """Keep these columns, in this order."""

    columns: tuple[str, ...]

    @property
    def label(self) -> str:
        """The columns."""
        return f"select {_listed(self.columns)}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the chosen fields."""
        check_columns(self.columns, given, self.label)
        _check_distinct(self.columns, self.label)
        return pa.schema([given.field(name) for name in self.columns])

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del wanted, side, given
        return set(self.columns)

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the chosen columns, without a copy."""
        del place
        check_columns(self.columns, batch.schema, self.label)
        return batch.select(list(self.columns))


@dataclass(frozen=True)
class Drop(Narrow):
    """Keep all columns but these."""

    columns: tuple[str, ...]
    may_be_gone: bool = False
    """Whether batches may come without them: a source need not read what is dropped."""

    @property
    def label(self) -> str:
        """The columns."""
        return f"drop {_listed(self.columns)}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the other fields."""
        check_columns(self.columns, given, self.label)
        return pa.schema([field for field in given if field.name not in self.columns])

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted - set(self.columns)

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the other columns, without a copy."""
        del place
        if not self.may_be_gone:
            check_columns(self.columns, batch.schema, self.label)
        return batch.select([name for name in batch.schema.names if name not in self.columns])


@dataclass(frozen=True)
class Rename(Narrow):
    """Give columns other names; they keep their places. Names may be swapped."""

    names: tuple[tuple[str, str], ...]
    """Pairs of the name there is and the new one."""

    @property
    def label(self) -> str:
        """The pairs."""
        return f"rename {_listed([f'{old} to {new}' for old, new in self.names])}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the fields under their new names."""
        new = dict(self.names)
        check_columns(new, given, self.label)
        fields = [field.with_name(new.get(field.name, field.name)) for field in given]
        _check_distinct([field.name for field in fields], self.label)
        return pa.schema(fields)

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted | {old for old, _ in self.names}

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the columns under their new names, without a copy."""
        del place
        return batch.rename_columns(self.schema(batch.schema).names)


@dataclass(frozen=True, eq=False)
class WithColumns(Narrow):
    """Add columns, or put others in the place of those with the same name.

    All of them are computed from the columns as they were before.
    """

    columns: tuple[tuple[str, pc.Expression | Any], ...]
    """Names, each with an expression or a constant."""

    @property
    def label(self) -> str:
        """The names."""
        return f"with {_listed([name for name, _ in self.columns])}"

    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return the fields, the new ones behind the others."""
        _check_distinct([name for name, _ in self.columns], self.label)
        fields = {field.name: field for field in given}
        for name, value in self.columns:
            fields[name] = pa.field(name, type_of(_expression(name, value), given))
        return pa.schema(list(fields.values()))

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        # A column that is replaced keeps its place only if it is there.
        asked = (one for _, one in self.columns if isinstance(one, pc.Expression))
        return wanted.union(*(columns_of(one, given[side]) for one in asked))

    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return the columns with the computed ones."""
        del place
        arrays = evaluate([_expression(name, value) for name, value in self.columns], batch)
        fields = {field.name: field for field in batch.schema}
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for (name, _), array in zip(self.columns, arrays, strict=True):
            fields[name], columns[name] = pa.field(name, array.type), array
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=pa.schema(list(fields.values())))


def _expression(name: str, value: Any) -> pc.Expression:
    if isinstance(value, pc.Expression):
        return value
    try:
        return pc.scalar(pa.scalar(value))
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        msg = f"column {name!r} cannot be {value!r:.60}: {error}; give it a value that Arrow has a type for"
        raise SchemaError(msg) from error


def _check_distinct(names: Sequence[str], what: str) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        msg = f"{what} makes several columns {twice[0]!r}; give each its own name"
        raise SchemaError(msg)


def _listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
