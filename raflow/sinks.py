"""The contract of a sink: where records go.

Writers, in replicas, only prepare; the driver records what was prepared in the run's ledger and then
commits it, alone. So an attempt that was given up can never publish, and a repeated unit of work never
doubles rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from typing_extensions import Self

from raflow.credentials import Credentials
from raflow.sources import Json

if TYPE_CHECKING:  # options know sinks, and steps may need no Arrow
    import pyarrow as pa


def _nobody(run_id: str) -> bool:
    del run_id
    return False


@dataclass(frozen=True)
class SinkContext:
    """What a sink may know about the run."""

    run_id: str
    """Part of every name that the run writes; sorts by time."""
    is_dead: Callable[[str], bool] = field(default=_nobody, compare=False, repr=False)
    """Whether the run with that id has ended or died, so that what it staged may be swept. Driver only."""
    is_alive: Callable[[str], bool] = field(default=_nobody, compare=False, repr=False)
    """Whether the run with that id is known to go on; of one in another ledger nothing is known. Driver only."""


@dataclass(frozen=True)
class Part:
    """One staged output, invisible to readers until it is committed."""

    target: str
    """Where readers will find it, without credentials."""
    rows: int
    """Records in it."""
    size_bytes: int
    """Size as stored."""
    token: Json
    """What `commit` and `discard` need; plain JSON values, kept in the ledger, no credentials."""
    payload: bytes | None = field(default=None, repr=False)
    """A remainder that only `commit` needs (at most a few hundred KiB); not kept in the ledger."""


class Sink(ABC):
    """Where records go.

    An instance is a description: constructing one opens nothing. It is pickled to each replica; the
    driver keeps the original, on which it calls `start`, `commit`, `discard` and `finish`.

    Example:
        >>> import json, os, tempfile
        >>> from pathlib import Path
        >>> import raflow
        >>> from raflow.sinks import Part, Writer
        >>> class JsonFiles(raflow.Sink):
        ...     one_node = True
        ...
        ...     def __init__(self, folder):
        ...         self.folder = Path(folder)
        ...
        ...     def open(self, context):
        ...         return JsonWriter(self.folder, context.run_id)
        ...
        ...     def commit(self, parts):
        ...         for part in parts:
        ...             os.replace(part.token, part.target)
        ...
        ...     def discard(self, parts):
        ...         for part in parts:
        ...             Path(part.token).unlink(missing_ok=True)
        ...             Path(part.target).unlink(missing_ok=True)
        >>> class JsonWriter(Writer):
        ...     def __init__(self, folder, run_id):
        ...         self.folder, self.run_id = folder, run_id
        ...
        ...     def begin(self, unit, attempt):
        ...         self.name, self.rows = f"{self.run_id}-{unit}-{attempt}.json", []
        ...
        ...     def write(self, batch):
        ...         self.rows += batch.to_pylist()
        ...
        ...     def prepare(self):
        ...         if not self.rows:
        ...             return []
        ...         staged, target = self.folder / f".{self.name}", self.folder / self.name
        ...         size = staged.write_text(json.dumps(self.rows))
        ...         return [Part(str(target), len(self.rows), size, str(staged))]
        ...
        ...     def abort(self):
        ...         self.rows = []
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = raflow.from_arrow([{"n": 1}, {"n": 2}]).write(JsonFiles(folder)).run(engine="local")
        ...     print(*(path.read_text() for path in Path(folder).iterdir()))
        [{"n": 1}, {"n": 2}]
    """

    local_only: bool = False
    """True if the data lands in one process only; the Ray engine refuses it."""
    in_driver: bool = False
    """True if what is committed stays in the driver's process; replicas of collectors, which commit, have no such."""
    place: object = None
    """What is equal for sinks that write to the same folder, so that no two streams of a Flow do; None: nothing is."""
    one_node: bool = False
    """True if the data lands on one node only (a local path); needs `shared_path=True` on several."""

    def with_credentials(self, credentials: Credentials) -> Self:
        """Return a sink that uses the Flow's keys where it has none of its own.

        Called once in the driver, before any other method.
        """
        del credentials
        return self

    def start(self, context: SinkContext) -> Json:
        """Check that the target can be written, and sweep what dead runs have staged there.

        Called in the driver before data moves, once per run; on resume, `resume` is called instead.

        Returns:
            What `finish` needs, e.g. the old files to delete; plain JSON values, kept in the ledger.

        Raises:
            OutputExists: The target holds data and the sink was not told what to do with it.
            SinkError: The target cannot be written.
        """
        del context
        return None

    def resume(self, context: SinkContext) -> None:
        """Sweep what the run's earlier processes have staged and not committed.

        Called in the driver instead of `start` when a run is continued.
        """
        del context

    def give_up(self, context: SinkContext) -> None:
        """Sweep what a run has staged and not committed that does not succeed, or cannot even start.

        Called in the driver instead of `finish`, perhaps without `start`.
        """
        self.resume(context)

    @abstractmethod
    def open(self, context: SinkContext) -> Writer:
        """Return a writer.

        Called once per replica, in the replica.
        """

    def appender(self, context: SinkContext, unit: str) -> Appender | None:
        """Return what appends to a file that stays open, for writes that are many and small.

        Called by collectors, in the replica, instead of `open`.

        Args:
            context: The run.
            unit: Part of the names of the files; unique to the caller.

        Returns:
            None if the sink has no such way: the caller then opens a writer.
        """
        del context, unit
        return None

    @abstractmethod
    def commit(self, parts: Sequence[Part]) -> None:
        """Publish the parts of one unit of work.

        Called in the driver, after the ledger has recorded them; each part is published whole or not
        at all. Calls for different units may run at the same time.

        Raises:
            SinkError: A part could not be published.
        """

    @abstractmethod
    def discard(self, parts: Sequence[Part]) -> None:
        """Remove parts, staged or committed; parts that are gone already are no error.

        Called in the driver: for a unit that is done again, and for attempts that were given up.
        """

    def finish(self, context: SinkContext, started: Json) -> None:
        """End a run that succeeded: delete the data that it replaces, remove staging folders.

        Called in the driver once, after the last commit.

        Args:
            context: The run.
            started: What `start` returned.
        """
        del context, started


def give_up(sinks: Iterable[Sink], context: SinkContext) -> None:
    """Have sinks forget a run that cannot start: why it cannot is told, not what goes wrong here."""
    for sink in sinks:
        with suppress(Exception):
            sink.give_up(context)


def same_place(one: Sink, other: Sink) -> bool:
    """Return whether two sinks write to the same folder, in the same format."""
    return one.place is not None and type(one) is type(other) and one.place == other.place


class Writer(ABC):
    """Writes the units of work of one replica, one after the other, from one thread."""

    @abstractmethod
    def begin(self, unit: str, attempt: int) -> None:
        """Start a unit of work. Nothing of it may become visible before `Sink.commit`."""

    @abstractmethod
    def write(self, batch: pa.RecordBatch) -> None:
        """Take the next batch of the unit; all batches of a unit have one schema.

        Raises:
            SinkError: The batch could not be staged (full disk, no permission).
        """

    @abstractmethod
    def prepare(self) -> list[Part]:
        """Finish staging the unit and say what was staged; empty if it had no records."""

    @abstractmethod
    def abort(self) -> None:
        """Drop what the current unit has staged. Called instead of `prepare`; must not raise."""

    def close(self) -> None:  # noqa: B027 - most writers hold nothing
        """Release what the writer holds. Called once, at the end of the replica."""


class Appender(ABC):
    """Appends to one file after the other. Readers see a file when it is complete: `roll` publishes it.

    What was flushed survives a crash of the process: whoever next appends to the same place publishes what
    a dead one has left. All calls come from one thread.
    """

    size_bytes: int = 0
    """Of the file that is open; 0 if none is."""

    @abstractmethod
    def append(self, batch: pa.RecordBatch) -> None:
        """Take records.

        Raises:
            SinkError: They could not be taken; `abandon` is called next.
        """

    @abstractmethod
    def flush(self) -> None:
        """Make what was appended durable.

        Raises:
            SinkError: It is not; `abandon` is called next.
        """

    @abstractmethod
    def abandon(self, size_bytes: int) -> None:
        """Forget what was appended since the open file was of that size, flushed or not. Must not raise.

        It may have been flushed: what several sinks get is taken back from all of them when one fails.

        Args:
            size_bytes: What the attribute was then; 0 if no file was open.
        """

    @abstractmethod
    def roll(self) -> None:
        """Publish the file that is open, if there is one; the next `append` begins another one.

        Raises:
            SinkError: It could not be published; it stays where the next appender finds it.
        """
