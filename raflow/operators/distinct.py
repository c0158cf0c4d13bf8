"""Each row once, or the first row of each key."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raflow.operators.contract import Hash, Route, Wide
from raflow.operators.grouping import firsts
from raflow.operators.names import check_columns


@dataclass(frozen=True)
class Distinct(Wide):
    """The first of all equal rows, in order of the units of work; columns may have any type.

    Nulls are equal to each other, and so are NaNs, and -0.0 and 0.0.

    Args:
        on: Columns that make rows equal; None: all of them.
    """

    on: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """Return `distinct zone`."""
        return "distinct" if self.on is None else f"distinct {', '.join(self.on)}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return the hash of the columns."""
        return (Hash(self.on),)

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the schema of the input."""
        check_columns(given[0].names if self.on is None else self.on, given[0], self.label)
        return given[0]

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        return wanted | set(given[side].names if self.on is None else self.on)

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Return the first of equal rows."""
        del side
        self.schema(table.schema)
        return self._firsts(table)

    def merge(self, side: int, table: pa.Table) -> pa.Table:
        """Return the first of equal rows."""
        del side
        return self._firsts(table)

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the first of equal rows."""
        return self._firsts(tables[0])

    def _firsts(self, table: pa.Table) -> pa.Table:
        if not table.num_rows:  # it may have no columns either
            return table
        keys = table.columns if self.on is None else [table.column(name) for name in self.on]
        return table.take(firsts(keys)) if keys else table.slice(0, 1)
