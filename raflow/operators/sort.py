"""A total order of all rows: partitions follow each other, and each is sorted."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raflow.errors import InvalidOption, SchemaError
from raflow.operators import routing
from raflow.operators.contract import Range, Route, Wide
from raflow.operators.names import check_columns

By = tuple[tuple[str, str], ...]
_DIRECTIONS = ("ascending", "descending")


@dataclass(frozen=True)
class Sort(Wide):
    """All rows in order; equal ones keep theirs. Nulls come last, NaN before them, in both directions.

    Args:
        by: Columns, most important first, each with "ascending" or "descending"; see `by_of`.
    """

    by: By

    @property
    def label(self) -> str:
        """Return `sort by zone, fare descending`."""
        return "sort by " + ", ".join(name if order == _DIRECTIONS[0] else f"{name} {order}" for name, order in self.by)

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return the range."""
        return (Range(self.by),)

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the schema of the input, once its columns are known to have an order."""
        self._check(given[0])
        return given[0]

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted | {name for name, _ in self.by}

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Return the rows as they are: they are checked, and sorted in the end."""
        del side
        self._check(table.schema)
        return table

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the rows of a partition in order."""
        return routing.ordered_by(tables[0], self.by) if tables[0].num_rows else tables[0]

    def _check(self, given: pa.Schema) -> None:
        check_columns([name for name, _ in self.by], given, self.label)
        for name, _ in self.by:
            kind = given.field(name).type
            try:
                routing.ordered_by(pa.table({name: pa.array([], kind)}), ((name, _DIRECTIONS[0]),))
            except (pa.ArrowTypeError, pa.ArrowNotImplementedError):
                msg = f"{self.label}: column {name!r} is {kind}, which has no order; sort by a column inside it"
                raise SchemaError(msg) from None


def by_of(*by: str | tuple[str, str]) -> By:
    """Return what to sort by, from what a user writes: `by_of("zone", ("fare", "descending"))`.

    Raises:
        InvalidOption: There is no column, one is given twice, or its direction is none.
    """
    found = tuple((one, _DIRECTIONS[0]) if isinstance(one, str) else (one[0], one[1]) for one in by)
    names = [name for name, _ in found]
    if not names:
        msg = "sort needs at least one column"
        raise InvalidOption(msg)
    for name, order in found:
        if order not in _DIRECTIONS:
            msg = f"column {name!r} cannot be sorted {order!r}; give 'ascending' or 'descending'"
            raise InvalidOption(msg)
        if names.count(name) > 1:
            msg = f"sort has column {name!r} twice"
            raise InvalidOption(msg)
    return found
