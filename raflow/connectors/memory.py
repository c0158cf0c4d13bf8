"""Records in this process: for tests, notebooks and dry runs. Works on both engines."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from raflow.batch import from_ipc, one_batch, to_ipc
from raflow.convert import encode
from raflow.errors import InvalidOption, SourceError
from raflow.schema import conform, merge
from raflow.sinks import Part, Sink, SinkContext, Writer
from raflow.sources import Reject, Source, Split


class MemorySource(Source):
    """A table or a list of records as a source; it travels to the replicas with the code.

    Args:
        data: A `pa.Table`, a `pa.RecordBatch`, a pandas or polars frame, or records: dicts,
            dataclasses or pydantic models.
        rows_per_split: Records of one unit of work.

    Raises:
        SourceError: The records do not fit one schema.
        InvalidOption: `rows_per_split` is no number of records.

    Example:
        >>> from raflow import Flow
        >>> from raflow.connectors.memory import MemorySource
        >>> Flow().read(MemorySource([{"n": 1}, {"n": 2}])).count(engine="local")
        2
    """

    def __init__(self, data: Any, *, rows_per_split: int = 10_000) -> None:
        if type(rows_per_split) is not int or rows_per_split < 1:
            msg = f"rows_per_split is {rows_per_split!r}; it must be a number of records, at least 1"
            raise InvalidOption(msg)
        self._table = _as_table(data)
        self._rows = rows_per_split

    def __repr__(self) -> str:
        return f"MemorySource({self._table.num_rows} records)"

    def table(self) -> pa.Table:
        """Return all records."""
        return self._table

    def schema(self) -> pa.Schema:
        """Return the table's schema."""
        return self._table.schema

    def splits(self) -> list[Split]:
        """Return runs of `rows_per_split` records."""
        return [self._split(start) for start in range(0, self._table.num_rows, self._rows)]

    def read(self, split: Split, columns: pa.Schema, reject: Reject) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the split; nothing is ever rejected."""
        del reject
        start, stop = split.payload
        for batch in self._table.slice(start, stop - start).select(columns.names).to_batches():
            yield conform(batch, columns)

    def locate(self, split: Split, row: int) -> str:
        """Return the index in the data that was given."""
        return f"record {split.payload[0] + row}"

    def _split(self, start: int) -> Split:
        stop = min(start + self._rows, self._table.num_rows)
        size = self._table.slice(start, stop - start).nbytes
        return Split(f"records {start}-{stop}", [start, stop], rows=stop - start, bytes=size)


class MemorySink(Sink):
    """Keeps what was committed in the driver's process; a unit that is done again replaces its rows.

    Example:
        >>> from raflow import Flow
        >>> from raflow.connectors.memory import MemorySink, MemorySource
        >>> sink = MemorySink()
        >>> run = Flow().read(MemorySource([{"n": 1}, {"n": 2}])).write(sink).run(engine="local")
        >>> sink.records()
        [{'n': 1}, {'n': 2}]
    """

    in_driver = True

    def __init__(self) -> None:
        self._units: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "MemorySink()"

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def table(self) -> pa.Table:
        """Return all committed rows, in the order of the units of work."""
        with self._lock:
            tables = [from_ipc(self._units[name]) for name in sorted(self._units, key=by_number)]
        schema = merge(table.schema for table in tables)
        batches = [conform(batch, schema) for table in tables for batch in table.to_batches()]
        return pa.Table.from_batches(batches, schema=schema)

    def records(self) -> list[dict[str, Any]]:
        """Return all committed rows as dicts."""
        rows: list[dict[str, Any]] = self.table().to_pylist()
        return rows

    def open(self, context: SinkContext) -> Writer:
        """Return a writer whose parts carry their rows to the driver."""
        del context
        return _MemoryWriter()

    def commit(self, parts: Sequence[Part]) -> None:
        """Keep the rows."""
        with self._lock:
            self._units.update({part.target: part.payload or b"" for part in parts})

    def discard(self, parts: Sequence[Part]) -> None:
        """Forget the rows."""
        with self._lock:
            for part in parts:
                self._units.pop(part.target, None)


class ArrivingSink(MemorySink):
    """Yields what was committed while the run goes on, each unit of work once, in the order of the commits.

    A commit waits while more than `most_bytes` wait to be taken, so that the run does.
    """

    def __init__(self, most_bytes: int = 32 << 20) -> None:
        super().__init__()
        self._most = most_bytes
        self._seen: set[str] = set()
        self._waiting: deque[bytes] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._over = False

    def __repr__(self) -> str:
        return "ArrivingSink()"

    def commit(self, parts: Sequence[Part]) -> None:
        """Put the rows into the line. A unit that is done again, in a wider schema, has been taken already."""
        unit = _UNIT.sub(r"\1", parts[0].target)
        with self._changed:
            self._changed.wait_for(lambda: self._held < self._most or self._over)
            if unit not in self._seen and not self._over:
                self._seen.add(unit)
                self._waiting += [part.payload for part in parts if part.payload]
                self._held += sum(len(part.payload or b"") for part in parts)
                self._changed.notify_all()

    def discard(self, parts: Sequence[Part]) -> None:
        """Keep what was given away."""

    def end(self) -> None:
        """Say that nothing more comes, or that nothing more is wanted."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches as they come, until `end` is called and none is left."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._over)
                if not self._waiting:
                    return
                data = self._waiting.popleft()
            yield from from_ipc(data).to_batches()
            with self._changed:
                self._held -= len(data)
                self._changed.notify_all()


class OrderedSink(MemorySink):
    """Yields what was committed while the run goes on, each unit of work once, in the order of the units.

    A unit may have to wait for an earlier one, so that a commit may not wait. Instead the run is held when more
    than `most_bytes` can be taken, and goes on when all depends on a unit that has not come yet.
    """

    def __init__(self, most_bytes: int = 32 << 20) -> None:
        super().__init__()
        self._most = most_bytes
        self._come: dict[int, list[bytes]] = {}
        self._next = 0
        self._over = self._held = False
        self._hold: Callable[[bool], None] = lambda held: None
        self._changed = threading.Condition()

    def hold_by(self, hold: Callable[[bool], None]) -> None:
        """Take what has the run start nothing new, or go on."""
        with self._changed:
            self._hold = hold
            self._balance()

    def open(self, context: SinkContext) -> Writer:
        """Return a writer that tells of units without records too, because others wait for them."""
        del context
        return _TellingWriter()

    def commit(self, parts: Sequence[Part]) -> None:
        """Take a unit. One that is done again, in a wider schema, may have been given away already."""
        unit = int(_UNIT.sub(r"\1", parts[0].target).rpartition(".")[2])
        with self._changed:
            if unit >= self._next and not self._over:
                self._come[unit] = [part.payload for part in sorted(parts, key=_target) if part.payload]
                self._balance()
                self._changed.notify_all()

    def discard(self, parts: Sequence[Part]) -> None:
        """Keep what was given away."""

    def end(self) -> None:
        """Say that nothing more comes, or that nothing more is wanted."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the batches in order, until `end` is called and none is left."""
        while (unit := self._take()) is not None:
            for data in unit:
                yield from from_ipc(data).to_batches()

    def _take(self) -> list[bytes] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next in self._come or self._over)
            if not self._come:
                return None
            found = min(self._come)
            self._next = found + 1
            unit = self._come.pop(found)
            self._balance()
            return unit

    def _balance(self) -> None:
        waiting = sum(len(data) for unit in self._come.values() for data in unit)
        held = self._next in self._come and waiting > self._most
        if held != self._held:
            self._held = held
            self._hold(held)


def _target(part: Part) -> list[tuple[int, str]]:
    return by_number(part.target)


_UNIT = re.compile(r"(\.(?:\d+-)?\d{5,})\.\d+$")
"""The part of a target that says which replica wrote it, behind the number of the unit."""


class _MemoryWriter(Writer):
    def begin(self, unit: str, attempt: int) -> None:
        del attempt
        self._unit = unit
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)

    def prepare(self) -> list[Part]:
        if not self._batches:
            return []
        data = to_ipc(self._batches, self._batches[0].schema).to_pybytes()
        rows = sum(batch.num_rows for batch in self._batches)
        return [Part(self._unit, rows, len(data), None, data)]

    def abort(self) -> None:
        self._batches = []


class _TellingWriter(_MemoryWriter):
    def prepare(self) -> list[Part]:
        return super().prepare() or [Part(self._unit, 0, 0, None)]


def by_number(target: str) -> list[tuple[int, str]]:
    """Return what sorts the numbers in a target as numbers."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", target)]


def _as_table(data: Any) -> pa.Table:
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if _is_frame(data, "pandas"):
        return pa.Table.from_pandas(data, preserve_index=False)
    if _is_frame(data, "polars"):
        return data.to_arrow()
    return _from_records(data)


def _is_frame(data: Any, library: str) -> bool:
    """Return whether it is a library's data frame, also one of a subclass, without importing the library."""
    return isinstance(data, getattr(sys.modules.get(library), "DataFrame", ()))


def _from_records(data: Iterable[Any]) -> pa.Table:
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        hint = "; pa.table(...) makes a table of columns" if isinstance(data, Mapping) else ""
        hint = "; files are read by CsvFiles, JsonlFiles or ParquetFiles" if isinstance(data, str) else hint
        msg = f"a MemorySource cannot hold {data!r:.60}; give a table, a data frame or a list of records{hint}"
        raise SourceError(msg)
    records = list(data)
    encoded = encode(records, None)
    if encoded.rejected:
        index, error = encoded.rejected[0]
        msg = f"record {index} of a MemorySource does not fit: {error}"
        raise SourceError(msg) from error
    if encoded.batch is None:
        return pa.table({})
    return pa.Table.from_batches([one_batch([encoded.batch])])


class PrintSink(MemorySink):
    """Prints each record as a line of JSON on the driver's standard output, when its unit is committed."""

    def __repr__(self) -> str:
        return "PrintSink()"

    def commit(self, parts: Sequence[Part]) -> None:
        """Print the rows."""
        for part in parts:
            table = from_ipc(part.payload or b"")
            lines = [json.dumps(row, default=str, ensure_ascii=False) for row in table.to_pylist()]
            with self._lock:
                print("\n".join(lines), flush=True)
