"""The contract of a source: where records come from.

A connector author subclasses `Source`; ready ones are in `raflow.connectors`. `raflow.testing` has the
suite that every source must pass.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import Self

from raflow.credentials import Credentials

if TYPE_CHECKING:  # options know sinks, and steps may need no Arrow
    import pyarrow as pa
    import pyarrow.compute as pc

Json: TypeAlias = Any
"""Plain JSON values: None, bool, int, float, str, list, dict."""


@dataclass(frozen=True)
class Input:
    """What a split was cut from, as it was when the run began; resume refuses a changed one."""

    name: str
    """File or table, without credentials."""
    size: int | None
    """Bytes, if known."""
    version: str
    """Etag or modification time."""


@dataclass(frozen=True)
class Split:
    """An independently readable piece of a bounded source; kept in the run's ledger."""

    name: str
    """Shown in logs and errors, e.g. `trips/part-3.parquet row groups 0-3`; without credentials."""
    payload: Json
    """What `read` needs; plain JSON values."""
    rows: int | None = None
    """Records, if known without reading."""
    bytes: int | None = None
    """Bytes to read, if known."""
    inputs: tuple[Input, ...] = ()
    """What it was cut from."""


@dataclass(frozen=True)
class Rejected:
    """A record that the source could not read."""

    position: str
    """Where it stands: file and absolute line."""
    text: str
    """The record as it was found, at most 200 characters."""
    error: Exception
    """Why it could not be read."""


Reject: TypeAlias = Callable[[Rejected], None]
"""Takes one unreadable record; raises when the run must not go on."""


class Source(ABC):
    """Where records come from.

    An instance is a description: constructing one opens nothing. It is pickled to each replica.

    Example:
        >>> import pyarrow as pa
        >>> from raflow import Flow, Source
        >>> from raflow.sources import Split
        >>> class Numbers(Source):
        ...     def __init__(self, count):
        ...         self.count = count
        ...
        ...     def schema(self):
        ...         return pa.schema([("n", pa.int64())])
        ...
        ...     def splits(self):
        ...         return [Split(f"numbers from {start}", start) for start in range(0, self.count, 1000)]
        ...
        ...     def read(self, split, columns, reject):
        ...         numbers = range(split.payload, min(split.payload + 1000, self.count))
        ...         yield pa.record_batch({"n": pa.array(numbers)}).select(columns.names)
        >>> Flow().read(Numbers(2500)).group_by().agg(sum=("n", "sum")).collect(engine="local")
        [{'sum': 3123750}]
    """

    local_only: bool = False
    """True if the data exists in one process only; the Ray engine refuses it."""
    one_node: bool = False
    """True if the data exists on one node only (a local path); needs `shared_path=True` on several."""

    def with_credentials(self, credentials: Credentials) -> Self:
        """Return a source that uses the Flow's keys where it has none of its own.

        Called once in the driver, before any other method.
        """
        del credentials
        return self

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return names and types of all columns.

        Called once per run in the driver, before data moves. Text sources infer it here, once for
        the run; a column without a type yet is `pa.null()`.

        Raises:
            SourceError: The data is missing, unreadable or not of the source's format.
        """

    @abstractmethod
    def splits(self) -> list[Split]:
        """Return the pieces of the whole input, in order.

        Called once per run in the driver, and never on resume: the ledger keeps the list. It must not
        depend on the number of CPUs or replicas.

        Raises:
            SourceError: The data is missing or unreadable.
        """

    def splits_where(self, condition: pc.Expression, columns: pa.Schema) -> list[Split]:
        """Return the pieces that may hold records for which a condition is true: `splits`, or fewer.

        Called instead of `splits` where the other records are of no use. Pieces may be left out or be
        smaller; nobody relies on it.

        Args:
            condition: On the columns as they are delivered, `pc.field("fare") > 0`.
            columns: Names and types of those that it needs.

        Raises:
            SourceError: The data is missing or unreadable.
        """
        del condition, columns
        return self.splits()

    def inputs(self) -> list[Input]:
        """Return what the splits were cut from, as it is now.

        Called in the driver on resume, to find out whether the input has changed.
        """
        found = {entry: None for split in self.splits() for entry in split.inputs}
        return list(found)

    @abstractmethod
    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        """Yield the records of one split, in order, as batches with just these columns.

        Called in a replica, from one thread at a time; a split may be read again, also elsewhere, and
        must then give the same records. Batches should stay under 32 MiB.

        Args:
            split: One of `splits()`.
            columns: Names and types to deliver; names are a subset of `schema()`, types may be wider
                or, for text, what the record type wants.
            reject: Takes each record that cannot be read, and raises if the run must not go on.

        Raises:
            SourceError: The split cannot be read; names file and position.
            SchemaWidened: A value needs a wider type than `columns` has; the driver agrees on the
                wider one and has the split read again.
        """

    def locate(self, split: Split, row: int) -> str:
        """Return where the row-th delivered record of a split stands, for messages.

        Called in a replica, only for records that failed.
        """
        return f"{split.name}, record {row}"

    def typed_by_record(self, column: str) -> bool:
        """Whether the record type may decide a column's type, instead of the data: its values are text.

        Called in the driver, after `schema`.
        """
        del column
        return False

    def any_column(self) -> bool:
        """Whether records may have columns that `schema` does not name; `read` delivers them if asked to.

        Called in the driver. A column that a record lacks is null then.
        """
        return False
