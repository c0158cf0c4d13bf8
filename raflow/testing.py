"""For tests of Flows and connectors: memory source and sink, and what sources, sinks and storages must keep."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pyarrow as pa

from raflow.batch import MAX_BATCH_BYTES
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.providers import find
from raflow.sinks import Part, Sink, SinkContext, Writer
from raflow.sources import Rejected, Source
from raflow.workflows.context import Context

__all__ = ["MemorySink", "MemorySource", "check_sink", "check_source", "check_storage", "read_all", "write_unit"]

RUN = SinkContext("20260101-000000-abcdef")


def read_all(source: Source) -> pa.Table:
    """Return every record of a source, read split by split with all columns.

    Raises:
        Exception: Whatever the source rejects.
    """
    schema = source.schema()
    batches = [batch for split in source.splits() for batch in source.read(split, schema, _refuse)]
    return pa.Table.from_batches(batches, schema=schema)


def check_source(source: Source, expected: pa.Table) -> None:
    """Check the contract of `raflow.Source` on a source that holds the expected records.

    Raises:
        AssertionError: A duty is not kept; the message says which.
    """
    assert read_all(source).equals(expected), "the splits together are not the whole input, each record once"
    schema = source.schema()
    for split in source.splits():
        once = list(source.read(split, schema, _refuse))
        again = list(pickle.loads(pickle.dumps(source)).read(split, schema, _refuse))
        assert once == again, f"{split.name} read again, by a pickled source, gives other records"
        assert all(batch.nbytes <= MAX_BATCH_BYTES for batch in once), f"{split.name} has a batch over 32 MiB"
        if split.rows is not None:
            assert sum(batch.num_rows for batch in once) == split.rows, f"{split.name} says a wrong number of rows"
        assert source.locate(split, 0), f"{split.name} cannot say where its records stand"
    if len(schema) > 1:
        _check_pruning(source, schema)
    listed = [split.payload for split in source.splits()]
    assert listed == [split.payload for split in source.splits()], "splits are not the same when listed again"
    assert source.inputs() == source.inputs(), "inputs change without a change"


def _check_pruning(source: Source, schema: pa.Schema) -> None:
    one = pa.schema([schema.field(len(schema) - 1)])
    for split in source.splits():
        for batch in source.read(split, one, _refuse):
            assert batch.schema.names == one.names, "more columns were read than asked for"


def write_unit(writer: Writer, unit: str, attempt: int, *batches: pa.RecordBatch) -> list[Part]:
    """Return what a writer has staged for a unit of these batches."""
    writer.begin(unit, attempt)
    for batch in batches:
        writer.write(batch)
    return writer.prepare()


def check_sink(sink: Sink, rows: Callable[[], int]) -> None:
    """Check the contract of `raflow.Sink` on an empty target.

    Args:
        sink: Sees no other writer meanwhile.
        rows: Counts the records that a reader of the target sees.

    Raises:
        AssertionError: A duty is not kept; the message says which.
    """
    batch = pa.record_batch({"n": pa.array(range(10)), "text": pa.array([str(n) for n in range(10)])})
    started = sink.start(RUN)
    writer = pickle.loads(pickle.dumps(sink)).open(RUN)
    first = write_unit(writer, "unit-00000", 1, batch, batch)
    assert rows() == 0, "staged rows are visible before they are committed"
    assert sum(part.rows for part in first) == 20, "the parts say a wrong number of rows"
    sink.commit(first)
    assert rows() == 20, "committed rows are not visible"
    writer.begin("unit-00001", 1)
    writer.write(batch)
    writer.abort()
    assert rows() == 20, "an aborted unit is visible"
    given_up = write_unit(writer, "unit-00002", 1, batch)
    sink.discard(given_up)
    sink.discard(given_up)
    assert rows() == 20, "a discarded unit is visible"
    sink.discard(first)
    sink.commit(write_unit(writer, "unit-00000", 2, batch))
    assert rows() == 10, "a unit that is done again has not replaced its rows"
    assert write_unit(writer, "unit-00003", 1) == [], "a unit without records has parts"
    sink.commit(write_unit(writer, "unit-00004", 1, batch.slice(0, 3)))
    writer.close()
    sink.finish(RUN, started)
    assert rows() == 13, "finish has changed the rows"


@dataclass
class StoredTask:
    """What a storage may ask of a task to name its key."""

    workflow_id: str
    checkpoint_key: str
    task_id: str = ""


def check_storage(make: Callable[[], Any]) -> None:
    """Check what a workflow asks of a storage: `post`, `get` and `key`, and `has` where there is one.

    Args:
        make: Returns the storage; each call gives access to the same contexts.

    Raises:
        AssertionError: A duty is not kept; the message says which.
    """
    storage, workflow = make(), f"check-{uuid4()}"
    tasks = [StoredTask(one, key) for one in (workflow, f"{workflow}/../x") for key in ("a#0", "a#1", "b#0")]
    keys = [storage.key(task) for task in tasks]
    assert len(set(keys)) == len(keys), "two tasks share a key"
    assert keys == [make().key(task) for task in tasks], "the keys of tasks change"
    assert find(storage, keys[0]) is None, "a context is found before there was one"
    for number, value in enumerate([1, [1, 2, 3], {"a": None}, "text", None]):
        storage.post(keys[0], Context(value, "task", workflow))
        kept = find(make(), keys[0])
        assert kept is not None, f"a posted {value!r} is not found: it would be computed again"
        assert kept.storage == value, (
            f"{value!r} was posted {'once more ' if number else ''}and {kept.storage!r} is kept"
        )
        assert type(kept.storage) is type(value), (
            f"a {type(value).__name__} comes back as {type(kept.storage).__name__}"
        )
        assert (kept.task_id, kept.workflow_id) == ("task", workflow), "the context's ids are lost"
    value = [1]
    storage.post(keys[1], Context(value, "task", workflow))
    value.append(2)
    assert storage.get(keys[1]).storage == [1], "a value that changes after it was posted changes in the storage"
    assert find(storage, keys[2]) is None, "a context is found under the key of another task"


def _refuse(rejected: Rejected) -> None:
    raise rejected.error
