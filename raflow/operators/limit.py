"""The first rows, in order of the units of work."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raflow.errors import InvalidOption
from raflow.operators.contract import Route, Single, Wide


@dataclass(frozen=True)
class Limit(Wide):
    """The first rows; units of work after those that have enough are not needed.

    Args:
        rows: How many; 0 is allowed.

    Raises:
        InvalidOption: The number is negative.
    """

    rows: int

    def __post_init__(self) -> None:
        if self.rows < 0:
            msg = f"limit takes 0 rows or more, not {self.rows}"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """Return `limit 10`."""
        return f"limit {self.rows}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return that all rows go to one partition."""
        return (Single(),)

    @property
    def enough(self) -> int:
        """Return the number of rows."""
        return self.rows

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the schema of the input."""
        return given[0]

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Return the first rows of a piece."""
        del side
        # Arrow's slice of a table without columns has as many rows as are asked for.
        return table.slice(0, min(self.rows, table.num_rows))

    def merge(self, side: int, table: pa.Table) -> pa.Table:
        """Return the first rows of a unit."""
        return self.partial(side, table)

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the first rows of all."""
        return self.partial(0, tables[0])
