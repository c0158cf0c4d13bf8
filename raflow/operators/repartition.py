"""The same rows in another number of partitions."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from raflow.errors import InvalidOption
from raflow.operators.contract import Even, Route, Wide


@dataclass(frozen=True)
class Repartition(Wide):
    """The same rows, dealt out evenly; which row goes where is the same when a unit of work is repeated.

    Args:
        number: How many partitions there are then.

    Raises:
        InvalidOption: The number is less than one.
    """

    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            msg = f"repartition takes 1 partition or more, not {self.number}"
            raise InvalidOption(msg)

    @property
    def label(self) -> str:
        """Return `repartition 8`."""
        return f"repartition {self.number}"

    @property
    def routes(self) -> tuple[Route, ...]:
        """Return that rows are dealt out evenly."""
        return (Even(),)

    @property
    def partitions(self) -> int:
        """Return the number of partitions."""
        return self.number

    def schema(self, *given: pa.Schema) -> pa.Schema:
        """Return the schema of the input."""
        return given[0]

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        del side, given
        return wanted

    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the rows as they are."""
        return tables[0]
