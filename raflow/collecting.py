"""Runs a stream at once and brings its records to this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pyarrow as pa

from raflow.connectors.memory import ArrivingSink, MemorySink, OrderedSink
from raflow.errors import RunFailed
from raflow.flow import Flow
from raflow.launch import Request, launch
from raflow.metrics import Status
from raflow.places import Location
from raflow.plan import Plan
from raflow.pushdown import explained
from raflow.runtime.intake import typed
from raflow.runtime.run import Run
from raflow.schemas import check
from raflow.sources import Source

_LEDGERS = "memory://raflow-streams"
"""Nothing of a run whose results go to this process can be resumed, so its ledger stays in it, too."""
_LOOK_S = 0.25

Alone = Callable[[MemorySink], Flow]
"""Returns a Flow that writes only one stream, to a sink."""


def table(alone: Alone, schema: Callable[[], pa.Schema | None], engine: str, address: str | None) -> pa.Table:
    """Return all records of a stream, in the order of its units of work.

    Args:
        alone: Makes the Flow that is run.
        schema: Returns its columns, if they are known; asked only where there are no records.
        engine: As `Flow.run` takes it.
        address: As `Flow.run` takes it.

    Raises:
        RaflowError: It could not start, or it failed.
    """
    sink = MemorySink()
    with _running(alone(sink), engine, address) as run:
        _finish(run)
    found = sink.table()
    if found.num_columns:
        return found
    known = schema()
    return found if known is None else known.empty_table()


def batches(alone: Alone, engine: str, address: str | None, *, in_order: bool) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream while it runs. Closing the iterator stops the run.

    Args:
        alone: Makes the Flow that is run.
        engine: As `Flow.run` takes it.
        address: As `Flow.run` takes it.
        in_order: Whether in the order of its units of work, or as they come.

    Raises:
        RaflowError: It could not start, or it failed.
    """
    sink = OrderedSink() if in_order else ArrivingSink()
    with _running(alone(sink), engine, address) as run:
        if isinstance(sink, OrderedSink):
            sink.hold_by(run.hold)

        def end_with_run() -> None:
            run.settled()
            sink.end()

        watcher = threading.Thread(target=end_with_run, name="raflow batches", daemon=True)
        watcher.start()
        try:
            yield from sink.batches()
            _finish(run)
        finally:
            sink.end()
            run.stop()
            watcher.join()


def plan(flow: Flow) -> Plan:
    """Return the plan of a Flow with what is read of its sources, which are looked at.

    Raises:
        RaflowError: A source is missing, or something does not fit what comes to it.
    """
    made = flow.plan()
    sources = {op.name: typed(made, op.name, op.work) for op in made.ops() if isinstance(op.work, Source)}
    return explained(made, check(made, sources))


@contextmanager
def _running(flow: Flow, engine: str, address: str | None) -> Iterator[Run]:
    """Start a run that leaves nothing behind; whoever leaves before its end, also by Ctrl-C, stops it."""
    ledger = f"{_LEDGERS}/{uuid4().hex}"
    flow.options = flow.options.model_copy(update={"ledger_url": ledger})
    try:
        run = launch(flow, Request(engine=engine, address=address, quiet=True), block=False)
        try:
            yield run
        finally:
            run.stop()
            run.settled()
    finally:
        place = Location(ledger)
        if place.fs.exists(place.path):
            place.fs.rm(place.path, recursive=True)


def _finish(run: Run) -> None:
    while not run.settled(_LOOK_S):
        pass
    run.raise_error()
    if run.status() is not Status.SUCCEEDED:
        msg = f"run {run.id} was stopped before all results were there"
        raise RunFailed(msg)


def ray_dataset(alone: Alone, schema: Callable[[], pa.Schema | None], address: str | None) -> Any:
    """Return all records of a stream as a `ray.data.Dataset`; arguments as of `table`."""
    from raflow.engines.ray.dataset import StoreSink, empty

    sink = StoreSink()
    with _running(alone(sink), "ray", address) as run:
        _finish(run)
    found = sink.dataset()
    return empty(schema() or pa.schema([])) if found is None else found
