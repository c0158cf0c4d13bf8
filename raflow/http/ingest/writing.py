"""The sinks of one collector in one replica: long-lived writers, and a unit of work per flush.

Everything here runs on one thread, which is not that of the event loop.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pyarrow as pa

from raflow.errors import SchemaError, SinkError
from raflow.http.ingest.conversion import Conversion, Results, letters
from raflow.http.ingest.targets import Target, target_of
from raflow.options import CollectorOptions
from raflow.sinks import Sink, SinkContext


def is_about_data(error: BaseException) -> bool:
    """Return whether a sink failed because of what it was given, so that it would fail again."""
    found = error if not isinstance(error, SinkError) else error.__cause__ or error
    return isinstance(found, (pa.ArrowException, SchemaError, ValueError, TypeError)) and not isinstance(found, OSError)


class Writing:
    """Converts results and writes them to all sinks.

    Args:
        sinks: With the Flow's credentials.
        context: Of the run.
        name: Of the collector: begins the names of what is written.
        options: Of the collector.
        schema: What the function's annotation says of its results; None if nothing.
        error_sink: Where dead letters go, with the Flow's credentials; None: there are none.
        wrote: Told of each sink and the rows that it has got.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        context: SinkContext,
        name: str,
        options: CollectorOptions,
        schema: pa.Schema | None,
        error_sink: Sink | None = None,
        wrote: Callable[[Sink, int], None] = lambda sink, rows: None,
    ) -> None:
        self._sinks, self._context, self._name, self._options = sinks, context, name, options
        self.conversion = Conversion(schema)
        self._error_sink, self._wrote = error_sink, wrote
        self._targets: list[tuple[Sink, Target]] = []

    def open(self) -> None:
        """Open the sinks."""
        pa.array([0])  # Arrow imports pandas to look at its first list, for most of a second
        unit = f"{self._name}.{secrets.token_hex(4)}"  # no other replica has it, nor this one when it starts again
        for sink in self._sinks:
            self._targets.append((sink, target_of(sink, self._context, unit, self._options)))
        if (last := self._error_sink) is not None:
            self._targets.append((last, target_of(last, self._context, f"{unit}.errors", self._options)))

    def close(self) -> None:
        """Let readers see all that was written, and close the sinks."""
        with ExitStack() as stack:
            for _, target in self._targets:
                stack.callback(target.close)
            self._targets = []

    def flush(self, group: Sequence[Results]) -> None:
        """Write what a group of requests brought: afterwards the sinks have all of it, or nothing counts.

        What does not fit the schema is noted in `misfits` and left out, or becomes a dead letter.

        Raises:
            Exception: Whatever a sink raised. Nothing of the group counts as written.
        """
        known = self.conversion.schema
        try:
            self._write(self.conversion.batches(group), letters(group))
        except BaseException:
            self.conversion.schema = known  # what a sink refuses would spoil all that comes after it
            raise

    def _write(self, batches: list[pa.RecordBatch], letters: list[pa.RecordBatch]) -> None:
        plain = len(self._sinks)
        written = [(*target, batches) for target in self._targets[:plain] if batches]
        written += [(*target, letters) for target in self._targets[plain:] if letters]
        begun: list[Target] = []  # the others hold what an earlier flush wrote, which stays
        try:
            for _, target, some in written:
                begun.append(target)
                target.stage(some)
            for target in begun:
                target.publish()
        except BaseException:
            for target in begun:
                target.undo()
            raise
        for sink, _, some in written:
            self._wrote(sink, sum(batch.num_rows for batch in some))

    def due_s(self) -> float | None:
        """Return in how many seconds `roll` is to be called; None if there is no need."""
        return min((due for _, target in self._targets if (due := target.due_s()) is not None), default=None)

    def roll(self) -> None:
        """Let readers see files that are large or old enough.

        Raises:
            Exception: Whatever a sink raised; what was written stays written.
        """
        for _, target in self._targets:
            target.roll()
