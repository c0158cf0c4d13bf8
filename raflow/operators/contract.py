"""The two kinds of operators: those that work on each batch alone, and those that need keys together.

Theory. A `Narrow` operator runs where its input is, fused with what is around it. A `Wide` one works in
three places: `partial` in the replica that has a unit of work, to make it small before it travels; the
route, which says to which partition each row goes; and `finish` in a replica that has all rows of a
partition. All of it is pure: no operator knows of replicas, engines or the driver.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa


@dataclass(frozen=True)
class Place:
    """Where a batch comes from: the same again when a unit of work is repeated."""

    unit: str
    row: int
    """Row of the unit at which the batch starts."""


class Operator(ABC):
    """What is done to records. Picklable; a frozen dataclass."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What it does, in a few words, for graphs: `filter (fare > 0)`."""

    def needs(self, wanted: set[str], side: int, *given: pa.Schema) -> set[str]:
        """Return the columns of one input without which it cannot give what is wanted of its own ones.

        Args:
            wanted: Names of columns that it gives.
            side: Which input.
            given: The columns of its inputs.

        Returns:
            Their names; there may be some among them that the input does not have. All, if nobody says less.
        """
        del wanted
        return set(given[side].names)


class Narrow(Operator):
    """An operator on each batch alone."""

    by_place: bool = False
    """Whether what it makes of a row depends on the row's place in its unit of work."""

    @abstractmethod
    def schema(self, given: pa.Schema) -> pa.Schema:
        """Return what it makes of batches of a schema.

        Raises:
            SchemaError: The schema does not fit, e.g. a column is unknown (the message names those there are).
        """

    @abstractmethod
    def apply(self, batch: pa.RecordBatch, place: Place) -> pa.RecordBatch:
        """Return what it makes of a batch; it may have no rows."""


@dataclass(frozen=True)
class Hash:
    """Rows with equal keys go to the same partition, whatever number types the keys have."""

    keys: tuple[str, ...] | None
    """Columns; None: all of them."""


@dataclass(frozen=True)
class Range:
    """Rows are spread by order: all of one partition come before all of the next."""

    by: tuple[tuple[str, str], ...]
    """Columns, most important first, each with "ascending" or "descending"; nulls come last."""


@dataclass(frozen=True)
class Even:
    """Rows are dealt out evenly."""


@dataclass(frozen=True)
class Single:
    """All rows go to one partition, in order of their units of work."""


@dataclass(frozen=True)
class Everywhere:
    """Every partition has all rows; they travel once."""


Route: TypeAlias = "Hash | Range | Even | Single | Everywhere"


class Wide(Operator):
    """An operator that needs records of many units of work together."""

    @property
    @abstractmethod
    def routes(self) -> tuple[Route, ...]:
        """How each of its inputs is spread over the partitions; a join has two."""

    @property
    def spreadable(self) -> tuple[int, ...]:
        """The inputs of which, if they are small, every partition may have all rows; see `with_all_of`."""
        return ()

    def with_all_of(self, side: int) -> Wide:
        """Return the operator that has all rows of an input in every partition, and the others dealt out evenly."""
        raise NotImplementedError

    runs_python: bool = False
    """Whether it calls Python functions of the user, so that even a small partition may be much work."""

    @property
    def partitions(self) -> int | None:
        """How many partitions there are; None: by the size of the input."""
        return None

    @property
    def enough(self) -> int | None:
        """Rows of the first units, in order, after which no further unit is needed (`limit`)."""
        return None

    @abstractmethod
    def schema(self, *given: pa.Schema) -> pa.Schema | None:
        """Return what it makes of inputs of these schemas; None if a user's function decides that.

        Raises:
            SchemaError: An input does not fit, e.g. a key is unknown (the message names the columns there are).
        """

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        """Make rows of one unit of work smaller before they travel; `routes` refer to what this returns.

        Called on pieces of a unit, for input number `side`; a unit may have any number of pieces.
        """
        del side
        return table

    def merge(self, side: int, table: pa.Table) -> pa.Table:
        """Make several results of `partial` of one unit, one after the other in a table, smaller."""
        del side
        return table

    @abstractmethod
    def finish(self, *tables: pa.Table) -> pa.Table:
        """Return the result for one partition.

        Args:
            tables: Per input all rows of the partition that `partial` and `merge` have left, in order of
                the units; without rows where there are none, but with the columns of the others.
        """
